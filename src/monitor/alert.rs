//! The life of an alert: when it begins, goes on and ends.
//!
//! Judging is not telling: [`Alert::step`] moves the state, and [`Told`](super::tell::Told) knows which of it is worth a notice. Time
//! comes in as an argument; values, windows and sinks are not known here.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::cache::{Cause, Miss, Odds};
use super::record::{Labels, Time};
use super::rule::{Label, Rule};
use super::tell::Reason;
use super::usual::{Amount, Usual};
use super::variants::{Variants, decide};
use super::who::Changed;
use crate::price::PicoUsd;

pub(super) const MINUTE_MS: i64 = 60_000;

/// An alert that fires again this soon after it resolved is the same episode, and says so at most this often.
pub(super) const REOPEN_MS: i64 = 15 * MINUTE_MS;

/// What has come back so often is flapping.
const FLAPS: u32 = 3;

/// No alert must be clear for longer before it is over, unless its rule says so.
const MAX_KEEP_SECS: i64 = 3600;

/// What lasts for so long may become usual.
pub(super) const ADAPT_MS: i64 = 24 * 60 * MINUTE_MS;

/// From a second to more than an hour.
const MAX_DOUBLINGS: u32 = 12;

/// What a rule's value says at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    /// No value: too few requests.
    Nothing,
    /// Over the limit.
    Breach,
    /// Neither over the limit nor clear of it.
    Between,
    /// Clear of the limit.
    Clear,
    /// There has been no value for so long that the episode ends for want of traffic.
    Stale,
}

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing is wrong.
    Inactive,
    /// The limit is crossed, but not yet for as long as the rule asks.
    Pending {
        /// Since when.
        since: Time,
    },
    /// The limit is crossed.
    Firing,
    /// It is clear again, but not yet for as long as the rule asks.
    Recovering {
        /// Since when.
        since: Time,
    },
    /// It is over; it may reopen for a while.
    Closed {
        /// Since when.
        at: Time,
    },
}

/// What misses of one cause add up to in an episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseTally {
    /// The cause.
    pub cause: Cause,
    /// Requests.
    pub requests: u64,
    /// Tokens that the cache would have given.
    pub tokens: u64,
    /// What they cost again.
    pub cost: PicoUsd,
    /// Pause before the last of them, in milliseconds.
    pub gap_ms: i64,
    /// Time to live of the cache entry, in seconds.
    pub ttl_secs: i64,
}

/// What the limit of a rule follows from at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// What is usual for the key.
    pub usual: Usual,
    /// What the deciding window cost.
    pub cost: PicoUsd,
}

/// One firing of one rule for one key, from its first affected record to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// Hash of rule, key and first moment.
    pub id: u64,
    /// The first affected record.
    pub since: Time,
    /// The last request before it, if it is a run of requests.
    pub before: Option<Time>,
    /// Which window of the rule it fired on.
    pub step: usize,
    /// The limit it fired on, kept until it resolves.
    pub limit: Amount,
    /// What that limit follows from.
    pub basis: Basis,
    /// What was usual when it fired.
    pub usual: Option<Usual>,
    /// The odds that it is chance, when it fired, and for which length.
    pub odds: Option<(Odds, u32)>,
    /// For rules about the cache: waste since `since`. For others: cost.
    pub exposed: PicoUsd,
    /// Minutes with traffic in it, for taking off what is usual.
    pub minutes: i64,
    /// The last such minute.
    pub last_minute: i64,
    /// Affected requests.
    pub requests: i64,
    /// The last record that spoke of it.
    pub last_evidence: Time,
    /// The last moment at which the deciding window had a value.
    pub last_value: Time,
    /// Causes, for rules about the cache.
    pub causes: Vec<CauseTally>,
    /// Who was seen last in it.
    pub labels: Arc<Labels>,
    /// It ended for want of traffic.
    pub stale: bool,
    /// The limit before it was raised to what days like these show, if it has lasted that long.
    fired_on: Option<Amount>,
    /// How often it has come back.
    comebacks: u32,
}

impl Episode {
    /// An episode that begins now.
    pub fn new(id: u64, since: Time, limit: Amount, labels: Arc<Labels>) -> Self {
        Self {
            id,
            since,
            before: None,
            step: 0,
            limit,
            basis: Basis::default(),
            usual: None,
            odds: None,
            exposed: PicoUsd::ZERO,
            minutes: 0,
            last_minute: i64::MIN,
            requests: 0,
            last_evidence: since,
            last_value: since,
            causes: Vec::new(),
            labels,
            stale: false,
            fired_on: None,
            comebacks: 0,
        }
    }

