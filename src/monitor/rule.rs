//! A rule: which number is held against which limit, for whom, and how long.
//!
//! Rules are data (`rules.toml`); reading that text is the configuration's business, its meaning is here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::alert::Basis;
use super::calendar::Period;
use super::metric::{MIN_WINDOW_SECS, Metric};
use super::record::Labels;
use super::usual::{Amount, Baseline, MIN_MINUTES, Samples, UNIT, Usual};
use super::window::Sums;
use crate::pattern::Pattern;
use crate::price::PicoUsd;

/// Of busy minutes one in a hundred is above `busy` in the nature of things: what is told has to be this many times as far from
/// the usual.
pub const BEYOND_BUSY: Amount = UNIT * 14 / 10;

/// The default rules, as TOML.
pub const DEFAULT_RULES: &str = include_str!("rules.toml");

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// The name in rules and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A label that records are grouped by or chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// Requests that share a growing prompt: session, agent and model; without ids model and project.
    Conversation,
    /// Canonical model id.
    Model,
    /// Project label or working directory.
    Project,
    /// Session id.
    Session,
    /// File or pipe.
    Source,
    /// What stands at a place in the line.
    Place {
        /// The JSON Pointer. Rules live as long as the program, and so does this.
        pointer: &'static str,
        /// Which of all such places.
        slot: usize,
    },
    /// The stretch of the calendar that a budget is for. Given by the budget, not by records.
    Period,
}

/// The labels of records, by name.
pub const LABELS: [Label; 5] = [
    Label::Conversation,
    Label::Model,
    Label::Project,
    Label::Session,
    Label::Source,
];

impl Label {
    /// The name in rules and keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Model => "model",
            Self::Project => "project",
            Self::Session => "session",
            Self::Source => "source",
            Self::Place { pointer, .. } => pointer,
            Self::Period => "period",
        }
    }

    /// The value that a record has for it; `None` for a conversation, which is several labels.
    pub fn of(self, labels: &Labels) -> Option<&str> {
        match self {
            Self::Conversation | Self::Period => None,
            Self::Model => Some(&labels.model),
            Self::Project => labels.project.as_deref(),
            Self::Session => labels.session.as_deref(),
            Self::Source => Some(&labels.source),
            Self::Place { slot, .. } => labels.places.get(slot)?.as_deref(),
        }
    }
}

/// A limit that what is learned can only raise follows it after this part of the samples that others need: five minutes with
/// traffic. Those who begin with an empty log would hear of each of the first bursts in it.
const PART_TO_BE_CALMER: u64 = 12;

/// The number a metric is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Fires above a fixed number.
    Above(Amount),
    /// Fires below a fixed number.
    Below(Amount),
    /// Fires above so many times the usual, if that is also beyond what busy minutes show: usual + [`BEYOND_BUSY`] times the way
    /// from usual to busy. Where days and nights differ, their busy hours alone may be three times the usual.
    TimesUsual(Amount),
    /// Fires beyond what busy minutes show: usual + so many times the way from usual to busy.
    BeyondBusy(Amount),
    /// Fires above a fixed number, and once something is known of what busy minutes show also beyond that.
    AboveBusy {
        /// The fixed number: the limit is never lower, and this alone while next to nothing is known.
        above: Amount,
        /// So many times the way from usual to busy.
        beyond: Amount,
    },
    /// Fires when nothing has come for so many seconds.
    SilentFor(i64),
    /// Fires at a run of misses that chance would show less than once in so many days.
    ByChance {
        /// Days.
        days: u64,
    },
    /// Announced once for each key.
    Once,
}

impl Limit {
    /// The name of the field that sets it.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Above(_) => "above",
            Self::Below(_) => "below",
            Self::TimesUsual(_) => "times_usual",
            Self::BeyondBusy(_) | Self::AboveBusy { .. } => "beyond_busy",
            Self::SilentFor(_) => "silent_for",
            Self::ByChance { .. } => "by_chance",
            Self::Once => "once",
        }
    }

    /// What is usual is learned for it.
    pub const fn learns(&self) -> bool {
        self.is_learned() || matches!(self, Self::AboveBusy { .. })
    }

    /// Has to learn what is usual first.
    pub const fn is_learned(&self) -> bool {
        matches!(self, Self::TimesUsual(_) | Self::BeyondBusy(_))
    }
}

/// Which records a rule looks at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Label and pattern; all must match.
    pub patterns: Vec<(Label, Pattern)>,
}

