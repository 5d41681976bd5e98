//! The samples of minutes in an episode: as what they count, and when.
//!
//! An incident must not become what is usual, and what stays must. Knows one sample at a time.

use std::collections::VecDeque;

use super::alert::{ADAPT_MS, Episode};
use super::record::Time;
use super::rule::Rule;
use super::usual::{Amount, Held, Samples};

/// No baseline remembers more minutes.
const MINUTES_OF_A_WEEK: usize = 7 * 24 * 60;

/// Samples of an episode that is on count after so many minutes.
const RIPE_MINUTES: i64 = 6 * 60;

/// The sample of a minute as it is kept until the episode in which it lies is over; none if it lies in none. How much there is goes
/// with the hours of the day, and what every day shows is ordinary. What a response costs is so once it has lasted for a day: another
/// model stays. What a session costs, or what of the cache is lost, never is.
pub(super) fn hold(
    episode: Option<&Episode>,
    rule: &Rule,
    minute: i64,
    sample: Amount,
) -> Option<Held> {
    let minute_end = Time::from_secs(minute * 60 + 59);
    let episode = episode.filter(|episode| episode.since <= minute_end)?;
    let usual = episode.usual.unwrap_or_default();
    let counted = usual.clip(sample);
    let lasts = || minute_end.millis_since(episode.since) >= ADAPT_MS;
    let is_of_all = rule.metric.is_mean() && !rule.is_of_sessions();
    let is_by_days = rule.samples() == Samples::Days;
    let is_of_days = rule.goes_with_the_days() || is_by_days || is_of_all && lasts();
    // What its windows held when it began had led to it.
    let longest = rule.windows.iter().max().copied().unwrap_or(0);
    let began = episode.since.plus_secs(-longest).minute();
    Some(Held {
        minute,
        counted,
        seen: if is_of_days { sample } else { counted },
        shown: sample,
        led_from: if is_by_days { began } else { minute },
    })
}

/// Keeps such a sample.
pub(super) fn keep(held: &mut VecDeque<Held>, sample: Held) {
    held.push_back(sample);
    // Older ones would be forgotten at once.
    if held.len() > MINUTES_OF_A_WEEK {
        held.pop_front();
    }
}

/// Takes out those that count though the episode goes on, because they are old: it may go on for weeks.
pub(super) fn ripe(held: &mut VecDeque<Held>, minute: i64) -> impl Iterator<Item = Held> + '_ {
    let is_ripe = move |oldest: &Held| oldest.minute <= minute - RIPE_MINUTES;
    std::iter::from_fn(move || {
        held.front().filter(|oldest| is_ripe(oldest))?;
        held.pop_front()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::metric::Metric;
    use super::super::rule::Label;
    use super::super::usual::Usual;
    use super::*;

    /// Minutes of an alert count as busy ones; of how much there is as they were, of what a response costs once that has lasted for a
    /// day, of a session or the cache never.
    #[test]
    fn what_lasts_is_seen_as_it_was_where_it_may_become_usual() {
        let mut episode = Episode::new(1, Time::from_secs(0), 0, Arc::default());
        episode.usual = Some(Usual {
            usual: 10,
            busy: 20,
            minutes: 1_000,
            is_of_days: true,
            days: 0,
        });
        let seen = |metric, of_sessions, minute| {
            let rule = Rule {
                metric,
                by: if of_sessions {
                    vec![Label::Session]
                } else {
                    Vec::new()
                },
                ..Rule::blank()
            };
            let held = hold(Some(&episode), &rule, minute, 90).unwrap();
            assert_eq!(held.counted, 20);
            held.seen
        };
        let day = 24 * 60;
        assert_eq!(seen(Metric::Tokens, false, 0), 90);
        assert_eq!(seen(Metric::CostPerRequest, false, day - 1), 20);
        assert_eq!(seen(Metric::CostPerRequest, false, day), 90);
        assert_eq!(seen(Metric::Cost, true, 3 * day), 20);
        assert_eq!(seen(Metric::CacheMiss, false, 3 * day), 20);
    }

    /// A day in an alert counts as the dearest before it, and so does the evening on which it began.
    #[test]
    fn a_dear_day_makes_no_room_for_another() {
        let mut episode = Episode::new(1, Time::from_secs(30 * 3600), 0, Arc::default());
        episode.usual = Some(Usual {
            usual: 60,
            busy: 100,
            minutes: 1_000,
            is_of_days: true,
            days: 5,
        });
        let rule = Rule {
            metric: Metric::Cost,
            windows: vec![86_400],
            ..Rule::blank()
        };
        let held = |sample| hold(Some(&episode), &rule, 31 * 60, sample).unwrap();
        assert_eq!((held(90).counted, held(90).seen), (90, 90));
        assert_eq!((held(600).counted, held(600).seen), (100, 600));
        assert_eq!(held(600).led_from, 6 * 60);
    }
}