    /// Adds a request that the cache did not serve.
    pub fn add_miss(&mut self, miss: &Miss) {
        let at = self
            .causes
            .iter()
            .position(|tally| tally.cause == miss.cause);
        let at = at.unwrap_or_else(|| {
            self.causes.push(CauseTally {
                cause: miss.cause.clone(),
                requests: 0,
                tokens: 0,
                cost: PicoUsd::ZERO,
                gap_ms: 0,
                ttl_secs: 0,
            });
            self.causes.len() - 1
        });
        let tally = &mut self.causes[at];
        tally.requests += 1;
        tally.tokens += miss.tokens;
        tally.cost += miss.cost;
        tally.gap_ms = miss.gap_ms;
        tally.ttl_secs = miss.ttl_secs;
        self.labels = Arc::clone(&miss.labels);
    }

    /// Notes that a record of this minute belongs to it.
    pub fn note_minute(&mut self, at: Time) {
        if at.minute() > self.last_minute {
            self.last_minute = at.minute();
            self.minutes += 1;
        }
    }

    /// The cause with the most dollars in it.
    pub fn main_cause(&self) -> Option<&CauseTally> {
        self.causes
            .iter()
            .max_by_key(|tally| (tally.cost, tally.requests))
    }

    /// It has come back again and again.
    pub fn is_flapping(&self) -> bool {
        self.comebacks >= FLAPS
    }

    /// For how many seconds it must be clear before it is over: twice as long each time that it has come back, up to an hour, so
    /// that what hovers about its limit is told once and not all day long.
    pub fn keep_secs(&self, rule: &Rule) -> i64 {
        let keep = rule.keep_firing_secs;
        let longer = keep.saturating_mul(1 << self.comebacks.min(MAX_DOUBLINGS));
        longer.min(MAX_KEEP_SECS).max(keep)
    }

    /// It has lasted for a day or more: its limit rises with what is usual by now, since what every day shows is ordinary. It
    /// never falls. True if it has risen. Of the variants of the rule those are kept whose limit does the same.
    pub(super) fn adapt(
        &mut self,
        rule: &Rule,
        variants: Option<&Variants>,
        usual: Usual,
        now: Time,
    ) -> bool {
        let before = self.basis;
        let rises = usual.usual >= before.usual.usual && usual.busy >= before.usual.busy;
        if !rises || now.millis_since(self.since) < ADAPT_MS {
            return false;
        }
        let basis = Basis { usual, ..before };
        // Asked one after the other, as both together may be so of some in the middle.
        let is_learned = |rule: &Rule| rule.limit_on(basis) > rule.least_limit();
        let is_raised = |rule: &Rule| rule.limit_on(basis) > rule.limit_on(before);
        if !decide(variants, rule, is_learned) || !decide(variants, rule, is_raised) {
            return false;
        }
        let Some(limit) = rule.limit_on(basis) else {
            return false;
        };
        self.basis = basis;
        self.fired_on.get_or_insert(self.limit);
        self.limit = limit;
        true
    }

    /// What its value has to be clear of for it to end, where it is held against this limit. One that was raised to what is usual by
    /// now need only hold: what lies under it is no news any more.
    pub(super) fn ends_under(&self, limit: Amount) -> Amount {
        if self.fired_on.is_some() {
            limit * 5 / 4
        } else {
            limit
        }
    }

    /// It is over because what it told of has become usual: its limit was raised, and the value has not fallen to half of what it was.
    pub(super) fn is_usual_by_now(&self, value: Option<Amount>) -> bool {
        let (Some(value), Some(fired_on)) = (value, self.fired_on) else {
            return false;
        };
        value * 2 >= fired_on
    }

    /// Within how many milliseconds of its end it is the same one that comes back.
    fn reopen_ms(&self, rule: &Rule) -> i64 {
        REOPEN_MS.max(self.keep_secs(rule) * 1000)
    }

    /// Moves it in time. Its identity stays.
    fn shift(&mut self, ms: i64) {
        let times = [
            &mut self.since,
            &mut self.last_evidence,
            &mut self.last_value,
        ];
        for time in times.into_iter().chain(&mut self.before) {
            time.shift(ms);
        }
        self.last_minute = self.last_minute.saturating_add(ms / MINUTE_MS);
    }
}

/// The alert of one rule for one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its episode, from firing until it can no longer reopen.
    pub episode: Option<Box<Episode>>,
    /// When its last episode ended. What lies before it was told.
    pub ended: Option<Time>,
    /// Who took it over the limit, while it waits.
    brought_by: Option<Arc<Labels>>,
    /// The last reading. News of a breach is only given while there is one.
    reading: Reading,
}

