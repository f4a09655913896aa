//! A video is validated and checked for safety, then transcoded into several formats and described by an AI at the same
//! time, and packaged. A second worker helps; the terminal shows how far each part is.
//!
//!     cargo run --example media_pipeline -- [--store FILE] [--pace DURATION] [--videos N]
//!
//! `--pace` is how long one piece of work takes (300ms by default). Kill it in the middle and start it again: it goes
//! on where it was, and `onceward runs watch ID --store sqlite://FILE` shows the same from another terminal.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use onceward::durable::{AnyError, Failure, RunHandle, durable, join, map, step, try_join};
use onceward::worker::State;
use onceward::{JobId, Onceward};
use onceward_core::run::{Entry, Op, Phase};
use serde::{Deserialize, Serialize};

/// How long one piece of work takes.
#[derive(Clone, Copy)]
struct Pace(Duration);

impl Pace {
    async fn work(&self, pieces: u32) {
        tokio::time::sleep(self.0 * pieces).await;
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Rejected {
    NoVideo(String),
    NotSafe(String),
    Broken(String),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVideo(name) => write!(f, "{name} is no video"),
            Self::NotSafe(name) => write!(f, "{name} is not safe for everybody"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Rejected {}

impl<E: fmt::Display> From<Failure<E>> for Rejected {
    fn from(failure: Failure<E>) -> Self {
        Self::Broken(failure.to_string())
    }
}

#[durable]
async fn validate(pace: State<Pace>, video: String) -> Result<u32, AnyError> {
    pace.work(1).await;
    Ok(if video.ends_with(".mp4") { 90 } else { 0 })
}

#[durable]
async fn safety(pace: State<Pace>, video: String) -> Result<bool, AnyError> {
    pace.work(2).await;
    Ok(!video.contains("violent"))
}

#[durable(max_attempts = 3, retry = "fixed 50ms")]
async fn transcode(pace: State<Pace>, video: String, height: u32) -> Result<String, AnyError> {
    pace.work(height / 360).await;
    Ok(format!("{video}.{height}p"))
}

#[durable]
async fn transcribe(pace: State<Pace>, video: String) -> Result<String, AnyError> {
    pace.work(2).await;
    Ok(format!("what is said in {video}"))
}

#[durable]
async fn label(pace: State<Pace>, video: String) -> Result<Vec<String>, AnyError> {
    pace.work(1).await;
    Ok(if video.is_empty() { Vec::new() } else { vec!["sea".to_owned(), "dog".to_owned()] })
}

/// What an AI makes of it.
#[durable]
async fn describe(video: String) -> Result<String, AnyError> {
    let (words, labels) = try_join!(transcribe(video.clone()), label(video))?;
    Ok(format!("{words}; {}", labels.join(", ")))
}

#[durable]
async fn publish(pace: State<Pace>, video: String) -> Result<Vec<String>, Rejected> {
    let (seconds, safe) = try_join!(validate(video.clone()), safety(video.clone()))?;
    if seconds == 0 {
        return Err(Rejected::NoVideo(video));
    }
    if !safe {
        return Err(Rejected::NotSafe(video));
    }
    let formats = map([360, 720, 1_080], 3, |height| transcode(video.clone(), height));
    let (formats, description) = join!(formats, describe(video.clone()));
    let mut parts = formats.into_iter().collect::<Result<Vec<_>, _>>()?;
    parts.push(description?);
    step("package", || async {
        pace.work(1).await;
        Ok::<_, AnyError>(())
    })
    .await?;
    Ok(parts)
}

struct Args {
    store: PathBuf,
    pace: Duration,
    videos: usize,
}

impl Args {
    fn read() -> Result<Self, Box<dyn std::error::Error>> {
        let store = std::env::temp_dir().join("media_pipeline.db");
        let mut args = Self { store, pace: Duration::from_millis(300), videos: 3 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
            match word.as_str() {
                "--store" => args.store = value.into(),
                "--pace" => args.pace = onceward::duration::parse(&value)?,
                "--videos" => args.videos = value.parse()?,
                _ => return Err(format!("{word}: --store, --pace or --videos").into()),
            }
        }
        Ok(args)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::read()?;
    let ow = Onceward::connect(&format!("sqlite://{}", args.store.display())).await?;
    let worker = || {
        let worker = ow.worker().durable(publish).durable(validate).durable(safety).durable(transcode);
        let worker = worker.durable(describe).durable(transcribe).durable(label).state(Pace(args.pace));
        worker.concurrency(4).session_ttl(Duration::from_secs(2)).start()
    };
    let (first, second) = (worker().await?, worker().await?);
    let names = ["holiday.mp4", "violent.mp4", "notes.txt", "birthday.mp4", "wedding.mp4"];
    let mut runs = Vec::new();
    for video in names.iter().take(args.videos) {
        runs.push((*video, ow.start(publish((*video).to_owned())).id(format!("publish {video}")).await?));
    }
    watch(&ow, &runs).await?;
    for (video, run) in &runs {
        match run.result().await {
            Ok(parts) => println!("{video}: {}", parts.join(", ")),
            Err(failure) => println!("{video}: rejected, {failure}"),
        }
    }
    first.shutdown().await;
    second.shutdown().await;
    ow.shutdown().await;
    Ok(())
}

/// Shows how far each video is until all have ended.
async fn watch(ow: &Onceward, runs: &[(&str, RunHandle<publish>)]) -> onceward::Result<()> {
    let live = std::io::stdout().is_terminal();
    for tick in 0_usize.. {
        let (mut lines, mut open) = (Vec::new(), 0);
        for (video, run) in runs {
            let state = ow.admin().job(run.id()).await?.state;
            open += usize::from(!state.is_final());
            lines.push(format!("{video:>12} {} {state}", progress(ow, run.id()).await?));
        }
        if live {
            let up = if tick > 0 { format!("\x1b[{}A\x1b[J", lines.len()) } else { String::new() };
            println!("{up}{}", lines.join("\n"));
            // A terminal that is gone shows nothing.
            let _ = std::io::stdout().flush();
        }
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// What a run has asked for so far, and what of it has ended.
async fn progress(ow: &Onceward, run: JobId) -> onceward::Result<String> {
    let journal = ow.admin().journal(run, 0, 1_000).await?;
    let mut parts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for Entry { name, phase, .. } in journal.iter().filter(|entry| matches!(entry.op, Op::Child | Op::Step)) {
        let (begun, ended) = parts.entry(name).or_default();
        match phase {
            Phase::Started(_) => *begun += 1,
            Phase::Ended(_) => *ended += 1,
        }
    }
    let parts = parts.into_iter().map(|(name, (begun, ended))| {
        let open = begun.saturating_sub(ended);
        format!("{name} {}{}", "■".repeat(ended), "□".repeat(open))
    });
    Ok(parts.collect::<Vec<_>>().join("  "))
}
