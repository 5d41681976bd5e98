//! Line → record → evaluator: what `tail` and `replay` have in common.
//!
//! Gives each response its labels, its identity and its price, and counts what lines came to. Knows neither where lines come
//! from nor where notices go, and reads no clock.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};
use xxhash_rust::xxh3::xxh3_64;

use crate::monitor::{
    Caveats, ErrorRecord, Evaluator, ExtraUsage, Identity, Labels, MissReason, Notice, ResponseId,
    RunReport, RunUsage, Settings, Stamp, Time, Tokens, UsageRecord,
};
use crate::parse::{
    ApiError, Clock, Item, Names, ParseOptions, Reader, Run, RunModel, Skipped, Usage, Verdict,
    parse_line,
};
use crate::price::{PicoUsd, PriceTable, Quote, Resolved, div_half_even};
use crate::source::{Line, SourceInfo};

/// The name that stands for a missing model.
const NO_MODEL: &str = "(no model)";

/// Labels kept for reuse; beyond that the memory of them begins anew.
const MAX_LABELS: usize = 50_000;

/// Bytes of a name that are kept.
const MAX_NAME: usize = 256;

/// How many bad lines are shown.
const BAD_LINES_SHOWN: usize = 5;

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// File or pipe.
    pub source: Arc<str>,
    /// Number of the line, from where reading began.
    pub number: u64,
    /// Column of the fault, from 1.
    pub column: usize,
    /// What is wrong, without any text of the line.
    pub reason: String,
}

/// What lines came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines that are not blank.
    pub lines: u64,
    /// Lines that could not be read, in whole or in part.
    pub bad: u64,
    /// The first of them.
    pub bad_shown: Vec<BadLine>,
    /// Lines without a response.
    pub no_usage: u64,
    /// Lines with something that looks like a response and is not counted, by reason.
    pub skipped: BTreeMap<Skipped, u64>,
}

/// What a line held, ready for the evaluator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are records; boxing them would cost each an allocation"
)]
pub enum Event {
    /// A response.
    Record(UsageRecord),
    /// A session was compacted.
    Compacted(Arc<Labels>),
    /// An error answer.
    Error(ErrorRecord),
    /// The sum of a run.
    Run(RunReport),
}

impl Event {
    /// When it happened, if the line says so.
    pub fn time(&self) -> Option<Time> {
        match self.stamp()? {
            Stamp::At(time) => Some(time),
            Stamp::Undated | Stamp::Impossible => None,
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Record(record) => Some(record.stamp),
            Self::Error(error) => Some(error.stamp),
            Self::Compacted(_) | Self::Run(_) => None,
        }
    }

    /// Its time, to be filled in where it has none.
    pub fn stamp_mut(&mut self) -> Option<&mut Stamp> {
        match self {
            Self::Record(record) => Some(&mut record.stamp),
            Self::Error(error) => Some(&mut error.stamp),
            Self::Compacted(_) | Self::Run(_) => None,
        }
    }
}

/// What reading the next line of a source depends on.
#[derive(Debug)]
struct Place {
    source: Arc<SourceInfo>,
    reader: Reader,
    /// The time of the record before.
    previous: Option<Time>,
    /// The number of the last line.
    number: u64,
}

/// Reads lines into events: parsing, labels, identity, price.
#[derive(Debug)]
pub struct Intake {
    options: ParseOptions,
    prices: PriceTable,
    resolved: FxHashMap<Box<str>, Arc<Resolved>>,
    labels: FxHashMap<u64, Arc<Labels>>,
    places: FxHashMap<Arc<str>, Place>,
    counts: LineCounts,
}

impl Intake {
    /// An intake that has read nothing.
    pub fn new(options: ParseOptions, prices: PriceTable) -> Self {
        Self {
            options,
            prices,
            resolved: FxHashMap::default(),
            labels: FxHashMap::default(),
            places: FxHashMap::default(),
            counts: LineCounts::default(),
        }
    }

    /// What the lines so far came to.
    pub fn counts(&self) -> &LineCounts {
        &self.counts
    }

    /// Begins counting anew; gives the counts so far.
    pub fn take_counts(&mut self) -> LineCounts {
        std::mem::take(&mut self.counts)
    }

