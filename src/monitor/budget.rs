//! Budgets: dollars of a calendar hour, day or month, told at 50, 80 and 100 per cent, and when the pace of the last hour will
//! have spent them long before the end.
//!
//! Knows no calendar: where a period begins and ends, and what it is called, is asked of the one that is handed in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::alert::Notice;
use super::calendar::{Calendar, Period, Stretch};
use super::record::{Labels, Time};
use super::rule::{Label, Limit, Rule, Severity};
use super::step::episode_id;
use super::tell::Reason;
use super::window::Windows;
use crate::price::PicoUsd;

/// Told when so many hundredths are spent.
const LEVELS: [u8; 3] = [50, 80, 100];

/// A forecast is worth a word if so many hundredths are spent, and if the money is gone by more than so many hundredths of the
/// period before its end.
const FORECAST_SPENT: i128 = 20;
const FORECAST_AHEAD: i64 = 25;

/// One budget.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    rule: Arc<Rule>,
    /// The same, as it is told when all is spent.
    exceeded: Arc<Rule>,
    period: Period,
    limit: PicoUsd,
}

/// How it stands with one budget.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spending {
    stretch: Option<Stretch>,
    spent: PicoUsd,
    responses: i64,
    /// Responses without a price: `spent` is a lower bound.
    unpriced: bool,
    last_hour: Windows<PicoUsd>,
    /// The last that was said: the level, and whether a forecast.
    said: u8,
    forecast: bool,
    /// The last notice; nothing was told before it.
    told: bool,
    labels: Arc<Labels>,
}

impl Default for Spending {
    fn default() -> Self {
        Self {
            stretch: None,
            spent: PicoUsd::ZERO,
            responses: 0,
            unpriced: false,
            last_hour: Windows::new([3600], 0),
            said: 0,
            forecast: false,
            told: false,
            labels: Arc::default(),
        }
    }
}

/// What a record brings to a budget.
pub(super) struct Spent<'a> {
    pub(super) at: Time,
    pub(super) cost: Option<PicoUsd>,
    pub(super) labels: &'a Arc<Labels>,
    /// A response of its own, not more of one.
    pub(super) is_new: bool,
}

/// The moments that a budget is looked at.
pub(super) struct Moment<'a> {
    pub(super) now: Time,
    /// The first record of all that is known.
    pub(super) first: Option<Time>,
    pub(super) live: bool,
    pub(super) calendar: &'a dyn Calendar,
}

impl Budget {
    /// The budget of a rule, if it is one.
    pub(super) fn of(rule: &Arc<Rule>) -> Option<Self> {
        let (Some(period), Limit::Above(limit)) = (rule.period, rule.limit) else {
            return None;
        };
        let exceeded = Rule {
            severity: Severity::Critical,
            ..(**rule).clone()
        };
        Some(Self {
            rule: Arc::clone(rule),
            exceeded: Arc::new(exceeded),
            period,
            limit: PicoUsd(limit),
        })
    }

    /// Counts a record in the period that is on. One of a period that is over counts nowhere.
    pub(super) fn count(
        &self,
        spending: &mut Spending,
        spent: &Spent<'_>,
        moment: &Moment<'_>,
    ) -> Vec<Notice> {
        if !self.rule.filter.matches(spent.labels) {
            return Vec::new();
        }
        let mut notices = self.advance(spending, moment);
        let stretch = spending.stretch.get_or_insert_with(|| {
            moment
                .calendar
                .stretch(self.period, moment.now.max(spent.at))
        });
        if spent.at < stretch.start || spent.at >= stretch.end {
            return notices;
        }
        let cost = spent.cost.unwrap_or_default();
        spending.spent += cost;
        spending.unpriced |= spent.cost.is_none();
        spending.responses += i64::from(spent.is_new);
        spending.labels = Arc::clone(spent.labels);
        spending.last_hour.add(spent.at.secs(), &cost);
        notices.extend(self.tell(spending, moment, Reason::First));
        notices
    }

    /// Ends the period if its time is over.
    pub(super) fn advance(&self, spending: &mut Spending, moment: &Moment<'_>) -> Vec<Notice> {
        let Some(stretch) = &spending.stretch else {
            return Vec::new();
        };
        if moment.now < stretch.end {
            return Vec::new();
        }
        let end = stretch.end;
        let mut notices = Vec::new();
        if spending.told {
            let text = format!(
                "the {} is over: {} of {} spent",
                self.period.name(),
                amount(spending),
                self.limit
            );
            notices.push(self.notice(spending, Reason::Resolved, end, moment, text));
        }
        // It is known what the last hour of the old period cost.
        *spending = Spending {
            stretch: Some(moment.calendar.stretch(self.period, moment.now)),
            last_hour: spending.last_hour.clone(),
            labels: Arc::clone(&spending.labels),
            ..Spending::default()
        };
        notices
    }

