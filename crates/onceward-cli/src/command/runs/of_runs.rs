//! Which runs: the filters that listings and bulk actions have in common.

use core::time::Duration;

use onceward::durable::Standing;
use onceward::{Code, Error, JobFilter, Kind, Queue, Result, RunFilter, Tag};
use onceward_core::job::State;

use crate::args::duration;
use crate::command::jobs::filter::{kind, queue, tag};

#[derive(Clone, Debug, clap::Args)]
#[group(id = "filter")]
pub(super) struct Args {
    /// Only runs of this function
    #[arg(long, value_name = "NAME", value_parser = kind)]
    function: Option<Kind>,
    /// Only runs that are pending, running, parked, stuck, paused, succeeded, failed, expired, cancelled or uncertain;
    /// or whose jobs are scheduled, ready, retrying or dead
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<Stands>,
    /// Only runs of this queue
    #[arg(long, value_name = "QUEUE", value_parser = queue)]
    queue: Option<Queue>,
    /// Only runs with this tag
    #[arg(long, value_name = "TAG", value_parser = tag)]
    tag: Option<Tag>,
    /// Only runs that were started at least this long ago
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Only runs that were started at most this long ago
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    newer_than: Option<Duration>,
}

/// How a run stands, in the words of runs or of jobs.
#[derive(Clone, Copy, Debug)]
enum Stands {
    Run(Standing),
    Job(State),
}

impl Args {
    pub(super) fn filter(&self) -> RunFilter {
        let Self { function, state, queue, tag, older_than, newer_than } = self.clone();
        let (standing, state) = match state {
            Some(Stands::Run(standing)) => (Some(standing), None),
            Some(Stands::Job(state)) => (None, Some(state)),
            None => (None, None),
        };
        RunFilter { standing, jobs: JobFilter { state, queue, kind: function, tag }, older_than, newer_than }
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { function, state, queue, tag, older_than, newer_than } = self;
        function.is_none()
            && state.is_none()
            && queue.is_none()
            && tag.is_none()
            && older_than.is_none()
            && newer_than.is_none()
    }
}

fn state(text: &str) -> Result<Stands> {
    let of_run = Standing::from_word(text).map(Stands::Run);
    of_run.or_else(|| State::from_word(text).map(Stands::Job)).ok_or_else(|| {
        let words: Vec<&str> = Standing::ALL.iter().map(|standing| standing.as_str()).collect();
        Error::new(Code::UsageInvalid, format!("the state of a run is one of {}", words.join(", ")))
    })
}
