//! Entries of one file put in order of time, as far as they are not more than ten minutes late.
//!
//! Knows times and an order of coming, nothing else.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// How far entries of one file may be out of order.
pub(super) const REORDER_MS: i64 = 600_000;

const REORDER_ENTRIES: usize = 65_536;

/// An entry that came after a later one.
struct Late<T> {
    time: i64,
    order: u64,
    item: T,
}

impl<T> PartialEq for Late<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.time, self.order) == (other.time, other.order)
    }
}

impl<T> Eq for Late<T> {}

impl<T> PartialOrd for Late<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Late<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.order).cmp(&(other.time, other.order))
    }
}

/// The reorder buffer of a file. Which entries are certain depends on the entries only, not on how the file was read.
pub(super) struct Reorder<T> {
    /// Those that came in order, which nearly all do.
    in_order: VecDeque<(i64, u64, T)>,
    late: BinaryHeap<Reverse<Late<T>>>,
    /// Entries whose turn is certain, in order.
    ready: VecDeque<(i64, T)>,
    read: u64,
    newest: i64,
    /// The time given to an item without one: that of the item before it.
    last: i64,
}

impl<T> Reorder<T> {
    pub(super) fn new() -> Self {
        Self {
            in_order: VecDeque::new(),
            late: BinaryHeap::new(),
            ready: VecDeque::new(),
            read: 0,
            newest: i64::MIN,
            last: i64::MIN,
        }
    }

    /// Takes in an entry, and moves those whose turn is certain now.
    pub(super) fn push(&mut self, time: Option<i64>, item: T) {
        self.last = time.unwrap_or(self.last);
        self.newest = self.newest.max(self.last);
        let order = self.read;
        self.read += 1;
        let time = self.last;
        if self.in_order.back().is_none_or(|(last, ..)| *last <= time) {
            self.in_order.push_back((time, order, item));
        } else {
            self.late.push(Reverse(Late { time, order, item }));
        }
        while self.is_certain() {
            self.settle_one();
        }
    }

    /// Nothing more will come: all are certain.
    pub(super) fn end(&mut self) {
        while !self.in_order.is_empty() || !self.late.is_empty() {
            self.settle_one();
        }
    }

    fn earliest_is_late(&self) -> bool {
        if self.late.is_empty() {
            return false;
        }
        match (self.in_order.front(), self.late.peek()) {
            (Some((time, order, _)), Some(Reverse(late))) => {
                (late.time, late.order) < (*time, *order)
            }
            (None, Some(_)) => true,
            _ => false,
        }
    }

    /// Whether the earliest entry may be taken: nothing earlier can come any more.
    fn is_certain(&self) -> bool {
        let n = self.in_order.len() + self.late.len();
        let is_old = |time: i64| self.newest.saturating_sub(time) > REORDER_MS;
        n >= REORDER_ENTRIES
            || self
                .in_order
                .front()
                .is_some_and(|(time, ..)| is_old(*time))
            || self.late.peek().is_some_and(|late| is_old(late.0.time))
    }

    fn settle_one(&mut self) {
        let next = if self.earliest_is_late() {
            self.late.pop().map(|Reverse(late)| (late.time, late.item))
        } else {
            self.in_order
                .pop_front()
                .map(|(time, _, item)| (time, item))
        };
        self.ready.extend(next);
    }

    /// The time of the first entry that is certain.
    pub(super) fn first(&self) -> Option<i64> {
        self.ready.front().map(|(time, _)| *time)
    }

    /// Takes it.
    pub(super) fn take_first(&mut self) -> Option<(i64, T)> {
        self.ready.pop_front()
    }
}
