//! What the prompt cache should have given, what it gave, why it did not, and what that cost.
//!
//! Follows each conversation: requests that share a growing prompt. Knows nothing of rules or windows.
//!
//! What is expected of the cache is what the conversation is known to have put there: the tokens read and written by the last
//! request that used the cache, no more than this prompt or the last one. A tail that was never cached is not missed. What begins a
//! conversation is held against what others of its kind began with.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::chance::{Chance, History, Odds, REMEMBERED};
use super::firsts::First;
use super::record::{Labels, Time, Tokens, UsageRecord};
use super::spread::Elsewhere;
use super::stream::Stream;
use crate::price::PicoUsd;

/// A conversation that has not read the cache for this long is taken for one that does not use it.
pub(super) const READ_MEMORY_MS: i64 = 7 * 24 * 3_600_000;

/// Time to live of the two kinds of cache entries, in seconds.
pub(super) const SHORT_TTL: i64 = 300;
pub(super) const LONG_TTL: i64 = 3600;

/// For so long after one-hour writes became five-minute writes, gaps under an hour count as waste.
const TTL_CHANGE_MS: i64 = 24 * 3_600_000;

/// Conversations followed at once; the least recent are forgotten.
const MAX_CONVERSATIONS: usize = 10_000;

/// Why the cache did not give what it could have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// Nothing was read and the prompt was written anew within its time to live: its beginning changed.
    Rewritten,
    /// Neither read nor written: `cache_control` is gone.
    Dropped,
    /// A tail of the prompt that was in the cache was not read.
    Partial,
    /// One-hour entries became five-minute entries, and the pause was too long for those.
    TtlChanged,
    /// The API itself named the reason.
    Api(Arc<str>),
    /// The pause was longer than the time to live.
    Expired,
    /// The conversation was compacted or cut.
    Compacted,
    /// The request before had not finished when this one started.
    Concurrent,
    /// The session went on with another model, which has a cache of its own.
    ModelChanged,
}

impl Cause {
    /// A single request shows it: the API says so, or the entries are of another kind than before.
    pub const fn is_evident(&self) -> bool {
        matches!(self, Self::TtlChanged | Self::Api(_))
    }

    /// Whether the miss could have been avoided. Only such misses are waste.
    pub const fn is_waste(&self) -> bool {
        match self {
            Self::Rewritten | Self::Dropped | Self::Partial | Self::TtlChanged | Self::Api(_) => {
                true
            }
            Self::Expired | Self::Compacted | Self::Concurrent | Self::ModelChanged => false,
        }
    }

    /// The name in all output.
    pub fn name(&self) -> &str {
        match self {
            Self::Rewritten => "rewritten",
            Self::Dropped => "dropped",
            Self::Partial => "partial",
            Self::TtlChanged => "ttl-changed",
            Self::Api(kind) => kind,
            Self::Expired => "expired",
            Self::Compacted => "compacted",
            Self::Concurrent => "concurrent",
            Self::ModelChanged => "model-changed",
        }
    }
}

/// One request that the cache did not serve as it could have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// When.
    pub at: Time,
    /// Why.
    pub cause: Cause,
    /// Tokens that the cache would have given.
    pub tokens: u64,
    /// What they cost beyond reading them; zero if the model has no price.
    pub cost: PicoUsd,
    /// Milliseconds since the request before.
    pub gap_ms: i64,
    /// Time to live of the entry, in seconds.
    pub ttl_secs: i64,
    /// Who asked.
    pub labels: Arc<Labels>,
}

/// How the cache served a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Too small, or the first of its conversation.
    NotJudged,
    /// It gave less than the request before had there, in a stream that may be many conversations: nobody can tell whether that
    /// was the same prompt.
    Doubtful(Miss),
    /// The cache gave what it could.
    Hit,
    /// It did not.
    Miss(Miss),
}

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
    last_prompt: u64,
    /// Tokens that the last request to use the cache had there.
    cached: u64,
    ttl_secs: i64,
    /// The time to live is that of a write, not inferred.
    ttl_written: bool,
    ttl_changed_at: Option<Time>,
    last_read: Option<Time>,
    compacted: bool,
    pub(super) run: Option<Run>,
    /// Only for streams without conversation ids.
    history: Option<History>,
    /// When the stream was last seen to be one conversation.
    trusted_at: Option<Time>,
    /// A request since the last one that was served neither read nor wrote.
    has_dropped: bool,
}

