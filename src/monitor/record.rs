//! What the monitor is fed: one API response as numbers and labels.
//!
//! Knows nothing: not where a record came from, how it was written, or what will be made of it.

use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::price::{PicoUsd, Premium, Rates};

/// A moment of event time in whole milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Time(pub i64);

impl Time {
    /// The start of a whole second.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs * 1000)
    }

    /// The whole second that holds this moment.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Ticks are whole seconds: the first one that is not before this moment.
    pub const fn first_tick(self) -> i64 {
        self.secs() + (self.0.rem_euclid(1000) > 0) as i64
    }

    /// The whole minute that holds this moment.
    pub const fn minute(self) -> i64 {
        self.0.div_euclid(60_000)
    }

    /// This moment plus whole seconds.
    #[must_use]
    pub const fn plus_secs(self, secs: i64) -> Self {
        Self(self.0 + secs * 1000)
    }

    /// Moves it by so many milliseconds.
    pub const fn shift(&mut self, ms: i64) {
        self.0 = self.0.saturating_add(ms);
    }

    /// Milliseconds since an earlier moment; negative if it is later.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

/// When a response happened, as far as its line can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stamp {
    /// The record's own time.
    At(Time),
    /// The line names no time.
    Undated,
    /// The only time that the line names, which lies before 2023 or in the future.
    Impossible(Time),
}

/// Token counts of one response, or a sum of them. The four prompt kinds are disjoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tokens {
    /// Prompt tokens that were neither read from nor written to the cache.
    pub input: u64,
    /// Output tokens, thinking included.
    pub output: u64,
    /// Prompt tokens written to a cache entry that lives five minutes.
    pub cache_write_5m: u64,
    /// Prompt tokens written to a cache entry that lives one hour.
    pub cache_write_1h: u64,
    /// Prompt tokens read from the cache.
    pub cache_read: u64,
    /// Web searches: requests, not tokens.
    pub web_search: u64,
}

impl Tokens {
    /// Tokens written to the cache, whatever their time to live.
    pub const fn cache_write(&self) -> u64 {
        self.cache_write_5m + self.cache_write_1h
    }

    /// The prompt was read from the cache or written to it, in whichever part.
    pub const fn use_cache(&self) -> bool {
        self.cache_read + self.cache_write() > 0
    }

    /// The whole prompt of a request.
    pub const fn prompt(&self) -> u64 {
        self.input + self.cache_write() + self.cache_read
    }

    /// Tokens that were computed anew: everything but cache reads.
    pub const fn fresh(&self) -> u64 {
        self.input + self.output + self.cache_write()
    }

    /// Adds other counts to these.
    pub fn add(&mut self, other: &Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_write_5m += other.cache_write_5m;
        self.cache_write_1h += other.cache_write_1h;
        self.cache_read += other.cache_read;
        self.web_search += other.web_search;
    }

    /// Takes other counts from these; nothing goes below zero.
    pub fn subtract(&mut self, other: &Self) {
        let less = |a: &mut u64, b: u64| *a = a.saturating_sub(b);
        less(&mut self.input, other.input);
        less(&mut self.output, other.output);
        less(&mut self.cache_write_5m, other.cache_write_5m);
        less(&mut self.cache_write_1h, other.cache_write_1h);
        less(&mut self.cache_read, other.cache_read);
        less(&mut self.web_search, other.web_search);
    }
}

/// The identity of a response: a hash of its id and prompt counts, so that copies of it are counted once. Among a million
/// responses two would share one by chance once in forty million logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResponseId(pub u64);

/// All ways in which a response is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// By its own id, or by that of its request if it has none.
    pub id: ResponseId,
    /// By its request, if it also has an id of its own. Another exporter may know it by that alone.
    pub request: Option<ResponseId>,
    /// A hash of its own id without the prompt counts, to notice ids that stand for many responses.
    pub bare: Option<u64>,
}

