//! Many settings tried in one pass over a log.
//!
//! Lines are read, parsed, priced and told from copies once. Settings that differ in one number of one limit share an evaluator
//! for as long as they all lead to the same; where they would part, those that differ begin again from where the batch began.
//! Knows neither what is varied for nor what is made of it.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{JoinHandle, available_parallelism};

use super::episodes::Episodes;
use super::kin::{Kin, families};
use crate::monitor::{Evaluator, Rule, Settings, Time};
use crate::pipeline::Seen;

/// So many things are handed over at once. Those that part do no more than this again.
const BATCH: usize = 4096;

/// So many batches may wait.
const WAITING: usize = 2;

/// What a lane is fed.
enum Feed {
    /// The span begins: what lies before was only learned from.
    Begin(Time),
    Seen(Seen),
}

/// Settings on their way through the log, which have all led to the same so far.
#[derive(Clone)]
struct Lane {
    evaluator: Evaluator,
    episodes: Episodes,
    kin: Kin,
}

impl Lane {
    fn new(kin: Kin, rules: Vec<Rule>, settings: &Settings, is_live: bool) -> Self {
        let mut evaluator = Evaluator::new(Settings {
            rules,
            ..settings.clone()
        });
        if is_live {
            evaluator.go_live();
        }
        if kin.len() > 1 {
            evaluator.stand_for(kin.variants.clone());
        }
        Self {
            evaluator,
            episodes: Episodes::default(),
            kin,
        }
    }

    fn feed(&mut self, feed: &Feed) {
        match feed {
            Feed::Begin(since) => begin(&mut self.evaluator, *since),
            Feed::Seen(seen) => seen.feed(&mut self.evaluator),
        }
        self.note();
    }

    fn note(&mut self) {
        let notices = self.evaluator.take_notices();
        if !notices.is_empty() {
            self.episodes.note(&notices);
        }
    }

    /// Goes on with a part of its settings only.
    fn narrow(&mut self, part: Range<usize>) {
        self.kin = self.kin.part(part);
        self.evaluator.stand_for(self.kin.variants.clone());
    }

    /// Takes in a batch. Gives the settings that it would have led elsewhere, as they were before it.
    fn pass(&mut self, batch: &[Feed]) -> Vec<Self> {
        let before = (self.kin.len() > 1).then(|| self.clone());
        for feed in batch {
            self.feed(feed);
        }
        let (Some(before), Some(kept)) = (before, self.evaluator.kept()) else {
            return Vec::new();
        };
        if kept.len() == self.kin.len() {
            return Vec::new();
        }
        let others = [0..kept.start, kept.end..self.kin.len()];
        self.narrow(kept);
        let others = others.into_iter().filter(|part| !part.is_empty());
        let other = |part| {
            let mut lane = before.clone();
            lane.narrow(part);
            lane
        };
        others.map(other).collect()
    }

    fn finish(mut self) -> impl Iterator<Item = (usize, Episodes)> {
        self.evaluator.stop();
        self.note();
        let choices = self.kin.choices.into_iter();
        choices.map(move |choice| (choice, self.episodes.clone()))
    }
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
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
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
        for kin in families(choices) {
            let rules = choices[kin.choices[0]].clone();
            lanes.push(Lane::new(kin, rules, settings, is_live));
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

    /// Feeds what the first evaluator has seen.
    pub(super) fn feed(&mut self, seen: Seen) {
        self.push(Feed::Seen(seen));
    }

    fn push(&mut self, feed: Feed) {
        if self.feeds.is_none() {
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
