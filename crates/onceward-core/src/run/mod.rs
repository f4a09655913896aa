//! The rules of durable functions: a run is a job whose handler may wait, and whose journal says what it has done.
//!
//! ```text
//! start ──▶ pending ──claim──▶ running ──waits for long──▶ parked ──due, or something has arrived──▶ running
//!                                 ├──▶ succeeded, failed (dead), cancelled, expired
//!                                 └──▶ stuck: its code is not the code that wrote the journal
//! ```
//!
//! A run executes ordinary code from its beginning, each time it is taken up. Whatever the code asks for that may not
//! happen twice, or may come out differently, stands at a [`Position`]: the place in the code, counted along its way.
//! The journal has up to two entries for a position: that something was started there, and how it has ended. What has
//! ended is given to the code in the order of the journal, one at a time, so that the code takes the same way again
//! (D2, D3).
//!
//! Where the code wants to go on as new, the journal ends and another [generation] of it begins, with other arguments.

mod entry;
pub mod fork;
pub mod generation;
mod packed;
mod position;
mod replay;
mod unheard;

pub use entry::{Arrival, Arrived, Entry, Op, Outcome, PARK_MAX, Phase, Standing, Start, is_stuck};
pub use position::{Position, Scope};
pub use replay::{Delivery, Diverged, Issued, Replay, Wanted};
pub use unheard::Unheard;

#[cfg(test)]
mod tests;
