//! Who is speaking: one incident is told by a few alerts, not by all that it trips.
//!
//! Of the conversations or sessions that one rule fires for two speak at once, and what stands for several; the others are counted.
//! Of the rules about spending the first that speaks speaks for all that are not more severe: a loop that runs away raises cost, tokens
//! and the cost of its session together. Of the rules about the cache the first speaks for a quarter of an hour; what it does not
//! explain by then is told. What is told again is told by one of them at a time; and what one has told of to its end is no news to
//! another whose window still holds it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::notice::is_explaining;
use super::told::Reason;
use crate::monitor::metric::Metric;
use crate::monitor::record::Time;
use crate::monitor::rule::{Label, Rule, Severity};
use crate::price::PicoUsd;

/// So many episodes of one rule are told at once.
const VOICES_PER_RULE: usize = 2;

/// An episode that is told and not over.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Voice {
    episode: u64,
    rule: Arc<str>,
    about: Option<About>,
    /// It may explain others.
    explains: bool,
    severity: Severity,
    first: Time,
    last: Time,
}

/// So many notices about money in a quarter of an hour are enough.
const CROWD: usize = 3;

/// What money a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum About {
    /// What is spent, by all or by sessions.
    Spending,
    /// What the cache did not give.
    Cache,
}

/// The first voice about the cache speaks for the others for so long.
const FOR_THE_OTHERS_MS: i64 = 15 * 60_000;

/// Of those about money one is told again in so much time.
const BETWEEN_REPEATS_MS: i64 = 10 * 60_000;

/// All that are speaking.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::monitor) struct Voices {
    speaking: Vec<Voice>,
    /// When notices about money were given, in the last quarter of an hour.
    recent: VecDeque<Time>,
    /// When one of them ended: what was withheld for it may be due.
    #[serde(skip)]
    released: Option<Time>,
    /// Those about spending that have spoken and ended last, in that order.
    ended: VecDeque<Ended>,
}

/// So many that have ended are remembered.
const MAX_ENDED: usize = 64;

/// One that has spoken.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ended {
    episode: u64,
    rule: Arc<str>,
    severity: Severity,
    at: Time,
    /// What it has told of.
    exposed: PicoUsd,
}

/// How much there is to an episode.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::monitor) struct Weight {
    /// It is critical, and several times over its limit.
    pub(super) is_grave: bool,
    /// It stands for several conversations.
    pub(super) of_several: bool,
    /// Length of the window that its value is of.
    pub(super) window_secs: i64,
    /// It would be above its limit without [what others have told of](Voices::has_told).
    pub(super) is_more: bool,
}

/// Why an episode is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "they say by whom")]
pub(super) enum Withheld {
    /// Others of the same rule are told.
    ByItsLike,
    /// Another rule about spending tells it.
    BySpending,
    /// Another rule about the cache tells it.
    ByCache,
}

