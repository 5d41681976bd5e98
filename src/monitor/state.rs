//! What all keys share as records and ticks pass: time, cache, alerts that change, notices that are due.
//!
//! Knows how a record enters a scope and what follows from it. Which rules there are, and in which order they are asked, is the
//! evaluator's business.

use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::alert::{Alert, Episode, Notice, Phase, Reading, Reason};
use super::baseline::{Amount, Baseline, Usual};
use super::blind::Blind;
use super::budget::Spending;

use super::cache::{CacheTracker, Miss};
use super::dedupe::Dedupe;
use super::evaluator::is_session_cost;
use super::metric::Metric;
use super::notice::{is_beyond_usual, is_explaining};
use super::reading::{Read, due, is_explained, read, stay_quiet};
use super::reconcile::Ledger;
use super::record::{Labels, Time, UsageRecord};
use super::rule::{Rule, Severity};
use super::scope::{Key, Scope};
use super::totals::Totals;
use super::variants::{Variants, decide};
use super::voices::{Voices, Withheld, is_about_spending};
use super::window::{Sums, Window, signed};
use crate::price::PicoUsd;

/// No baseline remembers more minutes.
const MINUTES_OF_A_WEEK: usize = 7 * 24 * 60;

/// All that scopes share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) now: Time,
    pub(super) lateness_ms: i64,
    /// What the last new response paid again, and for how many tokens.
    #[serde(skip)]
    pub(super) last_waste: (PicoUsd, u64),
    /// A restored state is silent until it has caught up.
    #[serde(skip)]
    pub(super) live: bool,
    /// What is silent now was watched before: what begins and ends in this silence is told at its end.
    #[serde(skip)]
    pub(super) resuming: bool,
    /// What ended in that silence.
    #[serde(skip)]
    pub(super) ended_unheard: Vec<Notice>,
    pub(super) dedupe: Dedupe,
    pub(super) ledger: Ledger,
    pub(super) cache: CacheTracker,
    pub(super) totals: Totals,
    pub(super) pace: Pace,
    pub(super) timers: BinaryHeap<Reverse<(i64, usize, u64)>>,
    #[serde(skip)]
    pub(super) notices: Vec<Notice>,
    pub(super) blind: Blind,
    /// How it stands with each budget.
    pub(super) spending: Vec<Spending>,
    /// The first record of all.
    pub(super) first: Option<Time>,
    /// Rules that keep quiet because an open alert explains them.
    pub(super) silenced: BTreeSet<Arc<str>>,
    /// Rules about spending that keep quiet because another one speaks.
    pub(super) outspoken: BTreeSet<Arc<str>>,
    pub(super) voices: Voices,
    /// Other limits that one of the rules stands for.
    #[serde(skip)]
    pub(super) variants: Option<Variants>,
}

/// What a minute of the whole stream usually costs, so that an episode can be told from ordinary spending.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pace {
    pub(super) window: Window<PicoUsd>,
    pub(super) minutes: VecDeque<i64>,
    pub(super) baseline: Baseline,
    /// The last minute in which an alert was on.
    pub(super) disturbed: i64,
}

/// Waste of a record that an alert has spoken for, passed on to the scopes that come after.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spoken {
    pub(super) run: PicoUsd,
    pub(super) window: PicoUsd,
    /// Cost of a session that is told to run away.
    pub(super) session: PicoUsd,
}

/// What has just come in for a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived<'a> {
    labels: &'a Arc<Labels>,
    /// A response that missed nothing, is not late, and leaves room below the limits of all means; no error.
    is_plain: bool,
}

/// A record on its way through the scopes.
pub(super) struct Arrival<'a> {
    pub(super) record: &'a UsageRecord,
    pub(super) at: Time,
    /// A miss that could have been avoided.
    pub(super) miss: Option<&'a Miss>,
    /// What it adds to windows; what the cache could have served of it is for each key to say.
    pub(super) sums: Sums,
    pub(super) spoken: Spoken,
}

