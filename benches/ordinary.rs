//! What is said of traffic in which nothing is wrong: `cargo bench --bench ordinary [SEED…]`.
//!
//! Fifteen kinds of it, four weeks each, none of which any limit was made for: what comes each hour, week or month, what grows, what
//! comes in bursts at random, crowds and single people. The rules are the defaults. A launch and a hackathon should be told, since they
//! cost several times the usual for good or for a day; the others should not. `ORDINARY_LOGS=DIR` also writes each log there.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by it")]
#![allow(clippy::print_stdout, reason = "figures")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "made-up traffic and rounded figures"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::Path;

use claude_tokmon::monitor::{Reason, Severity, Time};
use claude_tokmon::price::PicoUsd;
use common::{Call, Random, feed, pipeline};

const SECOND: f64 = 1000.0;
const MINUTE: f64 = 60.0 * SECOND;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// 2026-10-05T00:00:00Z, a Monday.
const START: i64 = 1_791_158_400_000;
const DAYS: i64 = 28;
const SEEDS: [u64; 3] = [1, 2, 3];

const OPUS: &str = "claude-opus-4-7";
const SONNET: &str = "claude-sonnet-4-5";
const HAIKU: &str = "claude-haiku-4-5";

/// Responses of one log, in whatever order they were thought of. Times are milliseconds after its start.
struct Traffic {
    random: Random,
    calls: Vec<Call<'static>>,
    sessions: u64,
}

/// How a conversation goes.
#[derive(Clone, Copy)]
struct Chat {
    model: &'static str,
    turns: u64,
    /// Tokens before the first turn, and on average what a turn adds.
    prompt: u64,
    grows: f64,
    output: f64,
    /// Seconds between turns.
    pause: (f64, f64),
}

impl Traffic {
    fn between(&mut self, from: f64, to: f64) -> f64 {
        from + self.random.unit() * (to - from)
    }

    /// How many of what comes at random, if so many are to be expected.
    fn poisson(&mut self, expected: f64) -> u64 {
        let (mut n, mut left) = (0, expected);
        loop {
            left += (1.0 - self.random.unit()).ln();
            if left <= 0.0 {
                return n;
            }
            n += 1;
        }
    }

    fn call(&mut self, at: f64, call: &Call<'static>) {
        let id = format!("msg_{:08}", self.calls.len());
        let at = START + at as i64;
        self.calls.push(Call {
            at,
            id,
            ..call.clone()
        });
    }

    /// A prompt of its own, with nothing to be had from the cache.
    fn plain(&mut self, at: f64, model: &'static str, input: f64, output: f64) {
        let (input, output) = (
            self.random.lognormal(input, 0.5),
            self.random.lognormal(output, 0.5),
        );
        self.call(
            at,
            &Call {
                model,
                input,
                output,
                ..Call::default()
            },
        );
    }

    /// A conversation whose growing prompt is in the cache for five minutes. Gives when it is over.
    fn chat(&mut self, mut at: f64, chat: Chat) -> f64 {
        self.sessions += 1;
        let session: &'static str = format!("s-{}", self.sessions).leak();
        let (mut prompt, mut cached, mut is_warm) = (chat.prompt, 0, false);
        for _ in 0..chat.turns {
            let more = 50 + (-(1.0 - self.random.unit()).ln() * chat.grows) as u64;
            let output = self.random.lognormal(chat.output, 0.7);
            let pause = self.between(chat.pause.0, chat.pause.1);
            let read = if is_warm { cached } else { 0 };
            let (input, write_5m) = (3 + self.random.below(60), prompt + more - read);
            let session = Some(session);
            self.call(
                at,
                &Call {
                    model: chat.model,
                    session,
                    input,
                    output,
                    read,
                    write_5m,
                    ..Call::default()
                },
            );
            cached = prompt + more;
            prompt = cached + output;
            if prompt > 160_000 {
                (prompt, cached) = (chat.prompt + 5_000, 0);
            }
            is_warm = pause < 290.0 && cached > 0;
            at += pause * SECOND;
        }
        at
    }

