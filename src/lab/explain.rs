//! `rules --explain`: where each rule stands at the end of a log, and how its limit comes about.
//!
//! Words only: what a rule reads and why is the monitor's business. Tells no alert and runs no hook.

use std::fmt::Write;
use std::io;

use anyhow::Result;

use super::inputs::read_all;
use crate::config::{Options, write_duration};
use crate::monitor::{BEYOND_BUSY, Explained, Learning, Limit, Time};
use crate::pipeline::{Pipeline, Silent};
use crate::price::PicoUsd;
use crate::run::Exit;
use crate::sink::{self, Outlet, amount, clean, count, counted, percent, progress};

/// Reads logs silently and explains each rule as it stands at their end.
///
/// # Errors
/// If a named log is missing.
pub fn explain_rules(options: &Options, now: Time) -> Result<Exit> {
    let err = Outlet::direct(io::stderr());
    let mut pipeline = Pipeline::new(
        options.parse.clone(),
        options.prices.clone(),
        options.settings.clone(),
    );
    let mut silent = Silent {
        pipeline: &mut pipeline,
        now,
        oldest: None,
    };
    let unreadable = read_all(&options.inputs, &mut silent, &err)?;
    let evaluator = &mut pipeline.evaluator;
    if evaluator.totals().records == 0 {
        err.write("NO DATA: no usage record in these logs\n")?;
        return Ok(Exit::NoUsage);
    }
    let at = options.output.stdout.clock.full(evaluator.now());
    let responses = count(evaluator.totals().records);
    let mut out = format!("as of {at}, after {responses} responses\n");
    // What has no limit has nothing to explain.
    let rules = evaluator.explain().into_iter();
    for rule in rules.filter(|explained| explained.rule.limit != Limit::Once) {
        out.push('\n');
        out.push_str(&paragraph(&rule));
    }
    sink::print(&out)?;
    Ok(if unreadable > 0 {
        Exit::Unreadable
    } else {
        Exit::Clean
    })
}

fn paragraph(explained: &Explained) -> String {
    let rule = &explained.rule;
    let say = |value| amount(rule, value);
    let mut text = format!("{} ({})\n", clean(&rule.name), rule.severity.name());
    let now = explained.value.map_or_else(
        || {
            let cost = match rule.min_cost {
                PicoUsd::ZERO => String::new(),
                least => format!(", or they cost less than {least}"),
            };
            format!(
                "no value (fewer than {} requests in its windows{cost})",
                rule.min_requests.max(1)
            )
        },
        say,
    );
    let over = explained
        .window_secs
        .map(|secs| format!(" over {}", write_duration(secs)))
        .unwrap_or_default();
    if explained.n_keys == 0 {
        text.push_str("  now    nothing of its kind in these logs");
    } else {
        let _ = write!(text, "  now    {now}{over}");
    }
    if explained.n_keys > 0 && !rule.by.is_empty() {
        let key: Vec<String> = explained
            .key
            .iter()
            .map(|(label, value)| format!("{} {}", label.name(), clean(value)))
            .collect();
        let keys = count(explained.n_keys as u64);
        let _ = write!(text, ", the largest of {keys}: {}", key.join(", "));
    }
    text.push('\n');
    let usual = explained.usual;
    if rule.limit.learns() && usual.minutes > 0 {
        let samples = match usual.days {
            0 => format!("{} active minutes in 7 days", count(usual.minutes)),
            days => format!("the largest of each of {days} days, the last 7 for the usual"),
        };
        let _ = writeln!(
            text,
            "  usual  {}, busy {}{}, of {samples}",
            say(usual.usual),
            say(usual.busy),
            if explained.is_of_the_hour {
                " at this time of day"
            } else {
                ""
            },
        );
    }
    let limit = explained.limit.map_or_else(
        || {
            let learning = Learning::of(rule, usual);
            format!("none yet ({})", progress(&learning))
        },
        say,
    );
    let _ = writeln!(text, "  limit  {limit}{}", origin(explained));
    text
}

/// How a limit comes about.
fn origin(explained: &Explained) -> String {
    let rule = &explained.rule;
    let say = |value| amount(rule, value);
    let times = |n| amount_of(n);
    match rule.limit {
        Limit::Above(_) if rule.share_of_cost > 0 => {
            format!(
                ", or {} of the cost of its window if that is more",
                percent(rule.share_of_cost)
            )
        }
        Limit::Below(_) => ", from above, as set".to_owned(),
        Limit::TimesUsual(n) => format!(
            ": {} × usual, but at least usual + {} × (busy − usual) and {}",
            times(n),
            times(BEYOND_BUSY),
            say(rule.floor)
        ),
        Limit::BeyondBusy(n) => format!(
            ": usual + {} × (busy − usual), but at least {}",
            times(n),
            say(rule.floor)
        ),
        Limit::AboveBusy { above, beyond } => format!(
            ": usual + {} × (busy − usual), but at least {}",
            times(beyond),
            say(above)
        ),
        Limit::Above(_) | Limit::SilentFor(_) => ", as set".to_owned(),
        Limit::ByChance { days } => explained.odds.map_or_else(String::new, |odds| {
            let misses = if odds.affected == 1 { "miss" } else { "misses" };
            format!(
                ": at {} {misses} in {}, chance shows a longer run less than once in {days} days",
                count(odds.affected),
                counted(odds.judged, "request")
            )
        }),
        Limit::Once => String::new(),
    }
}

/// `1.4`.
fn amount_of(n: crate::monitor::Amount) -> String {
    let tenths = n / (crate::monitor::UNIT / 10);
    format!("{}.{}", tenths / 10, tenths % 10)
}
