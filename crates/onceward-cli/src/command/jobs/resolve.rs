//! `onceward jobs resolve ID`: says how an uncertain job was.

use std::process::ExitCode;

use onceward::{JobId, JobResolution, Result};
use onceward_core::job::State;
use onceward_core::once::Body;
use serde_json::json;

use super::filter;
use crate::args::Globals;
use crate::command::interventions;
use crate::{exit, output, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The id of the job
    #[arg(value_name = "ID", value_parser = filter::id)]
    id: JobId,
    #[command(flatten)]
    how: How,
    /// With --done: its result, as text
    #[arg(long, value_name = "TEXT", requires = "done")]
    result: Option<String>,
    #[command(flatten)]
    by: interventions::Args,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct How {
    /// It did its work
    #[arg(long)]
    done: bool,
    /// It did not, and shall not any more
    #[arg(long)]
    dead: bool,
    /// It did not: safe to run again
    #[arg(long)]
    run_again: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let how = match &args.how {
        How { done: true, .. } => {
            let body = |text: &String| Body::new(text.clone().into_bytes(), "text/plain; charset=utf-8");
            JobResolution::Done(args.result.as_ref().map(body))
        }
        How { dead: true, .. } => JobResolution::Dead,
        How { .. } => JobResolution::RunAgain,
    };
    let client = store::connect(globals).await?;
    let admin = args.by.admin(&client)?;
    let state = match how {
        JobResolution::Done(_) => State::Succeeded,
        JobResolution::Dead => State::Dead,
        JobResolution::RunAgain => State::Ready,
    };
    admin.resolve_job(args.id, args.by.token, how, &args.by.reason).await?;
    store::close(globals, &client).await;
    report::note("the job is resolved");
    if globals.output.is_json() {
        output::json(&json!({ "id": args.id, "state": state.as_str() }))?;
    }
    Ok(ExitCode::from(exit::DONE))
}
