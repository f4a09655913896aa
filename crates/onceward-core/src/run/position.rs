//! Places in the code of a run: counted in the order in which the code comes by, apart for each concurrent branch.

use core::cmp::Ordering;
use core::fmt;

use serde::{Serialize, Serializer};

/// One place: `3` is the fourth thing the function asked for, `5.1.0` the first thing that the second branch asked for
/// which was opened at 5.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Position(Box<str>);

impl Position {
    /// A position a store has read back.
    pub fn from_row(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The place of what concerns the run as a whole.
    pub fn whole() -> Self {
        Self("".into())
    }

    /// Whether it concerns the run as a whole, and is no place in its code.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it lies further along the same way than another one: not in a branch beside it, and not within it.
    pub fn comes_after(&self, other: &Self) -> bool {
        let (mut here, mut there) = (self.0.split('.'), other.0.split('.'));
        // Places and branches take turns.
        for is_place in [true, false].into_iter().cycle() {
            match (here.next(), there.next()) {
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => {
                    return is_place && a.parse::<u32>().unwrap_or_default() > b.parse().unwrap_or_default();
                }
                _ => return false,
            }
        }
        false
    }

    /// The line of code that it stands in, from the outermost one: the places at which branches were opened, and the
    /// numbers of those branches. `5.1.3.0.2` stands in branch 1 of what was opened at `5`, and there in branch 0 of
    /// what was opened at `5.1.3`.
    pub fn lines(&self) -> Vec<(&str, &str)> {
        let ends: Vec<usize> = self.0.match_indices('.').map(|(at, _)| at).collect();
        let line = |pair: &[usize]| match pair {
            [place, branch] => Some((self.0.get(..*place)?, self.0.get(place + 1..*branch)?)),
            _ => None,
        };
        ends.chunks(2).filter_map(line).collect()
    }

    /// The line of code that it stands in: everything before its own number.
    pub fn line(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(line, _)| line)
    }

    /// The position as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// In the order of the code: the tenth after the ninth.
impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        let numbers =
            |at: &str| -> Vec<u32> { at.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
        let by_text = || self.0.cmp(&other.0);
        match (self.is_whole(), other.is_whole()) {
            (false, false) => numbers(&self.0).cmp(&numbers(&other.0)).then_with(by_text),
            _ => by_text(),
        }
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// One line of code that is counted for itself: the function, or one of several branches that it runs at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Scope {
    prefix: String,
    next: u32,
}

impl Scope {
    /// The function itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes the next position.
    pub fn take(&mut self) -> Position {
        let position = self.peek();
        self.next = self.next.saturating_add(1);
        position
    }

    /// The next position.
    pub fn peek(&self) -> Position {
        Position(format!("{}{}", self.prefix, self.next).into())
    }

    /// The branch of that number, opened at a position.
    pub fn branch(at: &Position, number: usize) -> Self {
        Self { prefix: format!("{at}.{number}."), next: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_after_those_before_it_and_no_others() {
        let after = |a: &str, b: &str| Position::from_row(a).comes_after(&Position::from_row(b));
        assert!(after("3", "2") && after("10", "9") && after("6", "5.1.0") && after("5.1.2", "5.1.0"));
        assert!(!after("2", "3") && !after("2", "2") && !after("5.1.0", "5.0.2") && !after("5.1.0", "5"));
        assert!(!after("5", "5.1.0") && !after("4", "5.1.0") && !after("", "0") && !after("0", ""));
    }

    #[test]
    fn places_stand_in_the_order_of_the_code() {
        let mut places = ["10", "9", "", "5.10.0", "5.9.11", "5", "5.9.2"].map(Position::from_row);
        places.sort();
        assert_eq!(
            places.map(|at| at.as_str().to_owned()),
            ["", "5", "5.9.2", "5.9.11", "5.10.0", "9", "10"]
        );
    }

    #[test]
    fn a_place_knows_its_lines() {
        let at = |text: &str| Position::from_row(text);
        assert_eq!(at("5.1.3.0.2").lines(), [("5", "1"), ("5.1.3", "0")]);
        assert_eq!((at("5.1.3.0.2").line(), at("5.1.3.0.2").lines().len()), ("5.1.3.0", 2));
        assert_eq!((at("7").line(), at("7").lines()), ("", Vec::new()));
    }
}
