//! What is usual: of the minutes of the last week, and of the same time of other days.
//!
//! Whole numbers and minutes in, whole numbers out. Knows no rule and no alert: whoever asks says what counts.

mod baseline;
mod histogram;
mod hours;

pub use baseline::{Baseline, MIN_MINUTES, Usual};
pub(super) use baseline::{Held, Samples};

/// A value in the fixed-point unit of all metrics and limits: 10⁻¹² of a dollar, a token, a share or a count.
pub type Amount = i128;

/// One whole unit.
pub const UNIT: Amount = 1_000_000_000_000;
