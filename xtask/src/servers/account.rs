//! The system user that the servers run as. Neither PostgreSQL nor pgbouncer runs as root.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

const OURS: &str = "onceward-test";

/// An unprivileged user.
pub(crate) struct Account {
    name: String,
    /// User and group to become; absent when we already are that user.
    become_ids: Option<(u32, u32)>,
}

impl Account {
    /// The user we are, or, for root, `postgres` or a user of our own.
    pub(crate) fn choose() -> Result<Self> {
        if !is_root()? {
            return Ok(Self::myself(&process::output(Command::new("id").arg("-un"))?));
        }
        if process::find("setpriv").is_none() {
            bail!("setpriv (package util-linux) is needed to run PostgreSQL when started as root");
        }
        let name = if exists("postgres") { "postgres" } else { OURS };
        if !exists(name) {
            let options =
                ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name];
            process::output(Command::new("useradd").args(options))?;
        }
        Ok(Self { name: name.to_owned(), become_ids: Some((id("-u", name)?, id("-g", name)?)) })
    }

    /// The user we already are.
    pub(crate) fn myself(name: &str) -> Self {
        Self { name: name.to_owned(), become_ids: None }
    }

    /// The user's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the user the owner of a folder.
    pub(crate) fn give(&self, folder: &Path) -> Result<()> {
        let Some((user, group)) = self.become_ids else { return Ok(()) };
        chown(folder, Some(user), Some(group))
            .with_context(|| format!("failed to give {} to {}", folder.display(), self.name))
    }

    /// A command that runs as the user. With a signal, the kernel sends it to the command when we die.
    pub(crate) fn command(&self, program: &Path, on_our_death: Option<&str>) -> Command {
        let mut options = Vec::new();
        if let Some((user, group)) = self.become_ids {
            options.extend([
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--init-groups".to_owned(),
            ]);
        }
        options.extend(on_our_death.map(|signal| format!("--pdeathsig={signal}")));
        match process::find("setpriv") {
            Some(setpriv) if !options.is_empty() => {
                let mut command = Command::new(setpriv);
                command.args(options).arg("--").arg(program);
                command
            }
            _ => Command::new(program),
        }
    }
}

/// Whether we are root.
pub(crate) fn is_root() -> Result<bool> {
    Ok(process::output(Command::new("id").arg("-u"))? == "0")
}

fn exists(name: &str) -> bool {
    process::succeeds(Command::new("id").arg(name))
}

fn id(which: &str, name: &str) -> Result<u32> {
    let text = process::output(Command::new("id").args([which, name]))?;
    text.parse().with_context(|| format!("`id` says {text:?}, which is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_another_user_goes_through_setpriv() {
        let account = Account { name: "other".to_owned(), become_ids: Some((7, 8)) };
        let command = account.command(Path::new("/bin/true"), Some("INT"));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words, ["--reuid=7", "--regid=8", "--init-groups", "--pdeathsig=INT", "--", "/bin/true"]);
    }
}
