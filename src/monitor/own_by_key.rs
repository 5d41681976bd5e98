//! A rule about each key of a scope that one teller judges for itself, so that many tellers with a limit each share all the rest.
//!
//! It is about sums that nothing but what comes takes above their limit, and nothing but time below it. What is usual is shared by all
//! keys and is the teller's, for it depends on which minutes lay in its episodes. Keys that have nothing on take no room here.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::alert::Alert;
use super::baseline::{Amount, Baseline, Held};
use super::cache::CacheTracker;
use super::held::{hold, keep, ripe};
use super::key::Key;
use super::quick::Quick;
use super::reading::{stays_quiet_as_learned, takes_more};
use super::record::Time;
use super::rule::Rule;
use super::scope::Scope;
use super::state::{Arrival, Came};
use super::step::{Step, accrue, grow};
use super::teller::Place;
use super::variants::Variants;
use super::window::Window;
use crate::price::PicoUsd;

/// So many keys may be known before it is asked which of them are still there.
const FEW: usize = 64;

/// It has to be worked out when time alone changes something.
pub(super) const UNKNOWN: i64 = i64::MIN;

/// The alerts of such a rule.
#[derive(Debug, Clone)]
pub(super) struct OwnByKey {
    /// Where the rule has its place: which scope, and which of its rules.
    pub(super) index: usize,
    pub(super) slot: usize,
    /// As it is in force.
    pub(super) rule: Arc<Rule>,
    /// The most sensitive of its variants.
    asked: Arc<Rule>,
    quick: Quick,
    pub(super) variants: Option<Variants>,
    /// What is usual for all keys.
    baseline: Baseline,
    keys: FxHashMap<u64, OfKey>,
    /// How many there may be before those that are gone are dropped.
    most: usize,
    /// The alert of any other key.
    none: Alert,
    /// The last minute in which a response came for a key for which it fired, or in which it began to or ended.
    pub(super) disturbed: i64,
}

/// The alert of a key that has, or had, something on.
#[derive(Debug, Clone)]
struct OfKey {
    alert: Alert,
    /// Samples of minutes in its episode, which enter the baseline after it.
    held: VecDeque<Held>,
    /// Before this second time alone changes nothing.
    next: i64,
}

impl Default for OfKey {
    fn default() -> Self {
        Self {
            alert: Alert::default(),
            held: VecDeque::new(),
            next: UNKNOWN,
        }
    }
}

impl OfKey {
    fn is_at_rest(&self) -> bool {
        self.alert.is_quiet() && self.held.is_empty()
    }
}

/// Whether tellers can judge these rules, which look at the same, each for itself: the others of their scope ask for no more than they
/// do of a key that is gone.
pub(super) fn can_be_own_by_key(scope: &Scope, rules: &[Arc<Rule>]) -> bool {
    let is_kept_by_all = |rule: &Rule| rule.is_of_sessions() || !rule.limit.learns();
    let is_of_one = |rule: &Arc<Rule>| rule.windows.len() == 1 && is_kept_by_all(rule);
    let is_sum = |rule: &Arc<Rule>| rule.only_rises() && rule.metric.is_volume();
    !scope.by.is_empty()
        && rules.iter().all(is_of_one)
        && scope.rules.iter().chain(rules).all(is_sum)
}