    /// What there is to say, once each.
    pub(super) fn tell(
        &self,
        spending: &mut Spending,
        moment: &Moment<'_>,
        reason: Reason,
    ) -> Option<Notice> {
        let stretch = spending.stretch.clone()?;
        if !moment.live {
            return None;
        }
        let percent = |part: u8| self.limit.0 * i128::from(part);
        let level = LEVELS
            .into_iter()
            .rfind(|level| spending.spent.0 * 100 >= percent(*level))
            .filter(|level| *level > spending.said);
        spending.last_hour.advance(moment.now.secs());
        let pace = spending.last_hour.at(0).total();
        let text = if let Some(level) = level {
            spending.said = level;
            let part = spending.spent.0 * 100 / self.limit.0.max(1);
            let at_least = at_least(spending);
            format!(
                "{} of {} for the {} {} spent: {at_least}{part} %{}",
                amount(spending),
                self.limit,
                self.period.name(),
                stretch.name,
                since(&stretch, moment)
            )
        } else {
            let gone = self.gone_at(spending, &stretch, pace, moment.now)?;
            if spending.forecast || spending.said == 100 {
                return None;
            }
            spending.forecast = true;
            format!(
                "at the pace of the last hour ({pace}/h) the {} for the {} {} are gone at {}; {} spent{}",
                self.limit,
                self.period.name(),
                stretch.name,
                moment.calendar.minute(gone),
                amount(spending),
                since(&stretch, moment)
            )
        };
        let reason = if spending.told {
            Reason::Escalated
        } else {
            reason
        };
        spending.told = true;
        Some(self.notice(spending, reason, moment.now, moment, text))
    }

    /// When the money is gone at the pace of the last hour, if that is long before the end and enough is spent to tell.
    fn gone_at(
        &self,
        spending: &Spending,
        stretch: &Stretch,
        pace: PicoUsd,
        now: Time,
    ) -> Option<Time> {
        let left = self.limit.0 - spending.spent.0;
        let enough = spending.spent.0 * 100 >= self.limit.0 * FORECAST_SPENT;
        if pace <= PicoUsd::ZERO || left <= 0 || !enough {
            return None;
        }
        let ms = i64::try_from(left * 3_600_000 / pace.0).ok()?;
        let gone = Time(now.0.saturating_add(ms));
        let length = stretch.end.millis_since(stretch.start);
        let ahead = stretch.end.millis_since(gone);
        (ahead * 100 > length * FORECAST_AHEAD).then_some(gone)
    }

    /// The episode of the present period, once anything was told of it.
    pub(super) fn told(&self, spending: &Spending) -> Option<u64> {
        spending.told.then(|| self.episode(spending)).flatten()
    }

    /// Notes that another run told this episode as far as it has come.
    pub(super) fn note_told(&self, spending: &mut Spending, is_known: impl Fn(u64) -> bool) {
        if self.episode(spending).is_some_and(is_known) {
            let reached = |level: &u8| spending.spent.0 * 100 >= self.limit.0 * i128::from(*level);
            spending.said = LEVELS.into_iter().rfind(reached).unwrap_or(0);
            (spending.forecast, spending.told) = (true, true);
        }
    }

    fn episode(&self, spending: &Spending) -> Option<u64> {
        let stretch = spending.stretch.as_ref()?;
        Some(episode_id(
            &self.rule,
            &self.key(&stretch.name),
            stretch.start,
        ))
    }

    fn key(&self, name: &str) -> Vec<(Label, String)> {
        vec![(Label::Period, format!("{} {name}", self.period.name()))]
    }

    fn notice(
        &self,
        spending: &mut Spending,
        reason: Reason,
        at: Time,
        moment: &Moment<'_>,
        text: String,
    ) -> Notice {
        let rule = if spending.said == 100 && reason != Reason::Resolved {
            &self.exceeded
        } else {
            &self.rule
        };
        let stretch = spending.stretch.clone();
        let (start, name) = stretch.map_or((at, String::new()), |s| (s.start, s.name));
        let key = self.key(&name);
        let episode = episode_id(&self.rule, &key, start);
        Notice {
            value: Some(spending.spent.0),
            at_least: spending.unpriced,
            limit: self.limit.0,
            requests: spending.responses,
            exposed: Some(spending.spent),
            exposed_is_all: true,
            pace: Some(spending.last_hour.at(0).total()).filter(|pace| *pace > PicoUsd::ZERO),
            labels: Arc::clone(&spending.labels),
            ..Notice::in_words(
                rule,
                reason,
                key,
                episode,
                at,
                first_of(start, moment),
                text,
            )
        }
    }
}

