//! What came of a `once`, told to whoever called: bytes on stdout, words on stderr, an exit code, a status.

use onceward::once::{Failure, SUPERSEDED};
use onceward::{Code, Error, Onceward, Outcome, Result, Timestamp, Token};
use onceward_core::once::{Body, Record};
use serde::Serialize;

use super::recorded::Recorded;
use super::run::Ended;
use crate::output;
use crate::{exit, report};

/// What the status file says.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// `done`, `failed`, `not_started`, `running`, `uncertain`, `superseded` where the command ran and somebody else
    /// had settled the key before it ended, or `error` where the call itself was refused.
    outcome: &'static str,
    pub(super) exit_code: u8,
    token: Option<Token>,
    replayed: bool,
    /// The code of the error that the exit code stands for, where it is ours and not the command's.
    code: Option<&'static str>,
}

/// What this process did itself.
pub(super) struct Ran {
    /// The token of its claim, if it got one.
    pub(super) token: Option<Token>,
    /// How its command ended, and what to exit with for that.
    pub(super) ended: Option<(Ended, u8)>,
}

impl Told {
    fn new(outcome: &'static str, exit_code: u8) -> Self {
        Self { outcome, exit_code, token: None, replayed: false, code: None }
    }

    fn replayed(self) -> Self {
        Self { replayed: true, ..self }
    }

    fn with_code(self, code: Code) -> Self {
        Self { code: Some(code.as_str()), ..self }
    }

    /// A signal came before the command was started.
    pub(super) fn interrupted(exit_code: u8) -> Self {
        Self::new("not_started", exit_code)
    }

    /// The call was refused, or the store did not answer; nothing was run.
    pub(super) fn refused(error: &Error) -> Self {
        report::error(error);
        Self::new("error", exit::of(error)).with_code(error.code())
    }
}

/// Says what came of it.
pub(super) async fn outcome(
    client: &Onceward,
    key: &str,
    outcome: Outcome<Body>,
    ran: &Ran,
    status_wanted: bool,
) -> Result<Told> {
    // Outcomes don't carry everything there is to say about somebody else's run.
    let asks = matches!(outcome, Outcome::Running { .. } | Outcome::Uncertain { .. });
    let row = if asks || (status_wanted && ran.token.is_none()) { look(client, key).await } else { None };
    let token = ran.token.or(row.as_ref().map(|row| row.token));
    let told = match (outcome, ran.ended) {
        // What the command has shown to be the case, and is now recorded: its own exit code says it.
        (
            Outcome::Done { replayed: false, .. } | Outcome::DoneWithoutBody { .. },
            Some((Ended::Done, code)),
        ) => Told::new("done", code),
        (Outcome::Failed { replayed: false, .. }, Some((Ended::Failed, code))) => Told::new("failed", code),
        (Outcome::NotStarted { .. }, Some((Ended::NotStarted, code))) => Told::new("not_started", code),
        (Outcome::NotStarted { .. }, Some((Ended::Refused, code))) => {
            Told::new("not_started", code).with_code(Code::CommandNotStarted)
        }
        (Outcome::Uncertain { reason, .. }, _) if reason == SUPERSEDED => superseded(client, key),
        (Outcome::Uncertain { .. }, Some((Ended::Unknown, code))) => {
            report::note(&format!("the key {key:?} is uncertain now; {}", settle(client, key, token)));
            Told::new("uncertain", code)
        }
        (Outcome::Uncertain { reason, since, .. }, _) => uncertain(client, key, token, &reason, since),
        (Outcome::Done { value, .. }, _) => done(&value)?,
        (Outcome::DoneWithoutBody { size }, _) => done_without_body(size),
        (Outcome::Failed { error, .. }, _) => failed(&error)?,
        (Outcome::NotStarted { error }, _) => not_started(&error),
        (Outcome::Running { since, until }, _) => running(row.as_ref(), since, until),
    };
    Ok(Told { token, ..told })
}

/// The row, if it can be had: it only makes the words better.
async fn look(client: &Onceward, key: &str) -> Option<Record> {
    client.admin().once(key).await.ok().flatten().map(|(row, _)| row)
}

fn done(body: &Body) -> Result<Told> {
    output::bytes(body.bytes.as_deref().unwrap_or_default())?;
    Ok(Told::new("done", exit::DONE).replayed())
}

fn done_without_body(size: u64) -> Told {
    report::note(&format!("it was done; its result had {size} bytes, too many to be kept"));
    Told::new("done", exit::DONE).replayed()
}

fn failed(failure: &Failure) -> Result<Told> {
    let Ok(Some(recorded)) = failure.data::<Recorded>() else {
        // Recorded by a program or by an operator: there is no exit code of a command to pass on.
        let error = Error::new(Code::OnceFailed, failure.reason());
        report::error(&error);
        return Ok(Told::new("failed", exit::of(&error)).replayed().with_code(error.code()));
    };
    match recorded.stdout() {
        Some(stdout) => output::bytes(&stdout)?,
        None => {
            let bytes = recorded.stdout_bytes;
            report::note(&format!("what it printed had {bytes} bytes, too many to be kept"));
        }
    }
    Ok(Told::new("failed", recorded.exit).replayed())
}

fn not_started(failure: &Failure) -> Told {
    let error = Error::new(Code::OnceFailed, format!("it was not started: {failure}"));
    report::error_with(&error, Some("the key is free; call again"));
    Told::new("not_started", exit::HELD).with_code(error.code())
}

fn running(row: Option<&Record>, since: Timestamp, until: Timestamp) -> Told {
    let who = row.map_or_else(|| "somebody".to_owned(), |row| row.owner.to_string());
    let error =
        Error::new(Code::OnceRunning, format!("{who} is running it since {since}, until {until} at least"));
    report::error_with(&error, Some("call again later, or wait for the outcome with --wait"));
    Told::new("running", exit::of(&error)).with_code(error.code())
}

fn uncertain(client: &Onceward, key: &str, token: Option<Token>, reason: &str, since: Timestamp) -> Told {
    let error = Error::new(Code::OnceUncertain, format!("nobody knows since {since}: {reason}"));
    report::error_with(&error, Some(&settle(client, key, token)));
    Told::new("uncertain", exit::of(&error)).with_code(error.code())
}

/// What the key says stands, and there is nothing to settle: what this command did may be one time too many.
fn superseded(client: &Onceward, key: &str) -> Told {
    let error = Error::new(Code::SettleStale, SUPERSEDED);
    let command = about("history", client, key);
    report::error_with(
        &error,
        Some(&format!("what the command did has happened; who decided, and what: {command}")),
    );
    Told::new("superseded", exit::of(&error)).with_code(error.code())
}

/// A command about a key.
fn about(what: &str, client: &Onceward, key: &str) -> String {
    let mut command = format!("onceward once {what} {}", quoted(key));
    let namespace = client.namespace().as_str();
    if namespace != "default" {
        command.push_str(&format!(" --namespace {}", quoted(namespace)));
    }
    command
}

/// How to settle a key.
fn settle(client: &Onceward, key: &str, token: Option<Token>) -> String {
    let mut command = about("resolve", client, key);
    if let Some(token) = token {
        command.push_str(&format!(" --token {token}"));
    }
    format!("find out whether it happened, then: {command} [--done | --failed WHY | --release] --reason TEXT")
}

/// The text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if text.chars().all(plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
