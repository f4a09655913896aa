//! Makes the machine ready: the Debian packages and Rust components that the tests need.
//!
//! Installing must never start a server or create a database cluster: the tests bring up their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::servers;

/// A package that is installed unless what it brings is already there.
struct Need {
    package: &'static str,
    present: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need { package: "postgresql", present: || servers::postgres_folder().is_some() },
    Need { package: "pgbouncer", present: || process::find("pgbouncer").is_some() },
    Need { package: "libfaketime", present: || faketime_library().is_some() },
];

/// Installs what is missing.
pub(crate) fn everything() -> Result<()> {
    components()?;
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    refuse_unless_able(&missing)?;
    leave_clusters_alone()?;
    let _guard = ServicesStayDown::new()?;
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)?;
    match self::missing().as_slice() {
        [] => Ok(()),
        still => bail!("installed, and still not found: {}", still.join(" ")),
    }
}

/// The library that gives a process a clock of its own.
pub(crate) fn faketime_library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let known = [PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")];
    known
        .into_iter()
        .chain(folders)
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|it| it.is_file())
}

fn missing() -> Vec<&'static str> {
    NEEDS.iter().filter(|need| !(need.present)()).map(|need| need.package).collect()
}

fn components() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !process::succeeds(&mut process::cargo(&[subcommand, "--version"])) {
            bail!("`cargo {subcommand}` does not run; install it with `rustup component add {component}`");
        }
    }
    Ok(())
}

fn refuse_unless_able(missing: &[&str]) -> Result<()> {
    let packages = missing.join(" ");
    if process::find("apt-get").is_none() {
        bail!("these are missing and there is no apt-get to install them: {packages}");
    }
    if !servers::is_root()? {
        bail!("these are missing: {packages}\nas root: apt-get install --no-install-recommends {packages}");
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Result<()> {
    process::run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Debian's package creates a cluster on port 5432 unless told not to.
fn leave_clusters_alone() -> Result<()> {
    let file = Path::new("/etc/postgresql-common/createcluster.conf");
    if file.exists() {
        return Ok(());
    }
    fs::create_dir_all("/etc/postgresql-common").context("failed to create /etc/postgresql-common")?;
    fs::write(file, "create_main_cluster = false\n")
        .with_context(|| format!("failed to write {}", file.display()))
}

/// While this lives, packages may not start services. A policy that is already there is respected.
struct ServicesStayDown {
    ours: bool,
}

impl ServicesStayDown {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self> {
        if Path::new(Self::POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let guard = Self { ours: true };
        fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").context("failed to write the service policy")?;
        fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755))
            .context("failed to make the service policy executable")?;
        Ok(guard)
    }
}

impl Drop for ServicesStayDown {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(Self::POLICY)
        {
            eprintln!("xtask: failed to remove {}: {error}", Self::POLICY);
        }
    }
}
