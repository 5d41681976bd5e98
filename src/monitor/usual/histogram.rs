//! How often which sizes came: a histogram of whole numbers whose bins are 2 % wide.
//!
//! Knows no minute and no day. Adding is constant work, and what was added can be taken off again.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{Amount, UNIT};

/// Lower bounds of the bins: each is at least 2 % above the one before it (γ = 1.02), up to 10²⁷.
static BOUNDS: LazyLock<Vec<Amount>> = LazyLock::new(|| {
    let mut bounds = vec![0];
    let mut bound: Amount = 1;
    while bound < UNIT * 1_000_000_000_000_000 {
        bounds.push(bound);
        bound = (bound * 102 / 100).max(bound + 1);
    }
    bounds
});

/// Leading bits of a value by which it is looked for: numbers that have these in common share few bins.
const LEADING_BITS: u32 = 6;

/// For each length of a number and its leading bits the first bin that one of them may fall into.
static FIRST_BINS: LazyLock<Vec<u16>> = LazyLock::new(|| {
    let lengths =
        (0..=Amount::BITS).flat_map(|length| (0..1 << LEADING_BITS).map(move |top| (length, top)));
    let least = |(length, top): (u32, Amount)| match length.checked_sub(LEADING_BITS) {
        Some(rest) => top
            .checked_shl(rest)
            .filter(|least| *least >= 0)
            .unwrap_or(Amount::MAX),
        None => top >> (LEADING_BITS - length),
    };
    lengths.map(|place| narrow(search(least(place)))).collect()
});

/// The bin of a value, found by halving.
fn search(value: Amount) -> usize {
    BOUNDS
        .partition_point(|bound| *bound <= value)
        .saturating_sub(1)
}

/// The bin of a value, which is not below zero.
pub(super) fn bin_of(value: Amount) -> u16 {
    let length = Amount::BITS - value.leading_zeros();
    let top = match length.checked_sub(LEADING_BITS) {
        Some(rest) => value >> rest,
        None => value << (LEADING_BITS - length),
    };
    let place = (length << LEADING_BITS) as usize + usize::try_from(top).unwrap_or(0);
    let first = FIRST_BINS.get(place).copied();
    let first = first.unwrap_or_else(|| narrow(search(value)));
    let above = BOUNDS.iter().skip(usize::from(first) + 1);
    let others = above.take_while(|bound| **bound <= value).count();
    first + narrow(others)
}

/// There are far fewer bins.
fn narrow(bin: usize) -> u16 {
    u16::try_from(bin).unwrap_or(u16::MAX)
}

/// The value a bin stands for: its lower bound, which is at most 2 % below any sample in it.
pub(super) fn value_of(bin: u16) -> Amount {
    BOUNDS[usize::from(bin).min(BOUNDS.len() - 1)]
}

/// How many samples fell into which bins, by bin; those without any are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Histogram(Vec<(u16, u32)>);

impl Histogram {
    pub(super) fn add(&mut self, bin: u16) {
        match self.0.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => self.0.insert(at, (bin, 1)),
        }
    }

    /// Keeps the largest sample alone.
    pub(super) fn rise_to(&mut self, sample: Amount) {
        let is_below = |(bin, _): &(u16, u32)| sample < value_of(*bin);
        if !self.0.last().is_some_and(is_below) {
            self.0.clear();
            self.0.push((bin_of(sample.max(0)), 1));
        }
    }

    /// Takes off what another one has, which is all in this one.
    pub(super) fn subtract(&mut self, other: &Self) {
        let mut others = other.0.iter().peekable();
        self.0.retain_mut(|(bin, n)| {
            while let Some((_, less)) = others.next_if(|(other, _)| other <= bin) {
                *n -= less;
            }
            *n > 0
        });
    }

    /// The largest sample.
    pub(super) fn largest(&self) -> Option<Amount> {
        self.0.last().map(|(bin, _)| value_of(*bin))
    }

    /// The sample that so many are not above, of as many as there are.
    pub(super) fn of_rank(&self, rank: u64, samples: u64) -> Amount {
        let rank = rank.max(1);
        match samples.checked_sub(rank) {
            None => 0,
            // From the nearer end: what is busy lies close to the largest.
            Some(above) if above < rank => behind(self.0.iter().rev(), above),
            Some(_) => behind(self.0.iter(), rank - 1),
        }
    }

    /// The bins that have samples, and how many, from the smallest on.
    #[cfg(test)]
    pub(super) fn each(&self) -> impl Iterator<Item = &(u16, u32)> {
        self.0.iter()
    }

    /// How many there are.
    pub(super) fn samples(&self) -> u64 {
        self.0.iter().map(|(_, n)| u64::from(*n)).sum()
    }
}

/// The sample of all of these that comes after so many larger ones.
pub(super) fn beyond<'a>(all: impl Iterator<Item = &'a Histogram>, others: u64) -> Amount {
    let mut bins: Vec<(u16, u32)> = all.flat_map(|one| &one.0).copied().collect();
    bins.sort_unstable();
    behind(bins.iter().rev(), others)
}

/// The sample that comes after so many.
fn behind<'a>(bins: impl Iterator<Item = &'a (u16, u32)>, mut others: u64) -> Amount {
    for (bin, n) in bins {
        match others.checked_sub(u64::from(*n)) {
            Some(left) => others = left,
            None => return value_of(*bin),
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bin_is_at_most_two_percent_wide() {
        for value in [
            60,
            1_000,
            123_456_789,
            UNIT,
            17 * UNIT + 5,
            UNIT * 9_999_999,
        ] {
            let low = value_of(bin_of(value));
            assert!(
                low <= value && value * 100 <= low * 102 + 100,
                "{value} fell to {low}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_bin_is_found_where_halving_finds_it(value in 0..=Amount::MAX, shift in 0_u32..127, near in 0_usize..2_000) {
            for value in [value, value >> shift, BOUNDS[near], BOUNDS[near + 1] - 1] {
                prop_assert_eq!(usize::from(bin_of(value)), search(value));
            }
        }

        #[test]
        fn a_rank_is_that_of_the_sorted_samples(
            mut samples in prop::collection::vec(0_i128..3_000, 1..80),
        ) {
            let mut histogram = Histogram::default();
            for sample in &samples {
                histogram.add(bin_of(*sample));
            }
            samples.sort_unstable();
            for (rank, sample) in (1..).zip(&samples) {
                prop_assert_eq!(histogram.of_rank(rank, histogram.samples()), value_of(bin_of(*sample)));
            }
            prop_assert_eq!(histogram.of_rank(1000, histogram.samples()), 0);
            let largest = samples.last().map(|sample| value_of(bin_of(*sample)));
            prop_assert_eq!(histogram.largest(), largest);
        }
    }
}
