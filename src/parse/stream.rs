//! The events of a streamed response, put together into one record.
//!
//! A stream begins with `message_start`, which has the prompt counts and a placeholder for the output. Each `message_delta`
//! replaces what it names; the one with a stop reason, or `message_stop`, ends it. A stream that is cut before is counted with
//! what is known of it, and marked as understated.

use super::usage::{Counts, Delta};
use super::{Item, Usage};
use crate::monitor::{Prompts, Stamp, Time};
use serde::{Deserialize, Serialize};

/// One event of one stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// What tells this stream from others in the same file, if the line has such a thing.
    pub(super) key: Option<u64>,
    /// What it says.
    pub(super) kind: Kind,
}

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A response begins.
    Start(Box<Usage>),
    /// Its usage as of now.
    Delta(Box<Progress>),
    /// Another model goes on with it.
    Fallback(String),
    /// It holds some content.
    Content,
    /// It has ended.
    Stop,
    /// Nothing that matters.
    Nothing,
}

/// What a `message_delta` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) usage: Option<Delta>,
    pub(super) stop_reason: Option<String>,
    pub(super) stamp: Stamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Open {
    key: Option<u64>,
    usage: Box<Usage>,
    has_delta: bool,
    has_content: bool,
    /// How many streams that cannot be told from this one began after it.
    later: u32,
    /// Whether the usage may be that of another stream.
    doubtful: bool,
    /// The present when it was last heard of.
    heard: Time,
}

/// The streams of a file that have not ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Streams(Vec<Open>);

/// Streams that are open at once.
const MAX_OPEN: usize = 256;

/// A stream that cannot be told from others is given up when so many have begun after it.
const MAX_LATER: u32 = 4;

/// A stream that was not heard of for so long has been cut: no response takes longer between two events.
const MAX_SILENCE_MS: i64 = 600_000;

impl Streams {
    /// No stream is open.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes an event. False if it belongs to no stream that is known.
    pub(super) fn apply(&mut self, event: Event, now: Time, emit: &mut dyn FnMut(&Item)) -> bool {
        let Event { key, kind } = event;
        match kind {
            Kind::Start(usage) => {
                self.start(key, usage, now, emit);
                true
            }
            Kind::Nothing => true,
            Kind::Delta(progress) => self.delta(key, *progress, now, emit),
            Kind::Fallback(model) => self
                .latest(key)
                .map(|at| self.0[at].usage.model = Some(model))
                .is_some(),
            Kind::Content => {
                if let Some(at) = self.latest(key) {
                    self.0[at].has_content = true;
                    self.0[at].heard = now;
                }
                true
            }
            Kind::Stop => {
                let ended = self
                    .0
                    .iter()
                    .rposition(|open| open.key == key && (open.has_delta || key.is_some()));
                if let Some(at) = ended {
                    self.end(at, emit);
                }
                true
            }
        }
    }

    fn start(
        &mut self,
        key: Option<u64>,
        usage: Box<Usage>,
        now: Time,
        emit: &mut dyn FnMut(&Item),
    ) {
        let same = |open: &Open| {
            open.key == key
                && open.usage.id.is_some()
                && open.usage.id == usage.id
                && open.usage.tokens == usage.tokens
        };
        if self.0.iter().any(same) {
            return;
        }
        for open in self.0.iter_mut().filter(|open| open.key == key) {
            // What names its stream has only one at a time: the one before was given up.
            open.later += if key.is_some() { MAX_LATER } else { 1 };
        }
        self.give_up(|open| open.later >= MAX_LATER, emit);
        if self.0.len() >= MAX_OPEN {
            self.end(0, emit);
        }
        self.0.push(Open {
            key,
            usage,
            has_delta: false,
            has_content: false,
            later: 0,
            doubtful: false,
            heard: now,
        });
    }

    fn delta(
        &mut self,
        key: Option<u64>,
        progress: Progress,
        now: Time,
        emit: &mut dyn FnMut(&Item),
    ) -> bool {
        let about = |open: &Open| {
            let delta = progress.usage.as_ref();
            open.key == key && delta.is_some_and(|delta| delta.is_about(&open.usage.tokens))
        };
        let named = self.0.iter().rposition(about);
        let Some(at) = named.or_else(|| self.latest(key)) else {
            return false;
        };
        let alone = self.0.iter().filter(|open| open.key == key).count() == 1;
        let open = &mut self.0[at];
        open.doubtful |= named.is_none() && !alone;
        open.heard = now;
        if let Some(delta) = &progress.usage {
            open.has_delta |= delta.has_output();
            open.take(delta);
        }
        if let at @ Stamp::At(_) = progress.stamp {
            open.usage.stamp = at;
        }
        if let Some(reason) = progress.stop_reason {
            open.usage.not_billed = reason == "refusal" && !open.has_content;
            self.end(at, emit);
        }
        true
    }

    fn latest(&self, key: Option<u64>) -> Option<usize> {
        self.0.iter().rposition(|open| open.key == key)
    }

    fn end(&mut self, at: usize, emit: &mut dyn FnMut(&Item)) {
        let Open {
            mut usage,
            has_delta,
            doubtful,
            ..
        } = self.0.remove(at);
        usage.output_understated = !has_delta || doubtful;
        emit(&Item::Usage(usage));
    }

    fn give_up(&mut self, which: impl Fn(&Open) -> bool, emit: &mut dyn FnMut(&Item)) {
        while let Some(at) = self.0.iter().position(&which) {
            self.end(at, emit);
        }
    }

    /// Gives up streams that were not heard of for long.
    pub(super) fn expire(&mut self, now: Time, emit: &mut dyn FnMut(&Item)) {
        self.give_up(|open| now.millis_since(open.heard) > MAX_SILENCE_MS, emit);
    }

    /// Gives up all streams: their file has ended.
    pub(super) fn finish(&mut self, emit: &mut dyn FnMut(&Item)) {
        self.give_up(|_| true, emit);
    }
}

impl Open {
    fn take(&mut self, delta: &Delta) {
        let usage = &mut self.usage;
        usage.assumed_5m |= delta.replace(&mut usage.tokens, &mut usage.terms);
        if let Some(model) = delta.iterations.fallback_model() {
            usage.model = Some(model);
        }
        let mut beside = Counts::default();
        if delta.has_searched() {
            beside.prompts = Prompts::Sum;
        }
        let model = usage.model.as_deref();
        if delta.iterations.apply(model, &mut beside).is_err() {
            return;
        }
        if beside.prompts != Prompts::One {
            usage.prompts = beside.prompts;
        }
        if !beside.extra.is_empty() || beside.declined_hops > 0 {
            usage.extra = beside.extra;
            usage.declined_hops = beside.declined_hops;
            usage.assumed_5m |= beside.assumed_5m;
        }
    }
}
