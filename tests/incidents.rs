//! Generated incidents: detected after how many requests and dollars, and what was said besides.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use claude_tokmon::monitor::{Cause, Notice, Reason};
use claude_tokmon::price::PicoUsd;
use common::{
    Call, Loss, TWO_O_CLOCK, Textbook, count, is_cache_alert, pipeline, steady_call, told,
};

const HOUR: i64 = 3_600_000;

struct Outcome {
    per_hour: u32,
    notices: Vec<Notice>,
    affected: Vec<i64>,
}

fn play(per_hour: u32, history_ms: i64, loss: Loss, seed: u64) -> Outcome {
    let book = Textbook {
        per_hour: f64::from(per_hour),
        history_ms,
        loss,
        incident_ms: if per_hour > 10_000 {
            HOUR / 12
        } else {
            HOUR / 2
        },
        after_ms: HOUR / 4,
        seed,
    };
    let (lines, affected) = book.lines();
    let notices = told(&mut pipeline(&[]), &lines);
    Outcome {
        per_hour,
        notices,
        affected,
    }
}

impl Outcome {
    /// Fails with all that was told if something is not as it should be.
    fn check(&self, by_request: usize, under: PicoUsd) {
        let tale = || {
            let lines: Vec<String> = self
                .notices
                .iter()
                .map(|n| {
                    format!(
                        "{:>9} {} {} {:?}",
                        n.at.0 - TWO_O_CLOCK,
                        n.rule.name,
                        n.reason.name(),
                        n.exposed
                    )
                })
                .collect();
            format!("at {}/h:\n{}", self.per_hour, lines.join("\n"))
        };
        let before = self
            .notices
            .iter()
            .find(|n| is_cache_alert(n) && n.at.0 < TWO_O_CLOCK);
        assert!(
            before.is_none(),
            "a cache alert before the incident, {}",
            tale()
        );
        let first = self.notices.iter().find(|n| &*n.rule.name == "cache-break");
        let first = first.unwrap_or_else(|| panic!("no cache-break, {}", tale()));
        let requests = self.affected.iter().filter(|at| **at <= first.at.0).count();
        assert!(
            requests <= by_request,
            "only at request {requests}, {}",
            tale()
        );
        assert!(
            first.exposed.unwrap() < under,
            "{:?} exposed, {}",
            first.exposed,
            tale()
        );
        for reason in [Reason::First, Reason::Resolved] {
            assert_eq!(
                count(&self.notices, "cache-break", reason),
                1,
                "{reason:?} of cache-break, {}",
                tale()
            );
        }
        // With some ordinary misses before it, what is paid again may be told a request earlier; never after the run itself.
        let late = |n: &&Notice| {
            &*n.rule.name == "cache-waste" && n.reason == Reason::First && n.at >= first.at
        };
        assert_eq!(
            self.notices.iter().filter(late).count(),
            0,
            "cache-waste adds nothing, {}",
            tale()
        );
        for rule in ["cache-miss", "token-spike"] {
            assert_eq!(
                count(&self.notices, rule, Reason::First),
                0,
                "{rule} adds nothing, {}",
                tale()
            );
        }
    }
}

fn dollars(cents: i128) -> PicoUsd {
    PicoUsd(PicoUsd::DOLLAR.0 * cents / 100)
}

#[test]
fn a_lost_cache_is_found_by_the_third_request_at_100_an_hour() {
    for seed in 1..=6 {
        for loss in [Loss::Dropped, Loss::Rewritten] {
            play(100, 24 * HOUR, loss, seed).check(3, dollars(100));
        }
    }
}

#[test]
fn a_lost_cache_is_found_by_the_third_request_at_600_an_hour() {
    for seed in 1..=4 {
        for loss in [Loss::Dropped, Loss::Rewritten] {
            play(600, 24 * HOUR, loss, seed).check(3, dollars(100));
        }
    }
}

#[test]
fn a_lost_cache_is_found_by_the_third_request_at_6000_an_hour_and_the_cost_is_told_once() {
    for seed in 1..=3 {
        for loss in [Loss::Dropped, Loss::Rewritten] {
            let outcome = play(6_000, 2 * HOUR, loss, seed);
            outcome.check(3, dollars(100));
            assert_eq!(count(&outcome.notices, "cost-rate", Reason::First), 1);
            assert!(
                outcome.notices.len() < 20,
                "{} notices",
                outcome.notices.len()
            );
        }
    }
}

