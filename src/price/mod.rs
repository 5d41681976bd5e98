//! What tokens cost: a dated table, exact model names, whole pico-dollars.
//!
//! Knows the price list and its rules. Does not know logs, windows or alerts.

mod file;
mod litellm;
mod model;
mod money;
mod name;
mod rates;
mod table;

pub use file::PriceError;
pub use litellm::KINDS;
pub use model::{Fallback, Model};
pub use money::{PicoUsd, Ratio, RecordedCost, div_half_even, scaled_decimal, thousands};
pub use name::{NameTrail, Platform};
pub use rates::{Premium, Quote, Rates, Speed, Terms};
pub use table::{PriceTable, Resolved};
