//! History as it is read, in time order, told from copies: on a thread of its own, ahead of the rules.
//!
//! Knows no rules.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::config::{Options, Span};
use crate::monitor::{Dedupe, Stamp, Time};
use crate::parse::Zone;
use crate::pipeline::{AT_ONCE, Digest, Event, Intake, IntakeAhead, Seen, Undated, see};
use crate::source::{Decode, Finished, HistoryFile, Line, SourceInfo, merge};

/// So much is handed over at once by whoever reads to whoever judges.
const BATCH: usize = 1024;

/// So many of these may wait there.
const WAITING: usize = 6;

/// What was read, and told from what was read before.
type Batch = Vec<(Option<Time>, Option<Seen>)>;

/// Reads history, and tells what is new from copies, in time order.
pub(super) struct Inflow {
    intake: Intake,
    dedupe: Dedupe,
    /// What comes from then on is left alone.
    until: Option<Time>,
    now: Time,
    /// Records before this are old.
    oldest: Option<Time>,
    /// The first and the last time of all responses, whether they are asked for or not.
    reach: Option<(Time, Time)>,
    made_up: MadeUpTimes,
    /// What is to be told from copies.
    events: Vec<(Option<Time>, Event)>,
    batch: Batch,
    seen: SyncSender<Batch>,
    /// Batches that were judged: whoever judges has other things to do than to give memory back.
    judged: Receiver<Batch>,
}

/// What became of the files, and what they were read with.
pub(super) struct Read {
    pub(super) files: Vec<Finished>,
    pub(super) intake: Intake,
    pub(super) dedupe: Dedupe,
    /// The first and the last time of all responses, whether they were asked for or not.
    pub(super) reach: Option<(Time, Time)>,
}

/// What was read, for whoever judges it.
pub(super) struct Batches {
    seen: Receiver<Batch>,
    judged: Sender<Batch>,
}

impl Batches {
    /// Hands out one after another, until there will be none.
    pub(super) fn each(self, mut judge: impl FnMut(Option<Time>, &mut Option<Seen>)) {
        for mut batch in self.seen {
            for few in batch.chunks_mut(AT_ONCE) {
                for record in few.iter().filter_map(|(_, seen)| seen.as_ref()?.record()) {
                    record.fetch();
                }
                for (time, seen) in few {
                    judge(*time, seen);
                }
            }
            // Nobody wants it back once all is read.
            let _ = self.judged.send(batch);
        }
    }
}

impl Inflow {
    /// Goes by what the options say. What is read comes out of the other end.
    pub(super) fn new(
        options: &Options,
        span: &Span,
        now: Time,
        intake: Intake,
        dedupe: Dedupe,
    ) -> (Self, Batches) {
        let midnight = jiff::civil::Time::midnight();
        let start = options.prices.as_of.to_datetime(midnight);
        let (sender, seen) = sync_channel(WAITING);
        let (judged, used) = channel();
        let inflow = Self {
            intake,
            dedupe,
            until: span.until,
            now,
            oldest: span
                .since
                .map(|since| since.plus_secs(-options.history_secs())),
            reach: None,
            made_up: MadeUpTimes {
                start: Zone::UTC.moment(start, Time(0)).0,
                interval_ms: span.assume_interval_ms,
                last: HashMap::new(),
            },
            events: Vec::new(),
            batch: Vec::new(),
            seen: sender,
            judged: used,
        };
        (inflow, Batches { seen, judged })
    }

    /// Reads all files.
    pub(super) fn read(mut self, files: Vec<HistoryFile>, progress: impl FnMut(u64)) -> Read {
        let files = merge(files, &mut self, progress);
        self.tell_apart();
        self.flush();
        Read {
            files,
            intake: self.intake,
            dedupe: self.dedupe,
            reach: self.reach,
        }
    }

