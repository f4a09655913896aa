//! The verbs of once, except renewing.

use onceward_core::history::Event;
use onceward_core::limits::REASON_BYTES_MAX;
use onceward_core::once::{self, Ask, Body, Claim, Resolution, Resolve, Settle, State};
use onceward_core::{Code, Error, Result, Timestamp, Token};
use tokio_postgres::types::ToSql;

use super::Inner;
use super::batch::{Place, Way, column, find, in_order, sorted};
use super::lease::{ROUNDS, ROUNDS_LOCKED, in_the_way, place_of};
use super::link::{Call, Link};
use super::live::Param;
use super::row::{Columns, Tid, millis};
use crate::store::{Claimed, KeyRef, ListOnce, ResolveOnce, SettleOnce, Snapshot};
use crate::wall::WallClock;

/// What one statement said about one ask.
enum Met {
    /// Nothing: its row was being made by somebody else.
    Nothing,
    /// The row as written.
    Granted(Box<once::Record>),
    /// The row as read.
    Seen(Box<once::Record>, Timestamp),
}

impl Met {
    /// The answer, or `None` to ask again: it could have been claimed, but somebody had it locked, or it was asked for
    /// in a way that only claims what has no row.
    fn answer(&self, ask: &Ask, way: Way, clock: WallClock) -> Option<Claimed> {
        match self {
            Self::Nothing => None,
            Self::Granted(row) => Some(Claimed::Granted(row.clone())),
            // Whoever sees an expired claim first writes that down, and that way does not write.
            Self::Seen(row, now) if way == Way::New && row.state != row.state_at(*now) => None,
            Self::Seen(row, now) => {
                let row = doubted(row, *now);
                match once::claim(Some(&row), ask, *now) {
                    // N16: a clock that jumped ahead for a moment must not make anything run again.
                    Claim::Grant { ended: Some(Event::Retired), .. } if clock == WallClock::Ahead => {
                        Some(Claimed::Existing { row: Box::new(row), now: *now })
                    }
                    Claim::Grant { .. } => None,
                    Claim::Adopt(row) => Some(Claimed::Granted(row)),
                    Claim::Mismatch => Some(Claimed::Mismatch),
                    Claim::Existing(row) => Some(Claimed::Existing { row, now: *now }),
                }
            }
        }
    }
}

/// The row as the claim that met it has left it: an expired claim has become uncertain, by it or by somebody else (O5).
fn doubted(row: &once::Record, now: Timestamp) -> once::Record {
    let row = row.clone();
    if row.state == State::Running && row.state_at(now) == State::Uncertain { row.expired() } else { row }
}

impl Inner {
    pub(super) async fn once_claim(&self, batch: &[Ask]) -> Result<Vec<Claimed>> {
        let mut answers = Vec::with_capacity(batch.len());
        match self.claim_all(batch, &mut answers).await {
            Ok(()) => Ok(in_order(batch.len(), answers, || Claimed::Mismatch)),
            // What one statement has granted stays so when the next one fails.
            Err(error) if answers.iter().any(|(_, answer)| matches!(answer, Claimed::Granted(_))) => {
                Err(error.uncertain())
            }
            Err(error) => Err(error),
        }
    }

    async fn claim_all(&self, batch: &[Ask], answers: &mut Vec<(usize, Claimed)>) -> Result<()> {
        let mut open = sorted(batch);
        for (way, round) in self.fresh.ways() {
            if open.is_empty() {
                break;
            }
            let (met, clock) = match self.claim_round(&open, way).await {
                // Somebody changes the row of a key that is no new one, or makes it: whoever looks first is told.
                Err(error) if way == Way::Short && error.code() == Code::KeyLocked => {
                    self.fresh.note(way, 1, 0);
                    continue;
                }
                answer => answer.inspect_err(|error| self.suspects.note(&open, error))?,
            };
            let granted = met.iter().filter(|met| matches!(met, Met::Granted(_))).count();
            self.fresh.note(way, met.len(), granted);
            let mut again = Vec::new();
            for (place, met) in open.into_iter().zip(met) {
                match met.answer(place.ask, way, clock) {
                    Some(answer) => answers.push((place.at, answer)),
                    None if round >= ROUNDS_LOCKED && matches!(met, Met::Seen(..)) => {
                        let why = format!("an open transaction holds {:?}", place.ask.key);
                        return Err(Error::new(Code::KeyLocked, why).at("once.claim"));
                    }
                    None => again.push(place),
                }
            }
            open = again;
        }
        if open.is_empty() { Ok(()) } else { Err(in_the_way("once.claim")) }
    }

