//! Acting on what triggers have heard, beside the scheduler and as its leader.
//!
//! Being the leader only saves work. What follows is written by the statement that removes what it follows from, under
//! the version of the trigger that was looked at: a second one, paused in the middle and gone on with, writes nothing.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use onceward_core::service::bell_key;
use onceward_core::trigger::{Heard, Trigger};
use onceward_core::{Code, Error, Result, ServiceName, Timestamp, TriggerName, backoff};
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
/// How long a trigger is put aside that could not be written: what it has heard comes first, and would be all that is
/// seen.
const PUT_ASIDE: Duration = Duration::from_secs(5);
/// How soon one looks again after a hint.
const AFTER_HINT: Duration = Duration::from_millis(50);

/// Acts on what is heard until the term is over.
pub(crate) async fn lead(client: &Onceward, term: &Term) {
    let line = client.inner.switchboard.line(&client.namespace, &bell_key(&ServiceName::from_row(NAME)));
    let mut ears = Ears::new(vec![line], AFTER_HINT, LOOK_AGAIN);
    let (mut failures, mut aside) = (0_u32, Aside::default());
    while term.check().is_ok() {
        let heard = ears.heard();
        let pause = match round(client, &|| term.check(), &mut aside).await {
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
    let round = round(client, &|| Ok(()), &mut Aside::default()).await?;
    round.failed.map_or(Ok(round.heard > 0), Err)
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
    /// Why a trigger could not be written.
    #[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "tests ask for it"))]
    failed: Option<Error>,
}

/// Triggers that stand before no other one.
#[derive(Default)]
struct Aside {
    /// Those that can't be read.
    deaf: BTreeSet<TriggerName>,
    /// Those that could not be written, until when.
    failing: BTreeMap<TriggerName, Instant>,
}

impl Aside {
    /// Whose hearing is not looked at now.
    fn names(&mut self) -> Vec<TriggerName> {
        let now = Instant::now();
        self.failing.retain(|_, until| *until > now);
        self.deaf.iter().chain(self.failing.keys()).cloned().collect()
    }

    fn put(&mut self, trigger: TriggerName, error: &Error) {
        tracing::warn!(%trigger, %error, "what a trigger has heard could not be acted on and will be tried again");
        self.failing.insert(trigger, Instant::now() + PUT_ASIDE);
    }
}

/// Whether it may go on.
type Check<'a> = &'a (dyn Fn() -> Result<()> + Send + Sync);

/// One look: acts on what was heard.
async fn round(client: &Onceward, check: Check<'_>, aside: &mut Aside) -> Result<Round> {
    let except = aside.names();
    let page = HeardTriggers { namespace: client.namespace.clone(), except, limit: PAGE };
    let seen = client.store().trigger_heard(&page).await?;
    let names: BTreeSet<TriggerName> = seen.rows.iter().map(|row| row.trigger.clone()).collect();
    if names.is_empty() {
        // What could not be read may be readable by now.
        aside.deaf.clear();
        return Ok(Round { heard: 0, more: false, listening: seen.listening, failed: None });
    }
    let (namespace, limit) = (client.namespace.clone(), names.len());
    let ask = ListTriggers { namespace, names: Some(names.iter().cloned().collect()), after: None, limit };
    let found = client.store().trigger_list(&ask).await?;
    // Once more, now that the versions are known: what somebody else has acted on before them is gone, and who acts on
    // it from now on changes the version.
    let seen = client.store().trigger_heard(&page).await?;
    let (heard, listening) = (seen.rows.len(), seen.listening);
    let mut of: BTreeMap<TriggerName, Vec<Heard>> = BTreeMap::new();
    for row in seen.rows.into_iter().filter(|row| names.contains(&row.trigger)) {
        of.entry(row.trigger.clone()).or_default().push(row);
    }
    for (name, _) in found.unreadable {
        let code = Code::RowUnreadable.as_str();
        tracing::error!(trigger = %name, code, "a trigger can't be read; nothing is enqueued by it");
        of.remove(&name);
        aside.deaf.insert(name);
    }
    // One that can't be written stands before no other one.
    let mut failed = None;
    for row in found.rows {
        let Some(heard) = of.remove(&row.name) else { continue };
        check()?;
        let name = row.name.clone();
        if let Err(error) = fire(client, row, &heard, found.now).await {
            aside.put(name, &error);
            failed = Some(error);
        }
    }
    for name in of.into_keys() {
        // Somebody has removed it at the same moment.
        if let Err(error) = client.store().trigger_remove(&client.namespace, &name, 0).await {
            aside.put(name, &error);
            failed = Some(error);
        }
    }
    Ok(Round { heard, more: heard >= PAGE, listening, failed })
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
