//! The power goes off, or the disk is full: what was confirmed is there when the disk is read anew, and nothing else
//! was confirmed.
//!
//! The disk is a file system in a file. It is shut down as if the power went (`EXT4_IOC_SHUTDOWN` without flushing its
//! log): what was written and not flushed is gone, and every write after that fails. That takes root and loop devices;
//! where there are none, these tests say so and prove nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Shuts the file system of a folder down. Perl, because making the call takes unsafe code in Rust.
const CUT: &str =
    "sysopen(my $f, $ARGV[0], 0) or die $!; my $how = pack('I', 2); ioctl($f, 0x8004587D, $how) or die $!;";

/// A disk of our own, mounted.
pub(crate) struct Disk {
    folder: PathBuf,
    /// A file that was written right before the last cut, and not flushed.
    unflushed: Mutex<PathBuf>,
}

impl Disk {
    /// `None`, and a word about it, where that can't be done here.
    pub(crate) fn of(size: &str) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("onceward-disk-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(folder.join("mounted")).unwrap();
        let disk = Self { folder, unflushed: Mutex::default() };
        let image = disk.image();
        let made =
            run("truncate", &["-s", size, &image]) && run("mkfs.ext4", &["-q", &image]) && disk.mount();
        if !made {
            eprintln!("nothing is proved: no file system can be mounted here");
        }
        made.then_some(disk)
    }

    fn image(&self) -> String {
        self.folder.join("image").display().to_string()
    }

    fn mounted(&self) -> String {
        self.path("").display().to_string()
    }

    fn mount(&self) -> bool {
        run("mount", &["-o", "loop", &self.image(), &self.mounted()])
    }

    /// A file or a folder on it.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join("mounted").join(name)
    }

    /// Everything so far is on the disk.
    pub(crate) fn flush(&self) {
        assert!(run("sync", &["-f", &self.mounted()]));
    }

    /// The power goes off. A file that nobody has flushed tells later whether it really did.
    pub(crate) fn cut(&self) {
        let file = self.path(format!("unflushed {}", uuid::Uuid::new_v4()));
        std::fs::write(&file, "x").unwrap();
        *self.unflushed.lock().unwrap() = file;
        assert!(run("perl", &["-e", CUT, &self.mounted()]), "the file system can't be shut down");
    }

    /// The power is back, and the disk is read anew. Nobody may have anything open on it.
    pub(crate) fn power_on(&self) {
        let began = Instant::now();
        while !run("umount", &[&self.mounted()]) {
            assert!(began.elapsed() < Duration::from_secs(20), "somebody holds the disk");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(self.mount());
        // Somebody else's flush may have brought its name along.
        let left = std::fs::read_to_string(&*self.unflushed.lock().unwrap()).unwrap_or_default();
        assert!(left.is_empty(), "what was not flushed is there: no power was cut");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", &self.mounted()]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| {
        if !output.status.success() {
            eprintln!("{program}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    })
}
