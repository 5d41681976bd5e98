//! A rule that one teller judges for itself, so that many tellers with a limit each share all the rest.
//!
//! It looks at the stream as a whole and explains no other rule: nobody else's alerts depend on it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::alert::{Alert, Phase};
use super::baseline::{Amount, Baseline};
use super::cache::{CacheTracker, Miss};
use super::metric::Metric;
use super::quick::Quick;
use super::reading::stays_quiet_as_learned;
use super::record::{Labels, Time, UsageRecord};
use super::rule::{Limit, Rule};
use super::scope::{Key, Scope, hold, keep};
use super::step::{Step, accrue, accrue_error, grow};
use super::variants::Variants;
use crate::price::PicoUsd;

/// The alert of such a rule.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// Where the rule has its place: which scope, and which of its rules.
    pub(super) index: usize,
    pub(super) slot: usize,
    /// As it is in force.
    pub(super) rule: Arc<Rule>,
    /// The most sensitive of its variants.
    asked: Arc<Rule>,
    quick: Quick,
    pub(super) variants: Option<Variants>,
    pub(super) alert: Alert,
    baseline: Baseline,
    /// Samples of minutes in an episode, which enter the baseline after it.
    held: VecDeque<(i64, Amount)>,
    /// Its limit may have fallen, or its sum grown, since it was looked at.
    has_changed: bool,
    /// Until this second time alone changes nothing for its key, but for what leaves its windows.
    pub(super) next: i64,
    /// What leaves its windows may change it before.
    pub(super) by_expiry: bool,
    /// The highest of the limits that its episode is held against.
    highest: Amount,
    /// The last minute in which it was on.
    pub(super) disturbed: i64,
}

/// Whether a rule can be judged by tellers. What is told of waste is taken into account by the rules that are asked after it.
pub(super) fn can_be_own(rule: &Rule) -> bool {
    rule.by.is_empty() && rule.metric.is_windowed() && rule.metric != Metric::CacheWaste
}

impl Own {
    /// These rules, of which one is in force, in the place of one that has seen nothing.
    pub(super) fn new(index: usize, slot: usize, scope: &Scope, rules: Vec<Arc<Rule>>) -> Self {
        let mut own = Self {
            index,
            slot,
            rule: Arc::clone(&scope.rules[slot]),
            asked: Arc::clone(&scope.rules[slot]),
            quick: Quick::default(),
            variants: None,
            alert: Alert::default(),
            baseline: Baseline::default(),
            held: VecDeque::new(),
            has_changed: false,
            next: i64::MIN,
            by_expiry: true,
            highest: 0,
            disturbed: i64::MIN,
        };
        own.stand_for(scope, rules);
        own
    }

    /// From now on it stands for these rules, as if it always had.
    pub(super) fn stand_for(&mut self, scope: &Scope, rules: Vec<Arc<Rule>>) {
        let variants = Variants::new(rules);
        self.rule = Arc::clone(variants.in_force());
        self.asked = Arc::clone(variants.most_sensitive());
        self.quick = Quick::of(&self.asked, &scope.window_secs);
        self.baseline.forget_limit();
        if let Some(episode) = self.alert.episode.as_deref_mut()
            && let Some(limit) = self.rule.limit_on(episode.basis)
        {
            episode.limit = limit;
        }
        self.variants = Some(variants);
        self.has_changed = true;
        self.forget_next();
    }

    /// What was worked out ahead no longer holds.
    pub(super) fn forget_next(&mut self) {
        self.next = i64::MIN;
        self.by_expiry = true;
        if let Some(episode) = self.alert.open() {
            let least = self.variants.as_ref().and_then(Variants::least_sensitive);
            let highest = least.and_then(|rule| rule.limit_on(episode.basis));
            self.highest = highest.unwrap_or(episode.limit);
        }
    }

    pub(super) fn is_at(&self, index: usize, slot: usize) -> bool {
        self.index == index && self.slot == slot
    }

    /// Nothing is on or comes to be.
    pub(super) fn is_at_rest(&self, cache: &CacheTracker, key: &Key) -> bool {
        self.alert.is_quiet() && self.stays_quiet(cache, key)
    }

    /// What is not on surely does not come to be at this moment.
    fn stays_quiet(&self, cache: &CacheTracker, key: &Key) -> bool {
        self.quick.stays_quiet(cache, key)
            || stays_quiet_as_learned(
                cache,
                key,
                &self.asked,
                &self.quick,
                Some(&self.baseline),
                false,
            )
    }

    /// It is below its limit, and nothing lifts it above but what comes: what leaves its window does not.
    fn is_below(&self) -> bool {
        let is_on = matches!(self.alert.phase, Phase::Firing | Phase::Pending { .. });
        !is_on && self.rule.windows.len() == 1 && self.rule.only_rises()
    }

    /// What is about to be over stays so: its sum is clear of all its limits.
    fn stays_clear(&self, key: &Key) -> bool {
        let Some(episode) = self.alert.open().filter(|_| self.is_below()) else {
            return false;
        };
        let limit = self.asked.limit_on(episode.basis);
        let (_, value) = key.value(&self.asked, Some(episode.step));
        limit.is_some_and(|limit| value.is_some_and(|value| value.is_clear_below(limit)))
    }

