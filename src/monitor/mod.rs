//! The core: records in, notices out.
//!
//! Pure and deterministic. Time comes in as an argument; there is no I/O, no thread, no environment, no clock and no colour
//! here. The same records and ticks give the same notices, live and in replay.
//!
//! In reading order: [`record`](UsageRecord), [`dedupe`](Dedupe), [`reconcile`](Ledger), [`window`](Window),
//! [`baseline`](Baseline), `hours` (what comes at the same time of each day), [`miss`](Miss), `conversation`, `firsts` and
//! `stream` (what conversations have in common), `spread` (what they miss together), [`cache`](CacheTracker), [`metric`](Metric),
//! [`rule`](Rule), `variants` (rules judged as one), [`alert`](Alert), [`totals`](Totals), `scope` (rules with the same keys),
//! `key` (what one of these has seen), `held` (samples of an episode), `reading` (a rule's value against its limit), `quick` (the
//! cheapest look at it), `step` (how an alert moves on), `arrival` (why rules are read), `state` (what all keys share). That is
//! judging. What is told of it:
//! `told` (of one episode), `voices` (who speaks), `own_rule` (one that each teller judges for itself), `own` and `own_by_key` (its
//! alerts), `spoken` (what these
//! explain of others), `teller`, `notice` (what it says), `makeup` and `portion` (what has changed), `weight`, `names`, `day` and
//! `failures` (whose it is). Both meet in [`evaluator`](Evaluator); `memory` is what it remembers across runs, `learning` what it does
//! not know yet, `settings` has one for many settings of a rule.

mod alert;
mod arrival;
mod baseline;
mod blind;
mod budget;
mod cache;
mod calm;
mod chance;
mod conversation;
mod day;
mod dedupe;
mod evaluator;
mod explain;
mod failures;
mod firsts;
mod held;
mod hours;
mod hush;
mod key;
mod learning;
mod makeup;
mod memory;
mod metric;
mod miss;
mod names;
mod notice;
mod own;
mod own_by_key;
mod own_rule;
mod portion;
mod quick;
mod reading;
mod reconcile;
mod record;
mod rule;
mod scope;
mod settings;
mod spoken;
mod spread;
mod state;
mod step;
mod stream;
mod teller;
mod told;
mod totals;
mod turn;
mod variants;
mod voices;
mod watch;
mod weight;
mod window;

pub use alert::{Alert, Basis, CauseTally, Episode, Notice, Phase, Reading, Share};
pub use baseline::{Amount, Baseline, MIN_MINUTES, UNIT, Usual};
pub use blind::BlindSpot;
pub use budget::{Calendar, PERIODS, Period, PlainDays, Stretch};
pub use cache::CacheTracker;
pub use chance::Odds;
pub use conversation::Run;
pub use dedupe::{Dedupe, Growth, Sighting};
pub use evaluator::{Counted, Evaluator, Settings};
pub use explain::Explained;
pub use learning::Learning;
pub use memory::{Memory, Remembered};
pub use miss::{Cause, Miss, Outcome};

pub use makeup::{Changed, MAX_PROJECTS, Makeup, ProjectShare, Rate};
pub use metric::{METRICS, Metric, Unit, Value};
pub use portion::{PORTIONS, Portion, Portions};
pub use reconcile::{Change, Ledger, Residual};
pub use record::{
    Caveats, ErrorRecord, ExtraUsage, Identity, Labels, MissReason, NO_MODEL, ResponseId,
    RunReport, RunUsage, Stamp, Time, Tokens, UsageRecord,
};
pub use rule::{
    BEYOND_BUSY, DEFAULT_RULES, Filter, LABELS, Label, Limit, Rule, RuleError, Severity,
};
pub use spread::SEVERAL;
pub use told::Reason;
pub use totals::{CauseTotal, GroupBy, ModelTotal, OTHER_GROUPS, Totals};
pub use variants::Variants;
pub use window::{BUCKETS, Summed, Sums, Window};
