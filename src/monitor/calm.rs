//! How much may come before a key at rest has to be asked again whether its rules stay quiet.
//!
//! Holds for plain responses: priced, in order, and without a miss that could have been avoided. Sums that grow by them are all
//! that it counts off; means have their own room, and whatever else may change has the key looked at.

use super::window::Sums;

/// Room below the limits of all rules, sum by sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slack {
    pub(super) cost: i128,
    pub(super) fresh: i128,
    pub(super) prompt: i128,
    pub(super) output: i128,
    pub(super) requests: i128,
}

impl Slack {
    /// No plain response changes anything, however large.
    pub(super) const ENDLESS: Self = Self {
        cost: i128::MAX,
        fresh: i128::MAX,
        prompt: i128::MAX,
        output: i128::MAX,
        requests: i128::MAX,
    };

    /// What is within both.
    pub(super) fn min(self, other: Self) -> Self {
        Self {
            cost: self.cost.min(other.cost),
            fresh: self.fresh.min(other.fresh),
            prompt: self.prompt.min(other.prompt),
            output: self.output.min(other.output),
            requests: self.requests.min(other.requests),
        }
    }

    /// Counts a response off. False if there was no room for it.
    #[inline]
    fn take(&mut self, sums: &Sums) -> bool {
        self.cost -= sums.cost.0;
        self.fresh -= i128::from(sums.fresh);
        self.prompt -= i128::from(sums.prompt);
        self.output -= i128::from(sums.output);
        self.requests -= i128::from(sums.requests);
        // None of them is below zero.
        self.cost | self.fresh | self.prompt | self.output | self.requests >= 0
    }
}

/// To work out how much may come costs as much as to ask so many times. It pays where more come between two looks.
const WORTH_IT: u8 = 4;

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Calm {
    /// All was quiet each time that somebody asked since the last look.
    Asked(u8),
    /// All stays quiet until so much has come.
    Within(Slack),
}

impl Default for Calm {
    fn default() -> Self {
        Self::Asked(0)
    }
}

impl Calm {
    /// All is quiet still with a plain response that adds this.
    #[inline]
    pub(super) fn takes(&mut self, sums: &Sums) -> bool {
        let Self::Within(slack) = self else {
            return false;
        };
        let is_within = slack.take(sums);
        if !is_within {
            *self = Self::default();
        }
        is_within
    }

    /// Somebody has asked, and all was quiet. `slack` works out how much may come; none if that cannot be told.
    pub(super) fn note_quiet(&mut self, slack: impl FnOnce() -> Option<Slack>) {
        *self = match *self {
            Self::Asked(times) if times < WORTH_IT => Self::Asked(times + 1),
            Self::Asked(_) => slack().map_or_else(Self::default, Self::Within),
            within @ Self::Within(_) => within,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::PicoUsd;

    #[test]
    fn what_comes_is_counted_off_until_there_is_no_room() {
        let sums = Sums {
            cost: PicoUsd(40),
            requests: 1,
            ..Sums::default()
        };
        let slack = || {
            Some(Slack {
                cost: 100,
                ..Slack::ENDLESS
            })
        };
        let mut calm = Calm::default();
        for _ in 0..=WORTH_IT {
            assert!(!calm.takes(&sums));
            calm.note_quiet(slack);
        }
        assert!(calm.takes(&sums) && calm.takes(&sums) && !calm.takes(&sums));
        assert!(!calm.takes(&Sums::default()));
        for _ in 0..2 * WORTH_IT {
            calm.note_quiet(|| None);
            assert!(!calm.takes(&sums));
        }
    }
}
