//! The verbs of endpoints. They are written under a version: who has seen another one is refused and looks again. What
//! may become of them is decided by `onceward_core::endpoint`.

use async_trait::async_trait;
use onceward_core::endpoint::Endpoint;
use onceward_core::history::Event;
use onceward_core::{EndpointName, Namespace, Owner, Result, Timestamp};

/// A page of endpoints, by name.
#[derive(Clone, Debug)]
pub struct ListEndpoints {
    /// The namespace.
    pub namespace: Namespace,
    /// Only these.
    pub names: Option<Vec<EndpointName>>,
    /// Only what comes after this one.
    pub after: Option<EndpointName>,
    /// How many at most; 1 to [`onceward_core::limits::PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// A page of endpoints.
#[derive(Clone, Debug, Default)]
pub struct ListedEndpoints {
    /// The store's clock.
    pub now: Timestamp,
    /// What was found, by name.
    pub rows: Vec<Endpoint>,
    /// What was found and can't be read, each with its version; they count in the limit.
    pub unreadable: Vec<(EndpointName, i64)>,
}

impl ListedEndpoints {
    /// How many were found.
    pub fn found(&self) -> usize {
        self.rows.len() + self.unreadable.len()
    }

    /// The last name that was found: the next page comes after it.
    pub fn last(&self) -> Option<&EndpointName> {
        self.rows.last().map(|row| &row.name).max(self.unreadable.last().map(|(name, _)| name))
    }
}

/// Writes an endpoint, if it still has the version that was seen (0 where there was none), and with it what is told of
/// that in the history.
#[derive(Clone, Debug)]
pub struct WriteEndpoint {
    /// What is to stand there, under the version that was seen.
    pub row: Endpoint,
    /// What has happened; nothing where a worker only counts failures.
    pub event: Option<Event>,
    /// Who does it.
    pub actor: Owner,
    /// Why.
    pub reason: Option<String>,
}

/// Removes an endpoint of this version. Its deliveries stay.
#[derive(Clone, Debug)]
pub struct RemoveEndpoint {
    /// The namespace.
    pub namespace: Namespace,
    /// Which one.
    pub name: EndpointName,
    /// The version that was seen.
    pub version: i64,
    /// Who does it.
    pub actor: Owner,
    /// Why.
    pub reason: Option<String>,
}

/// Where endpoints are kept. The contract of [`Store`](super::Store) holds here as well.
#[async_trait]
pub trait EndpointStore: Send + Sync + 'static {
    /// A page of endpoints.
    async fn endpoint_list(&self, ask: &ListEndpoints) -> Result<ListedEndpoints>;
    /// Writes an endpoint; `false` where it has another version.
    async fn endpoint_write(&self, ask: &WriteEndpoint) -> Result<bool>;
    /// Removes an endpoint; `false` where there is none of this version.
    async fn endpoint_remove(&self, ask: &RemoveEndpoint) -> Result<bool>;
}
