//! Reading endpoints, and changing one however many do so at the same time.

use onceward_core::endpoint::Endpoint;
use onceward_core::history::Event;
use onceward_core::{Code, EndpointName, Error, Owner, Result, Timestamp, limits};
use onceward_store::{ListEndpoints, ListedEndpoints, WriteEndpoint};

use crate::client::Onceward;

/// How often a change is tried that meets others.
const ROUNDS: usize = 20;

/// What is told of a change: what has happened, and why.
pub(crate) type Told = (Option<Event>, Option<String>);

/// The endpoints of these names, or all of them; read page by page.
pub(crate) async fn list(client: &Onceward, names: Option<&[EndpointName]>) -> Result<ListedEndpoints> {
    let (mut all, mut found) = (ListedEndpoints::default(), 0);
    loop {
        let after = all.last().cloned();
        let first = after.is_none();
        let (namespace, limit) = (client.namespace.clone(), limits::PAGE_ROWS_MAX);
        let ask = ListEndpoints { namespace, names: names.map(<[_]>::to_vec), after, limit };
        let page = client.store().endpoint_list(&ask).await?;
        found += page.found();
        let is_all = names.is_some_and(|names| found >= names.len());
        let is_last = page.found() < limit || is_all;
        if first {
            all.now = page.now;
        }
        all.rows.extend(page.rows);
        all.unreadable.extend(page.unreadable);
        if is_last {
            return Ok(all);
        }
    }
}

/// An endpoint and the store's clock.
pub(crate) async fn lookup(client: &Onceward, name: &EndpointName) -> Result<(Endpoint, Timestamp)> {
    let (row, now) = find(client, name).await?;
    Ok((row.ok_or_else(|| unknown(client, name))?, now))
}

/// What is said of an endpoint that is not there.
pub(crate) fn unknown(client: &Onceward, name: &EndpointName) -> Error {
    let (namespace, name) = (client.namespace.as_str(), name.as_str());
    Error::new(Code::EndpointUnknown, format!("there is no endpoint {name:?} in the namespace {namespace:?}"))
}

/// What is said of an endpoint whose row is damaged, or was written by a newer program.
pub(crate) fn unreadable(name: &EndpointName) -> Error {
    let name = name.as_str();
    let why = format!(
        "the endpoint {name:?} can't be read by this program: use a newer one, or remove it and add it again"
    );
    Error::new(Code::RowUnreadable, why)
}

async fn find(client: &Onceward, name: &EndpointName) -> Result<(Option<Endpoint>, Timestamp)> {
    let found = list(client, Some(core::slice::from_ref(name))).await?;
    if !found.unreadable.is_empty() {
        return Err(unreadable(name));
    }
    Ok((found.rows.into_iter().next(), found.now))
}

/// The version of an endpoint, also of one that can't be read.
pub(crate) async fn version(client: &Onceward, name: &EndpointName) -> Result<i64> {
    let found = list(client, Some(core::slice::from_ref(name))).await?;
    let damaged = found.unreadable.first().map(|(_, version)| *version);
    damaged.or_else(|| found.rows.first().map(|row| row.version)).ok_or_else(|| unknown(client, name))
}

/// Changes an endpoint; the row as it stands, if there was anything to change.
pub(crate) async fn change(
    client: &Onceward,
    name: &EndpointName,
    actor: &Owner,
    change: impl Fn(Option<&Endpoint>, Timestamp) -> Result<Option<(Endpoint, Told)>> + Send + Sync,
) -> Result<Option<Endpoint>> {
    client.check_open()?;
    for _ in 0..ROUNDS {
        let (row, now) = find(client, name).await?;
        let Some((row, (event, reason))) = change(row.as_ref(), now)? else { return Ok(None) };
        let ask = WriteEndpoint { row, event, actor: actor.clone(), reason };
        if client.store().endpoint_write(&ask).await? {
            let version = ask.row.version + 1;
            return Ok(Some(Endpoint { version, ..ask.row }));
        }
    }
    let why = format!("the endpoint {:?} is being changed all the time", name.as_str());
    Err(Error::new(Code::EndpointMoved, why))
}
