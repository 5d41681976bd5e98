//! How each rule stands, and why its limit is what it is: for people who want to understand before they change.
//!
//! Reads only, and moves nothing on. Knows no words.

use std::sync::Arc;

use super::baseline::{Amount, Baseline, UNIT, Usual};
use super::cache::{Odds, Run};
use super::evaluator::Evaluator;
use super::metric::{Metric, Value};
use super::rule::{Label, Limit, Rule};
use super::scope::Key;

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
    /// What is usual, as far as it is learned.
    pub usual: Usual,
    /// What it is held against; `None` while learning.
    pub limit: Option<Amount>,
    /// The odds that the limit of a run follows from.
    pub odds: Option<Odds>,
}

impl Evaluator {
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
                        let length = run.map_or(0, Run::in_a_row);
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
                    .map(|key| (read(key), key))
                    .max_by_key(|((_, value), key)| (*value, key.last_record));
                let pooled = scope.pooled.as_ref().and_then(|pooled| pooled.get(slot));
                let own = largest.and_then(|(_, key)| key.baselines.get(slot));
                let usual = pooled.or(own).map(Baseline::usual).unwrap_or_default();
                let (reading, key) = largest.unzip();
                let (step, value) = reading.unwrap_or((0, None));
                let window_secs = rule.windows.get(step).copied();
                let total = key
                    .zip(window_secs)
                    .and_then(|(key, secs)| key.window(secs))
                    .map(|window| window.total().cost);
                let limit = match rule.limit {
                    Limit::ByChance { days } => Some(i128::from(odds.shortest_run(days)) * UNIT),
                    _ => rule.limit_now(usual, total.unwrap_or_default()),
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
                    limit,
                    odds: matches!(rule.limit, Limit::ByChance { .. }).then_some(odds),
                });
            }
        }
        all
    }
}
