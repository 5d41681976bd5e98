//! How an alert moves on: its rule is read, its episode begins, adds up and ends.
//!
//! Knows one alert of one key. Whether it is told to anybody is no matter here.

use std::sync::Arc;

use super::alert::{Alert, Episode, Phase, Reading};
use super::cache::{CacheTracker, Miss};
use super::key::Key;
use super::metric::Metric;
use super::reading::{Read, read};
use super::record::{Labels, Time, UsageRecord};
use super::rule::{Label, Rule};
use super::scope::Scope;
use super::usual::Usual;
use super::variants::Variants;
use super::window::{Sums, signed};
use crate::price::PicoUsd;

/// What an alert is read and moved on with.
pub(super) struct Step<'a> {
    pub(super) now: Time,
    pub(super) rule: &'a Rule,
    /// Other limits that the rule stands for.
    pub(super) variants: Option<&'a Variants>,
    /// What is usual for the key.
    pub(super) usual: Usual,
    /// The alert was told and is on: that its rule is over its limit leads nowhere.
    pub(super) is_told: bool,
    /// An alert that has nothing on may begin: it takes nothing to come, or something has.
    pub(super) may_begin: bool,
    /// What has just come in for the key.
    pub(super) arrived: Option<&'a Arc<Labels>>,
}

/// What has become of an alert.
pub(super) struct Stepped {
    /// Where it was in its life.
    pub(super) before: Phase,
    pub(super) reading: Reading,
    /// It has just ended.
    pub(super) ends: bool,
    /// It fires, or did until now.
    was_on: bool,
    /// It fires, or does so no longer, from now on.
    turns: bool,
    /// Its episode is somewhere else in its life than before.
    pub(super) moves: bool,
}

impl Stepped {
    /// The present minute is no ordinary one, if a response has come or something has changed. That somebody looks is no matter: who
    /// else has something to look at decides that.
    pub(super) const fn disturbs(&self, has_come: bool) -> bool {
        self.was_on && (has_come || self.turns)
    }
}