    /// Single questions to a service, as many a minute at its busiest, with a prompt of that many tokens that all share in the cache; it
    /// changes when its length does. `of_day` says how much of that there is on a day.
    fn questions(
        &mut self,
        busiest: f64,
        shared: impl Fn(i64) -> u64,
        of_day: impl Fn(i64) -> f64,
    ) {
        let mut last = (f64::MIN, 0);
        for minute in 0..DAYS * 1440 {
            let expected = busiest * of_day(minute / 1440) * of_the_hour(minute);
            let n = self.poisson(expected);
            let mut times: Vec<f64> = (0..n)
                .map(|_| (minute as f64 + self.random.unit()) * MINUTE)
                .collect();
            times.sort_by(f64::total_cmp);
            let shared = shared(minute);
            for at in times {
                let is_warm = at - last.0 < 5.0 * MINUTE && last.1 == shared;
                last = (at, shared);
                let (input, output) = (
                    self.random.lognormal(400.0, 0.8),
                    self.random.lognormal(300.0, 0.6),
                );
                let (read, write_5m) = if is_warm { (shared, 0) } else { (0, shared) };
                self.call(
                    at,
                    &Call {
                        model: SONNET,
                        input,
                        output,
                        read,
                        write_5m,
                        ..Call::default()
                    },
                );
            }
        }
    }

    /// A developer with so many agents, from morning to evening.
    fn developer(&mut self, agents: u64) {
        for day in 0..DAYS {
            let works = self.random.chance(if is_weekend(day) { 0.2 } else { 0.9 });
            for _ in 0..if works { agents } else { 0 } {
                let mut at = day as f64 * DAY + self.between(8.0, 10.0) * HOUR;
                let end = day as f64 * DAY + self.between(16.0, 20.0) * HOUR;
                while at < end {
                    let turns = 1 + self.random.lognormal(40.0, 0.8);
                    at = self.chat(at, Chat { turns, ..CODING }) + self.between(0.0, 50.0) * MINUTE;
                }
            }
        }
    }
}

const CODING: Chat = Chat {
    model: OPUS,
    turns: 40,
    prompt: 22_000,
    grows: 2_500.0,
    output: 600.0,
    pause: (4.0, 60.0),
};

const fn is_weekend(day: i64) -> bool {
    day % 7 >= 5
}

/// How much of what is there at the busiest hour there is in a minute: little at night and on weekends.
fn of_the_hour(minute: i64) -> f64 {
    if is_weekend(minute / 1440) {
        return 0.15;
    }
    let hour = (minute % 1440) as f64 / 60.0;
    (-((hour - 14.0) / 4.5).powi(2)).exp().max(0.05)
}

