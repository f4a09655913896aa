//! Many jobs at once.

use onceward_core::Result;
use onceward_core::job::New;

use super::builder::look_at_existing;
use super::{Enqueue, Enqueued, Job};
use crate::bells::News;
use crate::client::Onceward;

/// What [`enqueue_many`](Onceward::enqueue_many) takes: jobs, or jobs with something said about each.
pub trait IntoEnqueue {
    /// The job, being enqueued by `client`.
    fn into_enqueue(self, client: &Onceward) -> Enqueue;
}

impl<J: Job> IntoEnqueue for J {
    fn into_enqueue(self, client: &Onceward) -> Enqueue {
        client.enqueue(self)
    }
}

impl IntoEnqueue for Enqueue {
    fn into_enqueue(self, _client: &Onceward) -> Enqueue {
        self
    }
}

#[cfg(feature = "http-jobs")]
impl IntoEnqueue for crate::http_jobs::HttpJob {
    fn into_enqueue(self, client: &Onceward) -> Enqueue {
        client.enqueue_http(self)
    }
}

/// The answer of each job: whether one was refused says nothing of the others.
pub(crate) async fn enqueue_each<J: IntoEnqueue>(
    client: &Onceward,
    jobs: impl IntoIterator<Item = J>,
) -> Result<Vec<Result<Enqueued>>> {
    // All are checked before anything is sent.
    let finish = |job: J| job.into_enqueue(client).finish().map(|(_, new)| new);
    let jobs: Vec<New> = jobs.into_iter().map(finish).collect::<Result<_>>()?;
    client.check_open()?;
    let now = client.clock().wall();
    let mut news: Vec<News> = jobs.iter().map(|new| News::of(new, now)).collect();
    news.sort_unstable();
    news.dedup();
    let answers = client.inner.lanes.enqueue_each(jobs).await.into_iter();
    news.iter().for_each(|news| client.inner.bells.tell(news));
    let answers = answers.map(|answer| Enqueued::of(answer.map_err(|error| error.at("job.enqueue"))?));
    let mut answers: Vec<Result<Enqueued>> = answers.collect();
    look_at_existing(client, answers.iter_mut().flatten()).await;
    Ok(answers)
}

/// The answers of all, or the first error.
pub(crate) async fn enqueue_many<J: IntoEnqueue>(
    client: &Onceward,
    jobs: impl IntoIterator<Item = J>,
) -> Result<Vec<Enqueued>> {
    enqueue_each(client, jobs).await?.into_iter().collect()
}
