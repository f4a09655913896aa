//! What an HTTP job is about: the payload of its row, written as JSON so that SQL and people can write and read it.
//!
//! ```json
//! {"method": "POST", "url": "https://hooks.example.com/in", "headers": {"x-shop": "7"}, "json": {"n": 1}}
//! ```
//!
//! The body is one of `json`, `text` and `base64`. What stands under `json` is sent as it stands, byte for byte (H3).
//! In place of a `url` may stand an `endpoint`: the name of a receiver that is kept.

use core::fmt;
use core::str::FromStr;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::header::{check_header, is_secret};
use crate::endpoint::EventType;
use crate::{Code, EndpointName, Error, Result, limits};

/// What is asked of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    #[default]
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

impl Method {
    /// As it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];
        all.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let shown: String = text.chars().take(20).flat_map(char::escape_debug).collect();
            let why = format!("\"{shown}\" is none of GET, POST, PUT, PATCH and DELETE");
            Error::new(Code::MethodInvalid, why)
        })
    }
}

/// What is sent after the headers.
#[derive(Clone, Debug)]
pub enum Body {
    /// A JSON text, kept as it was written.
    Json(Box<RawValue>),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Body {
    /// The bytes that are signed and sent.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Json(json) => json.get().as_bytes(),
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Text(_) => "text/plain; charset=utf-8",
            Self::Bytes(_) => "application/octet-stream",
        }
    }
}

/// A body as it stands in a payload: at most one of them.
pub(crate) struct Parts<'a> {
    pub(crate) json: Option<&'a RawValue>,
    pub(crate) text: Option<String>,
    pub(crate) base64: Option<String>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(body: Option<&'a Body>) -> Self {
        let mut parts = Self { json: None, text: None, base64: None };
        match body {
            Some(Body::Json(raw)) => parts.json = Some(&**raw),
            Some(Body::Text(text)) => parts.text = Some(text.clone()),
            Some(Body::Bytes(bytes)) => parts.base64 = Some(STANDARD.encode(bytes)),
            None => {}
        }
        parts
    }

    pub(crate) fn body(self) -> Result<Option<Body>, String> {
        match (self.json, self.text, self.base64) {
            (Some(json), None, None) => Ok(Some(Body::Json(json.to_owned()))),
            (None, Some(text), None) => Ok(Some(Body::Text(text))),
            (None, None, Some(base64)) => {
                let bytes = STANDARD.decode(base64).map_err(|error| format!("base64: {error}"))?;
                Ok(Some(Body::Bytes(bytes)))
            }
            (None, None, None) => Ok(None),
            _ => Err("there is one body: json, text or base64".to_owned()),
        }
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.content_type() == other.content_type() && self.bytes() == other.bytes()
    }
}

impl Eq for Body {}

/// A request that waits to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Of whom, in canonical form.
    pub url: String,
    /// By name, in lower case.
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are kept encrypted, by name.
    pub sealed: BTreeMap<String, String>,
    /// What the body is, if that is not clear.
    pub content_type: Option<String>,
    /// What is sent with it.
    pub body: Option<Body>,
    /// The name of the key it is signed with, where the delivery has several.
    pub sign: Option<String>,
    /// The endpoint that is asked instead of a URL.
    pub endpoint: Option<EndpointName>,
    /// The type of the event that it tells of.
    pub event: Option<EventType>,
}

/// As it is kept. What is not known is refused: a request that is understood in part must not be sent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept<'a> {
    #[serde(default)]
    method: Method,
    #[serde(borrow, default, skip_serializing_if = "is_empty")]
    url: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<EventType>,
    #[serde(default, deserialize_with = "each_once", skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "each_once", skip_serializing_if = "BTreeMap::is_empty")]
    sealed: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sign: Option<String>,
    #[serde(borrow, default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    json: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// Refuses what is no name of a signing key: letters, digits, `-`, `_` and `.`, some but not many of them.
///
/// # Errors
/// [`SigningKeyNameInvalid`](Code::SigningKeyNameInvalid).
pub fn check_key_name(name: &str) -> Result<()> {
    let max = limits::SIGNING_KEY_BYTES_MAX;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=max).contains(&name.len()) && name.bytes().all(letter) {
        return Ok(());
    }
    let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
    let why = format!("\"{shown}\" is no name of a signing key: 1 to {max} letters, digits, -, _ and .");
    Err(Error::new(Code::SigningKeyNameInvalid, why))
}

