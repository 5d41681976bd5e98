//! What tokens cost: a dated table, exact model names, whole pico-dollars.
//!
//! Knows the price list and its rules. Does not know logs, windows or alerts.

mod litellm;
mod model;
mod money;
mod table;

pub use litellm::KINDS;
pub use model::{NameTrail, Platform};
pub use money::{PicoUsd, Ratio, RecordedCost, div_half_even, scaled_decimal, thousands};
pub use table::{
    Fallback, Model, Premium, PriceError, PriceTable, Quote, Rates, Resolved, Speed, Terms,
};
