//! A log over time: what each stretch of it cost, in as few stretches as can be looked at.
//!
//! Sums only; how they are drawn is the business of `strip` and `page`.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use jiff::civil::Date;

use crate::monitor::{Amount, Stamp, Time, Tokens};
use crate::pipeline::Seen;
use crate::price::PicoUsd;
use crate::sink::Clock;

/// More bins than this are never kept: a chart has about a thousand pixels.
const MAX_BINS: usize = 2000;

/// How long a bin may be, in seconds: each length is a multiple of the one before, so that bins are added up exactly.
const WIDTHS: [i64; 10] = [
    10, 60, 300, 900, 3600, 10_800, 21_600, 86_400, 604_800, 2_419_200,
];

/// Pauses shorter than this are no gaps in a log.
const GAP_MS: i64 = 3_600_000;

/// The sums of a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bin {
    pub(super) requests: u64,
    /// Responses without a price: `cost` is a lower bound if there are any.
    pub(super) unpriced: u64,
    pub(super) cost: PicoUsd,
    /// What of it was paid again for prompt that had been cached.
    pub(super) waste: PicoUsd,
    pub(super) tokens: Tokens,
}

impl Bin {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.unpriced += other.unpriced;
        self.cost += other.cost;
        self.waste += other.waste;
        self.tokens.add(&other.tokens);
    }

    /// Cost a minute, of so many seconds.
    pub(super) fn cost_a_minute(&self, secs: i64) -> PicoUsd {
        PicoUsd(self.cost.0 * 60 / i128::from(secs))
    }
}

/// What the rules about all traffic were held against at a moment; `None` while a rule is learning.
pub(super) type Limits = Vec<Option<Amount>>;

/// A log over time.
#[derive(Debug)]
pub(super) struct Timeline {
    clock: Clock,
    /// Which of [`WIDTHS`] bins have.
    level: usize,
    /// Where the first bin lies, in bins since the epoch.
    first: i64,
    bins: VecDeque<Bin>,
    limits: BTreeMap<i64, Limits>,
    days: BTreeMap<Date, Bin>,
    /// What came last, as long as it is of one bin and one day.
    latest: Option<Latest>,
    /// The last response in order of time, and the longest stretch without one before it.
    last: Option<Time>,
    longest_gap: Option<(Time, Time)>,
}

/// Responses that came after each other, of one bin and one day.
#[derive(Debug, Clone)]
struct Latest {
    /// Milliseconds in which all is of them.
    span: Range<i64>,
    day: Date,
    sums: Bin,
}

/// No zone changes its day within a quarter of an hour.
const QUARTER_MS: i64 = 900_000;

