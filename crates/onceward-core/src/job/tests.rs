//! The rules of jobs, one by one and in random histories.

use proptest::prelude::*;

use super::*;
use crate::Code;

fn id(number: u128) -> JobId {
    JobId::from_uuid(Uuid::from_u128(number))
}

fn new() -> New {
    New::of_kind(Namespace::default(), id(1), Kind::from_row("mail"), Payload::default())
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn ended() -> Ended {
    Ended { token: Token::from_row(7), started_at: at(5), worker: Owner::from_row("web-1:7"), http: None }
}

fn facts(policy: &Policy, attempt: u32) -> Facts<'_> {
    Facts { attempt, lost: 0, policy, state: State::Ready, past: &[] }
}

fn failed() -> Ending {
    Ending::Failed { error: "no".to_owned(), after: None }
}

#[test]
fn bad_input_is_refused_with_its_code() {
    let codes = |change: &dyn Fn(&mut New)| {
        let mut job = new();
        change(&mut job);
        job.check().unwrap_err().code()
    };
    assert!(new().check().is_ok());
    let too_large = vec![0; limits::PAYLOAD_BYTES_MAX + 1];
    assert_eq!(codes(&|job| job.payload.bytes.clone_from(&too_large)), Code::PayloadTooLarge);
    assert_eq!(codes(&|job| job.priority = 1001), Code::PriorityInvalid);
    assert_eq!(codes(&|job| job.priority = i16::MIN), Code::PriorityInvalid);
    assert_eq!(codes(&|job| job.policy.max_attempts = 0), Code::AttemptsInvalid);
    assert_eq!(codes(&|job| job.policy.max_attempts = 1001), Code::AttemptsInvalid);
    assert_eq!(codes(&|job| job.policy.timeout = Duration::ZERO), Code::TimeoutInvalid);
    assert_eq!(codes(&|job| job.policy.retain = Duration::MAX), Code::RetainInvalid);
    assert_eq!(codes(&|job| job.delay = Some(Duration::MAX)), Code::DelayInvalid);
    assert_eq!(codes(&|job| job.run_at = Some(at(i64::MAX))), Code::DelayInvalid);
    assert_eq!(
        codes(&|job| (job.run_at, job.policy.deadline) = (Some(at(5)), Some(at(5)))),
        Code::DelayInvalid
    );
    assert_eq!(codes(&|job| job.tags = vec![Tag::from_row("a"); 17]), Code::TagsInvalid);
    assert_eq!(codes(&|job| job.metadata = Some("\0".to_owned())), Code::MetadataInvalid);
    assert_eq!(codes(&|job| job.payload.content_type = "a\nb".to_owned()), Code::MetadataInvalid);
}

/// J4: whoever has had as many attempts as there are is not given one more.
#[test]
fn j4_nobody_is_given_more_attempts_than_there_are() {
    let mut row = Record::of_new(&new(), at(1));
    for state in [State::Dead, State::Uncertain] {
        row.state = state;
        row.attempt = limits::ATTEMPTS_MAX - 1;
        assert_eq!(intervene(Some(&row), None, &Move::RunNow), Moved::Applied { from: state });
        let next = moved(&row, &Move::RunNow, &Owner::from_row("me"), None, at(9));
        assert_eq!(next.policy.max_attempts, limits::ATTEMPTS_MAX);
        row.attempt = limits::ATTEMPTS_MAX;
        assert_eq!(intervene(Some(&row), None, &Move::RunNow), Moved::Wrong(state));
        assert_eq!(intervene(Some(&row), None, &Move::Cancel), Moved::Applied { from: state });
    }
}

/// N55: what may have killed a process is not put beside others by a worker that leaves.
#[test]
fn n55_a_job_that_is_handed_back_stays_alone() {
    let (policy, run) = (Policy::default(), Policy { durable: true, ..Policy::default() });
    let alone = |policy: &Policy, lost| {
        let facts = Facts { lost, ..facts(policy, lost) };
        end(facts, &ended(), Ending::HandedBack, at(10), false, 1).alone
    };
    assert_eq!([alone(&policy, 0), alone(&policy, 1)], [false, true]);
    assert_eq!([alone(&run, limits::RUN_LOST_ALONE - 1), alone(&run, limits::RUN_LOST_ALONE)], [false, true]);
}

