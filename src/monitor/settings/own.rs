//! A rule that one teller judges for itself, so that many tellers with a limit each share all the rest.
//!
//! It looks at the stream as a whole, and nobody else's alerts depend on it. What it explains of others is told by its teller alone.

use std::collections::VecDeque;
use std::sync::Arc;

use super::own_rule::{Learned, OwnRule};
use super::watch::{Evidence, Flow, NEVER, Watch};
use crate::monitor::alert::{Alert, Phase};
use crate::monitor::cache::{CacheTracker, Miss};
use crate::monitor::key::Key;
use crate::monitor::metric::Metric;
use crate::monitor::reading::limit_at_least;
use crate::monitor::record::{Labels, Time, UsageRecord};
use crate::monitor::rule::{Limit, Rule};
use crate::monitor::scope::Scope;
use crate::monitor::step::{Step, accrue, accrue_error, grow};
use crate::monitor::usual::{Amount, Held};
use crate::price::PicoUsd;

/// The alert of such a rule.
#[derive(Debug, Clone)]
pub(in crate::monitor) struct Own {
    pub(in crate::monitor) of: OwnRule,
    pub(in crate::monitor) alert: Alert,
    /// Samples of minutes in an episode, which enter the baseline after it.
    held: VecDeque<Held>,
    /// Its limit may have fallen, or its sum grown, since it was looked at.
    has_changed: bool,
    /// Until this second time alone changes nothing for its key, but for what leaves its windows.
    pub(in crate::monitor) next: i64,
    /// The highest of what its episode has to be clear of to end.
    ends_under: Amount,
    /// What had come when its episode was brought up to it last.
    seen: Flow,
    /// What its episode had paid again before the last miss.
    wasted: Option<PicoUsd>,
}

/// Whether all that comes adds to the episodes of a rule.
pub(super) const fn is_of_flow(rule: &Rule) -> bool {
    !rule.metric.is_about_cache() && !matches!(rule.metric, Metric::Errors)
}

/// Whether a rule can be judged by tellers.
pub(super) fn can_be_own(rule: &Rule) -> bool {
    rule.by.is_empty() && rule.metric.is_windowed()
}

/// What is above the limit that an episode is held against comes below it only by what leaves its window, and nothing lifts it but
/// what comes.
fn only_rises(rule: &Rule) -> bool {
    let is_of_waste = rule.metric == Metric::CacheWaste && rule.min_waste == PicoUsd::ZERO;
    rule.only_rises() || (is_of_waste && !matches!(rule.limit, Limit::Below(_)))
}

impl Own {
    /// These rules, of which one is in force, in the place of one that has seen nothing.
    pub(super) fn new(index: usize, slot: usize, scope: &Scope, rules: Vec<Arc<Rule>>) -> Self {
        let mut own = Self {
            of: OwnRule::new(index, slot, scope, rules),
            alert: Alert::default(),
            held: VecDeque::new(),
            has_changed: true,
            next: i64::MIN,
            ends_under: 0,
            seen: Flow::default(),
            wasted: None,
        };
        own.forget_next();
        own
    }

    /// From now on it stands for these rules, as if it always had.
    pub(super) fn stand_for(&mut self, scope: &Scope, rules: Vec<Arc<Rule>>) {
        self.of.stand_for(scope, rules);
        self.of.hold_to(&mut self.alert);
        self.has_changed = true;
        self.forget_next();
    }

    /// What was worked out ahead no longer holds.
    pub(in crate::monitor) fn forget_next(&mut self) {
        self.next = i64::MIN;
        if let Some(episode) = self.alert.open() {
            self.ends_under = self.of.ends_under(episode);
        }
    }

    /// It is below its limit, and nothing lifts it above but what comes: what leaves its window does not.
    fn is_below(&self) -> bool {
        let is_on = matches!(self.alert.phase, Phase::Firing | Phase::Pending { .. });
        !is_on && self.of.rule.windows.len() == 1 && only_rises(&self.of.rule)
    }

    /// What is about to be over stays so: its sum is clear of all its limits.
    fn stays_clear(&self, key: &Key) -> bool {
        let Some(episode) = self.alert.open().filter(|_| self.is_below()) else {
            return false;
        };
        let limit = self.of.asked.limit_on(episode.basis);
        let ends_under = limit.map(|limit| episode.ends_under(limit));
        let (_, value) = key.value(&self.of.asked, Some(episode.step));
        ends_under.is_some_and(|limit| value.is_some_and(|value| value.is_clear_below(limit)))
    }

