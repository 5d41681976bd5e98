//! What responses were made of: how many came, of which models, how long prompts and outputs were, how much the cache gave. For what
//! an alert about spending says has changed.
//!
//! Knows the responses of one key over a day, or those of all keys that come and go. Whether a change is worth a word is for the sinks.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::alert::Share;
use super::metric::Metric;
use super::names::shares;
use super::record::{Time, UsageRecord};
use super::window::Sums;
use crate::price::PicoUsd;

/// Responses are added up in blocks of so many minutes.
const BLOCK_MINUTES: i64 = 10;

/// Those of a day are kept.
const BLOCKS: i64 = 24 * 60 / BLOCK_MINUTES;

/// With less than this nobody can say what was before.
const MIN_MINUTES: u64 = 30;
const MIN_REQUESTS: u64 = 30;

/// So many models are told apart in a block.
const MAX_MODELS: usize = 32;

/// What responses are made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Makeup {
    /// Minutes in which any came, of each key by itself; or those of the window that was looked at.
    pub minutes: u64,
    /// Responses.
    pub requests: u64,
    /// Tokens of their prompts, those from the cache included.
    pub prompt: u64,
    /// Tokens that they read from the cache.
    pub read: u64,
    /// Tokens of output.
    pub output: u64,
    /// What they cost, as far as they have a price.
    pub cost: PicoUsd,
    /// Models by share of the cost.
    pub models: Vec<Share>,
}

/// What has changed since an episode began, or is not as with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The day before it, or what is known of that; of all keys where a single one is too short-lived.
    pub before: Arc<Makeup>,
    /// The window that its value is of.
    pub now: Makeup,
}

/// What is told of it is what responses are made of.
pub(super) const fn is_of_makeup(metric: Metric) -> bool {
    metric.is_volume() || metric.is_mean()
}

impl Makeup {
    /// What a window holds, of which these models cost most.
    pub(super) fn of_window(sums: &Sums, secs: i64, models: Vec<Share>) -> Self {
        let whole = |n: i64| u64::try_from(n).unwrap_or(0);
        Self {
            minutes: whole(secs / 60).max(1),
            requests: whole(sums.requests),
            prompt: whole(sums.prompt),
            // What is not fresh is output or part of a prompt.
            read: whole(sums.prompt + sums.output - sums.fresh),
            output: whole(sums.output),
            cost: sums.cost,
            models,
        }
    }
}

/// The responses of ten minutes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Block {
    /// Which ten minutes.
    index: i64,
    /// All but the models.
    sum: Makeup,
    models: Vec<(Arc<str>, i128)>,
}

impl Block {
    fn add_cost(&mut self, model: &Arc<str>, cost: PicoUsd) {
        self.sum.cost += cost;
        let is_it = |known: &Arc<str>| Arc::ptr_eq(known, model) || known == model;
        if let Some((_, sum)) = self.models.iter_mut().find(|(known, _)| is_it(known)) {
            *sum += cost.0;
        } else if self.models.len() < MAX_MODELS {
            self.models.push((Arc::clone(model), cost.0));
        }
    }
}

/// The responses of a day.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Past {
    blocks: VecDeque<Block>,
    /// Those that come now.
    now: Block,
    /// The first moment after them.
    until: Time,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            blocks: VecDeque::new(),
            now: Block::default(),
            until: Time(i64::MIN),
        }
    }
}

impl Past {
    /// Adds a response, which may be the first of its key in its minute. What comes late counts as of now.
    #[inline]
    pub(super) fn add(&mut self, at: Time, is_new_minute: bool, record: &UsageRecord) {
        if at >= self.until {
            self.begin(at.minute().div_euclid(BLOCK_MINUTES));
        }
        let tokens = &record.tokens;
        let sum = &mut self.now.sum;
        sum.minutes += u64::from(is_new_minute);
        sum.requests += 1;
        sum.prompt += tokens.prompt();
        sum.read += tokens.cache_read;
        sum.output += tokens.output;
        let cost = record.cost.unwrap_or_default();
        self.now.add_cost(&record.labels.model, cost);
    }

    /// Adds what a copy has more than the response that was added.
    pub(super) fn grow(&mut self, first: Time, model: &Arc<str>, output: u64, cost: PicoUsd) {
        let index = first.minute().div_euclid(BLOCK_MINUTES);
        let mut blocks = self.blocks.iter_mut().chain([&mut self.now]).rev();
        if let Some(block) = blocks.find(|block| block.index <= index) {
            block.sum.output += output;
            block.add_cost(model, cost);
        }
    }

