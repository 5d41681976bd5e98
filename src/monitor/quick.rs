//! The cheapest way to see that a rule stays quiet: numbers worked out beforehand that sums must be beyond.
//!
//! Asked of each rule for each response, so it looks at as little as it can. It may be unsure, but never wrong: what it lets pass
//! no reading would call a breach.

use super::cache::CacheTracker;
use super::calm::Slack;
use super::key::Key;
use super::metric::Metric;
use super::reading::MIN_AFFECTED;
use super::rule::{Limit, Rule};
use super::usual::{Amount, UNIT};
use super::window::{BUCKETS, Sums, Window};

/// What a rule surely needs before it can fire.
#[derive(Debug, Clone, Default)]
pub(super) struct Quick {
    /// Whatever it has learned, one of these must fail; none if there is no quick way to tell.
    least: Vec<Test>,
    /// How its value is read off windows, where a limit is known.
    scale: Option<Scale>,
}

/// A sum, or a mean of one, that is held against a limit from above.
#[derive(Debug, Clone)]
struct Scale {
    part: Part,
    /// How much of it is a whole unit.
    unit: Amount,
    /// Seconds that it is given per; of the whole window if none.
    per_secs: Option<i64>,
    /// What it is divided by, if it is a mean.
    mean_of: Option<Whole>,
    /// Which windows, with their lengths in seconds.
    windows: Vec<(usize, i64)>,
    /// What leaves them is looked at so far ahead. Until then what comes now is in all of them.
    ahead_secs: i64,
}

#[derive(Debug, Clone, Copy)]
enum Test {
    /// A sum is no larger than this.
    AtMost {
        window: usize,
        part: Part,
        most: i128,
    },
    /// A sum is no larger than this for each response.
    MeanAtMost {
        window: usize,
        part: Part,
        most: Amount,
    },
    /// The last response had a price.
    Priced,
    /// The cache is in use, or few large prompts have come.
    Caching { window: usize, requests: i64 },
    /// The conversation is in no run of misses.
    NoRun,
}

/// A sum in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Cost,
    Waste,
    CacheGain,
    Fresh,
    Prompt,
    Output,
    Requests,
    Affected,
    Unread,
    Errors,
}

/// What a mean is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// All responses.
    Responses,
    /// All tokens of prompts that the cache could have served: the mean is a share of them.
    Prompts,
}

impl Whole {
    const fn of(metric: Metric) -> Option<Self> {
        match metric {
            Metric::CacheMiss => Some(Self::Prompts),
            _ if metric.is_mean() => Some(Self::Responses),
            _ => None,
        }
    }

    #[inline]
    fn read(self, sums: &Sums) -> i128 {
        match self {
            Self::Responses => sums.requests.into(),
            Self::Prompts => sums.eligible_prompt.into(),
        }
    }
}

impl Part {
    /// The sum that a metric is about, and how much of it is a whole unit.
    const fn of(metric: Metric) -> Option<(Self, Amount)> {
        Some(match metric {
            Metric::Cost | Metric::CostPerRequest => (Self::Cost, 1),
            Metric::CacheWaste => (Self::Waste, 1),
            Metric::CacheGain => (Self::CacheGain, 1),
            Metric::Tokens => (Self::Fresh, UNIT),
            Metric::PromptTokens | Metric::PromptPerRequest => (Self::Prompt, UNIT),
            Metric::OutputTokens | Metric::OutputPerRequest => (Self::Output, UNIT),
            Metric::Requests => (Self::Requests, UNIT),
            Metric::CacheMiss => (Self::Unread, UNIT),
            Metric::Errors => (Self::Errors, UNIT),
            Metric::Silence
            | Metric::Budget
            | Metric::Blind
            | Metric::MissRun
            | Metric::Unpriced
            | Metric::NoCache
            | Metric::CacheLeak => return None,
        })
    }

    #[inline]
    fn read(self, sums: &Sums) -> i128 {
        match self {
            Self::Cost => sums.cost.0,
            Self::Waste => sums.waste.0,
            Self::CacheGain => sums.cache_gain.0,
            Self::Fresh => sums.fresh.into(),
            Self::Prompt => sums.prompt.into(),
            Self::Output => sums.output.into(),
            Self::Requests => sums.requests.into(),
            Self::Affected => sums.affected.into(),
            Self::Unread => (sums.eligible_prompt - sums.eligible_read).into(),
            Self::Errors => sums.errors.into(),
        }
    }
}

