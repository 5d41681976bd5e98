//! What an evaluator remembers across runs, and what has become of what it told: said by another run, heard by nobody, not wanted.
//!
//! Knows no file. Where it is kept is known outside the core.

use std::collections::HashSet;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::alert::Alert;
use super::evaluator::Evaluator;
use super::key::Key;
use super::rule::Rule;
use super::state::State;
use super::tell::{Place, Reason, Teller};
use super::usual::Baseline;
use super::who::Past;
use super::window::Windows;

type Keys = FxHashMap<u64, Box<Key>>;
type Pooled = Option<Vec<Baseline>>;

/// What an evaluator remembers, without its rules.
#[derive(Debug, Serialize)]
pub struct Memory<'a> {
    scopes: Vec<(&'a Keys, &'a Pooled, &'a Option<Windows>, &'a Past)>,
    state: &'a State,
    tellers: &'a [Teller],
}

/// What another evaluator with the same rules remembered.
#[derive(Debug, Deserialize)]
pub struct Remembered {
    scopes: Vec<(Keys, Pooled, Option<Windows>, Past)>,
    state: State,
    tellers: Vec<Teller>,
}

impl Evaluator {
    /// All that it remembers, to be taken up again by [`restore`](Self::restore).
    pub fn memory(&self) -> Memory<'_> {
        Memory {
            scopes: self
                .scopes
                .iter()
                .map(|scope| (&scope.keys, &scope.pooled, &scope.other, &scope.past))
                .collect(),
            state: &self.state,
            tellers: &self.tellers,
        }
    }

    /// Takes up what an evaluator with the same settings remembered. It is silent until [`go_live`](Self::go_live). False if it
    /// cannot be that of these rules; nothing is changed then.
    pub fn restore(&mut self, remembered: Remembered) -> bool {
        let Remembered {
            scopes,
            state,
            tellers,
        } = remembered;
        let fits = scopes.len() == self.scopes.len()
            && tellers.len() == self.tellers.len()
            && state.spending.len() == self.budgets.len()
            && scopes.iter().zip(&self.scopes).all(|((keys, ..), scope)| {
                let mut alerts = keys.values().map(|key| key.alerts.len());
                alerts.all(|n| n == scope.rules.len())
            });
        if !fits {
            return false;
        }
        for ((keys, pooled, other, past), scope) in scopes.into_iter().zip(&mut self.scopes) {
            scope.past = past;
            scope.keys = keys;
            scope.pooled = pooled;
            scope.other = other;
        }
        self.state = state;
        self.tellers = tellers;
        self.state.resuming = true;
        true
    }

    /// The episodes that are on and have been told.
    pub fn told_episodes(&self) -> Vec<u64> {
        let budgets = self.budgets.iter().zip(&self.state.spending);
        let mut told: Vec<u64> = budgets
            .filter_map(|(budget, spending)| budget.told(spending))
            .collect();
        for teller in &self.tellers {
            for (place, _, alert) in self.alerts() {
                let episode = alert.open().filter(|_| teller.is_told_open(place, alert));
                told.extend(episode.map(|episode| episode.id));
            }
        }
        told
    }

    /// All alerts, each with its rule and where it is.
    fn alerts(&self) -> impl Iterator<Item = (Place, &Rule, &Alert)> {
        let scopes = self.scopes.iter().enumerate();
        let keys = scopes.flat_map(|(index, scope)| {
            let keys = scope.keys.iter();
            keys.map(move |(id, key)| (index, scope, *id, key))
        });
        keys.flat_map(|(index, scope, id, key)| {
            let alerts = scope.rules.iter().zip(&key.alerts).enumerate();
            alerts.map(move |(slot, (rule, alert))| (Place { index, id, slot }, &**rule, alert))
        })
    }

    /// These episodes were told by another run: they are not told as new.
    pub fn note_told(&mut self, ids: &HashSet<u64>) {
        let now = self.state.now;
        for (budget, spending) in self.budgets.iter().zip(&mut self.state.spending) {
            budget.note_told(spending, |id| ids.contains(&id));
        }
        let mut tellers = std::mem::take(&mut self.tellers);
        for teller in &mut tellers {
            for (place, rule, alert) in self.alerts() {
                if let Some(episode) = alert.open().filter(|e| ids.contains(&e.id)) {
                    teller.note_told(now, place, rule, episode);
                }
            }
        }
        self.tellers = tellers;
    }

    /// These notices did not reach anybody: they are due again.
    pub fn note_not_told(&mut self, notices: &[(u64, Reason)]) {
        for (budget, spending) in self.budgets.iter().zip(&mut self.state.spending) {
            let episode = budget.told(spending);
            if notices.iter().any(|(id, _)| Some(*id) == episode) {
                spending.was_not_told();
            }
        }
        for teller in &mut self.tellers {
            teller.note_not_told(notices);
        }
    }

    /// People asked not to hear of these episodes: they speak for no others, which may be due now.
    pub fn note_muted(&mut self, episodes: &[u64]) {
        for teller in &mut self.tellers {
            for episode in episodes {
                teller.voices.unhear(*episode);
            }
            teller.hush.follow(&teller.voices);
        }
        self.tell_all(None);
    }
}
