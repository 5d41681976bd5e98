//! Any bytes, read as the lines of a log: nothing panics, overflows or comes out of range, whatever options are set, and what
//! is read can be priced and evaluated. The first byte chooses the options, the rest are the lines.
#![no_main]

use std::sync::{Arc, LazyLock};

use claude_tokmon::monitor::{Settings, Stamp, Time};
use claude_tokmon::parse::{
    Clock, InputCount, Item, ParseOptions, Reader, Spare, parse_alone, parse_line,
};
use claude_tokmon::pipeline::{Pipeline, Undated};
use claude_tokmon::price::PriceTable;
use claude_tokmon::source::{Line, SourceInfo};
use libfuzzer_sys::fuzz_target;

const NOW: Time = Time(1_795_500_000_000);
const MOST: u64 = 4_000_000_000_000;

static OPTIONS: LazyLock<Vec<ParseOptions>> = LazyLock::new(|| {
    let pointer = |text: &str| text.parse().ok();
    vec![
        ParseOptions::default(),
        ParseOptions {
            usage_field: pointer("/payload/0/usage"),
            time_field: pointer("/t"),
            ..ParseOptions::default()
        },
        ParseOptions {
            id_field: pointer("/id"),
            session_field: pointer("/message/id"),
            label_fields: pointer("/a~1b/c").into_iter().collect(),
            otel_input: InputCount::Exclusive,
            zone: "Europe/Berlin".parse().unwrap_or_default(),
            ..ParseOptions::default()
        },
    ]
});

static PRICES: LazyLock<PriceTable> = LazyLock::new(PriceTable::embedded);

fn check(item: &Item) {
    match item {
        Item::Usage(usage) => {
            let t = usage.tokens;
            for n in [
                t.input,
                t.output,
                t.cache_write_5m,
                t.cache_write_1h,
                t.cache_read,
            ] {
                assert!(n <= MOST, "a count of {n}");
            }
            if let Stamp::At(time) = usage.stamp {
                assert!(time <= NOW && time.0 >= 1_672_531_200_000);
            }
        }
        Item::CompactBoundary { .. } | Item::Error(_) | Item::Run(_) => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, lines)) = data.split_first() else {
        return;
    };
    let options = &OPTIONS[usize::from(*choice) % OPTIONS.len()];
    let clock = Clock {
        ambiguous: None,
        now: NOW,
        previous: None,
        zone: options.zone,
    };
    let (mut reader, mut spare) = (Reader::default(), Spare::default());
    for line in lines.split(|b| *b == b'\n') {
        let mut items = Vec::new();
        let verdict = parse_line(line, options, clock, |item| {
            check(item);
            items.push(item.clone());
        });
        let mut ahead = Vec::new();
        let mut emit = |item: &Item| ahead.push(item.clone());
        if let Some(alone) = parse_alone(line, options, NOW, &mut spare, &mut emit) {
            assert_eq!(alone, verdict, "read ahead or in order");
            assert_eq!(ahead, items, "read ahead or in order");
        }
        reader.line(line, options, clock, &mut spare, &mut |item| check(item));
    }
    reader.expire(NOW, &mut |item| check(&item));
    reader.finish(&mut |item| check(&item));
    if choice % 8 == 7 {
        evaluate(lines, options);
    }
});

/// All the way to the totals.
fn evaluate(lines: &[u8], options: &ParseOptions) {
    let settings = Settings {
        rules: Vec::new(),
        lateness_secs: 2,
        max_responses: Some(8),
        max_keys: 10_000,
        group_by: None,
        calendar: std::sync::Arc::new(claude_tokmon::monitor::PlainDays),
    };
    let mut pipeline = Pipeline::new(options.clone(), PRICES.clone(), settings);
    let source = Arc::new(SourceInfo {
        name: "fuzz".into(),
        agent: None,
    });
    for (number, bytes) in (1..).zip(lines.split(|b| *b == b'\n')) {
        let line = Line {
            source: &source,
            offset: 0,
            number,
            bytes,
        };
        pipeline.line(line, NOW, Undated::TotalsOnly, None);
    }
    pipeline.end(Undated::TotalsOnly, None);
    let totals = pipeline.evaluator.totals();
    let by_model: i128 = totals.by_model.values().map(|model| model.cost.0).sum();
    assert_eq!(by_model, totals.cost.0, "the models add up to the whole");
    assert!(totals.cost.0 >= 0);
}
