//! Which request it is: what has to be the same for two requests with one key to be one.

use ::http::{header, request};
use sha2::{Digest, Sha256};

/// Method, path and query, content type and body, each with its length. Other headers change between tries of
/// one request: dates, traces, credentials that were renewed.
pub(super) fn of(head: &request::Parts, body: &[u8]) -> [u8; 32] {
    let path = head.uri.path_and_query().map_or("", |it| it.as_str());
    let types: Vec<&[u8]> =
        head.headers.get_all(header::CONTENT_TYPE).iter().map(|it| it.as_bytes()).collect();
    let mut hash = Sha256::new();
    hash.update((types.len() as u64).to_be_bytes());
    for part in types.into_iter().chain([head.method.as_str().as_bytes(), path.as_bytes(), body]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use ::http::Request;

    use super::*;

    fn print(method: &str, path: &str, types: &[&str], body: &str) -> [u8; 32] {
        let request = Request::builder().method(method).uri(path).header("date", "varies");
        let request = types.iter().fold(request, |request, it| request.header("content-type", *it));
        of(&request.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    /// O4.
    #[test]
    fn another_request_has_another_fingerprint() {
        let first = print("POST", "/a?b=1", &["text/plain"], "body");
        assert_eq!(first, print("POST", "http://host/a?b=1", &["text/plain"], "body"));
        for other in [
            print("PATCH", "/a?b=1", &["text/plain"], "body"),
            print("POST", "/a?b=2", &["text/plain"], "body"),
            print("POST", "/a", &["text/plain"], "body"),
            print("POST", "/a?b=1", &["text/plain"], "bodY"),
            print("POST", "/a?b=1", &["text/html"], "body"),
            print("POST", "/a?b=1", &[], "body"),
            print("POST", "/a?b=1", &[""], "body"),
            print("POST", "/a?b=1", &["text/plain", "text/plain"], "body"),
        ] {
            assert_ne!(first, other);
        }
        assert_ne!(print("POST", "/a", &[], "bc"), print("POST", "/ab", &[], "c"));
    }
}
