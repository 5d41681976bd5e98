//! What tokens cost at prices that are known.
//!
//! Whole pico-dollars, rounded once. Which prices apply is for the table to say.

use serde::{Deserialize, Serialize};

use super::money::{PicoUsd, Ratio, RecordedCost, div_half_even};
use crate::monitor::Tokens;

/// Which kind of request a model was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Speed {
    /// The usual speed.
    #[default]
    Standard,
    /// Fast mode, at the model's own multiple.
    Fast,
}

/// The terms of a request that change its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Terms {
    /// Fast mode.
    pub speed: Speed,
    /// Sent through the batch API.
    pub batch: bool,
    /// Inference was kept in the US at the caller's wish.
    pub us_geo: bool,
}

/// Prices of one token kind each, in pico-dollars per token, and the exact factor on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Uncached prompt tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Writing to a five-minute cache entry.
    pub cache_write_5m: u64,
    /// Writing to a one-hour cache entry.
    pub cache_write_1h: u64,
    /// Reading from the cache.
    pub cache_read: u64,
    /// Product of all multipliers that apply.
    pub factor: Ratio,
}

impl Rates {
    /// What these tokens cost, web searches left out. Rounded once, half to even.
    pub fn cost(&self, tokens: &Tokens) -> PicoUsd {
        let kinds = [
            (tokens.input, self.input),
            (tokens.output, self.output),
            (tokens.cache_write_5m, self.cache_write_5m),
            (tokens.cache_write_1h, self.cache_write_1h),
            (tokens.cache_read, self.cache_read),
        ];
        self.scaled(
            kinds
                .iter()
                .map(|(n, price)| i128::from(*n) * i128::from(*price))
                .sum(),
        )
    }

    /// What a cache miss cost beyond reading the same tokens from the cache: those written anew at the price of writing,
    /// the rest at the price of input. Five-minute writes are taken first, so the figure is never too high. Never below zero.
    pub fn miss_cost(&self, missed: u64, tokens: &Tokens) -> PicoUsd {
        let written_5m = missed.min(tokens.cache_write_5m);
        let written_1h = (missed - written_5m).min(tokens.cache_write_1h);
        let plain = (missed - written_5m - written_1h).min(tokens.input);
        let excess = |n, price| instead(n, price, self.cache_read);
        let sum = excess(written_5m, self.cache_write_5m)
            + excess(written_1h, self.cache_write_1h)
            + excess(plain, self.input);
        self.scaled(sum.max(0))
    }

    /// What caching has saved on these tokens: reads at the price of input instead of their own, less what writing cost beyond
    /// input. Below zero if it cost more than it saved.
    pub fn cache_gain(&self, tokens: &Tokens) -> PicoUsd {
        let dearer = |n, price| instead(n, price, self.input);
        self.scaled(
            -dearer(tokens.cache_read, self.cache_read)
                - dearer(tokens.cache_write_5m, self.cache_write_5m)
                - dearer(tokens.cache_write_1h, self.cache_write_1h),
        )
    }

    /// What would have been saved if the five-minute writes had lived for an hour and so many of them had been read from the cache for
    /// that. Below zero if it had cost more.
    pub fn gain_of_hour_writes(&self, tokens: &Tokens, spared: u64) -> PicoUsd {
        let spared = spared.min(tokens.cache_write_5m);
        let written = tokens.cache_write_5m - spared;
        self.scaled(
            instead(spared, self.cache_write_5m, self.cache_read)
                + instead(written, self.cache_write_5m, self.cache_write_1h),
        )
    }

    /// What would have been saved if the one-hour writes had lived for five minutes and so many of the tokens that were read had been
    /// written anew for that. Below zero if it had cost more.
    pub fn gain_of_short_writes(&self, tokens: &Tokens, lost: u64) -> PicoUsd {
        let lost = lost.min(tokens.cache_read);
        self.scaled(
            instead(
                tokens.cache_write_1h,
                self.cache_write_1h,
                self.cache_write_5m,
            ) + instead(lost, self.cache_read, self.cache_write_5m),
        )
    }

    fn scaled(&self, pico: i128) -> PicoUsd {
        let product = pico * i128::from(self.factor.num);
        if self.factor.den == 1 {
            // Nothing to round, and no other step of pricing takes as long as a division of this size.
            return PicoUsd(product);
        }
        PicoUsd(div_half_even(product, i128::from(self.factor.den)))
    }
}

/// What so many tokens at the one price cost beyond the other; below zero if less.
fn instead(n: u64, price: u64, other: u64) -> i128 {
    i128::from(n) * (i128::from(price) - i128::from(other))
}

/// Why prices are above those that a model has for most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Premium {
    /// Fast mode.
    pub fast: bool,
    /// The prompt is so long that all of the request is dearer.
    pub long_prompt: bool,
}

/// What a response costs and at which prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// The whole cost, web searches included.
    pub cost: PicoUsd,
    /// The prices that applied.
    pub rates: Rates,
    /// Why they are above the usual ones, if they are.
    pub premium: Premium,
    /// A multiplier was asked for that the model does not have; standard rates were used.
    pub assumed_standard: bool,
}

impl Rates {
    /// How many of the cache writes must have been for an hour, so that the whole costs what the log says. `tokens` holds all of
    /// them as five-minute writes and `quoted` is what that costs. `None` if no number of them fits.
    pub fn one_hour_writes(
        &self,
        tokens: &Tokens,
        quoted: PicoUsd,
        recorded: RecordedCost,
    ) -> Option<u64> {
        let scale = |price: u64| i128::from(price) * i128::from(self.factor.num);
        let dearer = scale(self.cache_write_1h) - scale(self.cache_write_5m);
        let den = i128::from(self.factor.den);
        let missing = recorded.pico - quoted.0;
        if dearer <= 0 {
            return None;
        }
        // All of one kind is by far the most common, and exact where a coarse cost would allow several numbers.
        let all = i128::from(tokens.cache_write_5m);
        let fits = |n: i128| (missing - n * dearer / den).abs() <= recorded.step;
        if fits(0) {
            return Some(0);
        }
        if fits(all) {
            return Some(tokens.cache_write_5m);
        }
        let nearest = (missing * den + dearer / 2).div_euclid(dearer);
        let possible = (0..=all).contains(&nearest) && fits(nearest);
        possible.then(|| u64::try_from(nearest).unwrap_or(0))
    }
}
