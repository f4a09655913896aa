//! Names that callers choose: parsed once at the edge, trusted from there on.

use core::borrow::Borrow;
use core::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::{Code, Error, Result, limits};

macro_rules! id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(uuid::Uuid);

        impl $type {
            /// Wraps an identifier. The caller draws it: this crate has no randomness.
            pub const fn from_uuid(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }

            /// The identifier.
            pub const fn as_uuid(self) -> uuid::Uuid {
                self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:expr, $code:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// When it is empty, too long, or holds a control character.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                let text = text.as_ref();
                check(text, $what, $max).map_err(|why| Error::new($code, why))?;
                Ok(Self(text.into()))
            }

            /// Wraps a name a store has read back from a row it wrote itself.
            pub fn from_row(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name! {
    /// What a lease or a once is about: 1 to 255 bytes of UTF-8 without control characters.
    ///
    /// Keys are compared byte by byte. A key is never joined with its [`Namespace`] into one string: the two are
    /// separate columns, so (`a`, `b:c`) and (`a:b`, `c`) can't meet.
    Key, "a key", limits::KEY_BYTES_MAX, Code::KeyInvalid
}
name! {
    /// The part of a store one system sees: 1 to 128 bytes. Keys of different namespaces have nothing to do with
    /// each other.
    Namespace, "a namespace", limits::NAMESPACE_BYTES_MAX, Code::NamespaceInvalid
}
name! {
    /// Who holds a claim, for people to read: by default `host:pid`. It decides nothing; sessions and tokens do.
    Owner, "an owner", limits::OWNER_BYTES_MAX, Code::OwnerInvalid
}

name! {
    /// What a job is, and so which handler runs it: `mail.welcome`.
    Kind, "a kind", limits::KIND_BYTES_MAX, Code::KindInvalid
}
name! {
    /// The queue a job waits in.
    Queue, "a queue", limits::QUEUE_BYTES_MAX, Code::QueueInvalid
}
name! {
    /// What a job asks of a worker, or a worker offers: `gpu`, `eu-west`.
    Tag, "a tag", limits::TAG_BYTES_MAX, Code::TagsInvalid
}

name! {
    /// What a service is called: `reconcile`.
    ServiceName, "the name of a service", limits::SERVICE_BYTES_MAX, Code::ServiceNameInvalid
}
name! {
    /// What a schedule is called: `nightly-report`.
    ScheduleName, "the name of a schedule", limits::SCHEDULE_BYTES_MAX, Code::ScheduleNameInvalid
}

name! {
    /// What a trigger is called: `mourn-imports`.
    TriggerName, "the name of a trigger", limits::TRIGGER_BYTES_MAX, Code::TriggerNameInvalid
}
name! {
    /// What a receiver of webhooks is called: `shop-7`.
    EndpointName, "the name of an endpoint", limits::ENDPOINT_BYTES_MAX, Code::EndpointNameInvalid
}

impl Default for Queue {
    fn default() -> Self {
        Self("default".into())
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

fn check(text: &str, what: &str, max: usize) -> core::result::Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what} can't be empty"));
    }
    if text.len() > max {
        return Err(format!("{what} has at most {max} bytes, this one has {}", text.len()));
    }
    // U+2028 and U+2029 break lines as well; bidirectional overrides make one name look like another.
    let forbidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match text.chars().find(|c| forbidden(*c)) {
        Some(c) => Err(format!("{what} can't hold the control character U+{:04X}", u32::from(c))),
        None => Ok(()),
    }
}

id! {
    /// One claim attempt: what a caller recognises its own grant by, when the answer to the claim got lost (L7, L10).
    ///
    /// Two handles never share one, even within a process and under the same owner name. A worker's session has one for
    /// all the jobs it runs.
    SessionId
}
id! {
    /// One job, drawn by who enqueues it: a UUID of version 7, so that jobs of a time lie together. Its time decides
    /// nothing.
    JobId
}
id! {
    /// One claim of jobs, drawn by the claimer: what it recognises the claim by when the answer got lost.
    ClaimId
}

impl core::str::FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shown = || text.chars().take(40).flat_map(char::escape_debug).collect::<String>();
        uuid::Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| Error::new(Code::JobIdInvalid, format!("\"{}\" is not the id of a job", shown())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o12_keys_are_bounded_and_clean() {
        assert!(Key::new("order:1/ä").is_ok());
        assert!(Key::new("x".repeat(255)).is_ok());
        for bad in ["", "a\0b", "a\nb", "a\u{7f}", "a\u{202e}b", "\u{2028}", "\u{85}"] {
            assert_eq!(Key::new(bad).unwrap_err().code(), Code::KeyInvalid, "{bad:?}");
        }
        assert!(Key::new("x".repeat(256)).is_err());
        assert!(Key::new("ä".repeat(128)).is_err(), "the bound counts bytes");
        assert_eq!(Namespace::new("").unwrap_err().code(), Code::NamespaceInvalid);
    }
}
