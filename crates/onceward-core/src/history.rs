//! What happened to a key: the events of its history.
//!
//! A grant writes **one** row of history, when it ends: the event that ended it, with the time it had begun. The open
//! grant is the live row itself. Reading the history unfolds each such row into two events. So nothing is lost when a
//! holder dies (its row stays until somebody takes over, and taking over writes the row of history), and a transition
//! costs half the writes.

use serde::Serialize;

use crate::{Key, Namespace, Timestamp, Token};

macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum $type { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)* }

        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word kept in the database and shown to people.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value of a word read back from a row.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl ::core::fmt::Display for $type {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// The kind of row an event is about.
    #[non_exhaustive]
    Subject {
        /// A lease.
        Lease = "lease",
        /// A once key.
        Once = "once",
        /// An endpoint.
        Endpoint = "endpoint",
    }
}

words! {
    /// One transition.
    #[non_exhaustive]
    Event {
        /// A lease was granted, or the right to run a once function.
        Claimed = "claimed",
        /// The holder gave the lease back.
        Released = "released",
        /// The claim ran out and somebody else took the key (or, for a once, it became uncertain).
        Expired = "expired",
        /// An operator broke the lease.
        Broken = "broken",
        /// The function finished with a result.
        Done = "done",
        /// The function ended with a final failure.
        Failed = "failed",
        /// The function proved that nothing happened; the key may run again.
        NotStarted = "not_started",
        /// The function ended and nobody knows whether it had its effect.
        Uncertain = "uncertain",
        /// Somebody settled an uncertain key as done.
        ResolvedDone = "resolved_done",
        /// Somebody settled an uncertain key as failed.
        ResolvedFailed = "resolved_failed",
        /// Somebody settled an uncertain key as safe to run again.
        ResolvedReleased = "resolved_released",
        /// An uncertain key was run again because the caller had said that this is safe.
        Restarted = "restarted",
        /// The retention of a finished result ended and the key ran anew.
        Retired = "retired",
        /// An endpoint was added.
        Added = "added",
        /// An endpoint was set to something else.
        Changed = "changed",
        /// An endpoint has got another key to sign with.
        Rotated = "rotated",
        /// An endpoint gets nothing any more, because somebody said so or because it has failed for too long.
        Disabled = "disabled",
        /// An endpoint gets something again.
        Enabled = "enabled",
        /// An endpoint was removed.
        Removed = "removed",
    }
}

/// One event in the history of a key, newest first when listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// A lease or a once.
    pub subject: Subject,
    /// The namespace of the key.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// What happened.
    pub event: Event,
    /// The token of the claim it happened to.
    pub token: Token,
    /// Who did it: the owner of the claim, or the operator.
    pub actor: String,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Why, where there is something to say.
    pub reason: Option<String>,
}

/// One row of history as the stores keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The event that was written.
    pub entry: Entry,
    /// When the claim it ended had begun; `None` if an earlier row has already said so.
    pub claimed_at: Option<Timestamp>,
    /// Who had made that claim, if it was not the actor.
    pub claimed_by: Option<String>,
}

/// Unfolds rows (newest first) into events (newest first): every row that ended a claim also tells that it began.
pub fn unfold(rows: impl IntoIterator<Item = Row>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for row in rows {
        let began = row.claimed_at.map(|at| Entry {
            event: Event::Claimed,
            at,
            actor: row.claimed_by.unwrap_or_else(|| row.entry.actor.clone()),
            reason: None,
            ..row.entry.clone()
        });
        entries.push(row.entry);
        entries.extend(began);
    }
    // Two rows may tell of overlapping times (a late outcome after an expiry): time decides, then the token.
    entries.sort_by_key(|entry| core::cmp::Reverse((entry.at, entry.token)));
    entries
}
