//! Names, prices and their arithmetic, to the pico-dollar.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use claude_tokmon::monitor::{Time, Tokens};
use claude_tokmon::parse::rfc3339;
use claude_tokmon::price::{PicoUsd, Premium, PriceTable, Ratio, Speed, Terms};
use proptest::prelude::*;

fn table() -> PriceTable {
    PriceTable::embedded()
}

#[allow(clippy::unnecessary_wraps, reason = "as prices are asked for")]
fn at(date: &str) -> Option<Time> {
    rfc3339(&format!("{date}T12:00:00Z"))
}

fn cost(model: &str, tokens: Tokens, terms: Terms, date: &str) -> i128 {
    let table = table();
    table
        .quote(&table.resolve(model), &tokens, terms, at(date))
        .unwrap()
        .cost
        .0
}

const PLAIN: Terms = Terms {
    speed: Speed::Standard,
    batch: false,
    us_geo: false,
};

fn input(n: u64) -> Tokens {
    Tokens {
        input: n,
        ..Tokens::default()
    }
}

#[test]
fn every_name_means_the_model_it_should_or_none() {
    let table = table();
    let mut wrong = Vec::new();
    let rows = include_str!("../fixtures/model_names.tsv").lines().skip(1);
    let mut n = 0;
    for row in rows {
        let [name, model, factor]: [&str; 3] =
            row.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let resolved = table.resolve(name);
        let id = resolved.model.as_ref().map_or("-", |m| &m.id);
        let expected = match factor {
            "1" => Ratio::ONE,
            "1.1" => Ratio { num: 11, den: 10 },
            "1.2" => Ratio { num: 6, den: 5 },
            other => panic!("{other}"),
        };
        let platform = resolved
            .model
            .as_ref()
            .map_or(Ratio::ONE, |m| m.platform_factor(resolved.trail.platform));
        if id != model || platform != expected {
            wrong.push(format!("{name}: {id} {platform}, not {model} {expected}"));
        }
        n += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(n, 410);
}

#[test]
fn a_name_is_never_matched_by_its_beginning_or_its_family() {
    for name in [
        "claude-opus-4-9",
        "claude-opus",
        "opus",
        "",
        "<synthetic>",
        "?",
        "claude-opus-4-8-think",
        "gpt-4o",
        "claude-fable-5-3",
    ] {
        assert!(table().resolve(name).model.is_none(), "{name}");
    }
}

#[test]
fn a_long_prompt_moves_all_tokens_strictly_above_the_threshold() {
    let tokens = |n: u64| Tokens {
        input: n - 10_000,
        cache_read: 9_000,
        cache_write_5m: 1_000,
        output: 100,
        ..Tokens::default()
    };
    let haiku = |n| cost("claude-haiku-5-5", tokens(n), PLAIN, "2026-11-01");
    // $0.10/$0.50 up to 100,000 tokens, $0.50/$2.50 above.
    assert_eq!(
        haiku(99_999),
        89_999 * 100_000 + 9_000 * 10_000 + 1_000 * 125_000 + 100 * 500_000
    );
    assert_eq!(
        haiku(100_000),
        90_000 * 100_000 + 9_000 * 10_000 + 1_000 * 125_000 + 100 * 500_000
    );
    assert_eq!(
        haiku(100_001),
        90_001 * 500_000 + 9_000 * 50_000 + 1_000 * 625_000 + 100 * 2_500_000
    );
    let sonnet = |n, date| cost("claude-sonnet-4-5", input(n), PLAIN, date);
    assert_eq!(sonnet(200_000, "2026-01-01"), 200_000 * 3_000_000);
    assert_eq!(sonnet(200_001, "2026-01-01"), 200_001 * 6_000_000);
    // Opus 4.6 and later are flat: no premium once it had ended.
    assert_eq!(
        cost("claude-opus-4-7", input(900_000), PLAIN, "2026-11-01"),
        900_000 * 5_000_000
    );
}

#[test]
fn a_dated_price_ends_with_the_day_before() {
    let opus = |date| cost("claude-opus-4-6", input(300_000), PLAIN, date);
    assert_eq!(opus("2026-03-12"), 300_000 * 10_000_000);
    assert_eq!(opus("2026-03-13"), 300_000 * 5_000_000);
    let sonnet = |date| cost("claude-sonnet-4", input(300_000), PLAIN, date);
    assert_eq!(
        (sonnet("2026-04-29"), sonnet("2026-04-30")),
        (300_000 * 6_000_000, 300_000 * 3_000_000)
    );
}

#[test]
fn multipliers_stack_and_a_search_is_not_among_what_they_multiply() {
    let tokens = Tokens {
        input: 1_000,
        output: 100,
        cache_write_5m: 10,
        cache_write_1h: 20,
        cache_read: 4_000,
        web_search: 3,
    };
    let base =
        1_000 * 4_000_000 + 100 * 20_000_000 + 10 * 5_000_000 + 20 * 8_000_000 + 4_000 * 200_000;
    let search = 3 * 10_000_000_000;
    let terms = |fast, batch, us_geo| Terms {
        speed: if fast { Speed::Fast } else { Speed::Standard },
        batch,
        us_geo,
    };
    let opus = |terms| cost("claude-opus-5-5", tokens, terms, "2026-11-01");
    assert_eq!(opus(PLAIN), base + search);
    assert_eq!(opus(terms(true, false, false)), base * 2 + search);
    assert_eq!(opus(terms(false, true, false)), base / 2 + search);
    assert_eq!(
        opus(terms(true, true, true)),
        base * 2 / 2 * 11 / 10 + search
    );
    let regional = cost(
        "us.anthropic.claude-opus-5-5",
        tokens,
        terms(true, false, true),
        "2026-11-01",
    );
    assert_eq!(regional, base * 2 * 11 * 11 / 100 + search);
    assert_eq!(
        cost("azure_ai/claude-opus-5-5-fast", tokens, PLAIN, "2026-11-01"),
        base * 2 + search
    );
}

#[test]
fn a_multiplier_that_a_model_does_not_have_is_said_and_not_guessed() {
    let table = table();
    let fast = Terms {
        speed: Speed::Fast,
        ..PLAIN
    };
    let quote = table
        .quote(&table.resolve("claude-sonnet-5"), &input(10), fast, None)
        .unwrap();
    assert_eq!(
        (quote.cost, quote.assumed_standard),
        (PicoUsd(10 * 2_000_000), true)
    );
    assert_eq!(quote.premium, Premium::default());
}

/// What is dearer for a reason says for which.
#[test]
fn why_a_price_is_above_the_usual_one_is_told() {
    let table = table();
    let premium = |name, tokens, terms| {
        let quote = table.quote(&table.resolve(name), &input(tokens), terms, None);
        let Premium { fast, long_prompt } = quote.unwrap().premium;
        (fast, long_prompt)
    };
    let fast = Terms {
        speed: Speed::Fast,
        ..PLAIN
    };
    assert_eq!(premium("claude-opus-5-5", 10, fast), (true, false));
    assert_eq!(premium("claude-opus-5-5-fast", 10, PLAIN), (true, false));
    assert_eq!(premium("claude-opus-5-5", 10, PLAIN), (false, false));
    assert_eq!(premium("claude-haiku-5-5", 100_000, PLAIN), (false, false));
    assert_eq!(premium("claude-haiku-5-5", 100_001, PLAIN), (false, true));
}

#[test]
fn a_kind_of_token_that_a_model_does_not_offer_has_no_price() {
    let table = table();
    let old = table.resolve("claude-2.1");
    assert!(table.quote(&old, &input(10), PLAIN, None).is_some());
    assert!(
        table
            .quote(
                &old,
                &Tokens {
                    cache_read: 1,
                    ..Tokens::default()
                },
                PLAIN,
                None
            )
            .is_none()
    );
}

#[test]
fn a_price_file_adds_and_replaces_models_and_says_what_is_wrong_with_it() {
    let mut table = table();
    let file = r#"{"models":[{"id":"claude-next","aliases":["next"],"usd_per_mtok":[
        {"input":0.0125,"output":1,"until":"2026-06-01"},{"input":0.025,"output":2}]},
        {"id":"claude-opus-4-7","usd_per_mtok":[{"input":1,"output":2,"cache_write_5m":1.25,"cache_write_1h":2,"cache_read":0.1}]}]}"#;
    table.overlay(file, "mine.json", None).unwrap();
    let cost = |name: &str, date: &str| {
        table
            .quote(&table.resolve(name), &input(2), PLAIN, at(date))
            .unwrap()
            .cost
            .0
    };
    assert_eq!(
        (
            cost("next", "2026-05-31"),
            cost("claude-next", "2026-06-01")
        ),
        (25_000, 50_000)
    );
    assert_eq!(cost("claude-opus-4-7", "2026-06-01"), 2_000_000);
    assert_eq!(cost("claude-opus-4-8", "2026-06-01"), 10_000_000);
    let complaint = |text: &str| {
        PriceTable::embedded()
            .overlay(text, "x", None)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        complaint(r#"{"models":[{"id":"m","usd_per_mtok":[{"input":-1,"output":2}]}]}"#),
        "model \"m\": input is -1; give US dollars per million tokens as a plain decimal with at most six places"
    );
    assert_eq!(
        complaint(
            r#"{"models":[{"id":"m","usd_per_mtok":[{"input":1,"output":2,"until":"soon"}]}]}"#
        ),
        "model \"m\": \"soon\" is not a date; write YYYY-MM-DD"
    );
    assert!(complaint(r#"{"models":[{"id":"m","usd_per_mtok":[]}]}"#).contains("has no prices"));
    assert!(complaint(r#"{"modles":[]}"#).contains("unknown field `modles`"));
}

proptest! {
    /// Every price times every multiplier is a whole number of pico-dollars, so parts add up to the whole.
    #[test]
    fn the_cost_of_parts_is_the_cost_of_the_whole(
        a in 0_u64..1_000_000, b in 0_u64..1_000_000, model in 0_usize..20, fast: bool, batch: bool, us_geo: bool,
    ) {
        let table = table();
        let id = table.models()[model].id.clone();
        let resolved = table.resolve(&format!("eu.anthropic.{id}"));
        let terms = Terms { speed: if fast { Speed::Fast } else { Speed::Standard }, batch, us_geo };
        let rates = table.quote(&resolved, &input(1), terms, None).unwrap().rates;
        let tokens = |n: u64| Tokens { input: n, output: n / 2, cache_write_5m: n / 3, cache_read: n / 5, ..Tokens::default() };
        let (x, y) = (tokens(a), tokens(b));
        let mut sum = x;
        sum.add(&y);
        prop_assert_eq!(rates.cost(&x) + rates.cost(&y), rates.cost(&sum));
    }

    /// A miss never costs less than nothing, nor more than the prompt did.
    #[test]
    fn a_miss_costs_between_nothing_and_the_prompt(missed in 0_u64..200_000, input in 0_u64..100_000, write in 0_u64..100_000) {
        let table = table();
        let tokens = Tokens { input, cache_write_5m: write, ..Tokens::default() };
        let rates = table.quote(&table.resolve("claude-opus-4-7"), &tokens, PLAIN, None).unwrap().rates;
        let cost = rates.miss_cost(missed, &tokens);
        prop_assert!(cost >= PicoUsd::ZERO && cost <= rates.cost(&tokens));
    }
}
