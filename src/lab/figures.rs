//! The figures of the laboratory, for people and for programs: incidents, impact, sweeps.
//!
//! Words and columns only; what they say was computed elsewhere.

use serde::Serialize;

use super::chart::{Curve, Point};
use super::episodes::Episodes;
use super::incidents::Incident;
use super::score::{Impact, Score};
use super::table::row;
use crate::config::{Axis, Combination, write_duration};
use crate::monitor::Time;
use crate::price::PicoUsd;
use crate::sink::{Number, clean, count, counted, duration, rfc3339, usd};

/// What one choice of rules comes to.
pub(super) struct Tried<'a> {
    pub(super) combination: &'a Combination,
    pub(super) episodes: Episodes,
    pub(super) score: Option<Score>,
}

/// `12.3`, per day; none for less than a day.
fn rate(n: u64, span_ms: i64) -> Option<String> {
    let ms = u64::try_from(span_ms).ok().filter(|ms| *ms >= 86_400_000)?;
    let tenths = (n * 864_000_000 + ms / 2) / ms;
    Some(format!("{}.{}", tenths / 10, tenths % 10))
}

/// The same in a table, where `-` stands for none.
pub(super) fn per_day(n: u64, span_ms: i64) -> String {
    rate(n, span_ms).unwrap_or_else(|| "-".to_owned())
}

/// `87.5 %`; `-` of nothing.
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = (part * 1000 + whole / 2) / whole;
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn percent_of_dollars(part: PicoUsd, whole: PicoUsd) -> String {
    let micros = |amount: PicoUsd| u64::try_from(amount.to_micros()).unwrap_or(0);
    percent(micros(part), micros(whole))
}

fn seconds(ms: i64) -> String {
    duration(ms / 1000)
}

/// What became of each incident, and all of them together.
pub(super) fn incidents(incidents: &[Incident], score: &Score) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "incident", "found by", "after", "exposed", "saved", "",
    ])];
    for (incident, judged) in incidents.iter().zip(&score.judged) {
        let (by, after) = match (&judged.by, judged.first, judged.told) {
            (Some(by), ..) => (clean(by).into_owned(), seconds(judged.censored_ms)),
            (None, Some(_), _) => ("missed".to_owned(), seconds(judged.censored_ms)),
            _ => ("-".to_owned(), "-".to_owned()),
        };
        let why = match judged.first {
            None => Some("outside of the log"),
            Some(_) => judged.is_free.then_some("no affected record in the log"),
        };
        let note = incident.note.as_deref().map(clean);
        let note: Vec<&str> = why.into_iter().chain(note.as_deref()).collect();
        rows.push(vec![
            clean(&incident.id).into_owned(),
            by,
            after,
            judged.exposed.to_string(),
            (judged.whole - judged.exposed).to_string(),
            note.join("; "),
        ]);
    }
    rows
}

/// The sentences under the table of incidents.
pub(super) fn verdict(score: &Score, span_ms: i64) -> Vec<String> {
    let n = score.in_log();
    let alarms = score.true_alarms + score.false_alarms;
    let rate = rate(score.false_alarms, span_ms);
    let per_day = rate.map_or_else(String::new, |rate| format!(", {rate} a day"));
    let false_alarms = counted(score.false_alarms, "false alarm");
    let mut lines = vec![format!(
        "{} of {} incidents found (recall {}); {} of {} alerts during one (precision {}); {false_alarms}{per_day}",
        count(score.found()),
        count(n),
        percent(score.found(), n),
        count(score.true_alarms),
        count(alarms),
        percent(score.true_alarms, alarms),
    )];
    let outside = score.judged.len() as u64 - n;
    if outside > 0 {
        let incidents = counted(outside, "incident");
        let verb = if outside == 1 { "lies" } else { "lie" };
        lines.push(format!("{incidents} {verb} outside of the log"));
    }
    if let (Some((mean, median)), Some((all, _))) = (score.time_to_detect(), score.censored()) {
        lines.push(format!(
            "time to detect: mean {}, median {}; with misses at their full length, mean {}",
            seconds(mean),
            seconds(median),
            seconds(all)
        ));
    }
    let (exposed, whole) = (score.exposed(), score.whole());
    lines.push(format!(
        "{exposed} of {whole} were spent before anything was done; {} saved ({})",
        whole - exposed,
        percent_of_dollars(whole - exposed, whole)
    ));
    lines
}

