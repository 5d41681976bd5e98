//! Who cost what in a day, two hours at a time: for windows that have one.
//!
//! Knows stretches of a few minutes by their numbers, and what was weighed in each.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::names::STRETCH_SECS;
use super::weight::{Weight, Weights, keep_most, weigh};
use crate::monitor::record::Labels;

/// Where a window has a day, the stretches of two hours are kept together, and so many of those with the one that is on: what is told
/// is that of 22 to 24 hours.
const STRETCHES_OF_A_PART: i64 = 2 * 3600 / STRETCH_SECS;
const PARTS_OF_A_DAY: i64 = 12;

/// The stretches of a day that are over, two hours of it at a time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Day(VecDeque<(i64, Weights)>);

impl Day {
    /// Takes what came in a stretch, and leaves it empty.
    pub(super) fn take(&mut self, stretch: i64, weights: &mut Weights) {
        if let Some(part) = self.part(stretch) {
            for (sums, more) in part.iter_mut().zip(weights.iter_mut()) {
                for (name, weight) in more.drain() {
                    sums.entry(name).or_default().add(&weight);
                }
                keep_most(sums);
            }
        }
    }

    /// Adds what some labels came to in a stretch.
    pub(super) fn add(&mut self, stretch: i64, labels: &Labels, weight: &Weight) {
        if let Some(part) = self.part(stretch) {
            weigh(part, labels, weight);
        }
    }

    /// The two hours in which a stretch lies. None if it lies before the day.
    fn part(&mut self, stretch: i64) -> Option<&mut Weights> {
        let part = stretch.div_euclid(STRETCHES_OF_A_PART);
        if self.0.back().is_none_or(|(last, _)| *last < part) {
            self.0.push_back((part, Weights::default()));
        }
        let mut parts = self.0.iter_mut().rev();
        parts.find_map(|(of, weights)| (*of == part).then_some(weights))
    }

    /// What came in the day up to this stretch.
    pub(super) fn until(&self, stretch: i64) -> impl Iterator<Item = &Weights> {
        let oldest = stretch.div_euclid(STRETCHES_OF_A_PART) - PARTS_OF_A_DAY;
        let parts = self.0.iter().filter(move |(of, _)| *of > oldest);
        parts.map(|(_, weights)| weights)
    }

    /// Forgets what came before the day up to this stretch.
    pub(super) fn forget_before(&mut self, stretch: i64) {
        let oldest = stretch.div_euclid(STRETCHES_OF_A_PART) - PARTS_OF_A_DAY;
        while self.0.front().is_some_and(|(of, _)| *of <= oldest) {
            self.0.pop_front();
        }
    }

    /// The clock was wrong by so many stretches.
    pub(super) fn shift(&mut self, stretches: i64) {
        for (part, _) in &mut self.0 {
            *part += stretches.div_euclid(STRETCHES_OF_A_PART);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::super::weight::Measure;
    use super::*;

    fn of_session(cost: i128, session: &str) -> Weights {
        let mut weights = Weights::default();
        let labels = Labels {
            session: Some(session.into()),
            ..Labels::default()
        };
        let weight = Weight {
            cost,
            ..Weight::default()
        };
        weigh(&mut weights, &labels, &weight);
        weights
    }

    /// What each session cost in the day up to a stretch, part by part.
    fn until(day: &Day, stretch: i64) -> Vec<Vec<(&str, i128)>> {
        let of_part = |[_, sessions, _]: &'_ Weights| {
            let sessions = sessions.iter();
            let mut costs: Vec<(Arc<str>, i128)> = sessions
                .map(|(name, weight)| (Arc::clone(name), weight.by(Measure::Cost)))
                .collect();
            costs.sort();
            costs
        };
        let known = ["a", "b", "c"];
        let name = |of: &str| known.into_iter().find(|known| *known == of).unwrap_or("?");
        let parts = day.until(stretch).map(of_part);
        let parts = parts.map(|costs| costs.iter().map(|(of, cost)| (name(of), *cost)).collect());
        parts.collect()
    }

    #[test]
    fn a_day_holds_twelve_parts_of_two_hours() {
        let mut day = Day::default();
        let two_hours = STRETCHES_OF_A_PART;
        for (stretch, cost, session) in [
            (0, 1, "a"),
            (two_hours - 1, 2, "a"),
            (two_hours, 4, "b"),
            (11 * two_hours + 3, 8, "a"),
        ] {
            let mut weights = of_session(cost, session);
            day.take(stretch, &mut weights);
            assert!(weights.iter().all(HashMap::is_empty));
        }
        // One that comes late goes where it belongs, or nowhere.
        let labels = Labels {
            session: Some("c".into()),
            ..Labels::default()
        };
        let late = Weight {
            cost: 16,
            ..Weight::default()
        };
        day.add(two_hours + 5, &labels, &late);
        day.add(5 * two_hours, &labels, &late);
        let parts = [vec![("a", 3)], vec![("b", 4), ("c", 16)], vec![("a", 8)]];
        assert_eq!(until(&day, 12 * two_hours - 1), parts);
        assert_eq!(until(&day, 12 * two_hours), parts[1..]);
        assert_eq!(until(&day, 13 * two_hours), parts[2..]);
        day.forget_before(12 * two_hours);
        assert_eq!(until(&day, 0), parts[1..]);
        day.shift(24 * two_hours);
        assert_eq!(until(&day, 36 * two_hours), parts[1..]);
        assert_eq!(until(&day, 37 * two_hours), parts[2..]);
    }
}
