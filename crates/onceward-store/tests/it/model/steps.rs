//! One step of a random history, and the world it is taken in.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use onceward_core::history::{self, Subject};
use onceward_core::once::{Body, Ending, Fingerprint, Resolution};
use onceward_core::{Key, Namespace, Owner, SessionId, Timestamp, Token, lease, once};
use onceward_store::clock::{Clock, ManualClock};
use onceward_store::{
    Acquired, BreakLease, ClaimRef, Claimed, HistoryOf, KeyRef, LeaveLease, ListLeases, ListOnce, Prune,
    ReleaseLease, ResolveOnce, SettleOnce, Store, WaitLease,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::watch::{self, Watch};

/// What goes wrong in a history.
pub(crate) type Verdict<T = ()> = Result<T, TestCaseError>;

/// Sets the clock of a store that can't read the model's.
pub(crate) type Follow = Box<dyn Fn(Timestamp) -> BoxFuture<'static, ()>>;

/// A world in which random histories are lived through.
pub(crate) trait History: Sized {
    /// What may happen.
    type Step: Debug;
    /// What must have happened in some history, or the proof proves nothing.
    const WANTED: &'static [&'static str];

    /// Any step.
    fn step() -> BoxedStrategy<Self::Step>;
    /// The world at first; the model is the first of the stores. Histories come in two kinds.
    fn new(clock: ManualClock, stores: Vec<Arc<dyn Store>>, follow: Option<Follow>, kind: bool) -> Self;
    /// Takes one step on every store, and compares.
    fn take(&mut self, step: &Self::Step) -> impl Future<Output = Verdict>;
    /// Compares what takes longer as well.
    fn compare_all(&self) -> impl Future<Output = Verdict>;
    /// What has happened.
    fn seen(self) -> BTreeMap<&'static str, u32>;
}

const KEYS: [&str; 2] = ["a", "b"];
const PAGE: usize = 500;

/// One step. Claims are meant by how many grants ago they were made.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Asks for the leases of one or both keys, again or as a new attempt.
    Acquire { who: usize, keys: Keys, anew: bool, hard: bool, delay: bool },
    /// Renews a lease, sometimes with somebody else's session.
    Renew { ago: usize, forged: bool },
    /// Gives a lease back.
    Release { ago: usize },
    /// Stands in line.
    Wait { who: usize, key: usize, fair: bool },
    /// Leaves the line.
    Leave { who: usize, key: usize },
    /// Breaks a lease; `true` names the token of a grant.
    Break { key: usize, token: Option<usize> },
    /// Asks to run one or both keys.
    Claim { who: usize, keys: Keys, anew: bool, print: Option<u8>, restartable: bool, hard: bool },
    /// Renews a claim.
    Extend { ago: usize, forged: bool },
    /// Says how a run ended.
    Settle { ago: usize, how: usize },
    /// Settles what nobody knows.
    Resolve { key: usize, how: usize, ago: Option<usize>, dry_run: bool },
    /// Lets time pass.
    Advance { ms: u64 },
    /// Forgets what is this old.
    Prune { secs: u64 },
}

/// Which keys one batch is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    /// One of the two.
    One(usize),
    /// Both, in this or the other order.
    Both(bool),
}

impl Keys {
    fn list(self) -> Vec<usize> {
        match self {
            Self::One(key) => vec![key],
            Self::Both(false) => vec![0, 1],
            Self::Both(true) => vec![1, 0],
        }
    }

    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![3 => (0..KEYS.len()).prop_map(Self::One), 1 => any::<bool>().prop_map(Self::Both)]
    }
}

