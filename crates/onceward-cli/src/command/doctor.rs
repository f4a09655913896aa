//! `onceward doctor`: the self-check of the store, as at every start, and more of it.

use std::process::ExitCode;

use onceward::store::{Finding, Severity};
use onceward::{Error, Result};
use serde::Serialize;

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Look at the database and its settings
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Report<'a> {
    store: &'a str,
    findings: &'a [Finding],
}

pub(crate) async fn run(_args: &Args, globals: &Globals) -> Result<ExitCode> {
    let (url, findings) = match store::connect(globals).await {
        Ok(client) => {
            let found = client.admin().check().await;
            store::close(globals, &client).await;
            (client.store().url().to_owned(), found?)
        }
        Err(error) => (store::redacted(globals), vec![refusal(error)?]),
    };
    print(globals, &url, &findings)?;
    let bad = findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(ExitCode::from(if bad { exit::FAILED } else { exit::DONE }))
}

/// A store that is there and refuses to open has failed the check; one that is not there can't be checked.
fn refusal(error: Error) -> Result<Finding> {
    let code = error.code();
    let checked =
        matches!(code.as_str(), "OW0006" | "OW0007" | "OW0008") || code.as_str().starts_with("OW04");
    if !checked {
        return Err(error);
    }
    Ok(Finding {
        severity: Severity::Error,
        check: "opening",
        found: error.message().to_owned(),
        code: Some(code),
    })
}

fn print(globals: &Globals, url: &str, findings: &[Finding]) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&Report { store: url, findings });
    }
    report::note(&format!("looking at {url}"));
    let mut table = Table::new(&["", "CHECK", "FOUND", "EXPLAINED BY"]);
    for finding in findings {
        let mark = match finding.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "ERROR",
        };
        let code = finding.code.map(|code| format!("onceward explain {code}")).unwrap_or_default();
        table.row([&mark as &dyn core::fmt::Display, &finding.check, &finding.found, &code]);
    }
    table.print()
}
