//! A change takes `cache_control` off: nobody uses the cache any more, and what that costs has to be told of all that comes, not of
//! the few minutes until nothing is in the cache.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use claude_tokmon::monitor::{Notice, Reason};
use claude_tokmon::price::PicoUsd;
use claude_tokmon::sink::headline;
use common::{Call, Random, TWO_O_CLOCK, is_cache_alert, pipeline, told};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// What all sessions begin with.
const SHARED: u64 = 15_000;

/// Entries live for five minutes after they were used last.
const TTL: i64 = 5 * MINUTE;

/// What Opus costs beyond reading the cache, in pico-dollars a token.
const LOST: i128 = 4_500_000;

/// Agents that work for hours: each session goes on a few seconds after the answer.
#[derive(Clone, Copy)]
struct Fleet {
    sessions_per_hour: f64,
    turns: u64,
    turns_per_hour: f64,
    is_named: bool,
    /// Of so many sessions in a hundred no request ever used the cache.
    uncached: u64,
    /// For how many hours after two o'clock the others do not either.
    lost_for: i64,
    /// Which of them.
    lost: Part,
    seed: u64,
}

/// Who loses the cache.
#[derive(Clone, Copy)]
enum Part {
    All,
    /// So many sessions in a hundred: they are on a server that was changed.
    Sessions(u64),
    /// So many requests in a hundred: any may come to that server.
    Requests(u64),
}

const FLEET: Fleet = Fleet {
    sessions_per_hour: 10.0,
    turns: 60,
    turns_per_hour: 400.0,
    is_named: true,
    uncached: 0,
    lost_for: 3,
    lost: Part::All,
    seed: 1,
};

/// What was told, what was counted as paid again, and what was.
struct Played {
    notices: Vec<Notice>,
    counted: i128,
    truth: i128,
    cost: i128,
    /// When how much was lost.
    losses: Vec<(i64, i128)>,
}

impl Fleet {
    fn play(self) -> Played {
        let (lines, losses) = self.lines();
        let mut pipeline = pipeline(&[]);
        let notices = told(&mut pipeline, &lines);
        let totals = pipeline.evaluator.totals();
        Played {
            notices,
            counted: totals.waste().0,
            truth: losses.iter().map(|(_, lost)| lost).sum(),
            cost: totals.cost.0,
            losses,
        }
    }

    /// The log, and when how much was lost, in pico-dollars.
    fn lines(self) -> (Vec<String>, Vec<(i64, i128)>) {
        let mut random = Random(self.seed);
        let mut requests = Vec::new();
        let mut at = TWO_O_CLOCK - 30 * HOUR;
        for session in 0.. {
            at += random.pause_ms(self.sessions_per_hour);
            if at > TWO_O_CLOCK + (self.lost_for + 2) * HOUR {
                break;
            }
            let is_uncached = random.below(100) < self.uncached;
            let (mut next, mut prompt) = (at, SHARED + 500 + random.below(2_000));
            for _ in 0..self.turns / 2 + random.below(self.turns) {
                requests.push((next, session, prompt, is_uncached));
                next += 2_000 + random.pause_ms(self.turns_per_hour);
                prompt += 300 + random.below(2_000);
            }
        }
        requests.sort_unstable();
        // When the beginning that all share, and the prompt of each session, were used last, if the cache had always been used.
        let mut shared = i64::MIN / 2;
        let mut own = std::collections::HashMap::new();
        let (mut lines, mut losses) = (Vec::new(), Vec::new());
        for (n, (at, session, prompt, is_uncached)) in requests.into_iter().enumerate() {
            let is_part = match self.lost {
                Part::All => true,
                Part::Sessions(of) => Random(session).below(100) < of,
                Part::Requests(of) => random.below(100) < of,
            };
            let incident = TWO_O_CLOCK..TWO_O_CLOCK + self.lost_for * HOUR;
            let is_lost = is_part && incident.contains(&at);
            let (used, last) = own
                .insert(session, (at, prompt))
                .unwrap_or((i64::MIN / 2, 0));
            let mut read = match (at - used <= TTL, at - shared <= TTL) {
                (true, _) => last,
                (false, true) => SHARED,
                (false, false) => 0,
            };
            if is_uncached {
                read = 0;
            } else {
                shared = at;
            }
            if is_lost {
                losses.push((at, i128::from(read) * LOST));
            }
            // What a part loses is written anew: its prompt begins with something else each time.
            let is_rewritten = is_lost && !matches!(self.lost, Part::All);
            let is_cached = !is_uncached && (!is_lost || is_rewritten);
            let read = if is_rewritten { 0 } else { read };
            let name = format!("s-{session}");
            let call = Call {
                at,
                id: format!("msg_{n}"),
                session: self.is_named.then_some(&*name),
                input: if is_cached { 10 } else { prompt },
                output: 200,
                read: if is_cached { read } else { 0 },
                write_5m: if is_cached { prompt - read } else { 0 },
                ..Call::default()
            };
            lines.push(call.line());
        }
        (lines, losses)
    }
}

impl Played {
    /// Hundredths of what was lost that were counted.
    fn percent(&self) -> i128 {
        self.counted * 100 / self.truth
    }

    fn told(&self, reason: Reason) -> Vec<&Notice> {
        let cache = self.notices.iter().filter(|n| is_cache_alert(n));
        cache.filter(|n| n.reason == reason).collect()
    }
}

