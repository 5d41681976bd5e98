//! A look at the rules that tellers judge, each for itself: alone where nothing else of a key can have changed, or after all others.
//!
//! Which of them have to look is for their watches to say, or for what they know of the key. What follows from it for a rule is that
//! rule's business.

use std::sync::Arc;

use super::own::{Own, is_of_flow};
use super::own_by_key::UNKNOWN;
use super::watch::{Look, Looking};
use crate::monitor::arrival::{Arrival, Came};
use crate::monitor::key::Key;
use crate::monitor::metric::Metric;
use crate::monitor::record::{Labels, Time};
use crate::monitor::scope::Scope;
use crate::monitor::state::State;
use crate::monitor::tell::{Place, Teller};
use crate::price::PicoUsd;

/// Time alone changes nothing but for rules that tellers judge, at this second: it is for them only to look.
pub(in crate::monitor) fn is_for_own(scope: &Scope, key: &Key, second: i64) -> bool {
    scope.own.is_some()
        && second < key.others_until
        && key.retry != Some(second)
        && key.is_at_rest()
}

/// Adds what has come in to the episodes of rules that tellers judge, as far as these do not follow the stream.
pub(in crate::monitor) fn accrue_to_own(
    scope: &Scope,
    arrival: &Arrival<'_>,
    now: Time,
    tellers: &mut [Teller],
) {
    let is_miss = arrival.is_miss();
    if scope
        .own
        .is_none_or(|slot| !is_miss || is_of_flow(&scope.rules[slot]))
    {
        return;
    }
    let (record, at) = (arrival.record, arrival.at);
    for own in tellers.iter_mut().filter_map(|teller| teller.own.as_mut()) {
        for miss in arrival.late {
            own.accrue(record, miss.at, Some(miss), now);
        }
        own.accrue(record, at, arrival.miss, now);
    }
}

/// Notes for each teller what its own rule, if that is about waste, has spoken for of a miss: what came to its episode by it, or all
/// that led to one that begins with it.
pub(in crate::monitor) fn speak_for_own(
    scope: &Scope,
    arrival: &Arrival<'_>,
    event: u64,
    tellers: &mut [Teller],
) {
    let is_of_waste = |slot: usize| scope.rules[slot].metric == Metric::CacheWaste;
    let is_told = arrival.spoken.run != PicoUsd::ZERO;
    if arrival.miss.is_none() || is_told || !scope.own.is_some_and(is_of_waste) {
        return;
    }
    for teller in tellers {
        let waste = teller.own.as_ref().and_then(Own::spoken_for);
        if let Some(waste) = waste {
            teller.spoken.note(event, waste);
        }
    }
}

/// A teller has something on for a key, by a rule that it judges for each.
pub(in crate::monitor) fn has_on(tellers: &[Teller], id: u64) -> bool {
    let mut own = tellers.iter().filter_map(|teller| teller.by_key.as_ref());
    own.any(|own| own.has_on(id))
}

/// Adds what has come in for a key to the episodes of rules that tellers judge for each.
pub(in crate::monitor) fn accrue_by_key(
    scope: &Scope,
    id: u64,
    arrival: &Arrival<'_>,
    now: Time,
    tellers: &mut [Teller],
) {
    let tellers = tellers.iter_mut().filter(|_| scope.is_own_by_key());
    for own in tellers.filter_map(|teller| teller.by_key.as_mut()) {
        own.accrue(id, arrival, now);
    }
}

impl State {
    /// A record has come that leaves all rules of its key quiet but those of the tellers that have to look. With `is_seen_to` the
    /// others are looked at before it could change anything for them by growing old.
    pub(in crate::monitor) fn turn_to_own(
        &mut self,
        index: usize,
        scope: &mut Scope,
        arrival: &Arrival<'_>,
        looking: Looking,
        is_seen_to: bool,
        tellers: &mut [Teller],
    ) {
        let id = scope.key_of(arrival.labels);
        let now = self.now.secs();
        accrue_to_own(scope, arrival, self.now, tellers);
        let has_changed = !looking.is_empty() && {
            let labels = &arrival.record.labels;
            self.step_own(scope, id, looking, Some(labels), true, tellers)
        };
        speak_for_own(scope, arrival, self.event, tellers);
        if !is_seen_to {
            self.schedule(index, scope, id, tellers);
            return;
        }
        let is_own_seen_to = !self.watches.look_by_expiry()
            || scope
                .keys
                .get(&id)
                .is_some_and(|key| scope.soon.sees_to_own(key, now));
        if has_changed || !is_own_seen_to {
            self.schedule_own(index, scope, id, tellers);
        }
    }

