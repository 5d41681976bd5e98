//! The life of an alert, told by literal times: when it begins, what is repeated, how it ends.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "calls are written out where they are made"
)]

mod common;

use claude_tokmon::monitor::{Notice, Reason, Time, UNIT};
use claude_tokmon::parse::Zone;
use claude_tokmon::pipeline::Pipeline;
use claude_tokmon::sink::{Clock, explanation, headline, who};
use common::{Call, TWO_O_CLOCK, feed, pipeline, told};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;

struct Tale {
    pipeline: Pipeline,
    n: u32,
    told: Vec<String>,
}

impl Tale {
    fn new(set: &[&str]) -> Self {
        let mut pipeline = pipeline(set);
        pipeline.evaluator.go_live();
        Self {
            pipeline,
            n: 0,
            told: Vec::new(),
        }
    }

    fn spend(&mut self, at: i64, dollars: u64) {
        self.call(Call {
            at: TWO_O_CLOCK + at,
            input: dollars * 200_000,
            ..Call::default()
        });
    }

    fn call(&mut self, call: Call<'_>) {
        self.n += 1;
        let id = format!("msg_{}", self.n);
        feed(&mut self.pipeline, "app.log", &[Call { id, ..call }.line()]);
        self.note();
    }

    fn tick(&mut self, at: i64) {
        self.pipeline.tick(Time(TWO_O_CLOCK + at));
        self.note();
    }

    fn note(&mut self) {
        for notice in self.pipeline.take_notices() {
            let at = (notice.at.0 - TWO_O_CLOCK) / SECOND;
            let stale = if notice.stale { " stale" } else { "" };
            self.told.push(format!(
                "{at}s {} {}{stale}",
                notice.rule.name,
                notice.reason.name()
            ));
        }
    }
}

#[test]
fn a_rate_fires_at_once_and_resolves_after_it_was_clear_for_five_minutes() {
    let mut tale = Tale::new(&[]);
    tale.spend(0, 1);
    tale.spend(10 * SECOND, 2);
    tale.tick(20 * MINUTE);
    // Its last dollars leave the window after a minute, and it is clear from then on.
    assert_eq!(
        tale.told,
        ["10s cost-rate first", "370s cost-rate resolved"]
    );
}

#[test]
fn a_breach_must_last_as_long_as_the_rule_asks_and_pending_is_not_told() {
    let mut tale = Tale::new(&["cost-rate.for=\"30s\""]);
    tale.spend(0, 3);
    tale.tick(29 * SECOND);
    assert_eq!(tale.told, Vec::<String>::new());
    tale.tick(31 * SECOND);
    assert_eq!(tale.told, ["30s cost-rate first"]);
    let mut brief = Tale::new(&["cost-rate.for=\"2m\""]);
    brief.spend(0, 3);
    brief.tick(20 * MINUTE);
    assert_eq!(brief.told, Vec::<String>::new());
}

/// What waits fires when nothing comes as a rule. It is of the log that took it over the limit, not of the first one that was read.
#[test]
fn what_has_waited_is_of_the_log_that_took_it_over_the_limit() {
    let mut pipeline = pipeline(&["cost-rate.for=30s"]);
    pipeline.evaluator.go_live();
    let logs = [
        ("first.log", 1, 0),
        ("dear.log", 900_000, 60),
        ("last.log", 1, 70),
    ];
    for (n, (log, input, second)) in logs.into_iter().enumerate() {
        let call = Call {
            at: TWO_O_CLOCK + second * SECOND,
            id: format!("msg_{n}"),
            input,
            ..Call::default()
        };
        feed(&mut pipeline, log, &[call.line()]);
    }
    pipeline.tick(Time(TWO_O_CLOCK + 100 * SECOND));
    let notices = pipeline.take_notices();
    let [first] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert_eq!(first.at, Time(TWO_O_CLOCK + 90 * SECOND));
    assert_eq!(&*first.labels.source, "dear.log");
}

