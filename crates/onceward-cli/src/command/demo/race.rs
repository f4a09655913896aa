//! Starting the workers and the checkouts, killing some workers in the middle, and pausing one past its ttl.

use core::time::Duration;
use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use onceward::durable::RunHandle;
use onceward::{Code, Error, JobId, Onceward, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::checkout::{TTL, checkout};
use super::hooks::Heard;
use super::ledger::Ledger;
use super::{Args, Show, ask};

/// Everything the race needs to know.
pub(super) struct Race<'a> {
    pub(super) url: &'a str,
    pub(super) namespace: &'a str,
    pub(super) folder: &'a Path,
    pub(super) args: &'a Args,
    pub(super) ow: &'a Onceward,
    pub(super) ledger: &'a Ledger,
    pub(super) hook: &'a str,
    pub(super) heard: &'a Heard,
    pub(super) show: &'a Show,
}

/// What the race saw.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// Payments that were uncertain, and settled by the word of the card company.
    pub(super) uncertain: HashSet<String>,
    /// Outcomes of the paused worker that were refused.
    pub(super) refused: usize,
    pub(super) killed: usize,
    /// Checkouts that came to their end.
    pub(super) finished: usize,
    /// One of them.
    pub(super) example: Option<JobId>,
}

/// Something was said.
struct Said {
    /// By which worker; by none where it is a checkout that has ended.
    worker: usize,
    what: String,
    about: String,
}

/// The worker that lingers, and is paused.
const SLOW: usize = 0;
/// How many checkouts are under way at the same time.
const AT_ONCE: usize = 50;
/// How many checkouts, one of so many at most, wait until the paused worker was refused: it has to get a payment.
const HELD_BACK: (u32, u32) = (24, 5);
/// How many workers are killed.
const KILLS: usize = 5;
/// How often the card company is asked about payments that nobody is sure of.
const ASK: Duration = Duration::from_millis(300);
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(300);

struct Scene {
    workers: Vec<Child>,
    collected: HashSet<u32>,
    /// Who is to be killed.
    victim: Option<usize>,
    ran: Ran,
    paused: Option<Paused>,
    /// When the paused one was let go on.
    went_on: Option<Instant>,
    asked: Instant,
    /// Lets the checkouts in that were held back.
    held_back: HeldBack,
}

struct HeldBack {
    gate: Arc<Semaphore>,
    count: usize,
}

impl Scene {
    /// Kills are spread over the checkouts, so that each meets work in progress.
    fn is_time_to_kill(&self, checkouts: usize) -> bool {
        let next = checkouts * (self.ran.killed + 1) / (KILLS + 2);
        self.victim.is_none() && self.ran.killed < KILLS && self.ran.finished >= next
    }

    /// While much is going on, until one was refused that came back. Not each is: one may be stopped too late, or
    /// inside of a commit on SQLite.
    fn is_time_to_pause(&self) -> bool {
        self.ran.refused == 0 && self.ran.finished > 5 && self.paused.is_none() && self.has_been_heard()
    }

    /// Whether the worker that was paused has had its time to come to its end.
    fn has_been_heard(&self) -> bool {
        self.ran.refused > 0 || self.went_on.is_none_or(|since| since.elapsed() > TTL * 3)
    }

    /// Lets those in that were held back: all, or one by one as long as nobody was refused.
    fn let_in(&mut self, checkouts: usize) {
        let idle = self.ran.finished + self.held_back.count >= checkouts;
        let more = match (self.ran.refused > 0, idle && self.paused.is_none() && self.has_been_heard()) {
            (true, _) => self.held_back.count,
            (false, alone) => usize::from(alone).min(self.held_back.count),
        };
        self.held_back.count -= more;
        self.held_back.gate.add_permits(more);
    }
}

struct Paused {
    payment: String,
    since: Instant,
}

