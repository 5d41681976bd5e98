//! The price table: which prices a response gets, and what it costs.
//!
//! Prices and their dates are data (`prices.json`, or the user's own file in the same shape). A cost is
//! (base or long-prompt prices) × fast × batch × geography × platform + web searches, rounded once.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::litellm::{self, Entry, KINDS};
use super::model::{NameTrail, Platform, trail};
use super::money::{PicoUsd, Ratio, RecordedCost, div_half_even, scaled_decimal};
use crate::monitor::{Time, Tokens};

const EMBEDDED: &str = include_str!("prices.json");

/// Where a price was read from, for those who ask.
const EMBEDDED_NAME: &str = "built-in table";

/// Which kind of request a model was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Speed {
    /// The usual speed.
    #[default]
    Standard,
    /// Fast mode, at the model's own multiple.
    Fast,
}

/// The terms of a request that change its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Terms {
    /// Fast mode.
    pub speed: Speed,
    /// Sent through the batch API.
    pub batch: bool,
    /// Inference was kept in the US at the caller's wish.
    pub us_geo: bool,
}

/// Prices of one token kind each, in pico-dollars per token, and the exact factor on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Uncached prompt tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Writing to a five-minute cache entry.
    pub cache_write_5m: u64,
    /// Writing to a one-hour cache entry.
    pub cache_write_1h: u64,
    /// Reading from the cache.
    pub cache_read: u64,
    /// Product of all multipliers that apply.
    pub factor: Ratio,
}

impl Rates {
    /// What these tokens cost, web searches left out. Rounded once, half to even.
    pub fn cost(&self, tokens: &Tokens) -> PicoUsd {
        let kinds = [
            (tokens.input, self.input),
            (tokens.output, self.output),
            (tokens.cache_write_5m, self.cache_write_5m),
            (tokens.cache_write_1h, self.cache_write_1h),
            (tokens.cache_read, self.cache_read),
        ];
        self.scaled(
            kinds
                .iter()
                .map(|(n, price)| i128::from(*n) * i128::from(*price))
                .sum(),
        )
    }

    /// What a cache miss cost beyond reading the same tokens from the cache: those written anew at the price of writing,
    /// the rest at the price of input. Five-minute writes are taken first, so the figure is never too high. Never below zero.
    pub fn miss_cost(&self, missed: u64, tokens: &Tokens) -> PicoUsd {
        let written_5m = missed.min(tokens.cache_write_5m);
        let written_1h = (missed - written_5m).min(tokens.cache_write_1h);
        let plain = (missed - written_5m - written_1h).min(tokens.input);
        let excess =
            |n: u64, price: u64| i128::from(n) * (i128::from(price) - i128::from(self.cache_read));
        let sum = excess(written_5m, self.cache_write_5m)
            + excess(written_1h, self.cache_write_1h)
            + excess(plain, self.input);
        self.scaled(sum.max(0))
    }

    /// What caching has saved on these tokens: reads at the price of input instead of their own, less what writing cost beyond
    /// input. Below zero if it cost more than it saved.
    pub fn cache_gain(&self, tokens: &Tokens) -> PicoUsd {
        let dearer =
            |n: u64, price: u64| i128::from(n) * (i128::from(price) - i128::from(self.input));
        self.scaled(
            -dearer(tokens.cache_read, self.cache_read)
                - dearer(tokens.cache_write_5m, self.cache_write_5m)
                - dearer(tokens.cache_write_1h, self.cache_write_1h),
        )
    }

    fn scaled(&self, pico: i128) -> PicoUsd {
        let product = pico * i128::from(self.factor.num);
        if self.factor.den == 1 {
            // Nothing to round, and no other step of pricing takes as long as a division of this size.
            return PicoUsd(product);
        }
        PicoUsd(div_half_even(product, i128::from(self.factor.den)))
    }
}

/// Why prices are above those that a model has for most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Premium {
    /// Fast mode.
    pub fast: bool,
    /// The prompt is so long that all of the request is dearer.
    pub long_prompt: bool,
}

/// What a response costs and at which prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// The whole cost, web searches included.
    pub cost: PicoUsd,
    /// The prices that applied.
    pub rates: Rates,
    /// Why they are above the usual ones, if they are.
    pub premium: Premium,
    /// A multiplier was asked for that the model does not have; standard rates were used.
    pub assumed_standard: bool,
}

