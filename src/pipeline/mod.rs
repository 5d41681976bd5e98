//! Line → record → evaluator: what `tail` and `replay` have in common.
//!
//! Knows neither where lines come from nor where notices go, and reads no clock.

mod ahead;
mod build;
mod intake;
mod lag;
mod pool;
mod silent;

pub use ahead::Moment;
pub use intake::{BadLine, Digest, DrySource, Intake, IntakeAhead, LineCounts};
pub use lag::{Lags, LateSource};
pub use silent::Silent;

use std::sync::Arc;

use ahead::{Ahead, Stretch};

use crate::monitor::{
    Compaction, Dedupe, ErrorRecord, Evaluator, Growth, Notice, RunReport, Settings, Sighting,
    Stamp, Time, UsageRecord,
};
use crate::parse::ParseOptions;
use crate::price::PriceTable;
use crate::source::Line;

/// What a line held, ready for the evaluator. No larger than what is handed on in registers: what lies in memory in pieces is
/// waited for when it is moved on as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A response.
    Record(Box<UsageRecord>),
    /// A session was compacted.
    Compacted(Box<Compaction>),
    /// An error answer.
    Error(Box<ErrorRecord>),
    /// The sum of a run.
    Run(Box<RunReport>),
}

impl Event {
    /// When it happened, if the line says so.
    pub fn time(&self) -> Option<Time> {
        match self.stamp()? {
            Stamp::At(time) => Some(time),
            Stamp::Undated | Stamp::Impossible(_) => None,
        }
    }

    /// The response, if it is one.
    pub fn record(&self) -> Option<&UsageRecord> {
        match self {
            Self::Record(record) => Some(record),
            Self::Compacted(_) | Self::Error(_) | Self::Run(_) => None,
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Record(record) => Some(record.stamp),
            Self::Error(error) => Some(error.stamp),
            Self::Compacted(_) | Self::Run(_) => None,
        }
    }

    /// Its time, to be filled in where it has none.
    pub fn stamp_mut(&mut self) -> Option<&mut Stamp> {
        match self {
            Self::Record(record) => Some(&mut record.stamp),
            Self::Error(error) => Some(&mut error.stamp),
            Self::Compacted(_) | Self::Run(_) => None,
        }
    }
}

/// An intake and an evaluator in one line.
#[derive(Debug)]
pub struct Pipeline {
    /// Reads lines.
    pub intake: Intake,
    /// Judges records.
    pub evaluator: Evaluator,
    /// Knows of the lines that came while somebody watched how far their times are off.
    pub lags: Lags,
    /// What was read and is judged next, with the name of its source.
    waiting: Vec<(Arc<str>, Event)>,
    /// What is read meanwhile.
    ahead: Ahead,
}

/// What so many responses are told apart by lies in as many places of memory, which are waited for together.
pub const AT_ONCE: usize = 32;

/// What is done with a record that has no time of its own, or one that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undated {
    /// It enters totals only.
    TotalsOnly,
    /// It was written while we watched: it happened on arrival.
    Arrived(Time),
}

impl Pipeline {
    /// A pipeline that has read nothing and tells nothing yet.
    pub fn new(options: ParseOptions, prices: PriceTable, settings: Settings) -> Self {
        let too_late = too_late_after(&settings);
        Self {
            lags: Lags::beyond(too_late),
            ..Self::of(Intake::new(options, prices), Evaluator::new(settings))
        }
    }

    /// What has read and judged what lies in files, which nobody watched.
    pub fn of(intake: Intake, evaluator: Evaluator) -> Self {
        Self {
            intake,
            evaluator,
            lags: Lags::beyond(i64::MAX),
            waiting: Vec::new(),
            ahead: Ahead::default(),
        }
    }

    /// Reads a line and evaluates what is in it. Records older than `oldest` are counted as old and left out.
    pub fn line(&mut self, line: Line<'_>, now: Time, undated: Undated, oldest: Option<Time>) {
        self.take_in(line, now);
        self.judge(undated, oldest);
    }

    /// Takes a line that is to be read and judged with others when it [goes on](Self::go_on). True if so much waits that it is time
    /// to, though more is to come.
    #[must_use]
    pub fn hand_over(&mut self, line: Line<'_>) -> bool {
        self.ahead.push(line)
    }

