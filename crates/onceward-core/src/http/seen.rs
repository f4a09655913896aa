//! What was seen of an exchange, kept with the attempt.

use serde::{Deserialize, Serialize};

/// How long the parts of an exchange took, in microseconds; `None` for what did not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Timings {
    /// Looking up the name.
    pub dns_us: Option<u64>,
    /// Connecting.
    pub connect_us: Option<u64>,
    /// The handshake of TLS.
    pub tls_us: Option<u64>,
    /// From the first byte sent to the head of the answer.
    pub first_byte_us: Option<u64>,
    /// Everything.
    pub total_us: Option<u64>,
}

/// What was seen of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// The status of the answer.
    pub status: Option<u16>,
    /// The address that was dialled, also where nobody was there or TLS could not be agreed on; of several the last.
    pub address: Option<String>,
    /// Whether the connection had been used before.
    pub reused: bool,
    /// How long it took.
    pub timings: Timings,
    /// The beginning of the answer, without secrets.
    pub excerpt: Option<String>,
    /// How many bytes of its body were read.
    pub body_bytes: u64,
}