#[test]
fn between_the_limit_and_four_fifths_of_it_nothing_changes() {
    let mut tale = Tale::new(&["cost-rate.above=5"]);
    tale.spend(0, 6);
    for minute in 1..=12 {
        tale.spend(minute * MINUTE - SECOND, 4);
    }
    assert!(
        !tale.told.iter().any(|line| line.contains("resolved")),
        "{:?}",
        tale.told
    );
    for minute in 13..=20 {
        tale.spend(minute * MINUTE, 3);
    }
    assert_eq!(tale.told.last().unwrap(), "1079s cost-rate resolved");
}

#[test]
fn repeats_come_after_15_30_60_and_120_minutes_then_every_four_hours_and_after_a_day_daily() {
    let mut tale = Tale::new(&["cost-rate.above=0.001"]);
    for half_minute in 0..(73 * 120) {
        tale.call(Call {
            at: TWO_O_CLOCK + half_minute * MINUTE / 2,
            input: 1_000,
            ..Call::default()
        });
    }
    let minutes: Vec<i64> = tale
        .told
        .iter()
        .map(|line| line.split_once('s').unwrap().0.parse::<i64>().unwrap() / 60)
        .collect();
    let first_day = [0, 15, 45, 105, 225, 465, 705, 945, 1185, 1425];
    assert_eq!(minutes[..10], first_day);
    assert_eq!(minutes[10..], [1425 + 1440, 1425 + 2 * 1440]);
}

#[test]
fn dollars_that_have_grown_fourfold_are_told_earlier_but_not_within_five_minutes() {
    let mut tale = Tale::new(&[]);
    tale.spend(0, 3);
    for i in 1..40 {
        tale.spend(i * 30 * SECOND, 3);
    }
    // $3 at first; four times that are there after a minute and a half, and told after five.
    assert_eq!(
        tale.told[..2],
        ["0s cost-rate first", "300s cost-rate repeat"]
    );
}

#[test]
fn what_comes_back_soon_is_the_same_episode_and_says_so_once_in_a_quarter_of_an_hour() {
    let mut tale = Tale::new(&["cost-rate.keep_firing=\"30s\""]);
    for i in 0..8 {
        tale.spend(i * 4 * MINUTE, 3);
    }
    tale.tick(120 * MINUTE);
    assert_eq!(
        tale.told,
        [
            "0s cost-rate first",
            "90s cost-rate resolved",
            "240s cost-rate reopened",
            "360s cost-rate resolved",
            "1200s cost-rate reopened",
            "1980s cost-rate resolved",
        ]
    );
}

/// Twice as long each time it has come back: a rate that is over its plain limit for a minute out of twelve, for ten hours.
#[test]
fn what_hovers_about_its_limit_must_be_clear_for_longer_and_longer() {
    let mut tale = Tale::new(&["no-cache.enabled=false", "cost-rate.above=2"]);
    for n in 0..50 {
        tale.spend(n * 12 * MINUTE, 3);
    }
    assert_eq!(
        tale.told,
        [
            "0s cost-rate first",
            "360s cost-rate resolved",
            "720s cost-rate reopened",
            "1380s cost-rate resolved",
            "2160s cost-rate reopened",
            "3600s cost-rate repeat",
            "5760s cost-rate repeat",
            "9360s cost-rate repeat",
            "16560s cost-rate repeat",
            "30960s cost-rate repeat",
        ]
    );
    // Twenty minutes by now; and for as long it is the same that comes back.
    tale.spend((49 * 12 + 39) * MINUTE, 3);
    assert_eq!(
        tale.told[10..],
        ["36540s cost-rate resolved", "37620s cost-rate reopened"]
    );
}

