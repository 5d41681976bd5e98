//! A price file in the shape of `prices.json`, read into models. A number that is not an exact price is an error that names it.

use std::sync::Arc;

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::model::{LongContext, Model, Row};
use super::money::{Ratio, scaled_decimal};

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

/// What a price file says.
pub(super) struct PriceFile {
    /// The day on which its prices were checked.
    pub(super) as_of: Option<Date>,
    /// The price of a web search, in pico-dollars.
    pub(super) web_search: Option<u64>,
    /// Where they come from, for people.
    pub(super) source: Arc<str>,
    /// Its models.
    pub(super) models: Vec<Model>,
}

/// Reads a price file. What it is called depends on the day that it names.
pub(super) fn read(
    json: &str,
    source_of: impl FnOnce(Option<Date>) -> Arc<str>,
) -> Result<PriceFile, PriceError> {
    let file: TableFile = serde_json::from_str(json)?;
    let as_of = file.as_of.map(|text| parse_date("as_of", text));
    let as_of = as_of.transpose()?;
    let source = source_of(as_of);
    let models = file.models.into_iter().map(|m| Model::read(m, &source));
    let models = models.collect::<Result<_, _>>()?;
    let search = file.web_search_usd_per_1000;
    let search = search.map(|raw| price("all", "web_search_usd_per_1000", raw));
    Ok(PriceFile {
        as_of,
        // One dollar per thousand is 10⁹ pico-dollars each; one per million is 10⁶.
        web_search: search.transpose()?.map(|per_mtok| per_mtok * 1000),
        source,
        models,
    })
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