impl Step<'_> {
    /// Reads the rule for a key and moves its alert on.
    pub(super) fn take(
        &self,
        cache: &mut CacheTracker,
        scope: &Scope,
        id: u64,
        alert: &mut Alert,
    ) -> Stepped {
        let Self { now, rule, .. } = *self;
        let key = &scope.keys[&id];
        let read = read(cache, key, alert, self);
        let before = alert.phase;
        let had_episode = alert.episode.is_some();
        let had_value = alert.had_value();
        let ended = alert.ended;
        let brought_by = alert.brought_by().cloned();
        alert.step(now, read.reading, rule, || {
            let who = self.arrived.or(brought_by.as_ref());
            let mut episode = self.begin(cache, key, &read, ended, who.unwrap_or(&key.labels));
            episode.id = episode_id(rule, &scope.key_labels(&key.labels), episode.since);
            episode
        });
        alert.note_who(before, self.arrived);
        // It had its value until now, however long ago that was looked at.
        if let Some(episode) = alert.open_mut().filter(|_| had_value && !read.has_value) {
            episode.last_value = now;
        }
        if let Some(episode) = alert.open_mut().filter(|_| read.has_value) {
            episode.step = read.step;
            episode.last_value = now;
            if rule.metric == Metric::Silence {
                // It is so at every look, so there is news for as long as it lasts.
                episode.last_evidence = now;
            }
        }
        let is_on = [before, alert.phase].map(|phase| phase == Phase::Firing);
        Stepped {
            before,
            reading: read.reading,
            ends: matches!(alert.phase, Phase::Closed { .. }) && alert.phase != before,
            was_on: is_on.contains(&true),
            turns: is_on[0] != is_on[1],
            moves: alert.phase != before && (had_episode || alert.episode.is_some()),
        }
    }

    /// Makes the episode that begins with this reading. What lies before the end of the last one belonged to that.
    fn begin(
        &self,
        cache: &CacheTracker,
        key: &Key,
        read: &Read,
        ended: Option<Time>,
        labels: &Arc<Labels>,
    ) -> Episode {
        let Self {
            now, rule, usual, ..
        } = *self;
        let ended = ended.unwrap_or(Time(i64::MIN));
        let mut episode = Episode::new(0, now, read.limit, Arc::clone(labels));
        episode.step = read.step;
        episode.last_evidence = now;
        episode.last_value = now;
        episode.usual = usual.is_learned().then_some(usual);
        episode.basis = read.basis;
        episode.odds = read.odds;
        if rule.metric == Metric::Silence {
            episode.since = key.last_usage.unwrap_or(now);
            episode.requests = 0;
        } else if rule.metric == Metric::MissRun {
            if let Some(run) = cache.run(key.labels.conversation) {
                episode.since = run.since.max(ended);
                episode.before = Some(run.before);
                episode.exposed = run.waste;
                episode.requests = i64::from(run.length);
            }
        } else if let Some(window) = rule
            .windows
            .get(read.step)
            .and_then(|secs| key.window(*secs))
        {
            let total = window.total_since(ended.secs());
            let wasteful = |sums: &Sums| sums.missed > 0;
            let first = if rule.metric.is_about_cache() {
                episode.exposed = total.waste;
                window.first_second(ended.secs(), wasteful)
            } else if rule.metric == Metric::Errors {
                episode.requests = total.errors;
                window.first_second(ended.secs(), |sums| sums.errors > 0)
            } else {
                episode.exposed = total.cost;
                episode.requests = total.requests;
                window.first_second(ended.secs(), |sums| sums.requests > 0)
            };
            // What is announced is so from now on: the first bucket of a day may have begun long before anything came.
            let first = first.filter(|_| !rule.metric.is_announcement());
            episode.since = first.map_or(now, Time::from_secs).max(ended);
            let minutes = now.minute() - episode.since.minute() + 1;
            episode.minutes = minutes;
            episode.last_minute = now.minute();
        }
        if rule.metric == Metric::CacheLeak {
            for miss in &key.misses {
                episode.add_miss(miss);
            }
        }
        if rule.metric.is_about_cache() {
            let since = episode.since;
            for miss in key.misses.iter().filter(|miss| miss.at >= since) {
                episode.add_miss(miss);
            }
            if rule.metric != Metric::MissRun {
                episode.requests = episode
                    .causes
                    .iter()
                    .map(|tally| signed(tally.requests))
                    .sum();
            }
        }
        episode
    }
}

/// Adds a record to an episode that is on.
pub(super) fn accrue(
    episode: &mut Episode,
    rule: &Rule,
    record: &UsageRecord,
    at: Time,
    miss: Option<&Miss>,
    now: Time,
) {
    if rule.metric.is_about_cache() {
        if let Some(miss) = miss {
            episode.exposed += miss.cost;
            episode.requests += 1;
            episode.last_evidence = now;
            episode.add_miss(miss);
        }
    } else if !matches!(rule.metric, Metric::Errors | Metric::Silence) {
        episode.exposed += record.cost.unwrap_or_default();
        episode.requests += 1;
        episode.last_evidence = now;
        episode.note_minute(at);
    }
}

/// Adds an error answer to an episode that is on.
pub(super) fn accrue_error(episode: &mut Episode, rule: &Rule, at: Time, now: Time) {
    if rule.metric == Metric::Errors {
        episode.requests += 1;
        episode.last_evidence = now;
        episode.note_minute(at);
    }
}

/// Adds what a response of that moment turned out to cost beyond what was known to an episode that is on.
pub(super) fn grow(episode: &mut Episode, rule: &Rule, first: Time, cost: PicoUsd) {
    if !rule.metric.is_about_cache() && episode.since <= first {
        episode.exposed += cost;
    }
}

/// The identity of an episode: the same in every run over the same log.
pub(super) fn episode_id(rule: &Rule, key: &[(Label, String)], since: Time) -> u64 {
    let mut text = format!("{}\n{}\n", rule.name, since.0);
    for (label, value) in key {
        text.push_str(label.name());
        text.push('=');
        text.push_str(value);
        text.push('\n');
    }
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}