impl Default for Alert {
    fn default() -> Self {
        Self {
            phase: Phase::Inactive,
            episode: None,
            ended: None,
            brought_by: None,
            reading: Reading::Nothing,
        }
    }
}

impl Alert {
    /// The episode that is on: firing, or not yet clear for long enough.
    pub fn open(&self) -> Option<&Episode> {
        self.is_open().then_some(self.episode.as_deref()).flatten()
    }

    /// The same, to change.
    pub fn open_mut(&mut self) -> Option<&mut Episode> {
        if self.is_open() {
            self.episode.as_deref_mut()
        } else {
            None
        }
    }

    /// Nothing is on, and nothing was on so recently that it could reopen.
    pub fn is_quiet(&self) -> bool {
        self.phase == Phase::Inactive && self.episode.is_none()
    }

    /// It goes on as it is, with a value.
    pub fn go_on(&mut self, now: Time) {
        if !self.had_value() {
            self.reading = Reading::Between;
        }
        if let Some(episode) = self.open_mut() {
            episode.last_value = now;
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Firing | Phase::Recovering { .. })
    }

    /// Who took it over the limit, if it waits and somebody did.
    pub fn brought_by(&self) -> Option<&Arc<Labels>> {
        self.brought_by.as_ref()
    }

    /// Notes who has come, if it has just begun to wait.
    pub fn note_who(&mut self, before: Phase, arrived: Option<&Arc<Labels>>) {
        let waits = |phase| matches!(phase, Phase::Pending { .. });
        if !waits(self.phase) {
            self.brought_by = None;
        } else if !waits(before) {
            self.brought_by = arrived.cloned();
        }
    }

    /// Moves the state by one reading. `begin` makes the episode when it starts to fire.
    pub fn step(
        &mut self,
        now: Time,
        reading: Reading,
        rule: &Rule,
        begin: impl FnOnce() -> Episode,
    ) {
        use Reading::{Between, Breach, Clear, Nothing, Stale};
        self.reading = reading;
        let hold_ms = rule.hold_secs * 1000;
        let episode = self.episode.as_deref();
        let keep_ms = episode.map_or(0, |episode| episode.keep_secs(rule) * 1000);
        self.phase = match (self.phase, reading) {
            // What has just ended begins again at a later moment, however often it is looked at in this one.
            (closed @ Phase::Closed { at }, Breach) if at == now => closed,
            (Phase::Inactive | Phase::Closed { .. }, Breach) if hold_ms == 0 => {
                self.fire(now, begin)
            }
            (Phase::Inactive | Phase::Closed { .. }, Breach) => Phase::Pending { since: now },
            (Phase::Pending { since }, Breach) if now.millis_since(since) >= hold_ms => {
                self.fire(now, begin)
            }
            (pending @ Phase::Pending { .. }, Breach) => pending,
            (Phase::Pending { .. }, _) => self
                .episode
                .as_ref()
                .map_or(Phase::Inactive, |_| Phase::Closed { at: now }),
            (Phase::Firing, Clear) if keep_ms == 0 => Phase::Closed { at: now },
            (Phase::Firing, Clear) => Phase::Recovering { since: now },
            (Phase::Recovering { since }, Clear | Nothing)
                if now.millis_since(since) >= keep_ms =>
            {
                Phase::Closed { at: now }
            }
            (Phase::Recovering { .. }, Breach | Between) => Phase::Firing,
            (Phase::Firing | Phase::Recovering { .. }, Stale) => {
                if let Some(episode) = &mut self.episode {
                    episode.stale = true;
                }
                Phase::Closed { at: now }
            }
            (phase, _) => phase,
        };
        if let Phase::Closed { at } = self.phase {
            self.ended = Some(at);
        }
        let episode = self.episode.as_deref();
        if let Phase::Closed { at } = self.phase
            && episode.is_none_or(|episode| now.millis_since(at) >= episode.reopen_ms(rule))
        {
            self.phase = Phase::Inactive;
            self.episode = None;
        }
    }

    fn fire(&mut self, now: Time, begin: impl FnOnce() -> Episode) -> Phase {
        if let Some(episode) = &mut self.episode {
            let Episode {
                step,
                limit,
                basis,
                odds,
                ..
            } = begin();
            episode.step = step;
            episode.limit = limit;
            episode.basis = basis;
            episode.odds = odds;
            episode.fired_on = None;
            episode.stale = false;
            episode.last_evidence = now;
            episode.last_value = now;
            episode.comebacks += 1;
        } else {
            self.episode = Some(Box::new(begin()));
        }
        Phase::Firing
    }

