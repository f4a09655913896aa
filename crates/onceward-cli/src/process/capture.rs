//! What a wrapped command prints: passed on to our stdout as it comes, and kept up to a limit.
//!
//! While the command runs, a slow reader slows it down, as without us. Once it has ended, the rest is read without
//! waiting for the reader: an outcome is not kept from being recorded by somebody who looks at it in a pager.

use core::time::Duration;
use std::sync::Arc;

use onceward::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdout;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

const CHUNK_BYTES: usize = 64 * 1024;
/// How many chunks may be on their way to our stdout before the command has to wait.
const CHUNKS_UNDER_WAY: usize = 16;
/// What can be left in a pipe by a command that has ended.
const REST_BYTES_MAX: usize = 1024 * 1024;
/// How long to read on although something that outlives the command keeps its stdout open.
pub(crate) const REST_TIME_MAX: Duration = Duration::from_millis(500);

type Chunk = (Vec<u8>, Option<OwnedSemaphorePermit>);

/// What was printed.
#[derive(Default)]
pub(crate) struct Printed {
    /// The bytes; only the first ones if there were too many to keep.
    pub(crate) bytes: Vec<u8>,
    /// How many there were.
    pub(crate) size: u64,
    /// What the shim said instead, if the command could not be started.
    pub(crate) refusal: Option<String>,
}

/// A stdout being read and passed on.
pub(crate) struct Capture {
    reader: JoinHandle<Printed>,
    writer: JoinHandle<()>,
    ended: watch::Sender<Option<Instant>>,
}

impl Capture {
    /// Starts to read. A text that begins with `nonce` is the shim's, and not passed on.
    pub(crate) fn start(stdout: ChildStdout, nonce: String) -> Self {
        let (ended, ending) = watch::channel(None);
        let (chunks, coming) = unbounded_channel();
        let reader = tokio::spawn(Reader { stdout, nonce, chunks, ending }.read());
        Self { reader, writer: tokio::spawn(pass_on(coming)), ended }
    }

    /// The command has ended: reads what is left.
    pub(crate) async fn printed(&mut self) -> Printed {
        self.ended.send_replace(Some(Instant::now()));
        (&mut self.reader).await.unwrap_or_default()
    }

    /// Waits until our own stdout has got everything.
    pub(crate) async fn passed_on(self) {
        self.ended.send_replace(Some(Instant::now()));
        // A reader that has left is no failure of ours.
        let _ = self.writer.await;
    }
}

struct Reader {
    stdout: ChildStdout,
    nonce: String,
    chunks: UnboundedSender<Chunk>,
    ending: watch::Receiver<Option<Instant>>,
}

impl Reader {
    async fn read(mut self) -> Printed {
        let (mut printed, mut rest) = (Printed::default(), 0);
        let room = Arc::new(Semaphore::new(CHUNKS_UNDER_WAY));
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let permit = self.room_for_one(&room).await;
            let over = over(self.ending.clone());
            let count = tokio::select! {
                biased;
                read = self.stdout.read(&mut buffer) => read.unwrap_or(0),
                () = over => 0,
            };
            let chunk = &buffer[..count];
            if let Some(refusal) = self.refusal(&printed, chunk) {
                printed.refusal = Some(refusal);
                return printed;
            }
            printed.keep(chunk);
            // Nobody listens once our stdout is closed; the command is not told, and its result is kept.
            let _ = self.chunks.send((chunk.to_vec(), permit));
            if self.ending.borrow().is_some() {
                rest += count;
            }
            if count == 0 || rest > REST_BYTES_MAX {
                return printed;
            }
        }
    }

    /// Waits for the writer to keep up; not any more once the command has ended.
    async fn room_for_one(&mut self, room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            permit = Arc::clone(room).acquire_owned() => permit.ok(),
            _ = self.ending.wait_for(Option::is_some) => None,
        }
    }

    fn refusal(&self, printed: &Printed, chunk: &[u8]) -> Option<String> {
        let said = chunk.strip_prefix(self.nonce.as_bytes()).filter(|_| printed.size == 0)?;
        Some(String::from_utf8_lossy(said).trim().to_owned())
    }
}

impl Printed {
    fn keep(&mut self, chunk: &[u8]) {
        // One byte more than fits, so that what is too large is seen to be.
        let room = (limits::RESULT_BYTES_MAX + 1).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.size += chunk.len() as u64;
    }
}

/// Returns when reading has gone on for long enough after the end of the command.
async fn over(mut ending: watch::Receiver<Option<Instant>>) {
    let ended = match ending.wait_for(Option::is_some).await {
        Ok(ended) => ended.unwrap_or_else(Instant::now),
        Err(_) => Instant::now(),
    };
    sleep_until(ended + REST_TIME_MAX).await;
}

async fn pass_on(mut coming: UnboundedReceiver<Chunk>) {
    let mut stdout = Some(tokio::io::stdout());
    while let Some((chunk, permit)) = coming.recv().await {
        if let Some(open) = &mut stdout
            && write(open, &chunk).await.is_err()
        {
            stdout = None;
        }
        drop(permit);
    }
}

async fn write(stdout: &mut tokio::io::Stdout, chunk: &[u8]) -> std::io::Result<()> {
    stdout.write_all(chunk).await?;
    stdout.flush().await
}
