//! What was told of each episode of a replay.
//!
//! Collects notices, and sums up the dollars that they speak of, each once. Does not know whether that was worth telling.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::monitor::{Label, Labels, Notice, Reason, Rule, Severity, Time};
use crate::price::PicoUsd;
use crate::sink::{Clock, explanation, headline, who};

/// What was told of one episode.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) rule: Arc<Rule>,
    /// Those of its key, among others.
    pub(super) labels: Arc<Labels>,
    /// The values of its key.
    pub(super) key: Vec<String>,
    /// The first affected record.
    pub(super) since: Time,
    /// The first notice.
    pub(super) first: Time,
    /// The last notice.
    pub(super) last: Time,
    pub(super) exposed: Option<PicoUsd>,
    pub(super) open: bool,
    /// All notices.
    pub(super) notices: u64,
    /// When somebody was woken by it: all notices but that it is over.
    pages: Vec<Time>,
    /// What it is about, why, and what to look at, if words were asked for.
    pub(super) words: Vec<String>,
}

impl Told {
    /// How often somebody is woken by it until something is done, so long after the first time.
    pub(super) fn pages_until_answered(&self, response_secs: i64) -> u64 {
        let answered = self.first.plus_secs(response_secs);
        self.pages.iter().filter(|at| **at <= answered).count() as u64
    }

    /// Until when it was on, in a log that ends so. What is said once is over when it is said.
    pub(super) fn until(&self, end: Time) -> Time {
        if self.open && !self.rule.metric.is_announcement() {
            end.max(self.last)
        } else {
            self.last
        }
    }

    /// Whether a response with these labels is one that its rule looks at under its key.
    pub(super) fn covers(&self, labels: &Labels) -> bool {
        let same = |label: &Label| match label {
            Label::Conversation => labels.conversation == self.labels.conversation,
            other => other.of(labels) == other.of(&self.labels),
        };
        self.rule.filter.matches(labels) && self.rule.by.iter().all(same)
    }
}

/// The episodes of a replay, as told.
#[derive(Debug, Clone, Default)]
pub(super) struct Episodes {
    told: BTreeMap<u64, Told>,
    /// Keep what was said, with the times of this clock.
    words: Option<Clock>,
}

impl Episodes {
    /// Episodes of which is kept what was said.
    pub(super) fn in_words(clock: Clock) -> Self {
        Self {
            told: BTreeMap::new(),
            words: Some(clock),
        }
    }

    /// Remembers notices.
    pub(super) fn note(&mut self, notices: &[Notice]) {
        for notice in notices {
            let told = self.told.entry(notice.episode).or_insert_with(|| Told {
                rule: Arc::clone(&notice.rule),
                labels: Arc::clone(&notice.labels),
                key: notice.key.iter().map(|(_, value)| value.clone()).collect(),
                since: notice.since,
                first: notice.at,
                last: notice.at,
                exposed: None,
                open: true,
                notices: 0,
                pages: Vec::new(),
                words: Vec::new(),
            });
            told.last = notice.at;
            told.exposed = notice.exposed;
            told.open = notice.reason != Reason::Resolved;
            told.notices += u64::from(notice.reason != Reason::Stopped);
            if !matches!(notice.reason, Reason::Resolved | Reason::Stopped) {
                told.pages.push(notice.at);
            }
            if let Some(clock) = self.words {
                // What it is about stays what was told first; why is known best at the end, unless less is known then.
                let headline = told.words.first().cloned();
                let mut words = vec![headline.unwrap_or_else(|| headline_of(notice))];
                words.extend(explanation(notice, clock));
                if words.len() >= told.words.len() {
                    told.words = words;
                }
            }
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Told> {
        self.told.values()
    }

    /// Those of a rule.
    pub(super) fn of<'a>(&'a self, rule: &'a str) -> impl Iterator<Item = &'a Told> {
        self.all().filter(move |told| *told.rule.name == *rule)
    }

    /// Dollars exposed, in a log that ends so. Rules whose alerts were on at once may speak of the same dollars: of these the rule
    /// that exposed the most counts, and of the others what was on without it.
    pub(super) fn exposed(&self, end: Time) -> PicoUsd {
        let mut all: Vec<Exposure<'_>> = self
            .all()
            .filter_map(|told| {
                let dollars = told.exposed.filter(|dollars| *dollars > PicoUsd::ZERO)?;
                Some((told.since, told.until(end), &*told.rule.name, dollars))
            })
            .collect();
        all.sort_unstable();
        let mut sum = PicoUsd::ZERO;
        while !all.is_empty() {
            let mut others = Vec::new();
            for group in on_at_once(&all) {
                let mut rules: BTreeMap<&str, PicoUsd> = BTreeMap::new();
                for (.., rule, dollars) in group {
                    *rules.entry(rule).or_default() += *dollars;
                }
                let Some((most, dollars)) = rules.into_iter().max_by_key(|(_, dollars)| *dollars)
                else {
                    continue;
                };
                sum += dollars;
                let counted: Vec<_> = group.iter().filter(|one| one.2 == most).copied().collect();
                let spans: Vec<(Time, Time)> = on_at_once(&counted).map(span).collect();
                let is_without = |(since, until, ..): &Exposure<'_>| {
                    let next = spans.partition_point(|(_, over)| over < since);
                    spans.get(next).is_none_or(|(begin, _)| begin > until)
                };
                others.extend(group.iter().filter(|one| is_without(one)).copied());
            }
            all = others;
        }
        sum
    }

    /// Any as severe as this.
    pub(super) fn any_as_severe_as(&self, severity: Severity) -> bool {
        self.all().any(|told| told.rule.severity >= severity)
    }
}

/// From when until when which rule was on, and what it exposed.
type Exposure<'a> = (Time, Time, &'a str, PicoUsd);

