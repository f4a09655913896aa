//! When a schedule is due: a cron pattern in a time zone, an interval, or one time.
//!
//! On the two days of a year on which clocks are changed: of a pattern that names hours (one, a list, a range, a step)
//! each time of day comes once, at the first moment after the gap where it is left out, and at the first of the two
//! where it comes twice. A pattern that names no hour follows the hours that really pass.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::clocks;
use crate::{Code, Error, Result, Timestamp, duration, limits, service};

/// When a schedule is due.
#[derive(Clone, Debug)]
pub enum When {
    /// At the times of a pattern.
    Cron {
        /// The pattern, as written.
        text: String,
        /// The name of the zone its times are meant in.
        zone: String,
        /// Both, understood.
        pattern: Box<(Cron, TimeZone)>,
    },
    /// Every so often, counted from 1970 on: all machines mean the same moments.
    Every(Duration),
    /// Once.
    At(Timestamp),
}

impl PartialEq for When {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl When {
    /// A pattern of five fields, or of six with seconds first, in a zone of the IANA database.
    ///
    /// # Errors
    /// [`Code::CronInvalid`] for a pattern that can't be read or never comes, [`Code::ZoneUnknown`].
    pub fn cron(pattern: &str, zone: &str) -> Result<Self> {
        let zone_of = TimeZoneDatabase::bundled()
            .get(zone)
            .map_err(|_| Error::new(Code::ZoneUnknown, format!("there is no time zone {:?}", shown(zone))))?;
        // Days and weekdays, where both are named, join as they do in every other cron.
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let refuse = |why: &str| Error::new(Code::CronInvalid, format!("\"{}\" {why}", shown(pattern)));
        let cron = parser.parse(pattern).map_err(|error| refuse(&format!("can't be read: {error}")))?;
        let when = Self::Cron {
            text: pattern.split_whitespace().collect::<Vec<_>>().join(" "),
            zone: zone.to_owned(),
            pattern: Box::new((cron, zone_of)),
        };
        // The day of 2000 lies before a leap day and has every weekday ahead.
        if when.next_after(Timestamp::from_micros(951_000_000_000_000)).is_none() {
            return Err(refuse("never comes"));
        }
        // What is kept of it has to be read again: nicknames such as `@daily` are no fields.
        let fields = pattern.split_whitespace().count();
        if !(5..=6).contains(&fields) || when.to_string().len() > TEXT_BYTES_MAX {
            return Err(refuse("is not written in five or six fields, or is too long"));
        }
        Ok(when)
    }

    /// Every so often; `shortest` is the shortest interval allowed.
    ///
    /// # Errors
    /// [`Code::IntervalInvalid`].
    pub fn every(every: Duration, shortest: Duration) -> Result<Self> {
        service::check_interval(every, shortest)?;
        Ok(Self::Every(every))
    }

    /// Once.
    ///
    /// # Errors
    /// [`Code::CronInvalid`] for a time that a job can't be due at.
    pub fn at(at: Timestamp) -> Result<Self> {
        if (0..=LAST).contains(&at.as_micros()) {
            return Ok(Self::At(at));
        }
        Err(Error::new(Code::CronInvalid, format!("{at} is not a time a job can be due at")))
    }

    /// The first tick after a time; none if there is no other one.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let next = match self {
            Self::At(at) => (*at > after).then_some(*at),
            Self::Every(every) => {
                let cycle = service::cycle_of(after, *every);
                Some(service::start_of(cycle.saturating_add(1), *every))
            }
            Self::Cron { text, pattern, .. } => {
                let (cron, zone) = &**pattern;
                let after = jiff::Timestamp::from_microsecond(after.as_micros()).ok()?;
                let next = if clocks::is_hourly(text) { clocks::next_by_hour } else { clocks::next_by_day };
                Some(Timestamp::from_micros(next(cron, zone, after)?.as_microsecond()))
            }
        };
        next.filter(|next| next.as_micros() <= LAST && *next > after)
    }
}

/// The longest text of a schedule, its zone included.
const TEXT_BYTES_MAX: usize = 256;
/// The year 2286, as for jobs.
const LAST: i64 = 9_999_999_999_000_000;

/// As it is read.
impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron { text, zone, .. } => write!(f, "{text} {zone}"),
            Self::Every(every) => write!(f, "every {}", duration::format(*every)),
            Self::At(at) => write!(f, "at {at}"),
        }
    }
}

/// Reads `0 2 * * *`, `0 2 * * * Europe/Berlin` (UTC where no zone is named), `every 5m`, `at 2027-01-01T00:00:00Z`.
impl FromStr for When {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::new(Code::CronInvalid, "a schedule is said in at most 256 bytes"));
        }
        if let Some(every) = text.strip_prefix("every ") {
            return Self::every(duration::parse(every)?, limits::INTERVAL_MIN);
        }
        if let Some(at) = text.strip_prefix("at ") {
            return at.parse().and_then(Self::at);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (pattern, zone) = match fields.split_last() {
            Some((zone, pattern)) if pattern.len() >= 5 && is_zone(zone, pattern.len()) => (pattern, *zone),
            _ => (&*fields, "UTC"),
        };
        Self::cron(&pattern.join(" "), zone)
    }
}

/// Whether the word behind so many fields names a zone, rather than weekdays.
fn is_zone(word: &str, fields: usize) -> bool {
    let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.len() > 2;
    fields >= 6 || word.contains('/') || (is_name && TimeZoneDatabase::bundled().get(word).is_ok())
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