/// Small requests go on with no run, and do not keep it on.
#[test]
fn a_run_whose_traffic_stops_is_closed_in_the_end() {
    for goes_on in [false, true] {
        let mut tale = Tale::new(&[]);
        let call = |at, prompt, read| Call {
            at: TWO_O_CLOCK + at,
            session: Some("s"),
            input: prompt - read,
            read,
            ..Call::default()
        };
        for i in 0..20 {
            tale.call(call(i * 20 * SECOND, 50_000, 50_000));
        }
        for i in 20..24 {
            tale.call(call(i * 20 * SECOND, 50_000, 0));
        }
        for i in (24..90).filter(|_| goes_on) {
            tale.call(call(i * 19 * SECOND, 300, 0));
        }
        tale.tick(24 * 60 * MINUTE);
        let ends = tale.told.last().unwrap();
        assert!(
            ends.ends_with("cache-break resolved stale"),
            "{:?}",
            tale.told
        );
        // Its last request came at 460 seconds. Nothing is in the cache five minutes later; it is given a quarter of an hour.
        assert!(ends.starts_with("1360s "), "{ends}");
    }
}

/// The window that a mean fired on is clear, but a shorter one that has enough responses is not: it is not over.
#[test]
fn an_episode_goes_on_where_a_shorter_window_is_above_the_limit() {
    let mut tale = Tale::new(&[
        "request-cost.above=3",
        "request-cost.window=[\"60s\", \"10m\"]",
        "request-cost.min_requests=2",
        "request-cost.for=\"0s\"",
        "request-cost.keep_firing=\"0s\"",
        "request-cost.enabled=true",
        "cost-rate.enabled=false",
    ]);
    // Only the long window has two of them in it.
    for (second, dollars) in [(0, 20), (120, 0), (241, 0), (302, 0), (363, 0), (424, 0)] {
        tale.spend(second * SECOND, dollars);
    }
    // The short one has two as well when the first leaves the long one, whose mean falls to $1.14 then.
    tale.spend(590 * SECOND, 4);
    tale.spend(595 * SECOND, 4);
    tale.tick(15 * MINUTE);
    // The short one has two of them until 650 s, and decides for twice its length after that.
    assert_eq!(
        tale.told,
        ["120s request-cost first", "770s request-cost resolved"]
    );
}

#[test]
fn a_limit_from_below_fires_when_traffic_fades() {
    let mut tale = Tale::new(&[
        "cost-rate.metric=requests",
        "cost-rate.below=3",
        "unpriced-model.enabled=false",
    ]);
    for i in 0..10 {
        tale.spend(i * 10 * SECOND, 0);
    }
    tale.tick(5 * MINUTE);
    // The last ones came at 70, 80 and 90 seconds: from 130 on only two are left.
    assert_eq!(tale.told, ["130s cost-rate first"]);
}

#[test]
fn an_unknown_model_is_told_once_not_once_a_record() {
    let mut tale = Tale::new(&[]);
    for i in 0..50 {
        let model = if i % 2 == 0 { "claude-a" } else { "claude-b" };
        tale.call(Call {
            at: TWO_O_CLOCK + i * MINUTE * 30,
            model,
            input: 10,
            ..Call::default()
        });
    }
    assert_eq!(
        tale.told,
        ["0s unpriced-model first", "1800s unpriced-model first"]
    );
    let totals = tale.pipeline.evaluator.totals();
    assert_eq!((totals.unpriced, totals.cost.0), (50, 0));
    assert!(totals.is_lower_bound() && UNIT > 0);
}

#[test]
fn a_conversation_that_is_taken_up_again_after_it_was_closed_is_judged_at_once() {
    let mut tale = Tale::new(&[]);
    let call = |at, read| Call {
        at: TWO_O_CLOCK + at,
        session: Some("s"),
        input: 50_000 - read,
        read,
        ..Call::default()
    };
    for i in 0..20 {
        tale.call(call(i * 20 * SECOND, 50_000));
    }
    for i in 20..24 {
        tale.call(call(i * 20 * SECOND, 0));
    }
    tale.tick(1_370 * SECOND);
    assert!(
        tale.told.last().unwrap().ends_with("stale"),
        "{:?}",
        tale.told
    );
    // The first one after the pause has only expired; those behind it miss again.
    for i in 0..4 {
        tale.call(call((5_000 + i * 20) * SECOND, 0));
    }
    let last = tale.told.last().unwrap();
    assert_eq!(last, "5040s cache-break first", "{:?}", tale.told);
}