impl Voices {
    /// Whether an episode that could be told for the first time, or again after it was over, has others speak for it; and until
    /// when, if time alone ends that.
    pub(super) fn withheld(
        &self,
        rule: &Rule,
        episode: u64,
        weight: Weight,
        now: Time,
    ) -> Option<(Withheld, Option<Time>)> {
        let Weight {
            is_grave,
            of_several,
            window_secs,
            is_more,
        } = weight;
        let others = || {
            self.speaking
                .iter()
                .filter(|voice| voice.episode != episode)
        };
        let is_one_of_many = !of_several && rule.is_of_sessions();
        let its_like = others().filter(|voice| voice.rule == rule.name);
        if is_one_of_many && its_like.count() >= VOICES_PER_RULE {
            return Some((Withheld::ByItsLike, None));
        }
        let about = about(rule)?;
        // However much was told, that money runs away in earnest is told at once, and once.
        let is_spoken_for =
            others().any(|v| v.about == Some(about) && v.severity >= Severity::Critical);
        let must_tell = is_grave && !is_spoken_for;
        if let Some(until) = self.crowded_until(rule, now).filter(|_| !must_tell) {
            let by = match about {
                About::Spending => Withheld::BySpending,
                About::Cache => Withheld::ByCache,
            };
            return Some((by, Some(until)));
        }
        let speaks_until = |voice: &Voice| Time(voice.first.0 + FOR_THE_OTHERS_MS);
        let about_cache = others()
            .filter(|v| v.about == Some(About::Cache) && now < speaks_until(v))
            .map(|voice| (voice, speaks_until(voice)));
        match about {
            About::Spending => {
                let louder = |voice: &Voice| {
                    voice.about == Some(about)
                        && voice.rule != rule.name
                        && voice.severity >= rule.severity
                };
                if others().any(louder) {
                    return Some((Withheld::BySpending, None));
                }
                let until = about_cache.map(|(_, until)| until).max();
                let until = until.filter(|_| rule.severity < Severity::Critical);
                let told = (!is_more).then(|| self.told_until(rule, window_secs, now));
                let until = until.max(told.flatten());
                until.map(|until| (Withheld::BySpending, Some(until)))
            }
            About::Cache if of_several => None,
            About::Cache if rule.metric == Metric::MissRun => {
                let mut fresh: Vec<Time> = about_cache.map(|(_, until)| until).collect();
                fresh.sort_unstable();
                let enough = fresh.len().checked_sub(VOICES_PER_RULE)?;
                Some((Withheld::ByItsLike, Some(fresh[enough])))
            }
            About::Cache => {
                let other_rules = about_cache.filter(|(voice, _)| voice.rule != rule.name);
                let until = other_rules.map(|(_, until)| until).max()?;
                Some((Withheld::ByCache, Some(until)))
            }
        }
    }

    /// What other rules about spending have told of until it was over, and no less loudly than this one would.
    fn louder(&self, rule: &Rule) -> impl Iterator<Item = &Ended> {
        let (name, severity) = (Arc::clone(&rule.name), rule.severity);
        let ended = self.ended.iter();
        ended.filter(move |ended| ended.rule != name && ended.severity >= severity)
    }

    /// Until when a window that holds something of that holds as much of it as now.
    fn told_until(&self, rule: &Rule, window_secs: i64, now: Time) -> Option<Time> {
        let until = self
            .louder(rule)
            .map(|ended| ended.at.plus_secs(window_secs));
        until.filter(|until| now < *until).min()
    }

    /// How much of what a window holds now was told so: the most that one of those rules has told of.
    pub(super) fn has_told(&self, rule: &Rule, window_secs: i64, now: Time) -> PicoUsd {
        let mut of_rules: Vec<(&Arc<str>, PicoUsd)> = Vec::new();
        let is_held = |ended: &&Ended| now < ended.at.plus_secs(window_secs);
        for ended in self.louder(rule).filter(is_held) {
            match of_rules.iter_mut().find(|(name, _)| *name == &ended.rule) {
                Some((_, sum)) => *sum += ended.exposed,
                None => of_rules.push((&ended.rule, ended.exposed)),
            }
        }
        let most = of_rules.iter().map(|(_, sum)| *sum).max();
        most.unwrap_or_default()
    }

    /// Until when an episode need not be told again: another about money was told just before. However many were, what has grown much
    /// is told when that is some time ago.
    pub(super) fn repeat_withheld(
        &self,
        rule: &Rule,
        episode: u64,
        has_grown: bool,
        now: Time,
    ) -> Option<Time> {
        about(rule)?;
        let others = self
            .speaking
            .iter()
            .filter(|voice| voice.episode != episode && voice.about.is_some());
        let until = others
            .map(|voice| Time(voice.last.0 + BETWEEN_REPEATS_MS))
            .max();
        let until = until.filter(|until| now < *until);
        let crowded = (!has_grown).then(|| self.crowded_until(rule, now));
        until.max(crowded.flatten())
    }

