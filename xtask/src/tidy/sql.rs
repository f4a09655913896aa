//! Rules of SQL files: two dialects that mirror each other, no file unused, no clock but the one we chose.

use std::collections::BTreeSet;

use super::markers::has_word;
use super::{File, Finding, Tree};

const STORE: &str = "crates/onceward-store/";
const DIALECTS: [&str; 2] = ["postgres", "sqlite"];

/// What no word of a statement may begin with, and why.
struct Banned {
    text: &'static str,
    why: &'static str,
    in_migrations: bool,
}

const FROZEN: &str =
    "it stands still inside a transaction; take the time from the statement's parameter or clock";
const PASSED_IN: &str = "the clock of SQLite is read by the store and passed in";

const SHARED_TABLE: &str = "advisory locks fill the shared lock table; hot statements take none";

const BANNED: &[Banned] = &[
    Banned { text: "now()", why: FROZEN, in_migrations: true },
    Banned { text: "current_time", why: FROZEN, in_migrations: true },
    Banned { text: "localtime", why: FROZEN, in_migrations: true },
    Banned { text: "current_date", why: FROZEN, in_migrations: true },
    Banned { text: "transaction_timestamp", why: FROZEN, in_migrations: true },
    Banned { text: "statement_timestamp", why: FROZEN, in_migrations: true },
    Banned { text: "'now'::", why: FROZEN, in_migrations: true },
    Banned { text: "timestamptz 'now'", why: FROZEN, in_migrations: true },
    Banned { text: "timestamp 'now'", why: FROZEN, in_migrations: true },
    Banned { text: "unixepoch(", why: PASSED_IN, in_migrations: true },
    Banned { text: "strftime(", why: PASSED_IN, in_migrations: true },
    Banned { text: "datetime(", why: PASSED_IN, in_migrations: true },
    Banned { text: "julianday(", why: PASSED_IN, in_migrations: true },
    Banned {
        text: "excluded.expires_at",
        why: "an expiry is computed after the lock is won, not before",
        in_migrations: true,
    },
    Banned { text: "pg_advisory", why: SHARED_TABLE, in_migrations: false },
    Banned { text: "pg_try_advisory", why: SHARED_TABLE, in_migrations: false },
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in ["sql", "migrations"] {
        findings.extend(mirrored(tree, folder));
    }
    findings.extend(migrations_in_order(tree));
    findings.extend(unused(tree));
    findings.extend(tree.below("crates/", "sql").flat_map(banned));
    findings
}

/// Both dialects have files of the same names.
fn mirrored(tree: &Tree, folder: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (here, there) in [(0, 1), (1, 0)] {
        let (here, there) = (start(folder, DIALECTS[here]), start(folder, DIALECTS[there]));
        for file in tree.below(&here, "sql") {
            let twin = file.path.replacen(&here, &there, 1);
            if tree.file(&twin).is_none() {
                findings.push(Finding::new(&file.path, 1, format!("there is no {twin} to mirror it")));
            }
        }
    }
    findings
}

/// Migrations are called `NNNN_name`, count from 1 without a gap, and each has a way up and a way down.
fn migrations_in_order(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dialect in DIALECTS {
        let folder = start("migrations", dialect);
        let mut numbers = BTreeSet::new();
        for file in tree.below(&folder, "sql") {
            let mut add = |what: String| findings.push(Finding::new(&file.path, 1, what));
            let name = &file.path[folder.len()..];
            let Some((number, other)) = migration(name) else {
                add("a migration is called NNNN_name.up.sql or NNNN_name.down.sql".to_owned());
                continue;
            };
            numbers.insert(number);
            if tree.file(&format!("{folder}{other}")).is_none() {
                add(format!("there is no {other} to go with it"));
            }
            if number > 1 && !numbers.contains(&(number - 1)) {
                add(format!("there is no migration {:04} before it", number - 1));
            }
        }
    }
    findings
}

/// The number of a migration, and the name of the file for the other direction.
fn migration(name: &str) -> Option<(u32, String)> {
    let (stem, other) = match name.strip_suffix(".up.sql") {
        Some(stem) => (stem, "down"),
        None => (name.strip_suffix(".down.sql")?, "up"),
    };
    let (number, words) = stem.split_once('_')?;
    let well_formed = number.len() == 4 && !words.is_empty();
    number.parse().ok().filter(|_| well_formed).map(|number| (number, format!("{stem}.{other}.sql")))
}

/// Every file is named by the store, outside the folder of the other dialect.
fn unused(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (dialect, other) in [(DIALECTS[0], DIALECTS[1]), (DIALECTS[1], DIALECTS[0])] {
        let source = format!("{STORE}src/");
        let foreign = format!("{source}{other}");
        let files = tree.below(&source, "rs").filter(|file| !file.path.starts_with(&foreign));
        let lines = files.flat_map(|file| file.text.lines());
        let code: Vec<&str> = lines.filter(|line| !line.trim_start().starts_with("//")).collect();
        for start in [start("sql", dialect), start("migrations", dialect)] {
            for file in tree.below(&start, "sql") {
                let name = file.path[start.len()..].split('.').next().unwrap_or_default();
                if !code.iter().any(|line| has_word(line, name)) {
                    findings.push(Finding::new(&file.path, 1, format!("nothing in {source} names `{name}`")));
                }
            }
        }
    }
    findings
}

