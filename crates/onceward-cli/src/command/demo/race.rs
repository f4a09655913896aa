//! Starting the workers, killing some in the middle of a payment, and pausing one past its ttl.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use onceward::{Code, Error, Onceward, Result, limits};
use onceward_core::once::State;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::ledger::Ledger;
use super::worker::TTL;
use super::{Args, Show, ask};

/// Everything the race needs to know.
pub(super) struct Race<'a> {
    pub(super) url: &'a str,
    pub(super) namespace: &'a str,
    pub(super) folder: &'a Path,
    pub(super) args: &'a Args,
    pub(super) ow: &'a Onceward,
    pub(super) ledger: &'a Ledger,
    pub(super) show: &'a Show,
}

/// What the race saw.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// Payments that were uncertain and settled during the race: those of the paused worker.
    pub(super) uncertain: usize,
    /// Outcomes of the paused worker that were refused.
    pub(super) refused: usize,
}

/// A worker said something.
struct Said {
    worker: usize,
    what: String,
    payment: String,
}

/// The worker that lingers, and is paused.
const SLOW: usize = 0;
/// How many workers are killed.
const KILLS: usize = 4;

#[derive(Default)]
struct Scene {
    workers: Vec<Child>,
    done: usize,
    killed: usize,
    refused: usize,
    over: usize,
    paused: Option<Paused>,
    was_paused: bool,
}

struct Paused {
    payment: String,
    since: Instant,
    settled: bool,
}

impl Race<'_> {
    /// Runs until every worker is through.
    pub(super) async fn run(&self) -> Result<Ran> {
        let (say, mut said) = mpsc::unbounded_channel();
        let mut scene = Scene::default();
        for number in 0..self.args.workers as usize {
            scene.workers.push(self.start(number, number, &say)?);
        }
        let began = Instant::now();
        // Kills are spread over the payments, so that each meets work in progress.
        let kill_at = |kills: usize| self.args.payments as usize * (kills + 1) / (KILLS + 2);
        while scene.over < scene.workers.len() {
            match tokio::time::timeout(Duration::from_millis(50), said.recv()).await {
                Ok(Some(heard)) => self.hear(&heard, &mut scene)?,
                Ok(None) => break,
                Err(_) => {}
            }
            if scene.killed < KILLS && scene.done >= kill_at(scene.killed) {
                self.kill_one(&mut scene, &say).await?;
            }
            self.watch_paused(&mut scene).await?;
            self.show.status(&format!(
                "{:>4} of {} done, {} killed, {}",
                scene.done,
                self.args.payments,
                scene.killed,
                if scene.paused.is_some() { "1 paused" } else { "0 paused" }
            ));
            if began.elapsed() > Duration::from_secs(120) {
                return Err(Error::new(Code::AuditFailed, "the workers are not through after two minutes"));
            }
        }
        for mut worker in scene.workers {
            // Through or not, none of them outlives the race.
            let _ = worker.kill().await;
        }
        self.outlast_claims().await?;
        Ok(Ran { uncertain: usize::from(scene.was_paused), refused: scene.refused })
    }

    fn start(&self, worker: usize, seed: usize, say: &mpsc::UnboundedSender<Said>) -> Result<Child> {
        let failed =
            |error| Error::new(Code::CommandNotStarted, "a worker can't be started").with_source(error);
        let seed = onceward_core::backoff::mix(seed as u64);
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(["demo", "worker", "--store", self.url, "--namespace", self.namespace])
            .arg("--ledger")
            .arg(self.folder.join("card-company.ledger"))
            .args(["--payments", &self.args.payments.to_string(), "--seed", &seed.to_string()])
            .stdin(Stdio::null())
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
                    let (what, payment) = line.split_once(' ').unwrap_or((&line, ""));
                    let heard = Said { worker, what: what.to_owned(), payment: payment.to_owned() };
                    if say.send(heard).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(child)
    }

    fn hear(&self, heard: &Said, scene: &mut Scene) -> Result<()> {
        match heard.what.as_str() {
            "done" => scene.done += 1,
            "refused" => {
                scene.refused += 1;
                self.show
                    .line(&format!("  {}: the late outcome of the paused worker was refused", heard.payment));
            }
            "over" => scene.over += 1,
            // Between the charge and its record: the worst moment there is.
            "charged" if heard.worker == SLOW && !scene.was_paused && scene.done > 20 => {
                signal(scene.workers.get(SLOW), Signal::STOP)?;
                self.show.line(&format!("  paused a worker right after it had charged {}", heard.payment));
                let payment = heard.payment.clone();
                scene.paused = Some(Paused { payment, since: Instant::now(), settled: false });
                scene.was_paused = true;
            }
            _ => {}
        }
        Ok(())
    }

    async fn kill_one(&self, scene: &mut Scene, say: &mpsc::UnboundedSender<Said>) -> Result<()> {
        let others = scene.workers.len() - 1;
        let victim = 1 + scene.killed % others.max(1);
        signal(scene.workers.get(victim), Signal::KILL)?;
        scene.killed += 1;
        self.show.line(&format!("  killed worker {victim} with SIGKILL and started another"));
        let fresh = self.start(victim, scene.workers.len() + scene.killed, say)?;
        if let Some(place) = scene.workers.get_mut(victim) {
            // Reaps the killed one.
            let _ = core::mem::replace(place, fresh).wait().await;
        }
        Ok(())
    }

    /// Settles the paused worker's payment once its claim has run out, and only then lets the worker go on.
    async fn watch_paused(&self, scene: &mut Scene) -> Result<()> {
        let Some(paused) = &mut scene.paused else { return Ok(()) };
        if paused.since.elapsed() < TTL * 2 {
            return Ok(());
        }
        if !paused.settled {
            let asked =
                self.ow.once(&paused.payment).probe(async |row| ask(self.ledger, row.key.as_str())).await?;
            if !asked.is_some_and(|outcome| outcome.is_done()) {
                return Ok(()); // not yet uncertain: look again
            }
            self.show
                .line(&format!("  {} was uncertain; the card company says it was charged", paused.payment));
            paused.settled = true;
        }
        signal(scene.workers.get(SLOW), Signal::CONT)?;
        self.show.line("  let the paused worker go on");
        scene.paused = None;
        Ok(())
    }

    /// Waits until no claim of a killed worker can be taken for a running one.
    async fn outlast_claims(&self) -> Result<()> {
        let until = Instant::now() + TTL * 3;
        while Instant::now() < until {
            let running =
                self.ow.admin().once_keys(Some(State::Running), None, None, limits::PAGE_ROWS_MAX).await?;
            if running.rows.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn signal(worker: Option<&Child>, signal: Signal) -> Result<()> {
    let Some(pid) = worker.and_then(Child::id).and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    else {
        return Ok(()); // it is through already
    };
    kill_process(pid, signal).map_err(|error| {
        Error::new(Code::AuditFailed, format!("a worker can't be sent {signal:?}")).with_source(error)
    })
}