/// What the alerts save.
pub(super) fn impact(impact: &Impact, response_secs: i64, without_secs: i64) -> Vec<String> {
    if impact.episodes == 0 {
        return vec!["no alert that costs anything: there is nothing to save".to_owned()];
    }
    let answer = match response_secs {
        0 => "at once".to_owned(),
        secs => format!("within {}", write_duration(secs)),
    };
    let alerts = match impact.episodes {
        1 => "the alert".to_owned(),
        n => format!("{} alerts", count(n)),
    };
    let mut lines = Vec::new();
    if impact.wasted > PicoUsd::ZERO {
        lines.push(format!(
            "{} billed for prompt that had been cached, {} more than from the cache",
            impact.billed, impact.wasted
        ));
    }
    let saved = impact.without - impact.with;
    lines.push(format!(
        "{} lost if nobody notices for {}; {} if {alerts} {} answered {answer}: {saved} saved ({})",
        impact.without,
        write_duration(without_secs),
        impact.with,
        if impact.episodes == 1 { "is" } else { "are" },
        percent_of_dollars(saved, impact.without)
    ));
    if impact.is_cut {
        lines.push(
            "some ended sooner, in the log or with it: without alerts it may have been more"
                .to_owned(),
        );
    }
    lines
}

/// Milliseconds that episodes were on, from the first notice to the end.
fn on_ms(episodes: &Episodes, end: Time) -> i64 {
    let all = episodes.all();
    all.map(|told| told.until(end).millis_since(told.first))
        .sum()
}

