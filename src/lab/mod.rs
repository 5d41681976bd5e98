//! `replay`: the same engine over history, as fast as it can be read.
//!
//! Reads no clock: "now" is an argument, and time is that of the records.

mod check;
mod explain;
mod report;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::config::{Options, Span};
use crate::monitor::{Stamp, Time};
use crate::pipeline::{Event, Pipeline, Undated};
use crate::run::{Exit, give, summary_fields};
use crate::sink::{Files, Mode, Outlet, Sinks, Summary, count};

use crate::source::{
    Decode, HistoryFile, Input, Line, Names, SourceInfo, SplitStats, discover, merge, reason,
};
use report::{Coverage, Episodes, Report};

pub use check::check_models;
pub use explain::explain_rules;

/// Hooks of a replay may go on for so long after its end.
const HOOK_PATIENCE: Duration = Duration::from_hours(1);

/// Runs the rules over history: alerts on stderr, the report on stdout.
///
/// # Errors
/// If a named input is missing or not one record has a time.
pub fn replay(options: &Options, span: &Span, now: Time) -> Result<Exit> {
    let mut sinks = Sinks::new(&options.output, Mode::Replay, span.run_hooks);
    sinks.refresh(now);
    let (files, errors) = open_all(&options.inputs)?;
    let mut unreadable = errors.len();
    for error in &errors {
        sinks.printer.line(error);
    }
    let n_files = files.len();
    let pipeline = Pipeline::new(
        options.parse.clone(),
        options.prices.clone(),
        options.settings.clone(),
    );
    let start = options
        .prices
        .as_of
        .and_time(chrono::NaiveTime::MIN)
        .and_utc()
        .timestamp_millis();
    let oldest = span
        .since
        .map(|since| since.plus_secs(-options.history_secs()));
    let mut replay = Replay {
        pipeline,
        sinks: &mut sinks,
        span: span.clone(),
        now,
        oldest,
        made_up: MadeUpTimes {
            start,
            interval_ms: span.assume_interval_ms,
            last: HashMap::new(),
        },
        live: false,
        episodes: Episodes::default(),
    };
    if span.since.is_none() {
        replay.pipeline.evaluator.go_live();
        replay.live = true;
    }
    let mut stats = SplitStats::default();
    for file in merge(files, &mut replay, |_| {}) {
        stats.add(file.stats);
        if let Some(error) = file.error {
            unreadable += 1;
            replay.sinks.printer.line(&format!(
                "cannot read {} to its end: {}",
                file.info.name,
                reason(&error)
            ));
        }
    }
    let Replay {
        mut pipeline,
        live,
        mut episodes,
        ..
    } = replay;
    if !live && let Some(since) = span.since {
        // Nothing lies in the span.
        pipeline.evaluator.begin_span(Some(since));
    }
    pipeline.evaluator.stop();
    let stopped = pipeline.take_notices();
    episodes.note(&stopped);
    sinks.tell(&stopped, None);
    let exit = conclude(
        options,
        span,
        &pipeline,
        &episodes,
        (n_files, stats),
        &mut sinks,
    )?;
    sinks.finish(HOOK_PATIENCE);
    Ok(if unreadable > 0 && exit == Exit::Clean {
        Exit::Unreadable
    } else {
        exit
    })
}

