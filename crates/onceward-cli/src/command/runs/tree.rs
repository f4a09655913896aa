//! `onceward runs tree`: a run, what it has asked for, and the runs it has started, as a tree.

use core::fmt::Write as _;
use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::future::BoxFuture;
use onceward::store::JobRef;
use onceward::{Code, Error, JobId, Onceward, Result};
use onceward_core::job::{Record, State};
use onceward_core::run::generation::generation;
use onceward_core::run::{Entry, Op, Outcome, Phase, Position, Standing, Start};
use serde::Serialize;

use crate::args::Globals;
use crate::command::jobs::filter;
use crate::{output, store};

/// How many entries are read at once.
const PAGE: usize = 500;
/// How many entries of a journal `show` reads at most.
const SHOWN: usize = 50_000;
/// From so many children of one function on, they are shown as one line.
const MANY: usize = 8;
/// How wide such a line's bar is.
const BAR: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The id of the run
    #[arg(value_name = "ID", value_parser = filter::id)]
    id: JobId,
    /// How many levels of runs are shown
    #[arg(long, value_name = "N", default_value_t = 5)]
    depth: u32,
    /// Show each run, however many there are
    #[arg(long)]
    all: bool,
}

/// A run in its tree.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Node {
    pub(super) id: JobId,
    pub(super) function: String,
    pub(super) state: String,
    /// How often it has gone on as new.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) generation: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<serde_json::Value>,
    pub(super) asked: Vec<Asked>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Something that a run waits for, and the run that this is, if it is one.
pub(super) type Waits = (Asked, Option<JobId>);

/// Something that a run has asked for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Asked {
    pub(super) position: String,
    pub(super) op: Op,
    pub(super) name: String,
    /// `waits`, `done` or `failed`.
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<Box<Node>>,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<()> {
    let client = store::connect(globals).await?;
    let tree = load(&client, args.id, args.depth, &mut Known::default()).await;
    store::close(globals, &client).await;
    let tree = tree?;
    if globals.output.is_json() {
        return output::json(&tree);
    }
    output::text(&drawn(&tree, if args.all { usize::MAX } else { MANY }).join("\n"))?;
    output::text("\n")
}

/// Journals that were read before: only what has been added is read again.
#[derive(Default)]
pub(super) struct Known {
    entries: HashMap<JobId, Vec<Entry>>,
    /// Those of runs that had ended when they were read.
    whole: HashSet<JobId>,
}

impl Known {
    /// What is known of the journal of a run by now.
    async fn of(&mut self, client: &Onceward, row: &Record) -> Result<&[Entry]> {
        let entries = self.entries.entry(row.id).or_default();
        let is_over = row.state.is_final();
        if !(is_over && self.whole.contains(&row.id)) {
            // Where it has begun anew, its last entry is another one.
            let last = entries.pop();
            let from = entries.len();
            read(client, row.id, entries, usize::MAX).await?;
            if last.is_some() && entries.get(from) != last.as_ref() {
                entries.clear();
                read(client, row.id, entries, usize::MAX).await?;
            }
            if is_over {
                self.whole.insert(row.id)
            } else {
                self.whole.remove(&row.id)
            };
        }
        Ok(entries)
    }
}

/// Reads a run and those below it.
pub(super) async fn load(client: &Onceward, id: JobId, depth: u32, known: &mut Known) -> Result<Node> {
    let row = rows(client, &[id]).await?.remove(&id).filter(|row| row.policy.durable);
    let row = row.ok_or_else(|| Error::new(Code::RunUnknown, format!("there is no run {id}")))?;
    node(client, row, depth, known).await
}

/// Whether a run has come to its end.
pub(super) fn is_over(state: &str) -> bool {
    State::from_word(state).is_some_and(State::is_final)
}

async fn rows(client: &Onceward, ids: &[JobId]) -> Result<HashMap<JobId, Record>> {
    let namespace = client.namespace();
    let mut found = HashMap::new();
    for ids in ids.chunks(PAGE) {
        let jobs: Vec<JobRef> =
            ids.iter().map(|id| JobRef { namespace: namespace.clone(), id: *id }).collect();
        let seen = client.store().job_lookup(&jobs).await?;
        found.extend(seen.rows.into_iter().flatten().map(|row| (row.id, row)));
    }
    Ok(found)
}

fn node<'a>(
    client: &'a Onceward,
    row: Record,
    depth: u32,
    known: &'a mut Known,
) -> BoxFuture<'a, Result<Node>> {
    Box::pin(async move {
        let journal = known.of(client, &row).await?;
        let (mut asked, generation) = (asked(journal), generation(journal));
        let children: Vec<JobId> = asked.iter().filter_map(|(_, child)| *child).collect();
        let mut found = if depth == 0 { HashMap::new() } else { rows(client, &children).await? };
        for (asked, child) in &mut asked {
            if let Some(row) = child.and_then(|id| found.remove(&id)) {
                asked.run = Some(Box::new(node(client, row, depth - 1, known).await?));
            }
        }
        let said = row.progress.as_ref().and_then(|said| said.bytes.as_deref());
        Ok(Node {
            id: row.id,
            function: row.kind.as_str().to_owned(),
            state: standing(&row).to_owned(),
            generation,
            error: row.error.clone().filter(|_| row.state != State::Succeeded),
            progress: said.and_then(|said| serde_json::from_slice(said).ok()),
            asked: asked.into_iter().map(|(asked, _)| asked).collect(),
        })
    })
}

