//! Which store, and the way to it.

use core::time::Duration;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use onceward::store::url::StoreUrl;
use onceward::{Code, ConnectOptions, Error, Onceward, Result};

use crate::args::Globals;

/// What our connections are called in the database.
pub(crate) const APPLICATION: &str = "onceward-cli";

/// The client for the store that was asked for.
pub(crate) async fn connect(globals: &Globals) -> Result<Onceward> {
    connect_as(globals, None).await
}

/// As [`connect`], under an owner name of one's own.
pub(crate) async fn connect_as(globals: &Globals, owner: Option<&str>) -> Result<Onceward> {
    let options = Onceward::options();
    connect_with(globals, if let Some(owner) = owner { options.owner(owner) } else { options }).await
}

/// As [`connect`], with options of one's own.
pub(crate) async fn connect_with(globals: &Globals, options: ConnectOptions) -> Result<Onceward> {
    let options =
        options.namespace(&globals.namespace).deadline(own_deadline(globals)).application_name(APPLICATION);
    #[cfg(feature = "redis")]
    let options = if let Some(redis) = &globals.redis { options.redis(redis) } else { options };
    let url = url(globals)?;
    // Opening a store is a large future, and every command holds it.
    Box::pin(within(globals, options.connect(&url))).await
}

/// How long the store tries by itself: a little less, so that it can still say why it gave up.
pub(crate) fn own_deadline(globals: &Globals) -> Duration {
    globals.deadline - globals.deadline / 20
}

/// Gives up at the deadline. Stores do so by themselves; this is for a name server or a disk that doesn't.
pub(crate) async fn within<T>(globals: &Globals, opening: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(globals.deadline, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(Error::new(Code::StoreUnavailable, "no answer within the deadline")),
    }
}

/// Sends what is still to be sent. The outcome is known by now, so nobody waits for it longer than the deadline.
pub(crate) async fn close(globals: &Globals, client: &Onceward) {
    let _ = tokio::time::timeout(globals.deadline, client.shutdown()).await;
}

/// The URL of the store that was asked for; without one, of the default, whose folder is made.
pub(crate) fn url(globals: &Globals) -> Result<String> {
    if globals.store.is_none()
        && let Some(folder) = default_file()?.parent()
    {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
            let what = format!("the folder {} can't be made", folder.display());
            Error::new(Code::StoreUnavailable, what).with_source(error)
        })?;
    }
    url_unmade(globals)
}

/// As [`url`], without touching the disk.
pub(crate) fn url_unmade(globals: &Globals) -> Result<String> {
    if let Some(url) = &globals.store {
        return Ok(url.clone());
    }
    let file = default_file()?;
    let path = file.to_str().ok_or_else(|| {
        let what = format!("{} is not UTF-8; name a store with --store", file.display());
        Error::new(Code::StoreUrlInvalid, what)
    })?;
    Ok(format!("sqlite://{path}"))
}

fn default_file() -> Result<PathBuf> {
    // The XDG rules want relative paths ignored; they would make another store of every folder.
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let state = state.ok_or_else(|| {
        let what = "there is no home folder; name a store with --store or ONCEWARD_STORE";
        Error::new(Code::StoreUrlInvalid, what)
    })?;
    Ok(state.join("onceward/onceward.db"))
}

/// The URL of the store that was asked for, as it may be printed.
pub(crate) fn redacted(globals: &Globals) -> String {
    let url = url_unmade(globals).and_then(|url| StoreUrl::parse(&url));
    url.map_or_else(|_| "the store".to_owned(), |url| url.redacted())
}