#[test]
fn all_that_a_fleet_pays_without_the_cache_is_counted_and_one_incident() {
    for seed in 0..2 {
        let fleet = Fleet {
            sessions_per_hour: 30.0,
            seed,
            ..FLEET
        };
        let played = fleet.play();
        assert!(
            (95..=100).contains(&played.percent()),
            "{seed}: {} %",
            played.percent()
        );
        let first = played.told(Reason::First);
        assert!(first.len() <= 2, "{seed}: {}", first.len());
        // It ends when the cache is used again, and has all of it by then.
        let ended = played.told(Reason::Resolved);
        let last = ended.last().unwrap();
        let after = last.at.0 - (TWO_O_CLOCK + 3 * HOUR);
        assert!((0..30 * MINUTE).contains(&after), "{seed}: {after}");
        assert!(
            last.exposed.unwrap() > PicoUsd(played.truth * 9 / 10),
            "{seed}"
        );
    }
}

/// Where hardly any two sessions meet, and it may be that none was on: eight that never used the cache, over an hour or more.
#[test]
fn one_session_after_another_shows_it_in_time() {
    for (sessions_per_hour, least) in [(10.0, 60), (3.0, 50)] {
        for seed in 0..2 {
            let fleet = Fleet {
                sessions_per_hour,
                lost_for: 10,
                seed,
                ..FLEET
            };
            let played = fleet.play();
            let percent = played.percent();
            assert!((least..=100).contains(&percent), "{seed}: {percent} %");
        }
    }
}

#[test]
fn short_sessions_that_come_seldom_show_it_too() {
    for seed in 0..2 {
        let fleet = Fleet {
            sessions_per_hour: 25.0,
            turns: 4,
            turns_per_hour: 70.0,
            seed,
            ..FLEET
        };
        let played = fleet.play();
        assert!(
            (85..=101).contains(&played.percent()),
            "{seed}: {} %",
            played.percent()
        );
    }
}

#[test]
fn sessions_that_never_use_the_cache_are_no_loss() {
    for (uncached, sessions_per_hour) in [(1, 10.0), (10, 10.0), (10, 2.0), (40, 10.0)] {
        let fleet = Fleet {
            uncached,
            sessions_per_hour,
            lost_for: 0,
            ..FLEET
        };
        let played = fleet.play();
        assert_eq!(played.counted, 0, "{uncached} % of {sessions_per_hour}");
        assert!(played.told(Reason::First).is_empty());
    }
}

/// Without a name nobody can tell whose request it is: of what all share most is counted, and of what some never had in the cache
/// little is.
#[test]
fn without_a_name_a_part_is_counted_and_little_that_was_not_lost() {
    for seed in 0..2 {
        let unnamed = Fleet {
            is_named: false,
            seed,
            ..FLEET
        };
        let lost = unnamed.play();
        assert!(
            (20..=100).contains(&lost.percent()),
            "{seed}: {} %",
            lost.percent()
        );
        let some = Fleet {
            uncached: 3,
            lost_for: 0,
            ..unnamed
        };
        let some = some.play();
        let claimed = some.counted * 1000 / some.cost;
        assert!(claimed <= 30, "{seed}: {claimed} ‰");
    }
}

/// What is shorter than all that the sessions begin with cannot begin with it: another program, which never used the cache.
#[test]
fn a_job_with_shorter_prompts_is_no_loss() {
    let fleet = Fleet {
        lost_for: 0,
        ..FLEET
    };
    let mut random = Random(5);
    let mut lines = fleet.lines().0;
    let mut at = TWO_O_CLOCK - 2 * HOUR;
    for n in 0..240 {
        at += random.pause_ms(120.0);
        let call = Call {
            at,
            id: format!("job_{n}"),
            session: Some(&format!("job-{n}")),
            input: SHARED * 8 / 10 - random.below(5_000),
            output: 200,
            ..Call::default()
        };
        lines.push(call.line());
    }
    // Each begins with its time.
    lines.sort();
    let mut pipeline = pipeline(&[]);
    let notices = told(&mut pipeline, &lines);
    assert_eq!(pipeline.evaluator.totals().waste().0, 0);
    assert!(!notices.iter().any(is_cache_alert));
}

/// A part of the traffic loses it, session by session or request by request: one incident, told a few times, and what was told keeps
/// up with what is lost.
#[test]
fn what_many_sessions_lose_is_told_as_it_grows() {
    let of = |part, seed| Fleet {
        sessions_per_hour: 30.0,
        lost: part,
        seed,
        ..FLEET
    };
    for seed in 0..2 {
        for part in [Part::Sessions(30), Part::Requests(30)] {
            let played = of(part, seed).play();
            let cache: Vec<&Notice> = played
                .notices
                .iter()
                .filter(|n| is_cache_alert(n))
                .collect();
            assert!(cache.len() < 25, "{seed}: {}", cache.len());
            // Some were served in between.
            let of_several = |n: &&&Notice| n.key.iter().any(|(_, value)| value == "*");
            let words: Vec<String> = cache
                .iter()
                .filter(of_several)
                .map(|n| headline(n))
                .collect();
            assert!(!words.is_empty() && words.iter().all(|words| !words.contains("in a row")));
            let mut told = std::collections::HashMap::new();
            let mut notices = cache.iter().peekable();
            let mut lost = 0;
            for (at, loss) in played.losses {
                while let Some(notice) = notices.next_if(|notice| notice.at.0 <= at) {
                    told.insert(notice.episode, notice.exposed.unwrap().0);
                }
                lost += loss;
                let heard: i128 = told.values().sum();
                // Nothing is told again within five minutes, nor within ten of another.
                let is_early = at < TWO_O_CLOCK + 11 * MINUTE;
                assert!(
                    is_early || lost < 8 * heard + 5 * PicoUsd::DOLLAR.0,
                    "{seed}: {lost} lost, {heard} told at {at}"
                );
            }
        }
    }
}
