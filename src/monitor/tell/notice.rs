//! From the state of an alert to what is told of it: dollars, pace, causes, who.
//!
//! Reads only. Whether anything is told is decided elsewhere; the words are the sinks'.

use std::cmp::Reverse;
use std::sync::Arc;

use super::habit::Kind;
use super::teller::{Place, Teller};
use super::told::Reason;
use super::voices::is_about_spending;
use crate::monitor::alert::{Episode, Notice};
use crate::monitor::key::Key;
use crate::monitor::metric::{Metric, Value};
use crate::monitor::record::Time;
use crate::monitor::rule::{DAY_SECS, Rule};
use crate::monitor::scope::Scope;
use crate::monitor::state::State;
use crate::monitor::usual::UNIT;
use crate::monitor::who::{Changed, Makeup, Measure, Portions, Top, add_to, shares};
use crate::monitor::window::Window;
use crate::price::PicoUsd;

/// In how many seconds it was learned what is usual, if not for long.
fn learned_secs(state: &State, scope: &Scope, place: Place, episode: &Episode) -> Option<i64> {
    let baselines = match &scope.pooled {
        Some(pooled) => pooled,
        None => &scope.keys.get(&place.id)?.baselines,
    };
    let begins = baselines.get(place.slot)?.begins()?;
    let begins = state.first.map_or(begins, |first| begins.max(first));
    let secs = episode.since.millis_since(begins) / 1000;
    (1..DAY_SECS).contains(&secs).then_some(secs)
}

impl Teller {
    /// The notice of an alert as it stands.
    pub(in crate::monitor) fn notice(
        &self,
        state: &State,
        scope: &Scope,
        place: Place,
        reason: Reason,
    ) -> Notice {
        let Place { index, id, slot } = place;
        let key = &scope.keys[&id];
        let rule = self.rule(scope, index, slot);
        let empty = Episode::new(0, state.now, 0, Arc::clone(&key.labels));
        let alert = self.alert(key, place);
        let episode = alert.episode.as_deref().unwrap_or(&empty);
        let labels = self.told(place, episode).labels.as_ref();
        // Those of the last miss are newer.
        let labels = labels.filter(|_| !rule.metric.is_about_cache());
        let window = rule
            .windows
            .get(episode.step)
            .and_then(|secs| key.window(*secs));
        let evidence = window.map_or(0, |window| rule.metric.evidence(&window.total()));
        let value = match rule.metric {
            Metric::MissRun => {
                let run = state.cache.run(key.labels.conversation);
                Some(Value::count(run.map_or(0, |run| run.length)).amount())
            }
            Metric::Silence => {
                let silent = key
                    .last_usage
                    .map_or(0, |last| state.now.millis_since(last));
                Some(i128::from(silent) * (UNIT / 1000))
            }
            Metric::Unpriced | Metric::NoCache => {
                let large = window.map_or(1, |window| window.total().large);
                Some(i128::from(large) * UNIT)
            }
            Metric::CacheLeak => window.map(|window| window.total().waste.0),
            _ => window
                .filter(|w| rule.metric.is_sum() || rule.is_enough(&w.total()))
                .and_then(|w| rule.metric.read(&w.total(), w.secs(), rule.per_secs))
                .map(Value::amount),
        };
        let (exposed, exposed_is_all) = self.exposed(rule, episode);
        let has_dollars = rule.metric.has_dollars();
        let top = if rule.metric.is_about_cache() {
            top_of_misses(key, episode.since)
        } else {
            let secs = window.map_or(i64::MAX, Window::secs);
            key.names.top(secs, Measure::of(rule.metric))
        };
        let before = self.told(place, episode).before.clone();
        // By then its window is what it was.
        let before = before.filter(|_| reason != Reason::Resolved);
        let changed = before.zip(window).map(|(before, window)| Changed {
            before,
            now: Makeup::of_window(&window.total(), window.secs(), &top),
        });
        let (names, error_kinds) = if rule.metric == Metric::Errors {
            let secs = window.map_or(0, Window::secs);
            let since = episode.since.min(state.now.plus_secs(-secs));
            key.failures.top(since)
        } else {
            (top.by_measure, Vec::new())
        };
        let [models, sessions, projects] = names;
        let kind = Kind::of(rule, episode).filter(|_| reason != Reason::Resolved);
        let is_daily = kind.is_some_and(|kind| self.habits.is_one(&kind, state.now));
        let mut causes = episode.causes.clone();
        causes.sort_by_key(|tally| Reverse((tally.cost, tally.requests)));
        Notice {
            reason,
            rule: Arc::clone(rule),
            key: scope.key_labels(&key.labels),
            episode: episode.id,
            at: state.now,
            since: episode.since,
            value,
            evidence,
            at_least: window.is_some_and(|window| window.total().unpriced > 0),
            limit: episode.limit,
            window_secs: window.map(Window::secs),
            requests: episode.requests,
            usual: episode.usual,
            learned_secs: learned_secs(state, scope, place, episode),
            exposed: has_dollars.then_some(exposed),
            exposed_is_all,
            pace: pace_of(state.now, episode, window.map_or(0, Window::secs), exposed)
                .filter(|_| has_dollars),
            causes,
            odds: episode.odds,
            models,
            sessions,
            projects,
            error_kinds,
            changed,
            labels: Arc::clone(labels.unwrap_or(&episode.labels)),
            explains: self.silences(rule),
            also: self.firing_beside(scope, place),
            flapping: episode.is_flapping(),
            daily: is_daily,
            stale: episode.stale,
            usual_by_now: episode.is_usual_by_now(value),
            missed: false,
            text: None,
        }
    }