impl Pace {
    pub(super) fn add(&mut self, at: Time, cost: PicoUsd) {
        self.window.add(at.secs(), &cost);
        if self
            .minutes
            .back()
            .is_none_or(|minute| *minute < at.minute())
        {
            self.minutes.push_back(at.minute());
        }
    }

    /// When the oldest minute that waits is sampled.
    fn next_sample(&self) -> Option<i64> {
        let minute = self.minutes.front()?;
        Some(minute * 60 + 59 + 300)
    }

    pub(super) fn sample(&mut self, now: Time) {
        while self.next_sample().is_some_and(|due| due <= now.secs())
            && let Some(minute) = self.minutes.front().copied()
        {
            self.minutes.pop_front();
            let sample = self.window.total_at(minute * 60 + 59).0;
            if minute > self.disturbed {
                self.baseline.add(minute, sample);
            }
        }
    }
}

impl State {
    /// Notes in the totals what had to be forgotten.
    pub(super) fn note_forgotten(&mut self) {
        self.totals.forgotten = self.dedupe.forgotten();
        self.totals.reused_id = self.dedupe.has_reused_id();
    }

    /// Moves all that it remembers in time, to go with a clock that was put right by so much.
    pub(super) fn shift(&mut self, ms: i64) {
        let secs = ms / 1000;
        self.now.shift(ms);
        self.cache.shift(ms);
        self.blind.shift(ms);
        self.pace.window.shift(secs);
        for minute in &mut self.pace.minutes {
            *minute += secs.div_euclid(60);
        }
        self.pace.disturbed = self.pace.disturbed.saturating_add(secs.div_euclid(60));
        for spending in &mut self.spending {
            spending.shift(ms);
        }
        self.voices.shift(ms);
        let timers = std::mem::take(&mut self.timers);
        let later = |Reverse((second, index, id)): Reverse<(i64, usize, u64)>| {
            Reverse((second + secs, index, id))
        };
        self.timers = timers.into_iter().map(later).collect();
    }

    /// Takes a record into the windows of its key. False if no window holds its moment any more.
    pub(super) fn arrive(
        &mut self,
        index: usize,
        scope: &mut Scope,
        arrival: &mut Arrival,
    ) -> bool {
        let Arrival {
            record,
            at,
            miss,
            sums,
            spoken,
        } = arrival;
        let id = scope.key_of(&record.labels);
        scope.open_key(id, &record.labels, *at);
        let Some(key) = scope.keys.get_mut(&id) else {
            return false;
        };
        key.advance(self.now);
        key.judge_prompt(sums, record, *at, scope.min_prompt_tokens);
        sums.waste_told_by_run = spoken.run;
        sums.waste_told_by_window = spoken.window;
        sums.cost_told_by_session = spoken.session;
        let held = key.add(at.secs(), sums);
        key.note_arrival(record, *at, *miss);
        if scope.learns {
            key.note_minute(at.minute());
        }
        let is_plain = miss.is_none() && at.secs() >= self.now.secs();
        let has_room = is_plain && scope.asked.has_room(key, sums);
        if !has_room {
            key.forget_rooms();
        }
        // Most change nothing: nothing is on, and nothing comes to be.
        if key.is_at_rest() {
            let pooled = scope.pooled.as_deref();
            if stay_quiet(&self.cache, key, &scope.asked, pooled) {
                let is_seen_to =
                    has_room && key.is_scheduled_soon(self.now.secs(), scope.soon_secs);
                if !is_seen_to {
                    self.schedule(scope, index, id);
                }
                return held;
            }
        }
        // What an open alert has spoken for before this record; one that begins with it speaks for all that led to it.
        let told_before = spoken_for(scope, id);
        let Some(key) = scope.keys.get_mut(&id) else {
            return held;
        };
        for (alert, rule) in key.alerts.iter_mut().zip(&scope.rules) {
            if let Some(episode) = alert.open_mut() {
                accrue(episode, rule, record, *at, *miss, self.now);
            }
        }
        let arrived = Some(Arrived {
            labels: &record.labels,
            is_plain: has_room,
        });
        self.evaluate(index, scope, id, arrived);
        let told = spoken_for(scope, id);
        if let Some(cost) = told.session {
            spoken.session = cost - told_before.session.unwrap_or_default();
        }
        if miss.is_some() {
            if let Some(cost) = told.run {
                spoken.run = cost - told_before.run.unwrap_or_default();
            } else if let Some(cost) = told.window
                && spoken.run == PicoUsd::ZERO
            {
                spoken.window = cost - told_before.window.unwrap_or_default();
            }
        }
        held
    }