fn hours(ms: i64) -> String {
    let tenths = (ms + 180_000) / 360_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A row for each combination; many that come to the same are one.
pub(super) fn sweep(
    axes: &[Axis],
    tried: &[Tried<'_>],
    (first, end): (Time, Time),
) -> Vec<Vec<String>> {
    let span_ms = end.millis_since(first);
    let mut head: Vec<String> = axes
        .iter()
        .map(|axis| clean(&axis.field).into_owned())
        .collect();
    head.extend(row(&["alerts", "a day", "notices", "hours on", "exposed"]));
    let is_scored = tried.iter().any(|tried| tried.score.is_some());
    if is_scored {
        head.extend(row(&[
            "found",
            "precision",
            "median",
            "false a day",
            "lost",
            "saved",
        ]));
    }
    let mut rows = vec![head];
    for Tried {
        combination,
        episodes,
        score,
    } in tried
    {
        let mut cells = combination.values.clone();
        let alerts = episodes.all().count() as u64;
        let notices = episodes.all().map(|told| told.notices).sum();
        let exposed = episodes.exposed(end);
        cells.extend([
            count(alerts),
            per_day(alerts, span_ms),
            count(notices),
            hours(on_ms(episodes, end)),
            exposed.to_string(),
        ]);
        if let Some(score) = score {
            let alarms = score.true_alarms + score.false_alarms;
            let median = score.time_to_detect();
            cells.extend([
                percent(score.found(), score.in_log()),
                percent(score.true_alarms, alarms),
                median.map_or_else(|| "-".to_owned(), |(_, median)| seconds(median)),
                per_day(score.false_alarms, span_ms),
                score.exposed().to_string(),
                (score.whole() - score.exposed()).to_string(),
            ]);
        }
        rows.push(cells);
    }
    let tried = fold(&rows[1..], 0, axes.len());
    rows.truncate(1);
    rows.extend(tried);
    rows
}

/// So many values that come to the same are worth one.
const MANY: usize = 3;

/// Puts many values in a row in one if all else is the same with each of them. The first cells are values of axes, of which the
/// last changes with each row.
fn fold(rows: &[Vec<String>], axis: usize, n_axes: usize) -> Vec<Vec<String>> {
    if axis == n_axes {
        return rows.to_vec();
    }
    let blocks: Vec<_> = rows
        .chunk_by(|row, next| row[axis] == next[axis])
        .map(|block| fold(block, axis + 1, n_axes))
        .collect();
    let besides = |row: &Vec<String>, next: &Vec<String>| row[axis + 1..] == next[axis + 1..];
    let are_alike = |block: &Vec<Vec<String>>, next: &Vec<Vec<String>>| {
        block.len() == next.len() && block.iter().zip(next).all(|(row, next)| besides(row, next))
    };
    let mut folded = Vec::new();
    for run in blocks.chunk_by(are_alike) {
        match run {
            [first, .., last] if run.len() >= MANY => {
                let values = format!(
                    "{} … {} ({} values)",
                    first[0][axis],
                    last[0][axis],
                    run.len()
                );
                folded.extend(first.iter().cloned().map(|mut row| {
                    row[axis].clone_from(&values);
                    row
                }));
            }
            few => folded.extend(few.iter().flatten().cloned()),
        }
    }
    folded
}

/// What each combination costs in attention and in dollars, with the rules in force among them.
pub(super) fn curve(tried: &[Tried<'_>], present: (&Episodes, Option<&Score>), end: Time) -> Curve {
    let place = |episodes: &Episodes, score: Option<&Score>| match score {
        Some(score) => (score.false_alarms, score.exposed()),
        None => (episodes.all().count() as u64, episodes.exposed(end)),
    };
    // Many settings come to the same.
    let mut points: Vec<((u64, PicoUsd), Vec<String>)> = Vec::new();
    for tried in tried {
        let at = place(&tried.episodes, tried.score.as_ref());
        let name = tried.combination.values.join(", ");
        match points.iter_mut().find(|(known, _)| *known == at) {
            Some((_, names)) => names.push(name),
            None => points.push((at, vec![name])),
        }
    }
    let (episodes, score) = present;
    points.push((place(episodes, score), Vec::new()));
    let point = |((x, y), names): ((u64, PicoUsd), Vec<String>)| Point {
        name: match &names[..] {
            [] => "as it is".to_owned(),
            [one] => one.clone(),
            [first, .., last] if names.len() > 2 => {
                format!("{first} … {last} ({} settings)", names.len())
            }
            [first, ..] => format!("{first} and {}", names[1]),
        },
        x: i128::from(x),
        y: y.0,
        is_present: names.is_empty(),
    };
    Curve {
        title: if score.is_some() {
            "Dollars exposed, by false alarms"
        } else {
            "Dollars exposed, by alerts"
        },
        points: points.into_iter().map(point).collect(),
        write_x: |n| count(u64::try_from(n).unwrap_or(0)),
        write_y: |usd| PicoUsd(usd).to_string(),
    }
}

/// One combination, for programs.
#[derive(Serialize)]
pub(super) struct SweepObject<'a> {
    schema: u32,
    event: &'static str,
    set: serde_json::Map<String, serde_json::Value>,
    alerts: u64,
    notices: u64,
    seconds_on: i64,
    exposed_usd: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<ScoreObject<'a>>,
}

/// How alerts did on incidents, for programs.
#[derive(Serialize)]
struct ScoreObject<'a> {
    incidents: usize,
    outside: u64,
    found: u64,
    true_alarms: u64,
    false_alarms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_seconds_to_detect: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    median_seconds_to_detect: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    censored_mean_seconds: Option<f64>,
    exposed_usd: Number,
    saved_usd: Number,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    each: Vec<IncidentObject<'a>>,
}

#[derive(Serialize)]
struct IncidentObject<'a> {
    id: &'a str,
    found_by: Option<&'a str>,
    first_affected: Option<String>,
    seconds_to_detect: Option<f64>,
    exposed_usd: Number,
    saved_usd: Number,
}

/// The judgement of all alerts, for programs.
#[derive(Serialize)]
pub(super) struct IncidentsObject<'a> {
    schema: u32,
    event: &'static str,
    #[serde(flatten)]
    score: ScoreObject<'a>,
}

/// What alerts save, for programs.
#[derive(Serialize)]
pub(super) struct ImpactObject {
    schema: u32,
    event: &'static str,
    episodes: u64,
    response_seconds: i64,
    without_seconds: i64,
    billed_usd: Number,
    wasted_usd: Number,
    exposed_with_usd: Number,
    exposed_without_usd: Number,
    saved_usd: Number,
    is_lower_bound: bool,
}

