//! Whose turn it is, with a clock that is moved by hand.

use super::*;

fn target(path: &str) -> Line {
    Line::of(path.to_owned(), path.to_owned())
}

fn gates(slots: usize) -> Arc<Gates> {
    let gates = Gates::new();
    gates.slots.store(slots, Ordering::Relaxed);
    Arc::new(gates)
}

async fn go(gates: &Arc<Gates>, path: &str) -> Pass {
    match gates.turn(&target(path), false, 7).await {
        Turn::Go(pass) => pass,
        Turn::Later(pause) => panic!("sent away for {pause:?}"),
        Turn::Open => panic!("its breaker is open"),
    }
}

async fn is_sent_away(gates: &Arc<Gates>, path: &str) -> bool {
    matches!(gates.turn(&target(path), false, 7).await, Turn::Later(_))
}

/// H5.
#[tokio::test(start_paused = true)]
async fn h5_receivers_that_do_not_answer_leave_a_part_of_the_worker_to_the_others() {
    let gates = gates(20);
    go(&gates, "/good").await.end(Went::Answered, None, 1);
    go(&gates, "/late").await.end(Went::Late, None, 1);
    let mut hanging = Vec::new();
    for number in 0..15 {
        hanging.push(go(&gates, &format!("/hang/{number}")).await);
    }
    assert!(is_sent_away(&gates, "/hang/15").await, "three quarters are taken by those that nobody knows");
    assert!(is_sent_away(&gates, "/late").await, "of one that did not answer, half is enough");
    let mut good = go(&gates, "/good").await;
    hanging.iter_mut().for_each(|pass| assert!(pass.is_slow() || pass.slow));
    good.is_slow();
    assert!(is_sent_away(&gates, "/good").await, "it has become slow itself");
    good.end(Went::Answered, None, 1);
    go(&gates, "/good").await.end(Went::Answered, None, 1);
    drop(hanging);
    {
        let state = gates.lock();
        assert_eq!((state.slow, state.lent, state.doubt.count), (0, 0, 0));
    }
    go(&gates, "/late").await.end(Went::Answered, None, 1);
}

