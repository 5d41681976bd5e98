//! One conversation, or a stream that may be one: what it has in the cache, whether its next request was served, and how many in a
//! row were not.
//!
//! What is expected of the cache is what the conversation is known to have put there: the tokens read and written by the last
//! request that used the cache, no more than this prompt or the last one. A tail that was never cached is not missed.
//!
//! Knows what its like have lost, and nothing else of others.

use serde::{Deserialize, Serialize};

use super::chance::{Chance, History, REMEMBERED};
use super::miss::{Cause, Miss, Outcome, api_cause, miss};
use super::stream::Stream;
use crate::monitor::record::{Time, Tokens, UsageRecord};
use crate::price::PicoUsd;

/// A conversation that has not read the cache for this long is taken for one that does not use it.
pub(in crate::monitor) const READ_MEMORY_MS: i64 = 7 * 24 * 3_600_000;

/// Time to live of the two kinds of cache entries, in seconds.
pub(super) const SHORT_TTL: i64 = 300;
pub(in crate::monitor) const LONG_TTL: i64 = 3600;

/// For so long after one-hour writes became five-minute writes, gaps under an hour count as waste.
const TTL_CHANGE_MS: i64 = 24 * 3_600_000;

/// A stream that was one conversation is taken for one for so long.
const TRUST_MS: i64 = 24 * 3_600_000;

/// Affected requests in a row in one conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How many.
    pub length: u32,
    /// The first of them.
    pub since: Time,
    /// The last request before them, whatever became of it.
    pub before: Time,
    /// The last of them.
    pub last: Time,
    /// What they cost again.
    pub waste: PicoUsd,
    /// The tokens of it.
    pub missed: u64,
    /// An alert has spoken of it: it no longer counts as chance.
    pub(super) told: bool,
    /// What it missed is what many conversations share.
    pub(super) of_shared: bool,
    /// It is part of one that has spread over conversations, which is told instead.
    pub(super) part_of: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Conversation {
    pub(super) last: Time,
    pub(super) last_prompt: u64,
    /// Tokens that the last request to use the cache had there.
    pub(super) cached: u64,
    pub(super) ttl_secs: i64,
    /// The time to live is that of a write, not inferred.
    ttl_written: bool,
    ttl_changed_at: Option<Time>,
    last_read: Option<Time>,
    pub(super) compacted: bool,
    /// Most are in none.
    pub(super) run: Option<Box<Run>>,
    /// Only for streams without conversation ids.
    history: Option<Box<History>>,
    /// When the stream was last seen to be one conversation.
    trusted_at: Option<Time>,
    /// A request since the last one that was served neither read nor wrote.
    has_dropped: bool,
}

impl Conversation {
    pub(super) fn new(at: Time, unnamed: bool) -> Self {
        Self {
            last: at,
            last_prompt: 0,
            cached: 0,
            ttl_secs: SHORT_TTL,
            ttl_written: false,
            ttl_changed_at: None,
            last_read: None,
            compacted: false,
            run: None,
            history: unnamed.then(Box::default),
            trusted_at: None,
            has_dropped: false,
        }
    }

    pub(super) fn judge(&self, record: &UsageRecord, at: Time, stream: &Stream) -> Outcome {
        let lately =
            |read: Option<Time>| read.is_some_and(|read| at.millis_since(read) <= READ_MEMORY_MS);
        // A conversation that began after the cache was lost has never read it; its like have.
        let uses_cache = lately(self.last_read)
            || (self.history.is_none() && self.cached > 0 && lately(stream.last_read));
        let tokens = &record.tokens;
        if !uses_cache {
            return Outcome::NotJudged;
        }
        let gap_ms = at.millis_since(self.last).max(0);
        let expected = tokens.prompt().min(self.last_prompt).min(self.cached);
        if expected + tokens.cache_read == 0 {
            return Outcome::NotJudged;
        }
        let mut missed = expected.saturating_sub(tokens.cache_read);
        if missed * 20 <= expected {
            missed = 0;
        }
        let api = api_cause(record);
        if let Some((_, Some(said))) = api {
            missed = said.min(tokens.prompt() - tokens.cache_read);
            if missed * 20 <= tokens.prompt() {
                missed = 0;
            }
        }
        if missed == 0 {
            return Outcome::Hit;
        }
        let cause = api.map_or_else(
            || self.cause(record, at, gap_ms, stream),
            |(cause, _)| cause,
        );
        Outcome::Miss(miss(record, at, cause, missed, gap_ms, self.ttl_secs))
    }

    fn cause(&self, record: &UsageRecord, at: Time, gap_ms: i64, stream: &Stream) -> Cause {
        let tokens = &record.tokens;
        let ttl_changed = self
            .ttl_changed_at
            .max(stream.ttl_changed_at)
            .is_some_and(|t| at.millis_since(t) <= TTL_CHANGE_MS);
        let still_running = record.started.is_some_and(|started| started < self.last);
        if gap_ms > self.ttl_secs * 1000 {
            if ttl_changed && gap_ms <= LONG_TTL * 1000 {
                Cause::TtlChanged
            } else {
                Cause::Expired
            }
        } else if self.compacted || tokens.prompt() * 2 < self.last_prompt {
            Cause::Compacted
        } else if still_running {
            Cause::Concurrent
        } else if tokens.cache_read > 0 {
            Cause::Partial
        } else if tokens.cache_write() > 0 {
            Cause::Rewritten
        } else {
            Cause::Dropped
        }
    }