/// The names a record can be grouped by. Shared by all records that carry the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Labels {
    /// Canonical model id, or the name in the log if no price is known for it.
    pub model: Arc<str>,
    /// Session id.
    pub session: Option<Arc<str>>,
    /// Sub-agent id within the session.
    pub agent: Option<Arc<str>>,
    /// Project: the log's own label, or the working directory of a Claude Code session.
    pub project: Option<Arc<str>>,
    /// The file or pipe the record was read from.
    pub source: Arc<str>,
    /// What stands at the places that the user groups by, in their order.
    pub places: Box<[Option<Arc<str>>]>,
    /// Several side conversations share these labels and cannot be told apart (old transcripts).
    pub interleaved: bool,
    /// Hash of session, agent and model, or without a session of model and project: which conversation this is.
    pub conversation: u64,
    /// Hash of the session alone: which run of Claude Code this is. `None` without a session.
    pub run: Option<u64>,
    /// Hash of model, project and whether it is a sub-agent: requests that have these in common begin with the same prompt.
    pub stream: u64,
}

impl Labels {
    /// Model, session and project, as far as they are known.
    pub fn names(&self) -> [Option<&Arc<str>>; 3] {
        [
            Some(&self.model),
            self.session.as_ref(),
            self.project.as_ref(),
        ]
    }

    /// Fills in the hashes that tell conversations, runs and streams apart.
    #[must_use]
    pub fn with_hashes(mut self) -> Self {
        self.run = self.session.as_ref().map(|session| {
            let mut hasher = rustc_hash::FxHasher::default();
            session.hash(&mut hasher);
            hasher.finish()
        });
        let mut hasher = rustc_hash::FxHasher::default();
        match &self.session {
            Some(session) => {
                (session, &self.agent, self.interleaved, &self.model).hash(&mut hasher);
            }
            None => (&self.model, &self.project).hash(&mut hasher),
        }
        self.conversation = hasher.finish();
        let mut hasher = rustc_hash::FxHasher::default();
        (&self.model, &self.project, self.agent.is_some()).hash(&mut hasher);
        self.stream = hasher.finish();
        self
    }
}

/// Usage that is billed beside the response's own: a compaction step, or an advisor at its own model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraUsage {
    /// The model that is billed.
    pub model: Arc<str>,
    /// What it used.
    pub tokens: Tokens,
    /// What that costs; `None` if its model has no price.
    pub cost: Option<PicoUsd>,
}

/// Why the API says the cache was missed, as logged in `diagnostics.cache_miss_reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissReason {
    /// The type that the API names, such as `system_changed`.
    pub kind: Arc<str>,
    /// How many tokens the cache would have given, if the API says.
    pub missed_tokens: Option<u64>,
}

/// A conversation was summed up, and its next prompt starts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    /// Whose it is; of which model is not known.
    pub labels: Arc<Labels>,
    /// Identity for counting copies once.
    pub id: Option<ResponseId>,
    /// What the summary cost stands nowhere in the log.
    pub is_unlogged: bool,
}

/// Of how many prompts the tokens of a response are. With tools on the server a response takes several steps, each of which reads
/// a prompt of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Prompts {
    /// Of one, as most are.
    #[default]
    One,
    /// Of several, and nobody knows what each was.
    Sum,
    /// Of those of these steps, in their order; there is more than one.
    Steps(Box<[Tokens]>),
    /// Those of several requests, each of which has an id of its own; the last one's stands for all.
    Run,
}

impl Prompts {
    /// Nobody knows how long each of them was.
    pub const fn are_unknown(&self) -> bool {
        matches!(self, Self::Sum | Self::Run)
    }
}

/// What is not exact about a record, or was decided for want of better knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caveats {
    /// The output count is a placeholder of a stream that had not ended: the cost is a lower bound.
    pub output_understated: bool,
    /// Priority tier: paid by commitment, valued at standard rates.
    pub priority: bool,
    /// A multiplier was asked for that the model does not have: valued at standard rates.
    pub assumed_standard: bool,
    /// A refusal without content: its tokens are not billed.
    pub not_billed: bool,
    /// Usage billed beside the response has no price: the cost is a lower bound.
    pub extra_unpriced: bool,
    /// Hops of a fallback that were declined: reported, not charged. The cost is a lower bound: some may have been billed.
    pub declined_hops: u32,
    /// The time to live of cache writes is not told; valued at the price of five minutes, so the cost is a lower bound.
    pub assumed_5m: bool,
    /// An input count that should hold the cache counts was smaller than them and taken as without them.
    pub taken_exclusive: bool,
    /// Of several prompts nobody knows how long each was; valued as short ones, so the cost is a lower bound.
    pub assumed_short: bool,
}