/// What it is, and how it comes.
type Kind = (&'static str, fn(&mut Traffic));

/// Each kind.
const KINDS: [Kind; 15] = [
    ("200 short jobs each hour", |t| {
        for hour in 0..DAYS * 24 {
            for n in 0..200 {
                t.plain(
                    hour as f64 * HOUR + f64::from(n) * 1500.0,
                    HAIKU,
                    3000.0,
                    400.0,
                );
            }
        }
    }),
    ("a service that grows 5 % a day", |t| {
        t.questions(6.0, |_| 6000, |day| 1.05_f64.powi(day as i32));
    }),
    ("a launch: 2.5 times the users for good", |t| {
        t.questions(6.0, |_| 6000, |day| if day < 14 { 1.0 } else { 2.5 });
    }),
    ("evaluations, when somebody thinks of it", |t| {
        t.questions(3.0, |_| 6000, |_| 1.0);
        for day in (0..DAYS).filter(|day| !is_weekend(*day)) {
            for _ in 0..t.poisson(2.5) {
                let at = day as f64 * DAY + t.between(9.0, 18.0) * HOUR;
                let pause = t.between(1000.0, 5000.0);
                for n in 0..t.random.lognormal(400.0, 0.8) {
                    t.plain(at + n as f64 * pause, SONNET, 3000.0, 500.0);
                }
            }
        }
    }),
    ("a bot that reviews pull requests", |t| {
        for day in 0..DAYS {
            for _ in 0..t.poisson(if is_weekend(day) { 4.0 } else { 40.0 }) {
                let at = day as f64 * DAY + t.between(9.0, 21.0) * HOUR;
                for _ in 0..=t.random.lognormal(8.0, 1.0).min(120) {
                    let at = at + t.between(0.0, 60.0) * SECOND;
                    let turns = 1 + t.random.below(4);
                    t.chat(
                        at,
                        Chat {
                            turns,
                            prompt: 14_000,
                            grows: 4000.0,
                            output: 700.0,
                            pause: (5.0, 25.0),
                            ..CODING
                        },
                    );
                }
            }
        }
    }),
    ("a developer with three agents", |t| t.developer(3)),
    ("users of 400 tenants", |t| {
        for hour in 0..DAYS * 24 {
            for _ in 0..t.poisson(60.0 * of_the_hour(hour * 60)) {
                let at = hour as f64 * HOUR + t.between(0.0, HOUR);
                let turns = 1 + t.random.below(10);
                t.chat(
                    at,
                    Chat {
                        model: SONNET,
                        turns,
                        prompt: 9000,
                        grows: 800.0,
                        output: 350.0,
                        pause: (15.0, 200.0),
                    },
                );
            }
        }
    }),
    ("a report each Monday at six", |t| {
        t.questions(2.0, |_| 6000, |_| 1.0);
        for day in (0..DAYS).step_by(7) {
            for n in 0..1200 {
                t.plain(
                    day as f64 * DAY + 6.0 * HOUR + f64::from(n) * 1500.0,
                    OPUS,
                    5000.0,
                    800.0,
                );
            }
        }
    }),
    ("an agent each quarter of an hour", |t| {
        for quarter in 0..DAYS * 96 {
            let at = quarter as f64 * 15.0 * MINUTE + t.between(0.0, 5000.0);
            t.chat(
                at,
                Chat {
                    model: SONNET,
                    turns: 6,
                    prompt: 20_000,
                    grows: 1500.0,
                    output: 400.0,
                    pause: (3.0, 8.0),
                },
            );
        }
    }),
    ("long prompts without a cache", |t| {
        for minute in 0..DAYS * 1440 {
            for _ in 0..t.poisson(4.0 * of_the_hour(minute)) {
                let at = (minute as f64 + t.random.unit()) * MINUTE;
                t.plain(at, SONNET, 18_000.0, 400.0);
            }
        }
    }),
    ("a prompt that changes with two deployments a day", |t| {
        // At eleven and at four. Who asks first writes the prompt again.
        t.questions(
            12.0,
            |minute| {
                let time_of_day = minute % 1440;
                let deployed = [660, 960].iter().filter(|at| time_of_day >= **at).count();
                25_000 + 2 * (minute / 1440) as u64 + deployed as u64
            },
            |_| 1.0,
        );
    }),
    ("invoices on the first and the fifteenth", |t| {
        t.questions(5.0, |_| 6000, |_| 1.0);
        for day in [10, 27] {
            for n in 0..3000 {
                t.plain(
                    f64::from(day) * DAY + 8.0 * HOUR + f64::from(n) * 4000.0,
                    SONNET,
                    4000.0,
                    600.0,
                );
            }
        }
    }),
    ("a side project", |t| {
        for day in 0..DAYS {
            for _ in 0..t.poisson(1.2) {
                let at = day as f64 * DAY + t.between(18.0, 23.0) * HOUR;
                let turns = 3 + t.random.below(28);
                t.chat(
                    at,
                    Chat {
                        model: SONNET,
                        turns,
                        prompt: 18_000,
                        pause: (10.0, 120.0),
                        ..CODING
                    },
                );
            }
        }
    }),
    ("a hackathon on the third weekend", |t| {
        t.developer(2);
        for _ in 0..12 {
            let mut at = 19.0 * DAY + t.between(9.0, 10.0) * HOUR;
            while at < 20.0 * DAY + 18.0 * HOUR {
                at = t.chat(at, CODING) + t.between(0.0, 40.0) * MINUTE;
            }
        }
    }),
    ("eight agents that work off a queue, day and night", |t| {
        for _ in 0..8 {
            let mut at = t.between(0.0, HOUR);
            while at < DAYS as f64 * DAY {
                let turns = 1 + t.random.lognormal(30.0, 1.0).min(600);
                let chat = Chat {
                    model: SONNET,
                    turns,
                    prompt: 15_000,
                    grows: 1800.0,
                    output: 450.0,
                    pause: (3.0, 20.0),
                };
                at = t.chat(at, chat) + t.between(0.0, 60.0) * MINUTE;
            }
        }
    }),
];

/// What was told of some logs of one kind.
#[derive(Default)]
struct Told {
    responses: usize,
    cost: PicoUsd,
    /// Notices of the first week, and of the others.
    first: u64,
    later: u64,
    critical: u64,
    rules: BTreeMap<String, u64>,
}

fn play(name: &str, of: fn(&mut Traffic), seed: u64, told: &mut Told) {
    let mut traffic = Traffic {
        random: Random(seed),
        calls: Vec::new(),
        sessions: 0,
    };
    of(&mut traffic);
    traffic.calls.sort_by_key(|call| call.at);
    let lines: Vec<String> = traffic.calls.iter().map(Call::line).collect();
    if let Some(folder) = std::env::var_os("ORDINARY_LOGS") {
        let log = Path::new(&folder).join(format!("{}-{seed}.jsonl", name.replace(' ', "-")));
        std::fs::write(log, lines.join("\n") + "\n").unwrap();
    }
    let mut pipeline = pipeline(&[]);
    pipeline.evaluator.go_live();
    feed(&mut pipeline, "app.log", &lines);
    pipeline.tick(Time(START + (DAYS + 1) * DAY as i64));
    let totals = pipeline.evaluator.totals();
    told.responses += lines.len();
    told.cost += totals.cost;
    for notice in pipeline.take_notices() {
        if notice.rule.severity == Severity::Info {
            continue;
        }
        if notice.at < Time(START + 7 * DAY as i64) {
            told.first += 1;
            continue;
        }
        told.later += 1;
        if notice.reason == Reason::First {
            told.critical += u64::from(notice.rule.severity == Severity::Critical);
            *told.rules.entry(notice.rule.name.to_string()).or_default() += 1;
        }
    }
}

fn main() {
    let seeds: Vec<u64> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let seeds = if seeds.is_empty() {
        SEEDS.to_vec()
    } else {
        seeds
    };
    println!(
        "{} logs of four weeks each; default rules; notices of severity info are not counted\n",
        seeds.len()
    );
    println!(
        "{:<50} {:>9} {:>8} {:>11} {:>12} {:>15}   alerts of these rules",
        "traffic", "responses", "a day", "first week", "later, a day", "critical a week"
    );
    for (name, of) in KINDS {
        let mut told = Told::default();
        for seed in &seeds {
            play(name, of, *seed, &mut told);
        }
        let n = seeds.len() as f64;
        let rules = told.rules.iter();
        let rules: Vec<String> = rules.map(|(rule, n)| format!("{rule} {n}")).collect();
        println!(
            "{name:<50} {:>9} {:>8} {:>11.1} {:>12.2} {:>15.1}   {}",
            told.responses / seeds.len(),
            PicoUsd(told.cost.0 / (i128::from(DAYS) * seeds.len() as i128)).to_string(),
            told.first as f64 / n,
            told.later as f64 / n / (DAYS - 7) as f64,
            told.critical as f64 / n / 3.0,
            rules.join(", ")
        );
    }
}
