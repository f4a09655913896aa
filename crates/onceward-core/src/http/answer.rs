//! What an exchange means for its job (H1, H2).
//!
//! | seen | usually | at most once |
//! |---|---|---|
//! | a complete 2xx | done | done |
//! | refused by the policy; nothing was sent | dead | dead |
//! | broken before a byte of the request was sent | again | again |
//! | broken afterwards, before there was a status; a 2xx that is not complete | again | **uncertain** |
//! | 408, 409, 425, 429, 5xx | again; `Retry-After` of 429, 502, 503, 504 counts | 5xx, 408: **uncertain**; else dead |
//! | 410 | dead, and the endpoint is switched off | the same |
//! | 3xx | dead: redirects are not followed | **uncertain** |
//! | other 4xx | dead | dead |
//! | a 2xx with too long an answer | dead | **uncertain** |
//!
//! The status of any other answer says all there is to know: what follows it may be long, slow, or cut off.

use core::fmt;
use core::time::Duration;

use super::retry_after::retry_after;
use crate::{Code, Timestamp, backoff};

/// Where an exchange broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is not allowed to go there. More attempts are no use.
    Refused,
    /// The name was not found.
    Resolve,
    /// There was no connection.
    Connect,
    /// TLS could not be agreed on.
    Tls,
    /// A connection was there, and no byte of the request had been given to it.
    Unsent,
    /// The request was on its way, in part or as a whole, and there was no answer.
    Sent,
    /// The answer, a 2xx, had begun, and did not come to its end.
    Answer,
    /// The answer, a 2xx, was longer than is read.
    TooLong,
}

impl Stage {
    /// Whether it is proved that no byte of the request was sent.
    pub fn is_unsent(self) -> bool {
        self <= Self::Unsent
    }
}

/// An exchange that broke off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where.
    pub stage: Stage,
    /// What happened, in words.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.stage {
            Stage::Refused => "not allowed",
            Stage::Resolve => "the name could not be looked up",
            Stage::Connect => "no connection",
            Stage::Tls => "no TLS",
            Stage::Unsent => "not sent",
            Stage::Sent => "sent, and not answered",
            Stage::Answer => "the answer broke off",
            Stage::TooLong => "the answer was too long",
        };
        write!(f, "{what}: {}", self.why)
    }
}

/// An answer: a 2xx that came to its end, or another one of which the head is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its `Retry-After`, as it was sent.
    pub retry_after: Option<String>,
}

/// What becomes of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was delivered.
    Done,
    /// It was not; once more, after this pause or the usual one.
    Again {
        /// What went wrong.
        error: String,
        /// How long the receiver wants to be left alone.
        after: Option<Duration>,
    },
    /// It was not, and it is proved that the receiver saw nothing of it.
    NotStarted {
        /// What went wrong.
        error: String,
    },
    /// It was not, and more attempts are no use.
    Dead {
        /// What went wrong.
        error: String,
        /// Whether the receiver wants nothing any more.
        gone: bool,
    },
    /// Nobody knows whether it was delivered.
    Uncertain {
        /// Why.
        error: String,
    },
}

/// Judges (H1, H2). `now` is the wall clock that dates are compared with; `seed` is any random number, so that those
/// whom a receiver has sent away do not all come back at once.
pub fn judge(seen: &Result<Answer, Broken>, at_most_once: bool, now: Timestamp, seed: u64) -> Verdict {
    match seen {
        Ok(answer) => judge_answer(answer, at_most_once, now, seed),
        Err(broken) => judge_broken(broken, at_most_once),
    }
}

fn judge_broken(broken: &Broken, at_most_once: bool) -> Verdict {
    let error = broken.to_string();
    match broken.stage {
        Stage::Refused => Verdict::Dead { error, gone: false },
        stage if stage.is_unsent() => Verdict::NotStarted { error },
        _ if at_most_once => Verdict::Uncertain { error },
        Stage::TooLong => Verdict::Dead { error, gone: false },
        _ => Verdict::Again { error, after: None },
    }
}

fn judge_answer(answer: &Answer, at_most_once: bool, now: Timestamp, seed: u64) -> Verdict {
    let status = answer.status;
    let error = match status {
        200..=299 => return Verdict::Done,
        300..=399 => format!("the receiver answered {status}; redirects are not followed"),
        _ => format!("the receiver answered {status}"),
    };
    match status {
        410 => Verdict::Dead { error, gone: true },
        // Whoever answers like this may have done it, or passed it on to somebody who has.
        300..=399 | 408 | 500.. if at_most_once => Verdict::Uncertain { error },
        408 | 409 | 425 | 429 | 500..=599 if !at_most_once => {
            Verdict::Again { error, after: pause_asked(answer, now, seed) }
        }
        _ => Verdict::Dead { error, gone: false },
    }
}

