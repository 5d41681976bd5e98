//! Weeks of made-up traffic with labelled incidents: what is found, how soon, at which price, and what is said on ordinary days.
//!
//! `cargo bench --bench incidents` plays fleets (one developer, a team of agents, a service; one that loops at night, a job) on seeds that were not used
//! while building; `-- 1 2 3` names seeds. The rules are the defaults, the same for every fleet. Beside them runs the obvious
//! monitor: a minute's deque, five events, three times the mean of the first hour, one alert for each request.
//!
//! `INCIDENTS_LOGS=DIR` also writes each log there with its incidents, to be tried with `replay --labels`.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by it")]
#![allow(clippy::print_stdout, reason = "figures")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::too_many_lines,
    clippy::single_match_else,
    reason = "made-up traffic and rounded figures"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use claude_tokmon::cli::RuleArgs;
use claude_tokmon::config::{Config, rules};
use claude_tokmon::monitor::{BlindSpot, Notice, PlainDays, Reason, Settings, Severity, Time};
use claude_tokmon::parse::ParseOptions;
use claude_tokmon::pipeline::Pipeline;
use claude_tokmon::price::PriceTable;
use claude_tokmon::source::SourceInfo;
use common::{Call, Random, give, rfc3339};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A Monday, 00:00 UTC.
const START: i64 = 1_788_739_200_000;
const WEEKS: i64 = 5;

/// The first week is ordinary.
const FIRST_INCIDENT: i64 = START + 7 * DAY;

/// The seeds that the figures are for.
const SEEDS: [u64; 6] = [9401, 9402, 9403, 9404, 9405, 9406];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fleet {
    Developer,
    Team,
    Service,
    /// A developer whom hardly anything befalls but a loop that goes on all night.
    Nights,
    /// A small service, of which most is a job of half an hour at night. Incidents are few.
    Jobs,
}

impl Fleet {
    /// All that ask are one, without a session.
    fn is_service(self) -> bool {
        matches!(self, Self::Service | Self::Jobs)
    }

    fn is_developer(self) -> bool {
        matches!(self, Self::Developer | Self::Nights)
    }

    /// From the end of an incident to the day from which on the next may begin. What goes by days would not know an ordinary one
    /// where each has an incident.
    fn pause(self) -> i64 {
        match self {
            Self::Developer | Self::Team | Self::Service => 12 * HOUR,
            Self::Nights | Self::Jobs => 5 * DAY,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Dropped,
    Rewritten,
    PartOfTraffic,
    ShorterTtl,
    Loop,
    /// One that goes on all night at the pace of ordinary work.
    SlowLoop,
    /// A job that does not end.
    LongJob,
    Output,
    DearerModel,
    GrownContext,
    RetryStorm,
    ChronicBurn,
    Silence,
    NewFormat,
}

impl Kind {
    /// The rules of which one must find it.
    fn rules(self) -> &'static [&'static str] {
        match self {
            Self::Dropped | Self::Rewritten => &["cache-break"],
            Self::PartOfTraffic => &["cache-drop"],
            Self::ShorterTtl => &["cache-waste"],
            Self::Loop => &["session-cost"],
            Self::SlowLoop => &["session-long", "cost-day"],
            Self::LongJob => &["cost-spike", "token-spike", "cost-rate"],
            Self::Output => &["token-spike", "cost-rate"],
            Self::DearerModel | Self::GrownContext => &["request-cost"],
            Self::RetryStorm => &["errors"],
            Self::ChronicBurn => &["budget", "cost-day"],
            Self::Silence => &["silence"],
            Self::NewFormat => &["blind"],
        }
    }

    fn of(fleet: Fleet) -> &'static [Self] {
        match fleet {
            Fleet::Developer => &[
                Self::Dropped,
                Self::Rewritten,
                Self::ShorterTtl,
                Self::Loop,
                Self::DearerModel,
                Self::RetryStorm,
            ],
            Fleet::Nights => &[Self::SlowLoop],
            Fleet::Team => &[
                Self::Dropped,
                Self::Rewritten,
                Self::PartOfTraffic,
                Self::Loop,
                Self::Output,
                Self::DearerModel,
                Self::GrownContext,
                Self::RetryStorm,
                Self::ChronicBurn,
                Self::NewFormat,
            ],
            Fleet::Service => &[
                Self::Dropped,
                Self::Rewritten,
                Self::PartOfTraffic,
                Self::Output,
                Self::DearerModel,
                Self::GrownContext,
                Self::RetryStorm,
                Self::ChronicBurn,
                Self::Silence,
                Self::NewFormat,
            ],
            Fleet::Jobs => &[
                Self::LongJob,
                Self::Output,
                Self::DearerModel,
                Self::GrownContext,
                Self::RetryStorm,
            ],
        }
    }

    /// It has no dollars of its own: it lasts for a time.
    fn is_timed(self) -> bool {
        matches!(self, Self::RetryStorm | Self::Silence | Self::NewFormat)
    }
}

/// One incident and what became of it.
#[derive(Debug)]
struct Incident {
    kind: Kind,
    start: i64,
    /// Ends when so much was lost.
    dollars: f64,
    /// Ends at this moment at the latest.
    until: i64,
    /// The session it is about, chosen at the first request; `None` for all.
    one_session: bool,
    session: Option<String>,
    /// Affected requests: moment and dollars beyond what they would have cost.
    affected: Vec<(i64, f64)>,
    over: Option<i64>,
}

