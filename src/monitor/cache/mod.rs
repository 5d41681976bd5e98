//! What the prompt cache should have given of each request, and what it gave.
//!
//! Holds each against its conversation, or, where it begins one, against what others of its kind began with. Knows nothing of rules
//! or windows.

mod chance;
mod conversation;
mod firsts;
mod lifetime;
mod miss;
mod others;
mod spread;
mod stream;

pub use chance::Odds;
pub use conversation::Run;
pub(super) use conversation::{LONG_TTL, READ_MEMORY_MS};
pub(super) use lifetime::Before;
pub use lifetime::Lifetimes;
pub use miss::{Cause, Miss, Outcome};
pub use spread::SEVERAL;
pub(super) use spread::{Elsewhere, is_of_several};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::record::{Labels, Prompts, Time, Tokens, UsageRecord};
use chance::Chance;
use conversation::Conversation;
use firsts::First;
use miss::miss;
use stream::Stream;

/// Conversations followed at once; the least recent are forgotten.
const MAX_CONVERSATIONS: usize = 10_000;

/// The last request of a session, whatever its model.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    at: Time,
    conversation: u64,
    cached: u64,
    ttl_secs: i64,
}

impl Session {
    /// One whose last request this was.
    fn of(record: &UsageRecord, at: Time, conversation: &Conversation) -> Self {
        Self {
            at,
            conversation: record.labels.conversation,
            cached: conversation.cached,
            ttl_secs: conversation.ttl_secs,
        }
    }
}

/// Streams beyond this are forgotten, all at once: what they have in common is soon known again.
const MAX_STREAMS: usize = 10_000;

