//! What a span of a log adds up to.
//!
//! Plain sums. Knows neither windows nor rules, and forgets nothing but what lies before its span.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cache::{Cause, Miss};
use super::dedupe::Growth;
use super::record::{Caveats, Stamp, Time, Tokens, UsageRecord};
use crate::price::PicoUsd;

/// Sums for one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelTotal {
    /// Responses.
    pub records: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// Cost of those that have a price.
    pub cost: PicoUsd,
    /// Responses without a price.
    pub unpriced: u64,
}

/// Sums for one cause of cache misses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CauseTotal {
    /// Affected requests.
    pub requests: u64,
    /// Tokens that the cache would have given.
    pub tokens: u64,
    /// What they cost again.
    pub cost: PicoUsd,
}

/// All sums of a span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records before this moment are not of the span.
    pub from: Option<Time>,
    /// Responses, each once.
    pub records: u64,
    /// Copies that were not counted again.
    pub duplicates: u64,
    /// Responses without a time.
    pub undated: u64,
    /// Responses whose only time is impossible.
    pub bad_time: u64,
    /// Responses that came later than the lateness allows.
    pub late: u64,
    /// Those that no window held any more.
    pub too_late: u64,
    /// Responses from before the history that was asked for; in no other sum.
    pub old: u64,
    /// Responses without a price.
    pub unpriced: u64,
    /// Responses whose output count is a placeholder.
    pub understated: u64,
    /// Responses of the priority tier, valued at standard rates.
    pub priority: u64,
    /// Responses valued at standard rates for want of a multiplier.
    pub assumed_standard: u64,
    /// Refusals that are not billed.
    pub not_billed: u64,
    /// Declined hops of fallbacks, not charged.
    pub declined_hops: u64,
    /// All tokens.
    pub tokens: Tokens,
    /// Cost of all priced usage.
    pub cost: PicoUsd,
    /// By canonical model id.
    pub by_model: BTreeMap<Arc<str>, ModelTotal>,
    /// By cause of the miss.
    pub by_cause: BTreeMap<Cause, CauseTotal>,
    /// Episodes that were told, by rule.
    pub alerts_by_rule: BTreeMap<Arc<str>, u64>,
    /// First and last time of the span.
    pub span: Option<(Time, Time)>,
}

impl Totals {
    /// Empty sums for a span that begins at `from`, or with the first record.
    pub fn since(from: Option<Time>) -> Self {
        Self {
            from,
            ..Self::default()
        }
    }

    fn covers(&self, at: Option<Time>) -> bool {
        self.from.is_none_or(|from| at.is_none_or(|at| at >= from))
    }

    /// Counts a response.
    pub fn count(&mut self, record: &UsageRecord) {
        let at = match record.stamp {
            Stamp::At(time) => Some(time),
            Stamp::Undated | Stamp::Impossible => None,
        };
        if !self.covers(at) {
            return;
        }
        self.records += 1;
        self.undated += u64::from(record.stamp == Stamp::Undated);
        self.bad_time += u64::from(record.stamp == Stamp::Impossible);
        self.unpriced += u64::from(record.cost.is_none() || record.caveats.extra_unpriced);
        self.count_caveats(&record.caveats);
        let all = record.all_tokens();
        self.tokens.add(&all);
        self.cost += record.cost.unwrap_or_default();
        self.count_by_model(record);
        if let Some(at) = at {
            let (first, last) = self.span.unwrap_or((at, at));
            self.span = Some((first.min(at), last.max(at)));
        }
    }

    fn count_caveats(&mut self, caveats: &Caveats) {
        self.understated += u64::from(caveats.output_understated);
        self.priority += u64::from(caveats.priority);
        self.assumed_standard += u64::from(caveats.assumed_standard);
        self.not_billed += u64::from(caveats.not_billed);
        self.declined_hops += u64::from(caveats.declined_hops);
    }

    /// Usage billed beside a response is listed under its own model.
    fn count_by_model(&mut self, record: &UsageRecord) {
        let extra: PicoUsd = record.extra.iter().filter_map(|extra| extra.cost).sum();
        for extra in &record.extra {
            let model = self.model(&extra.model);
            model.tokens.add(&extra.tokens);
            model.cost += extra.cost.unwrap_or_default();
        }
        let model = self.model(&record.labels.model);
        model.records += 1;
        model.tokens.add(&record.tokens);
        model.unpriced += u64::from(record.cost.is_none());
        if let Some(cost) = record.cost {
            model.cost += cost - extra;
        }
    }

    fn model(&mut self, id: &Arc<str>) -> &mut ModelTotal {
        if !self.by_model.contains_key(id) {
            self.by_model.insert(Arc::clone(id), ModelTotal::default());
        }
        self.by_model.entry(Arc::clone(id)).or_default()
    }

    /// Counts a copy, and what it adds if it has grown.
    pub fn count_copy(&mut self, growth: Option<&Growth>) {
        self.duplicates += 1;
        let Some(growth) = growth.filter(|growth| self.covers(growth.first)) else {
            return;
        };
        self.understated = self.understated.saturating_sub(u64::from(growth.now_final));
        self.tokens.add(&growth.tokens);
        self.cost += growth.cost.unwrap_or_default();
        let model = self.model(&growth.labels.model);
        model.tokens.add(&growth.tokens);
        model.cost += growth.cost.unwrap_or_default();
    }

    /// Counts a request that the cache did not serve.
    pub fn count_miss(&mut self, miss: &Miss) {
        if !self.covers(Some(miss.at)) {
            return;
        }
        let total = self.by_cause.entry(miss.cause.clone()).or_default();
        total.requests += 1;
        total.tokens += miss.tokens;
        total.cost += miss.cost;
    }

    /// Dollars paid again that could have been avoided.
    pub fn waste(&self) -> PicoUsd {
        self.by_cause
            .iter()
            .filter(|(cause, _)| cause.is_waste())
            .map(|(_, total)| total.cost)
            .sum()
    }

    /// The cost is not the whole: some of it has no price, or a placeholder for its output.
    pub fn is_lower_bound(&self) -> bool {
        self.unpriced > 0 || self.understated > 0
    }

    /// Share of all prompt tokens that came from the cache, in thousandths; `None` without prompts.
    pub fn cache_read_per_mille(&self) -> Option<u64> {
        (self.tokens.cache_read * 1000).checked_div(self.tokens.prompt())
    }
}
