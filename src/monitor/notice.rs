//! From the state of an alert to what is told of it: dollars, pace, causes, who.
//!
//! Reads only. Whether anything is told is decided elsewhere; the words are the sinks'.

use std::cmp::Reverse;
use std::sync::Arc;

use super::alert::{Alert, Episode, Notice, Reason};
use super::baseline::UNIT;
use super::cache::Run;
use super::metric::{Metric, Value};
use super::record::Time;
use super::rule::Rule;
use super::scope::{Key, Scope, shares};
use super::state::State;
use super::voices::is_about_spending;
use super::window::Window;
use crate::price::PicoUsd;

impl State {
    /// What an episode has cost beyond what is usual, and whether nothing usual is known to take off.
    pub(super) fn exposed(&self, rule: &Rule, episode: &Episode) -> (PicoUsd, bool) {
        if rule.metric.is_about_cache() {
            return (episode.exposed, false);
        }
        if !rule.metric.has_dollars() {
            return (PicoUsd::ZERO, false);
        }
        let usual = self.pace.baseline.usual();
        if !usual.is_learned() || !is_beyond_usual(rule) {
            return (episode.exposed, true);
        }
        let ordinary = PicoUsd(usual.usual * i128::from(episode.minutes));
        ((episode.exposed - ordinary).max(PicoUsd::ZERO), false)
    }

    /// The notice of an alert as it stands.
    pub(super) fn notice(&self, scope: &Scope, id: u64, slot: usize, reason: Reason) -> Notice {
        let key = &scope.keys[&id];
        let rule = &scope.rules[slot];
        let empty = Episode::new(0, self.now, 0, Arc::clone(&key.labels));
        let episode = key.alerts[slot].episode.as_deref().unwrap_or(&empty);
        let window = rule
            .windows
            .get(episode.step)
            .and_then(|secs| key.window(*secs));
        let value = match rule.metric {
            Metric::MissRun => {
                let run = self.cache.run(key.labels.conversation);
                Value::count(run.map_or(0, Run::in_a_row)).amount()
            }
            Metric::Silence => {
                let silent = key.last_usage.map_or(0, |last| self.now.millis_since(last));
                i128::from(silent) * (UNIT / 1000)
            }
            Metric::Unpriced | Metric::NoCache => {
                window.map_or(UNIT, |window| i128::from(window.total().large) * UNIT)
            }
            _ => window
                .and_then(|w| rule.metric.read(w.total(), w.secs(), rule.per_secs))
                .map_or(0, Value::amount),
        };
        let (exposed, exposed_is_all) = self.exposed(rule, episode);
        let has_dollars = rule.metric.has_dollars();
        let [models, sessions, projects] = if rule.metric.is_about_cache() {
            top_of_misses(key, episode.since)
        } else {
            key.names.top()
        };
        let mut causes = episode.causes.clone();
        causes.sort_by_key(|tally| Reverse((tally.cost, tally.requests)));
        Notice {
            reason,
            rule: Arc::clone(rule),
            key: scope.key_labels(&key.labels),
            episode: episode.id,
            at: self.now,
            since: episode.since,
            value,
            at_least: window.is_some_and(|window| window.total().unpriced > 0),
            limit: episode.limit,
            window_secs: window.map(Window::secs),
            requests: episode.requests,
            usual: episode.usual,
            exposed: has_dollars.then_some(exposed),
            exposed_is_all,
            pace: self
                .pace_of(episode, window.map_or(0, Window::secs), exposed)
                .filter(|_| has_dollars),
            causes,
            odds: episode.odds,
            models,
            sessions,
            projects,
            labels: Arc::clone(&episode.labels),
            explains: if is_explaining(rule) {
                self.silenced.iter().cloned().collect()
            } else if is_about_spending(rule) {
                let others = self.outspoken.iter().filter(|name| **name != rule.name);
                others.cloned().collect()
            } else {
                Vec::new()
            },
            also: Self::firing_beside(scope, slot, id),
            flapping: episode.is_flapping(),
            stale: episode.stale,
            missed: false,
            text: None,
        }
    }

    /// How many other keys of a rule fire and are not told: these stand for them.
    fn firing_beside(scope: &Scope, slot: usize, id: u64) -> usize {
        if scope.by.is_empty() {
            return 0;
        }
        let others = scope.keys.iter().filter(|(other, _)| **other != id);
        let alerts = others.map(|(_, key)| &key.alerts[slot]);
        let untold = |alert: &&Alert| alert.open().is_some_and(|episode| !episode.is_told_open());
        alerts.filter(untold).count()
    }

    /// Exposed dollars per hour: of a run since the last request before it, of a window over at least its whole length, so that
    /// a burst of seconds is not blown up to an hour.
    fn pace_of(&self, episode: &Episode, window_secs: i64, exposed: PicoUsd) -> Option<PicoUsd> {
        if episode.requests < 2 {
            return None;
        }
        let elapsed = match episode.before {
            Some(before) => self.now.millis_since(before),
            None => self.now.millis_since(episode.since).max(window_secs * 1000),
        };
        Some(PicoUsd(
            exposed.0 * 3_600_000 / i128::from(elapsed.max(1000)),
        ))
    }
}

/// Whether what an episode of a rule has cost is counted beyond what the whole stream usually costs.
pub(super) fn is_beyond_usual(rule: &Rule) -> bool {
    rule.metric.has_dollars()
        && !rule.metric.is_about_cache()
        && rule.by.is_empty()
        && rule.filter.patterns.is_empty()
}

/// Whether a rule's alerts may explain those of others.
pub(super) fn is_explaining(rule: &Rule) -> bool {
    matches!(
        rule.metric,
        Metric::MissRun | Metric::CacheWaste | Metric::CacheMiss
    )
}

/// Models, sessions and projects by their share of the waste.
fn top_of_misses(key: &Key, since: Time) -> [Vec<(Arc<str>, u8)>; 3] {
    let mut weights: [Vec<(Arc<str>, i128)>; 3] = Default::default();
    for miss in key.misses.iter().filter(|miss| miss.at >= since) {
        for (weights, name) in weights.iter_mut().zip(miss.labels.names()) {
            let Some(name) = name else { continue };
            match weights.iter_mut().find(|(known, _)| known == name) {
                Some((_, weight)) => *weight += miss.cost.0,
                None => weights.push((Arc::clone(name), miss.cost.0)),
            }
        }
    }
    weights.map(shares)
}
