//! What a span of a log adds up to.
//!
//! Plain sums. Knows neither windows nor rules, and forgets nothing but what lies before its span.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::cache::{Cause, Lifetimes, Miss};
use super::dedupe::Growth;
use super::reconcile::{Change, Residual};
use super::record::{Caveats, ErrorRecord, Labels, Stamp, Time, Tokens, UsageRecord};
use super::who::Portions;
use crate::price::PicoUsd;

/// Models and groups beyond this are added up as [`OTHER_GROUPS`].
const MAX_GROUPS: usize = 10_000;

/// The name of all groups that are too many to be kept.
pub const OTHER_GROUPS: &str = "(other)";

/// The name of those that have none.
const NO_GROUP: &str = "-";

/// What sums are also given by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupBy {
    /// The model.
    Model,
    /// The session.
    Session,
    /// The project.
    Project,
    /// What stands at a place that the user names: which of them.
    Place(usize),
}

impl GroupBy {
    fn of(self, labels: &Labels) -> Option<&Arc<str>> {
        match self {
            Self::Model => Some(&labels.model),
            Self::Session => labels.session.as_ref(),
            Self::Project => labels.project.as_ref(),
            Self::Place(slot) => labels.places.get(slot)?.as_ref(),
        }
    }
}

/// Sums for one model or group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelTotal {
    /// Responses.
    pub records: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// Cost of those that have a price.
    pub cost: PicoUsd,
    /// Responses without a price.
    pub unpriced: u64,
    /// Other reasons why the cost is a lower bound, of all responses together.
    pub inexact: u64,
}

impl ModelTotal {
    /// Adds other sums to these.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.tokens.add(&other.tokens);
        self.cost += other.cost;
        self.unpriced += other.unpriced;
        self.inexact += other.inexact;
    }

    /// The cost is not the whole.
    pub const fn is_lower_bound(&self) -> bool {
        self.unpriced > 0 || self.inexact > 0
    }
}

/// Sums for one cause of cache misses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseTotal {
    /// Affected requests.
    pub requests: u64,
    /// Tokens that the cache would have given.
    pub tokens: u64,
    /// What they cost again.
    pub cost: PicoUsd,
}

impl CauseTotal {
    fn count(&mut self, miss: &Miss) {
        self.requests += 1;
        self.tokens += miss.tokens;
        self.cost += miss.cost;
    }
}

/// All sums of a span.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The last of these times.
    pub last_bad_time: Option<Time>,
    /// Responses that came later than the lateness allows.
    pub late: u64,
    /// Those that a window of one of the rules did not hold any more.
    pub too_late: u64,
    /// Responses from before the history that was asked for; in no other sum.
    pub old: u64,
    /// Responses without a price.
    pub unpriced: u64,
    /// Responses of batches, which are in no window.
    pub batch: u64,
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
    /// Responses with cache writes of an unknown time to live, valued as of five minutes.
    pub assumed_5m: u64,
    /// Responses whose input count could not hold the cache counts and was taken as without them.
    pub taken_exclusive: u64,
    /// Responses whose counts are of several prompts, of which some may have been long ones.
    pub assumed_short: u64,
    /// Conversations that were compacted, where what the summary cost stands nowhere in the log.
    pub unlogged_summaries: u64,
    /// Error answers of the API.
    pub errors: u64,
    /// Runs with usage that stands in no line of its own and was taken from their closing line.
    pub reconciled: u64,
    /// What that usage costs.
    pub reconciled_cost: PicoUsd,
    /// Residuals of runs without a price.
    pub reconciled_unpriced: u64,
    /// Residuals of runs with cache writes of an unknown time to live.
    pub reconciled_assumed: u64,
    /// Responses that could not be remembered for telling copies apart.
    pub forgotten: u64,
    /// An id stands for many different responses.
    pub reused_id: bool,
    /// All tokens.
    pub tokens: Tokens,
    /// Cost of all priced usage.
    pub cost: PicoUsd,
    /// What of it is for what a model's name does not tell.
    pub portions: Portions<PicoUsd>,
    /// By canonical model id.
    pub by_model: BTreeMap<Arc<str>, ModelTotal>,
    /// What the sums are also given by.
    pub group_by: Option<GroupBy>,
    /// By group.
    pub by_group: BTreeMap<Arc<str>, ModelTotal>,
    /// By cause of the miss.
    pub by_cause: BTreeMap<Cause, CauseTotal>,
    /// What cache writes with the other time to live would have saved, by canonical model id.
    pub lifetimes: BTreeMap<Arc<str>, Lifetimes>,
    /// Misses only if the request before was of the same conversation, which nobody can tell.
    pub doubtful: CauseTotal,
    /// Episodes that were told, by rule.
    pub alerts_by_rule: BTreeMap<Arc<str>, u64>,
    /// First and last time of the span.
    pub span: Option<(Time, Time)>,
}

