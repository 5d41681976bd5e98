//! What each response cost, kept so that alerts can be held against it afterwards.
//!
//! Plain money over time. Knows neither rules nor alerts.

use std::sync::Arc;

use crate::monitor::{Labels, Stamp, Time, Tokens, UsageRecord};
use crate::pipeline::Seen;
use crate::price::PicoUsd;

/// What a response cost.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) at: Time,
    /// All of it, in pico-dollars.
    cost: i64,
    /// What was paid again for prompt that had been cached.
    waste: i64,
    /// What reading that prompt from the cache would have cost.
    read: i64,
    pub(super) labels: Arc<Labels>,
}

impl Entry {
    pub(super) fn cost(&self) -> PicoUsd {
        PicoUsd(self.cost.into())
    }

    pub(super) fn waste(&self) -> PicoUsd {
        PicoUsd(self.waste.into())
    }

    /// What was billed for prompt that had been cached.
    pub(super) fn billed(&self) -> PicoUsd {
        PicoUsd(i128::from(self.waste) + i128::from(self.read))
    }
}

/// What all responses of a span cost, in order of time.
#[derive(Debug, Default)]
pub(super) struct Journal(Vec<Entry>);

fn pico(cost: PicoUsd) -> i64 {
    i64::try_from(cost.0).unwrap_or(i64::MAX)
}

impl Journal {
    /// Notes what was seen; `waste` is what was paid again, and for how many tokens.
    pub(super) fn note(&mut self, seen: &Seen, waste: (PicoUsd, u64)) {
        match seen {
            Seen::New(record) if !record.batch => {
                if let Stamp::At(at) = record.stamp {
                    self.0.push(Entry {
                        at,
                        cost: pico(record.cost.unwrap_or_default()),
                        waste: pico(waste.0),
                        read: pico(read_cost(record, waste.1)),
                        labels: Arc::clone(&record.labels),
                    });
                }
            }
            Seen::Grown(grown) if !grown.0.batch => {
                let growth = &grown.1;
                if let (Some(at), Some(cost)) = (growth.first, growth.cost) {
                    self.0.push(Entry {
                        at,
                        cost: pico(cost),
                        waste: 0,
                        read: 0,
                        labels: Arc::clone(&growth.labels),
                    });
                }
            }
            _ => {}
        }
    }

    /// Puts it in order of time: a few come late.
    pub(super) fn finish(&mut self) {
        // To sort takes half as much memory once more.
        if !self.0.is_sorted_by_key(|entry| entry.at) {
            self.0.sort_by_key(|entry| entry.at);
        }
    }

    /// The entries from one moment to another, both included, with their places in the journal.
    pub(super) fn between(&self, from: Time, to: Time) -> impl Iterator<Item = (usize, &Entry)> {
        let begin = self.0.partition_point(|entry| entry.at < from);
        let end = self.0.partition_point(|entry| entry.at <= to).max(begin);
        (begin..end).zip(&self.0[begin..end])
    }

    /// Its first and last moment.
    pub(super) fn span(&self) -> Option<(Time, Time)> {
        let first = self.0.first().map(|entry| entry.at);
        first.zip(self.end())
    }

    /// The last moment in it.
    pub(super) fn end(&self) -> Option<Time> {
        self.0.last().map(|entry| entry.at)
    }

    /// The entry at a place.
    pub(super) fn at(&self, place: usize) -> &Entry {
        &self.0[place]
    }
}

fn read_cost(record: &UsageRecord, tokens: u64) -> PicoUsd {
    let read = Tokens {
        cache_read: tokens,
        ..Tokens::default()
    };
    record
        .rates
        .map_or(PicoUsd::ZERO, |rates| rates.cost(&read))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A response at this time, and nothing else.
    pub(in crate::lab) fn record(at: Time) -> UsageRecord {
        UsageRecord {
            stamp: Stamp::At(at),
            ..UsageRecord::blank()
        }
    }
}
