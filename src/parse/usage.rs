//! The usage object of the Messages API, read into token counts.
//!
//! Knows the fields of `usage` and nothing around it.

use serde_json::value::RawValue;

use super::json::{Object, elements, is_null};
use crate::monitor::Tokens;
use crate::price::{Speed, Terms};

/// More tokens than this in one count are a mistake of the writer, not usage.
const MAX_COUNT: u64 = 1_000_000_000_000;

/// What a usage object says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) tokens: Tokens,
    /// Compaction steps (no model: that of the response) and advisors, billed beside the response.
    pub(super) extra: Vec<(Option<String>, Tokens)>,
    pub(super) terms: Terms,
    pub(super) priority: bool,
    pub(super) declined_hops: u32,
}

/// Why a usage object cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is of a dialect that is not read, or no usage object at all.
    OtherDialect,
    /// A count is negative, fractional, too large or not a number.
    Number(String),
}

/// Reads a usage object. `model` is the response's own, to tell a declined hop of a fallback from its answer.
pub(super) fn read(usage: &Object, model: Option<&str>) -> Result<Counts, Refused> {
    if usage.get("input_tokens").is_none() && usage.get("output_tokens").is_none() {
        return Err(Refused::OtherDialect);
    }
    let mut counts = Counts {
        tokens: tokens(usage)?,
        terms: Terms {
            speed: if usage.text("speed").as_deref() == Some("fast") {
                Speed::Fast
            } else {
                Speed::Standard
            },
            batch: usage.text("service_tier").as_deref() == Some("batch"),
            us_geo: usage.text("inference_geo").as_deref() == Some("us"),
        },
        priority: usage.text("service_tier").as_deref() == Some("priority"),
        ..Counts::default()
    };
    if let Some(tools) = usage.object("server_tool_use") {
        counts.tokens.web_search = count(&tools, "web_search_requests")?.unwrap_or(0);
    }
    for step in usage.get("iterations").map(elements).unwrap_or_default() {
        if let Some(step) = Object::parse(step.get()) {
            read_step(&step, model, &mut counts)?;
        }
    }
    Ok(counts)
}

/// The top level already holds the `message` steps of the response; compaction and advisors stand beside it.
fn read_step(step: &Object, model: Option<&str>, counts: &mut Counts) -> Result<(), Refused> {
    let own = step.text("model");
    match step.text("type").as_deref() {
        Some("compaction") => counts.extra.push((None, tokens(step)?)),
        Some("advisor_message") => counts.extra.push((own.map(Into::into), tokens(step)?)),
        Some("message") if own.is_some() && own.as_deref() != model => counts.declined_hops += 1,
        _ => {}
    }
    Ok(())
}

fn tokens(usage: &Object) -> Result<Tokens, Refused> {
    let total = count(usage, "cache_creation_input_tokens")?;
    let split = usage.object("cache_creation");
    let kind = |key| split.as_ref().map_or(Ok(None), |split| count(split, key));
    let written_5m = kind("ephemeral_5m_input_tokens")?.unwrap_or(0);
    let written_1h = kind("ephemeral_1h_input_tokens")?.unwrap_or(0);
    let (cache_write_5m, cache_write_1h) = split_writes(total, written_5m, written_1h);
    Ok(Tokens {
        input: count(usage, "input_tokens")?.unwrap_or(0),
        output: count(usage, "output_tokens")?.unwrap_or(0),
        cache_write_5m,
        cache_write_1h,
        cache_read: count(usage, "cache_read_input_tokens")?.unwrap_or(0),
        web_search: 0,
    })
}

/// The total of cache writes is what is billed. What its split does not cover was written for five minutes; a split larger
/// than its total is cut to it. Without a total the split is all there is.
fn split_writes(total: Option<u64>, written_5m: u64, written_1h: u64) -> (u64, u64) {
    match total {
        Some(total) if total > 0 => {
            let one_hour = written_1h.min(total);
            (total - one_hour, one_hour)
        }
        _ => (written_5m, written_1h),
    }
}

