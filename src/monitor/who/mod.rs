//! Whose it was, and what of: what an alert can say beside its number.
//!
//! Kept for each key as records come in, and read when something is told. Decides nothing: no alert fires, or is withheld, by it.

mod day;
mod failures;
mod makeup;
mod names;
mod portion;
mod weight;

pub(super) use failures::Failures;
pub use makeup::{Changed, MAX_PROJECTS, Makeup, ProjectShare, Rate};
pub(super) use makeup::{Past, is_of_makeup};
pub(super) use names::{Names, Top};
pub use portion::{PORTIONS, Portion, Portions};
pub(super) use weight::{Measure, Weight, add_to, shares};
