//! The file of allowed commands: what stands there may be run, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use onceward::{Code, Error, Kind, Result};
use serde::Deserialize;

/// A program and its arguments.
pub(super) type Line = Arc<[String]>;

/// The commands by the kinds of jobs that they run.
pub(super) struct Allowed(pub(super) BTreeMap<String, Line>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kinds: BTreeMap<String, Vec<String>>,
}

impl Allowed {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let refuse =
            |why: String| Error::new(Code::CommandsFileInvalid, format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path)
            .map_err(|error| refuse("it can't be read".to_owned()).with_source(error))?;
        Self::parse(&text).map_err(refuse)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        if file.kinds.is_empty() {
            return Err("the table `kinds` is empty".to_owned());
        }
        let line = |(kind, line): (String, Vec<String>)| {
            Kind::new(&kind).map_err(|error| error.message().to_owned())?;
            match line.first() {
                Some(program) if !program.is_empty() => Ok((kind, line.into())),
                _ => Err(format!("the kind {kind:?} has no program")),
            }
        };
        Ok(Self(file.kinds.into_iter().map(line).collect::<Result<_, String>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_of_a_program_and_its_arguments_is_a_command() {
        let allowed = Allowed::parse("[kinds]\n\"report.build\" = [\"./report\", \"--quiet\"]\n").unwrap();
        assert_eq!(allowed.0["report.build"][..], ["./report".to_owned(), "--quiet".to_owned()]);
        for bad in [
            "",
            "[kinds]\n",
            "[kinds]\na = \"./report\"\n",
            "[kinds]\na = []\n",
            "[kinds]\na = [\"\"]\n",
            "[kinds]\n\"\" = [\"x\"]\n",
            "[kinds]\na = [\"x\"]\n[more]\n",
            "kinds",
        ] {
            assert!(Allowed::parse(bad).is_err(), "{bad:?}");
        }
    }
}
