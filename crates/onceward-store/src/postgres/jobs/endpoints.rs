//! Endpoints: rows that are written under a version, and what is told of them.

use async_trait::async_trait;
use onceward_core::endpoint::Endpoint;
use onceward_core::{EndpointName, Result};

use super::super::link::Call;
use super::super::live::Param;
use super::super::row::Columns;
use super::super::{Inner, PostgresStore, limit};
use crate::store::{EndpointStore, ListEndpoints, ListedEndpoints, RemoveEndpoint, WriteEndpoint};

impl Inner {
    async fn endpoint_list(&self, ask: &ListEndpoints) -> Result<ListedEndpoints> {
        let names: Option<Vec<&str>> =
            ask.names.as_ref().map(|names| names.iter().map(EndpointName::as_str).collect());
        let after = ask.after.as_ref().map(EndpointName::as_str);
        let params: &[Param<'_>] = &[&ask.namespace.as_str(), &names, &after, &limit(ask.limit)];
        let call = Call { verb: "endpoint.list", statement: &self.sql.endpoint_list, params, rows: 1 };
        let mut page = ListedEndpoints::default();
        for row in self.read.read(&call).await? {
            let mut columns = Columns::of(&row);
            page.now = columns.time()?;
            let Some(name) = columns.get::<Option<&str>>()?.map(EndpointName::from_row) else { continue };
            let (version, text) = (columns.get()?, columns.get::<&str>()?);
            match Endpoint::from_row(ask.namespace.clone(), name.clone(), version, text) {
                Some(row) => page.rows.push(row),
                None => page.unreadable.push((name, version)),
            }
        }
        Ok(page)
    }

    async fn endpoint_write(&self, ask: &WriteEndpoint) -> Result<bool> {
        let row = &ask.row;
        let event = ask.event.map(onceward_core::history::Event::as_str);
        let params: &[Param<'_>] = &[
            &row.namespace.as_str(),
            &row.name.as_str(),
            &row.version,
            &row.to_text(),
            &event,
            &ask.actor.as_str(),
            &ask.reason,
        ];
        let call = Call { verb: "endpoint.write", statement: &self.sql.endpoint_write, params, rows: 1 };
        Ok(!self.admin.write(&call).await?.is_empty())
    }

    async fn endpoint_remove(&self, ask: &RemoveEndpoint) -> Result<bool> {
        let params: &[Param<'_>] =
            &[&ask.namespace.as_str(), &ask.name.as_str(), &ask.version, &ask.actor.as_str(), &ask.reason];
        let call = Call { verb: "endpoint.remove", statement: &self.sql.endpoint_remove, params, rows: 1 };
        Ok(!self.admin.write(&call).await?.is_empty())
    }
}

#[async_trait]
impl EndpointStore for PostgresStore {
    async fn endpoint_list(&self, ask: &ListEndpoints) -> Result<ListedEndpoints> {
        self.inner.endpoint_list(ask).await
    }

    async fn endpoint_write(&self, ask: &WriteEndpoint) -> Result<bool> {
        self.inner.endpoint_write(ask).await
    }

    async fn endpoint_remove(&self, ask: &RemoveEndpoint) -> Result<bool> {
        self.inner.endpoint_remove(ask).await
    }
}
