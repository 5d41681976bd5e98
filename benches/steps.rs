//! What a response costs at each step of its way: `cargo bench --bench steps`.
//!
//! Lines → records → judged records, one thread, all in memory. The evaluator has the default rules and nothing to tell.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a program for people who measure"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;

use claude_tokmon::monitor::{Dedupe, Evaluator, Time, UsageRecord};
use claude_tokmon::parse::{Clock, Item, ParseOptions, Reader, Spare, Zone};
use claude_tokmon::pipeline::{Event, Intake};
use claude_tokmon::price::{PriceTable, Terms};
use claude_tokmon::source::{Line, SourceInfo};
use common::settings;
use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::Timestamp;

/// 2026-09-01T00:00:00Z.
const BEGIN_MS: i64 = 1_788_220_800_000;

/// Responses in a row. They come within minutes of each other, so that a run of them is hours of traffic.
const RESPONSES: i64 = 10_000;

const NOW: Time = Time(BEGIN_MS + 100 * 86_400_000);

fn main() {
    divan::main();
}

/// Lines of counts alone, with so many milliseconds between them.
fn lines(step_ms: i64) -> Vec<String> {
    let line = |n: i64| {
        let at = Timestamp::from_millisecond(BEGIN_MS + n * step_ms).unwrap();
        let prompt = 4_000 + n * 7_919 % 4_000;
        format!(
            r#"{{"ts":"{at:.3}","id":"msg_{n:024x}","model":"claude-haiku-4-5","session":"s-{}","usage":{{"input_tokens":{},"output_tokens":{},"cache_read_input_tokens":{prompt},"cache_creation_input_tokens":0}}}}"#,
            n / 40,
            3 + n * 31 % 900,
            20 + n * 17 % 90,
        )
    };
    (0..RESPONSES).map(line).collect()
}

/// The same as a service logs them, with what was answered.
fn wrapped(lines: &[String]) -> Vec<String> {
    let text = r#"The second pass sees a stale object:\n```rust\nassert_eq!(total(&[]), 0, \"empty\");\n```\n日本語 "#;
    let text = text.repeat(20);
    let wrap = |line: &String| {
        let rest = line.trim_start_matches('{');
        format!(r#"{{"level":"info","message":[{{"type":"text","text":"{text}"}}],{rest}"#)
    };
    lines.iter().map(wrap).collect()
}

fn records(step_ms: i64) -> Vec<UsageRecord> {
    let mut intake = Intake::new(ParseOptions::default(), PriceTable::embedded());
    let source = SourceInfo::file(Path::new("app.log"));
    let mut records = Vec::new();
    for (number, line) in (1..).zip(lines(step_ms)) {
        let line = Line {
            source: &source,
            offset: 0,
            number,
            bytes: line.as_bytes(),
        };
        intake.line(line, NOW, |event| match event {
            Event::Record(record) => records.push(*record),
            other => panic!("{other:?}"),
        });
    }
    records
}

fn evaluator() -> Evaluator {
    let mut evaluator = Evaluator::new(settings(&[]));
    evaluator.go_live();
    evaluator
}

fn parse(bencher: Bencher<'_, '_>, lines: &[String]) {
    let options = ParseOptions::default();
    let clock = Clock {
        now: NOW,
        previous: None,
        ambiguous: None,
        zone: Zone::UTC,
    };
    bencher
        .counter(ItemsCount::new(lines.len()))
        .bench_local(|| {
            let (mut reader, mut spare) = (Reader::default(), Spare::default());
            let mut tokens = 0;
            for line in lines {
                reader.line(line.as_bytes(), &options, clock, &mut spare, &mut |item| {
                    if let Item::Usage(usage) = item {
                        tokens += usage.tokens.output;
                    }
                });
            }
            tokens
        });
}

#[divan::bench]
fn parse_counts_alone(bencher: Bencher<'_, '_>) {
    parse(bencher, &lines(1_000));
}

#[divan::bench]
fn parse_with_what_was_answered(bencher: Bencher<'_, '_>) {
    parse(bencher, &wrapped(&lines(1_000)));
}

#[divan::bench]
fn price(bencher: Bencher<'_, '_>) {
    let prices = PriceTable::embedded();
    let model = prices.resolve("claude-haiku-4-5");
    let records = records(1_000);
    bencher
        .counter(ItemsCount::new(records.len()))
        .bench_local(|| {
            let quote = |record: &UsageRecord| {
                prices.quote(&model, &record.tokens, Terms::default(), Some(NOW))
            };
            records
                .iter()
                .filter_map(quote)
                .map(|quote| quote.cost)
                .max()
        });
}

#[divan::bench]
fn tell_from_copies(bencher: Bencher<'_, '_>) {
    let records = records(1_000);
    bencher
        .counter(ItemsCount::new(records.len()))
        .bench_local(|| {
            let mut dedupe = Dedupe::new(None);
            for record in &records {
                divan::black_box(dedupe.sight(record));
            }
            dedupe
        });
}

/// With so many milliseconds from one response to the next: what is done once a minute is shared by more of them, the closer they
/// come.
#[divan::bench(args = [100, 1_000, 10_000, 60_000])]
fn observe(bencher: Bencher<'_, '_>, step_ms: i64) {
    let records = records(step_ms);
    bencher
        .counter(ItemsCount::new(records.len()))
        .with_inputs(evaluator)
        .bench_local_values(|mut evaluator| {
            for record in &records {
                evaluator.observe(record);
            }
            assert!(!evaluator.has_notices());
            evaluator
        });
}

/// The second-by-second clock of a watch in which nothing comes.
#[divan::bench]
fn tick(bencher: Bencher<'_, '_>) {
    let mut busy = evaluator();
    for record in &records(1_000) {
        busy.observe(record);
    }
    let seconds = 3_600_u32;
    bencher
        .counter(ItemsCount::new(seconds))
        .with_inputs(|| busy.clone())
        .bench_local_values(|mut evaluator| {
            for second in 0..seconds {
                evaluator.advance(Time(BEGIN_MS + 1_000 * (RESPONSES + i64::from(second))));
            }
            evaluator
        });
}
