//! Weeks of made-up traffic with labelled incidents: what is found, how soon, at which price, and what is said on ordinary days.
//!
//! `cargo bench --bench incidents` plays one developer, a team of agents, a service, a developer whose agent loops at night and a
//! service with a job at night, on seeds that were not used while building; `-- 1 2 3` names seeds. The rules are the defaults, the
//! same for every fleet. Beside them runs the obvious monitor: a minute's deque, five events, three times the mean of the first
//! hour, one alert for each request.
//!
//! `INCIDENTS_LOGS=DIR` also writes each log there with its incidents, to be tried with `replay --labels`.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by it")]
#![allow(clippy::print_stdout, reason = "figures")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::too_many_lines,
    clippy::single_match_else,
    reason = "made-up traffic and rounded figures"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod figures;
mod incident;
mod obvious;
mod world;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use claude_tokmon::cli::RuleArgs;
use claude_tokmon::config::{Config, rules};
use claude_tokmon::monitor::{BlindSpot, Notice, PlainDays, Settings, Time};
use claude_tokmon::parse::ParseOptions;
use claude_tokmon::pipeline::Pipeline;
use claude_tokmon::price::PriceTable;
use claude_tokmon::source::SourceInfo;
use common::{Random, give, rfc3339};
use figures::{GRACE, Row, false_alarms, judge, median};
use incident::{Incident, Kind, incidents};
use obvious::Obvious;
use world::{Event, Fleet, World};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A Monday, 00:00 UTC.
const START: i64 = 1_788_739_200_000;
const WEEKS: i64 = 5;

/// The first week is ordinary.
const FIRST_INCIDENT: i64 = START + 7 * DAY;

/// The seeds that the figures are for.
const SEEDS: [u64; 6] = [9401, 9402, 9403, 9404, 9405, 9406];

/// What was told, and what was seen by the obvious monitor, over one fleet and seed.
struct Played {
    fleet: Fleet,
    incidents: Vec<Incident>,
    notices: Vec<Notice>,
    obvious: Vec<i64>,
    requests: Vec<i64>,
    dollars: f64,
}

fn settings(fleet: Fleet) -> Settings {
    let mut args = RuleArgs::default();
    if fleet == Fleet::Service {
        args.silent_for = Some("10m".to_owned());
        args.budget = vec!["280/day".to_owned()];
    } else if fleet == Fleet::Team {
        args.budget = vec!["750/day".to_owned()];
    }
    args.set = std::env::var("INCIDENTS_SET")
        .map(|text| text.split(';').map(str::to_owned).collect())
        .unwrap_or_default();
    Settings {
        rules: rules(&args, &Config::read(Some(Path::new("-"))).unwrap()).unwrap(),
        lateness_secs: 2,
        max_responses: None,
        max_keys: 10_000,
        group_by: None,
        calendar: std::sync::Arc::new(PlainDays),
    }
}