impl Timeline {
    /// Nothing yet; days are those of this clock.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            level: 0,
            first: 0,
            bins: VecDeque::new(),
            limits: BTreeMap::new(),
            days: BTreeMap::new(),
            latest: None,
            last: None,
            longest_gap: None,
        }
    }

    /// Adds what was seen; `waste` is what of it was paid again. Batch results and responses without a time lie nowhere in time.
    pub(super) fn note(&mut self, seen: &Seen, waste: PicoUsd) {
        match seen {
            Seen::New(record) if !record.batch => {
                if let Stamp::At(at) = record.stamp {
                    self.note_gap(at);
                    let sums = Bin {
                        requests: 1,
                        unpriced: u64::from(record.cost.is_none()),
                        cost: record.cost.unwrap_or_default(),
                        waste,
                        tokens: record.all_tokens(),
                    };
                    self.add(at, &sums);
                }
            }
            Seen::Grown(grown) if !grown.0.batch => {
                let growth = &grown.1;
                if let Some(at) = growth.first {
                    let mut tokens = growth.tokens;
                    for extra in &growth.extra {
                        tokens.add(&extra.tokens);
                    }
                    let sums = Bin {
                        cost: growth.cost.unwrap_or_default(),
                        tokens,
                        ..Bin::default()
                    };
                    self.add(at, &sums);
                }
            }
            _ => {}
        }
    }

    fn note_gap(&mut self, at: Time) {
        let last = *self.last.get_or_insert(at);
        if at <= last {
            return;
        }
        let length = |(from, to): (Time, Time)| to.millis_since(from);
        if self
            .longest_gap
            .is_none_or(|gap| length(gap) < length((last, at)))
        {
            self.longest_gap = Some((last, at));
        }
        self.last = Some(at);
    }

    fn add(&mut self, at: Time, sums: &Bin) {
        if let Some(latest) = self.latest.as_mut().filter(|l| l.span.contains(&at.0)) {
            latest.sums.add(sums);
            return;
        }
        self.settle();
        let around = |ms: i64| {
            let begin = at.0.div_euclid(ms) * ms;
            begin..begin + ms
        };
        // Looking up a day costs more than all else here.
        let (bin, quarter) = (around(self.width() * 1000), around(QUARTER_MS));
        self.latest = Some(Latest {
            span: bin.start.max(quarter.start)..bin.end.min(quarter.end),
            day: self.clock.date(at),
            sums: *sums,
        });
    }

    /// Puts what came last where it belongs.
    fn settle(&mut self) {
        let Some(Latest { span, day, sums }) = self.latest.take() else {
            return;
        };
        self.days.entry(day).or_default().add(&sums);
        if let Some(place) = self.place(Time(span.start)) {
            self.bins[place].add(&sums);
        }
    }

    /// The place of a moment, for which there is a bin then. `None` if it lies more centuries from the others than bins can span.
    fn place(&mut self, at: Time) -> Option<usize> {
        let max = i64::try_from(MAX_BINS).unwrap_or(i64::MAX);
        loop {
            let index = at.0.div_euclid(self.width() * 1000);
            if self.bins.is_empty() {
                self.first = index;
            }
            let end = self.first + i64::try_from(self.bins.len()).unwrap_or(i64::MAX);
            if end.max(index + 1) - self.first.min(index) <= max {
                for _ in index..self.first {
                    self.bins.push_front(Bin::default());
                }
                for _ in end..=index {
                    self.bins.push_back(Bin::default());
                }
                self.first = self.first.min(index);
                return usize::try_from(index - self.first).ok();
            }
            if self.level + 1 == WIDTHS.len() {
                return None;
            }
            self.coarsen();
        }
    }

    fn coarsen(&mut self) {
        let level = self.level + 1;
        let n = WIDTHS[level] / WIDTHS[self.level];
        let first = self.first.div_euclid(n);
        let mut bins: VecDeque<Bin> = VecDeque::new();
        for (index, bin) in (self.first..).zip(&self.bins) {
            let place = usize::try_from(index.div_euclid(n) - first).unwrap_or(0);
            if bins.len() <= place {
                bins.resize(place + 1, Bin::default());
            }
            bins[place].add(bin);
        }
        let limits = std::mem::take(&mut self.limits).into_iter();
        // The later of two stands for both.
        self.limits = limits.map(|(at, l)| (at.div_euclid(n), l)).collect();
        (self.level, self.first, self.bins) = (level, first, bins);
    }

    /// The log has ended: one of hours is looked at by the minute, so that a single response is not a spike beside nothing.
    pub(super) fn finish(&mut self) {
        self.settle();
        if self.level == 0 && self.bins.len() > 720 {
            self.coarsen();
        }
    }

    /// Notes what the rules are held against now, once for each bin.
    pub(super) fn note_limits(&mut self, at: Time, limits: impl FnOnce() -> Limits) {
        let index = at.0.div_euclid(self.width() * 1000);
        self.limits.entry(index).or_insert_with(limits);
    }

    /// How long a bin is, in seconds.
    pub(super) fn width(&self) -> i64 {
        WIDTHS[self.level]
    }

    /// The bins, without a gap.
    pub(super) fn bins(&self) -> impl ExactSizeIterator<Item = &Bin> {
        self.bins.iter()
    }

    /// What the rules were held against in each bin, as far as it is known: what was noted last holds on.
    pub(super) fn limits(&self) -> impl Iterator<Item = Option<&Limits>> {
        let mut last = None;
        (self.first..).take(self.bins.len()).map(move |index| {
            last = self.limits.get(&index).or(last);
            last
        })
    }

    /// When the first bin begins, and when the last ends.
    pub(super) fn span(&self) -> (Time, Time) {
        let at = |index: i64| Time(index * self.width() * 1000);
        let n = i64::try_from(self.bins.len()).unwrap_or(i64::MAX);
        (at(self.first), at(self.first + n))
    }

    /// The longest stretch without a response, if it is one that tells: from an hour on.
    pub(super) fn longest_gap(&self) -> Option<(Time, Time)> {
        let tells = |(from, to): &(Time, Time)| to.millis_since(*from) >= GAP_MS;
        self.longest_gap.filter(tells)
    }

    /// The sums of each day that had traffic.
    pub(super) fn days(&self) -> &BTreeMap<Date, Bin> {
        &self.days
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Zone;
    use proptest::prelude::*;

    fn of(n: u64) -> Bin {
        Bin {
            requests: n,
            cost: PicoUsd(i128::from(n)),
            ..Bin::default()
        }
    }

    fn timeline() -> Timeline {
        Timeline::new(Clock { zone: Zone::UTC })
    }

    proptest! {
        /// Nothing is lost however wide the bins become, and each sum lies in the bin of its time.
        #[test]
        fn bins_hold_what_was_added(
            adds in prop::collection::vec((0_i64..40_000_000, 1_u64..100), 1..60),
            scale in prop::sample::select(vec![1_i64, 1000, 40_000]),
        ) {
            let mut timeline = timeline();
            let start = 1_795_428_000_000_i64;
            for (ms, n) in &adds {
                timeline.add(Time(start + ms * scale), &of(*n));
            }
            timeline.settle();
            let (first, end) = timeline.span();
            prop_assert!(timeline.bins().len() <= MAX_BINS);
            let width = timeline.width() * 1000;
            for (index, bin) in (0..).zip(timeline.bins()) {
                let from = first.0 + index * width;
                let within = adds.iter().filter(|(ms, _)| (from..from + width).contains(&(start + ms * scale)));
                prop_assert_eq!(bin.requests, within.map(|(_, n)| n).sum::<u64>());
            }
            let all: u64 = adds.iter().map(|(_, n)| n).sum();
            prop_assert_eq!(timeline.days().values().map(|day| day.requests).sum::<u64>(), all);
            prop_assert!(adds.iter().all(|(ms, _)| (first.0..end.0).contains(&(start + ms * scale))));
        }
    }

    #[test]
    fn the_longest_gap_is_told_from_an_hour_on() {
        let minutes = |n: i64| Time(n * 60_000);
        let mut timeline = timeline();
        for n in [0, 59, 100] {
            timeline.note_gap(minutes(n));
        }
        assert_eq!(timeline.longest_gap(), None);
        // One comes late: it neither ends a gap nor begins one.
        for n in [160, 120, 219, 300] {
            timeline.note_gap(minutes(n));
        }
        let gap = (minutes(219), minutes(300));
        assert_eq!(timeline.longest_gap(), Some(gap));
    }

    #[test]
    fn limits_hold_on_until_others_are_noted() {
        let mut timeline = timeline();
        for secs in [0, 30, 60] {
            timeline.add(Time(secs * 1000), &of(1));
        }
        timeline.note_limits(Time(10_000), || vec![Some(1)]);
        timeline.note_limits(Time(11_000), || vec![Some(2)]);
        timeline.note_limits(Time(40_000), || vec![Some(3)]);
        timeline.settle();
        let limits: Vec<_> = timeline.limits().map(|l| l.and_then(|l| l[0])).collect();
        let expected = [None, Some(1), Some(1), Some(1), Some(3), Some(3), Some(3)];
        assert_eq!(limits, expected);
        timeline.coarsen();
        let limits: Vec<_> = timeline.limits().map(|l| l.and_then(|l| l[0])).collect();
        assert_eq!(limits, [Some(3), Some(3)]);
    }
}
