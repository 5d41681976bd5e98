//! What a rule about waste that a teller judges itself has spoken for, in the windows of other rules.
//!
//! Where no teller judges such a rule, the windows themselves know it. Knows sums and moments, and no rule.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::monitor::window::BUCKETS;
use crate::price::PicoUsd;

/// So many keys may have something before it is asked of which all is long ago.
const FEW: usize = 64;

/// Waste that was spoken for, by scope and key.
#[derive(Debug, Clone, Default)]
pub(in crate::monitor) struct SpokenByOwn {
    known: FxHashMap<(usize, u64), OfKey>,
    /// How many keys there may be before those of long ago are dropped.
    most: usize,
    /// What was spoken for of the record of this event.
    last: (u64, PicoUsd),
}

/// What was spoken for of one key.
#[derive(Debug, Clone, Default)]
struct OfKey {
    /// In order of time: the second, and how much.
    all: VecDeque<(i64, PicoUsd)>,
    /// No window of its rules is longer than so many seconds.
    longest: i64,
}

impl OfKey {
    /// Something may be in a window still.
    fn is_known(&self, now: i64) -> bool {
        let last = self.all.back();
        last.is_some_and(|(at, _)| *at >= now - self.longest)
    }
}

impl SpokenByOwn {
    /// So much of the record of this event is spoken for.
    pub(super) fn note(&mut self, event: u64, waste: PicoUsd) {
        self.last = (event, waste);
    }

    /// Of the records to come nothing is spoken for yet.
    pub(in crate::monitor) fn end_event(&mut self) {
        self.last.1 = PicoUsd::ZERO;
    }

    /// The record of this event, which is of this second, falls under a key with windows of so many seconds at most.
    pub(in crate::monitor) fn add(
        &mut self,
        event: u64,
        key: (usize, u64),
        longest: i64,
        at: i64,
        now: i64,
    ) {
        let (of, waste) = self.last;
        if of != event || waste == PicoUsd::ZERO {
            return;
        }
        if self.known.len() >= self.most.max(FEW) && !self.known.contains_key(&key) {
            self.known.retain(|_, of_key| of_key.is_known(now));
            self.most = 2 * self.known.len();
        }
        let of_key = self.known.entry(key).or_default();
        of_key.longest = longest;
        let all = &mut of_key.all;
        while all.front().is_some_and(|(at, _)| *at < now - longest) {
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
    pub(in crate::monitor) fn in_window(&self, key: (usize, u64), secs: i64, now: i64) -> PicoUsd {
        let bucket = (secs / BUCKETS).max(1);
        let first = (now.div_euclid(bucket) - (BUCKETS - 1)) * bucket;
        let all = self.known.get(&key).map(|of_key| of_key.all.iter().rev());
        let all = all.into_iter().flatten();
        let in_window = all.take_while(|(at, _)| *at >= first);
        in_window.map(|(_, waste)| *waste).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::window::Windows;
    use proptest::prelude::*;

    proptest! {
        /// What is kept beside windows comes to what they would hold themselves, however late it comes and however many keys there are.
        #[test]
        fn it_is_as_if_the_windows_had_it(
            comes in prop::collection::vec((0_i64..400, 0_i64..90, 0_u64..200, 0_i128..5), 1..300),
        ) {
            // Those of each second key are longer.
            let secs = |key: u64| if key.is_multiple_of(2) { [60, 600, 3600] } else { [60, 3600, 86_400] };
            let mut spoken = SpokenByOwn::default();
            let mut known: FxHashMap<u64, Windows<PicoUsd>> = FxHashMap::default();
            let mut now = 1_000_000;
            for (event, (pause, late, key, waste)) in (1..).zip(comes) {
                now += pause;
                let at = now - late;
                spoken.note(event, PicoUsd(waste));
                let longest = secs(key)[2];
                spoken.add(event, (0, key), longest, at, now);
                // What was said of another record is no matter.
                spoken.add(event + 1, (0, key), longest, at, now);
                let windows = known
                    .entry(key)
                    .or_insert_with(|| Windows::new(secs(key), 0));
                windows.advance(now);
                windows.add(at, &PicoUsd(waste));
                for (key, windows) in &mut known {
                    windows.advance(now);
                    for window in windows.each() {
                        prop_assert_eq!(spoken.in_window((0, *key), window.secs(), now), window.total());
                        prop_assert_eq!(spoken.in_window((1, *key), window.secs(), now), PicoUsd::ZERO);
                    }
                }
            }
        }
    }
}