#[expect(clippy::ptr_arg, reason = "serde gives the field as it is")]
fn is_empty(text: &Cow<'_, str>) -> bool {
    text.is_empty()
}

/// `null` is a JSON text as well.
pub(crate) fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Headers by name, in lower case. One that is there twice has no value that anybody could mean.
fn each_once<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Headers;

    impl<'de> Visitor<'de> for Headers {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("headers by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut headers = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, String>()? {
                let name = name.to_ascii_lowercase();
                if headers.insert(name.clone(), value).is_some() {
                    let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
                    return Err(A::Error::custom(format!("the header {shown} is there twice")));
                }
            }
            Ok(headers)
        }
    }

    from.deserialize_map(Headers)
}

/// How many bytes a sealed text had before: its last part is base64 of a nonce (12 bytes), the text and a tag (16).
fn plain_len(sealed: &str) -> usize {
    match sealed.rsplit_once('.') {
        Some((_, text)) => (text.trim_end_matches('=').len() * 3 / 4).saturating_sub(28),
        None => sealed.len(),
    }
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: BTreeMap::new(),
            sealed: BTreeMap::new(),
            content_type: None,
            body: None,
            sign: None,
            endpoint: None,
            event: None,
        }
    }

    /// A request to an endpoint, whose URL is looked up when it is sent.
    pub fn to_endpoint(endpoint: EndpointName) -> Self {
        Self { endpoint: Some(endpoint), ..Self::new(Method::Post, "") }
    }

    /// What the `Content-Type` header says, where there is a body.
    pub fn content_type(&self) -> Option<&str> {
        let body = self.body.as_ref()?;
        Some(self.content_type.as_deref().unwrap_or_else(|| body.content_type()))
    }

    /// The bytes that are signed and sent.
    pub fn body_bytes(&self) -> &[u8] {
        self.body.as_ref().map_or(&[], Body::bytes)
    }

    /// Refuses what no receiver shall see. The URL is somebody else's to check.
    ///
    /// # Errors
    /// [`HeaderInvalid`](Code::HeaderInvalid), [`HeaderSecret`](Code::HeaderSecret),
    /// [`SigningKeyNameInvalid`](Code::SigningKeyNameInvalid), [`RequestBodyInvalid`](Code::RequestBodyInvalid).
    pub fn check(&self) -> Result<()> {
        self.sign.as_deref().map_or(Ok(()), check_key_name)?;
        for (name, value) in &self.headers {
            check_header(name, value)?;
            if is_secret(name) {
                let why = format!(
                    "the header {name} holds a secret: give it as a secret header, which is encrypted"
                );
                return Err(Error::new(Code::HeaderSecret, why));
            }
        }
        for name in self.sealed.keys() {
            check_header(name, "")?;
            if self.headers.contains_key(name) {
                return Err(Error::new(Code::HeaderInvalid, format!("the header {name} is there twice")));
            }
        }
        self.check_sizes(plain_len)?;
        self.check_body()
    }

    /// `sealed_len`: how much a secret value is, before it was encrypted.
    fn check_sizes(&self, sealed_len: impl Fn(&str) -> usize) -> Result<()> {
        let count = self.headers.len() + self.sealed.len();
        if count > limits::HTTP_HEADERS_MAX {
            let max = limits::HTTP_HEADERS_MAX;
            let why = format!("a request has at most {max} headers of its own, not {count}");
            return Err(Error::new(Code::HeaderInvalid, why));
        }
        let plain = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let sealed = self.sealed.iter().map(|(name, value)| name.len() + sealed_len(value));
        let total: usize = plain.chain(sealed).sum();
        if total > limits::HTTP_HEADERS_BYTES_MAX {
            let max = limits::HTTP_HEADERS_BYTES_MAX;
            return Err(Error::new(
                Code::HeaderInvalid,
                format!("the headers have more than {max} bytes together"),
            ));
        }
        Ok(())
    }

    fn check_body(&self) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(Code::RequestBodyInvalid, why));
        if self.body.is_none() && self.content_type.is_some() {
            return refuse("a content type is said of a body, and there is none");
        }
        if self.body.is_some() && self.method == Method::Get {
            return refuse("a GET request has no body");
        }
        let Some(content_type) = &self.content_type else { return Ok(()) };
        // As a header of that name may not be chosen, its value is checked under another one.
        if content_type.is_empty() || content_type.len() > limits::CONTENT_TYPE_BYTES_MAX {
            return refuse("the content type is empty or too long");
        }
        check_header("x-content-type", content_type)
    }

    /// Refuses secret headers that are too much together with the others; their values are those before they were
    /// encrypted.
    ///
    /// # Errors
    /// [`HeaderInvalid`](Code::HeaderInvalid).
    pub fn check_secrets(&self, secrets: &[(String, String)]) -> Result<()> {
        secrets.iter().try_for_each(|(name, value)| check_header(name, value))?;
        let mut names = HashSet::new();
        if let Some((twice, _)) =
            secrets.iter().find(|(name, _)| self.headers.contains_key(name) || !names.insert(name))
        {
            return Err(Error::new(Code::HeaderInvalid, format!("the header {twice} is there twice")));
        }
        let sealed = secrets.iter().cloned().collect();
        Self { sealed, body: None, content_type: None, ..self.clone() }.check_sizes(str::len)
    }

    /// The payload of the job.
    ///
    /// # Errors
    /// [`PayloadUnwritable`](Code::PayloadUnwritable), which does not happen.
    pub fn to_payload(&self) -> Result<Vec<u8>> {
        let Parts { json, text, base64 } = Parts::of(self.body.as_ref());
        let kept = Kept {
            method: self.method,
            url: self.url.as_str().into(),
            endpoint: self.endpoint.as_ref().map(|name| name.as_str().to_owned()),
            event: self.event.clone(),
            headers: self.headers.clone(),
            sealed: self.sealed.clone(),
            content_type: self.content_type.clone(),
            sign: self.sign.clone(),
            json,
            text,
            base64,
        };
        serde_json::to_vec(&kept)
            .map_err(|error| Error::new(Code::PayloadUnwritable, "the request is no JSON").with_source(error))
    }

    /// Reads what [`to_payload`](Self::to_payload) has written, or somebody's SQL.
    ///
    /// # Errors
    /// [`HttpRequestUnreadable`](Code::HttpRequestUnreadable), and as [`check`](Self::check).
    pub fn from_payload(payload: &[u8]) -> Result<Self> {
        let unreadable = |why: String| Error::new(Code::HttpRequestUnreadable, why);
        let kept: Kept<'_> = serde_json::from_slice(payload)
            .map_err(|error| unreadable(format!("the payload is no HTTP request: {error}")))?;
        let body =
            Parts { json: kept.json, text: kept.text, base64: kept.base64 }.body().map_err(unreadable)?;
        if kept.url.is_empty() == kept.endpoint.is_none() {
            return Err(unreadable("a request goes to a url or to an endpoint".to_owned()));
        }
        let request = Self {
            method: kept.method,
            url: kept.url.into_owned(),
            headers: kept.headers,
            sealed: kept.sealed,
            content_type: kept.content_type,
            body,
            sign: kept.sign,
            endpoint: kept.endpoint.map(EndpointName::new).transpose()?,
            event: kept.event,
        };
        request.check()?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn post(body: Option<Body>) -> Request {
        Request { body, ..Request::new(Method::Post, "https://example.com/") }
    }

    #[test]
    fn h3_a_json_body_is_kept_to_the_byte() {
        for text in
            [r#"{"n": 1}"#, r#"{ "b":2,  "a":"\ud800", "a":1e400000 }"#, "[\n]", "-0", "null", r#""é""#]
        {
            let json = RawValue::from_string(text.to_owned()).unwrap();
            let payload = post(Some(Body::Json(json))).to_payload().unwrap();
            assert_eq!(Request::from_payload(&payload).unwrap().body_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn what_somebody_wrote_in_sql_is_checked_as_well() {
        let read = |text: &str| Request::from_payload(text.as_bytes());
        let request = read(r#"{"url":"https://a.com/","headers":{"X-Shop":"7"},"json":{"n": 1}}"#).unwrap();
        assert_eq!((request.method, request.headers["x-shop"].as_str()), (Method::Post, "7"));
        assert_eq!(request.content_type(), Some("application/json"));
        for (text, code) in [
            ("", Code::HttpRequestUnreadable),
            ("[]", Code::HttpRequestUnreadable),
            (r#"{"url":"https://a.com/","follow":true}"#, Code::HttpRequestUnreadable),
            (r#"{"url":"https://a.com/","json":1,"text":"x"}"#, Code::HttpRequestUnreadable),
            (r#"{"url":"https://a.com/","base64":"*"}"#, Code::HttpRequestUnreadable),
            (r#"{"url":"https://a.com/","method":"TRACE"}"#, Code::HttpRequestUnreadable),
            (r#"{"url":"https://a.com/","headers":{"Host":"b.com"}}"#, Code::HeaderInvalid),
            (r#"{"url":"https://a.com/","headers":{"Authorization":"Bearer x"}}"#, Code::HeaderSecret),
            (r#"{"url":"https://a.com/","headers":{"x-a":"1","x-a":"2"}}"#, Code::HttpRequestUnreadable),
            (r#"{"url":"https://a.com/","headers":{"X-A":"1","x-a":"2"}}"#, Code::HttpRequestUnreadable),
            (
                r#"{"url":"https://a.com/","sealed":{"X-A":"s1.a.b","x-a":"s1.a.c"}}"#,
                Code::HttpRequestUnreadable,
            ),
            (
                r#"{"url":"https://a.com/","headers":{"X-A":"1"},"sealed":{"x-a":"s1.a.c"}}"#,
                Code::HeaderInvalid,
            ),
            (r#"{"url":"https://a.com/","headers":[]}"#, Code::HttpRequestUnreadable),
            (r#"{"url":"https://a.com/","method":"GET","json":1}"#, Code::RequestBodyInvalid),
            (r#"{"url":"https://a.com/","text":"x","content_type":"a\r\nb"}"#, Code::HeaderInvalid),
        ] {
            assert_eq!(read(text).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn headers_are_bounded_together() {
        let mut request = post(None);
        request.headers = (0..=limits::HTTP_HEADERS_MAX).map(|n| (format!("x-{n}"), String::new())).collect();
        assert_eq!(request.check().unwrap_err().code(), Code::HeaderInvalid);
        let long = "a".repeat(limits::HTTP_HEADER_VALUE_BYTES_MAX);
        request.headers = (0..3).map(|n| (format!("x-{n}"), long.clone())).collect();
        assert_eq!(request.check().unwrap_err().code(), Code::HeaderInvalid);
        // What is encrypted counts as what it is before.
        let plain = post(None);
        let secrets: Vec<_> = (0..3).map(|n| (format!("x-{n}"), long.clone())).collect();
        assert_eq!(plain.check_secrets(&secrets).unwrap_err().code(), Code::HeaderInvalid);
        plain.check_secrets(&secrets[..1]).unwrap();
        let twice = [secrets[0].clone(), ("x-0".to_owned(), "b".to_owned())];
        assert_eq!(plain.check_secrets(&twice).unwrap_err().code(), Code::HeaderInvalid);
    }

    #[test]
    fn the_name_of_a_signing_key_is_short_and_plain() {
        let named = |name: &str| Request { sign: Some(name.to_owned()), ..post(None) }.check();
        named("shop-7.eu_1").unwrap();
        for bad in ["", "a b", "a=b", "é", "a\nb", &"a".repeat(65)] {
            assert_eq!(named(bad).unwrap_err().code(), Code::SigningKeyNameInvalid, "{bad:?}");
        }
    }

    proptest! {
        /// H3: whatever the bytes are, those are sent.
        #[test]
        fn h3_bytes_and_texts_come_back_as_they_were(bytes in any::<Vec<u8>>(), text in any::<String>()) {
            for body in [Body::Bytes(bytes), Body::Text(text)] {
                let request = post(Some(body));
                let read = Request::from_payload(&request.to_payload().unwrap()).unwrap();
                prop_assert_eq!(read, request);
            }
        }

        #[test]
        fn reading_a_payload_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = Request::from_payload(&bytes);
        }
    }
}