impl Filter {
    /// Whether the rule looks at records with these labels. Only the pattern `-` matches a label that is not there.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.patterns
            .iter()
            .all(|(label, pattern)| match label.of(labels) {
                Some(value) => pattern.matches(value),
                None => pattern.text() == "-",
            })
    }
}

impl Filter {
    /// Leaves nothing out, or at most what belongs to no session.
    pub(super) fn is_of_all_sessions(&self) -> bool {
        let any_session =
            |(label, pattern): &(Label, Pattern)| *label == Label::Session && pattern.is_any();
        self.patterns.iter().all(any_session)
    }
}

/// What is summed up over less than ten minutes tells of moments, not of hours.
const HOURLY_SECS: i64 = 600;

/// A sum over so long is nearly the same from one minute to the next: each day is one sample of it.
pub(super) const DAY_SECS: i64 = 86_400;

/// So is that of a session over less: it is what the session has cost so far, and one that grows slowly would excuse itself.
const HOUR_SECS: i64 = 3600;

/// Days that are over which such a rule has to see before it speaks.
pub(super) const DAYS_TO_LEARN: u64 = 5;

/// One rule, complete: nothing in it is left to a default.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// The number it is about.
    pub metric: Metric,
    /// Seconds that a sum is given per (60 for a rate per minute).
    pub per_secs: Option<i64>,
    /// The stretch of the calendar that a budget is for.
    pub period: Option<Period>,
    /// Window lengths in seconds, shortest first.
    pub windows: Vec<i64>,
    /// The shortest window with so many requests decides.
    pub min_requests: i64,
    /// Smaller prompts say nothing about the cache.
    pub min_prompt_tokens: u64,
    /// Less waste than this is not worth a word.
    pub min_waste: PicoUsd,
    /// Nor is a mean, or a number of tokens or requests, over a window that cost less than this.
    pub min_cost: PicoUsd,
    /// Which records it looks at.
    pub filter: Filter,
    /// What its keys are made of; empty for the whole stream.
    pub by: Vec<Label>,
    /// The limit.
    pub limit: Limit,
    /// Part of the window's cost that waste must exceed too, in [`UNIT`]s.
    pub share_of_cost: Amount,
    /// The limit is never lower than this.
    pub floor: Amount,
    /// Seconds that a breach must last before it fires.
    pub hold_secs: i64,
    /// Seconds that the metric must be clear before it resolves.
    pub keep_firing_secs: i64,
    /// How bad it is.
    pub severity: Severity,
    /// Switched on.
    pub enabled: bool,
}

/// A rule that cannot be meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RuleError {
    /// A window that sixty buckets of whole seconds do not fill.
    #[error("window {0} s is not a multiple of 60 s; the nearest is {1} s")]
    Window(i64, i64),
    /// Windows out of order.
    #[error("windows must grow: write the shortest first")]
    WindowOrder,
    /// A windowed metric without a window.
    #[error("metric {0} needs a window, such as window = \"60s\"")]
    NoWindow(&'static str),
    /// A field that does not go with the metric.
    #[error("{0} does not go with metric {1}; remove it")]
    Field(&'static str, &'static str),
    /// A limit that can never be crossed.
    #[error("{0}; it can never fire")]
    NeverFires(&'static str),
    /// A budget without a period.
    #[error("a budget is for an hour, a day or a month: add per = \"day\"")]
    NoPeriod,
    /// A limit missing.
    #[error(
        "it has no limit; add one of above, below, times_usual, beyond_busy (by_chance for miss-run, silent_for for silence)"
    )]
    NoLimit,
}

impl RuleError {
    /// The key to change.
    pub fn key(&self, rule: &Rule) -> &'static str {
        match self {
            Self::Window(..) | Self::WindowOrder => "window",
            Self::Field(field, _) => field.split(' ').next().unwrap_or(field),
            Self::NeverFires(_) => rule.limit.field(),
            Self::NoWindow(_) | Self::NoLimit | Self::NoPeriod => "metric",
        }
    }
}

impl Rule {
    /// A rule that says nothing yet: what it is made of is laid over it.
    pub fn blank() -> Self {
        Self {
            name: "".into(),
            metric: Metric::Cost,
            per_secs: None,
            period: None,
            windows: Vec::new(),
            min_requests: 0,
            min_prompt_tokens: 5000,
            min_waste: PicoUsd::ZERO,
            min_cost: PicoUsd::ZERO,
            filter: Filter::default(),
            by: Vec::new(),
            limit: Limit::Once,
            share_of_cost: 0,
            floor: 0,
            hold_secs: 0,
            keep_firing_secs: 300,
            severity: Severity::Warning,
            enabled: true,
        }
    }

