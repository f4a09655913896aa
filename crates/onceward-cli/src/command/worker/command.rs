//! One attempt of a job as a command: the payload goes in, what it prints comes out, its exit code says how it ended.

use core::time::Duration;
use std::process::ExitStatus;

use onceward::limits;
use onceward::worker::{JobContext, Outcome, Stop};
use onceward_core::once::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};

use super::allowed::Line;
use crate::exit;
use crate::process::Child;

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
    let feed = feed(stdin, job.payload().bytes.clone());
    let read = read(stdout);
    let talk = async { tokio::join!(feed, read).1 };
    tokio::select! {
        biased;
        (printed, status) = async { tokio::join!(talk, child.ended()) } => match status {
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

async fn feed(mut stdin: ChildStdin, payload: Vec<u8>) {
    // A command that does not read its payload is none of our business.
    let _ = stdin.write_all(&payload).await;
    let _ = stdin.shutdown().await;
}

/// Reads everything, and keeps a byte more than fits, so that what is too large is seen to be.
async fn read(mut stdout: ChildStdout) -> (Vec<u8>, u64) {
    let (mut kept, mut size, mut buffer) = (Vec::new(), 0_u64, vec![0; 16 * 1024]);
    loop {
        match stdout.read(&mut buffer).await {
            Ok(0) | Err(_) => return (kept, size),
            Ok(count) => {
                let room = (limits::RESULT_BYTES_MAX + 1).saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..count.min(room)]);
                size += count as u64;
            }
        }
    }
}

/// What the end of the command means.
fn ending(status: ExitStatus, (printed, size): (Vec<u8>, u64), nonce: &str) -> Outcome {
    if let Some(refusal) = printed.strip_prefix(nonce.as_bytes()) {
        let refusal = String::from_utf8_lossy(refusal);
        return Outcome::not_started(format!("the command could not be started: {}", refusal.trim()));
    }
    let what = format!("the command ended with {status}");
    match status.code().map(u8::try_from) {
        Some(Ok(exit::DONE)) => Outcome::Done(result(printed, size)),
        Some(Ok(exit::HELD)) => Outcome::not_started(what),
        Some(Ok(exit::UNCERTAIN)) => Outcome::uncertain(what),
        _ => Outcome::retry(what),
    }
}

fn result(printed: Vec<u8>, size: u64) -> Option<Body> {
    if size == 0 {
        return None;
    }
    let content_type = match core::str::from_utf8(&printed) {
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    Some(Body { size, ..Body::new(printed, content_type) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn of(code: i32, printed: &str) -> Outcome {
        let printed = (printed.as_bytes().to_vec(), printed.len() as u64);
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
