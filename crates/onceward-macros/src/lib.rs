//! The macros of Onceward: they read what was said, refuse what can't be meant, and write it down as constants.
//! No behaviour is generated.
//!
//! Use them through the crate `onceward`, which re-exports them.

mod durable;
mod job;
mod words;

use proc_macro::TokenStream;

/// Makes a type with named or unnamed fields the payload of a job.
///
/// ```text
/// #[derive(Serialize, Deserialize, Job)]
/// #[job(kind = "mail.welcome", queue = "mail", max_attempts = 8, timeout = "30s", priority = 5,
///       retry = "exponential 2s max 15m", at_most_once)]
/// struct Welcome { user: u64 }
/// ```
///
/// | word | meaning | otherwise |
/// |---|---|---|
/// | `kind` | what the job is, and so which handler runs it; must be said | |
/// | `queue` | where it waits | `default` |
/// | `tags` | only workers that offer one of these run it: `tags = ["gpu"]` | any worker |
/// | `priority` | -1000 to 1000, the higher one goes first | 0 |
/// | `max_attempts` | 1 to 1000 | 20 |
/// | `timeout` | how long one attempt may take, 10 ms to 7 days | 15 minutes |
/// | `retry` | how long to wait between attempts | `exponential 2s max 15m jitter 0.2` |
/// | `at_most_once` | an attempt nobody knows the end of makes it uncertain | it is tried again |
/// | `retain` | how long it is kept when it is over; `0s` deletes it at once | 7 days |
///
/// Each of them may be said otherwise when a job is enqueued. What is out of range is refused by the compiler.
#[proc_macro_derive(Job, attributes(job))]
pub fn derive_job(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    job::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes an `async fn` a durable function.
///
/// ```text
/// #[durable(queue = "billing", max_attempts = 5, retry = "exponential 1s max 1m", retry_if = is_transient)]
/// async fn charge(stripe: State<Stripe>, order: OrderId, amount: Cents) -> Result<ChargeId, ChargeError> { … }
/// ```
///
/// Calling it (`charge(order, amount)`) makes a call, which is awaited inside of another durable function, or given to
/// `ow.start(…)`. Arguments of the type `State<T>` are the worker's to give, and are left out of the call. The body
/// stays reachable as `charge::plain(stripe, order, amount)`, for tests.
///
/// | word | meaning | otherwise |
/// |---|---|---|
/// | `name` | what it is called in the store: choose it once and for all | the name of the function |
/// | `version` | a version of its own: only workers that know it take its runs | none |
/// | `queue` | where its runs wait | `default` |
/// | `max_concurrent` | how many of its runs are worked on at the same time, over all workers | any number |
/// | `tags` | only workers that offer one of these take its runs: `tags = ["gpu"]` | any worker |
/// | `priority` | -1000 to 1000, the higher one goes first | 0 |
/// | `max_attempts` | how often it is called if it fails and has written nothing down | 3 |
/// | `retry` | how long to wait between attempts | `exponential 2s max 15m jitter 0.2` |
/// | `retry_if` | a function of its error: whether another attempt may help | always |
/// | `timeout` | how long one attempt may take while it is in memory | 7 days |
/// | `retain` | how long its runs are kept when they are over | 7 days |
/// | `at_most_once` | an attempt nobody knows the end of makes it uncertain | it goes on |
/// | `idempotent` | for 30 days, the result of one run is that of all later ones with the same arguments | each runs |
/// | `cached` | the same for as long as it says: `cached = "1h"` | each runs |
/// | `key` | of which of them, with one of these two: `key = |args| args.order` | all arguments |
///
/// With `max_concurrent` its runs wait in a queue of the function's name, which its workers take from and limit when
/// they start; then there is no other `queue`.
///
/// # Methods
///
/// On an `impl` block, the methods that are marked become durable functions, and `&self` is a state that the worker was
/// given: `Billing::charge(order, amount)` makes a call, `worker.durable(Billing::charge)` has it run, and
/// `billing.charge_plain(order, amount)` is the body. In the store it is called `Billing.charge`, and
/// `Billing_charge` is the type that stands for it.
///
/// ```text
/// #[durable]
/// impl Billing {
///     #[durable(max_attempts = 5)]
///     async fn charge(&self, order: OrderId, amount: Cents) -> Result<ChargeId, ChargeError> { … }
/// }
/// ```
#[proc_macro_attribute]
pub fn durable(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = match syn::parse_macro_input!(item as syn::Item) {
        syn::Item::Fn(function) => durable::expand(attribute.into(), &function),
        syn::Item::Impl(block) => durable::expand_methods(&attribute.into(), &block),
        other => {
            let why = "`#[durable]` stands on an `async fn`, or on an `impl` block";
            Err(syn::Error::new(syn::spanned::Spanned::span(&other), why))
        }
    };
    expanded.unwrap_or_else(syn::Error::into_compile_error).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]
mod tests;