    /// Until when enough was told about money: three notices in a quarter of an hour, the last of them kept for what is critical.
    fn crowded_until(&self, rule: &Rule, now: Time) -> Option<Time> {
        let most = if rule.severity < Severity::Critical {
            CROWD - 1
        } else {
            CROWD
        };
        let recent = self.recent.iter().map(|at| Time(at.0 + FOR_THE_OTHERS_MS));
        let recent: Vec<Time> = recent.filter(|until| now < *until).collect();
        let at = recent.len().checked_sub(most)?;
        recent.get(at).copied()
    }

    /// Notes a notice, and what the episode has cost so far.
    pub(super) fn note(
        &mut self,
        rule: &Rule,
        episode: u64,
        reason: Reason,
        now: Time,
        exposed: PicoUsd,
    ) {
        let is_news = !matches!(reason, Reason::Resolved | Reason::Stopped);
        if is_news && about(rule).is_some() {
            while self.recent.len() >= CROWD {
                self.recent.pop_front();
            }
            self.recent.push_back(now);
        }
        let known = self
            .speaking
            .iter()
            .position(|voice| voice.episode == episode);
        let first = known.map_or(now, |at| self.speaking.swap_remove(at).first);
        if known.is_some() && reason == Reason::Resolved {
            self.released.get_or_insert(now);
            if about(rule) == Some(About::Spending) {
                // One that was back has told of all that it has cost, once.
                self.ended.retain(|ended| ended.episode != episode);
                if self.ended.len() >= MAX_ENDED {
                    self.ended.pop_front();
                }
                self.ended.push_back(Ended {
                    episode,
                    rule: Arc::clone(&rule.name),
                    severity: rule.severity,
                    at: now,
                    exposed,
                });
            }
        }
        if !matches!(reason, Reason::Resolved) && !rule.metric.is_announcement() {
            self.speaking.push(Voice {
                episode,
                rule: Arc::clone(&rule.name),
                about: about(rule),
                explains: is_explaining(rule),
                severity: rule.severity,
                first,
                last: now,
            });
        }
    }

    /// Nobody heard a notice of this episode: it speaks for none, and counts as none.
    pub(in crate::monitor) fn unhear(&mut self, episode: u64) {
        let Some(at) = self.speaking.iter().position(|v| v.episode == episode) else {
            return;
        };
        let voice = self.speaking.swap_remove(at);
        if let Some(at) = self.recent.iter().rposition(|at| *at == voice.last) {
            self.recent.remove(at);
        }
    }

    /// The clock was wrong by so much.
    pub(super) fn shift(&mut self, ms: i64) {
        for voice in &mut self.speaking {
            voice.first.shift(ms);
            voice.last.shift(ms);
        }
        let ended = self.ended.iter_mut().map(|ended| &mut ended.at);
        for at in self
            .recent
            .iter_mut()
            .chain(&mut self.released)
            .chain(ended)
        {
            at.shift(ms);
        }
    }

    /// The first tick at which what was withheld is to be looked at, because one that spoke has ended.
    pub(in crate::monitor) fn released_at(&self) -> Option<i64> {
        self.released.map(Time::first_tick)
    }

    /// What was withheld is looked at now.
    pub(super) fn note_look(&mut self) {
        self.released = None;
    }

    /// Nobody speaks.
    pub(super) fn clear(&mut self) {
        self.speaking.clear();
        self.ended.clear();
    }

    /// Whether one speaks that may explain others.
    pub(super) fn any_explaining(&self) -> bool {
        self.speaking.iter().any(|voice| voice.explains)
    }

    /// Whether a rule about spending speaks.
    pub(super) fn any_about_spending(&self) -> bool {
        self.speaking
            .iter()
            .any(|voice| voice.about == Some(About::Spending))
    }
}

/// Whether a rule is about what is spent.
pub(super) fn is_about_spending(rule: &Rule) -> bool {
    about(rule) == Some(About::Spending)
}