/// A price table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// Not JSON, or not of the expected shape.
    #[error(transparent)]
    Shape(#[from] serde_json::Error),

    /// A number that is not an exact price.
    #[error(
        "model \"{model}\": {field} is {value}; give US dollars per million tokens as a plain decimal with at most six places"
    )]
    Number {
        /// Id of the model.
        model: String,
        /// Field with the number.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// A date that is not one.
    #[error("model \"{model}\": \"{value}\" is not a date; write YYYY-MM-DD")]
    Date {
        /// Id of the model.
        model: String,
        /// What stands there.
        value: String,
    },
    /// An alias for something that has no price.
    #[error(
        "\"{0}\" has no price itself; name a model of `claude-tokmon prices`, or add it with --prices FILE"
    )]
    Alias(String),
    /// A model without any price.
    #[error("model \"{0}\" has no prices; give usd_per_mtok as a list with at least one row")]
    Empty(String),
}

/// Prices that hold until a day, or for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    input: u64,
    output: u64,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    cache_read: Option<u64>,
    /// First day on which the row no longer holds.
    until: Option<Date>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LongContext {
    above_prompt_tokens: u64,
    row: Row,
}

/// One model of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The one id that stands for the model.
    pub id: Arc<str>,
    /// Other exact names of it.
    pub aliases: Vec<String>,
    /// Where its prices come from.
    pub source: Arc<str>,
    /// Numbers that this source lacks, and where those come from.
    pub fallbacks: Vec<Fallback>,
    /// What to know about them.
    pub note: Option<String>,
    rows: Vec<Row>,
    long_context: Option<LongContext>,
    batch: Option<Ratio>,
    fast: Option<Ratio>,
    us_geo: Option<Ratio>,
    regional: Option<Ratio>,
    us_gov: Option<Ratio>,
}

/// Numbers of a model that come from another source than the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// Where they come from.
    pub source: Arc<str>,
    /// Which they are: `input`, `cache write 1h`, `long prompts`, `batch`, …
    pub fields: Vec<&'static str>,
}

/// A name from a log and the model that it means, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The model; `None` means unpriced.
    pub model: Option<Arc<Model>>,
    /// How the name was read.
    pub trail: NameTrail,
}

/// All models and their exact names.
#[derive(Debug, Clone)]
pub struct PriceTable {
    models: Vec<Arc<Model>>,
    /// Names with prices of their own: a model as another platform sells it.
    variants: HashMap<String, Arc<Model>>,
    by_name: HashMap<String, usize>,
    /// Names that the user says stand for others.
    aliases: HashMap<String, String>,
    web_search: u64,
    /// The day the built-in prices were checked.
    pub as_of: Date,
    /// The files laid over them, with their dates.
    pub overlays: Vec<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile<'a> {
    #[serde(default)]
    #[allow(
        dead_code,
        reason = "one schema so far; kept in the data so that another can come"
    )]
    schema: Option<u32>,
    #[serde(default)]
    as_of: Option<&'a str>,
    #[serde(default)]
    #[allow(dead_code, reason = "kept in the data for its readers")]
    currency: Option<&'a str>,
    #[serde(default)]
    #[allow(dead_code, reason = "kept in the data for its readers")]
    unit: Option<&'a str>,
    #[serde(default, borrow)]
    web_search_usd_per_1000: Option<&'a RawValue>,
    #[serde(borrow)]
    models: Vec<ModelFile<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile<'a> {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(borrow)]
    usd_per_mtok: Vec<RowFile<'a>>,
    #[serde(default, borrow)]
    long_context: Option<LongContextFile<'a>>,
    #[serde(default, borrow)]
    multipliers: MultipliersFile<'a>,
    #[serde(default)]
    #[allow(dead_code, reason = "kept in the data for its readers")]
    confidence: Option<&'a str>,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowFile<'a> {
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(borrow)]
    output: &'a RawValue,
    #[serde(default, borrow)]
    cache_write_5m: Option<&'a RawValue>,
    #[serde(default, borrow)]
    cache_write_1h: Option<&'a RawValue>,
    #[serde(default, borrow)]
    cache_read: Option<&'a RawValue>,
    #[serde(default)]
    until: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongContextFile<'a> {
    above_prompt_tokens: u64,
    #[serde(default)]
    until: Option<&'a str>,
    #[serde(borrow)]
    usd_per_mtok: RowFile<'a>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct MultipliersFile<'a> {
    #[serde(default, borrow)]
    batch: Option<&'a RawValue>,
    #[serde(default, borrow)]
    fast: Option<&'a RawValue>,
    #[serde(default, borrow)]
    us_geo: Option<&'a RawValue>,
    #[serde(default, borrow)]
    regional: Option<&'a RawValue>,
    #[serde(default, borrow)]
    us_gov: Option<&'a RawValue>,
}