impl Part {
    /// How much may come until a sum is more than this; none if it is already, or may rise by what leaves.
    fn slack(self, most: i128, window: Window<'_>) -> Option<Slack> {
        let left = most - window.read(|sums| self.read(sums));
        let mut slack = Slack::ENDLESS;
        match self {
            Self::Cost => slack.cost = left,
            Self::Fresh => slack.fresh = left,
            Self::Prompt => slack.prompt = left,
            Self::Output => slack.output = left,
            Self::Requests => slack.requests = left,
            // A plain response adds nothing to these.
            Self::Waste | Self::Affected | Self::Errors => {}
            Self::CacheGain | Self::Unread => return None,
        }
        (left >= 0).then_some(slack)
    }
}

impl Quick {
    /// What a rule needs, where keys have windows of these lengths.
    pub(super) fn of(rule: &Rule, window_secs: &[i64]) -> Self {
        Self {
            least: tests(rule, window_secs).unwrap_or_default(),
            scale: Scale::of(rule, window_secs),
        }
    }

    /// The rule, if it is quiet, stays so whatever it has learned: a reading at this moment would be no breach.
    #[inline]
    pub(super) fn stays_quiet(&self, cache: &CacheTracker, key: &Key) -> bool {
        match self.least.as_slice() {
            [] => false,
            // Nearly all need only one.
            [test] => test.holds(cache, key),
            all => all.iter().all(|test| test.holds(cache, key)),
        }
    }

    /// The same with what it has learned. Without a limit it cannot fire yet.
    #[inline]
    pub(super) fn is_under(&self, key: &Key, limit: Option<Amount>) -> bool {
        limit.is_none_or(|limit| {
            let scale = self.scale.as_ref();
            scale.is_some_and(|scale| scale.is_under(key, limit))
        })
    }

    /// How much may come in plain responses before the rule, if it is quiet, may not be, whatever it has learned; none if that
    /// cannot be told.
    pub(super) fn slack(&self, cache: &CacheTracker, key: &Key) -> Option<Slack> {
        let tests = self.least.iter().map(|test| test.slack(cache, key));
        tests.reduce(|a, b| Some(a?.min(b?))).flatten()
    }

    /// The same with what it has learned. Without a limit it cannot fire before it learns more.
    pub(super) fn slack_under(&self, key: &Key, limit: Option<Amount>) -> Option<Slack> {
        let Some(limit) = limit else {
            return Some(Slack::ENDLESS);
        };
        let scale = self
            .scale
            .as_ref()
            .filter(|scale| scale.mean_of.is_none())?;
        let slacks = scale.windows.iter().map(|window| {
            let bound = scale.bound(*window, limit, 1, Amount::div_euclid);
            bound.part.slack(bound.most, key.windows.at(bound.window))
        });
        slacks.reduce(|a, b| Some(a?.min(b?))).flatten()
    }

    /// The rule is about a mean, or a share, which may rise because of what leaves its windows.
    pub(super) fn is_of_mean(&self) -> bool {
        let scale = self.scale.as_ref();
        scale.is_some_and(|scale| scale.mean_of.is_some())
    }

    /// How much a response that adds this takes of the room that there is below the limit for a mean.
    #[inline]
    pub(super) fn takes(&self, sums: &Sums, limit: Amount) -> Amount {
        let scale = self.scale.as_ref();
        scale.map_or(0, |scale| scale.above(sums, limit))
    }

    /// When a sum that is above its limit will be clear of this one, if nothing comes: the second at which enough has left the
    /// window that decides. None if it is no such sum.
    pub(super) fn clear_at(&self, key: &Key, step: usize, limit: Amount) -> Option<i64> {
        let bound = self.unclear(step, limit).filter(|bound| !bound.is_mean)?;
        bound.holds_at(key)
    }

    /// When a mean has to be looked at because of what leaves its windows, and how much room there will be until then for what
    /// comes: the room is what it is [below](Scale::above) its limit at least.
    pub(super) fn look_ahead(&self, key: &Key, limit: Amount, now: i64) -> (Option<i64>, Amount) {
        let Some(scale) = &self.scale else {
            return (None, 0);
        };
        let windows = || {
            scale
                .windows
                .iter()
                .map(|(window, _)| key.windows.at(*window))
        };
        // What comes until then is in all that is left by then, and all that is in a window that is empty now.
        let horizon = now + scale.ahead_secs;
        let above = |sums: &Sums| scale.above(sums, limit);
        if !scale.is_under(key, limit) {
            // One that has too few responses to decide is above it already, and decides as soon as another has fewer, or it has more.
            let expiries = windows().filter_map(Window::next_expiry);
            let room = windows().map(|window| -window.read(above)).min();
            return (expiries.chain([horizon]).min(), room.unwrap_or(0));
        }
        let any_empty = windows().any(Window::is_empty);
        let (mut next, mut room) = (None, if any_empty { 0 } else { Amount::MAX });
        for window in windows().filter(|window| !window.is_empty()) {
            room = room.min(-window.read(above));
            let mut at = horizon;
            for (second, above) in window.leaving(above) {
                if second > horizon {
                    break;
                }
                if above > 0 {
                    at = second;
                    break;
                }
                room = room.min(-above);
            }
            next = Some(next.map_or(at, |next: i64| next.min(at)));
        }
        (next, room)
    }
}

