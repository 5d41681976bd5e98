//! Whether cache writes with the other time to live would have cost clearly less, in words.
//!
//! Knows sums, and neither requests nor prices.

use super::text::clean;
use crate::monitor::{Lifetimes, Totals};
use crate::price::PicoUsd;

/// A saving is worth a sentence from here on, and from a twentieth of what its model cost.
const MUCH: PicoUsd = PicoUsd::DOLLAR;

/// The models for which it would have been clearly less, and how much, the largest first.
fn models(totals: &Totals, gain: impl Fn(&Lifetimes) -> PicoUsd) -> Vec<(&str, PicoUsd)> {
    let mut models = Vec::new();
    for (name, lifetimes) in &totals.lifetimes {
        let cost = totals.by_model.get(name).map(|total| total.cost);
        let gain = gain(lifetimes);
        if gain >= MUCH && gain.0 * 20 >= cost.unwrap_or_default().0 {
            models.push((&**name, gain));
        }
    }
    models.sort_by_key(|(_, gain)| std::cmp::Reverse(*gain));
    models
}

/// `about $246.94 less (claude-opus-4-7)`.
fn less(models: &[(&str, PicoUsd)]) -> Option<String> {
    let sum: PicoUsd = models.iter().map(|(_, gain)| *gain).sum();
    let whose = match models {
        [] => return None,
        [(name, _)] => clean(name).into_owned(),
        _ => {
            let each = models.iter();
            let each = each.map(|(name, gain)| format!("{} {gain}", clean(name)));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    Some(format!("about {sum} less ({whose})"))
}

/// What expired would have been cheaper to keep for an hour.
pub fn hour_is_cheaper(totals: &Totals) -> bool {
    !models(totals, |gain| gain.hour).is_empty()
}

/// What to set `ttl` of `cache_control` to, and what that would have saved. Usually nothing.
pub fn ttl_advice(totals: &Totals) -> impl Iterator<Item = String> {
    let hour = less(&models(totals, |gain| gain.hour)).map(|less| {
        format!(
            "\"ttl\": \"1h\" in cache_control would have cost {less}: most of what expired after five minutes would still have been there"
        )
    });
    let minutes = less(&models(totals, |gain| gain.minutes)).map(|less| {
        format!(
            "\"ttl\": \"5m\" in cache_control would have cost {less}: little is read after more than five minutes, and writing for an hour costs more"
        )
    });
    hour.into_iter().chain(minutes)
}
