//! What is usual of the minutes that had traffic over the trailing seven days, and what busy hours were before.
//!
//! Samples are kept in a histogram for each six hours, which is dropped whole, and in one of them all.

use std::cell::Cell;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Amount;
use super::histogram::{Histogram, beyond, bin_of, value_of};
use super::hours::Hours;
use crate::monitor::calendar::ClockChange;
use crate::monitor::record::Time;

const BLOCK_MINUTES: i64 = 6 * 60;
const BLOCKS_OF_A_DAY: i64 = 4;
pub(super) const DAYS_OF_A_WEEK: usize = 7;
const BLOCKS: i64 = 7 * BLOCKS_OF_A_DAY;

/// What busy hours showed on so many of the days before is ordinary, though alerts were on; on all of them while there are fewer.
pub(super) const ORDINARY_DAYS: usize = 3;

/// Of days that are older than the seven it is remembered for so many what their busy hours showed.
const FORMER_DAYS: i64 = 21;

/// With fewer minutes than this it is not known what one in a hundred shows: the largest sample stands for it.
const MIN_FOR_PERCENTILE: u64 = 300;

/// A learned rule needs this many minutes with traffic before it speaks.
pub const MIN_MINUTES: u64 = 60;

/// Median and 99th percentile of the minutes that had traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usual {
    /// Median.
    pub usual: Amount,
    /// What one minute in a hundred is beyond: the 99th percentile, or a higher one where each minute has samples of many keys,
    /// so that a larger fleet does not cross it more often. The largest sample while there are few; at least a fifth above
    /// `usual`.
    pub busy: Amount,
    /// Minutes behind them. Where many keys share a baseline, a minute has a sample of each.
    pub minutes: u64,
    /// They are of a day at least, with its night and its busy hours.
    pub is_of_days: bool,
    /// Where each day is one sample, its largest: how many days are behind them. Zero where minutes are.
    pub days: u64,
}

impl Usual {
    /// Enough minutes have been seen, or days.
    pub fn is_learned(&self) -> bool {
        self.minutes >= MIN_MINUTES || self.days > 0
    }

    /// A sample of an incident, cut so that it cannot become its own excuse: it counts as a busy minute, no more.
    pub fn clip(&self, sample: Amount) -> Amount {
        if self.minutes == 0 && self.days == 0 {
            sample
        } else {
            sample.min(self.busy)
        }
    }
}

/// The sample of a minute in an episode, which is kept until that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::monitor) struct Held {
    /// Minutes since the epoch.
    pub(in crate::monitor) minute: i64,
    /// As it counts: cut, so that it cannot become its own excuse.
    pub(in crate::monitor) counted: Amount,
    /// As it was, if it may be that of an ordinary day; else as it counts.
    pub(in crate::monitor) seen: Amount,
    /// As it was.
    pub(in crate::monitor) shown: Amount,
    /// From this minute on it came to be: where days are the samples, what they showed from then on counts for no more.
    pub(in crate::monitor) led_from: i64,
}

/// The samples of six hours.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Block {
    index: i64,
    bins: Histogram,
    /// What they were before some of them were cut, if any was.
    seen: Option<Histogram>,
    minutes: u64,
}

impl Block {
    fn day(&self) -> i64 {
        self.index.div_euclid(BLOCKS_OF_A_DAY)
    }

    /// Its samples as they count.
    const fn counted(&self) -> &Histogram {
        &self.bins
    }

    /// Its samples as they were.
    fn seen(&self) -> &Histogram {
        self.seen.as_ref().unwrap_or(&self.bins)
    }
}

/// What has been worked out.
#[derive(Debug, Clone, Copy, Default)]
enum Worked {
    #[default]
    NotYet,
    Out(Option<Amount>),
}

/// Which minutes have been counted. Keys that share a baseline are sampled one after another, for several minutes each.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Counted {
    last: Option<i64>,
    /// A bit for each minute up to the last, which is the lowest: those before count as counted.
    recent: u64,
}

impl Counted {
    /// Counts a minute. False if it was counted before.
    fn is_new(&mut self, minute: i64) -> bool {
        let last = *self.last.get_or_insert(minute);
        if minute > last {
            let by = u32::try_from(minute - last).unwrap_or(u32::MAX);
            self.recent = self.recent.checked_shl(by).unwrap_or(0);
            self.last = Some(minute);
        }
        let back = u32::try_from((last - minute).max(0)).unwrap_or(u32::MAX);
        let bit = 1_u64.checked_shl(back).unwrap_or(0);
        let is_new = bit & !self.recent != 0;
        self.recent |= bit;
        is_new
    }
}