#[allow(
    clippy::cast_precision_loss,
    reason = "times of output, exact to the millisecond for centuries"
)]
fn secs(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn score_object(score: &Score) -> ScoreObject<'static> {
    ScoreObject {
        incidents: score.judged.len(),
        outside: score.judged.len() as u64 - score.in_log(),
        found: score.found(),
        true_alarms: score.true_alarms,
        false_alarms: score.false_alarms,
        mean_seconds_to_detect: score.time_to_detect().map(|(mean, _)| secs(mean)),
        median_seconds_to_detect: score.time_to_detect().map(|(_, median)| secs(median)),
        censored_mean_seconds: score.censored().map(|(mean, _)| secs(mean)),
        exposed_usd: usd(score.exposed()),
        saved_usd: usd(score.whole() - score.exposed()),
        each: Vec::new(),
    }
}

/// The judgement with each incident in it.
pub(super) fn incidents_object<'a>(
    incidents: &'a [Incident],
    score: &'a Score,
) -> IncidentsObject<'a> {
    let each = incidents
        .iter()
        .zip(&score.judged)
        .map(|(incident, judged)| IncidentObject {
            id: &incident.id,
            found_by: judged.by.as_deref(),
            first_affected: judged.first.filter(|_| !judged.is_free).map(rfc3339),
            seconds_to_detect: judged.told.map(|_| secs(judged.censored_ms)),
            exposed_usd: usd(judged.exposed),
            saved_usd: usd(judged.whole - judged.exposed),
        });
    IncidentsObject {
        schema: 1,
        event: "incidents",
        score: ScoreObject {
            each: each.collect(),
            ..score_object(score)
        },
    }
}

/// A combination for programs.
pub(super) fn sweep_object(axes: &[Axis], tried: &Tried<'_>, end: Time) -> SweepObject<'static> {
    let Tried {
        combination,
        episodes,
        score,
    } = tried;
    let fields = axes.iter().map(|axis| axis.field.clone());
    let values = combination.values.iter().map(|value| value.clone().into());
    SweepObject {
        schema: 1,
        event: "sweep",
        set: fields.zip(values).collect(),
        alerts: episodes.all().count() as u64,
        notices: episodes.all().map(|told| told.notices).sum(),
        seconds_on: on_ms(episodes, end) / 1000,
        exposed_usd: usd(episodes.exposed(end)),
        score: score.as_ref().map(score_object),
    }
}

/// The impact for programs.
pub(super) fn impact_object(
    impact: &Impact,
    response_secs: i64,
    without_secs: i64,
) -> ImpactObject {
    ImpactObject {
        schema: 1,
        event: "impact",
        episodes: impact.episodes,
        response_seconds: response_secs,
        without_seconds: without_secs,
        billed_usd: usd(impact.billed),
        wasted_usd: usd(impact.wasted),
        exposed_with_usd: usd(impact.with),
        exposed_without_usd: usd(impact.without),
        saved_usd: usd(impact.without - impact.with),
        is_lower_bound: impact.is_cut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_rate_of_less_than_a_day() {
        assert_eq!(rate(3, 2 * 86_400_000).as_deref(), Some("1.5"));
        assert_eq!(rate(3, 86_400_000 - 1), None);
        assert_eq!(rate(3, -1), None);
    }

    #[test]
    fn many_settings_that_come_to_the_same_are_one_row() {
        let rows = |rows: &[&[&str]]| rows.iter().map(|cells| row(cells)).collect::<Vec<_>>();
        let tried = rows(&[
            &["1", "60s", "9"],
            &["1", "5m", "2"],
            &["1", "10m", "2"],
            &["1", "1h", "2"],
            &["2", "60s", "9"],
            &["2", "5m", "9"],
            &["2", "10m", "1"],
            &["3", "60s", "1"],
            &["3", "5m", "0"],
            &["4", "60s", "1"],
            &["4", "5m", "0"],
            &["5", "60s", "1"],
            &["5", "5m", "0"],
        ]);
        let told = rows(&[
            &["1", "60s", "9"],
            &["1", "5m … 1h (3 values)", "2"],
            &["2", "60s", "9"],
            &["2", "5m", "9"],
            &["2", "10m", "1"],
            &["3 … 5 (3 values)", "60s", "1"],
            &["3 … 5 (3 values)", "5m", "0"],
        ]);
        assert_eq!(fold(&tried, 0, 2), told);
    }
}
