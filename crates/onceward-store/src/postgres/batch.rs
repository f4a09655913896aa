//! Batches on their way to a statement: sorted by name, so that two batches meet in the same order and never wait for
//! each other in a circle (N33), and found again by name when their rows come back.

use onceward_core::{Key, Namespace, lease, once};

use crate::store::{ReleaseLease, SettleOnce};

/// What a batch is made of.
pub(super) trait Named {
    fn name(&self) -> (&Namespace, &Key);
}

macro_rules! named {
    ($($type:ty),*) => {
        $(impl Named for $type {
            fn name(&self) -> (&Namespace, &Key) {
                (&self.namespace, &self.key)
            }
        })*
    };
}
named!(lease::Ask, once::Ask, ReleaseLease, SettleOnce);

/// Which of its statements a batch is sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The one for what has been so with all rows lately: keys without a row, leases that were given back, or that lie
    /// where they were written.
    Short,
    /// The one for what nearly always happens: keys nobody has, outcomes nobody doubts.
    New,
    /// The one for whatever may have happened.
    Any,
}

/// One ask of a batch, and where its answer belongs.
pub(super) struct Place<'a, T> {
    pub(super) at: usize,
    pub(super) ask: &'a T,
}

impl<T> Clone for Place<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<'_, T> {}

/// The batch in the order of names, byte by byte, as the tables sort them.
pub(super) fn sorted<T: Named>(batch: &[T]) -> Vec<Place<'_, T>> {
    let mut places: Vec<_> = batch.iter().enumerate().map(|(at, ask)| Place { at, ask }).collect();
    places.sort_by(|a, b| a.ask.name().cmp(&b.ask.name()));
    places
}

/// Where in a sorted batch a name stands.
pub(super) fn find<T: Named>(places: &[Place<'_, T>], namespace: &str, key: &str) -> Option<usize> {
    places
        .binary_search_by(|place| {
            let (n, k) = place.ask.name();
            (n.as_str(), k.as_str()).cmp(&(namespace, key))
        })
        .ok()
}

/// One array of parameters.
pub(super) fn column<'a, T, V>(places: &[Place<'a, T>], value: impl Fn(&'a T) -> V) -> Vec<V> {
    places.iter().map(|place| value(place.ask)).collect()
}

/// Answers put back into the order of the batch; those that are missing say `otherwise`.
pub(super) fn in_order<A>(count: usize, answers: Vec<(usize, A)>, otherwise: impl Fn() -> A) -> Vec<A> {
    let mut slots: Vec<Option<A>> = (0..count).map(|_| None).collect();
    for (at, answer) in answers {
        if let Some(slot) = slots.get_mut(at) {
            *slot = Some(answer);
        }
    }
    slots.into_iter().map(|slot| slot.unwrap_or_else(&otherwise)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use onceward_core::Token;

    fn release(namespace: &str, key: &str) -> ReleaseLease {
        let token = Token::from_row(1);
        let (namespace, key) = (Namespace::new(namespace).unwrap(), Key::new(key).unwrap());
        ReleaseLease { namespace, key, token, reason: None, place: onceward_core::Place::default() }
    }

    #[test]
    fn a_batch_is_sorted_by_bytes_and_answered_in_its_own_order() {
        let batch = [release("b", "a"), release("a", "ä"), release("a", "z"), release("a", "Z")];
        let places = sorted(&batch);
        assert_eq!(column(&places, |ask| ask.key.as_str()), ["Z", "z", "ä", "a"]);
        assert_eq!(find(&places, "a", "z"), Some(1));
        assert_eq!(find(&places, "b", "z"), None);
        let answers = places.iter().map(|place| (place.at, place.ask.key.to_string())).collect();
        assert_eq!(in_order(5, answers, || "-".to_owned()), ["a", "ä", "z", "Z", "-"]);
    }
}
