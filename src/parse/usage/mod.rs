//! Usage objects in their dialects, read into token counts.
//!
//! Knows the fields of a usage object and nothing around it. A dialect is told by its field names, never by where it stands.

mod ai_sdk;
mod bedrock;
mod framework;
mod messages;
mod observed;
mod openai;

pub(super) use ai_sdk::{ai_sdk, is_ai_sdk};
pub(super) use bedrock::{converse_stream, invocation};
pub(super) use messages::{Delta, Named, NamedCount, idle_steps};
pub use openai::InputCount;
pub(super) use openai::{flat, genai, open_inference};

use super::json::{Object, Raw, is_null};
use super::scan::leading_digits;
use crate::monitor::{Prompts, Tokens};
use crate::price::{RecordedCost, Terms};

/// More tokens than this in one count are a mistake of the writer, not usage.
const MAX_COUNT: u64 = 1_000_000_000_000;

/// What a usage object says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) tokens: Tokens,
    /// Compaction steps (no model: that of the response) and advisors, billed beside the response.
    pub(super) extra: Vec<(Option<String>, Tokens)>,
    pub(super) terms: Terms,
    pub(super) priority: bool,
    pub(super) declined_hops: u32,
    /// Cache writes whose time to live is not told; counted as five minutes.
    pub(super) assumed_5m: bool,
    /// A prompt count that should hold the cache counts is smaller than them, so it was taken as without them.
    pub(super) taken_exclusive: bool,
    /// Of how many prompts they are.
    pub(super) prompts: Prompts,
    /// What the writer of the log says that it cost.
    pub(super) recorded_cost: Option<RecordedCost>,
}

impl Counts {
    /// The input holds the cache counts; one that is smaller than them must be without them already.
    fn take_out_of_input(&mut self) {
        let cached = self
            .tokens
            .cache_read
            .saturating_add(self.tokens.cache_write());
        self.taken_exclusive = cached > self.tokens.input;
        if !self.taken_exclusive {
            self.tokens.input -= cached;
        }
    }
}

/// Why a usage object cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// It counts tokens in a dialect that is not read.
    OtherDialect,
    /// It counts no tokens at all.
    NoUsage,
    /// A count is negative, fractional, too large or not a number.
    Number {
        reason: String,
        /// Address of the value, so that its column can be told if it stands in the line itself.
        address: usize,
    },
}

/// Reads a usage object. `model` is the response's own, to tell a declined hop of a fallback from its answer.
pub(super) fn read(usage: &Object, model: Option<&str>) -> Result<Counts, Refused> {
    let has = |key| usage.get(key).is_some();
    if has("input_tokens") || has("output_tokens") {
        messages::read(usage, model)
    } else if has("prompt_tokens") || has("completion_tokens") {
        openai::read(usage)
    } else if is_ai_sdk(usage, usage) {
        ai_sdk(usage, usage, model)
    } else if has("inputTokens") || has("outputTokens") {
        bedrock::converse(usage)
    } else if has("input") || has("output") {
        observed::read(usage)
    } else if usage
        .keys()
        .any(|key| key.to_ascii_lowercase().contains("token"))
    {
        Err(Refused::OtherDialect)
    } else {
        Err(Refused::NoUsage)
    }
}

/// A count: a whole number, also as `12.0` or `"12"`. Absent and null are `None`.
#[inline]
pub(super) fn count(object: &Object, key: &str) -> Result<Option<u64>, Refused> {
    match object.get(key) {
        None => Ok(None),
        Some(raw) => match plain_count(raw.bytes()) {
            Some(n) => Ok(Some(n)),
            None => any_count(key, raw),
        },
    }
}

/// A count that is written as nothing but digits, so few that any of them is allowed.
fn plain_count(text: &[u8]) -> Option<u64> {
    let (n, length) = leading_digits(text)?;
    (length == text.len()).then_some(n)
}

fn any_count(key: &str, raw: Raw<'_>) -> Result<Option<u64>, Refused> {
    let text = raw.get().trim_matches('"').trim();
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    match whole.parse::<u64>() {
        Ok(n) if n <= MAX_COUNT => Ok(Some(n)),
        _ if is_null(raw) || text.is_empty() => Ok(None),
        _ => Err(Refused::Number {
            reason: format!("{key} is {}", shown(raw)),
            address: raw.bytes().as_ptr().addr(),
        }),
    }
}

/// The first of several names of the same count that is there.
fn first_count(object: &Object, keys: &[&str]) -> Result<Option<u64>, Refused> {
    for key in keys {
        if let Some(n) = count(object, key)? {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

/// The total of cache writes is what is billed. What its split does not cover was written for five minutes; a split larger
/// than its total is cut to it. Without a total the split is all there is. Gives both kinds, and whether some of it had to be
/// assumed.
pub(super) fn split_writes(
    total: Option<u64>,
    written_5m: u64,
    written_1h: u64,
) -> (u64, u64, bool) {
    match total {
        Some(total) if total > 0 => {
            let one_hour = written_1h.min(total);
            (
                total - one_hour,
                one_hour,
                written_5m.saturating_add(written_1h) < total,
            )
        }
        _ => (written_5m, written_1h, false),
    }
}

/// A cost in dollars as it stands in a log.
pub(super) fn recorded_cost(raw: Raw<'_>) -> Option<RecordedCost> {
    RecordedCost::read(raw.get().trim_matches('"').trim())
}

/// The value for an error message: numbers and short words only, so that no text of a prompt gets out.
fn shown(raw: Raw<'_>) -> &str {
    let json = raw.get();
    let harmless = json.len() <= 40 && !json.contains(|c: char| c.is_whitespace() || c == '\\');
    if harmless && json.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        json
    } else {
        "not a whole number"
    }
}
