//! Who costs what under a key, and what for: what an alert says of models, sessions, projects and portions.
//!
//! Or who has most of the tokens or responses, where an alert is about those. Knows sums and labels only. Adding is cheap, because it
//! is done for each response; names are weighed when there is something to tell, or too many labels wait.

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::day::Day;
use super::portion::Portions;
use super::weight::{Measure, Weight, Weights, add_all, shares, weigh};
use crate::monitor::alert::Share;
use crate::monitor::record::{Labels, Time};
use crate::monitor::rule::DAY_SECS;
use crate::price::PicoUsd;

/// So many labels are told apart before they are weighed.
const LATEST_LABELS: usize = 32;

/// What is told is that of the present stretch and of the last.
pub(super) const STRETCH_SECS: i64 = 300;

/// Where a window is no longer than two of them, it is that of the present minute and of the last.
const MINUTE_SECS: i64 = 60;

/// So many labels of the last two minutes are kept at most.
const RECENT_LABELS: usize = 256;

/// What labels came to in the minute or stretch of this number.
type Latest = (Arc<Labels>, i64, Weight);

/// Who costs what, over the present and the last stretch of a few minutes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::monitor) struct Names {
    /// Labels are told apart by times of so many seconds.
    grain: i64,
    /// A window has a day.
    keeps_day: bool,
    /// The present one.
    epoch: i64,
    /// What labels cost that is not in the weights yet: the same few come again and again, and they are asked for only when
    /// something is told.
    latest: Vec<Latest>,
    /// All that the last two minutes cost, if minutes are told apart.
    minutes: LastTwo<PicoUsd>,
    /// What has been weighed, if anything was: most keys are sessions that are soon over.
    weighed: Option<Box<Weighed>>,
    /// What costs were for, if any was for something.
    portions: Option<Box<PortionsOfLast>>,
}

/// What labels came to, added up by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Weighed {
    /// The stretch that this is of.
    stretch: i64,
    now: Weights,
    before: Weights,
    /// What lies before those, if a window has a day.
    day: Option<Day>,
    /// What is in the weights already, as far as it is of the last two minutes.
    recent: VecDeque<Latest>,
}

/// What costs were for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct PortionsOfLast {
    stretches: LastTwo<Portions<PicoUsd>>,
    /// If minutes are told apart.
    minutes: LastTwo<Portions<PicoUsd>>,
}

/// Sums of the present stretch or minute, and of the one before it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct LastTwo<T> {
    of: i64,
    sums: [T; 2],
}

impl<T: Copy + Default> LastTwo<T> {
    /// Has them be of this one.
    #[inline]
    fn at(&mut self, of: i64) -> &mut [T; 2] {
        match of - self.of {
            0 => {}
            1 => self.sums = [T::default(), self.sums[0]],
            _ => self.sums = <[T; 2]>::default(),
        }
        self.of = of;
        &mut self.sums
    }
}

/// Who costs what, and what for.
pub(in crate::monitor) struct Top {
    /// Models, sessions and projects with the largest shares of the cost.
    pub(in crate::monitor) names: [Vec<Share>; 3],
    /// The same by what was asked for.
    pub(in crate::monitor) by_measure: [Vec<Share>; 3],
    /// Shares of portions.
    pub(in crate::monitor) portions: Portions<u8>,
}

impl Names {
    /// For windows of which the shortest and the longest have so many seconds.
    pub(in crate::monitor) fn new(shortest: i64, longest: i64) -> Self {
        let grain = if shortest <= 2 * MINUTE_SECS {
            MINUTE_SECS
        } else {
            STRETCH_SECS
        };
        Self {
            grain,
            keeps_day: longest >= DAY_SECS,
            epoch: 0,
            latest: Vec::new(),
            minutes: LastTwo::default(),
            weighed: None,
            portions: None,
        }
    }

    /// Adds what a response came to.
    pub(in crate::monitor) fn add(&mut self, at: Time, labels: &Arc<Labels>, weight: &Weight) {
        // What comes late counts as of now.
        let epoch = if self.knows_minutes() {
            self.epoch.max(at.minute())
        } else {
            self.epoch.max(at.secs().div_euclid(STRETCH_SECS))
        };
        self.epoch = epoch;
        if self.knows_minutes() {
            self.minutes.at(epoch)[0] += PicoUsd(weight.cost);
        }
        let known = self.latest.iter_mut().rev();
        if let Some((.., sum)) = known
            .take_while(|(_, of, _)| *of == epoch)
            .find(|(known, ..)| Arc::ptr_eq(known, labels))
        {
            sum.add(weight);
            return;
        }
        if self.latest.len() >= LATEST_LABELS {
            self.settle();
        }
        self.latest.push((Arc::clone(labels), epoch, *weight));
    }

