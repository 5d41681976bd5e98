//! Items → events: labels, identity, price.
//!
//! Knows prices and names. Does not know lines.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};
use xxhash_rust::xxh3::xxh3_64;

use super::Event;
use super::pool::Share;
use crate::monitor::{
    Caveats, Compaction, ErrorRecord, ExtraUsage, Identity, Labels, MissReason, NO_MODEL, Prompts,
    ResponseId, RunReport, RunUsage, Stamp, Time, Tokens, UsageRecord,
};
use crate::parse::{ApiError, Item, Names, Run, RunModel, Usage};
use crate::price::{PicoUsd, PriceTable, Quote, Resolved, div_half_even};
use crate::source::SourceInfo;

/// Labels kept for reuse where a log is read in order; beyond that the memory of them begins anew.
const MAX_LABELS: usize = 50_000;

/// The same where pieces of it are read ahead, by each of several threads.
const MAX_LABELS_AHEAD: usize = 2_000;

/// Bytes of a name that are kept.
const MAX_NAME: usize = 256;

/// Names that were looked up before.
#[derive(Debug)]
pub(super) struct Known {
    max_labels: usize,
    resolved: FxHashMap<Box<str>, Arc<Resolved>>,
    labels: FxHashMap<u64, Arc<Labels>>,
    /// Those of the line before: many come in a row.
    last: Option<Arc<Labels>>,
}

impl Known {
    fn at_most(max_labels: usize) -> Self {
        Self {
            max_labels,
            resolved: FxHashMap::default(),
            labels: FxHashMap::default(),
            last: None,
        }
    }

    /// For a log that is read in order.
    pub(super) fn in_order() -> Self {
        Self::at_most(MAX_LABELS)
    }

    /// For pieces of one.
    pub(super) fn ahead() -> Self {
        Self::at_most(MAX_LABELS_AHEAD)
    }

    /// Labels are made anew from now on.
    pub(super) fn forget_labels(&mut self) {
        self.labels.clear();
        self.last = None;
    }
}

/// Makes events of parsed items.
pub(super) struct Builder<'a> {
    pub(super) prices: &'a PriceTable,
    pub(super) known: &'a mut Known,
    pub(super) share: &'a mut Share,
    pub(super) source: &'a Arc<SourceInfo>,
}