    /// A look at this moment surely changes nothing. `has_come`: something was added to its window.
    pub(super) fn stays(
        &mut self,
        cache: &CacheTracker,
        key: &Key,
        now: Time,
        has_come: bool,
    ) -> bool {
        let has_news = has_come || self.by_expiry || self.has_changed;
        self.has_changed = false;
        let may_change = match self.alert.phase {
            Phase::Inactive | Phase::Closed { .. } => {
                (has_news || !self.is_below()) && !self.stays_quiet(cache, key)
            }
            Phase::Recovering { .. } => has_news && !self.stays_clear(key),
            Phase::Pending { since } => has_news && !self.stays_pending(key, now, since),
            Phase::Firing => has_news,
        };
        // Looked at between two ticks it moves on before the second that was worked out.
        let moves_at = self.alert.next_change(&self.rule);
        let is_time = now.secs() >= self.next || moves_at.is_some_and(|at| at <= now);
        !may_change && (self.alert.is_quiet() || !is_time)
    }

    /// Adds a record to the episode that is on.
    pub(super) fn accrue(
        &mut self,
        record: &UsageRecord,
        at: Time,
        miss: Option<&Miss>,
        now: Time,
    ) {
        if let Some(episode) = self.alert.open_mut() {
            accrue(episode, &self.rule, record, at, miss, now);
        }
    }

    /// The same for an error answer.
    pub(super) fn accrue_error(&mut self, at: Time, now: Time) {
        if let Some(episode) = self.alert.open_mut() {
            accrue_error(episode, &self.rule, at, now);
        }
    }

    /// Adds what a response of that moment turned out to cost beyond what was known.
    pub(super) fn grow(&mut self, first: Time, cost: PicoUsd) {
        if let Some(episode) = self.alert.open_mut() {
            grow(episode, &self.rule, first, cost);
        }
        self.has_changed = true;
    }

    /// The alert fires and its value is clear of none of its limits: a reading would leave it as it is.
    pub(super) fn stays_on(&self, key: &Key) -> bool {
        let Some(episode) = self.alert.open().filter(|_| !self.may_end_otherwise()) else {
            return false;
        };
        let (_, value) = key.value(&self.rule, Some(episode.step));
        value.is_some_and(|value| !value.is_clear_below(self.highest))
    }

    /// It waits, and is above all its limits.
    fn stays_pending(&self, key: &Key, now: Time, since: Time) -> bool {
        let least = self.variants.as_ref().and_then(Variants::least_sensitive);
        let rule = least.unwrap_or(&self.rule);
        if self.may_end_otherwise() || now.millis_since(since) >= rule.hold_secs * 1000 {
            return false;
        }
        let (step, value) = key.value(rule, None);
        let window = rule.windows.get(step).and_then(|secs| key.window(*secs));
        let cost = window.map(|window| window.total().cost).unwrap_or_default();
        let limit = rule.limit_now(self.baseline.usual(), cost);
        limit.is_some_and(|limit| value.is_some_and(|value| value.is_above(limit)))
    }

    /// Something else than its value and its limit decides too.
    fn may_end_otherwise(&self) -> bool {
        let rule = &self.rule;
        rule.metric.is_about_cache()
            || rule.min_waste > PicoUsd::ZERO
            || matches!(rule.limit, Limit::Below(_))
    }

    /// It goes on as it is. What comes makes it clear no sooner than was worked out.
    pub(super) fn go_on(&mut self, now: Time) {
        self.alert.go_on(now);
        self.disturbed = self.disturbed.max(now.minute());
    }

    /// Reads the rule and moves the alert on.
    pub(super) fn step(
        &mut self,
        cache: &mut CacheTracker,
        now: Time,
        scope: &mut Scope,
        id: u64,
        is_told: bool,
        arrived: Option<&Arc<Labels>>,
    ) {
        let step = Step {
            now,
            rule: &self.rule,
            variants: self.variants.as_ref(),
            usual: self.baseline.usual(),
            is_told,
            arrived,
        };
        let stepped = step.take(cache, scope, id, &mut self.alert);
        if stepped.was_on {
            self.disturbed = self.disturbed.max(now.minute());
        }
        // Minutes of an episode enter the baseline once it can no longer reopen.
        if self.alert.episode.is_none() && !self.held.is_empty() {
            for (minute, sample) in std::mem::take(&mut self.held) {
                self.baseline.add(minute, sample);
            }
            // It was asked with the limit before.
            self.has_changed = true;
            if let Some(key) = scope.keys.get_mut(&id) {
                key.look_again_at(now, Time(now.0 + 1));
            }
        }
    }

    /// Learns from a minute.
    pub(super) fn sample(&mut self, key: &Key, minute: i64) {
        if !self.rule.limit.learns() {
            return;
        }
        let Some(sample) = key.sample(&self.rule, minute) else {
            return;
        };
        self.has_changed = true;
        let episode = self.alert.episode.as_deref();
        match hold(episode, minute, sample) {
            Some(clipped) => keep(&mut self.held, minute, clipped),
            None => self.baseline.add(minute, sample),
        }
    }

    /// The next second after now at which time alone may change it, and whether what leaves its windows may before. `is_settled`:
    /// it goes on as it is until it is clear.
    pub(super) fn next_change(&self, key: &Key, now: i64, is_settled: bool) -> (Option<i64>, bool) {
        if self.alert.is_quiet() {
            return (None, !self.is_below());
        }
        let changes = key.changes_of(&self.alert, &self.rule).into_iter();
        let settled = self.alert.open().filter(|_| is_settled);
        let clear = settled.map(|episode| self.quick.clear_at(key, episode.step, self.highest));
        let by_expiry = clear.is_none() && !self.is_below();
        let next = changes.flatten().chain(clear.flatten());
        (next.filter(|second| *second > now).min(), by_expiry)
    }
}
