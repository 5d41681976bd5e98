//! The cheapest way to see that a rule stays quiet: numbers worked out beforehand that sums must be beyond.
//!
//! Asked of each rule for each response, so it looks at as little as it can. It may be unsure, but never wrong: what it lets pass
//! no reading would call a breach.

use super::baseline::{Amount, UNIT};
use super::cache::CacheTracker;
use super::metric::Metric;
use super::reading::{MIN_AFFECTED, least_limit};
use super::rule::{Limit, Rule};
use super::scope::Key;
use super::window::Sums;

/// What a rule surely needs before it can fire. It needs one of these to fail.
#[derive(Debug, Clone, Default)]
pub(super) struct Quick(Vec<Test>);

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
#[derive(Debug, Clone, Copy)]
enum Part {
    Cost,
    Waste,
    CacheGain,
    Fresh,
    Prompt,
    Output,
    Requests,
    Affected,
    Errors,
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
            Metric::Errors => (Self::Errors, UNIT),
            Metric::CacheMiss
            | Metric::Silence
            | Metric::Budget
            | Metric::Blind
            | Metric::MissRun
            | Metric::Unpriced
            | Metric::NoCache => return None,
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
            Self::Errors => sums.errors.into(),
        }
    }
}

impl Quick {
    /// What a rule needs, where keys have windows of these lengths. Empty if there is no quick way to tell.
    pub(super) fn of(rule: &Rule, window_secs: &[i64]) -> Self {
        Self(tests(rule, window_secs).unwrap_or_default())
    }

    /// The rule, if it is quiet, stays so: a reading at this moment would be no breach.
    #[inline]
    pub(super) fn stays_quiet(&self, cache: &CacheTracker, key: &Key) -> bool {
        !self.0.is_empty() && self.0.iter().all(|test| test.holds(cache, key))
    }
}

impl Test {
    #[inline]
    fn holds(self, cache: &CacheTracker, key: &Key) -> bool {
        let total = |window: usize| key.windows[window].total();
        match self {
            Self::AtMost { window, part, most } => part.read(total(window)) <= most,
            Self::MeanAtMost { window, part, most } => {
                let total = total(window);
                part.read(total) <= most * i128::from(total.requests)
            }
            Self::Priced => !key.unpriced,
            Self::Caching { window, requests } => {
                let total = total(window);
                total.cached > 0 || total.large < requests
            }
            Self::NoRun => cache
                .run(key.labels.conversation)
                .is_none_or(|run| run.in_a_row() <= 1),
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
    let least = least_limit(rule)?;
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
