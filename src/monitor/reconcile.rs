//! What runs of Claude Code say that they used, held against what was counted of them.
//!
//! The closing line of a run has the truth for the whole: sub-agents, auxiliary calls, final output counts. What was counted of
//! the run, from its own lines or from its transcript, is taken from it; the residual is added to the totals and to nothing
//! else. It stays open: what is counted later comes out of the residual first, so the order of two files does not matter.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::dedupe::Growth;
use super::record::{Labels, RunReport, RunUsage, Tokens, UsageRecord};
use crate::price::{PicoUsd, Rates};

/// Usage of a run that was not counted by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residual {
    /// Whose it is.
    pub labels: Arc<Labels>,
    /// Tokens.
    pub tokens: Tokens,
    /// Their cost; `None` if the model has no price.
    pub cost: Option<PicoUsd>,
    /// The time to live of cache writes among them is not told.
    pub assumed_5m: bool,
}

/// How the totals change because of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Residuals that were counted and no longer hold.
    pub withdrawn: Vec<Residual>,
    /// Residuals that hold now.
    pub added: Vec<Residual>,
    /// 1 if the run had no residual before, -1 if it has none any more, else 0.
    pub opened: i64,
    /// Responses whose placeholder output the report makes good, more than before.
    pub covered: Vec<(Arc<Labels>, i64)>,
}

/// All runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ledger {
    accounts: FxHashMap<u64, Account>,
    /// Runs in the order of coming; only where memory is bounded.
    order: VecDeque<u64>,
    max: Option<usize>,
}

/// Small, because a log may have very many runs, and most of them never report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Account {
    counted: Vec<Counted>,
    reports: Option<Box<Reports>>,
}

/// What a run has reported, and what has come of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Reports {
    reported: Vec<Reported>,
    /// The reports taken in.
    seen: FxHashSet<u64>,
    /// What stands in the totals.
    told: Vec<Residual>,
    /// What stood in the totals of spans that are over.
    written_off: Vec<Residual>,
}

/// What was counted of one model.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Counted {
    model: Arc<str>,
    tokens: Tokens,
    rates: Option<Rates>,
    labels: Arc<Labels>,
    /// Responses of the present span whose output count is a placeholder.
    understated: i64,
    /// Those of them that are no longer counted as such.
    covered: i64,
}

/// What a run reported of one model.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reported {
    usage: RunUsage,
    /// The sum of processes that have ended: reports run on within one and begin anew in the next.
    before: Tokens,
}

impl Ledger {
    /// Remembers at most `max` runs, or all of them.
    pub fn new(max: Option<usize>) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// A response was counted.
    pub fn count(&mut self, record: &UsageRecord) -> Option<Change> {
        let run = record.labels.run?;
        let account = self.account(run);
        let labels = &record.labels;
        let own = account.add(&labels.model, &record.tokens, record.rates, labels);
        own.understated += i64::from(record.caveats.output_understated);
        for extra in &record.extra {
            account.add(&extra.model, &extra.tokens, None, labels);
        }
        account.settle()
    }

    /// A response has grown. If a report had made its output good, that is given back: the totals take the response itself off.
    pub fn grow(&mut self, growth: &Growth) -> Option<Change> {
        let run = growth.labels.run?;
        let account = self.account(run);
        let labels = &growth.labels;
        let own = account.add(&labels.model, &growth.tokens, None, labels);
        if growth.now_final && own.understated > 0 {
            own.understated -= 1;
        }
        for extra in &growth.extra {
            account.add(&extra.model, &extra.tokens, None, labels);
        }
        account.settle()
    }

    /// A run reports what it used.
    pub fn report(&mut self, report: &RunReport) -> Option<Change> {
        // A report that names no session is an account of its own.
        let account = self.account(report.run.unwrap_or(report.id));
        let reports = account.reports.get_or_insert_default();
        if !reports.seen.insert(report.id) {
            return None;
        }
        reports.take(&report.models);
        account.settle()
    }

    /// The totals begin anew: what stood in them is no longer to be withdrawn.
    pub fn begin_span(&mut self) {
        for account in self.accounts.values_mut() {
            if let Some(reports) = &mut account.reports {
                reports.written_off.append(&mut reports.told);
            }
            for counted in &mut account.counted {
                (counted.understated, counted.covered) = (0, 0);
            }
        }
    }