    /// Adds what a cost that was added is for.
    pub(in crate::monitor) fn add_portions(&mut self, portions: &Portions<PicoUsd>) {
        let (stretch, minute) = (self.stretch(self.epoch), self.epoch);
        let knows_minutes = self.knows_minutes();
        let of_last = self.portions.get_or_insert_default();
        of_last.stretches.at(stretch)[0].add(portions);
        if knows_minutes {
            of_last.minutes.at(minute)[0].add(portions);
        }
    }

    const fn knows_minutes(&self) -> bool {
        self.grain == MINUTE_SECS
    }

    /// The stretch of what was told apart by a shorter time.
    const fn stretch(&self, epoch: i64) -> i64 {
        if self.knows_minutes() {
            epoch.div_euclid(STRETCH_SECS / MINUTE_SECS)
        } else {
            epoch
        }
    }

    /// Puts what is not in the weights yet into them, as far as it is not too old.
    fn settle(&mut self) {
        let present = self.stretch(self.epoch);
        let latest = std::mem::take(&mut self.latest);
        let keeps_day = self.keeps_day;
        let mut weighed = self.weighed.take().unwrap_or_else(|| {
            Box::new(Weighed {
                day: keeps_day.then(Day::default),
                ..Weighed::default()
            })
        });
        weighed.move_to(present);
        for (labels, epoch, weight) in &latest {
            weighed.add(labels, self.stretch(*epoch), weight);
        }
        if let Some(day) = &mut weighed.day {
            day.forget_before(present);
        }
        if self.knows_minutes() {
            weighed.remember(latest, self.epoch - 1);
        }
        self.weighed = Some(weighed);
    }

    /// The clock was wrong by so much.
    pub(in crate::monitor) fn shift(&mut self, secs: i64) {
        let stretches = secs.div_euclid(STRETCH_SECS);
        let epochs = stretches * (STRETCH_SECS / self.grain);
        self.epoch += epochs;
        self.minutes.of += epochs;
        if let Some(portions) = &mut self.portions {
            portions.stretches.of += stretches;
            portions.minutes.of += epochs;
        }
        let mut recent = None;
        if let Some(weighed) = &mut self.weighed {
            weighed.stretch += stretches;
            if let Some(day) = &mut weighed.day {
                day.shift(stretches);
            }
            recent = Some(&mut weighed.recent);
        }
        for (_, epoch, _) in self.latest.iter_mut().chain(recent.into_iter().flatten()) {
            *epoch += epochs;
        }
    }

    /// Those with the largest shares of about so many seconds.
    pub(in crate::monitor) fn top(&self, secs: i64, measure: Measure) -> Top {
        if self.knows_minutes() && secs <= 2 * MINUTE_SECS {
            return self.top_of_minutes(measure);
        }
        let mut settled = self.clone();
        settled.settle();
        let weighed = settled.weighed.unwrap_or_default();
        let Weighed {
            stretch,
            now,
            before,
            day,
            ..
        } = *weighed;
        let whole = [&now, &before].map(|[models, ..]| models.values().map(|w| w.cost).sum());
        let mut of_last = settled.portions.unwrap_or_default();
        let [mut portions, last] = *of_last.stretches.at(stretch);
        portions.add(&last);
        let mut all = before;
        add_all(&mut all, &now);
        let day = day.filter(|_| secs >= DAY_SECS).unwrap_or_default();
        day.until(stretch).for_each(|more| add_all(&mut all, more));
        let portions = portions.shares(PicoUsd(whole.iter().sum()));
        Top::of(&all, measure, portions)
    }

    fn top_of_minutes(&self, measure: Measure) -> Top {
        let mut weights = Weights::default();
        let recent = self.weighed.iter().flat_map(|weighed| &weighed.recent);
        let all = recent.chain(&self.latest);
        for (labels, _, weight) in all.filter(|(_, minute, _)| *minute >= self.epoch - 1) {
            weigh(&mut weights, labels, weight);
        }
        let mut of_last = self.portions.clone().unwrap_or_default();
        let [mut portions, last] = *of_last.minutes.at(self.epoch);
        portions.add(&last);
        let whole = self.minutes.clone().at(self.epoch).iter().copied().sum();
        Top::of(&weights, measure, portions.shares(whole))
    }
}

