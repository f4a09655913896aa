use std::time::SystemTime;

use http::HeaderMap;
use onceward::webhook::{Verifier, VerifyingKey};

/// Whether `body` was sent by somebody who has the secret (`whsec_…`, or for `whpk_…` its other half), a moment ago.
fn verify(secret: &str, headers: &HeaderMap, body: &[u8], now: SystemTime) -> bool {
    let Ok(key) = secret.parse::<VerifyingKey>() else { return false };
    // While a secret is being replaced: both keys.
    Verifier::new([&key]).verify_request(headers, body, now.into()).is_ok()
}
