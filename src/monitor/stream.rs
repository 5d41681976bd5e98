//! What the conversations of one model, project and kind of agent have in common: what they begin with, how long entries live, and
//! which of their misses are one.
//!
//! Knows no conversation. Which requests belong to which is known to the tracker.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::cache::{Cause, LONG_TTL, Outcome, Run, SHORT_TTL};
use super::chance::{History, REMEMBERED};
use super::firsts::{First, Firsts, Given};
use super::record::{Labels, Time, Tokens, UsageRecord};

/// A run of misses that began in one conversation and went on in others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spread {
    /// Which it is.
    pub(super) id: u64,
    /// The conversation that it began in.
    pub(super) first: u64,
    /// Under which labels it is told: those of all that the conversations have in common. None while it is in one.
    pub(super) labels: Option<Arc<Labels>>,
}

/// What requests of one model, project and kind of agent have in common, whatever their conversation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) last_read: Option<Time>,
    /// The last request that read or wrote the cache, or should have.
    last_used: Option<Time>,
    /// Whose avoidable misses in a row these are.
    pub(super) spread: Option<Spread>,
    /// When such misses, of several conversations and told, ended last.
    pub(super) several_at: Option<Time>,
    firsts: Firsts,
    disuse: Disuse,
    /// Writes in a row that were for an hour.
    long_writes: u32,
    /// When they became writes for five minutes.
    pub(super) ttl_changed_at: Option<Time>,
}

/// So many requests of a conversation in a row neither read nor wrote what it had in the cache: it is not used any more.
const SURELY_DROPPED: u32 = 3;

/// The same of requests without a name, which may be of one conversation that never used it.
const SURELY_DROPPED_BY_ALL: u32 = 20;

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
        for time in times.into_iter().flatten() {
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
