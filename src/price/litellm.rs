//! The price file that the ecosystem keeps, `model_prices_and_context_window.json`, read as it is.
//!
//! Its numbers are US dollars per token. It knows no dates and not every kind of token; what it lacks is somebody else's
//! business.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::money::{Ratio, per_token};

/// The kinds of tokens that have a price of their own, in the order of the five prices.
pub const KINDS: [&str; 5] = [
    "input",
    "output",
    "cache write 5m",
    "cache write 1h",
    "cache read",
];

const KEYS: [&str; 5] = [
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr",
    "cache_read_input_token_cost",
];

/// The sizes of a prompt above which other prices may hold.
const TIERS: [(&str, u64); 3] = [
    ("_above_100k_tokens", 100_000),
    ("_above_128k_tokens", 128_000),
    ("_above_200k_tokens", 200_000),
];

/// One model of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name, lower-cased.
    pub(super) name: String,
    /// It is sold by Anthropic itself, so its name is that of the model everywhere.
    pub(super) is_first_party: bool,
    /// The five prices in pico-dollars per token, those that it has.
    pub(super) prices: [Option<u64>; 5],
    /// Prices for long prompts, and above how many tokens they hold.
    pub(super) long: Option<(u64, [Option<u64>; 5])>,
    pub(super) batch: Option<Ratio>,
    pub(super) fast: Option<Ratio>,
    pub(super) us_geo: Option<Ratio>,
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Whether a JSON object is such a file: it maps names to objects with prices per token.
pub(super) fn is_one(json: &str) -> bool {
    serde_json::from_str::<Fields>(json).is_ok_and(|file| {
        !file.contains_key("models")
            && file
                .values()
                .any(|entry| entry.get().contains("\"input_cost_per_token\""))
    })
}

/// All models with a price per token. One that costs nothing is left out: that is a price nobody wrote down, not a gift.
pub(super) fn read(json: &str) -> Result<Vec<Entry>, serde_json::Error> {
    let file: Fields = serde_json::from_str(json)?;
    let entries = file
        .iter()
        .filter(|(name, _)| *name != "sample_spec")
        .filter_map(|(name, raw)| entry(name, &serde_json::from_str(raw.get()).ok()?));
    Ok(entries.collect())
}

fn entry(name: &str, fields: &Fields) -> Option<Entry> {
    let price = |key: &str| per_token(fields.get(key)?.get());
    let prices = KEYS.map(price);
    if prices[0]? + prices[1]? == 0 {
        return None;
    }
    let long = TIERS.iter().find_map(|(suffix, above)| {
        let prices = KEYS.map(|key| price(&format!("{key}{suffix}")));
        (prices[0].is_some() && prices[1].is_some()).then_some((*above, prices))
    });
    let batches = ["input_cost_per_token", "output_cost_per_token"]
        .map(|key| ratio(price(&format!("{key}_batches"))?, price(key)?));
    let special = fields
        .get("provider_specific_entry")
        .and_then(|raw| serde_json::from_str::<Fields>(raw.get()).ok())
        .unwrap_or_default();
    let special = |key: &str| {
        let thousandths = super::money::scaled_decimal(special.get(key)?.get(), 3)?;
        ratio(u64::try_from(thousandths).ok()?, 1000)
    };
    let provider: Option<String> = fields
        .get("litellm_provider")
        .and_then(|raw| serde_json::from_str(raw.get()).ok());
    Some(Entry {
        name: name.to_lowercase(),
        is_first_party: provider.as_deref() == Some("anthropic"),
        prices,
        long,
        batch: batches[0].filter(|batch| batches[1] == Some(*batch)),
        fast: special("fast"),
        us_geo: special("us"),
    })
}

fn ratio(num: u64, den: u64) -> Option<Ratio> {
    if num == 0 || den == 0 {
        return None;
    }
    let (mut a, mut b) = (num, den);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    Some(Ratio {
        num: u32::try_from(num / a).ok()?,
        den: u32::try_from(den / a).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
      "sample_spec": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "litellm_provider": "one of"},
      "claude-opus-4-7": {"input_cost_per_token": 5e-06, "output_cost_per_token": 2.5e-05, "cache_read_input_token_cost": 5e-07,
        "cache_creation_input_token_cost": 6.25e-06, "cache_creation_input_token_cost_above_1hr": 1e-05,
        "input_cost_per_token_batches": 2.5e-06, "output_cost_per_token_batches": 1.25e-05,
        "litellm_provider": "anthropic", "provider_specific_entry": {"us": 1.1, "fast": 6.0}},
      "us.anthropic.claude-x-v1:0": {"input_cost_per_token": 3.3e-06, "output_cost_per_token": 1.65e-05,
        "input_cost_per_token_above_200k_tokens": 6.6e-06, "output_cost_per_token_above_200k_tokens": 2.475e-05,
        "litellm_provider": "bedrock_converse"},
      "free/claude": {"input_cost_per_token": 0, "output_cost_per_token": 0.0, "litellm_provider": "x"},
      "images": {"input_cost_per_image": 0.1, "litellm_provider": "x"}
    }"#;

    #[test]
    fn numbers_are_taken_exactly_and_what_costs_nothing_is_left_out() {
        assert!(is_one(FILE) && !is_one("{}") && !is_one("[1]") && !is_one(r#"{"models":[]}"#));
        let entries = read(FILE).unwrap();
        let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["claude-opus-4-7", "us.anthropic.claude-x-v1:0"]);
        let opus = &entries[0];
        let million = 1_000_000;
        assert_eq!(
            opus.prices,
            [
                Some(5 * million),
                Some(25 * million),
                Some(6_250_000),
                Some(10 * million),
                Some(500_000)
            ]
        );
        let half = Some(Ratio { num: 1, den: 2 });
        assert_eq!((opus.batch, opus.is_first_party), (half, true));
        assert_eq!(opus.fast, Some(Ratio { num: 6, den: 1 }));
        assert_eq!(opus.us_geo, Some(Ratio { num: 11, den: 10 }));
        let regional = &entries[1];
        assert_eq!(regional.prices[0], Some(3_300_000));
        assert_eq!(
            regional.long.map(|(above, p)| (above, p[1])),
            Some((200_000, Some(24_750_000)))
        );
        assert!(!regional.is_first_party && regional.prices[3].is_none());
    }
}
