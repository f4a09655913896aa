//! One term: the lease, the row of the cycle, the work, and its end.

use core::sync::atomic::{AtomicI64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use onceward_core::service::slot::{Usage, usage};
use onceward_core::service::{Begin, Mode, Outcome, lease_key};
use onceward_core::{Result, SessionId, duration, lease, limits};
use onceward_store::{BeginTerm, Begun, EndTerm, PruneTerms, insist};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::builder::Service;
use super::keep::told;
use super::served::Shared;
use super::term::{Inner, Stopped, Term};

/// What came of trying to run a term.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// It was run.
    Ended,
    /// It was begun, and somebody else goes on with it.
    HandedOver,
    /// Somebody else has the lease, or has it by now.
    Held,
    /// The cycle is somebody else's, or its time is over.
    Taken,
}

/// Every how many cycles the oldest terms of a service are forgotten by who has run one: also where nobody runs upkeep.
const PRUNE_EVERY: i64 = 64;
/// How long a store is asked for an answer about a term that may have begun.
const INSIST: Duration = Duration::from_secs(5);
/// How many are looked at then: what has come since the last time, and as much of what is left from before.
const PRUNE_ROWS: usize = 256;
/// How long work may go on that was dropped, before it counts as stuck.
const STUCK: Duration = Duration::from_secs(2);

pub(super) async fn run(
    shared: &Arc<Shared>,
    service: &Arc<Service>,
    me: SessionId,
    begin: &Begin,
) -> Result<Ran> {
    let ttl = service.options.ttl.unwrap_or_else(|| service.spec.ttl());
    let metadata = format!("cycle {}", begin.cycle);
    let ask = shared.client.lease(lease_key(&service.name)).ttl(ttl).lock_delay(service.options.lock_delay);
    let Some(lease) = ask.metadata(metadata).acquire().await? else { return Ok(Ran::Held) };
    let cycle = match service.spec.mode {
        Mode::Leader => lease.token().get(),
        Mode::Cycle | Mode::PerRunner => begin.cycle,
    };
    let ask = BeginTerm {
        namespace: shared.client.namespace.clone(),
        service: service.name.clone(),
        cycle,
        part: begin.part.clone(),
        due_at: begin.due_at,
        not_after: begin.not_after,
        session: me,
        owner: shared.client.owner.clone(),
        token: lease.token(),
    };
    let store = shared.client.store();
    // By the store's clock, as far as it was known when this was decided; the one of this host may be wrong.
    let until = Instant::now() + begin.left;
    let begun = insist(INSIST.min(ttl), || store.service_begin(&ask)).await;
    if !matches!(begun, Ok(Begun::Begun)) {
        if let Err(error) = lease.release().await {
            tracing::debug!(%error, "the lease of a term that did not begin runs out by itself");
        }
        // Who has lost the lease on the way knows nothing of the cycle: it may have no row yet.
        return begun.map(|begun| if begun == Begun::Fenced { Ran::Held } else { Ran::Taken });
    }
    let clock = Arc::clone(shared.client.clock());
    let term = Term {
        inner: Arc::new(Inner {
            service: service.name.clone(),
            cycle,
            part: begin.part.clone(),
            due_at: begin.due_at,
            lease,
            progressed: AtomicI64::new(clock.boottime().as_micros()),
            clock,
            stopped: watch::Sender::new(None),
        }),
    };
    tracing::debug!(service = %service.name, cycle, token = %term.token(), "a term begins");
    let started = Instant::now();
    let (ending, stuck) = work(shared, service, &term, begin.slot).await;
    let (outcome, reason) = match service.spec.mode {
        Mode::Leader => ending,
        Mode::Cycle | Mode::PerRunner => with_usage(ending, started.elapsed(), begin.slot),
    };
    let over = Instant::now() >= until;
    let keeps = stays_closed(outcome, stuck.is_some(), service.options.lock_delay);
    end(shared, &ask, term, (outcome, reason), over, keeps).await;
    if let Some(stuck) = stuck {
        outlast(shared, stuck).await;
    }
    if cycle % PRUNE_EVERY == 0 {
        prune(shared, service).await;
    }
    Ok(if outcome == Outcome::HandedOver { Ran::HandedOver } else { Ran::Ended })
}

/// Whether the lease of a term is left to run out, and not given back: where a lock delay was asked for, nobody begins
/// beside what may still go on.
fn stays_closed(outcome: Outcome, is_stuck: bool, lock_delay: Duration) -> bool {
    outcome == Outcome::Lost || (is_stuck && !lock_delay.is_zero())
}