/// A sum, or a mean, that is held against a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) window: usize,
    part: Part,
    is_mean: bool,
    most: i128,
}

impl Bound {
    /// It is not above the number.
    #[inline]
    pub(super) fn holds(&self, key: &Key) -> bool {
        let window = key.windows.at(self.window);
        let sum = window.read(|sums| self.part.read(sums));
        sum <= self.most_of(|| window.read(|sums| sums.requests.into()))
    }

    /// The most that a sum may come to, where there are so many responses.
    #[inline]
    fn most_of(&self, requests: impl Fn() -> i128) -> i128 {
        if self.is_mean {
            self.most * requests()
        } else {
            self.most
        }
    }

    /// The second at which enough has left the window that a sum is not above the number, if nothing comes.
    pub(super) fn holds_at(&self, key: &Key) -> Option<i64> {
        let mut leaving = key
            .windows
            .at(self.window)
            .leaving(|sums| self.part.read(sums));
        let (second, _) = leaving.find(|(_, left)| *left <= self.most)?;
        Some(second)
    }

    /// This one, if it is of the same sum as another.
    pub(super) fn of_like(self, other: Self) -> Option<Self> {
        let sum = |bound: &Self| (bound.window, bound.part, bound.is_mean);
        (sum(&self) == sum(&other)).then_some(self)
    }

    /// Of two numbers for the same sum the larger.
    pub(super) fn max(self, other: Self) -> Self {
        if other.most > self.most { other } else { self }
    }

    /// Of two numbers for the same sum the smaller.
    pub(super) fn min(self, other: Self) -> Self {
        if other.most < self.most { other } else { self }
    }
}

/// All that a rule reads, each held against a number.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds([Option<Bound>; 2]);

impl Bounds {
    /// One by one.
    pub(super) fn each(&self) -> impl Iterator<Item = Bound> {
        self.0.iter().flatten().copied()
    }

    /// None is above its number.
    #[inline]
    pub(super) fn hold(&self, key: &Key) -> bool {
        self.0.iter().flatten().all(|bound| bound.holds(key))
    }
}

impl Quick {
    /// What can be held against a number. The limit of a share is less than one of what it is a share of.
    fn bounded(&self) -> Option<&Scale> {
        let scale = self.scale.as_ref();
        scale.filter(|scale| scale.mean_of != Some(Whole::Prompts))
    }

    /// Within these bounds nothing is above a limit; without one nothing ever is. None if that cannot be told so simply.
    pub(super) fn within(&self, limit: Option<Amount>) -> Option<Bounds> {
        let Some(limit) = limit else {
            return Some(Bounds::default());
        };
        let scale = self.bounded()?;
        let mut bounds = Bounds::default();
        if scale.windows.len() > bounds.0.len() {
            return None;
        }
        for (bound, window) in bounds.0.iter_mut().zip(&scale.windows) {
            *bound = Some(scale.bound(*window, limit, 1, Amount::div_euclid));
        }
        Some(bounds)
    }

    /// The same, and one of its windows is clear of another limit.
    pub(super) fn within_and_clear(
        &self,
        limit: Amount,
        step: usize,
        clear_of: Amount,
    ) -> Option<Bounds> {
        let mut bounds = self.within(Some(limit))?;
        let scale = self.bounded()?;
        let window = *scale.windows.get(step)?;
        // Strictly below four fifths.
        bounds.0[step] = Some(scale.bound(window, clear_of * 4 - 1, 5, Amount::div_euclid));
        Some(bounds)
    }

    /// Which of the windows of a key is that of a step.
    pub(super) fn window(&self, step: usize) -> Option<usize> {
        let (window, _) = self.bounded()?.windows.get(step)?;
        Some(*window)
    }