impl Incident {
    fn is_on(&self, at: i64) -> bool {
        self.over.is_none() && at >= self.start
    }

    fn first(&self) -> i64 {
        self.affected.first().map_or(self.start, |(at, _)| *at)
    }

    fn end(&self) -> i64 {
        self.over.unwrap_or(i64::MAX)
    }

    /// What was lost up to a moment.
    fn lost_until(&self, at: i64) -> f64 {
        let lost = self.affected.iter().filter(|(when, _)| *when <= at);
        lost.map(|(_, dollars)| dollars).sum()
    }
}

#[derive(Debug, Clone, Copy)]
struct Price {
    input: f64,
    output: f64,
    write_5m: f64,
    write_1h: f64,
    read: f64,
}

fn price(model: &str) -> Price {
    let (input, output) = match model {
        "claude-opus-4-7" => (5.0, 25.0),
        "claude-sonnet-4-6" => (3.0, 15.0),
        _ => (1.0, 5.0),
    };
    Price {
        input,
        output,
        write_5m: input * 1.25,
        write_1h: input * 2.0,
        read: input * 0.1,
    }
}

fn cost(call: &Call<'_>) -> f64 {
    let price = price(call.model);
    (call.input as f64 * price.input
        + call.output as f64 * price.output
        + call.write_5m as f64 * price.write_5m
        + call.write_1h as f64 * price.write_1h
        + call.read as f64 * price.read)
        / 1e6
}

/// One that asks: a session, or the whole of a service.
#[derive(Debug)]
struct Actor {
    session: Option<String>,
    model: &'static str,
    /// Tokens of the prompt that the cache holds.
    cached: u64,
    last: i64,
    left: u64,
    /// The loop that it is in.
    loops: Option<Kind>,
}

struct World {
    fleet: Fleet,
    random: Random,
    actors: Vec<Actor>,
    queue: BinaryHeap<Reverse<(i64, usize)>>,
    n: u64,
    sessions: u64,
    /// Until then the last job runs on.
    job_until: i64,
}

/// When the job of a night begins.
fn job_begin(at: i64) -> i64 {
    let day = (at - START).div_euclid(DAY);
    START + day * DAY + 2 * HOUR + day * 7 % 15 * MINUTE
}

/// A line of the log.
struct Event {
    at: i64,
    line: String,
    /// For the obvious monitor: input, output, cache reads, cost as it reckons it.
    plain: Option<(u64, u64, u64, f64)>,
}

impl World {
    fn new(fleet: Fleet, seed: u64) -> Self {
        let mut world = Self {
            fleet,
            random: Random(seed),
            actors: Vec::new(),
            queue: BinaryHeap::new(),
            n: 0,
            sessions: 0,
            job_until: i64::MIN,
        };
        let n = match fleet {
            Fleet::Team => 8,
            _ => 1,
        };
        for i in 0..n {
            let begin = world.begin(START + i * 40_000);
            world.actors.push(Actor {
                session: None,
                model: "claude-opus-4-7",
                cached: 0,
                last: i64::MIN / 2,
                left: 0,
                loops: None,
            });
            world.respawn(i as usize);
            world.queue.push(Reverse((begin, i as usize)));
        }
        world
    }

    fn weekday(at: i64) -> i64 {
        (at - START).div_euclid(DAY) % 7
    }

    fn hour(at: i64) -> i64 {
        at.rem_euclid(DAY) / HOUR
    }

    fn is_work(at: i64) -> bool {
        Self::weekday(at) < 5 && (8..19).contains(&Self::hour(at))
    }

    /// The job of this night is running: it begins within a quarter of an hour after two, and is over within half an hour, unless it
    /// runs on.
    fn is_job(&self, at: i64) -> bool {
        let begin = job_begin(at);
        let end = begin + 25 * MINUTE;
        (begin..end.max(self.job_until)).contains(&at)
    }

    /// When a session that is wanted now begins.
    fn begin(&mut self, wanted: i64) -> i64 {
        let mut at = wanted;
        let nightly = match self.fleet {
            Fleet::Developer | Fleet::Nights => 0.02,
            Fleet::Team => 0.25,
            Fleet::Service | Fleet::Jobs => 1.0,
        };
        while !Self::is_work(at) && !self.random.chance(nightly) {
            at += HOUR;
        }
        at
    }

    /// A new session with an empty cache.
    fn respawn(&mut self, i: usize) {
        self.sessions += 1;
        let (session, model, left) = match self.fleet {
            Fleet::Service | Fleet::Jobs => (None, "claude-sonnet-4-6", u64::MAX),
            fleet => {
                let id = format!("{:08x}-{:04x}", self.random.next() as u32, self.sessions);
                let model = if self.random.chance(0.75) {
                    "claude-opus-4-7"
                } else {
                    "claude-sonnet-4-6"
                };
                let median = if fleet.is_developer() { 45.0 } else { 35.0 };
                (
                    Some(id),
                    model,
                    self.random.lognormal(median, 0.8).clamp(4, 300),
                )
            }
        };
        let actor = &mut self.actors[i];
        *actor = Actor {
            session,
            model,
            cached: 0,
            last: i64::MIN / 2,
            left,
            loops: None,
        };
    }

