//! Secrets that have to lie in the database, encrypted: AES-256-GCM, bound to the place they lie in, so that a sealed
//! text is of no use anywhere else.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onceward_core::{Code, Error, Result};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use sha2::{Digest, Sha256};

use crate::webhook::random;

/// The keys that secrets are encrypted with: the first one seals, all of them open.
///
/// A key is 32 random bytes in base64; several are separated by commas, the newest first.
#[derive(Clone)]
pub struct SealKeys(Vec<Key>);

#[derive(Clone)]
struct Key {
    /// What it is known by in sealed texts: the beginning of its hash.
    name: String,
    key: LessSafeKey,
    /// What secrets are compared by, where they must not be kept.
    marks: hmac::Key,
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKeys([redacted])")
    }
}

impl SealKeys {
    /// Reads keys: `base64` or `base64,base64`.
    ///
    /// # Errors
    /// [`SealKeyInvalid`](Code::SealKeyInvalid).
    pub fn new(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::new(Code::SealKeyInvalid, format!("this is not a key: {why}"));
        let read = |text: &str| {
            let bytes = STANDARD.decode(text.trim()).map_err(|_| invalid("it is not base64"))?;
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| invalid("it has not 32 bytes"))?;
            let digest = Sha256::new().chain_update(b"onceward.seal").chain_update(&bytes).finalize();
            let name = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            let marks = Sha256::new().chain_update(b"onceward.mark").chain_update(&bytes).finalize();
            let marks = hmac::Key::new(hmac::HMAC_SHA256, &marks);
            Ok(Key { name, key: LessSafeKey::new(key), marks })
        };
        text.split(',').map(read).collect::<Result<_>>().map(Self)
    }

    /// Encrypts a secret for one place.
    pub(crate) fn seal(&self, secret: &str, place: &str) -> Result<String> {
        let broken = || Error::new(Code::SealKeyInvalid, "the secret can't be encrypted");
        let key = self.0.first().ok_or_else(broken)?;
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&random()?[..NONCE_LEN]);
        let mut text = secret.as_bytes().to_vec();
        let (aad, once) = (Aad::from(place.as_bytes()), Nonce::assume_unique_for_key(nonce));
        key.key.seal_in_place_append_tag(once, aad, &mut text).map_err(|_| broken())?;
        let both = [&nonce[..], &text].concat();
        Ok(format!("s1.{}.{}", key.name, STANDARD.encode(both)))
    }

    /// Whether it was sealed with the key that seals now.
    pub(crate) fn is_newest(&self, sealed: &str) -> bool {
        let name = sealed.strip_prefix("s1.").and_then(|rest| rest.split('.').next());
        self.0.first().is_some_and(|key| name == Some(key.name.as_str()))
    }

    /// The keys, where there are any.
    pub(super) fn needed(keys: Option<&Self>) -> Result<&Self> {
        let missing = || Error::new(Code::SealKeyInvalid, "this worker has no key to open secrets with");
        keys.ok_or_else(missing)
    }

    /// What stands for a secret where it is compared with another one: of no use without the key. The oldest key makes
    /// it, so that one that is put before it changes nothing.
    pub(super) fn mark(&self, secret: &str) -> String {
        let mark = self.0.last().map(|key| hmac::sign(&key.marks, secret.as_bytes()));
        mark.map(|mark| STANDARD.encode(mark)).unwrap_or_default()
    }

    /// Opens what was sealed for this place.
    pub(crate) fn open(&self, sealed: &str, place: &str) -> Result<String> {
        let broken = |why: &str| Error::new(Code::SealBroken, why);
        let mut parts = sealed.splitn(3, '.');
        let (Some("s1"), Some(name), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(broken("this is not a sealed secret"));
        };
        let both = STANDARD.decode(text).map_err(|_| broken("this is not a sealed secret"))?;
        let Some((nonce, text)) = both.split_at_checked(NONCE_LEN) else {
            return Err(broken("this is not a sealed secret"));
        };
        let mut keys = self.0.iter().filter(|key| key.name == name);
        let opened = keys.find_map(|key| {
            let (nonce, mut text) = (Nonce::try_assume_unique_for_key(nonce).ok()?, text.to_vec());
            let opened = key.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut text).ok()?;
            String::from_utf8(opened.to_vec()).ok()
        });
        opened.ok_or_else(|| broken("no key that is here opens the secret, or it belongs elsewhere"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    #[test]
    fn a_sealed_secret_opens_only_with_its_key_and_in_its_place() {
        let keys = SealKeys::new(&key(1)).unwrap();
        let sealed = keys.seal("Bearer s3cret", "a").unwrap();
        assert_eq!(keys.open(&sealed, "a").unwrap(), "Bearer s3cret");
        assert!(!sealed.contains("s3cret") && sealed != keys.seal("Bearer s3cret", "a").unwrap());
        let other = SealKeys::new(&key(2)).unwrap();
        let changed = format!("{}AAAA", &sealed[..sealed.len() - 4]);
        for (keys, sealed, place) in [
            (&keys, sealed.as_str(), "b"),
            (&other, &sealed, "a"),
            (&keys, &changed, "a"),
            (&keys, "Bearer s3cret", "a"),
            (&keys, "s1.x", "a"),
            (&keys, "s1.x.AAAA", "a"),
        ] {
            assert_eq!(keys.open(sealed, place).unwrap_err().code(), Code::SealBroken, "{sealed}");
        }
    }

    #[test]
    fn the_first_key_seals_and_all_of_them_open() {
        let old = SealKeys::new(&key(1)).unwrap().seal("x", "a").unwrap();
        let keys = SealKeys::new(&format!("{}, {}", key(2), key(1))).unwrap();
        assert_eq!(keys.open(&old, "a").unwrap(), "x");
        let new = SealKeys::new(&key(2)).unwrap();
        assert_eq!(new.open(&keys.seal("y", "a").unwrap(), "a").unwrap(), "y");
        for bad in ["", "x", "AAAA", &format!("{},", key(1))] {
            assert_eq!(SealKeys::new(bad).unwrap_err().code(), Code::SealKeyInvalid, "{bad:?}");
        }
        assert!(!format!("{keys:?}").contains(&key(1)));
        // A mark tells nothing to whoever has no key, and stays when a new key comes.
        let alone = SealKeys::new(&key(1)).unwrap();
        assert_eq!(keys.mark("x"), alone.mark("x"));
        assert_ne!(alone.mark("x"), new.mark("x"));
        assert_ne!(alone.mark("x"), alone.mark("y"));
        assert_ne!(alone.mark("x"), STANDARD.encode(Sha256::digest("x")));
    }
}
