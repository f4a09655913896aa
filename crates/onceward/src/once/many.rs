//! One function for many keys: each at most once, their claims and outcomes sent in batches.

use futures_util::StreamExt;
use onceward_core::{Code, Error, Key, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Attempt, NotDone, OnceBuilder, Outcome};
use crate::client::Onceward;

/// Something to be done once for each of many keys.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use std::time::Duration;
///
/// let builder = ow.once_many(["a", "b", "c"]).concurrency(2).each(|once| once.retain_for(Duration::from_secs(3600)));
/// let outcomes = builder.run(async |attempt| Ok(attempt.key().as_str().to_owned())).await?;
/// for (key, outcome) in outcomes {
///     assert_eq!(outcome?.done().as_deref(), Some(key.as_str()));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is done before `run`"]
pub struct OnceManyBuilder {
    client: Onceward,
    keys: Result<Vec<Key>>,
    concurrency: usize,
    template: Option<OnceBuilder>,
}

impl OnceManyBuilder {
    pub(crate) fn new(client: Onceward, keys: Result<Vec<Key>>) -> Self {
        Self { client, keys, concurrency: 64, template: None }
    }

    /// How many run at the same time; 64 by default.
    pub fn concurrency(mut self, at_once: usize) -> Self {
        self.concurrency = at_once.max(1);
        self
    }

    /// Settings for each of the keys, made by the usual builder.
    pub fn each(mut self, set: impl FnOnce(OnceBuilder) -> OnceBuilder) -> Self {
        let first = self.keys.as_ref().map_err(Clone::clone).and_then(|keys| {
            keys.first().cloned().ok_or_else(|| Error::new(Code::KeysInvalid, "no key is named"))
        });
        self.template = Some(set(OnceBuilder::new(self.client.clone(), first)));
        self
    }

    /// Runs `function` for every key that was not run before, and returns the outcomes in the order of the keys. One
    /// key's trouble is its own: each has its own `Result`.
    ///
    /// # Errors
    /// The codes of bad keys, before anything is sent.
    pub async fn run<T, F>(self, function: F) -> Result<Vec<(Key, Result<Outcome<T>>)>>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFn(Attempt) -> Result<T, NotDone>,
    {
        let (keys, function) = (self.keys?, &function);
        let template = self.template;
        let client = self.client;
        let one = |key: Key| {
            let fresh = OnceBuilder::new(client.clone(), Ok(key.clone()));
            let builder = template.clone().map_or(fresh, |set| OnceBuilder { key: Ok(key.clone()), ..set });
            async move { (key, builder.run(async |attempt| function(attempt).await).await) }
        };
        Ok(futures_util::stream::iter(keys).map(one).buffered(self.concurrency).collect().await)
    }
}