/// What a baseline holds for a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::monitor) enum Samples {
    /// Each minute.
    #[default]
    Minutes,
    /// The same, of what goes with the days of weeks: the seven that are kept may be a holiday.
    MinutesOfWeeks,
    /// Each day, with its largest: the sums are over so long that those of its minutes are nearly the same.
    Days,
}

/// The samples of seven days.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Baseline {
    blocks: VecDeque<Block>,
    merged: Histogram,
    samples: u64,
    minutes: u64,
    counted: Counted,
    samples_are: Samples,
    /// What busy hours showed on days before the seven, as it counted: in which bins.
    former: VecDeque<(i64, u16)>,
    /// What was shown at which time of day, whatever it counted as, if that may be ordinary.
    hours: Option<Hours>,
    /// What it comes to, once somebody has asked since the last sample.
    now: Cell<Option<Usual>>,
    /// The limit that follows from it, likewise. A baseline is of one rule.
    #[serde(skip)]
    limit: Cell<Worked>,
    /// What busy hours showed on ordinary days, once somebody has asked since a day before this one changed.
    #[serde(skip)]
    ordinary: Cell<Option<Amount>>,
}

impl Baseline {
    /// One that has seen nothing. What comes at the same time of each day may be ordinary for it.
    pub(in crate::monitor) fn new(samples_are: Samples, goes_with_the_hours: bool) -> Self {
        Self {
            samples_are,
            hours: goes_with_the_hours.then(Hours::default),
            ..Self::default()
        }
    }

    /// Adds the sample of a minute (minutes since the epoch). Blocks that have grown older than seven days are dropped.
    pub fn add(&mut self, minute: i64, sample: Amount) {
        self.take(Held {
            minute,
            counted: sample,
            seen: sample,
            shown: sample,
            led_from: minute,
        });
    }

    /// Adds one that was held back.
    pub(in crate::monitor) fn take(&mut self, sample: Held) {
        let Held {
            minute,
            counted,
            seen,
            shown,
            led_from,
        } = sample;
        let bin = bin_of(counted.max(0));
        let bin_for = |amount: Amount| {
            if amount == counted {
                bin
            } else {
                bin_of(amount.max(0))
            }
        };
        if let Some(hours) = &mut self.hours {
            hours.note(minute, bin_for(shown));
        }
        let index = minute.div_euclid(BLOCK_MINUTES);
        let before = self.blocks.back().map(Block::day);
        // Nearly all come in order.
        if self.blocks.back().is_none_or(|last| last.index != index) {
            self.make_room(index);
            self.ordinary.set(None);
        }
        let today = self.blocks.back().map(Block::day);
        let is_by_days = self.is_by_days();
        let block = match self.blocks.back_mut() {
            Some(last) if last.index == index => Some(last),
            _ => self.blocks.iter_mut().find(|block| block.index == index),
        };
        if let Some(block) = block {
            if seen != counted && block.seen.is_none() {
                block.seen = Some(block.bins.clone());
                self.ordinary.set(None);
            }
            if is_by_days {
                if let Some(bins) = &mut block.seen {
                    bins.rise_to(seen);
                }
                block.bins.rise_to(counted);
            } else {
                if let Some(bins) = &mut block.seen {
                    bins.add(bin_for(seen));
                }
                block.bins.add(bin);
                self.merged.add(bin);
                self.samples += 1;
            }
            if self.counted.is_new(minute) {
                block.minutes += 1;
                self.minutes += 1;
            }
        }
        let is_cut = is_by_days && counted < shown;
        if is_cut {
            self.cut(led_from, counted);
        }
        // The day that is on is no sample yet.
        let is_of_today = today == Some(index.div_euclid(BLOCKS_OF_A_DAY)) && today == before;
        if is_cut || !is_by_days || !is_of_today {
            self.now.set(None);
            self.limit.set(Worked::NotYet);
        }
    }