fn error_line(at: i64, id: u32) -> String {
    format!(
        r#"{{"time":"{}","request_id":"req_{id}","type":"error","error":{{"type":"overloaded_error","message":"secret"}}}}"#,
        common::rfc3339(TWO_O_CLOCK + at)
    )
}

#[test]
fn a_retry_storm_is_told_once_and_ends_when_answers_come_again() {
    let mut tale = Tale::new(&[]);
    for minute in 0..5 {
        tale.spend(minute * MINUTE, 0);
    }
    for n in 0..20_u32 {
        let line = error_line(5 * MINUTE + i64::from(n) * SECOND, n);
        // Each stands in the log twice.
        feed(&mut tale.pipeline, "app.log", &[line.clone(), line]);
        tale.note();
    }
    tale.tick(9 * MINUTE);
    assert_eq!(tale.told, ["305s errors first"]);
    assert_eq!(tale.pipeline.evaluator.totals().errors, 20);
    for minute in 10..30 {
        for second in 0..4 {
            tale.spend(minute * MINUTE + second * SECOND, 0);
        }
    }
    tale.tick(40 * MINUTE);
    assert_eq!(tale.told.len(), 2, "{:?}", tale.told);
    assert!(tale.told[1].contains("errors resolved"), "{:?}", tale.told);
}

/// When two dear responses lie ten minutes back at most and the last minute is empty, what decides next is the minute, and the ten
/// when it has fewer than three again.
#[test]
fn a_mean_over_ten_minutes_decides_as_soon_as_the_last_minute_has_too_few() {
    let mut tale = Tale::new(&[
        "request-cost.above=0.148",
        "request-cost.min_cost=0",
        "request-cost.window=[\"60s\", \"600s\"]",
        "request-cost.min_requests=3",
        "request-cost.for=\"0s\"",
    ]);
    for (second, input) in [
        (30, 68_309),
        (30, 8_723),
        (109, 6_577),
        (142, 7_537),
        (157, 67_096),
    ] {
        tale.call(Call {
            at: TWO_O_CLOCK + second * SECOND,
            input,
            ..Call::default()
        });
    }
    tale.tick(175 * SECOND);
    assert_eq!(tale.told, ["169s request-cost first"]);
}

#[test]
fn what_looks_like_its_limit_is_said_to_be_above_it() {
    let mut pipeline = Tale::new(&["cost-rate.above=0.05"]).pipeline;
    for (second, input) in [(0, 9_999), (1, 11)] {
        let call = Call {
            at: TWO_O_CLOCK + second * SECOND,
            id: format!("msg_{second}"),
            input,
            ..Call::default()
        };
        feed(&mut pipeline, "app.log", &[call.line()]);
    }
    let said: Vec<String> = pipeline.take_notices().iter().map(headline).collect();
    assert_eq!(said, ["$0.05/min over 1m, just above its limit"]);
}

#[test]
fn what_is_on_while_too_little_comes_to_tell_is_not_told_again() {
    for (late, ended) in [
        (0..0, "closed after 23m 20s: 60 API errors"),
        (60..62, "closed after 23m 20s: 62 API errors"),
    ] {
        let mut pipeline = Tale::new(&[]).pipeline;
        let storm = (0..60_u32).map(|n| (i64::from(n) * 10 * SECOND, n));
        let late = late.map(|n| (16 * MINUTE + i64::from(n), n));
        for (at, n) in storm.chain(late) {
            pipeline.tick(Time(TWO_O_CLOCK + at));
            feed(&mut pipeline, "app.log", &[error_line(at, n)]);
        }
        pipeline.tick(Time(TWO_O_CLOCK + 40 * MINUTE));
        let said: Vec<String> = pipeline.take_notices().iter().map(headline).collect();
        assert_eq!(
            said,
            [
                "100 % of the answers of 5m were API errors (overloaded_error), limit 50 %"
                    .to_owned(),
                format!("no traffic any more, {ended}"),
            ]
        );
    }
}

