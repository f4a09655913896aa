//! `onceward explain`: the page of an error code, or the list of all.

use std::process::ExitCode;

use onceward::{Code, Result};
use serde::Serialize;

use crate::args::Globals;
use crate::exit;
use crate::output::{self, Table};

/// Say what an error code means and what to do
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The code, for example OW0101; without one, all codes are listed
    code: Option<String>,
}

#[derive(Serialize)]
struct Row {
    code: &'static str,
    title: &'static str,
    fault: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'static str>,
}

pub(crate) fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    match &args.code {
        Some(text) => page(text.parse()?, globals)?,
        None => list(globals)?,
    }
    Ok(ExitCode::from(exit::DONE))
}

fn row(code: Code, page: Option<&'static str>) -> Row {
    Row { code: code.as_str(), title: code.title(), fault: code.fault().to_string(), page }
}

fn page(code: Code, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&row(code, Some(code.page())));
    }
    output::text(code.page())
}

fn list(globals: &Globals) -> Result<()> {
    let rows: Vec<Row> = Code::ALL.iter().map(|code| row(*code, None)).collect();
    if globals.output.is_json() {
        return output::json(&rows);
    }
    let mut table = Table::new(&["CODE", "WHOSE FAULT", "WHAT IT MEANS"]);
    for row in &rows {
        table.row([&row.code as &dyn core::fmt::Display, &row.fault, &row.title]);
    }
    table.print()
}