    /// Moves its life in time: the clock was wrong by so much.
    pub fn shift(&mut self, ms: i64) {
        match &mut self.phase {
            Phase::Pending { since: at }
            | Phase::Recovering { since: at }
            | Phase::Closed { at } => {
                at.shift(ms);
            }
            Phase::Inactive | Phase::Firing => {}
        }
        if let Some(ended) = &mut self.ended {
            ended.shift(ms);
        }
        if let Some(episode) = &mut self.episode {
            episode.shift(ms);
        }
    }

    /// The last reading was over the limit.
    pub fn is_over(&self) -> bool {
        self.reading == Reading::Breach
    }

    /// The last reading was of a value.
    pub fn had_value(&self) -> bool {
        !matches!(self.reading, Reading::Nothing | Reading::Stale)
    }

    /// The moment from which on it may begin again: it has just ended, and nothing has been read for a new one.
    pub fn may_begin_again_at(&self) -> Option<Time> {
        match self.phase {
            Phase::Closed { at } => Some(Time(at.0 + 1)),
            _ => None,
        }
    }

    /// The next moment at which time alone changes something.
    pub fn next_change(&self, rule: &Rule) -> Option<Time> {
        match self.phase {
            Phase::Inactive | Phase::Firing => None,
            Phase::Pending { since } => Some(since.plus_secs(rule.hold_secs)),
            Phase::Recovering { since } => {
                Some(since.plus_secs(self.episode.as_ref()?.keep_secs(rule)))
            }
            Phase::Closed { at } => Some(Time(at.0 + self.episode.as_ref()?.reopen_ms(rule))),
        }
    }
}

/// A share of the cost of an episode, in per cent.
pub type Share = (Arc<str>, u8);

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Why.
    pub reason: Reason,
    /// The rule.
    pub rule: Arc<Rule>,
    /// The key, as labels with their values; empty for the whole stream.
    pub key: Vec<(Label, String)>,
    /// Identity of the episode, the same in every run over the same log.
    pub episode: u64,
    /// When, in event time.
    pub at: Time,
    /// The first affected record.
    pub since: Time,
    /// The metric's value now. None while its window holds too little to tell.
    pub value: Option<Amount>,
    /// How many requests its window has to tell it by.
    pub evidence: i64,
    /// The value is a lower bound: some of it has no price.
    pub at_least: bool,
    /// The limit it is held against.
    pub limit: Amount,
    /// The window that decides, in seconds; `None` for runs.
    pub window_secs: Option<i64>,
    /// Affected requests so far.
    pub requests: i64,
    /// What is usual, once learned.
    pub usual: Option<Usual>,
    /// In so many seconds, if that was less than a day: nights, or busy hours, may be no part of it.
    pub learned_secs: Option<i64>,
    /// What the episode has cost so far.
    pub exposed: Option<PicoUsd>,
    /// Nothing usual is known to take off `exposed`.
    pub exposed_is_all: bool,
    /// Exposed per hour.
    pub pace: Option<PicoUsd>,
    /// Why the cache was missed, most dollars first.
    pub causes: Vec<CauseTally>,
    /// The odds that a run of this length is chance.
    pub odds: Option<(Odds, u32)>,
    /// Models by share of the cost, or of the tokens, responses or errors that the rule is about.
    pub models: Vec<Share>,
    /// Sessions by the same.
    pub sessions: Vec<Share>,
    /// Projects by the same.
    pub projects: Vec<Share>,
    /// Kinds of errors by share of those that name theirs, in an alert about errors.
    pub error_kinds: Vec<Share>,
    /// What responses are made of now, and were before, where it is about that and both are known.
    pub changed: Option<Changed>,
    /// Who was seen last.
    pub labels: Arc<Labels>,
    /// Other rules that this explains and that therefore keep quiet.
    pub explains: Vec<Arc<str>>,
    /// So many other keys of the rule fire too and are not told one by one.
    pub also: usize,
    /// It fires and resolves again and again.
    pub flapping: bool,
    /// It was told on most of the days before, and is told once a day.
    pub daily: bool,
    /// It ended for want of traffic.
    pub stale: bool,
    /// It ended because it had lasted for days, and is what is usual by now.
    pub usual_by_now: bool,
    /// It began and ended while nothing was watched: there is nothing left to do about it.
    pub missed: bool,
    /// What is wrong, in words, where no number says it.
    pub text: Option<Arc<str>>,
}

