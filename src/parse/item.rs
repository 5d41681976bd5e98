//! What lines hold, in the words of no wire format.
//!
//! Values only, before prices and labels. Knows nothing of how they were written.

use crate::monitor::{Prompts, Stamp, Time, Tokens};
use crate::price::{RecordedCost, Terms};
use serde::{Deserialize, Serialize};

/// One response as its line tells it, before prices and labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Response id.
    pub id: Option<String>,
    /// The user named the place of the id, so it is one whatever it looks like.
    pub id_is_named: bool,
    /// Request id, which some logs carry instead.
    pub request_id: Option<String>,
    /// Whose it is.
    pub names: Names,
    /// The line belongs to a side conversation of its session.
    pub sidechain: bool,
    /// Model name as written.
    pub model: Option<String>,
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
    /// Cache writes whose time to live is not told; counted as five minutes.
    pub assumed_5m: bool,
    /// An input count that should hold the cache counts cannot, so it was taken as without them.
    pub taken_exclusive: bool,
    /// Of how many prompts its counts are.
    pub prompts: Prompts,
    /// What the writer of the log says that it cost.
    pub recorded_cost: Option<RecordedCost>,
}

/// The names that a line gives to whom a response belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Names {
    /// Session or conversation id.
    pub session: Option<String>,
    /// Sub-agent id.
    pub agent: Option<String>,
    /// Project label or working directory.
    pub project: Option<String>,
    /// What stands at the places that the user groups by, in their order.
    pub places: Vec<Option<String>>,
}

/// An error answer of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Id of the line or request, so that copies count once.
    pub id: Option<String>,
    /// Whose it is.
    pub names: Names,
    /// The model that was asked, if the line says so.
    pub model: Option<String>,
    /// When it happened.
    pub stamp: Stamp,
    /// Of which kind it was, if the line says so: `rate_limit_error`.
    pub kind: Option<String>,
    /// Part of a batch.
    pub batch: bool,
}

/// What a whole run used, as its closing line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Session id.
    pub session: Option<String>,
    /// Project label or working directory.
    pub project: Option<String>,
    /// Id of the line.
    pub id: Option<String>,
    /// By model.
    pub models: Vec<RunModel>,
    /// Cache writes of five minutes and of one hour in a part of the run: the ratio for the whole.
    pub writes: (u64, u64),
}

/// One model of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunModel {
    /// Its name; `None` if the line names no model.
    pub name: Option<String>,
    /// What it used; all cache writes stand as those of five minutes.
    pub tokens: Tokens,
    /// What the line says that it cost.
    pub recorded_cost: Option<RecordedCost>,
}

/// Something in a line that the monitor wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A response.
    Usage(Box<Usage>),
    /// A Claude Code session was compacted: its next prompt starts anew.
    CompactBoundary {
        /// The session.
        session: Option<String>,
        /// The sub-agent in it.
        agent: Option<String>,
        /// Id of the line, so that copies count once.
        id: Option<String>,
        /// What the summary cost stands nowhere in such a log.
        is_unlogged: bool,
    },
    /// An error answer.
    Error(Box<ApiError>),
    /// The sum of a run.
    Run(Box<Run>),
}

/// Why an object that looks like a response, or reports one, is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skipped {
    /// A progress line of Claude Code, which copies usage from a sub-agent's file.
    Progress,
    /// An event of a stream whose beginning was not seen.
    StreamEvent,
    /// A message that Claude Code made up itself.
    Synthetic,
    /// A batch request that was cancelled or expired.
    BatchWithoutAnswer,
    /// A full copy of a response that another event of the same exporter counts.
    Copy,
    /// Usage in a dialect that this version does not read.
    OtherDialect,
}

impl Skipped {
    /// The words for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Progress => "progress lines (their usage is counted in the sub-agent's own file)",
            Self::StreamEvent => "events of streams whose beginning is not in the log",
            Self::Synthetic => "synthetic messages without usage",
            Self::BatchWithoutAnswer => "batch requests that were cancelled or expired",
            Self::Copy => "copies of what another event of the same exporter counts",
            Self::OtherDialect => "usage objects in a dialect that this version does not read",
        }
    }
}

/// What came of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing but white space.
    Blank,
    /// It held responses (how many) or other items.
    Items(usize),
    /// A part of something: an event of a stream, a piece of a line that was split.
    Part,
    /// Valid JSON without a response.
    NoUsage,
    /// A response or a report of one that is not counted.
    Skipped(Skipped),
    /// It could not be read, whole or in part.
    Bad {
        /// Column of the fault in bytes, from 1.
        column: usize,
        /// What is wrong, without any text of the line.
        reason: String,
        /// Responses that were read before the fault.
        items: usize,
    },
}
