//! What conversations begin with: the prompt that they share, and whether it broke.
//!
//! Judges first requests by those before them. Knows nothing of conversations, nor of what follows from a break.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::cache::{Cause, Miss, api_cause, miss};
use super::chance::History;
use super::record::{Time, UsageRecord};

/// Conversations begin with a prompt that they share, as far as the last so many show.
const FIRSTS: usize = 16;

/// Those that begin within so much time after the cache was cold, or the prompt another one, may all be writing what none of them
/// could read yet.
const WARM_UP_MS: i64 = 20_000;

/// So many that miss in a row show that something broke: at one in a hundred that miss anyway, and a thousand an hour, chance shows
/// three once in six weeks; where more miss it takes one more.
const FIRSTS_IN_A_ROW: usize = 3;

/// No more of them are kept.
const MAX_SUSPECTS: usize = 10_000;

/// What the first requests of the conversations of a stream found in the cache: the prompt that they share, put there by others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Firsts {
    /// What the last of them read, as far as they read anything.
    reads: VecDeque<u64>,
    history: History,
    /// When one of them found nothing because of a pause.
    cold_at: Option<Time>,
    /// Those of the last ones that missed in a row, until there are enough to say so.
    suspects: Vec<Miss>,
    /// It was said of the last ones.
    is_broken: bool,
}

impl Firsts {
    /// So much of a prompt they share, if anything.
    fn shared(&self) -> Option<u64> {
        self.reads.iter().min().copied()
    }

    fn note_read(&mut self, tokens: u64) {
        if tokens == 0 {
            return;
        }
        if self.reads.len() == FIRSTS {
            self.reads.pop_front();
        }
        self.reads.push_back(tokens);
    }

    /// One of them, which is judged otherwise, read so much, and all that it could.
    pub(super) fn note_served(&mut self, tokens: u64) {
        self.note_read(tokens);
        self.note_hit();
    }

    fn note_hit(&mut self) {
        for _ in std::mem::take(&mut self.suspects) {
            self.history.push(false);
        }
        self.clear();
        self.history.push(true);
    }

    /// Judges the first request of a conversation by what others of its kind began with.
    ///
    /// The cache was used last so many milliseconds before, by entries that live for so many seconds. What is shared says nothing
    /// where it is smaller than `min_prompt`.
    pub(super) fn judge(
        &mut self,
        record: &UsageRecord,
        at: Time,
        (gap_ms, ttl_secs): (i64, i64),
        min_prompt: u64,
    ) -> First {
        let tokens = &record.tokens;
        let shared = self.shared();
        self.note_read(tokens.cache_read);
        let Some(shared) = shared.filter(|shared| *shared >= min_prompt) else {
            return First::Unknown;
        };
        if gap_ms > ttl_secs * 1000 {
            self.cold_at = Some(at);
            self.clear();
            return First::Unknown;
        }
        let expected = shared.min(tokens.prompt());
        let missed = expected.saturating_sub(tokens.cache_read);
        if missed * 20 <= expected {
            self.note_hit();
            return First::Served;
        }
        let is_warming_up = |cold: Time| at.millis_since(cold) <= WARM_UP_MS;
        if self.cold_at.is_some_and(is_warming_up) {
            return First::Unknown;
        }
        if !self.history.is_one_conversation() {
            self.history.push(false);
            return First::Unknown;
        }
        let cause = match api_cause(record) {
            Some((cause, _)) => cause,
            None if tokens.cache_read > 0 => Cause::Partial,
            None if tokens.cache_write() > 0 => Cause::Rewritten,
            None => Cause::Dropped,
        };
        if !cause.is_waste() {
            return First::Unknown;
        }
        let miss = miss(record, at, cause, missed, gap_ms.max(0), ttl_secs);
        if self.is_broken {
            return First::Missed(miss, Vec::new());
        }
        let Some(mut before) = self.suspect(miss) else {
            return First::Unknown;
        };
        self.is_broken = true;
        match before.pop() {
            Some(miss) => First::Missed(miss, before),
            None => First::Unknown,
        }
    }

    /// One more has missed. Gives all that have in a row, once that cannot be by chance, nor because a prompt is new. They have come
    /// within the time that an entry lives: where they are further apart, each may have found another one expired.
    fn suspect(&mut self, miss: Miss) -> Option<Vec<Miss>> {
        let at = miss.at;
        let needed = FIRSTS_IN_A_ROW + usize::from(self.history.misses_often());
        let is_gone = |known: &&Miss| at.millis_since(known.at) > known.ttl_secs * 1000;
        let gone = self.suspects.iter().take_while(is_gone).count();
        let too_many = (self.suspects.len() + 1).saturating_sub(MAX_SUSPECTS);
        for _ in self.suspects.drain(..gone.max(too_many)) {
            self.history.push(false);
        }
        self.suspects.push(miss);
        let since = self.suspects.first()?.at;
        let is_sure = self.suspects.len() >= needed && at.millis_since(since) > WARM_UP_MS;
        is_sure.then(|| std::mem::take(&mut self.suspects))
    }

    /// The clock was wrong by so much.
    pub(super) fn shift(&mut self, ms: i64) {
        let suspects = self.suspects.iter_mut().map(|miss| &mut miss.at);
        for time in suspects.chain(&mut self.cold_at) {
            time.shift(ms);
        }
    }

    /// What they share is there, or was not to be expected.
    fn clear(&mut self) {
        self.suspects.clear();
        self.is_broken = false;
    }
}

/// How the first request of a conversation fared.
pub(super) enum First {
    /// Nothing is known of what it could have read.
    Unknown,
    /// It read what others read.
    Served,
    /// It did not, and neither did these before it.
    Missed(Miss, Vec<Miss>),
}
