//! A cluster whose runners come, leave, die, stand still and see different others, on a clock of its own. What a store
//! guards is done here as it does it: a term begins if the lease is free and its cycle has no row.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::backoff::mix;
use crate::{Owner, SessionId, Token};

const EVERY: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(15);
const RENEWS: Duration = Duration::from_secs(5);
/// How many rows a look shows.
const ROWS: usize = 16;

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_micros((seconds * 1_000_000).cast_signed())
}

fn session(number: u64) -> SessionId {
    SessionId::from_uuid(uuid::Uuid::from_u128(number.into()))
}

/// What happens to a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Comes,
    /// It hands its cycle over, and its session is closed.
    Leaves,
    Dies,
    /// It stands still, with all that it does.
    Stops,
    GoesOn,
}

struct Member {
    came: Timestamp,
    /// When it looks next; none where it never does again.
    looks: Option<Timestamp>,
    /// Since when it has stood still, or has been dead.
    still: Option<Timestamp>,
}

struct Run {
    by: u64,
    cycle: i64,
    token: Token,
    ends: Timestamp,
}

struct Cluster {
    setting: Setting,
    members: BTreeMap<u64, Member>,
    terms: Vec<Term>,
    /// The lease: its token, and who renews it.
    lease: Option<(Token, u64)>,
    runs: Vec<Run>,
    took: Duration,
    /// Whom a runner does not see.
    blind: fn(u64, u64) -> bool,
    /// Who began which cycle, in the order of their tokens.
    begun: Vec<(i64, u64, Token)>,
}

impl Cluster {
    fn new(took: Duration) -> Self {
        Self {
            setting: Setting::new(Spec::every(EVERY), seconds(0)),
            members: BTreeMap::new(),
            terms: Vec::new(),
            lease: None,
            runs: Vec::new(),
            took,
            blind: |_, _| false,
            begun: Vec::new(),
        }
    }

    fn run(&mut self, mut fates: Vec<(Timestamp, u64, Fate)>, end: Timestamp) {
        fates.sort_unstable();
        let mut fates = fates.into_iter().peekable();
        loop {
            let looks = self.members.iter().filter(|(_, member)| member.still.is_none());
            let look = looks.filter_map(|(who, member)| Some((member.looks?, *who))).min();
            let over = self.runs.iter().filter(|run| self.is_awake(run.by)).map(|run| run.ends).min();
            let fate = fates.peek().map(|(at, ..)| *at);
            let Some(now) = [look.map(|(at, _)| at), over, fate].into_iter().flatten().min() else { return };
            if now >= end {
                return;
            }
            let ended = self.runs.iter().position(|run| run.ends == now && self.is_awake(run.by));
            if let Some((_, who, fate)) = fates.next_if(|(at, ..)| *at == now) {
                self.befall(now, who, fate);
            } else if let Some(at) = ended {
                let run = self.runs.swap_remove(at);
                self.finish(now, &run, Outcome::Done);
            } else if let Some((_, who)) = look {
                self.look(now, who);
            }
        }
    }

    fn is_awake(&self, who: u64) -> bool {
        self.members.get(&who).is_some_and(|member| member.still.is_none())
    }

    /// When it was seen last.
    fn seen(&self, member: &Member, now: Timestamp) -> Timestamp {
        let since = member.still.unwrap_or(now).since(member.came).as_secs();
        member.came.after(Duration::from_secs(since - since % RENEWS.as_secs()))
    }

    fn befall(&mut self, now: Timestamp, who: u64, fate: Fate) {
        match fate {
            Fate::Comes => {
                self.members.insert(who, Member { came: now, looks: Some(now), still: None });
            }
            Fate::Leaves => {
                if let Some(at) = self.runs.iter().position(|run| run.by == who) {
                    let run = self.runs.swap_remove(at);
                    self.finish(now, &run, Outcome::HandedOver);
                }
                self.members.remove(&who);
            }
            Fate::Dies => {
                self.runs.retain(|run| run.by != who);
                if let Some(member) = self.members.get_mut(&who) {
                    (member.still, member.looks) = (Some(now), None);
                }
            }
            Fate::Stops => {
                if let Some(member) = self.members.get_mut(&who) {
                    member.still.get_or_insert(now);
                }
            }
            Fate::GoesOn => self.go_on(now, who),
        }
    }

    /// Awake again it finds out what it has lost meanwhile: its session, its lease.
    fn go_on(&mut self, now: Timestamp, who: u64) {
        let Some(member) = self.members.get_mut(&who).filter(|member| member.looks.is_some()) else { return };
        let Some(stood) = member.still.take() else { return };
        member.looks = Some(now);
        if now.since(stood) >= TTL {
            member.came = now;
            self.runs.retain(|run| run.by != who);
            self.lease = self.lease.filter(|(_, by)| *by != who);
        }
        for run in self.runs.iter_mut().filter(|run| run.by == who) {
            run.ends = run.ends.max(now);
        }
    }

