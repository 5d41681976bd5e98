//! How often the cache misses by chance, and whether what is taken for one conversation is one.
//!
//! Counts outcomes. Knows nothing of requests, tokens or why a miss was one.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::monitor::record::Time;
use crate::monitor::window::Windows;

/// Outcomes remembered of a stream without conversation ids, how many of them it takes to judge it, and how many hundredths of
/// them must be hits. Ten users interleaved, each pausing over five minutes now and then, hit 92 times in a hundred and would
/// pass for one conversation for hours a day at 95 of the last 20 to 200; at 97 of at least 50 they hardly ever do.
pub(super) const REMEMBERED: u32 = 200;
const MIN_REMEMBERED: u32 = 50;
const ONE_CONVERSATION_PERCENT: u32 = 97;

/// The last outcomes of a stream, newest bit first.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct History {
    bits: [u64; 4],
    pub(super) len: u32,
}

impl History {
    pub(super) fn push(&mut self, hit: bool) {
        let mut carry = u64::from(hit);
        for word in &mut self.bits {
            let out = *word >> 63;
            *word = (*word << 1) | carry;
            carry = out;
        }
        self.bits[3] &= (1 << (REMEMBERED - 192)) - 1;
        self.len = (self.len + 1).min(REMEMBERED);
    }

    /// More than one in a hundred was not served.
    pub(super) fn misses_often(&self) -> bool {
        let hits: u32 = self.bits.iter().map(|word| word.count_ones()).sum();
        (self.len - hits) * 100 > self.len
    }

    /// One prompt, not many interleaved: nearly all of its requests were served.
    pub(super) fn is_one_conversation(&self) -> bool {
        let hits: u32 = self.bits.iter().map(|word| word.count_ones()).sum();
        self.len >= MIN_REMEMBERED && hits * 100 >= self.len * ONE_CONVERSATION_PERCENT
    }
}

/// How often the cache misses by chance: judged and affected requests of seven days, in blocks of six hours, outside runs
/// that an alert has spoken of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Chance {
    blocks: VecDeque<(i64, u64, u64)>,
    last_hour: Windows<i64>,
    /// What the blocks came to when somebody asked last.
    #[serde(skip)]
    summed: Option<Summed>,
}

/// The sums of all blocks but those up to one.
#[derive(Debug, Clone, Copy)]
struct Summed {
    oldest: i64,
    judged: u64,
    affected: u64,
}

const CHANCE_BLOCK_SECS: i64 = 6 * 3600;
const CHANCE_BLOCKS: i64 = 28;

impl Chance {
    pub(super) fn new() -> Self {
        Self {
            blocks: VecDeque::new(),
            last_hour: Windows::new([3600], 0),
            summed: None,
        }
    }

    /// A large prompt has come, judged or not.
    pub(super) fn note_request(&mut self, at: Time) {
        self.last_hour.add(at.secs(), &1);
    }

    /// How often requests miss by chance, as seen up to now.
    pub(super) fn odds(&mut self, now: Time) -> Odds {
        self.last_hour.advance(now.secs());
        let oldest = now.secs().div_euclid(CHANCE_BLOCK_SECS) - CHANCE_BLOCKS;
        let known = self.summed.filter(|summed| summed.oldest == oldest);
        let summed = known.unwrap_or_else(|| self.sum(oldest));
        self.summed = Some(summed);
        let Summed {
            judged, affected, ..
        } = summed;
        let last_hour = u64::try_from(self.last_hour.at(0).total()).unwrap_or(0);
        Odds {
            affected: affected + 1,
            judged: judged + 100,
            per_30_days: last_hour * 720,
        }
    }

    fn sum(&self, oldest: i64) -> Summed {
        let recent = self.blocks.iter().filter(|(block, ..)| *block > oldest);
        let (judged, affected) =
            recent.fold((0, 0), |(j, a), (_, judged, hit)| (j + judged, a + hit));
        Summed {
            oldest,
            judged,
            affected,
        }
    }

    /// The clock was wrong by so many seconds.
    pub(super) fn shift(&mut self, secs: i64) {
        self.last_hour.shift(secs);
    }

