//! Which jobs: the filters that listings and bulk actions have in common.

use onceward::{Code, Error, JobFilter, JobId, Kind, Queue, Result, Tag};
use onceward_core::job::State;

#[derive(Clone, Debug, clap::Args)]
#[group(id = "filter")]
pub(crate) struct Args {
    /// Only jobs in this state: scheduled, ready, running, retrying, succeeded, dead, cancelled or uncertain
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<State>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What is asked of jobs whatever their state.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "filter_common")]
pub(crate) struct Common {
    /// Only jobs of this queue
    #[arg(long, value_name = "QUEUE", value_parser = queue)]
    pub(crate) queue: Option<Queue>,
    /// Only jobs of this kind
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Option<Kind>,
    /// Only jobs with this tag
    #[arg(long, value_name = "TAG", value_parser = tag)]
    pub(crate) tag: Option<Tag>,
}

impl Args {
    pub(crate) fn filter(&self) -> JobFilter {
        self.common.filter(self.state)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.is_none() && self.common.is_empty()
    }
}

impl Common {
    pub(crate) fn filter(&self, state: Option<State>) -> JobFilter {
        let Self { queue, kind, tag } = self;
        JobFilter { state, queue: queue.clone(), kind: kind.clone(), tag: tag.clone() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none() && self.kind.is_none() && self.tag.is_none()
    }
}

pub(crate) fn state(text: &str) -> Result<State> {
    State::from_word(text).ok_or_else(|| {
        let words: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        Error::new(Code::UsageInvalid, format!("the state of a job is one of {}", words.join(", ")))
    })
}

pub(crate) fn id(text: &str) -> Result<JobId> {
    text.parse()
}

pub(crate) fn queue(text: &str) -> Result<Queue> {
    Queue::new(text)
}

pub(crate) fn kind(text: &str) -> Result<Kind> {
    Kind::new(text)
}

pub(crate) fn tag(text: &str) -> Result<Tag> {
    Tag::new(text)
}