impl Notice {
    /// A notice that words say, not numbers.
    pub fn in_words(
        rule: &Arc<Rule>,
        reason: Reason,
        key: Vec<(Label, String)>,
        episode: u64,
        at: Time,
        since: Time,
        text: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            reason,
            rule: Arc::clone(rule),
            key,
            episode,
            at,
            since,
            value: None,
            evidence: 0,
            at_least: false,
            limit: 0,
            window_secs: None,
            requests: 0,
            usual: None,
            learned_secs: None,
            exposed: None,
            exposed_is_all: false,
            pace: None,
            causes: Vec::new(),
            odds: None,
            models: Vec::new(),
            sessions: Vec::new(),
            projects: Vec::new(),
            error_kinds: Vec::new(),
            changed: None,
            labels: Arc::default(),
            explains: Vec::new(),
            also: 0,
            flapping: false,
            daily: false,
            stale: false,
            usual_by_now: false,
            missed: false,
            text: Some(text.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::rule::Limit;
    use crate::monitor::usual::UNIT;
    use proptest::prelude::*;

    /// A rule with this limit and floor.
    fn rule(limit: Limit, floor: i128) -> Arc<Rule> {
        Arc::new(Rule {
            limit,
            floor: floor * UNIT,
            ..Rule::blank()
        })
    }

    fn usual((usual, busier): (i128, i128)) -> Usual {
        Usual {
            usual: usual * UNIT,
            busy: (usual + busier) * UNIT,
            minutes: 10_000,
            is_of_days: true,
            days: 30,
        }
    }

    /// One that fired on what was usual then.
    fn fired(rule: &Rule, usual: Usual) -> Episode {
        let basis = Basis {
            usual,
            cost: PicoUsd::ZERO,
        };
        let limit = rule.limit_on(basis).unwrap();
        Episode {
            basis,
            ..Episode::new(1, Time(0), limit, Arc::default())
        }
    }

    #[test]
    fn a_limit_that_was_raised_to_what_is_usual_ends_what_lies_under_it() {
        let rule = rule(Limit::TimesUsual(2 * UNIT), 1);
        let (before, after) = (usual((30, 6)), usual((35, 35)));
        let mut episode = fired(&rule, before);
        assert_eq!(episode.limit, 60 * UNIT);
        assert_eq!(episode.ends_under(episode.limit), 60 * UNIT);
        let day = |n: i64| Time(n * ADAPT_MS);
        assert!(!episode.adapt(&rule, None, after, Time(ADAPT_MS - 1)));
        assert!(!episode.adapt(&rule, None, before, day(1)));
        assert!(episode.adapt(&rule, None, after, day(1)));
        assert_eq!(episode.limit, 84 * UNIT);
        // Four fifths of it are the limit.
        assert_eq!(episode.ends_under(episode.limit), 105 * UNIT);
        // It never falls.
        assert!(!episode.adapt(&rule, None, before, day(2)));
        assert_eq!(episode.limit, 84 * UNIT);
    }

    proptest! {
        /// Variants that are kept have the limits that each of them would have alone, and end where it would.
        #[test]
        fn limits_of_variants_rise_as_those_of_each_alone(
            began in (1_i128..40, 1_i128..40),
            later in prop::collection::vec((1_i128..80, 1_i128..80), 1..6),
            numbers in prop::collection::btree_set(1_i128..120, 2..6),
            of in 0..4,
        ) {
            let rules: Vec<Arc<Rule>> = numbers.iter().map(|n| match of {
                0 => rule(Limit::TimesUsual(2 * UNIT), *n),
                1 => rule(Limit::TimesUsual(n * UNIT / 20), 30),
                2 => rule(Limit::BeyondBusy(n * UNIT / 20), 30),
                _ => rule(Limit::AboveBusy { above: n * UNIT, beyond: UNIT }, 0),
            }).collect();
            let variants = Variants::new(rules);
            let in_force = Arc::clone(variants.in_force());
            let began = usual(began);
            let mut shared = fired(&in_force, began);
            let rules = || variants.rules().iter();
            let mut alone: Vec<Episode> = rules().map(|rule| fired(rule, began)).collect();
            for (day, later) in (1..).zip(later) {
                let now = Time(day * ADAPT_MS);
                shared.adapt(&in_force, Some(&variants), usual(later), now);
                for (episode, rule) in alone.iter_mut().zip(rules()) {
                    episode.adapt(rule, None, usual(later), now);
                }
            }
            for n in variants.kept() {
                let limit = variants.rules()[n].limit_on(shared.basis).unwrap();
                prop_assert_eq!(limit, alone[n].limit);
                prop_assert_eq!(shared.ends_under(limit), alone[n].ends_under(limit));
            }
        }
    }
}