impl Step {
    /// Any step, the common ones more often.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            8 => Self::asking(),
            8 => Self::answering(),
            2 => Self::waiting(),
            4 => prop_oneof![Just(1), Just(300), Just(1000), Just(4000), 0_u64..20_000]
                .prop_map(|ms| Self::Advance { ms }),
            2 => (0_u64..12).prop_map(|secs| Self::Prune { secs }),
        ]
    }

    fn asking() -> impl Strategy<Value = Self> {
        let acquire = (0..3_usize, Keys::any(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(who, keys, anew, hard, delay)| Self::Acquire { who, keys, anew, hard, delay });
        let print = prop::option::of(0..2_u8);
        let claim = (0..3_usize, Keys::any(), any::<bool>(), print, any::<bool>(), any::<bool>()).prop_map(
            |(who, keys, anew, print, restartable, hard)| Self::Claim {
                who,
                keys,
                anew,
                print,
                restartable,
                hard,
            },
        );
        prop_oneof![acquire, claim]
    }

    fn answering() -> impl Strategy<Value = Self> {
        let ago = || prop_oneof![4 => Just(0_usize), 2 => 0..5_usize];
        let forged = || prop_oneof![5 => Just(false), 1 => Just(true)];
        prop_oneof![
            2 => (ago(), forged()).prop_map(|(ago, forged)| Self::Renew { ago, forged }),
            3 => ago().prop_map(|ago| Self::Release { ago }),
            1 => (0..2_usize, prop::option::of(ago())).prop_map(|(key, token)| Self::Break { key, token }),
            2 => (ago(), forged()).prop_map(|(ago, forged)| Self::Extend { ago, forged }),
            4 => (ago(), 0..5_usize).prop_map(|(ago, how)| Self::Settle { ago, how }),
            2 => (0..2_usize, 0..3_usize, prop::option::of(ago()), any::<bool>())
                .prop_map(|(key, how, ago, dry_run)| Self::Resolve { key, how, ago, dry_run }),
        ]
    }

    fn waiting() -> impl Strategy<Value = Self> {
        let place = || (0..3_usize, 0..2_usize);
        prop_oneof![
            (place(), any::<bool>()).prop_map(|((who, key), fair)| Self::Wait { who, key, fair }),
            place().prop_map(|(who, key)| Self::Leave { who, key }),
        ]
    }
}

/// The stores, the model first, and what the callers remember.
pub(crate) struct World {
    clock: ManualClock,
    follow: Option<Follow>,
    stores: Vec<Arc<dyn Store>>,
    sessions: [u128; 3],
    leases: Vec<lease::Record>,
    claims: Vec<once::Record>,
    /// The invariants, and what has happened.
    pub(crate) watch: Watch,
}

impl History for World {
    type Step = Step;
    const WANTED: &'static [&'static str] = &watch::WANTED;

    fn step() -> BoxedStrategy<Step> {
        Step::any().boxed()
    }

    fn new(clock: ManualClock, stores: Vec<Arc<dyn Store>>, follow: Option<Follow>, _: bool) -> Self {
        let (leases, claims) = (Vec::new(), Vec::new());
        Self { clock, follow, stores, sessions: [1, 2, 3], leases, claims, watch: Watch::default() }
    }

    /// Takes one step on every store, compares the answers and then the rows.
    async fn take(&mut self, step: &Step) -> Verdict {
        match step {
            Step::Advance { ms } => {
                self.clock.advance(Duration::from_millis(*ms));
                if let Some(follow) = &self.follow {
                    follow(self.clock.wall()).await;
                }
            }
            Step::Prune { secs } => {
                let age = Duration::from_secs(*secs);
                let ask = Prune { leases_older_than: age, history_older_than: age, limit: 10_000 };
                self.ask(async |store| store.prune(&ask).await).await?;
            }
            Step::Acquire { .. } | Step::Renew { .. } | Step::Release { .. } => self.take_lease(step).await?,
            Step::Wait { .. } | Step::Leave { .. } | Step::Break { .. } => self.take_line(step).await?,
            _ => self.take_once(step).await?,
        }
        let restartable = matches!(step, Step::Claim { restartable: true, .. });
        self.compare_rows(restartable).await
    }

    /// Compares histories and listings as well.
    async fn compare_all(&self) -> Verdict {
        for KeyRef { namespace, key } in [name(0), name(1)] {
            for subject in Subject::ALL.iter().copied() {
                let ask = HistoryOf { subject, namespace: namespace.clone(), key: key.clone(), limit: PAGE };
                // Rows written at one instant by one verb have no order but that of their tokens.
                let ordered = |mut rows: Vec<history::Row>| {
                    rows.sort_by_key(|row| Reverse((row.entry.at, row.entry.token)));
                    rows
                };
                self.ask(async |store| store.history(&ask).await.map(ordered)).await?;
            }
        }
        for standing in lease::Standing::ALL.iter().copied() {
            let ask = ListLeases { standing: Some(standing), limit: PAGE, ..ListLeases::default() };
            self.ask(async |store| store.lease_list(&ask).await).await?;
        }
        for state in once::State::ALL.iter().copied() {
            let ask = ListOnce { state: Some(state), limit: PAGE, ..ListOnce::default() };
            self.ask(async |store| store.once_list(&ask).await).await?;
        }
        Ok(())
    }

    fn seen(self) -> BTreeMap<&'static str, u32> {
        self.watch.seen
    }
}

