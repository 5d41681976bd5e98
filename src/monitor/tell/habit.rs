//! What has been told day after day: it is no news any more, and told once a day.
//!
//! Prompts that are built so that they miss the cache do so in each conversation, on every day. People who know it and live with it
//! are not to be woken by each of them. Knows which notices were given, and of what kind of miss; not when one is due.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::monitor::alert::Episode;
use crate::monitor::cache::Cause;
use crate::monitor::record::Time;
use crate::monitor::rule::{Rule, Severity};
use crate::price::PicoUsd;

const DAY_SECS: i64 = 86_400;

/// What was told on so many of the days before this one.
const TOLD_ON: usize = 4;

/// Of so many.
const DAYS: i64 = 7;

/// One that stands for several conversations is told again after a day; one alone, which is less, only if none does.
const AGAIN_SECS: i64 = DAY_SECS;
const ALONE_SECS: i64 = DAY_SECS + 6 * 3_600;

/// What costs so many times what any of them did is news.
const MUCH_MORE: i128 = 2;

/// So many kinds are remembered.
const MAX_KINDS: usize = 64;

/// What notices have in common that may be a habit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kind {
    /// The rule, and how severe it is.
    pub(super) rule: Arc<str>,
    pub(super) severity: Severity,
    /// The model of the responses.
    pub(super) model: Arc<str>,
    /// Why they missed the cache.
    pub(super) cause: Cause,
}

impl Kind {
    /// That of an episode. None if it is not about the cache.
    pub(super) fn of(rule: &Rule, episode: &Episode) -> Option<Self> {
        let causes = episode
            .causes
            .iter()
            .filter(|_| rule.metric.is_about_cache());
        let main = causes.max_by_key(|tally| (tally.cost, tally.requests))?;
        Some(Self {
            rule: Arc::clone(&rule.name),
            severity: rule.severity,
            model: Arc::clone(&episode.labels.model),
            cause: main.cause.clone(),
        })
    }
}

/// Of each day on which something was told of a kind, what the dearest episode had cost by then.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Habit {
    kind: Kind,
    days: VecDeque<(i64, PicoUsd)>,
    /// The last notice, and the episode that it was of.
    last: Option<(Time, u64)>,
}

/// What was told of which kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::monitor) struct Habits(Vec<Habit>);

fn day(at: Time) -> i64 {
    at.secs().div_euclid(DAY_SECS)
}

impl Habit {
    /// It was told on most of the days before this one.
    fn is_one(&self, now: Time) -> bool {
        let today = day(now);
        let before = |(day, _): &&(i64, PicoUsd)| (today - DAYS..today).contains(day);
        self.days.iter().filter(before).count() >= TOLD_ON
    }
}

impl Habits {
    /// What was told of a kind: by the same rule, or by another that is no less severe.
    fn of<'a>(&'a self, kind: &'a Kind) -> impl Iterator<Item = &'a Habit> {
        self.0.iter().filter(|habit| {
            let known = &habit.kind;
            let is_same = known.model == kind.model && known.cause == kind.cause;
            is_same && (known.rule == kind.rule || known.severity >= kind.severity)
        })
    }

    /// It is told once a day.
    pub(super) fn is_one(&self, kind: &Kind, now: Time) -> bool {
        self.of(kind).any(|habit| habit.is_one(now))
    }

    /// Until when an episode that has cost so much is not told, if it is what is told every day. `of_several`: it stands for several
    /// conversations.
    pub(super) fn withheld(
        &self,
        kind: &Kind,
        exposed: PicoUsd,
        of_several: bool,
        now: Time,
    ) -> Option<Time> {
        if !self.is_one(kind, now) {
            return None;
        }
        let pause = if of_several { AGAIN_SECS } else { ALONE_SECS };
        let last = self.of(kind).filter_map(|habit| habit.last);
        let until = last.map(|(last, _)| last.plus_secs(pause)).max()?;
        let days = self.of(kind).flat_map(|habit| &habit.days);
        let most = days.map(|(_, exposed)| exposed.0).max()?;
        (now < until && exposed.0 <= most * MUCH_MORE).then_some(until)
    }

