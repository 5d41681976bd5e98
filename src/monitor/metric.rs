//! What a rule reads off a window.
//!
//! Values are exact fractions of whole numbers; they are compared with limits by cross-multiplication.

use super::usual::{Amount, UNIT};
use super::window::{BUCKETS, Sums};

/// A number that rules are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Dollars spent.
    Cost,
    /// Tokens computed anew: input, output and cache writes. Cache reads are left out: they dominate every sum and say little.
    Tokens,
    /// Whole prompts.
    PromptTokens,
    /// Output tokens.
    OutputTokens,
    /// Responses.
    Requests,
    /// Dollars of a response, on average.
    CostPerRequest,
    /// Tokens of a prompt, on average.
    PromptPerRequest,
    /// Output tokens of a response, on average.
    OutputPerRequest,
    /// Dollars that caching has saved: reads at the price of input, less what writing cost beyond input.
    CacheGain,
    /// Share of eligible prompts that was not read from the cache.
    CacheMiss,
    /// Share of answers that are errors.
    Errors,
    /// No response comes any more.
    Silence,
    /// Dollars of a calendar hour, day or month.
    Budget,
    /// Nothing is seen where something should be. Has no number.
    Blind,
    /// Dollars paid again for what the cache would have given.
    CacheWaste,
    /// Affected requests in a row in one conversation.
    MissRun,
    /// Responses of a model without a price. Said once for each model.
    Unpriced,
    /// Large prompts that neither read nor wrote the cache. Said once for each key.
    NoCache,
    /// Dollars paid again for what the cache would have given, all day long. Said once for each key.
    CacheLeak,
}

/// All metrics in the order of the documentation.
pub const METRICS: [Metric; 19] = [
    Metric::Cost,
    Metric::Tokens,
    Metric::PromptTokens,
    Metric::OutputTokens,
    Metric::Requests,
    Metric::CostPerRequest,
    Metric::PromptPerRequest,
    Metric::OutputPerRequest,
    Metric::CacheGain,
    Metric::CacheMiss,
    Metric::Errors,
    Metric::Silence,
    Metric::Budget,
    Metric::Blind,
    Metric::CacheWaste,
    Metric::MissRun,
    Metric::Unpriced,
    Metric::NoCache,
    Metric::CacheLeak,
];

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Dollars.
    Usd,
    /// Tokens.
    Tokens,
    /// Requests.
    Requests,
    /// A share from 0 to 1.
    Share,
    /// Seconds.
    Seconds,
}

