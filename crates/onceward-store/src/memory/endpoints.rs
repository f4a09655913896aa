//! Endpoints in the memory model.

use async_trait::async_trait;
use onceward_core::endpoint::Endpoint;
use onceward_core::history::{Entry, Event, Subject};
use onceward_core::{EndpointName, Key, Namespace, Owner, Result, Timestamp, Token};

use super::{MemoryStore, Tables};
use crate::store::{EndpointStore, ListEndpoints, ListedEndpoints, RemoveEndpoint, WriteEndpoint};

impl Tables {
    fn write_endpoint(&mut self, ask: &WriteEndpoint, now: Timestamp) -> bool {
        let name = (ask.row.namespace.clone(), ask.row.name.clone());
        let seen = self.endpoints.get(&name).map_or(0, |row| row.version);
        if seen != ask.row.version {
            return false;
        }
        let version = seen + 1;
        if let Some(event) = ask.event {
            self.log_endpoint(&name, event, version, &ask.actor, ask.reason.clone(), now);
        }
        self.endpoints.insert(name, Endpoint { version, ..ask.row.clone() });
        true
    }

    fn remove_endpoint(&mut self, ask: &RemoveEndpoint, now: Timestamp) -> bool {
        let name = (ask.namespace.clone(), ask.name.clone());
        let same = self.endpoints.get(&name).is_some_and(|row| row.version == ask.version);
        if same {
            self.endpoints.remove(&name);
            self.log_endpoint(&name, Event::Removed, ask.version, &ask.actor, ask.reason.clone(), now);
        }
        same
    }

    fn log_endpoint(
        &mut self,
        (namespace, name): &(Namespace, EndpointName),
        event: Event,
        version: i64,
        actor: &Owner,
        reason: Option<String>,
        at: Timestamp,
    ) {
        let entry = Entry {
            subject: Subject::Endpoint,
            namespace: namespace.clone(),
            key: Key::from_row(name.as_str()),
            event,
            token: Token::from_row(version),
            actor: actor.as_str().to_owned(),
            at,
            reason,
        };
        self.log(entry, None);
    }
}

#[async_trait]
impl EndpointStore for MemoryStore {
    async fn endpoint_list(&self, ask: &ListEndpoints) -> Result<ListedEndpoints> {
        Ok(self.verb(|tables, now| {
            let wanted = |row: &&Endpoint| {
                row.namespace == ask.namespace
                    && ask.names.as_ref().is_none_or(|names| names.contains(&row.name))
                    && ask.after.as_ref().is_none_or(|after| row.name > *after)
            };
            let rows = tables.endpoints.values().filter(wanted).take(ask.limit).cloned().collect();
            ListedEndpoints { now, rows, unreadable: Vec::new() }
        }))
    }

    async fn endpoint_write(&self, ask: &WriteEndpoint) -> Result<bool> {
        Ok(self.verb(|tables, now| tables.write_endpoint(ask, now)))
    }

    async fn endpoint_remove(&self, ask: &RemoveEndpoint) -> Result<bool> {
        Ok(self.verb(|tables, now| tables.remove_endpoint(ask, now)))
    }
}
