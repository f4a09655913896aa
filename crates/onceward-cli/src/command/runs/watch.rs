//! `onceward runs watch`: the tree of a run while it changes. In a terminal it is drawn anew in its place; elsewhere
//! each change is a line.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;

use onceward::{JobId, Result};
use onceward_core::job::State;
use serde_json::json;

use super::tree::{self, Known, Node};
use crate::args::{Globals, duration};
use crate::command::jobs::filter;
use crate::{exit, output, store};

/// How many levels are shown.
const DEPTH: u32 = 5;
/// From so many children of one function on, they are shown as one line.
const MANY: usize = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The id of the run
    #[arg(value_name = "ID", value_parser = filter::id)]
    id: JobId,
    /// How often to look
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "500ms")]
    every: Duration,
}

/// Shows a run until it has ended; what it came to is what this exits with.
pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let mut view: Box<dyn View> = match (globals.output.is_json(), std::io::stdout().is_terminal()) {
        (true, _) => Box::new(Lines { seen: BTreeMap::new(), json: true }),
        (false, true) => Box::new(Screen { height: 0 }),
        (false, false) => Box::new(Lines { seen: BTreeMap::new(), json: false }),
    };
    let mut known = Known::default();
    let state = loop {
        match tree::load(&client, args.id, DEPTH, &mut known).await {
            Ok(tree) => {
                view.show(&tree)?;
                if tree::is_over(&tree.state) {
                    break tree.state;
                }
            }
            // A store that is away or busy comes back.
            Err(error) if error.is_retryable() => crate::report::note(&error.to_string()),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(args.every.max(Duration::from_millis(50))).await;
    };
    store::close(globals, &client).await;
    Ok(ExitCode::from(match State::from_word(&state) {
        Some(State::Succeeded) => exit::DONE,
        Some(State::Uncertain) => exit::UNCERTAIN,
        _ => exit::FAILED,
    }))
}

trait View {
    fn show(&mut self, tree: &Node) -> Result<()>;
}

/// A terminal.
struct Screen {
    /// How many lines were drawn last.
    height: usize,
}

impl View for Screen {
    fn show(&mut self, tree: &Node) -> Result<()> {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        let (rows, columns) =
            size.map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        let lines = tree::drawn(tree, MANY);
        let room = rows.saturating_sub(1).max(1);
        let hidden = lines.len().saturating_sub(room);
        let mut text = if self.height > 0 { format!("\x1b[{}A\x1b[J", self.height) } else { String::new() };
        let shown = lines.iter().take(if hidden > 0 { room - 1 } else { room });
        for line in shown.clone() {
            text.extend(line.chars().take(columns.max(10)));
            text.push('\n');
        }
        self.height = shown.len();
        if hidden > 0 {
            text += &format!("… and {} lines more\n", hidden + 1);
            self.height += 1;
        }
        output::text(&text)
    }
}

/// Something that is not a terminal.
struct Lines {
    seen: BTreeMap<String, String>,
    json: bool,
}

impl View for Lines {
    fn show(&mut self, tree: &Node) -> Result<()> {
        self.visit(tree)
    }
}

impl Lines {
    fn visit(&mut self, node: &Node) -> Result<()> {
        // That it has ended comes after what it has done.
        let over = tree::is_over(&node.state);
        if !over {
            self.changed(node, "", &node.function, &node.state)?;
        }
        for asked in &node.asked {
            match &asked.run {
                Some(run) => self.visit(run)?,
                None => {
                    let what = format!("{} {}", asked.op, asked.name);
                    self.changed(node, &asked.position, what.trim_end(), asked.state)?;
                }
            }
        }
        if over { self.changed(node, "", &node.function, &node.state) } else { Ok(()) }
    }

    fn changed(&mut self, node: &Node, position: &str, what: &str, state: &str) -> Result<()> {
        // The same place comes again in each generation.
        let place = format!("{} {} {position}", node.id, node.generation);
        if self.seen.insert(place, state.to_owned()).is_some_and(|before| before == state) {
            return Ok(());
        }
        if self.json {
            let mut line = json!({
                "run": node.id, "function": node.function, "position": position, "what": what, "state": state,
            });
            if node.generation > 0 {
                line["generation"] = json!(node.generation);
            }
            return output::text(&format!("{}\n", output::json_line(&line)?));
        }
        let what = if position.is_empty() { what.to_owned() } else { format!("{}: {what}", node.function) };
        let of = if position.is_empty() && node.generation > 0 {
            format!(", generation {}", node.generation)
        } else {
            String::new()
        };
        output::text(&format!("{} {} {state}{of}\n", node.id, output::shown(&what)))
    }
}