    async fn claim_round(&self, places: &[Place<'_, Ask>], way: Way) -> Result<(Vec<Met>, WallClock)> {
        let params: &[Param<'_>] = &[
            &column(places, |ask| ask.namespace.as_str()),
            &column(places, |ask| ask.key.as_str()),
            &column(places, |ask| ask.owner.as_str()),
            &column(places, |ask| ask.session.as_uuid()),
            &column(places, |ask| millis(ask.ttl)),
            &column(places, |ask| ask.hard_ttl.map(millis)),
            &column(places, |ask| millis(ask.retain)),
            &column(places, |ask| ask.fingerprint.as_ref().map(|fingerprint| fingerprint.0.as_slice())),
            &column(places, |ask| ask.restartable),
            &once::EXPIRED,
        ];
        let (statement, params) = match way {
            Way::Short => (&self.sql.claim_fresh, params.get(..8).unwrap_or_default()),
            Way::New => (&self.sql.claim_new, params.get(..8).unwrap_or_default()),
            Way::Any => (&self.sql.claim, params),
        };
        let call = Call { verb: "once.claim", statement, params, rows: places.len() };
        let (mut all, mut clock): (Vec<Met>, _) =
            (places.iter().map(|_| Met::Nothing).collect(), WallClock::Trusted);
        for row in self.begin_link(places).write(&call).await? {
            let mut columns = Columns::of(&row);
            let granted_now: bool = columns.get()?;
            let found = find(places, columns.get()?, columns.get()?);
            let Some((place, slot)) = found.and_then(|at| places.get(at).zip(all.get_mut(at))) else {
                continue;
            };
            let now = columns.time()?;
            if clock == WallClock::Trusted {
                clock = self.trust.observe(now, self.clock.boottime());
            }
            if granted_now {
                *slot = Met::Granted(Box::new(granted(place.ask, &mut columns)?));
            } else if matches!(slot, Met::Nothing) {
                let name = (place.ask.namespace.clone(), place.ask.key.clone());
                *slot = Met::Seen(Box::new(columns.once(name)?), now);
            }
        }
        Ok((all, clock))
    }

    pub(super) async fn once_settle(&self, batch: &[SettleOnce]) -> Result<Vec<Settle>> {
        // What nobody knows goes the way of doubt at once, and so does what nobody knows the place of.
        let direct = |ask: &SettleOnce| ask.place.0.is_some() && ask.ending.state() != State::Uncertain;
        let (mut outcomes, mut doubts): (Vec<_>, Vec<_>) =
            sorted(batch).into_iter().partition(|place| direct(place.ask));
        let mut answers = Vec::with_capacity(batch.len());
        for _ in 0..ROUNDS {
            let mut left = self.settle_batch(&outcomes, Way::New, &mut answers).await?;
            left.extend(self.settle_batch(&doubts, Way::Any, &mut answers).await?);
            if left.is_empty() {
                return Ok(in_order(batch.len(), answers, || Settle::Stale));
            }
            (outcomes, doubts) = (Vec::new(), self.look_why(&left, &mut answers).await?);
        }
        if doubts.is_empty() {
            return Ok(in_order(batch.len(), answers, || Settle::Stale));
        }
        Err(in_the_way("once.settle"))
    }

    /// Finds out why these could not be settled, and returns those that can be after all.
    async fn look_why<'a>(
        &self,
        left: &[Place<'a, SettleOnce>],
        answers: &mut Vec<(usize, Settle)>,
    ) -> Result<Vec<Place<'a, SettleOnce>>> {
        let keys: Vec<KeyRef> = left
            .iter()
            .map(|place| KeyRef { namespace: place.ask.namespace.clone(), key: place.ask.key.clone() })
            .collect();
        let seen = self.lookup("once.settle", self.end_link(), &keys).await?;
        let mut again = Vec::new();
        for (place, row) in left.iter().zip(seen.rows) {
            match once::settle(row.as_ref(), place.ask.token, &place.ask.ending, seen.now) {
                Settle::Applied { .. } => again.push(*place),
                answer => answers.push((place.at, answer)),
            }
        }
        Ok(again)
    }

