//! Rows as PostgreSQL sends them, read column by column, and the arrays we send.

use core::time::Duration;
use std::error::Error as StdError;

use bytes::BytesMut;
use onceward_core::{Code, Error, Key, Namespace, Owner, Place, Result, SessionId, Timestamp, Token};
use onceward_core::{lease, once};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

/// Microseconds between 1970 and 2000, where PostgreSQL counts from.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// A `timestamptz` in its binary form: whole microseconds, and no time zone can get in the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant(pub(super) Timestamp);

impl ToSql for Instant {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.0.as_micros().saturating_sub(EPOCH_2000).to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Instant {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp::from_micros(since_2000.saturating_add(EPOCH_2000))))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// Reads the columns of a row from left to right.
pub(super) struct Columns<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a Row) -> Self {
        Self { row, next: 0 }
    }

    /// The last column of a row, wherever the reader stands.
    pub(super) fn last<T: FromSql<'a>>(row: &'a Row) -> Result<T> {
        Self { row, next: row.len().saturating_sub(1) }.get()
    }

    pub(super) fn skip(&mut self, columns: usize) {
        self.next += columns;
    }

    pub(super) fn get<T: FromSql<'a>>(&mut self) -> Result<T> {
        let at = self.next;
        self.next += 1;
        self.row.try_get(at).map_err(|error| {
            let why = format!("column {at} of a row is not what this program wrote");
            Error::new(Code::RowUnreadable, why).with_source(error)
        })
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        Ok(self.get::<Instant>()?.0)
    }

    pub(super) fn maybe_time(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<Instant>>()?.map(|instant| instant.0))
    }

    pub(super) fn token(&mut self) -> Result<Token> {
        self.get().map(Token::from_row)
    }

    pub(super) fn millis(&mut self) -> Result<Duration> {
        let millis: i64 = self.get()?;
        Ok(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    fn session(&mut self) -> Result<SessionId> {
        self.get::<Uuid>().map(SessionId::from_uuid)
    }

    /// Where the row lies, if this statement says so.
    pub(super) fn place(&mut self) -> Result<Place> {
        match self.row.columns().get(self.next) {
            Some(column) if *column.type_() == Type::TID => {
                Ok(Place(self.get::<Option<Tid>>()?.map(|tid| tid.0)))
            }
            _ => Ok(Place::default()),
        }
    }

    /// A word of a closed list.
    pub(super) fn word<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Result<T> {
        let word: &str = self.get()?;
        read(word).ok_or_else(|| Error::new(Code::RowUnreadable, format!("a row says \"{word}\"")))
    }

    pub(super) fn names(&mut self) -> Result<(Namespace, Key)> {
        Ok((Namespace::from_row(self.get::<&str>()?), Key::from_row(self.get::<&str>()?)))
    }

    /// Whether the next column is NULL; it is not read yet.
    pub(super) fn at_null(&self) -> bool {
        matches!(self.row.try_get::<_, Option<Present>>(self.next), Ok(None))
    }

    /// The columns of a lease from `slot` on.
    pub(super) fn lease(&mut self, (namespace, key): (Namespace, Key)) -> Result<lease::Record> {
        Ok(lease::Record {
            namespace,
            key,
            slot: u32::try_from(self.get::<i32>()?).unwrap_or(0),
            token: self.token()?,
            owner: Owner::from_row(self.get::<&str>()?),
            session: self.session()?,
            granted_at: self.time()?,
            expires_at: self.time()?,
            hard_expires_at: self.maybe_time()?,
            ttl: self.millis()?,
            lock_delay: self.millis()?,
            heartbeats: self.get()?,
            released_at: self.maybe_time()?,
            metadata: self.get()?,
            place: Place::default(),
        })
    }

    /// The columns of a once from `state` on.
    pub(super) fn once(&mut self, (namespace, key): (Namespace, Key)) -> Result<once::Record> {
        Ok(once::Record {
            namespace,
            key,
            state: self.word(once::State::from_word)?,
            token: self.token()?,
            owner: Owner::from_row(self.get::<&str>()?),
            session: self.session()?,
            attempts: self.get()?,
            fingerprint: self.fingerprint()?,
            claimed_at: self.time()?,
            expires_at: self.time()?,
            hard_expires_at: self.maybe_time()?,
            ttl: self.millis()?,
            retain: self.millis()?,
            uncertain_at: self.maybe_time()?,
            finished_at: self.maybe_time()?,
            retain_until: self.maybe_time()?,
            late: self.get()?,
            body: self.body()?,
            reason: self.get()?,
            place: Place::default(),
        })
    }

    fn fingerprint(&mut self) -> Result<Option<once::Fingerprint>> {
        let Some(bytes) = self.get::<Option<&[u8]>>()? else { return Ok(None) };
        let bytes = bytes.try_into().map_err(|error| {
            Error::new(Code::RowUnreadable, "a fingerprint is not 32 bytes long").with_source(error)
        })?;
        Ok(Some(once::Fingerprint(bytes)))
    }

    pub(super) fn body(&mut self) -> Result<Option<once::Body>> {
        let bytes: Option<Vec<u8>> = self.get()?;
        let content_type: Option<String> = self.get()?;
        let size: Option<i64> = self.get()?;
        let size = size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        Ok(content_type.map(|content_type| once::Body { bytes, content_type, size }))
    }
}

/// Where a row lies (`tid`): a block, and a line of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tid(pub(super) u64);

impl<'a> FromSql<'a> for Tid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let raw: [u8; 6] = raw.try_into()?;
        Ok(Self(raw.into_iter().fold(0, |number, byte| number << 8 | u64::from(byte))))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID
    }
}

impl ToSql for Tid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let [_, _, raw @ ..] = self.0.to_be_bytes();
        out.extend_from_slice(&raw);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TID
    }

    to_sql_checked!();
}

/// Any value that is not NULL.
struct Present;

impl<'a> FromSql<'a> for Present {
    fn from_sql(_: &Type, _: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Whole milliseconds, as the tables keep durations.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