    fn account(&mut self, run: u64) -> &mut Account {
        if let Some(max) = self.max
            && !self.accounts.contains_key(&run)
        {
            self.order.push_back(run);
            if self.order.len() > max
                && let Some(oldest) = self.order.pop_front()
            {
                self.accounts.remove(&oldest);
            }
        }
        self.accounts.entry(run).or_default()
    }
}

impl Account {
    fn add(
        &mut self,
        model: &Arc<str>,
        tokens: &Tokens,
        rates: Option<Rates>,
        labels: &Arc<Labels>,
    ) -> &mut Counted {
        let known = self.counted.iter().position(|c| c.model == *model);
        let at = known.unwrap_or_else(|| {
            // Most runs have one model.
            self.counted.reserve_exact(1);
            self.counted.push(Counted {
                model: Arc::clone(model),
                tokens: Tokens::default(),
                rates: None,
                labels: Arc::clone(labels),
                understated: 0,
                covered: 0,
            });
            self.counted.len() - 1
        });
        let counted = &mut self.counted[at];
        counted.tokens.add(tokens);
        counted.rates = counted.rates.or(rates);
        counted
    }

    /// Brings what stands in the totals up to what is known now.
    fn settle(&mut self) -> Option<Change> {
        let Self { counted, reports } = self;
        let reports = reports.as_mut()?;
        if reports.reported.is_empty() {
            return None;
        }
        let of = |reported| reports.residual(reported, counted);
        let now: Vec<Residual> = reports.reported.iter().filter_map(of).collect();
        let mut covered = Vec::new();
        for counted in counted {
            // A report with less output than was counted is of another process: it makes nothing good.
            let is_whole = reports.reported.iter().any(|reported| {
                let usage = &reported.usage;
                (usage.nameless || usage.labels.model == counted.model)
                    && usage.tokens.output + reported.before.output >= counted.tokens.output
            });
            let now = if is_whole { counted.understated } else { 0 };
            if now != counted.covered {
                covered.push((Arc::clone(&counted.labels), now - counted.covered));
                counted.covered = now;
            }
        }
        if now == reports.told && covered.is_empty() {
            return None;
        }
        Some(Change {
            opened: i64::from(!now.is_empty()) - i64::from(!reports.told.is_empty()),
            withdrawn: std::mem::replace(&mut reports.told, now.clone()),
            added: now,
            covered,
        })
    }
}

impl Reports {
    /// Reports of one process run on. One that says less than the one before is of another process.
    fn take(&mut self, models: &[RunUsage]) {
        let latest = |model: &Arc<str>| models.iter().find(|usage| usage.labels.model == *model);
        let restarted = self.reported.iter().any(|reported| {
            let before = &reported.usage.tokens;
            *before != Tokens::default()
                && latest(&reported.usage.labels.model)
                    .is_none_or(|usage| !covers(&usage.tokens, before))
        });
        if restarted {
            for reported in &mut self.reported {
                reported.before.add(&reported.usage.tokens);
                reported.usage.tokens = Tokens::default();
            }
        }
        for usage in models {
            let known = self
                .reported
                .iter_mut()
                .find(|reported| reported.usage.labels.model == usage.labels.model);
            match known {
                Some(reported) => reported.usage = usage.clone(),
                None => self.reported.push(Reported {
                    usage: usage.clone(),
                    before: Tokens::default(),
                }),
            }
        }
    }

    fn residual(&self, reported: &Reported, counted: &[Counted]) -> Option<Residual> {
        let usage = &reported.usage;
        // A report that names no model is of the one that was counted, if there is just one.
        let only = counted
            .first()
            .filter(|_| usage.nameless && counted.len() == 1);
        let model = only.map_or(&usage.labels.model, |counted| &counted.model);
        let counted = counted.iter().find(|c| c.model == *model);
        let mut whole = reported.before;
        whole.add(&usage.tokens);
        let mut tokens = less(
            whole,
            counted.map(|counted| counted.tokens).unwrap_or_default(),
        );
        for gone in self
            .written_off
            .iter()
            .filter(|gone| gone.labels.model == *model)
        {
            tokens = less(tokens, gone.tokens);
        }
        if tokens == Tokens::default() {
            return None;
        }
        let rates = usage.rates.or(only.and_then(|counted| counted.rates));
        let searches = i128::from(tokens.web_search) * usage.per_search.0;
        let labels = match only {
            None => Arc::clone(&usage.labels),
            Some(counted) => Arc::new(Labels {
                model: Arc::clone(&counted.model),
                ..(*usage.labels).clone()
            }),
        };
        Some(Residual {
            labels,
            tokens,
            cost: rates.map(|rates| rates.cost(&tokens) + PicoUsd(searches)),
            assumed_5m: usage.assumed_5m && tokens.cache_write_5m > 0,
        })
    }
}

