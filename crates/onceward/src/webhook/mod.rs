//! Signatures of webhooks, as [Standard Webhooks](https://www.standardwebhooks.com) wants them: for senders and for
//! receivers.
//!
//! ```
//! use std::time::SystemTime;
//! use onceward::webhook::{Secret, Verifier};
//!
//! # fn main() -> Result<(), onceward::Error> {
//! let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
//! let now = SystemTime::now().into();
//! let (id, time, body) = ("msg_1", Secret::seconds(now), br#"{"n": 1}"#);
//! let signature = secret.sign(id, time, body);
//! // The receiver checks the bytes as they came in, before anything reads them as JSON.
//! Verifier::new([&secret.verifying()]).verify(id, &time.to_string(), &signature, body, now)?;
//! # Ok(()) }
//! ```

mod secret;
mod verify;

pub(crate) use secret::random;
pub use secret::{Secret, VerifyingKey};
pub use verify::Verifier;

/// The header with the id of the event: the same for every attempt.
pub const ID: &str = "webhook-id";
/// The header with the time of the attempt, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures, a space between them.
pub const SIGNATURE: &str = "webhook-signature";

/// What is signed: id, time and body, a dot between them. No id holds a dot, so that none can stand for another.
fn signed(id: &str, seconds: i64, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{id}.{seconds}.").into_bytes();
    content.extend_from_slice(body);
    content
}
