//! The verbs of leases, except renewing and granting places of counted leases.

use futures_util::future::join_all;
use onceward_core::lease::{self, Acquire, Ask, Ticket};
use onceward_core::{Code, Error, Result, SessionId, Timestamp, Token};
use tokio_postgres::Row;
use uuid::Uuid;

use super::Inner;
use super::batch::{Place, Way, column, find, in_order, sorted};
use super::link::{Call, Link};
use super::live::Param;
use super::once::place_slot;
use super::row::{Columns, Tid, millis};
use crate::store::{
    Acquired, BreakLease, Broken, KeyRef, LeaveLease, ListLeases, ReleaseLease, Snapshot, WaitLease,
};

/// How often an ask that met a row in the making is sent.
pub(super) const ROUNDS: usize = 4;
/// How often an ask is sent that could have taken a row, but somebody had it locked: whoever takes it is done soon,
/// whoever guards a transaction with it is not.
pub(super) const ROUNDS_LOCKED: usize = 2;

/// What one statement said about one ask.
pub(super) enum Met {
    /// Nothing: its row was being made by somebody else.
    Nothing,
    /// The row as written.
    Granted(Box<lease::Record>),
    /// The row as read; `None` if the key is free but promised.
    Seen { row: Option<Box<lease::Record>>, ahead: bool, now: Timestamp },
}

impl Met {
    /// The answer, or `None` to ask again: it could have been taken, but somebody had it locked.
    pub(super) fn answer(&self, ask: &Ask, slot: u32) -> Option<Acquired> {
        match self {
            Self::Nothing => None,
            Self::Granted(row) => Some(Acquired::Granted(row.clone())),
            Self::Seen { row, ahead, now } => match lease::acquire(row.as_deref(), ask, slot, *ahead, *now) {
                Some(Acquire::Adopt(row)) => Some(Acquired::Granted(Box::new(row))),
                Some(Acquire::Held(row)) => Some(Acquired::Held { by: Some(Box::new(row)), now: *now }),
                Some(Acquire::Grant { .. }) => None,
                None => Some(Acquired::Held { by: None, now: *now }),
            },
        }
    }

    /// How often it makes sense to ask.
    fn rounds(&self) -> usize {
        if matches!(self, Self::Seen { row: Some(_), .. }) { ROUNDS_LOCKED } else { ROUNDS }
    }

    /// The answer when there is no asking again.
    pub(super) fn last_answer(self) -> Result<Acquired> {
        match self {
            Self::Granted(row) => Ok(Acquired::Granted(row)),
            Self::Seen { row: Some(row), now, .. } => Ok(Acquired::Held { by: Some(row), now }),
            Self::Seen { row: None, .. } | Self::Nothing => Err(in_the_way("lease.acquire")),
        }
    }

    /// Whether somebody fair stands before the asker.
    pub(super) fn is_ahead(&self) -> bool {
        matches!(self, Self::Seen { ahead: true, .. })
    }
}

/// The error for a row that others keep writing.
pub(super) fn in_the_way(verb: &'static str) -> Error {
    Error::new(Code::StoreBusy, "others were writing the row all the time").at(verb)
}

/// The row of a grant: what was asked, and what the database added.
pub(super) fn granted(ask: &Ask, slot: u32, columns: &mut Columns<'_>) -> Result<lease::Record> {
    let token = columns.token()?;
    columns.skip(2);
    Ok(lease::Record {
        namespace: ask.namespace.clone(),
        key: ask.key.clone(),
        slot,
        token,
        owner: ask.owner.clone(),
        session: ask.session,
        granted_at: columns.time()?,
        expires_at: columns.time()?,
        hard_expires_at: columns.maybe_time()?,
        ttl: ask.ttl,
        lock_delay: ask.lock_delay,
        heartbeats: 0,
        released_at: None,
        metadata: ask.metadata.clone(),
        place: {
            columns.skip(5);
            columns.place()?
        },
    })
}

/// What a row of `lease/acquire` says about its ask.
pub(super) fn met(ask: &Ask, granted_now: bool, columns: &mut Columns<'_>) -> Result<Met> {
    let now = columns.time()?;
    let ahead = columns.get()?;
    if columns.at_null() {
        return Ok(Met::Seen { row: None, ahead, now });
    }
    if granted_now {
        let slot = u32::try_from(columns.get::<i32>()?).unwrap_or(0);
        return Ok(Met::Granted(Box::new(granted(ask, slot, columns)?)));
    }
    let row = columns.lease((ask.namespace.clone(), ask.key.clone()))?;
    Ok(Met::Seen { row: Some(Box::new(row)), ahead, now })
}