    /// Settles what can be settled that way, and returns the others.
    async fn settle_batch<'a>(
        &self,
        places: &[Place<'a, SettleOnce>],
        way: Way,
        answers: &mut Vec<(usize, Settle)>,
    ) -> Result<Vec<Place<'a, SettleOnce>>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let (statement, last): (_, Box<dyn ToSql + Send + Sync>) = match way {
            Way::Short | Way::New => {
                (&self.sql.settle_outcome, Box::new(column(places, |ask| ask.place.0.map(Tid))))
            }
            Way::Any => (&self.sql.settle_doubt, Box::new(column(places, |ask| ask.ending.event().as_str()))),
        };
        let params: &[Param<'_>] = &[
            &column(places, |ask| ask.namespace.as_str()),
            &column(places, |ask| ask.key.as_str()),
            &column(places, |ask| ask.token.get()),
            &column(places, |ask| ask.ending.state().as_str()),
            &column(places, |ask| ask.ending.body().and_then(|body| body.bytes.as_deref())),
            &column(places, |ask| ask.ending.body().map(|body| body.content_type.as_str())),
            &column(places, |ask| ask.ending.body().map(size)),
            &column(places, |ask| ask.ending.reason().map(|reason| once::cut(reason, REASON_BYTES_MAX))),
            &*last,
        ];
        let call = Call { verb: "once.settle", statement, params, rows: places.len() };
        let mut left = places.to_vec();
        let mut settled = vec![false; places.len()];
        for row in self.end_link().write(&call).await? {
            let mut columns = Columns::of(&row);
            let n: i64 = columns.get()?;
            let (Some(place), Some(slot)) = (place_of(places, n), place_slot(&mut settled, n)) else {
                continue;
            };
            *slot = true;
            answers.push((place.at, Settle::Applied { late: columns.get()? }));
        }
        let mut settled = settled.into_iter();
        left.retain(|_| settled.next() != Some(true));
        Ok(left)
    }

    pub(super) async fn once_resolve(&self, ask: &ResolveOnce) -> Result<Resolve> {
        let key = [KeyRef { namespace: ask.namespace.clone(), key: ask.key.clone() }];
        for _ in 0..ROUNDS {
            if !ask.dry_run
                && let Some(token) = self.resolve_now(ask).await?
            {
                return Ok(Resolve::Applied { token });
            }
            let seen = self.lookup("once.resolve", &self.admin, &key).await?;
            let row = seen.rows.into_iter().next().flatten();
            match once::resolve(row.as_ref(), ask.token, seen.now) {
                Resolve::Applied { .. } if !ask.dry_run => {}
                answer => return Ok(answer),
            }
        }
        Err(in_the_way("once.resolve"))
    }

    async fn resolve_now(&self, ask: &ResolveOnce) -> Result<Option<Token>> {
        let body = match &ask.resolution {
            Resolution::Done(body) => Some(body),
            _ => None,
        };
        let reason = match &ask.resolution {
            Resolution::Failed { reason } => Some(once::cut(reason, REASON_BYTES_MAX)),
            _ => None,
        };
        let call = Call {
            verb: "once.resolve",
            statement: &self.sql.resolve,
            params: &[
                &ask.namespace.as_str(),
                &ask.key.as_str(),
                &ask.token.map(Token::get),
                &ask.resolution.state().as_str(),
                &ask.resolution.event().as_str(),
                &body.and_then(|body| body.bytes.as_deref()),
                &body.map(|body| body.content_type.as_str()),
                &body.map(size),
                &reason,
                &ask.actor.as_str(),
                &once::cut(&ask.reason, REASON_BYTES_MAX),
                &once::EXPIRED,
            ],
            rows: 1,
        };
        let rows = self.admin.write(&call).await?;
        rows.first().map(|row| Columns::of(row).token()).transpose()
    }

    pub(super) async fn once_lookup(&self, keys: &[KeyRef]) -> Result<Snapshot<Option<once::Record>>> {
        self.lookup("once.lookup", &self.read, keys).await
    }

    async fn lookup(
        &self,
        verb: &'static str,
        link: &Link,
        keys: &[KeyRef],
    ) -> Result<Snapshot<Option<once::Record>>> {
        let namespaces: Vec<&str> = keys.iter().map(|key| key.namespace.as_str()).collect();
        let names: Vec<&str> = keys.iter().map(|key| key.key.as_str()).collect();
        let params: &[Param<'_>] = &[&namespaces, &names];
        let call = Call { verb, statement: &self.sql.once_lookup, params, rows: keys.len() };
        let (mut now, mut rows) = (Timestamp::default(), vec![None; keys.len()]);
        for row in link.read(&call).await? {
            let mut columns = Columns::of(&row);
            let n: i64 = columns.get()?;
            match usize::try_from(n).unwrap_or(0).checked_sub(1) {
                None => now = columns.time()?,
                Some(at) => {
                    columns.skip(1);
                    let name = columns.names()?;
                    let record = columns.once(name)?;
                    if let Some(slot) = rows.get_mut(at) {
                        *slot = Some(record);
                    }
                }
            }
        }
        Ok(Snapshot { now, rows })
    }

    pub(super) async fn once_list(&self, ask: &ListOnce) -> Result<Snapshot<once::Record>> {
        let after = ask.after.as_ref();
        let open = matches!(ask.state, Some(State::Running | State::Uncertain));
        let swept_until = if open { self.swept_until("once.list").await? } else { 0 };
        let params: &[Param<'_>] = &[
            &ask.namespace.as_ref().map(AsRef::<str>::as_ref),
            &ask.prefix,
            &ask.state.map(State::as_str),
            &after.map(|(namespace, _)| namespace.as_str()),
            &after.map(|(_, key)| key.as_str()),
            &super::limit(ask.limit),
            &swept_until,
        ];
        let (statement, params) = match open {
            true => (&self.sql.once_list_open, params),
            false => (&self.sql.once_list, params.get(..6).unwrap_or_default()),
        };
        let call = Call { verb: "once.list", statement, params, rows: 1 };
        let (mut now, mut rows) = (Timestamp::default(), Vec::new());
        for row in self.admin.read(&call).await? {
            let mut columns = Columns::of(&row);
            now = columns.time()?;
            if !columns.at_null() {
                let name = columns.names()?;
                rows.push(columns.once(name)?);
            }
        }
        Ok(Snapshot { now, rows })
    }
}

