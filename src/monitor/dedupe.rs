//! Which responses were counted already, and what a larger copy adds.
//!
//! A response stands in a log once for each content block, again in forked sessions, and with a growing output count. It is
//! counted once, and a larger copy adds the difference to the moment of the first.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::record::{Labels, ResponseId, Stamp, Time, Tokens, UsageRecord};
use crate::price::PicoUsd;

/// Responses older than this are forgotten where memory is bounded.
const MEMORY_MS: i64 = 7 * 24 * 3_600_000;

/// What is kept of each response: 48 bytes with its identity, because there may be half a million of them.
#[derive(Debug)]
struct Counted {
    /// `i64::MIN` if it had no time.
    first: Time,
    /// Output tokens, and in the top bit whether they are a placeholder.
    output: u64,
    /// Pico-dollars; `i64::MIN` if it has no price. A single response costs less than the nine million dollars that fit.
    cost: i64,
    labels: Arc<Labels>,
}

const UNDERSTATED: u64 = 1 << 63;

fn compact(cost: Option<PicoUsd>) -> i64 {
    cost.and_then(|cost| i64::try_from(cost.0).ok())
        .unwrap_or(i64::MIN)
}

/// What a copy adds to a response that was counted before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// When the response was first seen to happen; `None` if it had no time.
    pub first: Option<Time>,
    /// Whom it was counted for.
    pub labels: Arc<Labels>,
    /// More output tokens; all else is zero.
    pub tokens: Tokens,
    /// More cost; `None` if it has no price.
    pub cost: Option<PicoUsd>,
    /// The output count was a placeholder and no longer is.
    pub now_final: bool,
}

/// What to do with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// Count it.
    New,
    /// Count nothing.
    Copy,
    /// Count what it adds.
    Grown(Growth),
}

/// The responses counted so far.
#[derive(Debug, Default)]
pub struct Dedupe {
    counted: FxHashMap<ResponseId, Counted>,
    order: VecDeque<ResponseId>,
    /// At most so many are remembered, for seven days; `None` remembers all.
    max: Option<usize>,
}

impl Dedupe {
    /// Remembers at most `max` responses, or all of them.
    pub fn new(max: Option<usize>) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// Tells a new response from a copy, and remembers it.
    pub fn sight(&mut self, record: &UsageRecord) -> Sighting {
        let Some(id) = record.id else {
            return Sighting::New;
        };
        if let Some(counted) = self.counted.get_mut(&id) {
            return counted.grow(record);
        }
        let first = match record.stamp {
            Stamp::At(time) => time,
            Stamp::Undated | Stamp::Impossible => Time(i64::MIN),
        };
        let mark = if record.caveats.output_understated {
            UNDERSTATED
        } else {
            0
        };
        let entry = Counted {
            first,
            output: record.tokens.output | mark,
            cost: compact(record.cost),
            labels: Arc::clone(&record.labels),
        };
        self.counted.insert(id, entry);
        if let Some(max) = self.max {
            self.order.push_back(id);
            self.forget(max, first);
        }
        Sighting::New
    }

    fn forget(&mut self, max: usize, now: Time) {
        while let Some(oldest) = self.order.front() {
            let expired = self
                .counted
                .get(oldest)
                .is_none_or(|c| c.first.0 > i64::MIN && now.millis_since(c.first) > MEMORY_MS);
            if self.order.len() <= max && !(expired && now.0 > i64::MIN) {
                break;
            }
            self.counted.remove(oldest);
            self.order.pop_front();
        }
    }
}

impl Counted {
    fn grow(&mut self, record: &UsageRecord) -> Sighting {
        let was_understated = self.output & UNDERSTATED > 0;
        let before = self.output & !UNDERSTATED;
        let now_final = was_understated && !record.caveats.output_understated;
        let more = record.tokens.output.saturating_sub(before);
        if more == 0 && !now_final {
            return Sighting::Copy;
        }
        let mark = if was_understated && !now_final {
            UNDERSTATED
        } else {
            0
        };
        self.output = (before + more) | mark;
        let cost = match (compact(record.cost), self.cost) {
            (i64::MIN, _) | (_, i64::MIN) => None,
            (now, before) if more > 0 => Some(PicoUsd(i128::from(now) - i128::from(before))),
            _ => Some(PicoUsd::ZERO),
        };
        if more > 0 {
            self.cost = compact(record.cost);
        }
        Sighting::Grown(Growth {
            first: (self.first.0 > i64::MIN).then_some(self.first),
            labels: Arc::clone(&self.labels),
            tokens: Tokens {
                output: more,
                ..Tokens::default()
            },
            cost,
            now_final,
        })
    }
}