impl Metric {
    /// The name in rules and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Tokens => "tokens",
            Self::PromptTokens => "prompt-tokens",
            Self::OutputTokens => "output-tokens",
            Self::Requests => "requests",
            Self::CostPerRequest => "cost-per-request",
            Self::PromptPerRequest => "prompt-per-request",
            Self::OutputPerRequest => "output-per-request",
            Self::CacheGain => "cache-gain",
            Self::CacheMiss => "cache-miss",
            Self::Errors => "errors",
            Self::Silence => "silence",
            Self::Budget => "budget",
            Self::Blind => "blind",
            Self::CacheWaste => "cache-waste",
            Self::MissRun => "miss-run",
            Self::Unpriced => "unpriced",
            Self::NoCache => "no-cache",
            Self::CacheLeak => "cache-leak",
        }
    }

    /// One line of explanation.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Cost => "dollars spent",
            Self::Tokens => "input, output and cache-write tokens (cache reads left out)",
            Self::PromptTokens => "tokens of whole prompts",
            Self::OutputTokens => "output tokens",
            Self::Requests => "responses",
            Self::CacheMiss => "share of large prompts not read from the cache, 0 to 1",
            Self::Errors => "share of answers that are API errors, 0 to 1",
            Self::CostPerRequest => "dollars of a response, on average",
            Self::PromptPerRequest => "tokens of a prompt, on average",
            Self::OutputPerRequest => "output tokens of a response, on average",
            Self::CacheGain => {
                "dollars that caching has saved; below 0 it costs more than it saves"
            }
            Self::Silence => "seconds without a response",
            Self::Budget => "dollars of the calendar hour, day or month, in --timezone",
            Self::Blind => "nothing is seen where something should be",
            Self::CacheWaste => "dollars paid again for what the cache would have given",
            Self::MissRun => "requests in a row that missed the cache, in one conversation",
            Self::Unpriced => "responses of a model without a price; said once for each",
            Self::NoCache => "large prompts that neither read nor wrote the cache; said once",
            Self::CacheLeak => "dollars paid again, all over the window and not at once; said once",
        }
    }

    /// What its values count.
    pub const fn unit(self) -> Unit {
        match self {
            Self::Cost
            | Self::CacheWaste
            | Self::CacheLeak
            | Self::CacheGain
            | Self::CostPerRequest
            | Self::Budget => Unit::Usd,
            Self::Tokens
            | Self::PromptTokens
            | Self::OutputTokens
            | Self::PromptPerRequest
            | Self::OutputPerRequest => Unit::Tokens,
            Self::Silence => Unit::Seconds,
            Self::Requests | Self::MissRun | Self::Unpriced | Self::NoCache | Self::Blind => {
                Unit::Requests
            }

            Self::CacheMiss | Self::Errors => Unit::Share,
        }
    }

    /// A sum over the window, which can be given per minute; the others are shares or lengths.
    pub const fn is_sum(self) -> bool {
        match self {
            Self::Cost
            | Self::Tokens
            | Self::PromptTokens
            | Self::OutputTokens
            | Self::Requests
            | Self::CacheGain
            | Self::CacheWaste => true,
            Self::CostPerRequest
            | Self::PromptPerRequest
            | Self::OutputPerRequest
            | Self::CacheMiss
            | Self::Errors
            | Self::Silence
            | Self::Budget
            | Self::Blind
            | Self::MissRun
            | Self::Unpriced
            | Self::NoCache
            | Self::CacheLeak => false,
        }
    }

    /// Read off a window at all.
    pub const fn is_windowed(self) -> bool {
        self.is_sum() || self.is_mean() || matches!(self, Self::CacheMiss | Self::Errors)
    }

    /// How much there is: a sum to which nothing adds less than nothing, and which goes with the hours of the day.
    pub const fn is_volume(self) -> bool {
        matches!(
            self,
            Self::Cost | Self::Tokens | Self::PromptTokens | Self::OutputTokens | Self::Requests
        )
    }

    /// An average over responses.
    pub const fn is_mean(self) -> bool {
        matches!(
            self,
            Self::CostPerRequest | Self::PromptPerRequest | Self::OutputPerRequest
        )
    }

    /// Its episodes cost nothing that could be told.
    pub const fn has_dollars(self) -> bool {
        !self.is_limitless() && !matches!(self, Self::Errors | Self::Silence)
    }

    /// About the cache: its exposure is waste, not cost.
    pub const fn is_about_cache(self) -> bool {
        matches!(self, Self::CacheMiss | Self::CacheWaste | Self::MissRun)
    }

    /// Said once for each key, without limit or end.
    pub const fn is_announcement(self) -> bool {
        matches!(self, Self::Unpriced | Self::NoCache | Self::CacheLeak)
    }

    /// Has no limit: it is so or it is not.
    pub const fn is_limitless(self) -> bool {
        self.is_announcement() || matches!(self, Self::Blind)
    }

    /// The requests that the metric is evidence of.
    pub const fn evidence(self, sums: &Sums) -> i64 {
        match self {
            Self::CacheMiss => sums.eligible,
            Self::Errors => sums.requests + sums.errors,
            _ => sums.requests,
        }
    }

    /// The value over a window. A share of nothing has none. `per_secs` turns a sum over `window_secs` into a rate.
    pub fn read(self, sums: &Sums, window_secs: i64, per_secs: Option<i64>) -> Option<Value> {
        let sum = match self {
            Self::Cost => sums.cost.0,
            Self::CacheWaste => sums.waste.0,
            Self::Tokens => whole(sums.fresh),
            Self::PromptTokens => whole(sums.prompt),
            Self::OutputTokens => whole(sums.output),
            Self::Requests => whole(sums.requests),
            Self::CacheMiss => {
                let missed = sums.eligible_prompt - sums.eligible_read;
                return (sums.eligible_prompt > 0)
                    .then(|| Value::new(whole(missed), i128::from(sums.eligible_prompt)));
            }
            Self::Errors => {
                let answers = sums.requests + sums.errors;
                return (answers > 0).then(|| Value::new(whole(sums.errors), i128::from(answers)));
            }
            Self::CacheGain => sums.cache_gain.0,
            Self::CostPerRequest => return mean(sums.cost.0, sums.requests),
            Self::PromptPerRequest => return mean(whole(sums.prompt), sums.requests),
            Self::OutputPerRequest => return mean(whole(sums.output), sums.requests),
            Self::MissRun
            | Self::Unpriced
            | Self::NoCache
            | Self::CacheLeak
            | Self::Silence
            | Self::Budget
            | Self::Blind => return None,
        };
        Some(Value::of_sum(sum, window_secs, per_secs))
    }
}

/// Seconds of the shortest window there is.
pub(super) const MIN_WINDOW_SECS: i64 = BUCKETS;

fn mean(sum: Amount, requests: i64) -> Option<Value> {
    (requests > 0).then(|| Value::new(sum, i128::from(requests)))
}

fn whole(n: i64) -> Amount {
    i128::from(n) * UNIT
}

/// An exact value: `num / den` in the fixed-point unit of [`Amount`].
#[derive(Debug, Clone, Copy)]
pub struct Value {
    num: i128,
    den: i128,
}

impl Value {
    /// A fraction; the denominator must be above zero.
    pub const fn new(num: i128, den: i128) -> Self {
        Self { num, den }
    }

    /// A sum over a window, as a rate if it is given per so many seconds.
    pub fn of_sum(sum: Amount, window_secs: i64, per_secs: Option<i64>) -> Self {
        match per_secs {
            Some(per) => Self::new(sum * i128::from(per), i128::from(window_secs)),
            None => Self::new(sum, 1),
        }
    }

    /// A whole count.
    pub const fn count(n: u32) -> Self {
        Self::new(n as i128 * UNIT, 1)
    }

    /// The value rounded down to the fixed-point unit, for output and baselines.
    pub fn amount(self) -> Amount {
        // Nearly all are small enough for a division that takes a tenth of the time.
        match (u64::try_from(self.num), u64::try_from(self.den)) {
            (Ok(num), Ok(den)) if den > 0 => Amount::from(num / den),
            _ => self.num.div_euclid(self.den),
        }
    }

    /// Exactly above the limit.
    pub const fn is_above(self, limit: Amount) -> bool {
        self.num > limit * self.den
    }

    /// Exactly below the limit.
    pub const fn is_below(self, limit: Amount) -> bool {
        self.num < limit * self.den
    }

    /// Below 0.8 × limit: clear of a limit from above.
    pub const fn is_clear_below(self, limit: Amount) -> bool {
        self.num * 5 < limit * 4 * self.den || (self.num <= 0 && limit >= 0)
    }

    /// Above limit ÷ 0.8: clear of a limit from below.
    pub const fn is_clear_above(self, limit: Amount) -> bool {
        self.num * 4 > limit * 5 * self.den
    }
}
