//! One evaluator for several settings of one rule, for as long as they can share it.
//!
//! Settings that have all led to the same so far have one teller. Where the rule is one that tellers judge for themselves, an
//! evaluator has as many tellers as its settings have led to different things; where it is not, those that part need an evaluator
//! each.

mod own;
mod own_by_key;
mod own_rule;
mod spoken;
mod turn;
mod watch;

pub(super) use own::Own;
pub(super) use own_by_key::OwnByKey;
pub(super) use own_rule::OwnRule;
pub(super) use spoken::SpokenByOwn;
pub(super) use turn::{accrue_by_key, accrue_to_own, has_on, is_for_own, speak_for_own};
pub(super) use watch::{Flow, Look, Looking, NEVER, Watch, Watches};

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use super::alert::Notice;
use super::evaluator::Evaluator;
use super::reading::limit_of;
use super::rule::Rule;
use super::tell::Teller;
use super::variants::Variants;
use own::can_be_own;
use own_by_key::can_be_own_by_key;

impl Evaluator {
    /// Lets a rule stand for others that differ in one number alone, the most sensitive first. From now on
    /// [`kept`](Self::kept) tells which of them would have led to the same. Episodes that are on go on with the limits of the rule
    /// that is in force from now on, as if it had always been.
    pub fn stand_for(&mut self, rules: Vec<Arc<Rule>>) {
        self.part(vec![(0, rules)]);
    }

    /// Goes on with these tellers, of which each stands for these rules. It takes [`is_shared`](Self::is_shared) to go on with
    /// more than one.
    pub fn part(&mut self, parts: Vec<(usize, Vec<Arc<Rule>>)>) {
        let name = parts.first().and_then(|(_, rules)| rules.first());
        let Some(name) = name.map(|rule| Arc::clone(&rule.name)) else {
            return;
        };
        let scopes = self.scopes.iter_mut().enumerate();
        let mut places = scopes.filter_map(|(index, scope)| {
            let slot = scope.rules.iter().position(|rule| rule.name == name)?;
            Some((index, slot, scope))
        });
        let Some((index, slot, scope)) = places.next() else {
            return;
        };
        // Its alerts are those of the keys, once there are any.
        if scope.asked.own.is_none() && scope.keys.is_empty() {
            let rules = parts.iter().flat_map(|(_, rules)| rules);
            let rules: Vec<Arc<Rule>> = rules.cloned().collect();
            if rules.iter().all(|rule| can_be_own(rule)) || can_be_own_by_key(scope, &rules) {
                scope.leave(slot, &rules);
            }
        }
        if scope.asked.own == Some(slot) {
            let parted = parts.into_iter().map(|(teller, rules)| {
                let mut teller = self.tellers[teller].clone();
                match (&mut teller.own, &mut teller.by_key) {
                    (Some(own), _) => own.stand_for(scope, rules),
                    (_, Some(own)) => own.stand_for(scope, rules),
                    _ if scope.is_own_by_key() => {
                        teller.by_key = Some(Box::new(OwnByKey::new(index, slot, scope, rules)));
                    }
                    _ => teller.own = Some(Own::new(index, slot, scope, rules)),
                }
                teller
            });
            self.tellers = parted.collect();
            self.state.watches.forget(self.tellers.len());
            return;
        }
        let Some((_, rules)) = parts.into_iter().next() else {
            return;
        };
        let variants = Variants::new(rules);
        let (rule, asked) = (variants.in_force(), variants.most_sensitive());
        scope.rules[slot] = Arc::clone(rule);
        scope.asked.rules[slot] = Arc::clone(asked);
        scope.work_out();
        for key in scope.keys.values_mut() {
            if let Some(episode) = key.alerts[slot].episode.as_deref_mut()
                && let Some(limit) = limit_of(rule, episode)
            {
                episode.limit = limit;
            }
        }
        self.state.variants = Some(variants).filter(|variants| variants.rules().len() > 1);
    }

    /// Whether settings that part can go on in this evaluator.
    pub fn is_shared(&self) -> bool {
        self.scopes.iter().any(|scope| scope.asked.own.is_some())
    }

    /// Which of the rules that a teller's own stands for have led to the same so far; none if it stands for itself alone.
    pub fn kept(&self, teller: usize) -> Option<Range<usize>> {
        let own = self.tellers.get(teller).and_then(Teller::own_rule);
        let own = own.and_then(|own| own.variants.as_ref());
        own.or(self.state.variants.as_ref()).map(Variants::kept)
    }

    /// Takes the notices that a teller has given since the last call.
    pub fn take_notices_of(&mut self, teller: usize) -> Vec<Notice> {
        std::mem::take(&mut self.tellers[teller].notices)
    }

    /// Takes over the tellers of another one that has seen the same. They come after its own.
    pub fn absorb(&mut self, mut other: Self) {
        // From here on they count the same.
        let flow = self.state.watches.flow;
        for teller in &mut other.tellers {
            teller.settle(&other.state.watches.flow);
            teller.end_event();
            if let Some(own) = &mut teller.own {
                own.set_seen(&flow);
            }
        }
        self.tellers.extend(other.tellers);
        self.state.watches.forget(self.tellers.len());
        for teller in &self.tellers {
            self.state.note_release(&teller.voices);
        }
        for (scope, of_other) in self.scopes.iter_mut().zip(&other.scopes) {
            let is_by_key = scope.is_own_by_key();
            for (id, key) in of_other.keys.iter().filter(|_| is_by_key) {
                // What one of them has something on for the others may have forgotten.
                scope.keys.entry(*id).or_insert_with(|| {
                    let mut key = key.clone();
                    key.scheduled = None;
                    key
                });
            }
            for (id, of_other) in &of_other.keys {
                if let (Some(key), Some(retry)) = (scope.keys.get_mut(id), of_other.retry) {
                    key.retry = Some(key.retry.map_or(retry, |known| known.min(retry)));
                }
            }
        }
        // What one of them is to look at, both do.
        for Reverse((second, index, id)) in other.state.timers {
            let key = self.scopes[index].keys.get_mut(&id);
            let Some(key) = key.filter(|key| key.scheduled.is_none_or(|at| second < at)) else {
                continue;
            };
            key.scheduled = Some(second);
            self.state.timers.push(Reverse((second, index, id)));
        }
    }
}
