//! What the conversations of one model, project and kind of agent have in common: what they begin with, how long entries live, and
//! which of their misses are one.
//!
//! Knows no conversation, but for the last two that were told. Which requests belong to which is known to the tracker.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::chance::{History, REMEMBERED};
use super::conversation::{LONG_TTL, Run, SHORT_TTL};
use super::firsts::{First, Firsts, Given};
use super::miss::{Cause, Outcome};
use super::others::Others;
use super::spread::Spread;
use crate::monitor::record::{Time, Tokens, UsageRecord};

/// What requests of one model, project and kind of agent have in common, whatever their conversation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) last_read: Option<Time>,
    /// The last request that read or wrote the cache, or should have.
    last_used: Option<Time>,
    /// Whose avoidable misses in a row these are.
    pub(super) spread: Option<Spread>,
    /// When misses of several conversations, that were told, came last.
    several_at: Option<Time>,
    /// The last conversations whose own runs were told, and when one of them missed last.
    told: VecDeque<(u64, Time)>,
    /// Requests in a row that were served since.
    served: u32,
    firsts: Firsts,
    disuse: Disuse,
    others: Others,
    /// Writes in a row that were for an hour.
    long_writes: u32,
    /// When they became writes for five minutes.
    pub(super) ttl_changed_at: Option<Time>,
}

/// So many requests of a conversation in a row neither read nor wrote what it had in the cache: it is not used any more.
const SURELY_DROPPED: u32 = 3;

/// The same of requests without a name, which may be of one conversation that never used it.
const SURELY_DROPPED_BY_ALL: u32 = 20;

/// Misses go on with those of several conversations that were told so long ago.
const SEVERAL_MS: i64 = 15 * 60_000;

/// After so many requests in a row that were served, or the first one after such a pause, they are over.
const SURELY_SERVED: u32 = 50;
const SURELY_OVER_MS: i64 = 20 * 60_000;

/// So many writes for an hour in a row are what a stream does.
const HABIT: u32 = 20;

impl Stream {
    /// A request used the cache so much.
    pub(super) fn remember(&mut self, tokens: &Tokens, at: Time) {
        if tokens.cache_read > 0 {
            self.last_read = self.last_read.max(Some(at));
        }
        if tokens.cache_read + tokens.cache_write() > 0 {
            self.last_used = self.last_used.max(Some(at));
            self.firsts.note_use();
            self.disuse.note_use();
        }
        if tokens.cache_write_1h > 0 {
            self.long_writes = self.long_writes.saturating_add(1);
            self.ttl_changed_at = None;
        } else if tokens.cache_write_5m > 0 {
            if self.long_writes >= HABIT {
                self.ttl_changed_at = Some(at);
            }
            self.long_writes = 0;
        }
    }

    /// A request that names no conversation, too short to be judged.
    pub(super) fn note_short(&mut self, tokens: &Tokens) {
        self.others.note(!tokens.use_cache());
    }

    /// A long one. True if it is of others, which have come with prompts of their own and without the cache.
    pub(super) fn is_of_others(&mut self, tokens: &Tokens) -> bool {
        self.others.note(false);
        let is_of_others = self.others.are_here() && !tokens.use_cache();
        if is_of_others {
            self.firsts.note_other();
        }
        is_of_others
    }

    /// Misses of several conversations were told a short time ago: what misses now belongs to them.
    pub(super) fn several_miss(&self, at: Time) -> bool {
        let lately = |told: Time| at.millis_since(told) <= SEVERAL_MS;
        self.several_at.is_some_and(lately)
    }

    /// Misses of several conversations, that were told, go on.
    pub(super) fn note_several(&mut self, at: Time) {
        self.several_at = self.several_at.max(Some(at));
    }

    /// A conversation whose run is told misses again. Where two do at once a third is no case of its own.
    pub(super) fn note_told(&mut self, conversation: u64, at: Time) {
        self.told.retain(|(known, _)| *known != conversation);
        self.told.push_back((conversation, at));
        let lately = |(_, told): &&(u64, Time)| at.millis_since(*told) <= SEVERAL_MS;
        if self.told.iter().filter(lately).count() >= 2 {
            self.note_several(at);
        }
        if self.told.len() > 2 {
            self.told.pop_front();
        }
    }

    /// A request was served: gives the run that this ends.
    pub(super) fn end_spread(&mut self, at: Time) -> Option<Spread> {
        self.served = self.served.saturating_add(1);
        let lately = |missed: Time| at.millis_since(missed) <= SURELY_OVER_MS;
        let may_go_on = self.served < SURELY_SERVED && self.several_at.is_some_and(lately);
        self.spread.take_if(|spread| !spread.goes_on || !may_go_on)
    }

    /// What conversations begin with is lost, or may be.
    pub(super) fn may_be_lost(&self) -> bool {
        self.firsts.would_keep(true)
    }

    /// The first request of a conversation that has a name.
    pub(super) fn note_begin(&mut self, tokens: &Tokens, at: Time) {
        if self.disuse.note_begin(tokens, at) {
            self.firsts.note_lost();
        }
    }

