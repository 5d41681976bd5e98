//! Whether a key loses a part of the cache all the time: no incident, it is how prompts are built.
//!
//! Knows one window of one key. That it is said once is for the alert to know.

use std::cmp::Reverse;

use super::key::Key;
use super::rule::{Rule, times};
use super::window::{BUCKETS, Sums};
use crate::price::PicoUsd;

/// So many buckets of the window of a leak, the dearest, may be those of an incident: six hours of a day. The others leak as well, and
/// lie over more than half of the window.
const OF_AN_INCIDENT: usize = 15;

/// In at least so many of the others something was missed.
const LEAKING: usize = 5;

/// What was paid again is more than this, and not that of an incident: the same share is paid again all over the window. Only asked
/// with a response that missed. None if it is not so.
pub(super) fn leak(key: &Key, rule: &Rule) -> Option<PicoUsd> {
    if key.misses.back()?.at < key.last_record {
        return None;
    }
    let window = key.window(*rule.windows.first()?)?;
    let total = window.total();
    let share_of = |cost: PicoUsd| times(cost.0, rule.share_of_cost);
    let limit = rule.min_waste.0.max(share_of(total.cost));
    if total.eligible < rule.min_requests || total.waste.0 <= limit {
        return None;
    }
    let mut buckets: Vec<(i64, Sums)> = window.each_bucket().collect();
    buckets.sort_by_key(|(_, sums)| Reverse(sums.waste));
    let others = buckets.get(OF_AN_INCIDENT..)?;
    let cost: PicoUsd = others.iter().map(|(_, sums)| sums.cost).sum();
    let waste: PicoUsd = others.iter().map(|(_, sums)| sums.waste).sum();
    let leaking = others.iter().filter(|(_, sums)| sums.affected > 0);
    let leaking: Vec<i64> = leaking.map(|(index, _)| *index).collect();
    let over = leaking.iter().max()? - leaking.iter().min()?;
    let goes_on = leaking.len() >= LEAKING && over > BUCKETS / 2;
    (goes_on && waste.0 > share_of(cost)).then_some(PicoUsd(limit))
}