    /// Refuses a rule that can never fire or says what it cannot mean.
    ///
    /// # Errors
    /// Names the field and the way out.
    pub fn check(&self) -> Result<(), RuleError> {
        let metric = self.metric;
        let misplaced = |field| Err(RuleError::Field(field, metric.name()));
        for secs in &self.windows {
            if *secs < MIN_WINDOW_SECS || secs % MIN_WINDOW_SECS != 0 {
                let nearest =
                    ((secs + MIN_WINDOW_SECS / 2) / MIN_WINDOW_SECS).max(1) * MIN_WINDOW_SECS;
                return Err(RuleError::Window(*secs, nearest));
            }
        }
        if self.windows.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(RuleError::WindowOrder);
        }
        let is_windowless = matches!(metric, Metric::Silence | Metric::Budget);
        if !metric.is_limitless() && !is_windowless && self.windows.is_empty() {
            return Err(RuleError::NoWindow(metric.name()));
        }
        if self.per_secs.is_some() && !metric.is_sum() {
            return misplaced("per");
        }
        let has_share = matches!(metric, Metric::CacheWaste | Metric::CacheLeak);
        if self.share_of_cost > 0 && !has_share {
            return misplaced("share_of_cost");
        }
        if self.share_of_cost >= UNIT {
            return Err(RuleError::NeverFires(
                "what is paid again is a part of the cost, never all of it",
            ));
        }
        let has_waste = metric.is_about_cache() || metric == Metric::CacheLeak;
        if self.min_waste > PicoUsd::ZERO && !has_waste {
            return misplaced("min_waste");
        }
        // A sum of dollars has a limit or a floor.
        let has_cost = metric.is_mean() || (metric.is_volume() && metric != Metric::Cost);
        if self.min_cost > PicoUsd::ZERO && !has_cost {
            return misplaced("min_cost");
        }
        if metric == Metric::MissRun && self.by != [Label::Conversation] {
            return Err(RuleError::Field(
                "by (other than \"conversation\")",
                metric.name(),
            ));
        }
        if metric == Metric::Budget {
            return match (self.period, self.limit) {
                (None, _) => Err(RuleError::NoPeriod),
                (Some(_), Limit::Above(limit)) if limit > 0 => Ok(()),
                (Some(_), Limit::Above(_)) => Err(RuleError::NeverFires("a budget of nothing")),
                (Some(_), other) => misplaced(other.field()),
            };
        }
        match self.limit {
            Limit::ByChance { .. } if metric != Metric::MissRun => misplaced("by_chance"),
            Limit::TimesUsual(_) | Limit::BeyondBusy(_) | Limit::AboveBusy { .. }
                if metric == Metric::MissRun =>
            {
                misplaced(self.limit.field())
            }
            Limit::SilentFor(_) if metric != Metric::Silence => misplaced("silent_for"),
            Limit::SilentFor(secs) if secs < 1 => {
                Err(RuleError::NeverFires("silent_for is no time at all"))
            }
            Limit::SilentFor(_) => Ok(()),
            _ if metric == Metric::Silence => Err(RuleError::NoLimit),
            Limit::Once if !metric.is_limitless() => Err(RuleError::NoLimit),

            Limit::Above(_)
            | Limit::Below(_)
            | Limit::TimesUsual(_)
            | Limit::BeyondBusy(_)
            | Limit::AboveBusy { .. }
            | Limit::ByChance { .. }
                if metric.is_limitless() =>
            {
                misplaced(self.limit.field())
            }
            Limit::Above(limit)
                if matches!(metric, Metric::CacheMiss | Metric::Errors) && limit >= UNIT =>
            {
                Err(RuleError::NeverFires("a share is never above 1"))
            }
            Limit::Below(limit) if limit <= 0 && metric != Metric::CacheGain => {
                Err(RuleError::NeverFires("nothing is below 0"))
            }
            Limit::ByChance { days: 0 } => Err(RuleError::NeverFires("by_chance is 0 days")),
            _ => Ok(()),
        }
    }

    /// So many samples it has to see before it knows what is usual. Of minutes with traffic an hour, or four times its longest
    /// window, of which each minute shows little that is new; where a window has a day, some days.
    pub fn samples_to_learn(&self) -> u64 {
        if self.samples() == Samples::Days {
            return DAYS_TO_LEARN;
        }
        let longest = self.windows.iter().max().copied().unwrap_or(0);
        MIN_MINUTES.max(u64::try_from(longest / 15).unwrap_or(0))
    }

    /// What it learns from.
    pub(super) fn samples(&self) -> Samples {
        let longest = self.windows.iter().max().copied().unwrap_or(0);
        if longest >= DAY_SECS || (self.is_of_sessions() && longest >= HOUR_SECS) {
            Samples::Days
        } else if self.goes_with_the_days() {
            Samples::MinutesOfWeeks
        } else {
            Samples::Minutes
        }
    }

    /// A window holds enough to be judged by. What has no price may cost anything.
    #[inline]
    pub fn is_enough(&self, total: &Sums) -> bool {
        let costs_enough = total.cost >= self.min_cost || total.unpriced > 0;
        self.metric.evidence(total) >= self.min_requests && costs_enough
    }

    /// A sum over this long goes with the hours of the day: it is not known before all of them were seen.
    pub fn takes_a_day_to_learn(&self) -> bool {
        let longest = self.windows.iter().max().copied().unwrap_or(0);
        longest >= HOURLY_SECS && self.goes_with_the_days()
    }

    /// How much there is goes with the hours of the day and the days of the week. That of a session does not.
    pub fn goes_with_the_days(&self) -> bool {
        self.metric.is_volume() && !self.is_of_sessions()
    }

    /// What it is about may come at the same time of each day, such as a job at night: how much there is, and what a response is
    /// like. That of a session does not, and what of the cache is lost is never ordinary.
    pub(super) fn goes_with_the_hours(&self) -> bool {
        let has_hours = self.metric.is_volume() || self.metric.is_mean();
        has_hours && !self.is_of_sessions() && self.samples() != Samples::Days
    }

    /// What learns what is usual for one of its keys.
    pub(super) fn baseline(&self) -> Baseline {
        Baseline::new(self.samples(), self.goes_with_the_hours())
    }

    /// Its keys are sessions or conversations, which come and go.
    pub fn is_of_sessions(&self) -> bool {
        let mut by = self.by.iter();
        by.any(|label| matches!(label, Label::Session | Label::Conversation))
    }

    /// Enough is known of what is usual.
    pub fn has_learned(&self, usual: Usual) -> bool {
        let needed = self.samples_to_learn();
        if self.samples() == Samples::Days {
            return usual.days >= needed;
        }
        usual.minutes >= needed && (usual.is_of_days || !self.takes_a_day_to_learn())
    }

    /// Something is known of what is usual: too little to speak by, but enough to be calmer by.
    fn knows_some(&self, usual: Usual) -> bool {
        let of_minutes = self.samples() != Samples::Days && !self.takes_a_day_to_learn();
        let some = of_minutes && usual.minutes >= self.samples_to_learn() / PART_TO_BE_CALMER;
        some || self.has_learned(usual)
    }

    /// What is above its limit stays so, whatever comes, until enough has left its windows: it is about a sum to which nothing adds
    /// less than nothing.
    pub fn only_rises(&self) -> bool {
        self.metric.is_volume()
            && !matches!(self.limit, Limit::Below(_))
            && self.min_waste == PicoUsd::ZERO
    }

    /// The same for what was known at some moment.
    pub fn limit_on(&self, basis: Basis) -> Option<Amount> {
        self.limit_now(basis.usual, basis.cost)
    }

    /// The limit for a key whose usual values are known, from above unless the rule says below. `None` while learning.
    pub fn limit_now(&self, usual: Usual, window_cost: PicoUsd) -> Option<Amount> {
        match self.limit {
            Limit::Above(limit) => Some(limit.max(times(window_cost.0, self.share_of_cost))),
            Limit::Below(limit) => Some(limit),
            Limit::TimesUsual(factor) => self.has_learned(usual).then(|| {
                let limit = times(usual.usual, factor);
                limit.max(beyond_busy(usual, BEYOND_BUSY)).max(self.floor)
            }),
            Limit::BeyondBusy(times) => self
                .has_learned(usual)
                .then(|| beyond_busy(usual, times).max(self.floor)),
            Limit::AboveBusy { above, beyond } => {
                let known = self.knows_some(usual).then(|| beyond_busy(usual, beyond));
                Some(above.max(known.unwrap_or(0)))
            }
            Limit::SilentFor(secs) => Some(i128::from(secs) * UNIT),
            Limit::ByChance { .. } | Limit::Once => None,
        }
    }

    /// What the limit is never lower than, if the rule fires from above.
    pub(super) const fn least_limit(&self) -> Option<Amount> {
        match self.limit {
            Limit::Above(limit) | Limit::AboveBusy { above: limit, .. } => Some(limit),
            Limit::TimesUsual(_) | Limit::BeyondBusy(_) => Some(self.floor),
            Limit::Below(_) | Limit::SilentFor(_) | Limit::ByChance { .. } | Limit::Once => None,
        }
    }
}

