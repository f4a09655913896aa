//! The store in a SQLite file: one thread that writes, two that read, several processes at once.
//!
//! The way of a call: [`SqliteStore`] → a queue (`queue`) → the writing thread (`writer`), which does
//! everything that waits in one transaction, or a reading one (`reader`) → the verbs (`lease`, `once`,
//! `upkeep`) → the statements in `sql/sqlite/`. Claims first ask a reader: what is refused or replayed
//! costs no write lock.
//!
//! Promised for processes on one host. A claim's time is measured on the boot clock, which they all share
//! (`clocks`, `trust`); the file must be local and stay the same (`place`).

mod clocks;
mod connect;
mod failure;
mod jobs;
mod lease;
mod migrate;
mod once;
mod place;
mod queue;
mod reader;
mod rows;
mod statements;
mod store;
mod task;
mod transaction;
mod trust;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use core::time::Duration;
use onceward_core::{Code, Error, Result};
use rusqlite::Connection;
use tokio::sync::{broadcast, oneshot, watch};

use crate::enlist::EnlistSql;
use crate::hints::Carrier;
use crate::url::{SqliteAt, StoreUrl};
use crate::{OpenOptions, Wake};
use clocks::{Clocks, Now};
use place::Place;
use queue::{Line, Queue};
use task::{ClosureTask, Task};

pub(crate) use jobs::slots as job_slots;
pub use migrate::SqliteMigrator;

/// How many threads read.
const READERS: usize = 2;
/// How many wake-ups a slow listener may be behind.
const WAKES: usize = 1024;

/// A store in a SQLite file.
pub struct SqliteStore {
    shared: Arc<Shared>,
    url: String,
    deadline: Duration,
    enlist: Option<EnlistSql>,
    carrier: Option<Arc<dyn Carrier>>,
}

/// What the threads of a store have in common.
struct Shared {
    clocks: Clocks,
    /// The file; `None` for a store in memory, which has one connection for everything.
    place: Option<Place>,
    writes: Queue,
    reads: Queue,
    wakes: broadcast::Sender<Wake>,
    counted: Counted,
    /// Where upkeep goes on.
    pruned: Mutex<upkeep::Places>,
    /// How many threads run.
    alive: watch::Sender<usize>,
}

/// What was done so far.
#[derive(Default)]
struct Counted {
    /// Transactions that changed something.
    commits: AtomicU64,
    /// Transactions, those that only read included.
    transactions: AtomicU64,
    /// The rows those were about.
    rows: AtomicU64,
}

impl Counted {
    fn transaction(&self, rows: usize) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

impl SqliteStore {
    /// Opens the file at `at`, creates it when it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// [`Code::StoreUnavailable`] where there is no such directory or no right to it, [`Code::StoreBusy`]
    /// where somebody holds the file, and the codes of the self-check: [`Code::SqliteTooOld`],
    /// [`Code::FilesystemUnsafe`], [`Code::FileUnsafe`], [`Code::FileReplaced`], [`Code::ClockInconsistent`],
    /// [`Code::CommitNotDurable`], and those of the schema.
    pub async fn open(at: &SqliteAt, options: OpenOptions) -> Result<Self> {
        let url = StoreUrl::Sqlite(at.clone()).redacted();
        let (path, deadline, carrier) = (at.path.clone(), options.deadline, options.carrier.clone());
        let (opened, answer) = oneshot::channel();
        let thread = move || match Opened::open(path.as_deref(), &options).and_then(Opened::start) {
            Err(error) => drop(opened.send(Err(error))),
            Ok(threads) => {
                if opened.send(Ok(Arc::clone(&threads.alive.0))).is_ok() {
                    threads.run();
                }
            }
        };
        spawn("onceward-write", thread)?;
        let shared = answer.await.map_err(|_| failure::closed())??;
        // Nobody else can have a transaction in a database in memory.
        let enlist = at.path.is_some().then(statements::enlist);
        Ok(Self { shared, url, deadline, enlist, carrier })
    }

    /// How many transactions this store has committed: under load far fewer than verbs, since those that wait
    /// at the same time share one.
    pub fn commits(&self) -> u64 {
        self.shared.counted.commits.load(Ordering::Relaxed)
    }

    /// Does something with the write lock.
    async fn write<R: Send + 'static>(
        &self,
        verb: &'static str,
        line: Line,
        rows: usize,
        work: impl Fn(&Connection, &Now) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R> {
        submit(&self.shared.writes, line, ClosureTask::new(verb, rows, Instant::now() + self.deadline, work))
            .await
    }