fn banned(file: &File) -> Vec<Finding> {
    let in_migrations = file.path.contains("/migrations/");
    let code = without_comments(&file.text).to_lowercase();
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let line = line.replace(" (", "(").replace("( )", "()");
        let applies = |it: &&Banned| it.in_migrations || !in_migrations;
        for Banned { text, why, .. } in BANNED.iter().filter(applies).filter(|it| occurs(&line, it.text)) {
            findings.push(Finding::new(&file.path, index + 1, format!("`{text}`: {why}")));
        }
    }
    findings
}

/// Whether a word in `line` begins with `text`.
fn occurs(line: &str, text: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(text).any(|(start, _)| !line[..start].ends_with(part))
}

/// The text with `-- …` and `/* … */` replaced by spaces; lines stay where they are, quoted dashes stay code.
fn without_comments(text: &str) -> String {
    #[derive(PartialEq)]
    enum Within {
        Code,
        Quotes,
        Line,
        Block,
    }
    let mut within = Within::Code;
    let mut kept = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let next = letters.peek().copied();
        let (then, pair) = match (&within, letter, next) {
            (Within::Code, '-', Some('-')) => (Within::Line, true),
            (Within::Code, '/', Some('*')) => (Within::Block, true),
            (Within::Code, '\'', _) => (Within::Quotes, false),
            (Within::Quotes, '\'', _) | (Within::Line, '\n', _) => (Within::Code, false),
            (Within::Block, '*', Some('/')) => (Within::Code, true),
            _ => {
                let code = matches!(within, Within::Code | Within::Quotes) || letter == '\n';
                kept.push(if code { letter } else { ' ' });
                continue;
            }
        };
        if pair {
            letters.next();
            kept.push_str("  ");
        } else {
            kept.push(letter);
        }
        within = then;
    }
    kept
}

fn start(folder: &str, dialect: &str) -> String {
    format!("{STORE}{folder}/{dialect}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with the given files under the store, all of them named in its source.
    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let code =
            r#"sql!("lease/acquire"); sql!("lease/renew.sql"); ["0001_start", "0002_more", "0003_end"]"#;
        let mut all = vec![(format!("{STORE}src/sql.rs"), code)];
        all.extend(files.iter().map(|(path, text)| (format!("{STORE}{path}"), *text)));
        let all: Vec<_> = all.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        check(&Tree::of(&all)).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_statement_of_one_dialect_only_is_found() {
        let both = [("sql/postgres/lease/acquire.sql", ""), ("sql/sqlite/lease/acquire.sql", "")];
        assert_eq!(findings(&both), [""; 0]);
        for alone in both {
            let found = findings(&[alone]);
            assert!(found.len() == 1 && found[0].contains("to mirror it"), "{found:?}");
        }
    }

    #[test]
    fn a_statement_that_nothing_uses_is_found() {
        let found = findings(&[("sql/postgres/lease/acq.sql", ""), ("sql/sqlite/lease/acq.sql", "")]);
        assert_eq!(found, ["nothing in crates/onceward-store/src/ names `lease/acq`"; 2]);
    }

    #[test]
    fn a_statement_that_only_the_other_dialect_uses_is_found() {
        let code = ("src/sqlite/lease.rs", "sqlite_sql!(\"lease/steal\")");
        let found =
            findings(&[code, ("sql/postgres/lease/steal.sql", ""), ("sql/sqlite/lease/steal.sql", "")]);
        assert_eq!(found, ["nothing in crates/onceward-store/src/ names `lease/steal`"]);
    }

    #[test]
    fn migrations_have_two_directions_and_no_gap() {
        let file = |name: &str| DIALECTS.map(|dialect| format!("migrations/{dialect}/{name}.sql"));
        let tree = |names: &[&str]| {
            let paths: Vec<String> = names.iter().flat_map(|name| file(name)).collect();
            findings(&paths.iter().map(|path| (path.as_str(), "")).collect::<Vec<_>>())
        };
        assert_eq!(tree(&["0001_start.down", "0001_start.up", "0002_more.down", "0002_more.up"]), [""; 0]);
        assert_eq!(tree(&["0001_start.up"]), ["there is no 0001_start.down.sql to go with it"; 2]);
        let gap = tree(&["0001_start.down", "0001_start.up", "0003_end.down", "0003_end.up"]);
        assert_eq!(gap, ["there is no migration 0002 before it"; 4]);
        assert!(tree(&["start.up"])[0].contains("is called NNNN_name"));
    }

    #[test]
    fn every_banned_text_is_found_outside_comments() {
        for Banned { text, .. } in BANNED {
            let sql = format!("select 1\n, {}", text.to_uppercase().replace('(', " ("));
            let found =
                findings(&[("sql/postgres/lease/renew.sql", &sql), ("sql/sqlite/lease/renew.sql", "")]);
            assert!(found.len() == 1 && found[0].starts_with(&format!("`{text}`")), "{text}: {found:?}");
            let sql = format!("-- {text}\nselect '--' /* {text}\n{text} */");
            let found =
                findings(&[("sql/postgres/lease/renew.sql", &sql), ("sql/sqlite/lease/renew.sql", "")]);
            assert_eq!(found, [""; 0], "{text}");
        }
    }

    #[test]
    fn quoted_dashes_hide_nothing() {
        assert_eq!(without_comments("select '--', now() -- now()\n, 2"), "select '--', now()         \n, 2");
    }

    #[test]
    fn a_migration_may_take_an_advisory_lock() {
        let file = |text| {
            ["up", "down"]
                .map(|it| DIALECTS.map(|dialect| (format!("migrations/{dialect}/0001_start.{it}.sql"), text)))
        };
        let files = file("select pg_advisory_xact_lock(1)").concat();
        assert_eq!(
            findings(&files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>()),
            [""; 0]
        );
    }
}
