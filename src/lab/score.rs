//! Alerts held against incidents: found or missed, how soon, and what was lost until then.
//!
//! Pure: journal, episodes and incidents in, figures out.

use std::collections::HashMap;
use std::sync::Arc;

use super::episodes::{Episodes, Told};
use super::incidents::Incident;
use super::journal::{Entry, Journal};
use crate::monitor::{Labels, Metric, Time};
use crate::price::PicoUsd;

/// What became of one incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    /// The first affected record, or where it began if none cost anything; `None` if it lies outside of the log.
    pub(super) first: Option<Time>,
    /// No record in it cost anything: nothing came, or errors alone, or its key is that of nobody.
    pub(super) is_free: bool,
    /// The notice that found it.
    pub(super) told: Option<Time>,
    /// The rule of that notice.
    pub(super) by: Option<Arc<str>>,
    /// From then to the notice, or if it was missed to its end, in milliseconds.
    pub(super) censored_ms: i64,
    /// Dollars until something was done about it.
    pub(super) exposed: PicoUsd,
    /// Dollars of all of it.
    pub(super) whole: PicoUsd,
}

/// What alerts are worth on labelled incidents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Score {
    /// One for each incident, in their order.
    pub(super) judged: Vec<Judged>,
    /// Episodes told during an incident.
    pub(super) true_alarms: u64,
    /// Episodes told outside of all incidents.
    pub(super) false_alarms: u64,
}

impl Score {
    /// Incidents that lie in the log.
    pub(super) fn in_log(&self) -> u64 {
        self.judged.iter().filter(|j| j.first.is_some()).count() as u64
    }

    /// Incidents that were found.
    pub(super) fn found(&self) -> u64 {
        self.judged.iter().filter(|j| j.told.is_some()).count() as u64
    }

    /// Dollars until something was done, of all incidents.
    pub(super) fn exposed(&self) -> PicoUsd {
        self.judged.iter().map(|judged| judged.exposed).sum()
    }

    /// Dollars of all incidents.
    pub(super) fn whole(&self) -> PicoUsd {
        self.judged.iter().map(|judged| judged.whole).sum()
    }

    /// Mean and median time to detect, of those found, in milliseconds.
    pub(super) fn time_to_detect(&self) -> Option<(i64, i64)> {
        mean_and_median(self.judged.iter().filter(|j| j.told.is_some()))
    }

    /// The same of all: a miss counts for as long as the incident lasted.
    pub(super) fn censored(&self) -> Option<(i64, i64)> {
        mean_and_median(self.judged.iter().filter(|j| j.first.is_some()))
    }
}

fn mean_and_median<'a>(judged: impl Iterator<Item = &'a Judged>) -> Option<(i64, i64)> {
    let mut times: Vec<i64> = judged.map(|judged| judged.censored_ms).collect();
    times.sort_unstable();
    let n = i64::try_from(times.len()).ok().filter(|n| *n > 0)?;
    let middle = times.len() / 2;
    let median = if times.len() % 2 == 1 {
        times[middle]
    } else {
        i64::midpoint(times[middle - 1], times[middle])
    };
    Some((times.iter().sum::<i64>() / n, median))
}

/// Holds alerts against incidents. Something is done about an alert so many seconds after it is told.
pub(super) fn judge(
    incidents: &[Incident],
    episodes: &Episodes,
    journal: &Journal,
    response_secs: i64,
) -> Score {
    let mut score = Score {
        judged: incidents
            .iter()
            .map(|incident| judge_one(incident, episodes, journal, response_secs))
            .collect(),
        ..Score::default()
    };
    for told in episodes.all() {
        let meets =
            |incident: &Incident| told.since <= incident.end && told.first >= incident.start;
        if incidents.iter().any(meets) {
            score.true_alarms += 1;
        } else {
            score.false_alarms += 1;
        }
    }
    score
}