    /// Takes an error answer into the windows of its key.
    pub(super) fn arrive_error(
        &mut self,
        index: usize,
        scope: &mut Scope,
        labels: &Arc<Labels>,
        at: Time,
    ) {
        let id = scope.key_of(labels);
        scope.open_key(id, labels, at);
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        key.advance(self.now);
        let sums = Sums {
            errors: 1,
            ..Sums::default()
        };
        key.add(at.secs(), &sums);
        key.last_record = key.last_record.max(at);
        key.names.add(at, labels, PicoUsd::ZERO);
        for (alert, rule) in key.alerts.iter_mut().zip(&scope.rules) {
            if let Some(episode) = alert.open_mut().filter(|_| rule.metric == Metric::Errors) {
                episode.requests += 1;
                episode.last_evidence = self.now;
                episode.note_minute(at);
            }
        }
        let arrived = Some(Arrived {
            labels,
            is_plain: false,
        });
        self.evaluate(index, scope, id, arrived);
    }

    /// Samples the minutes that are due, for the rules that learn.
    pub(super) fn sample(&mut self, scope: &mut Scope, id: u64) {
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        key.advance(self.now);
        while key.next_sample().is_some_and(|due| due <= self.now.secs()) {
            let Some(minute) = key.minutes.pop_front() else {
                break;
            };
            for (slot, rule) in scope
                .rules
                .iter()
                .enumerate()
                .filter(|(_, r)| r.limit.learns())
            {
                let Some(sample) = key.sample(rule, minute) else {
                    continue;
                };
                let baseline = match &mut scope.pooled {
                    Some(pooled) => &mut pooled[slot],
                    None => &mut key.baselines[slot],
                };
                let alert = &key.alerts[slot];
                let minute_end = Time::from_secs(minute * 60 + 59);
                match alert
                    .episode
                    .as_deref()
                    .filter(|episode| episode.since <= minute_end)
                {
                    Some(episode) => {
                        let clipped = episode.usual.unwrap_or_default().clip(sample);
                        let held = key.held.entry(slot).or_default();
                        held.push_back((minute, clipped));
                        // Older ones would be forgotten at once.
                        if held.len() > MINUTES_OF_A_WEEK {
                            held.pop_front();
                        }
                    }
                    None => baseline.add(minute, sample),
                }
            }
            key.forget_rooms();
        }
    }

    /// Reads all rules of a key, moves their alerts, and gives the notices that are due.
    pub(super) fn evaluate(
        &mut self,
        index: usize,
        scope: &mut Scope,
        id: u64,
        arrived: Option<Arrived<'_>>,
    ) {
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        key.advance(self.now);
        // Nearly always empty, and then it costs nothing.
        let due: Vec<usize> =
            due(&self.cache, key, &scope.asked, scope.pooled.as_deref()).collect();
        let is_plain = arrived.is_some_and(|arrived| arrived.is_plain);
        let is_settled = |slot: &usize| self.is_settled(&key.alerts[*slot], &scope.rules[*slot]);
        if is_plain && due.iter().all(is_settled) {
            // It adds to what was told already, and changes nothing.
            for slot in due {
                if let Some(episode) = key.alerts[slot].open_mut() {
                    episode.last_value = self.now;
                }
                self.note_disturbance(&scope.rules[slot]);
            }
            if key.is_scheduled_soon(self.now.secs(), scope.soon_secs) {
                return;
            }
        } else if !due.is_empty() {
            let labels = arrived.map(|arrived| arrived.labels);
            for slot in due {
                self.step(scope, id, slot, labels);
            }
            self.tell(scope, id, labels, None);
        }
        self.schedule(scope, index, id);
    }