impl PriceTable {
    /// The table that is built into the program.
    ///
    /// # Panics
    /// Never: a test reads the same bytes.
    pub fn embedded() -> Self {
        let mut table = Self {
            models: Vec::new(),
            variants: HashMap::new(),
            by_name: HashMap::new(),
            aliases: HashMap::new(),
            web_search: 0,
            as_of: Date::default(),
            overlays: Vec::new(),
        };
        match table.overlay(EMBEDDED, EMBEDDED_NAME, None) {
            Ok(()) => {
                table.overlays.clear();
                table
            }
            Err(e) => unreachable!("the built-in price table is read by a test: {e}"),
        }
    }

    /// Adds the models of a price file, replacing those with the same id. `source` names the file to people and `dated` is the
    /// day it was written, unless it names one itself. The price file of `LiteLLM` is read as it is.
    ///
    /// # Errors
    /// If the text is not a price file; the table is then unchanged.
    pub fn overlay(
        &mut self,
        json: &str,
        source: &str,
        dated: Option<Date>,
    ) -> Result<(), PriceError> {
        let source_of = |date: Option<Date>| -> Arc<str> {
            date.or(dated).map_or_else(
                || source.into(),
                |date| format!("{source} of {date}").into(),
            )
        };
        if litellm::is_one(json) {
            let source = source_of(None);
            for entry in litellm::read(json)? {
                self.insert_entry(entry, &source);
            }
            self.overlays.push(source);
            return Ok(());
        }
        let file: TableFile = serde_json::from_str(json)?;
        let date = file
            .as_of
            .map(|text| parse_date("as_of", text))
            .transpose()?;
        let source = source_of(date);
        let read = file.models.into_iter().map(|m| Model::read(m, &source));
        let models = read.collect::<Result<Vec<_>, _>>()?;
        let search = file.web_search_usd_per_1000;
        let search = search
            .map(|raw| price("all", "web_search_usd_per_1000", raw))
            .transpose()?;
        if self.models.is_empty() {
            self.as_of = date.unwrap_or(self.as_of);
        }
        // One dollar per thousand is 10⁹ pico-dollars each; one per million is 10⁶.
        self.web_search = search.map_or(self.web_search, |per_mtok| per_mtok * 1000);
        for model in models {
            self.insert(model);
        }
        self.overlays.push(source);
        Ok(())
    }

    /// Lays a model of another price list over the one it means. What Anthropic sells itself is that model; what others sell
    /// under a name of theirs has prices of its own, in which their surcharges are contained.
    fn insert_entry(&mut self, entry: Entry, source: &Arc<str>) {
        let resolved = self.resolve(&entry.name);
        let known = resolved.model.as_deref();
        if entry.is_first_party {
            let model = Model::overlaid(&entry, known, Ratio::ONE, source);
            self.insert(model);
            return;
        }
        let platform = known.map_or(Ratio::ONE, |model| {
            model.platform_factor(resolved.trail.platform)
        });
        let mut model = Model::overlaid(&entry, known, platform, source);
        (model.regional, model.us_gov) = (None, None);
        self.variants.insert(entry.name, Arc::new(model));
    }

    /// Names that have prices of their own beside the models, because another platform sells under them.
    pub fn n_variants(&self) -> usize {
        self.variants.len()
    }