#[test]
fn an_ending_leaves_the_state_it_means() {
    let policy = Policy::default();
    let of = |ending| end(facts(&policy, 0), &ended(), ending, at(10), false, 1);
    let body = Body::new(b"ok".to_vec(), "text/plain");
    let done = of(Ending::Done(Some(body.clone())));
    assert_eq!((done.state, done.attempt, done.result), (State::Succeeded, 1, Some(body)));
    let next = of(failed());
    assert_eq!((next.state, next.attempt, next.past.len()), (State::Retrying, 1, 1));
    assert!(next.delay.is_some_and(|delay| delay >= Duration::from_millis(1_600)));
    let next = of(Ending::Failed { error: "later".to_owned(), after: Some(Duration::from_secs(9)) });
    assert_eq!(next.delay, Some(Duration::from_secs(9)));
    let next = of(Ending::Snoozed(Duration::from_secs(3)));
    assert_eq!((next.state, next.attempt, next.delay), (State::Scheduled, 0, Some(Duration::from_secs(3))));
    let next = of(Ending::HandedBack);
    assert_eq!((next.state, next.attempt, next.past.len()), (State::Ready, 0, 0));
    assert_eq!(of(Ending::Dead("bad".to_owned())).state, State::Dead);
    assert_eq!(of(Ending::Uncertain("?".to_owned())).state, State::Uncertain);
    assert_eq!(of(Ending::TimedOut).state, State::Retrying);
    let next = of(Ending::Lost { begun: true });
    assert_eq!((next.state, next.attempt, next.lost, next.alone), (State::Ready, 1, 1, true));
    let next = of(Ending::Lost { begun: false });
    assert_eq!((next.state, next.attempt, next.lost, next.alone), (State::Ready, 0, 0, false));
}

#[test]
fn at_most_once_is_not_tried_again_after_it_may_have_run() {
    let policy = Policy { at_most_once: true, ..Policy::default() };
    let of = |ending| end(facts(&policy, 0), &ended(), ending, at(10), false, 1).state;
    assert_eq!(of(failed()), State::Dead);
    assert_eq!(of(Ending::NotStarted { error: "refused".to_owned() }), State::Retrying);
    assert_eq!(of(Ending::TimedOut), State::Uncertain);
    assert_eq!(of(Ending::Lost { begun: true }), State::Uncertain);
    assert_eq!(of(Ending::Lost { begun: false }), State::Ready);
    assert_eq!(of(Ending::HandedBack), State::Ready);
}

/// J8: whoever called a job off does not see it run again; a true outcome stays one.
#[test]
fn a_job_that_was_called_off_does_not_go_on() {
    let policy = Policy::default();
    let of = |ending| end(facts(&policy, 0), &ended(), ending, at(10), true, 1).state;
    assert_eq!(of(failed()), State::Cancelled);
    assert_eq!(of(Ending::Snoozed(Duration::from_secs(1))), State::Cancelled);
    assert_eq!(of(Ending::HandedBack), State::Cancelled);
    assert_eq!(of(Ending::Lost { begun: true }), State::Cancelled);
    assert_eq!(of(Ending::Done(None)), State::Succeeded);
    assert_eq!(of(Ending::Dead("bad".to_owned())), State::Dead);
}

#[test]
fn nothing_is_tried_again_after_its_deadline() {
    let policy = Policy { deadline: Some(at(3_000_000)), ..Policy::default() };
    let job = facts(&policy, 0);
    assert_eq!(end(job, &ended(), failed(), at(0), false, 1).state, State::Retrying);
    assert_eq!(end(job, &ended(), failed(), at(2_000_000), false, 1).state, State::Dead);
}

/// J3: a claim's token is larger than that of each of its jobs, whatever the clock says.
#[test]
fn a_claim_has_a_larger_token_than_its_jobs() {
    let token = claim_token([3, 90, 5].map(Token::from_row), at(10));
    assert!([3, 90, 5].into_iter().all(|job| is_running(Token::from_row(job), token)));
    assert_eq!(claim_token([], at(10)).get(), 10);
}

