//! The words of notices: what is wrong, what it costs, and why.
//!
//! Shared by the terminal, the JSON and the hook, so that all say the same. Numbers are exact or say what they are.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write;

use jiff::civil::Date;

use super::advice::advice;
use super::changed::{Changes, changes, in_one_line};
use super::ordinary::way_out;
use crate::monitor::{
    Amount, Cause, CauseTally, Label, Learning, Limit, Metric, Notice, Odds, Reason, Rule, SEVERAL,
    Share, Time, UNIT, Unit,
};
use crate::parse::Zone;
use crate::price::{PicoUsd, div_half_even, thousands};

/// Says times as a clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Whose wall.
    pub zone: Zone,
}

impl Clock {
    /// `02:01:23`.
    pub fn time(self, time: Time) -> String {
        self.zone.wall_clock(time).strftime("%H:%M:%S").to_string()
    }

    /// `02:01`.
    pub fn minute(self, time: Time) -> String {
        let wall = self.zone.wall_clock(time);
        format!("{:02}:{:02}", wall.hour(), wall.minute())
    }

    /// The day.
    pub fn date(self, time: Time) -> Date {
        self.zone.wall_clock(time).date()
    }

    /// `2026-11-23 02:01:23`.
    pub fn full(self, time: Time) -> String {
        self.zone
            .wall_clock(time)
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string()
    }
}

/// Text from a log without anything a terminal or a shell could take for more than text.
pub fn clean(text: &str) -> Cow<'_, str> {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|c| if odd(c) { '\u{fffd}' } else { c })
            .collect(),
    )
}

/// A whole number for people: `12,345`.
pub fn count(n: u64) -> String {
    thousands(u128::from(n))
}

/// So many of something, for people: `1 line`, `12,345 lines`.
pub fn counted(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(n))
}

/// A large number in short: `300`, `45.2k`, `1.31M`.
pub fn quantity(n: u64) -> String {
    const MILLION: u64 = 1_000_000;
    const GIGA: u64 = 1000 * MILLION;
    const TERA: u64 = 1000 * GIGA;
    let hundredths =
        |unit: u64, name: &str| format!("{}.{:02}{name}", n / unit, n % unit * 100 / unit);
    match n {
        0..10_000 => count(n),
        10_000..1_000_000 => format!("{}.{}k", n / 1000, n % 1000 / 100),
        MILLION..GIGA => hundredths(MILLION, "M"),
        GIGA..TERA => hundredths(GIGA, "G"),
        _ => hundredths(TERA, "T"),
    }
}

