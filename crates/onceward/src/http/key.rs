//! The client's key: read from its header, and folded with everything it must not be mixed up with.

use core::fmt;
use core::fmt::Write as _;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderName};
use onceward_core::{Code, Error, Key, Result, limits};
use sha2::{Digest, Sha256};

/// The header the client sends its key in.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key a client has sent, without quotes and escapes.
///
/// The handler finds it among the extensions of the request. It is unique only within one client and route:
/// for a name that is unique everywhere, to hand on to a payment provider, take
/// [`Attempt::key`](crate::Attempt::key).
///
/// ```
/// use onceward::http::IdempotencyKey;
///
/// let quoted = IdempotencyKey::parse(br#""order-17""#)?;
/// assert_eq!(quoted, IdempotencyKey::parse(b"order-17")?);
/// assert!(IdempotencyKey::parse_strict(b"order-17").is_err());
/// # Ok::<(), onceward::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// Reads the value of a header: a string between quotes, as the IETF draft has it (RFC 8941, section
    /// 3.3.3), or the bare text that many clients send instead. Both forms of one text are one key.
    ///
    /// Bare text is visible ASCII without quotes, backslashes, commas and semicolons: a comma is what two
    /// headers joined by a proxy look like, and a semicolon begins a parameter, of which none is known.
    ///
    /// # Errors
    /// [`IdempotencyKeyInvalid`](Code::IdempotencyKeyInvalid).
    pub fn parse(value: &[u8]) -> Result<Self> {
        let value = trim(value);
        Self::new(if value.starts_with(b"\"") { quoted(value) } else { bare(value) })
    }

    /// As [`parse`](Self::parse), without the bare form.
    ///
    /// # Errors
    /// [`IdempotencyKeyInvalid`](Code::IdempotencyKeyInvalid).
    pub fn parse_strict(value: &[u8]) -> Result<Self> {
        Self::new(quoted(trim(value)))
    }

    fn new(key: core::result::Result<String, &str>) -> Result<Self> {
        let key = key.map_err(invalid)?;
        match key.len() {
            0 => Err(invalid("is empty")),
            1..=limits::KEY_BYTES_MAX => Ok(Self(key.into())),
            _ => Err(invalid("is longer than 255 bytes")),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn invalid(why: &str) -> Error {
    Error::new(Code::IdempotencyKeyInvalid, format!("the Idempotency-Key {why}"))
}

/// The key among these headers, if there is one. Two headers are refused even if they say the same.
pub(super) fn of(headers: &HeaderMap, strict: bool) -> Result<Option<IdempotencyKey>> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid("is there more than once"));
    }
    let parse = if strict { IdempotencyKey::parse_strict } else { IdempotencyKey::parse };
    parse(value.as_bytes()).map(Some)
}

/// Blanks around a value belong to the header, not to the value.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn quoted(value: &[u8]) -> core::result::Result<String, &'static str> {
    let [b'"', text @ ..] = value else { return Err("does not stand between double quotes") };
    let (mut key, mut bytes) = (String::with_capacity(text.len()), text.iter().copied());
    loop {
        match bytes.next() {
            None => return Err("lacks its closing quote"),
            Some(b'"') if bytes.len() == 0 => return Ok(key),
            Some(b'"') => return Err("goes on after its closing quote"),
            Some(b'\\') => match bytes.next() {
                Some(escaped @ (b'"' | b'\\')) => key.push(escaped.into()),
                _ => return Err("escapes what is neither a quote nor a backslash"),
            },
            Some(plain @ b' '..=b'~') => key.push(plain.into()),
            Some(_) => return Err("holds a byte that is not printable ASCII"),
        }
    }
}

fn bare(value: &[u8]) -> core::result::Result<String, &'static str> {
    let plain = |byte: &u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\' | b',' | b';');
    if value.iter().all(plain) {
        return Ok(value.iter().copied().map(char::from).collect());
    }
    Err("holds characters that need double quotes around it, or that no key can have")
}

