//! Undoing what was done, in the reverse order, when something later fails.

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::step::step;

/// What has to be undone should something later fail.
///
/// ```
/// use onceward::durable::{AnyError, Saga, step};
///
/// # async fn book(what: &str) -> Result<u64, AnyError> { Ok(1) }
/// # async fn cancel(id: u64) -> Result<(), AnyError> { Ok(()) }
/// #[onceward::durable]
/// async fn trip() -> Result<(), AnyError> {
///     let mut saga = Saga::new();
///     let flight = step("book flight", || book("flight")).await?;
///     saga.undo("cancel flight", move || cancel(flight));
///     if let Err(error) = step("book hotel", || book("hotel")).await {
///         saga.compensate().await?;
///         return Err(error.into());
///     }
///     Ok(())
/// }
/// ```
#[derive(Default)]
pub struct Saga<E> {
    steps: Vec<(&'static str, Undo<E>)>,
}

type Undo<E> = Box<dyn FnMut() -> BoxFuture<'static, Result<(), E>> + Send>;

impl<E> core::fmt::Debug for Saga<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|(name, _)| name)).finish()
    }
}

impl<E: Serialize + DeserializeOwned + Send + 'static> Saga<E> {
    /// Nothing was done yet.
    pub fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// This undoes what was done just now: a step of that name.
    pub fn undo<F, Fut>(&mut self, name: &'static str, mut undo: F)
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.steps.push((name, Box::new(move || Box::pin(undo()))));
    }

    /// Undoes everything, the last thing first; each is a step, which is written down and not run twice. All of them
    /// are tried.
    ///
    /// # Errors
    /// The first failure of them.
    pub async fn compensate(&mut self) -> Result<(), Failure<E>> {
        let mut first = Ok(());
        while let Some((name, undo)) = self.steps.pop() {
            let undone = step(name, undo).max_attempts(5).undoes().await;
            first = first.and(undone);
        }
        first
    }
}