/// All conversations.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CacheTracker {
    /// Prompts smaller than this are not judged.
    min_prompt_tokens: u64,
    conversations: FxHashMap<u64, Conversation>,
    sessions: FxHashMap<u64, Session>,
    streams: FxHashMap<u64, Stream>,
    chance: Chance,
    /// Runs that may have spread, so far.
    spreads: u64,
    /// What is known of the request before the last one, in the same conversation.
    #[serde(skip)]
    before: Option<Before>,
    /// The last request is to be looked at under these labels too, or instead of its own.
    #[serde(skip)]
    elsewhere: Option<Elsewhere>,
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
            before: None,
            elsewhere: None,
            late: Vec::new(),
        }
    }

    /// Judges a request and remembers it as the predecessor of the next. A sum of several says nothing of any of them.
    pub fn observe(&mut self, record: &UsageRecord, at: Time) -> Outcome {
        self.before = None;
        self.elsewhere = None;
        self.late.clear();
        match &record.prompts {
            _ if record.batch => Outcome::NotJudged,
            Prompts::One => self.observe_prompt(record, &record.tokens, at),
            Prompts::Sum | Prompts::Run => Outcome::NotJudged,
            Prompts::Steps(steps) => {
                let [first, .., last] = steps[..] else {
                    return Outcome::NotJudged;
                };
                let first = UsageRecord {
                    tokens: first,
                    ..record.clone()
                };
                self.observe_prompt(&first, &last, at)
            }
        }
    }

    /// Judges a prompt, which leaves in the cache what `left` was read and written.
    fn observe_prompt(&mut self, record: &UsageRecord, left: &Tokens, at: Time) -> Outcome {
        let prompt = record.tokens.prompt();
        if prompt < self.min_prompt_tokens {
            if !record.names_conversation()
                && let Some(stream) = self.streams.get_mut(&record.labels.stream)
            {
                stream.note_short(&record.tokens);
            }
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
        self.before = (!fresh).then(|| Before::of(record, at, conversation));
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
        // What was told goes on, whoever else comes.
        let is_told = conversation.run.as_ref().is_some_and(|run| run.told);
        let may_be_of_others = !record.names_conversation() && !is_told;
        if may_be_of_others && stream.is_of_others(&record.tokens) {
            conversation.note_other();
            return outcome.doubted();
        }
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
        conversation.remember(left, at, &outcome);
        if let Some(key) = session
            && before.is_none_or(|before| before.at <= at)
        {
            let session = Session::of(record, at, conversation);
            self.sessions.insert(key, session);
        }
        if let Some(labels) = ended.and_then(|spread| spread.labels) {
            self.end_spread(labels, at);
        } else if let Outcome::Miss(miss) = &outcome
            && miss.cause.is_waste()
        {
            stream.note_miss(record, at, &miss.cause, conversation.run.as_deref());
            self.spread(record, at, miss, &before_it);
        }
        self.late = before_it;
        outcome
    }

    /// Misses before the request that was observed last of which only that one shows that they were some.
    pub(super) fn take_late(&mut self) -> Vec<Miss> {
        std::mem::take(&mut self.late)
    }

    /// What is known of the request before the one that was observed last, in its conversation.
    pub(super) const fn before(&self) -> Option<Before> {
        self.before
    }

    /// Where else than under its own labels the request that was observed last belongs to a run.
    pub(super) fn take_elsewhere(&mut self) -> Option<Elsewhere> {
        self.elsewhere.take()
    }

    /// A copy of a response that was counted elsewhere is still what its own conversation goes on from.
    pub fn observe_copy(&mut self, record: &UsageRecord, at: Time) {
        let left = match &record.prompts {
            Prompts::One => Some(&record.tokens),
            Prompts::Sum | Prompts::Run => None,
            Prompts::Steps(steps) => steps.last(),
        };
        let Some(left) = left else {
            return;
        };
        if left.prompt() < self.min_prompt_tokens || record.batch {
            return;
        }
        let unnamed = !record.names_conversation();
        let conversation = self
            .conversations
            .entry(record.labels.conversation)
            .or_insert_with(|| Conversation::new(at, unnamed));
        if at >= conversation.last {
            conversation.remember(left, at, &Outcome::NotJudged);
        }
    }

    /// Moves what it remembers in time: the clock was wrong by so much.
    pub fn shift(&mut self, ms: i64) {
        for conversation in self.conversations.values_mut() {
            conversation.shift(ms);
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
        let run = self.conversations.get(&conversation)?.run.as_deref();
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
    use super::spread::stream_conversation;
    use super::*;
    use crate::monitor::{Labels, Tokens};
    use std::sync::Arc;

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

    fn tokens(cache_read: u64, cache_write_5m: u64) -> Tokens {
        Tokens {
            cache_write_5m,
            cache_read,
            ..Tokens::default()
        }
    }

    /// The request after one with a tool on the server puts 15,000 tokens more in the cache, and reads all that it had there.
    #[test]
    fn a_response_of_several_prompts_is_judged_by_the_first_and_leaves_the_last() {
        let (first, last) = (tokens(20_000, 0), tokens(20_000, 10_000));
        let after = |prompts: Prompts| {
            let mut cache = CacheTracker::new(5_000);
            let mut ask = |secs: i64, tokens: Tokens, prompts: Prompts| {
                let request = UsageRecord {
                    tokens,
                    prompts,
                    ..request(1, secs, true)
                };
                cache.observe(&request, Time::from_secs(secs))
            };
            ask(0, tokens(0, 20_000), Prompts::One);
            ask(5, tokens(20_000, 0), Prompts::One);
            let outcome = ask(10, tokens(40_000, 10_000), prompts);
            (outcome, ask(20, tokens(30_000, 15_000), Prompts::One))
        };
        let missed = |outcome: &Outcome| match outcome {
            Outcome::Miss(miss) => miss.tokens,
            _ => 0,
        };
        let steps = |first, last| Prompts::Steps([first, last].into());
        assert_eq!(after(steps(first, last)), (Outcome::Hit, Outcome::Hit));
        let (lost, next) = after(steps(tokens(0, 20_000), last));
        assert_eq!((missed(&lost), next), (20_000, Outcome::Hit));
        for unknown in [Prompts::Sum, Prompts::Run] {
            assert_eq!(after(unknown), (Outcome::NotJudged, Outcome::Hit));
        }
        // As one prompt it would have had 50,000 tokens there.
        assert_eq!(missed(&after(Prompts::One).1), 15_000);
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
