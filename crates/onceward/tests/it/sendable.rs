//! What is awaited can be spawned: the futures of the API are `Send`, with closures that own what they need.

use std::sync::Arc;

use onceward::{NotDone, Onceward, Verdict};

async fn asked(world: &str, key: &str) -> String {
    tokio::task::yield_now().await;
    format!("{key}: {world}")
}

#[tokio::test]
async fn what_takes_an_async_closure_can_be_spawned() {
    let ow = Onceward::options().connect("memory:").await.unwrap();
    let world: Arc<str> = "what the world says".into();

    let (client, known) = (ow.clone(), Arc::clone(&world));
    let held = tokio::spawn(async move {
        client.lease("k").run(async move |lease| asked(&known, lease.key().as_str()).await).await
    });
    assert_eq!(held.await.unwrap().unwrap(), "k: what the world says");

    let client = ow.clone();
    let doubted = tokio::spawn(async move {
        client.once("k").run(async |_| Err::<u32, _>(NotDone::unknown("no answer"))).await
    });
    assert!(!doubted.await.unwrap().unwrap().is_done());

    let (admin, known) = (ow.admin(), Arc::clone(&world));
    let settled = tokio::spawn(async move {
        let probe = async move |row: &onceward_core::once::Record| {
            Verdict::Happened(asked(&known, row.key.as_str()).await)
        };
        admin.reconcile(None, "asked", probe).await
    });
    assert_eq!(settled.await.unwrap().unwrap().changed.len(), 1);

    let (client, known) = (ow.clone(), Arc::clone(&world));
    let probed = tokio::spawn(async move {
        client
            .once("k")
            .probe(async move |row| Verdict::Happened(asked(&known, row.key.as_str()).await))
            .await
    });
    assert!(probed.await.unwrap().unwrap().unwrap().is_done());
}
