//! The core: records in, notices out.
//!
//! Pure and deterministic. Time comes in as an argument; there is no I/O, no thread, no environment, no clock and no colour
//! here. The same records and ticks give the same notices, live and in replay.
//!
//! | in reading order | holds |
//! |---|---|
//! | [`record`](UsageRecord), [`dedupe`](Dedupe), [`reconcile`](Ledger) | one response as numbers; what was counted already; what runs say of themselves |
//! | [`window`](Window), [`totals`](Totals) | sums: of the last minutes or hours, of a whole span |
//! | `usual/` | what is usual: [`Baseline`] |
//! | `cache/` | what the prompt cache should have given, and gave: [`CacheTracker`], [`Miss`] |
//! | `who/` | whose it was, and what of: [`Makeup`], [`Portion`] |
//! | [`metric`](Metric), [`rule`](Rule), `variants` | which number is held against which limit; rules judged as one |
//! | [`alert`](Alert), `held`, `step` | the life of an alert; samples of an episode; how it moves on |
//! | `scope`, `key` | rules with the same keys; what one key has seen |
//! | `calm`, `quick`, `reading`, `leak` | a rule's value against its limit, two cheaper looks at it, and a cache that loses all day |
//! | `arrival`, `state` | why rules are read; what all keys share |
//! | [`calendar`](Calendar), `budget`, `blind` | what no window shows: a calendar's dollars, nothing seen |
//! | `tell/` | which alerts are told, when, and what the [`Notice`] says |
//! | `settings/` | many settings of a rule in one evaluator, for the laboratory: a plain run has one |
//! | [`evaluator`](Evaluator) | where all meet; `tick` (as time passes), `memory` (across runs), `learning` and `explain` (how it stands) |
//!
//! A room shows in its `mod.rs` what others may use of it.

mod alert;
mod arrival;
mod blind;
mod budget;
mod cache;
mod calendar;
mod calm;
mod dedupe;
mod evaluator;
mod explain;
mod held;
mod key;
mod leak;
mod learning;
mod memory;
mod metric;
mod quick;
mod reading;
mod reconcile;
mod record;
mod rule;
mod scope;
mod settings;
mod state;
mod step;
mod tell;
mod tick;
mod totals;
mod usual;
mod variants;
mod who;
mod window;

pub use alert::{Alert, Basis, CauseTally, Episode, Notice, Phase, Reading, Share};
pub use blind::BlindSpot;
pub use cache::{CacheTracker, Cause, Lifetimes, Miss, Odds, Outcome, Run, SEVERAL};
pub use calendar::{Calendar, ClockChange, PERIODS, Period, PlainDays, Stretch};
pub use dedupe::{Dedupe, Growth, Sighting};
pub use evaluator::{Counted, Evaluator, Settings};
pub use explain::Explained;
pub use learning::Learning;
pub use memory::{Memory, Remembered};
pub use metric::{METRICS, Metric, Unit, Value};
pub use reconcile::{Change, Ledger, Residual};
pub use record::{
    Caveats, Compaction, ErrorRecord, ExtraUsage, Identity, Labels, MissReason, NO_MODEL, Prompts,
    ResponseId, RunReport, RunUsage, Stamp, Time, Tokens, UsageRecord,
};
pub use rule::{
    BEYOND_BUSY, DEFAULT_RULES, Filter, LABELS, Label, Limit, Rule, RuleError, Severity,
};
pub use tell::Reason;
pub use totals::{CauseTotal, GroupBy, ModelTotal, OTHER_GROUPS, Totals};
pub use usual::{Amount, Baseline, MIN_MINUTES, UNIT, Usual};
pub use variants::Variants;
pub use who::{Changed, MAX_PROJECTS, Makeup, PORTIONS, Portion, Portions, ProjectShare, Rate};
pub use window::{BUCKETS, Summed, Sums, Window, Windows};
