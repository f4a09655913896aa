//! One service in one runner: looks, records what it sees, and does what the rules say.

use core::time::Duration;
use std::sync::Arc;

use onceward_core::service::{self, Asked, Mode, Next, Outcome, Plan, Setting, View};
use onceward_core::{Result, SessionId, Timestamp, backoff, limits};
use onceward_store::{EndTerm, LookService, MissTerm, ServiceView};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::builder::{Service, change, declare};
use super::run;
use super::served::Shared;
use crate::client::Onceward;

/// How long is waited at most before one looks again, whatever was planned: clocks may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);
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
    let switchboard = &client.inner.switchboard;
    let asked = switchboard.line(&client.namespace, &service::bell_key(&service.name));
    let freed = switchboard.line(&client.namespace, &service::lease_key(&service.name));
    let (mut leaving, mut session) = (shared.leaving.clone(), shared.session.clone());
    let mut failures = 0_u32;
    loop {
        if *leaving.borrow() {
            return;
        }
        // Before the look: what happens from now on is either seen by it or heard.
        let mut asked = core::pin::pin!(asked.bell.notified());
        let mut freed = core::pin::pin!(freed.bell.notified());
        asked.as_mut().enable();
        freed.as_mut().enable();
        let me = *session.borrow_and_update();
        let looked = Instant::now();
        let step = match me {
            Some(me) => step(&shared, &service, me).await,
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
            () = sleep_until(until) => {}
            () = asked => sleep_until(until.min(looked + AFTER_HINT)).await,
            () = freed, if on_release => sleep_until(until.min(looked + AFTER_HINT)).await,
            _ = session.changed() => {}
            () = told(&mut leaving) => return,
        }
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

async fn step(shared: &Arc<Shared>, service: &Arc<Service>, me: SessionId) -> Result<Step> {
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
    let runners = service::order(view.runners.clone(), view.now);
    let (now, held) = (view.now, view.held);
    let seen_now = View { now, setting: &record.setting, runners: &runners, terms: &view.terms, held };
    let plan = service::plan(&seen_now, me);
    write_down(shared, service, &plan).await?;
    clear_away(shared, &view).await;
    match plan.next {
        Next::Begin(begin) => {
            let begun = run::run(shared, service, me, &begin).await?;
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
        Next::Look { at, on_release } => Ok(Step::Wait(seen + wait(&view, at), on_release)),
    }
}

/// Takes a term that was asked for off the list: it is over, whoever has run it.
async fn answered(client: &Onceward, service: &Service, part: &str) -> Result<()> {
    let answered = |setting: Option<&Setting>, _| Ok(setting.and_then(|setting| setting.answered(part)));
    change(client, &service.name, answered).await.map(drop)
}

/// How long it is until then, by the store's clock.
fn wait(view: &ServiceView, at: Timestamp) -> Duration {
    at.since(view.now).clamp(Duration::from_millis(1), LOOK_AGAIN)
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