    /// Judges what may be the first request of a conversation, or goes on with one that has had nothing in the cache, but may have
    /// had so much of its prompt before.
    pub(super) fn judge_first(
        &mut self,
        record: &UsageRecord,
        at: Time,
        min_prompt: u64,
        before: Option<u64>,
    ) -> First {
        let last = self.last_used;
        let given = Given {
            gap_ms: last.map_or(i64::MAX, |last| at.millis_since(last).max(0)),
            ttl_secs: if self.long_writes > 0 {
                LONG_TTL
            } else {
                SHORT_TTL
            },
            min_prompt,
            others_miss: self.spread.as_ref().is_some_and(|s| s.labels.is_some()),
            begins: before.is_none(),
            follows: before.map_or(0, |prompt| self.firsts.follow(prompt)),
        };
        let first = self.firsts.judge(record, at, &given);
        if self.firsts.would_keep(record.names_conversation()) {
            self.last_used = self.last_used.max(Some(at));
        }
        first
    }

    /// A request was judged by its own conversation, whose last prompt was so long.
    pub(super) fn note_outcome(
        &mut self,
        record: &UsageRecord,
        outcome: &Outcome,
        last_prompt: u64,
    ) {
        if *outcome != Outcome::Hit {
            return;
        }
        let read = record.tokens.cache_read;
        if record.names_conversation() {
            self.firsts.note_follow(read, last_prompt);
        } else {
            self.firsts.note_served(read);
        }
    }

    /// A request that should have used the cache did not. `run` are the misses of its conversation, this one included.
    pub(super) fn note_miss(
        &mut self,
        record: &UsageRecord,
        at: Time,
        cause: &Cause,
        run: Option<&Run>,
    ) {
        self.served = 0;
        let is_named = record.names_conversation();
        let many = if is_named {
            self.last_used = self.last_used.max(Some(at));
            SURELY_DROPPED
        } else {
            SURELY_DROPPED_BY_ALL
        };
        if *cause == Cause::Dropped && run.is_some_and(|run| run.length >= many) {
            self.firsts.note_lost();
        }
    }

    /// The clock was wrong by so much.
    pub(super) fn shift(&mut self, ms: i64) {
        let times = [
            &mut self.last_read,
            &mut self.last_used,
            &mut self.ttl_changed_at,
            &mut self.several_at,
        ];
        let told = self.told.iter_mut().map(|(_, at)| at);
        for time in times.into_iter().flatten().chain(told) {
            time.shift(ms);
        }
        self.firsts.shift(ms);
        if let Some(since) = &mut self.disuse.since {
            since.shift(ms);
        }
    }
}

/// Conversations that begin without any use of the cache: where nearly all read or write it, many in a row that do neither show that
/// nobody uses it any more, whatever pauses there are between them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Disuse {
    /// Whether those that began used it.
    history: History,
    /// Those in a row that did not, and the first of them.
    unused: u32,
    since: Option<Time>,
}

/// So many conversations in a row, over so long a time: a job that never uses the cache may well begin some at once.
const SURELY_UNUSED: u32 = 8;
const SURELY_UNUSED_MS: i64 = 3_600_000;

impl Disuse {
    /// One begins. True if nobody uses the cache any more.
    fn note_begin(&mut self, tokens: &Tokens, at: Time) -> bool {
        let is_used = tokens.cache_read + tokens.cache_write() > 0;
        if is_used || !self.history.is_one_conversation() {
            self.history.push(is_used);
            return false;
        }
        self.unused += 1;
        let since = *self.since.get_or_insert(at);
        self.unused >= SURELY_UNUSED && at.millis_since(since) >= SURELY_UNUSED_MS
    }

    fn note_use(&mut self) {
        self.since = None;
        for _ in 0..std::mem::take(&mut self.unused).min(REMEMBERED) {
            self.history.push(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60;

    fn at(secs: i64) -> Time {
        Time::from_secs(secs)
    }

    /// A stream whose misses of several conversations, told, came last at second zero.
    fn of_several(goes_on: bool) -> Stream {
        let mut stream = Stream {
            spread: Some(Spread {
                id: 0,
                first: 1,
                labels: None,
                goes_on,
            }),
            ..Stream::default()
        };
        stream.note_several(at(0));
        stream
    }

    #[test]
    fn misses_of_several_are_over_when_many_were_served_in_a_row_or_after_a_pause() {
        let mut stream = of_several(true);
        for _ in 1..50 {
            assert!(stream.end_spread(at(20 * MINUTE)).is_none());
        }
        assert!(stream.end_spread(at(20 * MINUTE)).is_some());
        let mut after_a_pause = of_several(true);
        assert!(after_a_pause.end_spread(at(20 * MINUTE + 1)).is_some());
        // What is not known to go on is over with the first one.
        assert!(of_several(false).end_spread(at(1)).is_some());
    }

    #[test]
    fn two_conversations_that_are_told_at_once_are_several() {
        let mut stream = Stream::default();
        for secs in [0, 10, 16 * MINUTE] {
            stream.note_told(1, at(secs));
            assert!(!stream.several_miss(at(secs)));
        }
        let long_after = at(32 * MINUTE);
        stream.note_told(2, long_after);
        assert!(!stream.several_miss(long_after));
        stream.note_told(1, at(33 * MINUTE));
        assert!(stream.several_miss(at(33 * MINUTE)));
        assert!(stream.several_miss(at(48 * MINUTE)));
        assert!(!stream.several_miss(at(48 * MINUTE + 1)));
        // No more than two are remembered, the last ones.
        stream.note_told(3, at(50 * MINUTE));
        stream.note_told(4, at(51 * MINUTE));
        assert!(stream.several_miss(at(51 * MINUTE)) && stream.told.len() == 2);
    }
}
