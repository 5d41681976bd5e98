//! `replay`: the same engine over history, as fast as it can be read.
//!
//! Reads no clock: "now" is an argument, and time is that of the records.

mod check;
mod episodes;
mod explain;
mod figures;
mod incidents;
mod journal;
mod lanes;
mod report;
mod score;
mod suggest;
mod table;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::config::{Options, Span, Suggest};
use crate::monitor::{Rule, Stamp, Time, Usual};
use crate::pipeline::{Digest, Event, IntakeAhead, Pipeline};
use crate::price::PicoUsd;
use crate::run::{Exit, give, summary_fields};
use crate::sink::{Files, Mode, Outlet, Progress, Sinks, Summary, count};

use crate::source::{
    Decode, HistoryFile, Input, Line, Names, SourceInfo, SplitStats, discover, merge, reason,
};
use episodes::Episodes;
use figures::Tried;
use incidents::Incident;
use journal::Journal;
use lanes::Lanes;
use report::{Coverage, Finding, Report};

pub use check::check_models;
pub use explain::explain_rules;

/// Hooks of a replay may go on for so long after its end.
const HOOK_PATIENCE: Duration = Duration::from_hours(1);

/// Runs the rules over history: alerts on stderr, the report on stdout.
///
/// # Errors
/// If a named input is missing or not one record has a time.
pub fn replay(options: &Options, span: &Span, now: Time) -> Result<Exit> {
    let zone = options.output.stderr.clock.zone;
    let lab = &span.lab;
    let incidents = match &lab.labels {
        Some(path) => incidents::read(path, &options.settings.rules, now, zone)?,
        None => Vec::new(),
    };
    let candidates = match &lab.suggest {
        Some(_)
            if options
                .inputs
                .iter()
                .any(|i| matches!(i, Input::Stdin | Input::Pipe(_))) =>
        {
            bail!("--suggest reads the log twice, which cannot be done with a pipe; name the file");
        }
        Some(_) => suggest::candidates(&options.settings.rules),
        None => Vec::new(),
    };
    let mut choices: Vec<Vec<Rule>> = lab.combinations.iter().map(|c| c.rules.clone()).collect();
    for candidate in &candidates {
        choices.push(lab.rules_with(&[candidate.assignment()])?);
    }
    let mut sinks = Sinks::new(&options.output, Mode::Replay, span.run_hooks);
    sinks.refresh(now);
    let mut passed = pass(options, span, now, choices, Some(&mut sinks))?;
    let tried = passed.lanes.split_off(lab.combinations.len());
    let suggestion = match &lab.suggest {
        Some(suggest) if passed.pipeline.evaluator.totals().records > 0 => {
            let chosen = Chosen {
                suggest,
                candidates: &candidates,
                tried: &tried,
                incidents: &incidents,
                three_times_usual: three_times_usual(&mut passed.pipeline),
            };
            Some(try_suggestion(options, span, now, &passed, &chosen)?)
        }
        _ => None,
    };
    let found = Found {
        passed,
        incidents,
        suggestion,
    };
    let exit = conclude(options, span, &found, &mut sinks)?;
    sinks.finish(HOOK_PATIENCE);
    let is_failure = |severity| found.passed.episodes.any_as_severe_as(severity);
    Ok(match exit {
        Exit::Clean if found.passed.unreadable > 0 => Exit::Unreadable,
        Exit::Clean if lab.fail_on.is_some_and(is_failure) => Exit::Found,
        other => other,
    })
}

/// What one pass over a log has found.
struct Pass {
    pipeline: Pipeline,
    episodes: Episodes,
    journal: Journal,
    /// What was told with each other choice of rules.
    lanes: Vec<Episodes>,
    n_files: usize,
    stats: SplitStats,
    unreadable: usize,
}

/// Goes through a log once, with the rules in force and with other choices of them. Without sinks nothing is told.
fn pass(
    options: &Options,
    span: &Span,
    now: Time,
    choices: Vec<Vec<Rule>>,
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
        .and_time(chrono::NaiveTime::MIN)
        .and_utc()
        .timestamp_millis();
    let oldest = span
        .since
        .map(|since| since.plus_secs(-options.history_secs()));
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
        episodes: Episodes::default(),
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
    Ok(Pass {
        pipeline: replay.pipeline,
        episodes: replay.episodes,
        journal,
        lanes: replay.lanes.finish(),
        n_files,
        stats,
        unreadable,
    })
}