/// One once key for a client's key within its scope, method and route.
///
/// Each field comes with its length, so that no two lists of fields meet in one key. What is too long for a
/// key, or holds what a key can't, is hashed.
pub(super) fn fold(scope: Option<&str>, method: &str, route: &str, key: &IdempotencyKey) -> String {
    let mut folded = "http".to_owned();
    for field in [scope, Some(method), Some(route), Some(key.as_str())] {
        // Writing to a string can't fail.
        let _ = match field {
            None => write!(folded, ":-"),
            Some(field) => write!(folded, ":{}:{field}", field.len()),
        };
    }
    if Key::new(&folded).is_ok() { folded } else { format!("http#{:x}", Sha256::digest(&folded)) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ::http::HeaderValue;

    use super::*;

    #[test]
    fn keys_are_read_between_quotes_and_bare() {
        let long = format!("\"{}\"", "x".repeat(255));
        for (value, key) in [
            (r#""8e03978e-40d5-43e8-bc93-6894a57f9324""#, "8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
            (" \t\"a\"\t ", "a"),
            (r#""a \"b\" \\ c""#, r#"a "b" \ c"#),
            (r#"" , ; ' ~ ""#, " , ; ' ~ "),
            ("order:17/", "order:17/"),
            ("?1", "?1"),
            (":YQ==:", ":YQ==:"),
            ("a=b+c/d==", "a=b+c/d=="),
            ("*'()&%$#@!^`{|}~<>?[]", "*'()&%$#@!^`{|}~<>?[]"),
            (&long, &"x".repeat(255)),
        ] {
            assert_eq!(IdempotencyKey::parse(value.as_bytes()).unwrap().as_str(), key, "{value}");
            let strict = IdempotencyKey::parse_strict(value.as_bytes()).is_ok();
            assert_eq!(strict, value.contains('"'), "{value}");
        }
    }

    /// O12.
    #[test]
    fn odd_keys_are_refused() {
        let (long, long_bare) = (format!("\"{}\"", "x".repeat(256)), "x".repeat(256));
        let odd: &[&[u8]] = &[
            b"",
            b"  ",
            b"\"\"",
            b"\"",
            b"\"a",
            b"a\"",
            b"\"a\\\"",
            b"\"a\\",
            b"\"\\n\"",
            b"\"a\"b\"",
            b"\"a\" b",
            b"\"a\";v=1",
            b"\"a\", \"b\"",
            b"a, b",
            b"a,a",
            b"a;v=1",
            b"a b",
            b"a\\b",
            b"'a b'",
            b"\"a\tb\"",
            b"\"a\0b\"",
            b"\"a\x7f\"",
            "\"ä\"".as_bytes(),
            "ä".as_bytes(),
            b"\xff",
            b"\"\xff\"",
            b":YQ==: x",
            long.as_bytes(),
            long_bare.as_bytes(),
        ];
        for value in odd {
            for parse in [IdempotencyKey::parse, IdempotencyKey::parse_strict] {
                let read = parse(value).map_err(|error| error.code());
                assert_eq!(read, Err(Code::IdempotencyKeyInvalid), "{:?}", String::from_utf8_lossy(value));
            }
        }
    }

    #[test]
    fn a_second_header_is_refused_even_if_it_says_the_same() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers, false).unwrap(), None);
        headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        assert_eq!(of(&headers, false).unwrap().unwrap().as_str(), "a");
        assert!(of(&headers, true).is_err());
        headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
        assert!(of(&headers, false).is_err());
    }

    /// O12: nobody gets into another's keys by choosing names that join to the same text.
    #[test]
    fn different_fields_never_fold_into_one_key() {
        let texts = ["", "-", "a", "1:a", ":1:a", "a:1:a", "ä", "\u{202e}", "a\0", &"x".repeat(300)];
        let keys = ["a", "1:a", ":-", "a:1:a"].map(|key| IdempotencyKey(key.into()));
        let mut seen = HashSet::new();
        let scopes = || texts.iter().copied().map(Some).chain([None]);
        for scope in scopes() {
            for route in texts {
                for key in &keys {
                    let folded = fold(scope, "POST", route, key);
                    assert!(Key::new(&folded).is_ok(), "{folded:?}");
                    assert!(seen.insert(folded), "{scope:?} {route:?} {key}");
                }
            }
        }
        let key = &keys[0];
        assert_ne!(fold(None, "POST", "/", key), fold(None, "PATCH", "/", key));
        assert_eq!(fold(Some("alice"), "POST", "/p", key), "http:5:alice:4:POST:2:/p:1:a");
    }
}