fn judge_one(
    incident: &Incident,
    episodes: &Episodes,
    journal: &Journal,
    response_secs: i64,
) -> Judged {
    let affected: Vec<(Time, PicoUsd)> = journal
        .between(incident.start, incident.end)
        .filter(|(_, entry)| {
            incident
                .key
                .as_ref()
                .is_none_or(|key| is_of(&entry.labels, key))
        })
        .map(|(_, entry)| (entry.at, dollars(entry, incident.is_about_cache)))
        .filter(|(_, dollars)| *dollars > PicoUsd::ZERO)
        .collect();
    let is_in_log = journal
        .span()
        .is_some_and(|(begin, end)| incident.start <= end && incident.end >= begin);
    let began = is_in_log.then_some(incident.start);
    let Some(first) = affected.first().map(|(at, _)| *at).or(began) else {
        return Judged {
            first: None,
            is_free: true,
            told: None,
            by: None,
            censored_ms: 0,
            exposed: PicoUsd::ZERO,
            whole: PicoUsd::ZERO,
        };
    };
    let finder = episodes
        .all()
        .filter(|told| {
            incident
                .rule
                .as_ref()
                .is_none_or(|name| *told.rule.name == **name)
        })
        .filter(|told| told.first >= first && told.first <= incident.end)
        .filter(|told| {
            incident.key.as_ref().is_none_or(|key| {
                told.key.is_empty() || told.key.iter().any(|k| k == key) || is_of(&told.labels, key)
            })
        })
        .min_by_key(|told| told.first);
    let whole = affected.iter().map(|(_, dollars)| *dollars).sum();
    let until = finder.map_or(incident.end, |told| told.first.plus_secs(response_secs));
    let exposed = affected.iter().filter(|(at, _)| *at <= until);
    let told = finder.map(|told| told.first);
    Judged {
        first: Some(first),
        is_free: affected.is_empty(),
        told,
        by: finder.map(|told| Arc::clone(&told.rule.name)),
        censored_ms: told.unwrap_or(incident.end).millis_since(first),
        exposed: exposed.map(|(_, dollars)| *dollars).sum(),
        whole,
    }
}

/// Whether a response belongs to the session, project, model or agent of this name.
fn is_of(labels: &Labels, key: &str) -> bool {
    let names = [&labels.session, &labels.project, &labels.agent];
    *labels.model == *key || names.into_iter().flatten().any(|name| **name == *key)
}

fn dollars(entry: &Entry, of_cache: bool) -> PicoUsd {
    if of_cache {
        entry.waste()
    } else {
        entry.cost()
    }
}

/// What alerts save: dollars of their episodes, with somebody who answers and without anybody who notices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Impact {
    /// Episodes that cost something.
    pub(super) episodes: u64,
    /// Dollars until something is done about each.
    pub(super) with: PicoUsd,
    /// Dollars until it would have been noticed.
    pub(super) without: PicoUsd,
    /// What was billed for prompt that had been cached, in that time.
    pub(super) billed: PicoUsd,
    /// What of it was more than reading it from the cache would have cost.
    pub(super) wasted: PicoUsd,
    /// The log or the episode ends before that time is over: it could have been more.
    pub(super) is_cut: bool,
}

/// Adds up what the alerts save. A response that several alerts speak of counts once, for the first of them.
pub(super) fn impact(
    episodes: &Episodes,
    journal: &Journal,
    response_secs: i64,
    without_secs: i64,
) -> Impact {
    let mut impact = Impact::default();
    let mut affected: HashMap<usize, (PicoUsd, bool)> = HashMap::new();
    let end = journal.end().unwrap_or_default();
    for told in episodes.all().filter(|told| costs(told)) {
        let of_cache = told.rule.metric.is_about_cache();
        let noticed = Time(told.since.plus_secs(without_secs).0 - 1);
        let last = if told.open { end } else { told.last };
        let done = told.first.plus_secs(response_secs);
        let mut any = false;
        for (index, entry) in journal.between(told.since, noticed.min(last)) {
            let amount = dollars(entry, of_cache);
            if amount == PicoUsd::ZERO || !told.covers(&entry.labels) {
                continue;
            }
            any = true;
            let known = affected.entry(index).or_insert((PicoUsd::ZERO, true));
            known.0 = known.0.max(amount);
            known.1 &= entry.at <= done;
        }
        impact.episodes += u64::from(any);
        impact.is_cut |= any && last < noticed;
    }
    let indices = affected.iter();
    for (index, (amount, is_exposed)) in indices {
        impact.without += *amount;
        if *is_exposed {
            impact.with += *amount;
        }
        let entry = journal.at(*index);
        impact.billed += entry.billed();
        impact.wasted += entry.waste();
    }
    impact
}