/// What a suggestion is chosen from.
struct Chosen<'a> {
    suggest: &'a Suggest,
    candidates: &'a [suggest::Candidate],
    tried: &'a [Episodes],
    incidents: &'a [Incident],
    three_times_usual: Option<PicoUsd>,
}

/// Chooses on what lies before `--train-until`, or on all of it, and tries the choice as a whole in a pass of its own.
fn try_suggestion(
    options: &Options,
    span: &Span,
    now: Time,
    passed: &Pass,
    chosen: &Chosen<'_>,
) -> Result<Suggestion> {
    let Suggest {
        page_cost,
        train_until,
    } = *chosen.suggest;
    let (first, last) = passed.pipeline.evaluator.totals().span.unwrap_or_default();
    let end = Time(last.0 + 1);
    let until = train_until.unwrap_or(end).clamp(first, end);
    let part = |from, to| suggest::Part {
        from,
        to,
        journal: &passed.journal,
        incidents: chosen.incidents,
        present: &passed.episodes,
        page_cost,
        response_secs: span.lab.response_secs,
    };
    let training = part(first, until);
    let rest = part(until, end);
    let mut best = suggest::choose(chosen.candidates, chosen.tried, &training);
    let changes: Vec<String> = best.iter().map(suggest::Candidate::assignment).collect();
    let mut with = options.clone();
    with.settings.rules = span.lab.rules_with(&changes)?;
    let second = pass(&with, span, now, Vec::new(), None)?;
    let present = training.cost(&passed.episodes);
    let mut suggested = training.cost(&second.episodes);
    let mut episodes = &second.episodes;
    if suggested.all >= present.all {
        // Each is better alone, but not all of them together.
        best.clear();
        suggested = present;
        episodes = &passed.episodes;
    }
    let name = if until < end { "training" } else { "all of it" };
    let mut parts = vec![(name, until.millis_since(first), present, suggested)];
    if until < end {
        let costs = (rest.cost(&passed.episodes), rest.cost(episodes));
        parts.push(("the rest", end.millis_since(until), costs.0, costs.1));
    }
    Ok(Suggestion {
        toml: suggest::toml(&best),
        changes: best.iter().map(suggest::Candidate::assignment).collect(),
        rows: suggest::comparison(&parts),
        costs: parts
            .into_iter()
            .map(|(name, _, a, b)| (name, a, b))
            .collect(),
        by_labels: !chosen.incidents.is_empty(),
        page_cost,
        three_times_usual: chosen.three_times_usual,
    })
}

impl Suggestion {
    fn finding(&self) -> Finding {
        let measure = if self.by_labels {
            "what was lost is that of the labelled incidents"
        } else {
            "without --labels, what the present rules told and cost more than a page stands for incidents"
        };
        let mut sentences = vec![format!("a page costs {}; {measure}", self.page_cost)];
        if let Some(limit) = self.three_times_usual {
            sentences.push(format!(
                "three times what is usual would be {limit} a minute (--cost-rate)"
            ));
        }
        if self.toml.is_empty() {
            sentences.push("nothing tried costs less than the rules as they are".to_owned());
        } else {
            sentences.push("for claude-tokmon.toml:".to_owned());
            sentences.push(String::new());
            sentences.extend(self.toml.lines().map(str::to_owned));
        }
        Finding {
            rows: self.rows.clone(),
            sentences,
        }
    }

    fn object(&self) -> impl serde::Serialize {
        let parts = self.costs.iter().map(|(name, present, suggested)| {
            let cost = |cost: &suggest::Cost| {
                serde_json::json!({
                    "alerts": cost.alerts, "pages": cost.pages,
                    "lost_usd": crate::sink::usd(cost.lost), "cost_usd": crate::sink::usd(cost.all),
                })
            };
            serde_json::json!({ "part": name, "present": cost(present), "suggested": cost(suggested) })
        });
        serde_json::json!({
            "schema": 1, "event": "suggestion", "set": self.changes, "toml": self.toml,
            "page_cost_usd": crate::sink::usd(self.page_cost), "parts": parts.collect::<Vec<_>>(),
        })
    }
}

