//! Which rules do not know yet what is usual, and how far they are.
//!
//! Knows baselines and what a rule needs of them. Changes nothing, and judges nothing.

use std::sync::Arc;

use super::evaluator::Evaluator;
use super::rule::Rule;
use super::usual::{Baseline, Samples, Usual};

/// A rule that has not yet seen enough to speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learning {
    /// The rule.
    pub rule: Arc<str>,
    /// Minutes with traffic seen so far, or days that are over.
    pub seen: u64,
    /// So many are needed. With as many minutes it waits for a day to be over.
    pub of: u64,
    /// They are days.
    pub by_days: bool,
}

impl Learning {
    /// A rule that has seen what this is of.
    pub fn of(rule: &Rule, usual: Usual) -> Self {
        let by_days = rule.samples() == Samples::Days;
        Self {
            rule: Arc::clone(&rule.name),
            seen: if by_days { usual.days } else { usual.minutes },
            of: rule.samples_to_learn(),
            by_days,
        }
    }
}

impl Evaluator {
    /// Learned rules that have not seen enough for any key.
    pub fn learning(&self) -> Vec<Learning> {
        let mut learning = Vec::new();
        // What has seen nothing that it is about has nothing to learn.
        for scope in self.scopes.iter().filter(|scope| !scope.keys.is_empty()) {
            for (slot, rule) in scope
                .rules
                .iter()
                .enumerate()
                .filter(|(_, r)| r.limit.is_learned())
            {
                let own = scope
                    .keys
                    .values()
                    .filter_map(|key| key.baselines.get(slot));
                let pooled = scope.pooled.as_ref().and_then(|pooled| pooled.get(slot));
                let known = own.chain(pooled).map(Baseline::usual);
                let most =
                    known.max_by_key(|usual| (rule.has_learned(*usual), usual.days, usual.minutes));
                let most = most.unwrap_or_default();
                if !rule.has_learned(most) {
                    learning.push(Learning::of(rule, most));
                }
            }
        }
        learning
    }
}