#[test]
fn a_lost_cache_is_found_by_the_fourth_request_at_60000_an_hour() {
    for seed in 1..=3 {
        for loss in [Loss::Dropped, Loss::Rewritten] {
            let outcome = play(60_000, HOUR / 2, loss, seed);
            outcome.check(4, dollars(150));
            assert_eq!(count(&outcome.notices, "cost-rate", Reason::First), 1);
            assert!(
                outcome.notices.len() < 20,
                "{} notices",
                outcome.notices.len()
            );
        }
    }
}

/// Nine hours at 100 requests an hour of 50,000 tokens that should have come from the cache.
#[test]
fn nine_hours_of_a_lost_cache_cost_225_dollars_of_which_202_50_were_paid_again() {
    let before: Vec<String> = (-100..0).map(|n| steady_call(n, true)).collect();
    let lost: Vec<String> = (0..900).map(|n| steady_call(n, false)).collect();
    let mut pipeline = pipeline(&[]);
    common::feed(&mut pipeline, "app.log", &before);
    pipeline.evaluator.begin_span(None);
    common::feed(&mut pipeline, "app.log", &lost);
    let totals = pipeline.evaluator.totals();
    assert_eq!(totals.cost, PicoUsd(225_000_000_000_000));
    let (cause, total) = totals.by_cause.iter().next().unwrap();
    assert_eq!(
        (cause.name(), total.cost, total.requests),
        ("dropped", PicoUsd(202_500_000_000_000), 900)
    );
    assert_eq!(totals.waste(), total.cost);
}

/// The log that the README replays: made by the same generator, so that it cannot rot.
/// `UPDATE_FIXTURES=1 cargo test --test incidents` writes it anew.
#[test]
fn the_fixture_of_the_readme_is_such_a_log() {
    let book = Textbook {
        per_hour: 100.0,
        history_ms: 6 * HOUR,
        loss: Loss::Rewritten,
        incident_ms: 38 * 60_000,
        after_ms: HOUR,
        seed: 7,
    };
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cache-break.jsonl");
    let log = book.lines().0.join("\n") + "\n";
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, &log).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        log,
        "write it anew with UPDATE_FIXTURES=1"
    );
}

/// A rule that keeps quiet is named by what speaks for it.
#[test]
fn what_is_silenced_is_listed_in_the_notices_of_what_explains_it() {
    let outcome = play(600, 6 * HOUR, Loss::Rewritten, 2);
    let last = outcome
        .notices
        .iter()
        .rfind(|n| &*n.rule.name == "cache-break")
        .unwrap();
    assert_eq!(last.reason, Reason::Resolved);
    let silenced: Vec<&str> = last.explains.iter().map(AsRef::as_ref).collect();
    assert_eq!(
        silenced,
        [
            "cache-drop",
            "cache-miss",
            "cost-rate",
            "request-cost",
            "token-spike"
        ]
    );
    for rule in silenced {
        assert_eq!(count(&outcome.notices, rule, Reason::First), 0, "{rule}");
    }
}