impl World {
    async fn take_lease(&mut self, step: &Step) -> Verdict {
        match *step {
            Step::Acquire { who, keys, anew, hard, delay } => {
                let session = self.session(who, anew);
                let ask = |key: usize| lease_ask(session, key, hard, delay);
                let batch: Vec<_> = keys.list().into_iter().map(ask).collect();
                let answers = self.ask(async |store| store.lease_acquire(&batch).await).await?;
                for answer in answers {
                    if let Acquired::Granted(row) = answer {
                        self.leases.push(*row);
                    }
                }
            }
            Step::Renew { ago, forged } => {
                let Some(row) = self.leases.iter().rev().nth(ago) else { return Ok(()) };
                let session = if forged { uuid(99) } else { row.session };
                let (namespace, key) = (row.namespace.clone(), row.key.clone());
                let batch = [ClaimRef { namespace, key, slot: row.slot, token: row.token, session }];
                self.ask(async |store| store.lease_renew(&batch).await).await?;
            }
            Step::Release { ago } => {
                let Some(row) = self.leases.iter().rev().nth(ago) else { return Ok(()) };
                let (namespace, key) = (row.namespace.clone(), row.key.clone());
                let batch =
                    [ReleaseLease { namespace, key, token: row.token, reason: None, place: row.place }];
                self.ask(async |store| store.lease_release(&batch).await).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn take_line(&mut self, step: &Step) -> Verdict {
        match *step {
            Step::Wait { who, key, fair } => {
                let KeyRef { namespace, key } = name(key);
                let session = self.session(who, false);
                let wait = WaitLease { namespace, key, session, fair, ttl: Duration::from_secs(3) };
                self.ask(async |store| store.lease_wait(&wait).await).await?;
            }
            Step::Leave { who, key } => {
                let KeyRef { namespace, key } = name(key);
                let leave = LeaveLease { namespace, key, session: self.session(who, false) };
                self.ask(async |store| store.lease_leave(&leave).await).await?;
            }
            Step::Break { key, token } => {
                let token = token.and_then(|ago| self.leases.iter().rev().nth(ago)).map(|row| row.token);
                let KeyRef { namespace, key } = name(key);
                let ask = BreakLease { namespace, key, token, actor: owner(), reason: "broken".to_owned() };
                self.ask(async |store| store.lease_break(&ask).await).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn take_once(&mut self, step: &Step) -> Verdict {
        match *step {
            Step::Claim { who, keys, anew, print, restartable, hard } => {
                let session = self.session(who, anew);
                let ask = |key: usize| once_ask(session, key, print, restartable, hard);
                let batch: Vec<_> = keys.list().into_iter().map(ask).collect();
                let answers = self.ask(async |store| store.once_claim(&batch).await).await?;
                for answer in answers {
                    if let Claimed::Granted(row) = answer {
                        self.claims.push(*row);
                    }
                }
            }
            Step::Extend { ago, forged } => {
                let Some(row) = self.claims.iter().rev().nth(ago) else { return Ok(()) };
                let session = if forged { uuid(99) } else { row.session };
                let (namespace, key) = (row.namespace.clone(), row.key.clone());
                let batch = [ClaimRef { namespace, key, slot: 0, token: row.token, session }];
                self.ask(async |store| store.once_renew(&batch).await).await?;
            }
            Step::Settle { ago, how } => {
                let Some(row) = self.claims.iter().rev().nth(ago) else { return Ok(()) };
                let (namespace, key) = (row.namespace.clone(), row.key.clone());
                let batch =
                    [SettleOnce { namespace, key, token: row.token, ending: ending(how), place: row.place }];
                self.ask(async |store| store.once_settle(&batch).await).await?;
            }
            Step::Resolve { key, how, ago, dry_run } => {
                let token = ago.and_then(|ago| self.claims.iter().rev().nth(ago)).map(|row| row.token);
                self.resolve(key, token, how, dry_run).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn resolve(&self, key: usize, token: Option<Token>, how: usize, dry_run: bool) -> Verdict {
        let resolution = match how {
            0 => Resolution::Done(Body::new(b"resolved".to_vec(), "text/plain")),
            1 => Resolution::Failed { reason: "never".to_owned() },
            _ => Resolution::Release,
        };
        let KeyRef { namespace, key } = name(key);
        let reason = "looked at".to_owned();
        let ask = ResolveOnce { namespace, key, token, resolution, actor: owner(), reason, dry_run };
        self.ask(async |store| store.once_resolve(&ask).await).await?;
        Ok(())
    }

    /// The attempt of a caller: the one before, or a new one.
    fn session(&mut self, who: usize, anew: bool) -> SessionId {
        if anew {
            self.sessions[who] += 10;
        }
        uuid(self.sessions[who])
    }

    /// Asks every store the same; the answer of the model, if all agree.
    async fn ask<T: Debug>(
        &self,
        ask: impl AsyncFn(Arc<dyn Store>) -> onceward_core::Result<T>,
    ) -> Verdict<T> {
        agree(&self.stores, ask).await
    }

    /// Compares the rows, and holds the model's against the invariants.
    async fn compare_rows(&mut self, restartable: bool) -> Verdict {
        let names = [name(0), name(1)];
        let found = self.ask(async |store| store.once_lookup(&names).await).await?;
        for (name, row) in names.iter().zip(&found.rows) {
            self.watch.once(&name.key, found.now, row.as_ref(), restartable)?;
        }
        for name in &names {
            let seen = self.ask(async |store| store.lease_lookup(name).await).await?;
            self.watch.leases(&name.key, seen.now, &seen.rows)?;
        }
        Ok(())
    }
}

/// Asks every store the same; the answer of the first one, which is the model, if all agree.
pub(crate) async fn agree<T: Debug>(
    stores: &[Arc<dyn Store>],
    ask: impl AsyncFn(Arc<dyn Store>) -> onceward_core::Result<T>,
) -> Verdict<T> {
    let mut model = None;
    for store in stores {
        let kind = store.capabilities().kind;
        let answer = ask(store.clone()).await;
        let answer = answer.map_err(|error| TestCaseError::fail(format!("{kind:?} failed: {error:?}")))?;
        let Some(model) = &model else {
            model = Some(answer);
            continue;
        };
        let (model, answer) = (format!("{model:#?}"), format!("{answer:#?}"));
        prop_assert!(
            model == answer,
            "the model (-) and {kind:?} (+) differ:\n{}",
            difference(&model, &answer)
        );
    }
    model.ok_or_else(|| TestCaseError::fail("no store"))
}

fn difference(model: &str, answer: &str) -> String {
    similar::TextDiff::from_lines(model, answer).unified_diff().context_radius(8).to_string()
}

fn uuid(number: u128) -> SessionId {
    SessionId::from_uuid(uuid::Uuid::from_u128(number))
}

fn owner() -> Owner {
    Owner::new("ops").unwrap()
}

fn name(key: usize) -> KeyRef {
    KeyRef { namespace: Namespace::default(), key: Key::new(KEYS[key]).unwrap() }
}

/// The second key has two places.
fn lease_ask(session: SessionId, key: usize, hard: bool, delay: bool) -> lease::Ask {
    let KeyRef { namespace, key: name } = name(key);
    lease::Ask {
        namespace,
        key: name,
        capacity: if key == 0 { 1 } else { 2 },
        owner: Owner::new(format!("by-{session}")).unwrap(),
        session,
        ttl: Duration::from_secs(4),
        hard_ttl: hard.then_some(Duration::from_secs(6)),
        lock_delay: Duration::from_secs(if delay { 2 } else { 0 }),
        metadata: delay.then(|| "slow".to_owned()),
        watched: None,
    }
}

fn once_ask(session: SessionId, key: usize, print: Option<u8>, restartable: bool, hard: bool) -> once::Ask {
    let KeyRef { namespace, key } = name(key);
    once::Ask {
        namespace,
        key,
        owner: Owner::new(format!("by-{session}")).unwrap(),
        session,
        ttl: Duration::from_secs(4),
        hard_ttl: hard.then_some(Duration::from_secs(6)),
        retain: Duration::from_secs(5),
        fingerprint: print.map(|print| Fingerprint([print; 32])),
        restartable,
    }
}

fn ending(how: usize) -> Ending {
    let reason = || "because".to_owned();
    match how {
        0 | 1 => Ending::Done(Body::new(vec![0, 1, 2], "application/octet-stream")),
        2 => Ending::Failed { body: None, reason: reason() },
        3 => Ending::NotStarted { reason: reason() },
        _ => Ending::Unknown { reason: reason() },
    }
}
