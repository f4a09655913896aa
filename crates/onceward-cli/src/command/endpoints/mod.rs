//! `onceward endpoints`: receivers of webhooks that have a name.
//!
//! Read in this order: this file → `change.rs` (what may be said of one) → `secret.rs` (what it is signed with).

mod change;
mod secret;

use core::fmt::Display;
use std::process::ExitCode;

use clap::Subcommand;
use onceward::endpoints::{Endpoint, ListedEndpoints, SigningKey};
use onceward::http_jobs::shown_url;
use onceward::{Admin, Code, EndpointName, Error, Onceward, Result, Timestamp};
use serde_json::json;

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Receivers of webhooks: add them, look at them, give them new secrets, disable and enable them
///
/// An endpoint gets a signed request for each event that one of its patterns chooses: see events send. Its secrets are
/// kept encrypted under the key in ONCEWARD_SECRET_KEY, which the worker needs as well, and are never shown again.
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add an endpoint; prints the secret that its receiver checks with, this once
    Add(Box<change::Add>),
    /// Change an endpoint; what is not said stays as it is
    Set(Box<change::Set>),
    /// The endpoints of the namespace, by name
    List(List),
    /// One endpoint
    Show(Which),
    /// What has happened to an endpoint, the newest first
    History(History),
    /// Give an endpoint a new secret; for a while the old one signs beside it
    RotateSecret(secret::Rotate),
    /// Encrypt the secrets of all endpoints anew, under the first of the keys in ONCEWARD_SECRET_KEY
    Reseal(secret::Reseal),
    /// Send an endpoint nothing more; what is enqueued for it waits
    Disable(Why),
    /// Send an endpoint something again
    Enable(Why),
    /// Enqueue a request to an endpoint, to try it out
    Test(Which),
    /// Remove an endpoint
    Rm(Why),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The endpoint
    #[arg(value_name = "NAME", value_parser = endpoint)]
    name: EndpointName,
}

#[derive(Debug, clap::Args)]
struct Why {
    #[command(flatten)]
    which: Which,
    /// Why, for those who wonder
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only those after this name
    #[arg(long, value_name = "NAME", value_parser = endpoint)]
    after: Option<EndpointName>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
}