impl Builder<'_> {
    pub(super) fn event(&mut self, item: &Item) -> Event {
        match item {
            Item::Usage(usage) => {
                let record = self.record(usage);
                Event::Record(match self.share.next() {
                    Some(mut place) => {
                        *place = record;
                        place
                    }
                    None => Box::new(record),
                })
            }
            Item::Error(error) => Event::Error(Box::new(self.error(error))),
            Item::Run(run) => Event::Run(Box::new(self.run(run))),
            Item::CompactBoundary {
                session,
                agent,
                id,
                is_unlogged,
            } => {
                let names = Names {
                    session: session.clone(),
                    agent: agent.clone(),
                    ..Names::default()
                };
                Event::Compacted(Box::new(Compaction {
                    labels: self.labels_of(NO_MODEL, &names, false),
                    id: id.as_deref().map(|id| id_among("compacted ", id)),
                    is_unlogged: *is_unlogged,
                }))
            }
        }
    }

    fn record(&mut self, usage: &Usage) -> UsageRecord {
        let name = usage.model.as_deref().unwrap_or(NO_MODEL);
        let resolved = self.resolve(name);
        let at = match usage.stamp {
            Stamp::At(time) => Some(time),
            Stamp::Undated | Stamp::Impossible(_) => None,
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
            premium: quote.map(|quote| quote.premium).unwrap_or_default(),
            batch: usage.terms.batch,
            prompts: usage.prompts.clone(),
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
                assumed_short: usage.prompts.are_unknown()
                    && self
                        .prices
                        .quote(&resolved, &tokens, usage.terms, at)
                        .is_some_and(|quote| quote.premium.long_prompt),
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
        let quote = self.price(usage, resolved, &tokens, at);
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
        let quote = self.price(usage, resolved, &tokens, at);
        (tokens, quote, false)
    }

    /// Prices tokens, each by how long its prompt was. Where that is not known none counts as long.
    fn price(
        &self,
        usage: &Usage,
        resolved: &Resolved,
        tokens: &Tokens,
        at: Option<Time>,
    ) -> Option<Quote> {
        let of = |tokens: &Tokens, prompt_tokens| {
            let terms = usage.terms;
            self.prices
                .quote_part(resolved, tokens, prompt_tokens, terms, at)
        };
        let steps = match &usage.prompts {
            Prompts::One => return of(tokens, tokens.prompt()),
            Prompts::Sum | Prompts::Run => &[][..],
            Prompts::Steps(steps) => steps,
        };
        let mut short = *tokens;
        let mut long = None;
        for step in steps {
            let quote = of(step, step.prompt())?;
            if quote.premium.long_prompt {
                short.subtract(step);
                let before = long.map_or(PicoUsd::ZERO, |long: Quote| long.cost);
                long = Some(Quote {
                    cost: before + quote.cost,
                    ..quote
                });
            }
        }
        let quote = of(&short, 0)?;
        Some(match long {
            Some(long) => Quote {
                cost: quote.cost + long.cost,
                ..long
            },
            None => quote,
        })
    }

    fn error(&mut self, error: &ApiError) -> ErrorRecord {
        let name = error.model.as_deref().unwrap_or(NO_MODEL);
        let resolved = self.resolve(name);
        let id = error.id.as_deref().map(|id| id_among("error ", id));
        ErrorRecord {
            id,
            stamp: error.stamp,
            labels: self.labels_of(canonical(&resolved, name), &error.names, false),
            kind: error.kind.as_deref().map(Into::into),
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
        if let Some(known) = self.known.resolved.get(name) {
            return Arc::clone(known);
        }
        let resolved = Arc::new(self.prices.resolve(name));
        if self.known.resolved.len() >= self.known.max_labels {
            self.known.resolved.clear();
        }
        self.known
            .resolved
            .insert(name.into(), Arc::clone(&resolved));
        resolved
    }

    /// The labels of these names. The sub-agent may be that of the file.
    fn labels_of(&mut self, model: &str, names: &Names, interleaved: bool) -> Arc<Labels> {
        let names = Key {
            model,
            session: names.session.as_deref(),
            agent: names.agent.as_deref().or(self.source.agent.as_deref()),
            project: names.project.as_deref(),
            places: &names.places,
            interleaved,
        };
        let are_those_of =
            |known: &&Arc<Labels>| names.are_those_of(known) && known.source == self.source.name;
        if let Some(last) = self.known.last.as_ref().filter(are_those_of) {
            return Arc::clone(last);
        }
        let mut hasher = FxHasher::default();
        (&names, &self.source.name).hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(known) = self.known.labels.get(&hash).filter(are_those_of) {
            let known = Arc::clone(known);
            self.known.last = Some(Arc::clone(&known));
            return known;
        }
        let clipped = |name: Option<&str>| name.map(|name| clip(name).into());
        let labels = Labels {
            model: clip(names.model).into(),
            session: clipped(names.session),
            agent: clipped(names.agent),
            project: clipped(names.project),
            source: Arc::clone(&self.source.name),
            places: names
                .places
                .iter()
                .map(|name| clipped(name.as_deref()))
                .collect(),
            interleaved: names.interleaved,
            conversation: 0,
            run: None,
            stream: 0,
        };
        let labels = Arc::new(labels.with_hashes());
        if self.known.labels.len() >= self.known.max_labels {
            self.known.labels.clear();
        }
        self.known.labels.insert(hash, Arc::clone(&labels));
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
    places: &'a [Option<String>],
    interleaved: bool,
}

impl Key<'_> {
    fn are_those_of(&self, labels: &Labels) -> bool {
        *clip(self.model) == *labels.model
            && self.session.map(clip) == labels.session.as_deref()
            && self.agent.map(clip) == labels.agent.as_deref()
            && self.project.map(clip) == labels.project.as_deref()
            && self
                .places
                .iter()
                .map(|name| name.as_deref().map(clip))
                .eq(labels.places.iter().map(Option::as_deref))
            && self.interleaved == labels.interleaved
    }
}

/// The identity of something that is no response, among others of its kind.
fn id_among(kind: &str, id: &str) -> ResponseId {
    ResponseId(hash_of([kind.as_bytes(), id.as_bytes(), b""]))
}

/// The hash of parts in a row. Nearly all fit where no memory has to be asked for.
fn hash_of(parts: [&[u8]; 3]) -> u64 {
    let mut row = [0; 160];
    let mut end = 0;
    for part in parts {
        let Some(to) = row.get_mut(end..end + part.len()) else {
            return xxh3_64(&parts.concat());
        };
        to.copy_from_slice(part);
        end += part.len();
    }
    xxh3_64(&row[..end])
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
        let time = time.map_or(0, |time| time.0.cast_unsigned());
        let numbers = [time, tokens.input, tokens.cache_write(), tokens.cache_read];
        let numbers = numbers.map(u64::to_le_bytes);
        let parts = [kind.as_bytes(), name.as_bytes(), numbers.as_flattened()];
        ResponseId(hash_of(parts))
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
