//! Ordinary days: nothing here is worth a page, and each was once a false alarm of some tool.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use claude_tokmon::monitor::{Cause, Notice, Reason, Severity, Time};
use claude_tokmon::pipeline::Pipeline;
use claude_tokmon::price::PicoUsd;
use claude_tokmon::sink::headline;
use common::{
    Call, Random, TWO_O_CLOCK, count, is_cache_alert, pipeline, pipeline_where, story, told,
};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn pages(notices: &[Notice]) -> Vec<String> {
    let pages: Vec<Notice> = notices
        .iter()
        .filter(|n| n.rule.severity > Severity::Info)
        .cloned()
        .collect();
    story(&pages)
}

#[test]
fn a_program_that_never_caches_is_told_once_and_never_paged() {
    let mut random = Random(1);
    let mut at = TWO_O_CLOCK;
    let lines: Vec<String> = (0..600)
        .map(|i| {
            at += random.pause_ms(200.0);
            let input = 8_000 + random.below(4_000);
            Call {
                at,
                id: format!("msg_{i}"),
                model: "claude-haiku-4-5",
                input,
                output: 200,
                ..Call::default()
            }
            .line()
        })
        .collect();
    let notices = told(&mut pipeline(&[]), &lines);
    assert_eq!(story(&notices), ["no-cache first"]);
}

/// A conversation of one user: its prompt grows, and what it had is read from the cache within five minutes.
struct User {
    prompt: u64,
    last: i64,
}

impl User {
    fn ask(&mut self, random: &mut Random, at: i64) -> (u64, u64) {
        let turn = 200 + random.below(800);
        let starts_anew = self.prompt == 0 || self.prompt > 60_000;
        let warm = at - self.last <= 300_000 && !starts_anew;
        let read = if warm { self.prompt } else { 0 };
        self.prompt = if starts_anew {
            6_000 + random.below(3_000)
        } else {
            self.prompt + turn
        };
        self.last = at;
        (read, self.prompt - read)
    }
}