/// For how long the receiver wants to be left alone, whatever becomes of the job: what `Retry-After` says of a status
/// that it means something with.
pub fn pause_asked(answer: &Answer, now: Timestamp, seed: u64) -> Option<Duration> {
    let throttles = matches!(answer.status, 429 | 502 | 503 | 504);
    let asked = answer.retry_after.as_deref().filter(|_| throttles)?;
    retry_after(asked, now).map(|pause| spread(pause, seed))
}

/// Up to a tenth longer.
fn spread(pause: Duration, seed: u64) -> Duration {
    let parts = u32::try_from(backoff::mix(seed) >> 44).unwrap_or(0); // 20 bits
    pause + (pause / 10).mul_f64(f64::from(parts) / f64::from(1_u32 << 20))
}

impl Broken {
    /// Broken at `stage`.
    pub fn new(stage: Stage, why: impl fmt::Display) -> Self {
        Self { stage, why: why.to_string() }
    }

    /// Not allowed to go there.
    pub fn refused(code: Code, why: &str) -> Self {
        Self { stage: Stage::Refused, why: format!("{code}: {why}") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn status(status: u16, at_most_once: bool) -> Verdict {
        judge(&Ok(Answer { status, retry_after: None }), at_most_once, NOW, 7)
    }

    fn name(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Done => "done",
            Verdict::Again { .. } => "again",
            Verdict::NotStarted { .. } => "not started",
            Verdict::Dead { gone: true, .. } => "gone",
            Verdict::Dead { .. } => "dead",
            Verdict::Uncertain { .. } => "uncertain",
        }
    }

    /// H1, W55.
    #[test]
    fn h1_only_a_complete_2xx_is_a_success() {
        for (code, usually, once) in [
            (200, "done", "done"),
            (204, "done", "done"),
            (101, "dead", "dead"),
            (301, "dead", "uncertain"),
            (302, "dead", "uncertain"),
            (307, "dead", "uncertain"),
            (400, "dead", "dead"),
            (401, "dead", "dead"),
            (404, "dead", "dead"),
            (408, "again", "uncertain"),
            (409, "again", "dead"),
            (410, "gone", "gone"),
            (425, "again", "dead"),
            (429, "again", "dead"),
            (500, "again", "uncertain"),
            (503, "again", "uncertain"),
            (599, "again", "uncertain"),
            (600, "dead", "uncertain"),
        ] {
            assert_eq!((name(&status(code, false)), name(&status(code, true))), (usually, once), "{code}");
        }
    }

    /// W69.
    #[test]
    fn retry_after_counts_where_it_means_something() {
        let after = |status, value: &str| {
            let answer = Answer { status, retry_after: Some(value.to_owned()) };
            match judge(&Ok(answer), false, NOW, 7) {
                Verdict::Again { after, .. } => after,
                other => panic!("{other:?}"),
            }
        };
        for code in [429, 502, 503, 504] {
            let pause = after(code, "10").unwrap();
            assert!(pause >= Duration::from_secs(10) && pause <= Duration::from_secs(11), "{code} {pause:?}");
        }
        assert_eq!((after(500, "10"), after(429, "soon")), (None, None));
        // Whatever becomes of the job, the receiver is left alone for as long as it asks for.
        let answer = Answer { status: 429, retry_after: Some("10".to_owned()) };
        assert!(matches!(judge(&Ok(answer.clone()), true, NOW, 7), Verdict::Dead { .. }));
        assert!(pause_asked(&answer, NOW, 7).unwrap() >= Duration::from_secs(10));
    }

    /// H2, W55.
    #[test]
    fn h2_at_most_once_only_what_was_not_sent_is_tried_again() {
        use Stage::{Answer, Connect, Refused, Resolve, Sent, Tls, TooLong, Unsent};
        for (stage, usually, once) in [
            (Refused, "dead", "dead"),
            (Resolve, "not started", "not started"),
            (Connect, "not started", "not started"),
            (Tls, "not started", "not started"),
            (Unsent, "not started", "not started"),
            (Sent, "again", "uncertain"),
            (Answer, "again", "uncertain"),
            (TooLong, "dead", "uncertain"),
        ] {
            let broken = Err(Broken::new(stage, "x"));
            let verdicts = [false, true].map(|once| judge(&broken, once, NOW, 7));
            assert_eq!((name(&verdicts[0]), name(&verdicts[1])), (usually, once), "{stage:?}");
        }
    }

    proptest! {
        /// H2: whatever a receiver answers, at most once means that what was sent is not sent again.
        #[test]
        fn h2_no_answer_sends_it_again(
            code in any::<u16>(),
            after in proptest::option::of(any::<String>()),
            seed in any::<u64>(),
        ) {
            let verdict = judge(&Ok(Answer { status: code, retry_after: after }), true, NOW, seed);
            let again = matches!(verdict, Verdict::Again { .. } | Verdict::NotStarted { .. });
            prop_assert!(!again);
            prop_assert_eq!(verdict == Verdict::Done, (200..300).contains(&code));
        }
    }
}
