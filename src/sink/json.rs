//! Notices and totals as JSON, one object a line. The shape is a promise: `schema` counts its versions.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::outlet::Outlet;
use super::text::{headline, unit};
use super::{Sink, Told};
use crate::monitor::{
    Amount, CauseTotal, Lifetimes, Makeup, ModelTotal, Notice, PORTIONS, Portions, ProjectShare,
    Rate, Share, Time, Tokens, Totals, UNIT,
};
use crate::price::PicoUsd;

/// Version of the shape of all objects.
const SCHEMA: u32 = 1;

/// Writes each notice as a line of JSON.
pub struct JsonSink {
    outlet: Outlet,
}

impl JsonSink {
    /// A sink on a stream.
    pub fn new(outlet: Outlet) -> Self {
        Self { outlet }
    }

    /// Writes the totals of a replay.
    ///
    /// # Errors
    /// If nobody reads the stream any more.
    pub fn summary(&mut self, summary: &Summary<'_>) -> io::Result<()> {
        self.write(&summary.object())
    }

    /// Writes any object as a line.
    ///
    /// # Errors
    /// If the stream is closed or broken.
    pub fn write(&self, object: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_string(object)?;
        line.push('\n');
        self.outlet.write(&line)
    }
}

impl JsonSink {
    /// Writes a line that is JSON already.
    pub fn line(&self, line: &str) -> io::Result<()> {
        self.outlet.write(&format!("{line}\n"))
    }

    /// Says how many notices of a minute were too many to be written.
    pub(super) fn truncated(&self, n: u64, at: Time) -> io::Result<()> {
        self.write(&Truncated {
            schema: SCHEMA,
            event: "alert",
            reason: "truncated",
            truncated: n,
            at: Some(rfc3339(at)),
        })
    }
}

/// Says where programs read that so many lines are missing.
pub(super) fn lost(n: u64) -> String {
    let object = Truncated {
        schema: SCHEMA,
        event: "alert",
        reason: "truncated",
        truncated: n,
        at: None,
    };
    serde_json::to_string(&object).unwrap_or_default() + "\n"
}

#[derive(Serialize)]
#[allow(
    clippy::struct_field_names,
    reason = "the name of the field is that of the count"
)]
struct Truncated {
    schema: u32,
    event: &'static str,
    reason: &'static str,
    truncated: u64,
    /// The minute that had too many notices; none for lines that did not get through.
    at: Option<String>,
}

impl Sink for JsonSink {
    fn emit(&mut self, told: Told<'_>) -> io::Result<()> {
        self.write(&alert(told))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.outlet.drain();
        Ok(())
    }
}

/// The object of a notice as text: what the hook reads on its standard input.
pub(super) fn alert_text(told: Told<'_>) -> String {
    serde_json::to_string(&alert(told)).unwrap_or_default()
}

#[derive(Serialize)]
struct Alert<'a> {
    schema: u32,
    event: &'static str,
    mode: &'static str,
    reason: &'static str,
    rule: &'a str,
    severity: &'static str,
    key: BTreeMap<&'static str, &'a str>,
    episode: String,
    at: String,
    since: String,
    value: Option<Number>,
    lower_bound: bool,
    limit: Number,
    unit: String,
    window: Option<i64>,
    requests: i64,
    usual: Option<Number>,
    busy: Option<Number>,
    exposed_usd: Option<Number>,
    exposed_is_all: bool,
    pace_usd_per_hour: Option<Number>,
    cause: Option<&'a str>,
    causes: Vec<CauseObject<'a>>,
    top: Top<'a>,
    changed: Option<ChangedObject<'a>>,
    source: &'a str,
    explains: Vec<&'a str>,
    also: usize,
    flapping: bool,
    daily: bool,
    missed: bool,
    muted: bool,
    message: String,
    emitted_at: String,
}

#[derive(Serialize)]
struct CauseObject<'a> {
    cause: &'a str,
    requests: u64,
    tokens: u64,
    cost_usd: Number,
    gap_ms: i64,
    ttl_s: i64,
}

