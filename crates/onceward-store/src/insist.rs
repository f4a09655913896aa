//! Trying again in the background, for those who have left.

use core::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::{Result, backoff};
use tokio::time::{Instant, sleep};

/// Calls until the answer is no error, or one that won't pass, for at most `within`. Waits longer each time, up to two
/// seconds.
///
/// Cancel safe as far as `call` is: nothing is kept between two calls.
///
/// # Errors
/// The last one.
pub async fn insist<'a, T>(
    within: Duration,
    mut call: impl FnMut() -> BoxFuture<'a, Result<T>> + Send,
) -> Result<T> {
    let give_up = Instant::now() + within;
    let mut attempt = 0;
    loop {
        match call().await {
            Err(error) if error.is_retryable() && Instant::now() < give_up => {
                let (first, cap) = (Duration::from_millis(20), Duration::from_secs(2));
                sleep(backoff::delay(attempt, first, cap, u64::from(attempt))).await;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use onceward_core::{Code, Error};

    use super::*;

    async fn calls(code: Code, within: Duration) -> (u32, Result<u32>) {
        let count = AtomicU32::new(0);
        let call = || -> BoxFuture<'_, Result<u32>> {
            Box::pin(async {
                match count.fetch_add(1, Ordering::SeqCst) {
                    at @ 0..3 => Err(Error::new(code, format!("call {at}"))),
                    at => Ok(at),
                }
            })
        };
        let answer = insist(within, call).await;
        (count.load(Ordering::SeqCst), answer)
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
        let (count, answer) = calls(Code::StoreUnavailable, Duration::from_secs(60)).await;
        assert_eq!((count, answer.unwrap()), (4, 3));
        let (count, answer) = calls(Code::KeyInvalid, Duration::from_secs(60)).await;
        assert_eq!((count, answer.unwrap_err().code()), (1, Code::KeyInvalid));
        let (count, answer) = calls(Code::StoreUnavailable, Duration::ZERO).await;
        assert_eq!((count, answer.unwrap_err().message()), (1, "call 0"));
    }
}