    /// Reads a line. `now` is the present, or the start of a replay.
    pub fn line(&mut self, line: Line<'_>, now: Time, mut emit: impl FnMut(Event)) {
        let name = &line.source.name;
        if !self.places.contains_key(name) {
            let place = Place {
                source: Arc::clone(line.source),
                reader: Reader::default(),
                previous: None,
                number: 0,
            };
            self.places.insert(Arc::clone(name), place);
        }
        let Some(place) = self.places.get_mut(name) else {
            return;
        };
        place.number = line.number;
        let clock = Clock {
            now,
            previous: place.previous,
            zone: self.options.zone,
        };
        let mut build = Builder {
            prices: &self.prices,
            resolved: &mut self.resolved,
            labels: &mut self.labels,
            source: line.source,
        };
        let previous = &mut place.previous;
        let verdict = place
            .reader
            .line(line.bytes, &self.options, clock, &mut |item| {
                let event = build.event(item);
                *previous = event.time().or(*previous);
                emit(event);
            });
        self.counts.note(&verdict, &line);
    }

    /// A source has ended: what its last lines left open is handed over.
    pub fn end(&mut self, source: &SourceInfo, mut emit: impl FnMut(Event)) {
        let Some(mut place) = self.places.remove(&source.name) else {
            return;
        };
        let mut build = Builder {
            prices: &self.prices,
            resolved: &mut self.resolved,
            labels: &mut self.labels,
            source: &place.source,
        };
        let cut = place.reader.finish(&mut |item| emit(build.event(item)));
        for _ in 0..cut {
            let reason = "a line that was split over several records has no end";
            let bad = BadLine {
                source: Arc::clone(&place.source.name),
                number: place.number,
                column: 1,
                reason: reason.to_owned(),
            };
            self.counts.note_bad(bad);
        }
    }

    /// All sources have ended.
    pub fn end_all(&mut self, mut emit: impl FnMut(Event)) {
        let mut sources: Vec<Arc<SourceInfo>> = self
            .places
            .values()
            .map(|place| Arc::clone(&place.source))
            .collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        for source in sources {
            self.end(&source, &mut emit);
        }
    }

    /// Hands over the streamed responses that were not heard of for long.
    pub fn expire(&mut self, now: Time, mut emit: impl FnMut(Event)) {
        for place in self.places.values_mut() {
            let mut build = Builder {
                prices: &self.prices,
                resolved: &mut self.resolved,
                labels: &mut self.labels,
                source: &place.source,
            };
            place
                .reader
                .expire(now, &mut |item| emit(build.event(item)));
        }
    }

    /// The time of the first response in a line, without any effect.
    pub fn probe(&self, line: Line<'_>, now: Time) -> Option<Time> {
        let clock = Clock {
            now,
            previous: None,
            zone: self.options.zone,
        };
        let mut first = None;
        parse_line(line.bytes, &self.options, clock, |item| {
            if let Item::Usage(usage) = item
                && let Stamp::At(time) = usage.stamp
            {
                first = first.or(Some(time));
            }
        });
        first
    }
}

impl LineCounts {
    fn note(&mut self, verdict: &Verdict, line: &Line<'_>) {
        self.lines += u64::from(*verdict != Verdict::Blank);
        match verdict {
            Verdict::Blank | Verdict::Items(_) | Verdict::Part => {}
            Verdict::NoUsage => self.no_usage += 1,
            Verdict::Skipped(reason) => *self.skipped.entry(*reason).or_default() += 1,
            Verdict::Bad { column, reason, .. } => self.note_bad(BadLine {
                source: Arc::clone(&line.source.name),
                number: line.number,
                column: *column,
                reason: reason.clone(),
            }),
        }
    }

    fn note_bad(&mut self, bad: BadLine) {
        self.bad += 1;
        if self.bad_shown.len() < BAD_LINES_SHOWN {
            self.bad_shown.push(bad);
        }
    }
}

/// Makes events of parsed items.
struct Builder<'a> {
    prices: &'a PriceTable,
    resolved: &'a mut FxHashMap<Box<str>, Arc<Resolved>>,
    labels: &'a mut FxHashMap<u64, Arc<Labels>>,
    source: &'a Arc<SourceInfo>,
}

