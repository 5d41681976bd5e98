//! What all keys share as records and ticks pass: time, cache, alerts that change.
//!
//! Knows how a record enters a scope and which alerts follow from it; what is told of them is the tellers' business. Which rules
//! there are, and in which order they are asked, is the evaluator's.

use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::alert::{Alert, Episode, Phase, Reading};
use super::arrival::{Arrival, Arrived, Came, spoken_for};
use super::blind::Blind;
use super::budget::Spending;
use super::cache::CacheTracker;
use super::calendar::ClockChange;
use super::calm::Calm;
use super::dedupe::Dedupe;
use super::held::{hold, keep, ripe};
use super::key::{Key, SAMPLED_MINUTES, sampled_at};
use super::metric::Metric;
use super::reading::{find_due, stay_quiet, takes_more};
use super::reconcile::{Change, Ledger};
use super::record::{ErrorRecord, Time};
use super::rule::Rule;
use super::scope::Scope;
use super::settings::{Look, Watches, accrue_by_key, accrue_to_own, has_on, speak_for_own};
use super::step::{Step, accrue, accrue_error};
use super::tell::{Place, Teller, Voices};
use super::totals::Totals;
use super::usual::Amount;
use super::variants::Variants;
use super::window::{Sums, Windows};
use crate::price::PicoUsd;

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
    pub(super) dedupe: Dedupe,
    pub(super) ledger: Ledger,
    pub(super) cache: CacheTracker,
    pub(super) totals: Totals,
    pub(super) pace: Pace,
    pub(super) timers: BinaryHeap<Reverse<(i64, usize, u64)>>,
    pub(super) blind: Blind,
    /// How it stands with each budget.
    pub(super) spending: Vec<Spending>,
    /// The first record of all.
    pub(super) first: Option<Time>,
    /// The first second at which a teller has to look at what it withheld, because one that spoke has ended.
    #[serde(skip)]
    pub(super) released: Option<i64>,
    /// Other limits that one of the rules stands for.
    #[serde(skip)]
    pub(super) variants: Option<Variants>,
    /// Memory for the rules of a key that have to be read.
    #[serde(skip)]
    pub(super) due: Vec<usize>,
    /// Which tellers have to look at the rule that they judge.
    #[serde(skip)]
    pub(super) watches: Watches,
    /// Nobody asks for the sums of the span, nor who was behind what is told; what runs have reported is reckoned elsewhere.
    #[serde(skip)]
    pub(super) is_brief: bool,
    /// What the last event changed of what runs have reported.
    #[serde(skip)]
    pub(super) last_change: Option<Change>,
    /// When clocks were changed last, and from when on that is to be asked again; none if it was not asked yet.
    #[serde(skip)]
    pub(super) clocks: Option<(Option<ClockChange>, Time)>,
    /// How many records have come and how often time has moved on. Notices of one such event belong together; when those of another
    /// are taken is not for this to depend on.
    #[serde(skip)]
    pub(super) event: u64,
}