/// The mark of the ask in the place `n` of the arrays, counted from 1.
pub(super) fn place_slot(marks: &mut [bool], n: i64) -> Option<&mut bool> {
    marks.get_mut(usize::try_from(n).ok()?.checked_sub(1)?)
}

fn size(body: &Body) -> i64 {
    i64::try_from(body.size).unwrap_or(i64::MAX)
}

/// The row of a grant: what was asked, and what the database added.
fn granted(ask: &Ask, columns: &mut Columns<'_>) -> Result<once::Record, Error> {
    columns.skip(1);
    let token = columns.token()?;
    columns.skip(2);
    let attempts = columns.get()?;
    columns.skip(1);
    let (claimed_at, expires_at, hard_expires_at) = (columns.time()?, columns.time()?, columns.maybe_time()?);
    columns.skip(2);
    let uncertain_at = columns.maybe_time()?;
    columns.skip(6);
    Ok(once::Record {
        namespace: ask.namespace.clone(),
        key: ask.key.clone(),
        state: State::Running,
        token,
        owner: ask.owner.clone(),
        session: ask.session,
        attempts,
        fingerprint: ask.fingerprint,
        claimed_at,
        expires_at,
        hard_expires_at,
        ttl: ask.ttl,
        retain: ask.retain,
        uncertain_at,
        finished_at: None,
        retain_until: None,
        late: false,
        body: None,
        reason: columns.get()?,
        place: columns.place()?,
    })
}