/// Others cost more, but have no errors.
#[test]
fn whose_errors_they_are_and_of_which_kind_is_told() {
    let mut pipeline = Tale::new(&[]).pipeline;
    for n in 0..40_u32 {
        let at = common::rfc3339(TWO_O_CLOCK + i64::from(n) * SECOND);
        let kind = if n < 2 {
            "api_error"
        } else {
            "rate_limit_error"
        };
        let error = format!(
            r#"{{"time":"{at}","project":"batch","request_id":"req_{n}","type":"error","error":{{"type":"{kind}","message":"slow down"}}}}"#
        );
        let call = Call {
            at: TWO_O_CLOCK + i64::from(n) * SECOND,
            id: format!("msg_{n}"),
            input: 100,
            ..Call::default()
        };
        let answer = call.line().replacen('{', r#"{"project":"web","#, 1);
        let answer = (n % 4 == 0).then_some(answer);
        let lines: Vec<String> = [error].into_iter().chain(answer).collect();
        feed(&mut pipeline, "app.log", &lines);
    }
    let notices = pipeline.take_notices();
    let alert = notices.iter().find(|n| &*n.rule.name == "errors").unwrap();
    assert_eq!(alert.projects, [("batch".into(), 100)]);
    assert_eq!(alert.models, []);
    assert_eq!(who(alert), ["project batch"]);
    let first = "80 % of the answers of 5m were API errors (75 % rate_limit_error), limit 50 %";
    assert_eq!(headline(alert), first);
    let advice = explanation(alert, Clock { zone: Zone::UTC });
    assert_eq!(
        advice,
        ["look at: what sends so much since 02:00, or the rate limits of the workspace"]
    );
}

#[test]
fn errors_of_a_batch_and_a_few_among_many_are_no_storm() {
    let mut tale = Tale::new(&[]);
    for n in 0..50_u32 {
        let line = format!(
            r#"{{"time":"{}","custom_id":"job-{n}","result":{{"type":"errored","error":{{"type":"error"}}}}}}"#,
            common::rfc3339(TWO_O_CLOCK + i64::from(n))
        );
        feed(&mut tale.pipeline, "app.log", &[line]);
    }
    for n in 0..100_u32 {
        tale.spend(i64::from(n) * SECOND, 0);
        if n % 10 == 0 {
            feed(
                &mut tale.pipeline,
                "app.log",
                &[error_line(i64::from(n) * SECOND, n)],
            );
        }
        tale.note();
    }
    assert_eq!(tale.told, Vec::<String>::new());
    assert_eq!(tale.pipeline.evaluator.totals().errors, 60);
}

#[test]
fn a_session_that_falls_silent_is_told_while_others_go_on() {
    let mut tale = Tale::new(&["silence.enabled=true", "silence.by=[\"session\"]"]);
    for minute in 0..30 {
        let mut say = |session| {
            tale.call(Call {
                at: TWO_O_CLOCK + minute * MINUTE,
                session: Some(session),
                input: 10,
                ..Call::default()
            });
        };
        // Looked at again and again before it is due.
        if [0, 5, 8].contains(&minute) {
            say("s-1");
        }
        say("s-2");
    }
    assert_eq!(tale.told, ["1080s silence first"]);
}

/// What is remembered of conversations does not grow with how many there have been.
/// Who asks where a service has gone looks at the log that it wrote to last, whichever was the first.
#[test]
fn silence_is_of_the_log_that_spoke_last() {
    let mut pipeline = pipeline(&["silence.enabled=true"]);
    pipeline.evaluator.go_live();
    for (n, log) in ["first.log", "last.log"].into_iter().enumerate() {
        let call = Call {
            at: TWO_O_CLOCK + i64::try_from(n).unwrap() * MINUTE,
            id: format!("msg_{n}"),
            input: 10,
            ..Call::default()
        };
        feed(&mut pipeline, log, &[call.line()]);
    }
    pipeline.tick(Time(TWO_O_CLOCK + 12 * MINUTE));
    let notices = pipeline.take_notices();
    let [silent] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert_eq!(&*silent.rule.name, "silence");
    assert_eq!(&*silent.labels.source, "last.log");
}

#[test]
fn conversations_that_are_over_are_forgotten() {
    let mut tale = Tale::new(&[]);
    let mut keys = Vec::new();
    for hour in 0..200 {
        let session = format!("s-{hour}");
        for call in 0..3 {
            tale.call(Call {
                at: TWO_O_CLOCK + hour * 60 * MINUTE + call * MINUTE,
                session: Some(&session),
                input: 10,
                read: 10_000,
                output: 100,
                ..Call::default()
            });
        }
        let memory = serde_json::to_value(tale.pipeline.evaluator.memory()).unwrap();
        let scopes = memory["scopes"].as_array().unwrap().iter();
        keys.push(
            scopes
                .map(|s| s[0].as_object().unwrap().len())
                .sum::<usize>(),
        );
    }
    assert!(keys[199] <= keys[9] && keys[9] < 20, "{keys:?}");
}

/// Who is told that more is spent is told what has changed: there are more of them, or each is larger.
#[test]
fn an_alert_about_spending_says_what_has_changed() {
    let later = |minutes: i64| TWO_O_CLOCK + minutes * MINUTE;
    let ordinary = |n: i64| Call {
        at: later(n),
        input: 20_000,
        output: 300,
        ..Call::default()
    };
    let odd = |call: Call<'static>, words: &'static str| (call, words);
    let cases = [
        odd(
            Call {
                output: 40_000,
                ..ordinary(90)
            },
            "changed: outputs 133 times as long (40.0k tokens)",
        ),
        odd(
            Call {
                input: 300_000,
                ..ordinary(90)
            },
            "changed: prompts 15 times as long (300.0k tokens)",
        ),
        odd(
            Call {
                model: "claude-sonnet-4-6",
                input: 300_000,
                ..ordinary(90)
            },
            "changed: prompts 15 times as long (300.0k tokens) · claude-sonnet-4-6 is 89 % of the cost, not 0 %",
        ),
        odd(
            ordinary(90),
            "changed: 5.0 times as many responses (5 a minute)",
        ),
    ];
    for (call, words) in cases {
        let after = ordinary;
        let ordinary = (0..90).map(ordinary);
        let odd = (0..60).map(|n| Call {
            at: call.at + n * 2 * SECOND,
            ..call.clone()
        });
        let numbered = |(n, call)| Call {
            id: format!("msg_{n}"),
            ..call
        };
        let later = (200..203).map(after);
        let calls = ordinary.chain(odd).chain(later).enumerate().map(numbered);
        let lines: Vec<String> = calls.map(|call| call.line()).collect();
        let notices = told(&mut pipeline(&["cost-rate.above=0.5"]), &lines);
        let of_rate = |n: &&Notice| &*n.rule.name == "cost-rate";
        let first = notices.iter().find(of_rate).unwrap();
        assert!(first.at.0 >= call.at);
        let clock = Clock { zone: Zone::UTC };
        assert_eq!(explanation(first, clock)[0], words);
        // When it is over its window is as it was.
        let last = notices.iter().rfind(of_rate).unwrap();
        assert_eq!(last.reason, Reason::Resolved);
        assert_eq!(last.changed, None);
    }
}

/// What a run has told of is not told again when the run is over: what is left of the hour would not be enough by itself.
#[test]
fn what_is_left_when_a_run_is_over_is_no_news() {
    let mut tale = Tale::new(&[]);
    let call = |second: i64, session: &'static str, prompt: u64, is_read: bool| Call {
        at: TWO_O_CLOCK + second * SECOND,
        session: Some(session),
        read: if is_read { prompt } else { 0 },
        write_5m: if is_read { 0 } else { prompt },
        ..Call::default()
    };
    for n in 0..3_600 {
        // Three in a row cost $0.86 and are told; eight single ones of another session $0.37 in all.
        let is_other = n % 4 == 3;
        let is_miss = match n {
            0 | 3 => true,
            _ if is_other => (3_027..3_091).contains(&n) && n % 8 == 3,
            _ => (3_000..3_003).contains(&n),
        };
        let (session, prompt) = if is_other {
            ("q", 8_000)
        } else {
            ("s", 50_000)
        };
        tale.call(call(n * 10, session, prompt, !is_miss));
    }
    let is_of_cache = |told: &&String| told.contains("cache-");
    let told: Vec<&String> = tale.told.iter().filter(is_of_cache).collect();
    assert_eq!(
        told,
        ["30010s cache-break first", "30340s cache-break resolved"]
    );
}

