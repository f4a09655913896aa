//! The keys that webhooks are signed with.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onceward_core::{Code, Error, Result, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use ring::{hmac, rand};

use super::signed;

/// A key that webhooks are signed with: `whsec_…` (HMAC-SHA256, the receiver has the same one) or `whsk_…` (Ed25519,
/// the receiver has the public part, `whpk_…`). It is never shown.
#[derive(Clone)]
pub struct Secret(Arc<Kept>);

enum Kept {
    Hmac { key: hmac::Key, bytes: Vec<u8> },
    Ed25519 { pair: Ed25519KeyPair, seed: Vec<u8> },
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

impl Secret {
    /// A new secret of 32 random bytes, `whsec_…`.
    ///
    /// # Errors
    /// [`SigningSecretInvalid`](Code::SigningSecretInvalid) where the system has no random bytes.
    pub fn generate() -> Result<Self> {
        random().map(|bytes| Self::hmac(bytes.to_vec()))
    }

    /// A new pair of keys, `whsk_…`, of which receivers get the public one.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_pair() -> Result<Self> {
        Self::ed25519(&random()?)
    }

    fn hmac(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Kept::Hmac { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes }))
    }

    /// From the 32 bytes of the seed, or from the 64 of seed and public key.
    fn ed25519(bytes: &[u8]) -> Result<Self> {
        let pair = match bytes.len() {
            32 => Ed25519KeyPair::from_seed_unchecked(bytes),
            64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
            _ => return Err(invalid("a private key has 32 or 64 bytes")),
        };
        let pair = pair.map_err(|_| invalid("the two halves of the private key don't belong together"))?;
        Ok(Self(Arc::new(Kept::Ed25519 { pair, seed: bytes[..32].to_vec() })))
    }

    /// The secret as text, for the one moment in which it may be shown.
    pub fn reveal(&self) -> String {
        match &*self.0 {
            Kept::Hmac { bytes, .. } => format!("whsec_{}", STANDARD.encode(bytes)),
            Kept::Ed25519 { pair, seed } => {
                let both = [seed.as_slice(), pair.public_key().as_ref()].concat();
                format!("whsk_{}", STANDARD.encode(both))
            }
        }
    }

    /// One signature: `v1,…` or `v1a,…`. While a secret is being replaced, send those of both, a space between them.
    pub fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let content = signed(id, seconds, body);
        match &*self.0 {
            Kept::Hmac { key, .. } => format!("v1,{}", STANDARD.encode(hmac::sign(key, &content))),
            Kept::Ed25519 { pair, .. } => format!("v1a,{}", STANDARD.encode(pair.sign(&content))),
        }
    }

    /// What the receiver checks with.
    pub fn verifying(&self) -> VerifyingKey {
        match &*self.0 {
            Kept::Hmac { key, .. } => VerifyingKey(Checks::Hmac(key.clone())),
            Kept::Ed25519 { pair, .. } => VerifyingKey(Checks::Ed25519(pair.public_key().as_ref().to_vec())),
        }
    }

    /// The public part, `whpk_…`, of a pair of keys.
    pub fn public(&self) -> Option<String> {
        match &*self.0 {
            Kept::Hmac { .. } => None,
            Kept::Ed25519 { pair, .. } => Some(format!("whpk_{}", STANDARD.encode(pair.public_key()))),
        }
    }

    /// A time as it is signed and sent.
    pub fn seconds(at: Timestamp) -> i64 {
        at.as_micros().div_euclid(1_000_000)
    }
}

impl FromStr for Secret {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Some(key) = text.strip_prefix("whsk_") {
            return Self::ed25519(&decode(key)?);
        }
        let bytes =
            decode(text.strip_prefix("whsec_").ok_or_else(|| invalid("it begins with whsec_ or whsk_"))?)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(invalid(&format!("a secret has 24 to 64 bytes, this one has {}", bytes.len())));
        }
        Ok(Self::hmac(bytes))
    }
}

/// What signatures are checked with: the same `whsec_…`, or the public `whpk_…`.
#[derive(Clone)]
pub struct VerifyingKey(Checks);

#[derive(Clone)]
enum Checks {
    Hmac(hmac::Key),
    Ed25519(Vec<u8>),
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyingKey([redacted])")
    }
}

impl VerifyingKey {
    /// Whether one signature fits, in a time that does not depend on how much of it does.
    pub(super) fn fits(&self, signature: &str, content: &[u8]) -> bool {
        let tag = |prefix: &str| {
            let tag = signature.strip_prefix(prefix)?;
            STANDARD.decode(tag).ok()
        };
        match &self.0 {
            Checks::Hmac(key) => tag("v1,").is_some_and(|tag| hmac::verify(key, content, &tag).is_ok()),
            Checks::Ed25519(key) => {
                let key = UnparsedPublicKey::new(&ED25519, key);
                tag("v1a,").is_some_and(|tag| key.verify(content, &tag).is_ok())
            }
        }
    }
}

impl FromStr for VerifyingKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some(key) = text.trim().strip_prefix("whpk_") else {
            return text.parse::<Secret>().map(|secret| secret.verifying());
        };
        let key = decode(key)?;
        if key.len() == 32 {
            Ok(Self(Checks::Ed25519(key)))
        } else {
            Err(invalid("a public key has 32 bytes"))
        }
    }
}

pub(crate) fn random() -> Result<[u8; 32]> {
    let drawn: Result<rand::Random<[u8; 32]>, _> = rand::generate(&SystemRandom::new() as &dyn SecureRandom);
    Ok(drawn.map_err(|_| invalid("the system has no random bytes"))?.expose())
}

fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| invalid("what follows the prefix is not base64"))
}

/// Never with the text itself.
fn invalid(why: &str) -> Error {
    Error::new(Code::SigningSecretInvalid, format!("this is not a signing secret: {why}"))
}