    /// A look at this moment surely changes nothing.
    pub(super) fn stays(&mut self, cache: &CacheTracker, key: &Key, now: Time) -> bool {
        self.has_changed = false;
        let may_change = match self.alert.phase {
            Phase::Inactive | Phase::Closed { .. } => !self.of.stays_quiet(cache, key),
            Phase::Recovering { .. } => !self.stays_clear(key),
            Phase::Pending { since } => !self.stays_pending(key, now, since),
            Phase::Firing => true,
        };
        // Looked at between two ticks it moves on before the second that was worked out.
        let moves_at = self.alert.next_change(&self.of.rule);
        let is_time = now.secs() >= self.next || moves_at.is_some_and(|at| at <= now);
        !may_change && (self.alert.is_quiet() || !is_time)
    }

    /// Brings its episode up to what has come.
    pub(in crate::monitor) fn settle(&mut self, flow: &Flow) {
        let seen = std::mem::replace(&mut self.seen, *flow);
        let came = flow.came_since(&seen);
        if let Some(came) = came.filter(|_| self.alert.phase == Phase::Firing) {
            self.of.disturb(came);
        }
        let looked = flow.looked_since(&seen);
        let had_value = self.alert.had_value();
        let Some(episode) = self.alert.open_mut() else {
            return;
        };
        if is_of_flow(&self.of.rule) {
            flow.accrue(&seen, episode);
        }
        // While nobody had to look it went on with its value.
        if let Some(looked) = looked.filter(|_| had_value) {
            episode.last_value = episode.last_value.max(looked);
        }
    }

    /// Its episode counts from here on.
    pub(super) fn set_seen(&mut self, flow: &Flow) {
        self.seen = *flow;
    }

    /// Whether it has to look, and when, as long as it is as it is. `known`: it fires, and there is nothing to tell of it until it
    /// has cost so much more.
    pub(in crate::monitor) fn watch(
        &self,
        now: Time,
        key: &Key,
        flow: &Flow,
        known: Option<PicoUsd>,
        again_at: Option<Time>,
    ) -> Watch {
        let moves_at = self.alert.next_change(&self.of.rule);
        let until = match self.next {
            i64::MAX => Time(i64::MAX),
            next => Time::from_secs(next),
        };
        let until = moves_at.into_iter().chain(again_at).fold(until, Time::min);
        let watch = Watch::open(self.next);
        let shut = self.shut(watch, flow, known, until);
        shut.filter(|watch| watch.holds(now, key, flow))
            .unwrap_or(watch)
    }

    /// The watch while nothing changes. None if that is not known.
    fn shut(
        &self,
        watch: Watch,
        flow: &Flow,
        known: Option<PicoUsd>,
        until: Time,
    ) -> Option<Watch> {
        if self.has_changed {
            return None;
        }
        let only_rises = only_rises(&self.of.rule);
        if let Phase::Inactive | Phase::Closed { .. } = self.alert.phase {
            let limit = limit_at_least(&self.of.asked, Some(&self.of.baseline));
            let bounds = self.of.quick.within(limit)?;
            return Some(watch.within(bounds, Evidence::NONE, until, only_rises));
        }
        if self.may_end_otherwise() {
            return None;
        }
        if let Phase::Pending { .. } = self.alert.phase {
            if self.may_be_ordinary() {
                return None;
            }
            // Where the shortest window decides, no other does while it has a value.
            let bound = self.of.quick.above(0, self.limit_for_all()?)?;
            let evidence = self.evidence(0)?;
            return Some(watch.above(bound, evidence, NEVER, until));
        }
        // To an episode about the cache misses alone add, and each of them is looked at.
        let is_of_misses = self.of.rule.metric.is_about_cache();
        let episode = self.alert.open();
        let episode = episode.filter(|e| is_of_misses || flow.is_in_step(e))?;
        let evidence = if self.of.rule.metric.is_sum() {
            Evidence::NONE
        } else {
            self.evidence(episode.step)?
        };
        if let Phase::Recovering { .. } = self.alert.phase {
            let limit = self.of.asked.limit_on(episode.basis)?;
            let bounds =
                self.of
                    .quick
                    .within_and_clear(limit, episode.step, episode.ends_under(limit))?;
            return Some(watch.within(bounds, evidence, until, only_rises));
        }
        let known = known?;
        let bound = self.of.quick.unclear(episode.step, self.ends_under)?;
        let watch = if is_of_misses {
            watch.above(bound, evidence, NEVER, until).at_misses()
        } else {
            watch.above(bound, evidence, flow.after(known), until)
        };
        Some(if only_rises {
            watch.until_it_falls()
        } else {
            watch
        })
    }

    /// The highest of the limits that a new episode would be held against at any time of day, if that depends on nothing but what is
    /// usual.
    fn limit_for_all(&self) -> Option<Amount> {
        let least = self.of.least_sensitive();
        let rule = least.unwrap_or(&self.of.rule);
        let limit = rule.limit_now(self.of.baseline.usual_at_most(), PicoUsd::ZERO);
        limit.filter(|_| rule.share_of_cost == 0)
    }

