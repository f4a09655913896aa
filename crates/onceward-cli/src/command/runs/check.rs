//! `onceward runs check`: which runs under way would go on with the functions of this program.

use std::process::ExitCode;

use onceward::durable::{Checked, RecordedRun, Verdict};
use onceward::{Code, Error, Result};
use serde_json::{Value, json};

use crate::Functions;
use crate::args::Globals;
use crate::{exit, output, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Hold what `runs export` has written against the functions, instead of the runs of the store
    #[arg(long, value_name = "FILE")]
    recorded: Option<std::path::PathBuf>,
}

pub(super) async fn run(args: &Args, globals: &Globals, functions: Functions<'_>) -> Result<ExitCode> {
    let Some(functions) = functions else {
        let why = "this is the program that comes with Onceward, and your functions are in yours: give that one this \
                   command line by `onceward_cli::Program`";
        return Err(Error::new(Code::FunctionsUnknown, why));
    };
    let client = store::connect(globals).await?;
    let worker = functions(client.worker());
    let checked = match &args.recorded {
        None => worker.check().await,
        Some(file) => worker.check_recorded(read(file)?).await,
    };
    store::close(globals, &client).await;
    let checked = checked?;
    if globals.output.is_json() {
        output::json(&checked.iter().map(value).collect::<Vec<_>>())?;
    } else {
        let lines = checked.iter().filter(|run| !run.replays()).map(|run| format!("{run}\n"));
        output::text(
            &lines.collect::<String>().lines().map(|line| output::shown(line) + "\n").collect::<String>(),
        )?;
    }
    verdict(&checked)
}

fn read(file: &std::path::Path) -> Result<Vec<RecordedRun>> {
    let failed = |error| {
        Error::new(Code::RecordingUnreadable, format!("{} can't be read", file.display())).with_source(error)
    };
    RecordedRun::read(&std::fs::read_to_string(file).map_err(failed)?)
}

fn value(run: &Checked) -> Value {
    let (verdict, why) = match &run.verdict {
        Verdict::Replays => ("replays", None),
        Verdict::Differs(_) => ("differs", Some(run.to_string())),
        Verdict::Unknown => ("unknown", None),
        _ => ("fails", Some(run.to_string())),
    };
    json!({ "id": run.run, "function": run.function, "verdict": verdict, "why": why, "entries": run.entries })
}

/// Runs of functions that this program does not know are no fault of it: another one takes them.
fn verdict(checked: &[Checked]) -> Result<ExitCode> {
    let count = |is: fn(&Verdict) -> bool| checked.iter().filter(|run| is(&run.verdict)).count();
    let (fit, unknown) = (count(|one| *one == Verdict::Replays), count(|one| *one == Verdict::Unknown));
    let stuck = checked.len() - fit - unknown;
    report::note(&format!(
        "{fit} runs would go on, {stuck} would not, {unknown} are of functions unknown here"
    ));
    if stuck > 0 {
        let why = format!("{stuck} of {} runs would not go on with this program", checked.len());
        return Err(Error::new(Code::RunsDiffer, why));
    }
    Ok(ExitCode::from(exit::DONE))
}
