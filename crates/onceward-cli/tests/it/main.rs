//! The real binary, run as people and scripts run it.

#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bench;
mod crash;
mod demo;
mod http;
mod jobs;
mod lease;
mod nasty;
mod once;
mod place;
#[cfg(feature = "postgres")]
mod postgres;
mod process;
mod race;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod redis;
mod resolve;
mod runs;
mod schedules;
mod service;
mod service_policies;
mod store;
mod text;
mod usage;