impl Builder<'_> {
    fn event(&mut self, item: Item) -> Event {
        match item {
            Item::Usage(usage) => Event::Record(self.record(&usage)),
            Item::Error(error) => Event::Error(self.error(&error)),
            Item::Run(run) => Event::Run(self.run(&run)),
            Item::CompactBoundary { session, agent } => {
                let names = Names {
                    session,
                    agent,
                    ..Names::default()
                };
                Event::Compacted(self.labels_of(NO_MODEL, &names, false))
            }
        }
    }

    fn record(&mut self, usage: &Usage) -> UsageRecord {
        let name = usage.model.as_deref().unwrap_or(NO_MODEL);
        let resolved = self.resolve(name);
        let at = match usage.stamp {
            Stamp::At(time) => Some(time),
            Stamp::Undated | Stamp::Impossible => None,
        };
        let (tokens, quote, assumed_5m) = self.quote(usage, &resolved, at);
        let free = usage.not_billed.then_some(PicoUsd::ZERO);
        let extra: Vec<ExtraUsage> = usage
            .extra
            .iter()
            .map(|(extra_model, tokens)| {
                let resolved = extra_model
                    .as_deref()
                    .map_or_else(|| Arc::clone(&resolved), |name| self.resolve(name));
                let name = extra_model.as_deref().unwrap_or(name);
                let quote = self.prices.quote(&resolved, tokens, usage.terms, at);
                ExtraUsage {
                    model: canonical(&resolved, name).into(),
                    tokens: *tokens,
                    cost: free.or(quote.map(|quote| quote.cost)),
                }
            })
            .collect();
        let extra_cost = extra.iter().filter_map(|extra| extra.cost).sum();
        let cost = free.or_else(|| quote.map(|quote| quote.cost + extra_cost));
        // Side conversations of old transcripts stand in their session's own file without a name.
        let interleaved =
            usage.sidechain && usage.names.agent.is_none() && self.source.agent.is_none();
        let labels = self.labels_of(canonical(&resolved, name), &usage.names, interleaved);
        UsageRecord {
            id: identity(usage),
            stamp: usage.stamp,
            started: usage.started,
            labels,
            tokens,
            cost,
            rates: quote.map(|quote| quote.rates),
            batch: usage.terms.batch,
            miss_reason: usage
                .miss_reason
                .as_ref()
                .map(|(kind, missed_tokens)| MissReason {
                    kind: kind.as_str().into(),
                    missed_tokens: *missed_tokens,
                }),
            caveats: Caveats {
                output_understated: usage.output_understated,
                priority: usage.priority,
                assumed_standard: quote.is_some_and(|quote| quote.assumed_standard),
                not_billed: usage.not_billed,
                extra_unpriced: extra.iter().any(|extra| extra.cost.is_none()),
                declined_hops: usage.declined_hops,
                assumed_5m,
                taken_exclusive: usage.taken_exclusive,
            },
            extra,
        }
    }

    /// Prices the response's own tokens. Where the time to live of cache writes is not told, a cost that stands in the log may
    /// tell it.
    fn quote(
        &self,
        usage: &Usage,
        resolved: &Resolved,
        at: Option<Time>,
    ) -> (Tokens, Option<Quote>, bool) {
        let mut tokens = usage.tokens;
        let quote = self.prices.quote(resolved, &tokens, usage.terms, at);
        let told = usage
            .recorded_cost
            .filter(|_| usage.assumed_5m && tokens.cache_write_1h == 0 && usage.extra.is_empty())
            .and_then(|recorded| {
                let Quote { rates, cost, .. } = quote?;
                rates.one_hour_writes(&tokens, cost, recorded)
            });
        let Some(one_hour) = told else {
            return (tokens, quote, usage.assumed_5m);
        };
        tokens.cache_write_5m -= one_hour;
        tokens.cache_write_1h = one_hour;
        let quote = self.prices.quote(resolved, &tokens, usage.terms, at);
        (tokens, quote, false)
    }

    fn error(&mut self, error: &ApiError) -> ErrorRecord {
        let name = error.model.as_deref().unwrap_or(NO_MODEL);
        let resolved = self.resolve(name);
        let id = error.id.as_deref().map(|id| {
            let mut bytes = b"error ".to_vec();
            bytes.extend_from_slice(id.as_bytes());
            ResponseId(xxh3_64(&bytes))
        });
        ErrorRecord {
            id,
            stamp: error.stamp,
            labels: self.labels_of(canonical(&resolved, name), &error.names, false),
            batch: error.batch,
        }
    }

    fn run(&mut self, run: &Run) -> RunReport {
        let names = Names {
            session: run.session.clone(),
            project: run.project.clone(),
            ..Names::default()
        };
        let models: Vec<RunUsage> = run
            .models
            .iter()
            .map(|model| self.run_model(run, model, &names))
            .collect();
        let text = match &run.id {
            Some(id) => format!("{:?} {id}", run.session),
            None => format!("{:?} {:?}", run.session, run.models),
        };
        RunReport {
            run: models.first().and_then(|usage| usage.labels.run),
            id: xxh3_64(text.as_bytes()),
            models,
        }
    }

    fn run_model(&mut self, run: &Run, model: &RunModel, names: &Names) -> RunUsage {
        let name = model.name.as_deref().unwrap_or(NO_MODEL);
        let resolved = self.resolve(name);
        let rates = self.prices.base_rates(&resolved, None);
        let mut tokens = model.tokens;
        let written = tokens.cache_write_5m;
        let (part_5m, part_1h) = run.writes;
        let part = i128::from(part_5m) + i128::from(part_1h);
        let one_hour = if written == 0 {
            Some(0)
        } else if part > 0 {
            let share = i128::from(written) * i128::from(part_1h);
            u64::try_from(div_half_even(share, part)).ok()
        } else {
            let searches = i128::from(tokens.web_search) * self.prices.per_search().0;
            rates
                .zip(model.recorded_cost)
                .and_then(|(rates, recorded)| {
                    let cost = rates.cost(&tokens) + PicoUsd(searches);
                    rates.one_hour_writes(&tokens, cost, recorded)
                })
        };
        tokens.cache_write_1h = one_hour.unwrap_or(0).min(written);
        tokens.cache_write_5m = written - tokens.cache_write_1h;
        RunUsage {
            labels: self.labels_of(canonical(&resolved, name), names, false),
            nameless: model.name.is_none(),
            tokens,
            rates,
            per_search: self.prices.per_search(),
            assumed_5m: one_hour.is_none(),
        }
    }

    fn resolve(&mut self, name: &str) -> Arc<Resolved> {
        if let Some(known) = self.resolved.get(name) {
            return Arc::clone(known);
        }
        let resolved = Arc::new(self.prices.resolve(name));
        self.resolved.insert(name.into(), Arc::clone(&resolved));
        resolved
    }

    /// The labels of these names. The sub-agent may be that of the file.
    fn labels_of(&mut self, model: &str, names: &Names, interleaved: bool) -> Arc<Labels> {
        let names = Key {
            model,
            session: names.session.as_deref(),
            agent: names.agent.as_deref().or(self.source.agent.as_deref()),
            project: names.project.as_deref(),
            group: names.group.as_deref(),
            interleaved,
        };
        let mut hasher = FxHasher::default();
        (&names, &self.source.name).hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(known) = self
            .labels
            .get(&hash)
            .filter(|known| names.are_those_of(known) && known.source == self.source.name)
        {
            return Arc::clone(known);
        }
        let clipped = |name: Option<&str>| name.map(|name| clip(name).into());
        let labels = Labels {
            model: clip(names.model).into(),
            session: clipped(names.session),
            agent: clipped(names.agent),
            project: clipped(names.project),
            source: Arc::clone(&self.source.name),
            group: clipped(names.group),
            interleaved: names.interleaved,
            conversation: 0,
            run: None,
        };
        let labels = Arc::new(labels.with_hashes());
        if self.labels.len() >= MAX_LABELS {
            self.labels.clear();
        }
        self.labels.insert(hash, Arc::clone(&labels));
        labels
    }
}

