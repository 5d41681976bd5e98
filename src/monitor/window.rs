//! Sliding sums by event time: sixty buckets a window, added to and subtracted from in whole numbers.
//!
//! Knows neither rules nor what its sums mean. Adding costs the same whatever the traffic; nothing is rescanned.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::cache::Miss;
use super::record::{Tokens, UsageRecord};
use crate::price::PicoUsd;

/// How many buckets a window is divided into.
pub const BUCKETS: i64 = 60;

/// The sums that metrics are read off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Cost of all priced records.
    pub cost: PicoUsd,
    /// Dollars paid again for what the cache would have given.
    pub waste: PicoUsd,
    /// The part of `waste` that a firing `miss-run` alert has spoken for.
    pub waste_told_by_run: PicoUsd,
    /// The part of `waste` that a firing `cache-waste` alert, but no `miss-run`, has spoken for.
    pub waste_told_by_window: PicoUsd,
    /// The part of `waste` that is no chance: the cause is evident from a single request.
    pub evident_waste: PicoUsd,
    /// What caching has saved, less what it cost.
    pub cache_gain: PicoUsd,
    /// Responses with such waste.
    pub affected: i64,
    /// Tokens of that waste.
    pub missed: i64,
    /// Tokens that were not read from the cache, whatever the cause.
    pub unread: i64,
    /// Input, output and cache writes.
    pub fresh: i64,
    /// Whole prompts.
    pub prompt: i64,
    /// Output.
    pub output: i64,
    /// Responses.
    pub requests: i64,
    /// Responses without a price: `cost` is a lower bound if there are any.
    pub unpriced: i64,
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
    /// Error answers, which are no responses.
    pub errors: i64,
}

/// What buckets hold: sums that can be added to and taken from each other.
pub trait Summed: Copy + Default {
    /// Adds other sums to these.
    fn add(&mut self, other: &Self);

    /// Takes other sums from these.
    fn subtract(&mut self, other: &Self);
}

