//! The verbs of runs, past what the script says.

use async_trait::async_trait;
use onceward_core::Result;
use onceward_core::run::{Arrival, Entry};

use super::{Faulty, Verb};
use crate::store::{
    AppendRuns, Appended, ContinueRun, ForkRun, JobRef, LoadRun, NoteArrivals, RunStore, TellRun, Told, Woken,
};

#[async_trait]
impl RunStore for Faulty {
    async fn run_append(&self, ask: &AppendRuns) -> Result<Appended> {
        read!(self, RunAppend, run_append, ask)
    }

    async fn run_continue(&self, batch: &[ContinueRun]) -> Result<Vec<bool>> {
        read!(self, RunContinue, run_continue, batch)
    }

    async fn run_load(&self, asks: &[LoadRun]) -> Result<Vec<Vec<Entry>>> {
        read!(self, RunLoad, run_load, asks)
    }

    async fn run_arrived(&self, runs: &[JobRef]) -> Result<Vec<Vec<Arrival>>> {
        read!(self, RunArrived, run_arrived, runs)
    }

    async fn run_tell(&self, batch: &[TellRun]) -> Result<Vec<Told>> {
        read!(self, RunTell, run_tell, batch)
    }

    async fn run_note(&self, batch: &[NoteArrivals]) -> Result<()> {
        read!(self, RunNote, run_note, batch)
    }

    async fn run_wake(&self) -> Result<Woken> {
        let store = self.inner.clone();
        self.call(Verb::RunWake, None, async move { store.run_wake().await }).await
    }

    async fn run_fork(&self, batch: &[ForkRun]) -> Result<bool> {
        read!(self, RunFork, run_fork, batch)
    }

    async fn run_prune(&self, after: Option<&JobRef>, limit: usize) -> Result<(u64, Option<JobRef>)> {
        let (store, after) = (self.inner.clone(), after.cloned());
        self.call(Verb::RunPrune, None, async move { store.run_prune(after.as_ref(), limit).await }).await
    }
}
