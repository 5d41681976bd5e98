//! `--suggest`: which limits would have cost least on this log, pages and lost dollars together.
//!
//! Candidates are tried one field at a time; what is chosen is then tried together, on the rest of the log if it was held back.
//! Pure: what was told with each choice comes in, a choice and words come out.

use std::collections::HashMap;
use std::fmt::Write;

use super::episodes::{Episodes, Told};
use super::figures::per_day;
use super::incidents::Incident;
use super::journal::Journal;
use super::score::judge;
use super::table::row;
use crate::monitor::{Metric, Rule, Time};
use crate::price::PicoUsd;
use crate::sink::{clean, count};

/// Fields that are worth changing, with values from sensitive to calm: none is calmer than about twice the default, because what
/// a part of a log has not seen may still come.
const FIELDS: [(&str, &str, &[&str]); 11] = [
    ("cost-rate", "above", &["0.25", "0.5", "1", "2", "4"]),
    ("cost-rate", "beyond_busy", &["1", "1.5", "2", "3"]),
    ("cache-break", "by_chance", &["7d", "30d", "60d"]),
    ("cache-waste", "above", &["0.1", "0.25", "0.5", "1"]),
    ("cache-drop", "beyond_busy", &["1", "1.4", "2", "3"]),
    ("session-cost", "beyond_busy", &["1", "1.5", "2", "3"]),
    ("session-long", "times_usual", &["1.5", "2", "3"]),
    ("request-cost", "beyond_busy", &["1.4", "2", "2.5", "3"]),
    ("cost-spike", "times_usual", &["2", "3", "4", "6"]),
    ("cost-day", "times_usual", &["1.5", "2", "3"]),
    ("token-spike", "times_usual", &["2", "3", "4", "6"]),
];

/// One value of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    rule: &'static str,
    field: &'static str,
    value: &'static str,
}

impl Candidate {
    /// As `--set` takes it.
    pub(super) fn assignment(&self) -> String {
        format!("{}.{}={}", self.rule, self.field, self.value)
    }
}

/// All candidates for the rules that are in force.
pub(super) fn candidates(rules: &[Rule]) -> Vec<Candidate> {
    let in_force = |name: &str| rules.iter().any(|rule| rule.enabled && *rule.name == *name);
    let mut all = Vec::new();
    for (rule, field, values) in FIELDS.into_iter().filter(|(rule, ..)| in_force(rule)) {
        all.extend(values.iter().map(|value| Candidate { rule, field, value }));
    }
    all
}

/// A stretch of the log, with what is known to have gone wrong in it.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) from: Time,
    pub(super) to: Time,
    pub(super) journal: &'a Journal,
    /// Incidents that really were. Without any, what the present rules told and cost more than a page stands for them.
    pub(super) incidents: &'a [Incident],
    pub(super) present: &'a Episodes,
    pub(super) page_cost: PicoUsd,
    pub(super) response_secs: i64,
}

/// What a choice of rules costs on a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) alerts: u64,
    pub(super) pages: u64,
    pub(super) lost: PicoUsd,
    /// Pages and lost dollars together.
    pub(super) all: PicoUsd,
}

/// What is saved has to be at least this part of all costs, in hundredths, and what a page costs: less is chance.
const MIN_GAIN_PERCENT: i128 = 5;

/// A dollar more that is lost counts so many times: a part of a log holds few incidents, and those to come may be larger.
const LOSS_AVERSION: i128 = 3;

impl Cost {
    /// What it costs compared with another choice, with what is lost on top of that counted several times.
    fn beside(&self, present: &Self) -> PicoUsd {
        let more = (self.lost - present.lost).max(PicoUsd::ZERO);
        PicoUsd(self.all.0 + (LOSS_AVERSION - 1) * more.0)
    }

    /// Worth a change of rules, where a page costs so much.
    fn is_better_than(&self, present: &Self, page_cost: PicoUsd) -> bool {
        let gain = present.all.0 - self.beside(present).0;
        gain * 100 > present.all.0 * MIN_GAIN_PERCENT && gain >= page_cost.0
    }
}

impl<'a> Part<'a> {
    /// Its first and its second half.
    fn halves(&self) -> [Part<'a>; 2] {
        let middle = Time(i64::midpoint(self.from.0, self.to.0));
        let (mut first, mut second) = (*self, *self);
        first.to = middle;
        second.from = middle;
        [first, second]
    }

