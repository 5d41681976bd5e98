//! `replay`: the same engine over history, as fast as it can be read.
//!
//! Reads no clock: "now" is an argument, and time is that of the records.

mod chart;
mod check;
mod episodes;
mod explain;
mod figures;
mod incidents;
mod inflow;
mod inputs;
mod journal;
mod kin;
mod lanes;
mod page;
mod page_file;
mod pass;
mod report;
mod score;
mod strip;
mod suggest;
mod suggestion;
mod table;
mod timeline;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::config::{Options, Span};
use crate::monitor::{Rule, Time};
use crate::run::{Exit, summary_fields};
use crate::sink::{self, Files, Mode, Sinks, Summary, SummaryFields, count, counted};
use crate::source::Input;
use chart::Curve;
use figures::Tried;
use incidents::Incident;
use page::Page;
use page_file::PageFile;
use pass::{Pass, pass};
use report::{Coverage, Finding, Report};
use suggestion::{Chosen, Suggestion, three_times_usual, try_suggestion};

pub use check::check_models;
pub use explain::explain_rules;
pub use inputs::Missing;

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
    let page = lab.report.as_deref().map(PageFile::create).transpose()?;
    let mut sinks = Sinks::new(&options.output, Mode::Replay, span.run_hooks);
    sinks.refresh(now);
    let mut passed = pass(options, span, now, &choices, Some(&mut sinks))?;
    sinks.end_minute();
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
    let exit = conclude(options, span, &found, page, &mut sinks)?;
    sinks.finish(HOOK_PATIENCE);
    for (stream, lost) in sinks.lost() {
        if lost > 0 {
            let messages = counted(lost, "message");
            bail!("cannot write to {stream}: {messages} did not get through");
        }
    }
    let is_failure = |severity| found.passed.episodes.any_as_severe_as(severity);
    Ok(match exit {
        Exit::Clean if found.passed.unreadable > 0 => Exit::Unreadable,
        Exit::Clean if lab.fail_on.is_some_and(is_failure) => Exit::Found,
        other => other,
    })
}

/// What a replay has found, to be made words of.
struct Found {
    passed: Pass,
    incidents: Vec<Incident>,
    suggestion: Option<Suggestion>,
}

/// Says what came of it: the report, or why there is none.
fn conclude(
    options: &Options,
    span: &Span,
    found: &Found,
    page: Option<PageFile>,
    sinks: &mut Sinks,
) -> Result<Exit> {
    let Pass {
        pipeline,
        n_files,
        stats,
        reach,
        ..
    } = &found.passed;
    let (n_files, stats) = (*n_files, *stats);
    let totals = pipeline.evaluator.totals();
    let counts = pipeline.intake.counts();
    let fields = SummaryFields {
        longest_gap: found.passed.timeline.longest_gap(),
        ..summary_fields(Files::Count(n_files), counts, stats)
    };
    let time_span = totals.span.unwrap_or_default();
    let (findings, curve) = if totals.records > 0 {
        findings(span, found, time_span, sinks)?
    } else {
        (Vec::new(), None)
    };
    if let Some(json) = &mut sinks.json {
        sink::unless_closed(json.summary(&Summary {
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
        reach: *reach,
        learning: pipeline.evaluator.learning(),
    };
    if totals.records == 0 && totals.reconciled == 0 {
        for line in report::no_data(&coverage, totals) {
            sinks.printer.line(&line);
        }
        if let Some(page) = page {
            sinks.printer.line(&page.not_written());
        }
        return Ok(Exit::NoUsage);
    }
    // Batch results have no times and need none: they are in no window.
    let timeless =
        totals.undated + totals.bad_time == totals.records && totals.batch < totals.records;
    let report = Report {
        coverage,
        totals,
        episodes: &found.passed.episodes,
        findings: &findings,
        timeline: &found.passed.timeline,
        style: options.output.stdout,
    };
    if !options.output.json {
        sink::print(&report.to_string())?;
    }
    if let Some(file) = page {
        let limits = pipeline.evaluator.limits_of_all();
        let page = Page {
            report: &report,
            timeline: &found.passed.timeline,
            limits: limits.map(|(rule, secs, _)| (&**rule, secs)).collect(),
            curve,
        };
        file.write(&page.html())?;
    }
    if !timeless {
        return Ok(Exit::Clean);
    }
    let responses = match (totals.records, totals.bad_time) {
        (1, 0) => "the response names no time".to_owned(),
        (1, _) => "the response names a time that cannot be".to_owned(),
        (n, 0) => format!("none of the {} responses names a time", count(n)),
        (n, _) => format!(
            "none of the {} responses names a time that can be",
            count(n)
        ),
    };
    let way_out = if totals.bad_time > 0 {
        "say which zone they are of with --assume-tz, name another place with --time-field /where/it/stands"
    } else {
        "name its place with --time-field /where/it/stands"
    };
    sinks.printer.line(&format!(
        "{responses}, so no rule could be tried; {way_out}, or make times up with --assume-interval 1s"
    ));
    Ok(Exit::NoTimes)
}

/// What the laboratory was asked for: tables for people, and at once the objects for programs.
fn findings(
    span: &Span,
    found: &Found,
    (first, last): (Time, Time),
    sinks: &Sinks,
) -> Result<(Vec<Finding>, Option<Curve>)> {
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
    let score =
        (!incidents.is_empty()).then(|| score::judge(incidents, episodes, journal, response));
    if let Some(score) = &score {
        if let Some(json) = &sinks.json {
            sink::unless_closed(json.write(&figures::incidents_object(incidents, score)))?;
        }
        findings.push(Finding {
            title: "Incidents",
            rows: figures::incidents(incidents, score),
            sentences: figures::verdict(score, last.millis_since(first)),
        });
    }
    if let Some(without) = lab.without_secs {
        let impact = score::impact(episodes, journal, response, without);
        if let Some(json) = &sinks.json {
            sink::unless_closed(json.write(&figures::impact_object(&impact, response, without)))?;
        }
        findings.push(Finding {
            title: "What the alerts save",
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
            sink::unless_closed(json.write(&figures::sweep_object(&lab.axes, one, last)))?;
        }
    }
    let present = (episodes, score.as_ref());
    let curve = (!tried.is_empty()).then(|| figures::curve(&tried, present, last));
    if !tried.is_empty() {
        findings.push(Finding {
            title: "What was tried",
            rows: figures::sweep(&lab.axes, &tried, (first, last)),
            sentences: Vec::new(),
        });
    }
    if let Some(suggestion) = suggestion {
        if let Some(json) = &sinks.json {
            sink::unless_closed(json.write(&suggestion.object()))?;
        }
        findings.push(suggestion.finding());
    }
    Ok((findings, curve))
}