/// What the API itself says about a miss is the cause that is told, and its count of tokens.
#[test]
fn the_diagnosis_of_the_api_is_the_cause_that_is_told() {
    let line = |i: i64, read: u64, reason: &str| {
        let call = Call {
            at: TWO_O_CLOCK + i * 20_000,
            id: format!("msg_{i}"),
            session: Some("s-1"),
            input: 300,
            read,
            write_5m: 50_000 - read,
            ..Call::default()
        };
        let mut line = call.line();
        line.pop();
        format!(r#"{line},"diagnostics":{{"cache_miss_reason":{reason}}}}}"#)
    };
    let said = r#"{"type":"system_changed","cache_missed_input_tokens":40000}"#;
    let mut lines: Vec<String> = (0..30).map(|i| line(i, 50_000, "null")).collect();
    // Newly written turns are no miss, whatever the API calls them.
    lines.push(line(
        30,
        49_000,
        r#"{"type":"messages_changed","cache_missed_input_tokens":900}"#,
    ));
    lines.extend((31..35).map(|i| line(i, 0, said)));
    let mut pipeline = pipeline(&[]);
    let notices = told(&mut pipeline, &lines);
    let first = notices
        .iter()
        .find(|n| &*n.rule.name == "cache-break")
        .unwrap();
    let cause = &first.causes[0];
    assert_eq!(cause.cause.name(), "system_changed");
    assert_eq!(cause.tokens, 40_000 * cause.requests);
    let totals = pipeline.evaluator.totals();
    assert_eq!(
        totals.by_cause.keys().map(Cause::name).collect::<Vec<_>>(),
        ["system_changed"]
    );
    // 40,000 tokens written at $6.25 a million instead of read at $0.50.
    assert_eq!(totals.waste(), PicoUsd(4 * 40_000 * 5_750_000));
}

/// A conversation of one request every 20 seconds, whose cache is lost for some stretches of requests.
fn stretches(lost: &[std::ops::Range<i64>], n: i64) -> Vec<String> {
    let line = |i: i64| {
        let (read, write_5m) = if lost.iter().any(|r| r.contains(&i)) {
            (0, 50_000)
        } else {
            (50_000, 0)
        };
        let at = TWO_O_CLOCK + i * 20_000;
        Call {
            at,
            id: format!("msg_{i}"),
            input: 300,
            read,
            write_5m,
            ..Call::default()
        }
        .line()
    };
    (0..n).map(line).collect()
}

/// An incident is no chance: after it the next one is found as early as the first.
#[test]
fn an_incident_does_not_make_the_next_one_look_like_chance() {
    let lines = stretches(&[400..500, 700..720], 900);
    let notices = told(&mut pipeline(&[]), &lines);
    let at = |n: usize| {
        let firsts = notices
            .iter()
            .filter(|n| &*n.rule.name == "cache-break" && n.reason == Reason::First);
        (firsts.clone().nth(n).unwrap().at.0 - TWO_O_CLOCK) / 20_000
    };
    // Nothing misses by itself here, so the second in a row is no chance.
    assert_eq!((at(0), at(1)), (401, 701));
}

/// Nor does it become what is usual: a second spike, far smaller than the first, is still one.
#[test]
fn an_incident_does_not_become_its_own_baseline() {
    let mut lines = Vec::new();
    let mut n = 0;
    for minute in 0..400_i64 {
        // Ten requests a minute; forty minutes of a spike tenfold, later ten of one fourfold.
        let each = match minute {
            200..240 => 80_000,
            330..340 => 32_000,
            _ => 8_000,
        };
        for i in 0..10 {
            n += 1;
            let at = TWO_O_CLOCK + minute * 60_000 + i * 6_000;
            let call = Call {
                at,
                id: format!("msg_{n}"),
                model: "claude-haiku-4-5",
                input: each,
                ..Call::default()
            };
            lines.push(call.line());
        }
    }
    let notices = told(&mut pipeline(&["token-spike.floor=0"]), &lines);
    let minutes: Vec<i64> = notices
        .iter()
        .filter(|n| &*n.rule.name == "token-spike" && n.reason == Reason::First)
        .map(|n| (n.at.0 - TWO_O_CLOCK) / 60_000)
        .collect();
    assert_eq!(minutes, [201, 331]);
}

/// A forked session goes on from the history that it copied: what is lost of that is a miss of its own.
#[test]
fn a_fork_that_loses_the_cache_is_judged_by_the_history_it_copied() {
    let session = |i: i64, session: &'static str, read: u64| {
        let at = TWO_O_CLOCK + i * 20_000;
        Call {
            at,
            id: format!("msg_{i}"),
            session: Some(session),
            input: 3,
            read,
            write_5m: 50_000 - read,
            ..Call::default()
        }
        .line()
    };
    let mut lines: Vec<String> = (0..10).map(|i| session(i, "s-1", 50_000)).collect();
    let copies: Vec<String> = lines
        .iter()
        .map(|line| line.replace("s-1", "s-2"))
        .collect();
    lines.extend(copies);
    lines.push(session(10, "s-2", 0));
    let mut pipeline = pipeline(&[]);
    told(&mut pipeline, &lines);
    let totals = pipeline.evaluator.totals();
    assert_eq!((totals.records, totals.duplicates), (11, 10));
    let causes: Vec<_> = totals
        .by_cause
        .iter()
        .map(|(c, t)| (c.name(), t.requests))
        .collect();
    assert_eq!(causes, [("rewritten", 1)]);
}