#[derive(Debug, clap::Args)]
struct History {
    #[command(flatten)]
    which: Which,
    /// How many events at most, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

fn endpoint(text: &str) -> Result<EndpointName> {
    EndpointName::new(text)
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let done = act(&args.action, &client, globals).await;
    store::close(globals, &client).await;
    done?;
    Ok(ExitCode::from(exit::DONE))
}

async fn act(action: &Action, client: &Onceward, globals: &Globals) -> Result<()> {
    let admin = client.admin();
    match action {
        Action::Add(args) => change::add(args, client, globals).await,
        Action::Set(args) => show(&change::set(args, client).await?, globals),
        Action::Reseal(args) => secret::reseal(args, &admin, globals).await,
        Action::RotateSecret(args) => secret::rotate(args, &admin, globals).await,
        Action::List(List { after, limit }) => {
            list(&admin.endpoints(after.as_ref(), usize::from(*limit)).await?, globals)
        }
        Action::Show(Which { name }) => show(&admin.endpoint(name).await?, globals),
        Action::History(History { which: Which { name }, limit }) => {
            super::history::print(&admin.endpoint_history(name, *limit).await?, globals)
        }
        Action::Test(Which { name }) => {
            let job = admin.test_endpoint(name).await?;
            match globals.output.is_json() {
                true => output::json(&json!({ "job": job })),
                false => output::text(&format!("{job}\n")),
            }
        }
        Action::Disable(_) | Action::Enable(_) | Action::Rm(_) => intervene(action, &admin).await,
    }
}

async fn intervene(action: &Action, admin: &Admin) -> Result<()> {
    let note = match action {
        Action::Disable(Why { which: Which { name }, reason }) => {
            match admin.disable_endpoint(name, reason.as_deref()).await? {
                true => format!("{name} is disabled; what is enqueued for it waits"),
                false => format!("{name} was disabled before"),
            }
        }
        Action::Enable(Why { which: Which { name }, reason }) => {
            match admin.enable_endpoint(name, reason.as_deref()).await? {
                true => format!(
                    "{name} is enabled; what waits for it comes within the hour, or is retried by hand"
                ),
                false => format!("{name} was enabled before"),
            }
        }
        Action::Rm(Why { which: Which { name }, reason }) => {
            admin.remove_endpoint(name, reason.as_deref()).await?;
            format!("{name} is gone")
        }
        _ => return Err(Error::new(Code::UsageInvalid, "this changes nothing")),
    };
    report::note(&note);
    Ok(())
}

fn patterns(row: &Endpoint) -> String {
    row.setting.events.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn state(row: &Endpoint) -> &'static str {
    match (&row.disabled, &row.health) {
        (Some(_), _) => "disabled",
        (None, Some(_)) => "failing",
        (None, None) => "enabled",
    }
}

fn why(row: &Endpoint) -> &str {
    let disabled = row.disabled.as_ref().and_then(|disabled| disabled.reason.as_deref());
    disabled.or_else(|| row.health.as_ref().map(|health| health.error.as_str())).unwrap_or_default()
}

fn list(found: &ListedEndpoints, globals: &Globals) -> Result<()> {
    for (name, _) in &found.unreadable {
        report::note(&format!("{name} can't be read: nothing is sent to it (onceward explain OW0009)"));
    }
    if globals.output.is_json() {
        let unreadable = found.unreadable.iter();
        let unreadable = unreadable.map(|(name, version)| output::unreadable(name.as_str(), *version));
        return output::json(&found.rows.iter().map(|row| json!(row)).chain(unreadable).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["ENDPOINT", "STATE", "URL", "EVENTS", "KEYS", "SINCE", "WHY"]);
    for row in &found.rows {
        let since = row.disabled.as_ref().map(|disabled| disabled.at);
        let since = since.or_else(|| row.health.as_ref().map(|health| health.failing_since));
        table.row([
            &row.name as &dyn Display,
            &state(row),
            &shown_url(&row.setting.url),
            &patterns(row),
            &row.keys.len(),
            &since.map_or_else(String::new, |at| at.to_string()),
            &why(row),
        ]);
    }
    for (name, _) in &found.unreadable {
        table.row([name as &dyn Display, &output::unreadable_cell(), &"", &"", &"", &"", &""]);
    }
    table.print()
}

fn show(row: &Endpoint, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(row);
    }
    let setting = &row.setting;
    let mut table = Table::new(&["ENDPOINT", row.name.as_str()]);
    table.field("state", Some(&state(row)));
    table.field("why", (!why(row).is_empty()).then(|| why(row)).as_ref().map(|why| why as &dyn Display));
    table.field("url", Some(&shown_url(&setting.url)));
    table.field("events", Some(&patterns(row)));
    let names = setting.headers.keys().chain(setting.sealed.keys()).map(String::as_str);
    table.field("headers", Some(&names.collect::<Vec<_>>().join(" ")));
    table.field("queue", Some(&setting.queue));
    table.field("time-out", Some(&onceward::duration::format(setting.timeout)));
    table.field("attempts", Some(&setting.max_attempts));
    table.field("retry", Some(&setting.retry));
    table.field("concurrency", setting.concurrency.as_ref().map(|most| most as &dyn Display));
    table.field("rate", setting.rate.as_ref().map(|rate| rate as &dyn Display));
    let give_up = setting.give_up.map_or_else(
        || "never".to_owned(),
        |rule| format!("{} failures over {}", rule.failures, onceward::duration::format(rule.after)),
    );
    table.field("give up", Some(&give_up));
    for key in &row.keys {
        table.field("key", Some(&key_line(key)));
    }
    table.field("created", Some(&row.created_at));
    table.print()
}

fn key_line(key: &SigningKey) -> String {
    let until = |at: Timestamp| format!(", until {at}");
    let public = key.public.as_ref().map_or_else(String::new, |public| format!(", {public}"));
    format!("{} since {}{}{public}", key.version, key.since, key.until.map_or_else(String::new, until))
}
