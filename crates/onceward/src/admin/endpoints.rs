//! Looking at endpoints, and intervening.

use core::time::Duration;

use onceward_core::endpoint::{Endpoint, EventType};
use onceward_core::history::{Entry, Event, Subject};
use onceward_core::once::check_reason;
use onceward_core::{Code, EndpointName, Error, JobId, Result};
use onceward_store::{ListEndpoints, ListedEndpoints, RemoveEndpoint};

use super::{Admin, check_page};
use crate::endpoints::{Resealed, change, list, lookup, resealed, sealed_key, unknown, unreadable, version};
use crate::http_jobs::{HttpJob, SealKeys};
use crate::webhook::Secret;

/// The event that [`Admin::test_endpoint`] tells of.
const TEST: &str = "endpoint.test";
/// How often a removal is tried that meets changes.
const ROUNDS: usize = 20;

impl Admin {
    /// The endpoints of this namespace, by name: a page. Those that can't be read are named beside the others.
    ///
    /// # Errors
    /// [`PageInvalid`](Code::PageInvalid), and those of an unreachable store.
    pub async fn endpoints(&self, after: Option<&EndpointName>, limit: usize) -> Result<ListedEndpoints> {
        let (namespace, limit) = (self.client.namespace.clone(), check_page(limit)?);
        let ask = ListEndpoints { namespace, names: None, after: after.cloned(), limit };
        self.client.store().endpoint_list(&ask).await
    }

    /// An endpoint.
    ///
    /// # Errors
    /// [`EndpointUnknown`](Code::EndpointUnknown), [`RowUnreadable`](Code::RowUnreadable), and those of an unreachable
    /// store.
    pub async fn endpoint(&self, name: &EndpointName) -> Result<Endpoint> {
        lookup(&self.client, name).await.map(|(row, _)| row)
    }