#[derive(Serialize)]
struct ChangedObject<'a> {
    before: MakeupObject<'a>,
    now: MakeupObject<'a>,
}

/// What responses are made of, each on average.
#[derive(Serialize)]
struct MakeupObject<'a> {
    responses_per_minute: Number,
    cost_usd: Number,
    prompt_tokens: u64,
    output_tokens: u64,
    cache_read_percent: u64,
    models: Vec<TopEntry<'a>>,
    projects: Vec<TopEntry<'a>>,
    portions_percent: BTreeMap<&'static str, u8>,
}

#[derive(Serialize)]
struct Top<'a> {
    models: Vec<TopEntry<'a>>,
    sessions: Vec<TopEntry<'a>>,
    projects: Vec<TopEntry<'a>>,
    errors: Vec<TopEntry<'a>>,
}

#[derive(Serialize)]
struct TopEntry<'a> {
    name: &'a str,
    percent: u8,
}

fn top(shares: &[Share]) -> Vec<TopEntry<'_>> {
    let shares = shares.iter();
    shares
        .map(|(name, percent)| TopEntry {
            name,
            percent: *percent,
        })
        .collect()
}

fn project(project: &ProjectShare) -> TopEntry<'_> {
    TopEntry {
        name: &project.name,
        percent: project.percent,
    }
}

fn makeup(makeup: &Makeup) -> MakeupObject<'_> {
    let each = |sum: u64| sum / makeup.requests.max(1);
    let Rate { requests, minutes } = makeup.rate;
    let rate = Amount::from(requests) * UNIT / Amount::from(minutes.max(1));
    MakeupObject {
        responses_per_minute: amount(rate),
        cost_usd: usd(PicoUsd(
            makeup.cost.0 / Amount::from(makeup.requests.max(1)),
        )),
        prompt_tokens: each(makeup.prompt),
        output_tokens: each(makeup.output),
        cache_read_percent: makeup.read * 100 / makeup.prompt.max(1),
        models: top(&makeup.models),
        projects: makeup.projects.iter().take(3).map(project).collect(),
        portions_percent: portions(&makeup.portions, |percent| percent),
    }
}

fn portions<T: Copy, U>(
    portions: &Portions<T>,
    write: impl Fn(T) -> U,
) -> BTreeMap<&'static str, U> {
    let all = PORTIONS.iter();
    all.map(|of| (of.name(), write(portions.of(*of)))).collect()
}

