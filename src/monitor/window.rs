//! Sliding sums by event time: sixty buckets a window, added to and subtracted from in whole numbers, and what they came to when each
//! of the last minutes was over.
//!
//! Knows neither rules nor what its sums mean. Adding costs the same whatever the traffic and however many windows hold what comes;
//! nothing is rescanned.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::cache::Miss;
use super::record::{Tokens, UsageRecord};
use crate::price::PicoUsd;

/// How many buckets a window is divided into.
pub const BUCKETS: i64 = 60;

/// The sums that metrics are read off. Those that most responses add nothing to lie behind the others, so that they are not touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[repr(C)]
pub struct Sums {
    /// Cost of all priced records.
    pub cost: PicoUsd,
    /// What caching has saved, less what it cost.
    pub cache_gain: PicoUsd,
    /// Responses.
    pub requests: i64,
    /// Input, output and cache writes.
    pub fresh: i64,
    /// Whole prompts.
    pub prompt: i64,
    /// Output.
    pub output: i64,
    /// Tokens that were not read from the cache, whatever the cause.
    pub unread: i64,
    /// Responses with a large prompt.
    pub large: i64,
    /// Those of them that read or wrote the cache.
    pub cached: i64,
    /// Responses that the cache could have served.
    pub eligible: i64,
    /// Their prompts.
    pub eligible_prompt: i64,
    /// What they read from the cache.
    pub eligible_read: i64,
    /// Responses without a price: `cost` is a lower bound if there are any.
    pub unpriced: i64,
    /// Error answers, which are no responses.
    pub errors: i64,
    /// Responses that paid again for what the cache would have given.
    pub affected: i64,
    /// Tokens of that waste.
    pub missed: i64,
    /// Dollars of it.
    pub waste: PicoUsd,
    /// The part of `waste` that a firing `miss-run` alert has spoken for.
    pub waste_told_by_run: PicoUsd,
    /// The part of `waste` that a firing `cache-waste` alert, but no `miss-run`, has spoken for.
    pub waste_told_by_window: PicoUsd,
    /// The part of `waste` that is no chance: the cause is evident from a single request.
    pub evident_waste: PicoUsd,
}

/// What buckets hold: sums that can be added to and taken from each other.
pub trait Summed: Copy + Default {
    /// Adds other sums to these.
    fn add(&mut self, other: &Self);

    /// Takes other sums from these.
    fn subtract(&mut self, other: &Self);
}

/// The same for every sum. Written out, because it is done for each response several times. No count is too absurd for it.
macro_rules! each_sum {
    ($to:expr, $from:expr, $change:ident) => {{
        $to.cost.0 = $to.cost.0.$change($from.cost.0);
        $to.cache_gain.0 = $to.cache_gain.0.$change($from.cache_gain.0);
        $to.unread = $to.unread.$change($from.unread);
        $to.fresh = $to.fresh.$change($from.fresh);
        $to.prompt = $to.prompt.$change($from.prompt);
        $to.output = $to.output.$change($from.output);
        $to.requests = $to.requests.$change($from.requests);
        $to.unpriced = $to.unpriced.$change($from.unpriced);
        $to.large = $to.large.$change($from.large);
        $to.cached = $to.cached.$change($from.cached);
        $to.eligible = $to.eligible.$change($from.eligible);
        $to.eligible_prompt = $to.eligible_prompt.$change($from.eligible_prompt);
        $to.eligible_read = $to.eligible_read.$change($from.eligible_read);
        $to.errors = $to.errors.$change($from.errors);
    }};
}

/// The same for all that is about waste, which is nothing where nothing was missed.
macro_rules! each_sum_of_waste {
    ($to:expr, $from:expr, $change:ident) => {{
        $to.waste.0 = $to.waste.0.$change($from.waste.0);
        $to.waste_told_by_run.0 = $to.waste_told_by_run.0.$change($from.waste_told_by_run.0);
        $to.waste_told_by_window.0 = $to
            .waste_told_by_window
            .0
            .$change($from.waste_told_by_window.0);
        $to.evident_waste.0 = $to.evident_waste.0.$change($from.evident_waste.0);
        $to.affected = $to.affected.$change($from.affected);
        $to.missed = $to.missed.$change($from.missed);
    }};
}

