//! Rows of ours as they come back from a caller's connection.

use core::time::Duration;

use onceward_core::once::{self, Body, Fingerprint, Record, State};
use onceward_core::{Code, Error, Key, Namespace, Owner, Place, Result, SessionId, Timestamp, Token};

use super::{Cell, Row};

/// The columns of one row, taken in order.
pub(super) struct Columns(std::vec::IntoIter<Cell>);

impl Columns {
    pub(super) fn of(row: Row) -> Self {
        Self(row.into_iter())
    }

    pub(super) fn next(&mut self) -> Cell {
        self.0.next().unwrap_or(Cell::Null)
    }

    pub(super) fn unreadable(what: &str) -> Error {
        Error::new(Code::RowUnreadable, format!("a row of ours lacks {what}"))
    }

    pub(super) fn int_or_null(&mut self) -> Result<Option<i64>> {
        match self.next() {
            Cell::Int(number) => Ok(Some(number)),
            Cell::Null => Ok(None),
            _ => Err(Self::unreadable("a number")),
        }
    }

    pub(super) fn int(&mut self) -> Result<i64> {
        self.int_or_null()?.ok_or_else(|| Self::unreadable("a number"))
    }

    pub(super) fn count(&mut self) -> Result<u32> {
        Ok(u32::try_from(self.int()?).unwrap_or_default())
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        self.int().map(Timestamp::from_micros)
    }

    pub(super) fn time_or_null(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.int_or_null()?.map(Timestamp::from_micros))
    }

    pub(super) fn bool_or_null(&mut self) -> Result<Option<bool>> {
        match self.next() {
            Cell::Bool(value) => Ok(Some(value)),
            Cell::Int(number) => Ok(Some(number != 0)),
            Cell::Null => Ok(None),
            _ => Err(Self::unreadable("a truth value")),
        }
    }

    pub(super) fn text_or_null(&mut self) -> Result<Option<String>> {
        match self.next() {
            Cell::Text(text) => Ok(Some(text)),
            Cell::Null => Ok(None),
            _ => Err(Self::unreadable("a text")),
        }
    }

    pub(super) fn text(&mut self) -> Result<String> {
        self.text_or_null()?.ok_or_else(|| Self::unreadable("a text"))
    }

    pub(super) fn bytes_or_null(&mut self) -> Result<Option<Vec<u8>>> {
        match self.next() {
            Cell::Bytes(bytes) => Ok(Some(bytes)),
            Cell::Null => Ok(None),
            _ => Err(Self::unreadable("bytes")),
        }
    }

    pub(super) fn fingerprint(&mut self) -> Result<Option<Fingerprint>> {
        let bytes = self.bytes_or_null()?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(Fingerprint))
    }

    pub(super) fn state(&mut self) -> Result<State> {
        State::from_word(&self.text()?).ok_or_else(|| Self::unreadable("a state"))
    }

    pub(super) fn millis(&mut self) -> Result<Duration> {
        Ok(Duration::from_millis(u64::try_from(self.int()?).unwrap_or_default()))
    }

    pub(super) fn micros(&mut self) -> Result<Duration> {
        Ok(Duration::from_micros(u64::try_from(self.int()?).unwrap_or_default()))
    }

    /// The columns of `sql/postgres/once/claim_in.sql` behind `granted` and `now`.
    pub(super) fn postgres_record(&mut self) -> Result<Record> {
        Ok(Record {
            namespace: Namespace::from_row(self.text()?),
            key: Key::from_row(self.text()?),
            state: self.state()?,
            token: Token::from_row(self.int()?),
            owner: Owner::from_row(self.text()?),
            session: {
                let text = self.text()?;
                SessionId::from_uuid(text.parse().map_err(|_| Self::unreadable("a session"))?)
            },
            attempts: self.int()?,
            fingerprint: self.fingerprint()?,
            claimed_at: self.time()?,
            expires_at: self.time()?,
            hard_expires_at: self.time_or_null()?,
            ttl: self.millis()?,
            retain: self.millis()?,
            uncertain_at: self.time_or_null()?,
            finished_at: self.time_or_null()?,
            retain_until: self.time_or_null()?,
            late: self.bool_or_null()?.unwrap_or(false),
            body: {
                let bytes = self.bytes_or_null()?;
                self.text_or_null()?.map(|content_type| Body { bytes, content_type, size: 0 })
            },
            reason: None,
            place: Place::default(),
        })
        .and_then(|row| self.sized(row))
    }

    /// The last columns: the size of the body, and the reason.
    pub(super) fn sized(&mut self, mut row: Record) -> Result<Record> {
        let size = self.int_or_null()?.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        if let Some(body) = &mut row.body {
            body.size = size;
        }
        row.reason = self.text_or_null()?;
        Ok(row)
    }

    /// The columns of the step `read` of `sql/sqlite/once/claim_in.sql`.
    pub(super) fn sqlite_record(
        &mut self,
        ask: &once::Ask,
        boot_id: &str,
        boot: Timestamp,
        wall: Timestamp,
    ) -> Result<Record> {
        let (state, token) = (self.state()?, Token::from_row(self.int()?));
        let owner = Owner::from_row(self.text()?);
        let session = self.bytes_or_null()?.and_then(|bytes| uuid::Uuid::from_slice(&bytes).ok());
        let session = SessionId::from_uuid(session.ok_or_else(|| Self::unreadable("a session"))?);
        let (attempts, fingerprint) = (self.int()?, self.fingerprint()?);
        let (claimed_at, mut expires_at) = (self.time()?, self.time()?);
        let (expires_boot, _hard_boot) = (self.time()?, self.time_or_null()?);
        // The boot clock decides, and the wall clock shows it: an expiry of this start of the host is told as now plus
        // what is left, one of an earlier start has passed.
        expires_at = if self.text()? == boot_id {
            let left = expires_boot.as_micros().saturating_sub(boot.as_micros());
            Timestamp::from_micros(wall.as_micros().saturating_add(left))
        } else {
            expires_at.min(wall)
        };
        let (ttl, retain) = (self.micros()?, self.micros()?);
        let (uncertain_at, finished_at, retain_until) =
            (self.time_or_null()?, self.time_or_null()?, self.time_or_null()?);
        let (late, reason) = (self.bool_or_null()?.unwrap_or(false), self.text_or_null()?);
        let (content_type, size, bytes) = (self.text_or_null()?, self.int_or_null()?, self.bytes_or_null()?);
        let size = size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        Ok(Record {
            namespace: ask.namespace.clone(),
            key: ask.key.clone(),
            state,
            token,
            owner,
            session,
            attempts,
            fingerprint,
            claimed_at,
            expires_at,
            hard_expires_at: None,
            ttl,
            retain,
            uncertain_at,
            finished_at,
            retain_until,
            late,
            body: content_type.map(|content_type| Body { bytes, content_type, size }),
            reason,
            place: Place::default(),
        })
    }
}