    /// These alerts are worth a change of rules. One incident may pay for many false alarms, and need not come again: in neither half
    /// may they cost more than the present ones by more than a page.
    pub(super) fn prefers(&self, episodes: &Episodes) -> bool {
        let beside = |part: &Self| {
            let present = part.cost(part.present);
            (part.cost(episodes), present)
        };
        let (cost, present) = beside(self);
        let is_no_worse = |half: &Part<'a>| {
            let (cost, present) = beside(half);
            cost.beside(&present) <= present.all + half.page_cost
        };
        cost.is_better_than(&present, self.page_cost) && self.halves().iter().all(is_no_worse)
    }

    fn holds(&self, at: Time) -> bool {
        (self.from..self.to).contains(&at)
    }

    /// `cost-rate` is the net under all other rules: it finds what a part of a log has not shown. It is only made calmer where it
    /// speaks every day.
    fn widens_the_net(&self, candidate: &Candidate, episodes: &Episodes) -> bool {
        let told = |episodes: &Episodes| {
            let all = episodes.of(candidate.rule);
            all.filter(|told| self.holds(told.first)).count() as u64
        };
        let days = u64::try_from(self.to.millis_since(self.from) / 86_400_000).unwrap_or(0);
        let present = told(self.present);
        candidate.rule == "cost-rate" && told(episodes) < present && present <= days
    }

    fn end_of(&self, told: &Told) -> Time {
        let last_of_log = self.journal.end().unwrap_or_default();
        let end = if told.open { last_of_log } else { told.last };
        end.min(Time(self.to.0 - 1))
    }

    /// What these alerts would have cost.
    pub(super) fn cost(&self, episodes: &Episodes) -> Cost {
        let told: Vec<&Told> = episodes
            .all()
            .filter(|told| self.holds(told.first))
            .collect();
        let pages = told
            .iter()
            .map(|told| told.pages_until_answered(self.response_secs))
            .sum();
        let lost = if self.incidents.is_empty() {
            self.lost_of_present(&told)
        } else {
            let mine = self
                .incidents
                .iter()
                .filter(|incident| self.holds(incident.start));
            let mine: Vec<Incident> = mine.cloned().collect();
            judge(&mine, episodes, self.journal, self.response_secs).exposed()
        };
        Cost {
            alerts: told.len() as u64,
            pages,
            lost,
            all: PicoUsd(self.page_cost.0 * i128::from(pages)) + lost,
        }
    }

    /// Dollars of what the present rules told, until these alerts would have been answered.
    fn lost_of_present(&self, told: &[&Told]) -> PicoUsd {
        let mut affected: HashMap<usize, PicoUsd> = HashMap::new();
        let costly = |told: &&Told| {
            let metric = told.rule.metric;
            metric.has_dollars()
                && metric != Metric::Budget
                && told
                    .exposed
                    .is_some_and(|exposed| exposed >= self.page_cost)
                && self.holds(told.first)
        };
        for incident in self.present.all().filter(costly) {
            let of_cache = incident.rule.metric.is_about_cache();
            for (place, entry) in self.journal.between(incident.since, self.end_of(incident)) {
                if incident.covers(&entry.labels) {
                    let dollars = if of_cache {
                        entry.waste()
                    } else {
                        entry.cost()
                    };
                    let known = affected.entry(place).or_default();
                    *known = (*known).max(dollars);
                }
            }
        }
        for told in told.iter().filter(|told| told.rule.metric.has_dollars()) {
            let answered = Time(told.first.plus_secs(self.response_secs).0 + 1);
            for (place, entry) in self.journal.between(answered, self.end_of(told)) {
                if told.covers(&entry.labels) {
                    affected.remove(&place);
                }
            }
        }
        affected.into_values().sum()
    }
}

/// For each field the value that costs least on its own; only those that are clearly better than what is in force.
pub(super) fn choose(
    candidates: &[Candidate],
    tried: &[Episodes],
    part: &Part<'_>,
) -> Vec<Candidate> {
    let present = part.cost(part.present);
    let mut chosen: Vec<(Candidate, PicoUsd)> = Vec::new();
    for (candidate, episodes) in candidates.iter().zip(tried) {
        if !part.prefers(episodes) || part.widens_the_net(candidate, episodes) {
            continue;
        }
        let cost = part.cost(episodes).beside(&present);
        let same = |(other, _): &&mut (Candidate, PicoUsd)| {
            (other.rule, other.field) == (candidate.rule, candidate.field)
        };
        match chosen.iter_mut().find(same) {
            Some(best) if cost < best.1 => *best = (candidate.clone(), cost),
            Some(_) => {}
            None => chosen.push((candidate.clone(), cost)),
        }
    }
    chosen.into_iter().map(|(candidate, _)| candidate).collect()
}

