//! One attempt of a job as a command: the payload goes in, what it prints comes out, its exit code says how it ended.

use core::time::Duration;
use std::process::ExitStatus;

use onceward::limits;
use onceward::worker::{JobContext, Outcome, Stop};
use onceward_core::once::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::allowed::Line;
use crate::exit;
use crate::process::{Child, REST_TIME_MAX};

/// Runs the command. It is stopped when the attempt shall stop, and when this future is dropped.
pub(super) async fn run(line: Line, job: JobContext, kill_after: Duration) -> Outcome {
    let nonce = uuid::Uuid::new_v4().to_string();
    let env = [
        ("ONCEWARD_JOB_ID", job.id().to_string()),
        ("ONCEWARD_ATTEMPT", job.attempt().to_string()),
        ("ONCEWARD_FENCING_TOKEN", job.token().to_string()),
        ("ONCEWARD_IDEMPOTENCY_KEY", job.idempotency_key()),
        ("ONCEWARD_NAMESPACE", job.job().namespace.to_string()),
    ];
    let command: Vec<_> = line.iter().map(Into::into).collect();
    let (mut child, stdin, stdout) = match Child::spawn_fed(&command, &env, &nonce) {
        Ok(started) => started,
        Err(error) => return Outcome::not_started(error),
    };
    let work = talk(&mut child, stdin, stdout, job.payload().bytes.clone());
    tokio::select! {
        biased;
        (printed, status) = work => match status {
            Ok(status) if status.code().is_none() && job.job().policy.at_most_once => {
                Outcome::uncertain(format!("the command ended with {status}"))
            }
            Ok(status) => ending(status, printed, &nonce),
            Err(error) => Outcome::uncertain(format!("the command can't be waited for: {error}")),
        },
        stop = job.cancelled() => {
            child.stop(kill_after).await;
            let reason = format!("the command was stopped: {stop}");
            match (job.job().policy.at_most_once, stop) {
                // It was under way: nobody knows how far it came.
                (true, _) => Outcome::uncertain(reason),
                (false, Stop::CalledOff) => Outcome::Cancel { reason },
                (false, _) => Outcome::retry(reason),
            }
        }
    }
}

/// Feeds the command and reads what it prints, until it has ended. What it has started may go on and keep its stdin and
/// stdout open: nobody waits for that.
async fn talk(
    child: &mut Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    payload: Vec<u8>,
) -> (Printed, std::io::Result<ExitStatus>) {
    let (mut printed, mut ended) = (Printed::default(), None);
    {
        let feed = feed(stdin, payload);
        let read = read(stdout, &mut printed);
        let talk = async { tokio::join!(feed, read) };
        tokio::pin!(talk);
        tokio::select! {
            _ = &mut talk => {}
            status = child.ended() => {
                ended = Some(status);
                // What it has printed lies in the pipe.
                let _ = timeout(REST_TIME_MAX, &mut talk).await;
            }
        }
    }
    let status = match ended {
        Some(status) => status,
        None => child.ended().await,
    };
    (printed, status)
}

/// What a command has printed, a byte more than fits at the most, and how much there was.
#[derive(Default)]
struct Printed {
    kept: Vec<u8>,
    size: u64,
}

async fn feed(mut stdin: ChildStdin, payload: Vec<u8>) {
    // A command that does not read its payload is none of our business.
    let _ = stdin.write_all(&payload).await;
    let _ = stdin.shutdown().await;
}

/// Reads everything, and keeps a byte more than fits, so that what is too large is seen to be.
async fn read(mut stdout: ChildStdout, printed: &mut Printed) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stdout.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                let room = (limits::RESULT_BYTES_MAX + 1).saturating_sub(printed.kept.len());
                printed.kept.extend_from_slice(&buffer[..count.min(room)]);
                printed.size += count as u64;
            }
        }
    }
}

/// What the end of the command means.
fn ending(status: ExitStatus, printed: Printed, nonce: &str) -> Outcome {
    if let Some(refusal) = printed.kept.strip_prefix(nonce.as_bytes()) {
        let refusal = String::from_utf8_lossy(refusal);
        return Outcome::not_started(format!("the command could not be started: {}", refusal.trim()));
    }
    let what = format!("the command ended with {status}");
    match status.code().map(u8::try_from) {
        Some(Ok(exit::DONE)) => Outcome::Done(result(printed)),
        Some(Ok(exit::HELD)) => Outcome::not_started(what),
        Some(Ok(exit::UNCERTAIN)) => Outcome::uncertain(what),
        _ => Outcome::retry(what),
    }
}

fn result(printed: Printed) -> Option<Body> {
    let Printed { kept, size } = printed;
    if size == 0 {
        return None;
    }
    let content_type = match core::str::from_utf8(&kept) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    Some(Body { size, ..Body::new(kept, content_type) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn of(code: i32, printed: &str) -> Outcome {
        let printed = Printed { kept: printed.as_bytes().to_vec(), size: printed.len() as u64 };
        ending(ExitStatus::from_raw(code << 8), printed, "nonce")
    }

    #[test]
    fn the_exit_code_says_how_it_ended() {
        assert_eq!(of(0, ""), Outcome::Done(None));
        let Outcome::Done(Some(body)) = of(0, "paid\n") else { panic!("it was done") };
        assert_eq!(body.bytes.as_deref(), Some(&b"paid\n"[..]));
        assert!(matches!(of(75, ""), Outcome::NotStarted { .. }));
        assert!(matches!(of(76, ""), Outcome::Uncertain { .. }));
        assert!(matches!(of(1, ""), Outcome::Retry { .. }));
        assert!(matches!(of(127, "nonce: no such file"), Outcome::NotStarted { .. }));
        assert!(matches!(
            ending(ExitStatus::from_raw(9), Default::default(), "nonce"),
            Outcome::Retry { .. }
        ));
    }
}