/// Whether the dollars of an episode are those of something that went wrong and not of a whole period.
fn costs(told: &Told) -> bool {
    told.rule.metric.has_dollars() && told.rule.metric != Metric::Budget
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Notice, Reason, Rule, UsageRecord};
    use crate::pipeline::Seen;
    use proptest::prelude::*;

    const START: i64 = 1_795_428_000;

    fn record(secs: i64, cents: i64) -> UsageRecord {
        UsageRecord {
            cost: Some(PicoUsd(i128::from(cents) * 10_000_000_000)),
            ..super::super::journal::tests::record(Time::from_secs(START + secs))
        }
    }

    fn journal(records: &[(i64, i64)]) -> Journal {
        let mut journal = Journal::default();
        for (secs, cents) in records {
            let seen = Seen::New(Box::new(record(*secs, *cents)));
            journal.note(&seen, (PicoUsd::ZERO, 0));
        }
        journal.finish();
        journal
    }

    fn told_at(times: &[(i64, i64)]) -> Episodes {
        let mut episodes = Episodes::default();
        let rule = Arc::new(Rule::blank());
        for (n, (since, told)) in (0..).zip(times) {
            let (since, told) = (
                Time::from_secs(START + since),
                Time::from_secs(START + told),
            );
            let notice = Notice::in_words(&rule, Reason::First, Vec::new(), n, told, since, "");
            episodes.note(&[notice]);
        }
        episodes
    }

    fn incident(from: i64, to: i64) -> Incident {
        Incident {
            id: String::new(),
            start: Time::from_secs(START + from),
            end: Time::from_secs(START + to),
            rule: None,
            key: None,
            note: None,
            is_about_cache: false,
        }
    }

    proptest! {
        /// An oracle that tells of the first affected record exposes that record and no more; silence exposes everything;
        /// and what is told later never exposes less.
        #[test]
        fn exposure_is_between_the_first_record_and_everything(
            mut records in prop::collection::vec((0_i64..1000, 1_i64..500), 1..40),
            delay in 0_i64..1200,
            later in 0_i64..300,
        ) {
            records.sort_unstable();
            records.dedup_by_key(|(at, _)| *at);
            let journal = journal(&records);
            let all = [incident(0, 1000)];
            let first = records[0].0;
            let exposed = |episodes: &Episodes| judge(&all, episodes, &journal, 0).exposed();
            let cents = |n: i64| PicoUsd(i128::from(n) * 10_000_000_000);
            let whole: i64 = records.iter().map(|(_, cents)| cents).sum();
            prop_assert_eq!(exposed(&told_at(&[(first, first)])), cents(records[0].1));
            prop_assert_eq!(exposed(&Episodes::default()), cents(whole));
            let sooner = exposed(&told_at(&[(first, first + delay)]));
            prop_assert!(sooner <= exposed(&told_at(&[(first, first + delay + later)])));
        }
    }

    #[test]
    fn a_miss_counts_its_full_length_and_an_alarm_outside_is_false() {
        let journal = journal(&[(10, 100), (20, 100), (510, 100), (900, 100)]);
        let incidents = [incident(0, 100), incident(500, 600)];
        let score = judge(&incidents, &told_at(&[(10, 30), (880, 900)]), &journal, 0);
        assert_eq!(
            (score.found(), score.true_alarms, score.false_alarms),
            (1, 1, 1)
        );
        assert_eq!(score.time_to_detect(), Some((20_000, 20_000)));
        assert_eq!(score.censored(), Some((55_000, 55_000)));
        assert_eq!(score.exposed(), PicoUsd(3 * PicoUsd::DOLLAR.0));
    }

    #[test]
    fn what_costs_nothing_may_be_found_and_what_lies_outside_is_no_miss() {
        let journal = journal(&[(100, 100), (5_000, 100)]);
        let incidents = [
            incident(1_000, 3_000),
            incident(3_500, 4_000),
            incident(0, 99),
            incident(5_001, 9_000),
        ];
        let score = judge(&incidents, &told_at(&[(100, 1_600)]), &journal, 0);
        assert_eq!((score.found(), score.in_log()), (1, 2));
        assert_eq!(score.time_to_detect(), Some((600_000, 600_000)));
        assert_eq!(score.censored(), Some((550_000, 550_000)));
        assert_eq!(score.whole(), PicoUsd::ZERO);
        let first: Vec<bool> = score.judged.iter().map(|j| j.first.is_some()).collect();
        assert_eq!(first, [true, true, false, false]);
    }

    #[test]
    fn what_two_alerts_speak_of_is_saved_once() {
        let journal = journal(&[(0, 100), (60, 100), (120, 100), (180, 100)]);
        let mut episodes = told_at(&[(0, 60), (0, 120)]);
        let one = impact(&told_at(&[(0, 60)]), &journal, 0, 3600);
        assert_eq!(one, impact_of(1, 200, 400));
        assert_eq!(impact(&episodes, &journal, 0, 3600), impact_of(2, 200, 400));
        assert_eq!(
            impact(&episodes, &journal, 60, 3600),
            impact_of(2, 300, 400)
        );
        assert_eq!(
            impact(&episodes, &journal, 0, 120).without,
            PicoUsd(2 * PicoUsd::DOLLAR.0)
        );
        episodes = Episodes::default();
        assert_eq!(impact(&episodes, &journal, 0, 3600), Impact::default());
    }

    fn impact_of(episodes: u64, with_cents: i128, without_cents: i128) -> Impact {
        Impact {
            episodes,
            with: PicoUsd(with_cents * 10_000_000_000),
            without: PicoUsd(without_cents * 10_000_000_000),
            is_cut: true,
            ..Impact::default()
        }
    }
}
