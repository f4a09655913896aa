//! What a handler's response says about its work: how the key is settled, and what its caller gets.

use core::fmt;

use ::http::{Response, response};
use bytes::Bytes;
use http_body::Body;
use onceward_core::{limits, once};

use super::body::{self, BoxError, Read, ResponseBody, Rest};
use super::message::{self, LeftOut};
use crate::once::NotDone;

/// What a handler says about its work, where the status of its response does not: put among the extensions of
/// the response.
///
/// Without a mark, a status below 500 means [`Done`](Self::Done), and 500 and above means
/// [`Unknown`](Self::Unknown).
///
/// ```
/// use http::{Response, StatusCode};
/// use onceward::http::Mark;
///
/// // The card company could not be reached: nothing was charged, and the client may send the request again.
/// let mut response = Response::new("try again later");
/// *response.status_mut() = StatusCode::BAD_GATEWAY;
/// response.extensions_mut().insert(Mark::NotStarted);
/// ```
///
/// With axum, `Extension(Mark::NotStarted)` is a part of a response like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mark {
    /// It was done. The response is recorded and replayed, whatever its status.
    Done,
    /// It failed for good. The response is recorded and replayed; lists of keys show it as failed.
    Failed,
    /// Nothing was done. The response is not recorded, and the key is free again.
    NotStarted,
    /// Nobody knows. The response is not recorded, and the key is uncertain.
    Unknown,
}

/// Reads a handler's response. Returns what its caller gets, and how the key is to be settled.
pub(super) async fn record<B>(
    response: Response<B>,
    left_out: &LeftOut,
) -> (Response<ResponseBody>, Result<once::Body, NotDone>)
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = response.into_parts();
    let (body, marked) = (body::untouched(body), head.extensions.remove::<Mark>());
    let by_status = if head.status.is_server_error() { Mark::Unknown } else { Mark::Done };
    let said = format!("the handler answered with status {}", head.status.as_u16());
    let failed = match marked.unwrap_or(by_status) {
        Mark::NotStarted => return (Response::from_parts(head, body), Err(NotDone::not_started(said))),
        Mark::Unknown => return (Response::from_parts(head, body), Err(NotDone::unknown(said))),
        Mark::Failed => true,
        Mark::Done => false,
    };
    let read = body::read_response(body, limits::RESULT_BYTES_MAX).await;
    let ending = match &read.rest {
        Rest::Broken(error) if marked.is_none() => Err(broken(error)),
        _ if failed => Err(failure(&said, kept(&head, &read, left_out))),
        _ => Ok(kept(&head, &read, left_out)),
    };
    (Response::from_parts(head, read.resume()), ending)
}

fn broken(error: &dyn fmt::Display) -> NotDone {
    NotDone::unknown(format!("the body of the handler's response broke off: {error}"))
}

/// The record of a response: without its bytes if they are too many, or broke off under a handler that had
/// said how its work ended (O13).
fn kept(head: &response::Parts, read: &Read, left_out: &LeftOut) -> once::Body {
    match read.rest {
        Rest::Nothing | Rest::Trailers(_) => {
            once::Body::new(message::write(head, &read.start, left_out), message::CONTENT_TYPE)
        }
        Rest::Broken(_) | Rest::More(_) => {
            once::Body { bytes: None, content_type: message::CONTENT_TYPE.to_owned(), size: read.size() }
        }
    }
}

fn failure(said: &str, record: once::Body) -> NotDone {
    let failed = NotDone::failed(said);
    match record.bytes {
        Some(bytes) => failed.with_data(&message::as_text(&bytes)).unwrap_or_else(NotDone::from),
        None => failed,
    }
}
