//! The examples as a reader runs them. Those of durable functions are killed in the middle, started again, and done
//! once; the runners of a service are stopped and killed by their own example.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The program of an example, which is built together with the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.ancestors().find(|folder| folder.join("examples").is_dir()).unwrap();
    profile.join("examples").join(name)
}

/// Runs it for so long, then kills it; what it has printed.
fn killed_after(name: &str, store: &Path, time: Duration) -> String {
    let mut program =
        Command::new(example(name)).arg(store).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(time);
    program.kill().unwrap();
    String::from_utf8(program.wait_with_output().unwrap().stdout).unwrap()
}

/// Runs it to its end; what it has printed.
fn finished(name: &str, store: &Path) -> String {
    let output = Command::new(example(name)).arg(store).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// D5: killed at different moments, it comes to the same end, and what was written down is not done again.
#[test]
fn d5_a_simple_flow_that_is_killed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("flow.db");
    let mut printed = String::new();
    for millis in [100, 450] {
        printed += &killed_after("simple_flow", &store, Duration::from_millis(millis));
    }
    let last = finished("simple_flow", &store);
    printed += &last;
    let expected = r#"done: ["tea for order 789", "a pot for order 789", "two cups for order 789"]"#;
    assert!(last.contains(expected), "{last}");
    assert!(last.contains("it was started before"), "{last}");
    assert_eq!(printed.matches("the mail goes out").count(), 1, "{printed}");
    assert!(finished("simple_flow", &store).contains(expected), "its result stays");
}

/// D4: the money of a run that is killed has moved once, and all of it is there.
#[test]
fn d4_money_moves_once_whoever_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("money.db");
    for millis in [150, 400] {
        killed_after("money_transfer", &store, Duration::from_millis(millis));
    }
    let last = finished("money_transfer", &store);
    let audit = "36 transfers made, 4 refused, 0 made twice; the accounts hold 30000 cents in all";
    assert!(last.contains(audit), "{last}");
}

/// D9: the bookings of a trip that fails are undone once each, the last one first, whoever is killed.
#[test]
fn d9_a_trip_that_is_killed_is_booked_and_undone_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("trip.db");
    let first = killed_after("saga_trip_booking", &store, Duration::from_millis(1_300));
    let last = finished("saga_trip_booking", &store);
    let printed = first + &last;
    assert!(last.contains("Ada travels: flight-1, hotel-1, car-1"), "{last}");
    assert!(last.contains("Grace stays at home"), "{last}");
    let undone: Vec<_> = printed.lines().filter(|line| line.ends_with("given back")).collect();
    // The one that was killed in the middle of a step may have done it, and not have written it down.
    assert!(undone.len() <= 3 && undone.ends_with(&["flight-1 given back"]), "{printed}");
}

/// Killed while it waits or before, started again: it is approved once, and the month goes by in a moment.
#[cfg(feature = "testing")]
#[test]
fn an_order_waits_for_its_approval_without_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("approval.db");
    let first = killed_after("approval", &store, Duration::from_millis(250));
    let last = finished("approval", &store);
    assert!(last.contains("a new kettle: approved by Ada"), "{first}\n{last}");
    assert!(last.contains("a golden kettle: nobody has answered for a month\n30 days went by in"), "{last}");
    assert!((first + &last).contains("it is Parked"));
}

/// D5: what fails for a while is tried again, what fails for good is not, and a dead letter is brought back to life.
#[test]
fn d5_a_failing_flow_that_is_killed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("failing.db");
    let first = killed_after("failing_flow", &store, Duration::from_millis(500));
    let last = finished("failing_flow", &store);
    let printed = first + &last;
    assert_eq!(printed.matches("Ada was told, at the attempt number 3").count(), 1, "{printed}");
    assert!(last.contains("5000 cents: failed, Declined"), "{last}");
    assert!(printed.contains("dead letter "), "{printed}");
    assert!(last.ends_with("42 cents: paid 42\n"), "{last}");
}

/// D5: what was fetched is not fetched again, by the run that was killed nor by the next one.
#[test]
fn d5_a_complex_workflow_that_is_killed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("pipeline.db");
    let first = killed_after("complex_workflow", &store, Duration::from_millis(450));
    let last = finished("complex_workflow", &store);
    let printed = first + &last;
    for source in ["orders", "refunds", "flaky"] {
        // One that was killed after it had fetched and before it was written down fetches again.
        let fetched = printed.matches(&format!("fetched {source}")).count();
        assert!((1..=2).contains(&fetched), "{source}: {fetched} times\n{printed}");
    }
    let sums = r#"{"flaky": 60, "orders": 180, "refunds": 84}"#;
    for edition in ["morning", "evening"] {
        assert!(last.contains(&format!("the {edition} report: {sums}")), "{last}");
    }
}

/// D5: a batch that is killed in the middle keeps what it has done.
#[test]
fn d5_a_batch_that_is_killed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("batch.db");
    killed_after("batch_processing", &store, Duration::from_millis(700));
    let last = finished("batch_processing", &store);
    let before = last.split("of which ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(
        (1..1_000).contains(&before.parse::<u32>().unwrap()),
        "it was to be killed in the middle: {last}"
    );
    assert!(last.contains("done: 990 images, "), "{last}");
    assert!(last.contains("damaged: [99, 199, 299, 399, 499, 599, 699, 799, 899, 999]"), "{last}");
}

/// D5: a pipeline of several workers that is killed in the middle goes on, and its view needs no terminal.
#[test]
fn d5_a_media_pipeline_that_is_killed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("media.db").display().to_string();
    let run = |kill_after| {
        let mut program = Command::new(example("media_pipeline"));
        program.args(["--store", &store, "--pace", "60ms"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut program = program.spawn().unwrap();
        if let Some(time) = kill_after {
            std::thread::sleep(time);
            program.kill().unwrap();
        }
        String::from_utf8(program.wait_with_output().unwrap().stdout).unwrap()
    };
    run(Some(Duration::from_millis(350)));
    let last = run(None);
    let parts =
        "holiday.mp4.360p, holiday.mp4.720p, holiday.mp4.1080p, what is said in holiday.mp4; sea, dog";
    assert!(last.contains(&format!("holiday.mp4: {parts}")), "{last}");
    assert!(last.contains("violent.mp4: rejected, violent.mp4 is not safe for everybody"), "{last}");
    assert!(last.contains("notes.txt: rejected, notes.txt is no video"), "{last}");
}

/// A1: of four runners one is stopped for longer than its lease lasts and one is killed; the example audits itself.
#[test]
fn a1_four_runners_run_each_cycle_once_whoever_is_stopped_or_killed() {
    let output = Command::new(example("four_runners")).args(["watch", "2"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("each once, under tokens that grow"), "{printed}");
    assert!(printed.contains("runner-1 is stopped") && printed.contains("runner-1 goes on"), "{printed}");
    assert!((1..=4).filter(|n| printed.contains(&format!("done by runner-{n}"))).count() >= 2, "{printed}");
}