    /// Lets a name stand for another, as the user says.
    ///
    /// # Errors
    /// If the other has no price.
    pub fn alias(&mut self, name: &str, target: &str) -> Result<(), PriceError> {
        if self.resolve(target).model.is_none() {
            return Err(PriceError::Alias(target.to_owned()));
        }
        self.aliases
            .insert(name.trim().to_lowercase(), target.to_owned());
        Ok(())
    }

    /// A hash of all that prices depend on: the same for the same table.
    pub fn fingerprint(&self) -> u64 {
        let sorted = |map: &HashMap<String, String>| {
            let mut all: Vec<_> = map.clone().into_iter().collect();
            all.sort();
            all
        };
        let mut variants: Vec<_> = self.variants.iter().collect();
        variants.sort_by_key(|(name, _)| *name);
        let text = format!(
            "{:?} {variants:?} {:?} {}",
            self.models,
            sorted(&self.aliases),
            self.web_search
        );
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// The price of one web search.
    pub fn per_search(&self) -> PicoUsd {
        PicoUsd(i128::from(self.web_search))
    }

    /// The plain prices of a model on a day, whatever the size of the prompt; `None` if it has none.
    pub fn base_rates(&self, resolved: &Resolved, at: Option<Time>) -> Option<Rates> {
        let nothing = Tokens::default();
        let quote = self.quote(resolved, &nothing, Terms::default(), at)?;
        Some(quote.rates)
    }

    fn insert(&mut self, model: Model) {
        let index = self
            .by_name
            .get(&*model.id)
            .copied()
            .filter(|i| self.models[*i].id == model.id);
        let index = index.unwrap_or(self.models.len());
        for name in model.aliases.iter().map(String::as_str).chain([&*model.id]) {
            self.by_name.insert(name.to_lowercase(), index);
        }
        let model = Arc::new(model);
        if index == self.models.len() {
            self.models.push(model);
        } else {
            self.models[index] = model;
        }
    }

    /// All models, newest first.
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// Finds the model that a name from a log means, exactly or not at all.
    pub fn resolve(&self, name: &str) -> Resolved {
        let known =
            |form: &str| self.by_name.contains_key(form) || self.variants.contains_key(form);
        let mut trail = match self.aliases.get(&name.trim().to_lowercase()) {
            None => trail(name, known),
            Some(target) => {
                let mut trail = trail(target, known);
                trail.forms.insert(0, name.trim().to_lowercase());
                trail
            }
        };
        trail.forms.dedup();
        let variant = self.variants.get(trail.last()).cloned();
        let model = variant.or_else(|| {
            let index = self.by_name.get(trail.last())?;
            Some(Arc::clone(&self.models[*index]))
        });
        Resolved { model, trail }
    }

    /// Prices a response of `model`. `at` chooses among dated prices; `None` means the latest. `None` is returned if the
    /// model has no price for a kind of token that was used.
    pub fn quote(
        &self,
        resolved: &Resolved,
        tokens: &Tokens,
        terms: Terms,
        at: Option<Time>,
    ) -> Option<Quote> {
        let model = resolved.model.as_ref()?;
        let (factor, assumed_standard) = model.factor(terms, &resolved.trail);
        let (row, long_prompt) = model.row(tokens.prompt(), at);
        let offered = |price: Option<u64>, used: u64| price.or((used == 0).then_some(0));
        let rates = Rates {
            input: row.input,
            output: row.output,
            cache_write_5m: offered(row.cache_write_5m, tokens.cache_write_5m)?,
            cache_write_1h: offered(row.cache_write_1h, tokens.cache_write_1h)?,
            cache_read: offered(row.cache_read, tokens.cache_read)?,
            factor,
        };
        let searches = i128::from(tokens.web_search) * i128::from(self.web_search);
        Some(Quote {
            cost: rates.cost(tokens) + PicoUsd(searches),
            rates,
            premium: Premium {
                fast: model.fast.is_some() && resolved.trail.is_fast(terms),
                long_prompt,
            },
            assumed_standard,
        })
    }
}

impl Rates {
    /// How many of the cache writes must have been for an hour, so that the whole costs what the log says. `tokens` holds all of
    /// them as five-minute writes and `quoted` is what that costs. `None` if no number of them fits.
    pub fn one_hour_writes(
        &self,
        tokens: &Tokens,
        quoted: PicoUsd,
        recorded: RecordedCost,
    ) -> Option<u64> {
        let scale = |price: u64| i128::from(price) * i128::from(self.factor.num);
        let dearer = scale(self.cache_write_1h) - scale(self.cache_write_5m);
        let den = i128::from(self.factor.den);
        let missing = recorded.pico - quoted.0;
        if dearer <= 0 {
            return None;
        }
        // All of one kind is by far the most common, and exact where a coarse cost would allow several numbers.
        let all = i128::from(tokens.cache_write_5m);
        let fits = |n: i128| (missing - n * dearer / den).abs() <= recorded.step;
        if fits(0) {
            return Some(0);
        }
        if fits(all) {
            return Some(tokens.cache_write_5m);
        }
        let nearest = (missing * den + dearer / 2).div_euclid(dearer);
        let possible = (0..=all).contains(&nearest) && fits(nearest);
        possible.then(|| u64::try_from(nearest).unwrap_or(0))
    }
}

impl Model {
    fn read(file: ModelFile, source: &Arc<str>) -> Result<Self, PriceError> {
        let id = file.id.as_str();
        let read_rows = file
            .usd_per_mtok
            .iter()
            .map(|row| Row::read(id, row, row.until));
        let mut rows = read_rows.collect::<Result<Vec<_>, _>>()?;
        // Rows that end come first, the earliest end leading; the one that holds for good is last.
        rows.sort_by_key(|row| row.until.unwrap_or(Date::MAX));
        if rows.is_empty() {
            return Err(PriceError::Empty(id.to_owned()));
        }
        let long_context = file.long_context.as_ref().map(|long| {
            let row = Row::read(id, &long.usd_per_mtok, long.until)?;
            Ok::<_, PriceError>(LongContext {
                above_prompt_tokens: long.above_prompt_tokens,
                row,
            })
        });
        let m = &file.multipliers;
        Ok(Self {
            rows,
            long_context: long_context.transpose()?,
            batch: m.batch.map(|raw| ratio(id, "batch", raw)).transpose()?,
            fast: m.fast.map(|raw| ratio(id, "fast", raw)).transpose()?,
            us_geo: m.us_geo.map(|raw| ratio(id, "us_geo", raw)).transpose()?,
            regional: m
                .regional
                .map(|raw| ratio(id, "regional", raw))
                .transpose()?,
            us_gov: m.us_gov.map(|raw| ratio(id, "us_gov", raw)).transpose()?,
            id: id.into(),
            aliases: file.aliases,
            source: Arc::clone(source),
            fallbacks: Vec::new(),
            note: file.note,
        })
    }