fn play(fleet: Fleet, seed: u64) -> Played {
    let mut random = Random(seed ^ 0xABCD);
    let mut incidents = incidents(fleet, &mut random);
    let mut world = World::new(fleet, seed);
    let mut pipeline = Pipeline::new(
        ParseOptions::default(),
        PriceTable::embedded(),
        settings(fleet),
    );
    pipeline.evaluator.go_live();
    let logs = std::env::var_os("INCIDENTS_LOGS").map(PathBuf::from);
    if let Some(logs) = &logs {
        std::fs::create_dir_all(logs).unwrap();
    }
    let place = |kind: &str| Some(logs.as_ref()?.join(format!("{fleet:?}-{seed}.{kind}")));
    let mut log = place("jsonl").map(|path| BufWriter::new(File::create(path).unwrap()));
    let source = SourceInfo::file(Path::new("app.log"));
    let (mut notices, mut obvious) = (Vec::new(), Obvious::default());
    let mut requests = Vec::new();
    let mut minute = START / MINUTE;
    let mut waiting: BinaryHeap<Reverse<(i64, u64)>> = BinaryHeap::new();
    let mut lines: BTreeMap<u64, Event> = BTreeMap::new();
    let mut n = 0;
    loop {
        let more = world.step(&mut incidents);
        let is_over = more.is_none();
        for event in more.into_iter().flatten() {
            n += 1;
            waiting.push(Reverse((event.at, n)));
            lines.insert(n, event);
        }
        let horizon = if is_over {
            i64::MAX
        } else {
            world.queue.peek().map_or(i64::MAX, |Reverse((at, _))| *at)
        };
        while let Some(Reverse((at, id))) = waiting.peek().copied() {
            if at > horizon {
                break;
            }
            waiting.pop();
            let event = lines.remove(&id).unwrap();
            // The watchdog looks once a minute here, by the clock of the log.
            while minute < at / MINUTE {
                minute += 1;
                let now = Time(minute * MINUTE);
                let dry = pipeline.intake.dry_sources();
                let is_dry = dry
                    .iter()
                    .any(|dry| dry.is_suspicious && now.millis_since(dry.since) >= 10 * MINUTE);
                let spot = BlindSpot {
                    kind: "dry".to_owned(),
                    source: "app.log".into(),
                };
                let text = is_dry.then(|| "no usage any more".to_owned());
                pipeline.evaluator.set_blind(&spot, text);
                pipeline.evaluator.step_blind(now);
            }
            give(&mut pipeline, &source, id, event.line.as_bytes(), Time(at));
            if let Some(log) = &mut log {
                writeln!(log, "{}", event.line).unwrap();
            }
            if let Some(plain) = event.plain {
                requests.push(at);
                obvious.observe(at, plain);
            }
        }
        notices.extend(pipeline.take_notices());
        if is_over {
            break;
        }
    }
    for incident in &mut incidents {
        incident.over = incident.over.or(Some(incident.until));
    }
    if let Some(path) = place("incidents") {
        write_labels(&path, &incidents);
    }
    let cost = pipeline.evaluator.totals().cost;
    Played {
        fleet,
        incidents,
        notices,
        obvious: obvious.alerts,
        requests,
        dollars: cost.0 as f64 / 1e12,
    }
}