/// The state of a run: that of its job, except that one may be paused, or parked in the middle of its way, or have
/// taken too long.
pub(super) fn standing(row: &Record) -> &'static str {
    match Standing::of(row) {
        of_runs @ (Standing::Parked | Standing::Stuck | Standing::Paused | Standing::Expired) => {
            of_runs.as_str()
        }
        _ => row.state_now().as_str(),
    }
}

/// How often a run has gone on as new.
pub(super) async fn generation_of(client: &Onceward, id: JobId) -> Result<u32> {
    Ok(generation(&client.admin().journal(id, 0, 1).await?))
}

/// What a run has asked for and what has not ended, as far as that is written down: children, times, signals, and steps
/// that were announced. Of a very long journal only the first part is read; how many entries, if there are more.
pub(super) async fn waits(client: &Onceward, id: JobId) -> Result<(Vec<Waits>, Option<usize>)> {
    let mut journal = Vec::new();
    let cut = read(client, id, &mut journal, SHOWN).await?.then_some(SHOWN);
    let waits = asked(&journal).into_iter().filter(|(asked, _)| asked.state == "waits").collect();
    Ok((waits, cut))
}

/// Reads what a journal has after these entries, so many in all at most; whether there are more.
async fn read(client: &Onceward, id: JobId, entries: &mut Vec<Entry>, most: usize) -> Result<bool> {
    while entries.len() < most {
        let from = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let page = client.admin().journal(id, from, PAGE.min(most - entries.len())).await?;
        let last = page.len() < PAGE;
        entries.extend(page);
        if last && entries.len() < most {
            return Ok(false);
        }
    }
    let next = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    Ok(!client.admin().journal(id, next, 1).await?.is_empty())
}

/// What was asked for, in the order of the places in the code.
fn asked(journal: &[Entry]) -> Vec<(Asked, Option<JobId>)> {
    let mut places: BTreeMap<&Position, (Asked, Option<JobId>)> = BTreeMap::new();
    // What a generation began with is nothing that was asked for.
    let is_place = |entry: &&Entry| !entry.position.is_whole() || entry.op == Op::Cancel;
    for entry in journal.iter().filter(is_place) {
        let (asked, child) = places.entry(&entry.position).or_insert_with(|| {
            let position = entry.position.as_str().to_owned();
            let (op, name) = (entry.op, entry.name.clone());
            (Asked { position, op, name, state: "waits", until: None, run: None }, None)
        });
        match &entry.phase {
            Phase::Started(Start::Child { id, .. }) => *child = Some(*id),
            Phase::Started(Start::Due(at)) => asked.until = Some(at.to_string()),
            Phase::Started(_) if entry.op == Op::Patch => asked.state = "done",
            Phase::Started(_) => {}
            Phase::Ended(Outcome::Failed(_)) => asked.state = "failed",
            Phase::Ended(_) => asked.state = "done",
        }
    }
    places.into_values().collect()
}

/// The tree as lines of text, in which nothing is left that a terminal obeys.
pub(super) fn drawn(tree: &Node, many: usize) -> Vec<String> {
    let mut lines = vec![format!("{} {}", headline(tree), tree.id)];
    draw(tree, "", many, &mut lines);
    lines
}

fn headline(node: &Node) -> String {
    let mut line = format!("{} {} {}", mark(&node.state), output::shown(&node.function), node.state);
    if node.generation > 0 {
        let _ = write!(line, ", generation {}", node.generation);
    }
    if let Some(error) = &node.error {
        let _ = write!(line, ": {}", output::shown(error));
    }
    if let Some(progress) = &node.progress {
        let _ = write!(line, "  {}", said(progress));
    }
    line
}

