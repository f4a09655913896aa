//! Doing several things at the same time, each in a line of its own.

use core::pin::pin;
use core::task::Poll;

use futures_util::future::{self, Either};
use futures_util::stream::{self, FuturesUnordered, StreamExt};

use super::ambient::{Branch, Fork};

/// Waits for all of them, in the order given.
///
/// ```
/// use onceward::durable::{AnyError, join_all, step};
///
/// #[onceward::durable]
/// async fn pack(parcels: Vec<u32>) -> Result<u32, AnyError> {
///     let packed = join_all(parcels.into_iter().map(|parcel| async move {
///         step("pack", || async move { Ok::<u32, AnyError>(parcel) }).await
///     }));
///     Ok(packed.await.into_iter().sum::<Result<u32, _>>()?)
/// }
/// ```
pub async fn join_all<I>(futures: I) -> Vec<<I::Item as IntoFuture>::Output>
where
    I: IntoIterator,
    I::Item: IntoFuture,
{
    let fork = Fork::new();
    let branch = |(number, future): (usize, I::Item)| fork.branch(number, future.into_future());
    future::join_all(futures.into_iter().enumerate().map(branch)).await
}

/// Waits for all of them, or for the first that fails: the others are dropped, and children among them called off.
///
/// # Errors
/// The first failure.
pub async fn try_join_all<I, T, E>(futures: I) -> Result<Vec<T>, E>
where
    I: IntoIterator,
    I::Item: IntoFuture<Output = Result<T, E>>,
{
    let fork = Fork::new();
    let branch = |(number, future): (usize, I::Item)| fork.branch(number, future.into_future());
    future::try_join_all(futures.into_iter().enumerate().map(branch)).await
}

/// Does something with each item, `concurrency` of them at the same time; the results are in the order of the items.
/// No more than those are held at once.
pub async fn map<I, F, Fut>(items: I, concurrency: usize, mut run: F) -> Vec<Fut::Output>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> Fut,
    Fut: IntoFuture,
{
    let fork = Fork::new();
    let started = items.into_iter().enumerate().map(|(number, item)| {
        let future = run(item);
        fork.branch(number, future.into_future())
    });
    stream::iter(started).buffered(concurrency.max(1)).collect().await
}

/// The same where each may fail: the first failure ends it, the others are dropped, and children among them called off.
/// No more items are begun then.
///
/// ```
/// use onceward::durable::{AnyError, step, try_map};
///
/// #[onceward::durable]
/// async fn resize(pictures: Vec<u32>) -> Result<Vec<u32>, AnyError> {
///     let resized = try_map(pictures, 8, |picture| async move {
///         step("resize", || async move { Ok::<u32, AnyError>(picture) }).await
///     });
///     Ok(resized.await?)
/// }
/// ```
///
/// # Errors
/// The first failure.
pub async fn try_map<I, F, Fut, T, E>(items: I, concurrency: usize, mut run: F) -> Result<Vec<T>, E>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> Fut,
    Fut: IntoFuture<Output = Result<T, E>>,
{
    let fork = Fork::new();
    let mut started = items.into_iter().enumerate().map(|(number, item)| {
        let future = fork.branch(number, run(item).into_future());
        async move { (number, future.await) }
    });
    // Not in their order: a failure is heard of when it happens.
    let (mut under_way, mut done) = (FuturesUnordered::new(), Vec::new());
    under_way.extend(started.by_ref().take(concurrency.max(1)));
    while let Some((number, result)) = under_way.next().await {
        done.push((number, result?));
        under_way.extend(started.next());
    }
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}

/// Waits for both.
#[doc(hidden)]
pub async fn join_two<A: Future, B: Future>(a: Branch<A>, b: Branch<B>) -> (A::Output, B::Output) {
    future::join(a, b).await
}

/// Waits for both, or for the first that fails.
#[doc(hidden)]
pub async fn try_join_two<T, U, E, A, B>(a: Branch<A>, b: Branch<B>) -> Result<(T, U), E>
where
    A: Future<Output = Result<T, E>>,
    B: Future<Output = Result<U, E>>,
{
    future::try_join(a, b).await
}

