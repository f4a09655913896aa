//! An HTTP job being described.

use core::fmt;

use onceward_core::endpoint::EventType;
use onceward_core::http::{Body, Method, Policy, Request, Target};
use onceward_core::job::Payload;
use onceward_core::{Code, EndpointName, Error, Namespace, Result};
use serde::Serialize;
use serde_json::value::RawValue;

use super::seal::SealKeys;
use super::url;
use crate::jobs::JSON;

/// A request that is to be sent as a job; [`Onceward::enqueue_http`](crate::Onceward::enqueue_http) takes it.
///
/// What is wrong with it is refused when it is enqueued, before anything is written. What only the look-up of its host
/// shows is refused at each attempt.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use onceward::http_jobs::HttpJob;
///
/// let inside = HttpJob::post("http://169.254.169.254/latest/meta-data/").json(&1);
/// assert_eq!(ow.enqueue_http(inside).await.unwrap_err().code(), onceward::Code::UrlSchemeRefused);
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "it is sent once it is enqueued, by `Onceward::enqueue_http`"]
pub struct HttpJob {
    request: Result<Request>,
    secrets: Vec<(String, String)>,
    keys: Option<SealKeys>,
    policy: Policy,
}

/// Without what is secret.
impl fmt::Debug for HttpJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpJob").field("request", &self.request).finish_non_exhaustive()
    }
}

/// What is enqueued of it.
pub(crate) struct Finished {
    pub(crate) payload: Payload,
    /// What its fingerprint is taken of, where that is not the payload: what is sealed looks different each time.
    pub(crate) stands_for: Option<Vec<u8>>,
    /// Whether it goes to an endpoint.
    pub(crate) to_endpoint: bool,
}

impl HttpJob {
    /// A request with this method.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        let request = Ok(Request::new(method, url));
        Self { request, secrets: Vec::new(), keys: None, policy: Policy::default() }
    }

    /// A POST request: a webhook.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::Post, url)
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url)
    }

    /// A PUT request.
    pub fn put(url: impl Into<String>) -> Self {
        Self::new(Method::Put, url)
    }

    /// A PATCH request.
    pub fn patch(url: impl Into<String>) -> Self {
        Self::new(Method::Patch, url)
    }

    /// A DELETE request.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new(Method::Delete, url)
    }

    /// A POST request to an endpoint, by its name. Its URL, headers and secrets are looked up when it is sent; where
    /// there is no such endpoint then, the job is dead, and where it is disabled, the job waits.
    pub fn to_endpoint(name: impl AsRef<str>) -> Self {
        let request = EndpointName::new(name).map(Request::to_endpoint);
        Self { request, secrets: Vec::new(), keys: None, policy: Policy::default() }
    }

    /// The type of the event it tells of, as the header `onceward-event`.
    pub fn event(self, event: &EventType) -> Self {
        self.with(|request| {
            request.event = Some(event.clone());
            Ok(())
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Request) -> Result<()>) -> Self {
        self.request = self.request.and_then(|mut request| change(&mut request).map(|()| request));
        self
    }

    /// A body of JSON.
    pub fn json(self, value: &impl Serialize) -> Self {
        let raw = serde_json::value::to_raw_value(value).map_err(|error| {
            Error::new(Code::PayloadUnwritable, "the body can't be written as JSON").with_source(error)
        });
        self.with(|request| raw.map(|raw| request.body = Some(Body::Json(raw))))
    }

    /// A body of JSON that is written already: sent as it stands, byte for byte.
    pub fn json_text(self, text: impl Into<String>) -> Self {
        let raw = RawValue::from_string(text.into())
            .map_err(|error| Error::new(Code::PayloadUnwritable, format!("the body is not JSON: {error}")));
        self.with(|request| raw.map(|raw| request.body = Some(Body::Json(raw))))
    }

    /// A body of text.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.with(|request| {
            request.body = Some(Body::Text(text.into()));
            Ok(())
        })
    }

    /// A body of bytes.
    pub fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(|request| {
            request.body = Some(Body::Bytes(bytes.into()));
            Ok(())
        })
    }

    /// What the body is, where that is not clear from how it was given.
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        self.with(|request| {
            request.content_type = Some(content_type.into());
            Ok(())
        })
    }

    /// A header. Those that carry secrets are refused here: see [`secret_header`](Self::secret_header).
    pub fn header(self, name: impl AsRef<str>, value: impl Into<String>) -> Self {
        self.with(|request| {
            let name = name.as_ref().to_ascii_lowercase();
            if request.headers.insert(name.clone(), value.into()).is_some() {
                let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
                return Err(Error::new(Code::HeaderInvalid, format!("the header {shown} is there twice")));
            }
            Ok(())
        })
    }

    /// A header whose value is kept encrypted. The worker that delivers needs the same keys.
    pub fn secret_header(mut self, name: impl AsRef<str>, value: impl Into<String>, keys: &SealKeys) -> Self {
        self.secrets.push((name.as_ref().to_ascii_lowercase(), value.into()));
        self.keys = Some(keys.clone());
        self
    }

    /// Signs it with the delivery's key of this name, instead of the one that signs everything: 1 to 64 letters,
    /// digits, `-`, `_` and `.`.
    pub fn sign_with(self, key: impl Into<String>) -> Self {
        self.with(|request| {
            request.sign = Some(key.into());
            Ok(())
        })
    }

    /// Where it may go, as far as the URL shows. The policy of the delivery decides; this one refuses sooner, and by
    /// default all but `https` to public hosts.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The payload of the job, checked.
    pub(crate) fn finish(self, namespace: &Namespace) -> Result<Finished> {
        let mut request = self.request?;
        if request.endpoint.is_some() {
            return Self::finish_to_endpoint(&request, self.secrets.is_empty());
        }
        let target = url::target(&request.url)?;
        self.policy.check_target(&target)?;
        request.url = target.to_string();
        request.check_secrets(&self.secrets)?;
        let mut stands_for = None;
        if let Some(keys) = &self.keys {
            // What it stands for is kept: nobody who reads that and has no key can try out what the secret is.
            let sealed = self.secrets.iter().map(|(name, value)| (name.clone(), keys.mark(value))).collect();
            stands_for = Some(Request { sealed, ..request.clone() }.to_payload()?);
            let seal = |(name, value): &(String, String)| {
                Ok((name.clone(), keys.seal(value, &place(namespace, &target, name))?))
            };
            request.sealed = self.secrets.iter().map(seal).collect::<Result<_>>()?;
        }
        request.check()?;
        let payload = Payload { bytes: request.to_payload()?, content_type: JSON.to_owned() };
        Ok(Finished { payload, stands_for, to_endpoint: false })
    }

    fn finish_to_endpoint(request: &Request, without_secrets: bool) -> Result<Finished> {
        if !without_secrets {
            let why = "an endpoint has secret headers of its own: a request to it can't bring any";
            return Err(Error::new(Code::HeaderInvalid, why));
        }
        request.check()?;
        let payload = Payload { bytes: request.to_payload()?, content_type: JSON.to_owned() };
        Ok(Finished { payload, stands_for: None, to_endpoint: true })
    }
}

/// Where a sealed header lies, and whom it is for: moved to a request to somebody else, it does not open. The same for
/// replays, ticks of a schedule, and whatever takes the place of a job that waits.
pub(super) fn place(namespace: &Namespace, target: &Target, header: &str) -> String {
    format!("http|{}|{}|{}|{header}", namespace.as_str().len(), namespace.as_str(), target.origin())
}
