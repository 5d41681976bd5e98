//! What was shown at most in the half-hours of seven days, so that what comes at the same time of each day, or week, is known.
//!
//! A job that runs for half an hour each night, or on Monday mornings, is far beyond what one minute in a hundred shows, and no news.
//! Knows bins and half-hours; nothing of rules.

use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::VecDeque;

use super::baseline::{DAYS_OF_A_WEEK, ORDINARY_DAYS};
use crate::monitor::calendar::ClockChange;

/// Minutes of a slot. What comes somewhat earlier or later than the day before falls into the next one at most.
const SLOT_MINUTES: i64 = 30;

const SLOTS_OF_A_DAY: i64 = 24 * 60 / SLOT_MINUTES;

/// As many.
const TIMES_OF_DAY: usize = 48;

const SLOTS_OF_A_WEEK: i64 = 7 * SLOTS_OF_A_DAY;

/// Weeks that are looked back for what comes once in each.
const WEEKS: i64 = 4;

/// What is only ever shown in so many half-hours of the day says nothing of the others: a job of an hour or two, with what is left
/// of it in a window.
const BUSIEST_SLOTS: usize = 6;

impl ClockChange {
    /// The half-hour before the change in which the clocks showed what they would have shown without it in this one; or this one,
    /// if it came after the change.
    const fn by_the_clock(self, slot: i64) -> i64 {
        if slot < self.at.div_euclid(SLOT_MINUTES) {
            slot + self.forward.div_euclid(SLOT_MINUTES)
        } else {
            slot
        }
    }
}

/// Of so many days the one, the busiest first, that shows what is ordinary.
fn rank_of(days: usize) -> usize {
    (days * ORDINARY_DAYS).div_ceil(DAYS_OF_A_WEEK)
}

/// The largest sample of each half-hour that had traffic.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Hours {
    /// In order of time: half-hours since the epoch, with the bin of the sample.
    slots: VecDeque<(i64, u16)>,
    /// Older ones that stood out among the days that followed them.
    former: VecDeque<(i64, u16)>,
    /// The first half-hour that was ever watched.
    first: Option<i64>,
    /// The last change of the clocks. What goes by them came at another time before it, what goes by UTC at the same.
    clocks: Option<ClockChange>,
    /// Once somebody has asked since the last half-hour began.
    #[serde(skip)]
    peaks: Cell<Option<Peaks>>,
    /// What is ordinary in the half-hour that was asked for last, likewise.
    #[serde(skip)]
    ordinary: Cell<Option<(i64, Option<u16>)>>,
}

/// The busiest three hours of the day against the others, over seven days that are over.
#[derive(Debug, Clone, Copy)]
struct Peaks {
    /// What is ordinary in the busiest.
    most: u16,
    /// The most that the others have shown.
    of_others: u16,
}

impl Hours {
    /// Notes the sample of a minute.
    pub(super) fn note(&mut self, minute: i64, bin: u16) {
        let slot = minute.div_euclid(SLOT_MINUTES);
        if self.first.is_none_or(|first| slot < first) {
            self.first = Some(slot);
            self.forget_worked_out();
        }
        if let Some((last, most)) = self.slots.back_mut()
            && *last == slot
        {
            if *most < bin {
                *most = bin;
                self.forget_worked_out();
            }
            return;
        }
        let newest = self
            .slots
            .back()
            .map_or(slot, |(newest, _)| slot.max(*newest));
        // That of the same time seven days ago, and its neighbour before.
        let oldest = newest - SLOTS_OF_A_WEEK - 1;
        if slot < oldest {
            return;
        }
        self.forget_worked_out();
        match self.slots.back() {
            Some((last, _)) if *last > slot => {
                let at = self.slots.partition_point(|(known, _)| *known < slot);
                match self.slots.get_mut(at) {
                    Some((known, most)) if *known == slot => *most = bin.max(*most),
                    _ => self.slots.insert(at, (slot, bin)),
                }
            }
            _ => self.slots.push_back((slot, bin)),
        }
        let is_old = |(slot, _): &(i64, u16)| *slot < oldest;
        while let Some((slot, bin)) = self.slots.front().copied().filter(is_old) {
            self.slots.pop_front();
            self.note_former(slot, bin);
        }
    }

    /// Clocks were changed.
    pub(super) fn change_clocks(&mut self, change: Option<ClockChange>) {
        self.clocks = change;
        self.forget_worked_out();
    }

