//! Whether requests of another kind have come to a stream that names no conversations: a job with prompts of its own.
//!
//! Its long prompts look like ones that lost the cache. That its short ones come with them tells it: what loses the cache does not
//! become shorter. Counts; knows nothing of prompts.

use serde::{Deserialize, Serialize};

/// A whole, in fixed point.
const ONE: u32 = 1 << 16;

/// Of about so many of the last requests, and of so many before them, it is known how many were short and without the cache.
const LATELY: u32 = 16;
const USUALLY: u32 = 4096;

/// The part of requests that are too short to be judged and do not use the cache.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Others {
    lately: u32,
    usually: u32,
}

impl Others {
    /// One more request has come.
    pub(super) fn note(&mut self, is_short: bool) {
        let to = if is_short { ONE } else { 0 };
        for (share, of) in [(&mut self.lately, LATELY), (&mut self.usually, USUALLY)] {
            // Rounded up, so that it gets there.
            let step = to.abs_diff(*share).div_ceil(of);
            *share = if to > *share {
                *share + step
            } else {
                *share - step
            };
        }
    }

    /// Over a third of the last ones were such, and half as many again as usually: they are not of those that share a prompt in the cache.
    pub(super) const fn are_here(self) -> bool {
        self.lately > ONE / 3 && self.lately > self.usually + self.usually / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(requests: &[(usize, bool)]) -> Others {
        let mut others = Others::default();
        for (n, is_short) in requests {
            (0..*n).for_each(|_| others.note(*is_short));
        }
        others
    }

    #[test]
    fn short_requests_are_of_others_where_there_were_none() {
        assert!(!after(&[(500, false), (6, true)]).are_here());
        assert!(after(&[(500, false), (8, true)]).are_here());
        // They go as they came.
        assert!(!after(&[(500, false), (100, true), (20, false)]).are_here());
        // After some thousand they belong to it.
        assert!(after(&[(500, false), (4_000, true)]).are_here());
        assert!(!after(&[(500, false), (5_000, true)]).are_here());
        // Where half of them are, it takes more.
        let half: Vec<(usize, bool)> = [(1, true), (1, false)].repeat(8_000);
        let with = |n| after(&[&half[..], &[(n, true)]].concat()).are_here();
        assert!(!with(8) && with(24));
    }

    #[test]
    fn it_gets_from_one_end_to_the_other() {
        let all = after(&[(100_000, true)]);
        assert_eq!((all.lately, all.usually), (ONE, ONE));
        let none = after(&[(100_000, true), (100_000, false)]);
        assert_eq!((none.lately, none.usually), (0, 0));
    }
}
