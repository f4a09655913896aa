//! `onceward migrate`: the schema of a store, brought up to date, taken back, looked at, or printed.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use onceward::store::migrate::{self, Migrator, Status};
use onceward::store::url::StoreUrl;
use onceward::store::{OpenOptions, StoreKind};
use onceward::{Code, Error, Result};
use serde_json::json;
use std::sync::Arc;

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Bring the schema of a store up to date, or look at it
///
/// SQLite and memory stores do this by themselves when they are opened; PostgreSQL only by this command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
enum Action {
    /// Apply what is pending
    Up {
        /// Stop after this version
        #[arg(long, value_name = "VERSION")]
        to: Option<u32>,
    },
    /// Undo the newest migrations, and what they hold
    Down {
        /// Stop before undoing this version; 0 undoes everything
        #[arg(long, value_name = "VERSION")]
        to: u32,
    },
    /// What is applied and what is pending
    Status,
    /// Print the SQL of all migrations, for reading and for other tools
    Print {
        /// The database; without it, that of the store
        #[arg(long, value_enum)]
        database: Option<Database>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Database {
    Postgres,
    Sqlite,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    match &args.action {
        Action::Print { database } => print(*database, globals)?,
        Action::Status => show(&migrator(globals).await?.status().await?, globals)?,
        Action::Up { to } => {
            let applied = migrator(globals).await?.up(*to).await?;
            changed("applied", &applied, globals)?;
        }
        Action::Down { to } => {
            let undone = migrator(globals).await?.down(*to).await?;
            changed("undone", &undone, globals)?;
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

async fn migrator(globals: &Globals) -> Result<Arc<dyn Migrator>> {
    let url = store::url(globals)?;
    let options = OpenOptions {
        deadline: store::own_deadline(globals),
        application_name: store::APPLICATION.to_owned(),
        unmigrated: true,
        ..OpenOptions::default()
    };
    store::within(globals, migrate::migrator(&url, options)).await
}

fn changed(what: &str, versions: &[u32], globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&json!({ what: versions }));
    }
    if versions.is_empty() {
        report::note(&format!("nothing had to be {what}"));
    }
    let lines = versions.iter().map(|version| format!("{what} {version}\n"));
    output::text(&lines.collect::<String>())
}

fn show(status: &Status, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        let pending: Vec<_> = status
            .pending
            .iter()
            .map(|(version, name)| json!({ "version": version, "name": name }))
            .collect();
        let Status { applied, ahead, .. } = status;
        return output::json(&json!({ "applied": applied, "pending": pending, "ahead": ahead }));
    }
    let mut table = Table::new(&["VERSION", "NAME", "APPLIED"]);
    for row in &status.applied {
        table.row([&row.version as &dyn core::fmt::Display, &row.name, &row.applied_at]);
    }
    for (version, name) in &status.pending {
        table.row([version as &dyn core::fmt::Display, name, &"pending"]);
    }
    table.print()
}

fn print(database: Option<Database>, globals: &Globals) -> Result<()> {
    let at = if globals.store.is_some() || database.is_none() {
        Some(StoreUrl::parse(&store::url_unmade(globals)?)?)
    } else {
        None
    };
    let schema = match &at {
        Some(StoreUrl::Postgres(at)) => at.schema.clone(),
        _ => "onceward".to_owned(),
    };
    let kind = match (database, at) {
        (Some(Database::Postgres), _) | (None, Some(StoreUrl::Postgres(_))) => StoreKind::Postgres,
        (Some(Database::Sqlite), _) | (None, Some(StoreUrl::Sqlite(_))) => StoreKind::Sqlite,
        _ => return Err(Error::new(Code::UsageInvalid, "a store in memory has no schema")),
    };
    output::text(&migrate::print(kind, &schema))
}
