//! Line → record → evaluator: what `tail` and `replay` have in common.
//!
//! Gives each response its labels, its identity and its price, and counts what lines came to. Knows neither where lines come
//! from nor where notices go, and reads no clock.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};
use xxhash_rust::xxh3::xxh3_128;

use crate::monitor::{
    Caveats, Evaluator, ExtraUsage, Labels, MissReason, Notice, ResponseId, Settings, Stamp, Time,
    UsageRecord,
};
use crate::parse::{Clock, Item, ParseOptions, Skipped, Usage, Verdict, parse_line};
use crate::price::{PicoUsd, PriceTable, Resolved};
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
}

impl Event {
    /// When it happened, if the line says so.
    pub fn time(&self) -> Option<Time> {
        match self {
            Self::Record(UsageRecord {
                stamp: Stamp::At(time),
                ..
            }) => Some(*time),
            Self::Record(_) | Self::Compacted(_) => None,
        }
    }
}

/// Reads lines into events: parsing, labels, identity, price.
#[derive(Debug)]
pub struct Intake {
    options: ParseOptions,
    prices: PriceTable,
    resolved: FxHashMap<Box<str>, Arc<Resolved>>,
    labels: FxHashMap<u64, Arc<Labels>>,
    previous: FxHashMap<Arc<str>, Time>,
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
            previous: FxHashMap::default(),
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
        let clock = Clock {
            now,
            previous: self.previous.get(name).copied(),
            zone: self.options.zone,
        };
        let Self {
            options,
            prices,
            resolved,
            labels,
            previous,
            counts,
        } = self;
        let mut build = Builder {
            prices,
            resolved,
            labels,
            source: line.source,
        };
        let verdict = parse_line(line.bytes, options, clock, |item| {
            let event = build.event(item);
            if let Some(time) = event.time() {
                match previous.get_mut(name) {
                    Some(last) => *last = time,
                    None => {
                        previous.insert(Arc::clone(name), time);
                    }
                }
            }
            emit(event);
        });
        counts.note(&verdict, &line);
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
            Verdict::Blank | Verdict::Items(_) => {}
            Verdict::NoUsage => self.no_usage += 1,
            Verdict::Skipped(reason) => *self.skipped.entry(*reason).or_default() += 1,
            Verdict::Bad { column, reason, .. } => {
                self.bad += 1;
                if self.bad_shown.len() < BAD_LINES_SHOWN {
                    self.bad_shown.push(BadLine {
                        source: Arc::clone(&line.source.name),
                        number: line.number,
                        column: *column,
                        reason: reason.clone(),
                    });
                }
            }
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
    fn event(&mut self, item: Item<'_>) -> Event {
        match item {
            Item::Usage(usage) => Event::Record(self.record(&usage)),
            Item::CompactBoundary { session, agent } => {
                let agent = agent.as_deref().or(self.source.agent.as_deref());
                Event::Compacted(self.labels(&Names {
                    model: NO_MODEL,
                    session: session.as_deref(),
                    agent,
                    project: None,
                    interleaved: false,
                }))
            }
        }
    }

