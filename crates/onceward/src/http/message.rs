//! A response as it is recorded: the text of an HTTP/1.1 message, which people can read and any tool can
//! parse.

use ::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, response};
use onceward_core::once::Body;

/// The content type of a recorded response.
pub(super) const CONTENT_TYPE: &str = "message/http; msgtype=response";

/// Headers that are about one connection and not about the response (RFC 9110, section 7.6.1): never
/// recorded, as are those that `Connection` names.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Which headers of a response are left out of its record.
#[derive(Clone, Debug)]
pub(super) struct LeftOut(Vec<HeaderName>);

impl Default for LeftOut {
    /// When a response was made is not when it is replayed, and a cookie is a credential.
    fn default() -> Self {
        Self(vec![header::DATE, header::SET_COOKIE])
    }
}

impl LeftOut {
    pub(super) fn add(&mut self, name: HeaderName) {
        self.0.push(name);
    }

    pub(super) fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|it| it != name);
    }

    fn contains(&self, name: &HeaderName, headers: &HeaderMap) -> bool {
        let named = |value: &HeaderValue| {
            value.to_str().is_ok_and(|names| {
                names.split(',').any(|it| it.trim_matches([' ', '\t']).eq_ignore_ascii_case(name.as_str()))
            })
        };
        HOP_BY_HOP.contains(&name.as_str())
            || self.0.contains(name)
            || headers.get_all(header::CONNECTION).iter().any(named)
    }
}

/// Writes a response. Names of headers come out in lower case; values and body are the bytes they are.
pub(super) fn write(head: &response::Parts, body: &[u8], left_out: &LeftOut) -> Vec<u8> {
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut message = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str()).into_bytes();
    for (name, value) in head.headers.iter().filter(|(name, _)| !left_out.contains(name, &head.headers)) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            message.extend_from_slice(part);
        }
    }
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(body);
    message
}

/// Reads a recorded result as a response: one that was [written](write) here, or any other bytes with their
/// content type, as an operator gives them who settles an uncertain key. `None` if there is none to be had.
pub(super) fn of(body: Body) -> Option<Response<Vec<u8>>> {
    let bytes = body.bytes?;
    if body.content_type == CONTENT_TYPE {
        return read(&bytes);
    }
    let mut response = Response::new(bytes);
    if let Ok(content_type) = HeaderValue::from_str(&body.content_type)
        && !content_type.is_empty()
    {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    Some(response)
}

pub(super) fn read(message: &[u8]) -> Option<Response<Vec<u8>>> {
    let (line, mut rest) = line(message)?;
    let status = StatusCode::from_bytes(line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?;
    let mut headers = HeaderMap::new();
    loop {
        let (field, after) = self::line(rest)?;
        rest = after;
        if field.is_empty() {
            break;
        }
        let at = field.windows(2).position(|it| it == b": ")?;
        let (name, value) = (field.get(..at)?, field.get(at + 2..)?);
        headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    let mut response = Response::new(rest.to_vec());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Some(response)
}

/// The first line, and what comes after it. A header's value can't hold a line break.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.windows(2).position(|it| it == b"\r\n")?;
    Some((text.get(..end)?, text.get(end + 2..)?))
}

/// The bytes as text, one character a byte: failures are recorded as JSON, which knows no bytes.
pub(super) fn as_text(message: &[u8]) -> String {
    message.iter().copied().map(char::from).collect()
}

/// What [`as_text`] has written.
pub(super) fn from_text(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|it| u8::try_from(it).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: Response<&[u8]>, left_out: &LeftOut) -> Vec<u8> {
        let (head, body) = response.into_parts();
        write(&head, body, left_out)
    }

    /// O3.
    #[test]
    fn a_response_is_read_back_to_the_byte() {
        let all: Vec<u8> = (0..=255).collect();
        for body in [b"".as_slice(), b"\r\n\r\nHTTP/1.1 500\r\n", &all] {
            let odd = HeaderValue::from_bytes(b" \xff: a\t").unwrap();
            let response = Response::builder().status(299).header("x-odd", odd).header("x-empty", "");
            let response = response.header("link", "<a>").header("link", "<b>").body(body).unwrap();
            let message = written(response.clone(), &LeftOut::default());
            let again = read(&message).unwrap();
            assert_eq!((again.status(), again.headers()), (response.status(), response.headers()));
            assert_eq!(again.body(), body);
            assert_eq!(from_text(&as_text(&message)).unwrap(), message);
        }
        let response =
            Response::builder().status(201).header("location", "/1").body(b"{}".as_slice()).unwrap();
        assert_eq!(
            written(response, &LeftOut::default()),
            b"HTTP/1.1 201 Created\r\nlocation: /1\r\n\r\n{}",
            "the format is part of what lies in databases"
        );
    }

    #[test]
    fn what_is_about_a_connection_or_a_moment_is_not_recorded() {
        let mut response = Response::builder().header("connection", "close, X-Hop").header("x-hop", "1");
        for name in HOP_BY_HOP.iter().filter(|name| **name != "connection") {
            response = response.header(*name, "1");
        }
        let response = response.header("date", "now").header("set-cookie", "id=1").header("etag", "\"a\"");
        let response = response.body(b"".as_slice()).unwrap();
        let headers = |left_out: &LeftOut| {
            let read = read(&written(response.clone(), left_out)).unwrap();
            read.headers().keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        let mut left_out = LeftOut::default();
        assert_eq!(headers(&left_out), ["etag"]);
        left_out.remove(&header::SET_COOKIE);
        left_out.remove(&header::UPGRADE);
        left_out.add(header::ETAG);
        assert_eq!(headers(&left_out), ["set-cookie"]);
    }

    #[test]
    fn what_an_operator_recorded_is_replayed_as_it_is() {
        let response = of(Body::new(b"{\"id\":7}".to_vec(), "application/json")).unwrap();
        assert_eq!(
            (response.status(), response.body().as_slice()),
            (StatusCode::OK, b"{\"id\":7}".as_slice())
        );
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert!(of(Body::new(b"".to_vec(), "")).unwrap().headers().is_empty());
        assert!(of(Body::new(b"".to_vec(), "a\nb")).unwrap().headers().is_empty());
    }

    #[test]
    fn what_is_no_message_is_not_replayed() {
        for bad in ["", "HTTP/1.1 200", "HTTP/1.1 20\r\n\r\n", "HTTP/2 200 \r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert!(read(bad.as_bytes()).is_none(), "{bad:?}");
        }
        for bad in ["HTTP/1.1 200 OK\r\na\r\n\r\n", "HTTP/1.1 200 OK\r\na b: c\r\n\r\n"] {
            assert!(read(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(from_text("\u{100}").is_none());
        let unkept = Body { bytes: None, content_type: CONTENT_TYPE.to_owned(), size: 9 };
        assert!(of(unkept).is_none());
    }
}
