//! Settings that are judged as one, or share an evaluator, on generated traffic: none says what it would not say alone.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use claude_tokmon::monitor::{Notice, Time};
use claude_tokmon::pipeline::Pipeline;
use common::traffic::{
    burning, by_turns, chancy, crowd, dense, leaky, lines_of, nightly, sessions, traffic, unsteady,
};
use common::{Call, Random, TWO_O_CLOCK, feed, pipeline, pipeline_where, told};
use proptest::prelude::*;

/// Holds what settings of a rule say that share an evaluator against what each of them says alone. The later half of them has an
/// evaluator of its own up to a line.
fn say_the_same(
    name: &str,
    near: &BTreeSet<u32>,
    with: impl Fn(&u32) -> Pipeline,
    lines: &[String],
    joined_at: usize,
) -> Result<(), TestCaseError> {
    let end = Time(TWO_O_CLOCK + 140 * 3_600_000);
    let said = |notices: Vec<Notice>| {
        let said = |n: Notice| {
            let who = (n.labels.model.clone(), n.labels.session.clone());
            (
                n.rule.name.clone(),
                n.reason,
                n.episode,
                n.at,
                n.exposed,
                n.requests,
                n.explains,
                n.limit,
                who,
            )
        };
        let mut said: Vec<_> = notices.into_iter().map(said).collect();
        // Those of one moment come in the order in which they are looked at, which is no matter.
        said.sort_by_key(|(rule, _, episode, at, ..)| (*at, rule.clone(), *episode));
        said
    };
    let rule = |pipeline: Pipeline| {
        let mut rules = pipeline.evaluator.scoped_rules();
        rules.find(|rule| *rule.name == *name).unwrap()
    };
    let rules: Vec<_> = near.iter().map(|n| rule(with(n))).collect();
    let all = 0..rules.len();
    let alone = |teller: usize, n: usize| (teller, vec![Arc::clone(&rules[n])]);
    let shared = |part: Range<usize>| {
        let mut shared = with(near.first().unwrap());
        shared
            .evaluator
            .part(all.clone().map(|n| alone(0, n)).collect());
        assert!(shared.evaluator.is_shared());
        shared.evaluator.part(part.map(|n| alone(n, n)).collect());
        shared.evaluator.go_live();
        shared
    };
    let half = all.end / 2;
    let (before, after) = lines.split_at(joined_at.min(lines.len()));
    let (mut together, mut other) = (shared(0..half), shared(half..all.end));
    feed(&mut together, "app.log", before);
    feed(&mut other, "app.log", before);
    together.evaluator.absorb(other.evaluator);
    feed(&mut together, "app.log", after);
    together.tick(end);
    together.evaluator.stop();
    for (teller, n) in near.iter().enumerate() {
        let mut alone = with(n);
        alone.evaluator.go_live();
        feed(&mut alone, "app.log", lines);
        alone.tick(end);
        alone.evaluator.stop();
        let (alone, shared) = (
            said(alone.take_notices()),
            said(together.evaluator.take_notices_of(teller)),
        );
        for (alone, shared) in alone.iter().zip(&shared) {
            prop_assert_eq!(alone, shared, "{} with {}", name, n);
        }
        let rest = alone.len().min(shared.len());
        prop_assert_eq!(&alone[rest..], &shared[rest..], "{} with {}", name, n);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Law 11: limits that one evaluator stands for, and that it says have led to the same, have led to the same.
    #[test]
    fn limits_that_are_kept_together_say_the_same(
        seed in any::<u64>(),
        field in proptest::sample::select(vec![
            ("cost-rate.above", 1_u32), ("cost-rate.beyond_busy", 300), ("session-cost.floor", 3),
            ("cache-waste.above", 1), ("request-cost.floor", 1), ("token-spike.floor", 100_000),
            ("cache-miss.above", 1), ("errors.above", 1),
            ("cache-break.min_waste", 1), ("cache-break.by_chance", 0), ("cache-break.above", 0), ("cache-waste.share_of_cost", 1), ("cache-miss.min_waste", 1), ("cache-waste.min_waste", 2), ("cache-drop.min_waste", 1),
        ]),
        base in 5_u32..600,
        near in proptest::collection::btree_set(0_u32..60, 2..8),
        traffic_of in 0_usize..4,
    ) {
        let (lines, field) = match traffic_of {
            0 => (burning(seed, 8), ("cost-rate.above", 1)),
            1 => (unsteady(seed), field),
            2 => (nightly(seed), field),
            _ => (lines_of(&traffic(seed, 150)), field),
        };
        let (field, scale) = field;
        let with = |near: &u32| {
            let n = (base + near) * scale;
            // Rules that wait for nothing, and learn at once where they learn.
            let set = match field {
                "cache-break.by_chance" => format!("{field}=\"{}d\"", 1 + near * near),
                "cache-break.above" => format!("{field}={}", 1 + near / 5),
                _ => format!("{field}={}.{:03}", n / 1000, n % 1000),
            };
            let quick = [
                "token-spike.for=\"0s\"", "token-spike.times_usual=1.1", "session-cost.beyond_busy=0.1", "request-cost.min_cost=0", &set,
            ];
            pipeline(&quick)
        };
        let told = |pipeline: &mut Pipeline| {
            feed(pipeline, "app.log", &lines);
            pipeline.evaluator.stop();
            let notices = pipeline.take_notices();
            let said = |n: Notice| (n.rule.name.clone(), n.reason, n.episode, n.at, n.exposed, n.requests, n.explains);
            notices.into_iter().map(said).collect::<Vec<_>>()
        };
        let name = field.split('.').next().unwrap();
        let rule = |pipeline: Pipeline| {
            let mut rules = pipeline.evaluator.scoped_rules();
            rules.find(|rule| *rule.name == *name).unwrap()
        };
        let variants: Vec<_> = near.iter().map(|n| rule(with(n))).collect();
        let all: Vec<u32> = near.iter().copied().collect();
        let mut together = with(&all[0]);
        together.evaluator.stand_for(variants);
        together.evaluator.go_live();
        let said = told(&mut together);
        let kept = together.evaluator.kept(0).unwrap();
        prop_assert!(!kept.is_empty());
        for n in &all[kept] {
            let mut alone = with(n);
            alone.evaluator.go_live();
            prop_assert_eq!(&told(&mut alone), &said, "{} with {}", field, n);
        }
    }

    /// Law 11: settings that share an evaluator say what each of them says alone, also where two evaluators that have seen the same
    /// are put together.
    #[test]
    fn settings_that_share_an_evaluator_say_what_each_says_alone(
        seed in any::<u64>(),
        field in proptest::sample::select(vec![
            ("cost-rate.above", 1_u32), ("cost-rate.beyond_busy", 3), ("token-spike.floor", 100_000),
            ("token-spike.floor", 1_000), ("token-spike.times_usual", 20),
            ("cache-miss.above", 1), ("cache-drop.floor", 1), ("cache-drop.beyond_busy", 3),
            ("request-cost.above", 1), ("request-cost.beyond_busy", 5), ("errors.above", 1),
            ("cache-miss.min_waste", 1), ("cache-drop.min_waste", 1),
        ]),
        base in 5_u32..400,
        near in proptest::collection::btree_set(0_u32..600, 2..7),
        joined_at in 0_usize..150,
        waits in proptest::sample::select(vec!["0s", "20s", "3m"]),
        keeps in proptest::sample::select(vec!["0s", "45s", "10m"]),
        window in 0_usize..4,
        metric in proptest::sample::select(vec!["tokens", "requests", "output-tokens"]),
        traffic_of in 0_usize..5,
        grows in any::<bool>(),
        alone in any::<bool>(),
        min_cost in proptest::sample::select(vec!["0", "0.02", "0.3"]),
    ) {
        let lines = match traffic_of {
            0 => burning(seed, 8),
            1 => burning(seed, 40),
            2 => unsteady(seed),
            3 if seed.is_multiple_of(2) => by_turns(seed),
            3 => nightly(seed),
            _ => lines_of(&traffic(seed, 150)),
        };
        // Some come again with more output than before, and some are followed by errors.
        let with_more = |(n, line): (usize, String)| {
            let mut random = Random(seed.wrapping_add(n as u64));
            let time = &line[line.find('"').unwrap()..line.find(',').unwrap()];
            let error = r#""type":"error","error":{"type":"overloaded_error","message":"busy"}"#;
            let n_errors = if random.chance(0.1) { random.below(12) } else { 0 };
            let errors: Vec<String> = (0..n_errors)
                .map(|error_n| format!("{{{time},\"request_id\":\"req_{n}_{error_n}\",{error}}}"))
                .collect();
            let output = line.find(r#""output_tokens":"#).filter(|_| grows && n % 3 == 0);
            let again = output.map(|at| line.replacen(&line[at..at + 16], r#""output_tokens":9"#, 1));
            [line].into_iter().chain(again).chain(errors)
        };
        let lines: Vec<String> = lines.into_iter().enumerate().flat_map(with_more).collect();
        let (field, scale) = field;
        let name = field.split('.').next().unwrap();
        let with = |near: &u32| {
            let n = (base + near) * scale;
            let set = format!("{field}={}.{:03}", n / 1000, n % 1000);
            let waits = format!("{name}.for=\"{waits}\"");
            let keeps = format!("{name}.keep_firing=\"{keeps}\"");
            let metric = format!("token-spike.metric={metric:?}");
            // Some have the same window, some do not.
            let windows = [r#""1m""#, r#""10m""#, r#"["1m", "10m"]"#];
            let window = windows.get(window).unwrap_or(&windows[*near as usize % 3]);
            let window = format!("{name}.window={window}");
            let few = format!("{name}.min_requests=2");
            let cheap = format!("{name}.min_cost={min_cost}");
            let little = format!("{name}.min_waste=0.01");
            let limit = if name == "cost-rate" { "cost-rate.above=0.02" } else { "token-spike.floor=1000" };
            let mut quick = vec![
                limit, "cache-drop.beyond_busy=0.3", "token-spike.times_usual=1.1", &metric, &window, &waits, &keeps, &set,
            ];
            if traffic_of == 3 {
                quick.extend(["session-cost.above=0.3", "session-cost.window=\"1h\""]);
            }
            if name != "cost-rate" {
                quick.push(&few);
            }
            if matches!(name, "request-cost" | "token-spike") {
                quick.push(&cheap);
            }
            if name.starts_with("cache") && !field.ends_with("min_waste") {
                quick.push(&little);
            }
            if alone {
                // Nothing explains it.
                quick.extend(["cache-break.enabled=false", "cache-waste.enabled=false"]);
            }
            pipeline(&quick)
        };
        say_the_same(name, &near, with, &lines, joined_at)?;
    }

    /// The same of settings of a rule about each session: what is usual for all of them is known to each teller for itself.
    #[test]
    fn settings_about_sessions_say_what_each_says_alone(
        seed in any::<u64>(),
        (field, scale) in proptest::sample::select(vec![
            ("session-cost.floor", 1_u32), ("session-cost.beyond_busy", 4), ("session-cost.times_usual", 20), ("session-cost.above", 2),
            ("session-long.floor", 2), ("session-long.times_usual", 6),
        ]),
        base in 1_u32..200,
        near in proptest::collection::btree_set(0_u32..400, 2..7),
        joined_at in 0_usize..700,
        waits in proptest::sample::select(vec!["0s", "20s", "3m"]),
        keeps in proptest::sample::select(vec!["0s", "45s", "10m"]),
        window in 0_usize..5,
        by in proptest::sample::select(vec![r#"["session"]"#, r#"["session", "model"]"#, r#"["conversation"]"#]),
        beside in 0_usize..3,
        traffic_of in 0_usize..8,
        grows in any::<bool>(),
    ) {
        let lines = match traffic_of {
            0 => by_turns(seed),
            1 => leaky(seed),
            2 => lines_of(&traffic(seed, 200)),
            3 | 4 => sessions(seed),
            _ => crowd(seed),
        };
        // Some come again with more output than before.
        let with_more = |(n, line): (usize, String)| {
            let output = line.find(r#""output_tokens":"#).filter(|_| grows && n % 3 == 0);
            let again = output.map(|at| line.replacen(&line[at..at + 16], r#""output_tokens":9"#, 1));
            [line].into_iter().chain(again)
        };
        let lines: Vec<String> = lines.into_iter().enumerate().flat_map(with_more).collect();
        let name = field.split('.').next().unwrap();
        let with = |near: &u32| {
            let n = (base + near) * scale;
            let set = format!("{field}={}.{:03}", n / 1000, n % 1000);
            let windows = [r#""1m""#, r#""10m""#, r#""30m""#, r#""2h""#];
            let window = windows.get(window).unwrap_or(&windows[*near as usize % 4]);
            let window = format!("{name}.window={window}");
            let times = [("for", waits), ("keep_firing", keeps)].map(|(field, value)| format!("{name}.{field}={value:?}"));
            let by = ["session-cost", "session-long"].map(|name| format!("{name}.by={by}"));
            let mut quick = vec![
                "session-cost.beyond_busy=0.5", "session-cost.floor=0.05", "session-long.times_usual=0.5", "session-long.floor=0.05",
                &window, &by[0], &by[1],
            ];
            let other = ["session-long.enabled=false", "session-cost.enabled=false"];
            match beside {
                0 => quick.extend(["cost-rate.above=0.05", "session-long.window=\"30m\"", "cache-waste.above=0.01", "cost-day.above=0.5"]),
                1 => quick.extend(["cost-rate.enabled=false", "cost-day.enabled=false"]),
                // No other rule keeps its keys.
                _ => quick.push(other[usize::from(name == "session-long")]),
            }
            quick.extend(times.iter().map(String::as_str));
            quick.push(&set);
            pipeline(&quick)
        };
        say_the_same(name, &near, with, &lines, joined_at)?;
    }

    /// The same of settings of a rule about waste, which explains others: each teller knows what its own has spoken for.
    #[test]
    fn settings_about_waste_say_what_each_says_alone(
        seed in any::<u64>(),
        (field, scale) in proptest::sample::select(vec![
            ("cache-waste.above", 1_u32), ("cache-waste.above", 10), ("cache-waste.share_of_cost", 1), ("cache-waste.min_waste", 4),
        ]),
        base in 1_u32..200,
        near in proptest::collection::btree_set(0_u32..400, 2..7),
        joined_at in 0_usize..150,
        waits in proptest::sample::select(vec!["0s", "20s", "3m"]),
        keeps in proptest::sample::select(vec!["0s", "45s", "10m"]),
        window in 0_usize..4,
        share in proptest::sample::select(vec!["0", "0.05", "0.3"]),
        whose in proptest::sample::select(vec!["{}", r#"{ session = "?*" }"#, r#"{ session = "s-1" }"#]),
        traffic_of in 0_usize..7,
        breaks in any::<bool>(),
    ) {
        let lines = match traffic_of {
            0 => unsteady(seed),
            1 => leaky(seed),
            2 => dense(seed),
            3 => by_turns(seed),
            4 | 5 => chancy(seed),
            _ => lines_of(&traffic(seed, 200)),
        };
        let with = |near: &u32| {
            let n = (base + near) * scale;
            let set = format!("{field}={}.{:03}", n / 1000, n % 1000);
            let windows = [r#""1m""#, r#""10m""#, r#""1h""#];
            let window = windows.get(window).unwrap_or(&windows[*near as usize % 3]);
            let breaks = format!("cache-break.enabled={breaks}");
            let of_waste = [("window", *window), ("where", whose), ("share_of_cost", share)];
            let of_waste = of_waste.map(|(field, value)| format!("cache-waste.{field}={value}"));
            let times = [("for", waits), ("keep_firing", keeps)].map(|(field, value)| format!("cache-waste.{field}={value:?}"));
            let mut quick = vec![
                "cache-waste.above=0.01", "cache-miss.above=0.05", "cache-miss.min_waste=0.01", "cache-drop.beyond_busy=0.3",
                "cost-rate.above=0.02", "session-cost.above=0.1", "request-cost.above=0.001", "request-cost.min_requests=2",
                "cost-day.above=0.5", &breaks,
            ];
            quick.extend(of_waste.iter().chain(&times).map(String::as_str));
            quick.push(&set);
            pipeline(&quick)
        };
        say_the_same("cache-waste", &near, with, &lines, joined_at)?;
    }
}

/// A window of an hour learns from minutes, and one of a day from days, also where they share an evaluator.
#[test]
fn each_window_learns_from_what_it_would_alone() {
    let with = |near: &u32| {
        let window = if *near == 0 { "1h" } else { "1d" };
        pipeline(&[
            &format!("cost-day.window={window:?}"),
            "cost-day.times_usual=1.2",
            "cost-day.floor=0.01",
        ])
    };
    // A response every half-hour, of which those of the tenth day are dear.
    let call = |n: i64| Call {
        at: TWO_O_CLOCK + 1_800_000 * n,
        id: format!("msg_{n}"),
        input: if n / 48 == 9 { 40_000 } else { 10_000 },
        ..Call::default()
    };
    let lines: Vec<String> = (0..12 * 48).map(|n| call(n).line()).collect();
    say_the_same("cost-day", &[0, 1].into(), with, &lines, 0).unwrap();
    for near in [0, 1] {
        let notices = told(&mut with(&near), &lines);
        assert!(notices.iter().any(|n| &*n.rule.name == "cost-day"));
    }
}

/// A rule that a teller judges for itself knows too when clocks are put back.
#[test]
fn settings_know_of_changed_clocks() {
    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    let midnight = TWO_O_CLOCK - 2 * HOUR;
    let with = |near: &u32| {
        let times = format!("cost-spike.times_usual={}", near + 2);
        let set = ["token-spike.enabled=false", &times];
        pipeline_where(&set, Time(midnight + 8 * DAY + HOUR))
    };
    // A response every two minutes, and for half an hour from three by the clocks on one every two seconds.
    let (mut at, mut lines) = (midnight, Vec::new());
    while at < midnight + 9 * DAY {
        let (day, into) = ((at - midnight) / DAY, (at - midnight) % DAY);
        let begins = if day < 8 { 3 * HOUR } else { 4 * HOUR };
        let is_job = (begins..begins + HOUR / 2).contains(&into);
        let call = Call {
            at,
            id: format!("msg_{}", lines.len()),
            model: "claude-haiku-4-5",
            input: 9_000,
            ..Call::default()
        };
        lines.push(call.line());
        at += if is_job { 2_000 } else { 120_000 };
    }
    say_the_same("cost-spike", &[0, 1, 2].into(), with, &lines, 0).unwrap();
    let days = |mut pipeline: Pipeline| -> BTreeSet<i64> {
        let notices = told(&mut pipeline, &lines).into_iter();
        let told = notices.filter(|n| &*n.rule.name == "cost-spike");
        told.map(|n| n.at.millis_since(Time(midnight)) / DAY)
            .collect()
    };
    assert!(!days(with(&0)).contains(&8));
    let unaware = ["token-spike.enabled=false", "cost-spike.times_usual=2"];
    assert!(days(pipeline(&unaware)).contains(&8));
}

/// Of limits that are kept together the highest is the first that an episode is clear of, though another one is in force.
#[test]
fn limits_part_where_an_episode_ends_for_one_of_them() {
    // Much at once, then a little in each second, and then nothing: it begins for all, and what is left falls slowly.
    let call = |n: i64| {
        let at = TWO_O_CLOCK + 1000 * n;
        let id = format!("msg_{n}");
        Call {
            at,
            id,
            input: if n == 0 { 120_000 } else { 4_000 },
            ..Call::default()
        }
        .line()
    };
    let lines: Vec<String> = (0..50).map(call).collect();
    let with = |above: &str| pipeline(&[&format!("cost-rate.above={above}")]);
    let limits = ["0.50", "0.53", "0.56"];
    let end = Time(TWO_O_CLOCK + 600_000);
    let told = |pipeline: &mut Pipeline| {
        let mut notices = told(pipeline, &lines);
        pipeline.tick(end);
        notices.extend(pipeline.take_notices());
        notices.iter().map(|n| (n.reason, n.at)).collect::<Vec<_>>()
    };
    let rule = |pipeline: Pipeline| {
        let mut rules = pipeline.evaluator.scoped_rules();
        rules.find(|rule| &*rule.name == "cost-rate").unwrap()
    };
    let alone = limits.map(|limit| told(&mut with(limit)));
    // Each says that it has begun and that it is over.
    assert!(alone.iter().all(|said| said.len() == 2), "{alone:?}");
    let mut together = with(limits[1]);
    together
        .evaluator
        .stand_for(limits.iter().map(|limit| rule(with(limit))).collect());
    assert_eq!(told(&mut together), alone[1]);
    let kept = together.evaluator.kept(0).unwrap();
    let same = (0..limits.len()).filter(|n| alone[*n] == alone[1]);
    assert!(kept.eq(same), "{alone:?}");
}