/// The last request of a session, whatever its model.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    at: Time,
    conversation: u64,
    cached: u64,
    ttl_secs: i64,
}

/// A stream that was one conversation is taken for one for so long.
const TRUST_MS: i64 = 24 * 3_600_000;

/// Streams beyond this are forgotten, all at once: what they have in common is soon known again.
const MAX_STREAMS: usize = 10_000;

/// All conversations.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CacheTracker {
    /// Prompts smaller than this are not judged.
    min_prompt_tokens: u64,
    pub(super) conversations: FxHashMap<u64, Conversation>,
    sessions: FxHashMap<u64, Session>,
    pub(super) streams: FxHashMap<u64, Stream>,
    chance: Chance,
    /// Runs that may have spread, so far.
    pub(super) spreads: u64,
    /// The last request is to be looked at under these labels too, or instead of its own.
    #[serde(skip)]
    pub(super) elsewhere: Option<Elsewhere>,
    /// Misses that the last request shows to have been some.
    #[serde(skip)]
    late: Vec<Miss>,
}

impl CacheTracker {
    /// A tracker that judges prompts from `min_prompt_tokens` on.
    pub fn new(min_prompt_tokens: u64) -> Self {
        Self {
            min_prompt_tokens,
            conversations: FxHashMap::default(),
            sessions: FxHashMap::default(),
            streams: FxHashMap::default(),
            chance: Chance::new(),
            spreads: 0,
            elsewhere: None,
            late: Vec::new(),
        }
    }

    /// Judges a request and remembers it as the predecessor of the next.
    pub fn observe(&mut self, record: &UsageRecord, at: Time) -> Outcome {
        self.elsewhere = None;
        self.late.clear();
        let prompt = record.tokens.prompt();
        if prompt < self.min_prompt_tokens || record.batch {
            return Outcome::NotJudged;
        }
        self.chance.note_request(at);
        let session = session_key(&record.labels);
        let before = session.and_then(|key| self.sessions.get(&key)).cloned();
        let fresh = !self.conversations.contains_key(&record.labels.conversation);
        if fresh {
            self.make_room();
        }
        let conversation = self
            .conversations
            .entry(record.labels.conversation)
            .or_insert_with(|| Conversation::new(at, !record.names_conversation()));
        if self.streams.len() >= MAX_STREAMS {
            self.streams.clear();
        }
        let stream = self.streams.entry(record.labels.stream).or_default();
        let (mut ended, mut before_it) = (None, Vec::new());
        let outcome = if fresh {
            switched_model(record, at, before.as_ref())
        } else {
            conversation.judge(record, at, stream)
        };
        // Where requests name no session each may be the first of a conversation, unless all are one. One that began when what
        // others begin with was lost, or may be, and has nothing in the cache since, is still held against that.
        let is_one = conversation.is_one(at);
        let may_begin = if record.names_conversation() {
            let has_none = fresh || conversation.cached == 0 && stream.may_be_lost();
            has_none && outcome == Outcome::NotJudged
        } else {
            !is_one
        };
        if fresh && record.names_conversation() {
            stream.note_begin(&record.tokens, at);
        }
        let first = if may_begin {
            // Where requests name no conversation nobody knows what came before one.
            let goes_on = !fresh && record.names_conversation();
            let before = goes_on.then(|| conversation.alive(at));
            stream.judge_first(record, at, self.min_prompt_tokens, before)
        } else {
            stream.note_outcome(record, &outcome, conversation.last_prompt);
            First::Unknown
        };
        stream.remember(&record.tokens, at);
        let outcome = match first {
            First::Missed(miss, before) => {
                if !record.names_conversation() {
                    for miss in &before {
                        conversation.lengthen_run(miss, true);
                    }
                }
                conversation.lengthen_run(&miss, true);
                before_it = before;
                Outcome::Miss(miss)
            }
            First::Served => {
                conversation.end_run(at, &mut self.chance);
                ended = stream.end_spread(at);
                conversation.count(outcome, is_one, at, &mut self.chance)
            }
            First::Unknown => conversation.count(outcome, is_one, at, &mut self.chance),
        };
        if outcome == Outcome::Hit {
            ended = ended.or_else(|| stream.end_spread(at));
        }
        conversation.remember(&record.tokens, at, &outcome);
        if let Some(key) = session
            && before.is_none_or(|before| before.at <= at)
        {
            let (cached, ttl_secs) = (conversation.cached, conversation.ttl_secs);
            self.sessions.insert(
                key,
                Session {
                    at,
                    conversation: record.labels.conversation,
                    cached,
                    ttl_secs,
                },
            );
        }
        if let Some(labels) = ended.and_then(|spread| spread.labels) {
            self.end_spread(labels, at);
        } else if let Outcome::Miss(miss) = &outcome
            && miss.cause.is_waste()
        {
            stream.note_miss(record, at, &miss.cause, conversation.run.as_ref());
            self.spread(record, at, miss, &before_it);
        }
        self.late = before_it;
        outcome
    }