    /// Does something that only reads.
    async fn read<R: Send + 'static>(
        &self,
        verb: &'static str,
        rows: usize,
        work: impl Fn(&Connection, &Now) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R> {
        let queue = if self.has_readers() { &self.shared.reads } else { &self.shared.writes };
        submit(queue, Line::Patient, ClosureTask::new(verb, rows, Instant::now() + self.deadline, work)).await
    }

    fn has_readers(&self) -> bool {
        self.shared.place.is_some()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    /// Takes no more work; what waits is still done, then the threads end.
    fn close(&self) {
        self.writes.close();
        self.reads.close();
    }
}

async fn submit<F, R>(
    queue: &Queue,
    line: Line,
    task: (ClosureTask<F, R>, oneshot::Receiver<Result<R>>),
) -> Result<R>
where
    F: Fn(&Connection, &Now) -> rusqlite::Result<R> + Send + 'static,
    R: Send + 'static,
{
    let (task, answer) = task;
    let verb = task.verb();
    queue.push(Box::new(task), line).map_err(|error| error.at(verb))?;
    answer.await.map_err(|_| failure::closed().at(verb))?
}

/// A file that was opened, with what its threads need.
struct Opened {
    writer: Connection,
    readers: Vec<Connection>,
    clocks: Clocks,
    place: Option<Place>,
}

impl Opened {
    fn open(path: Option<&std::path::Path>, options: &OpenOptions) -> Result<Self> {
        connect::check_version(rusqlite::version_number())?;
        let clocks = Clocks::new(Arc::clone(&options.clock));
        let Some(path) = path else {
            let writer = connect::memory()?;
            bring_up_to_date(&writer, &clocks, options)?;
            return Ok(Self { writer, readers: Vec::new(), clocks, place: None });
        };
        let path = Place::prepare(path)?;
        let before = Place::number(&path);
        let writer = connect::writer(&path, options.deadline)?;
        bring_up_to_date(&writer, &clocks, options)?;
        let readers =
            (0..READERS).map(|_| connect::reader(&path, options.deadline)).collect::<Result<_>>()?;
        let place = Place::opened(path, before)?;
        Ok(Self { writer, readers, clocks, place: Some(place) })
    }

    /// Starts the reading threads; the writing one is the caller.
    fn start(self) -> Result<Threads> {
        let shared = Arc::new(Shared {
            clocks: self.clocks,
            place: self.place,
            writes: Queue::default(),
            reads: Queue::default(),
            wakes: broadcast::channel(WAKES).0,
            counted: Counted::default(),
            pruned: Mutex::default(),
            alive: watch::channel(0).0,
        });
        let alive = Alive::new(&shared);
        let start = |connection: Connection| {
            let alive = Alive::new(&shared);
            spawn("onceward-read", move || reader::run(&connection, &alive.0))
        };
        let readers = self.readers.into_iter().map(start).collect::<Result<_>>()?;
        Ok(Threads { writer: writer::Writer::new(self.writer, shared), readers, alive })
    }
}

/// The threads of a store; in the order in which they let go of the file.
struct Threads {
    readers: Vec<JoinHandle<()>>,
    writer: writer::Writer,
    alive: Alive,
}

impl Threads {
    /// Writes until the store is closed.
    fn run(mut self) {
        self.writer.run();
        self.alive.0.close();
        for reader in self.readers {
            // One that has panicked has nothing left to say. The writer's connection is the last, so that it
            // is the one which folds the log into the file; of two that are closed at once neither might.
            let _ = reader.join();
        }
    }
}

fn bring_up_to_date(connection: &Connection, clocks: &Clocks, options: &OpenOptions) -> Result<()> {
    if options.unmigrated {
        return Ok(());
    }
    let now = clocks.now();
    migrate::up(connection, None, Instant::now() + options.deadline, now.wall)?;
    // From here on the lock is waited for by ourselves, so that deadlines are kept.
    connection.busy_timeout(Duration::ZERO).map_err(failure::failed)?;
    trust::opened(connection, &now)
}

/// A thread that runs. When it ends, for whatever reason, nobody waits for it in vain: its store is closed,
/// and who still waits hears of it.
struct Alive(Arc<Shared>);

impl Alive {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.alive.send_modify(|count| *count += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.close();
        self.0.alive.send_modify(|count| *count -= 1);
        if *self.0.alive.borrow() == 0 {
            drop(self.0.writes.take_all());
            drop(self.0.reads.take_all());
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| {
        Error::new(Code::StoreUnavailable, "no thread could be started for the store").with_source(error)
    })
}

/// Does something that blocks on a thread of its own.
async fn off_thread<R: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    let (reply, answer) = oneshot::channel();
    spawn(name, move || drop(reply.send(work())))?;
    answer.await.map_err(|_| failure::closed())?
}
