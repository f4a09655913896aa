//! The file on disk: where it may lie, who may reach it, and whether it still is the file that was opened.
//!
//! The file is never opened here: closing a descriptor of it would drop the locks that SQLite holds on it in
//! this process (N50). It is only created, when it is not there, and looked at.

use core::time::Duration;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use onceward_core::{Code, Error, Result};

use crate::{Finding, Severity};

/// How often the file is looked at while it is in use.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Which file something is: a replaced one has the same path and another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|it| Self { device: it.dev(), inode: it.ino() })
    }

    /// The identity as a number; zero is no file.
    fn number(found: Option<Self>) -> u64 {
        found.map_or(0, |it| it.inode ^ it.device.rotate_left(32))
    }
}

/// A database file in use.
pub(crate) struct Place {
    path: PathBuf,
    file: Identity,
    /// Where the write-ahead log is: beside the file itself, not beside a link to it.
    log_path: PathBuf,
    /// The log. SQLite removes it only after the last connection was closed.
    log: Option<Identity>,
    opened: Instant,
    /// When the file is to be looked at next, in milliseconds after `opened`.
    next_look: AtomicU64,
    replaced: AtomicBool,
    epoch: AtomicU64,
}

impl Place {
    /// Makes sure that there is a file which may be opened at `path`; creates an empty one for this user
    /// alone.
    pub(crate) fn prepare(path: &Path) -> Result<PathBuf> {
        let path = std::path::absolute(path).map_err(|error| unavailable(path, &error))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            let why = format!("there is no directory {}", folder.display());
            return Err(Error::new(Code::StoreUnavailable, why));
        }
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // There may be a file that can be used although its directory can't be written to: SQLite will
            // tell.
            Err(_) if path.exists() => {}
            Err(error) => return Err(unavailable(&path, &error)),
        }
        let metadata = fs::metadata(&path).map_err(|error| unavailable(&path, &error))?;
        if !metadata.is_file() {
            return Err(Error::new(Code::StoreUnavailable, format!("{} is not a file", path.display())));
        }
        refuse(filesystem_verdict(magic(&path)?))?;
        refuse(mode_verdict(metadata.mode()))?;
        Ok(path)
    }

    /// The file at `path`, which SQLite has opened between `before` was taken and now.
    pub(crate) fn opened(path: PathBuf, before: u64) -> Result<Self> {
        let file = Identity::of(&path).filter(|file| Identity::number(Some(*file)) == before);
        let Some(file) = file else { return Err(replaced(&path)) };
        let log_path = log_of(&fs::canonicalize(&path).map_err(|error| unavailable(&path, &error))?);
        let log = Identity::of(&log_path);
        Ok(Self {
            path,
            file,
            log_path,
            log,
            opened: Instant::now(),
            next_look: AtomicU64::new(0),
            replaced: AtomicBool::new(false),
            epoch: AtomicU64::new(before),
        })
    }

    /// A number that is another one for another file.
    pub(crate) fn number(path: &Path) -> u64 {
        Identity::number(Identity::of(path))
    }

    /// Makes sure that the file at the path is still the one that was opened (N48). Looks once a second at
    /// most.
    pub(crate) fn verify(&self) -> Result<()> {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.next_look.load(Ordering::Relaxed);
        let after = now + u64::try_from(LOOK_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let mine = now >= due
            && self.next_look.compare_exchange(due, after, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            self.look();
        }
        if self.replaced.load(Ordering::Relaxed) { Err(replaced(&self.path)) } else { Ok(()) }
    }

    fn look(&self) {
        let file = Identity::of(&self.path);
        let log = Identity::of(&self.log_path);
        if file != Some(self.file) || self.log.is_some_and(|known| log != Some(known)) {
            self.replaced.store(true, Ordering::Relaxed);
            // Without its log the file is another one as well: commits are gone.
            self.epoch.store(Identity::number(file).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// A number that changes with the file.
    pub(crate) fn epoch(&self) -> u64 {
        // The answer is in the number.
        let _ = self.verify();
        self.epoch.load(Ordering::Relaxed)
    }

    /// The size of the write-ahead log, in bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        fs::metadata(&self.log_path).map_or(0, |it| it.len())
    }

    /// What there is to say about where the file lies and who may reach it.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let Ok(metadata) = fs::metadata(&self.path) else { return Vec::new() };
        let folder = self.path.parent().and_then(|folder| fs::metadata(folder).ok());
        let mut findings = vec![mode_verdict(metadata.mode()), links_verdict(&metadata)];
        findings.extend(magic(&self.path).map(filesystem_verdict));
        findings.extend(folder.and_then(|folder| folder_verdict(folder.mode())));
        findings
    }
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn unavailable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::StoreUnavailable, format!("can't use {}: {error}", path.display()))
}