impl Sums {
    /// The sums of one response, its part in the cache left out.
    pub fn of(tokens: &Tokens, cost: Option<PicoUsd>) -> Self {
        Self {
            cost: cost.unwrap_or_default(),
            fresh: signed(tokens.fresh()),
            prompt: signed(tokens.prompt()),
            output: signed(tokens.output),
            requests: 1,
            unpriced: i64::from(cost.is_none()),
            ..Self::default()
        }
    }

    /// What a response adds to any window: what the cache could have served is left to be said. `miss` is one that could have been
    /// avoided, `unread` are the tokens that the cache did not give, whatever the cause.
    pub fn of_record(record: &UsageRecord, miss: Option<&Miss>, unread: u64) -> Self {
        let mut sums = Self::of(&record.all_tokens(), record.cost);
        sums.unread = signed(unread);
        sums.cache_gain = record
            .rates
            .map_or(PicoUsd::ZERO, |rates| rates.cache_gain(&record.tokens));
        if let Some(miss) = miss {
            sums.waste = miss.cost;
            if miss.cause.is_evident() {
                sums.evident_waste = miss.cost;
            }
            sums.affected = 1;
            sums.missed = signed(miss.tokens);
        }
        sums
    }
}

impl Summed for Sums {
    #[inline]
    fn add(&mut self, other: &Self) {
        each_sum!(self, other, wrapping_add);
        if other.affected != 0 {
            each_sum_of_waste!(self, other, wrapping_add);
        }
    }

    #[inline]
    fn subtract(&mut self, other: &Self) {
        each_sum!(self, other, wrapping_sub);
        each_sum_of_waste!(self, other, wrapping_sub);
    }
}

impl Summed for PicoUsd {
    fn add(&mut self, other: &Self) {
        self.0 += other.0;
    }

    fn subtract(&mut self, other: &Self) {
        self.0 -= other.0;
    }
}

/// A plain count.
impl Summed for i64 {
    fn add(&mut self, other: &Self) {
        *self += other;
    }

    fn subtract(&mut self, other: &Self) {
        *self -= other;
    }
}

/// A token count as a term of a sum. Counts are capped far below the limit when they are read.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A bucket that saw a record, and what had come before it in all.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Bucket<S> {
    index: i64,
    before: S,
}

impl<S: Summed> Bucket<S> {
    /// What came from its beginning on, until so much had come in all.
    #[inline]
    fn until(&self, came: &S) -> S {
        let mut sums = *came;
        sums.subtract(&self.before);
        sums
    }
}

/// The windows of one key: the same records over several lengths of time.
///
/// What comes is added up once, for all of them. Of each bucket that holds something a window knows what had come before, so that
/// its sum is what has come less what had come before its oldest bucket. At a moment it covers the bucket that holds the moment and
/// the 59 before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Windows<S = Sums> {
    /// All that has come, whether it is in a window or not.
    came: S,
    each: Vec<Buckets<S>>,
    minutes: Minutes,
    /// The second at which there is something to do: a newer bucket begins, or a minute is over that is kept.
    until: i64,
}

/// The buckets of one window.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Buckets<S> {
    bucket_secs: i64,
    /// Those in the window that saw a record, oldest first.
    held: VecDeque<Bucket<S>>,
    newest: i64,
    /// The second at which a newer bucket begins.
    bucket_ends: i64,
    /// What the window held at the ends of the last minutes that saw a record.
    ends: VecDeque<(i64, S)>,
}

/// Which minutes saw a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Minutes {
    /// How far back it is kept what windows held at their ends.
    kept: i64,
    /// The first second of the newest one.
    begin: i64,
    /// That one has seen a record, and is not over.
    is_open: bool,
}

/// The last second of a minute.
const fn end_of(minute: i64) -> i64 {
    minute * 60 + 59
}

impl<S: Summed> Windows<S> {
    /// Empty windows of so many seconds, each a multiple of sixty, that know what they held at the end of each of so many minutes.
    pub fn new(secs: impl IntoIterator<Item = i64>, minutes: i64) -> Self {
        Self {
            came: S::default(),
            each: secs.into_iter().map(Buckets::new).collect(),
            minutes: Minutes {
                kept: minutes,
                begin: i64::MIN,
                is_open: false,
            },
            until: i64::MIN,
        }
    }