    /// Time alone has changed nothing but for rules that tellers judge.
    pub(in crate::monitor) fn tick_own(
        &mut self,
        index: usize,
        scope: &mut Scope,
        id: u64,
        tellers: &mut [Teller],
    ) {
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        key.advance(self.now);
        let looking = self.watches.look(self.now, key, Look::Tick);
        self.step_own(scope, id, looking, None, true, tellers);
        self.schedule_own(index, scope, id, tellers);
    }

    /// Sees to it that a key is looked at when time alone may change something, if nothing has changed for the rules that no teller
    /// judges.
    fn schedule_own(&mut self, index: usize, scope: &mut Scope, id: u64, tellers: &mut [Teller]) {
        let next = self.next_of_own(index, scope, id, tellers);
        let Some(key) = scope.keys.get_mut(&id) else {
            return;
        };
        let now = self.now.secs();
        let others = [Some(key.others_until), key.retry].into_iter().flatten();
        let next = others.chain(next).filter(|second| *second > now).min();
        if let Some(next) = next.filter(|second| *second < i64::MAX) {
            self.look_at(next, index, id, key);
        }
    }

    /// Has tellers look, and with `tells` tell what is due. False if all is as it was, and nothing may be due.
    pub(in crate::monitor) fn step_own(
        &mut self,
        scope: &mut Scope,
        id: u64,
        mut looking: Looking,
        arrived: Option<&Arc<Labels>>,
        tells: bool,
        tellers: &mut [Teller],
    ) -> bool {
        let mut has_changed = false;
        while let Some(n) = self.watches.take(&mut looking) {
            let teller = &mut tellers[n];
            let Some(index) = self.step_one(scope, teller, id, arrived) else {
                continue;
            };
            if tells {
                has_changed = true;
                teller.tell(self, index, scope, id, arrived, None);
            }
            teller.forget_next();
        }
        has_changed
    }

    /// When one of them has to look if nothing comes. Works out the watches of those that have looked.
    pub(in crate::monitor) fn next_of_own(
        &mut self,
        index: usize,
        scope: &Scope,
        id: u64,
        tellers: &mut [Teller],
    ) -> Option<i64> {
        while let Some(n) = self.watches.take_stale() {
            tellers[n].look_ahead(self, index, scope, id);
            self.watches.set(n, tellers[n].watch(self, scope, id));
        }
        let now = self.now.secs();
        let expiry = scope.next_expiry_of_own(id, now);
        let key = scope.keys.get(&id);
        key.and_then(|key| self.watches.next(key, now, expiry))
    }

    /// Moves the alert of a teller's own rule. Gives its scope, or none if it is as it was, and nothing of it may be due.
    fn step_one(
        &mut self,
        scope: &mut Scope,
        teller: &mut Teller,
        id: u64,
        arrived: Option<&Arc<Labels>>,
    ) -> Option<usize> {
        let own = teller.own.as_mut()?;
        own.settle(&self.watches.flow);
        let key = &scope.keys[&id];
        if own.stays(&self.cache, key, self.now) {
            return None;
        }
        let place = Place {
            index: own.of.index,
            id,
            slot: own.of.slot,
        };
        let own = teller.own.as_ref()?;
        let is_known = teller.is_known(self.now, place, &own.alert, &own.of.rule);
        let goes_on = is_known && own.stays_on(key);
        let is_told = teller.is_told_open(place, &own.alert);
        let own = teller.own.as_mut()?;
        if goes_on {
            own.go_on(self.now);
            return None;
        }
        own.step(&mut self.cache, self.now, scope, id, is_told, arrived);
        if own.alert.episode.is_none() {
            teller.forget(place);
        }
        Some(place.index)
    }

