//! The laws of the product, on generated traffic.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use claude_tokmon::monitor::{Baseline, Notice, Reason, Sums, Time, UNIT, Windows};
use claude_tokmon::parse::ParseOptions;
use claude_tokmon::pipeline::{Event, Moment, Pipeline, Undated};
use claude_tokmon::price::{PicoUsd, PriceTable};
use claude_tokmon::sink::{JsonSink, Mode, Outlet, Sink, Told};
use claude_tokmon::source::{
    Decode, HistoryFile, InOrder, Input, Line, LineSplitter, Names, SourceInfo, discover, merge,
};
use common::traffic::{
    burning, by_turns, chancy, dense, leaky, lines_of, nightly, spread, traffic,
};
use common::{
    Call, NOW, Random, TWO_O_CLOCK, feed, give, pipeline, rfc3339, settings, story, told,
};
use proptest::prelude::*;

/// Rules that fire easily, so that short traffic shows all of an alert's life.
const LIVELY: [&str; 7] = [
    "token-spike.for=\"2s\"",
    "cost-rate.above=0.05",
    "cost-rate.keep_firing=\"30s\"",
    "cache-miss.keep_firing=\"30s\"",
    "cache-break.keep_firing=\"30s\"",
    "token-spike.above=20000",
    "token-spike.floor=0",
];

struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
impl std::io::Write for Shared {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Notices exactly as `--json` writes them, but for the time of writing.
fn json(notices: &[Notice]) -> String {
    let bytes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut sink = JsonSink::new(Outlet::direct(Shared(bytes.clone())));
    for notice in notices {
        sink.emit(Told {
            notice,
            mode: Mode::Replay,
            emitted_at: notice.at,
            muted: false,
        })
        .unwrap();
    }
    String::from_utf8(bytes.lock().unwrap().clone()).unwrap()
}

fn replayed(lines: &[String]) -> (Pipeline, Vec<Notice>) {
    let mut pipeline = pipeline(&LIVELY);
    pipeline.evaluator.go_live();
    feed(&mut pipeline, "app.log", lines);
    pipeline.evaluator.stop();
    let notices = pipeline.take_notices();
    (pipeline, notices)
}

fn one_request(cost: i128) -> Sums {
    Sums {
        cost: PicoUsd(cost),
        requests: 1,
        ..Sums::default()
    }
}

/// Steps of a window: (seconds forward, seconds late, cost).
fn steps() -> impl Strategy<Value = Vec<(i64, i64, i128)>> {
    proptest::collection::vec((0_i64..90, 0_i64..400, 0_i128..1_000_000), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Laws 1 and 2: windows over the same records are each what brute force over its buckets says, and no money is lost between them
    /// and what has left them. One says of a record that it is too late if any of them no longer holds it.
    #[test]
    fn windows_equal_brute_force_and_conserve_money(steps in steps(), minutes in 1_i64..6, longer in 2_i64..9) {
        let minutes = [minutes, minutes * longer];
        let mut windows = Windows::new(minutes.map(|minutes| minutes * 60), 0);
        let mut came: Vec<(i64, i128, [bool; 2])> = Vec::new();
        let mut now = 1_000_000;
        for (forward, late, cost) in steps {
            now += forward;
            windows.advance(now);
            let at = now - late;
            let is_inside = |minutes: i64, second: i64| now.div_euclid(minutes) - second.div_euclid(minutes) < 60;
            let is_held = minutes.map(|minutes| is_inside(minutes, at));
            prop_assert_eq!(windows.add(at, &one_request(cost)), is_held.iter().all(|held| *held));
            came.push((at, cost, is_held));
            let all: i128 = came.iter().map(|(_, cost, _)| cost).sum();
            for (n, (window, minutes)) in windows.each().zip(minutes).enumerate() {
                let (mut held, mut expired, mut refused) = (0, 0, 0);
                for (second, cost, was_held) in &came {
                    match (was_held[n], is_inside(minutes, *second)) {
                        (true, true) => held += cost,
                        (true, false) => expired += cost,
                        (false, _) => refused += cost,
                    }
                }
                prop_assert_eq!(window.total().cost.0, held);
                prop_assert_eq!(window.read(|sums| sums.cost.0), held);
                prop_assert_eq!(window.total().cost.0 + expired + refused, all);
            }
        }
    }

    /// What a notice explains are other rules, each named once. The one that it is of may have kept quiet itself before.
    #[test]
    fn a_notice_explains_others(seed in any::<u64>(), limit in 1_u32..60, waste in 1_u32..60, traffic_of in 0_u8..3) {
        let lines = match traffic_of {
            0 => leaky(seed),
            1 => chancy(seed),
            _ => lines_of(&traffic(seed, 200)),
        };
        let limits = [("cache-miss.above", limit), ("cache-waste.above", waste), ("session-cost.above", limit)];
        let limits = limits.map(|(field, n)| format!("{field}=0.{n:02}"));
        let mut rules = vec!["cache-miss.min_waste=0.01", "cost-rate.above=0.02"];
        rules.extend(limits.iter().map(String::as_str));
        for notice in told(&mut pipeline(&rules), &lines) {
            let others: BTreeSet<&Arc<str>> = notice.explains.iter().collect();
            prop_assert!(!others.contains(&notice.rule.name), "{}", notice.rule.name);
            prop_assert_eq!(others.len(), notice.explains.len());
        }
    }

    /// Law 3: the order of records within a bucket changes no sum.
    #[test]
    fn the_order_within_a_bucket_changes_no_sum(seed in any::<u64>(), n in 2_usize..30) {
        let mut random = Random(seed);
        let calls: Vec<String> = (0..n).map(|i| {
            let at = TWO_O_CLOCK + i64::try_from(random.below(1000)).unwrap();
            let input = random.below(30_000);
            Call { at, id: format!("msg_{i}"), input, output: 5, ..Call::default() }.line()
        }).collect();
        let mut shuffled = calls.clone();
        for i in (1..n).rev() {
            shuffled.swap(i, usize::try_from(random.below(i as u64 + 1)).unwrap());
        }
        let sums = |lines: &[String]| {
            let mut pipeline = pipeline(&["cost-rate.above=0", "token-spike.above=0", "token-spike.min_requests=0"]);
            pipeline.evaluator.go_live();
            feed(&mut pipeline, "app.log", lines);
            pipeline.tick(Time(TWO_O_CLOCK + 2_000));
            pipeline.take_notices();
            pipeline.evaluator.stop();
            let values: Vec<_> = pipeline.take_notices().iter().map(|n| (n.rule.name.clone(), n.value)).collect();
            (values, pipeline.evaluator.totals().clone())
        };
        prop_assert_eq!(sums(&calls), sums(&shuffled));
    }

    /// Law 4: a response that is repeated changes nothing, in the same file or another.
    #[test]
    fn a_repeated_response_changes_nothing(seed in any::<u64>()) {
        let lines = lines_of(&traffic(seed, 150));
        let mut random = Random(!seed);
        let mut with_copies = Vec::new();
        for line in &lines {
            for _ in 0..=random.below(3) {
                with_copies.push(line.clone());
            }
        }
        let (once, told) = replayed(&lines);
        let (copied, told_of_copies) = replayed(&with_copies);
        prop_assert_eq!(json(&told), json(&told_of_copies));
        let mut totals = copied.evaluator.totals().clone();
        prop_assert_eq!(totals.duplicates, (with_copies.len() - lines.len()) as u64);
        totals.duplicates = 0;
        prop_assert_eq!(once.evaluator.totals(), &totals);
    }

    /// Law 4: a response that grows ends as if only its last copy had been there.
    #[test]
    fn a_grown_response_ends_as_if_only_the_last_had_been_seen(seed in any::<u64>()) {
        let mut random = Random(seed);
        let grown: Vec<Vec<String>> = (0..40).map(|i| {
            let at = TWO_O_CLOCK + i * 900;
            let call = Call { at, id: format!("msg_{i}"), input: 3_000, ..Call::default() };
            let mut output = 1 + random.below(5);
            (0..=random.below(4)).map(|_| {
                output += random.below(2_000);
                Call { output, ..call.clone() }.line()
            }).collect()
        }).collect();
        let last: Vec<String> = grown.iter().map(|copies| copies.last().unwrap().clone()).collect();
        let ends = |lines: &[String]| {
            let (pipeline, notices) = replayed(lines);
            let mut totals = pipeline.evaluator.totals().clone();
            totals.duplicates = 0;
            let stopped: Vec<_> = notices.iter().filter(|n| n.reason == Reason::Stopped)
                .map(|n| (n.rule.name.clone(), n.value, n.exposed)).collect();
            (totals, stopped)
        };
        let (totals, stopped) = ends(&grown.concat());
        let (totals_of_last, stopped_of_last) = ends(&last);
        prop_assert_eq!(totals, totals_of_last);
        let values = |s: &[(std::sync::Arc<str>, Option<i128>, Option<PicoUsd>)]| s.iter().map(|(r, v, _)| (r.clone(), *v)).collect::<Vec<_>>();
        prop_assert_eq!(values(&stopped), values(&stopped_of_last));
    }

    /// Law 5: however the bytes are cut, the output is the same.
    #[test]
    fn any_chunking_gives_the_same_output(seed in any::<u64>(), sizes in proptest::collection::vec(1_usize..4000, 1..20)) {
        let lines = lines_of(&traffic(seed, 80));
        let text = lines.join("\n");
        let mut pipeline = pipeline(&LIVELY);
        pipeline.evaluator.go_live();
        let source = SourceInfo::file(Path::new("app.log"));
        let mut splitter = LineSplitter::default();
        let mut rest = text.as_bytes();
        for size in sizes.iter().cycle() {
            let (chunk, tail) = rest.split_at((*size).min(rest.len()));
            splitter.push(chunk, |_, number, line| give(&mut pipeline, &source, number, line, NOW));
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        splitter.finish(|_, number, line| give(&mut pipeline, &source, number, line, NOW));
        pipeline.evaluator.stop();
        prop_assert_eq!(json(&pipeline.take_notices()), json(&replayed(&lines).1));
    }

    /// The same where some of it is read on another thread while what came before is judged.
    #[test]
    fn reading_ahead_gives_the_same_output(
        seed in any::<u64>(),
        turns in proptest::collection::vec((1_usize..150, any::<bool>()), 1..20),
    ) {
        let mut random = Random(!seed);
        let mut lines = Vec::new();
        for line in lines_of(&traffic(seed, 600)) {
            // What cannot be read ahead, or tells nothing, stands between.
            match random.below(20) {
                0 => lines.push("not json".to_owned()),
                1 => lines.push(r#"{"log":"{\"usage\":","stream":"stdout"}"#.to_owned()),
                2 => lines.push(format!("{}: {line}", "x".repeat(300))),
                3 => lines.push(r#"{"type":"user","message":{"content":"hello"}}"#.to_owned()),
                _ => {}
            }
            lines.push(line);
        }
        let sources = ["app.log", "agent-7.jsonl"].map(|name| SourceInfo::file(Path::new(name)));
        let line = |number: usize| Line {
            source: &sources[number / 100 % 2],
            offset: 0,
            number: number as u64 + 1,
            bytes: lines[number].as_bytes(),
        };
        let mut in_order = pipeline(&LIVELY);
        in_order.evaluator.go_live();
        for number in 0..lines.len() {
            in_order.line(line(number), NOW, Undated::TotalsOnly, None);
        }
        let mut ahead = pipeline(&LIVELY);
        ahead.evaluator.go_live();
        let (mut told, mut numbers) = (Vec::new(), 0..lines.len());
        for (n, more) in turns.iter().cycle() {
            for number in numbers.by_ref().take(*n) {
                let _ = ahead.hand_over(line(number));
            }
            let moment = Moment { now: NOW, undated: Undated::TotalsOnly, oldest: None, is_current: false };
            ahead.go_on(moment, *more, |evaluator| told.extend(evaluator.take_notices()));
            if numbers.is_empty() {
                break;
            }
        }
        ahead.settle(|evaluator| told.extend(evaluator.take_notices()));
        prop_assert_eq!(json(&told), json(&in_order.take_notices()));
        prop_assert_eq!(ahead.evaluator.totals(), in_order.evaluator.totals());
        prop_assert_eq!(ahead.intake.counts(), in_order.intake.counts());
    }

    /// Law 6: replay says what tail said, byte for byte, when records came in order and within the lateness.
    #[test]
    fn replay_says_what_tail_said(seed in any::<u64>()) {
        let traffic = traffic(seed, 200);
        let (_, replayed) = replayed(&lines_of(&traffic));
        let mut random = Random(!seed);
        let mut pipeline = pipeline(&LIVELY);
        pipeline.evaluator.go_live();
        let source = SourceInfo::file(Path::new("app.log"));
        let mut wall = TWO_O_CLOCK;
        for (number, (at, line)) in traffic.iter().enumerate() {
            // It is written and seen some time within the lateness; until then the clock ticks.
            let arrival = (at + i64::try_from(random.below(2_000)).unwrap()).max(wall);
            while wall < arrival {
                wall = (wall + 1 + i64::try_from(random.below(700)).unwrap()).min(arrival);
                pipeline.tick(Time(wall - 2_000));
            }
            let line = Line { source: &source, offset: 0, number: number as u64 + 1, bytes: line.as_bytes() };
            pipeline.line(line, Time(wall), Undated::Arrived(Time(wall)), None);
        }
        pipeline.evaluator.stop();
        prop_assert_eq!(json(&pipeline.take_notices()), json(&replayed));
    }

    /// The same where all responses come equally long after their time, up to a minute, once a few of them have shown it.
    #[test]
    fn replay_says_what_tail_said_of_a_log_that_lags(seed in any::<u64>(), delay_secs in 0_i64..59) {
        let begun = TWO_O_CLOCK - 300_000;
        let first = (0..8).map(|n| {
            let call = Call { at: begun + 10_000 * n, id: format!("first_{n}"), input: 10, ..Call::default() };
            (call.at, call.line())
        });
        let traffic: Vec<(i64, String)> = first.chain(traffic(seed, 200)).collect();
        let (_, replayed) = replayed(&lines_of(&traffic));
        let mut random = Random(!seed);
        let mut pipeline = pipeline(&LIVELY);
        pipeline.evaluator.go_live();
        pipeline.lags.watch(true);
        let source = SourceInfo::file(Path::new("app.log"));
        let mut wall = begun;
        for (number, (at, line)) in traffic.iter().enumerate() {
            let lag = delay_secs * 1000 + i64::try_from(random.below(1_000)).unwrap();
            let arrival = (at + lag).max(wall);
            let lateness = pipeline.lags.delay_secs().max(2);
            while wall < arrival {
                wall = (wall + 1 + i64::try_from(random.below(700)).unwrap()).min(arrival);
                pipeline.tick(Time(wall).plus_secs(-lateness));
            }
            let line = Line { source: &source, offset: 0, number: number as u64 + 1, bytes: line.as_bytes() };
            pipeline.line(line, Time(wall), Undated::Arrived(Time(wall)), None);
        }
        pipeline.evaluator.stop();
        prop_assert_eq!(json(&pipeline.take_notices()), json(&replayed));
    }

    /// When a mean has to be looked at is worked out ahead, and so it is of a share, and of waste. Another rule of the same key, which
    /// never fires, has it looked at each time that anything leaves a window, be it one of the rule's or not: that tells nothing more,
    /// and nothing sooner.
    #[test]
    fn a_mean_is_looked_at_as_often_as_it_takes(
        seed in any::<u64>(),
        rule in prop::sample::select(vec!["request-cost", "cache-drop", "cache-waste"]),
        limit in 10_u32..400,
        min_requests in 1_u32..8,
        min_waste in prop::sample::select(vec!["0", "0.05", "0.5"]),
        share in 1_u32..60,
        learned in any::<bool>(),
        windows in prop::sample::select(vec![vec![60, 600, 3600], vec![120], vec![60, 600]]),
        others in prop::sample::select(vec![vec![], vec![180, 300], vec![60, 120, 420, 600, 7200]]),
    ) {
        let of_secs = |windows: BTreeSet<u32>| {
            let windows: Vec<String> = windows.iter().map(|secs| format!("\"{secs}s\"")).collect();
            format!("[{}]", windows.join(", "))
        };
        let looked_at = of_secs(windows.iter().chain(&others).copied().collect());
        let windows = of_secs(windows.into_iter().collect());
        let is_of_cache = rule != "request-cost";
        let lines = if is_of_cache { leaky(seed) } else { spread(seed) };
        let limit = if learned && rule != "cache-waste" {
            format!("beyond_busy=0.{limit:03}")
        } else {
            format!("above=0.{limit:03}")
        };
        let fields = [
            limit,
            format!("window={windows}"),
            format!("min_requests={min_requests}"),
            "floor=0.001".to_owned(),
            "for=\"0s\"".to_owned(),
            "keep_firing=\"0s\"".to_owned(),
        ];
        let mut mean: Vec<String> = fields.iter().map(|field| format!("{rule}.{field}")).collect();
        if is_of_cache {
            mean.push(format!("{rule}.min_waste={min_waste}"));
            // Nobody else speaks of it.
            let others = ["cache-miss", "cache-drop", "cache-break", "cache-waste"];
            let others = others.into_iter().filter(|other| *other != rule);
            mean.extend(others.map(|other| format!("{other}.enabled=false")));
        }
        if rule == "request-cost" {
            mean.push(format!("{rule}.min_cost={min_waste}"));
        }
        if rule == "cache-waste" {
            mean.push(format!("{rule}.share_of_cost=0.{share:02}"));
        }
        let looks = [
            "errors.metric=requests",
            "errors.below=1",
            &format!("errors.window={looked_at}"),
            if rule == "cache-waste" { "errors.where={session=\"?*\"}" } else { "errors.by=[]" },
        ];
        let said = |looks: &[&str]| {
            let set: Vec<&str> = mean.iter().map(String::as_str).chain(looks.iter().copied()).collect();
            let notices = told(&mut pipeline(&set), &lines);
            let of_mean = notices.into_iter().filter(|n| &*n.rule.name == rule);
            of_mean.map(|n| (n.reason, n.episode, n.at, n.exposed, n.requests)).collect::<Vec<_>>()
        };
        prop_assert_eq!(said(&[]), said(&looks), "{}", rule);
    }

    /// What is on is looked at when it may end or be told again, and what comes in between is only added to it. Another rule, which
    /// never fires, has everything looked at each time that anything leaves a window: that tells the same.
    #[test]
    fn what_is_on_is_looked_at_as_often_as_it_takes(
        seed in any::<u64>(),
        cost in 1_u32..400,
        tokens in 1_u32..400,
        window in proptest::sample::select(vec!["[\"60s\"]", "[\"5m\"]", "[\"10m\"]", "[\"60s\", \"10m\"]"]),
        min_requests in 1_u32..5,
        keep in proptest::sample::select(vec!["0s", "30s", "5m"]),
        traffic_of in 0_usize..4,
        by_session in any::<bool>(),
    ) {
        let lines = match traffic_of {
            0 => burning(seed, 45),
            1 => nightly(seed),
            2 => by_turns(seed),
            _ => lines_of(&traffic(seed, 300)),
        };
        let set = [
            &format!("cost-rate.above=0.{cost:03}"),
            &format!("cost-rate.window={window}"),
            &format!("cost-rate.min_requests={min_requests}"),
            &format!("cost-rate.keep_firing=\"{keep}\""),
            &format!("token-spike.above={tokens}00"),
            &format!("token-spike.keep_firing=\"{keep}\""),
            "token-spike.times_usual=0",
            "token-spike.floor=0",
            "token-spike.for=\"2s\"",
            "silence.enabled=true",
            "silence.silent_for=\"40s\"",
            "session-cost.above=0.3",
            "session-cost.window=\"1h\"",
        ];
        let looks = ["errors.metric=requests", "errors.below=1", "errors.window=[\"60s\", \"2m\", \"5m\", \"7m\", \"10m\", \"1h\"]"];
        let of_sessions = ["errors.by=[\"session\"]", "errors.where={session=\"?*\"}"];
        let of_sessions = &of_sessions[..if by_session { 2 } else { 0 }];
        let said = |set: &[&str]| json(&told(&mut pipeline(set), &lines));
        prop_assert_eq!(said(&set), said(&[&set[..], &looks, of_sessions].concat()));
    }

    /// How much may come before a rule has to be asked is counted off. Another rule of the same keys, which never fires, has all
    /// asked each time: that tells the same.
    #[test]
    fn what_may_come_is_counted_off_as_it_comes(
        seed in any::<u64>(),
        limit in 20_u32..300,
        (rule, metric, field, unit) in prop::sample::select(vec![
            ("cost-rate", "cost", "above", 0.01),
            ("session-cost", "cost", "above", 0.1),
            ("token-spike", "tokens", "above", 500.0),
            ("token-spike", "prompt-tokens", "above", 10_000.0),
            ("token-spike", "output-tokens", "above", 100.0),
            ("token-spike", "requests", "above", 0.3),
            ("request-cost", "cost-per-request", "above", 0.000_1),
            ("no-cache", "no-cache", "min_requests", 1.0),
        ]),
        window in prop::sample::select(vec!["\"60s\"", "\"60s\", \"10m\"", "\"2m\", \"10m\""]),
    ) {
        let lines = dense(seed);
        let limit = format!("{:.4}", f64::from(limit) * unit);
        let limit = limit.trim_end_matches('0').trim_end_matches('.');
        let set: Vec<String> = match rule {
            "no-cache" => vec![format!("{rule}.{field}={limit}")],
            _ => vec![
                "token-spike.floor=10000000".to_owned(),
                format!("{rule}.metric=\"{metric}\""),
                format!("{rule}.{field}={limit}"),
                format!("{rule}.window=[{window}]"),
                format!("{rule}.min_requests=1"),
                format!("{rule}.floor=0"),
            ],
        };
        let looks = [
            Some("metric=requests"),
            Some("below=0.001"),
            Some("window=[\"60s\", \"2m\", \"10m\", \"24h\"]"),
            match rule {
                "session-cost" => Some("by=[\"session\"]"),
                "no-cache" => Some("by=[\"model\"]"),
                _ => None,
            },
            (rule == "session-cost").then_some("where={session=\"?*\"}"),
        ];
        let looks: Vec<String> = looks.iter().flatten().map(|field| format!("errors.{field}")).collect();
        let said = |set: &[&String]| {
            let set: Vec<&str> = set.iter().map(|field| &***field).collect();
            json(&told(&mut pipeline(&set), &lines))
        };
        let alone: Vec<&String> = set.iter().collect();
        let looked_at: Vec<&String> = set.iter().chain(&looks).collect();
        prop_assert_eq!(said(&alone), said(&looked_at), "{}", rule);
    }

    /// A leak is told with the first response that missed by which more was paid again than the limits of its rule, also without the
    /// dearest quarter of its window, over more than half of it, and never again; whatever else is told.
    #[test]
    fn a_leak_is_told_with_the_response_that_makes_it_one(
        seed in any::<u64>(),
        cents in 0_i64..60,
        percent in 0_i64..40,
        window in prop::sample::select(vec![("1h", 60), ("2h", 120), ("24h", 1440)]),
        may_tell in any::<bool>(),
    ) {
        let (window, bucket) = window;
        let rule = [
            "cache-leak.min_requests=0".to_owned(),
            format!("cache-leak.min_waste={}.{:02}", cents / 100, cents % 100),
            format!("cache-leak.share_of_cost=0.{percent:02}"),
            format!("cache-leak.window=\"{window}\""),
        ];
        let others = ["cache-break", "cache-waste", "cache-miss"].map(|rule| format!("{rule}.enabled={may_tell}"));
        let set: Vec<&str> = rule.iter().chain(&others).map(String::as_str).collect();
        let mut pipeline = pipeline(&set);
        pipeline.evaluator.go_live();
        // When each response came, what it cost, and what of that was paid again.
        let (mut came, mut is_leak, mut n_told): (Vec<(i64, i128, i128)>, _, _) = (Vec::new(), false, 0);
        for line in leaky(seed) {
            let before = (pipeline.evaluator.totals().cost.0, pipeline.evaluator.totals().waste().0);
            feed(&mut pipeline, "app.log", std::slice::from_ref(&line));
            let totals = pipeline.evaluator.totals();
            let (cost, waste) = (totals.cost.0 - before.0, totals.waste().0 - before.1);
            let now = pipeline.evaluator.now().secs();
            let at: jiff::Timestamp = line[9..33].parse().unwrap();
            came.push((at.as_second(), cost, waste));
            let held = came.iter().filter(|(at, ..)| at.div_euclid(bucket) > now.div_euclid(bucket) - 60);
            let mut buckets: HashMap<i64, (i128, i128)> = HashMap::new();
            for (at, cost, waste) in held {
                let of_bucket = buckets.entry(at.div_euclid(bucket)).or_default();
                *of_bucket = (of_bucket.0 + waste, of_bucket.1 + cost);
            }
            let sum = |of: &[(i64, (i128, i128))]| of.iter().fold((0, 0), |sum, (_, of)| (sum.0 + of.0, sum.1 + of.1));
            let mut all: Vec<(i64, (i128, i128))> = buckets.into_iter().collect();
            all.sort_by_key(|(index, (waste, _))| (-waste, *index));
            let (again, cost) = sum(&all);
            // The dearest quarter may be an incident.
            let others = all.get(15..).unwrap_or_default();
            let (again_of_others, cost_of_others) = sum(others);
            let mut leaking: Vec<i64> = others.iter().filter(|(_, (waste, _))| *waste > 0).map(|(index, _)| *index).collect();
            leaking.sort_unstable();
            let over = leaking.last().zip(leaking.first()).map_or(0, |(last, first)| last - first);
            let share = |cost: i128| cost * i128::from(percent) / 100;
            let has_missed = waste > 0 && came.iter().all(|(other, ..)| *other <= at.as_second());
            is_leak |= has_missed && again > share(cost).max(i128::from(cents) * 10_000_000_000)
                && again_of_others > share(cost_of_others) && leaking.len() >= 5 && over > 30;
            n_told += pipeline.take_notices().iter().filter(|n| &*n.rule.name == "cache-leak").count();
            prop_assert_eq!(n_told, usize::from(is_leak));
        }
    }

    /// The same requests in each minute are usual, however many they are.
    #[test]
    fn the_same_in_each_minute_fires_no_learned_rule(per_minute in 1_u64..8, output in 1_u64..20_000, read in 5_000_u64..150_000) {
        let mut lines = Vec::new();
        for minute in 0..150 {
            for n in 0..per_minute {
                let call = Call {
                    at: TWO_O_CLOCK + minute * 60_000 + i64::try_from(n * 1_000).unwrap(),
                    id: format!("msg_{minute}_{n}"),
                    session: Some("s-1"),
                    model: "claude-haiku-4-5",
                    input: 20,
                    output,
                    read,
                    ..Call::default()
                };
                lines.push(call.line());
            }
        }
        let notices = told(&mut pipeline(&["cost-rate.enabled=false"]), &lines);
        prop_assert_eq!(story(&notices), Vec::<String>::new());
    }

    /// Fewer than one sample in a hundred move no limit by more than the width of a bin.
    #[test]
    fn a_few_wild_samples_move_no_limit(seed in any::<u64>(), wild in 1_i128..1_000_000) {
        let mut random = Random(seed);
        let (mut clean, mut stained) = (Baseline::default(), Baseline::default());
        for minute in 0..3_000 {
            let sample = i128::from(900 + random.below(200)) * UNIT;
            clean.add(minute, sample);
            let is_wild = minute % 150 == 7;
            stained.add(minute, if is_wild { sample * wild } else { sample });
        }
        let (clean, stained) = (clean.usual(), stained.usual());
        // A fifth of room is kept above what is usual, and busy lies within it.
        prop_assert!(stained.usual * 100 <= clean.usual * 103);
        prop_assert!(stained.busy * 100 <= clean.busy * 103);
    }

    /// What was paid again is never below zero, and nothing where the cache gave all that it could.
    #[test]
    fn waste_is_never_negative_and_nothing_where_the_cache_gave_all(seed in any::<u64>()) {
        let mut random = Random(seed);
        let mut cached = 0;
        let mut lines = Vec::new();
        for i in 0..80_i64 {
            let fresh = 10 + random.below(300);
            let call = Call {
                at: TWO_O_CLOCK + i * 20_000,
                id: format!("msg_{i}"),
                session: Some("s-1"),
                input: 5,
                output: 100,
                write_5m: if i == 0 { 30_000 } else { fresh },
                read: cached,
                ..Call::default()
            };
            cached += call.write_5m;
            lines.push(call.line());
        }
        let mut all = pipeline(&LIVELY);
        told(&mut all, &lines);
        prop_assert_eq!(all.evaluator.totals().waste(), PicoUsd::ZERO);
        // And with anything at all in it.
        let (pipeline, _) = replayed(&lines_of(&traffic(seed, 200)));
        prop_assert!(pipeline.evaluator.totals().waste() >= PicoUsd::ZERO);
        let causes = &pipeline.evaluator.totals().by_cause;
        prop_assert!(causes.values().all(|total| total.cost >= PicoUsd::ZERO));
    }

    /// What the other time to live would have saved is what the same requests cost with it.
    #[test]
    fn the_other_time_to_live_saves_what_it_would_have_cost_less(
        gaps in proptest::collection::vec(prop_oneof![5_i64..290, 310_i64..3_500, 3_700_i64..9_000], 1..80),
        grows in proptest::sample::select(vec![0_u64, 90, 3_000]),
        session in proptest::sample::select(vec![None, Some("s-1")]),
    ) {
        // Of requests without a session nobody knows that they go on, unless they have as much in the cache.
        let grows = if session.is_none() { 0 } else { grows };
        let with = |ttl_secs: i64| {
            let (mut at, mut cached) = (TWO_O_CLOCK, 0);
            let mut lines = Vec::new();
            // What never read the cache may not use it.
            for (i, gap) in [9_000, 60, 60].into_iter().chain(gaps.iter().copied()).enumerate() {
                at += gap * 1000;
                let prompt = 20_000 + grows * i as u64;
                let read = if gap <= ttl_secs { cached } else { 0 };
                let written = prompt - read;
                let (write_5m, write_1h) = if ttl_secs == 300 { (written, 0) } else { (0, written) };
                let id = format!("msg_{i}");
                let call = Call { at, id, session, input: 7, output: 90, write_5m, write_1h, read, ..Call::default() };
                lines.push(call.line());
                cached = prompt;
            }
            let mut all = pipeline(&LIVELY);
            told(&mut all, &lines);
            let totals = all.evaluator.totals();
            (totals.cost, totals.lifetimes["claude-opus-4-7"])
        };
        let ((short, if_long), (long, if_short)) = (with(300), with(3_600));
        prop_assert_eq!(if_long.hour, short - long);
        prop_assert_eq!(if_short.minutes, long - short);
    }

    /// A week later the same is said a week later.
    #[test]
    fn a_shift_by_whole_weeks_shifts_all_that_is_told(seed in any::<u64>(), weeks in 1_i64..50) {
        let by = -weeks * 7 * 86_400_000;
        let traffic = traffic(seed, 200);
        let earlier: Vec<String> = traffic
            .iter()
            .map(|(at, line)| line.replace(&rfc3339(*at), &rfc3339(at + by)))
            .collect();
        let said = |notices: &[Notice], by: i64| -> Vec<_> {
            let mut said: Vec<_> = notices
                .iter()
                .map(|n| (n.at.0 + by, n.since.0 + by, story(std::slice::from_ref(n)), n.value, n.limit))
                .collect();
            said.sort();
            said
        };
        let (_, now) = replayed(&lines_of(&traffic));
        let (_, then) = replayed(&earlier);
        prop_assert_eq!(said(&now, 0), said(&then, -by));
    }

    /// A clock that is put right in the middle changes no alert: all goes on as if it had been right before.
    #[test]
    fn a_clock_that_is_set_changes_no_alert(seed in any::<u64>(), cut in 0_usize..300, forward in any::<bool>()) {
        let traffic = traffic(seed, 300);
        let set = if forward { 6 * 3_600_000 } else { -6 * 3_600_000 };
        let (_, expected) = replayed(&lines_of(&traffic));
        let mut told = Vec::new();
        let mut pipeline = pipeline(&LIVELY);
        pipeline.evaluator.go_live();
        feed(&mut pipeline, "app.log", &lines_of(&traffic[..cut]));
        told.extend(pipeline.take_notices());
        let before = told.len();
        pipeline.evaluator.shift(set);
        let shifted: Vec<String> = traffic[cut..]
            .iter()
            .map(|(at, line)| line.replace(&rfc3339(*at), &rfc3339(at + set)))
            .collect();
        feed(&mut pipeline, "app.log", &shifted);
        pipeline.evaluator.stop();
        told.extend(pipeline.take_notices());
        // What ends at the same moment is listed in the order of its identities, which hold the time.
        let said = |notice: &Notice, set: i64| {
            let Notice { value, limit, exposed, pace, .. } = notice;
            let times = (notice.at.0 + set, notice.since.0 + set);
            (times, story(std::slice::from_ref(notice)), *value, *limit, *exposed, *pace)
        };
        let (early, late) = told.split_at(before);
        let mut told: Vec<_> = early.iter().map(|n| said(n, 0)).collect();
        told.extend(late.iter().map(|n| said(n, -set)));
        let mut expected: Vec<_> = expected.iter().map(|n| said(n, 0)).collect();
        told.sort();
        expected.sort();
        let differs = told.iter().zip(&expected).find(|(told, expected)| told != expected);
        prop_assert_eq!(differs, None);
        prop_assert_eq!(told.len(), expected.len());
    }

    /// Law 6: the order in which two files are named or read does not matter.
    #[test]
    fn two_files_are_as_good_as_one(seed in any::<u64>()) {
        let traffic = traffic(seed, 150);
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random(!seed);
        let mut parts = [String::new(), String::new()];
        let mut seen = i64::MIN;
        for (at, line) in &traffic {
            // Lines of the same moment stay together, for their order is that of the files otherwise.
            let part = if *at == seen { 0 } else { usize::try_from(random.below(2)).unwrap() };
            let part = if traffic.iter().filter(|(other, _)| other == at).count() > 1 { 0 } else { part };
            parts[part].push_str(line);
            parts[part].push('\n');
            seen = *at;
        }
        std::fs::write(dir.path().join("b.jsonl"), &parts[0]).unwrap();
        std::fs::write(dir.path().join("a.jsonl"), &parts[1]).unwrap();
        let (found, ..) = discover(&[Input::Dir(dir.path().to_owned())], Names::Live);
        let files = found.iter().rev().map(|f| HistoryFile::whole(f).unwrap()).collect();
        let mut live = Replay(Pipeline::new(ParseOptions::default(), PriceTable::embedded(), settings(&LIVELY)));
        live.0.evaluator.go_live();
        merge(files, &mut live, |_| {});
        live.0.evaluator.stop();
        let (mut one, told) = replayed(&lines_of(&traffic));
        let sourceless = |notices: &[Notice]| {
            // The name of the file is all that may differ.
            let text = json(notices);
            let mut text = text.replace("\"source\":\"app.log\"", "\"source\":\"?\"");
            for name in ["a.jsonl", "b.jsonl"] {
                text = text.replace(&format!("\"source\":\"{}\"", dir.path().join(name).display()), "\"source\":\"?\"");
            }
            text
        };
        prop_assert_eq!(sourceless(&live.0.take_notices()), sourceless(&told));
        prop_assert_eq!(live.0.evaluator.begin_span(None), one.evaluator.begin_span(None));
    }

    /// Law 7: an episode is told from first to resolved in turn, and not too often.
    #[test]
    fn firing_and_resolved_alternate_and_notices_are_few(seed in any::<u64>()) {
        let (_, notices) = replayed(&lines_of(&traffic(seed, 400)));
        let mut episodes: HashMap<u64, Vec<&Notice>> = HashMap::new();
        for notice in &notices {
            episodes.entry(notice.episode).or_default().push(notice);
        }
        for told in episodes.values() {
            let mut open = false;
            let mut last_repeat: Option<Time> = None;
            let mut last_reopened: Option<Time> = None;
            for (i, notice) in told.iter().enumerate() {
                match notice.reason {
                    Reason::Escalated => prop_assert!(false, "no budget is set"),
                    Reason::First | Reason::StillFiring => prop_assert!(i == 0 && !open),
                    Reason::Reopened => {
                        prop_assert!(!open && i > 0, "{:?}", story(&notices));
                        if let Some(before) = last_reopened {
                            prop_assert!(notice.at.millis_since(before) >= 15 * 60_000);
                        }
                        last_reopened = Some(notice.at);
                    }
                    Reason::Repeat => {
                        prop_assert!(open);
                        if let Some(before) = last_repeat {
                            prop_assert!(notice.at.millis_since(before) >= 5 * 60_000);
                        }
                        last_repeat = Some(notice.at);
                    }
                    Reason::Resolved => prop_assert!(open),
                    Reason::Stopped => prop_assert!(open && i + 1 == told.len()),
                }
                open = !matches!(notice.reason, Reason::Resolved | Reason::Stopped);
            }
        }
    }

    /// Law 8: garbage between the lines changes no alert and no sum.
    #[test]
    fn garbage_changes_no_alert(seed in any::<u64>(), garbage in proptest::collection::vec(any::<Vec<u8>>(), 1..20)) {
        let lines = lines_of(&traffic(seed, 100));
        let mut random = Random(!seed);
        let mut pipeline = pipeline(&LIVELY);
        pipeline.evaluator.go_live();
        let source = SourceInfo::file(Path::new("app.log"));
        for (number, line) in lines.iter().enumerate() {
            give(&mut pipeline, &source, number as u64, line.as_bytes(), NOW);
            let rubbish = &garbage[usize::try_from(random.below(garbage.len() as u64)).unwrap()];
            give(&mut pipeline, &source, 0, rubbish, NOW);
            // Half of a good line is garbage too.
            let half = &line.as_bytes()[..usize::try_from(random.below(line.len() as u64)).unwrap()];
            give(&mut pipeline, &source, 0, half, NOW);
        }
        pipeline.evaluator.stop();
        let (clean, told) = replayed(&lines);
        prop_assert_eq!(json(&pipeline.take_notices()), json(&told));
        prop_assert_eq!(pipeline.evaluator.totals(), clean.evaluator.totals());
    }
}

struct Replay(Pipeline);

impl Decode for Replay {
    type Item = Event;

    type Glance = InOrder<Event>;

    fn glance(&self) -> Option<InOrder<Event>> {
        None
    }

    fn digest(&mut self, _source: &Arc<SourceInfo>, (): (), _last: Option<i64>) {}

    fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, Event)>) {
        self.0.intake.line(line, NOW, |event| {
            out.push((event.time().map(|t| t.0), event));
        });
    }

    fn probe(&self, line: Line<'_>) -> Option<i64> {
        self.0.intake.probe(line, NOW).map(|time| time.0)
    }

    fn is_whole(&self, bytes: &[u8]) -> bool {
        claude_tokmon::parse::is_complete(bytes)
    }

    fn take(&mut self, _time: Option<i64>, event: Event) {
        self.0.feed(event, Undated::TotalsOnly, None);
    }
}

/// A window that was empty when somebody looked has no room for what it does not hold, however much the longer one has.
#[test]
fn a_window_that_was_empty_is_asked_when_it_fills() {
    // Cheap for ten minutes, nothing for five, cheap again, and dear: the short window is above its limit first.
    let at = |n: i64| match n {
        0..200 => 3 * n,
        _ => 600 + 300 + (n - 200),
    };
    let call = |n: i64| Call {
        at: TWO_O_CLOCK + 1000 * at(n),
        id: format!("msg_{n}"),
        input: if n < 215 { 1_000 } else { 9_000 },
        ..Call::default()
    };
    let lines: Vec<String> = (0..260).map(|n| call(n).line()).collect();
    let set = [
        "request-cost.above=0.02",
        "request-cost.window=[\"60s\", \"15m\"]",
        "request-cost.min_requests=1",
        "request-cost.floor=0",
        "request-cost.min_cost=0",
        "request-cost.for=\"0s\"",
        "token-spike.enabled=false",
    ];
    let looks = ["errors.metric=requests", "errors.below=0.001"];
    let told = |set: &[&str]| {
        let notices = told(&mut pipeline(set), &lines);
        notices
            .iter()
            .map(|n| (n.rule.name.clone(), n.at))
            .collect::<Vec<_>>()
    };
    let alone = told(&set);
    assert!(!alone.is_empty());
    assert_eq!(alone, told(&[&set[..], &looks].concat()));
}

/// A prompt that is mostly new takes of the room that a share has below its limit, though it misses nothing: what leaves the window
/// lifts the share above it sooner.
#[test]
fn a_share_rises_sooner_by_what_is_new() {
    let call = |second: i64, written: u64, read: u64| {
        let call = Call {
            at: TWO_O_CLOCK + 1000 * second,
            id: format!("msg_{second}"),
            session: Some("s-1"),
            write_5m: written,
            read,
            ..Call::default()
        };
        call.line()
    };
    // 54 % of what the cache could have given is missed, and 59 % of all prompts are not read from it. The limit is 60 %.
    let hits = (0..10).map(|n| call(2 * n, 0, 28_000));
    let misses = (10..30).map(|n| call(2 * n, 15_000, 0));
    let longer = call(60, 85_000, 15_000);
    // Somebody else: the time goes on.
    let later = Call {
        at: TWO_O_CLOCK + 300_000,
        ..Call::default()
    };
    let lines: Vec<String> = hits.chain(misses).chain([longer, later.line()]).collect();
    let set = [
        "cache-drop.above=0.6",
        "cache-drop.window=\"2m\"",
        "cache-drop.min_requests=1",
        "cache-drop.min_waste=0",
        "cache-miss.enabled=false",
        "cache-break.enabled=false",
        "cache-waste.enabled=false",
    ];
    let notices = told(&mut pipeline(&set), &lines);
    let drops = notices.iter().filter(|n| &*n.rule.name == "cache-drop");
    let first = drops.map(|n| n.at.secs() - TWO_O_CLOCK / 1000).next();
    // The first response that was judged has left.
    assert_eq!(first, Some(122));
}

/// That the cache is not in use is said with the response that makes it so, though most of those before it were not asked about: the
/// first sixty large prompts, or sixty once the last that used the cache has left the window of a day.
#[test]
fn no_cache_is_said_with_the_response_that_makes_it_so() {
    let call = |second: i64, input: u64, read: u64| {
        let call = Call {
            at: TWO_O_CLOCK + 1000 * second,
            id: format!("msg_{second}"),
            input,
            read,
            ..Call::default()
        };
        call.line()
    };
    let large = |from: i64, n: i64| (from..from + n).map(move |second| call(second, 6_000, 0));
    let told_at = |lines: Vec<String>| {
        let notices = told(&mut pipeline(&["no-cache.min_requests=60"]), &lines);
        let said = notices.iter().filter(|n| &*n.rule.name == "no-cache");
        said.map(|n| {
            assert_eq!(n.since, n.at, "it is so from then on");
            (n.at.0 - TWO_O_CLOCK) / 1000
        })
        .collect::<Vec<_>>()
    };
    let first = [call(0, 6_000, 0)];
    assert_eq!(
        told_at(first.into_iter().chain(large(1_800, 80)).collect()),
        [1_800 + 58]
    );
    // Small ones all day, so that something leaves the window every twenty minutes.
    let small = (1..72).map(|n| call(1_200 * n, 100, 0));
    let day = 86_400;
    let lines = [call(0, 10, 6_000)].into_iter().chain(small);
    assert_eq!(
        told_at(lines.chain(large(day - 30, 90)).collect()),
        [day - 30 + 59]
    );
}

/// What is usual for all sessions together may fall while one of them spends nothing. What that one has spent is too much by then, which
/// is told with what it spends next: of one that spends nothing any more it is no news.
#[test]
fn a_limit_that_others_lower_is_held_against_what_comes() {
    const MINUTE: i64 = 60_000;
    let midnight = TWO_O_CLOCK - 120 * MINUTE;
    let call = |minute: i64, session: &str, cents: u64| {
        let call = Call {
            at: midnight + minute * MINUTE,
            id: format!("msg_{minute}_{session}"),
            session: Some(session),
            // Five dollars a million.
            input: cents * 2_000,
            ..Call::default()
        };
        call.line()
    };
    let (day, mut lines) = (24 * 60, Vec::new());
    lines.extend((10..30).map(|n| call(n, &format!("busy-{n}"), 1_000)));
    lines.extend((3 * day..3 * day + 500).map(|n| call(n, &format!("s-{n}"), 50)));
    // Its minute is sampled ten minutes later, with the four after it, and the busy ones are older than a week by that.
    lines.push(call(7 * day, "b", 50));
    lines.extend((7 * day + 1..7 * day + 5).map(|n| call(n, "a", 150)));
    lines.push(call(7 * day + 30, "c", 50));
    let off =
        ["cost-rate", "token-spike", "request-cost"].map(|name| format!("{name}.enabled=false"));
    let set: Vec<&str> = off.iter().map(String::as_str).collect();
    let told_at = |lines: &[String]| {
        let notices = told(&mut pipeline(&set), lines);
        let first = notices.iter().find(|n| &*n.rule.name == "session-cost");
        first.map(|n| (n.at.0 - midnight) / MINUTE - 7 * day)
    };
    assert_eq!(told_at(&lines), None);
    let next = |minute: i64| {
        let call = call(7 * day + minute, "a", 1);
        let mut lines = lines.clone();
        lines.insert(lines.len() - 1, call);
        lines
    };
    // In the tenth minute the limit falls.
    assert_eq!(told_at(&next(8)), None);
    assert_eq!(told_at(&next(11)), Some(11));
}

/// The laws would hold of an engine that never says anything.
#[test]
fn the_traffic_of_these_laws_shows_all_of_an_alerts_life() {
    let mut reasons = HashMap::new();
    for seed in 0..20 {
        for notice in replayed(&lines_of(&traffic(seed, 400))).1 {
            *reasons
                .entry((notice.rule.name.to_string(), notice.reason))
                .or_insert(0) += 1;
        }
    }
    for rule in ["cost-rate", "cache-waste", "cache-break", "token-spike"] {
        for reason in [Reason::First, Reason::Resolved] {
            assert!(
                reasons.contains_key(&(rule.to_owned(), reason)),
                "{rule} {reason:?} in {reasons:?}"
            );
        }
    }
    for reason in [Reason::Repeat, Reason::Reopened, Reason::Stopped] {
        assert!(
            reasons.keys().any(|(_, r)| *r == reason),
            "{reason:?} in {reasons:?}"
        );
    }
    assert!(reasons.contains_key(&("unpriced-model".to_owned(), Reason::First)));
}