    /// What is above this bound is above the limit, by one of its windows. None if that cannot be told so simply.
    pub(super) fn above(&self, step: usize, limit: Amount) -> Option<Bound> {
        let scale = self.bounded()?;
        Some(scale.bound(*scale.windows.get(step)?, limit, 1, div_up))
    }

    /// What is above this bound is not clear of the limit. A sum that is not is clear.
    pub(super) fn unclear(&self, step: usize, limit: Amount) -> Option<Bound> {
        let scale = self.bounded()?;
        let mut bound = scale.bound(*scale.windows.get(step)?, limit * 4, 5, div_up);
        if !bound.is_mean {
            bound.most = (bound.most - 1).max(0);
        }
        Some(bound)
    }
}

fn div_up(n: Amount, by: Amount) -> Amount {
    -(-n).div_euclid(by)
}

impl Scale {
    /// So many parts of a limit in a window, in the unit of the sum.
    fn bound(
        &self,
        (window, secs): (usize, i64),
        limit: Amount,
        parts: Amount,
        div: impl Fn(Amount, Amount) -> Amount,
    ) -> Bound {
        let most = match self.per_secs {
            Some(per) if self.mean_of.is_none() => {
                let unit = i128::from(per) * self.unit;
                div(limit * i128::from(secs), parts * unit)
            }
            _ => div(limit, parts * self.unit),
        };
        Bound {
            window,
            part: self.part,
            is_mean: self.mean_of.is_some(),
            most,
        }
    }

    fn of(rule: &Rule, window_secs: &[i64]) -> Option<Self> {
        rule.least_limit()?;
        if rule.metric == Metric::Errors {
            return None;
        }
        let (part, unit) = Part::of(rule.metric)?;
        let index = |secs: &i64| Some((window_secs.iter().position(|known| known == secs)?, *secs));
        let shortest = rule.windows.first()?;
        Some(Self {
            ahead_secs: shortest - shortest / BUCKETS,
            part,
            unit,
            per_secs: rule.per_secs,
            mean_of: Whole::of(rule.metric),
            windows: rule.windows.iter().map(index).collect::<Option<_>>()?,
        })
    }

    /// How far sums are above a mean of this: above zero where the sum is above so many times the limit as there is to be the mean
    /// of.
    #[inline]
    fn above(&self, sums: &Sums, limit: Amount) -> Amount {
        let whole = self.mean_of.map_or(1, |whole| whole.read(sums));
        self.part.read(sums) * self.unit - limit * whole
    }

    #[inline]
    fn is_under(&self, key: &Key, limit: Amount) -> bool {
        self.windows.iter().all(|(window, secs)| {
            let window = key.windows.at(*window);
            if self.mean_of.is_some() {
                return window.read(|sums| self.above(sums, limit)) <= 0;
            }
            let sum = window.read(|sums| self.part.read(sums)) * self.unit;
            match self.per_secs {
                Some(per) => sum * i128::from(per) <= limit * i128::from(*secs),
                None => sum <= limit,
            }
        })
    }
}

impl Test {
    #[inline]
    fn holds(self, cache: &CacheTracker, key: &Key) -> bool {
        match self {
            Self::AtMost { window, part, most } => {
                key.windows.at(window).read(|sums| part.read(sums)) <= most
            }
            Self::MeanAtMost { window, part, most } => {
                let beyond = |sums: &Sums| part.read(sums) - most * i128::from(sums.requests);
                key.windows.at(window).read(beyond) <= 0
            }
            Self::Priced => !key.unpriced,
            Self::Caching { window, requests } => {
                let window = key.windows.at(window);
                window.read(|sums| sums.cached.into()) > 0
                    || window.read(|sums| sums.large.into()) < requests.into()
            }
            Self::NoRun => cache
                .run(key.labels.conversation)
                .is_none_or(|run| run.length <= 1),
        }
    }
}

impl Test {
    /// How much may come in plain responses while it holds; none if that cannot be told.
    fn slack(self, cache: &CacheTracker, key: &Key) -> Option<Slack> {
        match self {
            Self::AtMost { window, part, most } => part.slack(most, key.windows.at(window)),
            // It is for the room of means to say.
            Self::MeanAtMost { .. } => None,
            Self::Priced => (!key.unpriced).then_some(Slack::ENDLESS),
            Self::Caching { window, requests } => {
                let window = key.windows.at(window);
                if window.read(|sums| sums.cached.into()) > 0 {
                    // What leaves has the key looked at.
                    Some(Slack::ENDLESS)
                } else {
                    let large = window.read(|sums| sums.large.into());
                    let left = i128::from(requests - 1) - large;
                    (left >= 0).then_some(Slack {
                        requests: left,
                        ..Slack::ENDLESS
                    })
                }
            }
            // One that has begun may go on.
            Self::NoRun => {
                let run = cache.run(key.labels.conversation);
                run.is_none().then_some(Slack::ENDLESS)
            }
        }
    }
}

