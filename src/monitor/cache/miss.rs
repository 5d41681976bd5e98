//! A request that the prompt cache did not serve as it could have: why, and what that cost.
//!
//! Knows a single response. What was in the cache is for others to say.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::monitor::record::{Labels, Time, UsageRecord};
use crate::price::PicoUsd;

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

impl Outcome {
    /// The same where nobody can tell whether it was to be served.
    pub(super) fn doubted(self) -> Self {
        match self {
            Self::Miss(miss) if miss.cause.is_waste() => Self::Doubtful(miss),
            other => other,
        }
    }
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