/// What money a rule is about. One that looks at a part only speaks for itself.
fn about(rule: &Rule) -> Option<About> {
    let about = match rule.metric {
        Metric::Cost
        | Metric::Tokens
        | Metric::PromptTokens
        | Metric::OutputTokens
        | Metric::Requests
        | Metric::CostPerRequest
        | Metric::PromptPerRequest
        | Metric::OutputPerRequest => About::Spending,
        Metric::CacheMiss | Metric::CacheWaste | Metric::MissRun => About::Cache,
        Metric::CacheGain
        | Metric::Errors
        | Metric::Silence
        | Metric::Budget
        | Metric::Blind
        | Metric::Unpriced
        | Metric::NoCache
        | Metric::CacheLeak => return None,
    };
    let is_whole = match &rule.by[..] {
        [] => rule.filter.is_of_all_sessions(),
        [Label::Session | Label::Conversation] => true,
        _ => false,
    };
    is_whole.then_some(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, metric: Metric, severity: Severity) -> Rule {
        Rule {
            name: name.into(),
            metric,
            severity,
            ..Rule::blank()
        }
    }

    #[test]
    fn three_notices_are_enough_unless_money_runs_away_in_earnest() {
        let mut voices = Voices::default();
        let miss = rule("cache-miss", Metric::CacheMiss, Severity::Warning);
        let run = rule("cache-break", Metric::MissRun, Severity::Critical);
        let cost = rule("cost-rate", Metric::Cost, Severity::Critical);
        let at = |secs| Time::from_secs(secs);
        for (episode, rule) in [(1, &miss), (2, &run), (3, &run)] {
            voices.note(rule, episode, Reason::First, at(60), PicoUsd::ZERO);
        }
        let of = |is_grave| Weight {
            is_grave,
            ..Weight::default()
        };
        let withheld = |voices: &Voices, grave, now| voices.withheld(&cost, 9, of(grave), now);
        let until = Some(at(60 + 900));
        assert_eq!(
            withheld(&voices, false, at(120)),
            Some((Withheld::BySpending, until))
        );
        assert_eq!(withheld(&voices, true, at(120)), None);
        assert_eq!(withheld(&voices, false, at(960)), None);
        // Told once, it speaks for the others of its kind, and they do not come on top.
        voices.note(&cost, 9, Reason::First, at(120), PicoUsd::ZERO);
        let another = rule("mine", Metric::Cost, Severity::Critical);
        assert!(voices.withheld(&another, 10, of(true), at(130)).is_some());
    }

    #[test]
    fn what_is_withheld_is_released_when_one_that_spoke_ends() {
        let mut voices = Voices::default();
        let cost = rule("cost-rate", Metric::Cost, Severity::Critical);
        voices.note(&cost, 1, Reason::First, Time(60_000), PicoUsd::ZERO);
        // It never spoke.
        voices.note(&cost, 2, Reason::Resolved, Time(61_500), PicoUsd::ZERO);
        assert_eq!(voices.released_at(), None);
        voices.note(&cost, 1, Reason::Resolved, Time(62_500), PicoUsd::ZERO);
        assert_eq!(voices.released_at(), Some(63));
        voices.shift(-10_000);
        assert_eq!(voices.released_at(), Some(53));
        voices.note_look();
        assert_eq!(voices.released_at(), None);
    }

    #[test]
    fn what_stands_for_several_is_told_beside_two_of_them() {
        let mut voices = Voices::default();
        let run = Rule {
            by: vec![Label::Conversation],
            ..rule("cache-break", Metric::MissRun, Severity::Critical)
        };
        let at = |secs| Time::from_secs(secs);
        for episode in [1, 2] {
            voices.note(&run, episode, Reason::First, at(60), PicoUsd::ZERO);
        }
        let withheld = |of_several| {
            let weight = Weight {
                of_several,
                ..Weight::default()
            };
            voices.withheld(&run, 3, weight, at(90))
        };
        assert_eq!(withheld(false), Some((Withheld::ByItsLike, None)));
        assert_eq!(withheld(true), None);
    }

    /// Three notices were given at once: who is told again waits for a quarter of an hour, or ten minutes if it has grown.
    #[test]
    fn what_has_grown_is_told_again_though_much_was_told() {
        let mut voices = Voices::default();
        let run = rule("cache-break", Metric::MissRun, Severity::Critical);
        let at = |secs| Time::from_secs(secs);
        for episode in [1, 2, 3] {
            voices.note(&run, episode, Reason::First, at(60), PicoUsd::ZERO);
        }
        let until = |has_grown, now| voices.repeat_withheld(&run, 1, has_grown, at(now));
        assert_eq!(until(false, 659), Some(at(960)));
        assert_eq!(until(true, 659), Some(at(660)));
        assert_eq!(until(false, 660), Some(at(960)));
        assert_eq!(until(true, 660), None);
    }

    /// A long window still holds what another rule has told of until it was over: that is no news.
    #[test]
    fn what_another_has_told_of_to_its_end_is_not_told_once_more() {
        let rule = |name: &str, severity| Rule {
            name: name.into(),
            severity,
            ..Rule::blank()
        };
        let (rate, spike) = (
            rule("cost-rate", Severity::Critical),
            rule("cost-spike", Severity::Warning),
        );
        let half_an_hour = Weight {
            window_secs: 1_800,
            ..Weight::default()
        };
        let at = |secs| Time::from_secs(secs);
        let mut voices = Voices::default();
        voices.note(&rate, 1, Reason::First, at(60), PicoUsd::ZERO);
        voices.note(&rate, 1, Reason::Resolved, at(600), PicoUsd::ZERO);
        let withheld = |rule, now| voices.withheld(rule, 2, half_an_hour, at(now));
        let until = Some((Withheld::BySpending, Some(at(2_400))));
        assert_eq!(withheld(&spike, 601), until);
        assert_eq!(withheld(&spike, 2_400), None);
        // It may begin again, and what is more severe is told.
        assert_eq!(withheld(&rate, 601), None);
        voices.note(&spike, 2, Reason::First, at(2_400), PicoUsd::ZERO);
        voices.note(&spike, 2, Reason::Resolved, at(3_000), PicoUsd::ZERO);
        assert_eq!(voices.withheld(&rate, 3, half_an_hour, at(3_001)), None);
    }

    /// Of what a window holds only so much was told as the ones that ended in it have cost: the most of one rule, since two may have
    /// told of the same.
    #[test]
    fn more_than_what_others_have_told_of_is_told() {
        let rule = |name: &str, severity| rule(name, Metric::Cost, severity);
        let (rate, session) = (
            rule("cost-rate", Severity::Critical),
            rule("session-cost", Severity::Warning),
        );
        let (day, other) = (
            rule("cost-day", Severity::Warning),
            rule("mine", Severity::Critical),
        );
        let at = |secs| Time::from_secs(secs);
        let dollars = |n| PicoUsd(n * PicoUsd::DOLLAR.0);
        let mut voices = Voices::default();
        let told = [
            (1, &rate, 600, 7),
            (2, &session, 900, 5),
            (3, &session, 1_200, 4),
        ];
        for (episode, rule, until, cost) in told {
            voices.note(rule, episode, Reason::First, at(60), dollars(1));
            voices.note(rule, episode, Reason::Resolved, at(until), dollars(cost));
        }
        // It was back for a moment: what it cost is what it had cost, and more.
        voices.note(&session, 3, Reason::Reopened, at(1_250), dollars(4));
        voices.note(&session, 3, Reason::Resolved, at(1_300), dollars(6));
        let has_told = |rule, secs, now| voices.has_told(rule, secs, at(now));
        assert_eq!(has_told(&day, 86_400, 2_000), dollars(11));
        // One that is a warning has told nothing of what is critical.
        assert_eq!(has_told(&other, 86_400, 2_000), dollars(7));
        assert_eq!(has_told(&day, 1_000, 1_950), dollars(6));
        assert_eq!(has_told(&day, 1_000, 2_300), PicoUsd::ZERO);
        let withheld = |is_more| {
            let weight = Weight {
                window_secs: 86_400,
                is_more,
                ..Weight::default()
            };
            voices.withheld(&day, 9, weight, at(2_000))
        };
        // With the first that leaves the window it may be more.
        let until = Some((Withheld::BySpending, Some(at(600 + 86_400))));
        assert_eq!(withheld(false), until);
        assert_eq!(withheld(true), None);
    }
}