    /// An end that comes under an old token changes nothing.
    fn finish(&mut self, now: Timestamp, run: &Run, outcome: Outcome) {
        let row = self.terms.iter_mut().find(|term| term.cycle == run.cycle && term.token == run.token);
        if let Some(row) = row.filter(|row| row.outcome == Outcome::Running) {
            (row.outcome, row.ended_at) = (outcome, Some(now));
        }
        self.lease = self.lease.filter(|(token, _)| *token != run.token);
        for member in self.members.values_mut().filter(|member| member.looks.is_some()) {
            member.looks = Some(now);
        }
    }

    fn held(&self, now: Timestamp) -> Option<Held> {
        let (token, by) = self.lease?;
        let holder = self.members.get(&by)?;
        let until = holder.still.unwrap_or(now).after(TTL);
        (until > now).then_some(Held { token, until, is_poisoned: false })
    }

    fn look(&mut self, now: Timestamp, me: u64) {
        let runner = |(who, member): (&u64, &Member)| Runner {
            session: session(*who),
            owner: Owner::from_row("host"),
            started_at: member.came,
            seen_at: self.seen(member, now),
            expires_at: self.seen(member, now).after(TTL),
            draining: false,
        };
        let runners = self.members.iter().filter(|(who, _)| !(self.blind)(me, **who)).map(runner).collect();
        let runners = order(runners, now);
        let mut terms: Vec<Term> = self.terms.clone();
        terms.sort_by_key(|term| core::cmp::Reverse(term.cycle));
        terms.truncate(ROWS);
        let held = self.held(now);
        let view = View { now, setting: &self.setting, runners: &runners, terms: &terms, held };
        let plan = plan(&view, session(me));
        for (cycle, _, token) in plan.lost {
            let row = self.terms.iter_mut().find(|term| term.cycle == cycle && term.token == token);
            if let Some(row) = row.filter(|row| row.outcome == Outcome::Running) {
                (row.outcome, row.ended_at) = (Outcome::Lost, Some(now));
            }
        }
        for miss in plan.missed {
            if !self.is_covered(miss.cycle) {
                assert!(!miss.reason.is_empty());
                self.terms.push(row(miss.cycle, miss.cycles, None, Token::from_row(0), now, Outcome::Missed));
            }
        }
        let again = match plan.next {
            Next::Look { at, .. } => at.max(now.after(Duration::from_millis(1))),
            Next::Begin(begin) => self.begin(now, me, &begin),
        };
        if let Some(member) = self.members.get_mut(&me) {
            member.looks = Some(again);
        }
    }

    fn is_covered(&self, cycle: i64) -> bool {
        self.terms.iter().any(|term| (term.cycle..term.cycle + term.cycles).contains(&cycle))
    }

    fn begin(&mut self, now: Timestamp, me: u64, begin: &Begin) -> Timestamp {
        if self.held(now).is_some() {
            return now.after(Duration::from_millis(100));
        }
        let open = self.terms.iter().position(|term| term.cycle == begin.cycle);
        let is_open = open.is_none_or(|at| self.terms[at].outcome == Outcome::HandedOver);
        if now >= begin.not_after || !is_open || (open.is_none() && self.is_covered(begin.cycle)) {
            return now.after(Duration::from_millis(500));
        }
        let token = Token::next(self.begun.last().map(|(.., token)| *token), now);
        self.terms.retain(|term| term.cycle != begin.cycle);
        self.terms.push(row(begin.cycle, 1, Some(session(me)), token, now, Outcome::Running));
        self.lease = Some((token, me));
        self.begun.push((begin.cycle, me, token));
        self.runs.retain(|run| run.by != me);
        self.runs.push(Run { by: me, cycle: begin.cycle, token, ends: now.after(self.took) });
        now.after(self.took)
    }

    /// Every cycle up to the last one has one row, and all terms but those that were handed over have their own.
    fn check(&self) {
        let mut rows: Vec<(i64, i64)> = self.terms.iter().map(|term| (term.cycle, term.cycles)).collect();
        rows.sort_unstable();
        for pair in rows.windows(2) {
            assert_eq!(pair[0].0 + pair[0].1, pair[1].0, "a cycle without a row, or with two: {rows:?}");
        }
        assert!(self.begun.windows(2).all(|pair| pair[0].2 < pair[1].2), "tokens grow");
        // Two that run at once: one of them has lost its lease, and another one has been begun since.
        let current = self.runs.iter().filter(|run| self.lease.is_some_and(|(token, _)| token == run.token));
        assert!(current.count() <= 1);
    }
}