/// What a run shows of itself: how far it is as a bar, the rest by name.
fn said(shown: &serde_json::Value) -> String {
    let serde_json::Value::Object(named) = shown else { return output::shown(&shown.to_string()) };
    let part = |(name, value): (&String, &serde_json::Value)| match (name.as_str(), value) {
        ("progress", value) => {
            let number = |key: &str| value.get(key).and_then(serde_json::Value::as_u64);
            let (Some(done), Some(of)) = (number("done"), number("of")) else {
                return format!("{name}: {}", output::shown(&value.to_string()));
            };
            let filled = usize::try_from(done.min(of) * BAR as u64 / of.max(1)).unwrap_or(BAR);
            format!("{}{} {done} of {of}", "█".repeat(filled), "░".repeat(BAR - filled))
        }
        (name, serde_json::Value::String(text)) => {
            format!("{}: {}", output::shown(name), output::shown(text))
        }
        (name, value) => format!("{}: {}", output::shown(name), output::shown(&value.to_string())),
    };
    named.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn mark(state: &str) -> char {
    match state {
        "done" | "succeeded" => '✓',
        "failed" | "dead" => '✗',
        "cancelled" => '–',
        "uncertain" => '?',
        "running" => '▸',
        "paused" => '‖',
        _ => '·',
    }
}

fn draw(node: &Node, indent: &str, many: usize, lines: &mut Vec<String>) {
    let groups = groups(&node.asked, many);
    let last = groups.len().saturating_sub(1);
    for (number, group) in groups.iter().enumerate() {
        let (branch, below) = if number == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        match group.as_slice() {
            [one] => {
                lines.push(format!("{indent}{branch}{}", line(one)));
                if let Some(run) = &one.run {
                    draw(run, &format!("{indent}{below}"), many, lines);
                }
            }
            all => lines.push(format!("{indent}{branch}{}", bar(all))),
        }
    }
}

/// Puts many children of one function that stand beside each other together.
fn groups(asked: &[Asked], many: usize) -> Vec<Vec<&Asked>> {
    let is_child = |one: &Asked| one.op == Op::Child;
    let runs = asked.chunk_by(|a, b| is_child(a) && is_child(b) && a.name == b.name);
    runs.flat_map(|run| {
        if run.len() >= many { vec![run.iter().collect()] } else { run.iter().map(|one| vec![one]).collect() }
    })
    .collect()
}

fn line(asked: &Asked) -> String {
    if let Some(run) = &asked.run {
        return format!("{} {}", headline(run), run.id);
    }
    let name = output::shown(&asked.name);
    let mut line = format!("{} {}", mark(asked.state), asked.op);
    if !name.is_empty() {
        let _ = write!(line, " {name}");
    }
    if let Some(until) = asked.until.as_ref().filter(|_| asked.state == "waits") {
        let _ = write!(line, " until {until}");
    }
    line
}

fn bar(all: &[&Asked]) -> String {
    let count = |state: &str| all.iter().filter(|one| one.state == state).count();
    let (done, failed) = (count("done"), count("failed"));
    let filled = (done + failed) * BAR / all.len().max(1);
    let name = all.first().map(|one| output::shown(&one.name)).unwrap_or_default();
    let mark = if done + failed == all.len() {
        mark(if failed > 0 { "failed" } else { "done" })
    } else {
        mark("running")
    };
    let mut line =
        format!("{mark} {name} {}{} {done} of {}", "█".repeat(filled), "░".repeat(BAR - filled), all.len());
    if failed > 0 {
        let _ = write!(line, ", {failed} failed");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(op: Op, name: &str, state: &'static str) -> Asked {
        Asked { position: String::new(), op, name: name.to_owned(), state, until: None, run: None }
    }

    #[test]
    fn many_children_are_one_line_and_few_are_their_own() {
        let mut all = vec![asked(Op::Step, "reserve\u{1b}[2J", "done")];
        all.extend((0..10).map(|n| asked(Op::Child, "pack", if n < 4 { "done" } else { "waits" })));
        all.push(asked(Op::Child, "ship", "failed"));
        let id: JobId = "01980000-0000-7000-8000-000000000000".parse().unwrap();
        let (function, state) = ("checkout".to_owned(), "running".to_owned());
        let tree = Node { id, function, state, generation: 0, error: None, progress: None, asked: all };
        let lines = drawn(&tree, MANY);
        assert_eq!(lines[0], format!("▸ checkout running {id}"));
        assert_eq!(lines[1], "├─ ✓ step reserve\\u{1b}[2J");
        assert_eq!(lines[2], "├─ ▸ pack ████████░░░░░░░░░░░░ 4 of 10");
        assert_eq!(lines[3], "└─ ✗ child ship");
        assert_eq!(drawn(&tree, usize::MAX).len(), 13);
        let tree = Node { generation: 2, ..tree };
        assert_eq!(drawn(&tree, MANY)[0], format!("▸ checkout running, generation 2 {id}"));
    }

    #[test]
    fn what_a_run_shows_is_a_bar_and_the_rest_by_name() {
        let shown =
            serde_json::json!({ "file": "a\u{1b}.csv", "lines": 30, "progress": { "done": 1, "of": 4 } });
        assert_eq!(said(&shown), "file: a\\u{1b}.csv, lines: 30, █████░░░░░░░░░░░░░░░ 1 of 4");
        assert_eq!(said(&serde_json::json!({ "progress": "half" })), "progress: \"half\"");
        assert_eq!(
            said(&serde_json::json!({ "progress": { "done": 9, "of": 0 } })),
            format!("{} 9 of 0", "░".repeat(BAR))
        );
        assert_eq!(said(&7.into()), "7");
    }
}
