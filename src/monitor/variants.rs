//! Rules that differ in one number, of their limit or the least waste, and are judged as one for as long as all of them would
//! decide alike.
//!
//! One of them is the rule that is in force; wherever it is held against something, the others are asked too. Those that would
//! have decided otherwise are no longer kept, and whoever wanted to know about them has to begin again from where they were.
//! Every question is such that the answer changes once at most as the number rises, so those that are kept lie side by side.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use super::rule::Rule;

/// The variants of a rule, the most sensitive first.
#[derive(Debug, Clone)]
pub struct Variants {
    rules: Vec<Arc<Rule>>,
    /// The one that is in force.
    in_force: usize,
    /// Those that have decided like it so far.
    kept: Cell<(usize, usize)>,
}

impl Variants {
    /// These rules, of which the middle one is in force.
    pub(super) fn new(rules: Vec<Arc<Rule>>) -> Self {
        Self {
            in_force: rules.len() / 2,
            kept: Cell::new((0, rules.len())),
            rules,
        }
    }

    pub(super) fn in_force(&self) -> &Arc<Rule> {
        &self.rules[self.in_force]
    }

    pub(super) fn most_sensitive(&self) -> &Arc<Rule> {
        &self.rules[0]
    }

    /// Of those that have decided alike.
    pub(super) fn least_sensitive(&self) -> Option<&Arc<Rule>> {
        self.rules[self.kept()].last()
    }

    pub(super) fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Those that have decided alike.
    pub(super) fn kept(&self) -> Range<usize> {
        let (from, to) = self.kept.get();
        from..to
    }

    /// Keeps those that give this answer.
    fn keep(&self, answer: bool, ask: impl Fn(&Rule) -> bool) {
        let (mut from, mut to) = self.kept.get();
        let agrees = |rule: &Arc<Rule>| ask(rule) == answer;
        if !agrees(&self.rules[from]) {
            let below = &self.rules[from..self.in_force];
            from += below.partition_point(|rule| !agrees(rule));
        }
        if !agrees(&self.rules[to - 1]) {
            let above = &self.rules[self.in_force..to];
            to = self.in_force + above.partition_point(agrees);
        }
        self.kept.set((from, to));
    }
}

/// What a rule answers; of its variants only those are kept that answer the same.
pub(super) fn decide(
    variants: Option<&Variants>,
    rule: &Rule,
    ask: impl Fn(&Rule) -> bool,
) -> bool {
    let answer = ask(rule);
    if let Some(variants) = variants.filter(|variants| variants.in_force().name == rule.name) {
        variants.keep(answer, ask);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Limit, UNIT};
    use proptest::prelude::*;

    proptest! {
        /// Those that are kept are those that answered all questions as the one in force did.
        #[test]
        fn those_are_kept_that_decide_alike(
            mut limits in prop::collection::btree_set(0_i128..200, 1..40),
            questions in prop::collection::vec((0_i128..200, any::<bool>()), 0..12),
        ) {
            let limits: Vec<i128> = std::mem::take(&mut limits).into_iter().collect();
            let rule = |limit: &i128| Arc::new(Rule { limit: Limit::Above(limit * UNIT), ..Rule::blank() });
            let variants = Variants::new(limits.iter().map(rule).collect());
            let ask = |(value, above): (i128, bool), rule: &Rule| match rule.limit {
                Limit::Above(limit) if above => value * UNIT > limit,
                Limit::Above(limit) => value * UNIT * 5 < limit * 4,
                _ => false,
            };
            let in_force = Arc::clone(variants.in_force());
            for question in &questions {
                decide(Some(&variants), &in_force, |rule| ask(*question, rule));
            }
            let answers = |rule: &Arc<Rule>| -> Vec<bool> { questions.iter().map(|q| ask(*q, rule)).collect() };
            let expected = answers(&in_force);
            let alike = variants.rules().iter().map(|rule| answers(rule) == expected);
            let kept = (0..limits.len()).map(|i| variants.kept().contains(&i));
            prop_assert!(alike.eq(kept));
        }
    }
}