    /// The other rules that keep quiet for a rule that speaks. It may have kept quiet itself before.
    fn silences(&self, rule: &Rule) -> Vec<Arc<str>> {
        let quiet: Vec<&Arc<str>> = if is_explaining(rule) {
            self.hush.explained().collect()
        } else if is_about_spending(rule) {
            self.hush.outspoken().collect()
        } else {
            Vec::new()
        };
        let others = quiet.into_iter().filter(|name| **name != rule.name);
        others.cloned().collect()
    }

    /// How many other keys of a rule fire and are not told: these stand for them.
    fn firing_beside(&self, scope: &Scope, place: Place) -> usize {
        let rule = self.rule(scope, place.index, place.slot);
        // Each announcement is told.
        if scope.by.is_empty() || rule.metric.is_announcement() {
            return 0;
        }
        let others = scope.keys.iter().filter(|(other, _)| **other != place.id);
        let untold = others.filter(|(id, key)| {
            let (place, alert) = (Place { id: **id, ..place }, &key.alerts[place.slot]);
            alert.open().is_some() && !self.is_told_open(place, alert)
        });
        untold.count()
    }
}

/// What lasts for less is no pace yet: a burst of seconds is not blown up to an hour.
const LEAST_PACE_MS: i64 = 60_000;

/// Exposed dollars per hour: of a run since the last request before it, of a window over at least its whole length. Of a day it
/// would say nothing of the hours to come.
fn pace_of(now: Time, episode: &Episode, window_secs: i64, exposed: PicoUsd) -> Option<PicoUsd> {
    if episode.requests < 2 || window_secs >= DAY_SECS {
        return None;
    }
    let elapsed = match episode.before {
        Some(before) => now.millis_since(before),
        None => now.millis_since(episode.since).max(window_secs * 1000),
    };
    Some(PicoUsd(
        exposed.0 * 3_600_000 / i128::from(elapsed.max(LEAST_PACE_MS)),
    ))
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
fn top_of_misses(key: &Key, since: Time) -> Top {
    let mut weights: [Vec<(Arc<str>, i128)>; 3] = Default::default();
    for miss in key.misses.iter().filter(|miss| miss.at >= since) {
        for (weights, name) in weights.iter_mut().zip(miss.labels.names()) {
            if let Some(name) = name {
                add_to(weights, name, miss.cost.0);
            }
        }
    }
    let names = weights.map(shares);
    Top {
        by_measure: names.clone(),
        names,
        portions: Portions::default(),
    }
}