/// One priced API response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    /// Identity for counting copies once; `None` counts every line.
    pub id: Option<Identity>,
    /// When the response happened.
    pub stamp: Stamp,
    /// When its request was sent, if the line says so.
    pub started: Option<Time>,
    /// Group names.
    pub labels: Arc<Labels>,
    /// What it used.
    pub tokens: Tokens,
    /// Usage billed beside it. Rare.
    pub extra: Vec<ExtraUsage>,
    /// Total cost, priced extra usage included; `None` if the response's own model has no price.
    pub cost: Option<PicoUsd>,
    /// Prices per token that applied, for valuing a cache miss.
    pub rates: Option<Rates>,
    /// Why these are above the usual ones of its model, if they are.
    pub premium: Premium,
    /// Part of a batch: counts in totals, never in a rate.
    pub batch: bool,
    /// Of how many prompts its tokens are.
    pub prompts: Prompts,
    /// Why the API says the cache was missed.
    pub miss_reason: Option<MissReason>,
    /// What is not exact.
    pub caveats: Caveats,
}

impl UsageRecord {
    /// A response that says nothing: what a test is about is laid over it.
    #[cfg(test)]
    pub(crate) fn blank() -> Self {
        Self {
            id: None,
            stamp: Stamp::Undated,
            started: None,
            labels: Arc::default(),
            tokens: Tokens::default(),
            extra: Vec::new(),
            cost: None,
            rates: None,
            premium: Premium::default(),
            batch: false,
            prompts: Prompts::One,
            miss_reason: None,
            caveats: Caveats::default(),
        }
    }

    /// The record's own tokens plus those billed beside it.
    pub fn all_tokens(&self) -> Tokens {
        let mut sum = self.tokens;
        for extra in &self.extra {
            sum.add(&extra.tokens);
        }
        sum
    }

    /// Reads a little of each part. What another thread has written lies far away: that of several records is waited for together.
    pub fn fetch(&self) {
        let first = self.rates.map_or(0, |rates| rates.input);
        let last = self.rates.map_or(0, |rates| rates.cache_read);
        let parts = (self.id.is_some(), self.stamp, self.started.is_some());
        let sums = (self.tokens.input, self.tokens.output, self.cost.is_some());
        let rest = (
            self.caveats.declined_hops,
            self.miss_reason.is_some(),
            self.extra.len(),
        );
        std::hint::black_box((first, last, parts, sums, rest));
    }

    /// A session id names the conversation, so its requests share a growing prompt.
    pub fn names_conversation(&self) -> bool {
        self.labels.session.is_some() && !self.labels.interleaved
    }
}

/// The name that stands for a missing model.
pub const NO_MODEL: &str = "(no model)";

/// One error answer of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRecord {
    /// Identity for counting copies once; `None` counts every line.
    pub id: Option<ResponseId>,
    /// When it happened.
    pub stamp: Stamp,
    /// Group names.
    pub labels: Arc<Labels>,
    /// Of which kind it was, if the line says so: `rate_limit_error`.
    pub kind: Option<Arc<str>>,
    /// Part of a batch: counts in totals, never in a rate.
    pub batch: bool,
}

/// What a run of Claude Code says that it used in all, main conversation, sub-agents and auxiliary calls together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReport {
    /// Which run; `None` if the line names no session.
    pub run: Option<u64>,
    /// Identity of the report, so that copies of it count once.
    pub id: u64,
    /// Its usage by model.
    pub models: Vec<RunUsage>,
}

/// What a run used of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunUsage {
    /// Group names.
    pub labels: Arc<Labels>,
    /// The line names no model.
    pub nameless: bool,
    /// Tokens.
    pub tokens: Tokens,
    /// Prices per token; `None` if the model has none.
    pub rates: Option<Rates>,
    /// Price of a web search.
    pub per_search: PicoUsd,
    /// Cache writes whose time to live is not told are among them.
    pub assumed_5m: bool,
}