    /// What the blocks from that of a minute on showed counts for no more than this.
    fn cut(&mut self, from: i64, most: Amount) {
        self.ordinary.set(None);
        let from = from.div_euclid(BLOCK_MINUTES);
        let blocks = self.blocks.iter_mut().rev();
        for block in blocks.take_while(|block| block.index >= from) {
            if block.bins.largest().is_some_and(|largest| largest > most) {
                block.seen.get_or_insert_with(|| block.bins.clone());
                block.bins = Histogram::default();
                block.bins.rise_to(most);
            }
        }
    }

    /// Sees to it that there is a block, unless it is too old, and drops those that it makes too old.
    fn make_room(&mut self, index: i64) {
        let newest = self
            .blocks
            .back()
            .map_or(index, |last| index.max(last.index));
        // Where days are the samples, those of seven that are over are there until the one that is on is over too.
        let first = match self.samples_are {
            Samples::Days => (newest.div_euclid(BLOCKS_OF_A_DAY) - 7) * BLOCKS_OF_A_DAY,
            Samples::Minutes | Samples::MinutesOfWeeks => newest - BLOCKS + 1,
        };
        let is_too_old = |index: i64| index < first;
        while self
            .blocks
            .front()
            .is_some_and(|block| is_too_old(block.index))
        {
            self.drop_oldest();
        }
        let at = self.blocks.partition_point(|block| block.index < index);
        let is_there = self
            .blocks
            .get(at)
            .is_some_and(|block| block.index == index);
        if !is_there && !is_too_old(index) {
            let block = Block {
                index,
                ..Block::default()
            };
            self.blocks.insert(at, block);
        }
    }

    fn drop_oldest(&mut self) {
        self.note_former();
        let Some(block) = self.blocks.pop_front() else {
            return;
        };
        self.minutes -= block.minutes;
        if !self.is_by_days() {
            self.samples -= block.bins.samples();
            self.merged.subtract(&block.bins);
        }
    }

    /// Remembers of the oldest day, while all of it is there, what is to be known of it later.
    fn note_former(&mut self) {
        let Some(day) = self.blocks.front().map(Block::day) else {
            return;
        };
        let is_remembered = self.samples_are != Samples::Minutes;
        if !is_remembered || self.former.back().is_some_and(|(known, _)| *known == day) {
            return;
        }
        let blocks = self.blocks.iter().take_while(|block| block.day() == day);
        let blocks: Vec<&Block> = blocks.collect();
        let figure = self.of_day(&blocks, Block::counted);
        self.former.push_back((day, bin_of(figure)));
        let is_old = |(oldest, _): &(i64, u16)| *oldest <= day - FORMER_DAYS;
        while self.former.front().is_some_and(is_old) {
            self.former.pop_front();
        }
    }

    /// What busy hours showed on the third of the days before the seven, as it counted then. After a holiday it is what is ordinary.
    fn of_former_days(&self) -> Amount {
        if self.former.is_empty() {
            return 0;
        }
        let busy = self.former.iter().map(|(_, bin)| value_of(*bin));
        third(busy.collect())
    }

    /// The earliest moment that a sample may be of.
    pub(in crate::monitor) fn begins(&self) -> Option<Time> {
        let first = self.blocks.front()?;
        Some(Time::from_secs(first.index * BLOCK_MINUTES * 60))
    }

    /// What is usual now.
    pub fn usual(&self) -> Usual {
        let known = self.now.get();
        known.unwrap_or_else(|| {
            let usual = self.summarize();
            self.now.set(Some(usual));
            usual
        })
    }

    /// Clocks were changed: what comes by them comes at another time of the day.
    pub(in crate::monitor) fn change_clocks(&mut self, change: Option<ClockChange>) {
        if let Some(hours) = &mut self.hours {
            hours.change_clocks(change);
        }
    }

    /// What is usual for the time of day that a moment has: busy is what the same half-hours of other days showed, if that is more.
    pub(in crate::monitor) fn usual_at(&self, moment: Time) -> Usual {
        self.usual_with(|hours| hours.ordinary_at(moment.minute()))
    }

    /// The same for whichever time of day has the most.
    pub(in crate::monitor) fn usual_at_most(&self) -> Usual {
        self.usual_with(Hours::most)
    }

    fn usual_with(&self, busy: impl Fn(&Hours) -> Option<u16>) -> Usual {
        let usual = self.usual();
        let busy = self.hours.as_ref().and_then(busy).map_or(0, value_of);
        Usual {
            busy: usual.busy.max(busy),
            ..usual
        }
    }