/// The same for every sum. Written out, because it is done for each response several times. Where nothing was missed, all that is
/// about waste is zero.
macro_rules! each_sum {
    ($to:expr, $from:expr, $change:tt) => {{
        $to.cost.0 $change $from.cost.0;
        $to.cache_gain.0 $change $from.cache_gain.0;
        $to.unread $change $from.unread;
        $to.fresh $change $from.fresh;
        $to.prompt $change $from.prompt;
        $to.output $change $from.output;
        $to.requests $change $from.requests;
        $to.unpriced $change $from.unpriced;
        $to.large $change $from.large;
        $to.cached $change $from.cached;
        $to.eligible $change $from.eligible;
        $to.eligible_prompt $change $from.eligible_prompt;
        $to.eligible_read $change $from.eligible_read;
        $to.errors $change $from.errors;
        if $from.affected != 0 {
            $to.waste.0 $change $from.waste.0;
            $to.waste_told_by_run.0 $change $from.waste_told_by_run.0;
            $to.waste_told_by_window.0 $change $from.waste_told_by_window.0;
            $to.evident_waste.0 $change $from.evident_waste.0;
            $to.affected $change $from.affected;
            $to.missed $change $from.missed;
        }
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
        each_sum!(self, other, +=);
    }

    #[inline]
    fn subtract(&mut self, other: &Self) {
        each_sum!(self, other, -=);
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

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Bucket<S> {
    index: i64,
    sums: S,
}

/// One window. At a moment it covers the bucket that holds the moment and the 59 before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Window<S = Sums> {
    bucket_secs: i64,
    /// Whole buckets kept beyond the window, for looking back.
    kept: i64,
    /// Buckets that saw a record, oldest first: those kept beyond the window, then the `live` ones in it.
    buckets: VecDeque<Bucket<S>>,
    live: usize,
    total: S,
    newest: i64,
    /// The second at which a newer bucket begins.
    until: i64,
    /// Worked out again by whoever looks back next.
    #[serde(skip)]
    past: Past<S>,
}

/// A window as it stood earlier, with what has come in since. It is moved on with each look, so that a look costs what came and
/// left since the last one.
#[derive(Debug, Clone)]
struct Past<S> {
    newest: i64,
    /// Which buckets it covers.
    begin: usize,
    end: usize,
    total: S,
}

impl<S: Default> Default for Past<S> {
    fn default() -> Self {
        Self {
            newest: i64::MIN,
            begin: 0,
            end: 0,
            total: S::default(),
        }
    }
}

impl<S: Summed> Past<S> {
    /// It covers a bucket that has grown by this.
    fn grow(&mut self, at: usize, sums: &S) {
        if (self.begin..self.end).contains(&at) {
            self.total.add(sums);
        }
    }

    /// A bucket has come to be in front of others.
    fn insert(&mut self, index: i64, sums: &S) {
        if index > self.newest {
            return;
        }
        self.end += 1;
        if index > self.newest - BUCKETS {
            self.total.add(sums);
        } else {
            self.begin += 1;
        }
    }

    /// The oldest bucket is forgotten.
    fn forget(&mut self, sums: &S) {
        if self.begin > 0 {
            self.begin -= 1;
        } else if self.end > 0 {
            self.total.subtract(sums);
        }
        self.end = self.end.saturating_sub(1);
    }
}

impl<S: Summed> Window<S> {
    /// An empty window of `secs` seconds, a multiple of sixty, that can look back `lookback_secs` further.
    pub fn new(secs: i64, lookback_secs: i64) -> Self {
        let bucket_secs = (secs / BUCKETS).max(1);
        Self {
            bucket_secs,
            kept: (lookback_secs + bucket_secs - 1) / bucket_secs,
            buckets: VecDeque::new(),
            live: 0,
            total: S::default(),
            newest: i64::MIN,
            until: i64::MIN,
            past: Past::default(),
        }
    }

    /// Length in seconds.
    pub fn secs(&self) -> i64 {
        self.bucket_secs * BUCKETS
    }

    /// Moves the window to the bucket that holds this second. It never moves back.
    #[inline]
    pub fn advance(&mut self, second: i64) {
        if second >= self.until {
            self.move_to(second);
        }
    }

    fn move_to(&mut self, second: i64) {
        if second < self.until.saturating_add(self.bucket_secs) {
            // Nearly always the next one, and nothing to divide.
            self.newest += 1;
            self.until += self.bucket_secs;
        } else {
            self.newest = second.div_euclid(self.bucket_secs);
            self.until = (self.newest + 1) * self.bucket_secs;
        }
        let oldest = self.oldest();
        while self.live > 0 {
            let bucket = &self.buckets[self.buckets.len() - self.live];
            if bucket.index >= oldest {
                break;
            }
            self.total.subtract(&bucket.sums);
            self.live -= 1;
        }
        while let Some(bucket) = self.buckets.front()
            && bucket.index < oldest - self.kept
        {
            self.past.forget(&bucket.sums);
            self.buckets.pop_front();
        }
    }

    fn oldest(&self) -> i64 {
        self.newest - (BUCKETS - 1)
    }

    /// Adds to the bucket of this second. False if the window does not hold it any more; the look-back may still take it.
    /// A second ahead of the window moves the window.
    pub fn add(&mut self, second: i64, sums: &S) -> bool {
        self.advance(second);
        let index = if second >= self.until - self.bucket_secs {
            self.newest
        } else {
            second.div_euclid(self.bucket_secs)
        };
        let in_window = index >= self.oldest();
        if in_window {
            self.total.add(sums);
        } else if index < self.oldest() - self.kept {
            return false;
        }
        // Nearly all come in order.
        let at = match self.buckets.back() {
            Some(last) if last.index == index => self.buckets.len() - 1,
            Some(last) if last.index < index => self.buckets.len(),
            _ => self.buckets.partition_point(|bucket| bucket.index < index),
        };
        match self.buckets.get_mut(at) {
            Some(bucket) if bucket.index == index => {
                bucket.sums.add(sums);
                self.past.grow(at, sums);
            }
            later => {
                let bucket = Bucket { index, sums: *sums };
                match later {
                    Some(_) => self.buckets.insert(at, bucket),
                    None => self.buckets.push_back(bucket),
                }
                self.live += usize::from(in_window);
                self.past.insert(index, sums);
            }
        }
        in_window
    }

    /// Takes in all that another window of the same length holds.
    pub fn absorb(&mut self, other: &Self) {
        for bucket in &other.buckets {
            self.add(bucket.index * self.bucket_secs, &bucket.sums);
        }
        self.advance(other.newest.saturating_mul(self.bucket_secs));
    }

    /// Moves all that it holds in time, to the nearest bucket: the clock that its times are of was wrong by so many seconds.
    pub fn shift(&mut self, secs: i64) {
        let by = (secs + self.bucket_secs / 2).div_euclid(self.bucket_secs);
        for bucket in &mut self.buckets {
            bucket.index += by;
        }
        self.newest = self.newest.saturating_add(by);
        self.until = self.until.saturating_add(by * self.bucket_secs);
        self.past.newest = self.past.newest.saturating_add(by);
    }

    /// The sums over the window.
    pub fn total(&self) -> &S {
        &self.total
    }

    /// Looks at the window as it stood at an earlier second.
    pub fn look_back(&mut self, second: i64) {
        let newest = second.div_euclid(self.bucket_secs);
        let past = &mut self.past;
        if newest < past.newest {
            *past = Past::default();
        }
        past.newest = newest;
        let covers = |bucket: &Bucket<S>| bucket.index > newest - BUCKETS;
        while let Some(bucket) = self.buckets.get(past.end)
            && bucket.index <= newest
        {
            past.total.add(&bucket.sums);
            past.end += 1;
        }
        while past.begin < past.end
            && let Some(bucket) = self.buckets.get(past.begin)
            && !covers(bucket)
        {
            past.total.subtract(&bucket.sums);
            past.begin += 1;
        }
    }

    /// The sums over the window as it stood where somebody [looked back](Self::look_back) to, with what has come in since. Exact as
    /// far as it can look back.
    pub fn past(&self) -> &S {
        &self.past.total
    }

    /// Nothing in the window.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The sums over the part of the window that begins with the bucket of this second.
    pub fn total_since(&self, second: i64) -> S {
        let oldest = second.div_euclid(self.bucket_secs);
        let mut total = S::default();
        for bucket in self.in_window().filter(|bucket| bucket.index >= oldest) {
            total.add(&bucket.sums);
        }
        total
    }

    fn in_window(&self) -> impl Iterator<Item = &Bucket<S>> {
        self.buckets.iter().skip(self.buckets.len() - self.live)
    }

    /// The first second, from `from` on, of the oldest bucket in the window for which `pick` holds.
    pub fn first_second(&self, from: i64, pick: impl Fn(&S) -> bool) -> Option<i64> {
        let from = from.div_euclid(self.bucket_secs);
        let mut live = self.in_window().filter(|bucket| bucket.index >= from);
        live.find(|bucket| pick(&bucket.sums))
            .map(|bucket| bucket.index * self.bucket_secs)
    }

    /// What will be left of one of its sums each time that a bucket leaves it, if nothing comes: the seconds, with the sum.
    pub fn leaving(&self, pick: impl Fn(&S) -> i128) -> impl Iterator<Item = (i64, i128)> {
        let mut left = pick(&self.total);
        self.in_window().map(move |bucket| {
            left -= pick(&bucket.sums);
            ((bucket.index + BUCKETS) * self.bucket_secs, left)
        })
    }

    /// The second at which the newest bucket leaves the window, which is empty from then on.
    pub fn last_expiry(&self) -> Option<i64> {
        let newest = self.buckets.back()?;
        (self.live > 0).then(|| (newest.index + BUCKETS) * self.bucket_secs)
    }

    /// The second at which the oldest bucket leaves the window.
    pub fn next_expiry(&self) -> Option<i64> {
        let oldest = self.buckets.get(self.buckets.len() - self.live)?;
        (self.live > 0).then(|| (oldest.index + BUCKETS) * self.bucket_secs)
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
        let mut window = Window::new(300, 0);
        window.add(0, &requests(1));
        window.add(7, &requests(2));
        assert_eq!(window.next_expiry(), Some(300));
        window.advance(299);
        assert_eq!(window.total().requests, 3);
        window.advance(300);
        assert_eq!(window.total().requests, 2);
        assert_eq!(window.next_expiry(), Some(305));
        window.advance(305);
        assert!(window.is_empty());
    }

    #[test]
    fn what_many_windows_held_one_holds() {
        let (mut whole, mut other) = (Window::new(300, 0), Window::new(300, 0));
        let mut parts = [Window::new(300, 0), Window::new(300, 0)];
        for second in 0..900 {
            let sums = requests(second % 7);
            whole.add(second, &sums);
            parts[usize::try_from(second % 2).unwrap_or(0)].add(second, &sums);
        }
        for part in &parts {
            other.absorb(part);
        }
        assert_eq!(whole.total(), other.total());
        whole.advance(1000);
        other.advance(1000);
        assert_eq!(whole.total(), other.total());
    }

    #[test]
    fn late_records_land_in_their_own_bucket_or_nowhere() {
        let mut window = Window::new(60, 0);
        window.add(100, &requests(1));
        assert!(window.add(41, &requests(10)));
        assert!(!window.add(40, &requests(100)));
        assert_eq!(window.total().requests, 11);
        window.advance(101);
        assert_eq!(window.total().requests, 1);
    }

    #[test]
    fn the_past_can_be_looked_at_with_what_came_in_since() {
        let mut window = Window::new(60, 300);
        window.add(59, &requests(1));
        window.advance(200);
        window.add(30, &requests(5));
        window.look_back(59);
        assert_eq!(window.past().requests, 6);
        assert_eq!(window.total().requests, 0);
        window.add(31, &requests(7));
        assert_eq!(window.past().requests, 13);
        window.advance(600);
        assert_eq!(window.past().requests, 0);
    }

    #[test]
    fn what_will_be_left_of_a_window_is_known_before() {
        let mut window = Window::new(300, 0);
        for (second, n) in [(0, 1), (10, 2), (12, 4), (299, 8)] {
            window.add(second, &requests(n));
        }
        let left = window.leaving(|sums| sums.requests.into());
        assert_eq!(left.collect::<Vec<_>>(), [(300, 14), (310, 8), (595, 0)]);
    }

    proptest::proptest! {
        #[test]
        fn the_past_is_what_its_buckets_hold(
            steps in proptest::collection::vec((0_i64..1_500, 1_i64..9, 0_u8..8), 1..120),
        ) {
            let mut window = Window::new(120, 300);
            let mut looked = None;
            for (second, n, what) in steps {
                match what {
                    // Most look a little further each time, as those do who sample minutes.
                    0 | 1 => {
                        looked = Some(second);
                        window.look_back(second);
                    }
                    2 => {
                        looked = looked.map(|looked| looked + second % 60);
                        window.look_back(looked.unwrap_or(0));
                        looked = looked.or(Some(0));
                    }
                    3 => window.advance(second),
                    4 if n == 1 => {
                        window.shift(120);
                        looked = looked.map(|looked| looked + 120);
                    }
                    _ => {
                        window.add(second, &requests(n));
                    }
                }
                if let Some(looked) = looked {
                    let newest = looked / 2;
                    let held = window.buckets.iter().filter(|b| b.index > newest - BUCKETS && b.index <= newest);
                    let sum: i64 = held.map(|b| b.sums.requests).sum();
                    proptest::prop_assert_eq!(window.past().requests, sum);
                }
            }
        }
    }
}