    /// The pause before the next request of an actor.
    fn pause(&mut self, i: usize, at: i64, more_traffic: f64) -> i64 {
        let factor = 1.0 / more_traffic;
        let ms = match self.fleet {
            _ if self.actors[i].loops == Some(Kind::Loop) => self.random.pause_ms(1200.0),
            // Nobody reads or thinks.
            _ if self.actors[i].loops.is_some() => self.random.lognormal(22_000.0, 0.8) as i64,
            Fleet::Jobs if self.is_job(at) => {
                return self.random.pause_ms(1500.0).max(1);
            }
            fleet if fleet.is_service() => {
                let an_hour = if fleet == Fleet::Jobs { 120.0 } else { 900.0 };
                let day = if Self::weekday(at) < 5 { 1.0 } else { 0.5 };
                let hour = Self::hour(at) as f64;
                let wave = 0.15 + 0.85 * (std::f64::consts::PI * (hour - 2.0) / 24.0).sin().powi(2);
                let pause = self.random.pause_ms(an_hour * day * wave);
                return ((pause as f64 * factor) as i64).max(1);
            }
            // A person reads, thinks, has lunch.
            fleet if fleet.is_developer() => match self.random.below(100) {
                0..=84 => self.random.lognormal(14_000.0, 0.8) as i64,
                85..=96 => self.random.lognormal(90_000.0, 0.8) as i64,
                _ => self.random.lognormal(900_000.0, 0.7) as i64,
            },
            _ => match self.random.below(100) {
                0..=96 => self.random.lognormal(22_000.0, 0.7) as i64,
                _ => self.random.lognormal(150_000.0, 0.7) as i64,
            },
        };
        ((ms as f64 * factor) as i64).max(50)
    }

    /// The next request, as the incidents that are on make it.
    fn step(&mut self, incidents: &mut [Incident]) -> Option<Vec<Event>> {
        let Reverse((at, i)) = self.queue.pop()?;
        for incident in incidents.iter_mut() {
            if incident.over.is_none() && at >= incident.until {
                incident.over = Some(incident.until);
            }
        }
        let on: Vec<usize> = (0..incidents.len())
            .filter(|n| incidents[*n].is_on(at))
            .collect();
        let kinds: Vec<(Kind, usize)> = on.iter().map(|n| (incidents[*n].kind, *n)).collect();
        let kind_on = |kind: Kind| {
            let found = kinds.iter().find(|(known, _)| *known == kind);
            found.map(|(_, n)| *n)
        };
        self.job_until = kind_on(Kind::LongJob).map_or(i64::MIN, |n| incidents[n].until);
        let mut events = Vec::new();
        if kind_on(Kind::Silence).is_some() {
            let until = incidents[kind_on(Kind::Silence).unwrap()].until;
            self.queue.push(Reverse((until, i)));
            return Some(events);
        }
        if let Some(n) = kind_on(Kind::RetryStorm) {
            // Nine of ten fail, and each failure is tried again at once.
            for k in 0..9 {
                let when = at + k * 40;
                let id = self.random.next();
                events.push(Event {
                    at: when,
                    line: format!(
                        r#"{{"time":"{}","type":"error","request_id":"req_{id:016x}","error":{{"type":"overloaded_error","message":"Overloaded"}}}}"#,
                        rfc3339(when)
                    ),
                    plain: None,
                });
            }
            incidents[n].affected.push((at, 0.0));
        }
        let (call, normal) = self.request(i, at, &on, incidents);
        let excess = cost(&call) - normal;
        let session = call.session.map(str::to_owned);
        let mut line = call.line();
        let plain = (call.input, call.output, call.read, {
            let price = price(call.model);
            (call.input as f64 * price.input
                + call.output as f64 * price.output
                + call.read as f64 * price.read)
                / 1e6
        });
        if let Some(n) = kind_on(Kind::NewFormat) {
            line = line
                .replace("\"usage\":", "\"llm_usage_v2\":")
                .replace("_tokens\":", "_tokens_total\":");
            incidents[n].affected.push((at, cost(&call)));
        }
        let budget_burn = kind_on(Kind::ChronicBurn);
        let whole = cost(&call);
        events.push(Event {
            at,
            line,
            plain: Some(plain),
        });
        for n in on {
            let incident = &mut incidents[n];
            let ours = !incident.one_session || incident.session == session;
            match incident.kind {
                Kind::RetryStorm | Kind::Silence | Kind::NewFormat => continue,
                Kind::ChronicBurn => incident.affected.push((at, whole * 0.4)),
                _ if ours && excess > 1e-9 => incident.affected.push((at, excess)),
                _ => continue,
            }
            let lost: f64 = incident.affected.iter().map(|(_, lost)| lost).sum();
            if lost >= incident.dollars {
                incident.over = Some(at);
            }
        }
        // A loop ends with its incident.
        let session = &self.actors[i].session;
        let is_of_it = |n: &&Incident| n.is_on(at) && n.session.is_some() && n.session == *session;
        let mut own = incidents.iter().filter(is_of_it).map(|n| n.kind);
        let loops = own.find(|kind| matches!(kind, Kind::Loop | Kind::SlowLoop));
        self.actors[i].loops = loops;
        let more = if budget_burn.is_some() { 1.7 } else { 1.0 };
        let next = if self.actors[i].left == 0 && loops.is_none() {
            self.respawn(i);
            let pause = match self.fleet {
                fleet if fleet.is_developer() => self.random.lognormal(600_000.0, 0.8),
                _ => self.random.lognormal(240_000.0, 0.8),
            };
            self.begin(at + pause as i64)
        } else {
            at + self.pause(i, at, more)
        };
        if next < START + WEEKS * 7 * DAY {
            self.queue.push(Reverse((next, i)));
        }
        Some(events)
    }