    /// What has happened to an endpoint, the newest first: when and why it was added, changed, disabled.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn endpoint_history(&self, name: &EndpointName, limit: usize) -> Result<Vec<Entry>> {
        self.history(Subject::Endpoint, name.as_str(), limit).await
    }

    /// Sends an endpoint nothing more until it is enabled again; what is enqueued for it waits. `false` if it was
    /// disabled before.
    ///
    /// # Errors
    /// [`EndpointUnknown`](Code::EndpointUnknown), [`EndpointMoved`](Code::EndpointMoved),
    /// [`ReasonMissing`](Code::ReasonMissing), and those of an unreachable store.
    pub async fn disable_endpoint(&self, name: &EndpointName, reason: Option<&str>) -> Result<bool> {
        reason.map_or(Ok(()), check_reason)?;
        let to = change(&self.client, name, &self.actor, |row, now| {
            let row = row.ok_or_else(|| unknown(&self.client, name))?;
            let told = (Some(Event::Disabled), reason.map(str::to_owned));
            Ok(row.disabled(&self.actor, reason, now).map(|row| (row, told)))
        });
        Ok(to.await?.is_some())
    }

    /// Sends an endpoint something again, and forgets how it has failed. `false` if it was enabled before.
    ///
    /// # Errors
    /// As [`disable_endpoint`](Self::disable_endpoint).
    pub async fn enable_endpoint(&self, name: &EndpointName, reason: Option<&str>) -> Result<bool> {
        reason.map_or(Ok(()), check_reason)?;
        let to = change(&self.client, name, &self.actor, |row, _| {
            let row = row.ok_or_else(|| unknown(&self.client, name))?;
            Ok(row.enabled().map(|row| (row, (Some(Event::Enabled), reason.map(str::to_owned)))))
        });
        Ok(to.await?.is_some())
    }

    /// Gives an endpoint a new secret. For `overlap` the old one signs beside it, so that receivers can change over: at
    /// most 30 days, and not at all with zero, where the old one has become known.
    ///
    /// # Errors
    /// As [`disable_endpoint`](Self::disable_endpoint), and [`EndpointInvalid`](Code::EndpointInvalid) where too many
    /// would sign or for too long.
    pub async fn rotate_endpoint(
        &self,
        name: &EndpointName,
        secret: &Secret,
        overlap: Duration,
        keys: &SealKeys,
    ) -> Result<Endpoint> {
        let to = change(&self.client, name, &self.actor, |row, now| {
            let row = row.ok_or_else(|| unknown(&self.client, name))?;
            let key = sealed_key(secret, keys, (&row.namespace, &row.name), now)?;
            Ok(Some((row.rotated(key, overlap, now)?, (Some(Event::Rotated), None))))
        });
        to.await?.ok_or_else(|| Error::new(Code::EndpointMoved, "the endpoint has just been changed"))
    }

    /// Encrypts the secrets of all endpoints of this namespace that are encrypted under an older key anew, under the
    /// first of `keys`; the others have to be among them. Afterwards the older ones can be put away, once what is
    /// enqueued with secret headers of its own has been sent. It stands in the history of each endpoint. Where it is
    /// not possible, the endpoint stays as it is, and the others go on. `dry_run`: nothing is written.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn reseal_endpoints(&self, keys: &SealKeys, dry_run: bool) -> Result<Resealed> {
        const WHY: &str = "its secrets were encrypted anew, under another key";
        let found = list(&self.client, None).await?;
        let mut all = Resealed::default();
        all.failed.extend(found.unreadable.into_iter().map(|(name, _)| {
            let error = unreadable(&name);
            (name, error)
        }));
        for row in found.rows {
            let count = match resealed(&row, keys, found.now) {
                Ok(Some((_, count))) => count,
                Ok(None) => {
                    all.unchanged += 1;
                    continue;
                }
                Err(error) => {
                    all.failed.push((row.name, error));
                    continue;
                }
            };
            if !dry_run {
                let to = change(&self.client, &row.name, &self.actor, |row, now| {
                    let next = row.map_or(Ok(None), |row| resealed(row, keys, now))?;
                    Ok(next.map(|(row, _)| (row, (Some(Event::Changed), Some(WHY.to_owned())))))
                });
                match to.await {
                    Ok(Some(_)) => {}
                    // Somebody has removed it meanwhile, or has done the same.
                    Ok(None) => {
                        all.unchanged += 1;
                        continue;
                    }
                    Err(error) if error.is_retryable() => return Err(error),
                    Err(error) => {
                        all.failed.push((row.name, error));
                        continue;
                    }
                }
            }
            all.changed.push((row.name, count));
        }
        Ok(all)
    }

    /// Removes an endpoint. What is enqueued for it is dead when it is taken up, and can be replayed once there is an
    /// endpoint of the name again.
    ///
    /// # Errors
    /// As [`disable_endpoint`](Self::disable_endpoint).
    pub async fn remove_endpoint(&self, name: &EndpointName, reason: Option<&str>) -> Result<()> {
        self.client.check_open()?;
        reason.map_or(Ok(()), check_reason)?;
        for _ in 0..ROUNDS {
            let ask = RemoveEndpoint {
                namespace: self.client.namespace.clone(),
                name: name.clone(),
                version: version(&self.client, name).await?,
                actor: self.actor.clone(),
                reason: reason.map(str::to_owned),
            };
            if self.client.store().endpoint_remove(&ask).await? {
                return Ok(());
            }
        }
        let why = format!("the endpoint {:?} is being changed all the time", name.as_str());
        Err(Error::new(Code::EndpointMoved, why))
    }

    /// Enqueues a request to an endpoint that tells of the event `endpoint.test`, whatever events it is set to.
    ///
    /// # Errors
    /// [`EndpointUnknown`](Code::EndpointUnknown), and those of an unreachable store.
    pub async fn test_endpoint(&self, name: &EndpointName) -> Result<JobId> {
        let row = self.endpoint(name).await?;
        let body = serde_json::json!({ "type": TEST, "endpoint": name });
        let job = HttpJob::to_endpoint(name.as_str()).event(&EventType::new(TEST)?).json(&body);
        let enqueue = self.client.enqueue_http(job).queue(&row.setting.queue).max_attempts(1);
        Ok(enqueue.await?.id)
    }
}