    /// A notice of an episode that has cost so much was given.
    pub(super) fn note(&mut self, kind: Kind, episode: u64, exposed: PicoUsd, now: Time) {
        let today = day(now);
        let at = self.0.iter().position(|habit| habit.kind == kind);
        let mut habit = at.map_or_else(
            || Habit {
                kind,
                days: VecDeque::new(),
                last: None,
            },
            |at| self.0.remove(at),
        );
        habit.last = Some((now, episode));
        match habit.days.back_mut() {
            Some((last, most)) if *last == today => *most = exposed.max(*most),
            _ => habit.days.push_back((today, exposed)),
        }
        let is_old = |(day, _): &(i64, PicoUsd)| *day < today - DAYS;
        while habit.days.front().is_some_and(is_old) {
            habit.days.pop_front();
        }
        // The one that was told of longest ago makes room.
        if self.0.len() >= MAX_KINDS {
            self.0.remove(0);
        }
        self.0.push(habit);
    }

    /// Nobody heard a notice of this episode: the next one is not withheld because of it.
    pub(super) fn unhear(&mut self, episode: u64) {
        for habit in &mut self.0 {
            habit.last = habit.last.filter(|(_, last)| *last != episode);
        }
    }

    /// The clock was wrong by so much.
    pub(super) fn shift(&mut self, ms: i64) {
        for habit in &mut self.0 {
            if let Some((last, _)) = &mut habit.last {
                last.shift(ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(cause: Cause) -> Kind {
        Kind {
            rule: "cache-break".into(),
            severity: Severity::Critical,
            model: "claude-sonnet-4-5".into(),
            cause,
        }
    }

    const fn at(day: i64, hour: i64) -> Time {
        Time::from_secs(day * DAY_SECS + hour * 3_600)
    }

    #[test]
    fn what_was_told_on_four_days_of_seven_is_told_once_a_day() {
        let (partial, much) = (kind(Cause::Partial), PicoUsd(100));
        let mut habits = Habits::default();
        let is_told = |habits: &Habits, kind: &Kind, cost, several, now| {
            habits.withheld(kind, PicoUsd(cost), several, now).is_none()
        };
        // A weekend lies between them.
        for day in [3, 4, 7] {
            habits.note(partial.clone(), 1, much, at(day, 9));
        }
        assert!(is_told(&habits, &partial, 5, true, at(8, 9)));
        habits.note(partial.clone(), 2, PicoUsd(5), at(8, 9));
        assert!(
            is_told(&habits, &partial, 5, true, at(8, 20)),
            "today does not count"
        );
        assert!(!habits.is_one(&partial, at(8, 20)) && habits.is_one(&partial, at(9, 1)));
        for (cost, several, hour, told) in [
            (5, true, 1, false),
            (200, true, 1, false),
            (201, true, 1, true),
            (5, true, 9, true),
            (5, false, 9, false),
            (5, false, 15, true),
        ] {
            let is_told = is_told(&habits, &partial, cost, several, at(9, hour));
            assert_eq!(is_told, told, "{cost} {several} {hour}");
        }
        // A rule that is less severe has nothing to add.
        let less = Kind {
            rule: "cache-miss".into(),
            severity: Severity::Warning,
            ..kind(Cause::Partial)
        };
        assert!(!is_told(&habits, &less, 5, true, at(9, 1)));
        let mut of_less = Habits::default();
        for day in 4..9 {
            of_less.note(less.clone(), 1, much, at(day, 9));
        }
        assert!(is_told(&of_less, &partial, 5, true, at(9, 1)));
        assert!(!is_told(&of_less, &less, 5, true, at(9, 1)));
        // Another cause is another matter, and so is what nobody heard of.
        assert!(is_told(&habits, &kind(Cause::Dropped), 5, true, at(9, 1)));
        habits.unhear(2);
        assert!(is_told(&habits, &partial, 5, true, at(9, 1)));
    }

    #[test]
    fn what_ends_is_forgotten_and_what_is_remembered_has_an_end() {
        let mut habits = Habits::default();
        for day in 0..6 {
            habits.note(kind(Cause::Partial), 1, PicoUsd(1), at(day, 0));
        }
        assert!(habits.is_one(&kind(Cause::Partial), at(8, 0)));
        assert!(!habits.is_one(&kind(Cause::Partial), at(10, 0)));
        for n in 0..1_000 {
            let cause = Cause::Api(n.to_string().into());
            habits.note(kind(cause), n, PicoUsd(1), at(9, 0));
        }
        assert_eq!(habits.0.len(), MAX_KINDS);
    }
}