fn row(
    cycle: i64,
    cycles: i64,
    session: Option<SessionId>,
    token: Token,
    now: Timestamp,
    outcome: Outcome,
) -> Term {
    Term {
        service: ServiceName::from_row("s"),
        cycle,
        part: String::new(),
        due_at: start_of(cycle, EVERY),
        cycles,
        session,
        owner: None,
        token,
        started_at: now,
        ended_at: (outcome != Outcome::Running).then_some(now),
        outcome,
        reason: None,
    }
}

/// W79: a process that crashes as soon as it starts, again and again, leaves ghosts; nobody else loses a cycle to them.
#[test]
fn w79_ghosts_of_a_crash_loop_keep_nobody_from_his_turn() {
    let mut cluster = Cluster::new(Duration::from_secs(1));
    let mut fates: Vec<_> = (0..3).map(|who| (seconds(who), who, Fate::Comes)).collect();
    for n in 0..200 {
        fates.push((seconds(30 + 3 * n), 100 + n, Fate::Comes));
        fates.push((seconds(31 + 3 * n), 100 + n, Fate::Dies));
    }
    cluster.run(fates, seconds(640));
    cluster.check();
    let stable: BTreeSet<u64> = cluster.begun.iter().map(|(_, who, _)| *who).collect();
    assert_eq!(stable, (0..3).collect(), "no ghost begins anything, and everybody else has his turn");
    let cycles: Vec<i64> = cluster.begun.iter().map(|(cycle, ..)| *cycle).collect();
    assert_eq!(cycles, (0..32).collect::<Vec<_>>());
    // Nor do they make slots shorter than three runners have them.
    let late = |term: &Term| term.started_at.since(term.due_at) > EVERY / 3 + Duration::from_secs(1);
    assert!(!cluster.terms.iter().filter(|term| term.cycle > 1).any(late), "{:?}", cluster.terms);
}

/// W76, W78: each sees others, nobody sees all, and no clock but the store's counts: cycles are run once.
#[test]
fn w76_runners_that_see_different_others_run_no_cycle_twice() {
    let views: [fn(u64, u64) -> bool; 3] =
        [|me, who| me != who, |me, who| me != who && (me + who) % 2 == 0, |me, who| who > me];
    for blind in views {
        let mut cluster = Cluster { blind, ..Cluster::new(Duration::from_secs(3)) };
        let fates = (0..7).map(|who| (seconds(who), who, Fate::Comes)).collect();
        cluster.run(fates, seconds(20 * 30));
        cluster.check();
        let cycles: Vec<i64> = cluster.begun.iter().map(|(cycle, ..)| *cycle).collect();
        assert_eq!(cycles, (0..30).collect::<Vec<_>>(), "each once");
    }
}

fn fates(seed: u64, runners: u64, lasts: u64) -> Vec<(Timestamp, u64, Fate)> {
    let mut state = seed;
    let mut roll = move |sides: u64| {
        state = mix(state);
        (state >> 11) % sides
    };
    // One that is there all the time, so that somebody is.
    let mut fates = vec![(seconds(0), 0, Fate::Comes)];
    for who in 1..=runners {
        let mut at = roll(lasts / 2);
        fates.push((seconds(at), who, Fate::Comes));
        for _ in 0..roll(6) {
            at += 1 + roll(60);
            let stands = 1 + roll(60);
            fates.push((seconds(at), who, Fate::Stops));
            fates.push((seconds(at + stands), who, Fate::GoesOn));
            at += stands;
        }
        match roll(3) {
            0 => fates.push((seconds(at + 1 + roll(100)), who, Fate::Leaves)),
            1 => fates.push((seconds(at + 1 + roll(100)), who, Fate::Dies)),
            _ => {}
        }
    }
    fates
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        if std::env::var_os("ONCEWARD_PROVE").is_some() { 500 } else { 40 }
    ))]

    /// A1, A6: twenty runners that come, leave, die and stand still: never two terms, and each cycle has its row.
    #[test]
    fn svc_never_two(seed in any::<u64>(), took in 0_u64..45) {
        let mut cluster = Cluster::new(Duration::from_secs(took));
        cluster.run(fates(seed, 20, 1_000), seconds(1_200));
        cluster.check();
        let mut runs: BTreeMap<i64, usize> = BTreeMap::new();
        for (cycle, ..) in &cluster.begun {
            *runs.entry(*cycle).or_default() += 1;
        }
        let rows = |cycle: i64| cluster.terms.iter().filter(move |term| term.cycle == cycle).count();
        prop_assert!(runs.keys().all(|cycle| rows(*cycle) == 1));
        prop_assert!(cluster.begun.len() >= 1_200 / (20 + took as usize) / 2, "{:?}", cluster.begun);
    }
}