    fn forget_worked_out(&self) {
        self.peaks.set(None);
        self.ordinary.set(None);
    }

    /// Remembers for some weeks what no day after it has shown at that time.
    fn note_former(&mut self, slot: i64, bin: u16) {
        let others = (1..7).filter_map(|day| most_about(&self.slots, slot + day * SLOTS_OF_A_DAY));
        if others.max().is_none_or(|most| most < bin) {
            self.former.push_back((slot, bin));
        }
        let is_old = |(oldest, _): &(i64, u16)| *oldest < slot - (WEEKS - 1) * SLOTS_OF_A_WEEK;
        while self.former.front().is_some_and(is_old) {
            self.former.pop_front();
        }
    }

    /// What two of the last weeks showed at this time of this weekday.
    fn weekly_at(&self, now: i64, by: impl Fn(i64) -> i64) -> Option<u16> {
        let weeks = (1..=WEEKS).map(|week| by(now - week * SLOTS_OF_A_WEEK));
        let about = |slot| most_about(&self.slots, slot).max(most_about(&self.former, slot));
        let mut shown: Vec<u16> = weeks.filter_map(about).collect();
        shown.sort_unstable_by(|a, b| b.cmp(a));
        shown.get(1).copied()
    }

    /// What three of the seven days before showed at this time of day, or as large a part of those that are known; or what two of the
    /// last four weeks did at this time of this weekday.
    pub(super) fn ordinary_at(&self, minute: i64) -> Option<u16> {
        let now = minute.div_euclid(SLOT_MINUTES);
        let known = self.ordinary.get().filter(|(slot, _)| *slot == now);
        let known = known.map(|(_, ordinary)| ordinary);
        known.unwrap_or_else(|| {
            let ordinary = self.find_ordinary(now);
            self.ordinary.set(Some((now, ordinary)));
            ordinary
        })
    }

    fn find_ordinary(&self, now: i64) -> Option<u16> {
        let ordinary = self.ordinary_by(now, |slot| slot);
        let is_recent = |change: &ClockChange| {
            let since = now - change.at.div_euclid(SLOT_MINUTES);
            (0..=WEEKS * SLOTS_OF_A_WEEK + 1).contains(&since)
        };
        let change = self.clocks.filter(is_recent);
        let by_clocks =
            change.and_then(|change| self.ordinary_by(now, |slot| change.by_the_clock(slot)));
        ordinary.max(by_clocks)
    }

    /// The same, where what was before may have come at another half-hour.
    fn ordinary_by(&self, now: i64, by: impl Fn(i64) -> i64) -> Option<u16> {
        let first = self.first?;
        let slots = (1..)
            .take(DAYS_OF_A_WEEK)
            .map(|day| by(now - day * SLOTS_OF_A_DAY));
        let mut shown: Vec<Option<u16>> = slots
            .filter(|slot| *slot >= first)
            .map(|slot| most_about(&self.slots, slot))
            .collect();
        shown.sort_unstable_by(|a, b| b.cmp(a));
        let rank = rank_of(shown.len()).checked_sub(1)?;
        let daily = shown.get(rank).copied().flatten();
        daily.max(self.weekly_at(now, by))
    }

    /// The most that may be ordinary at any time of day.
    pub(super) fn most(&self) -> Option<u16> {
        let all = self.slots.iter().chain(&self.former);
        all.map(|(_, bin)| *bin).max()
    }

    /// What is busy outside of the busiest three hours of the day: no more than the others have shown in seven days, if it is these
    /// hours that show as much as a bin each day. Until a week is known it is the bin itself.
    pub(super) fn busy_elsewhere(&self, busy: u16) -> u16 {
        let peaks = self.peaks.get().unwrap_or_else(|| {
            let peaks = self.find_peaks().unwrap_or(Peaks {
                most: 0,
                of_others: 0,
            });
            self.peaks.set(Some(peaks));
            peaks
        });
        if peaks.most >= busy {
            busy.min(peaks.of_others)
        } else {
            busy
        }
    }