    /// A record has come that leaves all rules of its key quiet but those that tellers judge for each key. `is_plain` and `is_seen_to`
    /// are as elsewhere.
    pub(in crate::monitor) fn turn_by_key(
        &mut self,
        index: usize,
        scope: &mut Scope,
        arrival: &Arrival<'_>,
        (is_plain, is_seen_to): (bool, bool),
        tellers: &mut [Teller],
    ) {
        let id = scope.key_of(arrival.labels);
        accrue_by_key(scope, id, arrival, self.now, tellers);
        let came = Came::of_response(&arrival.record.labels, is_plain, None);
        if self.step_by_key(index, scope, id, came, false, tellers) || !is_seen_to {
            self.schedule(index, scope, id, tellers);
        }
    }

    /// Has tellers look at the rule that they judge for each key, and tell what is due, if all that is on for it is not told of
    /// afterwards in any case. False if all is as it was, and nothing may be due.
    pub(in crate::monitor) fn step_by_key(
        &mut self,
        index: usize,
        scope: &mut Scope,
        id: u64,
        came: Came<'_>,
        is_told_of: bool,
        tellers: &mut [Teller],
    ) -> bool {
        let mut has_changed = false;
        let (now, adds) = (self.now, came.adds());
        let until = match came {
            _ if is_told_of => i64::MAX,
            Came::Sampled => i64::MAX,
            Came::Released => UNKNOWN,
            _ => now.secs(),
        };
        for teller in tellers {
            let Some(own) = teller.by_key.as_deref() else {
                continue;
            };
            if own.stays(&self.cache, &scope.keys[&id], id, adds, until) {
                continue;
            }
            let (place, alert) = (own.place(id), own.alert(id));
            let goes_on = came.is_plain() && teller.is_settled(now, place, alert, &own.of.rule);
            let is_told = teller.is_told_open(place, alert);
            let Some(own) = teller.by_key.as_deref_mut() else {
                continue;
            };
            if goes_on {
                own.go_on(id, now);
                continue;
            }
            own.step(&mut self.cache, scope, id, is_told, came, now);
            if own.alert(id).episode.is_none() {
                teller.forget(place);
            }
            has_changed = true;
            if !is_told_of {
                teller.tell(self, index, scope, id, came.labels(), None);
            }
        }
        has_changed
    }

    /// When one of them has to look at a key if nothing comes.
    pub(in crate::monitor) fn next_by_key(
        &self,
        index: usize,
        scope: &Scope,
        id: u64,
        tellers: &mut [Teller],
    ) -> Option<i64> {
        let key = scope.keys.get(&id)?;
        let (now, is_at_rest) = (self.now.secs(), key.is_at_rest());
        let mut first = i64::MAX;
        for teller in tellers {
            let Some(own) = teller.by_key.as_deref() else {
                continue;
            };
            let known = own.next_of(id);
            // What is due at this second is looked at in it still.
            let is_due = known.is_some_and(|next| UNKNOWN < next && next <= now);
            if is_due || is_at_rest && known != Some(UNKNOWN) {
                let later = known.filter(|_| !is_due);
                first = first.min(later.unwrap_or(i64::MAX));
                continue;
            }
            let mut next = teller.next_change(self, index, scope, id);
            if known.is_some() {
                let is_settled =
                    teller.is_settled(self.now, own.place(id), own.alert(id), &own.of.rule);
                let moves = own.next_change(key, id, is_settled, now);
                let retry = key.retry.filter(|second| *second > now);
                next = [next, moves, retry].into_iter().flatten().min();
            }
            let next = next.unwrap_or(i64::MAX);
            first = first.min(next);
            if let Some(own) = teller.by_key.as_deref_mut() {
                own.set_next(id, next);
            }
        }
        (first < i64::MAX).then_some(first)
    }
}