    pub(super) fn add(&mut self, at: Time, judged: u64, affected: u64) {
        let block = at.secs().div_euclid(CHANCE_BLOCK_SECS);
        if let Some(summed) = self.summed.as_mut().filter(|summed| block > summed.oldest) {
            summed.judged += judged;
            summed.affected += affected;
        }
        // Nearly all come in order.
        if let Some((_, j, a)) = self.blocks.back_mut().filter(|(index, ..)| *index == block) {
            *j += judged;
            *a += affected;
            return;
        }
        let position = self.blocks.partition_point(|(index, ..)| *index < block);
        match self.blocks.get_mut(position) {
            Some((index, j, a)) if *index == block => {
                *j += judged;
                *a += affected;
            }
            _ => self.blocks.insert(position, (block, judged, affected)),
        }
        let newest = self.blocks.back().map_or(block, |(index, ..)| *index);
        while self
            .blocks
            .front()
            .is_some_and(|(index, ..)| *index <= newest - CHANCE_BLOCKS)
        {
            self.blocks.pop_front();
        }
    }
}

/// How likely a run of misses is to be chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Odds {
    /// Affected requests, plus one.
    pub affected: u64,
    /// Judged requests, plus a hundred.
    pub judged: u64,
    /// Requests that thirty days at the pace of the last hour would bring.
    pub per_30_days: u64,
}

impl Odds {
    /// Share of requests that miss by themselves, at least one in a thousand, as a fraction.
    fn share(&self) -> (u128, u128) {
        let (a, j) = (u128::from(self.affected), u128::from(self.judged));
        if a * 1000 < j {
            (1, 1000)
        } else {
            (a.min(j), j)
        }
    }

    /// Whether so many affected requests of so many are within what chance shows now and then: the mean, four times its root,
    /// and two. At a share of 0.5 % and fifty requests, five are beyond it; chance shows that once in 150,000 windows.
    pub fn may_be_chance(&self, affected: i64, requests: i64) -> bool {
        const SCALE: u128 = 1_000_000;
        let (a, j) = self.share();
        let mean = u128::try_from(requests).unwrap_or(0) * a * SCALE / j.max(1);
        let bound = mean + 4 * (mean * SCALE).isqrt() + 2 * SCALE;
        u128::try_from(affected).unwrap_or(0) * SCALE <= bound
    }

    /// Parts of 10¹⁸ of a run of `length` that chance would show in thirty days, rounded up.
    pub fn expected_per_30_days(&self, length: u32) -> u128 {
        let (a, j) = self.share();
        let mut expected = u128::from(self.per_30_days.max(1)) * 1_000_000_000_000_000_000;
        for _ in 0..length {
            expected = (expected * a).div_ceil(j);
        }
        expected
    }

    /// The shortest run, from 2 to 10, that chance would show less than once in `days`.
    pub fn shortest_run(&self, days: u64) -> u32 {
        let less_than_once = |n: &u32| {
            self.expected_per_30_days(*n) * u128::from(days) < 30 * 1_000_000_000_000_000_000
        };
        (2..10).find(less_than_once).unwrap_or(10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The odds are those of what the last seven days add up to, however often somebody has asked.
        #[test]
        fn odds_are_those_of_seven_days(
            adds in prop::collection::vec((0_i64..40_000, 0_i64..90_000, 0_u64..4, any::<bool>()), 1..200),
        ) {
            let mut chance = Chance::new();
            let mut known: Vec<(i64, u64)> = Vec::new();
            let mut now = 1_000_000;
            for (pause, late, affected, asks) in adds {
                now += pause;
                let at = now - late;
                chance.add(Time::from_secs(at), 4, affected);
                known.push((at.div_euclid(CHANCE_BLOCK_SECS), affected));
                if asks {
                    let oldest = now.div_euclid(CHANCE_BLOCK_SECS) - CHANCE_BLOCKS;
                    let recent = || known.iter().filter(|(block, _)| *block > oldest);
                    let odds = chance.odds(Time::from_secs(now));
                    prop_assert_eq!(odds.judged, 100 + 4 * recent().count() as u64);
                    prop_assert_eq!(odds.affected, 1 + recent().map(|(_, affected)| affected).sum::<u64>());
                }
            }
        }
    }
}
