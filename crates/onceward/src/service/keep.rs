//! One service in one runner: looks, records what it sees, and does what the rules say.

use core::time::Duration;
use std::sync::Arc;

use onceward_core::service::{self, Asked, Mode, Next, Outcome, Plan, Setting, View};
use onceward_core::{Result, SessionId, Timestamp, backoff, limits};
use onceward_store::{EndTerm, LookService, MissTerm, ServiceView};
use tokio::sync::watch;
use tokio::time::Instant;

use super::builder::{Service, change, declare};
use super::run;
use super::served::Shared;
use crate::client::Onceward;
use crate::ears::Ears;

/// How often a process looks at its services where it can't hear what others do, and how often rumours make it look:
/// all services of a process share that, so that it costs the same however many there are.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long is waited at most before one looks again, whatever was planned and however well one hears: hints get lost,
/// and clocks may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How soon one looks again after a hint: hints may come in hundreds.
const AFTER_HINT: Duration = Duration::from_millis(100);
/// How soon one looks again after the cycle was somebody else's.
const AFTER_TAKEN: Duration = Duration::from_millis(500);
/// How soon one asks again for a lease that only a step of the clock explains.
const AFTER_POISON: Duration = Duration::from_millis(500);
/// How many of the newest terms are looked at; where each runner has its own, as many as a page has.
const TERMS: usize = 16;

/// Runs a service until the runner leaves.
pub(super) async fn keep(shared: Arc<Shared>, service: Arc<Service>) {
    let client = &shared.client;
    let line = |key| client.inner.switchboard.line(&client.namespace, &key);
    let lines = vec![line(service::bell_key(&service.name)), line(service::lease_key(&service.name))];
    let mut ears = Ears::new(lines, AFTER_HINT, pace(&shared, &service));
    let (mut leaving, mut session) = (shared.leaving.clone(), shared.session.clone());
    let (mut failures, mut memory) = (0_u32, Memory::default());
    loop {
        if *leaving.borrow() {
            return;
        }
        let heard = ears.heard();
        let me = *session.borrow_and_update();
        let looked = Instant::now();
        let step = match me {
            Some(me) => step(&shared, &service, me, &mut memory).await,
            None => Ok(Step::Wait(looked + Duration::from_secs(1), false)),
        };
        let (until, on_release) = match step {
            Ok(Step::Again) => {
                failures = 0;
                continue;
            }
            Ok(Step::Wait(until, on_release)) => {
                failures = 0;
                (until, on_release)
            }
            Err(error) => {
                tracing::warn!(service = %service.name, %error, "a runner could not look and will look again");
                let (first, cap) = (Duration::from_millis(100), Duration::from_secs(5));
                let pause = backoff::delay(failures, first, cap, failures.into());
                failures = failures.saturating_add(1);
                (Instant::now() + pause, false)
            }
        };
        tokio::select! {
            () = ears.wait(&heard, until, if on_release { 2 } else { 1 }) => {}
            _ = session.changed() => {}
            () = told(&mut leaving) => return,
        }
    }
}

/// How long it is between two looks at a service of this process where nothing else says when.
fn look_every(shared: &Shared) -> Duration {
    LOOK_EVERY.saturating_mul(shared.count).min(LOOK_AGAIN)
}

/// How often rumours make a runner look at a service. Where cycles are short it looks more often anyway.
fn pace(shared: &Shared, service: &Service) -> Duration {
    let pace = look_every(shared);
    match service.spec.mode {
        Mode::Leader => pace,
        Mode::Cycle | Mode::PerRunner => pace.min((service.spec.every / 2).max(AFTER_HINT)),
    }
}

/// Comes when the runner leaves.
pub(super) async fn told(leaving: &mut watch::Receiver<bool>) {
    // Nobody left to say so is as good as said.
    drop(leaving.wait_for(|leaving| *leaving).await);
}

/// What follows from a look.
pub(super) enum Step {
    /// Looking again at once.
    Again,
    /// Looking again then, or when the lease is free.
    Wait(Instant, bool),
}

/// What a process remembers of a service from one look to the next.
#[derive(Default)]
struct Memory {
    /// The last cycle that it has begun.
    began: Option<i64>,
    /// As what another program has declared the service, where that was told.
    other: Option<Mode>,
}

