//! Many settings tried in one pass over a log: each has an evaluator of its own, and all are fed what one has seen.
//!
//! Lines are read, parsed, priced and told from copies once. Knows neither what is varied nor what is made of it.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{JoinHandle, available_parallelism};

use super::episodes::Episodes;
use crate::monitor::{Evaluator, Rule, Settings, Time};
use crate::pipeline::Seen;

/// So many things are handed over at once.
const BATCH: usize = 2048;

/// So many batches may wait for a thread.
const WAITING: usize = 2;

/// What a lane is fed.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are responses; boxing them would cost each an allocation"
)]
enum Feed {
    /// The span begins: what lies before was only learned from.
    Begin(Time),
    Seen(Seen),
}

/// One choice of rules on its way through the log.
struct Lane {
    evaluator: Evaluator,
    episodes: Episodes,
}

impl Lane {
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

    fn finish(mut self) -> Episodes {
        self.evaluator.stop();
        self.note();
        self.episodes
    }
}

/// Ends the silence in which an evaluator has only learned.
pub(super) fn begin(evaluator: &mut Evaluator, since: Time) {
    evaluator.advance(since);
    evaluator.begin_span(Some(since));
    evaluator.go_live();
}

struct Worker {
    feeds: SyncSender<Arc<Vec<Feed>>>,
    thread: JoinHandle<Vec<(usize, Episodes)>>,
}

/// All lanes, spread over the cores.
pub(super) struct Lanes {
    workers: Vec<Worker>,
    batch: Vec<Feed>,
}

impl Lanes {
    /// A lane for each choice of rules. With `is_live` they speak from the start, else from [`begin`](Self::begin) on.
    pub(super) fn new(choices: Vec<Vec<Rule>>, settings: &Settings, is_live: bool) -> Self {
        let n_workers = available_parallelism()
            .map_or(1, usize::from)
            .min(choices.len());
        let mut shares: Vec<Vec<(usize, Lane)>> = (0..n_workers).map(|_| Vec::new()).collect();
        for (index, rules) in choices.into_iter().enumerate() {
            let mut evaluator = Evaluator::new(Settings {
                rules,
                ..settings.clone()
            });
            if is_live {
                evaluator.go_live();
            }
            let episodes = Episodes::default();
            shares[index % n_workers].push((
                index,
                Lane {
                    evaluator,
                    episodes,
                },
            ));
        }
        let spawn = |mut lanes: Vec<(usize, Lane)>| {
            let (feeds, incoming) = sync_channel::<Arc<Vec<Feed>>>(WAITING);
            let thread = std::thread::spawn(move || {
                for batch in incoming {
                    for (_, lane) in &mut lanes {
                        batch.iter().for_each(|feed| lane.feed(feed));
                    }
                }
                let finished = lanes.into_iter();
                finished
                    .map(|(index, lane)| (index, lane.finish()))
                    .collect()
            });
            Worker { feeds, thread }
        };
        Self {
            workers: shares.into_iter().map(spawn).collect(),
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
        if self.workers.is_empty() {
            return;
        }
        self.batch.push(feed);
        if self.batch.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = Arc::new(std::mem::take(&mut self.batch));
        for worker in &self.workers {
            // It can only be gone if it panicked, which ends the program.
            let _ = worker.feeds.send(Arc::clone(&batch));
        }
    }

    /// The log has ended: what was told in each lane, in their order.
    pub(super) fn finish(mut self) -> Vec<Episodes> {
        self.flush();
        let mut all: Vec<(usize, Episodes)> = Vec::new();
        for Worker { feeds, thread } in self.workers {
            drop(feeds);
            all.extend(thread.join().unwrap_or_default());
        }
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, episodes)| episodes).collect()
    }
}