    /// The clock was wrong by so much.
    pub(super) fn shift(&mut self, ms: i64) {
        self.last.shift(ms);
        let run = self.run.as_deref_mut();
        let run = run.map(|run| [&mut run.since, &mut run.before, &mut run.last]);
        let times = [
            self.ttl_changed_at.as_mut(),
            self.last_read.as_mut(),
            self.trusted_at.as_mut(),
        ];
        let times = times.into_iter().flatten();
        for time in times.chain(run.into_iter().flatten()) {
            time.shift(ms);
        }
    }

    /// How long its last prompt was, if it would still be in the cache.
    pub(super) fn alive(&self, at: Time) -> u64 {
        let is_alive = at.millis_since(self.last) <= self.ttl_secs * 1000;
        if is_alive { self.last_prompt } else { 0 }
    }

    /// It is one conversation: it has a name, or nearly all of its requests were served.
    pub(super) fn is_one(&mut self, at: Time) -> bool {
        let Some(history) = self.history.as_deref() else {
            return true;
        };
        let is_one = history.is_one_conversation();
        if is_one && history.len >= REMEMBERED {
            self.trusted_at = Some(at);
        }
        // What has long been one conversation before it began to miss is still judged as one.
        let lately = |t: Time| at.millis_since(t) <= TRUST_MS;
        is_one || self.trusted_at.is_some_and(lately)
    }

    /// Keeps the run and the odds. In a stream that may be many users interleaved, misses are noted but not claimed.
    pub(super) fn count(
        &mut self,
        outcome: Outcome,
        is_one: bool,
        at: Time,
        chance: &mut Chance,
    ) -> Outcome {
        if let Outcome::Miss(miss) = &outcome {
            self.has_dropped |= miss.cause == Cause::Dropped;
        }
        match &outcome {
            Outcome::NotJudged | Outcome::Doubtful(_) => {}
            Outcome::Hit => {
                self.end_run(at, chance);
                chance.add(at, 1, 0);
                self.note(true);
                // Between those that are served some neither read nor write: it is many, of which some never use the cache.
                let misses = |history: &History| !history.is_one_conversation();
                let history = self.history.as_deref();
                if std::mem::take(&mut self.has_dropped) && history.is_some_and(misses) {
                    self.trusted_at = None;
                }
            }
            Outcome::Miss(miss) if !miss.cause.is_waste() => {}
            Outcome::Miss(miss)
                if is_one || self.run.as_ref().is_some_and(|run| !run.of_shared) =>
            {
                self.lengthen_run(miss, false);
            }
            // What is told already is no chance.
            Outcome::Miss(miss) if self.run.is_some() => return Outcome::Doubtful(miss.clone()),
            Outcome::Miss(miss) => {
                chance.add(at, 1, 1);
                self.note(false);
                return Outcome::Doubtful(miss.clone());
            }
        }
        outcome
    }

    /// One more of its requests in a row was affected.
    pub(super) fn lengthen_run(&mut self, miss: &Miss, of_shared: bool) {
        let before = self.last.min(Time(miss.at.0 - miss.gap_ms)).min(miss.at);
        let run = self.run.get_or_insert_with(|| {
            Box::new(Run {
                length: 0,
                since: miss.at,
                before,
                last: miss.at,
                waste: PicoUsd::ZERO,
                missed: 0,
                told: false,
                of_shared,
                part_of: None,
            })
        });
        run.length += 1;
        run.last = miss.at;
        run.waste += miss.cost;
        run.missed += miss.tokens;
    }

    /// The next one was served. What nobody was told of may have been chance.
    pub(super) fn end_run(&mut self, at: Time, chance: &mut Chance) {
        if let Some(run) = self.run.take()
            && !run.told
        {
            chance.add(at, u64::from(run.length), u64::from(run.length));
            for _ in 0..run.length {
                self.note(false);
            }
        }
    }

    fn note(&mut self, hit: bool) {
        if let Some(history) = &mut self.history {
            history.push(hit);
        }
    }

    /// A request that names no conversation has come, and is not of this one. After many of them nobody knows which are.
    pub(super) fn note_other(&mut self) {
        self.note(false);
        let history = self.history.as_deref();
        if history.is_some_and(|history| !history.is_one_conversation()) {
            self.trusted_at = None;
        }
    }

    /// Becomes the predecessor of the next request.
    pub(super) fn remember(&mut self, tokens: &Tokens, at: Time, outcome: &Outcome) {
        let gap_ms = at.millis_since(self.last);
        let compacted = matches!(outcome, Outcome::Miss(miss) if miss.cause == Cause::Compacted);
        if tokens.cache_write_1h > 0 {
            self.ttl_secs = LONG_TTL;
            self.ttl_written = true;
            self.ttl_changed_at = None;
        } else if tokens.cache_write_5m > 0 {
            if self.ttl_secs == LONG_TTL && self.ttl_written {
                self.ttl_changed_at = Some(at);
            }
            self.ttl_secs = SHORT_TTL;
            self.ttl_written = true;
        } else if *outcome == Outcome::Hit && gap_ms > self.ttl_secs * 1000 {
            // Read after more than five minutes: somebody writes one-hour entries.
            self.ttl_secs = LONG_TTL;
            self.ttl_written = false;
        }
        if tokens.cache_read > 0 {
            self.last_read = Some(at.max(self.last_read.unwrap_or(at)));
        }
        let used = tokens.cache_read + tokens.cache_write();
        if used > 0 {
            self.cached = used;
        } else if compacted {
            // Without the cache already, it would have been there if that were not lost.
            let is_lost = self.run.is_some();
            self.cached = if is_lost { tokens.prompt() } else { 0 };
        }
        self.compacted = false;
        if at >= self.last {
            self.last = at;
            self.last_prompt = tokens.prompt();
        }
    }
}
