//! What an answer of the driver means: refused, lost on the way, or unreadable. Never guesses whether a write took
//! effect (rule G5), never repeats a parameter.

use onceward_core::{Code, Error};
use tokio_postgres::error::{DbError, Severity};

/// How a statement failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing of it was sent: it may be sent again.
    Before(Error),
    /// The server said no: nothing was changed, and the connection lives.
    Refused(Error),
    /// The server said no, because a row of that key is there: nothing was changed.
    Taken(Error),
    /// The server said no, and will go on saying it on this connection.
    Misplaced(Error),
    /// It was sent, and then the connection or our patience ended.
    Lost(Error),
}

impl Failed {
    /// What it means for a write: lost is unknown.
    pub(super) fn of_write(self) -> Error {
        match self {
            Self::Before(error) | Self::Refused(error) | Self::Taken(error) | Self::Misplaced(error) => error,
            Self::Lost(cause) => {
                let why = "the statement was sent and no answer came";
                Error::new(Code::CommitUnknown, why).with_source(cause).uncertain()
            }
        }
    }

    /// What it means for a read: lost is only lost.
    pub(super) fn of_read(self) -> Error {
        match self {
            Self::Before(error)
            | Self::Refused(error)
            | Self::Taken(error)
            | Self::Misplaced(error)
            | Self::Lost(error) => error,
        }
    }

    /// Whether the same read may succeed if it is sent again.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Before(_) | Self::Lost(_) => true,
            Self::Refused(error) | Self::Taken(error) | Self::Misplaced(error) => {
                error.code() == Code::StoreBusy
            }
        }
    }

    /// Whether the connection is of no use any more.
    pub(super) fn ends_connection(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Taken(_))
    }
}

/// Sorts the failure of a statement that was sent.
pub(super) fn of_statement(error: tokio_postgres::Error) -> Failed {
    let Some(answer) = error.as_db_error() else {
        // The driver could not write a parameter or read a column: the connection is as good as before, but what
        // the statement did is not known unless it was never sent, and the driver does not say.
        let lost = Error::new(Code::StoreUnavailable, "the connection to PostgreSQL was lost");
        return Failed::Lost(lost.with_source(error));
    };
    let state = answer.code().code().to_owned();
    // 08 and 57P0x: the connection or the server is ending, maybe after the commit.
    let ends = matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
        || state.starts_with("08")
        || state.starts_with("57P");
    if ends {
        return Failed::Lost(with_words(Code::StoreUnavailable, "PostgreSQL ended the connection", answer));
    }
    let (code, why) = meaning(&state);
    let refused = with_words(code, why, answer);
    // Another server may be the writable one; a statement may have to be prepared anew.
    if matches!(state.as_str(), "25006" | "0A000" | "26000") {
        return Failed::Misplaced(refused);
    }
    if state == "23505" { Failed::Taken(refused) } else { Failed::Refused(refused) }
}

fn meaning(state: &str) -> (Code, &'static str) {
    match state {
        "55P03" => (Code::KeyLocked, "an open transaction holds the row"),
        "40P01" | "40001" => (Code::StoreBusy, "another transaction was in the way"),
        "57014" => (Code::StoreBusy, "PostgreSQL cancelled the statement"),
        // The schema was changed under a prepared statement; the next connection prepares it anew.
        "0A000" => (Code::StoreBusy, "PostgreSQL wants the statement prepared anew"),
        "53100" => (Code::StoreUnavailable, "the disk of PostgreSQL is full"),
        "25006" => (Code::StoreReadOnly, "PostgreSQL refuses writes"),
        "42501" => (Code::RightsMissing, "the database user lacks a right"),
        "3F000" | "42P01" | "42703" | "42883" => {
            (Code::SchemaBehind, "our tables are not as this program knows them")
        }
        "26000" | "42P05" => (
            Code::StoreFailed,
            "a prepared statement vanished; if a pooler stands before PostgreSQL, add pooler=transaction",
        ),
        "OW203" => (Code::TokenStale, "the token is not the current one"),
        _ if state.starts_with("53") => (Code::StoreBusy, "PostgreSQL is out of resources"),
        _ => (Code::StoreFailed, "PostgreSQL refused the statement"),
    }
}

fn with_words(code: Code, why: &str, answer: &DbError) -> Error {
    // Only the message: the detail may quote rows.
    Error::new(code, format!("{why}: {} ({})", answer.message(), answer.code().code()))
}

/// What a failure to connect means, and whether trying again can help.
pub(super) fn of_connect(error: tokio_postgres::Error, to: &str) -> (Error, bool) {
    if let Some(answer) = error.as_db_error() {
        let state = answer.code().code();
        // Wrong password, no such user or database: waiting does not help.
        let permanent = state.starts_with("28") || state == "3D000" || state == "42501";
        // pgbouncer wants none of the settings that a session of ours has.
        let pooler = answer.message().contains("startup parameter");
        let hint = if pooler { "; if a pooler stands before PostgreSQL, add pooler=transaction" } else { "" };
        let permanent = permanent || pooler;
        let why = format!("{to} refuses the connection{hint}");
        return (with_words(Code::StoreUnavailable, &why, answer), permanent);
    }
    // The driver keeps its kinds to itself, but not their names.
    let kind = error.to_string();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    if cause.contains("database does not allow writes") {
        let why = format!("{to} is a standby or read-only");
        return (Error::new(Code::StoreReadOnly, why).with_source(error), false);
    }
    if kind.contains("TLS") || cause.contains("certificate") {
        return (tls(to, &cause).with_source(error), true);
    }
    let permanent = kind.contains("configuration") || kind.contains("authentication");
    let why = if cause.is_empty() { kind } else { format!("{kind}: {cause}") };
    (
        Error::new(Code::StoreUnavailable, format!("can't connect to {to}: {why}")).with_source(error),
        permanent,
    )
}

fn tls(to: &str, cause: &str) -> Error {
    let what_to_do = if cause.contains("does not support TLS") {
        "turn TLS on in the server, or say sslmode=disable if the network is trusted"
    } else {
        "name the authority's certificate in sslrootcert, and connect by the name in the server's certificate"
    };
    Error::new(Code::TlsFailed, format!("no trusted TLS connection to {to}: {cause}; {what_to_do}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_mean_what_the_callers_act_on() {
        for (state, code) in [
            ("55P03", Code::KeyLocked),
            ("40001", Code::StoreBusy),
            ("53300", Code::StoreBusy),
            ("25006", Code::StoreReadOnly),
            ("42501", Code::RightsMissing),
            ("OW203", Code::TokenStale),
            ("22012", Code::StoreFailed),
        ] {
            assert_eq!(meaning(state).0, code, "{state}");
        }
    }

    #[test]
    fn a_lost_write_is_unknown_and_a_lost_read_is_not() {
        let lost = || Failed::Lost(Error::new(Code::StoreUnavailable, "gone"));
        assert!(lost().of_write().is_uncertain());
        assert_eq!(lost().of_write().code(), Code::CommitUnknown);
        assert!(!lost().of_read().is_uncertain());
        let before = Failed::Before(Error::new(Code::StoreUnavailable, "gone"));
        assert!(!before.of_write().is_uncertain());
    }
}