    /// A request, and what it would have cost without incidents.
    fn request<'a>(
        &'a mut self,
        i: usize,
        at: i64,
        on: &[usize],
        incidents: &mut [Incident],
    ) -> (Call<'a>, f64) {
        self.n += 1;
        let id = format!("msg_{:012x}{:08x}", self.n, self.random.next() as u32);
        let by_itself = self.random.chance(0.005);
        let is_job = self.fleet == Fleet::Jobs && self.is_job(at);
        let random = &mut self.random;
        let actor = &mut self.actors[i];
        // Developers of the first hours have five-minute entries as agents do; those of Claude Code have an hour.
        let ttl_1h = self.fleet.is_developer();
        let ttl = if ttl_1h { HOUR } else { 5 * MINUTE };
        let expired = at - actor.last > ttl;
        let (mut fresh, output);
        match self.fleet {
            fleet if fleet.is_service() => {
                if actor.cached == 0 {
                    actor.cached = 24_000 + random.below(20_000);
                }
                let (median, median_output) = if is_job {
                    (5000.0, 700.0)
                } else {
                    (600.0, 260.0)
                };
                fresh = random.lognormal(median, 0.7);
                output = random.lognormal(median_output, 0.7);
            }
            _ => {
                fresh = random.lognormal(1400.0, 0.9);
                output = random.lognormal(350.0, 0.9);
            }
        }
        let service = self.fleet.is_service();
        if !service && actor.cached == 0 {
            fresh += 14_000 + random.below(8_000);
        }
        // A context that is full is compacted.
        if !service && actor.cached > 150_000 {
            actor.cached = 0;
            fresh = 22_000 + random.below(8_000);
        }
        let lost_by_itself = expired || by_itself;
        let cached = actor.cached;
        let (mut input, mut write, mut read) = match (service, lost_by_itself) {
            (true, true) => (fresh, cached, 0),
            (true, false) => (fresh, 0, cached),
            (false, true) => (12, cached + fresh, 0),
            (false, false) => (12, fresh, cached),
        };
        let mut model = actor.model;
        let mut out = output;
        let mut write_1h = ttl_1h;
        let plain = |model, input, out, write, write_1h: bool, read| Call {
            at,
            model,
            input,
            output: out,
            write_5m: if write_1h { 0 } else { write },
            write_1h: if write_1h { write } else { 0 },
            read,
            ..Call::default()
        };
        let normal = cost(&plain(model, input, out, write, write_1h, read));
        let mut normal_now = normal;
        for n in on {
            let incident = &mut incidents[*n];
            if incident.one_session
                && incident.session.is_none()
                && actor.session.is_some()
                && cached > 0
            {
                incident.session.clone_from(&actor.session);
                if matches!(incident.kind, Kind::Loop | Kind::SlowLoop) {
                    actor.loops = Some(incident.kind);
                }
            }
            let ours = !incident.one_session
                || (incident.session.is_some() && incident.session == actor.session);
            if !ours {
                continue;
            }
            match incident.kind {
                Kind::Dropped if cached > 0 => {
                    input += write + read;
                    (write, read) = (0, 0);
                }
                Kind::Rewritten if cached > 0 => {
                    write += read;
                    read = 0;
                }
                Kind::PartOfTraffic => {
                    let hit = match &actor.session {
                        Some(session) => session.as_bytes()[0] % 3 == 0,
                        None => random.below(3) == 0,
                    };
                    if hit && cached > 0 {
                        write += read;
                        read = 0;
                    }
                }
                Kind::ShorterTtl => {
                    write_1h = false;
                    if at - actor.last > 5 * MINUTE {
                        write += read;
                        read = 0;
                    }
                    // Writes are cheaper now: what is lost is what is written again.
                    normal_now = cost(&plain(
                        model,
                        input,
                        out,
                        write.saturating_sub(cached),
                        false,
                        cached,
                    ));
                }
                Kind::Loop | Kind::SlowLoop => {
                    // Nobody asked for any of it.
                    normal_now = 0.0;
                    actor.left = actor.left.max(2);
                }
                Kind::LongJob if is_job && at >= job_begin(at) + 25 * MINUTE => normal_now = 0.0,
                Kind::Output => out = 6_000 + random.below(10_000),
                Kind::DearerModel => {
                    model = "claude-opus-4-7";
                    if actor.model == "claude-opus-4-7" {
                        // The same model with a fast mode's price, as a stand-in: all of it three times.
                        input *= 3;
                        write *= 3;
                        read *= 3;
                        out *= 3;
                    }
                }
                Kind::GrownContext => {
                    input += 30_000;
                }
                _ => {}
            }
        }
        actor.left = actor.left.saturating_sub(1);
        actor.last = at;
        if service {
            actor.cached = cached;
        } else {
            actor.cached = cached + fresh;
        }
        let actor = &self.actors[i];
        let call = Call {
            id,
            session: actor.session.as_deref(),
            ..plain(model, input, out, write, write_1h, read)
        };
        (call, normal_now)
    }
}