impl Inner {
    pub(super) async fn lease_acquire(&self, batch: &[Ask]) -> Result<Vec<Acquired>> {
        let (mut open, counted): (Vec<_>, Vec<_>) =
            sorted(batch).into_iter().partition(|place| place.ask.capacity == 1);
        let mut answers = Vec::with_capacity(batch.len());
        for (way, round) in self.given_back.ways() {
            if open.is_empty() {
                break;
            }
            let met = self.acquire_round(&open, way).await;
            // What one statement has granted stays so when the next one fails.
            let has_granted = answers.iter().any(|(_, answer)| matches!(answer, Acquired::Granted(_)));
            let met = met.map_err(|error| if has_granted { error.uncertain() } else { error })?;
            let granted = met.iter().filter(|met| matches!(met, Met::Granted(_))).count();
            self.given_back.note(way, met.len(), granted);
            let mut again = Vec::new();
            for (place, met) in open.into_iter().zip(met) {
                match met.answer(place.ask, 0) {
                    Some(answer) => answers.push((place.at, answer)),
                    None if way == Way::Short || round < met.rounds() => again.push(place),
                    None => answers.push((place.at, met.last_answer()?)),
                }
            }
            open = again;
        }
        // A statement each, but none waits for another one's answer.
        let counted =
            counted.iter().map(async |place| Ok((place.at, self.acquire_counted(place.ask).await?)));
        for answer in join_all(counted).await {
            answers.push(answer?);
        }
        let now = Timestamp::default();
        Ok(in_order(batch.len(), answers, || Acquired::Held { by: None, now }))
    }

    async fn acquire_round(&self, places: &[Place<'_, Ask>], way: Way) -> Result<Vec<Met>> {
        let params: &[Param<'_>] = &[
            &column(places, |ask| ask.namespace.as_str()),
            &column(places, |ask| ask.key.as_str()),
            &column(places, |ask| ask.owner.as_str()),
            &column(places, |ask| ask.session.as_uuid()),
            &column(places, |ask| millis(ask.ttl)),
            &column(places, |ask| ask.hard_ttl.map(millis)),
            &column(places, |ask| millis(ask.lock_delay)),
            &column(places, |ask| ask.metadata.as_deref()),
            &column(places, |ask| ask.watched.map(|watched| watched.token.get())),
            &column(places, |ask| ask.watched.map(|watched| watched.heartbeats)),
        ];
        let (statement, params) = match way {
            Way::Short => (&self.sql.acquire_given_back, params.get(..8).unwrap_or_default()),
            Way::New => (&self.sql.acquire_free, params.get(..8).unwrap_or_default()),
            Way::Any => (&self.sql.acquire, params),
        };
        let call = Call { verb: "lease.acquire", statement, params, rows: places.len() };
        let mut all: Vec<Met> = places.iter().map(|_| Met::Nothing).collect();
        let rows = self.begin_link(places).write(&call).await;
        for row in rows.inspect_err(|error| self.suspects.note(places, error))? {
            let mut columns = Columns::of(&row);
            let granted_now = columns.get()?;
            let found = find(places, columns.get()?, columns.get()?);
            let Some((place, slot)) = found.and_then(|at| places.get(at).zip(all.get_mut(at))) else {
                continue;
            };
            if granted_now || matches!(slot, Met::Nothing) {
                *slot = met(place.ask, granted_now, &mut columns)?;
            }
        }
        Ok(all)
    }

    pub(super) async fn lease_release(&self, batch: &[ReleaseLease]) -> Result<Vec<bool>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (mut open, mut released) = (sorted(batch), Vec::new());
        for (way, _) in self.near.ways() {
            let given = self.release_round(&open, way, &mut released).await;
            // What one statement has given back stays so when the next one fails.
            let given = given.map_err(|error| if released.is_empty() { error } else { error.uncertain() })?;
            self.near.note(way, open.len(), given.iter().filter(|given| **given).count());
            if way != Way::Short {
                break;
            }
            let mut given = given.into_iter();
            open.retain(|_| given.next() != Some(true));
            if open.is_empty() {
                break;
            }
        }
        Ok(in_order(batch.len(), released, || false))
    }

