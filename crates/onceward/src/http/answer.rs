//! What a caller gets whose request was not the one that ran: the recorded response, or why there is none.

use ::http::{HeaderName, HeaderValue, Response};
use onceward_core::Result;
use onceward_core::once::Body;

use super::body::{self, ResponseBody};
use super::message;
use super::problem::Problem;
use crate::once::{Failure, Outcome};

/// The header of every replayed response; its value is `true`.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(super) fn of(outcome: Result<Outcome<Body>>) -> Response<ResponseBody> {
    let replayed = match outcome {
        Ok(Outcome::Done { value, .. }) => message::of(value).ok_or_else(Problem::not_kept),
        Ok(Outcome::DoneWithoutBody { .. }) => Err(Problem::not_kept()),
        Ok(Outcome::Failed { error, .. }) => failed(&error).ok_or_else(Problem::failed),
        Ok(Outcome::NotStarted { .. }) => Err(Problem::not_started()),
        Ok(Outcome::Running { .. }) => Err(Problem::running()),
        Ok(Outcome::Uncertain { since, .. }) => Err(Problem::uncertain(since)),
        Err(error) => {
            let problem = Problem::of(&error);
            if problem.status.is_server_error() {
                tracing::error!(%error, "a request with an Idempotency-Key could not be handled");
            }
            Err(problem)
        }
    };
    replayed.map_or_else(Problem::into_response, |response| {
        let mut response = response.map(body::full);
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        response
    })
}

/// The response that a failure was recorded with.
fn failed(failure: &Failure) -> Option<Response<Vec<u8>>> {
    let text: Option<String> = failure.data().ok()?;
    message::read(&message::from_text(&text?)?)
}