/// A count: a whole number, also as `12.0` or `"12"`. Absent and null are `None`.
fn count(object: &Object, key: &'static str) -> Result<Option<u64>, Refused> {
    let Some(raw) = object.get(key) else {
        return Ok(None);
    };
    let text = raw.get().trim_matches('"').trim();
    let whole = text.strip_suffix(".0").unwrap_or(text);
    match whole.parse::<u64>() {
        Ok(n) if n <= MAX_COUNT => Ok(Some(n)),
        _ if is_null(raw) || text.is_empty() => Ok(None),
        _ => Err(Refused::Number(format!("{key} is {}", shown(raw)))),
    }
}

/// The value for an error message: numbers and short words only, so that no text of a prompt gets out.
fn shown(raw: &RawValue) -> &str {
    let json = raw.get();
    let harmless = json.len() <= 40 && !json.contains(|c: char| c.is_whitespace() || c == '\\');
    if harmless && json.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        json
    } else {
        "not a whole number"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_json(json: &str) -> Result<Counts, Refused> {
        read(&Object::parse(json).unwrap(), Some("claude-opus-4-7"))
    }

    fn writes(json: &str) -> (u64, u64) {
        let tokens = read_json(json).unwrap().tokens;
        (tokens.cache_write_5m, tokens.cache_write_1h)
    }

    #[test]
    fn the_split_of_cache_writes_neither_loses_nor_adds_tokens() {
        let usage = |total: &str, split: &str| {
            writes(&format!(
                r#"{{"input_tokens":1,"cache_creation_input_tokens":{total},"cache_creation":{split}}}"#
            ))
        };
        assert_eq!(usage("100", "null"), (100, 0));
        assert_eq!(usage("100", "{}"), (100, 0));
        assert_eq!(
            usage("100", r#"{"ephemeral_1h_input_tokens":100}"#),
            (0, 100)
        );
        assert_eq!(
            usage(
                "100",
                r#"{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":60}"#
            ),
            (40, 60)
        );
        assert_eq!(
            usage(
                "100",
                r#"{"ephemeral_5m_input_tokens":90,"ephemeral_1h_input_tokens":60}"#
            ),
            (40, 60)
        );
        assert_eq!(
            usage(
                "100",
                r#"{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}"#
            ),
            (100, 0)
        );
        assert_eq!(
            usage(
                "null",
                r#"{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4}"#
            ),
            (3, 4)
        );
    }

    #[test]
    fn counts_that_are_no_counts_are_refused_by_name() {
        let refused = |json| match read_json(json) {
            Err(Refused::Number(text)) => text,
            other => panic!("{json} gave {other:?}"),
        };
        assert_eq!(refused(r#"{"input_tokens":-5}"#), "input_tokens is -5");
        assert_eq!(refused(r#"{"output_tokens":1.5}"#), "output_tokens is 1.5");
        assert_eq!(
            refused(r#"{"output_tokens":99999999999999}"#),
            "output_tokens is 99999999999999"
        );
        assert_eq!(
            refused(r#"{"output_tokens":"my secret"}"#),
            "output_tokens is not a whole number"
        );
        assert_eq!(
            read_json(r#"{"prompt_tokens":5}"#),
            Err(Refused::OtherDialect)
        );
    }

    #[test]
    fn compaction_and_advisors_are_billed_beside_the_response() {
        let json = r#"{"input_tokens":682,"output_tokens":1320,"iterations":[
            {"type":"compaction","input_tokens":60385,"output_tokens":592},
            {"type":"message","model":"claude-opus-4-7","input_tokens":682,"output_tokens":1320},
            {"type":"advisor_message","model":"claude-sonnet-4-6","input_tokens":7,"output_tokens":8},
            {"type":"message","model":"claude-fable-5","input_tokens":9,"output_tokens":2}]}"#;
        let counts = read_json(json).unwrap();
        let extra: Vec<_> = counts
            .extra
            .iter()
            .map(|(m, t)| (m.as_deref(), t.input, t.output))
            .collect();
        assert_eq!(
            extra,
            [(None, 60385, 592), (Some("claude-sonnet-4-6"), 7, 8)]
        );
        assert_eq!((counts.tokens.input, counts.declined_hops), (682, 1));
    }
}