/// Whether all counts are at least as large.
fn covers(tokens: &Tokens, other: &Tokens) -> bool {
    tokens.input >= other.input
        && tokens.output >= other.output
        && tokens.cache_write() >= other.cache_write()
        && tokens.cache_read >= other.cache_read
        && tokens.web_search >= other.web_search
}

/// What is left of `whole`, never below zero. Of cache writes the sum is what counts: a report knows their time to live only
/// as a ratio.
fn less(whole: Tokens, part: Tokens) -> Tokens {
    let written = whole.cache_write().saturating_sub(part.cache_write());
    let one_hour = whole
        .cache_write_1h
        .saturating_sub(part.cache_write_1h)
        .min(written);
    Tokens {
        input: whole.input.saturating_sub(part.input),
        output: whole.output.saturating_sub(part.output),
        cache_write_5m: written - one_hour,
        cache_write_1h: one_hour,
        cache_read: whole.cache_read.saturating_sub(part.cache_read),
        web_search: whole.web_search.saturating_sub(part.web_search),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Caveats;
    use crate::price::Premium;
    use crate::price::Ratio;
    use proptest::prelude::*;

    fn labels(model: u8) -> Arc<Labels> {
        let labels = Labels {
            model: format!("m{model}").into(),
            session: Some("s".into()),
            ..Labels::default()
        };
        Arc::new(labels.with_hashes())
    }

    fn rates() -> Rates {
        Rates {
            input: 3,
            output: 15,
            cache_write_5m: 4,
            cache_write_1h: 6,
            cache_read: 1,
            factor: Ratio::ONE,
        }
    }

    fn tokens(input: u64, output: u64) -> Tokens {
        Tokens {
            input,
            output,
            ..Tokens::default()
        }
    }

    fn record(model: u8, input: u64, output: u64) -> UsageRecord {
        UsageRecord {
            labels: labels(model),
            tokens: tokens(input, output),
            rates: Some(rates()),
            caveats: Caveats {
                output_understated: true,
                ..Caveats::default()
            },
            ..UsageRecord::blank()
        }
    }

    fn report(id: u64, models: &[(u8, u64, u64)]) -> RunReport {
        let usage = |(model, input, output): &(u8, u64, u64)| RunUsage {
            labels: labels(*model),
            nameless: false,
            tokens: tokens(*input, *output),
            rates: Some(rates()),
            per_search: PicoUsd(0),
            assumed_5m: false,
        };
        RunReport {
            run: labels(0).run,
            id,
            models: models.iter().map(usage).collect(),
        }
    }

    /// Adds up what changes to the totals come to.
    #[derive(Default)]
    struct Sum {
        tokens: Tokens,
        cost: i128,
        covered: i64,
        open: i64,
    }

    impl Sum {
        fn take(&mut self, change: Option<Change>) {
            let Some(change) = change else { return };
            for residual in change.withdrawn {
                self.tokens.subtract(&residual.tokens);
                self.cost -= residual.cost.unwrap().0;
            }
            for residual in change.added {
                self.tokens.add(&residual.tokens);
                self.cost += residual.cost.unwrap().0;
            }
            self.covered += change.covered.iter().map(|(_, n)| n).sum::<i64>();
            self.open += change.opened;
        }
    }

    #[test]
    fn a_residual_is_what_no_line_holds_and_shrinks_as_lines_come() {
        let mut ledger = Ledger::new(None);
        let mut sum = Sum::default();
        sum.take(ledger.count(&record(1, 10, 1)));
        sum.take(ledger.report(&report(1, &[(1, 30, 9), (2, 5, 5)])));
        assert_eq!((sum.tokens, sum.cost), (tokens(25, 13), 25 * 3 + 13 * 15));
        assert_eq!((sum.covered, sum.open), (1, 1));
        sum.take(ledger.report(&report(1, &[(1, 30, 9), (2, 5, 5)])));
        sum.take(ledger.count(&record(2, 5, 5)));
        sum.take(ledger.count(&record(1, 20, 8)));
        assert_eq!((sum.tokens, sum.cost), (tokens(0, 0), 0));
        assert_eq!((sum.covered, sum.open), (3, 0));
        sum.take(ledger.count(&record(1, 100, 100)));
        assert_eq!(sum.tokens, tokens(0, 0), "never below zero");
        assert_eq!(
            sum.covered, 1,
            "what the report does not reach to is not made good by it"
        );
    }

    #[test]
    fn what_a_report_covered_is_given_back_when_the_output_becomes_final() {
        let mut ledger = Ledger::new(None);
        let mut sum = Sum::default();
        sum.take(ledger.count(&record(1, 10, 1)));
        sum.take(ledger.count(&record(1, 10, 1)));
        sum.take(ledger.report(&report(1, &[(1, 20, 9)])));
        assert_eq!(sum.covered, 2);
        sum.take(ledger.grow(&Growth {
            first: None,
            labels: labels(1),
            tokens: tokens(0, 4),
            extra: Vec::new(),
            cost: Some(PicoUsd(60)),
            premium: Premium::default(),
            now_final: true,
        }));
        assert_eq!(sum.covered, 1, "only the other one is still a placeholder");
        assert_eq!((sum.tokens, sum.cost), (tokens(0, 3), 45));
    }

    #[test]
    fn a_report_that_names_no_model_is_of_the_only_one_that_was_counted() {
        let mut ledger = Ledger::new(None);
        let mut nameless = report(1, &[(0, 50, 5)]);
        nameless.models[0].nameless = true;
        nameless.models[0].rates = None;
        ledger.count(&record(7, 10, 1));
        let added = ledger.report(&nameless).unwrap().added;
        assert_eq!(&*added[0].labels.model, "m7");
        assert_eq!(
            (added[0].tokens, added[0].cost),
            (tokens(40, 4), Some(PicoUsd(180)))
        );
    }

    #[test]
    fn a_new_span_begins_with_nothing_to_withdraw() {
        let mut ledger = Ledger::new(None);
        ledger.report(&report(1, &[(1, 30, 9)]));
        ledger.begin_span();
        let mut sum = Sum::default();
        sum.take(ledger.report(&report(2, &[(1, 40, 9)])));
        assert_eq!(
            sum.tokens,
            tokens(10, 0),
            "what stood in the old span is not told again"
        );
    }

    #[test]
    fn memory_is_bounded_where_asked() {
        let mut ledger = Ledger::new(Some(3));
        for n in 0..10 {
            let mut other = report(n, &[(1, 1, 1)]);
            other.run = Some(n);
            ledger.report(&other);
        }
        assert_eq!(ledger.accounts.len(), 3);
    }

    proptest! {
        /// In whatever order lines and the report come, the whole is the larger of both, model by model.
        #[test]
        fn the_order_of_lines_and_report_is_no_matter(
            lines in prop::collection::vec((0..3_u8, 0..100_u64, 0..100_u64), 0..12),
            whole in prop::collection::vec((0..1000_u64, 0..1000_u64), 3),
            at in 0..13_usize,
        ) {
            let models: Vec<(u8, u64, u64)> = (0..3).zip(&whole).map(|(m, (i, o))| (m, *i, *o)).collect();
            let mut ledger = Ledger::new(None);
            let mut sum = Sum::default();
            for (n, (model, input, output)) in lines.iter().enumerate() {
                if n == at {
                    sum.take(ledger.report(&report(1, &models)));
                }
                sum.take(ledger.count(&record(*model, *input, *output)));
            }
            if at >= lines.len() {
                sum.take(ledger.report(&report(1, &models)));
            }
            let counted = |m: u8| lines.iter().filter(|l| l.0 == m).fold((0, 0), |a, l| (a.0 + l.1, a.1 + l.2));
            let expected = models.iter().fold((0, 0), |sum, (m, i, o)| {
                let (input, output) = counted(*m);
                (sum.0 + i.saturating_sub(input), sum.1 + o.saturating_sub(output))
            });
            prop_assert_eq!((sum.tokens.input, sum.tokens.output), expected);
            prop_assert_eq!(sum.cost, i128::from(expected.0) * 3 + i128::from(expected.1) * 15);
            let made_good = |m: u8| counted(m).1 <= whole[usize::from(m)].1;
            let covered = lines.iter().filter(|line| made_good(line.0)).count();
            prop_assert_eq!(sum.covered, i64::try_from(covered).unwrap());
        }
    }
}