    fn record(&mut self, usage: &Usage<'_>) -> UsageRecord {
        let name = usage.model.as_deref().unwrap_or(NO_MODEL);
        let resolved = self.resolve(name);
        let model = resolved
            .model
            .as_ref()
            .map_or(name, |model| &model.id)
            .to_owned();
        let at = match usage.stamp {
            Stamp::At(time) => Some(time),
            Stamp::Undated | Stamp::Impossible => None,
        };
        let quote = self.prices.quote(&resolved, &usage.tokens, usage.terms, at);
        let extra: Vec<ExtraUsage> = usage
            .extra
            .iter()
            .map(|(extra_model, tokens)| {
                let resolved = extra_model
                    .as_deref()
                    .map_or_else(|| Arc::clone(&resolved), |name| self.resolve(name));
                let name = extra_model.as_deref().unwrap_or(name);
                let quote = self.prices.quote(&resolved, tokens, usage.terms, at);
                let model = resolved
                    .model
                    .as_ref()
                    .map_or_else(|| name.into(), |model| Arc::clone(&model.id));
                ExtraUsage {
                    model,
                    tokens: *tokens,
                    cost: quote.map(|quote| quote.cost),
                }
            })
            .collect();
        let free = usage.not_billed.then_some(PicoUsd::ZERO);
        let extra_cost = extra.iter().filter_map(|extra| extra.cost).sum();
        let cost = free.or_else(|| quote.map(|quote| quote.cost + extra_cost));
        let agent = usage.agent.as_deref().or(self.source.agent.as_deref());
        let labels = self.labels(&Names {
            model: &model,
            session: usage.session.as_deref(),
            agent,
            project: usage.project.as_deref(),
            // Side conversations of old transcripts stand in their session's own file without a name.
            interleaved: usage.sidechain && agent.is_none(),
        });
        UsageRecord {
            id: identity(usage),
            stamp: usage.stamp,
            started: usage.started,
            labels,
            tokens: usage.tokens,
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
            },
            extra,
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

    fn labels(&mut self, names: &Names<'_>) -> Arc<Labels> {
        let mut hasher = FxHasher::default();
        (names, &self.source.name).hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(known) = self
            .labels
            .get(&hash)
            .filter(|known| names.are_those_of(known))
        {
            return Arc::clone(known);
        }
        let labels = Labels {
            model: clip(names.model).into(),
            session: names.session.map(|name| clip(name).into()),
            agent: names.agent.map(|name| clip(name).into()),
            project: names.project.map(|name| clip(name).into()),
            source: Arc::clone(&self.source.name),
            interleaved: names.interleaved,
            conversation: 0,
        };
        let labels = Arc::new(labels.with_conversation());
        if self.labels.len() >= MAX_LABELS {
            self.labels.clear();
        }
        self.labels.insert(hash, Arc::clone(&labels));
        labels
    }
}

/// Names from a log can be of any length; nobody reads more than the beginning of one.
fn clip(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

#[derive(Hash)]
struct Names<'a> {
    model: &'a str,
    session: Option<&'a str>,
    agent: Option<&'a str>,
    project: Option<&'a str>,
    interleaved: bool,
}

impl Names<'_> {
    fn are_those_of(&self, labels: &Labels) -> bool {
        *clip(self.model) == *labels.model
            && self.session.map(clip) == labels.session.as_deref()
            && self.agent.map(clip) == labels.agent.as_deref()
            && self.project.map(clip) == labels.project.as_deref()
            && self.interleaved == labels.interleaved
    }
}

/// A response is known by its message id; without one by its request id, or by whatever id it has and its time. The prompt
/// counts belong to it, because some gateways give every response the same id.
fn identity(usage: &Usage<'_>) -> Option<ResponseId> {
    let named = |id: &&str| {
        usage.id_is_named
            || ["msg_", "gen-", "chatcmpl-"]
                .iter()
                .any(|prefix| id.starts_with(prefix))
    };
    let id = usage.id.as_deref();
    let mut bytes = Vec::with_capacity(96);
    match (id.filter(named), usage.request_id.as_deref(), id) {
        (Some(id), _, _) | (None, Some(id), _) => bytes.extend_from_slice(id.as_bytes()),
        (None, None, Some(id)) => {
            bytes.extend_from_slice(id.as_bytes());
            if let Stamp::At(time) = usage.stamp {
                bytes.extend_from_slice(&time.0.to_le_bytes());
            }
        }
        (None, None, None) => return None,
    }
    let tokens = &usage.tokens;
    for count in [
        tokens.input,
        tokens.cache_write_5m,
        tokens.cache_write_1h,
        tokens.cache_read,
    ] {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    Some(ResponseId::from_hash(xxh3_128(&bytes)))
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

    /// Moves the time on without a record.
    pub fn tick(&mut self, to: Time) {
        self.evaluator.advance(to);
    }

    /// Takes the notices given since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.evaluator.take_notices()
    }
}

fn feed(evaluator: &mut Evaluator, event: Event, undated: Undated, oldest: Option<Time>) {
    match event {
        Event::Compacted(labels) => evaluator.compacted(&labels),
        Event::Record(mut record) => {
            match (record.stamp, undated) {
                (Stamp::At(time), _) if oldest.is_some_and(|oldest| time < oldest) => {
                    evaluator.count_old();
                    return;
                }
                (Stamp::Undated, Undated::Arrived(now)) => record.stamp = Stamp::At(now),
                _ => {}
            }
            evaluator.observe(&record);
        }
    }
}