    /// The window at a place, in the order in which their lengths were given. It panics if there is none.
    #[inline]
    pub fn at(&self, index: usize) -> Window<'_, S> {
        Window {
            came: &self.came,
            buckets: &self.each[index],
        }
    }

    /// All of them.
    pub fn each(&self) -> impl DoubleEndedIterator<Item = Window<'_, S>> {
        self.each.iter().map(|buckets| Window {
            came: &self.came,
            buckets,
        })
    }

    /// Moves them to the buckets that hold this second. They never move back.
    #[inline]
    pub fn advance(&mut self, second: i64) {
        if second >= self.until {
            self.move_to(second);
        }
    }

    fn move_to(&mut self, second: i64) {
        if self.minutes.kept > 0 {
            let next = self.minutes.begin.saturating_add(60);
            if second >= next {
                if self.minutes.is_open {
                    self.close_minute(next - 1);
                }
                self.minutes.begin = second - second.rem_euclid(60);
            }
        }
        for window in &mut self.each {
            window.slide_to(second);
        }
        self.look_ahead();
    }

    /// The newest minute is over with this second.
    fn close_minute(&mut self, last: i64) {
        let minute = last.div_euclid(60);
        self.minutes.is_open = false;
        for window in &mut self.each {
            window.slide_to(last);
            window.ends.push_back((minute, window.total(&self.came)));
            let is_old = |(oldest, _): &(i64, S)| *oldest <= minute - self.minutes.kept;
            while window.ends.front().is_some_and(is_old) {
                window.ends.pop_front();
            }
        }
    }

    /// Finds out when there will be something to do.
    fn look_ahead(&mut self) {
        let ends = self.each.iter().map(|window| window.bucket_ends);
        let minute = self.minutes.begin.saturating_add(60);
        let minute = self.minutes.is_open.then_some(minute);
        self.until = ends.chain(minute).min().unwrap_or(i64::MAX);
    }

    /// Adds to the buckets of this second. False if one of the windows does not hold it any more; what it held at the end of a minute
    /// may still take it. A second ahead of the windows moves them.
    pub fn add(&mut self, second: i64, sums: &S) -> bool {
        self.advance(second);
        if self.minutes.kept > 0 {
            self.add_to_minutes(second, sums);
        }
        let mut is_held = true;
        for window in &mut self.each {
            is_held &= window.note(second, sums, &self.came);
        }
        self.came.add(sums);
        is_held
    }

    /// The minute of this second has seen a record. If it is over, it ended with more than was known.
    #[inline]
    fn add_to_minutes(&mut self, second: i64, sums: &S) {
        if second < self.minutes.begin {
            for window in &mut self.each {
                window.add_to_ends(second, sums);
            }
        } else if !self.minutes.is_open {
            self.minutes.is_open = true;
            self.minutes.begin = second - second.rem_euclid(60);
            self.look_ahead();
        }
    }

    /// Takes in all that windows of the same lengths hold.
    pub fn absorb(&mut self, others: &Self) {
        let newest = |window: &Buckets<S>| window.newest.saturating_mul(window.bucket_secs);
        if let Some(newest) = others.each.iter().map(newest).max() {
            self.advance(newest);
        }
        for (window, other) in self.each.iter_mut().zip(others.each()) {
            for (index, sums) in other.each_bucket() {
                window.put(index, &sums, &self.came);
            }
        }
    }

    /// Moves all that they hold in time, to the nearest bucket: the clock that its times are of was wrong by so many seconds.
    pub fn shift(&mut self, secs: i64) {
        let minutes = secs.div_euclid(60);
        for window in &mut self.each {
            window.shift(secs, minutes);
        }
        self.minutes.begin = self.minutes.begin.saturating_add(minutes * 60);
        self.look_ahead();
    }
}

impl<S: Summed> Buckets<S> {
    fn new(secs: i64) -> Self {
        Self {
            bucket_secs: (secs / BUCKETS).max(1),
            held: VecDeque::new(),
            newest: i64::MIN,
            bucket_ends: i64::MIN,
            ends: VecDeque::new(),
        }
    }

    fn oldest(&self) -> i64 {
        self.newest - (BUCKETS - 1)
    }

    /// What they hold, of all that has come.
    #[inline]
    fn total(&self, came: &S) -> S {
        let oldest = self.held.front();
        oldest.map_or_else(S::default, |oldest| oldest.until(came))
    }

