//! Results that are kept for later calls with the same arguments: `idempotent` and `cached`.
//!
//! Runs with the same arguments, or with the same `key` of them, go one after the other, by an ordering key that they
//! have in common; what the first one has come to is kept under the same name as the outcome of a `once`, and the next
//! one finds it before it begins.

use core::time::Duration;

use onceward_core::job::Record;
use onceward_core::once::{Body, Fingerprint};
use onceward_core::{Code, Error, Key, Kind, Result, limits};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::function::Durable;
use crate::jobs::JSON;
use crate::worker::JobContext;
use crate::{Onceward, Outcome};

/// For how long the result of a function is kept that is `idempotent`.
pub const IDEMPOTENT: Duration = limits::RETAIN_DEFAULT;

/// What the keys begin with.
const PREFIX: &str = "durable/";

/// The key that runs of a function with the same arguments have in common; none where nothing is kept.
pub(super) fn key<D: Durable>(args: &[u8]) -> Result<Option<Key>> {
    if D::REMEMBERS.is_none() {
        return Ok(None);
    }
    let own = D::key(&read::<D::Args>(args)?);
    let (how, same) = match own {
        Some(own) => (1, own.into_bytes()),
        None => {
            let mut canonical = Vec::new();
            write(&read(args)?, &mut canonical);
            (0, canonical)
        }
    };
    // The version is a part of the name.
    let digest: [u8; 32] =
        Sha256::new().chain_update(D::KIND).chain_update([how]).chain_update(same).finalize().into();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Key::new(format!("{PREFIX}{}/{hex}", D::KIND)).map(Some)
}

fn read<T: DeserializeOwned>(args: &[u8]) -> Result<T> {
    serde_json::from_slice(args).map_err(|error| {
        Error::new(Code::PayloadUnreadable, "the arguments can't be read").with_source(error)
    })
}

/// Arguments in the one way there is to write them; as they are where they are no JSON.
pub(super) fn canonical(args: &[u8]) -> Vec<u8> {
    let Ok(value) = read(args) else { return args.to_vec() };
    let mut canonical = Vec::new();
    write(&value, &mut canonical);
    canonical
}

/// What stands for a function and its arguments where a start is recognised.
pub(super) fn fingerprint(kind: &Kind, args: &[u8]) -> Fingerprint {
    let print = Sha256::new().chain_update(kind.as_str()).chain_update([0]).chain_update(canonical(args));
    Fingerprint(print.finalize().into())
}

/// Writes a value in the one way there is: the entries of maps in the order of their names.
fn write(value: &Value, into: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            into.push(b'{');
            for (name, value) in entries {
                into.extend(Value::from(name.as_str()).to_string().into_bytes());
                into.push(b':');
                write(value, into);
                into.push(b',');
            }
            into.push(b'}');
        }
        Value::Array(items) => {
            into.push(b'[');
            for item in items {
                write(item, into);
                into.push(b',');
            }
            into.push(b']');
        }
        plain => into.extend(plain.to_string().into_bytes()),
    }
}

/// The key of a run. One that has gone on as new keeps that of what it was started with.
pub(super) fn key_of<D: Durable>(row: &Record, generation: u32) -> Option<Key> {
    D::REMEMBERS?;
    let line = row.ordering_key.clone().filter(|line| line.as_str().starts_with(PREFIX));
    // One that was started by its name alone has no line.
    line.or_else(|| if generation == 0 { key::<D>(&row.payload.bytes).ok().flatten() } else { None })
}

/// What a run with the same arguments has come to, if that is kept.
pub(super) async fn recall<D: Durable>(context: &JobContext, client: &Onceward) -> Result<Option<D::Value>> {
    // A fork is there to do it once more.
    let is_fork = context.job().replay_of.is_some();
    let Some(key) = key_of::<D>(context.job(), 0).filter(|_| !is_fork) else { return Ok(None) };
    match client.once(key.as_str()).peek::<D::Value>().await {
        Ok(Some(Outcome::Done { value, .. })) => Ok(Some(value)),
        Ok(_) => Ok(None),
        Err(error) if error.is_retryable() => Err(error),
        Err(error) => {
            tracing::warn!(%error, key = key.as_str(), "a result that was kept can't be read; the function runs");
            Ok(None)
        }
    }
}

/// Keeps what a run has come to for those that come after it.
pub(super) async fn keep<D: Durable>(
    (row, generation): (&Record, u32),
    client: &Onceward,
    value: &[u8],
) -> Result<()> {
    let (Some(key), Some(kept_for)) = (key_of::<D>(row, generation), D::REMEMBERS) else { return Ok(()) };
    // Where its process has died in the middle of this: it does nothing but write.
    let once = client.once(key.as_str()).retain_for(kept_for).restartable(true);
    let kept = once.run_bytes(async |_| Ok(Body::new(value.to_vec(), JSON))).await;
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.is_retryable() || error.is_uncertain() => Err(error),
        Err(error) => {
            tracing::warn!(%error, key = key.as_str(), "a result could not be kept for later calls");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    fn canonical(text: &str) -> String {
        String::from_utf8(super::canonical(text.as_bytes())).unwrap()
    }

    #[test]
    fn the_same_arguments_are_written_in_the_same_way() {
        let (a, b) =
            (r#"{"b":[1,{"y":2,"x":"q\"r"}],"a":null}"#, r#"{ "a": null, "b": [1, {"x": "q\"r", "y": 2}] }"#);
        assert_eq!(canonical(a), canonical(b));
        assert_ne!(canonical(r#"{"a":[1,2]}"#), canonical(r#"{"a":[12]}"#));
        assert_ne!(canonical(r#"{"a":"1"}"#), canonical(r#"{"a":1}"#));
    }
}
