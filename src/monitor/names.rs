//! Who costs what under a key, and what for: what an alert says of models, sessions, projects and portions.
//!
//! Knows costs and labels only. Adding is cheap, because it is done for each response; names are weighed when there is something to
//! tell, or too many labels wait.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::alert::Share;
use super::portion::Portions;
use super::record::{Labels, Time};
use crate::price::PicoUsd;

/// The most names that are weighed at once.
const MAX_NAMES: usize = 256;

/// So many labels are told apart before they are weighed.
const LATEST_LABELS: usize = 32;

/// What is told is that of the present stretch and of the last.
const STRETCH_SECS: i64 = 300;

/// Models, sessions, projects.
type Weights = [FxHashMap<Arc<str>, i128>; 3];

/// Who costs what, over the present and the last stretch of a few minutes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Names {
    /// The present stretch.
    epoch: i64,
    /// The stretch that the weights are of.
    weighed: i64,
    now: Weights,
    before: Weights,
    /// What labels cost in a stretch that is not in the weights yet: the same few come again and again, and they are asked for
    /// only when something is told.
    latest: Vec<(Arc<Labels>, i64, i128)>,
    /// What costs were for, of the stretch of the last that is of any portion, and of the one before that.
    portions: [Portions<PicoUsd>; 2],
    portions_of: i64,
}

/// Who costs what, and what for.
pub(super) struct Top {
    /// Models, sessions and projects with the largest shares.
    pub(super) names: [Vec<Share>; 3],
    /// Shares of portions.
    pub(super) portions: Portions<u8>,
}

impl Names {
    /// Adds what a response costs.
    pub(super) fn add(&mut self, at: Time, labels: &Arc<Labels>, cost: PicoUsd) {
        // What comes late counts as of now.
        self.epoch = self.epoch.max(at.secs().div_euclid(STRETCH_SECS));
        let epoch = self.epoch;
        let known = self.latest.iter_mut().rev();
        if let Some((.., sum)) = known
            .take_while(|(_, of, _)| *of == epoch)
            .find(|(known, ..)| Arc::ptr_eq(known, labels))
        {
            *sum += cost.0;
            return;
        }
        if self.latest.len() >= LATEST_LABELS {
            self.settle();
        }
        self.latest.push((Arc::clone(labels), epoch, cost.0));
    }

    /// Adds what a cost that was added is for.
    pub(super) fn add_portions(&mut self, portions: &Portions<PicoUsd>) {
        self.settle_portions();
        self.portions[0].add(portions);
    }

    /// Has them be of the present stretch.
    fn settle_portions(&mut self) {
        self.portions = match self.epoch - self.portions_of {
            0 => return,
            1 => [Portions::default(), self.portions[0]],
            _ => Default::default(),
        };
        self.portions_of = self.epoch;
    }

    /// Puts what is not in the weights yet into them, as far as it is not too old.
    fn settle(&mut self) {
        match self.epoch - self.weighed {
            0 => {}
            1 => self.before = std::mem::take(&mut self.now),
            _ => (self.before, self.now) = Default::default(),
        }
        self.weighed = self.epoch;
        for (labels, epoch, cost) in self.latest.drain(..) {
            match self.weighed - epoch {
                0 => weigh(&mut self.now, &labels, cost),
                1 => weigh(&mut self.before, &labels, cost),
                _ => {}
            }
        }
    }

    /// The clock was wrong by so much.
    pub(super) fn shift(&mut self, secs: i64) {
        let stretches = secs.div_euclid(STRETCH_SECS);
        self.epoch += stretches;
        self.weighed += stretches;
        self.portions_of += stretches;
        for (_, epoch, _) in &mut self.latest {
            *epoch += stretches;
        }
    }

