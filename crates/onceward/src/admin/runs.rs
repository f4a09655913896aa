//! Looking at the runs of durable functions.

use onceward_core::job::{Move, Moved};
use onceward_core::run::Entry;
use onceward_core::{Code, Error, JobId, Result, Token};
use onceward_store::{JobRef, LoadRun};

use super::Admin;

impl Admin {
    /// Pauses a run: nobody takes it up, whatever arrives for it waits, and times that come meanwhile count once it is
    /// resumed. One that runs is told at the next renewal of its worker's session, at once where that is in this
    /// process: it begins nothing any more, and is given back when the steps have ended whose bodies are running. Its
    /// children go on. `true` if it rests already, `false` if its worker still has to hear of it. One that is paused
    /// stays so.
    ///
    /// # Errors
    /// [`RunUnknown`](Code::RunUnknown); [`RunEnded`](Code::RunEnded); [`ReasonMissing`](Code::ReasonMissing) for a
    /// reason that is empty or too long; those of an unreachable store.
    pub async fn pause_run(&self, id: JobId, reason: Option<&str>) -> Result<bool> {
        let moved = self.move_run(id, None, Move::Pause, reason, false).await?;
        if moved == Moved::Noted {
            self.client.inner.hot.pause([id]);
        }
        Ok(moved != Moved::Noted)
    }

    /// Lets a run go on that is paused. What has arrived for it is there, and what has become due is due now.
    ///
    /// # Errors
    /// As [`pause_run`](Self::pause_run).
    pub async fn resume_run(&self, id: JobId, reason: Option<&str>) -> Result<()> {
        self.move_run(id, None, Move::Resume, reason, false).await.map(drop)
    }

    pub(crate) async fn move_run(
        &self,
        id: JobId,
        token: Option<Token>,
        to: Move,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<Moved> {
        match self.ask_to_move(id, token, to, reason, dry_run).await? {
            moved @ (Moved::Applied { .. } | Moved::Noted | Moved::Unchanged | Moved::Begun) => Ok(moved),
            Moved::Wrong(state) if state.is_final() => {
                Err(Error::new(Code::RunEnded, format!("run {id} has ended: {state}")))
            }
            Moved::Running => Err(Error::new(Code::JobStateWrong, format!("run {id} is running"))),
            Moved::KeyTaken(other) => Err(super::jobs::key_taken(other)),
            Moved::Stale(token) => {
                let why = format!("run {id} has moved on: its token is {token} now");
                Err(Error::new(Code::TokenStale, why))
            }
            // A job that is no run.
            Moved::Absent | Moved::Wrong(_) => Err(crate::durable::absent(id)),
        }
    }

    /// A part of the journal of a run, in order, from an entry on: what it has asked for, and what came of it.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn journal(&self, run: JobId, from: u32, limit: usize) -> Result<Vec<Entry>> {
        let run = JobRef { namespace: self.client.namespace.clone(), id: run };
        let mut parts = self.client.store().run_load(&[LoadRun { run, from, limit }]).await?;
        Ok(parts.pop().unwrap_or_default())
    }

    /// Forgets the journals of runs that are forgotten themselves, all of them; how many.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn prune_runs(&self) -> Result<u64> {
        let (mut gone, mut after) = (0, None);
        loop {
            let (round, last) = self.client.store().run_prune(after.as_ref(), 1_000).await?;
            gone += round;
            if last.is_none() {
                return Ok(gone);
            }
            after = last;
        }
    }
}
