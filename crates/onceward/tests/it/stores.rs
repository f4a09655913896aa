//! The same test on every store: memory, a SQLite file, and PostgreSQL, at the same time.

use std::time::Duration;

use onceward::Onceward;

/// How long a test may take before it counts as hung.
const DEADLINE: Duration = Duration::from_secs(90);

/// Runs a test on each store, with a client on a place of its own.
pub(crate) async fn each(test: impl AsyncFn(Onceward)) {
    each_place(async |place| {
        let ow = place.client().await;
        test(ow.clone()).await;
        ow.shutdown().await;
    })
    .await;
}

/// Where a store is; other processes open it by its URL.
pub(crate) struct At {
    pub(crate) url: String,
}

impl At {
    /// A client, as one more process would have it.
    pub(crate) async fn client(&self) -> Onceward {
        Onceward::options().short_ttls_for_tests().connect(&self.url).await.unwrap()
    }

    /// Whether another client sees what one has written.
    pub(crate) fn is_shared(&self) -> bool {
        self.url != "memory:"
    }
}

/// Runs a test on each store.
pub(crate) async fn each_place(test: impl AsyncFn(&At)) {
    let mut urls = vec!["memory:".to_owned()];
    #[cfg(feature = "sqlite")]
    let folder = tempfile::tempdir().unwrap();
    #[cfg(feature = "sqlite")]
    urls.push(format!("sqlite://{}/store.db", folder.path().display()));
    #[cfg(feature = "postgres")]
    let schema = crate::pg::Schema::migrated().await;
    #[cfg(feature = "postgres")]
    urls.push(schema.url().to_owned());
    let on = async |url: String| {
        let said = Said(url.clone());
        let at = At { url };
        let ended = tokio::time::timeout(DEADLINE, test(&at)).await;
        assert!(ended.is_ok(), "it hangs on {}", at.url);
        drop(said);
    };
    let (on, mut running) = (&on, Vec::new());
    for url in urls {
        running.push(on(url));
    }
    futures_util::future::join_all(running).await;
}

/// Says on which store a test has failed.
struct Said(String);

impl Drop for Said {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was on {}, or on one beside it", self.0);
        }
    }
}
