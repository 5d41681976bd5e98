//! What was shown at most in the half-hours of seven days, so that what comes at the same time of each day is known.
//!
//! A job that runs for half an hour each night is far beyond what one minute in a hundred shows, and no news. Knows bins and
//! half-hours; nothing of rules.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::baseline::{DAYS_OF_A_WEEK, ORDINARY_DAYS};

/// Minutes of a slot. What comes somewhat earlier or later than the day before falls into the next one at most.
const SLOT_MINUTES: i64 = 30;

const SLOTS_OF_A_DAY: i64 = 24 * 60 / SLOT_MINUTES;

/// That of the same time seven days ago, and its neighbour before.
const SLOTS_KEPT: i64 = 7 * SLOTS_OF_A_DAY + 1;

/// The largest sample of each half-hour that had traffic.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Hours {
    /// In order of time: half-hours since the epoch, with the bin of the sample.
    slots: VecDeque<(i64, u16)>,
    /// The first half-hour that was ever watched.
    first: Option<i64>,
}

impl Hours {
    /// Notes the sample of a minute.
    pub(super) fn note(&mut self, minute: i64, bin: u16) {
        let slot = minute.div_euclid(SLOT_MINUTES);
        self.first = Some(self.first.map_or(slot, |first| first.min(slot)));
        match self.slots.back_mut() {
            Some((last, most)) if *last == slot => *most = bin.max(*most),
            Some((last, _)) if *last > slot => {
                let at = self.slots.partition_point(|(known, _)| *known < slot);
                match self.slots.get_mut(at) {
                    Some((known, most)) if *known == slot => *most = bin.max(*most),
                    _ => self.slots.insert(at, (slot, bin)),
                }
            }
            _ => self.slots.push_back((slot, bin)),
        }
        let newest = self.slots.back().map_or(slot, |(newest, _)| *newest);
        let is_old = |(oldest, _): &(i64, u16)| *oldest < newest - SLOTS_KEPT;
        while self.slots.front().is_some_and(is_old) {
            self.slots.pop_front();
        }
    }

    /// What three of the seven days before showed at this time of day, or as large a part of those that are known.
    pub(super) fn ordinary_at(&self, minute: i64) -> Option<u16> {
        let now = minute.div_euclid(SLOT_MINUTES);
        let first = self.first?;
        let slots = (1..)
            .take(DAYS_OF_A_WEEK)
            .map(|day| now - day * SLOTS_OF_A_DAY);
        let mut shown: Vec<Option<u16>> = slots
            .filter(|slot| *slot >= first)
            .map(|slot| self.most_about(slot))
            .collect();
        shown.sort_unstable_by(|a, b| b.cmp(a));
        let rank = (shown.len() * ORDINARY_DAYS).div_ceil(DAYS_OF_A_WEEK);
        shown.get(rank.checked_sub(1)?).copied().flatten()
    }

    /// The most that may be ordinary at any time of day.
    pub(super) fn most(&self) -> Option<u16> {
        self.slots.iter().map(|(_, bin)| *bin).max()
    }

    /// The most of a half-hour and its neighbours.
    fn most_about(&self, slot: i64) -> Option<u16> {
        let from = self.slots.partition_point(|(known, _)| *known < slot - 1);
        let about = self.slots.iter().skip(from);
        let about = about.take_while(|(known, _)| *known <= slot + 1);
        about.map(|(_, bin)| *bin).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60;

    /// Days that show so much at three in the morning, for ten minutes, and little for the rest.
    fn nights(of: &[u16]) -> Hours {
        let mut hours = Hours::default();
        for (day, most) in (0..).zip(of) {
            for minute in 0..DAY {
                let is_night = (180..190).contains(&minute);
                hours.note(day * DAY + minute, if is_night { *most } else { 5 });
            }
        }
        hours
    }

    #[test]
    fn what_three_nights_show_is_ordinary_at_that_time() {
        let at = |of: &[u16], minute: i64| {
            let today = i64::try_from(of.len()).unwrap() * DAY;
            nights(of).ordinary_at(today + minute)
        };
        assert_eq!(at(&[], 180), None);
        // One of two, two of three or four while there are fewer.
        assert_eq!(at(&[90], 180), Some(90));
        assert_eq!(at(&[90, 70], 180), Some(90));
        assert_eq!(at(&[90, 70, 5], 180), Some(70));
        assert_eq!(at(&[90, 5, 5, 5], 180), Some(5));
        assert_eq!(at(&[90, 5, 80, 70, 60], 180), Some(70));
        // Half an hour earlier or later, and no more.
        assert_eq!(at(&[90, 90, 90], 150), Some(90));
        assert_eq!(at(&[90, 90, 90], 239), Some(90));
        assert_eq!(at(&[90, 90, 90], 149), Some(5));
        assert_eq!(at(&[90, 90, 90], 240), Some(5));
        // Days of more than a week ago are forgotten.
        assert_eq!(at(&[90, 90, 90, 5, 5, 5, 5], 180), Some(90));
        assert_eq!(at(&[90, 90, 90, 5, 5, 5, 5, 5], 180), Some(5));
        assert_eq!(nights(&[90, 80, 5]).most(), Some(90));
    }

    /// What began to be watched later in the day has not missed that night.
    #[test]
    fn a_time_of_day_that_was_never_watched_is_no_day_without() {
        let mut hours = Hours::default();
        hours.note(600, 5);
        hours.note(DAY + 185, 90);
        assert_eq!(hours.ordinary_at(DAY + 185), None);
        assert_eq!(hours.ordinary_at(2 * DAY + 185), Some(90));
        assert_eq!(hours.ordinary_at(2 * DAY + 600), Some(5));
    }

    /// Samples of an episode come when it is over.
    #[test]
    fn samples_may_come_late() {
        let mut hours = Hours::default();
        for minute in [500, 185, 700, 186, 1, 184] {
            hours.note(minute, u16::try_from(minute).unwrap());
        }
        let slots: Vec<(i64, u16)> = hours.slots.iter().copied().collect();
        assert_eq!(slots, [(0, 1), (6, 186), (16, 500), (23, 700)]);
        assert_eq!(hours.ordinary_at(DAY + 190), Some(186));
    }
}