impl OwnByKey {
    /// These rules, of which one is in force, in the place of one that has seen nothing.
    pub(super) fn new(index: usize, slot: usize, scope: &Scope, rules: Vec<Arc<Rule>>) -> Self {
        // What it learns from goes with its window.
        let rule = rules.first().unwrap_or(&scope.rules[slot]);
        let mut own = Self {
            index,
            slot,
            rule: Arc::clone(rule),
            asked: Arc::clone(rule),
            quick: Quick::default(),
            variants: None,
            baseline: rule.baseline(),
            keys: FxHashMap::default(),
            most: FEW,
            none: Alert::default(),
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
        for of_key in self.keys.values_mut() {
            if let Some(episode) = of_key.alert.episode.as_deref_mut()
                && let Some(limit) = self.rule.limit_on(episode.basis)
            {
                episode.limit = limit;
            }
        }
        self.variants = Some(variants);
        self.forget_next();
    }

    pub(super) fn is_at(&self, index: usize, slot: usize) -> bool {
        self.index == index && self.slot == slot
    }

    /// The alert of a key.
    pub(super) fn alert(&self, id: u64) -> &Alert {
        self.keys
            .get(&id)
            .map_or(&self.none, |of_key| &of_key.alert)
    }

    /// Something is on for a key, or waits for the end of what was.
    pub(super) fn has_on(&self, id: u64) -> bool {
        self.keys
            .get(&id)
            .is_some_and(|of_key| !of_key.is_at_rest())
    }

    /// What was worked out ahead no longer holds.
    pub(super) fn forget_next(&mut self) {
        for of_key in self.keys.values_mut() {
            of_key.next = UNKNOWN;
        }
    }

    /// The same for one key.
    pub(super) fn forget_next_of(&mut self, id: u64) {
        if let Some(of_key) = self.keys.get_mut(&id) {
            of_key.next = UNKNOWN;
        }
    }

    /// The second before which time alone changes nothing for a key that has something on, as far as it is known.
    pub(super) fn next_of(&self, id: u64) -> Option<i64> {
        let of_key = self.keys.get(&id).filter(|of_key| !of_key.is_at_rest())?;
        Some(of_key.next)
    }

    pub(super) fn set_next(&mut self, id: u64, next: i64) {
        if let Some(of_key) = self.keys.get_mut(&id) {
            of_key.next = next;
        }
    }

    /// A look surely changes nothing for a key, and is not due up to this second. `has_come`: something has been added to its windows.
    #[inline]
    pub(super) fn stays(
        &self,
        cache: &CacheTracker,
        key: &Key,
        id: u64,
        has_come: bool,
        until: i64,
    ) -> bool {
        match self.keys.get(&id) {
            Some(of_key) if !of_key.alert.is_quiet() => !has_come && of_key.next > until,
            _ => !has_come || self.stays_quiet(cache, key),
        }
    }

    #[inline]
    fn stays_quiet(&self, cache: &CacheTracker, key: &Key) -> bool {
        self.quick.stays_quiet(cache, key)
            || stays_quiet_as_learned(cache, key, &self.asked, &self.quick, Some(&self.baseline))
    }

    /// It goes on as it is: something has come for a key for which it fires.
    pub(super) fn go_on(&mut self, id: u64, now: Time) {
        self.disturbed = self.disturbed.max(now.minute());
        if let Some(of_key) = self.keys.get_mut(&id) {
            of_key.alert.go_on(now);
        }
    }

    /// Reads the rule for a key and moves its alert on.
    pub(super) fn step(
        &mut self,
        cache: &mut CacheTracker,
        scope: &Scope,
        id: u64,
        is_told: bool,
        came: Came<'_>,
        now: Time,
    ) {
        self.drop_those_gone(scope);
        let of_key = self.keys.entry(id).or_default();
        let step = Step {
            now,
            rule: &self.rule,
            variants: self.variants.as_ref(),
            usual: self.baseline.usual_at(scope.keys[&id].last_record),
            is_told,
            may_begin: came.adds() || !takes_more(&self.rule, scope.pooled.is_some()),
            arrived: came.labels(),
        };
        let stepped = step.take(cache, scope, id, &mut of_key.alert);
        if stepped.disturbs(came.is_response()) {
            self.disturbed = self.disturbed.max(now.minute());
        }
        // Minutes of an episode enter the baseline once it can no longer reopen.
        if of_key.alert.episode.is_none() {
            for sample in std::mem::take(&mut of_key.held) {
                self.baseline.take(sample);
            }
        }
        of_key.next = UNKNOWN;
    }

    /// Forgets keys that the scope has forgotten, once there are many.
    fn drop_those_gone(&mut self, scope: &Scope) {
        if self.keys.len() >= self.most {
            self.keys.retain(|id, _| scope.keys.contains_key(id));
            self.most = FEW.max(2 * self.keys.len());
        }
    }

    /// Adds what has come in for a key to its episode.
    pub(super) fn accrue(&mut self, id: u64, arrival: &Arrival<'_>, now: Time) {
        let Some(of_key) = self.keys.get_mut(&id) else {
            return;
        };
        if let Some(episode) = of_key.alert.open_mut() {
            for miss in arrival.late {
                accrue(
                    episode,
                    &self.rule,
                    arrival.record,
                    miss.at,
                    Some(miss),
                    now,
                );
            }
            accrue(
                episode,
                &self.rule,
                arrival.record,
                arrival.at,
                arrival.miss,
                now,
            );
        }
    }

    /// Adds what a response of that moment turned out to cost beyond what was known.
    pub(super) fn grow(&mut self, id: u64, first: Time, cost: PicoUsd) {
        if let Some(of_key) = self.keys.get_mut(&id) {
            if let Some(episode) = of_key.alert.open_mut() {
                grow(episode, &self.rule, first, cost);
            }
            of_key.next = UNKNOWN;
        }
    }

    /// Learns from the minute that a key was looked at for.
    pub(super) fn sample(&mut self, key: &Key, id: u64, minute: i64, now: Time) {
        if !self.rule.limit.learns() {
            return;
        }
        let Some(sample) = key.sample(&self.rule, minute) else {
            return;
        };
        let of_key = self.keys.get_mut(&id);
        let episode = of_key
            .as_ref()
            .and_then(|of_key| of_key.alert.episode.as_deref());
        let held = hold(episode, &self.rule, minute, sample);
        let (Some(held), Some(of_key)) = (held, of_key) else {
            self.baseline.add(minute, sample);
            return;
        };
        keep(&mut of_key.held, held);
        let mut has_learned = false;
        for sample in ripe(&mut of_key.held, minute) {
            self.baseline.take(sample);
            has_learned = true;
        }
        let episode = of_key.alert.open_mut().filter(|_| has_learned);
        if episode.is_some_and(|e| e.adapt(&self.rule, self.baseline.usual(), now)) {
            of_key.next = UNKNOWN;
        }
    }

    /// The highest of the limits that the episode of a key is held against.
    fn highest(&self, alert: &Alert) -> Option<(usize, Amount)> {
        let episode = alert.open()?;
        let least = self.variants.as_ref().and_then(Variants::least_sensitive);
        let highest = least.and_then(|rule| rule.limit_on(episode.basis));
        Some((episode.step, highest.unwrap_or(episode.limit)))
    }

    /// The next second after now at which time alone moves the alert of a key on. `is_settled`: there is nothing to tell of it, so that
    /// it goes on as it is until it is clear.
    pub(super) fn next_change(
        &self,
        key: &Key,
        id: u64,
        is_settled: bool,
        now: i64,
    ) -> Option<i64> {
        let alert = self.alert(id);
        if alert.is_quiet() {
            return None;
        }
        let clear = self.highest(alert).filter(|_| is_settled);
        let leaves = match clear {
            Some((step, limit)) => self.quick.clear_at(key, step, limit),
            None => key
                .window(self.rule.windows[0])
                .and_then(Window::next_expiry),
        };
        let changes = key
            .changes_of(alert, &self.rule, None)
            .into_iter()
            .flatten();
        changes.chain(leaves).filter(|second| *second > now).min()
    }

    /// Where the alert of a key has its place.
    pub(super) fn place(&self, id: u64) -> Place {
        Place {
            index: self.index,
            id,
            slot: self.slot,
        }
    }
}
