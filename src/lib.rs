//! Follows logs of Claude API responses and says within a second, in dollars, when a bill starts to run away, and why.
//!
//! ```text
//! bytes ─source→ Line ─parse→ Usage ─price→ UsageRecord ─window→ value ─rule→ breach ─alert→ Notice ─sink→ stderr · JSON · hook
//!        source/       parse/       pipeline        └──────────── monitor/ (pure: time is an argument) ─────────┘  sink/
//! ```
//!
//! `tail` and `replay` are this one line with two clocks. What each room may not know:
//!
//! | module | holds | may not know |
//! |---|---|---|
//! | [`cli`] | flags and their help | files, monitor |
//! | [`config`] | flags and environment → typed options | files that are followed |
//! | [`run`] | `tail`: the live loop, the only reader of the wall clock | clap, colour |
//! | [`lab`] | `replay`: the same engine over history | clap, colour |
//! | [`pipeline`] | line → record → evaluator | where lines come from, where notices go |
//! | [`source`] | bytes in; the state file | what lines mean, monitor, sinks |
//! | [`parse`] | one line → usage | I/O |
//! | [`price`] | names, prices, money | logs, windows |
//! | [`monitor`] | the core | I/O, threads, environment, clocks, colour |
//! | [`pattern`] | wildcards | what they stand for |
//! | [`sink`] | notices out | sources, windows |

pub mod cli;
pub mod config;
pub mod run;

pub mod lab;

pub mod pipeline;

pub mod source;

pub mod parse;

pub mod price;

pub mod monitor;

pub mod pattern;

pub mod sink;