/// What the minutes of the whole stream cost, so that an episode can be told from ordinary spending.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pace {
    pub(super) windows: Windows<PicoUsd>,
    /// Those that have not been sampled yet.
    pub(super) minutes: VecDeque<i64>,
    /// The last minute in which a response came for a key with an alert that fired, or one began or ended.
    pub(super) disturbed: i64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            windows: Windows::new([60], SAMPLED_MINUTES),
            minutes: VecDeque::new(),
            disturbed: i64::MIN,
        }
    }

    pub(super) fn add(&mut self, at: Time, cost: PicoUsd) {
        self.windows.add(at.secs(), &cost);
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
        self.minutes.front().copied().map(sampled_at)
    }

    /// A minute after that one, in which no alert was on either, waits to be sampled.
    pub(super) fn has_ordinary_after(&self, minute: i64) -> bool {
        let disturbed = self.disturbed.max(minute);
        self.minutes.back().is_some_and(|last| *last > disturbed)
    }

    /// When a minute is sampled next, or could be if something comes.
    pub(super) fn next_sample_after(&self, now: Time) -> i64 {
        let next = self.next_sample().filter(|next| *next > now.secs());
        next.unwrap_or(sampled_at(now.minute()))
    }

    pub(super) fn sample(&mut self, now: Time, tellers: &mut [Teller], watches: &mut Watches) {
        while self.next_sample().is_some_and(|due| due <= now.secs())
            && let Some(minute) = self.minutes.front().copied()
        {
            self.minutes.pop_front();
            self.windows.advance(sampled_at(minute));
            let sample = self.windows.at(0).at_end_of(minute).map(|cost| cost.0);
            if let Some(sample) = sample.filter(|_| minute > self.disturbed) {
                for (n, teller) in tellers.iter_mut().enumerate() {
                    let is_ordinary = teller.sample(minute, sample, &watches.flow);
                    if is_ordinary && teller.is_within_own() {
                        watches.open(n);
                    }
                }
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
        self.clocks = None;
        self.cache.shift(ms);
        self.blind.shift(ms);
        self.pace.windows.shift(secs);
        for minute in &mut self.pace.minutes {
            *minute += secs.div_euclid(60);
        }
        self.pace.disturbed = self.pace.disturbed.saturating_add(secs.div_euclid(60));
        for spending in &mut self.spending {
            spending.shift(ms);
        }
        self.released = self.released.map(|second| second + secs);
        let timers = std::mem::take(&mut self.timers);
        let later = |Reverse((second, index, id)): Reverse<(i64, usize, u64)>| {
            Reverse((second + secs, index, id))
        };
        self.timers = timers.into_iter().map(later).collect();
    }

    /// A teller may have to look at what it withheld.
    pub(super) fn note_release(&mut self, voices: &Voices) {
        self.released = [self.released, voices.released_at()]
            .into_iter()
            .flatten()
            .min();
    }

    /// Takes a record into the windows of its key. False if one of them does not hold its moment any more.
    pub(super) fn arrive(
        &mut self,
        index: usize,
        scope: &mut Scope,
        arrival: &mut Arrival,
        tellers: &mut [Teller],
    ) -> bool {
        let Arrival {
            record,
            labels,
            at,
            miss,
            late,
            sums,
            portions,
            spoken,
        } = arrival;
        let (second, now) = (at.secs(), self.now.secs());
        let id = scope.key_of(labels);
        let key = if let Some(key) = scope.keys.get_mut(&id) {
            key
        } else {
            scope.open_key(id, labels, *at, |id| has_on(tellers, id));
            let Some(key) = scope.keys.get_mut(&id) else {
                return false;
            };
            key
        };
        key.windows.advance(now);
        key.judge_prompt(sums, record, *at, scope.min_prompt_tokens);
        sums.waste_told_by_run = spoken.run;
        sums.waste_told_by_window = spoken.window;
        let held = key.windows.add(second, sums);
        if let Some(secs) = scope.explained_secs.filter(|_| miss.is_some()) {
            let spoken = tellers.iter_mut().map(|teller| &mut teller.spoken);
            spoken.for_each(|spoken| spoken.add(self.event, (index, id), secs, second, now));
        }
        for miss in *late {
            key.note_miss(miss);
        }
        if scope.keeps_past {
            let last = key.last_usage.map(Time::minute);
            let is_new_minute = last.is_none_or(|last| last < at.minute());
            let past = match scope.pooled {
                Some(_) => &mut scope.past,
                None => key.past.get_or_insert_default(),
            };
            past.add(*at, is_new_minute, record, portions.as_ref());
        }
        key.note_arrival(record, *at, *miss, scope.keeps_last.then_some(labels));
        if scope.asks_for_odds && key.has_missed() {
            key.odds = Some(self.cache.odds(self.now));
        }
        if !self.is_brief {
            key.note_whom(*at, &record.labels, sums, portions.as_ref());
        }
        if scope.learns {
            key.note_minute(at.minute());
        }
        let is_plain = miss.is_none() && second >= now;
        let has_room = is_plain && key.has_room(&scope.asked, sums);
        if !has_room {
            key.forget_rooms();
        }
        if scope.own.is_some() {
            let cost = record.cost.unwrap_or_default();
            self.watches.flow.add(*at, cost, self.now);
        }
        // Most change nothing: nothing is on, and nothing comes to be.
        let look = || Look::after(!late.is_empty() || miss.is_some());
        let looking = scope.own.map(|_| self.watches.look(self.now, key, look()));
        let is_counted = has_room && record.cost.is_some();
        let pooled = scope.pooled.as_deref();
        let is_quiet = is_counted && key.calm.takes(sums)
            || key.is_at_rest() && stay_quiet(&self.cache, key, &scope.asked, pooled) && {
                let mut calm = std::mem::take(&mut key.calm);
                if is_counted {
                    calm.note_quiet(|| scope.asked.slack(&self.cache, key, pooled));
                    key.calm = calm;
                }
                true
            };
        let is_seen_to = has_room && scope.soon.sees_to(key, now);
        if is_quiet {
            match looking {
                _ if scope.is_own_by_key() => {
                    self.turn_by_key(index, scope, arrival, (has_room, is_seen_to), tellers);
                }
                Some(looking) => {
                    self.turn_to_own(index, scope, arrival, looking, is_seen_to, tellers);
                }
                None if !is_seen_to => self.schedule(index, scope, id, tellers),
                None => {}
            }
            return held;
        }
        // What an open alert has spoken for before this record; one that begins with it speaks for all that led to it.
        let told_before = spoken_for(scope, id);
        self.accrue_to_open(scope, id, arrival, tellers);
        let came = Came::of_response(&arrival.record.labels, has_room, looking);
        self.evaluate(index, scope, id, came, tellers);
        if arrival.miss.is_some() {
            let told = spoken_for(scope, id);
            arrival.spoken.add(&told, &told_before);
            speak_for_own(scope, arrival, self.event, tellers);
        }
        held
    }

    /// Adds what has come in to the episodes of a key that are on.
    fn accrue_to_open(
        &self,
        scope: &mut Scope,
        id: u64,
        arrival: &Arrival<'_>,
        tellers: &mut [Teller],
    ) {
        let Arrival {
            record,
            at,
            miss,
            late,
            ..
        } = arrival;
        let alerts = scope.keys.get_mut(&id).into_iter();
        let alerts = alerts.flat_map(|key| key.alerts.iter_mut().zip(&scope.rules));
        for (alert, rule) in alerts {
            if let Some(episode) = alert.open_mut() {
                for miss in *late {
                    accrue(episode, rule, record, miss.at, Some(miss), self.now);
                }
                accrue(episode, rule, record, *at, *miss, self.now);
            }
        }
        accrue_to_own(scope, arrival, self.now, tellers);
        accrue_by_key(scope, id, arrival, self.now, tellers);
    }

    /// Takes an error answer into the windows of its key.
    pub(super) fn arrive_error(
        &mut self,
        index: usize,
        scope: &mut Scope,
        error: &ErrorRecord,
        at: Time,
        tellers: &mut [Teller],
    ) {
        let labels = &error.labels;
        let id = scope.key_of(labels);
        scope.open_key(id, labels, at, |id| has_on(tellers, id));
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        key.advance(self.now);
        let sums = Sums {
            errors: 1,
            ..Sums::default()
        };
        key.windows.add(at.secs(), &sums);
        key.last_record = key.last_record.max(at);
        key.failures.note(at, error);
        for (alert, rule) in key.alerts.iter_mut().zip(&scope.rules) {
            if let Some(episode) = alert.open_mut() {
                accrue_error(episode, rule, at, self.now);
            }
        }
        if scope.own.is_some() {
            for own in tellers.iter_mut().filter_map(|teller| teller.own.as_mut()) {
                own.accrue_error(at, self.now);
            }
        }
        let came = Came::Arrived(Arrived {
            labels,
            is_response: false,
            is_plain: false,
            looking: None,
        });
        self.evaluate(index, scope, id, came, tellers);
    }

    /// Samples the minutes that are due, for the rules that learn. Gives why rules are to be read then.
    pub(super) fn sample(
        &mut self,
        scope: &mut Scope,
        id: u64,
        tellers: &mut [Teller],
    ) -> Came<'static> {
        let mut came = Came::Nothing;
        let is_own_by_key = scope.is_own_by_key();
        let Some(key) = scope.keys.get_mut(&id) else {
            return came;
        };
        key.advance(self.now);
        let mut adapts = false;
        while key.next_sample().is_some_and(|due| due <= self.now.secs()) {
            let Some(minute) = key.minutes.pop_front() else {
                break;
            };
            came = Came::Sampled;
            for (slot, rule) in scope
                .rules
                .iter()
                .enumerate()
                .filter(|(slot, r)| r.limit.learns() && scope.asked.own != Some(*slot))
            {
                let Some(sample) = key.sample(rule, minute) else {
                    continue;
                };
                let baseline = match &mut scope.pooled {
                    Some(pooled) => &mut pooled[slot],
                    None => &mut key.baselines[slot],
                };
                let episode = key.alerts[slot].episode.as_deref();
                let Some(held) = hold(episode, rule, minute, sample) else {
                    baseline.add(minute, sample);
                    continue;
                };
                let others = key.held.entry(slot).or_default();
                keep(others, held);
                let mut has_learned = false;
                for sample in ripe(others, minute) {
                    baseline.take(sample);
                    has_learned = true;
                }
                let episode = key.alerts[slot].open_mut().filter(|_| has_learned);
                let (variants, usual) = (self.variants.as_ref(), baseline.usual());
                if episode.is_some_and(|e| e.adapt(rule, variants, usual, self.now)) {
                    adapts = true;
                }
            }
            if std::mem::take(&mut adapts) {
                key.forget_rooms();
            }
            if is_own_by_key {
                for own in tellers
                    .iter_mut()
                    .filter_map(|teller| teller.by_key.as_mut())
                {
                    own.sample(key, id, minute, self.now);
                }
            }
            let own = tellers.iter_mut().filter(|_| scope.own.is_some());
            for (n, own) in own.enumerate() {
                if own
                    .own
                    .as_mut()
                    .is_some_and(|own| own.sample(key, minute, self.now))
                {
                    self.watches.open(n);
                }
            }
        }
        came
    }

    /// Reads all rules of a key, moves their alerts, and has told what is due.
    pub(super) fn evaluate(
        &mut self,
        index: usize,
        scope: &mut Scope,
        id: u64,
        came: Came<'_>,
        tellers: &mut [Teller],
    ) {
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        let arrived = came.arrived();
        key.advance(self.now);
        key.calm = Calm::default();
        let mut due = std::mem::take(&mut self.due);
        find_due(
            &self.cache,
            key,
            &scope.asked,
            scope.pooled.as_deref(),
            came.adds(),
            &mut due,
        );
        let is_plain = came.is_plain();
        let is_settled = |slot: &usize| {
            let place = Place {
                index,
                id,
                slot: *slot,
            };
            let (alert, rule) = (&key.alerts[*slot], &scope.rules[*slot]);
            tellers
                .iter()
                .all(|teller| teller.is_settled(self.now, place, alert, rule))
        };
        let goes_on = is_plain && due.iter().all(is_settled);
        let mut has_changed = !due.is_empty() && !goes_on;
        let mut moves = false;
        let labels = came.labels();
        for slot in due.iter().copied() {
            if goes_on {
                // It adds to what was told already, and changes nothing.
                if let Some(key) = scope.keys.get_mut(&id) {
                    key.alerts[slot].go_on(self.now);
                }
                self.note_disturbance(&scope.rules[slot]);
            } else {
                moves |= self.step(index, scope, id, slot, came, tellers);
            }
        }
        self.due = due;
        let is_told_of = has_changed;
        if scope.is_own_by_key() {
            has_changed |= self.step_by_key(index, scope, id, came, is_told_of, tellers);
        } else if scope.own.is_some() {
            let looking = arrived.and_then(|arrived| arrived.looking);
            let looking = looking.unwrap_or_else(|| {
                let look = arrived.map_or(Look::Tick, |_| Look::Plain);
                self.watches.look(self.now, &scope.keys[&id], look)
            });
            has_changed |= self.step_own(scope, id, looking, labels, !is_told_of, tellers);
        }
        if is_told_of {
            for (n, teller) in tellers.iter_mut().enumerate() {
                if teller.tell(self, index, scope, id, labels, None) || moves {
                    teller.forget_next_of([(index, id)]);
                    if teller.own.is_some() {
                        self.watches.open(n);
                    }
                }
            }
        }
        let goes_on = goes_on && !has_changed;
        let key = scope.keys.get(&id).filter(|_| goes_on);
        if key.is_some_and(|key| scope.soon.sees_to(key, self.now.secs())) {
            return;
        }
        self.schedule(index, scope, id, tellers);
    }

    /// Sees to it that a key is looked at when time alone may change something.
    pub(super) fn schedule(
        &mut self,
        index: usize,
        scope: &mut Scope,
        id: u64,
        tellers: &mut [Teller],
    ) {
        let forgets = scope.forgets;
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        let now = self.now.secs();
        let until_clear = |slot: usize, alert: &Alert, rule: &Rule| {
            let episode = alert.open().filter(|_| rule.only_rises())?;
            let place = Place { index, id, slot };
            tellers
                .iter()
                .all(|teller| teller.is_settled(self.now, place, alert, rule))
                .then(|| (episode.step, self.ends_under(rule, episode)))
        };
        let asked = &scope.asked;
        let change = key.next_change(&self.cache, asked, forgets, now, until_clear);
        let may_be_told = !key.is_at_rest();
        let told = if scope.is_own_by_key() {
            self.next_by_key(index, scope, id, tellers)
        } else if scope.own.is_some() {
            self.next_of_own(index, scope, id, tellers)
        } else {
            let tellers = tellers.iter_mut().filter(|_| may_be_told);
            let told = tellers.filter_map(|teller| teller.look_ahead(self, index, scope, id));
            told.min()
        };
        let next = change.into_iter().chain(told).min();
        if let Some((next, key)) = next.zip(scope.keys.get_mut(&id)) {
            self.look_at(next, index, id, key);
        }
    }

    /// Sees to it that a key is looked at in this second at the latest.
    pub(super) fn look_at(&mut self, second: i64, index: usize, id: u64, key: &mut Key) {
        if key.scheduled.is_none_or(|scheduled| second < scheduled) {
            key.scheduled = Some(second);
            self.timers.push(Reverse((second, index, id)));
        }
    }

    /// The highest of what an episode has to be clear of to end.
    fn ends_under(&self, rule: &Rule, episode: &Episode) -> Amount {
        let variants = self.variants.as_ref();
        let highest = variants
            .filter(|variants| variants.in_force().name == rule.name)
            .and_then(Variants::least_sensitive)
            .and_then(|rule| rule.limit_on(episode.basis));
        episode.ends_under(highest.unwrap_or(episode.limit))
    }

    /// The present minute is no ordinary one: an alert is on.
    fn note_disturbance(&mut self, rule: &Rule) {
        if !rule.metric.is_announcement() {
            self.pace.disturbed = self.pace.disturbed.max(self.now.minute());
        }
    }

    /// Reads a rule of a key and moves its alert. False if its episode is where it was in its life.
    fn step(
        &mut self,
        index: usize,
        scope: &mut Scope,
        id: u64,
        slot: usize,
        came: Came<'_>,
        tellers: &mut [Teller],
    ) -> bool {
        let place = Place { index, id, slot };
        let Some(key) = scope.keys.get_mut(&id) else {
            return false;
        };
        key.advance(self.now);
        let pooled = scope.pooled.as_ref().and_then(|pooled| pooled.get(slot));
        let usual = pooled
            .or_else(|| key.baselines.get(slot))
            .map(|baseline| baseline.usual_at(key.last_record))
            .unwrap_or_default();
        let (conversation, is_pooled) = (key.labels.conversation, pooled.is_some());
        let mut alert = std::mem::take(&mut key.alerts[slot]);
        // Borrowed: to count those who hold it would be costly where many evaluators share it.
        let rule = &*scope.rules[slot];
        let step = Step {
            now: self.now,
            rule,
            variants: self.variants.as_ref(),
            usual,
            is_told: tellers.iter().any(|t| t.is_told_open(place, &alert)),
            may_begin: came.adds() || !takes_more(rule, is_pooled),
            arrived: came.labels(),
        };
        let stepped = step.take(&mut self.cache, scope, id, &mut alert);
        if rule.metric == Metric::MissRun && alert.phase != stepped.before {
            match alert.phase {
                Phase::Firing => self.cache.run_was_told(conversation),
                Phase::Closed { .. } if stepped.reading == Reading::Stale => {
                    self.cache.forget_run(conversation);
                }
                _ => {}
            }
        }
        if stepped.disturbs(came.is_response()) {
            self.note_disturbance(rule);
        }
        let is_unheard = stepped.ends && self.resuming && !rule.metric.is_announcement();
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
                for sample in samples {
                    baseline.take(sample);
                }
            }
            if is_over {
                for teller in tellers.iter_mut() {
                    teller.forget(place);
                }
            }
        }
        if is_unheard {
            for teller in tellers {
                teller.note_unheard(self, scope, place);
            }
        }
        stepped.moves
    }
}

#[cfg(test)]
mod tests {
    use super::super::usual::Baseline;
    use super::*;

    /// Of the minutes that are sampled together each counts with all that it cost, the first as the last.
    #[test]
    fn each_minute_counts_with_all_that_it_cost() {
        let (mut pace, mut watches) = (Pace::new(), Watches::default());
        let mut tellers = [Teller::default()];
        for second in 0..3600 {
            let at = Time::from_secs(second);
            pace.sample(at, &mut tellers, &mut watches);
            // Each minute costs more than the one before it.
            pace.add(at, PicoUsd(i128::from(at.minute() + 1) * 1_000_000));
        }
        let ordinary = &tellers[0].ordinary;
        let expected = (1..=55).map(|minute| minute * 60_000_000);
        let mut known = Baseline::default();
        expected
            .zip(0..)
            .for_each(|(cost, minute)| known.add(minute, cost));
        assert_eq!(
            ordinary.usual(),
            known.usual(),
            "the last may still cost more"
        );
    }
}