/// Incidents one after another, a day and a half apart, at random hours when there is traffic.
fn incidents(fleet: Fleet, random: &mut Random) -> Vec<Incident> {
    let kinds = Kind::of(fleet);
    let mut left: Vec<Kind> = Vec::new();
    let mut incidents = Vec::new();
    let mut at = FIRST_INCIDENT;
    while at < START + (WEEKS * 7 - 3) * DAY {
        if left.is_empty() {
            left = kinds.to_vec();
        }
        let kind = left.swap_remove(random.below(left.len() as u64) as usize);
        let mut start = at + random.below(12 * HOUR as u64) as i64;
        while !fleet.is_service() && !World::is_work(start) {
            start += HOUR;
        }
        match kind {
            // At the end of a day's work.
            Kind::SlowLoop => start += (17 - World::hour(start)) * HOUR,
            Kind::LongJob => start = job_begin(start + DAY),
            _ => {}
        }
        let dollars = 5.0 * 100_f64.powf(random.unit());
        let length = match kind {
            Kind::ChronicBurn => 3 * DAY,
            Kind::LongJob => 4 * HOUR,
            kind if kind.is_timed() => 20 * MINUTE + random.below(100 * MINUTE as u64) as i64,
            _ => 12 * HOUR,
        };
        let is_endless = kind.is_timed() || matches!(kind, Kind::ChronicBurn | Kind::SlowLoop);
        let one_session = matches!(kind, Kind::Loop | Kind::SlowLoop)
            || (!fleet.is_service()
                && matches!(kind, Kind::Dropped | Kind::Rewritten)
                && random.chance(0.5));
        incidents.push(Incident {
            kind,
            start,
            dollars: if is_endless { f64::INFINITY } else { dollars },
            until: start + length,
            one_session,
            session: None,
            affected: Vec::new(),
            over: None,
        });
        at = start + length.max(12 * HOUR) + fleet.pause();
    }
    incidents
}

/// The monitor that anybody would write first.
#[derive(Default)]
struct Obvious {
    window: VecDeque<(i64, u64, u64, u64, f64)>,
    first: Option<i64>,
    first_hour: (u64, i64),
    alerts: Vec<i64>,
}

impl Obvious {
    fn observe(&mut self, at: i64, (input, output, read, cost): (u64, u64, u64, f64)) {
        let first = *self.first.get_or_insert(at);
        self.window.push_back((at, input, output, read, cost));
        while self
            .window
            .front()
            .is_some_and(|(when, ..)| at - when > MINUTE)
        {
            self.window.pop_front();
        }
        if at - first < HOUR {
            self.first_hour.0 += input + output;
            self.first_hour.1 = at - first;
            return;
        }
        if self.window.len() < 5 {
            return;
        }
        let dollars: f64 = self.window.iter().map(|e| e.4).sum();
        let tokens: u64 = self.window.iter().map(|e| e.1 + e.2).sum();
        let eligible = self.window.iter().filter(|e| e.1 > 5000);
        let (n, missed) = eligible.fold((0, 0), |(n, missed), e| {
            (n + 1, missed + u64::from(e.3 == 0))
        });
        let usual =
            self.first_hour.0 as f64 * MINUTE as f64 / (self.first_hour.1.max(MINUTE)) as f64;
        let spike = tokens as f64 > 3.0 * usual;
        if dollars > 2.0 || spike || (n >= 5 && missed * 2 > n) {
            self.alerts.push(at);
        }
    }
}

/// What was told, and what was seen by the obvious monitor, over one fleet and seed.
struct Played {
    fleet: Fleet,
    incidents: Vec<Incident>,
    notices: Vec<Notice>,
    obvious: Vec<i64>,
    requests: Vec<i64>,
    dollars: f64,
}

fn settings(fleet: Fleet) -> Settings {
    let mut args = RuleArgs::default();
    if fleet == Fleet::Service {
        args.silent_for = Some("10m".to_owned());
        args.budget = vec!["280/day".to_owned()];
    } else if fleet == Fleet::Team {
        args.budget = vec!["750/day".to_owned()];
    }
    args.set = std::env::var("INCIDENTS_SET")
        .map(|text| text.split(';').map(str::to_owned).collect())
        .unwrap_or_default();
    Settings {
        rules: rules(&args, &Config::read(Some(Path::new("-"))).unwrap()).unwrap(),
        lateness_secs: 2,
        max_responses: None,
        max_keys: 10_000,
        group_by: None,
        calendar: std::sync::Arc::new(PlainDays),
    }
}