    /// Reads and judges what was handed over since it did so last, all of it at this moment. If `more` is there already, it may be
    /// read on another thread while what came before is judged, and be judged when this is called next, or when all is to be
    /// [settled](Self::settle). Calls `look` whenever there may be notices.
    pub fn go_on(&mut self, moment: Moment, more: bool, mut look: impl FnMut(&mut Evaluator)) {
        self.ahead.send(moment, more, &self.intake);
        let may_stay = usize::from(more);
        while self.ahead.out() > may_stay {
            self.judge_next(&mut look);
        }
        if self.ahead.out() == 0 {
            self.judge_next(&mut look);
        }
    }

    /// Judges all that it has gone on with.
    pub fn settle(&mut self, mut look: impl FnMut(&mut Evaluator)) {
        while self.judge_next(&mut look) {}
    }

    /// Judges what was handed over first. False if there is nothing left.
    fn judge_next(&mut self, look: &mut impl FnMut(&mut Evaluator)) -> bool {
        let Some(mut batch) = self.ahead.take() else {
            return false;
        };
        let Moment {
            now,
            undated,
            oldest,
            is_current,
        } = batch.moment;
        self.lags.watch(is_current);
        for stretch in std::mem::take(&mut batch.stretches) {
            let Stretch {
                source,
                events,
                digest,
                aside,
            } = stretch;
            let last = events.iter().rev().find_map(|(time, _)| time.map(Time));
            for (_, event) in events {
                self.waiting.push((Arc::clone(&source.name), event));
                if self.waiting.len() >= AT_ONCE {
                    self.judge(undated, oldest);
                    look(&mut self.evaluator);
                }
            }
            if let Some(digest) = digest {
                self.intake.digest(&source, &digest, last);
            }
            let aside = aside.map(|nth| batch.line(nth, &source));
            if aside.is_some_and(|line| self.take_in(line, now)) {
                self.judge(undated, oldest);
                look(&mut self.evaluator);
            }
        }
        self.judge(undated, oldest);
        look(&mut self.evaluator);
        self.ahead.give_back(batch);
        self.intake.leave_judged();
        true
    }

    /// Reads a line, of which what is in it waits to be [judged](Self::judge) before anything else is done. True if so much
    /// waits that it is time to.
    fn take_in(&mut self, line: Line<'_>, now: Time) -> bool {
        let (source, waiting) = (&line.source.name, &mut self.waiting);
        self.intake.line(line, now, |event| {
            waiting.push((Arc::clone(source), event));
        });
        waiting.len() >= AT_ONCE
    }

    /// Evaluates what waits.
    fn judge(&mut self, undated: Undated, oldest: Option<Time>) {
        let Self {
            intake,
            evaluator,
            lags,
            waiting,
            ..
        } = self;
        let is_old = |event: &Event| {
            let time = event.time();
            time.zip(oldest).is_some_and(|(time, oldest)| time < oldest)
        };
        if waiting.len() > 1 {
            let told_apart = waiting.iter().filter(|(_, event)| !is_old(event));
            let records = told_apart.filter_map(|(_, event)| event.record());
            evaluator.dedupe().expect(records);
        }
        for (source, event) in waiting.drain(..) {
            let stamp = event.stamp();
            let Some(seen) = see(evaluator.dedupe(), event, undated, oldest) else {
                continue;
            };
            if let (Undated::Arrived(now), Some(stamp)) = (undated, stamp)
                && seen.is_new_now()
            {
                lags.note(&source, stamp, now);
            }
            seen.feed(evaluator);
            if let Some(record) = seen.into_record() {
                intake.give_back(record);
            }
        }
    }

    /// Gives an event to the evaluator.
    pub fn feed(&mut self, event: Event, undated: Undated, oldest: Option<Time>) {
        feed(&mut self.evaluator, event, undated, oldest);
    }

    /// No line will follow: what is left open is evaluated.
    pub fn end(&mut self, undated: Undated, oldest: Option<Time>) {
        let evaluator = &mut self.evaluator;
        self.intake
            .end_all(|event| feed(evaluator, event, undated, oldest));
    }

    /// Evaluates the streamed responses that were cut: nothing was heard of them for long.
    pub fn expire(&mut self, now: Time, oldest: Option<Time>) {
        let evaluator = &mut self.evaluator;
        self.intake.expire(now, |event| {
            feed(evaluator, event, Undated::Arrived(now), oldest);
        });
    }

    /// Moves the time on without a record.
    pub fn tick(&mut self, to: Time) {
        self.evaluator.advance(to);
    }

    /// Takes the notices given since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.evaluator.take_notices()
    }
}