impl Race<'_> {
    /// Runs until every checkout has come to its end.
    pub(super) async fn run(&self) -> Result<Ran> {
        let (say, mut said) = unbounded_channel();
        let workers = (0..self.args.workers as usize).map(|number| self.start(number, number, &say));
        let (most, part) = HELD_BACK;
        let late = most.min(self.args.payments / part);
        let mut scene = Scene {
            workers: workers.collect::<Result<_>>()?,
            collected: HashSet::new(),
            victim: None,
            ran: Ran::default(),
            paused: None,
            went_on: None,
            asked: Instant::now(),
            held_back: HeldBack { gate: Arc::new(Semaphore::new(0)), count: late as usize },
        };
        self.check_out(&say, late, &scene.held_back.gate);
        scene.ran.example = Some(run_of(self.ow, 0).await?.id());
        let began = Instant::now();
        while !self.is_over(&scene) {
            self.listen(&mut said, &mut scene).await?;
            if let Some(victim) = scene.victim.take() {
                self.replace(victim, &mut scene, &say).await?;
            }
            self.reconcile(&mut scene).await?;
            self.let_go_on(&mut scene)?;
            scene.let_in(self.args.payments as usize);
            self.show.status(&self.status(&scene));
            if began.elapsed() > PATIENCE {
                return Err(Error::new(
                    Code::AuditFailed,
                    "the checkouts are not through after five minutes",
                ));
            }
        }
        for worker in &mut scene.workers {
            // None of them outlives the race.
            let _ = worker.kill().await;
        }
        Ok(scene.ran)
    }

    fn status(&self, scene: &Scene) -> String {
        let (all, finished) = (self.args.payments as usize, scene.ran.finished);
        let filled = finished * 30 / all.max(1);
        let bar = "█".repeat(filled) + &"░".repeat(30 - filled);
        let paused = if scene.paused.is_some() { ", 1 paused" } else { "" };
        format!("  {bar} {finished} of {all} checkouts, {} workers killed{paused}", scene.ran.killed)
    }

    /// Whether all have ended, everybody who wanted to hear of it has, and the paused worker was refused.
    fn is_over(&self, scene: &Scene) -> bool {
        let all = self.args.payments as usize;
        let heard = self.heard.counts().0 >= all;
        scene.ran.finished >= all && heard && scene.paused.is_none() && scene.has_been_heard()
    }

    /// Checks out, so many at a time, the `late` last ones when they are let in. Each is waited for by a task of its
    /// own.
    fn check_out(&self, say: &UnboundedSender<Said>, late: u32, gate: &Arc<Semaphore>) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        for order in 0..self.args.payments {
            let (ow, say, room) = (self.ow.clone(), say.clone(), Arc::clone(&room));
            let gate = (order >= self.args.payments - late).then(|| Arc::clone(gate));
            tokio::spawn(async move {
                if let Some(gate) = gate {
                    let Ok(let_in) = gate.acquire().await else { return };
                    let_in.forget();
                }
                let Ok(_place) = room.acquire_owned().await else { return };
                let ended = match run_of(&ow, order).await {
                    Ok(run) => run.result().await.map_err(|failure| failure.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                let (what, about) = match ended {
                    Ok(receipt) => ("finished", receipt),
                    Err(why) => ("failed", why),
                };
                // Whoever counts them may have given up.
                let _ = say.send(Said { worker: usize::MAX, what: what.to_owned(), about });
            });
        }
    }

    fn start(&self, worker: usize, seed: usize, say: &UnboundedSender<Said>) -> Result<Child> {
        let failed =
            |error| Error::new(Code::CommandNotStarted, "a worker can't be started").with_source(error);
        let seed = onceward_core::backoff::mix(seed as u64);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(["demo", "worker", "--namespace", self.namespace, "--hook", self.hook])
            // Not as an argument: the URL may hold a password, and everybody on this host can read those.
            .env("ONCEWARD_STORE", self.url)
            // What they would warn of is done to them on purpose, and told by the demo itself.
            .env("ONCEWARD_LOG", "error")
            .arg("--ledger")
            .arg(self.folder.join("card-company.ledger"))
            .args(["--seed", &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if worker == SLOW {
            command.arg("--slow");
        }
        let mut child = command.spawn().map_err(failed)?;
        let say = say.clone();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let (what, about) = line.split_once(' ').unwrap_or((&line, ""));
                    let heard = Said { worker, what: what.to_owned(), about: about.to_owned() };
                    if say.send(heard).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(child)
    }

    /// Hears what was said in the last moment.
    async fn listen(&self, said: &mut UnboundedReceiver<Said>, scene: &mut Scene) -> Result<()> {
        let mut heard = Vec::new();
        // Nothing was said: there is still something to be looked after.
        let _ = tokio::time::timeout(Duration::from_millis(50), said.recv_many(&mut heard, 64)).await;
        for heard in heard {
            self.hear(&heard, scene).await?;
            if scene.victim.is_some() {
                // At once, before it comes to the end of what it is at.
                Self::strike(scene)?;
            }
        }
        Ok(())
    }

    async fn hear(&self, heard: &Said, scene: &mut Scene) -> Result<()> {
        match heard.what.as_str() {
            "finished" => scene.ran.finished += 1,
            "failed" => {
                return Err(Error::new(Code::AuditFailed, format!("a checkout has failed: {}", heard.about)));
            }
            "packed" => self.send_courier(heard.about.parse().unwrap_or_default(), scene).await?,
            // Between the charge and its record: the worst moment there is.
            "charged" if heard.worker != SLOW && scene.is_time_to_kill(self.args.payments as usize) => {
                scene.victim = Some(heard.worker);
            }
            "refused" => {
                scene.ran.refused += 1;
                self.show
                    .line(&format!("  {}: the late outcome of the paused worker was refused", heard.about));
            }
            "charged" if heard.worker == SLOW && scene.is_time_to_pause() => {
                signal(scene.workers.get(SLOW), Signal::STOP)?;
                let_go_on_in_time(scene.workers.get(SLOW));
                self.show.line(&format!("  paused a worker right after it had charged {}", heard.about));
                scene.paused = Some(Paused { payment: heard.about.clone(), since: Instant::now() });
            }
            _ => {}
        }
        Ok(())
    }

    /// The parcel is packed: somebody comes for it, once. A worker that dies says so twice.
    async fn send_courier(&self, order: u32, scene: &mut Scene) -> Result<()> {
        if scene.collected.insert(order) {
            run_of(self.ow, order).await?.signal("courier", &"a courier on a bicycle").await?;
        }
        Ok(())
    }

    fn strike(scene: &Scene) -> Result<()> {
        scene.victim.map_or(Ok(()), |victim| signal(scene.workers.get(victim), Signal::KILL))
    }

    /// Starts another one in the place of a worker that was killed.
    async fn replace(&self, victim: usize, scene: &mut Scene, say: &UnboundedSender<Said>) -> Result<()> {
        scene.ran.killed += 1;
        self.show.line(&format!("  killed worker {victim} with SIGKILL, and started another"));
        let fresh = self.start(victim, scene.workers.len() + scene.ran.killed, say)?;
        if let Some(place) = scene.workers.get_mut(victim) {
            // Reaps the killed one.
            let _ = core::mem::replace(place, fresh).wait().await;
        }
        Ok(())
    }

    /// Asks the card company about every payment nobody is sure of, from time to time.
    async fn reconcile(&self, scene: &mut Scene) -> Result<()> {
        if scene.asked.elapsed() < ASK {
            return Ok(());
        }
        scene.asked = Instant::now();
        let probe = async |row: &onceward_core::once::Record| ask(self.ledger, row.key.as_str());
        let bulk = match self.ow.admin().reconcile(None, "asked the card company", probe).await {
            Ok(bulk) => bulk,
            // A store that is busy is not for long.
            Err(error) if error.is_retryable() => return Ok(()),
            Err(error) => return Err(error),
        };
        if bulk.changed.is_empty() {
            return Ok(());
        }
        let was_charged =
            |key: &&onceward::Key| self.ledger.charge_of(key.as_str()).is_ok_and(|charge| charge.is_some());
        let (all, charged) = (bulk.changed.len(), bulk.changed.iter().filter(was_charged).count());
        self.show.line(&format!(
            "  payments nobody was sure of: {all}; asked the card company: {charged} charged, {} not",
            all - charged
        ));
        scene.ran.uncertain.extend(bulk.changed.iter().map(|key| key.as_str().to_owned()));
        Ok(())
    }

    /// Lets the paused worker go on once others have settled what it was at.
    fn let_go_on(&self, scene: &mut Scene) -> Result<()> {
        let Some(paused) = &scene.paused else { return Ok(()) };
        let settled = scene.ran.uncertain.contains(&paused.payment);
        // On SQLite it may have been stopped inside of a commit, and everybody waits for it.
        if (settled && paused.since.elapsed() > TTL * 2) || paused.since.elapsed() > TTL * 6 {
            signal(scene.workers.get(SLOW), Signal::CONT)?;
            self.show.line("  let the paused worker go on");
            (scene.paused, scene.went_on) = (None, Some(Instant::now()));
        }
        Ok(())
    }
}

/// The run of an order: the same id is the same run, whoever starts it first.
async fn run_of(ow: &Onceward, order: u32) -> Result<RunHandle<checkout>> {
    ow.start(checkout(order)).id(format!("order-{order:04}")).await
}

fn pid_of(worker: Option<&Child>) -> Option<Pid> {
    worker.and_then(Child::id).and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

/// A worker that was stopped inside of a commit on SQLite keeps everybody from writing, and so from letting it go on:
/// that happens whatever they wait for, before they give up.
fn let_go_on_in_time(worker: Option<&Child>) {
    let Some(pid) = pid_of(worker) else { return };
    tokio::spawn(async move {
        tokio::time::sleep(TTL * 6).await;
        // It may be through by now.
        let _ = kill_process(pid, Signal::CONT);
    });
}

fn signal(worker: Option<&Child>, signal: Signal) -> Result<()> {
    let Some(pid) = pid_of(worker) else {
        return Ok(()); // it is through already
    };
    kill_process(pid, signal).map_err(|error| {
        Error::new(Code::AuditFailed, format!("a worker can't be sent {signal:?}")).with_source(error)
    })
}
