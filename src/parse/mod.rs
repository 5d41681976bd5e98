//! One line of bytes → usage records. The only place that knows wire formats.
//!
//! Does no I/O and reads no clock. Prompt text is skipped over and never copied.

mod json;
mod places;
mod time;
mod usage;

use std::borrow::Cow;

pub use json::Pointer;
pub use time::{Clock, Zone};

use crate::monitor::{Stamp, Time, Tokens};
use crate::price::Terms;
use json::Object;

/// Places in a line that the user names instead of the built-in search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Where the usage object stands.
    pub usage_field: Option<Pointer>,
    /// Where the model name stands.
    pub model_field: Option<Pointer>,
    /// Where the time stands.
    pub time_field: Option<Pointer>,
    /// Where the response id stands.
    pub id_field: Option<Pointer>,
    /// Where the session or conversation id stands.
    pub session_field: Option<Pointer>,
    /// The zone of times that name none.
    pub zone: Zone,
}

/// One response as its line tells it, before prices and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage<'a> {
    /// Response id.
    pub id: Option<Cow<'a, str>>,
    /// The user named the place of the id, so it is one whatever it looks like.
    pub id_is_named: bool,
    /// Request id, which some logs carry instead.
    pub request_id: Option<Cow<'a, str>>,
    /// Session or conversation id.
    pub session: Option<Cow<'a, str>>,
    /// Sub-agent id.
    pub agent: Option<Cow<'a, str>>,
    /// Project label or working directory.
    pub project: Option<Cow<'a, str>>,
    /// The line belongs to a side conversation of its session.
    pub sidechain: bool,
    /// Model name as written.
    pub model: Option<Cow<'a, str>>,
    /// When the response happened.
    pub stamp: Stamp,
    /// When its request was sent.
    pub started: Option<Time>,
    /// Token counts.
    pub tokens: Tokens,
    /// Usage billed beside it; without a model name at the response's own model.
    pub extra: Vec<(Option<String>, Tokens)>,
    /// Terms that change the price.
    pub terms: Terms,
    /// Priority tier.
    pub priority: bool,
    /// Declined hops of a fallback.
    pub declined_hops: u32,
    /// The API's reason for a cache miss, and the tokens it says were missed.
    pub miss_reason: Option<(String, Option<u64>)>,
    /// The output count is a placeholder.
    pub output_understated: bool,
    /// A refusal without content, which is not billed.
    pub not_billed: bool,
}

/// Something in a line that the monitor wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A response.
    Usage(Box<Usage<'a>>),
    /// A Claude Code session was compacted: its next prompt starts anew.
    CompactBoundary {
        /// The session.
        session: Option<Cow<'a, str>>,
        /// The sub-agent in it.
        agent: Option<Cow<'a, str>>,
    },
}

/// Why an object that looks like a response, or reports one, is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skipped {
    /// A progress line of Claude Code, which copies usage from a sub-agent's file.
    Progress,
    /// The closing line of a `claude -p` run.
    RunResult,
    /// One event of a stream.
    StreamEvent,
    /// A message that Claude Code made up itself.
    Synthetic,
    /// An error answer of the API.
    ApiError,
    /// Usage in a dialect that this version does not read.
    OtherDialect,
}

impl Skipped {
    /// The words for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Progress => "progress lines (their usage is counted in the sub-agent's own file)",
            Self::RunResult => "run results (they repeat the usage of their lines)",
            Self::StreamEvent => "stream events, which this version does not read",
            Self::Synthetic => "synthetic messages without usage",
            Self::ApiError => "API errors",
            Self::OtherDialect => {
                "usage objects without input_tokens or output_tokens, which this version does not read"
            }
        }
    }
}

/// What came of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing but white space.
    Blank,
    /// It held responses (how many) or other items.
    Items(u32),
    /// Valid JSON without a response.
    NoUsage,
    /// A response or a report of one that is not counted.
    Skipped(Skipped),
    /// It could not be read, whole or in part.
    Bad {
        /// Column of the fault, from 1.
        column: usize,
        /// What is wrong, without any text of the line.
        reason: String,
        /// Responses that were read before the fault.
        items: u32,
    },
}

enum Found<'a> {
    Usage(Box<Usage<'a>>),
    CompactBoundary {
        session: Option<Cow<'a, str>>,
        agent: Option<Cow<'a, str>>,
    },
    Skipped(Skipped),
    Bad(String),
    Nothing,
}

/// Reads one line, without its line feed, and hands over each response in it in order. A line may hold several objects.
pub fn parse_line(
    line: &[u8],
    options: &ParseOptions,
    clock: Clock,
    mut emit: impl FnMut(Item<'_>),
) -> Verdict {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text.trim(),
        Err(e) => return bad(e.valid_up_to() + 1, "invalid UTF-8".to_owned(), 0),
    };
    if text.is_empty() {
        return Verdict::Blank;
    }
    if !text.starts_with('{') {
        return bad(1, "not a JSON object".to_owned(), 0);
    }
    let mut items = 0;
    let mut skipped = None;
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Object>();
    loop {
        match objects.next() {
            Some(Ok(object)) => match places::find(&object, options, clock) {
                Found::Usage(usage) => {
                    items += 1;
                    emit(Item::Usage(usage));
                }
                Found::CompactBoundary { session, agent } => {
                    items += 1;
                    emit(Item::CompactBoundary { session, agent });
                }
                Found::Skipped(reason) => skipped = Some(reason),
                Found::Bad(reason) => return bad(1, reason, items),
                Found::Nothing => {}
            },
            // A comma after the last object comes from writers of JSON arrays.
            Some(Err(_)) if text[objects.byte_offset()..].trim() == "," => break,
            Some(Err(e)) => return bad(e.column(), kind_of(&e).to_owned(), items),
            None => break,
        }
    }
    match skipped {
        _ if items > 0 => Verdict::Items(items),
        Some(reason) => Verdict::Skipped(reason),
        None => Verdict::NoUsage,
    }
}

/// Whether the bytes are one or more whole JSON objects, so that no further byte can change them.
pub fn is_complete(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    text.trim_start().starts_with('{')
        && text.trim_end().ends_with('}')
        && objects.all(|object| object.is_ok())
}

fn bad(column: usize, reason: String, items: u32) -> Verdict {
    Verdict::Bad {
        column,
        reason,
        items,
    }
}

/// The kind of a JSON error. The library's own message may quote the text.
fn kind_of(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "the JSON object is cut off",
        serde_json::error::Category::Data => "not a JSON object",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "not valid JSON",
    }
}
