//! What has been told of an episode, and what of it is due.
//!
//! Knows one episode. Who else speaks, and whether another alert explains it, is known elsewhere.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::monitor::alert::{Alert, Episode, MINUTE_MS, Phase, REOPEN_MS};
use crate::monitor::record::{Labels, Time};
use crate::monitor::rule::Rule;
use crate::monitor::who::Makeup;
use crate::price::PicoUsd;

/// Pauses between repeats: each is counted from the notice before. The last one goes on for ever: what has been on for a day is told
/// once a day.
const REPEAT_MINUTES: [i64; 10] = [15, 30, 60, 120, 240, 240, 240, 240, 240, 1440];

/// In so small a part of its window a sum hardly changes: before that it is not told again for nothing but time.
const PARTS_OF_A_WINDOW: i64 = 4;

/// Exposed dollars that have grown by this factor since the last notice are worth another, but not within five minutes. So are those
/// that have grown by half, and by so many times what they would grow by until the next repeat if all went on as before that notice:
/// what is on for long may become far worse.
const GROWTH: i128 = 4;
const GROWTH_PAUSE_MS: i64 = 5 * MINUTE_MS;

/// Why a notice is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The episode is told for the first time.
    First,
    /// It has become worse.
    Escalated,
    /// It goes on.
    Repeat,
    /// It had resolved and is back.
    Reopened,
    /// It was already on when the watch began.
    StillFiring,
    /// It is over.
    Resolved,
    /// The watch ends while it is on.
    Stopped,
}

impl Reason {
    /// The name in all output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Escalated => "escalated",
            Self::Repeat => "repeat",
            Self::Reopened => "reopened",
            Self::StillFiring => "still-firing",
            Self::Resolved => "resolved",
            Self::Stopped => "stopped",
        }
    }
}

/// What has been told of an episode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::monitor) struct Told {
    /// Which one.
    pub(super) episode: u64,
    /// Who was seen when it was told last.
    pub(super) labels: Option<Arc<Labels>>,
    /// What responses were made of before it began.
    pub(super) before: Option<Arc<Makeup>>,
    /// The last notice.
    at: Option<Time>,
    /// That notice said it was over.
    over: bool,
    exposed: PicoUsd,
    /// By how much that will have grown by the next repeat, if it goes on as it did before the notice.
    grows_by: PicoUsd,
    repeats: usize,
    /// The longest window of its rule, in milliseconds.
    window_ms: i64,
    reopened_at: Option<Time>,
}

/// Nothing.
pub(super) static UNTOLD: Told = Told {
    episode: 0,
    labels: None,
    before: None,
    at: None,
    over: false,
    exposed: PicoUsd::ZERO,
    grows_by: PicoUsd::ZERO,
    repeats: 0,
    window_ms: 0,
    reopened_at: None,
};

impl Told {
    /// Nothing, of this episode of a rule.
    pub(super) fn of(episode: u64, rule: &Rule) -> Self {
        let longest = rule.windows.iter().max().copied().unwrap_or(0);
        Self {
            episode,
            window_ms: longest * 1000,
            ..Self::default()
        }
    }

    /// A notice has been given of it.
    pub(super) fn is_told(&self) -> bool {
        self.at.is_some()
    }

    /// The last notice left it open.
    pub(in crate::monitor) fn is_open(&self) -> bool {
        self.at.is_some() && !self.over
    }

    /// Remembers a notice.
    pub(in crate::monitor) fn note(&mut self, reason: Reason, now: Time, exposed: PicoUsd) {
        match reason {
            Reason::First | Reason::StillFiring => self.repeats = 0,
            Reason::Repeat | Reason::Escalated => self.repeats += 1,
            Reason::Reopened => self.reopened_at = Some(now),
            Reason::Resolved | Reason::Stopped => {}
        }
        let before = self.at.replace(now);
        self.over = reason == Reason::Resolved;
        let grown = exposed.0 - self.exposed.0;
        let (pause, elapsed) = (self.pause_ms(), before.map_or(0, |at| now.millis_since(at)));
        self.grows_by = match elapsed {
            1.. => PicoUsd(grown * i128::from(pause) / i128::from(elapsed)),
            _ => exposed,
        };
        self.exposed = exposed;
    }