    /// Lets go of what is too old at this second.
    #[inline]
    fn slide_to(&mut self, second: i64) {
        if second < self.bucket_ends {
            return;
        }
        if second < self.bucket_ends.saturating_add(self.bucket_secs) {
            // Nearly always the next one, and nothing to divide.
            self.newest += 1;
            self.bucket_ends += self.bucket_secs;
        } else {
            self.newest = second.div_euclid(self.bucket_secs);
            self.bucket_ends = (self.newest + 1) * self.bucket_secs;
        }
        let oldest = self.oldest();
        while self
            .held
            .front()
            .is_some_and(|bucket| bucket.index < oldest)
        {
            self.held.pop_front();
        }
    }

    /// Sees to it that what is about to be added to all that has come is in the bucket of its second. False if that is too old.
    #[inline]
    fn note(&mut self, second: i64, sums: &S, came: &S) -> bool {
        let index = if second >= self.bucket_ends - self.bucket_secs {
            self.newest
        } else {
            second.div_euclid(self.bucket_secs)
        };
        // Nearly all come in order.
        match self.held.back() {
            Some(last) if last.index == index => true,
            Some(last) if last.index > index => self.note_late(index, sums),
            _ => {
                let is_held = index >= self.oldest();
                if is_held {
                    let before = *came;
                    self.held.push_back(Bucket { index, before });
                }
                is_held
            }
        }
    }

    /// The same behind a newer bucket: it comes before that one, and so does what is too old.
    #[cold]
    fn note_late(&mut self, index: i64, sums: &S) -> bool {
        let is_held = index >= self.oldest();
        let newer = if is_held { self.bucket(index) + 1 } else { 0 };
        for bucket in self.held.range_mut(newer..) {
            bucket.before.add(sums);
        }
        is_held
    }

    /// Where the bucket of an index is; one that holds nothing is made, before another.
    fn bucket(&mut self, index: i64) -> usize {
        let at = self.held.partition_point(|bucket| bucket.index < index);
        if let Some(next) = self.held.get(at)
            && next.index > index
        {
            let before = next.before;
            self.held.insert(at, Bucket { index, before });
        }
        at
    }

    /// Adds to a bucket what comes to no other window.
    fn put(&mut self, index: i64, sums: &S, came: &S) {
        if index < self.oldest() {
            return;
        }
        let at = self.bucket(index);
        if at == self.held.len() {
            let before = *came;
            self.held.push_back(Bucket { index, before });
        }
        for bucket in self.held.range_mut(..=at) {
            bucket.before.subtract(sums);
        }
    }

    /// Adds to what was held at the ends of minutes that are over what came before these.
    fn add_to_ends(&mut self, second: i64, sums: &S) {
        let index = second.div_euclid(self.bucket_secs);
        for (minute, total) in &mut self.ends {
            let end = end_of(*minute);
            if second <= end && index > end.div_euclid(self.bucket_secs) - BUCKETS {
                total.add(sums);
            }
        }
    }

    fn shift(&mut self, secs: i64, minutes: i64) {
        let by = (secs + self.bucket_secs / 2).div_euclid(self.bucket_secs);
        for bucket in &mut self.held {
            bucket.index += by;
        }
        self.newest = self.newest.saturating_add(by);
        self.bucket_ends = self.bucket_ends.saturating_add(by * self.bucket_secs);
        for (minute, _) in &mut self.ends {
            *minute += minutes;
        }
    }
}

/// One of the windows of a key.
#[derive(Debug)]
pub struct Window<'a, S = Sums> {
    came: &'a S,
    buckets: &'a Buckets<S>,
}

impl<S> Clone for Window<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Window<'_, S> {}

impl<'a, S: Summed> Window<'a, S> {
    /// Length in seconds.
    pub fn secs(self) -> i64 {
        self.buckets.bucket_secs * BUCKETS
    }

    /// The sums over the window.
    pub fn total(self) -> S {
        self.buckets.total(self.came)
    }

    /// A number that is read off the sums over the window: one of them, or so many times one less so many times another.
    #[inline]
    pub fn read(self, linear: impl Fn(&S) -> i128) -> i128 {
        let oldest = self.buckets.held.front();
        oldest.map_or(0, |oldest| linear(self.came) - linear(&oldest.before))
    }