/// Three minutes of each hour cost $6, and one hour has five times as much of the same: $30 in a quarter of it. Each minute with
/// traffic is as dear as ever, and yet $26 are beyond the $4 that half an hour holds in the median of the minutes with traffic.
#[test]
fn what_a_burst_has_cost_is_beyond_what_the_time_usually_costs_not_its_busy_minutes() {
    let mut calls = Vec::new();
    for hour in 0..60 {
        let minutes = if hour == 59 { 15 } else { 3 };
        for minute in 0..minutes {
            for n in 0..10 {
                let at = hour * 60 * MINUTE + minute * MINUTE + n * 6 * SECOND;
                calls.push(Call {
                    at: TWO_O_CLOCK + at,
                    id: format!("msg_{}", calls.len()),
                    input: 40_000,
                    ..Call::default()
                });
            }
        }
    }
    let lines: Vec<String> = calls.iter().map(Call::line).collect();
    let mut pipeline = pipeline(&["cost-rate.enabled=false", "no-cache.enabled=false"]);
    let mut notices = told(&mut pipeline, &lines);
    pipeline.tick(Time(TWO_O_CLOCK + 62 * 60 * MINUTE));
    notices.extend(pipeline.take_notices());
    let of_the_spike = |reason| {
        let mut notices = notices.iter().filter(|n| &*n.rule.name == "cost-spike");
        notices.find(|n| n.reason == reason).unwrap()
    };
    let (first, over) = (of_the_spike(Reason::First), of_the_spike(Reason::Resolved));
    assert!(first.exposed.unwrap() > claude_tokmon::price::PicoUsd::DOLLAR);
    let dollars = over.exposed.unwrap().0 * 100 / claude_tokmon::price::PicoUsd::DOLLAR.0;
    assert!((2550..=2650).contains(&dollars), "{}", headline(over));
}

