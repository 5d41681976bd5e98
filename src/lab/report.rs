//! The report of a replay: coverage first, then dollars, then alerts. Only words and tables: judges and sums up nothing.

use std::fmt;
use std::sync::Arc;

use owo_colors::OwoColorize;

use super::episodes::{Episodes, Told};
use super::figures::per_day;
use super::strip;
use super::table::{self, row};
use super::timeline::Timeline;
use crate::config::{Options, Span};
use crate::monitor::{
    Cause, GroupBy, Learning, Metric, ModelTotal, PORTIONS, Portion, Rule, Severity, Time, Tokens,
    Totals,
};
use crate::pipeline::LineCounts;
use crate::price::PicoUsd;
use crate::sink::{
    Clock, Style, clean, count, counted, duration, hour_is_cheaper, progress, quantity, ttl_advice,
};
use crate::source::{MAX_LINE_BYTES, SplitStats, places};

/// So many models or groups are listed.
const SHOWN: usize = 20;

/// What the replay looked at.
pub(super) struct Coverage<'a> {
    pub(super) options: &'a Options,
    pub(super) span: &'a Span,
    pub(super) counts: &'a LineCounts,
    pub(super) stats: SplitStats,
    pub(super) n_files: usize,
    /// The first and the last time of all responses, whether they are in the span or not.
    pub(super) reach: Option<(Time, Time)>,
    pub(super) learning: Vec<Learning>,
}

/// All of it.
pub(super) struct Report<'a> {
    pub(super) coverage: Coverage<'a>,
    pub(super) totals: &'a Totals,
    pub(super) episodes: &'a Episodes,
    pub(super) findings: &'a [Finding],
    pub(super) timeline: &'a Timeline,
    pub(super) style: Style,
}

/// The dearest groups.
pub(super) struct Groups {
    /// What they are.
    pub(super) name: &'static str,
    pub(super) rows: Vec<Vec<String>>,
    /// How many more there are.
    pub(super) rest: Option<String>,
}

/// Why there is nothing to report.
pub(super) fn no_data(coverage: &Coverage<'_>, totals: &Totals) -> Vec<String> {
    let Coverage {
        options,
        span,
        counts,
        stats,
        n_files,
        reach,
        ..
    } = coverage;
    let mut lines = Vec::new();
    if *n_files == 0 {
        let places = places(&options.inputs);
        lines.push(format!(
            "NO DATA: no .jsonl, .ndjson or .log file in {} (rotated and compressed ones count too)",
            clean(&places)
        ));
        return lines;
    }
    let files = counted(*n_files as u64, "file");
    let files_and_lines = format!("{} of {files}", counted(counts.lines, "line"));
    if counts.lines == 0 {
        lines.push(format!("NO DATA: {files}, and not one line in it"));
    } else if span.since.is_some() || span.until.is_some() {
        let reach = reach.as_ref().map(|(first, last)| {
            let clock = options.output.stdout.clock;
            let (first, last) = (clock.full(*first), clock.full(*last));
            format!("; what is there goes from {first} to {last}")
        });
        lines.push(format!(
            "NO DATA: no usage record in the span, in {files_and_lines}{}",
            reach.unwrap_or_default()
        ));
    } else {
        let way_out = counts.way_out(options.parse.usage_field.as_ref());
        lines.push(format!(
            "NO DATA: no usage record in {files_and_lines}; {way_out}"
        ));
    }
    lines.extend(what_lines_were(counts, *stats));
    if totals.errors > 0 {
        lines.push(format!(
            "{} API errors, and no response",
            count(totals.errors)
        ));
    }
    if totals.old > 0 {
        lines.push(format!(
            "{} records are older than what --since and --backfill ask for",
            count(totals.old)
        ));
    }
    lines
}

/// Lines that are not counted, and why; the first bad ones by place.
fn what_lines_were(counts: &LineCounts, stats: SplitStats) -> Vec<String> {
    let mut lines = Vec::new();
    let all = counted(counts.lines, "line");
    for (reason, n) in &counts.skipped {
        lines.push(format!(
            "not counted, {} of {all}: {}",
            count(*n),
            reason.describe()
        ));
    }
    if stats.oversize_lines > 0 {
        let mib = MAX_LINE_BYTES >> 20;
        lines.push(format!(
            "skipped: {} over {mib} MiB",
            counted(stats.oversize_lines, "line")
        ));
    }
    if counts.bad > 0 {
        lines.push(format!("not readable, {} of {all}:", count(counts.bad)));
        for bad in &counts.bad_shown {
            lines.push(format!(
                "  {}:{}:{}: {}",
                crate::sink::clean(&bad.source),
                bad.number,
                bad.column,
                bad.reason
            ));
        }
    }
    lines
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.coverage(f)?;
        self.models(f)?;
        self.causes(f)?;
        self.strip(f)?;
        self.alerts(f)?;
        self.findings(f)
    }
}

