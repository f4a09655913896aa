//! Worker processes: this test program once more, told to be one.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onceward_core::backoff;
use rustix::process::{Pid, Signal, kill_process};

use super::Ledger;

/// In its environment a worker process finds the store, and the folder of the ledger.
const STORE: &str = "ONCEWARD_CRASH_LOOP_STORE";
const FOLDER: &str = "ONCEWARD_CRASH_LOOP_FOLDER";
const TTL: &str = "ONCEWARD_CRASH_LOOP_TTL_MS";

/// The worker processes that run.
pub(crate) struct Fleet {
    store: String,
    folder: PathBuf,
    ttl: Duration,
    children: Vec<Child>,
    paused: Option<usize>,
}

impl Fleet {
    pub(crate) fn start(size: usize, store: &str, folder: &Path, ttl: Duration) -> Self {
        let (store, folder) = (store.to_owned(), folder.to_owned());
        let mut fleet = Self { store, folder, ttl, children: Vec::new(), paused: None };
        fleet.children = (0..size).map(|_| fleet.spawn()).collect();
        fleet
    }

    fn spawn(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash_loop::fleet::child_that_works_on_jobs", "--nocapture"])
            .env(STORE, &self.store)
            .env(FOLDER, &self.folder)
            .env(TTL, self.ttl.as_millis().to_string())
            // It ends in order when this is closed, also if we are gone.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Kills a worker every second, and pauses one of the others now and then, for longer than its session lasts; as
    /// long as `goes_on` says so of the time since the beginning. How many were killed, and how many paused.
    pub(crate) async fn make_trouble(
        &mut self,
        pause_every: Duration,
        goes_on: impl Fn(Duration) -> bool,
    ) -> (u32, u32) {
        let second = Duration::from_secs(1);
        let mut random = uuid::Uuid::new_v4().as_u64_pair().0;
        println!("seed {random}");
        let (began, mut kills, mut pauses) = (Instant::now(), 0, 0);
        let pause = self.ttl * 2 + Duration::from_millis(500);
        let mut pause_at = pause_every / 2;
        while goes_on(began.elapsed()) {
            tokio::time::sleep(second).await;
            random = backoff::mix(random);
            if began.elapsed() >= pause_at + pause + second {
                self.forget_paused();
                pause_at += pause_every.max(pause + 2 * second);
            } else if began.elapsed() >= pause_at + pause {
                self.go_on();
            } else if began.elapsed() >= pause_at && self.pause_one(random) {
                pauses += 1;
            }
            self.kill_one(backoff::mix(random));
            kills += 1;
        }
        self.go_on();
        (kills, pauses)
    }

    /// Kills a worker that is not paused, and starts another one in its place.
    fn kill_one(&mut self, random: u64) {
        let size = self.children.len();
        let mut number = (random % size as u64) as usize;
        if self.paused == Some(number) {
            number = (number + 1) % size;
        }
        self.children[number].kill().unwrap();
        self.children[number].wait().unwrap();
        self.children[number] = self.spawn();
    }

    /// Stops a worker where it stands, unless one is stopped; it is not killed before it has gone on.
    fn pause_one(&mut self, random: u64) -> bool {
        if self.paused.is_some() {
            return false;
        }
        self.paused = Some((random % self.children.len() as u64) as usize);
        self.signal(Signal::STOP);
        true
    }

    /// Lets the paused one go on, if one is.
    fn go_on(&mut self) {
        self.signal(Signal::CONT);
    }

    /// The one that went on may be killed as the others.
    fn forget_paused(&mut self) {
        self.paused = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(number) = self.paused {
            let process = Pid::from_child(&self.children[number]);
            kill_process(process, signal).unwrap();
        }
    }

    /// Asks all to end, and waits until they have.
    pub(crate) fn end(mut self) {
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        let began = Instant::now();
        for child in &mut self.children {
            while child.try_wait().unwrap().is_none() {
                assert!(began.elapsed() < Duration::from_secs(30), "a worker does not end");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Those that have ended are gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One process of a crash loop; nothing of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_works_on_jobs() {
    work_if_asked_to().await;
}

/// Works as one of the processes, if this process was started as one, until it is killed or asked to end.
async fn work_if_asked_to() {
    let (Ok(store), Ok(folder), Ok(ttl)) = (std::env::var(STORE), std::env::var(FOLDER), std::env::var(TTL))
    else {
        return;
    };
    let folder = PathBuf::from(folder);
    let ow = super::client(&store).await;
    let worker = super::worker(&ow, &folder, Duration::from_millis(ttl.parse().unwrap()));
    let worker = worker.start().await.unwrap();
    let asked_to_end = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let (ledger, mut told) = (Ledger::at(&folder), 0);
    // Whoever is killed has told before.
    while !asked_to_end.is_finished() {
        let refused = worker.stale_endings();
        if refused > told {
            ledger.refused(refused);
            told = refused;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.drained().await;
    ledger.refused(worker.stale_endings());
    worker.shutdown().await;
    ow.shutdown().await;
}