fn beyond_busy(usual: Usual, factor: Amount) -> Amount {
    usual.usual + times(usual.busy - usual.usual, factor)
}

/// An amount so many times, in units: both are cut to millionths, so that the product is one of units again.
pub(super) fn times(amount: Amount, factor: Amount) -> Amount {
    millionths(amount) * millionths(factor)
}

/// Nearly all amounts are small enough for a division that takes a tenth of the time.
fn millionths(amount: Amount) -> Amount {
    match i64::try_from(amount) {
        Ok(small) => Amount::from(small / 1_000_000),
        Err(_) => amount / 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_times_the_usual_are_no_alarm_within_what_busy_minutes_show() {
        let rule = Rule {
            limit: Limit::TimesUsual(3 * UNIT),
            floor: 20 * UNIT,
            ..Rule::blank()
        };
        let limit = |usual: i128, busy: i128| {
            let usual = Usual {
                usual: usual * UNIT,
                busy: busy * UNIT,
                minutes: MIN_MINUTES,
                is_of_days: true,
                days: 0,
            };
            rule.limit_now(usual, PicoUsd::ZERO)
                .map(|limit| limit / UNIT)
        };
        assert_eq!(limit(10, 20), Some(30));
        assert_eq!(limit(10, 40), Some(52));
        assert_eq!(limit(5, 6), Some(20));
    }

    /// What can only make a rule calmer need not be known as well as what it is to speak by.
    #[test]
    fn a_limit_that_is_only_raised_follows_what_is_usual_after_five_minutes() {
        let limit = |limit, windows: &[i64], minutes| {
            let rule = Rule {
                metric: Metric::Cost,
                windows: windows.to_vec(),
                limit,
                ..Rule::blank()
            };
            let usual = Usual {
                usual: UNIT,
                busy: 5 * UNIT,
                minutes,
                ..Usual::default()
            };
            rule.limit_now(usual, PicoUsd::ZERO)
        };
        let raised = Limit::AboveBusy {
            above: 2 * UNIT,
            beyond: 2 * UNIT,
        };
        assert_eq!(limit(raised, &[60], 4), Some(2 * UNIT));
        assert_eq!(limit(raised, &[60], 5), Some(9 * UNIT));
        assert_eq!(limit(Limit::BeyondBusy(2 * UNIT), &[60], 59), None);
        // Half an hour of one day says little about another.
        assert_eq!(limit(raised, &[1800], 5_000), Some(2 * UNIT));
    }

    /// A sum over half an hour goes with the hours of the day; that of a minute, a mean, or what a session costs does not.
    #[test]
    fn a_sum_over_hours_takes_a_day_to_learn() {
        let knows = |metric, windows: &[i64], by: &[Label], is_of_days| {
            let rule = Rule {
                metric,
                windows: windows.to_vec(),
                by: by.to_vec(),
                limit: Limit::TimesUsual(3 * UNIT),
                ..Rule::blank()
            };
            let usual = Usual {
                usual: UNIT,
                busy: UNIT,
                minutes: 10_000,
                is_of_days,
                days: 0,
            };
            rule.limit_now(usual, PicoUsd::ZERO).is_some()
        };
        assert!(!knows(Metric::Cost, &[1800], &[], false));
        assert!(!knows(Metric::Tokens, &[60, 600], &[Label::Project], false));
        assert!(knows(Metric::Cost, &[1800], &[], true));
        assert!(knows(Metric::Tokens, &[60], &[], false));
        assert!(knows(Metric::CostPerRequest, &[3600], &[], false));
        assert!(knows(Metric::Cost, &[600], &[Label::Session], false));
    }
}