impl Report<'_> {
    fn heading(&self, f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
        if self.style.colour {
            writeln!(f, "{}", text.bold())
        } else {
            writeln!(f, "{text}")
        }
    }

    /// A line of words.
    fn sentence(&self, f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
        writeln!(f, "{}", self.style.wrap(text, 2))
    }

    /// From when to when, and how long that is.
    pub(super) fn span_line(&self) -> Option<String> {
        let (first, last) = self.totals.span?;
        let clock = self.style.clock;
        let length = duration(last.millis_since(first) / 1000);
        Some(format!(
            "{} to {} ({length})",
            clock.full(first),
            clock.full(last)
        ))
    }

    /// What was read.
    pub(super) fn read_line(&self) -> String {
        let copies = match self.totals.duplicates {
            0 => String::new(),
            1 => ", 1 copy counted once".to_owned(),
            n => format!(", {} copies counted once", count(n)),
        };
        let files = counted(self.coverage.n_files as u64, "file");
        format!(
            "{} in {} of {files}{copies}",
            counted(self.totals.records, "response"),
            counted(self.coverage.counts.lines, "line"),
        )
    }

    fn coverage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        if let Some(line) = self.span_line() {
            self.heading(f, &line)?;
        }
        writeln!(f, "{}", self.read_line())?;
        let mut caveats = self.caveats().into_iter();
        caveats.try_for_each(|line| self.sentence(f, &line))
    }

    /// How many responses are not all that they should be, and what is the matter with them.
    fn inexact(&self) -> [(u64, &'static str); 12] {
        let totals = self.totals;
        [
            (
                totals.unpriced,
                "no price, so their dollars are in no sum (claude-tokmon prices MODEL; --prices FILE)",
            ),
            (
                totals.understated,
                "a placeholder for the output count, so the cost is a lower bound",
            ),
            (
                totals.batch,
                "batch results, at the batch price and in the totals only",
            ),
            (
                totals.undated,
                "no time, counted in the totals only (--time-field, --assume-interval 1s)",
            ),
            (
                totals.too_late,
                "so late that rules with short windows did not see them",
            ),
            (totals.priority, "priority tier, valued at standard rates"),
            (
                totals.assumed_standard,
                "a multiplier that is not known, valued at standard rates",
            ),
            (totals.not_billed, "refused without content, not billed"),
            (
                totals.declined_hops,
                "a hop of a fallback that was declined, not charged; a lower bound if it was billed",
            ),
            (
                totals.assumed_5m,
                "cache writes without their time to live, assumed 5m; a lower bound if it was 1h",
            ),
            (
                totals.assumed_short,
                "a sum over several prompts, valued as short ones; a lower bound if one was long",
            ),
            (
                totals.taken_exclusive,
                "an input count smaller than its cache counts, taken as without them (--otel-input exclusive)",
            ),
        ]
    }

    /// What keeps the sums from being whole or the rules from having seen all.
    pub(super) fn caveats(&self) -> Vec<String> {
        let totals = self.totals;
        let all = counted(totals.records, "response");
        let mut lines = Vec::new();
        if let Some((from, to)) = self.timeline.longest_gap() {
            let length = duration(to.millis_since(from) / 1000);
            let from = self.style.clock.full(from);
            lines.push(format!(
                "longest gap: {length} without a response, from {from} on"
            ));
        }
        let known = self.inexact().into_iter().filter(|(n, _)| *n > 0);
        lines.extend(known.map(|(n, text)| format!("{} of {all}: {text}", count(n))));
        if let Some(time) = totals.last_bad_time {
            lines.push(format!(
                "{} of {all}: a time that cannot be, such as {}, counted in the totals only (--assume-tz names the zone of times that name none)",
                count(totals.bad_time),
                self.style.clock.full(time)
            ));
        }
        if totals.errors > 0 {
            let answers = totals.errors + totals.records;
            lines.push(format!(
                "{} of {} answers were API errors",
                count(totals.errors),
                count(answers)
            ));
        }
        if totals.unlogged_summaries > 0 {
            lines.push(format!(
                "{}: what the summary cost is in no transcript, so the cost is a lower bound",
                counted(totals.unlogged_summaries, "compaction")
            ));
        }
        lines.extend(self.reconciled());
        if totals.reused_id {
            lines.push("one response id stands for more than 100 different responses, each counted: a gateway or mock gives all the same".to_owned());
        }
        lines.extend(what_lines_were(self.coverage.counts, self.coverage.stats));
        if let Some(config) = &self.coverage.options.config {
            lines.push(format!(
                "configured by {}",
                clean(&config.to_string_lossy())
            ));
        }
        let learning: Vec<String> = self
            .coverage
            .learning
            .iter()
            .map(|learning| format!("{} ({})", learning.rule, progress(learning)))
            .collect();
        if !learning.is_empty() {
            lines.push(format!(
                "still learning what is usual: {}",
                learning.join(", ")
            ));
        }
        lines
    }

    /// What closing lines of runs added.
    fn reconciled(&self) -> Option<String> {
        let totals = self.totals;
        let runs = match totals.reconciled {
            0 => return None,
            n => counted(n, "run"),
        };
        let bound = if totals.reconciled_unpriced + totals.reconciled_assumed > 0 {
            "≥ "
        } else {
            ""
        };
        Some(format!(
            "reconciled with the closing line of {runs}: {bound}{} that stand in no line of their own, in the totals only",
            totals.reconciled_cost
        ))
    }

    /// What each model cost, and all of them.
    pub(super) fn model_rows(&self) -> Vec<Vec<String>> {
        let mut models: Vec<_> = self.totals.by_model.iter().collect();
        if models.len() > SHOWN {
            dearest_first(&mut models);
        }
        let (shown, rest) = models.split_at(models.len().min(SHOWN));
        let mut rows = vec![totals_head("model")];
        rows.extend(shown.iter().map(|(name, total)| total_row(name, total)));
        if !rest.is_empty() {
            let mut sum = ModelTotal::default();
            for (_, total) in rest {
                sum.add(total);
            }
            let name = format!("{} others (--json lists all)", count(rest.len() as u64));
            rows.push(total_row(&name, &sum));
        }
        let bound = if self.totals.is_lower_bound() {
            "≥ "
        } else {
            ""
        };
        rows.push(token_row(
            "all",
            self.totals.records,
            &self.totals.tokens,
            format!("{bound}{}", self.totals.cost),
        ));
        rows
    }

    /// What came from the cache, and whose prices these are.
    fn share_line(&self) -> Option<String> {
        let per_mille = self.totals.cache_read_per_mille()?;
        Some(format!(
            "{}.{} % of all prompt tokens came from the cache; costs are list prices of {}",
            per_mille / 10,
            per_mille % 10,
            self.price_date()
        ))
    }

    /// What of the cost is for what the names of models do not tell.
    fn portions_line(&self) -> Option<String> {
        let of = |portion: &Portion| {
            let cost = self.totals.portions.of(*portion);
            let what = match portion {
                Portion::FastMode => "in fast mode",
                Portion::LongPrompts => "for prompts so long that they are dearer",
                Portion::HourWrites => "for cache writes that live an hour",
                Portion::WebSearches => "for web searches",
                Portion::SubAgents => "by sub-agents",
            };
            (cost > PicoUsd::ZERO).then(|| format!("{cost} {what}"))
        };
        let parts: Vec<String> = PORTIONS.iter().filter_map(of).collect();
        (!parts.is_empty()).then(|| format!("of it {}", parts.join(" · ")))
    }

    /// What else is to be said of what models cost.
    pub(super) fn cost_lines(&self) -> impl Iterator<Item = String> {
        [self.portions_line(), self.share_line()]
            .into_iter()
            .flatten()
    }

    fn models(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        self.table(f, &self.model_rows())?;
        self.cost_lines()
            .try_for_each(|line| self.sentence(f, &line))?;
        if let Some(groups) = self.groups() {
            writeln!(f)?;
            self.table(f, &groups.rows)?;
            if let Some(line) = groups.rest {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }

    fn price_date(&self) -> String {
        let prices = &self.coverage.options.prices;
        match &prices.overlays[..] {
            [] => prices.as_of.to_string(),
            files => format!("{} and {}", files.join(", "), prices.as_of),
        }
    }

    /// The dearest groups: what they are, what they cost, and how many more there are.
    pub(super) fn groups(&self) -> Option<Groups> {
        let by_group = &self.totals.by_group;
        let name = match self.totals.group_by.as_ref()? {
            GroupBy::Model => "model",
            GroupBy::Session => "session",
            GroupBy::Project => "project",
            GroupBy::Place(_) => "group",
        };
        let mut groups: Vec<_> = by_group.iter().collect();
        dearest_first(&mut groups);
        let mut rows = vec![totals_head(name)];
        let (shown, rest) = groups.split_at(groups.len().min(SHOWN));
        rows.extend(shown.iter().map(|(name, total)| total_row(name, total)));
        let rest = (!rest.is_empty()).then(|| {
            let cost: PicoUsd = rest.iter().map(|(_, total)| total.cost).sum();
            let n = count(rest.len() as u64);
            format!("and {n} more with {cost} (--json lists all)")
        });
        Some(Groups { name, rows, rest })
    }

    /// Why the cache missed, and what that cost. Empty if it never did.
    pub(super) fn cause_rows(&self) -> Vec<Vec<String>> {
        if self.totals.by_cause.is_empty() {
            return Vec::new();
        }
        let mut rows = vec![row(&[
            "cache missed because",
            "requests",
            "tokens",
            "paid again",
            "",
        ])];
        for (cause, total) in &self.totals.by_cause {
            rows.push(vec![
                crate::sink::clean(cause.name()).into_owned(),
                count(total.requests),
                quantity(total.tokens),
                total.cost.to_string(),
                match cause {
                    _ if cause.is_waste() => "avoidable",
                    Cause::Expired if hour_is_cheaper(self.totals) => "a longer ttl costs less",
                    _ => "in the nature of things",
                }
                .to_owned(),
            ]);
        }
        rows
    }

    /// What was paid again and could have been avoided; at least, where much more may have been.
    pub(super) fn avoidable(&self) -> String {
        let bound = if self.doubt().is_some() { "≥ " } else { "" };
        format!("{bound}{}", self.totals.waste())
    }

    /// What may have been paid again besides, if it would be much.
    fn doubt(&self) -> Option<String> {
        let doubtful = self.totals.doubtful;
        let is_much = doubtful.cost.0 * 20 >= self.totals.cost.0.max(1);
        is_much.then(|| {
            let requests = counted(doubtful.requests, "request");
            let cost = doubtful.cost;
            format!(
                "{requests} without a session read less than the cache held of the one before: {cost} paid again if those were the same prompts (--session-field names the place of a session)"
            )
        })
    }

    /// What else is to be said of how the cache was used.
    pub(super) fn cache_lines(&self) -> impl Iterator<Item = String> {
        ttl_advice(self.totals).chain(self.doubt())
    }

    fn causes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, mut lines) = (self.cause_rows(), self.cache_lines().peekable());
        if rows.is_empty() && lines.peek().is_none() {
            return Ok(());
        }
        writeln!(f)?;
        if !rows.is_empty() {
            self.table(f, &rows)?;
            // "$0.00" above what a longer life would have saved would read as if that were not so.
            if self.totals.waste() > PicoUsd::ZERO || !hour_is_cheaper(self.totals) {
                writeln!(f, "{} could have been avoided", self.avoidable())?;
            }
        }
        lines.try_for_each(|line| self.sentence(f, &line))
    }

    /// The log in a few lines.
    fn strip(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = strip::lines(self.timeline, self.episodes, self.clock());
        let width = lines.iter().map(|line| line.name.chars().count()).max();
        let width = width.unwrap_or(0);
        if !lines.is_empty() {
            writeln!(f)?;
        }
        for line in lines {
            let columns = match line.severity.filter(|_| self.style.colour) {
                Some(Severity::Critical) => line.columns.red().to_string(),
                Some(Severity::Warning) => line.columns.yellow().to_string(),
                Some(Severity::Info) => line.columns.cyan().to_string(),
                None => line.columns,
            };
            let text = format!("{:width$}  {columns}  {}", line.name, line.note);
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }

    fn alerts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = &self.coverage.options.settings.rules;
        let mut rows = vec![row(&[
            "rule", "alerts", "a day", "notices", "exposed", "longest", "",
        ])];
        for rule in rules.iter().filter(|rule| is_tried(rule)) {
            let told: Vec<&Told> = self.episodes.of(&rule.name).collect();
            if !told.is_empty() {
                rows.push(self.alert_row(&rule.name, &told));
            }
        }
        writeln!(f)?;
        if rows.len() == 1 {
            if self.totals.span.is_none() {
                let can_be = if self.totals.bad_time > 0 {
                    " that can be"
                } else {
                    ""
                };
                return writeln!(f, "no rule could be tried: no response has a time{can_be}");
            }
            let n = rules.iter().filter(|rule| is_tried(rule)).count();
            return writeln!(f, "no alert: none of the {n} rules fired");
        }
        self.table(f, &rows)?;
        let quiet: Vec<&str> = rules
            .iter()
            .filter(|rule| is_tried(rule) && self.episodes.of(&rule.name).next().is_none())
            .map(|rule| &*rule.name)
            .collect();
        if !quiet.is_empty() {
            self.sentence(f, &format!("quiet: {}", quiet.join(", ")))?;
        }
        Ok(())
    }

    fn alert_row(&self, rule: &str, told: &[&Told]) -> Vec<String> {
        let exposed: Option<PicoUsd> = told.iter().map(|told| told.exposed).sum();
        let longest = told
            .iter()
            .max_by_key(|told| told.last.millis_since(told.since));
        let longest = longest.map(|told| {
            format!(
                "{} from {}",
                duration(told.last.millis_since(told.since) / 1000),
                self.clock().full(told.since)
            )
        });
        let open = told
            .iter()
            .filter(|told| told.open && told.exposed.is_some())
            .count();
        vec![
            rule.to_owned(),
            count(told.len() as u64),
            self.per_day(told.len() as u64),
            count(told.iter().map(|told| told.notices).sum()),
            exposed.map_or_else(String::new, |exposed| exposed.to_string()),
            longest.filter(|_| exposed.is_some()).unwrap_or_default(),
            if open > 0 {
                format!("{open} still on")
            } else {
                String::new()
            },
        ]
    }

    fn clock(&self) -> Clock {
        self.style.clock
    }

    /// Alerts a day over the span, with one decimal; only for spans of a day or more.
    fn per_day(&self, n: u64) -> String {
        let span = self.totals.span;
        span.map_or_else(String::new, |(first, last)| {
            per_day(n, last.millis_since(first))
        })
    }

    fn table(&self, f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
        for (i, line) in table::lines(rows).iter().enumerate() {
            if i == 0 {
                self.heading(f, line)?;
            } else {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }

    /// What the laboratory found: tables with the sentences under each.
    fn findings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding {
            rows, sentences, ..
        } in self.findings
        {
            writeln!(f)?;
            self.table(f, rows)?;
            for sentence in sentences {
                self.sentence(f, sentence)?;
            }
        }
        Ok(())
    }
}

/// A table and what is said under it.
pub(super) struct Finding {
    pub(super) title: &'static str,
    /// The first of them names the columns.
    pub(super) rows: Vec<Vec<String>>,
    pub(super) sentences: Vec<String>,
}

/// Blind spots are those of a running `tail`: history has none.
fn is_tried(rule: &Rule) -> bool {
    rule.enabled && rule.metric != Metric::Blind
}

fn totals_head(name: &str) -> Vec<String> {
    row(&[
        name,
        "responses",
        "input",
        "output",
        "cache write",
        "cache read",
        "cost",
    ])
}

fn dearest_first(totals: &mut [(&Arc<str>, &ModelTotal)]) {
    totals.sort_by(|a, b| b.1.cost.cmp(&a.1.cost).then_with(|| a.0.cmp(b.0)));
}

fn total_row(name: &str, total: &ModelTotal) -> Vec<String> {
    let bound = if total.is_lower_bound() { "≥ " } else { "" };
    let cost = if total.unpriced == total.records && total.records > 0 {
        "no price".to_owned()
    } else {
        format!("{bound}{}", total.cost)
    };
    token_row(
        &crate::sink::clean(name),
        total.records,
        &total.tokens,
        cost,
    )
}

fn token_row(name: &str, records: u64, tokens: &Tokens, cost: String) -> Vec<String> {
    vec![
        name.to_owned(),
        count(records),
        quantity(tokens.input),
        quantity(tokens.output),
        quantity(tokens.cache_write()),
        quantity(tokens.cache_read),
        cost,
    ]
}
