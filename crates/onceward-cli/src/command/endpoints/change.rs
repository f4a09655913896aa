//! `onceward endpoints add` and `set`.

use core::time::Duration;

use onceward::endpoints::{Endpoint, EndpointBuilder, GiveUp};
use onceward::jobs::{Rate, Retry};
use onceward::limits::{GIVE_UP_AFTER_DEFAULT, GIVE_UP_FAILURES_DEFAULT};
use onceward::{Code, Error, Onceward, Result};

use super::Which;
use super::secret::{SecretArgs, print};
use crate::args::{Globals, duration};
use crate::delivery::{self, Allow};

#[derive(Debug, clap::Args)]
pub(super) struct Add {
    #[command(flatten)]
    which: Which,
    /// Where its requests go
    #[arg(long, value_name = "URL")]
    url: String,
    #[command(flatten)]
    secret: SecretArgs,
    /// Sign with no secret of its own
    #[arg(long, conflicts_with_all = ["secret_file", "pair"])]
    unsigned: bool,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    #[command(flatten)]
    which: Which,
    /// Where its requests go
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Leave out a header that it has; may be given several times
    #[arg(long = "without-header", value_name = "NAME")]
    without_headers: Vec<String>,
    #[command(flatten)]
    change: Change,
}

/// What may be said of an endpoint.
#[derive(Debug, clap::Args)]
struct Change {
    /// Which events it gets: order.paid, order.* or *; may be given several times, and takes the place of what was said
    #[arg(long = "event", value_name = "PATTERN")]
    events: Vec<String>,
    /// A header of its requests, as NAME: VALUE; may be given several times
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// A header that is kept encrypted, its value in a file; may be given several times
    #[arg(long = "secret-header", value_name = "NAME=FILE")]
    secret_headers: Vec<String>,
    /// The queue its deliveries wait in [default: default]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// How long an attempt may take [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// How many attempts a delivery has [default: 20]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// How long to wait between attempts [default: exponential 2s max 15m jitter 0.2]
    #[arg(long, value_name = "POLICY", value_parser = retry)]
    retry: Option<Retry>,
    /// How many requests one worker has under way to it at once; none for no limit
    #[arg(long, value_name = "N")]
    concurrency: Option<String>,
    /// How many requests one worker sends to it in a time, such as 100/1m; none for no limit
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// For how long it has failed without a break when it is disabled; never for not at all [default: 5 days]
    #[arg(long, value_name = "DURATION")]
    give_up_after: Option<String>,
    /// How often it has failed then, at least [default: 20]
    #[arg(long, value_name = "N")]
    give_up_failures: Option<u32>,
    #[command(flatten)]
    allow: Allow,
}

fn retry(text: &str) -> Result<Retry> {
    text.parse()
}

pub(super) async fn add(args: &Add, client: &Onceward, globals: &Globals) -> Result<()> {
    delivery::warn_of_secrets(&args.url);
    let endpoint = client.endpoint(&args.which.name).url(&args.url);
    let endpoint = args.change.apply(endpoint, None)?;
    if args.unsigned {
        return print(&endpoint.add().await?, None, globals);
    }
    let keys = delivery::needed_seal_keys()?;
    let (secret, shown) = args.secret.draw()?;
    let row = endpoint.secret(&secret).seal_keys(&keys).add().await?;
    print(&row, shown.as_deref(), globals)
}

pub(super) async fn set(args: &Set, client: &Onceward) -> Result<Endpoint> {
    let before = client.admin().endpoint(&args.which.name).await?.setting.give_up;
    let mut endpoint = args.change.apply(client.endpoint(&args.which.name), Some(before))?;
    if let Some(url) = &args.url {
        delivery::warn_of_secrets(url);
        endpoint = endpoint.url(url);
    }
    for header in &args.without_headers {
        endpoint = endpoint.without_header(header);
    }
    // Secret headers are encrypted anew where the URL leads to another host.
    if let Some(keys) = delivery::seal_keys()? {
        endpoint = endpoint.seal_keys(&keys);
    }
    endpoint.set().await
}

/// What `none` or `never` says, or something else.
fn unless<T>(text: &str, word: &str, read: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
    if text == word { Ok(None) } else { read(text).map(Some) }
}

impl Change {
    fn apply(&self, endpoint: EndpointBuilder, before: Option<Option<GiveUp>>) -> Result<EndpointBuilder> {
        let mut endpoint = self.headers(endpoint.policy(self.allow.policy()?))?;
        if !self.events.is_empty() {
            endpoint = endpoint.events(&self.events);
        }
        if let Some(queue) = &self.queue {
            endpoint = endpoint.queue(queue);
        }
        if let Some(timeout) = self.timeout {
            endpoint = endpoint.timeout(timeout);
        }
        if let Some(attempts) = self.max_attempts {
            endpoint = endpoint.max_attempts(attempts);
        }
        if let Some(retry) = self.retry {
            endpoint = endpoint.retry(retry);
        }
        if let Some(text) = &self.concurrency {
            let bad = |_| Error::new(Code::LimitInvalid, "a concurrency limit is a number, or none");
            endpoint = endpoint.concurrency(unless(text, "none", |text| text.parse().map_err(bad))?);
        }
        if let Some(text) = &self.rate {
            endpoint = endpoint.rate(unless(text, "none", str::parse::<Rate>)?);
        }
        match self.rule(before)? {
            Some(rule) => Ok(endpoint.give_up(rule)),
            None => Ok(endpoint),
        }
    }

    fn headers(&self, mut endpoint: EndpointBuilder) -> Result<EndpointBuilder> {
        for header in &self.headers {
            let Some((name, value)) = header.split_once(':') else {
                return Err(Error::new(Code::HeaderInvalid, "a header is written as NAME: VALUE"));
            };
            endpoint = endpoint.header(name.trim_end(), value.trim());
        }
        for header in &self.secret_headers {
            let Some((name, file)) = header.split_once('=') else {
                return Err(Error::new(Code::HeaderInvalid, "a secret header is written as NAME=FILE"));
            };
            let value = delivery::header_value(file)?;
            endpoint = endpoint.secret_header(name, value).seal_keys(&delivery::needed_seal_keys()?);
        }
        Ok(endpoint)
    }

    /// When it is given up, if anything was said about that; what was not said is as it was.
    fn rule(&self, before: Option<Option<GiveUp>>) -> Result<Option<Option<GiveUp>>> {
        let usual = GiveUp { after: GIVE_UP_AFTER_DEFAULT, failures: GIVE_UP_FAILURES_DEFAULT };
        let before = before.flatten().unwrap_or(usual);
        let after = match (&self.give_up_after, self.give_up_failures) {
            (None, None) => return Ok(None),
            (None, Some(_)) => Some(before.after),
            (Some(text), _) => unless(text, "never", duration)?,
        };
        let failures = self.give_up_failures.unwrap_or(before.failures);
        Ok(Some(after.map(|after| GiveUp { after, failures })))
    }
}
