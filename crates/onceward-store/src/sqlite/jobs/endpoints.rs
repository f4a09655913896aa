//! Endpoints: rows that are written under a version, and what is told of them.

use async_trait::async_trait;
use onceward_core::endpoint::Endpoint;
use onceward_core::history::Event;
use onceward_core::{EndpointName, Owner, Result as Answer};
use rusqlite::{Result, params};

use super::super::SqliteStore;
use super::super::statements::SQL;
use super::{Jobs, rows};
use crate::{EndpointStore, ListEndpoints, ListedEndpoints, RemoveEndpoint, WriteEndpoint};

impl Jobs<'_> {
    fn list_endpoints(&self, ask: &ListEndpoints) -> Result<ListedEndpoints> {
        let mut names: Vec<Option<&str>> = vec![None];
        if let Some(asked) = &ask.names {
            names = asked.iter().map(|name| Some(name.as_str())).collect();
            names.sort_unstable();
            names.dedup();
        }
        let after = ask.after.as_ref().map(EndpointName::as_str);
        let mut page = ListedEndpoints { now: self.now.wall, ..ListedEndpoints::default() };
        let mut list = self.at.prepare_cached(SQL.endpoint_list)?;
        for name in names {
            let left = i64::try_from(ask.limit.saturating_sub(page.found())).unwrap_or(i64::MAX);
            let found = list.query_map(params![ask.namespace.as_str(), name, after, left], |row| {
                let (name, version) = (EndpointName::from_row(rows::text(row, 0)?), row.get(1)?);
                let text = rows::text(row, 2)?;
                let read = Endpoint::from_row(ask.namespace.clone(), name.clone(), version, text);
                Ok(read.ok_or((name, version)))
            })?;
            for row in found {
                match row? {
                    Ok(row) => page.rows.push(row),
                    Err(unreadable) => page.unreadable.push(unreadable),
                }
            }
        }
        Ok(page)
    }

    fn write_endpoint(&self, ask: &WriteEndpoint) -> Result<bool> {
        let row = &ask.row;
        let (namespace, name, text) = (row.namespace.as_str(), row.name.as_str(), row.to_text());
        let written = match row.version {
            0 => self.at.prepare_cached(SQL.endpoint_make)?.execute(params![namespace, name, text])?,
            version => self
                .at
                .prepare_cached(SQL.endpoint_change)?
                .execute(params![namespace, name, text, version])?,
        };
        if let Some(event) = ask.event.filter(|_| written == 1) {
            self.tell_endpoint(namespace, name, event, row.version + 1, &ask.actor, ask.reason.as_deref())?;
        }
        Ok(written == 1)
    }

    fn remove_endpoint(&self, ask: &RemoveEndpoint) -> Result<bool> {
        let (namespace, name) = (ask.namespace.as_str(), ask.name.as_str());
        let row = params![namespace, name, ask.version];
        let gone = self.at.prepare_cached(SQL.endpoint_remove)?.execute(row)? == 1;
        if gone {
            let reason = ask.reason.as_deref();
            self.tell_endpoint(namespace, name, Event::Removed, ask.version, &ask.actor, reason)?;
        }
        Ok(gone)
    }

    fn tell_endpoint(
        &self,
        namespace: &str,
        name: &str,
        event: Event,
        version: i64,
        actor: &Owner,
        reason: Option<&str>,
    ) -> Result<()> {
        let at = self.now.wall.as_micros();
        let row = params![namespace, name, event.as_str(), version, actor.as_str(), at, reason];
        self.at.prepare_cached(SQL.endpoint_told)?.execute(row)?;
        Ok(())
    }
}

#[async_trait]
impl EndpointStore for SqliteStore {
    async fn endpoint_list(&self, ask: &ListEndpoints) -> Answer<ListedEndpoints> {
        let ask = ask.clone();
        self.look("endpoint.list", move |jobs| jobs.list_endpoints(&ask)).await
    }

    async fn endpoint_write(&self, ask: &WriteEndpoint) -> Answer<bool> {
        let ask = ask.clone();
        self.jobs("endpoint.write", 2, move |jobs| jobs.write_endpoint(&ask)).await
    }

    async fn endpoint_remove(&self, ask: &RemoveEndpoint) -> Answer<bool> {
        let ask = ask.clone();
        self.jobs("endpoint.remove", 2, move |jobs| jobs.remove_endpoint(&ask)).await
    }
}
