//! Words on stderr: errors with their codes, and notes. Nothing of it is data.

use std::error::Error as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use onceward::{Code, Error};

use crate::exit;
use crate::output::shown;

/// Says what went wrong, and returns what to exit with.
pub(crate) fn error(error: &Error) -> ExitCode {
    error_with(error, None)
}

/// As [`error`], with a hint of one's own about what to do.
pub(crate) fn error_with(error: &Error, hint: Option<&str>) -> ExitCode {
    let mut said = error.to_string();
    line(&said);
    let mut source = error.source();
    while let Some(cause) = source {
        let why = cause.to_string();
        // Some causes only repeat what stands above.
        if !said.contains(&why) {
            line(&format!("  because: {why}"));
            said = why;
        }
        source = cause.source();
    }
    if let Some(hint) = hint {
        line(&format!("hint: {hint}"));
    }
    line(&format!("explain: onceward explain {}", error.code()));
    ExitCode::from(exit::of(error))
}

/// A note that goes with no code.
pub(crate) fn note(text: &str) {
    line(&format!("onceward: {text}"));
}

/// A failure that has no code of its own.
pub(crate) fn plain(text: &str) -> ExitCode {
    note(text);
    ExitCode::from(exit::FAILED)
}

/// What the reading of the command line came to: help on stdout, or a refusal.
pub(crate) fn usage(refused: &clap::Error) -> ExitCode {
    if matches!(refused.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that has seen enough is no failure.
        let _ = refused.print();
        return ExitCode::from(exit::DONE);
    }
    if let Some(ours) = refused.source().and_then(|source| source.downcast_ref::<Error>()) {
        return error(ours);
    }
    let text = refused.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    line(&format!("{}: {}", Code::UsageInvalid, lines.next().unwrap_or("the command line is incomplete")));
    lines.for_each(line);
    if text.contains("-- COMMAND") {
        line("hint: a command to run comes after --");
    }
    ExitCode::from(exit::USAGE)
}

fn line(text: &str) {
    use std::io::Write;
    // Without a stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{}", shown(text));
}
