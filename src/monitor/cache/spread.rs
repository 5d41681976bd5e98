//! Misses of several conversations as one run: what broke is what they have in common.
//!
//! Knows which conversation missed, and what was told of it. How a request is judged is known to the tracker.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::CacheTracker;
use super::conversation::{Conversation, Run};
use super::miss::Miss;
use crate::monitor::record::{Labels, Time, UsageRecord};
use crate::price::PicoUsd;

/// Stands for a session, and for an agent, where several are meant.
pub const SEVERAL: &str = "*";

/// These stand for several sessions.
pub(in crate::monitor) fn is_of_several(labels: &Labels) -> bool {
    labels.session.as_deref() == Some(SEVERAL)
}

/// A run of misses that began in one conversation and went on in others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spread {
    /// Which it is.
    pub(super) id: u64,
    /// The conversation that it began in.
    pub(super) first: u64,
    /// Under which labels it is told: those of all that the conversations have in common. None while it is in one.
    pub(super) labels: Option<Arc<Labels>>,
    /// Several are known to miss: that one is served in between does not end it, but many in a row do.
    pub(super) goes_on: bool,
}

/// Under which labels a request belongs to a run of misses.
#[derive(Debug, Clone)]
pub(in crate::monitor) struct Elsewhere {
    /// Those of its stream.
    pub(in crate::monitor) labels: Arc<Labels>,
    /// It belongs to its own conversation as well.
    pub(in crate::monitor) also_own: bool,
}

impl CacheTracker {
    /// A miss goes on with those of other conversations: what broke is what they have in common, and is told as that. So is each one
    /// that comes soon after such a run was told, though some were served in between. A run that was told as that of one
    /// conversation stays so. `before` are those that are known to be some only now, of others.
    pub(super) fn spread(&mut self, record: &UsageRecord, at: Time, miss: &Miss, before: &[Miss]) {
        let own = record.labels.conversation;
        if !record.names_conversation() {
            return;
        }
        let Some(stream) = self.streams.get_mut(&record.labels.stream) else {
            return;
        };
        let id = self.spreads;
        let goes_on = stream.several_miss(at);
        let spread = stream.spread.get_or_insert_with(|| {
            self.spreads += 1;
            Spread {
                id,
                first: own,
                labels: None,
                goes_on,
            }
        });
        let (id, first) = (spread.id, spread.first);
        spread.goes_on |= goes_on;
        let known = &mut self.conversations;
        let Some(run) = known.get(&own).and_then(|own| own.run.as_deref()) else {
            return;
        };
        let mut run = run.clone();
        if run.part_of.is_some_and(|part_of| part_of != id) {
            // What it was part of is over: the others are served again.
            run = Run {
                before: run.last,
                told: false,
                part_of: None,
                ..run_of_one(miss, &run)
            };
            set_run(known, own, run.clone());
        }
        let is_part = run.part_of.is_some();
        let is_own = if goes_on {
            run.told
        } else {
            own == first || run.length > 1
        };
        if !is_part && before.is_empty() && is_own {
            if run.told {
                stream.note_told(own, at);
            }
            return;
        }
        let labels = spread
            .labels
            .get_or_insert_with(|| of_several(&record.labels));
        let labels = Arc::clone(labels);
        // What began it and was not told is the first of these.
        let begun = known.get(&first).and_then(|first| first.run.as_deref());
        let begun = begun.filter(|run| own != first && !run.told && run.part_of.is_none());
        let begun = begun.cloned();
        let all = known
            .entry(labels.conversation)
            .or_insert_with(|| Conversation::new(at, false));
        let sum = all.run.get_or_insert_with(|| {
            Box::new(Run {
                length: 0,
                waste: PicoUsd::ZERO,
                missed: 0,
                since: at,
                told: goes_on,
                part_of: None,
                ..run.clone()
            })
        });
        if let Some(begun) = &begun {
            sum.join(begun);
        }
        for miss in before {
            sum.join(&run_of_one(miss, &run));
        }
        // What this one had missed by itself comes with it.
        let is_first = is_part || run.length == 1;
        let own_run = if is_first {
            run_of_one(miss, &run)
        } else {
            run.clone()
        };
        sum.join(&own_run);
        sum.last = at;
        let is_told = sum.told;
        if is_told {
            stream.note_several(at);
        }
        all.last = all.last.max(at);
        let parts = begun.map(|begun| (first, begun)).into_iter();
        for (of, part) in parts.chain([(own, run)]) {
            let part = Run {
                told: part.told | is_told,
                part_of: Some(id),
                ..part
            };
            set_run(known, of, part);
        }
        self.elsewhere = Some(Elsewhere {
            labels,
            also_own: false,
        });
    }

    /// The cache serves again what many conversations have in common.
    pub(super) fn end_spread(&mut self, labels: Arc<Labels>, at: Time) {
        let Some(all) = self.conversations.get_mut(&labels.conversation) else {
            return;
        };
        let is_told = all.run.take().is_some_and(|run| run.told);
        all.last = all.last.max(at);
        if let Some(stream) = self.streams.get_mut(&labels.stream).filter(|_| is_told) {
            stream.note_several(at);
        }
        self.elsewhere = Some(Elsewhere {
            labels,
            also_own: true,
        });
    }
}

impl Run {
    /// Takes in another one.
    fn join(&mut self, other: &Self) {
        self.length += other.length;
        self.waste += other.waste;
        self.missed += other.missed;
        self.since = self.since.min(other.since);
        self.before = self.before.min(other.before);
    }
}

/// A run like another one, of a single miss.
fn run_of_one(miss: &Miss, like: &Run) -> Run {
    Run {
        length: 1,
        since: miss.at,
        before: Time(miss.at.0 - miss.gap_ms),
        last: miss.at,
        waste: miss.cost,
        missed: miss.tokens,
        ..like.clone()
    }
}

fn set_run(known: &mut FxHashMap<u64, Conversation>, conversation: u64, run: Run) {
    if let Some(known) = known.get_mut(&conversation) {
        known.run = Some(Box::new(run));
    }
}

/// The labels of what stands for all conversations that are like this one.
fn of_several(labels: &Labels) -> Arc<Labels> {
    Arc::new(Labels {
        session: Some(SEVERAL.into()),
        agent: labels.agent.as_ref().map(|_| SEVERAL.into()),
        run: None,
        conversation: stream_conversation(labels.stream),
        ..labels.clone()
    })
}

/// What stands for the conversations of a stream where something broke that they have in common.
pub(super) fn stream_conversation(stream: u64) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = rustc_hash::FxHasher::default();
    ("stream", stream).hash(&mut hasher);
    hasher.finish()
}