impl Weighed {
    /// A later stretch has come.
    fn move_to(&mut self, present: i64) {
        let last = self.stretch;
        match present - last {
            0 => {}
            1 => {
                lay_by(&mut self.day, last - 1, &mut self.before);
                std::mem::swap(&mut self.before, &mut self.now);
            }
            _ => {
                lay_by(&mut self.day, last - 1, &mut self.before);
                lay_by(&mut self.day, last, &mut self.now);
            }
        }
        self.stretch = present;
    }

    /// Adds what labels came to in a stretch.
    fn add(&mut self, labels: &Labels, stretch: i64, weight: &Weight) {
        match self.stretch - stretch {
            0 => weigh(&mut self.now, labels, weight),
            1 => weigh(&mut self.before, labels, weight),
            _ => {
                if let Some(day) = &mut self.day {
                    day.add(stretch, labels, weight);
                }
            }
        }
    }

    /// Keeps what is of this minute or later.
    fn remember(&mut self, latest: Vec<Latest>, oldest: i64) {
        self.recent.extend(latest);
        while let Some((_, minute, _)) = self.recent.front()
            && (*minute < oldest || self.recent.len() > RECENT_LABELS)
        {
            self.recent.pop_front();
        }
    }
}

/// Puts what came in a stretch that is over to what else came in the day, if that is kept. Nothing of it is left.
fn lay_by(day: &mut Option<Day>, stretch: i64, weights: &mut Weights) {
    if let Some(day) = day {
        day.take(stretch, weights);
    }
    weights.iter_mut().for_each(HashMap::clear);
}

