//! What time alone does: ticks that are due, what is withheld no longer, clocks that are changed, and one that is put right.
//!
//! Reads no clock: to which moment time has come is for whoever calls to say.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::arrival::Came;
use super::evaluator::Evaluator;
use super::key::Key;
use super::metric::Metric;
use super::record::{Labels, Time};
use super::rule::Rule;
use super::settings::{has_on, is_for_own};
use super::tell::Teller;

impl Evaluator {
    /// Runs all ticks up to a moment. Time never goes back.
    pub fn advance(&mut self, to: Time) {
        loop {
            let timer = self.state.timers.peek().copied();
            let is_next = |second: &i64| timer.is_none_or(|Reverse((next, ..))| *second <= next);
            if let Some(second) = self.state.released.filter(is_next) {
                if Time::from_secs(second) > to {
                    break;
                }
                self.release(second);
                continue;
            }
            let Some(Reverse((second, index, id))) = timer else {
                break;
            };
            if Time::from_secs(second) > to {
                break;
            }
            self.state.timers.pop();
            let scope = &mut self.scopes[index];
            let due = |key: &&mut Box<Key>| key.scheduled == Some(second);
            let Some(key) = scope.keys.get_mut(&id).filter(due) else {
                continue;
            };
            key.scheduled = None;
            if scope.forgets
                && let Some(key) = scope.keys.get(&id)
                && scope.is_over(key, second)
                && !(scope.is_own_by_key() && has_on(&self.tellers, id))
            {
                scope.keys.remove(&id);
                continue;
            }
            self.enter(second);
            let scope = &mut self.scopes[index];
            if scope
                .keys
                .get(&id)
                .is_some_and(|key| is_for_own(scope, key, second))
            {
                self.state.tick_own(index, scope, id, &mut self.tellers);
                continue;
            }
            let came = self.state.sample(scope, id, &mut self.tellers);
            self.state
                .evaluate(index, scope, id, came, &mut self.tellers);
            let now = self.state.now.secs();
            if scope.forgets
                && let Some(key) = scope.keys.get(&id)
                && scope.may_forget(key, now)
                && !(scope.is_own_by_key() && has_on(&self.tellers, id))
            {
                scope.keys.remove(&id);
            }
        }
        let whole = Time::from_secs(to.secs());
        if self.state.now.0 > i64::MIN / 2 {
            self.state.now = self.state.now.max(whole);
        }
        self.pass();
    }

    /// Time comes to a second.
    fn enter(&mut self, second: i64) {
        let (state, second) = (&mut self.state, Time::from_secs(second));
        if state.now < second {
            state.event += 1;
            state.now = second;
        }
        self.pass();
    }

    /// What is due now whatever comes: minutes are over, and periods; clocks are changed.
    fn pass(&mut self) {
        let state = &mut self.state;
        let (now, pace) = (state.now, &mut state.pace);
        pace.sample(now, &mut self.tellers, &mut state.watches);
        self.end_periods();
        if self.state.clocks.is_none_or(|(_, until)| now >= until) {
            self.ask_for_clocks(now);
        }
    }

    /// Clocks are changed on the half-hour, if they are. What goes with the hours of the day may come at another time from then on.
    #[cold]
    fn ask_for_clocks(&mut self, now: Time) {
        let change = self.calendar.clock_change(now);
        let until = Time::from_secs((now.secs().div_euclid(1_800) + 1) * 1_800);
        let known = self.state.clocks.replace((change, until));
        if known.is_some_and(|(known, _)| known == change) {
            return;
        }
        let of_scopes = self.scopes.iter_mut().flat_map(|scope| {
            let of_keys = scope.keys.values_mut().map(|key| &mut key.baselines);
            of_keys.chain(&mut scope.pooled).flatten()
        });
        let own = self.tellers.iter_mut().filter_map(Teller::own_rule_mut);
        for baseline in of_scopes.chain(own.map(|own| &mut own.baseline)) {
            baseline.change_clocks(change);
        }
    }

    /// One of those that spoke for others has ended: looks at all that was withheld, for whichever teller, in one order.
    fn release(&mut self, second: i64) {
        self.state.released = None;
        let mut withheld = BTreeSet::new();
        for (n, teller) in self.tellers.iter_mut().enumerate() {
            if teller.voices.released_at().is_none_or(|at| at > second) {
                self.state.note_release(&teller.voices);
                continue;
            }
            let mut released = teller.release();
            teller.forget_next_of(released.iter().copied());
            withheld.append(&mut released);
            if teller.own.is_some() {
                self.state.watches.open(n);
            }
        }
        if withheld.is_empty() {
            return;
        }
        self.enter(second);
        for (index, id) in withheld {
            let scope = &mut self.scopes[index];
            self.state
                .evaluate(index, scope, id, Came::Released, &mut self.tellers);
        }
    }

    /// A first response is due by then, though none ever came: until then nothing is silent, after it everything that is
    /// watched for silence as a whole.
    pub fn expect_by(&mut self, deadline: Time) {
        for index in 0..self.scopes.len() {
            let scope = &mut self.scopes[index];
            let is_silence = |rule: &Arc<Rule>| rule.metric == Metric::Silence;
            if !scope.by.is_empty() || !scope.rules.iter().any(is_silence) {
                continue;
            }
            let labels = Arc::new(Labels::default());
            let id = scope.key_of(&labels);
            scope.open_key(id, &labels, self.state.now, |id| has_on(&self.tellers, id));
            if let Some(key) = scope.keys.get_mut(&id) {
                key.expected_by = Some(deadline);
            }
            self.state
                .schedule(index, &mut self.scopes[index], id, &mut self.tellers);
        }
    }

    /// The clock was wrong by so many milliseconds and has been put right: all that is remembered moves with it, so that windows
    /// and alerts go on as if it had been right before. What was learned, counted and told stays as it is.
    pub fn shift(&mut self, ms: i64) {
        self.state.shift(ms);
        for teller in &mut self.tellers {
            teller.shift(ms);
        }
        let keys = self.scopes.iter_mut().flat_map(|s| s.keys.values_mut());
        for key in keys {
            key.shift(ms);
        }
        for scope in &mut self.scopes {
            scope.past.shift(ms / 1000);
            if let Some(other) = &mut scope.other {
                other.shift(ms / 1000);
            }
        }
    }
}