fn replaced(path: &Path) -> Error {
    let why = format!("{} (or its -wal) was replaced or removed while it was open", path.display());
    Error::new(Code::FileReplaced, why)
}

fn refuse(finding: Finding) -> Result<()> {
    match (finding.severity, finding.code) {
        (Severity::Error, Some(code)) => Err(Error::new(code, finding.found)),
        _ => Ok(()),
    }
}

/// The number by which the kernel knows the kind of file system.
fn magic(path: &Path) -> Result<u32> {
    let stat = rustix::fs::statfs(path).map_err(|error| unavailable(path, &error.into()))?;
    // The numbers have 32 bits; the type is wider, and on some machines signed.
    Ok(stat.f_type as u32)
}

/// Whether SQLite's locks and its shared memory work on a file system (N50).
pub(crate) fn filesystem_verdict(magic: u32) -> Finding {
    let refused = |name: &str| {
        let found = format!("{name}: locks don't hold between hosts, and two writers would destroy the file");
        finding(Severity::Error, "filesystem", found, Some(Code::FilesystemUnsafe))
    };
    let doubted = |name: &str| {
        let found = format!("{name}: safe only if it honours POSIX locks and shared memory, and on one host");
        finding(Severity::Warning, "filesystem", found, Some(Code::FilesystemUnsafe))
    };
    match magic {
        0x6969 => refused("NFS"),
        0xff53_4d42 => refused("CIFS"),
        0xfe53_4d42 => refused("SMB2"),
        0x517b => refused("SMB"),
        0x0102_1997 => refused("9p"),
        0x6573_5546 => doubted("FUSE"),
        0x00c3_6400 => doubted("Ceph"),
        0x0bd0_0bd0 => doubted("Lustre"),
        0x0116_1970 => doubted("GFS2"),
        0x7461_636f => doubted("OCFS2"),
        0x5346_414f => doubted("AFS"),
        0x786f_4256 => doubted("VirtualBox shared folder"),
        _ => finding(Severity::Ok, "filesystem", format!("local (type {magic:#x})"), None),
    }
}

/// Who may reach a file of this mode.
pub(crate) fn mode_verdict(mode: u32) -> Finding {
    let (severity, who) = match mode {
        _ if mode & 0o002 != 0 => (Severity::Error, "everybody may write to it"),
        _ if mode & 0o004 != 0 => (Severity::Warning, "everybody may read it"),
        _ if mode & 0o060 != 0 => (Severity::Warning, "its group may reach it"),
        _ => (Severity::Ok, "its owner's alone"),
    };
    let code = (severity != Severity::Ok).then_some(Code::FileUnsafe);
    finding(severity, "mode", format!("{:04o}: {who}", mode & 0o7777), code)
}

/// Whether others may put another file in its place.
fn folder_verdict(mode: u32) -> Option<Finding> {
    let open = mode & 0o002 != 0 && mode & 0o1000 == 0;
    let found = "everybody may replace files in its directory".to_owned();
    open.then(|| finding(Severity::Warning, "directory", found, Some(Code::FileUnsafe)))
}

/// A file of two names has two logs and two sets of locks, one for each name it is opened by.
fn links_verdict(metadata: &Metadata) -> Finding {
    match metadata.nlink() {
        0 | 1 => finding(Severity::Ok, "links", "one name".to_owned(), None),
        names => {
            let found = format!("{names} hard links: opened by another name it would be destroyed");
            finding(Severity::Warning, "links", found, Some(Code::FileUnsafe))
        }
    }
}

fn finding(severity: Severity, check: &'static str, found: String, code: Option<Code>) -> Finding {
    Finding { severity, check, found, code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n50_network_file_systems_are_refused_and_fuse_is_doubted() {
        for magic in [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x517b, 0x0102_1997] {
            let error = refuse(filesystem_verdict(magic)).unwrap_err();
            assert_eq!(error.code(), Code::FilesystemUnsafe);
        }
        assert_eq!(filesystem_verdict(0x6573_5546).severity, Severity::Warning);
        for local in [0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630] {
            assert_eq!(filesystem_verdict(local).severity, Severity::Ok, "{local:#x}");
        }
    }

    #[test]
    fn a_file_that_everybody_may_write_to_is_refused() {
        for (mode, severity) in [
            (0o100_600, Severity::Ok),
            (0o100_640, Severity::Warning),
            (0o100_644, Severity::Warning),
            (0o100_666, Severity::Error),
            (0o100_602, Severity::Error),
        ] {
            let verdict = mode_verdict(mode);
            assert_eq!(verdict.severity, severity, "{mode:o}");
            assert_eq!(verdict.code.is_some(), severity != Severity::Ok);
        }
        assert!(folder_verdict(0o040_777).is_some());
        assert!(folder_verdict(0o041_777).is_none(), "sticky, as /tmp");
    }
}