/// The one id of a model, or its name if it has no price.
fn canonical<'a>(resolved: &'a Resolved, name: &'a str) -> &'a str {
    resolved.model.as_ref().map_or(name, |model| &model.id)
}

/// Names from a log can be of any length; nobody reads more than the beginning of one.
fn clip(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

#[derive(Hash)]
struct Key<'a> {
    model: &'a str,
    session: Option<&'a str>,
    agent: Option<&'a str>,
    project: Option<&'a str>,
    group: Option<&'a str>,
    interleaved: bool,
}

impl Key<'_> {
    fn are_those_of(&self, labels: &Labels) -> bool {
        *clip(self.model) == *labels.model
            && self.session.map(clip) == labels.session.as_deref()
            && self.agent.map(clip) == labels.agent.as_deref()
            && self.project.map(clip) == labels.project.as_deref()
            && self.group.map(clip) == labels.group.as_deref()
            && self.interleaved == labels.interleaved
    }
}

/// A response is known by its message id; without one by its request id, or by whatever id it has and its time. The prompt
/// counts belong to it, because some gateways give every response the same id; of cache writes their sum, because not every
/// exporter tells their time to live.
fn identity(usage: &Usage) -> Option<Identity> {
    let named = |id: &&str| {
        usage.id_is_named
            || ["msg_", "gen-", "chatcmpl-"]
                .iter()
                .any(|prefix| id.starts_with(prefix))
    };
    let id = usage.id.as_deref();
    let request = usage.request_id.as_deref();
    let hash = |kind: &str, name: &str, time: Option<Time>| {
        let tokens = &usage.tokens;
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(kind.as_bytes());
        bytes.extend_from_slice(name.as_bytes());
        let time = time.map_or(0, |time| time.0.cast_unsigned());
        for n in [time, tokens.input, tokens.cache_write(), tokens.cache_read] {
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        ResponseId(xxh3_64(&bytes))
    };
    let by_request = |request| hash("request ", request, None);
    match (id.filter(named), request, id, usage.stamp) {
        (Some(id), ..) => Some(Identity {
            id: hash("", id, None),
            request: request.map(by_request),
            bare: Some(xxh3_64(id.as_bytes())),
        }),
        (None, Some(request), ..) => Some(Identity {
            id: by_request(request),
            request: None,
            bare: None,
        }),
        (None, None, Some(id), Stamp::At(time)) => Some(Identity {
            id: hash("", id, Some(time)),
            request: None,
            bare: None,
        }),
        _ => None,
    }
}

/// An intake and an evaluator in one line.
#[derive(Debug)]
pub struct Pipeline {
    /// Reads lines.
    pub intake: Intake,
    /// Judges records.
    pub evaluator: Evaluator,
}

/// What is done with a record that has no time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undated {
    /// It enters totals only.
    TotalsOnly,
    /// It was written while we watched: it happened on arrival.
    Arrived(Time),
}

