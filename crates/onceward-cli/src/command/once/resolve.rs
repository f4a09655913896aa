//! `onceward once resolve`: settles a key that nobody is sure of, or all of them, with a reason.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use onceward::{Admin, Bulk, Code, Error, Result};
use onceward_core::once::{Body, Resolution};
use serde_json::json;

use super::recorded::STDOUT;
use crate::args::Globals;
use crate::command::interventions;
use crate::output::{self, Table};
use crate::{exit, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key
    #[arg(required_unless_present = "all")]
    key: Option<String>,
    /// Every uncertain key of the namespace
    #[arg(long, conflicts_with_all = ["key", "token"])]
    all: bool,
    /// With --all: only keys that start with this
    #[arg(long, value_name = "TEXT", requires = "all", conflicts_with = "key")]
    prefix: Option<String>,
    #[command(flatten)]
    how: How,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    by: interventions::Args,
}

#[derive(Debug, clap::Args)]
struct How {
    /// It did happen
    #[arg(long, group = "resolution")]
    done: bool,
    /// It did not happen, and never shall; this is why
    #[arg(long, value_name = "WHY", group = "resolution")]
    failed: Option<String>,
    /// It did not happen, and nothing of it is under way: the next call runs it
    #[arg(long, group = "resolution")]
    release: bool,
    /// With --done: the result, for callers from a program
    #[arg(long, value_name = "JSON", requires = "done", conflicts_with_all = ["stdout", "failed", "release"])]
    result: Option<String>,
    /// With --done: a file with what the command would have printed; - is stdin. Without it: nothing
    #[arg(long, value_name = "FILE", requires = "done", conflicts_with_all = ["failed", "release"])]
    stdout: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let resolution = args.how.resolution()?;
    let client = store::connect(globals).await?;
    let admin = args.by.admin(&client)?;
    let resolved = match &args.key {
        Some(key) => one(args, &admin, key, resolution, globals).await,
        None => all(args, &admin, &resolution, globals).await,
    };
    store::close(globals, &client).await;
    resolved?;
    Ok(ExitCode::from(exit::DONE))
}

async fn one(args: &Args, admin: &Admin, key: &str, how: Resolution, globals: &Globals) -> Result<()> {
    let state = how.state();
    let token = admin.resolve(key, args.by.token, how, &args.by.reason, args.dry_run).await?;
    // A dry run draws no token.
    let token = (!args.dry_run).then_some(token);
    if globals.output.is_json() {
        return output::json(&json!({ "key": key, "state": state, "token": token, "dry_run": args.dry_run }));
    }
    if args.dry_run {
        report::note("nothing was changed");
    }
    let mut table = Table::new(&["KEY", "STATE", "TOKEN"]);
    let token = token.map(|token| token.to_string()).unwrap_or_default();
    table.row([&key as &dyn core::fmt::Display, &state, &token]);
    table.print()
}

async fn all(args: &Args, admin: &Admin, how: &Resolution, globals: &Globals) -> Result<()> {
    let bulk = admin.resolve_all(args.prefix.as_deref(), how, &args.by.reason, args.dry_run).await?;
    let Bulk { changed, moved, .. } = &bulk;
    if globals.output.is_json() {
        let state = how.state();
        return output::json(
            &json!({ "state": state, "changed": changed, "moved": moved, "dry_run": args.dry_run }),
        );
    }
    let what = if args.dry_run { "would be" } else { "are" };
    report::note(&format!("{} keys {what} {} now", changed.len(), how.state()));
    if !moved.is_empty() {
        report::note(&format!("{} keys had changed by themselves and were left alone", moved.len()));
    }
    let mut table = Table::new(&["KEY", "STATE"]);
    for key in changed {
        table.row([key as &dyn core::fmt::Display, &how.state()]);
    }
    table.print()
}

impl How {
    fn resolution(&self) -> Result<Resolution> {
        if let Some(reason) = &self.failed {
            return Ok(Resolution::Failed { reason: reason.clone() });
        }
        match (self.done, self.release) {
            (true, _) => Ok(Resolution::Done(self.body()?)),
            (_, true) => Ok(Resolution::Release),
            _ => Err(Error::new(Code::UsageInvalid, "say how: --done, --failed WHY or --release")),
        }
    }

    fn body(&self) -> Result<Body> {
        if let Some(text) = &self.result {
            let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
                Error::new(Code::ResultUnwritable, "the result is no JSON").with_source(error)
            })?;
            return Ok(Body::new(value.to_string().into_bytes(), "application/json"));
        }
        let bytes = self.stdout.as_deref().map(read).transpose()?;
        Ok(Body::new(bytes.unwrap_or_default(), STDOUT))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.map_err(|error| {
        Error::new(Code::UsageInvalid, format!("{} can't be read", path.display())).with_source(error)
    })
}