    /// A notice that was remembered has not reached anybody.
    pub(super) fn take_back(&mut self, reason: Reason) {
        match reason {
            Reason::First | Reason::StillFiring => *self = UNTOLD.clone(),
            Reason::Resolved => self.over = false,
            Reason::Reopened => self.over = true,
            Reason::Repeat | Reason::Escalated | Reason::Stopped => {}
        }
    }

    /// It was said to be over, and is not to be said to be back before its time.
    pub(super) fn is_resting(&self, now: Time) -> bool {
        self.over && self.reopen_notice_at().is_some_and(|at| now < at)
    }

    /// The clock was wrong by so much.
    pub(in crate::monitor) fn shift(&mut self, ms: i64) {
        for time in self.at.iter_mut().chain(&mut self.reopened_at) {
            time.shift(ms);
        }
    }

    /// The reason to tell something now, if there is one. `exposed` is what the episode has cost so far.
    pub(in crate::monitor) fn due(
        &self,
        alert: &Alert,
        now: Time,
        exposed: PicoUsd,
    ) -> Option<Reason> {
        let episode = alert.episode.as_deref()?;
        match (alert.phase, self.at) {
            (Phase::Firing, told_at) if !alert.is_over() && (told_at.is_none() || self.over) => {
                None
            }
            (Phase::Firing, None) => Some(Reason::First),
            (Phase::Firing, Some(_)) if self.over => self
                .reopen_notice_at()
                .is_none_or(|at| now >= at)
                .then_some(Reason::Reopened),
            (Phase::Firing, Some(at)) => {
                // What has no value at the moment is no news.
                let again = alert.had_value() && self.is_worth_another(episode, at, now, exposed);
                again.then_some(Reason::Repeat)
            }
            (Phase::Closed { .. }, Some(_)) if !self.over => Some(Reason::Resolved),
            _ => None,
        }
    }

    /// It may be due at any moment from now on, whatever its value: nobody has heard of it as it stands, and what keeps it from
    /// being told is known elsewhere.
    pub(super) fn is_waiting(&self, alert: &Alert, now: Time, exposed: PicoUsd) -> bool {
        let Some(episode) = alert.episode.as_deref() else {
            return false;
        };
        let may_be_told = |at: Time| self.is_worth_another(episode, at, now, exposed);
        alert.phase == Phase::Firing && (self.over || self.at.is_none_or(may_be_told))
    }

    /// Something has come since the last notice, and that was long ago, or it has grown since.
    fn is_worth_another(
        &self,
        episode: &Episode,
        told_at: Time,
        now: Time,
        exposed: PicoUsd,
    ) -> bool {
        let has_grown = || self.has_grown(exposed) && now.millis_since(told_at) >= GROWTH_PAUSE_MS;
        has_news_since(episode, told_at) && (now >= self.repeat_at(told_at) || has_grown())
    }

    /// The moment from which on it may be told again because it has grown.
    pub(super) fn grown_at(&self, alert: &Alert) -> Option<Time> {
        let at = self.at.filter(|_| !self.over && alert.open().is_some())?;
        Some(Time(at.0 + GROWTH_PAUSE_MS))
    }

    /// The moment from which on it may be told again because it goes on, or is back.
    pub(super) fn again_at(&self, alert: &Alert) -> Option<Time> {
        let is_firing = alert.phase == Phase::Firing && alert.episode.is_some();
        let at = self.at.filter(|_| is_firing)?;
        if self.over {
            self.reopen_notice_at()
        } else {
            Some(self.repeat_at(at))
        }
    }

    /// How much more it may cost before it has grown.
    pub(super) fn grows_by(&self, exposed: PicoUsd) -> PicoUsd {
        PicoUsd(self.grown() - exposed.0)
    }

    /// From how much on it has.
    fn grown(&self) -> i128 {
        let (told, grows_by) = (self.exposed.0, self.grows_by.0);
        let faster = told + (GROWTH * grows_by).max(told / 2);
        (GROWTH * told).min(faster).max(PicoUsd::DOLLAR.0 + 1)
    }

    /// It has cost so much more since the last notice that it is worth another.
    pub(super) fn has_grown(&self, exposed: PicoUsd) -> bool {
        exposed.0 >= self.grown()
    }

