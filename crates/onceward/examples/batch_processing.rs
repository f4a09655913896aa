//! A thousand images: each one is a child that any worker may run, at most so many at a time, and one bad image fails
//! for itself.
//!
//!     cargo run --example batch_processing -- [STORE] [IMAGES]
//!
//! Kill it in the middle and start it again: what was done is not done again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use onceward::durable::{AnyError, Failure, durable, map, step};
use onceward::{JobFilter, Kind, Onceward};
use onceward_core::job::State as JobState;

/// How many are under way at the same time.
const AT_ONCE: usize = 40;

/// One image. It is tried twice, and fails for good if its number ends in 99.
#[durable(max_attempts = 2, retry = "fixed 20ms", queue = "images")]
async fn resize(image: u32) -> Result<u64, AnyError> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    if image % 100 == 99 {
        return Err(AnyError::new(format!("image {image} is damaged")));
    }
    Ok(u64::from(image) * 1_024)
}

/// The batch: it waits for all, whatever becomes of each.
#[durable(queue = "images")]
async fn batch(images: u32) -> Result<(usize, u64, Vec<u32>), AnyError> {
    let sizes = map(0..images, AT_ONCE, resize).await;
    let (mut done, mut bytes, mut damaged) = (0, 0, Vec::new());
    for (image, size) in (0..images).zip(sizes) {
        match size {
            Ok(size) => (done, bytes) = (done + 1, bytes + size),
            Err(Failure::App(_) | Failure::Dead(_)) => damaged.push(image),
            Err(failure) => return Err(failure.into()),
        }
    }
    step("report", || async {
        println!("{done} resized, {} damaged", damaged.len());
        Ok::<_, AnyError>(())
    })
    .await?;
    Ok((done, bytes, damaged))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().map_or_else(|| std::env::temp_dir().join("batch_processing.db"), PathBuf::from);
    let images: u32 = args.next().map_or(Ok(1_000), |images| images.parse())?;
    let ow = Onceward::connect(&format!("sqlite://{}", file.display())).await?;
    let worker = ow
        .worker()
        .durable(batch)
        .durable(resize)
        .queues(["images"])
        .session_ttl(Duration::from_secs(2))
        .start()
        .await?;
    let began = Instant::now();
    let before = count(&ow).await?;
    let run = ow.start(batch(images)).id(format!("batch of {images}")).await?;
    println!("{images} images, of which {before} were done before this start");
    let (done, bytes, damaged) = run.result().await?;
    println!(
        "done: {done} images, {bytes} bytes, damaged: {damaged:?}, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    worker.shutdown().await;
    ow.shutdown().await;
    Ok(())
}

/// How many images were resized so far.
async fn count(ow: &Onceward) -> onceward::Result<usize> {
    let filter = JobFilter {
        state: Some(JobState::Succeeded),
        kind: Some(Kind::new("resize")?),
        ..JobFilter::default()
    };
    Ok(ow.admin().runs(&filter, None, 10_000).await?.rows.len())
}