impl Pipeline {
    /// A pipeline that has read nothing and tells nothing yet.
    pub fn new(options: ParseOptions, prices: PriceTable, settings: Settings) -> Self {
        Self {
            intake: Intake::new(options, prices),
            evaluator: Evaluator::new(settings),
        }
    }

    /// Reads a line and evaluates what is in it. Records older than `oldest` are counted as old and left out.
    pub fn line(&mut self, line: Line<'_>, now: Time, undated: Undated, oldest: Option<Time>) {
        let evaluator = &mut self.evaluator;
        self.intake
            .line(line, now, |event| feed(evaluator, event, undated, oldest));
    }

    /// Gives an event to the evaluator.
    pub fn feed(&mut self, event: Event, undated: Undated, oldest: Option<Time>) {
        feed(&mut self.evaluator, event, undated, oldest);
    }

    /// No line will follow: what is left open is evaluated.
    pub fn end(&mut self, undated: Undated, oldest: Option<Time>) {
        let evaluator = &mut self.evaluator;
        self.intake
            .end_all(|event| feed(evaluator, event, undated, oldest));
    }

    /// Evaluates the streamed responses that were cut: nothing was heard of them for long.
    pub fn expire(&mut self, now: Time, oldest: Option<Time>) {
        let evaluator = &mut self.evaluator;
        self.intake.expire(now, |event| {
            feed(evaluator, event, Undated::Arrived(now), oldest);
        });
    }

    /// Moves the time on without a record.
    pub fn tick(&mut self, to: Time) {
        self.evaluator.advance(to);
    }

    /// Takes the notices given since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.evaluator.take_notices()
    }
}

fn feed(evaluator: &mut Evaluator, mut event: Event, undated: Undated, oldest: Option<Time>) {
    if let Some(stamp) = event.stamp_mut() {
        match (*stamp, undated) {
            (Stamp::At(time), _) if oldest.is_some_and(|oldest| time < oldest) => {
                if matches!(event, Event::Record(_)) {
                    evaluator.count_old();
                }
                return;
            }
            (Stamp::Undated, Undated::Arrived(now)) => *stamp = Stamp::At(now),
            _ => {}
        }
    }
    match event {
        Event::Compacted(labels) => evaluator.compacted(&labels),
        Event::Record(record) => {
            evaluator.observe(&record);
        }
        Event::Error(error) => evaluator.observe_error(&error),
        Event::Run(report) => evaluator.observe_run(&report),
    }
}
