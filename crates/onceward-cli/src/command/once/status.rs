//! The status file: what came of a `once`, for programs that don't want to guess from an exit code.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use onceward::{Code, Error, Result};

use super::tell::Told;
use crate::output;

/// The file named by `--status-file`, if there is one.
pub(super) struct StatusFile(Option<(File, PathBuf)>);

impl StatusFile {
    /// Makes the file empty, before anything is done: if it can't be written, nothing is started.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| {
            let file = File::create(path).map_err(|error| unwritten(path, error))?;
            Ok((file, path.to_owned()))
        };
        Ok(Self(path.map(open).transpose()?))
    }

    /// Whether one was asked for.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Writes what came of it.
    pub(super) fn write(self, told: &Told) -> Result<()> {
        let Some((mut file, path)) = self.0 else { return Ok(()) };
        let line = format!("{}\n", output::json_line(told)?);
        file.write_all(line.as_bytes()).map_err(|error| unwritten(&path, error))
    }
}

fn unwritten(path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::StatusFileFailed, format!("{} can't be written", path.display())).with_source(error)
}
