//! Following a journal with the code of today, and doing nothing: would the run go on?

use core::fmt;
use core::panic::AssertUnwindSafe;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use onceward_core::run::{Diverged, Entry, Phase, Scope};
use onceward_core::{JobId, Kind};

use super::ambient::{Ambient, within};
use super::function::Durable;
use super::rest::{Came, Rounds, Woken};
use super::run::{Broken, Run};
use crate::worker::JobContext;

/// What the code of today makes of the journal of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It takes the way of the journal to its end, and would go on from there.
    Replays,
    /// It differs from the journal: the run would be stuck.
    Differs(Diverged),
    /// It can't be called at all, in these words: its arguments are of another type, it panics, or the journal is
    /// damaged.
    Fails(String),
    /// The worker does not know the function, or not in this version: others have to take the run.
    Unknown,
}

/// A run, held against the code of today.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Which run.
    pub run: JobId,
    /// Of which function.
    pub function: Kind,
    /// What came of it.
    pub verdict: Verdict,
    /// How many entries its journal has.
    pub entries: usize,
    /// Its journal, unless the run goes on, or waits for others: there may be many of those.
    pub journal: Vec<Entry>,
}

impl Checked {
    /// Whether the run goes on with the code of today.
    pub fn replays(&self) -> bool {
        self.verdict == Verdict::Replays
    }
}

/// In several lines where they differ: the journal around the place, and what the code asks for there.
impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (run, function, entries) = (self.run, self.function.as_str(), self.entries);
        match &self.verdict {
            Verdict::Replays => write!(f, "run {run} of {function} replays its {entries} entries"),
            Verdict::Unknown => {
                write!(f, "run {run} of {function} waits for a worker that knows the function")
            }
            Verdict::Fails(why) => write!(f, "run {run} of {function} can't go on: {why}"),
            Verdict::Differs(diverged) => {
                write!(f, "run {run} of {function} would be stuck: {diverged}")?;
                self.around(diverged, f)
            }
        }
    }
}

/// How many entries are shown before and after the place.
const AROUND: usize = 3;

impl Checked {
    fn around(&self, diverged: &Diverged, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at =
            self.journal.iter().position(|entry| entry.position == diverged.position).unwrap_or_default();
        let shown = self.journal.iter().skip(at.saturating_sub(AROUND)).take(2 * AROUND + 1);
        for entry in shown {
            let here = entry.position == diverged.position;
            write!(f, "\n  {} {}", if here { '-' } else { ' ' }, line(entry))?;
            if here && let (Some((op, name)), Phase::Ended(_)) = (&diverged.asked, &entry.phase) {
                write!(f, "\n  + {:>6}  {op} `{name}`", "code")?;
            }
        }
        Ok(())
    }
}

fn line(entry: &Entry) -> String {
    format!("{:>6}  {} `{}` {}", entry.position, entry.op, entry.name, entry.phase.word())
}

/// Follows a journal.
pub(crate) fn dry_run<D: Durable>(context: &JobContext, entries: Vec<Entry>) -> Verdict {
    let args = match context.decode::<D::Args>() {
        Ok(args) => args,
        Err(error) => return Verdict::Fails(error.to_string()),
    };
    let (client, record) = (context.client().clone(), context.job());
    let Some(run) = Run::new(client, record, context.token(), context.claimed_at(), entries, None) else {
        return Verdict::Fails("its journal has a gap: somebody has changed it".to_owned());
    };
    let run = Arc::new(run);
    let ambient = Ambient::In(Arc::clone(&run), Arc::new(Mutex::new(Scope::root())));
    let followed = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let called = within(ambient.clone(), || D::call(args, context));
        called.map(|mut code| {
            let verdict = follow(&run, |cx| within(ambient.clone(), || code.poll_unpin(cx).map(drop)));
            // What it waits for is not given up.
            run.close();
            verdict
        })
    }));
    match followed {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Verdict::Fails(error.to_string()),
        Err(_) => Verdict::Fails("it panics on its way through the journal".to_owned()),
    }
}

/// Polls the code until it is at the end of its journal, or will never be.
fn follow(run: &Run, mut code: impl FnMut(&mut Context<'_>) -> Poll<()>) -> Verdict {
    let (woken, mut rounds) = (Woken::of(&Context::from_waker(Waker::noop())), Rounds::default());
    loop {
        let came = rounds.poll(&woken, &mut code);
        if let Some(broken) = run.broken() {
            return verdict(&broken);
        }
        match came {
            Came::Ended(()) => {
                run.has_ended_early();
                return run.broken().map_or(Verdict::Replays, |broken| verdict(&broken));
            }
            Came::Rests if !run.deliver() => {
                return run.go_live().map_or(Verdict::Replays, |broken| verdict(&broken));
            }
            Came::Rests | Came::Restless => {}
        }
    }
}

fn verdict(broken: &Broken) -> Verdict {
    match broken {
        Broken::Diverged(diverged) => Verdict::Differs(diverged.clone()),
        Broken::TooLong => Verdict::Fails("its journal is full".to_owned()),
    }
}
