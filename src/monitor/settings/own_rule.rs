//! A rule that a teller judges for itself: what it is held to, and what is usual for it.
//!
//! Keeps no alert. Whether it is about the whole stream or about each key is for those who do to know.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::monitor::alert::{Alert, Episode};
use crate::monitor::cache::CacheTracker;
use crate::monitor::held::{hold, keep, ripe};
use crate::monitor::key::Key;
use crate::monitor::quick::Quick;
use crate::monitor::reading::stays_quiet_as_learned;
use crate::monitor::record::Time;
use crate::monitor::rule::Rule;
use crate::monitor::scope::Scope;
use crate::monitor::usual::{Amount, Baseline, Held};
use crate::monitor::variants::Variants;

/// A rule in its place, for one teller.
#[derive(Debug, Clone)]
pub(in crate::monitor) struct OwnRule {
    /// Where it has its place: in which scope, and as which of its rules.
    pub(in crate::monitor) index: usize,
    pub(in crate::monitor) slot: usize,
    /// As it is in force.
    pub(in crate::monitor) rule: Arc<Rule>,
    /// The most sensitive of its variants.
    pub(super) asked: Arc<Rule>,
    pub(super) quick: Quick,
    pub(in crate::monitor) variants: Option<Variants>,
    pub(in crate::monitor) baseline: Baseline,
    /// The last minute in which a response came while it fired, or in which it began to or ended.
    pub(in crate::monitor) disturbed: i64,
}

/// What became of the sample of a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learned {
    /// It waits for the end of an episode.
    Held,
    /// So it does, but others that waited were learned from, and the limit of the episode has risen if `adapts`.
    Ripe { adapts: bool },
    /// It was learned from.
    Now,
}

impl OwnRule {
    /// One that has seen nothing, which stands for these.
    pub(super) fn new(index: usize, slot: usize, scope: &Scope, rules: Vec<Arc<Rule>>) -> Self {
        // What it learns from goes with its windows.
        let rule = rules.first().unwrap_or(&scope.rules[slot]);
        let mut own = Self {
            index,
            slot,
            rule: Arc::clone(rule),
            asked: Arc::clone(rule),
            quick: Quick::default(),
            variants: None,
            baseline: rule.baseline(),
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
        self.variants = Some(variants);
    }

    /// Holds the episode of an alert to the rule that is in force from now on.
    pub(super) fn hold_to(&self, alert: &mut Alert) {
        if let Some(episode) = alert.episode.as_deref_mut()
            && let Some(limit) = self.rule.limit_on(episode.basis)
        {
            episode.limit = limit;
        }
    }

    pub(in crate::monitor) fn is_at(&self, index: usize, slot: usize) -> bool {
        self.index == index && self.slot == slot
    }

    /// What is not on for a key surely does not come to be at this moment.
    #[inline]
    pub(super) fn stays_quiet(&self, cache: &CacheTracker, key: &Key) -> bool {
        self.quick.stays_quiet(cache, key)
            || stays_quiet_as_learned(cache, key, &self.asked, &self.quick, Some(&self.baseline))
    }

    /// Of those that have decided alike.
    pub(super) fn least_sensitive(&self) -> Option<&Arc<Rule>> {
        self.variants.as_ref().and_then(Variants::least_sensitive)
    }

    /// The highest of what an episode has to be clear of to end.
    pub(super) fn ends_under(&self, episode: &Episode) -> Amount {
        let highest = self
            .least_sensitive()
            .and_then(|rule| rule.limit_on(episode.basis));
        episode.ends_under(highest.unwrap_or(episode.limit))
    }

    /// The minute is no ordinary one.
    pub(super) fn disturb(&mut self, now: Time) {
        self.disturbed = self.disturbed.max(now.minute());
    }

    /// Learns from a minute of a key, or keeps it until the episode in which it lies is over.
    pub(super) fn learn(
        &mut self,
        alert: &mut Alert,
        held: &mut VecDeque<Held>,
        (minute, sample): (i64, Amount),
        now: Time,
    ) -> Learned {
        let Some(sample) = hold(alert.episode.as_deref(), &self.rule, minute, sample) else {
            self.baseline.add(minute, sample);
            return Learned::Now;
        };
        keep(held, sample);
        let mut learned = Learned::Held;
        for sample in ripe(held, minute) {
            self.baseline.take(sample);
            learned = Learned::Ripe { adapts: false };
        }
        if learned != Learned::Held
            && let Some(episode) = alert.open_mut()
        {
            let adapts = episode.adapt(
                &self.rule,
                self.variants.as_ref(),
                self.baseline.usual(),
                now,
            );
            learned = Learned::Ripe { adapts };
        }
        learned
    }

    /// Learns from what was kept, as the episode is over. True if there was any.
    pub(super) fn release(&mut self, held: &mut VecDeque<Held>) -> bool {
        let any = !held.is_empty();
        for sample in std::mem::take(held) {
            self.baseline.take(sample);
        }
        any
    }
}
