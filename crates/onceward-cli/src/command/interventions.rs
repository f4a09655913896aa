//! What every intervention takes: a reason, who does it, and the token that was looked at.

use onceward::{Admin, Onceward, Result, Token};

#[derive(Debug, clap::Args)]
#[group(id = "by")]
pub(super) struct Args {
    /// Why; it is written into the history
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
    /// Only if this is still the token
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    pub(super) token: Option<Token>,
    /// Who does it, for the history [default: USER@HOST:PID]
    #[arg(long = "as", value_name = "WHO")]
    actor: Option<String>,
}

fn token(text: &str) -> Result<Token> {
    text.parse()
}

impl Args {
    /// The way to intervene under the right name.
    pub(super) fn admin(&self, client: &Onceward) -> Result<Admin> {
        let admin = client.admin();
        match (&self.actor, std::env::var("USER")) {
            (Some(actor), _) => admin.acting_as(actor),
            (None, Ok(user)) if !user.is_empty() => admin.acting_as(format!("{user}@{}", client.owner())),
            (None, _) => Ok(admin),
        }
    }
}