    /// Those with the largest shares.
    pub(super) fn top(&self) -> Top {
        let mut settled = self.clone();
        settled.settle();
        settled.settle_portions();
        let Self {
            now,
            before,
            portions: [mut portions, portions_before],
            ..
        } = settled;
        portions.add(&portions_before);
        let whole = [&now, &before].map(|[models, ..]| models.values().sum::<i128>());
        let portions = portions.shares(PicoUsd(whole.iter().sum()));
        let kinds = before.into_iter().zip(now);
        let mut tops = kinds.map(|(mut sum, now)| {
            for (name, weight) in now {
                *sum.entry(name).or_default() += weight;
            }
            shares(sum.into_iter().collect())
        });
        Top {
            names: std::array::from_fn(|_| tops.next().unwrap_or_default()),
            portions,
        }
    }
}

fn weigh(weights: &mut Weights, labels: &Labels, cost: i128) {
    for (weights, name) in weights.iter_mut().zip(labels.names()) {
        let Some(name) = name else { continue };
        if let Some(weight) = weights.get_mut(name) {
            *weight += cost;
        } else if weights.len() < MAX_NAMES {
            weights.insert(Arc::clone(name), cost);
        }
    }
}

/// The three largest of some weights, in per cent of all.
pub(super) fn shares(mut weights: Vec<(Arc<str>, i128)>) -> Vec<Share> {
    let whole: i128 = weights.iter().map(|(_, weight)| weight).sum();
    weights.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    weights.truncate(3);
    let percent = |weight: i128| u8::try_from(weight * 100 / whole.max(1)).unwrap_or(100);
    weights
        .into_iter()
        .filter(|(_, w)| *w > 0)
        .map(|(name, w)| (name, percent(w)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::portion::Portion;
    use super::*;

    /// The present stretch and the one before it count, however many labels have waited.
    #[test]
    fn who_cost_most_lately_is_told_with_its_share() {
        let labels = |n: i64| {
            Arc::new(Labels {
                model: if n % 4 == 0 { "b" } else { "a" }.into(),
                session: Some(format!("s{n}").into()),
                ..Labels::default()
            })
        };
        let mut names = Names::default();
        names.add(Time::from_secs(0), &labels(1_000), PicoUsd(1_000_000));
        for n in 0..100 {
            names.add(
                Time::from_secs(2 * STRETCH_SECS + n),
                &labels(n),
                PicoUsd(10),
            );
        }
        names.add(
            Time::from_secs(3 * STRETCH_SECS),
            &labels(7),
            PicoUsd(1_000),
        );
        let [models, sessions, projects] = names.top().names;
        assert_eq!(models, [("a".into(), 87), ("b".into(), 12)]);
        assert_eq!(sessions[0], ("s7".into(), 50));
        assert!(projects.is_empty());
        // Nothing of it is of the last two stretches any more.
        names.add(Time::from_secs(9 * STRETCH_SECS), &labels(0), PicoUsd(1));
        assert_eq!(names.top().names[0], [("b".into(), 100)]);
    }

    #[test]
    fn what_costs_are_for_is_that_of_the_same_stretches() {
        let labels = Arc::new(Labels {
            model: "a".into(),
            ..Labels::default()
        });
        let mut names = Names::default();
        let mut add = |stretch, cost: i128, fast: i128| {
            let at = Time::from_secs(stretch * STRETCH_SECS);
            names.add(at, &labels, PicoUsd(cost));
            if fast > 0 {
                names.add_portions(&Portions::new([fast, 0, 0, 0, 0].map(PicoUsd)));
            }
            names.top().portions.of(Portion::FastMode)
        };
        assert_eq!(add(0, 100, 100), 100);
        assert_eq!(add(1, 300, 0), 25);
        assert_eq!(add(1, 100, 100), 40);
        assert_eq!(add(2, 400, 0), 12);
        assert_eq!(add(3, 100, 50), 10);
        assert_eq!(add(9, 100, 0), 0);
        // They move with the clock.
        names.add_portions(&Portions::new([50, 0, 0, 0, 0].map(PicoUsd)));
        names.shift(-5 * STRETCH_SECS);
        assert_eq!(names.top().portions.of(Portion::FastMode), 50);
    }
}
