//! Parts of what responses cost that a model's name does not tell: fast mode, long prompts, cache writes that live an hour, web
//! searches, sub-agents.
//!
//! One response may be of several. Knows what a single response says of itself.

use serde::{Deserialize, Serialize};

use crate::monitor::dedupe::Growth;
use crate::monitor::record::{Tokens, UsageRecord};
use crate::price::{PicoUsd, Premium};

/// Something that a part of the cost is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// Responses in fast mode, at a multiple of the usual price.
    FastMode,
    /// Requests whose prompt is so long that their model is dearer.
    LongPrompts,
    /// Cache writes that live an hour, at twice the price of input.
    HourWrites,
    /// Web searches, which are paid one by one.
    WebSearches,
    /// Responses to sub-agents.
    SubAgents,
}

/// All of them, in the order in which they are told.
pub const PORTIONS: [Portion; 5] = [
    Portion::FastMode,
    Portion::LongPrompts,
    Portion::HourWrites,
    Portion::WebSearches,
    Portion::SubAgents,
];

impl Portion {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FastMode => "fast_mode",
            Self::LongPrompts => "long_prompts",
            Self::HourWrites => "hour_writes",
            Self::WebSearches => "web_searches",
            Self::SubAgents => "sub_agents",
        }
    }
}

/// Something for each portion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Portions<T>([T; PORTIONS.len()]);

impl<T: Copy> Portions<T> {
    /// In the order of [`PORTIONS`].
    pub const fn new(of_each: [T; PORTIONS.len()]) -> Self {
        Self(of_each)
    }

    /// That of one of them.
    pub const fn of(&self, portion: Portion) -> T {
        self.0[portion as usize]
    }

    /// Something else for each.
    pub fn map<U>(&self, with: impl FnMut(T) -> U) -> Portions<U> {
        Portions(self.0.map(with))
    }
}

impl Portions<PicoUsd> {
    /// What a response costs for each; none for most responses, which are of no portion.
    #[inline]
    pub(in crate::monitor) fn of_record(record: &UsageRecord) -> Option<Self> {
        let Premium { fast, long_prompt } = record.premium;
        let tokens = &record.tokens;
        let is_any = fast
            || long_prompt
            || tokens.cache_write_1h > 0
            || tokens.web_search > 0
            || record.labels.agent.is_some();
        is_any.then(|| Self::split(record)).flatten()
    }

    #[cold]
    fn split(record: &UsageRecord) -> Option<Self> {
        let all = record.cost?;
        let beside: PicoUsd = record.extra.iter().filter_map(|extra| extra.cost).sum();
        let own = all - beside;
        let cost_of = |tokens: &Tokens| record.rates.map(|rates| rates.cost(tokens));
        // What is refused costs nothing, whatever it used.
        let of_searches = cost_of(&record.tokens).map_or(PicoUsd::ZERO, |of_tokens| {
            PicoUsd((own - of_tokens).0.max(0))
        });
        let hour_writes = Tokens {
            cache_write_1h: record.tokens.cache_write_1h,
            ..Tokens::default()
        };
        let of_hour_writes = cost_of(&hour_writes).unwrap_or_default().min(own);
        let whole = |is_it, cost| if is_it { cost } else { PicoUsd::ZERO };
        Some(Self([
            whole(record.premium.fast, all),
            whole(record.premium.long_prompt, own),
            of_hour_writes,
            of_searches,
            whole(record.labels.agent.is_some(), all),
        ]))
    }

    /// What a copy has more, which is output.
    pub(in crate::monitor) fn of_growth(growth: &Growth) -> Option<Self> {
        let cost = growth.cost?;
        let whole = |is_it| if is_it { cost } else { PicoUsd::ZERO };
        let Premium { fast, long_prompt } = growth.premium;
        let is_of_agent = growth.labels.agent.is_some();
        (fast || long_prompt || is_of_agent).then(|| {
            Self([
                whole(fast),
                whole(long_prompt),
                PicoUsd::ZERO,
                PicoUsd::ZERO,
                whole(is_of_agent),
            ])
        })
    }

    /// Adds others to these.
    pub(in crate::monitor) fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// In per cent of a whole.
    pub fn shares(&self, whole: PicoUsd) -> Portions<u8> {
        self.map(|part| u8::try_from(part.0 * 100 / whole.0.max(1)).unwrap_or(100))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::monitor::record::{ExtraUsage, Labels};
    use crate::price::{Rates, Ratio};

    /// A thousand tokens of input for 1,000, a search for 500, and 200 beside it.
    fn record(premium: Premium, web_search: u64, agent: Option<&str>) -> UsageRecord {
        let labels = Labels {
            agent: agent.map(Arc::from),
            ..Labels::default()
        };
        UsageRecord {
            labels: Arc::new(labels),
            tokens: Tokens {
                input: 1_000,
                web_search,
                ..Tokens::default()
            },
            rates: Some(Rates {
                input: 1,
                output: 5,
                cache_write_5m: 1,
                cache_write_1h: 2,
                cache_read: 0,
                factor: Ratio::ONE,
            }),
            extra: vec![ExtraUsage {
                model: "b".into(),
                tokens: Tokens::default(),
                cost: Some(PicoUsd(200)),
            }],
            cost: Some(PicoUsd(1_200 + 500 * i128::from(web_search))),
            premium,
            ..UsageRecord::blank()
        }
    }

    #[test]
    fn a_response_may_be_of_several_and_most_are_of_none() {
        let premium = |fast, long_prompt| Premium { fast, long_prompt };
        let split = |record: &UsageRecord| {
            Portions::of_record(record).map(|portions| portions.0.map(|cost| cost.0))
        };
        let plain = record(premium(false, false), 0, None);
        assert_eq!(split(&plain), None);
        let fast = record(premium(true, false), 2, None);
        assert_eq!(split(&fast), Some([2_200, 0, 0, 1_000, 0]));
        let long = record(premium(false, true), 0, Some("x"));
        assert_eq!(split(&long), Some([0, 1_000, 0, 0, 1_200]));
        let mut written = record(premium(false, false), 0, None);
        written.tokens.cache_write_5m = 100;
        written.tokens.cache_write_1h = 300;
        written.cost = written.cost.map(|cost| cost + PicoUsd(100 + 600));
        assert_eq!(split(&written), Some([0, 0, 600, 0, 0]));
        let refused = UsageRecord {
            cost: Some(PicoUsd::ZERO),
            extra: Vec::new(),
            ..written
        };
        assert_eq!(split(&refused), Some([0; 5]));
        let unpriced = UsageRecord {
            cost: None,
            ..record(premium(true, false), 2, None)
        };
        assert_eq!(split(&unpriced), None);
    }

    #[test]
    fn shares_are_of_the_whole() {
        let costs = Portions([1, 50, 0, 200, 0].map(PicoUsd));
        assert_eq!(costs.shares(PicoUsd(200)), Portions([0, 25, 0, 100, 0]));
        assert_eq!(costs.shares(PicoUsd::ZERO).of(Portion::SubAgents), 0);
    }
}
