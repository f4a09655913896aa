//! Leases through the public API, on the memory model and on SQLite.

use std::time::{Duration, Instant};

use onceward::{Code, Lost, Onceward};

async fn client(url: &str) -> Onceward {
    Onceward::options().short_ttls_for_tests().connect(url).await.unwrap()
}

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn acquire_release_and_the_holder_shown() {
    let ow = client("memory:").await;
    let lease = ow.lease("k").metadata("backup of shop").acquire().await.unwrap().unwrap();
    let onceward::lease::Acquisition::Held(Some(holder)) = ow.lease("k").acquire_or_holder().await.unwrap()
    else {
        panic!("held")
    };
    assert_eq!((holder.token, holder.is_me), (lease.token(), true), "not re-entrant: refused like anybody");
    assert_eq!(holder.metadata.as_deref(), Some("backup of shop"));
    let first = lease.token();
    assert!(lease.release().await.unwrap());
    let again = ow.lease("k").acquire().await.unwrap().unwrap();
    assert!(again.token() > first);
}

/// L9: the holder is told before the lease runs out, and renewals keep it far longer than its ttl.
#[tokio::test(flavor = "multi_thread")]
async fn l9_renewed_until_the_hard_limit_then_lost() {
    let ow = client("memory:").await;
    let started = Instant::now();
    let lease =
        ow.lease("k").ttl(SHORT).hard_ttl(Duration::from_millis(900)).acquire().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(lease.is_valid(), "{:?}", lease.lost_because());
    assert_eq!(lease.lost().await, Lost::HardLimit);
    let lost_after = started.elapsed();
    assert!(
        lost_after > Duration::from_millis(700) && lost_after < Duration::from_millis(900),
        "{lost_after:?}"
    );
    assert_eq!(lease.check().unwrap_err().code(), Code::LeaseLost);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_auto_renew_it_runs_out_and_is_not_revived() {
    let ow = client("memory:").await;
    let lease = ow.lease("k").ttl(SHORT).auto_renew(false).acquire().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    lease.renew().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(lease.is_valid(), "renewed by hand");
    assert_eq!(lease.lost().await, Lost::NotRenewed);
    assert_eq!(lease.renew().await.unwrap_err().code(), Code::LeaseLost);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_gives_back_unless_told_not_to() {
    let ow = client("memory:").await;
    drop(ow.lease("k").acquire().await.unwrap().unwrap());
    let lease = ow.lease("k").wait(Duration::from_secs(2)).acquire().await.unwrap().unwrap();
    lease.release().await.unwrap();
    drop(ow.lease("k").ttl(SHORT).auto_release(false).acquire().await.unwrap().unwrap());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(ow.lease("k").acquire().await.unwrap().is_none(), "closed until its ttl has passed");
    assert!(ow.lease("k").wait(Duration::from_secs(2)).acquire().await.unwrap().is_some());
}

/// W5: leaving early is quick.
#[tokio::test(flavor = "multi_thread")]
async fn run_returns_at_once_and_the_value_with_it() {
    let ow = client("memory:").await;
    let started = Instant::now();
    let value = ow.lease("k").ttl(Duration::from_secs(4)).run(async |lease| lease.token()).await.unwrap();
    assert!(value.get() > 0 && started.elapsed() < Duration::from_millis(200));
    let held = ow.lease("k").acquire().await.unwrap().unwrap();
    let refused = ow.lease("k").run(async |_| ()).await.unwrap_err();
    assert_eq!(refused.code(), Code::LeaseHeld);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_cancels_the_body_when_the_lease_is_broken() {
    let ow = client("memory:").await;
    let admin = ow.admin();
    let work = ow.lease("k").ttl(SHORT).run(async |_| tokio::time::sleep(Duration::from_secs(60)).await);
    let (done, ()) = tokio::join!(work, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        admin.break_lease("k", None, "stuck").await.unwrap();
    });
    assert_eq!(done.unwrap_err().code(), Code::LeaseLost);
}

/// N12: many waiters, one after the other, each soon after the release before.
#[tokio::test(flavor = "multi_thread")]
async fn l6_fifty_waiters_are_served_in_order_within_50_ms_each() {
    let ow = client("memory:").await;
    let first = ow.lease("k").acquire().await.unwrap().unwrap();
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..50 {
        let (ow, order) = (ow.clone(), order.clone());
        waiting.push(tokio::spawn(async move {
            let lease =
                ow.lease("k").fair(true).wait(Duration::from_secs(20)).acquire().await.unwrap().unwrap();
            order.lock().unwrap().push(number);
            lease.release().await.unwrap();
        }));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let started = Instant::now();
    first.release().await.unwrap();
    for waiter in waiting {
        waiter.await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_millis(50 * 50), "{:?}", started.elapsed());
    assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_keys_are_all_or_none() {
    let ow = client("memory:").await;
    let set = ow.leases(["b", "a", "c"]).acquire().await.unwrap().unwrap();
    assert!(set.is_valid() && set.of("b").is_some());
    assert!(ow.leases(["c", "d"]).acquire().await.unwrap().is_none());
    assert!(ow.lease("d").acquire().await.unwrap().is_some(), "nothing was kept");
    set.release().await.unwrap();
    assert_eq!(ow.leases(["a", "a"]).acquire().await.unwrap_err().code(), Code::KeysInvalid);
    let both = ow.leases(["a", "b"]).wait(Duration::from_secs(1)).acquire().await.unwrap();
    assert!(both.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_before_anything_is_written() {
    let ow = Onceward::connect("memory:").await.unwrap();
    let code = async |builder: onceward::lease::LeaseBuilder| builder.acquire().await.unwrap_err().code();
    assert_eq!(code(ow.lease("")).await, Code::KeyInvalid);
    assert_eq!(code(ow.lease("k").ttl(Duration::ZERO)).await, Code::TtlInvalid);
    assert_eq!(code(ow.lease("k").ttl(Duration::from_millis(999))).await, Code::TtlInvalid);
    let short = ow.lease("k").ttl(Duration::from_secs(2)).hard_ttl(Duration::from_secs(1));
    assert_eq!(code(short).await, Code::HardTtlInvalid);
    assert_eq!(code(ow.lease("k").capacity(0)).await, Code::CapacityInvalid);
    assert_eq!(code(ow.lease("k").metadata("x".repeat(20_000))).await, Code::MetadataInvalid);
    assert_eq!(code(ow.lease("k").lock_delay(Duration::from_secs(7200))).await, Code::LockDelayInvalid);
    assert!(ow.admin().leases(None, None, None, 10).await.unwrap().rows.is_empty());
}
