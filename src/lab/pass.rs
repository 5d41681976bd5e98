//! One pass over a log: what is read goes to the rules in force, to other choices of them, and into the journal.
//!
//! Makes no words of what it finds.

use anyhow::Result;

use super::episodes::Episodes;
use super::inflow::Inflow;
use super::inputs::open_all;
use super::journal::Journal;
use super::lanes::{self, Lanes};
use super::timeline::Timeline;
use crate::config::{Options, Span};
use crate::monitor::{Evaluator, Rule, Time};
use crate::pipeline::{Intake, Pipeline, Seen};
use crate::run::give;
use crate::sink::{Progress, Sinks};
use crate::source::{HistoryFile, SplitStats, reason};

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
    /// The first and the last time of all responses, whether they are in the span or not.
    pub(super) reach: Option<(Time, Time)>,
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
    let is_watched = options.output.stderr.terminal.is_some() && !options.output.quiet;
    let progress = Progress::new(bytes, is_watched);
    let clock = options.output.stdout.clock;
    let with_report = span.lab.report.is_some() && sinks.is_some();
    let intake = Intake::new(options.parse.clone(), options.prices.clone());
    let mut evaluator = Evaluator::new(options.settings.clone());
    let (inflow, batches) = Inflow::new(options, span, now, intake, evaluator.lend_dedupe());
    let mut judging = Judging {
        evaluator,
        sinks,
        progress: progress.clone(),
        since: span.since,
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
    if judging.live {
        judging.evaluator.go_live();
    }
    let read = std::thread::scope(|scope| {
        let progress = &progress;
        let reader = scope.spawn(move || inflow.read(files, |bytes| progress.add(bytes)));
        batches.each(|time, seen| judging.take(time, seen));
        let read = reader.join();
        read.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    judging.evaluator.take_dedupe_back(read.dedupe);
    let mut stats = SplitStats::default();
    for file in read.files {
        stats.add(file.stats);
        if let Some(error) = file.error {
            unreadable += 1;
            let (name, why) = (&file.info.name, reason(&error));
            say(
                &mut judging.sinks,
                &format!("cannot read {name} to its end: {why}"),
            );
        }
    }
    progress.finish();
    judging.end();
    let mut journal = judging.journal.unwrap_or_default();
    journal.finish();
    judging.timeline.finish();
    Ok(Pass {
        pipeline: Pipeline::of(read.intake, judging.evaluator),
        episodes: judging.episodes,
        journal,
        timeline: judging.timeline,
        lanes: judging.lanes.finish(),
        n_files,
        stats,
        reach: read.reach,
        unreadable,
    })
}

/// Gives what was read to the rules, and draws it.
struct Judging<'a> {
    evaluator: Evaluator,
    sinks: Option<&'a mut Sinks>,
    progress: Progress,
    since: Option<Time>,
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

impl Judging<'_> {
    /// Takes in what was seen, and the thing itself if it is wanted elsewhere too.
    fn take(&mut self, time: Option<Time>, seen: &mut Option<Seen>) {
        if let Some(since) = self
            .since
            .filter(|since| !self.live && time.is_some_and(|time| time >= *since))
        {
            lanes::begin(&mut self.evaluator, since);
            self.lanes.begin(since);
            self.live = true;
        }
        if let Some(seen) = seen {
            seen.feed(&mut self.evaluator);
            if self.live {
                self.draw(seen, time);
            }
            if let Some(journal) = self.journal.as_mut().filter(|_| self.live) {
                journal.note(seen, self.evaluator.last_waste());
            }
        }
        if self.lanes.are_fed()
            && let Some(seen) = seen.take()
        {
            self.lanes.feed(seen, self.evaluator.take_change());
        }
        self.tell();
    }

    /// Nothing more will come.
    fn end(&mut self) {
        if let Some(since) = self.since.filter(|_| !self.live) {
            // Nothing lies in the span.
            self.evaluator.begin_span(Some(since));
            self.lanes.begin(since);
        }
        self.evaluator.stop();
        self.tell();
    }

    /// Adds what was seen to the log over time.
    fn draw(&mut self, seen: &Seen, time: Option<Time>) {
        let evaluator = &self.evaluator;
        self.timeline.note(seen, evaluator.last_waste().0);
        if let Some(time) = time.filter(|_| self.with_limits) {
            self.timeline.note_limits(time, || {
                evaluator.limits_of_all().map(|(.., limit)| limit).collect()
            });
        }
    }

    /// Hands on what there is to tell.
    fn tell(&mut self) {
        if !self.evaluator.has_notices() {
            return;
        }
        let episodes = &mut self.episodes;
        match &mut self.sinks {
            Some(sinks) => {
                let evaluator = &mut self.evaluator;
                self.progress.aside(|| {
                    give(evaluator, sinks, None, |notices| episodes.note(notices));
                });
            }
            None => episodes.note(&self.evaluator.take_notices()),
        }
    }
}
