//! What responses came to, by who asked for them, and the largest shares of it.
//!
//! Knows names and sums, no time.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::monitor::alert::Share;
use crate::monitor::metric::Metric;
use crate::monitor::record::Labels;
use crate::monitor::window::Sums;

/// The most names that are weighed at once.
const MAX_NAMES: usize = 256;

/// Stands for those that cost least, where there are too many.
const OTHERS: &str = "";

/// What shares are shares of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) enum Measure {
    /// Dollars.
    Cost,
    /// Fresh tokens.
    Tokens,
    /// Responses.
    Requests,
}

impl Measure {
    /// What a rule that reads this off its windows is about.
    pub(in crate::monitor) const fn of(metric: Metric) -> Self {
        match metric {
            Metric::Tokens
            | Metric::PromptTokens
            | Metric::OutputTokens
            | Metric::PromptPerRequest
            | Metric::OutputPerRequest => Self::Tokens,
            Metric::Requests => Self::Requests,
            _ => Self::Cost,
        }
    }
}

/// What responses came to.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(in crate::monitor) struct Weight {
    pub(super) cost: i128,
    pub(super) tokens: i64,
    pub(super) requests: i64,
}

impl Weight {
    /// What a response, or what it has grown by, adds to a window.
    #[inline]
    pub(in crate::monitor) fn of(sums: &Sums) -> Self {
        Self {
            cost: sums.cost.0,
            tokens: sums.fresh,
            requests: sums.requests,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.cost += other.cost;
        self.tokens += other.tokens;
        self.requests += other.requests;
    }

    pub(super) fn by(&self, measure: Measure) -> i128 {
        match measure {
            Measure::Cost => self.cost,
            Measure::Tokens => self.tokens.into(),
            Measure::Requests => self.requests.into(),
        }
    }
}

/// Models, sessions, projects.
pub(super) type Weights = [FxHashMap<Arc<str>, Weight>; 3];

/// Adds to all the names of some labels.
pub(super) fn weigh(weights: &mut Weights, labels: &Labels, more: &Weight) {
    for (weights, name) in weights.iter_mut().zip(labels.names()) {
        let Some(name) = name else { continue };
        if let Some(weight) = weights.get_mut(name) {
            weight.add(more);
        } else if weights.len() < MAX_NAMES {
            weights.insert(Arc::clone(name), *more);
        } else {
            weights.entry(OTHERS.into()).or_default().add(more);
        }
    }
}

/// Adds all of some weights to others.
pub(super) fn add_all(sums: &mut Weights, more: &Weights) {
    for (sums, more) in sums.iter_mut().zip(more) {
        for (name, weight) in more {
            sums.entry(Arc::clone(name)).or_default().add(weight);
        }
    }
}

/// Where there are too many names, those that cost least become one.
pub(super) fn keep_most(weights: &mut FxHashMap<Arc<str>, Weight>) {
    if weights.len() <= MAX_NAMES {
        return;
    }
    let mut names: Vec<(Arc<str>, Weight)> = weights.drain().collect();
    names.sort_by(|a, b| b.1.cost.cmp(&a.1.cost).then_with(|| a.0.cmp(&b.0)));
    let mut others = Weight::default();
    let fewest = names.drain(MAX_NAMES / 2..);
    fewest.for_each(|(_, weight)| others.add(&weight));
    weights.extend(names);
    weights.entry(OTHERS.into()).or_default().add(&others);
}

/// Adds to the weight of a name, where there are few.
pub(in crate::monitor) fn add_to(weights: &mut Vec<(Arc<str>, i128)>, name: &Arc<str>, more: i128) {
    match weights.iter_mut().find(|(known, _)| known == name) {
        Some((_, weight)) => *weight += more,
        None => weights.push((Arc::clone(name), more)),
    }
}

/// The three largest of some weights, in per cent of all.
pub(in crate::monitor) fn shares(weights: Vec<(Arc<str>, i128)>) -> Vec<Share> {
    let mut shares = shares_of_most(weights, 4);
    shares.retain(|(name, _)| &**name != OTHERS);
    shares.truncate(3);
    shares
}

/// So many of the largest of some weights, in per cent of all.
pub(super) fn shares_of_most(mut weights: Vec<(Arc<str>, i128)>, most: usize) -> Vec<Share> {
    let whole: i128 = weights.iter().map(|(_, weight)| weight).sum();
    weights.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    weights.truncate(most);
    let percent = |weight: i128| u8::try_from(weight * 100 / whole.max(1)).unwrap_or(100);
    weights
        .into_iter()
        .filter(|(_, w)| *w > 0)
        .map(|(name, w)| (name, percent(w)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many names there are, shares are of all that came.
    #[test]
    fn shares_are_of_all_where_there_are_too_many_names_too() {
        let weight = |cost| Weight {
            cost,
            ..Weight::default()
        };
        let mut weights = Weights::default();
        let labels = |session: &str| Labels {
            session: Some(session.into()),
            ..Labels::default()
        };
        weigh(&mut weights, &labels("dear"), &weight(1_000));
        for n in 0..1_000 {
            weigh(&mut weights, &labels(&n.to_string()), &weight(1));
        }
        let [_, sessions, _] = &mut weights;
        let shares_of = |sessions: &FxHashMap<Arc<str>, Weight>| {
            let of_name = |(name, w): (&Arc<str>, &Weight)| (Arc::clone(name), w.cost);
            shares(sessions.iter().map(of_name).collect())
        };
        assert_eq!(shares_of(sessions)[0], ("dear".into(), 50));
        assert!(
            shares_of(sessions)
                .iter()
                .all(|(name, _)| &**name != OTHERS)
        );
        keep_most(sessions);
        assert!(sessions.len() <= MAX_NAMES / 2 + 1);
        assert_eq!(shares_of(sessions)[0], ("dear".into(), 50));
    }
}