    /// The sums over the window as it stood at the end of a minute that saw a record, with what has come in since. `None` if it saw
    /// none before it was over, or was too long ago.
    pub fn at_end_of(self, minute: i64) -> Option<&'a S> {
        let mut ends = self.buckets.ends.iter();
        ends.find(|(known, _)| *known == minute)
            .map(|(_, total)| total)
    }

    /// Nothing in the window.
    pub fn is_empty(self) -> bool {
        self.buckets.held.is_empty()
    }

    /// What had come in all when each bucket was over, oldest first.
    fn ends_of_buckets(self) -> impl Iterator<Item = (&'a Bucket<S>, &'a S)> {
        let buckets = &self.buckets.held;
        let ends = buckets.iter().skip(1).map(|next| &next.before);
        buckets.iter().zip(ends.chain([self.came]))
    }

    /// What each bucket in the window holds, oldest first, with its index: how many of its length lie between it and the epoch.
    pub fn each_bucket(self) -> impl Iterator<Item = (i64, S)> {
        self.ends_of_buckets()
            .map(|(bucket, end)| (bucket.index, bucket.until(end)))
    }

    /// The sums over the part of the window that begins with the bucket of this second.
    pub fn total_since(self, second: i64) -> S {
        let oldest = second.div_euclid(self.buckets.bucket_secs);
        let mut buckets = self.buckets.held.iter();
        let first = buckets.find(|bucket| bucket.index >= oldest);
        first.map_or_else(S::default, |first| first.until(self.came))
    }

    /// The first second, from `from` on, of the oldest bucket in the window for which `pick` holds.
    pub fn first_second(self, from: i64, pick: impl Fn(&S) -> bool) -> Option<i64> {
        let from = from.div_euclid(self.buckets.bucket_secs);
        let mut live = self.each_bucket().filter(|(index, _)| *index >= from);
        let (index, _) = live.find(|(_, sums)| pick(sums))?;
        Some(index * self.buckets.bucket_secs)
    }

    /// What will be [left](Self::read) of the window each time that a bucket leaves it, if nothing comes: the seconds, with the number.
    pub fn leaving(self, linear: impl Fn(&S) -> i128) -> impl Iterator<Item = (i64, i128)> {
        let all = linear(self.came);
        self.ends_of_buckets().map(move |(bucket, end)| {
            let left = all - linear(end);
            ((bucket.index + BUCKETS) * self.buckets.bucket_secs, left)
        })
    }

    /// The second at which the newest bucket leaves the window, which is empty from then on.
    pub fn last_expiry(self) -> Option<i64> {
        let newest = self.buckets.held.back()?;
        Some((newest.index + BUCKETS) * self.buckets.bucket_secs)
    }

    /// The second at which the oldest bucket leaves the window.
    pub fn next_expiry(self) -> Option<i64> {
        let oldest = self.buckets.held.front()?;
        Some((oldest.index + BUCKETS) * self.buckets.bucket_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(n: i64) -> Sums {
        Sums {
            requests: n,
            ..Sums::default()
        }
    }

    #[test]
    fn a_bucket_leaves_sixty_buckets_after_it_came() {
        let mut window = Windows::new([300], 0);
        window.add(0, &requests(1));
        window.add(7, &requests(2));
        assert_eq!(window.at(0).next_expiry(), Some(300));
        window.advance(299);
        assert_eq!(window.at(0).total().requests, 3);
        window.advance(300);
        assert_eq!(window.at(0).total().requests, 2);
        assert_eq!(window.at(0).next_expiry(), Some(305));
        window.advance(305);
        assert!(window.at(0).is_empty());
    }

    #[test]
    fn what_many_windows_held_one_holds() {
        let (mut whole, mut other) = (Windows::new([300], 0), Windows::new([300], 0));
        let mut parts = [Windows::new([300], 0), Windows::new([300], 0)];
        for second in 0..900 {
            let sums = requests(second % 7);
            whole.add(second, &sums);
            parts[usize::try_from(second % 2).unwrap_or(0)].add(second, &sums);
        }
        for part in &parts {
            other.absorb(part);
        }
        assert_eq!(whole.at(0).total(), other.at(0).total());
        whole.advance(1000);
        other.advance(1000);
        assert_eq!(whole.at(0).total(), other.at(0).total());
    }

    #[test]
    fn late_records_land_in_their_own_bucket_or_nowhere() {
        let mut window = Windows::new([60], 0);
        window.add(100, &requests(1));
        assert!(window.add(41, &requests(10)));
        assert!(!window.add(40, &requests(100)));
        assert_eq!(window.at(0).total().requests, 11);
        window.advance(101);
        assert_eq!(window.at(0).total().requests, 1);
    }

    #[test]
    fn what_it_held_at_the_end_of_a_minute_is_known_with_what_came_in_since() {
        let mut window = Windows::new([60], 5);
        window.add(59, &requests(1));
        window.add(200, &requests(2));
        // Too late for the window, which is elsewhere by now.
        assert!(!window.add(30, &requests(5)));
        assert_eq!(window.at(0).at_end_of(0).map(|sums| sums.requests), Some(6));
        assert_eq!(window.at(0).at_end_of(1), None, "nothing came in it");
        assert_eq!(window.at(0).at_end_of(3), None, "it is not over");
        window.add(31, &requests(7));
        assert_eq!(
            window.at(0).at_end_of(0).map(|sums| sums.requests),
            Some(13)
        );
        assert_eq!(window.at(0).total().requests, 2);
        window.advance(240);
        assert_eq!(window.at(0).at_end_of(3).map(|sums| sums.requests), Some(2));
        window.add(301, &requests(1));
        window.advance(360);
        assert_eq!(window.at(0).at_end_of(0), None, "it was too long ago");
    }

    #[test]
    fn what_will_be_left_of_a_window_is_known_before() {
        let mut window = Windows::new([300], 0);
        for (second, n) in [(0, 1), (10, 2), (12, 4), (299, 8)] {
            window.add(second, &requests(n));
        }
        let left = window.at(0).leaving(|sums| sums.requests.into());
        assert_eq!(left.collect::<Vec<_>>(), [(300, 14), (310, 8), (595, 0)]);
    }

    proptest::proptest! {
        /// In whichever order records come, whenever somebody looks, and if the clock was wrong.
        #[test]
        fn it_holds_what_came_in_its_time(
            secs in proptest::sample::select(vec![60_i64, 120, 300, 420, 3_600, 7_200]),
            steps in proptest::collection::vec((-200_i64..200, 1_i64..9, 0_u8..5), 1..150),
        ) {
            let mut window = Windows::new([secs], 11);
            let bucket = secs / BUCKETS;
            let (mut now, mut came, mut in_order) = (10_000, Vec::new(), std::collections::BTreeSet::new());
            window.advance(now);
            for (by, n, what) in steps {
                let second = now + by;
                if what == 0 {
                    window.advance(second);
                } else if what == 1 && n == 1 {
                    // The clock was wrong by whole buckets and minutes.
                    let (secs, minutes) = if by < 0 { (-840, -14) } else { (840, 14) };
                    window.shift(secs);
                    now += secs;
                    for (at, _) in &mut came {
                        *at += secs;
                    }
                    in_order = in_order.iter().map(|minute| minute + minutes).collect();
                    continue;
                } else {
                    let is_held = window.add(second, &requests(n));
                    let reach = now.max(second).div_euclid(bucket) - BUCKETS;
                    proptest::prop_assert_eq!(is_held, second.div_euclid(bucket) > reach);
                    came.push((second, n));
                    if by >= 0 {
                        in_order.insert(second.div_euclid(60));
                    }
                }
                now = now.max(second);
                let held_at = |moment: i64| -> i64 {
                    let since = moment.div_euclid(bucket) - BUCKETS;
                    let held = came.iter().filter(|(at, _)| *at <= moment && at.div_euclid(bucket) > since);
                    held.map(|(_, n)| n).sum()
                };
                window.advance(now);
                proptest::prop_assert_eq!(window.at(0).total().requests, held_at(now));
                let newest = in_order.last().copied().unwrap_or(0);
                for minute in now / 60 - 10..now / 60 {
                    let known = window.at(0).at_end_of(minute).map(|sums| sums.requests);
                    if in_order.contains(&minute) && minute > newest - 11 {
                        proptest::prop_assert_eq!(known, Some(held_at(minute * 60 + 59)));
                    } else if let Some(known) = known {
                        proptest::prop_assert_eq!(known, held_at(minute * 60 + 59));
                    }
                }
            }
        }
    }
}
