//! Many jobs of one caller: they are a batch already, and go to the store as such.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use onceward_core::{Code, Error, Result, job, limits};

use super::Lanes;
use super::verbs::{enqueue_marks, enqueue_weight};
use crate::{Enqueued, insist};

/// The most jobs of one statement.
const CHUNK_ROWS_MAX: usize = 1_000;

/// Enqueues each of the jobs. Once the store can't be reached, what was not sent by then is not sent any more.
pub(super) async fn enqueue(lanes: &Lanes, jobs: Vec<job::New>) -> Vec<Result<Enqueued>> {
    let at_once = lanes.store.capabilities().batches_max();
    let away = OnceLock::new();
    let sends = chunks(jobs).into_iter().map(|chunk| send(lanes, chunk, &away));
    let answers: Vec<Vec<Result<Enqueued>>> = stream::iter(sends).buffered(at_once).collect().await;
    answers.into_iter().flatten().collect()
}

/// One statement's worth each, in order; what must not meet is in different ones.
fn chunks(jobs: Vec<job::New>) -> Vec<Vec<job::New>> {
    let hasher = RandomState::new();
    let (mut chunks, mut chunk, mut bytes, mut seen) = (Vec::new(), Vec::new(), 0, HashSet::new());
    for job in jobs {
        let weight = enqueue_weight(&job);
        let marks = enqueue_marks(&job, &hasher);
        let full = chunk.len() >= CHUNK_ROWS_MAX || bytes + weight > limits::BATCH_BYTES_MAX;
        let meets = marks.iter().flatten().any(|mark| seen.contains(mark));
        if !chunk.is_empty() && (full || meets) {
            chunks.push(core::mem::take(&mut chunk));
            bytes = 0;
            seen.clear();
        }
        bytes += weight;
        seen.extend(marks.into_iter().flatten());
        chunk.push(job);
    }
    chunks.push(chunk);
    chunks.retain(|chunk| !chunk.is_empty());
    chunks
}

async fn send(lanes: &Lanes, chunk: Vec<job::New>, away: &OnceLock<()>) -> Vec<Result<Enqueued>> {
    if away.get().is_some() {
        let why = "the store could not be reached for the jobs before this one; it was not sent";
        return chunk.iter().map(|_| Err(Error::new(Code::StoreUnavailable, why))).collect();
    }
    // Whether some of them may be there since a try that failed: then no later one is sure that they are not.
    let unsure = AtomicBool::new(false);
    let told = |error: Error| if unsure.load(Ordering::SeqCst) { error.uncertain() } else { error };
    match insist(lanes.deadline, || whole(lanes, &chunk, &unsure)).await {
        Ok(Some(answers)) => answers.into_iter().map(Ok).collect(),
        // One of them is locked, or refused: the lane finds out which, and the others go ahead (laws 1 and 2).
        Ok(None) => {
            let one = async |job| lanes.enqueue(job).await.map_err(told);
            join_all(chunk.iter().cloned().map(one)).await
        }
        Err(error) => {
            away.get_or_init(|| ());
            let error = told(error);
            chunk.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

/// Sends a chunk as it is; `None` where it can't go as a whole.
fn whole<'a>(
    lanes: &'a Lanes,
    chunk: &'a [job::New],
    unsure: &'a AtomicBool,
) -> futures_util::future::BoxFuture<'a, Result<Option<Vec<Enqueued>>>> {
    Box::pin(async move {
        let answer = lanes.store.job_enqueue(chunk).await;
        unsure.fetch_or(answer.as_ref().is_err_and(Error::is_uncertain), Ordering::SeqCst);
        match answer {
            Ok(answers) => Ok(Some(answers)),
            Err(error) if error.is_retryable() && error.code() != Code::KeyLocked => Err(error),
            Err(_) if chunk.len() > 1 => Ok(None),
            Err(error) => Err(error),
        }
    })
}