#[test]
fn the_past_survives_its_text_and_is_bounded() {
    let attempt = |number| Attempt {
        number,
        token: Token::from_row(i64::from(number) + 100),
        started_at: at(1),
        finished_at: at(2),
        outcome: "failed".to_owned(),
        worker: "web-1:7".to_owned(),
        error: Some("\"quoted\" \u{1F980}\n".repeat(60)),
        http: (number % 2 == 0).then(|| {
            let excerpt = Some("\"no\" \u{1F980}".repeat(20));
            Box::new(Seen { status: Some(500), excerpt, ..Seen::default() })
        }),
    };
    let mut past = Vec::new();
    for number in 1..=200 {
        past = remember(&past, attempt(number));
    }
    let text = past_to_text(&past).unwrap();
    assert!(text.len() < limits::PAST_BYTES_MAX * 2, "{}", text.len());
    assert_eq!(past_from_text(Some(&text)), past);
    assert_eq!(past.iter().take(3).map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(past.last().unwrap().number, 200);
    assert_eq!(past_to_text(&[]), None);
    assert_eq!(past_from_text(Some("{")), []);
}

fn any_ending() -> impl Strategy<Value = Ending> {
    let text = || "no".to_owned();
    prop_oneof![
        Just(Ending::Done(None)),
        Just(failed()),
        Just(Ending::NotStarted { error: text() }),
        Just(Ending::TimedOut),
        Just(Ending::Snoozed(Duration::from_secs(1))),
        Just(Ending::HandedBack),
        Just(Ending::Cancelled(text())),
        Just(Ending::Dead(text())),
        Just(Ending::Uncertain(text())),
        any::<bool>().prop_map(|begun| Ending::Lost { begun }),
    ]
}

proptest! {
    /// J4: however its attempts end, a job has no more than its attempts, and each of them is charged at most once.
    #[test]
    fn j4_attempts_stay_within_the_limit(
        endings in prop::collection::vec((any_ending(), any::<bool>()), 1..60),
        max_attempts in 1_u32..8,
        at_most_once: bool,
    ) {
        let policy = Policy { max_attempts, at_most_once, ..Policy::default() };
        let (mut attempt, mut lost, mut past, mut state) = (0, 0, Vec::new(), State::Ready);
        for (seed, (ending, called_off)) in endings.into_iter().enumerate() {
            let job = Facts { attempt, lost, policy: &policy, state, past: &past };
            let next = end(job, &ended(), ending.clone(), at(0), called_off, seed as u64);
            prop_assert!(next.attempt == attempt || next.attempt == attempt + 1);
            prop_assert!(next.attempt <= max_attempts && next.lost <= next.attempt);
            prop_assert!(next.state != State::Running);
            prop_assert!(!called_off || next.state.is_final());
            prop_assert_eq!(next.delay.is_some(), next.state.is_later());
            let ran = matches!(ending, Ending::Failed { .. } | Ending::TimedOut | Ending::Lost { begun: true });
            if at_most_once && ran {
                prop_assert!(next.state.is_final());
            }
            if next.state.is_final() {
                break;
            }
            (attempt, lost, past, state) = (next.attempt, next.lost, next.past, next.state);
        }
    }
}

/// A run that goes on as new has all its attempts, unless somebody has called it off.
#[test]
fn a_run_that_goes_on_as_new_has_its_attempts_anew() {
    let policy = Policy { durable: true, ..Policy::default() };
    let facts = Facts { attempt: 0, lost: 0, policy: &policy, state: State::Ready, past: &[] };
    let failed = end(facts, &ended(), failed(), at(0), false, 1);
    assert_eq!((failed.attempt, failed.past.len()), (1, 1));
    let facts = Facts { attempt: 1, lost: 1, past: &failed.past, ..facts };
    let next = end(facts, &ended(), Ending::Continued, at(0), false, 1);
    assert_eq!((next.state, next.delay), (State::Scheduled, Some(Duration::ZERO)));
    assert_eq!((next.attempt, next.lost, next.past), (0, 0, Vec::new()));
    assert_eq!(end(facts, &ended(), Ending::Continued, at(0), true, 1).state, State::Cancelled);
}

/// J6: what has ended well, or was called off, stays so; the rest can be moved by whoever saw it as it is.
#[test]
fn interventions_respect_what_has_ended() {
    let row = |state| Record { state, token: Token::from_row(5), ..Record::of_new(&new(), at(0)) };
    let of = |state, to: &Move| intervene(Some(&row(state)), Some(Token::from_row(5)), to);
    for state in [State::Scheduled, State::Ready, State::Retrying, State::Dead, State::Uncertain] {
        assert_eq!(of(state, &Move::Cancel), Moved::Applied { from: state });
        assert_eq!(of(state, &Move::RunNow), Moved::Applied { from: state });
    }
    for state in [State::Succeeded, State::Cancelled] {
        assert_eq!(of(state, &Move::RunNow), Moved::Wrong(state));
        assert_eq!(of(state, &Move::Cancel), Moved::Wrong(state));
    }
    assert_eq!(of(State::Uncertain, &Move::Done(None)), Moved::Applied { from: State::Uncertain });
    assert_eq!(of(State::Dead, &Move::Done(None)), Moved::Wrong(State::Dead));
    assert_eq!(intervene(None, None, &Move::Cancel), Moved::Absent);
    let stale = intervene(Some(&row(State::Dead)), Some(Token::from_row(4)), &Move::Cancel);
    assert_eq!(stale, Moved::Stale(Token::from_row(5)));
    let running = Running {
        claim: ClaimId::from_uuid(Uuid::nil()),
        session: SessionId::from_uuid(Uuid::nil()),
        token: Token::from_row(9),
        since: at(1),
        owner: Owner::from_row("web-1:7"),
    };
    let row = Record { running: Some(running), ..row(State::Ready) };
    assert_eq!(intervene(Some(&row), None, &Move::Cancel), Moved::Noted);
    assert_eq!(intervene(Some(&row), None, &Move::RunNow), Moved::Running);
}

/// Every attempt is told once, whatever state the job was left in, and none that was not charged.
#[test]
fn attempts_are_told_once() {
    let mut row = Record::of_new(&new(), at(0));
    let numbers = |row: &Record| row.attempts().iter().map(|attempt| attempt.number).collect::<Vec<_>>();
    for (token, ending, told) in [
        (7, Ending::HandedBack, &[][..]),
        (8, failed(), &[1]),
        (9, Ending::Snoozed(Duration::from_secs(1)), &[1]),
        (10, Ending::Dead("bad".to_owned()), &[1, 2]),
    ] {
        let ended = Ended { token: Token::from_row(token), ..ended() };
        let next = end(row.facts(), &ended, ending, at(10), false, 1);
        (row.token, row.attempted_at, row.state) = (ended.token, Some(at(5)), next.state);
        (row.attempt, row.past, row.error) = (next.attempt, next.past, next.error);
        assert_eq!(numbers(&row), told, "after {:?}", row.state);
    }
    let row = moved(&row, &Move::RunNow, &Owner::from_row("ops"), Some("fixed"), at(20));
    assert_eq!((row.state, numbers(&row)), (State::Ready, vec![1, 2]));
    assert_eq!(row.error.as_deref(), Some("run again by ops: fixed"));
    let row = moved(&row, &Move::Cancel, &Owner::from_row("ops"), None, at(30));
    assert_eq!((row.finished_at, numbers(&row)), (Some(at(30)), vec![1, 2]));
}

/// J9: what lives again has its key again, unless that was about its start, and it has started.
#[test]
fn a_job_that_is_run_again_wants_the_key_that_it_gave_up() {
    let dedupe = |scope| Dedupe { key: Key::from_row("d"), scope, on_conflict: OnConflict::Existing };
    let hour = DedupeScope::Window(Duration::from_secs(3_600));
    for (scope, begun, wanted) in [
        (DedupeScope::UntilDone, false, true),
        (DedupeScope::UntilDone, true, true),
        (DedupeScope::UntilStarted, false, true),
        (DedupeScope::UntilStarted, true, false),
        (hour, false, false),
    ] {
        let row = Record::of_new(&New { dedupe: Some(dedupe(scope)), ..new() }, at(0));
        let begun = begun.then(|| Token::from_row(7));
        for state in [State::Dead, State::Uncertain] {
            let row = Record { state, begun, ..row.clone() };
            assert_eq!(key_again(&row, &Move::RunNow).is_some(), wanted, "{scope:?}, {begun:?}");
            for to in [Move::Cancel, Move::Dead, Move::Done(None)] {
                assert_eq!(key_again(&row, &to), None);
            }
        }
        // What waits has not given it up.
        for state in [State::Scheduled, State::Ready, State::Retrying] {
            assert_eq!(key_again(&Record { state, begun, ..row.clone() }, &Move::RunNow), None);
        }
    }
}

/// J4, J6: whoever wants a job to run again grants the attempt it has not left, and no more.
#[test]
fn a_job_that_is_run_again_has_an_attempt() {
    let ops = Owner::from_row("ops");
    let dead = |attempt| {
        let mut row = Record { state: State::Dead, attempt, ..Record::of_new(&new(), at(0)) };
        row.policy.max_attempts = 3;
        moved(&row, &Move::RunNow, &ops, None, at(10))
    };
    assert_eq!([1, 3].map(|attempt| dead(attempt).policy.max_attempts), [3, 4]);
    assert!(dead(3).token > Token::from_row(0) && dead(3).finished_at.is_none());
}

/// J4: a newcomer with fewer attempts than the job has had leaves it the one that it waits for.
#[test]
fn a_job_that_is_replaced_has_an_attempt_left() {
    let row = Record { attempt: 3, state: State::Retrying, ..Record::of_new(&new(), at(0)) };
    let mut newcomer = New { id: id(2), root: id(2), tags: vec![Tag::from_row("gpu")], ..new() };
    for (said, left) in [(1, 4), (9, 9)] {
        newcomer.policy.max_attempts = said;
        let next = newcomer.onto(&row);
        assert_eq!((next.policy.max_attempts, next.id, next.root), (left, id(1), id(1)));
        assert_eq!((next.state, next.attempt, next.tags.len()), (State::Retrying, 3, 1));
    }
}

/// What was seen of an exchange is kept with its attempt, also of the last one, whatever it has led to.
#[test]
fn what_was_seen_of_an_exchange_stands_with_its_attempt() {
    let seen = |status| Box::new(Seen { status: Some(status), ..Seen::default() });
    let policy = Policy { max_attempts: 2, ..Policy::default() };
    let facts = Facts { attempt: 0, lost: 0, policy: &policy, state: State::Ready, past: &[] };
    let failed = || Ending::Failed { error: "500".to_owned(), after: None };
    let first = end(facts, &Ended { http: Some(seen(500)), ..ended() }, failed(), at(9), false, 1);
    assert_eq!((first.state, first.past[0].http.clone()), (State::Retrying, Some(seen(500))));
    let facts = Facts { attempt: 1, past: &first.past, ..facts };
    let second = end(facts, &Ended { http: Some(seen(502)), ..ended() }, failed(), at(10), false, 1);
    let last = second.past.last().unwrap();
    assert_eq!((second.state, last.number, last.outcome.as_str()), (State::Dead, 2, "dead"));
    assert_eq!(last.http, Some(seen(502)));
    let value = serde_json::to_value(last).unwrap();
    assert_eq!((&value["status"], &value["outcome"]), (&502.into(), &"dead".into()));
}

/// D9: a run that has begun is not put away over its own head; it may have something to undo.
#[test]
fn d9_a_run_that_has_begun_is_asked_to_end() {
    let durable = |state| {
        let mut row = Record { state, ..Record::of_new(&new(), at(0)) };
        row.policy.durable = true;
        row
    };
    let cancel = |row: &Record| intervene(Some(row), None, &Move::Cancel);
    for state in [State::Scheduled, State::Ready, State::Retrying] {
        let fresh = durable(state);
        assert_eq!(cancel(&fresh), Moved::Applied { from: state });
        let begun = Record { attempted_at: Some(at(1)), ..fresh.clone() };
        assert_eq!(cancel(&begun), Moved::Begun);
        let mut goes_on = fresh;
        goes_on.policy.origin = Some(Origin { seed: Uuid::nil(), began: Some(at(1)) });
        assert_eq!(cancel(&goes_on), Moved::Begun, "it goes on with the journal of another one");
    }
    for state in [State::Dead, State::Uncertain] {
        let ended = Record { attempted_at: Some(at(1)), ..durable(state) };
        assert_eq!(cancel(&ended), Moved::Applied { from: state });
    }
}

/// An expiry counts from the enqueue, by the clock of the store (J15, G1); what was said for sure stays the bound.
#[test]
fn j15_an_expiry_counts_from_the_enqueue() {
    let of = |deadline, expiry: Option<u64>| {
        let expiry = expiry.map(Duration::from_micros);
        let job = New { policy: Policy { deadline, expiry, ..Policy::default() }, ..new() };
        let row = Record::of_new(&job, at(1_000));
        // What a row keeps is read the same.
        let read = Record::of_new(&new(), at(1_000));
        assert_eq!(read.with_spec(Spec::from_text(job.spec().to_text().as_deref())).policy, row.policy);
        (row.policy.deadline, row.policy.expiry)
    };
    assert_eq!(of(None, Some(50)), (Some(at(1_050)), None));
    assert_eq!(of(Some(at(1_020)), Some(50)), (Some(at(1_020)), None));
    assert_eq!(of(Some(at(2_000)), Some(50)), (Some(at(1_050)), None));
    assert_eq!(of(Some(at(2_000)), None), (Some(at(2_000)), None));
}