    /// Tells what has come from copies.
    fn tell_apart(&mut self) {
        let is_old = |time: &Option<Time>| time.is_some_and(|time| Some(time) < self.oldest);
        let told_apart = self.events.iter().filter(|(time, _)| !is_old(time));
        let records = told_apart.filter_map(|(_, event)| event.record());
        self.dedupe.expect(records);
        for (time, event) in self.events.drain(..) {
            let seen = see(&mut self.dedupe, event, Undated::TotalsOnly, self.oldest);
            self.batch.push((time, seen));
        }
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let mut empty = Vec::new();
        for judged in self.judged.try_iter() {
            empty = judged;
            let mut records = Vec::with_capacity(empty.len());
            records.extend(empty.drain(..).filter_map(|(_, seen)| seen?.into_record()));
            self.intake.pool().give(records);
        }
        empty.reserve(BATCH);
        let batch = std::mem::replace(&mut self.batch, empty);
        // It can only be gone if it panicked, which ends the program.
        let _ = self.seen.send(batch);
    }
}

/// Times for records that have none, evenly spaced in each source.
struct MadeUpTimes {
    /// Where they begin.
    start: i64,
    /// How far they are apart; `None` leaves records without a time.
    interval_ms: Option<i64>,
    /// The last time of each source.
    last: HashMap<Arc<str>, i64>,
}

impl MadeUpTimes {
    /// Gives an event a time if it needs one.
    fn fill(&mut self, mut event: Event, source: &Arc<str>) -> (Option<i64>, Event) {
        if let (Some(interval), Some(stamp)) = (self.interval_ms, event.stamp_mut()) {
            let last = self
                .last
                .entry(Arc::clone(source))
                .or_insert(self.start - interval);
            match *stamp {
                Stamp::At(time) => *last = time.0,
                Stamp::Undated | Stamp::Impossible(_) => {
                    *last += interval;
                    *stamp = Stamp::At(Time(*last));
                }
            }
        }
        (event.time().map(|time| time.0), event)
    }
}

impl Decode for Inflow {
    type Item = Event;
    type Glance = IntakeAhead;

    fn glance(&self) -> Option<IntakeAhead> {
        // Times that are made up depend on the lines before.
        let is_plain = self.made_up.interval_ms.is_none();
        is_plain.then(|| self.intake.ahead(self.now))
    }

    fn digest(&mut self, source: &Arc<SourceInfo>, digest: Digest, last: Option<i64>) {
        self.intake.digest(source, &digest, last.map(Time));
    }

    fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, Event)>) {
        let Self {
            intake, made_up, ..
        } = self;
        intake.line(line, self.now, |event| {
            out.push(made_up.fill(event, &line.source.name));
        });
    }

    fn end(&mut self, source: &SourceInfo, out: &mut Vec<(Option<i64>, Event)>) {
        let Self {
            intake, made_up, ..
        } = self;
        intake.end(source, |event| {
            out.push(made_up.fill(event, &source.name));
        });
    }

    fn probe(&self, line: Line<'_>) -> Option<i64> {
        self.intake.probe(line, self.now).map(|time| time.0)
    }

    fn is_whole(&self, bytes: &[u8]) -> bool {
        crate::parse::is_complete(bytes)
    }

    fn take(&mut self, time: Option<i64>, event: Event) {
        let time = time.map(Time);
        if let Some(time) = time.filter(|_| event.record().is_some()) {
            let (first, last) = self.reach.unwrap_or((time, time));
            self.reach = Some((first.min(time), last.max(time)));
        }
        let is_beyond = |until| time.is_some_and(|time| time >= until);
        if self.until.is_some_and(is_beyond) {
            return;
        }
        self.events.push((time, event));
        if self.events.len() >= AT_ONCE {
            self.tell_apart();
        }
    }

    fn pause(&mut self) {
        // Somebody may watch what comes through a pipe.
        self.tell_apart();
        if !self.batch.is_empty() {
            self.flush();
        }
    }
}