    /// A model with the numbers of an entry, and those that it lacks from the model that is known. `platform` is the surcharge
    /// that the entry's own numbers contain.
    fn overlaid(entry: &Entry, known: Option<&Self>, platform: Ratio, source: &Arc<str>) -> Self {
        let mut lacking = Vec::new();
        let times = |price: u64| {
            let product = u128::from(price) * u128::from(platform.num);
            let den = u128::from(platform.den);
            u64::try_from((product + den / 2) / den).unwrap_or(u64::MAX)
        };
        let now = known.map(|model| model.row(0, None).0.prices());
        let mut prices = entry.prices;
        for (kind, price) in prices.iter_mut().enumerate() {
            let other = now.and_then(|now| now[kind]).map(times);
            if price.is_none() && other.is_some() {
                *price = other;
                lacking.push(KINDS[kind]);
            }
        }
        // Rows that have ended are history that the file does not know.
        let mut rows: Vec<Row> = known.map(|model| model.rows.clone()).unwrap_or_default();
        rows.retain(|row| row.until.is_some() && platform == Ratio::ONE);
        rows.push(Row::from_prices(prices, None));
        let long = entry.long.map(|(above_prompt_tokens, mut long)| {
            for (kind, price) in long.iter_mut().enumerate() {
                // A kind that has no price of its own for long prompts costs what it always costs.
                *price = price.or(prices[kind]);
            }
            LongContext {
                above_prompt_tokens,
                row: Row::from_prices(long, None),
            }
        });
        let history = known
            .and_then(|model| model.long_context.clone())
            .filter(|_| platform == Ratio::ONE);
        if long.is_none() && history.is_some() {
            lacking.push("long prompts");
        }
        let mut factor = |own: Option<Ratio>, other: Option<Ratio>, name: &'static str| {
            if own.is_none() && other.is_some() {
                lacking.push(name);
            }
            own.or(other)
        };
        let batch = factor(entry.batch, known.and_then(|model| model.batch), "batch");
        let fast = factor(entry.fast, known.and_then(|model| model.fast), "fast");
        let us_geo = factor(
            entry.us_geo,
            known.and_then(|model| model.us_geo),
            "US-only inference",
        );
        Self {
            id: known.map_or_else(|| entry.name.as_str().into(), |model| Arc::clone(&model.id)),
            aliases: known.map(|model| model.aliases.clone()).unwrap_or_default(),
            source: Arc::clone(source),
            fallbacks: known
                .map(|model| model.sources_of(&lacking))
                .unwrap_or_default(),
            note: known.and_then(|model| model.note.clone()),
            rows,
            long_context: long.or(history),
            batch,
            fast,
            us_geo,
            regional: known.and_then(|model| model.regional),
            us_gov: known.and_then(|model| model.us_gov),
        }
    }