impl Top {
    fn of(weights: &Weights, measure: Measure, portions: Portions<u8>) -> Self {
        let by = |measure| {
            let of_kind = |weights: &FxHashMap<Arc<str>, Weight>| {
                let names = weights.iter();
                shares(
                    names
                        .map(|(name, w)| (Arc::clone(name), w.by(measure)))
                        .collect(),
                )
            };
            weights.each_ref().map(of_kind)
        };
        Self {
            names: by(Measure::Cost),
            by_measure: by(measure),
            portions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::portion::Portion;
    use super::*;

    /// A response that costs so much, with a token for each pico-dollar.
    fn weight(cost: i64) -> Weight {
        Weight {
            cost: cost.into(),
            tokens: cost,
            requests: 1,
        }
    }

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
        let mut names = Names::new(STRETCH_SECS, STRETCH_SECS);
        names.add(Time::from_secs(0), &labels(1_000), &weight(1_000_000));
        for n in 0..100 {
            names.add(
                Time::from_secs(2 * STRETCH_SECS + n),
                &labels(n),
                &weight(10),
            );
        }
        names.add(
            Time::from_secs(3 * STRETCH_SECS),
            &labels(7),
            &weight(1_000),
        );
        let [models, sessions, projects] = names.top(STRETCH_SECS, Measure::Cost).names;
        assert_eq!(models, [("a".into(), 87), ("b".into(), 12)]);
        assert_eq!(sessions[0], ("s7".into(), 50));
        assert!(projects.is_empty());
        // Nothing of it is of the last two stretches any more.
        names.add(Time::from_secs(9 * STRETCH_SECS), &labels(0), &weight(1));
        assert_eq!(
            names.top(STRETCH_SECS, Measure::Cost).names[0],
            [("b".into(), 100)]
        );
    }

    #[test]
    fn what_costs_are_for_is_that_of_the_same_stretches() {
        let labels = Arc::new(Labels {
            model: "a".into(),
            ..Labels::default()
        });
        let mut names = Names::new(STRETCH_SECS, STRETCH_SECS);
        let mut add = |stretch, cost: i64, fast: i128| {
            let at = Time::from_secs(stretch * STRETCH_SECS);
            names.add(at, &labels, &weight(cost));
            if fast > 0 {
                names.add_portions(&Portions::new([fast, 0, 0, 0, 0].map(PicoUsd)));
            }
            names
                .top(STRETCH_SECS, Measure::Cost)
                .portions
                .of(Portion::FastMode)
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
        assert_eq!(
            names
                .top(STRETCH_SECS, Measure::Cost)
                .portions
                .of(Portion::FastMode),
            50
        );
    }

    /// Where windows are short the last two minutes count, and not what was there before.
    #[test]
    fn what_has_just_begun_is_not_weighed_with_what_was_before() {
        let labels = |model: &str, n: i64| {
            Arc::new(Labels {
                model: model.into(),
                session: Some(format!("s{n}").into()),
                ..Labels::default()
            })
        };
        let mut names = Names::new(60, 60);
        for second in 0..1_200 {
            names.add(Time::from_secs(second), &labels("a", second), &weight(10));
        }
        for second in 1_200..1_230 {
            names.add(Time::from_secs(second), &labels("b", 5), &weight(60));
            names.add_portions(&Portions::new([60, 0, 0, 0, 0].map(PicoUsd)));
        }
        let fast = |top: &Top| top.portions.of(Portion::FastMode);
        let of_minutes = names.top(60, Measure::Cost);
        assert_eq!(of_minutes.names[0], [("b".into(), 75), ("a".into(), 25)]);
        assert_eq!(of_minutes.names[1][0], ("s5".into(), 75));
        assert_eq!(fast(&of_minutes), 75);
        let of_stretches = names.top(600, Measure::Cost);
        assert_eq!(of_stretches.names[0], [("a".into(), 62), ("b".into(), 37)]);
        assert_eq!(fast(&of_stretches), 37);
        // It moves with the clock.
        names.shift(-900);
        names.add(Time::from_secs(330), &labels("b", 5), &weight(0));
        assert_eq!(names.top(60, Measure::Cost).names, of_minutes.names);
        names.add(Time::from_secs(900), &labels("c", 5), &weight(10));
        assert_eq!(names.top(60, Measure::Cost).names[0], [("c".into(), 100)]);
        assert_eq!(fast(&names.top(60, Measure::Cost)), 0);
    }

    /// Many cheap tokens of one model, a few dear ones of another, and more responses of a third.
    #[test]
    fn who_had_most_depends_on_what_is_asked() {
        let labels = |model: &str| {
            Arc::new(Labels {
                model: model.into(),
                ..Labels::default()
            })
        };
        for shortest in [60, STRETCH_SECS] {
            let mut names = Names::new(shortest, shortest);
            for (model, cost, tokens, n) in [
                ("cheap", 10, 900, 2),
                ("dear", 80, 50, 2),
                ("small", 1, 1, 20),
            ] {
                let weight = Weight {
                    cost,
                    tokens,
                    requests: 1,
                };
                for second in 0..n {
                    names.add(Time::from_secs(second), &labels(model), &weight);
                }
            }
            let most = |measure| {
                let top = names.top(shortest, measure);
                assert_eq!(top.names[0][0].0.as_ref(), "dear");
                top.by_measure[0][0].0.to_string()
            };
            assert_eq!(most(Measure::Cost), "dear");
            assert_eq!(most(Measure::Tokens), "cheap");
            assert_eq!(most(Measure::Requests), "small");
        }
    }

    /// Where a window has a day it is told of who cost most in it, however little came of them lately.
    #[test]
    fn who_cost_most_in_a_day_is_told_where_a_window_has_one() {
        let labels = |session: String| {
            Arc::new(Labels {
                model: "a".into(),
                session: Some(session.into()),
                ..Labels::default()
            })
        };
        let hour = |n: i64| Time::from_secs(n * 3600);
        for shortest in [60, STRETCH_SECS] {
            let mut names = Names::new(shortest, DAY_SECS);
            let mut add = |hours, session: &str, cost| {
                names.add(hour(hours), &labels(session.to_owned()), &weight(cost));
            };
            add(1, "long ago", 1_000_000);
            add(25, "morning", 600);
            // Far more sessions than are told apart.
            for n in 0..2_000 {
                add(30, &format!("short {n}"), 1);
            }
            add(40, "evening", 200);
            add(41, "now", 100);
            let sessions = |names: &Names, secs| {
                let [_, sessions, _] = names.top(secs, Measure::Cost).names;
                sessions
            };
            let [first, second, ..] = &sessions(&names, DAY_SECS)[..] else {
                panic!("two of them are told");
            };
            // Of 2,900 in all: those that cost least are left out only where too many came within minutes.
            assert_eq!(&*first.0, "morning");
            assert_eq!(&*second.0, "evening");
            assert!((20..=60).contains(&first.1), "{first:?}");
            assert_eq!(sessions(&names, STRETCH_SECS), [("now".into(), 100)]);
        }
    }
}