fn play(fleet: Fleet, seed: u64) -> Played {
    let mut random = Random(seed ^ 0xABCD);
    let mut incidents = incidents(fleet, &mut random);
    let mut world = World::new(fleet, seed);
    let mut pipeline = Pipeline::new(
        ParseOptions::default(),
        PriceTable::embedded(),
        settings(fleet),
    );
    pipeline.evaluator.go_live();
    let logs = std::env::var_os("INCIDENTS_LOGS").map(PathBuf::from);
    if let Some(logs) = &logs {
        std::fs::create_dir_all(logs).unwrap();
    }
    let place = |kind: &str| Some(logs.as_ref()?.join(format!("{fleet:?}-{seed}.{kind}")));
    let mut log = place("jsonl").map(|path| BufWriter::new(File::create(path).unwrap()));
    let source = SourceInfo::file(Path::new("app.log"));
    let (mut notices, mut obvious) = (Vec::new(), Obvious::default());
    let (mut requests, mut dollars) = (Vec::new(), 0.0);
    let mut minute = START / MINUTE;
    let mut waiting: BinaryHeap<Reverse<(i64, u64)>> = BinaryHeap::new();
    let mut lines: BTreeMap<u64, Event> = BTreeMap::new();
    let mut n = 0;
    loop {
        let more = world.step(&mut incidents);
        let is_over = more.is_none();
        for event in more.into_iter().flatten() {
            n += 1;
            waiting.push(Reverse((event.at, n)));
            lines.insert(n, event);
        }
        let horizon = if is_over {
            i64::MAX
        } else {
            world.queue.peek().map_or(i64::MAX, |Reverse((at, _))| *at)
        };
        while let Some(Reverse((at, id))) = waiting.peek().copied() {
            if at > horizon {
                break;
            }
            waiting.pop();
            let event = lines.remove(&id).unwrap();
            // The watchdog looks once a minute here, by the clock of the log.
            while minute < at / MINUTE {
                minute += 1;
                let now = Time(minute * MINUTE);
                let dry = pipeline.intake.dry_sources();
                let is_dry = dry
                    .iter()
                    .any(|dry| dry.is_suspicious && now.millis_since(dry.since) >= 10 * MINUTE);
                let spot = BlindSpot {
                    kind: "dry".to_owned(),
                    source: "app.log".into(),
                };
                let text = is_dry.then(|| "no usage any more".to_owned());
                pipeline.evaluator.set_blind(&spot, text);
                pipeline.evaluator.step_blind(now);
            }
            give(&mut pipeline, &source, id, event.line.as_bytes(), Time(at));
            if let Some(log) = &mut log {
                writeln!(log, "{}", event.line).unwrap();
            }
            if let Some(plain) = event.plain {
                requests.push(at);
                dollars += plain.3;
                obvious.observe(at, plain);
            }
        }
        notices.extend(pipeline.take_notices());
        if is_over {
            break;
        }
    }
    for incident in &mut incidents {
        incident.over = incident.over.or(Some(incident.until));
    }
    if let Some(path) = place("incidents") {
        write_labels(&path, &incidents);
    }
    let cost = pipeline.evaluator.totals().cost;
    let _ = dollars;
    Played {
        fleet,
        incidents,
        notices,
        obvious: obvious.alerts,
        requests,
        dollars: cost.0 as f64 / 1e12,
    }
}

/// Writes what `--labels` reads, of the incidents that cost something.
fn write_labels(path: &Path, incidents: &[Incident]) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let dear = incidents.iter().filter(|i| !i.affected.is_empty());
    for (n, incident) in dear.enumerate() {
        let mut label = serde_json::json!({
            "id": format!("{:?}-{n}", incident.kind),
            "start": rfc3339(incident.first()),
            "end": rfc3339(incident.end()),
        });
        // Their dollars are those of the cache.
        if matches!(
            incident.kind,
            Kind::Dropped | Kind::Rewritten | Kind::PartOfTraffic | Kind::ShorterTtl
        ) {
            label["rule"] = incident.kind.rules()[0].into();
        }
        if let Some(session) = incident.session.as_ref().filter(|_| incident.one_session) {
            label["key"] = session.clone().into();
        }
        writeln!(file, "{label}").unwrap();
    }
}

fn is_page(notice: &Notice) -> bool {
    notice.rule.severity >= Severity::Warning
        && !matches!(notice.reason, Reason::Resolved | Reason::Stopped)
}

