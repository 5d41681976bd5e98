//! The words for what has changed since an alert about spending began: more responses, another model, longer prompts or outputs, less
//! from the cache.
//!
//! Compares two makeups, and knows nothing of limits.

use super::text::{clean, quantity};
use crate::monitor::{Changed, Makeup, Metric, Notice};

/// Something that is not as it was.
pub(super) struct Change {
    /// How many times what it was, in tenths; shares weigh likewise.
    weight: u128,
    /// `outputs 3.1 times as long (1.2k tokens)`.
    pub(super) words: String,
    /// What to look for.
    pub(super) look_at: String,
}

/// Less than this many tenths is as before.
const MORE_OFTEN: u128 = 15;
const LONGER: u128 = 13;

/// So many points of a hundred.
const OF_COST: u64 = 20;
const OF_PROMPTS: u64 = 10;

/// What has changed so much that it is worth a word, the most first.
pub(super) fn changes(notice: &Notice) -> Vec<Change> {
    let metric = notice.rule.metric;
    let Some(changed) = notice.changed.as_ref().filter(|_| notice.value.is_some()) else {
        return Vec::new();
    };
    let Changed { before, now } = changed;
    if now.requests == 0 || before.requests == 0 {
        return Vec::new();
    }
    let of_prompts = !matches!(metric, Metric::OutputTokens | Metric::OutputPerRequest);
    let of_outputs = !matches!(metric, Metric::PromptTokens | Metric::PromptPerRequest);
    let is_of_each = metric != Metric::Requests;
    let of_cost = matches!(metric, Metric::Cost | Metric::CostPerRequest);
    let of_cache = of_cost || metric == Metric::Tokens;
    let found = [
        metric.is_volume().then(|| requests(before, now)).flatten(),
        of_cost.then(|| model(before, now)).flatten(),
        (is_of_each && of_outputs)
            .then(|| longer("outputs", before.output, now.output, changed))
            .flatten(),
        (is_of_each && of_prompts)
            .then(|| longer("prompts", before.prompt, now.prompt, changed))
            .flatten(),
        of_cache.then(|| cache(before, now)).flatten(),
    ];
    let mut found: Vec<Change> = found.into_iter().flatten().collect();
    found.sort_by_key(|change| std::cmp::Reverse(change.weight));
    found
}

/// `a` of `of_a` for each `b` of `of_b`, in tenths.
fn times((a, of_a): (u64, u64), (b, of_b): (u64, u64)) -> u128 {
    let [a, of_a, b, of_b] = [a, of_a, b, of_b].map(u128::from);
    a * of_b * 10 / (of_a * b).max(1)
}

/// `3.1 times`.
fn in_words(tenths: u128) -> String {
    match tenths {
        ..100 => format!("{}.{} times", tenths / 10, tenths % 10),
        _ => format!(
            "{} times",
            quantity(u64::try_from(tenths / 10).unwrap_or(u64::MAX))
        ),
    }
}

fn requests(before: &Makeup, now: &Makeup) -> Option<Change> {
    let weight = times(
        (now.requests, now.minutes),
        (before.requests, before.minutes),
    );
    let a_minute = now.requests.div_ceil(now.minutes.max(1));
    (weight >= MORE_OFTEN).then(|| Change {
        weight,
        words: format!(
            "{} as many responses ({} a minute)",
            in_words(weight),
            quantity(a_minute)
        ),
        look_at: "what sends so many: a loop, retries, or more users".to_owned(),
    })
}

fn model(before: &Makeup, now: &Makeup) -> Option<Change> {
    let (model, share) = now.models.first()?;
    let known = before.models.iter().find(|(known, _)| known == model);
    // Those with the largest shares are known.
    let least = before.models.get(2).map_or(0, |(_, share)| *share);
    let was = known.map_or(least, |(_, share)| *share);
    let was_in_words = match known {
        None if least > 0 => format!("at most {least} %"),
        _ => format!("{was} %"),
    };
    (u64::from(*share) >= u64::from(was) + OF_COST).then(|| Change {
        weight: 10 * u128::from(*share) / u128::from(was.max(10)),
        words: format!(
            "{} is {share} % of the cost, {was_in_words} before",
            clean(model)
        ),
        look_at: format!("what has chosen {}", clean(model)),
    })
}

fn longer(what: &str, was: u64, is: u64, changed: &Changed) -> Option<Change> {
    let Changed { before, now } = changed;
    let weight = times((is, now.requests), (was, before.requests));
    let look_at = match what {
        "outputs" => "what asks for longer answers: max_tokens, thinking, or the task",
        _ => "what has made prompts longer: history, files or tools",
    };
    (weight >= LONGER).then(|| Change {
        weight,
        words: format!(
            "{what} {} as long ({} tokens)",
            in_words(weight),
            quantity(is / now.requests)
        ),
        look_at: look_at.to_owned(),
    })
}

fn cache(before: &Makeup, now: &Makeup) -> Option<Change> {
    let share = |makeup: &Makeup| makeup.read * 100 / makeup.prompt.max(1);
    let (was, is) = (share(before), share(now));
    (was >= is + OF_PROMPTS).then(|| Change {
        weight: 10 * u128::from(100 - is.min(100)) / u128::from(100_u64.saturating_sub(was).max(1)),
        words: format!("{is} % of prompts from the cache, {was} % before"),
        look_at: "why the cache gives less".to_owned(),
    })
}
