//! The stores: the suite that all of them pass, random histories held against the model, and what only one of them
//! has to get right. All are one program: it is compiled and linked once.

#![cfg(feature = "conformance")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails says so by panicking"
)]
#![allow(unreachable_pub, reason = "the test servers are shared by several crates of tests")]

mod memory;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod power;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "postgres")]
mod support;