    /// Misses before the request that was observed last of which only that one shows that they were some.
    pub(super) fn take_late(&mut self) -> Vec<Miss> {
        std::mem::take(&mut self.late)
    }

    /// Where else than under its own labels the request that was observed last belongs to a run.
    pub(super) fn take_elsewhere(&mut self) -> Option<Elsewhere> {
        self.elsewhere.take()
    }

    /// A copy of a response that was counted elsewhere is still what its own conversation goes on from.
    pub fn observe_copy(&mut self, record: &UsageRecord, at: Time) {
        if record.tokens.prompt() < self.min_prompt_tokens || record.batch {
            return;
        }
        let unnamed = !record.names_conversation();
        let conversation = self
            .conversations
            .entry(record.labels.conversation)
            .or_insert_with(|| Conversation::new(at, unnamed));
        if at >= conversation.last {
            conversation.remember(&record.tokens, at, &Outcome::NotJudged);
        }
    }

    /// Moves what it remembers in time: the clock was wrong by so much.
    pub fn shift(&mut self, ms: i64) {
        for known in self.conversations.values_mut() {
            known.last.shift(ms);
            let run = known.run.as_mut();
            let run = run.map(|run| [&mut run.since, &mut run.before, &mut run.last]);
            let times = [
                known.ttl_changed_at.as_mut(),
                known.last_read.as_mut(),
                known.trusted_at.as_mut(),
            ];
            let times = times.into_iter().flatten();
            for time in times.chain(run.into_iter().flatten()) {
                time.shift(ms);
            }
        }
        for session in self.sessions.values_mut() {
            session.at.shift(ms);
        }
        for stream in self.streams.values_mut() {
            stream.shift(ms);
        }
        self.chance.shift(ms / 1000);
    }

    /// The next prompt of these conversations starts anew. Conversations of all models of the session are meant.
    pub fn compacted(&mut self, conversations: impl Fn(u64) -> bool) {
        for (id, conversation) in &mut self.conversations {
            if conversations(*id) {
                conversation.compacted = true;
            }
        }
    }

    /// The run of misses that a conversation is in, unless it is part of a larger one.
    pub fn run(&self, conversation: u64) -> Option<&Run> {
        let run = self.conversations.get(&conversation)?.run.as_ref();
        run.filter(|run| run.part_of.is_none())
    }

    /// The last request of a conversation.
    pub fn last_request(&self, conversation: u64) -> Option<Time> {
        self.conversations.get(&conversation).map(|c| c.last)
    }

    /// An alert has spoken of the run of this conversation, which therefore was no chance.
    pub fn run_was_told(&mut self, conversation: u64) {
        if let Some(run) = self
            .conversations
            .get_mut(&conversation)
            .and_then(|c| c.run.as_mut())
        {
            run.told = true;
        }
    }

    /// Nobody went on with this conversation: what comes later is another run.
    pub fn forget_run(&mut self, conversation: u64) {
        if let Some(conversation) = self.conversations.get_mut(&conversation) {
            conversation.run = None;
        }
    }

    /// How often requests miss by chance, as seen up to now.
    pub fn odds(&mut self, now: Time) -> Odds {
        self.chance.odds(now)
    }

    fn make_room(&mut self) {
        if self.conversations.len() < MAX_CONVERSATIONS {
            return;
        }
        forget_oldest(&mut self.conversations, |c| c.last);
        forget_oldest(&mut self.sessions, |s| s.at);
    }
}

/// Forgets the least recent tenth.
fn forget_oldest<T>(map: &mut FxHashMap<u64, T>, at: impl Fn(&T) -> Time) {
    let mut times: Vec<Time> = map.values().map(&at).collect();
    if times.is_empty() {
        return;
    }
    let tenth = times.len() / 10;
    let (_, cut, _) = times.select_nth_unstable(tenth);
    let cut = *cut;
    map.retain(|_, value| at(value) > cut);
}