    /// Sees to it that a key is looked at when time alone may change something.
    pub(super) fn schedule(&mut self, scope: &mut Scope, index: usize, id: u64) {
        let forgets = scope.forgets();
        let pooled = scope.pooled.as_deref();
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        let mut alerts = key.alerts.iter().zip(&scope.rules);
        let is_restless =
            !key.is_at_rest() && alerts.any(|(alert, rule)| self.is_restless(alert, rule));
        let now = self.now.secs();
        let until_clear = |alert: &Alert, rule: &Rule| {
            let episode = alert.open().filter(|_| rule.only_rises())?;
            self.is_settled(alert, rule)
                .then(|| (episode.step, self.highest_limit(rule, episode)))
        };
        let asked = &scope.asked;
        let change = key.next_change(&self.cache, asked, pooled, forgets, now, until_clear);
        let expiry = is_restless.then(|| key.next_expiry(now)).flatten();
        // What is usual changes what an episode has cost beyond it, and so whether it has grown.
        let is_beyond_usual = |(alert, rule): (&Alert, &Arc<Rule>)| {
            is_beyond_usual(rule) && alert.open().is_some_and(Episode::is_told_open)
        };
        let sample = self.pace.next_sample().filter(|due| *due > now);
        let sample = sample.filter(|_| key.alerts.iter().zip(&scope.rules).any(is_beyond_usual));
        let next = change.into_iter().chain(expiry).chain(sample).min();
        if let Some(next) = next
            && key.scheduled.is_none_or(|scheduled| next < scheduled)
        {
            key.scheduled = Some(next);
            self.timers.push(Reverse((next, index, id)));
        }
    }

    /// An alert that is to be looked at as often as anything changes for its key, because it depends on what others do: on who
    /// else speaks, or on which misses are ordinary.
    fn is_restless(&self, alert: &Alert, rule: &Rule) -> bool {
        !alert.is_quiet()
            && !rule.metric.is_announcement()
            && (rule.metric.is_about_cache() || self.is_waiting(alert, rule))
    }

    /// An alert that was told and goes on as it is, whatever comes: there is nothing to tell of it for now.
    fn is_settled(&self, alert: &Alert, rule: &Rule) -> bool {
        let is_firing = alert.phase == Phase::Firing;
        let is_told = alert.open().is_some_and(Episode::is_told_open);
        let is_announced = rule.metric.is_announcement();
        is_firing
            && is_told
            && (is_announced || (rule.only_rises() && !self.is_waiting(alert, rule)))
    }

    fn is_waiting(&self, alert: &Alert, rule: &Rule) -> bool {
        alert.open().is_some_and(|episode| {
            let exposed = self.exposed(rule, episode).0;
            alert.is_waiting(self.now, exposed)
        })
    }

    /// The highest of the limits that an episode is held against.
    fn highest_limit(&self, rule: &Rule, episode: &Episode) -> Amount {
        let variants = self.variants.as_ref();
        let highest = variants
            .filter(|variants| variants.in_force().name == rule.name)
            .and_then(Variants::least_sensitive)
            .and_then(|rule| rule.limit_on(episode.basis));
        highest.unwrap_or(episode.limit)
    }

    /// The present minute is no ordinary one: an alert is on.
    fn note_disturbance(&mut self, rule: &Rule) {
        if !rule.metric.is_announcement() {
            self.pace.disturbed = self.pace.disturbed.max(self.now.minute());
        }
    }