/// Opens what the inputs name, and says of which it could not. A name that leads nowhere ends the run; one bad file among many
/// does not.
fn open_all(inputs: &[Input]) -> Result<(Vec<HistoryFile>, Vec<String>)> {
    let mut files = Vec::new();
    let (found, _, mut errors) = discover(inputs, Names::Compressed);
    for input in inputs {
        match input {
            Input::Stdin => files.push(HistoryFile::stdin()),
            Input::Pipe(path) => files.push(HistoryFile::pipe(path)?),
            Input::File(path) if !path.exists() => {
                bail!(Missing(format!(
                    "cannot read {}: there is no such file",
                    path.display()
                )));
            }
            Input::Glob {
                pattern, matcher, ..
            } => {
                let any = found.iter().any(|file| {
                    let plain = file.path.strip_prefix("./").unwrap_or(&file.path);
                    matcher.is_match(&file.path) || matcher.is_match(plain)
                });
                if !any {
                    bail!(Missing(format!("no file matches \"{pattern}\"")));
                }
            }
            Input::File(_) | Input::Dir(_) => {}
        }
    }
    for file in &found {
        match HistoryFile::whole(file) {
            Ok(file) => files.push(file),
            Err(e) => errors.push((file.path.clone(), e)),
        }
    }
    let errors: Vec<String> = errors
        .iter()
        .map(|(path, error)| format!("cannot read {}: {}", path.display(), reason(error)))
        .collect();
    if files.is_empty() && !errors.is_empty() {
        bail!(Missing(errors.join("; ")));
    }
    Ok((files, errors))
}

/// Reads all that the inputs name, and says of which it could not; gives how many.
fn read_all(inputs: &[Input], decoder: &mut impl Decode, err: &Outlet) -> Result<usize> {
    let (files, errors) = open_all(inputs)?;
    let mut unreadable = errors.len();
    for error in errors {
        err.write(&format!("{error}\n"))?;
    }
    for file in merge(files, decoder, |_| {}) {
        if let Some(error) = file.error {
            unreadable += 1;
            let name = &file.info.name;
            let reason = reason(&error);
            err.write(&format!("cannot read {name} to its end: {reason}\n"))?;
        }
    }
    Ok(unreadable)
}

/// An input that is not there or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(String);

/// Feeds history to the pipeline, in time order.
struct Replay<'a> {
    pipeline: Pipeline,
    sinks: &'a mut Sinks,
    span: Span,
    now: Time,
    /// Records before this are old.
    oldest: Option<Time>,
    made_up: MadeUpTimes,
    /// The span has begun.
    live: bool,
    episodes: Episodes,
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
            self.pipeline.tick(since);
            self.pipeline.evaluator.begin_span(Some(since));
            self.pipeline.evaluator.go_live();
            self.live = true;
        }
        self.pipeline.feed(event, Undated::TotalsOnly, self.oldest);
        let episodes = &mut self.episodes;
        give(&mut self.pipeline, self.sinks, None, |notices| {
            episodes.note(notices);
        });
    }
}

/// Says what came of it: the report, or why there is none.
fn conclude(
    options: &Options,
    span: &Span,
    pipeline: &Pipeline,
    episodes: &Episodes,
    (n_files, stats): (usize, SplitStats),
    sinks: &mut Sinks,
) -> Result<Exit> {
    let totals = pipeline.evaluator.totals();
    let counts = pipeline.intake.counts();
    let fields = summary_fields(Files::Count(n_files), counts, stats);
    if let Some(json) = &mut sinks.json {
        ignore_closed(json.summary(&Summary {
            totals,
            fields: &fields,
        }))?;
    }
    let coverage = Coverage {
        options,
        span,
        counts,
        stats,
        n_files,
        learning: pipeline.evaluator.learning(),
    };
    if totals.records == 0 && totals.reconciled == 0 {
        for line in report::no_data(&coverage, totals) {
            sinks.printer.line(&line);
        }
        return Ok(Exit::NoUsage);
    }
    // Batch results have no times and need none: they are in no window.
    let timeless =
        totals.undated + totals.bad_time == totals.records && totals.batch < totals.records;
    if !options.output.json {
        let report = Report {
            coverage,
            totals,
            episodes,
            style: options.output.stdout,
        };
        ignore_closed(Outlet::direct(io::stdout()).write(&report.to_string()))?;
    }
    if !timeless {
        return Ok(Exit::Clean);
    }
    let responses = match totals.records {
        1 => "the response names no time".to_owned(),
        n => format!("none of the {} responses names a time", count(n)),
    };
    sinks.printer.line(&format!(
        "{responses}, so no rule could be tried; name its place with --time-field /where/it/stands, or make times up with --assume-interval 1s"
    ));
    Ok(Exit::NoTimes)
}

/// A reader that has seen enough is no error.
fn ignore_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
