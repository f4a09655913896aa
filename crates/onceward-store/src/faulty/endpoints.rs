//! The verbs of endpoints, past what the script says.

use async_trait::async_trait;
use onceward_core::Result;

use super::{Faulty, Verb};
use crate::store::{EndpointStore, ListEndpoints, ListedEndpoints, RemoveEndpoint, WriteEndpoint};

#[async_trait]
impl EndpointStore for Faulty {
    async fn endpoint_list(&self, ask: &ListEndpoints) -> Result<ListedEndpoints> {
        read!(self, EndpointList, endpoint_list, ask)
    }

    async fn endpoint_write(&self, ask: &WriteEndpoint) -> Result<bool> {
        read!(self, EndpointWrite, endpoint_write, ask)
    }

    async fn endpoint_remove(&self, ask: &RemoveEndpoint) -> Result<bool> {
        read!(self, EndpointRemove, endpoint_remove, ask)
    }
}
