//! What is told of alerts that were judged elsewhere: which of them, when, how often, and what the notice says.
//!
//! One incident trips several rules and is told by a few. Changes no alert, so that many tellers can tell of the same ones.

mod habit;
mod hush;
mod notice;
mod teller;
mod told;
mod voices;

pub(super) use teller::{Place, Teller};
pub use told::Reason;
pub(super) use told::Told;
pub(super) use voices::Voices;