/// Waits for the first of two, and drops the other one. Of two that have ended, the one whose end was written down
/// first has won, and wins again each time the code comes by.
///
/// ```
/// use onceward::durable::{Either, Failure, race, signal, sleep};
/// use std::time::Duration;
///
/// #[onceward::durable]
/// async fn wait_for_payment(order: u64) -> Result<bool, Failure> {
///     match race(signal::<u64>("paid"), sleep(Duration::from_secs(86_400))).await {
///         Either::Left(paid) => paid.map(|_| true),
///         Either::Right(_) => Ok(false),
///     }
/// }
/// ```
pub async fn race<A: IntoFuture, B: IntoFuture>(a: A, b: B) -> Either<A::Output, B::Output> {
    let fork = Fork::new();
    let mut a = pin!(fork.branch(0, a.into_future()));
    let mut b = pin!(fork.branch(1, b.into_future()));
    future::poll_fn(|cx| {
        // Always in this order: what has ended is given to the code one at a time, so that there is one winner.
        if let Poll::Ready(a) = a.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(a));
        }
        b.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

/// Waits for the first of several, drops the others, and goes on with what belongs to it. As in [`race`], the one whose
/// end was written down first has won, and wins again each time the code comes by.
///
/// ```
/// use onceward::durable::{AnyError, select, signal, sleep};
/// use std::time::Duration;
///
/// #[onceward::durable]
/// async fn approval(order: u64) -> Result<String, AnyError> {
///     Ok(select! {
///         by = signal::<String>("approved") => format!("approved by {}", by?),
///         why = signal::<String>("refused") => format!("refused: {}", why?),
///         _ = sleep(Duration::from_secs(86_400)) => "nobody has answered".to_owned(),
///     })
/// }
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! durable_select {
    (@race $last:expr) => { $last };
    (@race $first:expr, $($rest:expr),+) => {
        $crate::durable::race($first, $crate::durable_select!(@race $($rest),+))
    };
    (@match $won:expr; $pattern:pat => $then:expr) => {
        match $won { $pattern => $then }
    };
    (@match $won:expr; $pattern:pat => $then:expr, $($rest:tt)+) => {
        match $won {
            $crate::durable::Either::Left($pattern) => $then,
            $crate::durable::Either::Right(won) => $crate::durable_select!(@match won; $($rest)+),
        }
    };
    ($($pattern:pat = $future:expr => $then:expr),+ $(,)?) => {
        $crate::durable_select!(@match $crate::durable_select!(@race $($future),+).await; $($pattern => $then),+)
    };
}

/// Waits for all of them, two to eight: `let (a, b) = join!(charge(order), pack(order));`
///
/// In crates of every edition:
///
/// ```edition2021
/// use onceward::durable::{AnyError, durable, join, sleep, step, try_join};
/// use std::time::Duration;
///
/// #[durable]
/// async fn pack(parcel: u32) -> Result<u32, AnyError> {
///     Ok(parcel)
/// }
///
/// #[durable]
/// async fn all() -> Result<u32, AnyError> {
///     let (packed, slept) = join!(pack(1), sleep(Duration::from_millis(1)));
///     slept?;
///     let (a, b, c) = try_join!(pack(2), pack(3), pack(4))?;
///     Ok(packed? + a + b + c)
/// }
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! durable_join {
    ($a:expr, $b:expr $(,)?) => {{
        let fork = $crate::durable::Fork::new();
        let (a, b) =
            (::core::future::IntoFuture::into_future($a), ::core::future::IntoFuture::into_future($b));
        $crate::durable::join_two(fork.branch(0, a), fork.branch(1, b)).await
    }};
    ($a:expr, $b:expr, $c:expr $(,)?) => {{
        let ((a, b), c) = $crate::durable::join!(async { $crate::durable::join!($a, $b) }, $c);
        (a, b, c)
    }};
    ($a:expr, $b:expr, $c:expr, $d:expr $(,)?) => {{
        let ((a, b), (c, d)) = $crate::durable::join!(async { $crate::durable::join!($a, $b) }, async {
            $crate::durable::join!($c, $d)
        });
        (a, b, c, d)
    }};
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr $(,)?) => {{
        let ((a, b, c, d), e) = $crate::durable::join!(async { $crate::durable::join!($a, $b, $c, $d) }, $e);
        (a, b, c, d, e)
    }};
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr $(,)?) => {{
        let ((a, b, c, d), (e, f)) =
            $crate::durable::join!(async { $crate::durable::join!($a, $b, $c, $d) }, async {
                $crate::durable::join!($e, $f)
            });
        (a, b, c, d, e, f)
    }};
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr $(,)?) => {{
        let ((a, b, c, d), (e, f, g)) =
            $crate::durable::join!(async { $crate::durable::join!($a, $b, $c, $d) }, async {
                $crate::durable::join!($e, $f, $g)
            });
        (a, b, c, d, e, f, g)
    }};
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr $(,)?) => {{
        let ((a, b, c, d), (e, f, g, h)) =
            $crate::durable::join!(async { $crate::durable::join!($a, $b, $c, $d) }, async {
                $crate::durable::join!($e, $f, $g, $h)
            });
        (a, b, c, d, e, f, g, h)
    }};
}

/// Waits for all of them, two to eight, or for the first that fails; what is left then is given up, and children are
/// called off.
#[macro_export]
#[doc(hidden)]
macro_rules! durable_try_join {
    ($a:expr, $b:expr $(,)?) => {{
        let fork = $crate::durable::Fork::new();
        let (a, b) =
            (::core::future::IntoFuture::into_future($a), ::core::future::IntoFuture::into_future($b));
        $crate::durable::try_join_two(fork.branch(0, a), fork.branch(1, b)).await
    }};
    ($a:expr, $b:expr, $c:expr $(,)?) => {
        $crate::durable::try_join!(async { $crate::durable::try_join!($a, $b) }, $c)
            .map(|((a, b), c)| (a, b, c))
    };
    ($a:expr, $b:expr, $c:expr, $d:expr $(,)?) => {
        $crate::durable::try_join!(async { $crate::durable::try_join!($a, $b) }, async {
            $crate::durable::try_join!($c, $d)
        })
        .map(|((a, b), (c, d))| (a, b, c, d))
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr $(,)?) => {
        $crate::durable::try_join!(async { $crate::durable::try_join!($a, $b, $c, $d) }, $e)
            .map(|((a, b, c, d), e)| (a, b, c, d, e))
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr $(,)?) => {
        $crate::durable::try_join!(async { $crate::durable::try_join!($a, $b, $c, $d) }, async {
            $crate::durable::try_join!($e, $f)
        })
        .map(|((a, b, c, d), (e, f))| (a, b, c, d, e, f))
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr $(,)?) => {
        $crate::durable::try_join!(async { $crate::durable::try_join!($a, $b, $c, $d) }, async {
            $crate::durable::try_join!($e, $f, $g)
        })
        .map(|((a, b, c, d), (e, f, g))| (a, b, c, d, e, f, g))
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr $(,)?) => {
        $crate::durable::try_join!(async { $crate::durable::try_join!($a, $b, $c, $d) }, async {
            $crate::durable::try_join!($e, $f, $g, $h)
        })
        .map(|((a, b, c, d), (e, f, g, h))| (a, b, c, d, e, f, g, h))
    };
}