    fn step(&mut self, scope: &mut Scope, id: u64, slot: usize, arrived: Option<&Arc<Labels>>) {
        // Borrowed: to count those who hold it would be costly where many evaluators share it.
        let rule = &*scope.rules[slot];
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        key.advance(self.now);
        let pooled = scope.pooled.as_ref().and_then(|pooled| pooled.get(slot));
        let usual = pooled
            .or_else(|| key.baselines.get(slot))
            .map(Baseline::usual)
            .unwrap_or_default();
        let came = arrived.is_some();
        let variants = self.variants.as_ref();
        let read = read(
            &mut self.cache,
            variants,
            key,
            rule,
            slot,
            usual,
            self.now,
            came,
        );
        let conversation = key.labels.conversation;
        let mut alert = std::mem::take(&mut key.alerts[slot]);
        let before = alert.phase;
        let had_value = alert.had_value();
        let ended = alert.ended;
        alert.step(self.now, read.reading, rule, || {
            let key = &scope.keys[&id];
            let labels = arrived.unwrap_or(&key.labels);
            let mut episode = self.begin(key, rule, &read, usual, labels, ended);
            episode.id = episode_id(rule, &scope.key_labels(&key.labels), episode.since);
            episode
        });
        // It had its value until now, however long ago that was looked at.
        if let Some(episode) = alert.open_mut().filter(|_| had_value && !read.has_value) {
            episode.last_value = self.now;
        }
        if let Some(episode) = alert.open_mut().filter(|_| read.has_value) {
            episode.step = read.step;
            episode.last_value = self.now;
            if rule.metric == Metric::Silence {
                // It is so at every look, so there is news for as long as it lasts.
                episode.last_evidence = self.now;
            }
        }
        let ends = matches!(alert.phase, Phase::Closed { .. }) && alert.phase != before;
        if rule.metric == Metric::MissRun && alert.phase != before {
            match alert.phase {
                Phase::Firing => self.cache.run_was_told(conversation),
                Phase::Closed { .. } if read.reading == Reading::Stale => {
                    self.cache.forget_run(conversation);
                }
                _ => {}
            }
        }
        // It was on until now, whether or not it goes on.
        if [before, alert.phase].contains(&Phase::Firing) {
            self.note_disturbance(rule);
        }
        if let Some(key) = scope.keys.get_mut(&id) {
            // Minutes of an episode enter the baseline once it can no longer reopen.
            let is_over = alert.episode.is_none();
            let held = is_over.then(|| key.held.remove(&slot)).flatten();
            key.alerts[slot] = alert;
            if let Some(samples) = held {
                key.forget_rooms();
                // It was asked with the limit before.
                key.look_again_at(self.now, Time(self.now.0 + 1));
                let baseline = match &mut scope.pooled {
                    Some(pooled) => &mut pooled[slot],
                    None => &mut key.baselines[slot],
                };
                for (minute, sample) in samples {
                    baseline.add(minute, sample);
                }
            }
        }
        if ends && self.resuming && !rule.metric.is_announcement() {
            self.note_unheard(scope, id, slot);
        }
    }

    /// An episode has ended while nothing may be told. It is told afterwards: that what was told is over, or what nobody heard of.
    fn note_unheard(&mut self, scope: &mut Scope, id: u64, slot: usize) {
        let key = &scope.keys[&id];
        let Some(episode) = key.alerts[slot].episode.as_deref() else {
            return;
        };
        let was_told = episode.is_told();
        let is_news = if was_told {
            episode.is_told_open()
        } else {
            !is_explained(self.variants.as_ref(), key, &scope.rules[slot], episode)
        };
        if !is_news {
            return;
        }
        let notice = self.notice(scope, id, slot, Reason::Resolved);
        self.ended_unheard
            .retain(|other| other.episode != notice.episode);
        let exposed = notice.exposed.unwrap_or_default();
        let alert = scope.keys.get_mut(&id).map(|key| &mut key.alerts[slot]);
        if let Some(episode) = alert
            .and_then(|a| a.episode.as_deref_mut())
            .filter(|_| was_told)
        {
            episode.was_told(Reason::Resolved, self.now, exposed);
            self.voices.note(
                &scope.rules[slot],
                notice.episode,
                Reason::Resolved,
                self.now,
            );
        }
        self.ended_unheard.push(Notice {
            missed: !was_told,
            ..notice
        });
    }