/// `36s`, `12m 10s`, `3h 05m`, `2d 4h`.
pub fn duration(secs: i64) -> String {
    let secs = secs.max(0);
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 if secs % 60 == 0 => format!("{}m", secs / 60),
        60..3600 => format!("{}m {:02}s", secs / 60, secs % 60),
        3600..86_400 if secs % 3600 < 60 => format!("{}h", secs / 3600),
        3600..86_400 => format!("{}h {:02}m", secs / 3600, secs % 3600 / 60),
        _ if secs % 86_400 < 3600 => format!("{}d", secs / 86_400),
        _ => format!("{}d {}h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// A share in per cent with one decimal at most: `62 %`, `0.5 %`.
pub fn percent(share: Amount) -> String {
    let tenths = (share * 1000 + UNIT / 2) / UNIT;
    if tenths % 10 == 0 || tenths > 100 {
        format!("{} %", (tenths + 5) / 10)
    } else {
        format!("{}.{} %", tenths / 10, tenths % 10)
    }
}

/// A value in the unit of its metric, as people read it.
pub(super) fn value(notice: &Notice, value: Amount) -> String {
    amount(&notice.rule, value)
}

/// How far a rule is that learns: `9 of 60 active minutes`, `2 of 5 days`.
pub fn progress(learning: &Learning) -> String {
    let Learning {
        seen, of, by_days, ..
    } = learning;
    if *by_days {
        format!("{seen} of {of} days")
    } else if seen < of {
        format!("{seen} of {of} active minutes")
    } else {
        "not a day yet".to_owned()
    }
}

/// A value of a rule, in the unit of its metric.
pub fn amount(rule: &Rule, amount: Amount) -> String {
    let metric = rule.metric;
    let per = match rule.per_secs {
        Some(60) => "/min".to_owned(),
        Some(3600) => "/h".to_owned(),
        Some(secs) => format!(" per {}", duration(secs)),
        None => String::new(),
    };
    let whole = u64::try_from(amount / UNIT).unwrap_or(0);
    match metric.unit() {
        Unit::Usd if metric.is_mean() || rule.per_secs.is_some() => {
            format!("{}{per}", pace(PicoUsd(amount)))
        }
        Unit::Usd => PicoUsd(amount).to_string(),
        Unit::Tokens => format!("{} tokens{per}", quantity(whole)),
        Unit::Requests => format!("{} requests{per}", count(whole)),
        Unit::Share => percent(amount),
        Unit::Seconds => duration(i64::try_from(amount / UNIT).unwrap_or(0)),
    }
}

/// Dollars of a minute or a response, which may be few: below ten cents with two digits that say something, so that what is above a
/// limit can be told from it.
fn pace(amount: PicoUsd) -> String {
    const MICRO: i128 = PicoUsd::DOLLAR.0 / 1_000_000;
    let (mut unit, mut places) = (PicoUsd::DOLLAR.0 / 100, 2);
    while amount.0.abs() < 10 * unit && unit > MICRO {
        unit /= 10;
        places += 1;
    }
    let digits = div_half_even(amount.0, unit);
    if places == 2 || digits == 0 {
        return amount.to_string();
    }
    let sign = if digits < 0 { "-" } else { "" };
    let text = format!("{:0places$}", digits.abs());
    let (cents, rest) = text.split_at(2);
    format!("{sign}$0.{cents}{}", rest.trim_end_matches('0'))
}

/// What a notice says in one line, without time, severity and rule.
pub fn headline(notice: &Notice) -> String {
    let exposed = notice.exposed.unwrap_or_default();
    let since = duration(notice.at.millis_since(notice.since) / 1000);
    match notice.reason {
        Reason::Resolved if notice.missed => format!(
            "was on for {since} while nothing watched, and is over{}",
            total(notice, exposed)
        ),
        Reason::Resolved if notice.stale => format!(
            "{} any more, closed after {since}{}",
            if notice.evidence > 0 {
                "hardly any traffic"
            } else {
                "no traffic"
            },
            total(notice, exposed)
        ),
        Reason::Resolved if notice.usual_by_now => format!(
            "usual by now, closed after {since}{}",
            total(notice, exposed)
        ),
        Reason::Resolved => format!("resolved after {since}{}", total(notice, exposed)),
        Reason::Stopped if since == "0s" => {
            format!("still on at the end{}", total(notice, exposed))
        }
        Reason::Stopped => format!(
            "still on at the end, for {since} now{}",
            total(notice, exposed)
        ),
        Reason::First | Reason::Escalated => state(notice, exposed),
        Reason::StillFiring if since == "0s" => format!("already on: {}", state(notice, exposed)),
        Reason::StillFiring => format!("already on for {since}: {}", state(notice, exposed)),
        Reason::Repeat => format!("still on after {since}: {}", state(notice, exposed)),
        Reason::Reopened => format!("back again: {}", state(notice, exposed)),
    }
}

fn total(notice: &Notice, exposed: PicoUsd) -> String {
    match notice.rule.metric {
        metric if metric.is_about_cache() => {
            format!(": {exposed} paid again over {} requests", notice.requests)
        }
        metric if metric.is_announcement() => String::new(),
        Metric::Blind | Metric::Silence => String::new(),
        Metric::Budget => notice
            .text
            .as_deref()
            .map(|text| format!(": {}", clean(text)))
            .unwrap_or_default(),
        Metric::Errors => format!(
            ": {} API errors",
            count(u64::try_from(notice.requests).unwrap_or(0))
        ),
        _ if notice.exposed_is_all => format!(": {exposed} spent meanwhile"),
        _ => format!(": {exposed} above the usual"),
    }
}

fn state(notice: &Notice, exposed: PicoUsd) -> String {
    let metric = notice.rule.metric;
    if notice.value.is_none() && notice.text.is_none() {
        return too_few(notice, exposed);
    }
    let held = notice.value.unwrap_or_default();
    let now = value(notice, held);
    let at_least = if notice.at_least && metric.unit() == Unit::Usd {
        "≥ "
    } else {
        ""
    };
    let limit = value(notice, notice.limit);
    let window = notice.window_secs.map(duration).unwrap_or_default();
    let below = matches!(notice.rule.limit, Limit::Below(_));
    let side = if below { "below" } else { "limit" };
    let against = match held.cmp(&notice.limit) {
        Ordering::Greater if now == limit => "just above its limit".to_owned(),
        Ordering::Less if now == limit => "just below its limit".to_owned(),
        // It goes on until it is clear of its limit.
        Ordering::Less if !below => format!("under its limit of {limit}, not yet clear of it"),
        Ordering::Greater if below => format!("above its limit of {limit}, not yet clear of it"),
        _ => format!("{side} {limit}"),
    };
    match metric {
        Metric::MissRun => {
            let (run, all) = (held / UNIT, i128::from(notice.requests));
            // Of several some may be served in between, and any once it was told.
            let of_several = |(label, value): &(Label, String)| {
                *label == Label::Session && is_several(value)
            };
            let is_first = notice.reason == Reason::First;
            if (is_first || all <= run) && !notice.key.iter().any(of_several) {
                format!("{run} requests in a row missed the cache: {exposed} paid again")
            } else {
                format!("{all} requests missed the cache: {exposed} paid again")
            }
        }
        Metric::CacheMiss => {
            format!(
                "{now} of the large prompts of {window} missed the cache, {against}: {exposed} paid again"
            )
        }
        Metric::Silence if held == 0 => {
            "no response yet, though one was expected by now: is the service up, and does it log here?".to_owned()
        }
        Metric::Silence => {
            format!(
                "no response for {now}, limit {limit}: is the service down, or its log elsewhere?"
            )
        }
        Metric::CostPerRequest | Metric::PromptPerRequest | Metric::OutputPerRequest => {
            let usual = usual(notice).unwrap_or_default();
            format!("{at_least}{now} a response over {window}, {against}{usual}")
        }
        Metric::CacheGain if held < 0 => format!(
            "caching cost {} more than it saved in {window}",
            PicoUsd(-held)
        ),
        Metric::CacheGain => format!("caching saved {now} in {window}, {against}"),
        Metric::Blind | Metric::Budget => notice
            .text
            .as_deref()
            .map(|text| clean(text).into_owned())
            .unwrap_or_default(),
        Metric::Errors => {
            let kind = notice.error_kinds.first();
            let kind = kind.map(|(kind, share)| match share {
                95.. => format!(" ({})", clean(kind)),
                share => format!(" ({share} % {})", clean(kind)),
            });
            let kind = kind.unwrap_or_default();
            format!("{now} of the answers of {window} were API errors{kind}, {against}")
        }
        Metric::CacheWaste => {
            format!("{now} paid again in {window} for what the cache had, {against}")
        }
        Metric::Unpriced => format!(
            "no price for model \"{}\": its cost is missing from every sum; add it with --prices FILE",
            clean(&notice.labels.model)
        ),
        Metric::CacheLeak => format!(
            "{at_least}{now} paid again in {window} for what the cache had, hour after hour: {}",
            more_than(notice)
        ),
        Metric::NoCache => format!(
            "{} large prompts in {window} and none used the prompt cache (model {})",
            held / UNIT,
            clean(&notice.labels.model)
        ),
        Metric::Cost
        | Metric::Tokens
        | Metric::PromptTokens
        | Metric::OutputTokens
        | Metric::Requests => {
            let usual = usual(notice).unwrap_or_default();
            format!("{at_least}{now} over {window}, {against}{usual}")
        }
    }
}

/// What is paid again is told when it is more than this: `more than $5.00 and 10 % of what claude-opus-4-7 cost`.
fn more_than(notice: &Notice) -> String {
    let (rule, model) = (&notice.rule, clean(&notice.labels.model));
    let dollars = (rule.min_waste > PicoUsd::ZERO).then(|| rule.min_waste.to_string());
    let share = (rule.share_of_cost > 0)
        .then(|| format!("{} of what {model} cost", percent(rule.share_of_cost)));
    let limits: Vec<String> = dollars.into_iter().chain(share).collect();
    if limits.is_empty() {
        format!("model {model}")
    } else {
        format!("more than {}", limits.join(" and "))
    }
}

/// What is on while its window holds too little to tell whether it still is.
fn too_few(notice: &Notice, exposed: PicoUsd) -> String {
    let what = match notice.rule.metric {
        Metric::Errors => "answer",
        Metric::CacheMiss => "large prompt",
        _ => "response",
    };
    let window = notice.window_secs.map(duration).unwrap_or_default();
    let limit = value(notice, notice.limit);
    let found = match u64::try_from(notice.evidence) {
        Ok(0) | Err(_) => format!("no {what} in the last {window}"),
        Ok(_) if notice.evidence >= notice.rule.min_requests => {
            format!("too little spent in the last {window} to tell")
        }
        Ok(n) => format!(
            "only {} in the last {window}, too few to tell",
            counted(n, what)
        ),
    };
    let paid = if notice.rule.metric.is_about_cache() {
        format!(": {exposed} paid again")
    } else {
        String::new()
    };
    format!("{found}; limit {limit}{paid}")
}

/// `, 3.4 times the usual $0.04 (learned in 8h 20m)`.
fn usual(notice: &Notice) -> Option<String> {
    let usual = notice.usual.filter(|_| notice.rule.limit.is_learned());
    let usual = usual.filter(|usual| usual.usual > 0)?;
    let tenths = notice.value? * 10 / usual.usual;
    let learned = notice.learned_secs.map(|secs| {
        let minutes = secs / 60;
        format!(" (learned in {})", duration(60 * minutes.max(1)))
    });
    Some(format!(
        ", {}.{} times the usual {}{}",
        tenths / 10,
        tenths % 10,
        value(notice, usual.usual),
        learned.unwrap_or_default()
    ))
}

/// Who: the key, or the largest model and session of the whole stream.
pub fn who(notice: &Notice) -> Vec<String> {
    if notice.rule.metric.is_limitless() || notice.rule.metric == Metric::Silence {
        return Vec::new();
    }
    let key = notice.key.iter();
    let mut parts: Vec<String> = key
        .map(|(label, value)| named(*label, value))
        .filter(|part| !part.is_empty())
        .collect();
    let keyed = |label| notice.key.iter().any(|(known, _)| *known == label);
    let share = |(name, percent): &(std::sync::Arc<str>, u8)| match percent {
        95.. => String::new(),
        percent => format!(" {percent} %{}", if name.is_empty() { "?" } else { "" }),
    };
    if !keyed(Label::Model)
        && let Some(top) = notice.models.first()
    {
        parts.push(format!("{}{}", clean(&top.0), share(top)));
    }
    // One of many with a small part each says nothing either.
    if !keyed(Label::Session)
        && let Some(top) = leading(&notice.sessions)
    {
        parts.push(format!("session {}{}", short(&clean(&top.0)), share(top)));
    }
    // Where there is one project only, its name says nothing new.
    let had = notice.changed.as_ref();
    let has_others = had.is_some_and(|changed| changed.before.projects.len() > 1);
    let is_news = |percent| percent < 95 || has_others || notice.rule.metric == Metric::Errors;
    if !keyed(Label::Project)
        && let Some(top) = notice
            .projects
            .first()
            .filter(|(_, percent)| is_news(*percent))
    {
        parts.push(format!("project {}{}", clean(&top.0), share(top)));
    }
    parts
}

fn named(label: Label, value: &str) -> String {
    let value = clean(value);
    match label {
        Label::Model | Label::Conversation => value.into_owned(),
        Label::Session if is_several(&value) => "several sessions".to_owned(),
        Label::Session => format!("session {}", short(&value)),
        Label::Project | Label::Source | Label::Place { .. } => {
            format!("{} {value}", label.name())
        }
        // The words say it.
        Label::Period => String::new(),
    }
}

fn is_several(session: &str) -> bool {
    session.split('/').all(|part| part == SEVERAL)
}

/// The first group of a UUID, which tells sessions apart for people. Other names are kept, and so is the name of an agent.
pub(super) fn short(session: &str) -> String {
    let (id, agent) = session.split_once('/').unwrap_or((session, ""));
    let is_uuid = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let id = if is_uuid { &id[..8] } else { id };
    if agent.is_empty() {
        id.to_owned()
    } else {
        format!("{id} agent {agent}")
    }
}

/// The lines below the first: cause, dollars, what to look at.
pub(super) fn details(notice: &Notice, clock: Clock) -> Vec<String> {
    let mut lines = Vec::new();
    let ending = matches!(notice.reason, Reason::Resolved | Reason::Stopped);
    lines.extend(causes(notice, ending));
    let changes = changes(notice);
    lines.extend(in_one_line(&changes, notice));
    if notice.rule.metric.is_limitless() {
        let advice = advice(notice, &Changes::default(), clock);
        lines.extend(advice.map(|advice| format!("look at: {advice}")));
        return lines;
    }
    let mut parts = Vec::new();
    // A budget says in its words what was spent.
    let says_dollars = notice.rule.metric != Metric::Budget;
    if !ending
        && says_dollars
        && let Some(exposed) = notice.exposed
    {
        let mark = if notice.exposed_is_all { "~" } else { "" };
        parts.push(format!(
            "exposed {mark}{exposed} since {}",
            clock.time(notice.since)
        ));
        if let Some(pace) = notice.pace {
            parts.push(format!("{mark}{pace}/h at this pace"));
        }
    }
    parts.push(clean(&notice.labels.source).into_owned());
    lines.push(parts.join(" · "));
    let advice = advice(notice, &changes, clock).filter(|_| !ending);
    lines.extend(advice.map(|advice| format!("look at: {advice}")));
    lines.extend(way_out(notice));
    if !notice.explains.is_empty() {
        lines.push(format!(
            "explains and silences: {}",
            notice.explains.join(", ")
        ));
    }
    if notice.also > 0 {
        let n = count(notice.also as u64);
        let what = if notice.also == 1 {
            "other does"
        } else {
            "others do"
        };
        lines.push(format!(
            "{n} {what} the same and {} not told one by one",
            if notice.also == 1 { "is" } else { "are" }
        ));
    }
    if notice.daily {
        lines.push(
            "like the days before: told once a day, unless it comes to cost twice as much"
                .to_owned(),
        );
    }
    if notice.flapping {
        lines.push("flapping: it comes and goes; over once it stays clear for longer".to_owned());
    }
    lines
}

/// Why, and what to look at: what remains true of an episode once it is over.
pub fn explanation(notice: &Notice, clock: Clock) -> Vec<String> {
    let changes = changes(notice);
    let advice = advice(notice, &changes, clock);
    let advice = advice.map(|advice| format!("look at: {advice}"));
    let why = causes(notice, true)
        .into_iter()
        .chain(in_one_line(&changes, notice));
    why.chain(advice).collect()
}

fn causes(notice: &Notice, ending: bool) -> Option<String> {
    let main = notice.causes.first()?;
    let mut line = if notice.rule.metric == Metric::CacheLeak {
        let seen: u64 = notice.causes.iter().map(|tally| tally.requests).sum();
        format!("cause of the last {seen}: {}", cause(main))
    } else {
        format!("cause: {}", cause(main))
    };
    if let Some(other) = notice.causes.get(1) {
        let name = clean(other.cause.name());
        let _ = write!(line, "; also {name} ({})", other.cost);
    }
    if let Some((odds, length)) = notice.odds.filter(|_| !ending) {
        let _ = write!(line, "; {}", chance(odds, length));
    }
    Some(line)
}

fn cause(tally: &CauseTally) -> String {
    let tokens = count(tally.tokens);
    let gap = duration(tally.gap_ms / 1000);
    let ttl = duration(tally.ttl_secs);
    match &tally.cause {
        Cause::Rewritten => format!(
            "rewritten ({tokens} tokens written anew that were in the cache; pause {gap}, TTL {ttl})"
        ),
        Cause::Dropped => {
            format!("dropped ({tokens} tokens neither read nor written: cache_control is gone)")
        }
        Cause::Partial => format!(
            "partial ({tokens} tokens of the cached prompt were not read; pause {gap}, TTL {ttl})"
        ),
        Cause::TtlChanged => format!(
            "ttl-changed ({tokens} tokens expired: one-hour cache entries became five-minute entries; pause {gap})"
        ),
        Cause::Api(kind) => format!("{} ({tokens} tokens; the API's own diagnosis)", clean(kind)),
        Cause::Expired | Cause::Compacted | Cause::Concurrent | Cause::ModelChanged => {
            format!("{} ({tokens} tokens)", tally.cause.name())
        }
    }
}

/// `at your usual 0.5 % by chance once in 9 years`.
fn chance(odds: Odds, length: u32) -> String {
    let share = i128::from(odds.affected) * UNIT / i128::from(odds.judged.max(1));
    // Parts of 10¹⁸ in thirty days.
    let expected = odds.expected_per_30_days(length).max(1);
    let days = 30 * 1_000_000_000_000_000_000 / expected;
    let often = match days {
        0..=1 => "once a day or more".to_owned(),
        2..=59 => format!("once in {days} days"),
        60..=729 => format!("once in {} months", days / 30),
        730..=364_999 => format!("once in {} years", days / 365),
        _ => "less than once in 1,000 years".to_owned(),
    };
    format!(
        "with {} of requests missing by themselves, chance shows this {often}",
        percent(share)
    )
}

/// Who has so many hundredths of the cost is worth a look.
const LEADING: u8 = 25;

/// The first of some by their shares, if it stands out.
pub(super) fn leading(shares: &[Share]) -> Option<&Share> {
    shares.first().filter(|(_, share)| *share >= LEADING)
}

/// Name of a unit in JSON: `usd/min`, `tokens`, `share`.
pub(super) fn unit(notice: &Notice) -> String {
    let unit = match notice.rule.metric.unit() {
        Unit::Usd => "usd",
        Unit::Tokens => "tokens",
        Unit::Requests => "requests",
        Unit::Share => "share",
        Unit::Seconds => "seconds",
    };
    match notice.rule.per_secs {
        Some(60) => format!("{unit}/min"),
        Some(secs) => format!("{unit}/{}", duration(secs).replace(' ', "")),
        None => unit.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn numbers_are_short_and_times_are_plain() {
        assert_eq!(
            [
                999,
                45_230,
                1_310_000,
                999_999_999,
                14_290_000_000,
                20_050_000_000_000
            ]
            .map(quantity),
            ["999", "45.2k", "1.31M", "999.99M", "14.29G", "20.05T"]
        );
        assert_eq!(
            [36, 60, 730, 3600, 11_100, 187_200].map(duration),
            ["36s", "1m", "12m 10s", "1h", "3h 05m", "2d 4h"]
        );
        assert_eq!(
            [UNIT / 200, UNIT * 62 / 100, UNIT].map(percent),
            ["0.5 %", "62 %", "100 %"]
        );
    }

    #[test]
    fn a_few_cents_of_a_minute_or_a_response_show_two_digits() {
        for (pico, text) in [
            (34_149_000_000, "$0.034"),
            (30_000_000_000, "$0.03"),
            (30_040_000_000, "$0.03"),
            (-34_149_000_000, "-$0.034"),
            (99_400_000_000, "$0.099"),
            (99_600_000_000, "$0.10"),
            (126_500_000_000, "$0.13"),
            (2_504_000_000_000, "$2.50"),
            (9_960_000_000, "$0.01"),
            (3_100_000_000, "$0.0031"),
            (3_673_000_000, "$0.0037"),
            (8_700_000_000, "$0.0087"),
            (9_000_000_000, "$0.009"),
            (-347_000_000, "-$0.00035"),
            (99_960_000_000, "$0.10"),
            (1_200_000, "$0.000001"),
            (300_000, "<$0.000001"),
            (0, "$0.00"),
        ] {
            assert_eq!(pace(PicoUsd(pico)), text, "{pico}");
        }
    }

    #[test]
    fn control_characters_of_a_log_do_not_reach_a_terminal() {
        assert_eq!(
            clean("a\u{1b}[31mb\nc\u{202e}d"),
            "a\u{fffd}[31mb\u{fffd}c\u{fffd}d"
        );
        // What turns text around, or ends a line, is no letter; dashes, quotes and dots are.
        for odd in [
            "\u{61c}", "\u{200e}", "\u{200f}", "\u{2028}", "\u{202a}", "\u{2066}", "\u{2069}",
        ] {
            assert_eq!(clean(odd), "\u{fffd}");
        }
        for plain in ["1 – 3 — “a” ‘b’ • … ‰", "Größe", "日本語", "🙂"] {
            assert_eq!(clean(plain), plain);
        }
    }

    #[test]
    fn a_session_is_shown_by_the_first_group_of_its_uuid() {
        assert_eq!(
            short("7f3a0b1c-0000-4000-8000-000000000000/x1"),
            "7f3a0b1c agent x1"
        );
        assert_eq!(short("nightly-job"), "nightly-job");
    }

    /// A session with a small part of the cost is named nowhere: where nobody stands out, a replay by session says who it is.
    #[test]
    fn who_is_named_stands_out() {
        let rule = Rule {
            metric: Metric::Cost,
            ..Rule::blank()
        };
        let told = |share: u8, key: &[(Label, &str)]| {
            let key = key.iter().map(|(label, name)| (*label, (*name).to_owned()));
            let notice = Notice {
                sessions: vec![("s-1".into(), share)],
                ..Notice::in_words(
                    &Arc::new(rule.clone()),
                    Reason::First,
                    key.collect(),
                    1,
                    Time(0),
                    Time(0),
                    "",
                )
            };
            let clock = Clock { zone: Zone::Local };
            (
                who(&notice).join(" "),
                advice(&notice, &Changes::default(), clock).unwrap(),
            )
        };
        let (named, look_at) = told(25, &[]);
        assert_eq!(named, "session s-1 25 %");
        assert_eq!(look_at, "session s-1 (25 % of the cost)");
        let (named, look_at) = told(24, &[]);
        assert_eq!(named, "");
        assert!(look_at.contains("--by session"), "{look_at}");
        let (_, look_at) = told(100, &[(Label::Session, "s-1")]);
        assert!(
            look_at.starts_with("what this session has been doing"),
            "{look_at}"
        );
    }
}
