//! `onceward jobs enqueue http`: a request from the shell.

use onceward::http_jobs::{HttpJob, Method};
use onceward::jobs::Enqueue;
use onceward::{Code, Error, Onceward, Result};

use super::enqueue::{PayloadArgs, bytes_of};
use crate::delivery::{self, Allow};

/// The kind of jobs that are requests.
pub(super) const KIND: &str = "http";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Jobs of the kind http")]
#[group(id = "request")]
pub(super) struct Args {
    /// Where the request goes; a worker refuses what its own flags don't allow
    #[arg(long, value_name = "URL", group = "receiver")]
    url: Option<String>,
    /// The endpoint the request goes to, in place of a URL; it is sent as that is set to when it is sent
    #[arg(long, value_name = "NAME", group = "receiver")]
    endpoint: Option<String>,
    /// GET, POST, PUT, PATCH or DELETE [default: POST]
    #[arg(long, value_name = "METHOD", value_parser = method, requires = "url")]
    method: Option<Method>,
    /// A header, as NAME: VALUE; may be given several times
    #[arg(long = "header", value_name = "HEADER", requires = "receiver")]
    headers: Vec<String>,
    /// A header that is kept encrypted under the key in ONCEWARD_SECRET_KEY, its value in a file; may be given several
    /// times
    #[arg(long = "secret-header", value_name = "NAME=FILE", requires = "url")]
    secret_headers: Vec<String>,
    /// What the body is [default: what it was given as]
    #[arg(long, value_name = "TYPE", requires = "receiver")]
    content_type: Option<String>,
    /// Sign it with the worker's key of this name, in place of the one that signs everything
    #[arg(long, value_name = "NAME", requires = "receiver")]
    sign_with: Option<String>,
    #[command(flatten)]
    allow: Allow,
}

fn method(text: &str) -> Result<Method> {
    text.parse()
}

impl Args {
    /// Refuses what does not belong to jobs of this kind.
    pub(super) fn check(&self, kind: &str) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(Code::UsageInvalid, why));
        match (kind == KIND, self.url.as_ref().or(self.endpoint.as_ref())) {
            (true, None) => refuse("a job of the kind http wants a --url or an --endpoint"),
            (false, Some(_)) => refuse("--url and --endpoint go with jobs of the kind http"),
            (false, None) if self.allow.is_said() => refuse(
                "--allow-http, --allow-private, --allow-host and --allow-port go with jobs of the kind http",
            ),
            _ => Ok(()),
        }
    }

    /// The request, being enqueued.
    pub(super) fn enqueue(&self, client: &Onceward, body: &PayloadArgs) -> Result<Enqueue> {
        let mut job = match &self.endpoint {
            Some(name) => HttpJob::to_endpoint(name),
            None => {
                let url = self.url.clone().unwrap_or_default();
                delivery::warn_of_secrets(&url);
                HttpJob::new(self.method.unwrap_or_default(), url).policy(self.allow.policy()?)
            }
        };
        if let Some(json) = &body.json {
            job = job.json_text(json);
        } else if let Some(text) = &body.text {
            job = job.text(text);
        } else if let Some(file) = &body.payload_file {
            job = job.bytes(bytes_of(file)?);
        }
        if let Some(content_type) = &self.content_type {
            job = job.content_type(content_type);
        }
        for header in &self.headers {
            let Some((name, value)) = header.split_once(':') else {
                return Err(Error::new(Code::HeaderInvalid, "a header is written as NAME: VALUE"));
            };
            job = job.header(name.trim_end(), value.trim());
        }
        for header in &self.secret_headers {
            let Some((name, file)) = header.split_once('=') else {
                return Err(Error::new(Code::HeaderInvalid, "a secret header is written as NAME=FILE"));
            };
            job = job.secret_header(name, delivery::header_value(file)?, &delivery::needed_seal_keys()?);
        }
        if let Some(name) = &self.sign_with {
            job = job.sign_with(name);
        }
        Ok(client.enqueue_http(job))
    }
}