/// All that is known of a record's cost: without a price of its own still that of the usage billed beside it.
fn cost_of(record: &UsageRecord) -> PicoUsd {
    let beside = record.extra.iter().filter_map(|extra| extra.cost).sum();
    record.cost.unwrap_or(beside)
}

/// The sums of one of many, or of all that there is no room for.
fn entry(totals: &mut BTreeMap<Arc<str>, ModelTotal>, name: Arc<str>) -> &mut ModelTotal {
    let has_room = totals.len() < MAX_GROUPS || totals.contains_key(&name);
    let name = if has_room { name } else { OTHER_GROUPS.into() };
    totals.entry(name).or_default()
}

impl Totals {
    /// Empty sums for a span that begins at `from`, or with the first record.
    pub fn since(from: Option<Time>, group_by: Option<GroupBy>) -> Self {
        Self {
            from,
            group_by,
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
            Stamp::Undated | Stamp::Impossible(_) => None,
        };
        if !self.covers(at) {
            return;
        }
        self.records += 1;
        self.undated += u64::from(record.stamp == Stamp::Undated);
        if let Stamp::Impossible(time) = record.stamp {
            self.bad_time += 1;
            self.last_bad_time = Some(time);
        }
        self.unpriced += u64::from(record.cost.is_none() || record.caveats.extra_unpriced);
        self.batch += u64::from(record.batch);
        self.count_caveats(&record.caveats);
        let all = record.all_tokens();
        self.tokens.add(&all);
        self.cost += cost_of(record);
        if let Some(portions) = Portions::of_record(record) {
            self.portions.add(&portions);
        }
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
        self.assumed_5m += u64::from(caveats.assumed_5m);
        self.taken_exclusive += u64::from(caveats.taken_exclusive);
        self.assumed_short += u64::from(caveats.assumed_short);
    }

    /// Counts an error answer.
    pub fn count_error(&mut self, error: &ErrorRecord) {
        let at = match error.stamp {
            Stamp::At(time) => Some(time),
            Stamp::Undated | Stamp::Impossible(_) => None,
        };
        self.errors += u64::from(self.covers(at));
    }

    /// Usage billed beside a response is listed under its own model.
    fn count_by_model(&mut self, record: &UsageRecord) {
        let extra: PicoUsd = record.extra.iter().filter_map(|extra| extra.cost).sum();
        for extra in &record.extra {
            let model = self.model(&extra.model);
            model.tokens.add(&extra.tokens);
            model.cost += extra.cost.unwrap_or_default();
            model.inexact += u64::from(extra.cost.is_none());
        }
        let caveats = &record.caveats;
        let reasons = [
            caveats.output_understated,
            caveats.assumed_5m,
            caveats.assumed_short,
            caveats.declined_hops > 0,
        ];
        let inexact = reasons.into_iter().map(u64::from).sum();
        let own = ModelTotal {
            records: 1,
            tokens: record.tokens,
            cost: record.cost.map(|cost| cost - extra).unwrap_or_default(),
            unpriced: u64::from(record.cost.is_none()),
            inexact,
        };
        match self.by_model.get_mut(&record.labels.model) {
            // Nearly always, and then nothing is shared anew.
            Some(known) => known.add(&own),
            None => self.model(&record.labels.model).add(&own),
        }
        let all = ModelTotal {
            tokens: record.all_tokens(),
            cost: cost_of(record),
            inexact: inexact + u64::from(caveats.extra_unpriced),
            ..own
        };
        if let Some(group) = self.group(&record.labels) {
            group.add(&all);
        }
    }

    fn model(&mut self, id: &Arc<str>) -> &mut ModelTotal {
        entry(&mut self.by_model, Arc::clone(id))
    }

    fn group(&mut self, labels: &Labels) -> Option<&mut ModelTotal> {
        let name = self.group_by?.of(labels).cloned();
        let name = name.unwrap_or_else(|| NO_GROUP.into());
        Some(entry(&mut self.by_group, name))
    }

    /// Brings in what a run says that it used beyond what was counted of it.
    pub fn reconcile(&mut self, change: &Change) {
        for residual in &change.withdrawn {
            self.residual(residual, -1);
        }
        for residual in &change.added {
            self.residual(residual, 1);
        }
        for (labels, n) in &change.covered {
            self.understated = self.understated.saturating_add_signed(-n);
            let model = self.model(&labels.model);
            model.inexact = model.inexact.saturating_add_signed(-n);
            if let Some(group) = self.group(labels) {
                group.inexact = group.inexact.saturating_add_signed(-n);
            }
        }
        self.reconciled = self.reconciled.saturating_add_signed(change.opened);
    }