async fn prune(shared: &Shared, service: &Service) {
    let of = Some((shared.client.namespace.clone(), service.name.clone()));
    let ask = PruneTerms { of, older_than: limits::TERMS_RETAIN_DEFAULT, limit: PRUNE_ROWS };
    if let Err(error) = shared.client.store().service_prune(&ask).await {
        tracing::debug!(%error, "old terms could not be forgotten and will be again");
    }
}

/// How a term ended, and why.
type End = (Outcome, Option<String>);
/// Work that goes on although it was dropped.
type Stuck = JoinHandle<Option<String>>;

/// Does the work, and says how it ended.
async fn work(shared: &Shared, service: &Service, term: &Term, slot: Duration) -> (End, Option<Stuck>) {
    let started = Instant::now();
    let mut work = tokio::spawn((service.work)(term.clone()));
    let mut leaving = shared.leaving.clone();
    let (stalled, late) = (stall(service, term), warn_of_overrun(service, term, started, slot));
    let (mut stalled, mut late) = (core::pin::pin!(stalled), core::pin::pin!(late));
    let mut warned = false;
    let why = loop {
        tokio::select! {
            biased;
            why = term.inner.lease.lost() => break Stopped::Lost(why),
            ended = &mut work => return (ending(service, ended, None), None),
            () = &mut stalled => break Stopped::Stalled,
            () = told(&mut leaving) => break Stopped::Leaving,
            () = &mut late, if !warned => warned = true,
        }
    };
    term.stop(why);
    let grace = match why {
        // Another runner may begin when the lease runs out: by then the work has to be over (A2, A3).
        Stopped::Lost(_) => lease::trust_margin(term.inner.lease.ttl()) / 2,
        Stopped::Leaving => service.options.grace,
        Stopped::Stalled => STUCK / 2,
    };
    let lost = async {
        match why {
            Stopped::Lost(_) => core::future::pending().await,
            Stopped::Leaving | Stopped::Stalled => drop(term.inner.lease.lost().await),
        }
    };
    let ended = tokio::select! {
        biased;
        ended = &mut work => Some(ended),
        () = sleep(grace) => None,
        () = lost => None,
    };
    // A lease that is lost meanwhile is lost, whatever the work was told before.
    let why = || term.inner.lease.lost_because().map_or(why, Stopped::Lost);
    if let Some(ended) = ended {
        return (ending(service, ended, Some(why())), None);
    }
    work.abort();
    if timeout(STUCK, &mut work).await.is_ok() {
        return (ended_by(why()), None);
    }
    // What still goes on is fenced. Without a lock delay the lease is given back: the service is not stuck as well.
    stuck(shared, service, term);
    (ended_by(why()), Some(work))
}

/// Waits for work that goes on: until it has ended, this process begins no other term of its service.
async fn outlast(shared: &Shared, stuck: Stuck) {
    let mut leaving = shared.leaving.clone();
    tokio::select! {
        _ = stuck => {
            shared.stuck.fetch_sub(1, Ordering::SeqCst);
        }
        () = told(&mut leaving) => {}
    }
}

/// How the work ended, where it did so by itself.
fn ending(
    service: &Service,
    ended: core::result::Result<Option<String>, tokio::task::JoinError>,
    why: Option<Stopped>,
) -> End {
    match (ended, why) {
        // What it has done since may be done again; and the work of a leader is never done.
        (Ok(None), Some(why @ Stopped::Lost(_))) => ended_by(why),
        (Ok(None), Some(why)) if service.spec.mode == Mode::Leader => ended_by(why),
        (Ok(None), _) => (Outcome::Done, None),
        (Ok(Some(_)), Some(why)) => ended_by(why),
        (Ok(Some(error)), None) => (Outcome::Failed, Some(error)),
        (Err(error), _) if error.is_panic() => (Outcome::Failed, Some("its work panicked".to_owned())),
        (Err(_), why) => ended_by(why.unwrap_or(Stopped::Leaving)),
    }
}

/// What is kept with the end of a term that was near the end of its slot, or beyond it.
fn with_usage((outcome, reason): End, took: Duration, slot: Duration) -> End {
    let shown = duration::format(whole(slot));
    let used = match usage(took, slot) {
        Usage::Overran(by) => format!("it overran its slot of {shown} by {}", duration::format(whole(by))),
        Usage::Near(per_cent) => format!("it took {per_cent} % of its slot of {shown}"),
        Usage::Fine => return (outcome, reason),
    };
    let reason = match (outcome, reason) {
        (Outcome::Done, None) => Some(used),
        (Outcome::Failed, Some(reason)) => Some(format!("{reason}; {used}")),
        (_, reason) => reason,
    };
    (outcome, reason)
}

