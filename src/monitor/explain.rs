//! How each rule stands, and why its limit is what it is: for people who want to understand before they change.
//!
//! Reads only, and moves nothing on. Knows no words.

use std::sync::Arc;

use super::cache::Odds;
use super::evaluator::Evaluator;
use super::key::Key;
use super::metric::{Metric, Value};
use super::rule::{Label, Limit, Rule};
use super::scope::Scope;
use super::usual::{Amount, Baseline, UNIT, Usual};
use crate::price::PicoUsd;

/// How a rule stands.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The rule.
    pub rule: Arc<Rule>,
    /// How many keys it knows; those of a rule about the whole stream are one.
    pub n_keys: usize,
    /// The key with the largest value.
    pub key: Vec<(Label, String)>,
    /// Its value now, if it has one.
    pub value: Option<Amount>,
    /// The window that the value is of.
    pub window_secs: Option<i64>,
    /// What is usual at this time of day, as far as it is learned.
    pub usual: Usual,
    /// Other times of day know less that is busy.
    pub is_of_the_hour: bool,
    /// What it is held against; `None` while learning.
    pub limit: Option<Amount>,
    /// The odds that the limit of a run follows from.
    pub odds: Option<Odds>,
}

/// What the window cost that a value is of.
fn cost_in(key: Option<&Key>, window_secs: Option<i64>) -> PicoUsd {
    key.zip(window_secs)
        .and_then(|(key, secs)| key.window(secs))
        .map(|window| window.total().cost)
        .unwrap_or_default()
}

/// What is usual at the time of day that a key is at, and whether that is more than at others.
fn usual_of(baseline: Option<&Baseline>, key: Option<&Key>) -> (Usual, bool) {
    let usual = baseline.map(Baseline::usual).unwrap_or_default();
    let known = baseline.zip(key);
    let now = known.map_or(usual, |(baseline, key)| baseline.usual_at(key.last_record));
    (now, now != usual)
}

impl Evaluator {
    /// What the rules about all traffic are held against now, with the windows that is for: those that a chart of all traffic
    /// can show. The same rules in the same order each time; no limit while one is learning.
    pub fn limits_of_all(&self) -> impl Iterator<Item = (&Arc<Rule>, i64, Option<Amount>)> {
        let of_all = |scope: &&Scope| scope.by.is_empty();
        self.scopes.iter().filter(of_all).flat_map(|scope| {
            let rules = scope.rules.iter().enumerate();
            let plain = rules.filter(|(_, rule)| rule.filter.patterns.is_empty());
            plain.filter_map(|(slot, rule)| {
                let key = scope.keys.values().next().map(Box::as_ref);
                let (step, _) = key.map_or((0, None), |key| key.value(rule, None));
                let window_secs = rule.windows.get(step).copied()?;
                let baseline = key.and_then(|key| key.baselines.get(slot));
                let (usual, _) = usual_of(baseline, key);
                let limit = rule.limit_now(usual, cost_in(key, Some(window_secs)));
                Some((rule, window_secs, limit))
            })
        })
    }

    /// How every rule stands now, in the order in which they are asked.
    pub fn explain(&mut self) -> Vec<Explained> {
        let now = self.now();
        let odds = self.state.cache.odds(now);
        let mut all = Vec::new();
        for scope in &self.scopes {
            for (slot, rule) in scope.rules.iter().enumerate() {
                let read = |key: &Key| match rule.metric {
                    Metric::MissRun => {
                        let run = self.state.cache.run(key.labels.conversation);
                        let length = run.map_or(0, |run| run.length);
                        (0, Some(Value::count(length).amount()))
                    }
                    Metric::Silence => {
                        let ms = key.last_usage.map(|last| now.millis_since(last));
                        (0, ms.map(|ms| i128::from(ms) * (UNIT / 1000)))
                    }
                    _ => {
                        let (step, value) = key.value(rule, None);
                        (step, value.map(Value::amount))
                    }
                };
                let largest = scope
                    .keys
                    .values()
                    .map(|key| (read(key), &**key))
                    .max_by_key(|((_, value), key)| (*value, key.last_record));
                let pooled = scope.pooled.as_ref().and_then(|pooled| pooled.get(slot));
                let own = largest.and_then(|(_, key)| key.baselines.get(slot));
                let (reading, key) = largest.unzip();
                let (usual, is_of_the_hour) = usual_of(pooled.or(own), key);
                let (step, value) = reading.unwrap_or((0, None));
                let window_secs = rule.windows.get(step).copied();
                let limit = match rule.limit {
                    Limit::ByChance { days } => Some(i128::from(odds.shortest_run(days)) * UNIT),
                    _ => rule.limit_now(usual, cost_in(key, window_secs)),
                };
                all.push(Explained {
                    rule: Arc::clone(rule),
                    n_keys: scope.keys.len(),
                    key: key
                        .map(|key| scope.key_labels(&key.labels))
                        .unwrap_or_default(),
                    value,
                    window_secs,
                    usual,
                    is_of_the_hour,
                    limit,
                    odds: matches!(rule.limit, Limit::ByChance { .. }).then_some(odds),
                });
            }
        }
        all
    }
}