    fn find_peaks(&self) -> Option<Peaks> {
        let (newest, _) = self.slots.back()?;
        let oldest = newest - SLOTS_OF_A_WEEK;
        if self.first? > oldest {
            return None;
        }
        // Of each time of day what the days showed that showed most, up to the one that is ordinary.
        let mut by_time = [[0; ORDINARY_DAYS]; TIMES_OF_DAY];
        let mut time = usize::try_from(newest.rem_euclid(SLOTS_OF_A_DAY)).ok()?;
        let mut last = *newest;
        for (slot, bin) in self.slots.iter().rev().skip(1) {
            if *slot < oldest {
                break;
            }
            let back = usize::try_from(last - slot).ok()?;
            time = (time + 8 * TIMES_OF_DAY - back) % TIMES_OF_DAY;
            last = *slot;
            let mut bin = *bin;
            for most in &mut by_time[time] {
                if bin > *most {
                    std::mem::swap(&mut bin, most);
                }
            }
        }
        by_time.sort_unstable_by_key(|most| Reverse(most[ORDINARY_DAYS - 1]));
        let others = by_time[BUSIEST_SLOTS..].iter();
        Some(Peaks {
            most: by_time[0][ORDINARY_DAYS - 1],
            of_others: others.map(|most| most[0]).max()?,
        })
    }
}

