//! Changing a trigger: declaring, pausing, resuming, removing.

use onceward_core::service::bell_key;
use onceward_core::trigger::Trigger;
use onceward_core::{Code, Error, Result, ServiceName, Timestamp, TriggerName};
use onceward_store::{ListTriggers, ListedTriggers, WriteTrigger};

use crate::client::Onceward;

/// How often a change is tried that meets others. A trigger that fires is changed each time.
const ROUNDS: usize = 50;

/// A trigger.
pub(crate) async fn lookup(client: &Onceward, name: &TriggerName) -> Result<Trigger> {
    find(client, name).await?.0.ok_or_else(|| unknown(client, name))
}

fn unknown(client: &Onceward, name: &TriggerName) -> Error {
    let namespace = client.namespace.as_str();
    let why = format!("there is no trigger {:?} in the namespace {namespace:?}", name.as_str());
    Error::new(Code::TriggerUnknown, why)
}

async fn read(client: &Onceward, name: &TriggerName) -> Result<ListedTriggers> {
    let ask = ListTriggers {
        namespace: client.namespace.clone(),
        names: Some(vec![name.clone()]),
        after: None,
        limit: 1,
    };
    client.store().trigger_list(&ask).await
}

async fn find(client: &Onceward, name: &TriggerName) -> Result<(Option<Trigger>, Timestamp)> {
    let found = read(client, name).await?;
    if !found.unreadable.is_empty() {
        let why = format!(
            "the trigger {:?} can't be read by this program: use a newer one, or remove it and declare it again",
            name.as_str()
        );
        return Err(Error::new(Code::RowUnreadable, why));
    }
    Ok((found.rows.into_iter().next(), found.now))
}

/// Changes a trigger and what it listens to, however many do so at the same time; whether there was anything to change.
pub(crate) async fn change(
    client: &Onceward,
    name: &TriggerName,
    change: impl Fn(Option<&Trigger>, Timestamp) -> Result<Option<Trigger>> + Send + Sync,
) -> Result<bool> {
    client.check_open()?;
    for _ in 0..ROUNDS {
        let (row, now) = find(client, name).await?;
        let Some(row) = change(row.as_ref(), now)? else { return Ok(false) };
        let ask = WriteTrigger { row, listens: true, heard: Vec::new(), jobs: Vec::new() };
        if client.store().trigger_write(&ask).await? {
            ring(client).await;
            return Ok(true);
        }
    }
    Err(moved(name))
}

fn moved(name: &TriggerName) -> Error {
    Error::new(Code::TriggerMoved, format!("the trigger {:?} is being changed all the time", name.as_str()))
}

/// Makes whoever acts on triggers look, wherever it is.
async fn ring(client: &Onceward) {
    let scheduler = ServiceName::from_row(crate::schedule::NAME);
    client.inner.switchboard.ring(&client.namespace, &bell_key(&scheduler));
    if let Err(error) = client.store().service_ring(&client.namespace, &scheduler).await {
        tracing::debug!(%error, "whoever acts on triggers could not be told; it looks by itself");
    }
}

/// Removes a trigger and what it has heard; its jobs stay.
pub(crate) async fn remove(client: &Onceward, name: &TriggerName) -> Result<()> {
    client.check_open()?;
    for _ in 0..ROUNDS {
        let found = read(client, name).await?;
        let unreadable = found.unreadable.first().map(|(_, version)| *version);
        let version = unreadable.or_else(|| found.rows.first().map(|row| row.version));
        let version = version.ok_or_else(|| unknown(client, name))?;
        if client.store().trigger_remove(&client.namespace, name, version).await? {
            return Ok(());
        }
    }
    Err(moved(name))
}