#[test]
fn ten_users_interleaved_without_ids_are_no_broken_conversation() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let mut users: Vec<User> = (0..10).map(|_| User { prompt: 0, last: 0 }).collect();
        let mut at = TWO_O_CLOCK - 24 * HOUR;
        let mut lines = Vec::new();
        for i in 0..7_000 {
            at += random.pause_ms(300.0).max(1);
            let user = &mut users[usize::try_from(random.below(10)).unwrap()];
            let (read, write_5m) = user.ask(&mut random, at);
            let call = Call {
                at,
                id: format!("msg_{i}"),
                model: "claude-sonnet-4-6",
                input: 5,
                output: 300,
                read,
                write_5m,
                ..Call::default()
            };
            lines.push(call.line());
        }
        let notices = told(&mut pipeline(&[]), &lines);
        assert_eq!(pages(&notices), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn ten_sub_agents_of_one_session_each_have_a_prompt_of_their_own() {
    let mut random = Random(3);
    let mut prompts = [0_u64; 10];
    let mut at = TWO_O_CLOCK;
    let mut lines = Vec::new();
    for i in 0..80 {
        at += random.pause_ms(3_000.0).max(1);
        let agent = usize::try_from(random.below(10)).unwrap();
        let read = prompts[agent];
        let write = if read == 0 { 15_000 } else { 500 };
        prompts[agent] = read + write;
        let usage = format!(
            r#"{{"input_tokens":3,"output_tokens":150,"cache_creation_input_tokens":{write},"cache_read_input_tokens":{read}}}"#
        );
        lines.push(format!(
            r#"{{"type":"assistant","timestamp":"{}","sessionId":"s-1","agentId":"a{agent}","isSidechain":true,"message":{{"id":"msg_{i}","model":"claude-sonnet-4-6","stop_reason":"end_turn","usage":{usage}}}}}"#,
            common::rfc3339(at)
        ));
    }
    let mut pipeline = pipeline(&[]);
    let notices = told(&mut pipeline, &lines);
    assert_eq!(pages(&notices), Vec::<String>::new());
    assert_eq!(pipeline.evaluator.totals().waste().0, 0);
}

#[test]
fn a_switch_of_the_model_pays_for_a_cache_of_its_own_and_is_no_break() {
    let mut lines = Vec::new();
    let mut at = TWO_O_CLOCK;
    let mut prompt = 20_000;
    let mut cached = [0_u64; 2];
    for i in 0..80 {
        at += 20_000;
        // Back and forth every twenty turns, within the time to live.
        let side = usize::from(i / 20 % 2 == 1);
        let model = ["claude-opus-4-7", "claude-sonnet-4-6"][side];
        let read = if i % 20 == 0 { 0 } else { cached[side] };
        prompt += 400;
        cached[side] = prompt;
        let call = Call {
            at,
            id: format!("msg_{i}"),
            model,
            session: Some("s-1"),
            input: 4,
            output: 200,
            read,
            write_5m: prompt - read,
            ..Call::default()
        };
        lines.push(call.line());
    }
    let mut pipeline = pipeline(&[]);
    let notices = told(&mut pipeline, &lines);
    assert_eq!(pages(&notices), Vec::<String>::new());
    let causes: Vec<&str> = pipeline
        .evaluator
        .totals()
        .by_cause
        .keys()
        .map(claude_tokmon::monitor::Cause::name)
        .collect();
    assert!(causes.contains(&"model-changed"), "{causes:?}");
}

#[test]
fn a_pause_longer_than_the_time_to_live_is_no_break() {
    let mut lines = Vec::new();
    let mut at = TWO_O_CLOCK;
    for i in 0..8 {
        at += if i % 5 == 4 { 20 * 60_000 } else { 30_000 };
        let cold = i % 5 == 4 || i == 0;
        let (read, write_5m) = if cold { (0, 30_000) } else { (30_000, 0) };
        let call = Call {
            at,
            id: format!("msg_{i}"),
            session: Some("s-1"),
            input: 40,
            output: 100,
            read,
            write_5m,
            ..Call::default()
        };
        lines.push(call.line());
    }
    let mut pipeline = pipeline(&[]);
    let notices = told(&mut pipeline, &lines);
    assert_eq!(pages(&notices), Vec::<String>::new());
    let totals = pipeline.evaluator.totals();
    assert_eq!(totals.waste().0, 0);
    assert_eq!(
        totals
            .by_cause
            .keys()
            .map(claude_tokmon::monitor::Cause::name)
            .collect::<Vec<_>>(),
        ["expired"]
    );
}

#[test]
fn a_compacted_session_starts_anew_and_is_no_break() {
    let mut lines = Vec::new();
    let mut at = TWO_O_CLOCK;
    let mut prompt = 0;
    for i in 0..60 {
        at += 15_000;
        let compacted = i % 20 == 19;
        if compacted {
            lines.push(format!(r#"{{"type":"system","subtype":"compact_boundary","sessionId":"s-1","timestamp":"{}"}}"#, common::rfc3339(at - 1)));
        }
        let read = if compacted || i == 0 { 0 } else { prompt };
        prompt = if compacted || i == 0 {
            60_000
        } else {
            prompt + 2_000
        };
        let call = Call {
            at,
            id: format!("msg_{i}"),
            session: Some("s-1"),
            input: 4,
            output: 100,
            read,
            write_5m: prompt - read,
            ..Call::default()
        };
        lines.push(call.line());
    }
    let mut pipeline = pipeline(&[]);
    let notices = told(&mut pipeline, &lines);
    assert_eq!(pages(&notices), Vec::<String>::new());
    assert_eq!(pipeline.evaluator.totals().waste().0, 0);
}

/// Only the beginning of each prompt is cached, on purpose. The rest of it was never in the cache and is not missed.
/// Conversations whose requests go to two regions by turns of chance: each has a cache of its own, which lags behind.
#[test]
fn a_cache_that_leaks_all_day_is_told_once_and_nobody_is_paged() {
    let mut random = Random(7);
    let (mut at, mut lines) = (TWO_O_CLOCK - 48 * HOUR, Vec::new());
    for conversation in 0..700 {
        // It begins slowly, so that it is known how many requests miss before it is much.
        let per_hour = if conversation < 80 { 4.0 } else { 20.0 };
        at += random.pause_ms(per_hour).max(1);
        let session = format!("s-{conversation}");
        let (mut begin, mut prompt, mut cached) = (at, 6_000, [6_000, 6_000]);
        for turn in 0..8 {
            begin += 20_000 + random.pause_ms(200.0).min(60_000);
            prompt += 500 + random.below(500);
            let region = usize::from(random.chance(0.5));
            let read = cached[region];
            cached[region] = prompt;
            let call = Call {
                at: begin,
                id: format!("msg_{conversation}_{turn}"),
                session: Some(&session),
                input: 5,
                output: 500,
                read,
                write_5m: prompt - read,
                ..Call::default()
            };
            lines.push((begin, call.line()));
        }
    }
    lines.sort();
    let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    let mut pipeline = pipeline(&["cost-spike.enabled=false"]);
    let notices = told(&mut pipeline, &lines);
    assert_eq!(story(&notices), ["cache-leak first"]);
    let (notice, totals) = (&notices[0], pipeline.evaluator.totals());
    let value = notice.value.unwrap();
    assert!(
        notice.limit < value && value < notice.limit + 10_i128.pow(12),
        "{value} {}",
        notice.limit
    );
    assert!(
        notice
            .causes
            .iter()
            .all(|tally| tally.cause == Cause::Partial)
    );
    let words = headline(notice);
    assert!(
        words.contains("hour after hour: more than $5.00 and 10 % of what claude-opus-4-7 cost"),
        "{words}"
    );
    // It is what the report says of the whole.
    assert!(
        totals.waste().0 * 10 > totals.cost.0,
        "{} of {}",
        totals.waste(),
        totals.cost
    );
}

/// Conversations of which only the system prompt is ever read, because their history is cut: by day, for so many days.
fn cut_conversations(days: i64) -> Vec<String> {
    let (mut random, mut lines) = (Random(11), Vec::new());
    let mut at = TWO_O_CLOCK - days * DAY;
    for conversation in 0_i64.. {
        at += random.pause_ms(3.0).max(1);
        if at >= TWO_O_CLOCK {
            break;
        }
        if !(8 * HOUR..20 * HOUR).contains(&at.rem_euclid(DAY)) {
            continue;
        }
        let session = format!("s-{conversation}");
        for turn in 0..10 {
            let at = at + turn * 40_000;
            let read = if turn > 0 { 6_000 } else { 0 };
            let call = Call {
                at,
                id: format!("msg_{conversation}_{turn}"),
                session: Some(&session),
                input: 5,
                output: 300,
                read,
                write_5m: 16_000 - read,
                ..Call::default()
            };
            lines.push((at, call.line()));
        }
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

#[test]
fn what_is_told_of_the_cache_on_most_days_is_told_once_a_day() {
    let notices = told(&mut pipeline(&[]), &cut_conversations(9));
    let news = notices
        .iter()
        .filter(|n| n.reason != Reason::Resolved && is_cache_alert(n));
    let mut days = [0; 10];
    for notice in news {
        let day = notice.at.0.div_euclid(DAY) - (TWO_O_CLOCK - 9 * DAY).div_euclid(DAY);
        assert_eq!(notice.daily, day >= 4, "{day} {}", headline(notice));
        days[usize::try_from(day).unwrap()] += 1;
    }
    // Of the last one there is only a night.
    let (first, later) = days[..9].split_at(4);
    assert!(first.iter().all(|n| *n > 4), "{days:?}");
    assert!(later.iter().all(|n| (1..=2).contains(n)), "{days:?}");
}

#[test]
fn a_tail_that_is_never_cached_is_no_waste() {
    let mut lines = Vec::new();
    for i in 0..200 {
        let turn = 1_000 + 100 * (i % 40);
        let (read, write_5m) = if i == 0 { (0, 20_000) } else { (20_000, 0) };
        let at = TWO_O_CLOCK + i64::try_from(i).unwrap() * 20_000;
        let call = Call {
            at,
            id: format!("msg_{i}"),
            session: Some("chat"),
            input: turn * 3,
            output: 100,
            read,
            write_5m,
            ..Call::default()
        };
        lines.push(call.line());
    }
    let mut pipeline = pipeline(&[]);
    let notices = told(&mut pipeline, &lines);
    assert_eq!(pages(&notices), Vec::<String>::new());
    assert_eq!(pipeline.evaluator.totals().waste().0, 0);
}

/// Agents that begin at so many a minute, each with three requests, for so many days.
fn agents(days: i64, per_minute: impl Fn(i64) -> f64) -> Vec<String> {
    let most = (0..days * 24)
        .map(|hour| per_minute(hour * HOUR))
        .fold(0.0, f64::max);
    let mut random = Random(11);
    let mut requests = Vec::new();
    let mut at = 0;
    while at < days * DAY {
        at += random.pause_ms(60.0 * most);
        if random.chance(per_minute(at) / most) {
            let mut next = at;
            for _ in 0..3 {
                next += random.pause_ms(450.0) + 1000;
                requests.push((
                    next,
                    2_000 + random.below(2_500),
                    random.lognormal(600.0, 0.6),
                ));
            }
        }
    }
    requests.sort_unstable();
    let line = |(n, (at, input, output)): (usize, (i64, u64, u64))| Call {
        at: TWO_O_CLOCK - 2 * HOUR + at,
        id: format!("msg_{n}"),
        model: "claude-haiku-4-5",
        input,
        output,
        ..Call::default()
    };
    requests
        .into_iter()
        .enumerate()
        .map(|request| line(request).line())
        .collect()
}

/// Milliseconds after the first midnight at which each notice of a rule was given, and which it was.
fn since_midnight<'a>(notices: &'a [Notice], rule: &str) -> Vec<(i64, &'a Notice)> {
    let midnight = Time(TWO_O_CLOCK - 2 * HOUR);
    let of_rule = notices.iter().filter(|n| &*n.rule.name == rule);
    of_rule.map(|n| (n.at.millis_since(midnight), n)).collect()
}

/// Hardly any at night, eight a minute at noon.
#[allow(clippy::cast_precision_loss, reason = "milliseconds of a day")]
fn of_the_hour(at: i64) -> f64 {
    let hour = (at % DAY) as f64 / HOUR as f64;
    let height = ((hour - 6.0) / 14.0 * std::f64::consts::PI).sin();
    0.4 + if (6.0..20.0).contains(&hour) {
        7.6 * height
    } else {
        0.0
    }
}

/// The busy hours of a fleet are three times what is usual over days and nights, and no spike; four times as many agents are one.
#[test]
fn the_busy_hours_of_ordinary_days_are_no_spike() {
    let surge = 3 * DAY + 10 * HOUR..3 * DAY + 11 * HOUR;
    let times = |at: i64| if surge.contains(&at) { 4.0 } else { 1.0 };
    let lines = agents(4, |at| of_the_hour(at) * times(at));
    let notices = told(&mut pipeline(&[]), &lines);
    let spikes = since_midnight(&notices, "token-spike");
    let is_first = |(at, n): &&(i64, &Notice)| *at > DAY && n.reason == Reason::First;
    let first: Vec<i64> = spikes.iter().filter(is_first).map(|(at, _)| *at).collect();
    assert!(
        matches!(first[..], [at] if surge.contains(&at)),
        "{first:?} in {surge:?}"
    );
}

/// A job that runs at three each night is told of for two nights. From then on it is what that time of day shows, although it is far
/// more than any other hour; three times as much of it is news, and so is it at another time of day.
#[test]
fn what_comes_at_the_same_time_of_each_day_is_soon_no_news() {
    let job = |at: i64, day: i64, hour: i64| {
        let begun = day * DAY + hour * HOUR + (day % 3) * 500_000;
        (begun..begun + 1_400_000).contains(&at)
    };
    let lines = agents(9, |at| {
        let day = at / DAY;
        let times = match day {
            2..6 if job(at, day, 3) => 10.0,
            6 if job(at, day, 3) => 30.0,
            8 if job(at, day, 15) => 10.0,
            _ => 1.0,
        };
        2.0 * times
    });
    let notices = told(&mut pipeline(&["token-spike.enabled=false"]), &lines);
    let told = since_midnight(&notices, "cost-spike");
    let first = told.iter().filter(|(_, n)| n.reason == Reason::First);
    let hours: Vec<i64> = first.map(|(at, _)| at / HOUR).collect();
    assert_eq!(hours, [2 * 24 + 3, 3 * 24 + 3, 6 * 24 + 3, 8 * 24 + 15]);
}

/// A job that runs at three by the clocks runs an hour later by UTC once these are put back. Where the calendar knows of it that is no
/// news; where it does not it is told of once more.
#[test]
fn a_job_that_runs_by_the_clocks_is_no_news_when_they_are_changed() {
    let lines = agents(11, |at| {
        let (day, into) = (at / DAY, at % DAY);
        let begins = if day < 7 { 3 * HOUR } else { 4 * HOUR };
        let is_job = day > 1 && (begins..begins + 1_400_000).contains(&into);
        if is_job { 20.0 } else { 2.0 }
    });
    let days = |pipeline: &mut Pipeline| -> Vec<i64> {
        let notices = told(pipeline, &lines);
        let told = since_midnight(&notices, "cost-spike");
        let first = told.iter().filter(|(_, n)| n.reason == Reason::First);
        first.map(|(at, _)| at / DAY).collect()
    };
    let set = ["token-spike.enabled=false"];
    let midnight = TWO_O_CLOCK - 2 * HOUR;
    let change = Time(midnight + 7 * DAY + HOUR);
    assert_eq!(days(&mut pipeline_where(&set, change)), [2, 3]);
    assert_eq!(days(&mut pipeline(&set)), [2, 3, 7]);
}

/// Half an hour that costs far more than any usually does is told of where each minute is far below all other limits; the morning
/// after a week in which hardly anybody was there is not.
#[test]
fn a_small_service_that_spends_six_times_as_much_is_told_of_within_half_an_hour() {
    let surge = 12 * DAY + 11 * HOUR..12 * DAY + 15 * HOUR;
    let holiday = 4 * DAY..11 * DAY;
    let times = |at: i64| {
        if surge.contains(&at) {
            6.0
        } else if holiday.contains(&at) {
            0.15
        } else {
            1.0
        }
    };
    let mut random = Random(23);
    let midnight = TWO_O_CLOCK - 2 * HOUR;
    let mut lines = Vec::new();
    let mut at = 0;
    while at < 13 * DAY {
        // Four answers a minute at noon, of three cents each.
        at += random.pause_ms(27.0 * of_the_hour(at) * times(at));
        let call = Call {
            at: midnight + at,
            id: format!("msg_{}", lines.len()),
            model: "claude-opus-4-7",
            input: 300 + random.below(400),
            output: 700 + random.below(600),
            ..Call::default()
        };
        lines.push(call.line());
    }
    let notices = told(&mut pipeline(&[]), &lines);
    let of_money: Vec<&Notice> = notices
        .iter()
        .filter(|n| n.rule.severity > Severity::Info)
        .collect();
    let first = of_money.first().unwrap();
    assert_eq!(&*first.rule.name, "cost-spike");
    let after = first.at.millis_since(Time(midnight + surge.start));
    assert!((0..HOUR / 2).contains(&after), "{after}");
    assert!(first.exposed.unwrap() < PicoUsd(10 * PicoUsd::DOLLAR.0));
    assert!(of_money.iter().all(|n| &*n.rule.name == "cost-spike"));
    // Without it nobody would have heard before the day was dear.
    let others = told(&mut pipeline(&["cost-spike.enabled=false"]), &lines);
    let others = others.iter().filter(|n| n.rule.severity > Severity::Info);
    let late: Vec<i64> = others
        .inspect(|n| assert_eq!(&*n.rule.name, "cost-day"))
        .map(|n| n.at.millis_since(Time(midnight + surge.start)))
        .collect();
    assert!(late[0] > HOUR / 2, "{late:?}");
}

/// Of a service with hundreds of sessions a day one never ends, at the pace of all others: it is told of when it has cost twice what the
/// dearest of a day do, by the rule that is about that.
#[test]
fn a_session_that_never_ends_is_told_of_though_it_goes_at_the_pace_of_others() {
    let mut random = Random(31);
    let midnight = TWO_O_CLOCK - 2 * HOUR;
    let mut requests = Vec::new();
    let mut session = |begin: i64, n: u64, name: String| {
        let mut at = begin;
        for _ in 0..n {
            requests.push((at, name.clone(), 500 + random.below(500)));
            at += 10_000 + random.pause_ms(360.0);
        }
    };
    let mut starts = Random(37);
    let mut at = 0;
    while at < 9 * DAY {
        at += starts.pause_ms(4.0 * of_the_hour(at));
        session(at, 10 + starts.below(110), format!("s{at}"));
    }
    let begin = 8 * DAY + 10 * HOUR;
    session(begin, 2_000, "endless".to_owned());
    requests.sort();
    let lines: Vec<String> = requests
        .iter()
        .enumerate()
        .map(|(n, (at, session, output))| {
            let call = Call {
                at: midnight + at,
                id: format!("msg_{n}"),
                session: Some(session),
                input: 1_500,
                output: *output,
                ..Call::default()
            };
            call.line()
        })
        .collect();
    // On the second day noon is busier than the first was, by chance: only what is told of the session is looked at.
    let since = |set: &[&str]| {
        let mut notices = told(&mut pipeline(set), &lines);
        notices.retain(|n| n.at >= Time(midnight + begin));
        notices
    };
    let notices = since(&[]);
    let told: Vec<(&str, Reason)> = notices.iter().map(|n| (&*n.rule.name, n.reason)).collect();
    assert_eq!(told[0], ("session-long", Reason::First), "{told:?}");
    assert!(
        told.iter().all(|(rule, _)| *rule == "session-long"),
        "{told:?}"
    );
    let first = &notices[0];
    assert_eq!(first.key[0].1, "endless");
    // A hundred and twenty requests are the most that others make.
    assert!((200..400).contains(&first.requests), "{}", first.requests);
    assert!(first.usual.unwrap().days >= 7);
    // Nobody else would have said a word.
    assert!(since(&["session-long.enabled=false"]).is_empty());
}

/// An agent that goes on all night as if it were noon is never much at once. It is told of before the day has begun, with what it
/// has cost beyond a usual day and who cost it, and again some hours later. Ordinary days are told of never.
#[test]
fn what_goes_on_all_night_is_told_of_though_it_is_never_much_at_once() {
    let night = 9 * DAY + 20 * HOUR..10 * DAY + 8 * HOUR;
    let midnight = TWO_O_CLOCK - 2 * HOUR;
    let of_days = |days: i64, has_night: bool| {
        let mut random = Random(29);
        let (mut lines, mut at) = (Vec::new(), 0);
        while at < days * DAY {
            let goes_on = has_night && night.contains(&at);
            let hour = if goes_on { 12 * HOUR } else { at };
            at += random.pause_ms(27.0 * of_the_hour(hour));
            let call = Call {
                at: midnight + at,
                id: format!("msg_{}", lines.len()),
                session: Some(if goes_on { "night" } else { "day" }),
                input: 300 + random.below(400),
                output: 700 + random.below(600),
                ..Call::default()
            };
            lines.push(call.line());
        }
        lines
    };
    assert!(told(&mut pipeline(&[]), &of_days(12, false)).is_empty());
    let notices = told(&mut pipeline(&[]), &of_days(12, true));
    let days: Vec<&Notice> = notices
        .iter()
        .filter(|n| &*n.rule.name == "cost-day")
        .collect();
    let reasons: Vec<Reason> = days.iter().map(|n| n.reason).collect();
    assert_eq!(reasons[..2], [Reason::First, Reason::Repeat]);
    assert_eq!(reasons.last(), Some(&Reason::Resolved));
    assert!(days.len() <= 5, "{reasons:?}");
    let hours = |n: &Notice| n.at.millis_since(Time(midnight + night.start)) / HOUR;
    assert!((8..11).contains(&hours(days[0])), "{}", hours(days[0]));
    assert_eq!(hours(days[1]) - hours(days[0]), 6);
    // Of two usual days one is beyond the usual.
    let (first, usual) = (days[0], days[0].usual.unwrap());
    let beyond = first.value.unwrap() - usual.usual;
    assert_eq!(first.exposed.unwrap().0, beyond);
    assert!(beyond >= usual.usual && usual.days >= 8, "{first:?}");
    let (name, percent) = &first.sessions[0];
    assert_eq!(
        (&**name, *percent / 10),
        ("night", 5),
        "{:?}",
        first.sessions
    );
    // Nothing else was far above its limit.
    let others: Vec<&str> = notices.iter().map(|n| &*n.rule.name).collect();
    assert!(others.iter().all(|rule| *rule == "cost-day"), "{others:?}");
}

/// A service that has grown for good is told of for three days, less and less often, and then counts as what is usual: when it
/// comes back in the morning, and when it never was away.
#[test]
fn what_every_day_shows_is_usual_after_three_days() {
    let times = |at: i64| if at > 2 * DAY { 4.0 } else { 1.0 };
    let by_day = agents(6, |at| of_the_hour(at) * times(at));
    let at_all_hours = agents(6, |at| 2.0 * times(at));
    for (lines, usual_by_now) in [(by_day, false), (at_all_hours, true)] {
        let set = ["token-spike.floor=1000", "cost-spike.enabled=false"];
        let notices = told(&mut pipeline(&set), &lines);
        let spikes = since_midnight(&notices, "token-spike");
        let later: Vec<_> = spikes.iter().filter(|(at, _)| *at > 2 * DAY).collect();
        assert!(later.len() > 3 && later.len() < 40, "{}", later.len());
        let (at, last) = later.last().unwrap();
        assert!(*at < 5 * DAY + 12 * HOUR, "{at}");
        assert_eq!(last.reason, Reason::Resolved);
        assert_eq!(later.iter().any(|(_, n)| n.usual_by_now), usual_by_now);
    }
}

/// A dearer model for good is told of, and counts as what is usual once it has been there for days.
#[test]
fn another_model_is_usual_after_some_days() {
    let mut random = Random(13);
    let midnight = TWO_O_CLOCK - 2 * HOUR;
    let mut at = midnight;
    let mut lines = Vec::new();
    while at < midnight + 9 * DAY {
        at += random.pause_ms(100.0);
        let is_old = at < midnight + 3 * DAY;
        let call = Call {
            at,
            id: format!("msg_{}", lines.len()),
            model: ["claude-sonnet-4-6", "claude-opus-4-7"][usize::from(!is_old)],
            input: 4_000 + random.below(2_000),
            output: 200,
            ..Call::default()
        };
        lines.push(call.line());
    }
    let notices = told(&mut pipeline(&[]), &lines);
    let told = since_midnight(&notices, "request-cost");
    let (first, last) = (told.first().unwrap(), told.last().unwrap());
    assert!((3 * DAY..3 * DAY + HOUR).contains(&first.0), "{}", first.0);
    assert!((6 * DAY..8 * DAY).contains(&last.0), "{}", last.0);
    assert!(last.1.reason == Reason::Resolved && last.1.usual_by_now);
    assert!(told.len() < 18, "{}", told.len());
}

/// A job with prompts of its own, in the log of a service whose users share a cached one, looks like a cache that breaks as far as its
/// long prompts go. Its short ones tell it. Where short ones are usual, a cache that breaks is told as before.
#[test]
fn a_job_with_prompts_of_its_own_is_no_broken_cache() {
    let midnight = TWO_O_CLOCK - 2 * HOUR;
    let at_noon = midnight + 12 * HOUR;
    let cache_alerts = |has_job: bool, breaks: bool| {
        let mut random = Random(29);
        let mut calls: Vec<(i64, [u64; 3])> = Vec::new();
        let mut at = midnight;
        while at < midnight + 14 * HOUR {
            at += random.pause_ms(180.0);
            let lost = breaks && at > at_noon;
            let prompt = if lost { [6_400, 0, 0] } else { [400, 0, 6_000] };
            let is_first = calls.is_empty();
            calls.push((at, if is_first { [400, 6_000, 0] } else { prompt }));
            // One in three is of a kind that is too short to be cached.
            if !has_job && random.chance(0.5) {
                calls.push((at, [900, 0, 0]));
            }
        }
        let mut at = at_noon;
        while has_job && at < at_noon + HOUR {
            at += random.pause_ms(4_000.0);
            calls.push((at, [random.lognormal(3_000.0, 0.5), 0, 0]));
        }
        calls.sort_unstable();
        let line = |(n, (at, [input, write_5m, read])): (usize, (i64, [u64; 3]))| {
            Call {
                at,
                id: format!("msg_{n}"),
                model: "claude-sonnet-4-5",
                input,
                output: 200,
                write_5m,
                read,
                ..Call::default()
            }
            .line()
        };
        let lines: Vec<String> = calls.into_iter().enumerate().map(line).collect();
        let notices = told(&mut pipeline(&[]), &lines);
        notices.iter().filter(|n| is_cache_alert(n)).count()
    };
    assert_eq!(cache_alerts(true, false), 0);
    assert_eq!(cache_alerts(false, false), 0);
    assert!(cache_alerts(false, true) > 0);
}

/// Traffic that has doubled for good is told of until it is usual: no day is said to be too dear that lies under its limit.
#[test]
fn a_day_that_has_become_usual_is_not_told_again() {
    let grown = |at: i64| if at > 8 * DAY { 2.5 } else { 1.0 };
    let lines = agents(14, grown);
    let set = [
        "cost-day.floor=0.1",
        "cost-spike.enabled=false",
        "token-spike.enabled=false",
    ];
    let notices = told(&mut pipeline(&set), &lines);
    let days = since_midnight(&notices, "cost-day");
    let (first, last) = (days.first().unwrap(), days.last().unwrap());
    assert!((8 * DAY..9 * DAY).contains(&first.0), "{}", first.0);
    assert!((11 * DAY..12 * DAY).contains(&last.0), "{}", last.0);
    assert!(last.1.reason == Reason::Resolved && last.1.usual_by_now);
    // Its limit had to rise for that: the days are as dear as they were.
    assert!(last.1.limit > first.1.limit && last.1.value > Some(first.1.limit));
    for (at, notice) in &days[..days.len() - 1] {
        assert!(notice.value > Some(notice.limit), "{at}: {notice:?}");
    }
}

/// Responses of a fifth of a cent that become twice as dear are news where a thousand come in ten minutes, and none
/// where ninety come in an hour.
#[test]
fn cheap_responses_that_become_dearer_are_told_of_where_there_are_many() {
    let lines_of = |an_hour: f64| -> Vec<String> {
        let mut random = Random(17);
        let midnight = TWO_O_CLOCK - 2 * HOUR;
        let mut at = midnight;
        let mut lines = Vec::new();
        while at < midnight + 18 * HOUR {
            at += random.pause_ms(an_hour);
            let has_grown = at > midnight + 15 * HOUR;
            let call = Call {
                at,
                id: format!("msg_{}", lines.len()),
                model: "claude-haiku-4-5",
                input: [1_000, 2_800][usize::from(has_grown)] + random.below(200),
                output: 180 + random.below(40),
                ..Call::default()
            };
            lines.push(call.line());
        }
        lines
    };
    let told = |an_hour, set: &[&str]| {
        let notices = told(&mut pipeline(set), &lines_of(an_hour));
        since_midnight(&notices, "request-cost")
            .first()
            .map(|(at, notice)| (*at, notice.exposed.unwrap()))
    };
    let (at, exposed) = told(6_000.0, &[]).unwrap();
    assert!((15 * HOUR..15 * HOUR + HOUR / 6).contains(&at), "{at}");
    assert!(exposed < PicoUsd(3 * PicoUsd::DOLLAR.0), "{exposed}");
    assert_eq!(told(90.0, &[]), None);
    assert!(told(90.0, &["request-cost.min_cost=0"]).is_some());
}

/// What is usual on the first day may lack its busy hours: it is said how long that was.
#[test]
fn five_times_the_tokens_are_no_news_where_they_cost_next_to_nothing() {
    let spikes_of = |model: &str| {
        let minutes = (0..180).map(|_| 10).chain([50; 10]);
        let calls = (0..).zip(minutes).flat_map(|(minute, n)| {
            (0..n).map(move |i| Call {
                at: TWO_O_CLOCK + minute * 60_000 + i * 60_000 / n,
                id: format!("msg_{minute}_{i}"),
                model,
                input: 2_000,
                ..Call::default()
            })
        });
        let lines: Vec<String> = calls.map(|call| call.line()).collect();
        let notices = told(&mut pipeline(&[]), &lines);
        count(&notices, "token-spike", Reason::First)
    };
    assert_eq!(spikes_of("claude-haiku-5-5"), 0, "a cent a minute");
    assert_eq!(spikes_of("claude-opus-4-7"), 1, "half a dollar a minute");
    assert_eq!(spikes_of("claude-unheard-of"), 1, "nobody knows");
}

#[test]
fn in_how_long_the_usual_was_learned_is_said_on_the_first_day() {
    for (hours, learned) in [(10, Some("(learned in 9h 5")), (34, None)] {
        let spike = hours * HOUR..hours * HOUR + 10 * 60_000;
        let lines = agents(2, |at| if spike.contains(&at) { 12.0 } else { 1.0 });
        let notices = told(&mut pipeline(&["token-spike.floor=1000"]), &lines);
        let spikes = since_midnight(&notices, "token-spike");
        let (_, first) = spikes.iter().find(|(at, _)| spike.contains(at)).unwrap();
        let words = headline(first);
        assert!(words.contains(" times the usual "), "{words}");
        match learned {
            Some(learned) => assert!(words.contains(learned), "{words}"),
            None => assert!(!words.contains("learned"), "{words}"),
        }
    }
}

/// Twenty bursts of $3 to $12 a minute, one each half an hour, in a log that begins with them.
#[test]
fn bursts_on_the_first_day_are_told_of_a_few_times_and_one_far_beyond_them_still() {
    for seed in 0..4 {
        let mut random = Random(seed);
        let mut lines = Vec::new();
        let mut burst = |at: i64, requests: u64| {
            let mut at = at;
            for _ in 0..requests {
                at += random.pause_ms(4_000.0);
                let id = format!("msg_{}", lines.len());
                let input = 20_000 + random.below(40_000);
                let call = Call {
                    at,
                    id,
                    input,
                    ..Call::default()
                };
                lines.push(call.line());
            }
        };
        let hours = 10;
        let mut sizes = Random(seed + 100);
        for n in 0..2 * hours {
            let later = sizes.below(8 * 60_000).cast_signed();
            let at = TWO_O_CLOCK + n * HOUR / 2 + later;
            burst(at, 15 + sizes.below(45));
        }
        let runaway = TWO_O_CLOCK + hours * HOUR;
        burst(runaway, 20);
        let calm = lines.len();
        for n in 0..900 {
            lines.push(
                Call {
                    at: runaway + 200 * n,
                    id: format!("runaway_{n}"),
                    input: 40_000,
                    ..Call::default()
                }
                .line(),
            );
        }
        let notices = told(&mut pipeline(&[]), &lines[..calm]);
        let before = count(&notices, "cost-rate", Reason::First);
        assert!((1..=5).contains(&before), "{before} in ten hours");
        let notices = told(&mut pipeline(&[]), &lines);
        assert_eq!(count(&notices, "cost-rate", Reason::First), before + 1);
    }
}