/// One look, and what follows from it.
async fn step(
    shared: &Arc<Shared>,
    service: &Arc<Service>,
    me: SessionId,
    memory: &mut Memory,
) -> Result<Step> {
    let client = &shared.client;
    let terms = if service.spec.mode == Mode::PerRunner { limits::PAGE_ROWS_MAX } else { TERMS };
    let ask = LookService { namespace: client.namespace.clone(), name: service.name.clone(), terms };
    let view = client.store().service_look(&ask).await?;
    let seen = Instant::now();
    let Some(record) = &view.record else {
        // Somebody has emptied the store under us.
        declare(client, &service.name, &service.spec).await?;
        return Ok(Step::Again);
    };
    if is_another(service, record.setting.spec.mode, &mut memory.other) {
        return Ok(Step::Wait(seen + look_every(shared), false));
    }
    let drained = view.runners.iter().any(|runner| runner.session == me && runner.draining);
    let runners = service::order(view.runners.clone(), view.now);
    let (now, held) = (view.now, view.held);
    let seen_now = View { now, setting: &record.setting, runners: &runners, terms: &view.terms, held };
    let plan = service::plan_after(&seen_now, me, memory.began);
    write_down(shared, service, &plan).await?;
    clear_away(shared, &view).await;
    match plan.next {
        Next::Begin(begin) => {
            let begun = run::run(shared, service, me, &begin).await?;
            if begun == run::Ran::Ended && !Asked::is_part(&begin.part) {
                memory.began = Some(begin.cycle);
            }
            if Asked::is_part(&begin.part) && matches!(begun, run::Ran::Ended | run::Ran::Taken) {
                answered(client, service, &begin.part).await?;
            }
            Ok(match begun {
                run::Ran::Ended | run::Ran::HandedOver => Step::Again,
                // Its lease will not run out: whether it is still renewed shows when it is asked for again.
                run::Ran::Held if held.is_some_and(|held| held.is_poisoned) => {
                    Step::Wait(seen + AFTER_POISON, true)
                }
                // Somebody was quicker; what the next look shows depends on how far he is.
                run::Ran::Held => Step::Wait(seen + AFTER_HINT, true),
                run::Ran::Taken => Step::Wait(seen + AFTER_TAKEN, true),
            })
        }
        // Whoever lets it begin again does not tell, and is not in a hurry.
        Next::Look { .. } if drained => Ok(Step::Wait(seen + look_every(shared), false)),
        Next::Look { at, on_release } => Ok(Step::Wait(seen + wait(shared, &view, at), on_release)),
    }
}

/// Whether another program has declared the service in another mode since: its cycles mean something else, and terms of
/// both would spoil each other. The last declaration counts; this process waits until it agrees again.
fn is_another(service: &Service, declared: Mode, told: &mut Option<Mode>) -> bool {
    let (is_another, mode) = (declared != service.spec.mode, service.spec.mode);
    if is_another && *told != Some(declared) {
        let what = "another program runs a service otherwise; this one begins nothing of it";
        tracing::warn!(service = %service.name, ?mode, ?declared, "{what}");
    }
    *told = is_another.then_some(declared);
    is_another
}

/// Takes a term that was asked for off the list: it is over, whoever has run it.
async fn answered(client: &Onceward, service: &Service, part: &str) -> Result<()> {
    let answered = |setting: Option<&Setting>, _| Ok(setting.and_then(|setting| setting.answered(part)));
    change(client, &service.name, answered).await.map(drop)
}

/// How long it is until then, by the store's clock.
fn wait(shared: &Shared, view: &ServiceView, at: Timestamp) -> Duration {
    let is_heard = shared.client.store().capabilities().is_heard;
    let at_most = if is_heard { LOOK_AGAIN } else { look_every(shared) };
    at.since(view.now).clamp(Duration::from_millis(1), at_most)
}

/// How long sessions that have run out may lie about where no worker clears them away.
const LITTER: Duration = Duration::from_secs(60);

/// Clears lost sessions away, as workers do, where there seem to be none.
async fn clear_away(shared: &Shared, view: &ServiceView) {
    if view.runners.iter().all(|runner| runner.expires_at.after(LITTER) > view.now) {
        return;
    }
    if let Err(error) = shared.client.store().job_rescue(limits::PAGE_ROWS_MAX).await {
        tracing::debug!(%error, "lost sessions could not be cleared away and will be again");
    }
}

/// Records what the look has shown: terms that have lost their lease, and cycles that nobody began.
async fn write_down(shared: &Shared, service: &Service, plan: &Plan) -> Result<()> {
    let (namespace, store) = (&shared.client.namespace, shared.client.store());
    for (cycle, part, token) in &plan.lost {
        let end = EndTerm {
            namespace: namespace.clone(),
            service: service.name.clone(),
            cycle: *cycle,
            part: part.clone(),
            token: *token,
            outcome: Outcome::Lost,
            reason: Some("its lease ran out or was broken before it had ended".to_owned()),
        };
        if store.service_end(&end).await? {
            tracing::warn!(service = %service.name, cycle, "the term of a runner was lost");
        }
    }
    if plan.missed.is_empty() {
        return Ok(());
    }
    let missed = plan.missed.iter().map(|miss| MissTerm {
        namespace: namespace.clone(),
        service: service.name.clone(),
        miss: miss.clone(),
    });
    store.service_miss(&missed.collect::<Vec<_>>()).await?;
    let cycles: i64 = plan.missed.iter().map(|miss| miss.cycles).sum();
    tracing::warn!(service = %service.name, cycles, "cycles of a service were missed");
    Ok(())
}
