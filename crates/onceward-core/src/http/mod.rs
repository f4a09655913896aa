//! The rules of HTTP jobs: what a request may be, where it may go, and what an answer means.
//!
//! ```text
//! request ──check──▶ enqueued ──claim──▶ gate ──▶ resolve ──▶ every address checked ──▶ dial ──▶ send ──▶ answer
//!                                         │           │              │                   │        │        │
//!                                     not its turn   failed       refused              failed   broken    judged
//!                                     (snoozed)      (again)      (dead)               (again)  (again, or uncertain)
//! ```
//!
//! Read in this order: [`Request`] (what is enqueued) → [`Target`] and [`Policy`] (where it may go) → [`class`] (what
//! addresses are for) → [`judge`] (what becomes of the job) → [`Breaker`] (when a receiver is left alone).

mod address;
mod answer;
mod breaker;
mod excerpt;
mod header;
mod policy;
mod query;
mod request;
mod retry_after;
mod seen;
mod target;

pub use address::{Class, Net, class};
pub use answer::{Answer, Broken, Stage, Verdict, judge, pause_asked};
pub use breaker::{Breaker, Gate};
pub use excerpt::excerpt;
pub use header::{check_header, is_secret, is_trace};
pub use policy::{HostRule, Policy};
pub use query::{secret_in_query, shown_url};
pub use request::{Body, Method, Request, check_key_name};
pub(crate) use request::{Parts, even_null};
pub use retry_after::retry_after;
pub use seen::{Seen, Timings};
pub use target::{Host, Scheme, Target};

/// The kind of the jobs that are HTTP requests.
pub const KIND: &str = "http";