/// H5.
#[tokio::test(start_paused = true)]
async fn h5_a_receiver_begins_with_a_tenth_and_grows_with_its_answers() {
    let gates = gates(40);
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(go(&gates, "/a").await);
    }
    assert!(is_sent_away(&gates, "/a").await, "nothing is known of it yet");
    go(&gates, "/b").await.end(Went::Answered, None, 1);
    first.into_iter().for_each(|pass| pass.end(Went::Answered, None, 1));
    for _ in 0..10 {
        go(&gates, "/a").await.end(Went::Answered, None, 1);
    }
    let mut many = Vec::new();
    while let Turn::Go(pass) = gates.turn(&target("/a"), false, 7).await {
        many.push(pass);
    }
    assert_eq!(many.len(), 30, "never more than its share");
    many.into_iter().for_each(|pass| pass.end(Went::Late, None, 1));
    assert!(matches!(gates.turn(&target("/a"), false, 7).await, Turn::Open));
    // What would be the end of a job is tried all the same, within the share.
    let mut last = Vec::new();
    while let Turn::Go(pass) = gates.turn(&target("/a"), true, 7).await {
        last.push(pass);
    }
    assert_eq!(last.len(), 4);
    go(&gates, "/b").await.end(Went::Answered, None, 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_quick_receiver_goes_as_soon_as_it_is_free() {
    let gates = gates(12);
    let first = go(&gates, "/a").await;
    let waits = tokio::spawn({
        let gates = Arc::clone(&gates);
        async move { go(&gates, "/a").await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    first.end(Went::Answered, None, 1);
    waits.await.unwrap().end(Went::Answered, None, 1);
    assert_eq!(gates.lock().waiting, 0);
}

/// N56.
#[tokio::test(start_paused = true)]
async fn n56_those_that_are_sent_away_come_back_one_after_the_other() {
    let gates = gates(12);
    go(&gates, "/a").await.end(Went::Late, None, 1);
    let _held = go(&gates, "/a").await;
    let mut last = Duration::ZERO;
    for number in 0..100 {
        let Turn::Later(pause) = gates.turn(&target("/a"), false, number).await else { panic!("it is held") };
        assert!(pause >= last && pause <= PAUSE_MAX, "{pause:?} after {last:?}");
        last = pause;
    }
    assert!(last >= Duration::from_secs(5), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_gets_no_more_at_once_and_in_a_time_than_it_was_set_to() {
    let gates = gates(40);
    let most = Line { most: Some(2), ..target("/a") };
    let rate = Line { rate: Some("10/s".parse().unwrap()), ..target("/b") };
    let mut held = Vec::new();
    while let Turn::Go(pass) = gates.turn(&most, false, 7).await {
        held.push(pass);
    }
    assert_eq!(held.len(), 2);
    let mut started = 0;
    while let Turn::Go(pass) = gates.turn(&rate, false, 7).await {
        pass.end(Went::Answered, None, 1);
        started += 1;
    }
    assert_eq!(started, 10, "what the rate gives in a second, at once");
    tokio::time::sleep(Duration::from_millis(210)).await;
    for _ in 0..2 {
        assert!(matches!(gates.turn(&rate, false, 7).await, Turn::Go(_)));
    }
    assert!(matches!(gates.turn(&rate, false, 7).await, Turn::Later(_)));
}

/// H5: a receiver that has failed ten times is asked by one request, and if that was not sent, by the next one.
#[tokio::test(start_paused = true)]
async fn h5_one_probe_closes_the_breaker_and_one_that_was_not_sent_blocks_nobody() {
    let gates = gates(40);
    for _ in 0..10 {
        go(&gates, "/a").await.end(Went::Broken, None, 1);
    }
    let is_open = async |gates: &Arc<Gates>| matches!(gates.turn(&target("/a"), false, 7).await, Turn::Open);
    assert!(is_open(&gates).await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let probe = go(&gates, "/a").await;
    assert!(is_open(&gates).await, "the others wait for it");
    drop(probe);
    let probe = go(&gates, "/a").await;
    probe.end(Went::Answered, None, 1);
    go(&gates, "/a").await.end(Went::Answered, None, 1);
}

/// However many receivers somebody makes up, and however they fail, what is remembered is bounded.
#[tokio::test(start_paused = true)]
async fn receivers_that_fail_do_not_fill_the_memory() {
    let gates = gates(40);
    let held = go(&gates, "/held").await;
    for number in 0..3 * PLACES {
        go(&gates, &format!("/{number}")).await.end(Went::Broken, None, 1);
        tokio::time::advance(Duration::from_micros(10)).await;
    }
    {
        let state = gates.lock();
        assert!(state.places.len() <= PLACES, "{}", state.places.len());
        assert!(state.places.contains_key("/held"), "something is under way to it");
        assert!(state.places.contains_key(&format!("/{}", 3 * PLACES - 1)), "the newest stay");
    }
    held.end(Went::Answered, None, 1);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_for_a_pause_is_left_alone() {
    let gates = gates(40);
    go(&gates, "/a").await.end(Went::Answered, Some(Duration::from_secs(30)), 1);
    let Turn::Later(pause) = gates.turn(&target("/a"), false, 7).await else { panic!("it is held") };
    assert!(pause >= Duration::from_secs(30), "{pause:?}");
    go(&gates, "/b").await.end(Went::Answered, None, 1);
    tokio::time::sleep(Duration::from_secs(31)).await;
    go(&gates, "/a").await.end(Went::Answered, None, 1);
}

/// H5: a host that does not answer gets no more of the worker by having many paths.
#[tokio::test(start_paused = true)]
async fn h5_one_host_with_many_paths_that_hang_leaves_most_of_the_worker_to_the_others() {
    let gates = gates(40);
    let at = |host: &str, path: usize| Line::of(format!("{host}/{path}"), host.to_owned());
    let take = async |line: &Line| match gates.turn(line, false, 7).await {
        Turn::Go(pass) => Some(pass),
        Turn::Later(_) | Turn::Open => None,
    };
    let mut held = Vec::new();
    for path in 0..200 {
        held.extend(take(&at("hangs", path)).await);
    }
    assert_eq!(held.len(), 10, "a quarter");
    // Another host of which nothing is known gets its part all the same, and one that answers more.
    take(&at("good", 0)).await.unwrap().end(Went::Answered, None, 1);
    let mut good = Vec::new();
    for path in 1..200 {
        good.extend(take(&at("good", path)).await);
    }
    assert_eq!(good.len(), 20, "all that is left for unknown ones: one was answered");
    good.into_iter().for_each(|pass| pass.end(Went::Answered, None, 1));
    held.into_iter().for_each(|pass| pass.end(Went::Late, None, 1));
    let state = gates.lock();
    assert_eq!((state.doubt.count, state.origins.contains_key("hangs")), (0, false));
}

/// W69: a receiver that gets too much gets less, and none at all if it goes on saying so.
#[tokio::test(start_paused = true)]
async fn w69_a_receiver_that_says_it_gets_too_much_gets_less() {
    let gates = gates(40);
    for _ in 0..10 {
        go(&gates, "/a").await.end(Went::Answered, None, 1);
    }
    for _ in 0..9 {
        go(&gates, "/a").await.end(Went::Throttled, None, 1);
    }
    let mut many = Vec::new();
    while let Turn::Go(pass) = gates.turn(&target("/a"), false, 7).await {
        many.push(pass);
    }
    assert_eq!(many.len(), 4, "a tenth");
    many.into_iter().for_each(|pass| pass.end(Went::Throttled, None, 1));
    assert!(matches!(gates.turn(&target("/a"), false, 7).await, Turn::Open), "it has failed often enough");
    // Whoever says for how long is taken at his word.
    for _ in 0..20 {
        go(&gates, "/b").await.end(Went::Throttled, Some(Duration::from_secs(1)), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    go(&gates, "/b").await.end(Went::Answered, None, 1);
}

/// A request that nobody waited for says something about its receiver only where it took long.
#[tokio::test(start_paused = true)]
async fn h5_a_slow_request_that_was_cut_off_counts_against_its_receiver() {
    let gates = gates(40);
    go(&gates, "/a").await.cut(1);
    assert_eq!(gates.lock().places["/a"].answers, None);
    let mut pass = go(&gates, "/a").await;
    pass.is_slow();
    pass.cut(1);
    let state = gates.lock();
    assert_eq!((state.places["/a"].answers, state.slow), (Some(false), 0));
}

/// H5: many receivers that have answered go dark together. Whoever is asked next to them goes at once, and they
/// together have little more than half of the worker.
#[tokio::test(start_paused = true)]
async fn h5_receivers_that_have_answered_and_go_dark_together_leave_a_part_of_the_worker() {
    let gates = gates(500);
    for number in 0..300 {
        for _ in 0..5 {
            go(&gates, &format!("/{number}")).await.end(Went::Answered, None, 1);
        }
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    let mut held = Vec::new();
    for number in 0..600 {
        // Those from 200 on go on to answer.
        if let Asked::Go { doubt, probe } = gates.ask(&target(&format!("/{}", number % 200)), false, 7, false)
        {
            held.push(Pass::new(&gates, &target(&format!("/{}", number % 200)), doubt, probe));
        }
    }
    assert_eq!(held.len(), 250, "one each, and others up to half of the worker");
    for second in 0..30 {
        for number in 200..300 {
            let path = format!("/{number}");
            go(&gates, &path).await.end(Went::Answered, None, 1);
            let many: Vec<Pass> = [go(&gates, &path).await, go(&gates, &path).await].into();
            many.into_iter().for_each(|pass| pass.end(Went::Answered, None, 1));
        }
        if second == 1 {
            let lent = held.iter_mut().map(|pass| usize::from(pass.is_slow())).sum::<usize>();
            assert_eq!(lent, 250, "slow ones lend their slots, up to half as many as there are");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    held.into_iter().for_each(|pass| pass.end(Went::Late, None, 1));
    let state = gates.lock();
    assert_eq!((state.doubt.count, state.slow, state.lent), (0, 0, 0));
}

/// A worker that runs one job at a time, or three, keeps something for those that answer as well, and lends no more.
#[tokio::test(start_paused = true)]
async fn h5_a_small_worker_keeps_a_slot_for_those_that_answer() {
    for (slots, unknown, lends) in [(1, 1, 0), (2, 1, 1), (3, 2, 1), (4, 3, 2), (7, 6, 3)] {
        let gates = gates(slots);
        go(&gates, "/good").await.end(Went::Answered, None, 1);
        let mut held = Vec::new();
        for number in 0..slots {
            if let Turn::Go(pass) = gates.turn(&target(&format!("/{number}")), false, 7).await {
                held.push(pass);
            }
        }
        assert_eq!(held.len(), unknown, "of {slots}");
        go(&gates, "/good").await.end(Went::Answered, None, 1);
        let lent = held.iter_mut().map(|pass| usize::from(pass.is_slow())).sum::<usize>();
        assert_eq!(lent, lends.min(unknown), "of {slots}");
    }
}

/// Claims every job when it is due until each was sent and has come to its end, or was charged an attempt because the
/// breaker is open; what is sent takes so long and ends like this. Returns how often a job was claimed. Beside them,
/// `/good` is asked all the time, and is never sent away.
async fn claims(gates: &Arc<Gates>, lines: &[Line], takes: Duration, went: Went) -> usize {
    use core::cmp::Reverse;

    let began = Instant::now();
    let mut due: std::collections::BinaryHeap<_> =
        (0..lines.len()).map(|job| Reverse((began, job))).collect();
    let mut passes: Vec<Option<Pass>> = lines.iter().map(|_| None).collect();
    let (mut claims, mut ends) = (0, 0);
    go(gates, "/good").await.end(Went::Answered, None, 1);
    while let Some(Reverse((at, job))) = due.pop() {
        tokio::time::advance(at.saturating_duration_since(Instant::now())).await;
        // What is due comes a little later than that.
        let late = Duration::from_millis(job as u64 * 31 % 50);
        if let Some(pass) = passes[job].take() {
            pass.end(went, None, job as u64);
            ends += 1;
            continue;
        }
        claims += 1;
        match gates.ask(&lines[job], false, job as u64, false) {
            Asked::Go { doubt, probe } => {
                passes[job] = Some(Pass::new(gates, &lines[job], doubt, probe));
                due.push(Reverse((at + takes, job)));
            }
            Asked::Later(pause) => due.push(Reverse((at + pause + late, job))),
            Asked::Open => ends += 1,
            Asked::Busy(_) => panic!("it does not wait in its slot"),
        }
        if claims % 16 == 0 {
            go(gates, "/good").await.end(Went::Answered, None, 1);
        }
    }
    assert_eq!(ends, lines.len());
    claims
}

/// N56: thousands that wait for an endpoint with a rate come back one after the other, when it is their turn.
#[tokio::test(start_paused = true)]
async fn n56_thousands_that_wait_for_a_rate_are_claimed_a_few_times_each() {
    for (jobs, rate, most) in [(3_000, "10/s", 3), (5_000, "100/1m", 9)] {
        let gates = gates(50);
        let line = || Line { rate: Some(rate.parse().unwrap()), ..target("/rated") };
        let lines: Vec<Line> = (0..jobs).map(|_| line()).collect();
        let began = Instant::now();
        let claims = claims(&gates, &lines, Duration::from_millis(5), Went::Answered).await;
        assert!(claims <= most * jobs, "{claims} claims of {jobs} at {rate}");
        // The pauses are no longer than the rate is slow.
        let Line { rate: Some(rate), .. } = line() else { unreachable!() };
        let needs = rate.per * u32::try_from(jobs).unwrap() / rate.count;
        assert!(
            began.elapsed() <= needs * 5 / 4 + PAUSE_MAX / 2,
            "{:?} instead of {needs:?}",
            began.elapsed()
        );
    }
}

/// N56: so do those that wait for a host that hangs, whether it has one path or thousands, and whether it has ever
/// answered.
#[tokio::test(start_paused = true)]
async fn n56_thousands_that_wait_for_a_host_that_hangs_are_claimed_a_few_times_each() {
    const HANGS: Duration = Duration::from_millis(28_500);
    let at = |path: usize| Line::of(format!("hangs/{path}"), "hangs".to_owned());
    let paths: Vec<Line> = (0..3_000).map(at).collect();
    let made = claims(&gates(40), &paths, HANGS, Went::Late).await;
    assert!(made <= 12 * paths.len(), "{made} claims of {} paths", paths.len());
    // Each at a host of its own.
    let hosts: Vec<Line> = (0..1_000).map(|host| target(&format!("hangs-{host}/"))).collect();
    let made = claims(&gates(40), &hosts, HANGS, Went::Late).await;
    assert!(made <= 30 * hosts.len(), "{made} claims of {} hosts", hosts.len());
    let path: Vec<Line> = (0..3_000).map(|_| at(0)).collect();
    let made = claims(&gates(40), &path, HANGS, Went::Late).await;
    assert!(made <= 10 * path.len(), "{made} claims of one path");
    let gates = gates(500);
    for _ in 0..10 {
        go(&gates, "hangs/0").await.end(Went::Answered, None, 1);
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    let made = claims(&gates, &path, HANGS, Went::Late).await;
    assert!(made <= 12 * path.len(), "{made} claims of one path that has answered");
}

/// Those that were sent away while a receiver was slow are no obstacle to those that come once it is quick.
#[tokio::test(start_paused = true)]
async fn n56_a_receiver_that_is_quick_again_has_a_short_line() {
    let gates = gates(20);
    go(&gates, "/a").await.end(Went::Answered, None, 1);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(go(&gates, "/a").await);
    }
    tokio::time::advance(Duration::from_secs(20)).await;
    let mut longest = Duration::ZERO;
    for seed in 0..500 {
        match gates.ask(&target("/a"), false, seed, false) {
            Asked::Later(pause) => longest = longest.max(pause),
            _ => panic!("it has all that it may have"),
        }
    }
    assert!(longest > PAUSE_MAX, "{longest:?}");
    held.into_iter().for_each(|pass| pass.end(Went::Answered, None, 1));
    for _ in 0..40 {
        go(&gates, "/a").await.end(Went::Answered, None, 1);
    }
    let mut busy = Vec::new();
    let pause = loop {
        match gates.ask(&target("/a"), false, 7, false) {
            Asked::Go { doubt, probe } => busy.push(Pass::new(&gates, &target("/a"), doubt, probe)),
            Asked::Later(pause) => break pause,
            _ => panic!("it answers"),
        }
    };
    assert!(pause <= Duration::from_secs(15), "{pause:?} although it has just answered forty times");
}

/// Whoever waits for a pause that a receiver has asked for comes back after it, and not with all others.
#[tokio::test(start_paused = true)]
async fn n56_those_that_wait_for_a_pause_to_end_come_back_one_after_the_other() {
    let gates = gates(40);
    go(&gates, "/a").await.end(Went::Throttled, Some(Duration::from_secs(60)), 1);
    let mut last = Duration::ZERO;
    for seed in 0..1_000 {
        let Asked::Later(pause) = gates.ask(&target("/a"), false, seed, false) else { panic!("it is held") };
        assert!(pause >= Duration::from_secs(60) && pause >= last, "{pause:?} after {last:?}");
        last = pause;
    }
    assert!(last >= Duration::from_secs(65), "{last:?}");
    // One that begins anew knows nothing of that.
    gates.forgive(&target("/a"));
    go(&gates, "/a").await.end(Went::Answered, None, 1);
}