/// Something that the evaluator of one log has told from a copy, so that others of the same log need not. As small as an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A response that is new.
    New(Box<UsageRecord>),
    /// A response that was counted before.
    Copy(Box<UsageRecord>),
    /// A response that was counted before, and what its copy adds.
    Grown(Box<(Box<UsageRecord>, Growth)>),
    /// A session was compacted. If that is a copy, its summary is that of the first.
    Compacted(Box<Compaction>),
    /// An error answer that is no copy.
    Error(Box<ErrorRecord>),
    /// The sum of a run.
    Run(Box<RunReport>),
    /// A response that is older than the history asked for.
    Old,
}

const WORDS: usize = 2 * size_of::<usize>();
const _: () = assert!(size_of::<Event>() <= WORDS && size_of::<Option<Seen>>() <= WORDS);

impl Seen {
    /// The response, if it is one.
    pub fn record(&self) -> Option<&UsageRecord> {
        match self {
            Self::New(record) | Self::Copy(record) => Some(record),
            Self::Grown(grown) => Some(&grown.0),
            Self::Compacted(_) | Self::Error(_) | Self::Run(_) | Self::Old => None,
        }
    }

    /// The same, to be kept.
    pub fn into_record(self) -> Option<Box<UsageRecord>> {
        match self {
            Self::New(record) | Self::Copy(record) => Some(record),
            Self::Grown(grown) => Some(grown.0),
            Self::Compacted(_) | Self::Error(_) | Self::Run(_) | Self::Old => None,
        }
    }

    /// A response that was not counted before, and was answered when it was asked for: batches may take a day. One that is too old
    /// to be counted may be a clock that is far off.
    fn is_new_now(&self) -> bool {
        match self {
            Self::New(record) => !record.batch,
            Self::Old => true,
            Self::Copy(_) | Self::Grown(_) | Self::Compacted(_) | Self::Error(_) | Self::Run(_) => {
                false
            }
        }
    }

    /// Gives it to an evaluator.
    pub fn feed(&self, evaluator: &mut Evaluator) {
        match self {
            Self::New(record) => evaluator.observe_new(record),
            Self::Copy(record) => evaluator.observe_copy(record),
            Self::Grown(grown) => evaluator.observe_grown(&grown.0, &grown.1),
            Self::Compacted(compaction) => evaluator.compacted(compaction),
            Self::Error(error) => evaluator.observe_new_error(error),
            Self::Run(report) => evaluator.observe_run(report),
            Self::Old => evaluator.count_old(),
        }
    }
}

/// Tells an event from a copy of it. `None` if it is one that counts for nothing.
pub fn see(
    dedupe: &mut Dedupe,
    mut event: Event,
    undated: Undated,
    oldest: Option<Time>,
) -> Option<Seen> {
    if let Some(stamp) = event.stamp_mut() {
        match (*stamp, undated) {
            (Stamp::At(time), _) if oldest.is_some_and(|oldest| time < oldest) => {
                return matches!(event, Event::Record(_)).then_some(Seen::Old);
            }
            (Stamp::Undated | Stamp::Impossible(_), Undated::Arrived(now)) => {
                *stamp = Stamp::At(now);
            }
            _ => {}
        }
    }
    match event {
        Event::Compacted(mut compaction) => {
            let is_first = compaction.id.is_none_or(|id| dedupe.is_first(id));
            compaction.is_unlogged &= is_first;
            Some(Seen::Compacted(compaction))
        }
        Event::Record(record) => Some(match dedupe.sight(&record) {
            Sighting::New => Seen::New(record),
            Sighting::Copy => Seen::Copy(record),
            Sighting::Grown(growth) => Seen::Grown(Box::new((record, *growth))),
        }),
        Event::Error(error) => dedupe.sight_error(&error).then_some(Seen::Error(error)),
        Event::Run(report) => Some(Seen::Run(report)),
    }
}

/// Seconds after which a response comes too late for a window of one of the rules.
fn too_late_after(settings: &Settings) -> i64 {
    let rules = settings.rules.iter();
    let rules = rules.filter(|rule| rule.enabled && rule.metric.is_windowed());
    let shortest = rules.filter_map(|rule| rule.windows.first()).min();
    shortest.map_or(i64::MAX, |shortest| shortest + settings.lateness_secs)
}

fn feed(evaluator: &mut Evaluator, event: Event, undated: Undated, oldest: Option<Time>) {
    if let Some(seen) = see(evaluator.dedupe(), event, undated, oldest) {
        seen.feed(evaluator);
    }
}
