//! Who hears later that the run is called off: lines of code that were in the middle of a step when the others heard.
//!
//! Whatever waits fails at once. A step goes on, so its line hears at the next thing it asks for (D9). That fails as
//! well, and is not written down: where the code comes by again, it is again the first thing its line asks for.

use std::collections::{HashMap, HashSet};

use super::Position;

/// The lines of code that have not heard yet.
#[derive(Debug, Default)]
pub struct Unheard {
    /// Those lines.
    lines: Vec<String>,
    /// Where a line opens branches before it has heard, each of them hears: the branches that have.
    forks: HashMap<String, HashSet<String>>,
    /// Where it was heard.
    heard: Vec<Position>,
}

impl Unheard {
    /// The code is told: those at `heard` hear of it now, and the lines of those at `busy` later. Where there is
    /// nobody at all, the function itself does.
    pub fn of(heard: Vec<Position>, busy: impl IntoIterator<Item = Position>) -> Self {
        let mut lines: Vec<String> = busy.into_iter().map(|at| at.line().to_owned()).collect();
        lines.retain(|line| !heard.iter().any(|at| at.line() == line));
        lines.sort_unstable();
        lines.dedup();
        if lines.is_empty() && heard.is_empty() {
            lines.push(String::new());
        }
        Self { lines, forks: HashMap::new(), heard }
    }

    /// Nobody else hears of it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether what is asked for at a place that is new is told that the run is called off.
    pub fn hears(&mut self, position: &Position) -> bool {
        if self.lines.is_empty() && self.forks.is_empty() {
            return false;
        }
        let hears = self.comes_back(position) || self.is_next(position);
        if hears {
            self.heard.push(position.clone());
        }
        hears
    }

    /// Whether the line goes on after branches that have ended in the middle of a step, so that none has heard.
    fn comes_back(&mut self, position: &Position) -> bool {
        let here = match position.line() {
            "" => String::new(),
            line => format!("{line}."),
        };
        let is_below = |other: &String| other.len() > here.len() && other.starts_with(&here);
        let below: Vec<String> = self.lines.extract_if(.., |other| is_below(other)).collect();
        // Where a branch beside it has heard, the code knows.
        let has_heard = |fork: String| self.heard.iter().any(|at| at.as_str().starts_with(&fork));
        let fork = |line: &String| {
            let place = line.get(here.len()..).and_then(|rest| rest.split('.').next()).unwrap_or_default();
            format!("{here}{place}.")
        };
        below.iter().any(|line| !has_heard(fork(line)))
    }

    /// Whether it is the first thing asked for by a line that has not heard, or by a branch of one.
    fn is_next(&mut self, position: &Position) -> bool {
        let branches = position.lines();
        for depth in (0..=branches.len()).rev() {
            let innermost = depth.checked_sub(1).and_then(|at| branches.get(at));
            let line = innermost.map_or_else(String::new, |(fork, branch)| format!("{fork}.{branch}"));
            let told = innermost.and_then(|(fork, branch)| Some(self.forks.get(*fork)?.contains(*branch)));
            if told == Some(true) {
                return false;
            }
            if told == Some(false) || self.lines.contains(&line) {
                self.lines.retain(|other| *other != line);
                // The branches beside it hear as well.
                let opened = if told.is_some() { depth.saturating_sub(1) } else { depth };
                for (fork, branch) in branches.iter().skip(opened) {
                    self.forks.entry((*fork).to_owned()).or_default().insert((*branch).to_owned());
                }
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Position {
        Position::from_row(text)
    }

    fn unheard(heard: &[&str], busy: &[&str]) -> Unheard {
        Unheard::of(heard.iter().map(|text| at(text)).collect(), busy.iter().map(|text| at(text)))
    }

    /// Which of these hear, in this order.
    fn heard_at<'a>(mut unheard: Unheard, asks: &[&'a str]) -> Vec<&'a str> {
        asks.iter().copied().filter(|ask| unheard.hears(&at(ask))).collect()
    }

    /// D9.
    #[test]
    fn d9_a_line_hears_once_at_what_it_asks_for_next() {
        assert_eq!(heard_at(unheard(&[], &["0"]), &["1", "2", "3"]), ["1"]);
        assert_eq!(heard_at(unheard(&[], &[]), &["7", "8"]), ["7"]);
        assert_eq!(heard_at(unheard(&["0"], &[]), &["1", "2"]), Vec::<&str>::new());
        assert_eq!(heard_at(Unheard::default(), &["0", "1"]), Vec::<&str>::new());
        let (busy, asks) = (["0.0.0", "0.1.0"], ["0.1.1", "0.0.1", "0.0.2", "0.1.2", "1"]);
        assert_eq!(heard_at(unheard(&[], &busy), &asks), ["0.1.1", "0.0.1"]);
    }

    #[test]
    fn all_branches_of_a_line_hear() {
        let asks = ["1.0.0", "1.1.0", "1.0.1", "1.2.0", "1.2.1", "2"];
        assert_eq!(heard_at(unheard(&[], &["0"]), &asks), ["1.0.0", "1.1.0", "1.2.0"]);
        let asks = ["1.0.0.0.0", "1.0.0.1.0", "1.0.1", "1.1.0", "1.0.0.1.1"];
        assert_eq!(heard_at(unheard(&[], &["0"]), &asks), ["1.0.0.0.0", "1.0.0.1.0", "1.1.0"]);
    }

    #[test]
    fn a_line_whose_branches_have_ended_hears_where_it_goes_on() {
        assert_eq!(heard_at(unheard(&[], &["5.0.0", "5.1.0"]), &["6", "7"]), ["6"]);
        assert_eq!(heard_at(unheard(&[], &["5.0.0", "5.1.0"]), &["5.1.1", "6", "7"]), ["5.1.1"]);
        assert_eq!(heard_at(unheard(&["5.1.0"], &["5.0.0"]), &["6", "7"]), Vec::<&str>::new());
        assert_eq!(heard_at(unheard(&[], &["5.1.3.0.0"]), &["5.1.4", "6"]), ["5.1.4"]);
        assert_eq!(heard_at(unheard(&[], &["5.1.3.0.0"]), &["6", "7"]), ["6"]);
        assert_eq!(heard_at(unheard(&[], &["5.0.0"]), &["15", "16"]), ["15"]);
    }
}