    /// Where a number of the model comes from: one of its five prices, `long prompts`, or a multiplier by its name.
    pub fn source_of(&self, field: &str) -> &Arc<str> {
        self.fallbacks
            .iter()
            .find(|fallback| fallback.fields.contains(&field))
            .map_or(&self.source, |fallback| &fallback.source)
    }

    /// The sources of several numbers, each with its numbers.
    fn sources_of(&self, fields: &[&'static str]) -> Vec<Fallback> {
        let mut sources: Vec<Fallback> = Vec::new();
        for field in fields {
            let source = self.source_of(field);
            match sources.iter_mut().find(|known| known.source == *source) {
                Some(known) => known.fields.push(field),
                None => sources.push(Fallback {
                    source: Arc::clone(source),
                    fields: vec![field],
                }),
            }
        }
        sources
    }

    /// The prices in force for a prompt of this size on that day (UTC).
    fn row(&self, prompt_tokens: u64, at: Option<Time>) -> (&Row, bool) {
        let day = || {
            let moment = Timestamp::from_millisecond(at?.0).ok()?;
            Some(Offset::UTC.to_datetime(moment).date())
        };
        // Most rows hold for good: only others ask for the day.
        let holds = |row: &Row| {
            let ends_later = |until| day().is_some_and(|day| day < until);
            row.until.is_none_or(ends_later)
        };
        let long = self.long_context.as_ref();
        let long = long.filter(|long| prompt_tokens > long.above_prompt_tokens && holds(&long.row));
        if let Some(long) = long {
            return (&long.row, true);
        }
        let row = self.rows.iter().find(|row| holds(row));
        (row.unwrap_or(&self.rows[self.rows.len() - 1]), false)
    }

    /// The product of the multipliers that apply, and whether one was missing.
    fn factor(&self, terms: Terms, trail: &NameTrail) -> (Ratio, bool) {
        let asked = [
            (trail.is_fast(terms), self.fast),
            (terms.batch, self.batch),
            (terms.us_geo, self.us_geo),
        ];
        let surcharges = [
            (trail.platform == Platform::Regional, self.regional),
            (trail.platform == Platform::UsGov, self.us_gov),
        ];
        // Most ask for nothing of it.
        let is_plain = |(wanted, _): &(bool, Option<Ratio>)| !wanted;
        if asked.iter().chain(&surcharges).all(is_plain) {
            return (Ratio::ONE, false);
        }
        let missing = asked
            .iter()
            .any(|(wanted, ratio)| *wanted && ratio.is_none());
        let factor = asked
            .iter()
            .chain(&surcharges)
            .filter(|(wanted, _)| *wanted)
            .fold(Ratio::ONE, |product, (_, ratio)| {
                product.times(ratio.unwrap_or(Ratio::ONE))
            });
        (factor, missing)
    }

    /// The surcharge that the platform in a name brings for this model.
    pub fn platform_factor(&self, platform: Platform) -> Ratio {
        let ratio = match platform {
            Platform::Global => None,
            Platform::Regional => self.regional,
            Platform::UsGov => self.us_gov,
        };
        ratio.unwrap_or(Ratio::ONE)
    }

    /// The five current prices in dollars per million tokens, as text: input, output, 5 m write, 1 h write, read.
    pub fn price_list(&self) -> [String; 5] {
        self.row(0, None).0.texts()
    }

    /// The long-prompt tier: above how many tokens, at which prices, until when.
    pub fn long_prices(&self) -> Option<(u64, [String; 5], Option<Date>)> {
        let long = self.long_context.as_ref()?;
        Some((long.above_prompt_tokens, long.row.texts(), long.row.until))
    }

    /// The multipliers of the model by name, those it has.
    pub fn multipliers(&self) -> Vec<(&'static str, Ratio)> {
        let all = [
            ("batch", self.batch),
            ("fast", self.fast),
            ("US-only inference", self.us_geo),
            ("regional endpoint", self.regional),
            ("US government cloud", self.us_gov),
        ];
        all.into_iter()
            .filter_map(|(name, ratio)| Some((name, ratio?)))
            .collect()
    }
}

impl Row {
    fn read(model: &str, file: &RowFile, until: Option<&str>) -> Result<Self, PriceError> {
        let cache =
            |field, raw: Option<&RawValue>| raw.map(|raw| price(model, field, raw)).transpose();
        Ok(Self {
            input: price(model, "input", file.input)?,
            output: price(model, "output", file.output)?,
            cache_write_5m: cache("cache_write_5m", file.cache_write_5m)?,
            cache_write_1h: cache("cache_write_1h", file.cache_write_1h)?,
            cache_read: cache("cache_read", file.cache_read)?,
            until: until.map(|text| parse_date(model, text)).transpose()?,
        })
    }