/// Writes what `--labels` reads, of the incidents that cost something.
fn write_labels(path: &Path, incidents: &[Incident]) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let dear = incidents.iter().filter(|i| !i.affected.is_empty());
    for (n, incident) in dear.enumerate() {
        let mut label = serde_json::json!({
            "id": format!("{:?}-{n}", incident.kind),
            "start": rfc3339(incident.first()),
            "end": rfc3339(incident.end()),
        });
        // Their dollars are those of the cache.
        if matches!(
            incident.kind,
            Kind::Dropped | Kind::Rewritten | Kind::PartOfTraffic | Kind::ShorterTtl
        ) {
            label["rule"] = incident.kind.rules()[0].into();
        }
        if let Some(session) = incident.session.as_ref().filter(|_| incident.one_session) {
            label["key"] = session.clone().into();
        }
        writeln!(file, "{label}").unwrap();
    }
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let verbose = std::env::var_os("INCIDENTS_VERBOSE").is_some();
    let given: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let seeds = if given.is_empty() {
        SEEDS.to_vec()
    } else {
        given
    };
    let mut rows: BTreeMap<(Fleet, Kind), Row> = BTreeMap::new();
    println!("{} seeds, {WEEKS} weeks each; default rules", seeds.len());
    let mut quiet = Vec::new();
    for fleet in [
        Fleet::Developer,
        Fleet::Team,
        Fleet::Service,
        Fleet::Nights,
        Fleet::Jobs,
    ] {
        let played: Vec<Played> = std::thread::scope(|scope| {
            let plays: Vec<_> = seeds
                .iter()
                .map(|seed| scope.spawn(move || play(fleet, *seed)))
                .collect();
            plays.into_iter().map(|play| play.join().unwrap()).collect()
        });
        let (mut episodes, mut notices, mut days) = (BTreeMap::<String, usize>::new(), 0, 0.0);
        let (mut obvious, mut requests, mut dollars) = (0, 0, 0.0);
        for played in &played {
            judge(played, &mut rows, verbose);
            let (by_rule, n, d) = false_alarms(played, verbose);
            for (rule, n) in by_rule {
                *episodes.entry(rule).or_default() += n;
            }
            notices += n;
            days += d;
            let near = |at: i64| {
                played
                    .incidents
                    .iter()
                    .any(|i| at >= i.start && at <= i.end() + GRACE)
            };
            obvious += played.obvious.iter().filter(|at| !near(**at)).count();
            requests += played.requests.len();
            dollars += played.dollars;
        }
        let all_days = (WEEKS * 7) as f64 * seeds.len() as f64;
        let n: usize = episodes.values().sum();
        quiet.push(format!(
            "{fleet:?}: {:.0} requests and ${:.0} a day; ordinary {days:.0} days: {:.2} false episodes and {:.2} false notices a day ({}); the obvious monitor {:.0} alerts a day",
            requests as f64 / all_days,
            dollars / all_days,
            n as f64 / days,
            notices as f64 / days,
            episodes.iter().map(|(rule, n)| format!("{rule} {n}")).collect::<Vec<_>>().join(", "),
            obvious as f64 / days
        ));
    }
    println!(
        "\n{:<10} {:<14} {:>5} {:>9} {:>7} {:>8} {:>9} {:>10} {:>9} {:>9} {:>8} {:>11} {:>8} {:>8}",
        "fleet",
        "incident",
        "n",
        "by name",
        "by any",
        "records",
        "seconds",
        "exposed",
        "of",
        "obvious",
        "drowned",
        "its seconds",
        "ratio",
        "notices"
    );
    let (mut n, mut found, mut ratios) = (0, 0, Vec::new());
    let mut loudest = 0.0_f64;
    let mut lost = (Vec::new(), Vec::new());
    let (mut slowest_break, mut obvious_found, mut drowned) = (0.0_f64, 0, 0);
    for ((fleet, kind), row) in &rows {
        n += row.incidents;
        found += row.by_named;
        let both: Vec<f64> = row
            .both
            .iter()
            .filter(|(a, _)| *a > 0.0)
            .map(|(a, b)| b / a)
            .collect();
        ratios.extend(row.both.iter().copied());
        obvious_found += row.obvious;
        drowned += row.drowned;
        if matches!(kind, Kind::Dropped | Kind::Rewritten) {
            slowest_break = row.records.iter().copied().fold(slowest_break, f64::max);
        }
        if !kind.is_timed() {
            lost.0.extend(row.lost.iter().map(|(ours, _)| *ours));
            lost.1.extend(row.lost.iter().map(|(_, theirs)| *theirs));
        }
        loudest = row.notices.iter().copied().fold(loudest, f64::max);
        println!(
            "{:<10} {:<14} {:>5} {:>9} {:>7} {:>8.0} {:>9.0} {:>10} {:>9} {:>9} {:>8} {:>11.0} {:>8.1} {:>8.1}",
            format!("{fleet:?}"),
            format!("{kind:?}"),
            row.incidents,
            row.by_named,
            row.by_any,
            median(&row.records),
            median(&row.secs),
            format!("${:.2}", median(&row.exposed)),
            format!("${:.0}", median(&row.size)),
            row.obvious,
            row.drowned,
            median(&row.obvious_secs),
            median(&both),
            row.notices.iter().copied().fold(0.0, f64::max),
        );
    }
    println!(
        "\nfound by the rule named for it: {found} of {n} ({:.1} %)",
        found as f64 * 100.0 / n as f64
    );
    let ours = median(&ratios.iter().map(|(a, _)| *a).collect::<Vec<_>>());
    let theirs = median(&ratios.iter().map(|(_, b)| *b).collect::<Vec<_>>());
    println!(
        "where both find it ({}): median exposed ${ours:.2}, the obvious monitor ${theirs:.2}: {:.1} times",
        ratios.len(),
        theirs / ours
    );
    let (ours, theirs) = (median(&lost.0), median(&lost.1));
    println!(
        "over all {}, a miss counted as all that was lost: median ${ours:.2}, the obvious monitor ${theirs:.2}: {:.1} times",
        lost.0.len(),
        theirs / ours
    );
    println!(
        "cache breaks: told by affected request {slowest_break} at the latest; the obvious monitor finds {obvious_found} of {n}, and was alarming already at {drowned}"
    );
    println!("most notices in the first 15 minutes of an incident: {loudest}");
    println!();
    for line in quiet {
        println!("{line}");
    }
}