fn tests(rule: &Rule, window_secs: &[i64]) -> Option<Vec<Test>> {
    let index = |secs: &i64| window_secs.iter().position(|known| known == secs);
    match rule.metric {
        Metric::MissRun => {
            return matches!(rule.limit, Limit::ByChance { .. }).then(|| vec![Test::NoRun]);
        }
        Metric::Unpriced => return Some(vec![Test::Priced]),
        Metric::NoCache => {
            let window = index(rule.windows.first()?)?;
            let requests = rule.min_requests;
            return Some(vec![Test::Caching { window, requests }]);
        }
        Metric::CacheLeak => {
            let window = index(rule.windows.first()?)?;
            let (part, most) = (Part::Waste, rule.min_waste.0);
            return Some(vec![Test::AtMost { window, part, most }]);
        }
        Metric::CacheMiss => {
            // What the longest window has not, none of them has.
            let window = index(rule.windows.last()?)?;
            let is_from_above = !matches!(rule.limit, Limit::Below(_));
            let few = Test::AtMost {
                window,
                part: Part::Affected,
                most: i128::from(MIN_AFFECTED - 1),
            };
            return is_from_above.then(|| vec![few]);
        }
        _ => {}
    }
    let least = rule.least_limit()?;
    let (part, unit) = Part::of(rule.metric)?;
    let test = |secs: &i64| {
        let window = index(secs)?;
        Some(if rule.metric.is_mean() {
            let most = least.div_euclid(unit);
            Test::MeanAtMost { window, part, most }
        } else if rule.metric == Metric::Errors {
            // A share of nothing is above no limit that a share may have.
            let most = if least < 0 { -1 } else { 0 };
            Test::AtMost { window, part, most }
        } else {
            let per = i128::from(rule.per_secs.unwrap_or(*secs));
            let most = (least * i128::from(*secs)).div_euclid(per * unit);
            Test::AtMost { window, part, most }
        })
    };
    rule.windows.iter().map(test).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scale(metric: Metric, per_secs: Option<i64>) -> Scale {
        let (part, unit) = Part::of(metric).unwrap();
        Scale {
            part,
            unit,
            per_secs,
            mean_of: Whole::of(metric),
            windows: vec![(0, 600)],
            ahead_secs: 0,
        }
    }

    proptest! {
        /// A sum is within its bound if and only if it is not above its limit, and clear of it likewise; a mean that is within is
        /// not above, and one that is not within is not clear.
        #[test]
        fn a_bound_is_the_limit_in_the_unit_of_the_sum(
            is_mean in any::<bool>(),
            per in prop::sample::select(vec![None, Some(60), Some(7), Some(3600)]),
            limit in 0_i128..50 * UNIT,
            sum in 0_i128..3_000,
            requests in 1_i64..60,
        ) {
            let metric = if is_mean { Metric::OutputPerRequest } else { Metric::Tokens };
            let scale = scale(metric, per);
            let sums = Sums { fresh: i64::try_from(sum).unwrap(), output: i64::try_from(sum).unwrap(), requests, ..Sums::default() };
            let value = metric.read(&sums, 600, per).unwrap();
            let is_of = |bound: &Bound, sums: &Sums| bound.part.read(sums) <= bound.most_of(|| sums.requests.into());
            let quick = Quick { least: Vec::new(), scale: Some(scale) };
            let within = quick.within(Some(limit)).unwrap().0[0].unwrap();
            let clear = quick.within_and_clear(limit, 0, limit).unwrap().0[0].unwrap();
            let (above, unclear) = (quick.above(0, limit).unwrap(), quick.unclear(0, limit).unwrap());
            if is_mean {
                prop_assert!(!is_of(&within, &sums) || !value.is_above(limit));
                prop_assert!(is_of(&above, &sums) || value.is_above(limit));
                prop_assert!(is_of(&unclear, &sums) || !value.is_clear_below(limit));
            } else {
                prop_assert_eq!(is_of(&within, &sums), !value.is_above(limit));
                prop_assert!(is_of(&above, &sums) || value.is_above(limit));
                prop_assert_eq!(is_of(&unclear, &sums), value.is_clear_below(limit));
            }
            prop_assert!(!is_of(&clear, &sums) || value.is_clear_below(limit));
        }
    }
}
