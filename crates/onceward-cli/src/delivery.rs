//! Where HTTP jobs may go, and the keys they are delivered with: said by flags, files and the environment.

use std::path::Path;

use onceward::http_jobs::{HttpPolicy, SealKeys, check_key_name, secret_in_query};
use onceward::webhook::Secret;
use onceward::{Code, Error, Result};

use crate::report;

/// What secret headers are encrypted with; never on a command line, which others can see.
const SECRET_KEY: &str = "ONCEWARD_SECRET_KEY";
/// What says that this is production.
const PROFILE: &str = "ONCEWARD_PROFILE";

/// Where requests may go.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Where HTTP requests may go")]
pub(crate) struct Allow {
    /// Also plain http, which everybody on the way can read and change
    #[arg(long)]
    pub(crate) allow_http: bool,
    /// Also this machine and private networks; link-local addresses and metadata services stay out of reach
    #[arg(long)]
    pub(crate) allow_private: bool,
    /// Only this host: a name, *.DOMAIN, or a network such as 10.1.0.0/16; with :PORT behind it, only at that port; may
    /// be given several times
    #[arg(long = "allow-host", value_name = "HOST")]
    pub(crate) allow_hosts: Vec<String>,
    /// Also this port, beside 80, 443 and those above 1023 at which no well-known service listens; may be given several
    /// times
    #[arg(long = "allow-port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) allow_ports: Vec<u16>,
}

impl Allow {
    pub(crate) fn policy(&self) -> Result<HttpPolicy> {
        let hosts = self.allow_hosts.iter().map(|host| host.parse()).collect::<Result<_>>()?;
        let (allow_http, allow_private, ports) =
            (self.allow_http, self.allow_private, self.allow_ports.clone());
        Ok(HttpPolicy { allow_http, allow_private, hosts, ports, ..HttpPolicy::default() })
    }

    /// Whether anything of it was said.
    pub(crate) fn is_said(&self) -> bool {
        let lists = !self.allow_hosts.is_empty() || !self.allow_ports.is_empty();
        self.allow_http || self.allow_private || lists
    }

    /// As [`policy`](Self::policy), of whoever delivers: in production he has to say where to.
    pub(crate) fn strict_policy(&self) -> Result<HttpPolicy> {
        let policy = self.policy()?;
        if policy.hosts.is_empty() && is_production()? {
            let why =
                "in production, name the hosts that HTTP jobs may go to with --allow-host, or say --no-http";
            return Err(Error::new(Code::AllowListMissing, why));
        }
        Ok(policy)
    }
}

fn is_production() -> Result<bool> {
    match std::env::var(PROFILE).as_deref() {
        Ok("production") => Ok(true),
        Err(_) | Ok("" | "development") => Ok(false),
        Ok(_) => {
            Err(Error::new(Code::UsageInvalid, format!("{PROFILE} is neither production nor development")))
        }
    }
}

/// The keys that secrets are encrypted with, if there are any.
pub(crate) fn seal_keys() -> Result<Option<SealKeys>> {
    match std::env::var(SECRET_KEY) {
        Ok(keys) if !keys.is_empty() => SealKeys::new(&keys).map(Some),
        _ => Ok(None),
    }
}

/// As [`seal_keys`], where one is needed.
pub(crate) fn needed_seal_keys() -> Result<SealKeys> {
    seal_keys()?.ok_or_else(|| {
        Error::new(Code::SealKeyInvalid, format!("{SECRET_KEY} is not set: 32 random bytes in base64"))
    })
}

/// The lines of a file that hold something, such as secrets: one in a line, the newest first.
pub(crate) fn lines(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Error::new(Code::UsageInvalid, format!("{} can't be read", file.display())).with_source(error)
    })?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The signing secrets of a file; there is one, at least.
pub(crate) fn secrets(file: &Path) -> Result<Vec<Secret>> {
    let secrets = lines(file)?.iter().map(|line| line.parse()).collect::<Result<Vec<_>>>()?;
    if secrets.is_empty() {
        return Err(Error::new(Code::SigningSecretInvalid, format!("{} holds no secret", file.display())));
    }
    Ok(secrets)
}

/// The signing secrets of FILE, or of NAME=FILE with the name of their key; a FILE has none.
pub(crate) fn named_secrets(text: &str) -> Result<(&str, Vec<Secret>)> {
    let named = text.split_once('=').filter(|(name, _)| check_key_name(name).is_ok());
    let (name, file) = named.unwrap_or(("", text));
    Ok((name, secrets(Path::new(file))?))
}

/// The value of a secret header, out of its file.
pub(crate) fn header_value(file: &str) -> Result<String> {
    let value = lines(Path::new(file))?.join(" ");
    if value.is_empty() {
        return Err(Error::new(Code::HeaderInvalid, format!("{file} holds nothing for a secret header")));
    }
    Ok(value)
}

/// Says it where a URL shows a secret to whoever can see it.
pub(crate) fn warn_of_secrets(url: &str) {
    if let Some(name) = secret_in_query(url) {
        report::note(&format!(
            "the URL holds what looks like a secret ({name}=): URLs are kept and shown in the clear; \
             give it as a --secret-header, if the receiver takes it there"
        ));
    }
}
