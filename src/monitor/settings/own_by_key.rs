//! A rule about each key of a scope that one teller judges for itself, so that many tellers with a limit each share all the rest.
//!
//! It is about sums that nothing but what comes takes above their limit, and nothing but time below it. What is usual is shared by all
//! keys and is the teller's, for it depends on which minutes lay in its episodes. Keys that have nothing on take no room here.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::own_rule::{Learned, OwnRule};
use crate::monitor::alert::Alert;
use crate::monitor::arrival::{Arrival, Came};
use crate::monitor::cache::CacheTracker;
use crate::monitor::key::Key;
use crate::monitor::reading::takes_more;
use crate::monitor::record::Time;
use crate::monitor::rule::Rule;
use crate::monitor::scope::Scope;
use crate::monitor::step::{Step, accrue, grow};
use crate::monitor::tell::Place;
use crate::monitor::usual::Held;
use crate::monitor::window::Window;
use crate::price::PicoUsd;

/// So many keys may be known before it is asked which of them are still there.
const FEW: usize = 64;

/// It has to be worked out when time alone changes something.
pub(super) const UNKNOWN: i64 = i64::MIN;

/// The alerts of such a rule.
#[derive(Debug, Clone)]
pub(in crate::monitor) struct OwnByKey {
    pub(in crate::monitor) of: OwnRule,
    keys: FxHashMap<u64, OfKey>,
    /// How many there may be before those that are gone are dropped.
    most: usize,
    /// The alert of any other key.
    none: Alert,
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
        Self {
            of: OwnRule::new(index, slot, scope, rules),
            keys: FxHashMap::default(),
            most: FEW,
            none: Alert::default(),
        }
    }

    /// From now on it stands for these rules, as if it always had.
    pub(super) fn stand_for(&mut self, scope: &Scope, rules: Vec<Arc<Rule>>) {
        self.of.stand_for(scope, rules);
        for of_key in self.keys.values_mut() {
            self.of.hold_to(&mut of_key.alert);
        }
        self.forget_next();
    }

    /// The alert of a key.
    pub(in crate::monitor) fn alert(&self, id: u64) -> &Alert {
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
    pub(in crate::monitor) fn forget_next(&mut self) {
        for of_key in self.keys.values_mut() {
            of_key.next = UNKNOWN;
        }
    }

    /// The same for one key.
    pub(in crate::monitor) fn forget_next_of(&mut self, id: u64) {
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
            _ => !has_come || self.of.stays_quiet(cache, key),
        }
    }

    /// It goes on as it is: something has come for a key for which it fires.
    pub(super) fn go_on(&mut self, id: u64, now: Time) {
        self.of.disturb(now);
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
            rule: &self.of.rule,
            variants: self.of.variants.as_ref(),
            usual: self.of.baseline.usual_at(scope.keys[&id].last_record),
            is_told,
            may_begin: came.adds() || !takes_more(&self.of.rule, scope.pooled.is_some()),
            arrived: came.labels(),
        };
        let stepped = step.take(cache, scope, id, &mut of_key.alert);
        if stepped.disturbs(came.is_response()) {
            self.of.disturb(now);
        }
        // Minutes of an episode enter the baseline once it can no longer reopen.
        if of_key.alert.episode.is_none() {
            self.of.release(&mut of_key.held);
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
        let of_key = self.keys.get_mut(&id);
        if let Some(episode) = of_key.and_then(|of_key| of_key.alert.open_mut()) {
            let Arrival {
                record, at, miss, ..
            } = *arrival;
            accrue(episode, &self.of.rule, record, at, miss, now);
        }
    }

    /// Adds what a response of that moment turned out to cost beyond what was known.
    pub(in crate::monitor) fn grow(&mut self, id: u64, first: Time, cost: PicoUsd) {
        if let Some(of_key) = self.keys.get_mut(&id) {
            if let Some(episode) = of_key.alert.open_mut() {
                grow(episode, &self.of.rule, first, cost);
            }
            of_key.next = UNKNOWN;
        }
    }

    /// Learns from the minute that a key was looked at for.
    pub(in crate::monitor) fn sample(&mut self, key: &Key, id: u64, minute: i64, now: Time) {
        if !self.of.rule.limit.learns() {
            return;
        }
        let Some(sample) = key.sample(&self.of.rule, minute) else {
            return;
        };
        let Some(of_key) = self.keys.get_mut(&id) else {
            self.of.baseline.add(minute, sample);
            return;
        };
        let OfKey { alert, held, next } = of_key;
        let learned = self.of.learn(alert, held, (minute, sample), now);
        if learned == (Learned::Ripe { adapts: true }) {
            *next = UNKNOWN;
        }
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
        let leaves = if let Some(episode) = alert.open().filter(|_| is_settled) {
            let limit = self.of.ends_under(episode);
            self.of.quick.clear_at(key, episode.step, limit)
        } else {
            let secs = self.of.rule.windows.first();
            let window = secs.and_then(|secs| key.window(*secs));
            window.and_then(Window::next_expiry)
        };
        let changes = key
            .changes_of(alert, &self.of.rule, None)
            .into_iter()
            .flatten();
        changes.chain(leaves).filter(|second| *second > now).min()
    }

    /// Where the alert of a key has its place.
    pub(super) fn place(&self, id: u64) -> Place {
        Place {
            index: self.of.index,
            id,
            slot: self.of.slot,
        }
    }
}
