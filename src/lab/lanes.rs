//! Many settings tried in one pass over a log.
//!
//! Lines are read, parsed, priced and told from copies once. Settings that differ in one number of one limit are judged as one
//! for as long as they all lead to the same; where they would part, those that differ begin again from where the batch began. What
//! does not depend on them they go on sharing, where the evaluator can.
//! Knows neither what is varied for nor what is made of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{JoinHandle, available_parallelism};

use super::episodes::Episodes;
use super::kin::{Kin, families};
use crate::monitor::{Change, Evaluator, Rule, Settings, Time};
use crate::pipeline::Seen;

/// So many things are handed over at once. Those that part do no more than this again.
const BATCH: usize = 4096;

/// So many batches may wait.
const WAITING: usize = 2;

/// What a lane is fed.
enum Feed {
    /// The span begins: what lies before was only learned from.
    Begin(Time),
    /// What runs have reported has changed, because of what is seen next.
    Changed(Change),
    Seen(Seen),
}

/// Settings that have all led to the same so far.
#[derive(Clone)]
struct Course {
    episodes: Episodes,
    kin: Kin,
}

/// Settings on their way through the log. Those that an evaluator can tell apart share it.
#[derive(Clone)]
struct Lane {
    evaluator: Evaluator,
    /// One for each of its tellers.
    courses: Vec<Course>,
    /// Those that see the same are of one clan.
    clan: usize,
}

/// Some of the settings of a course.
type Part = (usize, Range<usize>);

impl Lane {
    /// Lanes for the settings of a clan, which start from these rules.
    fn of_clan(kins: Vec<Kin>, choices: &[Vec<Rule>], settings: &Settings) -> Vec<Self> {
        let evaluator = |kin: &Kin| {
            let mut evaluator = Evaluator::new(Settings {
                rules: choices[kin.choices[0]].clone(),
                ..settings.clone()
            });
            // Episodes are counted, not read, and what does not depend on the rules is reckoned once.
            evaluator.be_brief();
            evaluator
        };
        let clan = kins[0].clan;
        let course = |kin| Course {
            episodes: Episodes::default(),
            kin,
        };
        let mut shared = evaluator(&kins[0]);
        shared.part(kins.iter().map(|kin| (0, kin.variants.clone())).collect());
        if shared.is_shared() {
            return vec![Self {
                evaluator: shared,
                courses: kins.into_iter().map(course).collect(),
                clan,
            }];
        }
        let alone = kins.into_iter().map(|kin| {
            let mut evaluator = evaluator(&kin);
            if kin.len() > 1 {
                evaluator.stand_for(kin.variants.clone());
            }
            Self {
                evaluator,
                courses: vec![course(kin)],
                clan,
            }
        });
        alone.collect()
    }

    fn feed(&mut self, feed: &Feed) {
        match feed {
            Feed::Begin(since) => begin(&mut self.evaluator, *since),
            Feed::Changed(change) => self.evaluator.observe_change(change),
            Feed::Seen(seen) => seen.feed(&mut self.evaluator),
        }
        self.note();
    }

    fn note(&mut self) {
        if !self.evaluator.has_notices() {
            return;
        }
        for (n, course) in self.courses.iter_mut().enumerate() {
            course.episodes.note(&self.evaluator.take_notices_of(n));
        }
    }

    /// Goes on with these settings only.
    fn narrow(&mut self, parts: &[Part]) {
        let courses = parts.iter().map(|(n, part)| {
            let course = &self.courses[*n];
            Course {
                episodes: course.episodes.clone(),
                kin: course.kin.part(part.clone()),
            }
        });
        self.courses = courses.collect();
        let tellers = parts.iter().zip(&self.courses);
        let rules = tellers.map(|((n, _), course)| (*n, course.kin.variants.clone()));
        self.evaluator.part(rules.collect());
    }

    /// Takes in a batch. Gives the settings that it would have led elsewhere, as they were before it.
    fn pass(&mut self, batch: &[Feed]) -> Vec<Self> {
        let may_part = self.courses.iter().any(|course| course.kin.len() > 1);
        let before = may_part.then(|| self.clone());
        for feed in batch {
            self.feed(feed);
        }
        let Some(before) = before else {
            return Vec::new();
        };
        let (mut kept, mut others): (Vec<Part>, Vec<Part>) = Default::default();
        for (n, course) in self.courses.iter().enumerate() {
            let all = 0..course.kin.len();
            let alike = self.evaluator.kept(n).unwrap_or_else(|| all.clone());
            let parts = [all.start..alike.start, alike.end..all.end];
            let parts = parts.into_iter().filter(|part| !part.is_empty());
            others.extend(parts.map(|part| (n, part)));
            kept.push((n, alike));
        }
        if others.is_empty() {
            return Vec::new();
        }
        self.narrow(&kept);
        let apart = if self.evaluator.is_shared() {
            others.len()
        } else {
            1
        };
        let other = |parts: &[Part]| {
            let mut lane = before.clone();
            lane.narrow(parts);
            lane
        };
        others.chunks(apart).map(other).collect()
    }

    /// Goes on with the settings of another lane, which has seen the same, as well.
    fn absorb(&mut self, other: Self) {
        self.courses.extend(other.courses);
        self.evaluator.absorb(other.evaluator);
    }