    /// Gives back what can be given back that way, and says of which of them it was so.
    async fn release_round(
        &self,
        places: &[Place<'_, ReleaseLease>],
        way: Way,
        released: &mut Vec<(usize, bool)>,
    ) -> Result<Vec<bool>> {
        let call = Call {
            verb: "lease.release",
            statement: if way == Way::Short { &self.sql.release_near } else { &self.sql.release },
            params: &[
                &column(places, |ask| ask.namespace.as_str()),
                &column(places, |ask| ask.key.as_str()),
                &column(places, |ask| ask.token.get()),
                &column(places, |ask| ask.reason.as_deref()),
                &column(places, |ask| ask.place.0.map(Tid)),
            ],
            rows: places.len(),
        };
        let mut given = vec![false; places.len()];
        for row in self.end_link().write(&call).await? {
            let mut columns = Columns::of(&row);
            let n: i64 = columns.get()?;
            let (Some(place), Some(slot)) = (place_of(places, n), place_slot(&mut given, n)) else {
                continue;
            };
            *slot = true;
            if columns.get()? {
                self.wakes.tell(&place.ask.namespace, &place.ask.key);
            }
            released.push((place.at, true));
        }
        Ok(given)
    }

    pub(super) async fn lease_wait(&self, wait: &WaitLease) -> Result<Ticket> {
        self.wakes.listen();
        let call = Call {
            verb: "lease.wait",
            statement: &self.sql.wait,
            params: &[
                &wait.namespace.as_str(),
                &wait.key.as_str(),
                &wait.session.as_uuid(),
                &wait.fair,
                &millis(wait.ttl),
            ],
            rows: 1,
        };
        let row = only(Link::idlest(&self.begin).write(&call).await?)?;
        let mut columns = Columns::of(&row);
        Ok(Ticket {
            session: wait.session,
            number: columns.token()?,
            fair: columns.get()?,
            expires_at: columns.time()?,
        })
    }

    pub(super) async fn lease_leave(&self, leave: &LeaveLease) -> Result<()> {
        let session: Uuid = SessionId::as_uuid(leave.session);
        let call = Call {
            verb: "lease.leave",
            statement: &self.sql.leave,
            params: &[&leave.namespace.as_str(), &leave.key.as_str(), &session],
            rows: 1,
        };
        let row = only(self.end_link().write(&call).await?)?;
        self.tell(Columns::of(&row).get()?, &leave.namespace, &leave.key);
        Ok(())
    }

    pub(super) async fn lease_break(&self, ask: &BreakLease) -> Result<Broken> {
        let call = Call {
            verb: "lease.break",
            statement: &self.sql.break_lease,
            params: &[
                &ask.namespace.as_str(),
                &ask.key.as_str(),
                &ask.token.map(Token::get),
                &ask.actor.as_str(),
                &ask.reason,
            ],
            rows: 1,
        };
        let (mut broken, mut seen, mut waited_for) = (Vec::new(), None, false);
        for row in self.admin.write(&call).await? {
            let mut columns = Columns::of(&row);
            let applied: bool = columns.get()?;
            waited_for |= columns.get::<bool>()?;
            let names = columns.names()?;
            let record = columns.lease(names)?;
            if applied {
                broken.push(record);
            } else {
                seen = seen.or(Some(record.token));
            }
        }
        self.tell(waited_for, &ask.namespace, &ask.key);
        Ok(match (broken.is_empty(), seen) {
            (false, _) => Broken::Applied(broken),
            (true, Some(token)) if ask.token.is_some_and(|asked| asked != token) => Broken::Moved(token),
            // What was seen held was ended by somebody else before the lock was got.
            (true, _) => Broken::NotHeld,
        })
    }

    /// Tells everybody who waits; this process even if the tables know of nobody.
    fn tell(&self, waited_for: bool, namespace: &onceward_core::Namespace, key: &onceward_core::Key) {
        if waited_for {
            self.wakes.tell(namespace, key);
        } else {
            self.wakes.tell_here(namespace, key);
        }
    }

    pub(super) async fn lease_lookup(&self, key: &KeyRef) -> Result<Snapshot<lease::Record>> {
        let call = Call {
            verb: "lease.lookup",
            statement: &self.sql.lease_lookup,
            params: &[&key.namespace.as_str(), &key.key.as_str()],
            rows: 1,
        };
        page(&self.read, &call).await
    }

    pub(super) async fn lease_list(&self, ask: &ListLeases) -> Result<Snapshot<lease::Record>> {
        let after = ask.after.as_ref();
        let call = Call {
            verb: "lease.list",
            statement: &self.sql.lease_list,
            params: &[
                &ask.namespace.as_ref().map(AsRef::<str>::as_ref),
                &ask.prefix,
                &ask.standing.map(lease::Standing::as_str),
                &after.map(|(namespace, _, _)| namespace.as_str()),
                &after.map(|(_, key, _)| key.as_str()),
                &after.map(|(_, _, slot)| i64::from(*slot)),
                &super::limit(ask.limit),
            ],
            rows: 1,
        };
        page(&self.admin, &call).await
    }
}

/// Where in a batch an answer belongs that carries its place in the arrays, counted from 1.
pub(super) fn place_of<'p, 'a, T>(places: &'p [Place<'a, T>], n: i64) -> Option<&'p Place<'a, T>> {
    places.get(usize::try_from(n).ok()?.checked_sub(1)?)
}

/// The one row a statement always answers with.
pub(super) fn only(rows: Vec<Row>) -> Result<Row> {
    rows.into_iter().next().ok_or_else(|| Error::new(Code::RowUnreadable, "a statement answered nothing"))
}

async fn page(link: &Link, call: &Call<'_>) -> Result<Snapshot<lease::Record>> {
    let (mut now, mut records) = (Timestamp::default(), Vec::new());
    for row in link.read(call).await? {
        let mut columns = Columns::of(&row);
        now = columns.time()?;
        if !columns.at_null() {
            let names = columns.names()?;
            records.push(columns.lease(names)?);
        }
    }
    Ok(Snapshot { now, rows: records })
}
