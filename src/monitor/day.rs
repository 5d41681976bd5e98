//! Who cost what in a day, two hours at a time: for windows that have one.
//!
//! Knows stretches of a few minutes by their numbers, and what was weighed in each.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::names::STRETCH_SECS;
use super::record::Labels;
use super::weight::{Weight, Weights, keep_most, weigh};

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
