//! The exit codes of the command line. They are part of its interface and don't change.
//!
//! A wrapped command that ran passes its own code through, whatever it is. Where a code is ours, a line on stderr
//! starts with `OW` and the code of the error, and `--status-file` says the same for programs.

use onceward::{Code, Error, Fault};

/// Done.
pub const DONE: u8 = 0;
/// It was tried, and failed.
pub const FAILED: u8 = 1;
/// The command line or a value in it was refused. Nothing was done.
pub const USAGE: u8 = 2;
/// The store can't be reached, or can't be used as it is (`EX_UNAVAILABLE`).
pub const STORE_UNAVAILABLE: u8 = 69;
/// Somebody else holds the lease or is running the key: try again later (`EX_TEMPFAIL`).
pub const HELD: u8 = 75;
/// Nobody knows whether the work was done, or somebody else had settled the key by then. Somebody has to look.
pub const UNCERTAIN: u8 = 76;
/// The user of the database may not do that (`EX_NOPERM`).
pub const NOT_PERMITTED: u8 = 77;
/// The wrapped command exists and can't be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The wrapped command was not found.
pub const NOT_FOUND: u8 = 127;
/// A wrapped command that was killed by signal `n` exits with this plus `n`.
pub const SIGNAL: u8 = 128;

/// The table of exit codes, for `--help` and the manual page.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  done
    1  tried and failed
    2  refused: the command line or a value in it; nothing was done
   69  the store can't be reached or used
   75  somebody else holds the lease or runs the key; a command that exits with it was not started
   76  nobody knows whether the work was done, or somebody else had settled the key by then
   77  the database user may not do that
  126  the wrapped command can't be executed
  127  the wrapped command was not found
  128+n  the wrapped command was killed by signal n
A wrapped command that ran passes its own exit code through. Ours come with a line on stderr that starts with OW.";

/// What an error exits with.
pub fn of(error: &Error) -> u8 {
    match error.code() {
        Code::RightsMissing => NOT_PERMITTED,
        Code::LeaseHeld | Code::LeaseLost | Code::OnceRunning | Code::KeyLocked => HELD,
        Code::OnceUncertain | Code::SettleStale => UNCERTAIN,
        Code::OnceFailed
        | Code::RunsDiffer
        | Code::SignatureWrong
        | Code::SignatureStale
        | Code::SealBroken => FAILED,
        Code::AllowListMissing | Code::SealKeyInvalid | Code::HttpTlsUnusable => USAGE,
        code => match code.fault() {
            Fault::Caller => USAGE,
            Fault::Operator => STORE_UNAVAILABLE,
            _ => FAILED,
        },
    }
}
