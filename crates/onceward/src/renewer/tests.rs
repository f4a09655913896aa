//! N6: whoever holds something learns in time that it is lost, also from a renewer that does nothing.

use onceward_core::{Key, Namespace, SessionId, Token};
use onceward_store::clock::SystemClock;
use onceward_store::memory::MemoryStore;
use onceward_store::{ClaimRef, Clock};
use tokio::time::timeout;

use super::*;
use crate::hold::Lost;

const TTL: Duration = Duration::from_millis(300);

fn watched(renewer: &Renewer) -> (Arc<Hold>, Watch) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sent = clock.boottime();
    let hold = Arc::new(Hold::new(Token::from_row(7), clock.wall().after(TTL), clock, sent, TTL, None));
    let claim = ClaimRef {
        namespace: Namespace::default(),
        key: Key::new("k").unwrap(),
        slot: 0,
        token: Token::from_row(7),
        session: SessionId::from_uuid(uuid::Uuid::nil()),
    };
    let watch = renewer.watch(Subject::Lease(claim), TTL, true, Arc::clone(&hold));
    (hold, watch)
}

#[tokio::test]
async fn n6_a_claim_is_lost_in_time_although_the_renewer_stands_still() {
    let renewer = Renewer::on(Arc::new(MemoryStore::default()), |_| Ok(()));
    let (hold, _watch) = watched(&renewer);
    assert!(hold.is_valid());
    let lost = timeout(TTL, hold.lost()).await.expect("before the store gives it to somebody else");
    assert_eq!((lost, hold.is_valid()), (Lost::NotRenewed, false));
}

#[tokio::test]
async fn n6_a_renewal_prolongs_the_wait() {
    let renewer = Renewer::on(Arc::new(MemoryStore::default()), |_| Ok(()));
    let (hold, _watch) = watched(&renewer);
    let later = async {
        tokio::time::sleep(TTL / 3).await;
        let clock = SystemClock;
        hold.renewed(clock.boottime(), TTL * 2, clock.wall().after(TTL * 2));
    };
    let (still_ours, ()) = tokio::join!(timeout(TTL, hold.lost()), later);
    assert!(still_ours.is_err());
    assert_eq!(timeout(TTL * 2, hold.lost()).await.unwrap(), Lost::NotRenewed);
}

#[tokio::test]
async fn n6_without_a_thread_a_claim_is_lost_at_once() {
    let renewer = Renewer::on(Arc::new(MemoryStore::default()), |_| Err(io::Error::other("no more threads")));
    let (hold, watch) = watched(&renewer);
    assert_eq!(hold.lost_because(), Some(Lost::NotRenewed));
    assert!(matches!(watch.renew_now().await, Ok(Renew::Lost)));
}
