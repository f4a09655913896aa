//! What is recorded of a command: its stdout as it was, and for a failure also its exit code.
//!
//! A success is the bytes of stdout, with the content type [`STDOUT`]; its exit code is 0 by definition. A failure
//! recorded by `--on-failure record` is JSON, as all recorded failures are: `{"exit": 3, "stdout": "…"}`, with
//! `stdout_base64` in its place where stdout is no text, and neither where it was too large to keep.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use onceward::{NotDone, limits};
use onceward_core::once::Body;
use serde::{Deserialize, Serialize};

use crate::process::capture::Printed;

/// The content type of the stdout of a command.
pub(super) const STDOUT: &str = "application/vnd.onceward.stdout";

/// A result as it is recorded; without its bytes if there are too many.
pub(super) fn body(printed: Printed) -> Body {
    Body { size: printed.size, ..Body::new(printed.bytes, STDOUT) }
}

/// A recorded failure.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Recorded {
    /// The exit code.
    pub(super) exit: u8,
    /// How many bytes were printed.
    pub(super) stdout_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
}

impl Recorded {
    pub(super) fn new(exit: u8, printed: Printed) -> Self {
        let empty = Self { exit, stdout_bytes: printed.size, stdout: None, stdout_base64: None };
        let full = match String::from_utf8(printed.bytes) {
            Ok(text) => Self { stdout: Some(text), ..empty },
            Err(error) => Self { stdout_base64: Some(BASE64.encode(error.as_bytes())), ..empty },
        };
        let size = serde_json::to_vec(&full).map_or(usize::MAX, |bytes| bytes.len());
        if size <= limits::RESULT_BYTES_MAX {
            return full;
        }
        Self { stdout: None, stdout_base64: None, ..full }
    }

    pub(super) fn into_not_done(self, what: &str) -> NotDone {
        NotDone::failed(what).with_data(&self).unwrap_or_else(NotDone::failed)
    }

    /// What was printed; `None` if it was too large to keep.
    pub(super) fn stdout(&self) -> Option<Vec<u8>> {
        match (&self.stdout, &self.stdout_base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(text)) => BASE64.decode(text).ok(),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(bytes: &[u8]) -> Printed {
        Printed { bytes: bytes.to_vec(), size: bytes.len() as u64, refusal: None }
    }

    fn round_trip(bytes: &[u8]) -> Option<Vec<u8>> {
        let json = serde_json::to_vec(&Recorded::new(3, printed(bytes))).unwrap();
        assert!(json.len() <= limits::RESULT_BYTES_MAX);
        let read: Recorded = serde_json::from_slice(&json).unwrap();
        assert_eq!((read.exit, read.stdout_bytes), (3, bytes.len() as u64));
        read.stdout()
    }

    #[test]
    fn a_failure_keeps_every_byte_it_can() {
        for bytes in [&b""[..], b"declined\n", b"a\0b\xff\xfe", "é\u{202e}".as_bytes()] {
            assert_eq!(round_trip(bytes).as_deref(), Some(bytes));
        }
        assert_eq!(
            round_trip(&vec![b'x'; limits::RESULT_BYTES_MAX]),
            None,
            "the exit code outlives the text"
        );
    }

    #[test]
    fn a_result_that_is_too_large_keeps_its_size() {
        let size = limits::RESULT_BYTES_MAX as u64 + 1;
        assert_eq!(body(printed(&vec![b'x'; limits::RESULT_BYTES_MAX + 1])).bytes, None);
        let cut = Printed { size: 2 * size, ..printed(&vec![b'x'; limits::RESULT_BYTES_MAX + 1]) };
        assert_eq!(body(cut), Body { bytes: None, content_type: STDOUT.to_owned(), size: 2 * size });
        assert!(body(printed(&vec![b'x'; limits::RESULT_BYTES_MAX])).bytes.is_some());
    }
}