/// Three times what a minute usually costs, as a limit for `cost-rate`.
fn three_times_usual(pipeline: &mut Pipeline) -> Option<PicoUsd> {
    let explained = pipeline.evaluator.explain();
    let rate = explained
        .iter()
        .find(|rule| &*rule.rule.name == "cost-rate")?;
    let usual = Some(rate.usual).filter(Usual::is_learned)?;
    Some(PicoUsd(3 * usual.usual))
}

/// What is suggested, and what it comes to.
struct Suggestion {
    /// As a configuration; empty if nothing is better than what is in force.
    toml: String,
    changes: Vec<String>,
    rows: Vec<Vec<String>>,
    costs: Vec<(&'static str, suggest::Cost, suggest::Cost)>,
    by_labels: bool,
    page_cost: PicoUsd,
    three_times_usual: Option<PicoUsd>,
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
    /// What each response cost, if somebody wants to know afterwards.
    journal: Option<Journal>,
    lanes: Lanes,
}

/// What a replay has found, to be made words of.
struct Found {
    passed: Pass,
    incidents: Vec<Incident>,
    suggestion: Option<Suggestion>,
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
            if let Some(journal) = self.journal.as_mut().filter(|_| self.live) {
                journal.note(&seen, self.pipeline.evaluator.last_waste());
            }
            self.lanes.feed(seen);
        }
        self.tell();
    }
}

impl Replay<'_> {
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

/// Says what came of it: the report, or why there is none.
fn conclude(options: &Options, span: &Span, found: &Found, sinks: &mut Sinks) -> Result<Exit> {
    let Pass {
        pipeline,
        n_files,
        stats,
        ..
    } = &found.passed;
    let (n_files, stats) = (*n_files, *stats);
    let totals = pipeline.evaluator.totals();
    let counts = pipeline.intake.counts();
    let fields = summary_fields(Files::Count(n_files), counts, stats);
    let time_span = totals.span.unwrap_or_default();
    let findings = if totals.records > 0 {
        findings(span, found, time_span, sinks)?
    } else {
        Vec::new()
    };
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
            episodes: &found.passed.episodes,
            findings: &findings,
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

/// What the laboratory was asked for: tables for people, and at once the objects for programs.
fn findings(
    span: &Span,
    found: &Found,
    (first, last): (Time, Time),
    sinks: &Sinks,
) -> Result<Vec<Finding>> {
    let lab = &span.lab;
    let Found {
        passed,
        incidents,
        suggestion,
    } = found;
    let Pass {
        episodes,
        journal,
        lanes,
        ..
    } = passed;
    let response = lab.response_secs;
    let mut findings = Vec::new();
    if !incidents.is_empty() {
        let score = score::judge(incidents, episodes, journal, response);
        if let Some(json) = &sinks.json {
            ignore_closed(json.write(&figures::incidents_object(incidents, &score)))?;
        }
        findings.push(Finding {
            rows: figures::incidents(incidents, &score),
            sentences: figures::verdict(&score, last.millis_since(first)),
        });
    }
    if let Some(without) = lab.without_secs {
        let impact = score::impact(episodes, journal, response, without);
        if let Some(json) = &sinks.json {
            ignore_closed(json.write(&figures::impact_object(&impact, response, without)))?;
        }
        findings.push(Finding {
            rows: vec![table::row(&["what the alerts save"])],
            sentences: figures::impact(&impact, response, without),
        });
    }
    let tried: Vec<Tried<'_>> = lab
        .combinations
        .iter()
        .zip(lanes)
        .map(|(combination, episodes)| Tried {
            combination,
            episodes: episodes.clone(),
            score: (!incidents.is_empty())
                .then(|| score::judge(incidents, episodes, journal, response)),
        })
        .collect();
    if let Some(json) = &sinks.json {
        for one in &tried {
            ignore_closed(json.write(&figures::sweep_object(&lab.axes, one, last)))?;
        }
    }
    if !tried.is_empty() {
        findings.push(Finding {
            rows: figures::sweep(&lab.axes, &tried, (first, last)),
            sentences: Vec::new(),
        });
    }
    if let Some(suggestion) = suggestion {
        if let Some(json) = &sinks.json {
            ignore_closed(json.write(&suggestion.object()))?;
        }
        findings.push(suggestion.finding());
    }
    Ok(findings)
}

/// A reader that has seen enough is no error.
fn ignore_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
