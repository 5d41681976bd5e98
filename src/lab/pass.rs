//! One pass over a log: what is read goes to the rules in force, to other choices of them, and into the journal.
//!
//! Makes no words of what it finds.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;

use super::episodes::Episodes;
use super::inputs::open_all;
use super::journal::Journal;
use super::lanes::{self, Lanes};
use super::timeline::Timeline;
use crate::config::{Options, Span};
use crate::monitor::{Rule, Stamp, Time};
use crate::parse::Zone;
use crate::pipeline::{Digest, Event, IntakeAhead, Pipeline, Seen};
use crate::run::give;
use crate::sink::{Progress, Sinks};
use crate::source::{Decode, HistoryFile, Line, SourceInfo, SplitStats, merge, reason};

/// What one pass over a log has found.
pub(super) struct Pass {
    pub(super) pipeline: Pipeline,
    pub(super) episodes: Episodes,
    pub(super) journal: Journal,
    pub(super) timeline: Timeline,
    /// What was told with each other choice of rules.
    pub(super) lanes: Vec<Episodes>,
    pub(super) n_files: usize,
    pub(super) stats: SplitStats,
    pub(super) unreadable: usize,
}

/// Goes through a log once, with the rules in force and with other choices of them. Without sinks nothing is told.
pub(super) fn pass(
    options: &Options,
    span: &Span,
    now: Time,
    choices: &[Vec<Rule>],
    mut sinks: Option<&mut Sinks>,
) -> Result<Pass> {
    let (files, errors) = open_all(&options.inputs)?;
    let mut unreadable = errors.len();
    let say = |sinks: &mut Option<&mut Sinks>, line: &str| {
        if let Some(sinks) = sinks {
            sinks.printer.line(line);
        }
    };
    for error in &errors {
        say(&mut sinks, error);
    }
    let n_files = files.len();
    let bytes: Option<u64> = files.iter().map(HistoryFile::bytes).sum();
    let is_watched = options.output.stderr.detail && !options.output.quiet;
    let progress = Progress::new(bytes, is_watched);
    let pipeline = Pipeline::new(
        options.parse.clone(),
        options.prices.clone(),
        options.settings.clone(),
    );
    let start = options
        .prices
        .as_of
        .to_datetime(jiff::civil::Time::midnight());
    let start = Zone::UTC.moment(start, Time(0)).0;
    let oldest = span
        .since
        .map(|since| since.plus_secs(-options.history_secs()));
    let clock = options.output.stdout.clock;
    let with_report = span.lab.report.is_some() && sinks.is_some();
    let mut replay = Replay {
        pipeline,
        sinks,
        progress: progress.clone(),
        span: span.clone(),
        now,
        oldest,
        made_up: MadeUpTimes {
            start,
            interval_ms: span.assume_interval_ms,
            last: HashMap::new(),
        },
        live: span.since.is_none(),
        episodes: if with_report {
            Episodes::in_words(clock)
        } else {
            Episodes::default()
        },
        timeline: Timeline::new(clock),
        with_limits: with_report,
        journal: (!span.lab.is_plain()).then(Journal::default),
        lanes: Lanes::new(choices, &options.settings, span.since.is_none()),
    };
    if replay.live {
        replay.pipeline.evaluator.go_live();
    }
    let mut stats = SplitStats::default();
    for file in merge(files, &mut replay, |bytes| progress.add(bytes)) {
        stats.add(file.stats);
        if let Some(error) = file.error {
            unreadable += 1;
            let line = format!(
                "cannot read {} to its end: {}",
                file.info.name,
                reason(&error)
            );
            say(&mut replay.sinks, &line);
        }
    }
    progress.finish();
    if let Some(since) = span.since.filter(|_| !replay.live) {
        // Nothing lies in the span.
        replay.pipeline.evaluator.begin_span(Some(since));
        replay.lanes.begin(since);
    }
    replay.pipeline.evaluator.stop();
    replay.tell();
    let mut journal = replay.journal.unwrap_or_default();
    journal.finish();
    replay.timeline.finish();
    Ok(Pass {
        pipeline: replay.pipeline,
        episodes: replay.episodes,
        journal,
        timeline: replay.timeline,
        lanes: replay.lanes.finish(),
        n_files,
        stats,
        unreadable,
    })
}