fn alert(told: Told<'_>) -> Alert<'_> {
    let Notice { rule, .. } = told.notice;
    let notice = told.notice;
    Alert {
        schema: SCHEMA,
        event: "alert",
        mode: told.mode.name(),
        reason: notice.reason.name(),
        rule: &rule.name,
        severity: rule.severity.name(),
        key: notice
            .key
            .iter()
            .map(|(label, value)| (label.name(), value.as_str()))
            .collect(),
        episode: episode(notice),
        at: rfc3339(notice.at),
        since: rfc3339(notice.since),
        value: notice.value.map(amount),
        lower_bound: notice.at_least,
        limit: amount(notice.limit),
        unit: unit(notice),
        window: notice.window_secs,
        requests: notice.requests,
        usual: notice.usual.map(|usual| amount(usual.usual)),
        busy: notice.usual.map(|usual| amount(usual.busy)),
        exposed_usd: notice.exposed.map(usd),
        exposed_is_all: notice.exposed_is_all,
        pace_usd_per_hour: notice.pace.map(usd),
        cause: notice.causes.first().map(|tally| tally.cause.name()),
        causes: notice
            .causes
            .iter()
            .map(|tally| CauseObject {
                cause: tally.cause.name(),
                requests: tally.requests,
                tokens: tally.tokens,
                cost_usd: usd(tally.cost),
                gap_ms: tally.gap_ms,
                ttl_s: tally.ttl_secs,
            })
            .collect(),
        top: Top {
            models: top(&notice.models),
            sessions: top(&notice.sessions),
            projects: top(&notice.projects),
            errors: top(&notice.error_kinds),
        },
        changed: notice.changed.as_ref().map(|changed| ChangedObject {
            before: makeup(&changed.before),
            now: makeup(&changed.now),
        }),
        source: &notice.labels.source,
        explains: notice.explains.iter().map(AsRef::as_ref).collect(),
        also: notice.also,
        flapping: notice.flapping,
        daily: notice.daily,
        missed: notice.missed,
        muted: told.muted,
        message: headline(notice),
        emitted_at: rfc3339(told.emitted_at),
    }
}

/// The identity of an episode as text.
pub(super) fn episode(notice: &Notice) -> String {
    format!("{:016x}", notice.episode)
}

/// UTC with milliseconds.
pub fn rfc3339(time: Time) -> String {
    let utc = Timestamp::from_millisecond(time.0).unwrap_or_default();
    format!("{utc:.3}")
}

/// A number as it is to be written, which was never a binary fraction.
pub type Number = Box<RawValue>;

fn number(text: String) -> Number {
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Dollars as a number with six places.
pub fn usd(amount: PicoUsd) -> Number {
    number(amount.to_decimal())
}

fn amount(amount: Amount) -> Number {
    number(decimal(amount))
}

/// An amount with as many places as it needs, six at most.
pub(super) fn decimal(amount: Amount) -> String {
    let micros = PicoUsd(amount).to_micros();
    if micros % 1_000_000 == 0 {
        return (micros / 1_000_000).to_string();
    }
    PicoUsd(micros * (UNIT / 1_000_000))
        .to_decimal()
        .trim_end_matches('0')
        .to_owned()
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadLineField {
    /// File or pipe.
    pub source: String,
    /// Number of the line.
    pub line: u64,
    /// Column of the fault in bytes, from 1.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
}

/// How far a file was read, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileField {
    /// File or pipe.
    pub path: String,
    /// The end of the last whole line that was read.
    pub offset: u64,
    /// Its size.
    pub size: Option<u64>,
    /// What is there and was not read yet.
    pub lag: Option<u64>,
    /// How often it was found truncated or rewritten.
    pub generation: u32,
    /// How its changes are noticed: `events` or `poll`.
    pub watch: &'static str,
}

/// The files of a summary are counted, those of a status listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Files {
    /// How many.
    Count(usize),
    /// Which.
    Each(Vec<FileField>),
}

impl Default for Files {
    fn default() -> Self {
        Self::Count(0)
    }
}

/// Figures that are not sums of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SummaryFields {
    /// Files and pipes read.
    pub files: Files,
    /// Bytes read.
    pub bytes: u64,
    /// Zero bytes left behind by truncations.
    pub nul_bytes: u64,
    /// Lines that are not blank.
    pub lines: u64,
    /// Lines that could not be read.
    pub bad_lines: u64,
    /// The first of them.
    pub first_bad_lines: Vec<BadLineField>,
    /// How old the last snapshot is, in seconds, if there is one.
    pub state_age_secs: Option<u64>,
    /// Something has changed since the last snapshot.
    pub state_pending: Option<bool>,
    /// Why the last snapshot could not be written.
    pub state_error: Option<String>,

    /// Lines that were too long and skipped.
    pub oversize_lines: u64,
    /// From when to when no response came for longest, if a replay found that it was an hour or more.
    pub longest_gap: Option<(Time, Time)>,
}

/// The totals of a replay, or those of a `tail` so far.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a> {
    /// Sums over records.
    pub totals: &'a Totals,
    /// The rest.
    pub fields: &'a SummaryFields,
}