    /// Gives what ended in a silence that is over. What has begun again since is told as that.
    pub(super) fn tell_unheard(&mut self) {
        self.resuming = false;
        for notice in std::mem::take(&mut self.ended_unheard) {
            let again = self.notices.iter().any(|n| n.episode == notice.episode);
            if notice.missed && again {
                continue;
            }
            if notice.missed {
                self.count_alert(&notice.rule);
            }
            self.notices.push(notice);
        }
    }

    fn count_alert(&mut self, rule: &Rule) {
        let n = self.totals.alerts_by_rule.entry(Arc::clone(&rule.name));
        *n.or_default() += 1;
    }

    /// Makes the episode that begins with this reading. What lies before the end of the last one belonged to that.
    fn begin(
        &self,
        key: &Key,
        rule: &Rule,
        read: &Read,
        usual: Usual,
        labels: &Arc<Labels>,
        ended: Option<Time>,
    ) -> Episode {
        let ended = ended.unwrap_or(Time(i64::MIN));
        let mut episode = Episode::new(0, self.now, read.limit, Arc::clone(labels));
        episode.step = read.step;
        episode.last_evidence = self.now;
        episode.last_value = self.now;
        episode.usual = usual.is_learned().then_some(usual);
        episode.basis = read.basis;
        episode.odds = read.odds;
        if rule.metric == Metric::Silence {
            episode.since = key.last_usage.unwrap_or(self.now);
            episode.requests = 0;
        } else if rule.metric == Metric::MissRun {
            if let Some(run) = self.cache.run(key.labels.conversation) {
                episode.since = run.since.max(ended);
                episode.before = run.before;
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
            episode.since = first.map_or(self.now, Time::from_secs).max(ended);
            let minutes = self.now.minute() - episode.since.minute() + 1;
            episode.minutes = minutes;
            episode.last_minute = self.now.minute();
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

    /// Gives the notices that are due for a key. `instead` replaces the reason of a first notice.
    pub(super) fn tell(
        &mut self,
        scope: &mut Scope,
        id: u64,
        arrived: Option<&Arc<Labels>>,
        instead: Option<Reason>,
    ) {
        if !self.live {
            return;
        }
        for slot in 0..scope.rules.len() {
            let Some(key) = scope.keys.get(&id) else {
                return;
            };
            let rule = &*scope.rules[slot];
            let alert = &key.alerts[slot];
            let Some(episode) = alert.episode.as_deref() else {
                continue;
            };
            let told = episode.is_told();
            let variants = self.variants.as_ref();
            // Where nothing can be seen, silence says nothing.
            let is_blind = rule.metric == Metric::Silence && self.blind.is_told();
            let exposed = self.exposed(rule, episode).0;
            let due = alert.due(self.now, exposed);
            // What another alert explains is not told.
            let inhibited = alert.phase == Phase::Firing
                && (due.is_some() || !told)
                && (is_blind || is_explained(variants, key, rule, episode));
            let due = due.filter(|_| !inhibited);
            if inhibited && !told && !is_blind {
                self.note_explained(&rule.name);
            }
            let Some(mut reason) = due else { continue };
            let withheld = match reason {
                Reason::First | Reason::Reopened => {
                    let is_grave = is_grave(self.variants.as_ref(), key, rule, episode);
                    self.voices.withheld(rule, episode.id, is_grave, self.now)
                }
                _ => None,
            };
            let again = match reason {
                Reason::Repeat | Reason::Reopened => {
                    self.voices.repeat_withheld(rule, episode.id, self.now)
                }
                _ => None,
            };
            if withheld.is_some() || again.is_some() {
                match withheld {
                    Some((Withheld::BySpending, _)) => self.note_outspoken(&rule.name),
                    Some((Withheld::ByCache, _)) => self.note_explained(&rule.name),
                    Some((Withheld::ByItsLike, _)) | None => {}
                }
                let until = withheld.and_then(|(_, until)| until).max(again);
                scope.withheld.insert(id);
                if let (Some(key), Some(until)) = (scope.keys.get_mut(&id), until) {
                    key.look_again_at(self.now, until);
                }
                continue;
            }
            let episode_id = episode.id;
            if rule.metric.is_announcement() && reason != Reason::First {
                continue;
            }
            if reason == Reason::First
                && let Some(instead) = instead
            {
                reason = instead;
            }
            if let Some(key) = scope.keys.get_mut(&id)
                && let Some(episode) = key.alerts[slot].episode.as_deref_mut()
            {
                if let Some(labels) = arrived {
                    episode.labels = Arc::clone(labels);
                }
                episode.was_told(reason, self.now, exposed);
            }
            if matches!(reason, Reason::First | Reason::StillFiring) {
                self.count_alert(rule);
            }
            self.voices.note(rule, episode_id, reason, self.now);
            let notice = self.notice(scope, id, slot, reason);
            self.notices.push(notice);
            if is_explaining(rule) && reason == Reason::Resolved {
                self.silenced.clear();
            }
            if !self.voices.any_about_spending() {
                self.outspoken.clear();
            }
        }
    }

    /// Lists a rule about spending that keeps quiet in what speaks for it.
    fn note_outspoken(&mut self, rule: &Arc<str>) {
        self.list_in(rule, is_about_spending);
        if !self.outspoken.contains(rule) {
            self.outspoken.insert(Arc::clone(rule));
        }
    }

    /// Lists a rule that keeps quiet in what explains it, until that is over.
    fn note_explained(&mut self, rule: &Arc<str>) {
        self.list_in(rule, is_explaining);
        if !self.silenced.contains(rule) {
            self.silenced.insert(Arc::clone(rule));
        }
    }

    /// Lists a rule in the notices of this moment that speak for it; those to come are made with it.
    fn list_in(&mut self, rule: &Arc<str>, speaks: fn(&Rule) -> bool) {
        let now = self.now;
        let others = self.notices.iter_mut();
        let speaking = others.filter(|n| n.at == now && n.rule.name != *rule && speaks(&n.rule));
        for notice in speaking.filter(|n| !n.explains.contains(rule)) {
            notice.explains.push(Arc::clone(rule));
        }
    }
}

/// What is critical and several times over its limit waits for nothing.
fn is_grave(variants: Option<&Variants>, key: &Key, rule: &Rule, episode: &Episode) -> bool {
    const TIMES: i128 = 3;
    let (_, value) = key.value(rule, Some(episode.step));
    let limit_of = |rule: &Rule| match variants {
        Some(_) => rule.limit_on(episode.basis).unwrap_or(episode.limit),
        None => episode.limit,
    };
    rule.severity == Severity::Critical
        && value.is_some_and(|value| {
            decide(variants, rule, |rule| {
                value.is_above(TIMES * limit_of(rule))
            })
        })
}

/// Dollars that the open alerts of a key have spoken for so far, by kind of rule.
#[derive(Default)]
struct SpokenFor {
    run: Option<PicoUsd>,
    window: Option<PicoUsd>,
    session: Option<PicoUsd>,
}

fn spoken_for(scope: &Scope, id: u64) -> SpokenFor {
    let mut spoken = SpokenFor::default();
    if !scope.explains {
        return spoken;
    }
    let Some(key) = scope.keys.get(&id) else {
        return spoken;
    };
    for (alert, rule) in key.alerts.iter().zip(&scope.rules) {
        let said = alert.open().map(|episode| episode.exposed);
        match rule.metric {
            Metric::MissRun => spoken.run = said,
            Metric::CacheWaste => spoken.window = said,
            Metric::Cost if is_session_cost(rule) => spoken.session = said,
            _ => {}
        }
    }
    spoken
}

/// Adds a record to an episode that is on.
fn accrue(
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

/// The identity of an episode: the same in every run over the same log.
pub(super) fn episode_id(rule: &Rule, key: &[(super::rule::Label, String)], since: Time) -> u64 {
    let mut text = format!("{}\n{}\n", rule.name, since.0);
    for (label, value) in key {
        text.push_str(label.name());
        text.push('=');
        text.push_str(value);
        text.push('\n');
    }
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}
