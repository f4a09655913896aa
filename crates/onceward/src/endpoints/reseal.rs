//! Encrypting the secrets of endpoints anew, so that an old key can be put away.

use onceward_core::endpoint::{Endpoint, SigningKey};
use onceward_core::{EndpointName, Error, Result, Timestamp};

use super::{header_place, secret_place};
use crate::http_jobs::{SealKeys, target};

/// What came of encrypting the secrets of endpoints anew.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Resealed {
    /// The endpoints whose secrets were encrypted anew, or would be, and how many those are.
    pub changed: Vec<(EndpointName, usize)>,
    /// How many endpoints have no secret that is encrypted under an older key.
    pub unchanged: usize,
    /// The endpoints of which that is not possible, and why: the key that opens a secret is not among those given, or
    /// the row can't be read.
    pub failed: Vec<(EndpointName, Error)>,
}

/// The endpoint with all secrets under the newest key, and how many of them were not; nothing where all of them are.
/// Signing keys that have ended go.
pub(crate) fn resealed(row: &Endpoint, keys: &SealKeys, now: Timestamp) -> Result<Option<(Endpoint, usize)>> {
    let (namespace, name) = (&row.namespace, &row.name);
    let mut count = 0;
    let mut anew = |sealed: &str, place: &str| {
        if keys.is_newest(sealed) {
            return Ok(sealed.to_owned());
        }
        count += 1;
        keys.seal(&keys.open(sealed, place)?, place)
    };
    let mut next = row.clone();
    if !next.setting.sealed.is_empty() {
        let origin = target(&row.setting.url)?.origin();
        for (header, sealed) in &mut next.setting.sealed {
            *sealed = anew(sealed, &header_place(namespace, name, header, &origin))?;
        }
    }
    let place = secret_place(namespace, name);
    let signing = row.signing(now).map(|key| {
        let sealed = anew(&key.sealed, &place)?;
        Ok(SigningKey { sealed, ..key.clone() })
    });
    next.keys = signing.collect::<Result<_>>()?;
    Ok((count > 0).then_some((next, count)))
}