    fn repeat_at(&self, told_at: Time) -> Time {
        Time(told_at.0 + self.pause_ms())
    }

    fn pause_ms(&self) -> i64 {
        let minutes = REPEAT_MINUTES[self.repeats.min(REPEAT_MINUTES.len() - 1)];
        (minutes * MINUTE_MS).max(self.window_ms / PARTS_OF_A_WINDOW)
    }

    fn reopen_notice_at(&self) -> Option<Time> {
        self.reopened_at.map(|at| Time(at.0 + REOPEN_MS))
    }
}

/// Something has come that speaks of it.
fn has_news_since(episode: &Episode, told_at: Time) -> bool {
    episode.last_evidence > told_at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::alert::Reading;

    /// What has grown fourfold is told again, but not within five minutes: until then nothing that comes makes it worth a look.
    #[test]
    fn what_has_grown_waits_for_its_pause() {
        let begin = Time::from_secs(1_000);
        let rule = Rule::blank();
        let mut told = Told::of(7, &rule);
        told.note(Reason::First, begin, PicoUsd::DOLLAR);
        let grown = PicoUsd(5 * PicoUsd::DOLLAR.0);
        let mut alert = Alert::default();
        for (secs, is_due) in [(1, false), (299, false), (300, true), (301, true)] {
            let now = begin.plus_secs(secs);
            let first = || Episode::new(7, begin, 0, Arc::default());
            alert.step(now, Reading::Breach, &rule, first);
            alert.open_mut().unwrap().last_evidence = now;
            assert_eq!(told.is_waiting(&alert, now, grown), is_due, "{secs} s");
            let due = told.due(&alert, now, grown);
            assert_eq!(due, is_due.then_some(Reason::Repeat), "{secs} s");
            assert_eq!(told.grown_at(&alert), Some(begin.plus_secs(300)));
            assert!(!told.is_waiting(&alert, now, PicoUsd(2 * PicoUsd::DOLLAR.0)));
            // Without a value there is nothing to say of it.
            alert.step(now, Reading::Nothing, &rule, || unreachable!());
            assert_eq!(told.due(&alert, now, grown), None);
        }
    }

    /// What has long been on and costs far more of a sudden is told before its time.
    #[test]
    fn what_grows_far_faster_than_before_has_grown() {
        let dollars = |cents: i128| PicoUsd(cents * PicoUsd::DOLLAR.0 / 100);
        let mut told = Told::of(7, &Rule::blank());
        // Told at such a minute of so much, it has grown at so much: fourfold, by four times what a pause of two hours would add to
        // it as before, or by half.
        let cases = [
            (0, 100, 400),
            (15, 1_000, 4_000),
            (45, 1_200, 4_400),
            (105, 1_210, 1_815),
        ];
        for (minute, at, grown) in cases {
            told.note(Reason::Repeat, Time::from_secs(minute * 60), dollars(at));
            assert!(!told.has_grown(dollars(grown - 1)), "{at}");
            assert!(told.has_grown(dollars(grown)), "{at}");
            assert_eq!(told.grows_by(dollars(at)), dollars(grown - at));
        }
    }

    /// A sum over a day is nearly the same a quarter of an hour later.
    #[test]
    fn a_sum_over_long_is_told_again_when_it_may_have_changed() {
        let pauses = |window| {
            let rule = Rule {
                windows: vec![window],
                ..Rule::blank()
            };
            let mut told = Told::of(7, &rule);
            let pause = |repeats: i64| {
                let reason = if repeats == 0 {
                    Reason::First
                } else {
                    Reason::Repeat
                };
                told.note(reason, Time(0), PicoUsd::ZERO);
                told.pause_ms() / MINUTE_MS
            };
            (0..10).map(pause).collect::<Vec<_>>()
        };
        let often = [15, 30, 60, 120, 240, 240, 240, 240, 240, 1440];
        assert_eq!(pauses(600), often);
        assert_eq!(pauses(3_600), often);
        let seldom = [360, 360, 360, 360, 360, 360, 360, 360, 360, 1440];
        assert_eq!(pauses(86_400), seldom);
    }
}
