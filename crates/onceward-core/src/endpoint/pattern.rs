//! Types of events, and the patterns that choose among them.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Code, Error, Result, limits};

/// What has happened: words with dots between them, `order.paid`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(String);

impl EventType {
    /// Checks and wraps a type.
    ///
    /// # Errors
    /// [`Code::EventTypeInvalid`].
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        if is_dotted(text) { Ok(Self(text.to_owned())) } else { Err(invalid(text, "the type of an event")) }
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for EventType {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<EventType> for String {
    fn from(event: EventType) -> Self {
        event.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which events an endpoint gets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// `order.paid`: this one.
    One(EventType),
    /// `order.*`: every one below it, `order.paid` and `order.item.added`, but not `order` itself.
    Below(EventType),
    /// `*`: all of them.
    All,
}

impl Pattern {
    /// Whether it chooses this event.
    pub fn matches(&self, event: &EventType) -> bool {
        match self {
            Self::One(one) => one == event,
            Self::Below(above) => {
                event.as_str().strip_prefix(above.as_str()).is_some_and(|rest| rest.starts_with('.'))
            }
            Self::All => true,
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || invalid(text, "a pattern of events");
        match text.strip_suffix('*') {
            Some("") => Ok(Self::All),
            Some(above) => {
                let above = above.strip_suffix('.').ok_or_else(bad)?;
                EventType::new(above).map(Self::Below).map_err(|_| bad())
            }
            None => EventType::new(text).map(Self::One).map_err(|_| bad()),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(one) => one.fmt(f),
            Self::Below(above) => write!(f, "{above}.*"),
            Self::All => f.write_str("*"),
        }
    }
}

/// Words of letters, digits, `_` and `-`, a dot between them: what can stand in a header, and in a list.
fn is_dotted(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.len() <= limits::EVENT_TYPE_BYTES_MAX
        && text.split('.').all(|word| !word.is_empty() && word.bytes().all(letter))
}

fn invalid(text: &str, what: &str) -> Error {
    let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    let max = limits::EVENT_TYPE_BYTES_MAX;
    let why = format!(
        "\"{shown}\" is not {what}: words of letters, digits, _ and -, dots between them, {max} bytes at the most"
    );
    Error::new(Code::EventTypeInvalid, why)
}