    fn residual(&mut self, residual: &Residual, sign: i64) {
        let cost = PicoUsd(residual.cost.unwrap_or_default().0 * i128::from(sign));
        let count = |n: &mut u64, holds: bool| {
            *n = n.saturating_add_signed(if holds { sign } else { 0 });
        };
        let unpriced = residual.cost.is_none();
        count(&mut self.reconciled_unpriced, unpriced);
        count(&mut self.reconciled_assumed, residual.assumed_5m);
        self.reconciled_cost += cost;
        self.cost += cost;
        let change = |tokens: &mut Tokens| {
            if sign > 0 {
                tokens.add(&residual.tokens);
            } else {
                tokens.subtract(&residual.tokens);
            }
        };
        change(&mut self.tokens);
        let inexact = unpriced || residual.assumed_5m;
        let sums = |total: &mut ModelTotal| {
            change(&mut total.tokens);
            total.cost += cost;
            count(&mut total.inexact, inexact);
        };
        sums(self.model(&residual.labels.model));
        if let Some(group) = self.group(&residual.labels) {
            sums(group);
        }
    }

    /// Counts a copy, and what it adds if it has grown.
    pub fn count_copy(&mut self, growth: Option<&Growth>) {
        self.duplicates += 1;
        let Some(growth) = growth.filter(|growth| self.covers(growth.first)) else {
            return;
        };
        self.understated = self.understated.saturating_sub(u64::from(growth.now_final));
        self.tokens.add(&growth.tokens);
        let beside: PicoUsd = growth.extra.iter().filter_map(|extra| extra.cost).sum();
        self.cost += growth.cost.unwrap_or(beside);
        if let Some(portions) = Portions::of_growth(growth) {
            self.portions.add(&portions);
        }
        for extra in &growth.extra {
            self.tokens.add(&extra.tokens);
            let model = self.model(&extra.model);
            model.tokens.add(&extra.tokens);
            model.cost += extra.cost.unwrap_or_default();
        }
        let model = self.model(&growth.labels.model);
        model.tokens.add(&growth.tokens);
        model.cost += growth.cost.map(|cost| cost - beside).unwrap_or_default();
        model.inexact = model.inexact.saturating_sub(u64::from(growth.now_final));
        if let Some(group) = self.group(&growth.labels) {
            group.tokens.add(&growth.tokens);
            for extra in &growth.extra {
                group.tokens.add(&extra.tokens);
            }
            group.cost += growth.cost.unwrap_or(beside);
            group.inexact = group.inexact.saturating_sub(u64::from(growth.now_final));
        }
    }

    /// Counts an alert of a rule that is told for the first time.
    pub(super) fn count_alert(&mut self, rule: &Arc<str>) {
        *self.alerts_by_rule.entry(Arc::clone(rule)).or_default() += 1;
    }

    /// Counts a request that the cache did not serve.
    pub fn count_miss(&mut self, miss: &Miss) {
        if !self.covers(Some(miss.at)) {
            return;
        }
        self.by_cause
            .entry(miss.cause.clone())
            .or_default()
            .count(miss);
    }

    /// Counts a request of which nobody can tell whether the cache could have served it.
    pub fn count_doubtful(&mut self, miss: &Miss) {
        if self.covers(Some(miss.at)) {
            self.doubtful.count(miss);
        }
    }

    /// Counts what the other time to live would have saved on a response. Of a model that never writes it is nobody's choice.
    pub(super) fn count_lifetimes(&mut self, record: &UsageRecord, at: Time, gain: Lifetimes) {
        if !self.covers(Some(at)) {
            return;
        }
        let model = &record.labels.model;
        if let Some(known) = self.lifetimes.get_mut(model) {
            known.add(gain);
        } else if record.tokens.cache_write() > 0 && self.lifetimes.len() < MAX_GROUPS {
            self.lifetimes.insert(Arc::clone(model), gain);
        }
    }

    /// Dollars paid again that could have been avoided.
    pub fn waste(&self) -> PicoUsd {
        self.by_cause
            .iter()
            .filter(|(cause, _)| cause.is_waste())
            .map(|(_, total)| total.cost)
            .sum()
    }

    /// The cost is not the whole: some of it has no price, a placeholder for its output, cache writes or prompts that may be dearer,
    /// hops that may have been billed, or summaries that are not in the log.
    pub fn is_lower_bound(&self) -> bool {
        [
            self.unpriced,
            self.understated,
            self.assumed_5m,
            self.assumed_short,
            self.declined_hops,
            self.unlogged_summaries,
            self.reconciled_unpriced,
            self.reconciled_assumed,
        ]
        .iter()
        .any(|n| *n > 0)
    }

    /// Share of all prompt tokens that came from the cache, in thousandths; `None` without prompts.
    pub fn cache_read_per_mille(&self) -> Option<u64> {
        (self.tokens.cache_read * 1000).checked_div(self.tokens.prompt())
    }
}