/// Feeds history to the pipeline, in time order.
struct Replay<'a> {
    pipeline: Pipeline,
    sinks: Option<&'a mut Sinks>,
    progress: Progress,
    span: Span,
    now: Time,
    /// Records before this are old.
    oldest: Option<Time>,
    made_up: MadeUpTimes,
    /// The span has begun.
    live: bool,
    episodes: Episodes,
    timeline: Timeline,
    /// Note what the rules are held against.
    with_limits: bool,
    /// What each response cost, if somebody wants to know afterwards.
    journal: Option<Journal>,
    lanes: Lanes,
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
                Stamp::Undated | Stamp::Impossible => {
                    *last += interval;
                    *stamp = Stamp::At(Time(*last));
                }
            }
        }
        (event.time().map(|time| time.0), event)
    }
}

impl Decode for Replay<'_> {
    type Item = Event;
    type Glance = IntakeAhead;

    fn glance(&self) -> Option<IntakeAhead> {
        // Times that are made up depend on the lines before.
        let is_plain = self.made_up.interval_ms.is_none();
        is_plain.then(|| self.pipeline.intake.ahead(self.now))
    }

    fn digest(&mut self, source: &Arc<SourceInfo>, digest: Digest, last: Option<i64>) {
        let intake = &mut self.pipeline.intake;
        intake.digest(source, &digest, last.map(Time));
    }

    fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, Event)>) {
        let Self {
            pipeline, made_up, ..
        } = self;
        pipeline.intake.line(line, self.now, |event| {
            out.push(made_up.fill(event, &line.source.name));
        });
    }

    fn end(&mut self, source: &SourceInfo, out: &mut Vec<(Option<i64>, Event)>) {
        let Self {
            pipeline, made_up, ..
        } = self;
        pipeline.intake.end(source, |event| {
            out.push(made_up.fill(event, &source.name));
        });
    }

    fn probe(&self, line: Line<'_>) -> Option<i64> {
        self.pipeline
            .intake
            .probe(line, self.now)
            .map(|time| time.0)
    }

    fn is_whole(&self, bytes: &[u8]) -> bool {
        crate::parse::is_complete(bytes)
    }

    fn take(&mut self, time: Option<i64>, event: Event) {
        let time = time.map(Time);
        if self
            .span
            .until
            .is_some_and(|until| time.is_some_and(|time| time >= until))
        {
            return;
        }
        if let Some(since) = self
            .span
            .since
            .filter(|since| !self.live && time.is_some_and(|time| time >= *since))
        {
            lanes::begin(&mut self.pipeline.evaluator, since);
            self.lanes.begin(since);
            self.live = true;
        }
        if let Some(seen) = self.pipeline.feed_first(event, self.oldest) {
            if self.live {
                self.draw(&seen, time);
            }
            if let Some(journal) = self.journal.as_mut().filter(|_| self.live) {
                journal.note(&seen, self.pipeline.evaluator.last_waste());
            }
            self.lanes.feed(seen);
        }
        self.tell();
    }
}

impl Replay<'_> {
    /// Adds what was seen to the log over time.
    fn draw(&mut self, seen: &Seen, time: Option<Time>) {
        let evaluator = &self.pipeline.evaluator;
        self.timeline.note(seen, evaluator.last_waste().0);
        if let Some(time) = time.filter(|_| self.with_limits) {
            self.timeline.note_limits(time, || {
                evaluator.limits_of_all().map(|(.., limit)| limit).collect()
            });
        }
    }

    /// Hands on what there is to tell.
    fn tell(&mut self) {
        if !self.pipeline.evaluator.has_notices() {
            return;
        }
        let episodes = &mut self.episodes;
        match &mut self.sinks {
            Some(sinks) => {
                let pipeline = &mut self.pipeline;
                self.progress.aside(|| {
                    give(pipeline, sinks, None, |notices| episodes.note(notices));
                });
            }
            None => episodes.note(&self.pipeline.take_notices()),
        }
    }
}
