//! Acting on what triggers have heard, beside the scheduler and as its leader.
//!
//! Being the leader only saves work. What follows is written by the statement that removes what it follows from, under
//! the version of the trigger that was looked at: a second one, paused in the middle and gone on with, writes nothing.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use onceward_core::service::bell_key;
use onceward_core::trigger::{Heard, Trigger};
use onceward_core::{Code, Result, ServiceName, Timestamp, TriggerName, backoff};
use onceward_store::{HeardTriggers, ListTriggers, WriteTrigger};
use tokio::time::Instant;

use crate::client::Onceward;
use crate::ears::Ears;
use crate::schedule::NAME;
use crate::service::Term;

/// How much is read, and acted on, by one statement.
const PAGE: usize = 200;
/// How soon one looks again where a trigger listens.
const LISTENING: Duration = Duration::from_millis(500);
/// How soon one looks again where none does: one that was declared elsewhere, and nobody has told.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How soon one looks again after a hint.
const AFTER_HINT: Duration = Duration::from_millis(50);

/// Acts on what is heard until the term is over.
pub(crate) async fn lead(client: &Onceward, term: &Term) {
    let line = client.inner.switchboard.line(&client.namespace, &bell_key(&ServiceName::from_row(NAME)));
    let mut ears = Ears::new(vec![line], AFTER_HINT, LOOK_AGAIN);
    let (mut failures, mut deaf) = (0_u32, BTreeSet::new());
    while term.check().is_ok() {
        let heard = ears.heard();
        let pause = match round(client, &|| term.check(), &mut deaf).await {
            Ok(Round { more: true, .. }) => Duration::ZERO,
            Ok(round) => {
                failures = 0;
                if round.listening { LISTENING } else { LOOK_AGAIN }
            }
            Err(error) => {
                tracing::warn!(%error, "what triggers have heard could not be acted on and will be tried again");
                failures = failures.saturating_add(1);
                backoff::delay(failures, Duration::from_millis(100), LOOK_AGAIN, failures.into())
            }
        };
        term.progress();
        let until = Instant::now() + pause;
        tokio::select! {
            () = ears.wait(&heard, until, 1) => {}
            _ = term.cancelled() => return,
        }
    }
}

/// One round without a term: being the leader decides nothing.
#[cfg(feature = "testing")]
pub(crate) async fn fire_heard(client: &Onceward) -> Result<bool> {
    Ok(round(client, &|| Ok(()), &mut BTreeSet::new()).await?.heard > 0)
}

/// What came of a look.
struct Round {
    /// How much was heard.
    #[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "tests ask for it"))]
    heard: usize,
    /// Whether there is more.
    more: bool,
    /// Whether any trigger listens.
    listening: bool,
}

/// Whether it may go on.
type Check<'a> = &'a (dyn Fn() -> Result<()> + Send + Sync);

/// One look: acts on what was heard. `deaf` are the triggers that can't be read.
async fn round(client: &Onceward, check: Check<'_>, deaf: &mut BTreeSet<TriggerName>) -> Result<Round> {
    let except = deaf.iter().cloned().collect();
    let ask = HeardTriggers { namespace: client.namespace.clone(), except, limit: PAGE };
    let seen = client.store().trigger_heard(&ask).await?;
    let (heard, listening) = (seen.rows.len(), seen.listening);
    let mut of: BTreeMap<TriggerName, Vec<Heard>> = BTreeMap::new();
    for row in seen.rows {
        of.entry(row.trigger.clone()).or_default().push(row);
    }
    if of.is_empty() {
        // What could not be read may be readable by now.
        deaf.clear();
        return Ok(Round { heard, more: false, listening });
    }
    let names: Vec<TriggerName> = of.keys().cloned().collect();
    let (namespace, limit) = (client.namespace.clone(), names.len());
    let ask = ListTriggers { namespace, names: Some(names), after: None, limit };
    let found = client.store().trigger_list(&ask).await?;
    for (name, _) in found.unreadable {
        let code = Code::RowUnreadable.as_str();
        tracing::error!(trigger = %name, code, "a trigger can't be read; nothing is enqueued by it");
        of.remove(&name);
        deaf.insert(name);
    }
    // One that can't be written stands before no other one.
    let mut error = None;
    for row in found.rows {
        let heard = of.remove(&row.name).unwrap_or_default();
        check()?;
        if let Err(failed) = fire(client, row, &heard, found.now).await {
            error = Some(failed);
        }
    }
    for name in of.into_keys() {
        // Somebody has removed it at the same moment.
        if let Err(failed) = client.store().trigger_remove(&client.namespace, &name, 0).await {
            error = Some(failed);
        }
    }
    if let Some(error) = error {
        return Err(error);
    }
    Ok(Round { heard, more: heard >= PAGE, listening })
}

/// Writes what follows from what one trigger has heard. Where somebody was quicker, the next look shows what is left.
async fn fire(client: &Onceward, row: Trigger, heard: &[Heard], now: Timestamp) -> Result<()> {
    let fired = row.hear(heard, now);
    if fired.stopped > 0 {
        let (code, stopped) = (Code::TriggerLoop.as_str(), fired.stopped);
        tracing::error!(trigger = %row.name, code, stopped, "a loop of triggers was stopped");
    }
    let numbers = heard.iter().map(|one| one.number).collect();
    let ask = WriteTrigger { row: fired.row, listens: false, heard: numbers, jobs: fired.jobs };
    let ask = Arc::new(ask);
    if client.store().trigger_write(&ask).await? {
        for new in &ask.jobs {
            client.inner.bells.ring(&new.namespace, &new.queue);
        }
    }
    Ok(())
}
