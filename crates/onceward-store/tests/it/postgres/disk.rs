//! The disk under PostgreSQL loses its power, or is full. What was acknowledged is there afterwards.

use core::time::Duration;
use std::sync::Arc;

use crate::power::Disk;
use crate::support::{Fresh, Server, once_ask};
use onceward_core::once::{Body, Ending, State};
use onceward_store::{Claimed, SettleOnce, Store};
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use super::faults::{key_ref, settled};

const MINUTE: Duration = Duration::from_secs(60);

/// The path to one would be too long.
const NO_SOCKET: &str = "unix_socket_directories=";

/// Settles keys, with many hands, until the store fails; says which were acknowledged.
fn hands(store: &Arc<dyn Store>, round: usize) -> tokio::task::JoinSet<Vec<String>> {
    let mut hands = tokio::task::JoinSet::new();
    for hand in 0..8 {
        let store = Arc::clone(store);
        hands.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let name = format!("{round} {hand} {number}");
                let Ok(claimed) = store.once_claim(&[once_ask(&name, MINUTE)]).await else { break };
                let Claimed::Granted(row) = &claimed[0] else { panic!("{name} is ours alone") };
                let (token, place) = (row.token, row.place);
                let (namespace, key) = (row.namespace.clone(), row.key.clone());
                let ending = Ending::Done(Body::new(name.as_bytes().to_vec(), "text/plain"));
                let settle = SettleOnce { namespace, key, token, ending, place };
                let Ok(_) = store.once_settle(&[settle]).await else { break };
                acknowledged.push(name);
            }
            acknowledged
        });
    }
    hands
}

async fn assert_done(store: &dyn Store, names: &[String]) {
    let keys: Vec<_> = names.iter().map(|name| key_ref(name)).collect();
    for (name, row) in names.iter().zip(store.once_lookup(&keys).await.unwrap().rows) {
        assert_eq!(row.map(|row| row.state), Some(State::Done), "{name} was acknowledged");
    }
}

/// N40, N41, G7: the power goes off under load, and every flush from then on fails. What was acknowledged is there when
/// the disk is read anew.
#[tokio::test(flavor = "multi_thread")]
async fn exclusive_proof_n41_what_was_acknowledged_survives_a_power_cut() {
    let Some(disk) = Disk::of("400M") else { return };
    let mut server = block_in_place(|| Server::start_in(&disk.path(""), &[NO_SOCKET]));
    let mut fresh = Fresh::on(&server.url()).await;
    fresh.options.deadline = Duration::from_secs(2);
    disk.flush();
    let cuts = if std::env::var("ONCEWARD_PROVE").is_ok_and(|value| value == "long") { 20 } else { 1 };
    let mut acknowledged = Vec::new();
    for round in 0..cuts {
        let store = fresh.store().await;
        let hands = hands(&store, round);
        sleep(Duration::from_millis(700)).await;
        block_in_place(|| {
            disk.cut();
            server.kill();
        });
        let new = hands.join_all().await.concat();
        assert!(new.len() > 50, "there was no load: {}", new.len());
        acknowledged.extend(new);
        store.close().await;
        block_in_place(|| {
            disk.power_on();
            server.start_again();
        });
        assert_done(&*fresh.store().await, &acknowledged).await;
    }
}

/// N39: the disk of the server is full. Nobody is told that something was done which was not, and with room again the
/// server, started again, has everything that was acknowledged. Clients come back by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn exclusive_n39_a_server_whose_disk_is_full_confirms_nothing_it_lacks() {
    let Some(disk) = Disk::of("200M") else { return };
    let settings = [NO_SOCKET, "min_wal_size=32MB", "max_wal_size=48MB", "wal_recycle=off"];
    let mut server = block_in_place(|| Server::start_in(&disk.path(""), &settings));
    let mut fresh = Fresh::on(&server.url()).await;
    fresh.options.deadline = Duration::from_secs(2);
    let store = fresh.store().await;
    assert!(settled(&*store, "before").await);
    // All of the room but what root keeps for itself, which the server is not.
    let filling = disk.path("filling");
    let full = || {
        let mut file = std::fs::File::create(&filling).unwrap();
        let block = vec![0; 1 << 20];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    };
    block_in_place(full);
    let hands = hands(&store, 0);
    let acknowledged = timeout(Duration::from_secs(60), hands.join_all()).await;
    let acknowledged = acknowledged.expect("the log needs more room than there is").concat();
    std::fs::remove_file(&filling).unwrap();
    block_in_place(|| {
        server.stop();
        server.start_again();
    });
    let mut tries = 0..50;
    while store.once_claim(&[once_ask(&format!("after {tries:?}"), MINUTE)]).await.is_err() {
        assert!(tries.next().is_some(), "it does not go on although there is room");
        sleep(Duration::from_millis(100)).await;
    }
    assert_done(&*store, &[acknowledged, vec!["before".to_owned()]].concat()).await;
}
