//! Those who ask, and what they ask: sessions of people and agents, services, a job at night. Incidents that are on change it.
//!
//! Knows nothing of rules, and of what is told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::common::{Call, Random, rfc3339};
use crate::incident::{Incident, Kind};
use crate::{DAY, HOUR, MINUTE, START, WEEKS};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fleet {
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
    pub(crate) fn is_service(self) -> bool {
        matches!(self, Self::Service | Self::Jobs)
    }

    pub(crate) fn is_developer(self) -> bool {
        matches!(self, Self::Developer | Self::Nights)
    }

    /// From the end of an incident to the day from which on the next may begin. What goes by days would not know an ordinary one
    /// where each has an incident.
    pub(crate) fn pause(self) -> i64 {
        match self {
            Self::Developer | Self::Team | Self::Service => 12 * HOUR,
            Self::Nights | Self::Jobs => 5 * DAY,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Price {
    pub(crate) input: f64,
    pub(crate) output: f64,
    pub(crate) write_5m: f64,
    pub(crate) write_1h: f64,
    pub(crate) read: f64,
}

pub(crate) fn price(model: &str) -> Price {
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

pub(crate) fn cost(call: &Call<'_>) -> f64 {
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
pub(crate) struct Actor {
    pub(crate) session: Option<String>,
    pub(crate) model: &'static str,
    /// Tokens of the prompt that the cache holds.
    pub(crate) cached: u64,
    pub(crate) last: i64,
    pub(crate) left: u64,
    /// The loop that it is in.
    pub(crate) loops: Option<Kind>,
}

pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) random: Random,
    pub(crate) actors: Vec<Actor>,
    pub(crate) queue: BinaryHeap<Reverse<(i64, usize)>>,
    pub(crate) n: u64,
    pub(crate) sessions: u64,
    /// Until then the last job runs on.
    pub(crate) job_until: i64,
}

/// When the job of a night begins.
pub(crate) fn job_begin(at: i64) -> i64 {
    let day = (at - START).div_euclid(DAY);
    START + day * DAY + 2 * HOUR + day * 7 % 15 * MINUTE
}

/// A line of the log.
pub(crate) struct Event {
    pub(crate) at: i64,
    pub(crate) line: String,
    /// For the obvious monitor: input, output, cache reads, cost as it reckons it.
    pub(crate) plain: Option<(u64, u64, u64, f64)>,
}

impl World {
    pub(crate) fn new(fleet: Fleet, seed: u64) -> Self {
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

    pub(crate) fn weekday(at: i64) -> i64 {
        (at - START).div_euclid(DAY) % 7
    }

    pub(crate) fn hour(at: i64) -> i64 {
        at.rem_euclid(DAY) / HOUR
    }

    pub(crate) fn is_work(at: i64) -> bool {
        Self::weekday(at) < 5 && (8..19).contains(&Self::hour(at))
    }

    /// The job of this night is running: it begins within a quarter of an hour after two, and is over within half an hour, unless it
    /// runs on.
    pub(crate) fn is_job(&self, at: i64) -> bool {
        let begin = job_begin(at);
        let end = begin + 25 * MINUTE;
        (begin..end.max(self.job_until)).contains(&at)
    }

    /// When a session that is wanted now begins.
    pub(crate) fn begin(&mut self, wanted: i64) -> i64 {
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
    pub(crate) fn respawn(&mut self, i: usize) {
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
    pub(crate) fn pause(&mut self, i: usize, at: i64, more_traffic: f64) -> i64 {
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
    pub(crate) fn step(&mut self, incidents: &mut [Incident]) -> Option<Vec<Event>> {
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
    pub(crate) fn request<'a>(
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
