//! The card company: a file every charge is appended to. It stands outside the store and knows nothing of it, which is
//! why it can tell in the end whether anybody was charged twice.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    path: PathBuf,
}

impl Ledger {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Charges: one line, appended in one write, on disk before it returns.
    pub(super) fn charge(&self, payment: &str, token: &str) -> io::Result<String> {
        let charge = format!("ch_{token}");
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(format!("{payment} {charge} {}\n", std::process::id()).as_bytes())?;
        file.sync_data()?;
        Ok(charge)
    }

    /// Every charge of every payment. A line cut short by a killed process is a charge that never happened.
    pub(super) fn charges(&self) -> io::Result<BTreeMap<String, Vec<String>>> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut charges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let mut words = line.split_whitespace();
            if let (Some(payment), Some(charge)) = (words.next(), words.next()) {
                charges.entry(payment.to_owned()).or_default().push(charge.to_owned());
            }
        }
        Ok(charges)
    }

    /// What the card company answers when asked about one payment.
    pub(super) fn charge_of(&self, payment: &str) -> io::Result<Option<String>> {
        Ok(self.charges()?.remove(payment).and_then(|charges| charges.into_iter().next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_counted_and_cut_lines_are_none() {
        let path = std::env::temp_dir().join(format!("onceward-ledger-test-{}", std::process::id()));
        let ledger = Ledger::at(&path);
        assert!(ledger.charges().unwrap().is_empty());
        ledger.charge("a", "1").unwrap();
        ledger.charge("a", "2").unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"b ch_3 7").unwrap();
        let charges = ledger.charges().unwrap();
        assert_eq!((charges.len(), charges["a"].len()), (1, 2));
        assert_eq!(ledger.charge_of("a").unwrap().as_deref(), Some("ch_1"));
        std::fs::remove_file(path).unwrap();
    }
}
