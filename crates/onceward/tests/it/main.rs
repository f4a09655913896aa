//! Onceward through its public API, one module for each subject. All are one program: it is compiled and linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails says so by panicking"
)]
#![allow(unreachable_pub, reason = "the test servers are shared by several crates of tests")]

#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod crash_loop;
mod derive_job;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_again;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_awaits;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_branches;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_calls;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_cancel;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_continue;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_doubt;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_edges;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_kit;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_limits;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_outside;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_remembered;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_starts;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_sweep;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod durable_weaknesses;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod enlist;
#[cfg(feature = "postgres")]
mod enlist_postgres;
#[cfg(feature = "sqlite")]
mod enlist_sqlite;
#[cfg(all(feature = "tower", feature = "sqlite"))]
mod examples;
#[cfg(feature = "sqlite")]
mod examples_durable;
#[cfg(feature = "testing")]
mod faults;
#[cfg(feature = "tower")]
mod http;
#[cfg(feature = "tower")]
mod http_endings;
#[cfg(all(feature = "tower", feature = "testing"))]
mod http_faults;
#[cfg(feature = "http-jobs")]
mod http_jobs;
#[cfg(feature = "http-jobs")]
mod http_jobs_endpoints;
#[cfg(feature = "http-jobs")]
mod http_jobs_kit;
#[cfg(feature = "http-jobs")]
mod http_jobs_policy;
#[cfg(feature = "http-jobs")]
mod http_jobs_shares;
#[cfg(feature = "http-jobs")]
mod http_jobs_stores;
#[cfg(feature = "tower")]
mod http_kit;
#[cfg(feature = "tower")]
mod http_server;
mod jobs;
#[cfg(feature = "postgres")]
mod jobs_by_sql;
mod jobs_faults;
mod jobs_hand_over;
mod jobs_kit;
mod jobs_limits;
#[cfg(feature = "postgres")]
mod jobs_postgres;
#[cfg(feature = "sqlx-sqlite")]
mod jobs_sqlite;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod jobs_stores;
mod lease;
#[cfg(feature = "testing")]
mod nasty;
#[cfg(feature = "postgres")]
mod nasty_postgres;
mod once;
#[cfg(feature = "postgres")]
mod pg;
mod places;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod proof_durable;
#[cfg(feature = "http-jobs")]
mod proof_http_jobs;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod proof_jobs;
#[cfg(feature = "postgres")]
mod proof_postgres;
#[cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]
mod redis;
#[cfg(all(feature = "redis", feature = "postgres", feature = "sqlite"))]
mod redis_kit;
mod schedule;
#[cfg(all(feature = "postgres", feature = "sqlite", feature = "testing"))]
mod schedule_crash;
mod sendable;
mod service;
#[cfg(all(feature = "postgres", feature = "sqlite", feature = "testing"))]
mod service_hints;
#[cfg(feature = "postgres")]
mod service_postgres;
#[cfg(feature = "testing")]
mod service_terms;
#[cfg(feature = "testing")]
mod service_trouble;
mod service_turns;
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod step_in;
mod stores;
#[cfg(feature = "testing")]
mod trigger;
#[cfg(feature = "testing")]
mod weaknesses;
#[cfg(feature = "testing")]
mod weaknesses_jobs;
#[cfg(feature = "http-jobs")]
mod webhook_snippets;