/// In whole milliseconds.
fn whole(span: Duration) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn ended_by(why: Stopped) -> End {
    let outcome = match why {
        Stopped::Lost(_) => Outcome::Lost,
        Stopped::Leaving => Outcome::HandedOver,
        Stopped::Stalled => Outcome::Failed,
    };
    (outcome, Some(why.to_string()))
}

/// Records the end, gives the lease back unless it is to stay closed, and tells others that may wait.
async fn end(
    shared: &Shared,
    begun: &BeginTerm,
    term: Term,
    (outcome, reason): End,
    over: bool,
    keeps: bool,
) {
    let store = shared.client.store();
    let ask = EndTerm {
        namespace: begun.namespace.clone(),
        service: begun.service.clone(),
        cycle: begun.cycle,
        part: begun.part.clone(),
        token: begun.token,
        outcome,
        reason: reason.map(|reason| onceward_core::once::cut(&reason, limits::REASON_BYTES_MAX)),
    };
    // Of an overrun it was told while it ran.
    if let Some(reason) = ask.reason.as_ref().filter(|_| outcome != Outcome::Done) {
        let (service, cycle, outcome) = (&ask.service, ask.cycle, outcome.as_str());
        tracing::warn!(%service, cycle, outcome, %reason, "a term has ended");
    }
    match insist(INSIST, || store.service_end(&ask)).await {
        Ok(true) => {}
        Ok(false) => tracing::debug!(cycle = ask.cycle, "the end of a term was recorded by somebody else"),
        Err(error) => tracing::warn!(%error, "the end of a term could not be recorded; it counts as lost"),
    }
    if keeps {
        term.inner.lease.let_run_out();
    } else if let Err(error) = give_back(term).await {
        tracing::debug!(%error, "the lease of a term could not be released and runs out by itself");
    }
    if (over || outcome == Outcome::HandedOver || begun.cycle == begun.token.get())
        && let Err(error) = store.service_ring(&ask.namespace, &ask.service).await
    {
        tracing::debug!(%error, "other runners could not be told; they look by themselves");
    }
}

/// Gives the lease back; also where the work, or something it has started, keeps the term.
async fn give_back(term: Term) -> Result<bool> {
    match Arc::try_unwrap(term.inner) {
        Ok(inner) => inner.lease.release().await,
        Err(inner) => inner.lease.give_back().await,
    }
}

/// Comes when the work has not said for too long that it gets on.
async fn stall(service: &Service, term: &Term) {
    let Some(after) = service.options.stall_after else { return core::future::pending().await };
    loop {
        let quiet = term.quiet();
        if quiet >= after {
            return;
        }
        sleep(after - quiet).await;
    }
}

/// Warns while the work is still going on: near the end of its slot, and after it.
async fn warn_of_overrun(service: &Service, term: &Term, started: Instant, slot: Duration) {
    if service.spec.mode == Mode::Leader {
        return core::future::pending().await;
    }
    let (name, cycle) = (&service.name, term.cycle());
    for part in [slot.mul_f64(0.8), slot] {
        sleep_until(started + part + Duration::from_millis(1)).await;
        match usage(started.elapsed(), slot) {
            Usage::Overran(by) => {
                tracing::warn!(service = %name, cycle, ?slot, ?by, "a term overruns its slot");
            }
            Usage::Near(per_cent) => {
                tracing::info!(service = %name, cycle, ?slot, per_cent, "a term nears the end of its slot");
            }
            Usage::Fine => {}
        }
    }
}

/// Work that goes on although it was dropped blocks its thread: nothing in this process can end it.
fn stuck(shared: &Shared, service: &Service, term: &Term) {
    shared.stuck.fetch_add(1, Ordering::SeqCst);
    tracing::error!(
        service = %service.name,
        cycle = term.cycle(),
        "the work of a term ignores that it has to stop; the process should be replaced"
    );
    if service.options.abort_when_stuck {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_term_has_fared_in_its_slot_is_kept_with_its_end() {
        let seconds = Duration::from_secs;
        let kept = |ending, took| with_usage(ending, seconds(took), seconds(20)).1;
        assert_eq!(kept((Outcome::Done, None), 16), None);
        assert_eq!(kept((Outcome::Done, None), 17).as_deref(), Some("it took 85 % of its slot of 20s"));
        assert_eq!(kept((Outcome::Done, None), 23).as_deref(), Some("it overran its slot of 20s by 3s"));
        let failed = kept((Outcome::Failed, Some("the disk is full".to_owned())), 23);
        assert_eq!(failed.as_deref(), Some("the disk is full; it overran its slot of 20s by 3s"));
        let lost = kept((Outcome::Lost, Some("its lease is lost".to_owned())), 23);
        assert_eq!(lost.as_deref(), Some("its lease is lost"), "how long it took says nothing of that one");
    }
}