    /// The limit of its rule that follows from what is usual at any time of day, worked out by the first who asks.
    pub(in crate::monitor) fn limit(
        &self,
        of: impl FnOnce(Usual) -> Option<Amount>,
    ) -> Option<Amount> {
        if let Worked::Out(limit) = self.limit.get() {
            return limit;
        }
        let limit = of(self.usual());
        self.limit.set(Worked::Out(limit));
        limit
    }

    /// Its rule is another one from now on.
    pub(in crate::monitor) fn forget_limit(&self) {
        self.limit.set(Worked::NotYet);
    }

    fn is_by_days(&self) -> bool {
        self.samples_are == Samples::Days
    }

    fn summarize(&self) -> Usual {
        if self.is_by_days() {
            return self.summarize_days();
        }
        let usual = self.merged.of_rank(self.samples.div_ceil(2), self.samples);
        let busy = if self.minutes < MIN_FOR_PERCENTILE {
            self.merged.largest().unwrap_or(0)
        } else {
            self.merged
                .of_rank(self.samples - self.minutes / 100, self.samples)
        };
        let of_days = self.of_ordinary_days().max(self.of_former_days());
        let busy = busy.max(of_days);
        let hours = self.hours.as_ref();
        let busy = hours.map_or(busy, |hours| value_of(hours.busy_elsewhere(bin_of(busy))));
        let ends = self.blocks.front().zip(self.blocks.back());
        Usual {
            usual,
            busy: busy.max(usual + usual / 5),
            minutes: self.minutes,
            is_of_days: ends
                .is_some_and(|(first, last)| last.index - first.index >= BLOCKS_OF_A_DAY),
            days: 0,
        }
    }

    /// The same where each day is one sample: usual is the median of the last seven that are over, busy the largest of all that
    /// are remembered.
    fn summarize_days(&self) -> Usual {
        let known = self.former.back().map(|(day, _)| *day);
        let former = self.former.iter().map(|(_, bin)| value_of(*bin));
        let before = self.blocks_before_today();
        let recent = before
            .chunk_by(|a, b| a.day() == b.day())
            .filter(|day| known.is_none_or(|known| day[0].day() > known))
            .map(|day| self.of_day(day, Block::counted));
        let minutes = before.iter().map(|block| block.minutes).sum();
        let days: Vec<Amount> = former.chain(recent).collect();
        let mut last: Vec<Amount> = days.iter().rev().take(DAYS_OF_A_WEEK).copied().collect();
        last.sort_unstable();
        let usual = last.get(last.len() / 2).copied().unwrap_or(0);
        let largest = days.iter().copied().max().unwrap_or(0);
        Usual {
            usual,
            busy: largest.max(self.of_ordinary_days()).max(usual + usual / 5),
            minutes,
            is_of_days: !days.is_empty(),
            days: days.len() as u64,
        }
    }

    /// What a day showed: what one minute in twenty was beyond, since busy hours last and an incident of an hour is not one; where
    /// each day is one sample, its largest.
    fn of_day(&self, day: &[&Block], bins_of: impl Fn(&Block) -> &Histogram) -> Amount {
        let minutes: u64 = day.iter().map(|block| block.minutes).sum();
        let others = if self.is_by_days() { 0 } else { minutes / 20 };
        beyond(day.iter().map(|block| bins_of(block)), others)
    }

    /// What busy hours showed on the third of the days before this one, the busiest first, whether an alert was on or not. Traffic
    /// that comes every day, as at noon, is learned by it though the first day was told; an incident is not. Zero if nothing was cut.
    fn of_ordinary_days(&self) -> Amount {
        let known = self.ordinary.get();
        known.unwrap_or_else(|| {
            let ordinary = self.find_ordinary_days();
            self.ordinary.set(Some(ordinary));
            ordinary
        })
    }

    fn find_ordinary_days(&self) -> Amount {
        if self.blocks.iter().all(|block| block.seen.is_none()) {
            return 0;
        }
        let before = self.blocks_before_today();
        let days = before.chunk_by(|a, b| a.day() == b.day());
        third(days.map(|day| self.of_day(day, Block::seen)).collect())
    }