    fn finish(mut self) -> impl Iterator<Item = (usize, Episodes)> {
        self.evaluator.stop();
        self.note();
        self.courses.into_iter().flat_map(|course| {
            let Course { episodes, kin } = course;
            let choices = kin.choices.into_iter();
            choices.map(move |choice| (choice, episodes.clone()))
        })
    }
}

/// So many courses are worth a thread of their own, which has to judge all the rest once more.
const COURSES_PER_THREAD: usize = 16;

/// Puts lanes together that have seen the same, as far as there are no threads for more.
fn join(lanes: Vec<Lane>, threads: usize) -> Vec<Lane> {
    let mut clans: BTreeMap<usize, Vec<Lane>> = BTreeMap::new();
    for lane in lanes {
        clans.entry(lane.clan).or_default().push(lane);
    }
    let threads = threads / clans.len().max(1);
    let mut joined = Vec::new();
    for mut clan in clans.into_values() {
        if !clan.first().is_some_and(|lane| lane.evaluator.is_shared()) {
            joined.extend(clan);
            continue;
        }
        clan.sort_by_key(|lane| Reverse(lane.courses.len()));
        let courses: usize = clan.iter().map(|lane| lane.courses.len()).sum();
        let most = threads.min(1 + courses / COURSES_PER_THREAD);
        let others = clan.split_off(most.max(1).min(clan.len()));
        for other in others {
            if let Some(least) = clan.iter_mut().min_by_key(|lane| lane.courses.len()) {
                least.absorb(other);
            }
        }
        joined.extend(clan);
    }
    joined
}

/// Ends the silence in which an evaluator has only learned.
pub(super) fn begin(evaluator: &mut Evaluator, since: Time) {
    evaluator.advance(since);
    evaluator.begin_span(Some(since));
    evaluator.go_live();
}

/// Lets all lanes take in a batch, on so many threads.
fn pass(lanes: Vec<Lane>, batch: &[Feed], threads: usize) -> Vec<Lane> {
    let waiting = Mutex::new(lanes);
    let done = Mutex::new(Vec::new());
    let lock = |lanes: &Mutex<Vec<Lane>>| -> Option<Lane> {
        lanes.lock().unwrap_or_else(PoisonError::into_inner).pop()
    };
    let put = |lanes: &Mutex<Vec<Lane>>, some: Vec<Lane>| {
        lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(some);
    };
    let work = || {
        while let Some(mut lane) = lock(&waiting) {
            put(&waiting, lane.pass(batch));
            put(&done, vec![lane]);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    join(
        done.into_inner().unwrap_or_else(PoisonError::into_inner),
        threads,
    )
}

/// All lanes, on all cores.
pub(super) struct Lanes {
    feeds: Option<SyncSender<Vec<Feed>>>,
    thread: Option<JoinHandle<Vec<Lane>>>,
    batch: Vec<Feed>,
}

impl Lanes {
    /// Lanes for these choices of rules. With `is_live` they speak from the start, else from [`begin`](Self::begin) on.
    pub(super) fn new(choices: &[Vec<Rule>], settings: &Settings, is_live: bool) -> Self {
        let mut lanes: Vec<Lane> = Vec::new();
        let mut clans: BTreeMap<usize, Vec<Kin>> = BTreeMap::new();
        for kin in families(choices) {
            clans.entry(kin.clan).or_default().push(kin);
        }
        for kins in clans.into_values() {
            lanes.extend(Lane::of_clan(kins, choices, settings));
        }
        if is_live {
            for lane in &mut lanes {
                lane.evaluator.go_live();
            }
        }
        if lanes.is_empty() {
            return Self {
                feeds: None,
                thread: None,
                batch: Vec::new(),
            };
        }
        let threads = available_parallelism().map_or(1, usize::from);
        let (feeds, incoming): (_, Receiver<Vec<Feed>>) = sync_channel(WAITING);
        let thread = std::thread::spawn(move || {
            for batch in incoming {
                lanes = pass(lanes, &batch, threads);
            }
            lanes
        });
        Self {
            feeds: Some(feeds),
            thread: Some(thread),
            batch: Vec::new(),
        }
    }

    /// The span begins.
    pub(super) fn begin(&mut self, since: Time) {
        self.push(Feed::Begin(since));
    }

    /// There are other choices of rules.
    pub(super) fn are_fed(&self) -> bool {
        self.feeds.is_some()
    }

    /// Feeds what the first evaluator has seen, and what this has changed of what runs have reported.
    pub(super) fn feed(&mut self, seen: Seen, change: Option<Change>) {
        if let Some(change) = change {
            self.push(Feed::Changed(change));
        }
        self.push(Feed::Seen(seen));
    }

    fn push(&mut self, feed: Feed) {
        if !self.are_fed() {
            return;
        }
        self.batch.push(feed);
        if self.batch.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if let Some(feeds) = &self.feeds {
            // It can only be gone if it panicked, which ends the program.
            let _ = feeds.send(batch);
        }
    }

    /// The log has ended: what was told with each choice, in their order.
    pub(super) fn finish(mut self) -> Vec<Episodes> {
        self.flush();
        self.feeds = None;
        let lanes = self.thread.and_then(|thread| thread.join().ok());
        let lanes = lanes.unwrap_or_default().into_iter();
        let mut all: Vec<(usize, Episodes)> = lanes.flat_map(Lane::finish).collect();
        all.sort_by_key(|(choice, _)| *choice);
        all.into_iter().map(|(_, episodes)| episodes).collect()
    }
}
