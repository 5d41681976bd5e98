//! What is usual: of the minutes of the last week, and of the same time of other days.
//!
//! Whole numbers and minutes in, whole numbers out. Knows no rule and no alert: whoever asks says what counts.

mod baseline;
mod hours;

pub use baseline::{Amount, Baseline, MIN_MINUTES, UNIT, Usual};
pub(super) use baseline::{Held, Samples};