    /// The blocks of the days that are over.
    fn blocks_before_today(&self) -> Vec<&Block> {
        let today = self.blocks.back().map(Block::day);
        let blocks = self.blocks.iter();
        blocks.filter(|block| Some(block.day()) != today).collect()
    }
}

/// The third largest, or the least of fewer.
fn third(mut amounts: Vec<Amount>) -> Amount {
    amounts.sort_unstable_by(|a, b| b.cmp(a));
    amounts.truncate(ORDINARY_DAYS);
    amounts.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::UNIT;
    use proptest::prelude::*;

    /// Keys that share a baseline are sampled for several minutes at a time, one key after another.
    #[test]
    fn minutes_count_once_in_whichever_order_they_come() {
        let (mut in_order, mut by_key) = (Baseline::default(), Baseline::default());
        for five in 0..80 {
            let minutes = five * 5..five * 5 + 5;
            minutes
                .clone()
                .for_each(|minute| in_order.add(minute, UNIT));
            // One key has been busy in each second minute, another one in all of them.
            minutes
                .clone()
                .rev()
                .step_by(2)
                .for_each(|minute| by_key.add(minute, UNIT));
            minutes.for_each(|minute| by_key.add(minute, UNIT));
        }
        assert_eq!(in_order.usual().minutes, 400);
        assert_eq!(by_key.usual().minutes, 400);
        // As one that is long over it counts no more.
        by_key.add(300, UNIT);
        assert_eq!(by_key.usual().minutes, 400);
        by_key.add(1_000, UNIT);
        assert_eq!(by_key.usual().minutes, 401);
    }

    #[test]
    fn usual_is_the_median_and_busy_the_99th_percentile() {
        let mut baseline = Baseline::default();
        for n in 1..=1000 {
            baseline.add(n, i128::from(n) * UNIT);
        }
        let Usual {
            usual,
            busy,
            minutes,
            ..
        } = baseline.usual();
        assert_eq!(minutes, 1000);
        assert!((490..=500).contains(&(usual / UNIT)), "{usual}");
        assert!((970..=990).contains(&(busy / UNIT)), "{busy}");
    }

    proptest! {
        /// What is kept from one question to the next is what would be found anew, whatever comes in whichever order.
        #[test]
        fn what_was_worked_out_still_holds(
            takes in prop::collection::vec((-BLOCK_MINUTES..2 * BLOCK_MINUTES, 1_i128..400, 0_i128..400, 0_i64..400, any::<bool>()), 1..200),
            samples_are in prop::sample::select(vec![Samples::Minutes, Samples::MinutesOfWeeks, Samples::Days]),
        ) {
            let mut baseline = Baseline::new(samples_are, true);
            let mut minute = 0;
            for (later, shown, cut, led, asks) in takes {
                minute += later;
                baseline.take(Held { minute, counted: shown.min(cut), seen: shown, shown, led_from: minute - led });
                if asks {
                    let anew = Baseline { now: Cell::default(), ordinary: Cell::default(), ..baseline.clone() };
                    prop_assert_eq!(baseline.usual(), anew.usual());
                }
            }
        }

        /// However much is added and grows old, what is left is what came in the last seven days.
        #[test]
        fn what_is_merged_is_the_sum_of_its_blocks(
            adds in prop::collection::vec((0_i64..3 * BLOCK_MINUTES, 0_i128..400), 1..300),
        ) {
            let mut baseline = Baseline::default();
            let mut minute = 0;
            for (later, sample) in adds {
                minute += later;
                baseline.add(minute, sample);
            }
            let mut whole = std::collections::BTreeMap::new();
            for (bin, n) in baseline.blocks.iter().flat_map(|block| block.bins.each()) {
                *whole.entry(*bin).or_insert(0) += n;
            }
            prop_assert!(baseline.merged.each().copied().eq(whole));
            prop_assert_eq!(baseline.merged.samples(), baseline.samples);
        }
    }

    #[test]
    fn busy_is_crossed_as_seldom_by_many_keys_as_by_one() {
        let mut baseline = Baseline::default();
        for minute in 1..=1000 {
            for key in 0..20 {
                baseline.add(minute, i128::from(key * 1000 + minute) * UNIT);
            }
        }
        let busy = baseline.usual().busy / UNIT;
        assert!((19_500..=19_990).contains(&busy), "{busy}");
    }

    /// Ten busy minutes an hour, of which an alert told and none counts as it was.
    fn days(busy: &[i128]) -> Usual {
        days_of(Baseline::default(), busy, 12)
    }

    /// The same, with what each minute may count as.
    fn days_of(mut baseline: Baseline, busy: &[i128], counted: i128) -> Usual {
        for (day, busy) in (0..).zip(busy) {
            for minute in 0..24 * 60 {
                let seen = if minute % 6 == 0 { *busy } else { 10 } * UNIT;
                let minute = day * 24 * 60 + minute;
                baseline.take(Held {
                    minute,
                    counted: seen.min(counted * UNIT),
                    seen,
                    shown: seen,
                    led_from: minute,
                });
            }
        }
        baseline.usual()
    }

    #[test]
    fn what_busy_hours_show_on_three_days_is_ordinary() {
        let busy = |of: &[i128]| days(of).busy * 100 / UNIT;
        let is = |busy: i128, days: i128| busy <= 100 * days && busy >= 98 * days;
        // The day that is not over is not asked.
        assert!(is(busy(&[50]), 12));
        assert!(is(busy(&[10, 10, 50, 50, 50]), 12));
        assert!(is(busy(&[10, 10, 50, 50, 50, 10]), 50));
        assert!(is(busy(&[10, 30, 40, 50, 60, 10]), 40));
        // While there are fewer days, all of them have to show it.
        assert!(is(busy(&[50, 10]), 50));
        assert!(is(busy(&[50, 20, 10]), 20));
        // Days of more than a week ago are forgotten.
        assert!(is(busy(&[50, 50, 50, 10, 10, 10, 10, 10, 10, 10, 10]), 12));
    }

    /// A week of holidays leaves nothing of busy hours but what is remembered of the days before: of three of them, or of all while
    /// there are fewer, as it counted.
    #[test]
    fn busy_hours_are_remembered_over_a_holiday() {
        let after = |days: &[i128], counted, samples| {
            let holiday = [10; 7];
            let days: Vec<i128> = days.iter().chain(&holiday).copied().collect();
            let busy = |by_hours| days_of(Baseline::new(samples, by_hours), &days, counted).busy;
            assert_eq!(busy(true), busy(false));
            (busy(true) + UNIT / 2) / UNIT
        };
        assert_eq!(
            after(&[50, 40, 30, 20, 10], 100, Samples::MinutesOfWeeks),
            30
        );
        assert_eq!(after(&[50, 40, 30, 20, 10], 100, Samples::Minutes), 12);
        assert_eq!(after(&[50, 40], 100, Samples::MinutesOfWeeks), 40);
        // Those of an alert count as they were cut.
        assert_eq!(
            after(&[50, 40, 30, 20, 10], 25, Samples::MinutesOfWeeks),
            25
        );
        // So many days ago is too long.
        let mut long = vec![50, 50, 50];
        long.extend([10; 21]);
        assert_eq!(after(&long, 100, Samples::MinutesOfWeeks), 12);
        assert_eq!(after(&long[1..], 100, Samples::MinutesOfWeeks), 12);
        assert_eq!(after(&long[..21], 100, Samples::MinutesOfWeeks), 50);
    }

    /// Where days are the samples the last seven that are over say what is usual, and all of four weeks what is busy; each counts with
    /// its largest, however short that was.
    #[test]
    fn days_are_samples_of_sums_over_a_day() {
        let assert_is = |days: &[i128], usual, busy, n| {
            let of = days_of(Baseline::new(Samples::Days, false), days, 1_000);
            let is_about =
                |amount: i128, of: i128| (of * 98..=of * 100).contains(&(amount * 100 / UNIT));
            assert!(
                is_about(of.usual, usual) && is_about(of.busy, busy),
                "{of:?}"
            );
            assert_eq!(of.days, n);
        };
        // The day that is on is none of them.
        assert_is(&[40], 0, 0, 0);
        assert_is(&[40, 50, 60, 900], 50, 60, 3);
        assert_is(&[40, 40, 40, 40, 20], 40, 48, 4);
        let mut weeks = vec![90, 70];
        weeks.extend([40; 20]);
        weeks.extend([50; 6]);
        assert_is(&weeks, 50, 90, 27);
        weeks.push(50);
        assert_is(&weeks, 50, 90, 28);
        // So many days ago is too long.
        weeks.push(50);
        assert_is(&weeks, 50, 70, 28);
        // After a holiday there are no minutes that are known, but there are days.
        let mut baseline = Baseline::new(Samples::Days, false);
        for day in [0, 1, 2, 14] {
            baseline.add(day * 24 * 60, 40 * UNIT);
        }
        let usual = baseline.usual();
        assert_eq!((usual.minutes, usual.days), (0, 3));
        assert!(usual.is_learned() && usual.clip(900 * UNIT) < 50 * UNIT);
    }

    /// A day of a week ago is known for as long as the one that is on: what is usual does not change before that is over.
    #[test]
    fn what_days_show_is_the_same_from_morning_to_night() {
        let mut baseline = Baseline::new(Samples::Days, false);
        let hour = |day: i64, hour: i64| (day * 24 + hour) * 60;
        for day in 0..7 {
            baseline.add(hour(day, 9), 30 * UNIT);
            let minute = hour(day, 21);
            let seen = if day % 3 == 0 { 90 } else { 40 } * UNIT;
            baseline.take(Held {
                minute,
                counted: 40 * UNIT,
                seen,
                shown: seen,
                led_from: minute,
            });
        }
        for at in 0..24 {
            baseline.add(hour(7, at), UNIT);
            let Usual { busy, days, .. } = Baseline {
                now: Cell::default(),
                ..baseline.clone()
            }
            .usual();
            assert!(
                busy >= 88 * UNIT && days == 7,
                "{busy} of {days} days at {at}"
            );
        }
        baseline.add(hour(8, 0), UNIT);
        assert!(baseline.usual().busy <= 48 * UNIT);
    }

    /// The evening on which a dear night began is known as no dearer than the days before, but as what it was among others like it.
    #[test]
    fn what_led_to_a_dear_day_counts_for_no_more_than_it_does() {
        let mut baseline = Baseline::new(Samples::Days, false);
        let hour = |day: i64, hour: i64| (day * 24 + hour) * 60;
        for day in 0..3 {
            baseline.add(hour(day, 12), 40 * UNIT);
        }
        baseline.add(hour(3, 12), 40 * UNIT);
        baseline.add(hour(3, 23), 70 * UNIT);
        baseline.add(hour(5, 0), 40 * UNIT);
        let is = |baseline: &Baseline, dollars: i128| {
            let busy = baseline.usual().busy;
            (dollars * 98..=dollars * 100).contains(&(busy * 100 / UNIT))
        };
        assert!(is(&baseline, 70));
        let dear = Held {
            minute: hour(4, 3),
            counted: 48 * UNIT,
            seen: 200 * UNIT,
            shown: 200 * UNIT,
            led_from: hour(3, 20),
        };
        baseline.take(dear);
        assert!(is(&baseline, 48));
        assert_eq!(baseline.usual().days, 5);
        // Three of seven that show as much are ordinary.
        for minute in [hour(1, 20), hour(2, 20)] {
            baseline.take(Held {
                minute,
                led_from: minute,
                ..dear
            });
        }
        assert!(is(&baseline, 200));
    }

    #[test]
    fn a_day_is_known_once_its_night_and_its_busy_hours_are() {
        let known = |hours: i64| {
            let mut baseline = Baseline::default();
            for minute in 0..hours * 60 {
                baseline.add(minute, UNIT);
            }
            baseline.usual().is_of_days
        };
        assert!(!known(24) && known(25));
    }

    #[test]
    fn few_samples_take_the_largest_and_a_flat_line_keeps_a_fifth_of_room() {
        let mut baseline = Baseline::default();
        for n in 0..100 {
            baseline.add(n, 10 * UNIT);
        }
        let flat = baseline.usual();
        assert_eq!(flat.busy, flat.usual + flat.usual / 5);
        baseline.add(100, 50 * UNIT);
        assert!(baseline.usual().busy >= 49 * UNIT);
    }

    #[test]
    fn days_older_than_a_week_are_forgotten() {
        let mut baseline = Baseline::default();
        for n in 0..60 {
            baseline.add(n, 100 * UNIT);
        }
        for n in 0..60 {
            baseline.add(n + 7 * 24 * 60 + BLOCK_MINUTES, UNIT);
        }
        assert_eq!(baseline.usual().minutes, 60);
        assert!(baseline.usual().busy < 2 * UNIT);
    }
}