/// The most of a half-hour and its neighbours.
fn most_about(slots: &VecDeque<(i64, u16)>, slot: i64) -> Option<u16> {
    let from = slots.partition_point(|(known, _)| *known < slot - 1);
    let about = slots.range(from..);
    let about = about.take_while(|(known, _)| *known <= slot + 1);
    about.map(|(_, bin)| *bin).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 24 * 60;

    /// What goes by the clocks comes an hour earlier or later by UTC once these are changed, and what goes by UTC does not.
    #[test]
    fn what_goes_by_the_clocks_is_known_when_they_are_changed() {
        let at = |forward: i64, minute: i64| {
            let mut hours = nights(&[90; 10]);
            let change = ClockChange {
                at: 10 * DAY + 60,
                forward,
            };
            hours.change_clocks(Some(change));
            hours.ordinary_at(10 * DAY + minute)
        };
        // Three in the morning is 180 minutes after midnight, half an hour more or less.
        for (forward, minute, ordinary) in [
            (60, 90, 90),
            (60, 120, 90),
            (60, 180, 90),
            (60, 239, 90),
            (60, 89, 5),
            (60, 240, 5),
            (-60, 180, 90),
            (-60, 299, 90),
            (-60, 149, 5),
            (-60, 300, 5),
            (30, 120, 90),
            (0, 120, 5),
        ] {
            assert_eq!(at(forward, minute), Some(ordinary), "{forward} {minute}");
        }
        // Before the change nothing is otherwise.
        assert_eq!(at(120, 59), Some(5));
        assert_eq!(at(120, 60), Some(90));
    }

    /// Two of the last four Mondays make a third ordinary, those before the change among them.
    #[test]
    fn a_change_of_clocks_matters_for_as_long_as_weeks_are_looked_back() {
        let mut hours = Hours::default();
        for day in 0..60 {
            for minute in 0..DAY {
                let is_job = day % 7 == 0 && (180..190).contains(&minute);
                hours.note(day * DAY + minute, if is_job { 90 } else { 5 });
            }
            hours.change_clocks(Some(ClockChange {
                at: 24 * DAY,
                forward: 60,
            }));
            let next = day + 1;
            if next % 7 != 0 || next < 21 {
                continue;
            }
            let expected = if (28..=42).contains(&next) { 90 } else { 5 };
            assert_eq!(hours.ordinary_at(next * DAY + 90), Some(expected), "{next}");
        }
    }

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

    /// What only the same three hours of each day show says nothing of the others; if any other has shown as much, it does.
    #[test]
    fn the_busiest_hours_are_no_measure_for_the_others() {
        let elsewhere = |of: &[u16], busy| nights(of).busy_elsewhere(busy);
        assert_eq!(elsewhere(&[90; 7], 90), 90, "a week is not over");
        assert_eq!(elsewhere(&[90; 8], 90), 5);
        assert_eq!(elsewhere(&[90; 8], 60), 5);
        assert_eq!(elsewhere(&[90; 8], 3), 3);
        // What is busy is known from elsewhere: these hours do not show as much.
        assert_eq!(elsewhere(&[90; 8], 91), 91);
        assert_eq!(elsewhere(&[5, 5, 5, 5, 90, 90, 5, 5], 90), 90);
        let mut hours = nights(&[90; 8]);
        hours.note(8 * DAY - 31, 30);
        assert_eq!(hours.busy_elsewhere(90), 30);
        // A seventh half-hour that is as busy each day is one of the others.
        let mut broad = nights(&[90; 8]);
        for minute in (0..8 * DAY).filter(|minute| (600..810).contains(&(minute % DAY))) {
            broad.note(minute, 60);
        }
        assert_eq!(broad.busy_elsewhere(90), 60);
    }

    proptest! {
        /// What is kept from one question to the next is what would be found anew, whatever comes in whichever order.
        #[test]
        fn what_was_worked_out_still_holds(
            notes in prop::collection::vec((-9_i64..60, 0_u16..9, -2_i64..3, any::<bool>()), 1..300),
        ) {
            let mut hours = Hours::default();
            let mut slot = 400;
            for (later, bin, asked, asks) in notes {
                slot += later;
                hours.note(slot * SLOT_MINUTES, bin);
                if asks {
                    let anew = Hours { peaks: Cell::default(), ordinary: Cell::default(), ..hours.clone() };
                    let at = (slot + asked) * SLOT_MINUTES;
                    prop_assert_eq!(hours.ordinary_at(at), anew.ordinary_at(at));
                    prop_assert_eq!(hours.busy_elsewhere(4), anew.busy_elsewhere(4));
                }
            }
        }
    }

    /// What came on two Mondays is ordinary on the next, and on no other day.
    #[test]
    fn what_comes_each_week_is_ordinary_at_that_time() {
        let mondays = |of: &[u16]| {
            let weeks = of.iter().flat_map(|most| [*most, 5, 5, 5, 5, 5, 5]);
            nights(&weeks.collect::<Vec<_>>())
        };
        let at = |of: &[u16], day: i64| {
            let today = i64::try_from(of.len()).unwrap() * 7 + day;
            mondays(of).ordinary_at(today * DAY + 180)
        };
        assert_eq!(at(&[90], 0), Some(5));
        assert_eq!(at(&[90, 80], 0), Some(80));
        assert_eq!(at(&[90, 80], 1), Some(5));
        assert_eq!(at(&[90, 5, 80], 0), Some(80));
        assert_eq!(at(&[90, 70, 5, 80, 5], 0), Some(70));
        assert_eq!(at(&[90, 5, 5, 5, 80], 0), Some(5), "four weeks are kept");
        assert_eq!(mondays(&[90, 5, 5]).most(), Some(90));
        // Of what is the same each day the days before tell.
        assert!(nights(&[5; 35]).former.is_empty());
    }

    /// Of seven days and a half-hour all is kept, of four weeks what stood out.
    #[test]
    fn what_is_too_old_is_forgotten() {
        let week = SLOTS_OF_A_WEEK;
        let noted = |slots: &[(i64, u16)]| {
            let mut hours = Hours::default();
            for (slot, bin) in slots {
                hours.note(slot * SLOT_MINUTES, *bin);
            }
            hours
        };
        let first_of = |slots: &[(i64, u16)]| noted(slots).slots[0];
        assert_eq!(first_of(&[(0, 90), (1, 80), (week + 1, 5)]), (0, 90));
        assert_eq!(first_of(&[(0, 90), (1, 80), (week + 2, 5)]), (1, 80));
        // What comes too late is not taken any more.
        let late = noted(&[(week + 2, 5), (0, 90), (1, 80)]);
        assert_eq!(late.slots, [(1, 80), (week + 2, 5)]);
        assert!(late.former.is_empty());
        let former = |slots: &[(i64, u16)]| noted(slots).former;
        let sixth_day = 6 * SLOTS_OF_A_DAY;
        assert_eq!(
            former(&[(0, 80), (sixth_day, 79), (week + 2, 5)]),
            [(0, 80)]
        );
        assert!(former(&[(0, 80), (sixth_day, 80), (week + 2, 5)]).is_empty());
        assert_eq!(
            former(&[(0, 80), (sixth_day + 2, 80), (week + 2, 5)]),
            [(0, 80)]
        );
        let weeks = [(0, 90), (3 * week, 7), (3 * week + 1, 7), (4 * week + 2, 5)];
        assert_eq!(former(&weeks)[0], (0, 90));
        let weeks = [weeks[0], weeks[1], weeks[2], (4 * week + 3, 5)];
        assert_eq!(former(&weeks)[0], (3 * week, 7));
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
