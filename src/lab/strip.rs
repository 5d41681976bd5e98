//! The log in a few lines of a terminal: what it cost over time, and when which rule spoke.
//!
//! Characters only.

use super::episodes::{Episodes, Told};
use super::timeline::{Bin, Timeline};
use crate::config::write_duration;
use crate::monitor::{Severity, Time};
use crate::sink::{Clock, clean};

/// At most so many columns for the log itself.
const COLUMNS: i64 = 64;

/// Lengths of a column that people think in, in seconds.
const WIDTHS: [i64; 21] = [
    10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800,
    604_800, 1_209_600, 2_419_200, 4_838_400, 9_676_800, 29_030_400,
];

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A line of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) columns: String,
    pub(super) note: String,
    /// Of the rule that it is about.
    pub(super) severity: Option<Severity>,
}

/// The log in lines: the cost, a line for each rule that spoke, and the time below. Nothing for a log that is too short for it.
pub(super) fn lines(timeline: &Timeline, episodes: &Episodes, clock: Clock) -> Vec<Line> {
    let (first, end) = timeline.span();
    let secs = end.millis_since(first) / 1000;
    let enough = |width: &&i64| **width >= timeline.width() && secs <= **width * (COLUMNS - 1);
    let Some(width) = WIDTHS.iter().find(enough).copied() else {
        return Vec::new();
    };
    let column = |at: Time| {
        let place = at.0.div_euclid(width * 1000) - first.0.div_euclid(width * 1000);
        usize::try_from(place).unwrap_or(0)
    };
    let n = column(Time(end.0 - 1)) + 1;
    if n < 3 {
        return Vec::new();
    }
    let mut sums = vec![Bin::default(); n];
    for (index, bin) in (0..).zip(timeline.bins()) {
        let at = Time(first.0 + index * timeline.width() * 1000);
        sums[column(at)].add(bin);
    }
    let most = sums.iter().map(|bin| bin.cost).max().unwrap_or_default();
    let is_bound = sums.iter().any(|bin| bin.unpriced > 0);
    let mut lines = vec![Line {
        name: format!("cost per {}", write_duration(width)),
        columns: sums.iter().map(|bin| level(bin, most.0)).collect(),
        note: format!("up to {}{most}", if is_bound { "≥ " } else { "" }),
        severity: None,
    }];
    let mut rules: Vec<&Told> = Vec::new();
    for told in episodes.all() {
        if rules.iter().all(|known| known.rule.name != told.rule.name) {
            rules.push(told);
        }
    }
    rules.sort_by_key(|told| std::cmp::Reverse(told.rule.severity));
    for told in rules {
        let mut columns = vec![' '; n];
        let told_of: Vec<&Told> = episodes.of(&told.rule.name).collect();
        for told in &told_of {
            let last = column(told.until(end)).min(n - 1);
            for place in &mut columns[column(told.since).min(last)..=last] {
                if *place == ' ' {
                    *place = '─';
                }
            }
        }
        for told in told_of {
            columns[column(told.first).min(n - 1)] = '●';
        }
        lines.push(Line {
            name: clean(&told.rule.name).into_owned(),
            columns: columns.into_iter().collect(),
            note: String::new(),
            severity: Some(told.rule.severity),
        });
    }
    let begin = first.0.div_euclid(width * 1000);
    let edge = |place: i64| Time((begin + place) * width * 1000);
    let after = i64::try_from(n).unwrap_or(i64::MAX);
    lines.push(times(edge(0), edge(after), n, clock));
    lines
}

/// A bar for the cost of a column; nothing where nothing was.
fn level(bin: &Bin, most: i128) -> char {
    if bin.requests == 0 {
        return ' ';
    }
    let place = (bin.cost.0 * 8).checked_div(most).unwrap_or(0);
    let place = usize::try_from(place).unwrap_or(0);
    LEVELS[place.min(LEVELS.len() - 1)]
}

/// When it begins and ends.
fn times(first: Time, end: Time, n: usize, clock: Clock) -> Line {
    let one_day = clock.date(first) == clock.date(Time(end.0 - 1));
    let write = |at: Time| {
        if one_day {
            clock.minute(at)
        } else {
            format!("{} {}", clock.date(at), clock.minute(at))
        }
    };
    let (from, to) = (write(first), write(end));
    let space = n.saturating_sub(from.len() + to.len()).max(1);
    Line {
        name: String::new(),
        columns: format!("{from}{}{to}", " ".repeat(space)),
        note: String::new(),
        severity: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Notice, Reason, Rule};
    use crate::parse::Zone;
    use crate::pipeline::Seen;
    use std::sync::Arc;

    const START: i64 = 1_795_399_200_000;

    fn timeline(minutes: &[(i64, i128)], clock: Clock) -> Timeline {
        let mut timeline = Timeline::new(clock);
        for (minute, cents) in minutes {
            let mut record = super::super::journal::tests::record(Time(START + minute * 60_000));
            record.cost = Some(crate::price::PicoUsd(cents * 10_000_000_000));
            let seen = Seen::New(Box::new(record));
            timeline.note(&seen, crate::price::PicoUsd::ZERO);
        }
        timeline.finish();
        timeline
    }

    #[test]
    fn the_dearest_column_is_the_highest_and_alerts_stand_below_their_time() {
        let zone = Zone::UTC;
        let clock = Clock { zone };
        let timeline = timeline(&[(0, 10), (10, 0), (20, 80), (30, 40), (59, 1)], clock);
        let mut episodes = Episodes::default();
        let mut rule = Rule::blank();
        rule.name = "cost-rate".into();
        let at = |minute: i64| Time(START + minute * 60_000);
        let (rule, since) = (Arc::new(rule), at(20));
        for (reason, minute) in [(Reason::First, 22), (Reason::Resolved, 35)] {
            let notice = Notice::in_words(&rule, reason, Vec::new(), 1, at(minute), since, "");
            episodes.note(&[notice]);
        }
        let lines = lines(&timeline, &episodes, clock);
        let columns: Vec<&str> = lines.iter().map(|line| &*line.columns).collect();
        let mut cost = [' '; 60];
        for (minute, level) in [(0, '▂'), (10, '▁'), (20, '█'), (30, '▅'), (59, '▁')] {
            cost[minute] = level;
        }
        assert_eq!(columns[0], cost.iter().collect::<String>());
        assert_eq!(
            columns[1].trim_end(),
            format!("{}──●─────────────", " ".repeat(20))
        );
        assert!(columns[2].starts_with("02:00") && columns[2].ends_with("03:00"));
        assert_eq!(
            (&*lines[0].name, &*lines[0].note),
            ("cost per 1m", "up to $0.80")
        );
        assert_eq!(lines[1].name, "cost-rate");
    }

    #[test]
    fn a_log_of_a_moment_has_no_course() {
        let clock = Clock { zone: Zone::UTC };
        assert_eq!(
            lines(&timeline(&[(0, 1)], clock), &Episodes::default(), clock),
            []
        );
        assert_eq!(
            lines(&Timeline::new(clock), &Episodes::default(), clock),
            []
        );
    }
}
