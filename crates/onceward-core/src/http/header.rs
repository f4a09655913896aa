//! Which headers a request may have.

use crate::{Code, Error, Result, limits};

/// What a sender says about the connection and about itself: ours to say.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "cookie2",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Beginnings of names that are ours to give.
const RESERVED_FAMILIES: &[&str] = &["proxy-", "webhook-", "onceward-", "sec-"];

/// Names whose values open doors.
const SECRET: &[&str] = &[
    "api-key",
    "apikey",
    "authentication",
    "authorization",
    "credentials",
    "password",
    "secret",
    "token",
    "x-apikey",
    "x-secret",
];

/// Ends of such names: `x-api-key`, `private-token`, `x-gitlab-token`, `x-client-secret`.
const SECRET_ENDS: &[&str] = &[
    "-access-key",
    "-api-key",
    "-apikey",
    "-auth-key",
    "-authorization",
    "-credentials",
    "-password",
    "-private-key",
    "-secret",
    "-secret-key",
    "-token",
];

/// Whether a header of this name (in lower case) holds a secret: it is kept encrypted, or not at all.
pub fn is_secret(name: &str) -> bool {
    SECRET.contains(&name) || SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

/// Checks one header; `name` is in lower case.
///
/// # Errors
/// [`Code::HeaderInvalid`], which never shows the value.
pub fn check_header(name: &str, value: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::new(Code::HeaderInvalid, why));
    let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
    if name.is_empty() || name.len() > limits::HTTP_HEADER_NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return refuse(format!("\"{shown}\" is not the name of a header"));
    }
    let reserved =
        RESERVED.contains(&name) || RESERVED_FAMILIES.iter().any(|family| name.starts_with(family));
    if reserved {
        return refuse(format!("the header {shown} can't be chosen: it is set by the delivery, or left out"));
    }
    if value.len() > limits::HTTP_HEADER_VALUE_BYTES_MAX {
        let max = limits::HTTP_HEADER_VALUE_BYTES_MAX;
        return refuse(format!("the value of the header {shown} has more than {max} bytes"));
    }
    // RFC 9110, field values without obs-text: one line of visible ASCII, spaces and tabs between.
    let fits = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    if !value.bytes().all(fits) || value.trim() != value {
        return refuse(format!("the value of the header {shown} is not one line of plain ASCII"));
    }
    Ok(())
}

/// A `traceparent` as the W3C wants it.
pub fn is_trace(text: &str) -> bool {
    let hex = |part: &str, len: usize| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        part.len() == len && part.bytes().all(digit)
    };
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    match text.split('-').collect::<Vec<_>>().as_slice() {
        ["00", trace, span, flags] => {
            hex(trace, 32) && hex(span, 16) && hex(flags, 2) && !zero(trace) && !zero(span)
        }
        _ => false,
    }
}

/// RFC 9110, `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_would_break_the_request_are_refused() {
        for (name, value) in [
            ("", "a"),
            ("x y", "a"),
            ("x:y", "a"),
            ("x\r\ny", "a"),
            ("xé", "a"),
            ("host", "evil.test"),
            ("transfer-encoding", "chunked"),
            ("content-length", "0"),
            ("connection", "close"),
            ("proxy-authorization", "x"),
            ("cookie", "a=b"),
            ("webhook-id", "msg_1"),
            ("onceward-attempt", "1"),
            ("x-a", "b\r\nHost: evil.test"),
            ("x-a", "b\nc"),
            ("x-a", "b\0c"),
            ("x-a", " b"),
            ("x-a", "é"),
        ] {
            assert_eq!(
                check_header(name, value).unwrap_err().code(),
                Code::HeaderInvalid,
                "{name:?} {value:?}"
            );
        }
        check_header("x-a", "").unwrap();
        check_header("idempotency-key", "order 17").unwrap();
        let long = "a".repeat(limits::HTTP_HEADER_VALUE_BYTES_MAX + 1);
        let error = check_header("x-a", &long).unwrap_err();
        assert!(!error.to_string().contains("aaa"), "a value is never shown");
    }

    #[test]
    fn w63_names_whose_values_open_doors_are_known() {
        for name in [
            "authorization",
            "authentication",
            "x-api-key",
            "x-shop-api-key",
            "private-token",
            "job-token",
            "x-gitlab-token",
            "x-amz-security-token",
            "x-vault-token",
            "x-auth-key",
            "x-client-secret",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["idempotency-key", "x-shop", "x-tokens", "content-language", "x-request-id"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_trace_is_passed_on_only_if_it_is_one() {
        assert!(is_trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in ["", "00-1-2-01", "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a\r\nb"] {
            assert!(!is_trace(bad), "{bad:?}");
        }
        assert!(!is_trace("00-00000000000000000000000000000000-00f067aa0ba902b7-01"));
    }
}
