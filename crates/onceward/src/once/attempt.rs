//! What a running function knows of itself.

use core::fmt;
use std::sync::Arc;

use onceward_core::{Key, Result, Timestamp, Token};

use crate::hold::{Hold, Lost};
use crate::lease::fence;

/// The running attempt, handed to the function: its token, and whether it may still go on.
#[derive(Clone)]
pub struct Attempt {
    pub(crate) key: Key,
    pub(crate) number: i64,
    pub(crate) hold: Arc<Hold>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("key", &self.key).field("token", &self.token()).finish()
    }
}

impl Attempt {
    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The fencing token: put it into what the function writes, so that a paused attempt that was settled by somebody
    /// else can do no harm.
    pub fn token(&self) -> Token {
        self.hold.token
    }

    /// How often the function was started under this key, this attempt included.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// When the claim runs out unless renewed, by the store's clock, as of the last renewal.
    pub fn expires_at(&self) -> Timestamp {
        self.hold.expires_at()
    }

    /// Whether the claim may still be trusted.
    pub fn is_valid(&self) -> bool {
        self.hold.is_valid()
    }

    /// Waits until the claim is lost. The function's future is dropped then; blocking code it has started elsewhere
    /// may want to know.
    pub async fn lost(&self) -> Lost {
        self.hold.lost().await
    }

    /// Fails if the claim can't be trusted any more: a check before the step that can't be taken back.
    ///
    /// # Errors
    /// [`LeaseLost`](onceward_core::Code::LeaseLost).
    pub fn check(&self) -> Result<()> {
        self.hold.check()
    }

    /// The header that carries the token to a receiver that checks it.
    pub fn fence_header(&self) -> (&'static str, String) {
        (fence::HEADER, self.token().to_string())
    }
}