    fn prices(&self) -> [Option<u64>; 5] {
        [
            Some(self.input),
            Some(self.output),
            self.cache_write_5m,
            self.cache_write_1h,
            self.cache_read,
        ]
    }

    fn from_prices(prices: [Option<u64>; 5], until: Option<Date>) -> Self {
        let [input, output, cache_write_5m, cache_write_1h, cache_read] = prices;
        Self {
            input: input.unwrap_or(0),
            output: output.unwrap_or(0),
            cache_write_5m,
            cache_write_1h,
            cache_read,
            until,
        }
    }

    fn texts(&self) -> [String; 5] {
        self.prices()
            .map(|price| price.map_or_else(|| "-".to_owned(), per_mtok))
    }
}

/// Pico-dollars per token as dollars per million tokens: at least two places.
fn per_mtok(pico: u64) -> String {
    let text = format!("{}.{:06}", pico / 1_000_000, pico % 1_000_000);
    let trimmed = text.trim_end_matches('0').len().max(text.len() - 4);
    text[..trimmed].to_owned()
}

/// Dollars per million tokens are pico-dollars per token times 10⁻⁶, so six places make it whole.
fn price(model: &str, field: &'static str, raw: &RawValue) -> Result<u64, PriceError> {
    decimal(model, field, raw, 6)
}

fn ratio(model: &str, field: &'static str, raw: &RawValue) -> Result<Ratio, PriceError> {
    let thousandths = decimal(model, field, raw, 3)?;
    match u32::try_from(thousandths) {
        Ok(num) if num > 0 => Ok(Ratio { num, den: 1000 }.times(Ratio::ONE)),
        _ => Err(bad_number(model, field, raw)),
    }
}

fn decimal(
    model: &str,
    field: &'static str,
    raw: &RawValue,
    places: u32,
) -> Result<u64, PriceError> {
    scaled_decimal(raw.get(), places)
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| *n <= 1_000_000_000_000)
        .ok_or_else(|| bad_number(model, field, raw))
}

fn bad_number(model: &str, field: &'static str, raw: &RawValue) -> PriceError {
    PriceError::Number {
        model: model.to_owned(),
        field,
        value: raw.get().to_owned(),
    }
}

fn parse_date(model: &str, text: &str) -> Result<Date, PriceError> {
    let error = || PriceError::Date {
        model: model.to_owned(),
        value: text.to_owned(),
    };
    Date::strptime("%Y-%m-%d", text).map_err(|_| error())
}
