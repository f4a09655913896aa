//! `onceward runs export` and `import`: runs with their journals, as lines of JSON.

use std::io::Read;
use std::path::{Path, PathBuf};

use onceward::durable::RecordedRun;
use onceward::{Code, Error, JobId, Result};
use serde_json::json;

use crate::args::Globals;
use crate::command::jobs::filter;
use crate::{output, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// The id of the run
    #[arg(value_name = "ID", value_parser = filter::id)]
    id: JobId,
    /// Without the runs that it has started
    #[arg(long)]
    alone: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// What `runs export` has written; - is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) async fn export(args: &Export, globals: &Globals) -> Result<()> {
    let client = store::connect(globals).await?;
    let admin = client.admin();
    let runs = if args.alone {
        admin.export_run(args.id).await.map(|run| vec![run])
    } else {
        admin.export_runs(args.id).await
    };
    store::close(globals, &client).await;
    runs?.iter().try_for_each(|run| output::text(&run.to_lines()?))
}

pub(super) async fn import(args: &Import, globals: &Globals) -> Result<()> {
    // All of it is read before anything is written.
    let runs = RecordedRun::read(&read(&args.file)?)?;
    let client = store::connect(globals).await?;
    let mut taken = Vec::new();
    for run in &runs {
        let created = client.admin().import_run(run).await?;
        taken.push(json!({ "id": run.id(), "function": run.function(), "created": created }));
        if !created {
            report::note(&format!("run {} is there already", run.id()));
        }
    }
    store::close(globals, &client).await;
    if globals.output.is_json() {
        return output::json(&taken);
    }
    let ids = runs.iter().map(|run| format!("{}\n", run.id()));
    output::text(&ids.collect::<String>())
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text),
        _ => std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text)),
    };
    let failed = |error| {
        Error::new(Code::RecordingUnreadable, format!("{} can't be read", file.display())).with_source(error)
    };
    read.map(|_| text).map_err(failed)
}