/// Figures of one kind in one fleet.
#[derive(Default)]
struct Row {
    incidents: usize,
    by_named: usize,
    by_any: usize,
    records: Vec<f64>,
    secs: Vec<f64>,
    exposed: Vec<f64>,
    obvious: usize,
    /// It had been alarming when the incident began.
    drowned: usize,
    obvious_secs: Vec<f64>,
    /// Lost until we, and until the obvious monitor, say so: all of it if never.
    lost: Vec<(f64, f64)>,
    /// Exposed with us and with the obvious monitor, where both find it.
    both: Vec<(f64, f64)>,
    notices: Vec<f64>,
    size: Vec<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

const GRACE: i64 = HOUR;

fn judge(played: &Played, rows: &mut BTreeMap<(Fleet, Kind), Row>, verbose: bool) {
    for incident in &played.incidents {
        if incident.affected.is_empty() && incident.kind != Kind::Silence {
            continue;
        }
        let row = rows.entry((played.fleet, incident.kind)).or_default();
        row.incidents += 1;
        let first = incident.first();
        let end = incident.end() + 10 * MINUTE;
        let during = |at: i64| (first..=end).contains(&at);
        let named = |notice: &&Notice| {
            let names = incident.kind.rules();
            let is = |name: &str| names.contains(&name);
            is_page(notice)
                && during(notice.at.0)
                && is(&notice.rule.name)
                // A budget is there each day; it is found if all of it is gone, or seen to go.
                && (incident.kind != Kind::ChronicBurn
                    || &*notice.rule.name == "cost-day"
                    || notice.rule.severity == Severity::Critical
                    || notice.text.as_deref().is_some_and(|text| text.contains("pace")))
        };
        let itself = played.notices.iter().find(named);
        // What explains it names it: people hear of it by that.
        let listed = |n: &&Notice| {
            let names = incident.kind.rules();
            n.reason != Reason::Stopped
                && n.at.0 >= first
                && n.since.0 <= end
                && n.explains.iter().any(|rule| names.contains(&&**rule))
        };
        let by_named = itself.or_else(|| played.notices.iter().find(listed));
        let by_any = played.notices.iter().find(|n| is_page(n) && during(n.at.0));
        row.by_named += usize::from(by_named.is_some());
        row.by_any += usize::from(by_any.is_some());
        row.size.push(incident.lost_until(i64::MAX));
        // What matters is when people hear of it: whatever rule says so first.
        let heard = if incident.kind == Kind::ChronicBurn {
            by_named
        } else {
            by_any
        };
        if let Some(notice) = heard {
            let at = notice.at.0;
            row.secs.push((at - first) as f64 / 1000.0);
            row.exposed.push(incident.lost_until(at));
            let records = incident
                .affected
                .iter()
                .filter(|(when, _)| *when <= at)
                .count();
            row.records.push(records as f64);
        }
        // One that has been crying for the last quarter of an hour says nothing by crying on.
        let before = first - 15 * MINUTE..first;
        let cries = played.obvious.iter().any(|at| before.contains(at));
        row.drowned += usize::from(cries);
        // Its alerts are about the request that they come with.
        let hit = |at: &i64| incident.affected.iter().any(|(when, _)| when == at);
        let mut alerts = played.obvious.iter().copied().filter(|at| during(*at));
        let obvious = alerts.find(hit).filter(|_| !cries);
        row.obvious += usize::from(obvious.is_some());
        if let Some(at) = obvious {
            row.obvious_secs.push((at - first) as f64 / 1000.0);
            if let Some(notice) = heard {
                row.both
                    .push((incident.lost_until(notice.at.0), incident.lost_until(at)));
            }
        }
        let until = |at: Option<i64>| incident.lost_until(at.unwrap_or(i64::MAX));
        row.lost
            .push((until(heard.map(|n| n.at.0)), until(obvious)));
        // Where a budget stands is told by the calendar.
        let early = |n: &&Notice| {
            is_page(n)
                && (first..first + 15 * MINUTE).contains(&n.at.0)
                && &*n.rule.name != "budget"
        };
        row.notices
            .push(played.notices.iter().filter(early).count() as f64);
        if verbose && (by_named.is_none() || played.notices.iter().filter(early).count() > 3) {
            println!(
                "  {} {:?} {:?} at {} one session {}: ${:.0} over {} requests; told:",
                if by_named.is_none() { "MISSED" } else { "LOUD" },
                played.fleet,
                incident.kind,
                rfc3339(first),
                incident.one_session,
                incident.lost_until(i64::MAX),
                incident.affected.len()
            );
            for notice in played.notices.iter().filter(|n| during(n.at.0)).take(12) {
                println!(
                    "    {} {} {} {:?} explains {:?}",
                    rfc3339(notice.at.0),
                    notice.rule.name,
                    notice.reason.name(),
                    notice.exposed.map(|e| e.to_string()),
                    notice.explains
                );
            }
        }
    }
}

/// What is told on ordinary days: episodes and notices that touch no incident, by rule.
fn false_alarms(played: &Played, verbose: bool) -> (BTreeMap<String, usize>, usize, f64) {
    let touches = |at: i64, since: i64| {
        played.incidents.iter().any(|incident| {
            since <= incident.end() + GRACE
                && at >= incident.start
                && at <= incident.end() + 8 * HOUR
        })
    };
    let mut episodes: BTreeMap<String, usize> = BTreeMap::new();
    let mut notices = 0;
    let ours: Vec<&Notice> = played.notices.iter().filter(|n| is_page(n)).collect();
    for notice in ours {
        // Half of a budget is news, not an alarm.
        let is_news = &*notice.rule.name == "budget" && notice.rule.severity != Severity::Critical;
        if is_news || touches(notice.at.0, notice.since.0) {
            continue;
        }
        notices += 1;
        if verbose {
            println!(
                "  FALSE {:?} {} {} {} {:?} limit {} value {}",
                played.fleet,
                rfc3339(notice.at.0),
                notice.rule.name,
                notice.reason.name(),
                notice.exposed.map(|e| e.to_string()),
                notice.limit as f64 / 1e12,
                notice.value.unwrap_or_default() as f64 / 1e12
            );
        }
        if matches!(notice.reason, Reason::First | Reason::StillFiring) {
            *episodes.entry(notice.rule.name.to_string()).or_default() += 1;
        }
    }
    let busy: i64 = played
        .incidents
        .iter()
        .map(|incident| (incident.end() - incident.start + GRACE).max(0))
        .sum();
    let days = ((WEEKS * 7 * DAY - busy) as f64 / DAY as f64).max(1.0);
    (episodes, notices, days)
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let verbose = std::env::var_os("INCIDENTS_VERBOSE").is_some();
    let given: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let seeds = if given.is_empty() {
        SEEDS.to_vec()
    } else {
        given
    };
    let mut rows: BTreeMap<(Fleet, Kind), Row> = BTreeMap::new();
    println!("{} seeds, {WEEKS} weeks each; default rules", seeds.len());
    let mut quiet = Vec::new();
    for fleet in [
        Fleet::Developer,
        Fleet::Team,
        Fleet::Service,
        Fleet::Nights,
        Fleet::Jobs,
    ] {
        let played: Vec<Played> = std::thread::scope(|scope| {
            let plays: Vec<_> = seeds
                .iter()
                .map(|seed| scope.spawn(move || play(fleet, *seed)))
                .collect();
            plays.into_iter().map(|play| play.join().unwrap()).collect()
        });
        let (mut episodes, mut notices, mut days) = (BTreeMap::<String, usize>::new(), 0, 0.0);
        let (mut obvious, mut requests, mut dollars) = (0, 0, 0.0);
        for played in &played {
            judge(played, &mut rows, verbose);
            let (by_rule, n, d) = false_alarms(played, verbose);
            for (rule, n) in by_rule {
                *episodes.entry(rule).or_default() += n;
            }
            notices += n;
            days += d;
            let near = |at: i64| {
                played
                    .incidents
                    .iter()
                    .any(|i| at >= i.start && at <= i.end() + GRACE)
            };
            obvious += played.obvious.iter().filter(|at| !near(**at)).count();
            requests += played.requests.len();
            dollars += played.dollars;
        }
        let all_days = (WEEKS * 7) as f64 * seeds.len() as f64;
        let n: usize = episodes.values().sum();
        quiet.push(format!(
            "{fleet:?}: {:.0} requests and ${:.0} a day; ordinary {days:.0} days: {:.2} false episodes and {:.2} false notices a day ({}); the obvious monitor {:.0} alerts a day",
            requests as f64 / all_days,
            dollars / all_days,
            n as f64 / days,
            notices as f64 / days,
            episodes.iter().map(|(rule, n)| format!("{rule} {n}")).collect::<Vec<_>>().join(", "),
            obvious as f64 / days
        ));
    }
    println!(
        "\n{:<10} {:<14} {:>5} {:>9} {:>7} {:>8} {:>9} {:>10} {:>9} {:>9} {:>8} {:>11} {:>8} {:>8}",
        "fleet",
        "incident",
        "n",
        "by name",
        "by any",
        "records",
        "seconds",
        "exposed",
        "of",
        "obvious",
        "drowned",
        "its seconds",
        "ratio",
        "notices"
    );
    let (mut n, mut found, mut ratios) = (0, 0, Vec::new());
    let mut loudest = 0.0_f64;
    let mut lost = (Vec::new(), Vec::new());
    let (mut slowest_break, mut obvious_found, mut drowned) = (0.0_f64, 0, 0);
    for ((fleet, kind), row) in &rows {
        n += row.incidents;
        found += row.by_named;
        let both: Vec<f64> = row
            .both
            .iter()
            .filter(|(a, _)| *a > 0.0)
            .map(|(a, b)| b / a)
            .collect();
        ratios.extend(row.both.iter().copied());
        obvious_found += row.obvious;
        drowned += row.drowned;
        if matches!(kind, Kind::Dropped | Kind::Rewritten) {
            slowest_break = row.records.iter().copied().fold(slowest_break, f64::max);
        }
        if !kind.is_timed() {
            lost.0.extend(row.lost.iter().map(|(ours, _)| *ours));
            lost.1.extend(row.lost.iter().map(|(_, theirs)| *theirs));
        }
        loudest = row.notices.iter().copied().fold(loudest, f64::max);
        println!(
            "{:<10} {:<14} {:>5} {:>9} {:>7} {:>8.0} {:>9.0} {:>10} {:>9} {:>9} {:>8} {:>11.0} {:>8.1} {:>8.1}",
            format!("{fleet:?}"),
            format!("{kind:?}"),
            row.incidents,
            row.by_named,
            row.by_any,
            median(&row.records),
            median(&row.secs),
            format!("${:.2}", median(&row.exposed)),
            format!("${:.0}", median(&row.size)),
            row.obvious,
            row.drowned,
            median(&row.obvious_secs),
            median(&both),
            row.notices.iter().copied().fold(0.0, f64::max),
        );
    }
    println!(
        "\nfound by the rule named for it: {found} of {n} ({:.1} %)",
        found as f64 * 100.0 / n as f64
    );
    let ours = median(&ratios.iter().map(|(a, _)| *a).collect::<Vec<_>>());
    let theirs = median(&ratios.iter().map(|(_, b)| *b).collect::<Vec<_>>());
    println!(
        "where both find it ({}): median exposed ${ours:.2}, the obvious monitor ${theirs:.2}: {:.1} times",
        ratios.len(),
        theirs / ours
    );
    let (ours, theirs) = (median(&lost.0), median(&lost.1));
    println!(
        "over all {}, a miss counted as all that was lost: median ${ours:.2}, the obvious monitor ${theirs:.2}: {:.1} times",
        lost.0.len(),
        theirs / ours
    );
    println!(
        "cache breaks: told by affected request {slowest_break} at the latest; the obvious monitor finds {obvious_found} of {n}, and was alarming already at {drowned}"
    );
    println!("most notices in the first 15 minutes of an incident: {loudest}");
    println!();
    for line in quiet {
        println!("{line}");
    }
}
