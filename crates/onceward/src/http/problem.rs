//! The layer's own answers: problem documents (RFC 9457) with our codes.

use ::http::{HeaderValue, Response, StatusCode, header};
use onceward_core::{Code, Error, Timestamp};
use serde::Serialize;

use super::body::{self, ResponseBody};

/// How soon a caller may ask again, in seconds: for work that is being done, and for a store that is away.
const SOON_S: u32 = 1;
const LATER_S: u32 = 5;

/// Why the layer answered instead of the handler. It is among the extensions of such a response, for layers
/// above that write errors in a form of their own.
///
/// ```
/// use http::Response;
/// use onceward::http::Problem;
///
/// fn in_our_form<B>(response: Response<B>) -> Response<String> {
///     match response.extensions().get::<Problem>() {
///         Some(problem) => Response::new(format!("{}: {}", problem.code, problem.detail)),
///         None => Response::new("the handler's own answer".into()),
///     }
/// }
/// # in_our_form(Response::new(()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The status of the response.
    pub status: StatusCode,
    /// The code; its page says more.
    pub code: Code,
    /// What is the matter with this request. Nothing of what others recorded, and nothing of our insides, is
    /// in it.
    pub detail: String,
    /// After how many seconds the same request may be sent again; `None` where sending it again does not
    /// help.
    pub retry_after_s: Option<u32>,
}

/// The document as it is sent.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    retryable: bool,
}

impl Problem {
    fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_s: None }
    }

    fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    pub(super) fn key_missing() -> Self {
        let detail = "this request needs an Idempotency-Key header: made once, and sent with every try";
        Self::new(StatusCode::BAD_REQUEST, Code::IdempotencyKeyMissing, detail)
    }

    pub(super) fn key_invalid(why: &Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::IdempotencyKeyInvalid, why.message())
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        let detail = format!("the body has more than the {bytes_max} bytes that this route allows");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::RequestTooLarge, detail)
    }

    pub(super) fn running() -> Self {
        let detail =
            "a request with this Idempotency-Key is being handled; send this one again for its answer";
        Self::new(StatusCode::CONFLICT, Code::OnceRunning, detail).retry_after(SOON_S)
    }

    pub(super) fn uncertain(since: Timestamp) -> Self {
        let detail = format!(
            "a request with this Idempotency-Key was begun, and it has not been known since {since} whether \
             it took effect; it will not be run again by itself"
        );
        Self::new(StatusCode::CONFLICT, Code::OnceUncertain, detail)
    }

    /// This very request was begun, and did not come to an answer.
    pub(super) fn cut_off() -> Self {
        let detail = "this request was begun and broke off; it is not known whether it took effect";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::OnceUncertain, detail)
    }

    pub(super) fn not_kept() -> Self {
        let detail =
            "the request with this Idempotency-Key was handled; its answer was not kept or can't be read";
        Self::new(StatusCode::CONFLICT, Code::ResultUnreadable, detail)
    }

    pub(super) fn failed() -> Self {
        let detail = "the request with this Idempotency-Key has failed for good and left no answer";
        Self::new(StatusCode::CONFLICT, Code::OnceFailed, detail)
    }

    pub(super) fn not_started() -> Self {
        let detail = "the request with this Idempotency-Key ended before it had done anything; send it again";
        Self::new(StatusCode::CONFLICT, Code::OnceFailed, detail).retry_after(SOON_S)
    }

    /// The store, or the settings of the layer, stood in the way; the handler was not run. The particulars
    /// are for our log, not for the client.
    pub(super) fn of(error: &Error) -> Self {
        match error.code() {
            code @ Code::FingerprintMismatch => {
                let detail = "this Idempotency-Key was used before, with a different request; a new request \
                              takes a new key";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
            }
            code @ Code::KeyLocked => {
                let detail = "an open transaction holds this Idempotency-Key; send the request again";
                Self::new(StatusCode::CONFLICT, code, detail).retry_after(SOON_S)
            }
            code if error.is_retryable() || matches!(code, Code::LaneFull | Code::StoreClosed) => {
                let detail = "the request was not handled, because its key could not be claimed";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(LATER_S)
            }
            code => {
                let detail = "the request was not handled: something is set up wrongly here";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, detail)
            }
        }
    }

    /// The type of the problem, an URI: `urn:onceward:problem:OW0302`.
    pub fn type_uri(&self) -> String {
        format!("urn:onceward:problem:{}", self.code)
    }

    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let document = Document {
            r#type: &self.type_uri(),
            title: self.code.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            retryable: self.retry_after_s.is_some(),
        };
        let json = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(body::full(json));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_inside_is_not_told() {
        let secret = "10.0.0.7 said: relation \"onceward.once\" does not exist";
        for (code, status, retry) in [
            (Code::FingerprintMismatch, 422, None),
            (Code::KeyLocked, 409, Some(1)),
            (Code::StoreUnavailable, 503, Some(5)),
            (Code::StoreBusy, 503, Some(5)),
            (Code::CommitUnknown, 503, Some(5)),
            (Code::LaneFull, 503, Some(5)),
            (Code::StoreClosed, 503, Some(5)),
            (Code::SchemaBehind, 500, None),
            (Code::TtlInvalid, 500, None),
        ] {
            let problem = Problem::of(&Error::new(code, secret));
            assert_eq!((problem.status.as_u16(), problem.retry_after_s), (status, retry), "{code}");
            assert!(problem.code == code && !problem.detail.contains("10.0.0.7"));
        }
    }
}