/// The first moment of a period that is known of.
fn first_of(start: Time, moment: &Moment<'_>) -> Time {
    moment.first.map_or(start, |first| first.max(start))
}

/// ` (known since 09:12)`, where what is known does not reach back to the beginning.
fn since(stretch: &Stretch, moment: &Moment<'_>) -> String {
    let first = first_of(stretch.start, moment);
    if first > stretch.start {
        format!(" (known since {})", moment.calendar.minute(first))
    } else {
        String::new()
    }
}

fn at_least(spending: &Spending) -> &'static str {
    if spending.unpriced { "≥ " } else { "" }
}

fn amount(spending: &Spending) -> String {
    format!("{}{}", at_least(spending), spending.spent)
}

impl Spending {
    /// The clock was wrong by so much. Money stays in the period that it was counted in.
    pub(super) fn shift(&mut self, ms: i64) {
        self.last_hour.shift(ms / 1000);
    }

    /// The notices that did not reach anybody are due again.
    pub(super) fn was_not_told(&mut self) {
        (self.said, self.forecast, self.told) = (0, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::calendar::PlainDays;
    use crate::monitor::{Filter, Metric, UNIT};

    fn budget(dollars: i128) -> Budget {
        let rule = Rule {
            name: "budget".into(),
            metric: Metric::Budget,
            period: Some(Period::Day),
            limit: Limit::Above(dollars * UNIT),
            filter: Filter::default(),
            ..Rule::blank()
        };
        Budget::of(&Arc::new(rule)).expect("a budget")
    }

    const MORNING: i64 = 1_795_392_000;

    /// Spends dollars at hours of the day and gives what is said.
    fn said(steps: &[(i64, i64)]) -> Vec<(Reason, Severity, String)> {
        let budget = budget(100);
        let mut spending = Spending::default();
        let labels = Arc::default();
        let mut said = Vec::new();
        for (minutes, dollars) in steps {
            let at = Time::from_secs(MORNING + minutes * 60);
            let moment = Moment {
                now: at,
                first: None,
                live: true,
                calendar: &PlainDays,
            };
            let spent = Spent {
                at,
                cost: Some(PicoUsd(i128::from(*dollars) * UNIT)),
                labels: &labels,
                is_new: true,
            };
            said.extend(budget.count(&mut spending, &spent, &moment));
        }
        let say = |notice: Notice| {
            let text = notice.text.map(|text| text.to_string()).unwrap_or_default();
            (notice.reason, notice.rule.severity, text)
        };
        said.into_iter().map(say).collect()
    }

    #[test]
    fn each_level_is_told_once_and_the_whole_is_critical() {
        let said = said(&[
            (1200, 49),
            (1201, 1),
            (1202, 10),
            (1203, 25),
            (1204, 20),
            (1440, 1),
        ]);
        let reasons: Vec<_> = said.iter().map(|(r, s, _)| (*r, *s)).collect();
        assert_eq!(
            reasons,
            [
                (Reason::First, Severity::Warning),
                (Reason::Escalated, Severity::Warning),
                (Reason::Escalated, Severity::Critical),
                (Reason::Resolved, Severity::Warning),
            ],
            "{said:?}"
        );
        assert!(
            said[0].2.contains("$50.00 of $100.00 for the day"),
            "{said:?}"
        );
        assert!(said[2].2.ends_with("spent: 105 %"), "{said:?}");
    }

    #[test]
    fn a_pace_that_spends_it_long_before_the_end_is_told_once() {
        let said = said(&[(60, 10), (90, 10), (95, 5), (100, 5)]);
        let texts: Vec<&str> = said.iter().map(|(.., text)| text.as_str()).collect();
        assert_eq!(texts.len(), 1, "{texts:?}");
        // $20 in the last hour, $80 left: four hours from half past one.
        assert!(
            texts[0].contains("are gone at 05:30; $20.00 spent"),
            "{texts:?}"
        );
    }

    #[test]
    fn a_pace_that_lasts_nearly_to_the_end_is_no_news() {
        assert_eq!(said(&[(60 * 20, 15), (60 * 20 + 30, 5)]), []);
    }
}