/// A conversation that starts while its session was using another model pays for a cache of its own.
fn switched_model(record: &UsageRecord, at: Time, before: Option<&Session>) -> Outcome {
    let Some(before) = before.filter(|b| b.conversation != record.labels.conversation) else {
        return Outcome::NotJudged;
    };
    let gap_ms = at.millis_since(before.at).max(0);
    let expected = record.tokens.prompt().min(before.cached);
    let missed = expected.saturating_sub(record.tokens.cache_read);
    if gap_ms > before.ttl_secs * 1000 || missed * 20 <= expected {
        return Outcome::NotJudged;
    }
    Outcome::Miss(miss(
        record,
        at,
        Cause::ModelChanged,
        missed,
        gap_ms,
        before.ttl_secs,
    ))
}

pub(super) fn miss(
    record: &UsageRecord,
    at: Time,
    cause: Cause,
    tokens: u64,
    gap_ms: i64,
    ttl_secs: i64,
) -> Miss {
    let cost = record
        .rates
        .map(|rates| rates.miss_cost(tokens, &record.tokens))
        .unwrap_or_default();
    Miss {
        at,
        cause,
        tokens,
        cost,
        gap_ms,
        ttl_secs,
        labels: Arc::clone(&record.labels),
    }
}

/// The API's reason if it names one that is known; its other types say only that it does not know.
pub(super) fn api_cause(record: &UsageRecord) -> Option<(Cause, Option<u64>)> {
    let reason = record.miss_reason.as_ref()?;
    let cause = match &*reason.kind {
        "model_changed" => Cause::ModelChanged,
        kind if kind.ends_with("_changed") => Cause::Api(Arc::clone(&reason.kind)),
        _ => return None,
    };
    Some((cause, reason.missed_tokens))
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
            history: unnamed.then(History::default),
            trusted_at: None,
            has_dropped: false,
        }
    }

    fn judge(&self, record: &UsageRecord, at: Time, stream: &Stream) -> Outcome {
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

    /// How long its last prompt was, if it would still be in the cache.
    fn alive(&self, at: Time) -> u64 {
        let is_alive = at.millis_since(self.last) <= self.ttl_secs * 1000;
        if is_alive { self.last_prompt } else { 0 }
    }

    /// It is one conversation: it has a name, or nearly all of its requests were served.
    fn is_one(&mut self, at: Time) -> bool {
        let Some(history) = self.history else {
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
    fn count(&mut self, outcome: Outcome, is_one: bool, at: Time, chance: &mut Chance) -> Outcome {
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
                let misses = |history: History| !history.is_one_conversation();
                if std::mem::take(&mut self.has_dropped) && self.history.is_some_and(misses) {
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
    fn lengthen_run(&mut self, miss: &Miss, of_shared: bool) {
        let before = self.last.min(Time(miss.at.0 - miss.gap_ms)).min(miss.at);
        let run = self.run.get_or_insert(Run {
            length: 0,
            since: miss.at,
            before,
            last: miss.at,
            waste: PicoUsd::ZERO,
            missed: 0,
            told: false,
            of_shared,
            part_of: None,
        });
        run.length += 1;
        run.last = miss.at;
        run.waste += miss.cost;
        run.missed += miss.tokens;
    }

    /// The next one was served. What nobody was told of may have been chance.
    fn end_run(&mut self, at: Time, chance: &mut Chance) {
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

    /// Becomes the predecessor of the next request.
    fn remember(&mut self, tokens: &Tokens, at: Time, outcome: &Outcome) {
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

/// Session and agent without the model: a switch of the model happens within it.
fn session_key(labels: &Labels) -> Option<u64> {
    use std::hash::{Hash, Hasher};
    let session = labels.session.as_ref().filter(|_| !labels.interleaved)?;
    let mut hasher = rustc_hash::FxHasher::default();
    (session, &labels.agent).hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::super::record::Stamp;
    use super::super::spread::stream_conversation;
    use super::*;

    const STREAM: u64 = 7;

    /// A request of a session, so many seconds after the first, that reads or writes a prompt of 20,000 tokens.
    fn request(session: u64, secs: i64, reads: bool) -> UsageRecord {
        let labels = Labels {
            session: Some(format!("s-{session}").into()),
            conversation: session,
            stream: STREAM,
            ..Labels::default()
        };
        let (cache_read, cache_write_5m) = if reads { (20_000, 0) } else { (0, 20_000) };
        UsageRecord {
            stamp: Stamp::At(Time::from_secs(secs)),
            labels: Arc::new(labels),
            tokens: Tokens {
                cache_write_5m,
                cache_read,
                ..Tokens::default()
            },
            ..UsageRecord::blank()
        }
    }

    /// Observes them one second after the other, and gives how long the runs of these conversations are.
    fn runs(requests: &[(u64, bool)], of: &[u64]) -> Vec<Option<u32>> {
        let mut cache = CacheTracker::new(5_000);
        for (secs, (session, reads)) in (0..).zip(requests) {
            cache.observe(&request(*session, secs, *reads), Time::from_secs(secs));
        }
        of.iter().map(|id| Some(cache.run(*id)?.length)).collect()
    }

    #[test]
    fn a_miss_among_those_of_others_is_told_as_theirs_as_long_as_they_miss() {
        let all = stream_conversation(STREAM);
        let warm = [
            (1, false),
            (2, false),
            (3, false),
            (1, true),
            (2, true),
            (3, true),
        ];
        let after = |requests: &[(u64, bool)]| {
            let requests = [&warm, requests].concat();
            runs(&requests, &[1, 2, all])
        };
        assert_eq!(after(&[(1, false)]), [Some(1), None, None]);
        assert_eq!(after(&[(1, false), (1, false)]), [Some(2), None, None]);
        // What nobody was told of goes on as part of the whole, which is what is asked about.
        let spread = [(1, false), (2, false), (2, false)];
        assert_eq!(after(&spread), [None, None, Some(3)]);
        assert_eq!(
            after(&[(1, false), (1, false), (2, false)]),
            [None, None, Some(3)]
        );
        // Others are served: it is over, and who still misses does so alone.
        let ended = [&spread[..], &[(3, true)]].concat();
        assert_eq!(after(&ended)[2], None);
        let alone = [&ended[..], &[(2, false)]].concat();
        assert_eq!(after(&alone), [None, Some(1), None]);
        let longer = [&alone[..], &[(2, false)]].concat();
        assert_eq!(after(&longer), [None, Some(2), None]);
    }

    /// Four sessions, warm, of which one asks each second.
    struct Four {
        cache: CacheTracker,
        secs: i64,
    }

    impl Four {
        fn new() -> Self {
            let cache = CacheTracker::new(5_000);
            let mut four = Self { cache, secs: 0 };
            for reads in [false, true] {
                for session in 1..=4 {
                    four.ask(session, reads);
                }
            }
            four
        }

        fn ask(&mut self, session: u64, reads: bool) {
            self.secs += 1;
            let request = request(session, self.secs, reads);
            self.cache.observe(&request, Time::from_secs(self.secs));
        }

        /// How many count as missed by chance.
        fn by_chance(&mut self) -> u64 {
            self.cache.odds(Time::from_secs(self.secs)).affected
        }

        fn length(&self, of: u64) -> Option<u32> {
            self.cache.run(of).map(|run| run.length)
        }
    }

    /// Once misses of several were told, what misses between others that are served goes on with them, and is no chance.
    #[test]
    fn what_misses_soon_after_several_were_told_belongs_to_them() {
        let all = stream_conversation(STREAM);
        let mut four = Four::new();
        for session in [1, 2] {
            four.ask(session, false);
        }
        four.cache.run_was_told(all);
        four.ask(4, true);
        let by_chance = four.by_chance();
        assert_eq!(four.length(all), None);
        for (session, length) in [(1, 1), (2, 2), (3, 3), (1, 4), (3, 5)] {
            four.ask(session, false);
            four.ask(session, true);
            four.ask(4, true);
            assert_eq!(four.length(all), Some(length));
            assert_eq!(four.by_chance(), by_chance);
        }
    }

    /// Two that were told by themselves miss at once: a third one is the first of several, which one that is served does not end.
    #[test]
    fn a_third_that_misses_beside_two_is_the_first_of_several() {
        let all = stream_conversation(STREAM);
        let mut four = Four::new();
        for session in [1, 2] {
            four.ask(session, false);
            four.ask(session, false);
            four.cache.run_was_told(session);
            four.ask(4, true);
        }
        for session in [1, 2] {
            four.ask(session, false);
        }
        assert_eq!(four.length(all), None);
        four.ask(3, false);
        four.ask(4, true);
        assert_eq!(four.length(all), Some(1));
        assert_eq!(four.length(1), Some(3));
    }

    /// Users that nobody can tell apart, each with more behind what all share: more than that is never claimed, also not behind a
    /// pause in which nobody knows what was there.
    #[test]
    fn of_many_users_no_more_is_claimed_than_they_share() {
        let mut cache = CacheTracker::new(5_000);
        let mut ask = |secs: i64, user: u64, reads: bool| {
            let mut request = request(0, secs, reads);
            Arc::get_mut(&mut request.labels).unwrap().session = None;
            request.tokens.cache_write_5m += 1_000 * (user % 7) * (user % 5);
            cache.observe(&request, Time::from_secs(secs))
        };
        for user in 0..300 {
            ask(30 * i64::try_from(user).unwrap(), user, true);
        }
        let broken = (300..310).map(|user| ask(30 * i64::try_from(user).unwrap(), user, false));
        let claimed: Vec<u64> = broken
            .filter_map(|outcome| match outcome {
                Outcome::Miss(miss) => Some(miss.tokens),
                _ => None,
            })
            .collect();
        assert_eq!(claimed, [20_000; 8]);
        let pause = 30 * 310 + 400;
        ask(pause, 310, false);
        let next = ask(pause + 5, 311, false);
        assert!(matches!(next, Outcome::Doubtful(_)), "{next:?}");
    }

    /// Where one in fifty first requests finds nothing anyway, three in a row say less.
    #[test]
    fn more_must_miss_in_a_row_where_more_miss_anyway() {
        let missed_at = |every: u64| {
            let mut cache = CacheTracker::new(5_000);
            let mut secs = 0;
            let mut ask = |session: u64, reads: bool| {
                secs += 30;
                let request = request(session, secs, reads);
                matches!(
                    cache.observe(&request, Time::from_secs(secs)),
                    Outcome::Miss(_)
                )
            };
            for session in 0..310 {
                assert!(!ask(session, session % every != every - 1));
            }
            (1..9).find(|n| ask(310 + n, false))
        };
        assert_eq!(missed_at(1_000), Some(3));
        assert_eq!(missed_at(50), Some(4));
        // Where one in ten does nobody can tell.
        assert_eq!(missed_at(10), None);
    }

    /// A tracker that has seen sixty sessions of two requests that were served, and how it takes another one: none reads or writes.
    struct Lost {
        cache: CacheTracker,
        secs: i64,
    }

    impl Lost {
        fn new() -> Self {
            let mut lost = Self {
                cache: CacheTracker::new(5_000),
                secs: 0,
            };
            for session in (0..60).flat_map(|session| [session, session]) {
                lost.ask(session, true);
            }
            lost
        }

        fn ask(&mut self, session: u64, reads: bool) -> Outcome {
            self.secs += 30;
            let mut request = request(session, self.secs, reads);
            if !reads {
                request.tokens = Tokens {
                    input: 20_000,
                    ..Tokens::default()
                };
            }
            self.cache.observe(&request, Time::from_secs(self.secs))
        }

        fn misses(&mut self, session: u64) -> u64 {
            match self.ask(session, false) {
                Outcome::Miss(miss) => {
                    assert_eq!(miss.cause, Cause::Dropped);
                    miss.tokens
                }
                _ => 0,
            }
        }
    }

    #[test]
    fn what_nobody_uses_any_more_is_missed_until_somebody_does() {
        let after_pause = |is_used: bool| {
            let mut lost = Lost::new();
            assert_eq!([59; 3].map(|session| lost.misses(session)), [20_000; 3]);
            lost.secs += 600;
            if is_used {
                lost.ask(70, true);
                lost.secs += 600;
            }
            // Nothing was there for its first request; of its second there would have been its first.
            [80, 80, 80].map(|session| lost.misses(session))
        };
        assert_eq!(after_pause(false), [0, 20_000, 20_000]);
        assert_eq!(after_pause(true), [0, 0, 0]);
    }

    #[test]
    fn where_others_miss_one_that_begins_without_the_cache_does_too() {
        let mut lost = Lost::new();
        assert_eq!(lost.misses(80), 0);
        let mut lost = Lost::new();
        assert_eq!(
            [58, 59, 58].map(|session| lost.misses(session)),
            [20_000; 3]
        );
        assert_eq!(lost.misses(80), 20_000);
    }
}