/// Six responses a minute at two cents, and then one a minute at six: half of what a minute cost before, and four cents too much for
/// each of them.
#[test]
fn what_dearer_responses_have_cost_is_beyond_what_as_many_usually_cost() {
    let hours = 6 * 60 * MINUTE;
    let cheap = (0..6 * 60 * 6).map(|n| (n * 10 * SECOND, 4_000));
    let dear = (1..=3 * 60).map(|n| (hours + n * MINUTE, 12_000));
    let asked = cheap.chain(dear).enumerate();
    let line = |(n, (at, input)): (usize, (i64, u64))| Call {
        at: TWO_O_CLOCK + at,
        id: format!("msg_{n}"),
        input,
        ..Call::default()
    };
    let lines: Vec<String> = asked.map(|asked| line(asked).line()).collect();
    let notices = told(&mut pipeline(&["no-cache.enabled=false"]), &lines);
    let last = notices.last().unwrap();
    assert_eq!(
        (&*last.rule.name, last.reason),
        ("request-cost", Reason::Repeat)
    );
    let dear = (last.at.0 - TWO_O_CLOCK - hours) / MINUTE;
    let beyond = i128::from(dear) * 4 * claude_tokmon::price::PicoUsd::DOLLAR.0 / 100;
    // What is usual is known to a hundredth.
    let exposed = last.exposed.unwrap().0;
    assert!(
        (exposed - beyond).abs() * 100 <= beyond,
        "{exposed}, {beyond}"
    );
}