    /// What a window needs to have a value.
    fn evidence(&self, step: usize) -> Option<Evidence> {
        Some(Evidence {
            window: self.of.quick.window(step)?,
            requests: self.of.rule.min_requests,
            cost: self.of.rule.min_cost,
        })
    }

    /// What its episode has come to by a miss that has been added: none if it is not on.
    pub(super) fn spoken_for(&self) -> Option<PicoUsd> {
        let episode = self.alert.open()?;
        Some(episode.exposed - self.wasted.unwrap_or_default())
    }

    /// Adds a record to the episode that is on.
    pub(super) fn accrue(
        &mut self,
        record: &UsageRecord,
        at: Time,
        miss: Option<&Miss>,
        now: Time,
    ) {
        self.wasted = self.alert.open().map(|episode| episode.exposed);
        if let Some(episode) = self.alert.open_mut() {
            accrue(episode, &self.of.rule, record, at, miss, now);
        }
    }

    /// The same for an error answer.
    pub(in crate::monitor) fn accrue_error(&mut self, at: Time, now: Time) {
        if let Some(episode) = self.alert.open_mut() {
            accrue_error(episode, &self.of.rule, at, now);
        }
    }

    /// Adds what a response of that moment turned out to cost beyond what was known.
    pub(in crate::monitor) fn grow(&mut self, first: Time, cost: PicoUsd) {
        if let Some(episode) = self.alert.open_mut() {
            grow(episode, &self.of.rule, first, cost);
        }
        self.has_changed = true;
    }

    /// The alert fires and its value is clear of none of its limits: a reading would leave it as it is.
    pub(super) fn stays_on(&self, key: &Key) -> bool {
        let Some(episode) = self.alert.open().filter(|_| !self.may_end_otherwise()) else {
            return false;
        };
        let (_, value) = key.value(&self.of.rule, Some(episode.step));
        value.is_some_and(|value| !value.is_clear_below(self.ends_under))
    }

    /// It waits, and is above all its limits.
    fn stays_pending(&self, key: &Key, now: Time, since: Time) -> bool {
        let rule = &self.of.rule;
        let may_change = self.may_end_otherwise() || self.may_be_ordinary();
        if may_change || now.millis_since(since) >= rule.hold_secs * 1000 {
            return false;
        }
        let (_, value) = key.value(rule, None);
        let limit = self.limit_for_all();
        limit.is_some_and(|limit| value.is_some_and(|value| value.is_above(limit)))
    }

    /// Something else than its value and its limit decides whether it ends.
    fn may_end_otherwise(&self) -> bool {
        let rule = &self.of.rule;
        let is_of_share = rule.metric == Metric::CacheMiss;
        is_of_share || rule.min_waste > PicoUsd::ZERO || matches!(rule.limit, Limit::Below(_))
    }

    /// Which misses are ordinary decides whether it begins.
    fn may_be_ordinary(&self) -> bool {
        self.of.rule.metric.is_about_cache()
    }

    /// It goes on as it is. What comes makes it clear no sooner than was worked out.
    pub(super) fn go_on(&mut self, now: Time) {
        self.alert.go_on(now);
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
        let last_record = scope.keys[&id].last_record;
        let step = Step {
            now,
            rule: &self.of.rule,
            variants: self.of.variants.as_ref(),
            usual: self.of.baseline.usual_at(last_record),
            is_told,
            may_begin: true,
            arrived,
        };
        let stepped = step.take(cache, scope, id, &mut self.alert);
        // What comes while it fires is seen when it is brought up to that.
        if stepped.disturbs(false) {
            self.of.disturb(now);
        }
        // Minutes of an episode enter the baseline once it can no longer reopen.
        if self.alert.episode.is_none() && self.of.release(&mut self.held) {
            // It was asked with the limit before.
            self.has_changed = true;
            if let Some(key) = scope.keys.get_mut(&id) {
                key.look_again_at(now, Time(now.0 + 1));
            }
        }
    }

    /// Learns from the minute that a key was looked at for. False if its limit stays as it is.
    pub(in crate::monitor) fn sample(&mut self, key: &Key, minute: i64, now: Time) -> bool {
        if !self.of.rule.limit.learns() {
            return false;
        }
        let Some(sample) = key.sample(&self.of.rule, minute) else {
            return false;
        };
        let Self {
            of, alert, held, ..
        } = self;
        let learned = of.learn(alert, held, (minute, sample), now);
        self.has_changed |= learned != Learned::Held;
        let adapts = learned == Learned::Ripe { adapts: true };
        if adapts {
            self.forget_next();
        }
        adapts || learned == Learned::Now
    }

    /// The next second after now at which time alone moves it on, but for what leaves its windows.
    pub(in crate::monitor) fn next_change(&self, key: &Key, now: i64) -> Option<i64> {
        if self.alert.is_quiet() {
            return None;
        }
        let changes = key.changes_of(&self.alert, &self.of.rule, None).into_iter();
        changes.flatten().filter(|second| *second > now).min()
    }
}
