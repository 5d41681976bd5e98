//! What responses would have cost if their cache writes had lived for an hour instead of five minutes, or the other way round.
//!
//! Claims no more than what is known of each conversation: where nobody can tell when a prompt was used before, the other time to live
//! is taken for the worse one. Knows nothing of rules.

use serde::{Deserialize, Serialize};

use super::conversation::{Conversation, LONG_TTL, SHORT_TTL};
use super::miss::{Cause, Miss};
use crate::monitor::record::{Time, Tokens, UsageRecord};
use crate::price::PicoUsd;

/// What is known of the request before, in the same conversation.
#[derive(Debug, Clone, Copy)]
pub(in crate::monitor) struct Before {
    gap_ms: i64,
    /// Tokens that it had in the cache.
    cached: u64,
    /// How long that lives.
    ttl_secs: i64,
    /// Nobody knows whether it was of the same conversation.
    is_nameless: bool,
}

impl Before {
    pub(super) fn of(record: &UsageRecord, at: Time, conversation: &Conversation) -> Self {
        Self {
            gap_ms: at.millis_since(conversation.last).max(0),
            cached: conversation.cached,
            ttl_secs: conversation.ttl_secs,
            is_nameless: !record.names_conversation(),
        }
    }

    /// A request goes on with what was in the cache: all but one in fifty of its tokens. Of those without a name only one that has as
    /// much there surely has the same.
    const fn goes_on(&self, tokens: &Tokens) -> bool {
        let used = tokens.cache_read + tokens.cache_write();
        let holds_it = used * 50 >= self.cached * 49;
        holds_it && (!self.is_nameless || self.cached * 50 >= used * 49)
    }
}

/// What the other time to live would have saved; below zero where it would have cost more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetimes {
    /// An hour for what was written for five minutes.
    pub hour: PicoUsd,
    /// Five minutes for what was written for an hour.
    pub minutes: PicoUsd,
}

impl Lifetimes {
    /// What one response adds, if it does.
    pub(in crate::monitor) fn of(
        record: &UsageRecord,
        miss: Option<&Miss>,
        before: Option<Before>,
    ) -> Option<Self> {
        let tokens = &record.tokens;
        let lives_long = if tokens.cache_write() > 0 {
            tokens.cache_write_1h > 0
        } else {
            before.is_none_or(|before| before.ttl_secs > SHORT_TTL)
        };
        let before = before.filter(|before| before.goes_on(tokens));
        let is_there = before.is_some_and(|before| before.gap_ms <= SHORT_TTL * 1000);
        let lost = if lives_long && !is_there {
            tokens.cache_read
        } else {
            0
        };
        if tokens.cache_write() + lost == 0 {
            return None;
        }
        let is_spared = |miss: &&Miss| {
            miss.cause == Cause::Expired
                && miss.ttl_secs == SHORT_TTL
                && miss.gap_ms <= LONG_TTL * 1000
        };
        let spared = miss.filter(is_spared).filter(|_| before.is_some());
        let rates = record.rates?;
        Some(Self {
            hour: rates.gain_of_hour_writes(tokens, spared.map_or(0, |miss| miss.tokens)),
            minutes: rates.gain_of_short_writes(tokens, lost),
        })
    }

    pub(in crate::monitor) fn add(&mut self, other: Self) {
        self.hour += other.hour;
        self.minutes += other.minutes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has other prompts in the cache is no reason for another time to live.
    #[test]
    fn a_request_goes_on_only_with_what_was_there() {
        let goes_on = |is_nameless: bool, used: u64| {
            let before = Before {
                gap_ms: 0,
                cached: 20_000,
                ttl_secs: SHORT_TTL,
                is_nameless,
            };
            let tokens = Tokens {
                cache_read: used / 2,
                cache_write_5m: used - used / 2,
                ..Tokens::default()
            };
            before.goes_on(&tokens)
        };
        let sizes = [19_000, 19_700, 20_300, 25_000];
        assert_eq!(
            sizes.map(|used| goes_on(false, used)),
            [false, true, true, true]
        );
        assert_eq!(
            sizes.map(|used| goes_on(true, used)),
            [false, true, true, false]
        );
    }
}
