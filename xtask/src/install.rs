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
    Need { package: "redis-server", present: || process::find("redis-server").is_some() },
    // The guides show snippets in these languages, which the tests run.
    Need { package: "python3", present: || process::find("python3").is_some() },
    Need { package: "nodejs", present: || process::find("node").is_some() },
    Need { package: "libfaketime", present: || faketime_library().is_some() },
];

/// Installs what is missing.
pub(crate) fn everything() -> Result<()> {
    components()?;
    packages()
}

/// Installs the packages that are missing.
pub(crate) fn packages() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    refuse_unless_able(&missing)?;
    leave_clusters_alone(Path::new("/etc/postgresql-common/createcluster.conf"))?;
    let _guard = ServicesStayDown::by(Path::new("/usr/sbin/policy-rc.d"))?;
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
    let multiarch = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let folders = [PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")].into_iter().chain(multiarch);
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|library| library.is_file())
}

fn missing() -> Vec<&'static str> {
    NEEDS.iter().filter(|need| !(need.present)()).map(|need| need.package).collect()
}

/// Whether the toolchain has what it takes.
pub(crate) fn components() -> Result<()> {
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
fn leave_clusters_alone(settings: &Path) -> Result<()> {
    if settings.exists() {
        return Ok(());
    }
    let folder = settings.parent().unwrap_or(settings);
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    fs::write(settings, "create_main_cluster = false\n")
        .with_context(|| format!("failed to write {}", settings.display()))
}

/// While this lives, packages may not start services. A policy that is already there is respected.
struct ServicesStayDown {
    ours: Option<PathBuf>,
}

impl ServicesStayDown {
    fn by(policy: &Path) -> Result<Self> {
        if policy.exists() {
            return Ok(Self { ours: None });
        }
        let guard = Self { ours: Some(policy.to_owned()) };
        fs::write(policy, "#!/bin/sh\nexit 101\n").context("failed to write the service policy")?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))
            .context("failed to make the service policy executable")?;
        Ok(guard)
    }
}

impl Drop for ServicesStayDown {
    fn drop(&mut self) {
        if let Some(policy) = &self.ours
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!("xtask: failed to remove {}: {error}", policy.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("onceward-install-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn services_stay_down_only_while_we_install() {
        let folder = folder("policy");
        let policy = folder.join("policy-rc.d");
        let guard = ServicesStayDown::by(&policy).unwrap();
        assert_eq!(Command::new(&policy).status().unwrap().code(), Some(101));
        drop(ServicesStayDown::by(&policy).unwrap());
        assert!(policy.exists(), "a policy that was there is not ours to remove");
        drop(guard);
        assert!(!policy.exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_cluster_is_created_unless_somebody_has_decided_otherwise() {
        let folder = folder("cluster");
        let settings = folder.join("etc/createcluster.conf");
        leave_clusters_alone(&settings).unwrap();
        assert_eq!(fs::read_to_string(&settings).unwrap(), "create_main_cluster = false\n");
        fs::write(&settings, "# mine\n").unwrap();
        leave_clusters_alone(&settings).unwrap();
        assert_eq!(fs::read_to_string(&settings).unwrap(), "# mine\n");
        fs::remove_dir_all(folder).unwrap();
    }
}