/// The choice as a configuration.
pub(super) fn toml(chosen: &[Candidate]) -> String {
    let mut text = String::new();
    let mut last = "";
    for Candidate { rule, field, value } in chosen {
        if *rule != last {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}[[rule]]\nname = \"{rule}\"");
            last = rule;
        }
        let quoted = value.ends_with('d');
        let value = if quoted {
            format!("\"{value}\"")
        } else {
            (*value).to_owned()
        };
        let _ = writeln!(text, "{field} = {value}");
    }
    text
}

/// What the present and the suggested rules come to, part by part.
pub(super) fn comparison(parts: &[(&str, i64, Cost, Cost)]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "rules",
        "on",
        "alerts",
        "a day",
        "pages",
        "lost",
        "pages and lost",
    ])];
    for (name, span_ms, present, suggested) in parts {
        for (rules, cost) in [("as they are", present), ("as suggested", suggested)] {
            rows.push(vec![
                rules.to_owned(),
                clean(name).into_owned(),
                count(cost.alerts),
                per_day(cost.alerts, *span_ms),
                count(cost.pages),
                cost.lost.to_string(),
                cost.all.to_string(),
            ]);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Notice, Reason};
    use std::sync::Arc;

    fn cost(dollars: i128, lost: i128) -> Cost {
        Cost {
            lost: PicoUsd(lost * PicoUsd::DOLLAR.0),
            all: PicoUsd(dollars * PicoUsd::DOLLAR.0),
            ..Cost::default()
        }
    }

    #[test]
    fn a_small_gain_is_chance_and_a_loss_on_top_counts_three_times() {
        let page = |dollars: i128| PicoUsd(dollars * PicoUsd::DOLLAR.0);
        let present = cost(100, 20);
        assert!(cost(94, 20).is_better_than(&present, page(5)));
        assert!(!cost(96, 20).is_better_than(&present, page(5)));
        // A page that costs more than that is not saved.
        assert!(cost(94, 20).is_better_than(&present, page(6)));
        assert!(!cost(94, 20).is_better_than(&present, page(7)));
        // Ten dollars fewer, with two more of them lost: as if it were six.
        assert!(cost(90, 22).is_better_than(&present, page(5)));
        assert!(!cost(90, 23).is_better_than(&present, page(5)));
    }

    const START: Time = Time(1_795_399_200_000);

    /// Alerts of a rule, so many hours after the start.
    fn alerts(rule: &str, hours: impl Iterator<Item = i64>) -> Episodes {
        let mut blank = Rule::blank();
        blank.name = rule.into();
        let rule = Arc::new(blank);
        let mut episodes = Episodes::default();
        for hour in hours {
            let at = START.plus_secs(hour * 3600);
            let id = u64::try_from(hour).unwrap();
            let notice = Notice::in_words(&rule, Reason::First, Vec::new(), id, at, at, "");
            episodes.note(&[notice]);
        }
        episodes
    }

    /// How many of these are chosen: the alerts of a rule in ten days, and those of a candidate.
    fn chosen(rule: &'static str, present: &Episodes, tried: Episodes) -> usize {
        let part = Part {
            from: START,
            to: START.plus_secs(10 * 86_400),
            journal: &Journal::default(),
            incidents: &[],
            present,
            page_cost: PicoUsd::DOLLAR,
            response_secs: 0,
        };
        let calmer = Candidate {
            rule,
            field: "above",
            value: "4",
        };
        choose(&[calmer], &[tried], &part).len()
    }

    #[test]
    fn the_net_is_made_wider_only_where_it_speaks_every_day() {
        let chosen = |n| {
            let present = alerts("cost-rate", 0..n);
            chosen("cost-rate", &present, Episodes::default())
        };
        assert_eq!((chosen(10), chosen(11)), (0, 1));
    }

    /// Ten alerts in the first five days that another setting does not give: they do not pay for more than one that it gives in the
    /// other five.
    #[test]
    fn what_is_gained_in_one_half_is_not_paid_for_in_the_other() {
        let present = alerts("token-spike", 0..10);
        let with = |more: i64| {
            let tried = alerts("token-spike", (0..more).map(|n| 150 + n));
            chosen("token-spike", &present, tried)
        };
        assert_eq!((with(0), with(1), with(2)), (1, 1, 0));
    }
}