#[derive(Serialize)]
struct SummaryObject<'a> {
    schema: u32,
    event: &'static str,
    span: Option<[String; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longest_gap: Option<[String; 2]>,
    files: &'a Files,
    bytes: u64,
    nul_bytes: u64,
    lines: u64,
    records: u64,
    duplicates: u64,
    bad_lines: u64,
    first_bad_lines: &'a [BadLineField],
    oversize_lines: u64,
    api_errors: u64,
    undated: u64,
    bad_time: u64,
    late: u64,
    too_late: u64,
    batch: u64,
    unpriced: u64,
    output_understated: u64,
    priority_at_standard_rates: u64,
    assumed_standard: u64,
    not_billed: u64,
    declined_hops: u64,
    assumed_short: u64,
    unlogged_summaries: u64,
    assumed_5m: u64,
    input_taken_exclusive: u64,
    reconciled: u64,
    reconciled_usd: Number,
    reconciled_pusd: String,
    lower_bound: bool,
    tokens: TokenObject,
    cache_read_share: Option<Number>,
    cost_usd: Number,
    cost_pusd: String,
    portions_usd: BTreeMap<&'static str, Number>,
    portions_pusd: BTreeMap<&'static str, String>,
    cache_waste_usd: Number,
    cache_waste_pusd: String,
    cost_by_cause: BTreeMap<&'a str, CauseTotalObject>,
    cache_doubtful: CauseTotalObject,
    other_ttl: BTreeMap<&'a str, OtherTtlObject>,
    by_model: BTreeMap<&'a str, ModelObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_age_secs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_pending: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_group: Option<BTreeMap<&'a str, ModelObject>>,
    alerts_by_rule: BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
struct TokenObject {
    input: u64,
    output: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
    cache_read: u64,
    web_search: u64,
}

#[derive(Serialize)]
struct CauseTotalObject {
    requests: u64,
    tokens: u64,
    cost_usd: Number,
    cost_pusd: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    waste: Option<bool>,
}

impl CauseTotalObject {
    fn of(total: &CauseTotal, waste: Option<bool>) -> Self {
        Self {
            requests: total.requests,
            tokens: total.tokens,
            cost_usd: usd(total.cost),
            cost_pusd: pusd(total.cost),
            waste,
        }
    }
}

/// What the other time to live would have saved, of each kind of cache write that there was.
#[derive(Serialize)]
struct OtherTtlObject {
    #[serde(skip_serializing_if = "Option::is_none")]
    one_hour_saves_usd: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    one_hour_saves_pusd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    five_minutes_saves_usd: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    five_minutes_saves_pusd: Option<String>,
}

impl OtherTtlObject {
    fn of(gain: &Lifetimes, total: &ModelTotal) -> Self {
        let hour = (total.tokens.cache_write_5m > 0).then_some(gain.hour);
        let minutes = (total.tokens.cache_write_1h > 0).then_some(gain.minutes);
        Self {
            one_hour_saves_usd: hour.map(usd),
            one_hour_saves_pusd: hour.map(pusd),
            five_minutes_saves_usd: minutes.map(usd),
            five_minutes_saves_pusd: minutes.map(pusd),
        }
    }
}

#[derive(Serialize)]
struct ModelObject {
    records: u64,
    tokens: TokenObject,
    cost_usd: Number,
    cost_pusd: String,
    unpriced: u64,
    lower_bound: bool,
}

impl From<&ModelTotal> for ModelObject {
    fn from(total: &ModelTotal) -> Self {
        Self {
            records: total.records,
            tokens: total.tokens.into(),
            cost_usd: usd(total.cost),
            cost_pusd: pusd(total.cost),
            unpriced: total.unpriced,
            lower_bound: total.is_lower_bound(),
        }
    }
}

fn pusd(amount: PicoUsd) -> String {
    amount.0.to_string()
}

impl From<Tokens> for TokenObject {
    fn from(tokens: Tokens) -> Self {
        let Tokens {
            input,
            output,
            cache_write_5m,
            cache_write_1h,
            cache_read,
            web_search,
        } = tokens;
        Self {
            input,
            output,
            cache_write_5m,
            cache_write_1h,
            cache_read,
            web_search,
        }
    }
}

fn models(totals: &BTreeMap<Arc<str>, ModelTotal>) -> BTreeMap<&str, ModelObject> {
    totals
        .iter()
        .map(|(name, total)| (&**name, total.into()))
        .collect()
}

impl<'a> Summary<'a> {
    /// The same as a status, in one line of JSON.
    ///
    /// # Errors
    /// Never but for lack of memory.
    pub fn line(&self, event: &'static str) -> serde_json::Result<String> {
        serde_json::to_string(&SummaryObject {
            event,
            ..self.object()
        })
    }

    fn object(&self) -> SummaryObject<'a> {
        let totals = self.totals;
        SummaryObject {
            schema: SCHEMA,
            event: "summary",
            span: totals
                .span
                .map(|(first, last)| [rfc3339(first), rfc3339(last)]),
            longest_gap: self
                .fields
                .longest_gap
                .map(|(from, to)| [rfc3339(from), rfc3339(to)]),
            files: &self.fields.files,
            bytes: self.fields.bytes,
            nul_bytes: self.fields.nul_bytes,
            lines: self.fields.lines,
            records: totals.records,
            duplicates: totals.duplicates,
            bad_lines: self.fields.bad_lines,
            first_bad_lines: &self.fields.first_bad_lines,
            api_errors: totals.errors,
            oversize_lines: self.fields.oversize_lines,
            undated: totals.undated,
            bad_time: totals.bad_time,
            late: totals.late,
            too_late: totals.too_late,
            batch: totals.batch,
            unpriced: totals.unpriced,
            output_understated: totals.understated,
            priority_at_standard_rates: totals.priority,
            assumed_standard: totals.assumed_standard,
            not_billed: totals.not_billed,
            declined_hops: totals.declined_hops,
            assumed_short: totals.assumed_short,
            unlogged_summaries: totals.unlogged_summaries,
            assumed_5m: totals.assumed_5m + totals.reconciled_assumed,
            input_taken_exclusive: totals.taken_exclusive,
            reconciled: totals.reconciled,
            reconciled_usd: usd(totals.reconciled_cost),
            reconciled_pusd: pusd(totals.reconciled_cost),
            lower_bound: totals.is_lower_bound(),
            tokens: totals.tokens.into(),
            cache_read_share: totals
                .cache_read_per_mille()
                .map(|per_mille| amount(Amount::from(per_mille) * (UNIT / 1000))),
            cost_usd: usd(totals.cost),
            cost_pusd: pusd(totals.cost),
            portions_usd: portions(&totals.portions, usd),
            portions_pusd: portions(&totals.portions, pusd),
            cache_waste_usd: usd(totals.waste()),
            cache_waste_pusd: pusd(totals.waste()),
            cost_by_cause: totals
                .by_cause
                .iter()
                .map(|(cause, total)| {
                    let object = CauseTotalObject::of(total, Some(cause.is_waste()));
                    (cause.name(), object)
                })
                .collect(),
            cache_doubtful: CauseTotalObject::of(&totals.doubtful, None),
            other_ttl: totals
                .lifetimes
                .iter()
                .filter_map(|(model, gain)| {
                    let total = totals.by_model.get(model)?;
                    Some((&**model, OtherTtlObject::of(gain, total)))
                })
                .collect(),
            by_model: models(&totals.by_model),
            state_age_secs: self.fields.state_age_secs,
            state_pending: self.fields.state_pending,
            state_error: self.fields.state_error.as_deref(),
            by_group: totals.group_by.map(|_| models(&totals.by_group)),
            alerts_by_rule: totals
                .alerts_by_rule
                .iter()
                .map(|(rule, n)| (&**rule, *n))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() {
        let show = |amount| decimal(amount);
        assert_eq!(show(3 * UNIT), "3");
        assert_eq!(show(UNIT / 2), "0.5");
        assert_eq!(show(862_500_000_000), "0.8625");
        assert_eq!(show(1), "0");
    }
}