    #[cold]
    fn begin(&mut self, index: i64) {
        let over = Block {
            index,
            ..Block::default()
        };
        let over = std::mem::replace(&mut self.now, over);
        if over.sum.requests > 0 {
            self.blocks.push_back(over);
        }
        let is_old = |block: &Block| block.index <= index - BLOCKS;
        while self.blocks.front().is_some_and(is_old) {
            self.blocks.pop_front();
        }
        self.until = Time::from_secs((index + 1) * BLOCK_MINUTES * 60);
    }

    /// What was before a moment, if enough of it is known.
    pub(super) fn before(&self, moment: Time) -> Option<Makeup> {
        let end = moment.minute().div_euclid(BLOCK_MINUTES);
        let mut all = Makeup::default();
        let mut models: Vec<(Arc<str>, i128)> = Vec::new();
        let blocks = self.blocks.iter().chain([&self.now]);
        for block in blocks.take_while(|block| block.index < end) {
            all.minutes += block.sum.minutes;
            all.requests += block.sum.requests;
            all.prompt += block.sum.prompt;
            all.read += block.sum.read;
            all.output += block.sum.output;
            all.cost += block.sum.cost;
            for (model, cost) in &block.models {
                match models.iter_mut().find(|(known, _)| known == model) {
                    Some((_, sum)) => *sum += cost,
                    None => models.push((Arc::clone(model), *cost)),
                }
            }
        }
        all.models = shares(models);
        (all.minutes >= MIN_MINUTES && all.requests >= MIN_REQUESTS).then_some(all)
    }

    /// The clock was wrong by so many seconds.
    pub(super) fn shift(&mut self, secs: i64) {
        for block in self.blocks.iter_mut().chain([&mut self.now]) {
            block.index += secs.div_euclid(60 * BLOCK_MINUTES);
        }
        self.until = Time(self.until.0.saturating_add(secs * 1000));
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Labels, Tokens};
    use super::*;

    const MINUTE: i64 = 60;

    fn record(model: &str, cost: i128) -> UsageRecord {
        UsageRecord {
            labels: Arc::new(Labels {
                model: model.into(),
                ..Labels::default()
            }),
            tokens: Tokens {
                input: 100,
                cache_read: 900,
                output: 50,
                ..Tokens::default()
            },
            cost: Some(PicoUsd(cost)),
            ..UsageRecord::blank()
        }
    }

    fn past(minutes: impl Iterator<Item = i64>) -> Past {
        let (model, other) = (record("a", 300), record("b", 100));
        let mut past = Past::default();
        for minute in minutes {
            let at = Time::from_secs(minute * MINUTE);
            past.add(at, true, &model);
            past.add(at.plus_secs(7), false, &other);
        }
        past
    }

    #[test]
    fn what_was_before_ends_with_the_last_whole_block() {
        let past = past(0..100);
        let before = past.before(Time::from_secs(57 * MINUTE)).unwrap();
        assert_eq!((before.minutes, before.requests), (50, 100));
        assert_eq!((before.prompt, before.read), (100_000, 90_000));
        assert_eq!((before.output, before.cost), (5_000, PicoUsd(20_000)));
        assert_eq!(before.models, [("a".into(), 75), ("b".into(), 25)]);
    }

    #[test]
    fn no_more_than_a_day_is_known_and_no_less_than_half_an_hour_counts() {
        let day = past((0..3 * 24 * 60).step_by(2));
        let before = day.before(Time::from_secs(3 * 24 * 60 * MINUTE)).unwrap();
        assert_eq!(before.minutes, 24 * 60 / 2);
        let short = past(0..39);
        assert_eq!(
            short.before(Time::from_secs(39 * MINUTE)).unwrap().minutes,
            30
        );
        assert_eq!(short.before(Time::from_secs(29 * MINUTE)), None);
        assert_eq!(Past::default().before(Time::from_secs(0)), None);
    }

    #[test]
    fn what_a_copy_has_more_belongs_to_its_first() {
        let mut past = past(0..60);
        past.grow(
            Time::from_secs(5 * MINUTE),
            &"a".into(),
            1_000,
            PicoUsd(10_000),
        );
        let before = past.before(Time::from_secs(60 * MINUTE)).unwrap();
        assert_eq!((before.requests, before.output), (120, 7_000));
        assert_eq!(before.cost, PicoUsd(34_000));
    }

    #[test]
    fn it_moves_with_the_clock() {
        let mut past = past(0..60);
        past.shift(-3_600);
        assert!(past.before(Time::from_secs(0)).is_some());
    }

    #[test]
    fn what_a_window_reads_from_the_cache_is_what_is_not_fresh() {
        let sums = Sums {
            requests: 2,
            prompt: 1_000,
            fresh: 150,
            output: 50,
            ..Sums::default()
        };
        let now = Makeup::of_window(&sums, 600, Vec::new());
        assert_eq!((now.minutes, now.requests, now.read), (10, 2, 900));
    }
}