/// Those of which each was on together with another one, of exposures in the order in which they began.
fn on_at_once<'e, 'a>(all: &'e [Exposure<'a>]) -> impl Iterator<Item = &'e [Exposure<'a>]> {
    let mut over = Time(i64::MIN);
    all.chunk_by(move |(_, until, ..), (since, ..)| {
        over = over.max(*until);
        *since <= over
    })
}

/// From the first to the last moment of a group.
fn span(group: &[Exposure<'_>]) -> (Time, Time) {
    let begin = group.iter().map(|(since, ..)| *since).min();
    let end = group.iter().map(|(_, until, ..)| *until).max();
    (begin.unwrap_or_default(), end.unwrap_or_default())
}

fn headline_of(notice: &Notice) -> String {
    let mut line = headline(notice);
    for part in who(notice) {
        line.push_str(" · ");
        line.push_str(&part);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rule: &str, since: i64, last: i64, dollars: i128) -> Told {
        let rule = Rule {
            name: rule.into(),
            ..Rule::blank()
        };
        Told {
            rule: Arc::new(rule),
            labels: Arc::default(),
            key: Vec::new(),
            since: Time(since),
            first: Time(since),
            last: Time(last),
            exposed: Some(PicoUsd(dollars * PicoUsd::DOLLAR.0)),
            open: false,
            notices: 1,
            pages: Vec::new(),
            words: Vec::new(),
        }
    }

    #[test]
    fn dollars_that_rules_expose_at_once_count_once() {
        let exposed = |all: &[Told]| {
            let told = (0..).zip(all.iter().cloned()).collect();
            let episodes = Episodes { told, words: None };
            episodes.exposed(Time(1_000)).0 / PicoUsd::DOLLAR.0
        };
        assert_eq!(exposed(&[]), 0);
        // The same dollars, told by two rules.
        let mut both = vec![told("a", 0, 50, 18), told("b", 10, 60, 17)];
        assert_eq!(exposed(&both), 18);
        // Of one rule, each has dollars of its own.
        both.push(told("b", 20, 30, 2));
        assert_eq!(exposed(&both), 19);
        // What comes after all of them are over is something else.
        both.push(told("a", 61, 70, 5));
        assert_eq!(exposed(&both), 24);
        // What is still on at the end goes on to there.
        both[1].open = true;
        assert_eq!(exposed(&both), 23);
        // One that is on all the time, and exposes little or nothing, does not hide others that have nothing to do with each other.
        let apart = [
            told("b", 10, 20, 10),
            told("c", 30, 40, 7),
            told("b", 50, 60, 10),
        ];
        assert_eq!(exposed(&apart), 27);
        for little in 0..2 {
            let with = [&apart[..], &[told("d", 0, 100, little)]].concat();
            assert_eq!(exposed(&with), 27);
        }
    }
}
