//! What a rule about waste that a teller judges itself has spoken for, in the windows of other rules.
//!
//! Where no teller judges such a rule, the windows themselves know it. Knows sums and moments, and no rule.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::window::BUCKETS;
use crate::price::PicoUsd;

/// So many keys may have something before it is asked of which all is long ago.
const FEW: usize = 64;

/// Waste that was spoken for, by scope and key.
#[derive(Debug, Clone, Default)]
pub(super) struct SpokenByOwn {
    /// In order of time: the second, and how much.
    known: FxHashMap<(usize, u64), VecDeque<(i64, PicoUsd)>>,
    /// How many keys there may be before those of long ago are dropped.
    most: usize,
    /// What was spoken for of the record of this event.
    last: (u64, PicoUsd),
}

impl SpokenByOwn {
    /// So much of the record of this event is spoken for.
    pub(super) fn note(&mut self, event: u64, waste: PicoUsd) {
        self.last = (event, waste);
    }

    /// Of the records to come nothing is spoken for yet.
    pub(super) fn end_event(&mut self) {
        self.last.1 = PicoUsd::ZERO;
    }

    /// The record of this event, which is of this second, falls under a key with windows of so many seconds at most.
    pub(super) fn add(&mut self, event: u64, key: (usize, u64), longest: i64, at: i64, now: i64) {
        let (of, waste) = self.last;
        if of != event || waste == PicoUsd::ZERO {
            return;
        }
        let oldest = now - longest;
        if self.known.len() >= self.most.max(FEW) && !self.known.contains_key(&key) {
            let is_known =
                |all: &VecDeque<(i64, PicoUsd)>| all.back().is_some_and(|(at, _)| *at >= oldest);
            self.known.retain(|_, all| is_known(all));
            self.most = 2 * self.known.len();
        }
        let all = self.known.entry(key).or_default();
        while all.front().is_some_and(|(at, _)| *at < oldest) {
            all.pop_front();
        }
        // Nearly all come in order.
        let behind = all
            .iter()
            .rev()
            .take_while(|(later, _)| *later > at)
            .count();
        all.insert(all.len() - behind, (at, waste));
    }

    /// What was spoken for in the window of this length of a key, as it is at this second.
    pub(super) fn in_window(&self, key: (usize, u64), secs: i64, now: i64) -> PicoUsd {
        let bucket = (secs / BUCKETS).max(1);
        let first = (now.div_euclid(bucket) - (BUCKETS - 1)) * bucket;
        let all = self.known.get(&key).into_iter().flatten().rev();
        all.take_while(|(at, _)| *at >= first)
            .map(|(_, waste)| *waste)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::Window;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is kept beside windows comes to what they would hold themselves, however late it comes and however many keys there are.
        #[test]
        fn it_is_as_if_the_windows_had_it(
            comes in prop::collection::vec((0_i64..400, 0_i64..90, 0_u64..200, 0_i128..5), 1..300),
        ) {
            let secs = [60, 600, 3600];
            let mut spoken = SpokenByOwn::default();
            let mut known: FxHashMap<u64, Vec<Window<PicoUsd>>> = FxHashMap::default();
            let mut now = 1_000_000;
            for (event, (pause, late, key, waste)) in (1..).zip(comes) {
                now += pause;
                let at = now - late;
                spoken.note(event, PicoUsd(waste));
                spoken.add(event, (0, key), 3600, at, now);
                // What was said of another record is no matter.
                spoken.add(event + 1, (0, key), 3600, at, now);
                let windows = known
                    .entry(key)
                    .or_insert_with(|| secs.iter().map(|secs| Window::new(*secs, 0)).collect());
                for window in windows {
                    window.advance(now);
                    window.add(at, &PicoUsd(waste));
                }
                for (key, windows) in &mut known {
                    for window in windows {
                        window.advance(now);
                        prop_assert_eq!(spoken.in_window((0, *key), window.secs(), now), *window.total());
                        prop_assert_eq!(spoken.in_window((1, *key), window.secs(), now), PicoUsd::ZERO);
                    }
                }
            }
        }
    }
}
