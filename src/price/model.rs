//! The prices of one model: for prompts of any size, on any day, in each mode, and where each number comes from.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::litellm::{Entry, KINDS};
use super::money::Ratio;
use super::name::{NameTrail, Platform};
use super::rates::{Premium, Quote, Rates, Terms};
use crate::monitor::{Time, Tokens};

/// Prices that hold until a day, or for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cache_write_5m: Option<u64>,
    pub(super) cache_write_1h: Option<u64>,
    pub(super) cache_read: Option<u64>,
    /// First day on which the row no longer holds.
    pub(super) until: Option<Date>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LongContext {
    pub(super) above_prompt_tokens: u64,
    pub(super) row: Row,
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
    pub(super) rows: Vec<Row>,
    pub(super) long_context: Option<LongContext>,
    pub(super) batch: Option<Ratio>,
    pub(super) fast: Option<Ratio>,
    pub(super) us_geo: Option<Ratio>,
    pub(super) regional: Option<Ratio>,
    pub(super) us_gov: Option<Ratio>,
}

/// Numbers of a model that come from another source than the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// Where they come from.
    pub source: Arc<str>,
    /// Which they are: `input`, `cache write 1h`, `long prompts`, `batch`, …
    pub fields: Vec<&'static str>,
}

impl Model {
    /// A model with the numbers of an entry, and those that it lacks from the model that is known. `platform` is the surcharge
    /// that the entry's own numbers contain.
    pub(super) fn overlaid(
        entry: &Entry,
        known: Option<&Self>,
        platform: Ratio,
        source: &Arc<str>,
    ) -> Self {
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

    /// Prices a response with a prompt of this size, web searches left out. None if the model has no price for a kind of token that was used.
    pub(super) fn quote(
        &self,
        tokens: &Tokens,
        prompt_tokens: u64,
        terms: Terms,
        trail: &NameTrail,
        at: Option<Time>,
    ) -> Option<Quote> {
        let (factor, assumed_standard) = self.factor(terms, trail);
        let (row, long_prompt) = self.row(prompt_tokens, at);
        let offered = |price: Option<u64>, used: u64| price.or((used == 0).then_some(0));
        let rates = Rates {
            input: row.input,
            output: row.output,
            cache_write_5m: offered(row.cache_write_5m, tokens.cache_write_5m)?,
            cache_write_1h: offered(row.cache_write_1h, tokens.cache_write_1h)?,
            cache_read: offered(row.cache_read, tokens.cache_read)?,
            factor,
        };
        Some(Quote {
            cost: rates.cost(tokens),
            rates,
            premium: Premium {
                fast: self.fast.is_some() && trail.is_fast(terms),
                long_prompt,
            },
            assumed_standard,
        })
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
