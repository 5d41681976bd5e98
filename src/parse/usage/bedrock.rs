//! Usage as AWS Bedrock writes it: Converse, and the log of model invocations. Input counts are without the cache.

use super::{Counts, Refused, count, first_count, split_writes};
use crate::monitor::Tokens;
use crate::parse::json::{Object, elements};

/// The usage of Converse. Each cache count stands there under two names and is one number.
pub(super) fn converse(usage: &Object) -> Result<Counts, Refused> {
    let total = first_count(
        usage,
        &["cacheWriteInputTokens", "cacheWriteInputTokenCount"],
    )?;
    let (written_5m, written_1h) = cache_details(usage)?;
    let (cache_write_5m, cache_write_1h, assumed_5m) = split_writes(total, written_5m, written_1h);
    Ok(Counts {
        tokens: Tokens {
            input: count(usage, "inputTokens")?.unwrap_or(0),
            output: count(usage, "outputTokens")?.unwrap_or(0),
            cache_read: first_count(usage, &["cacheReadInputTokens", "cacheReadInputTokenCount"])?
                .unwrap_or(0),
            cache_write_5m,
            cache_write_1h,
            web_search: 0,
        },
        assumed_5m,
        ..Counts::default()
    })
}

/// The split of the writes: `cacheDetails: [{"ttl": "1h", "inputTokens": 20}]`.
fn cache_details(usage: &Object) -> Result<(u64, u64), Refused> {
    let (mut written_5m, mut written_1h) = (0, 0);
    for entry in usage.get("cacheDetails").map(elements).unwrap_or_default() {
        let Some(entry) = Object::of(entry) else {
            continue;
        };
        let n = count(&entry, "inputTokens")?.unwrap_or(0);
        match entry.text("ttl").as_deref() {
            Some("1h") => written_1h += n,
            Some("5m") => written_5m += n,
            _ => {}
        }
    }
    Ok((written_5m, written_1h))
}

/// The usage in the closing event of a `ConverseStream`, `{"metadata": {"usage": …, "metrics": …}}`.
pub(in crate::parse) fn converse_stream(event: &Object) -> Option<Result<Counts, Refused>> {
    let metadata = event.object("metadata")?;
    metadata.get("metrics")?;
    let usage = metadata.object("usage")?;
    usage.get("inputTokens")?;
    Some(converse(&usage))
}

/// What the log of model invocations says of one of them.
pub(in crate::parse) struct Invocation {
    pub(in crate::parse) counts: Counts,
    /// The id of the response, if its body was logged.
    pub(in crate::parse) id: Option<String>,
}

/// The outer numbers of a model invocation; `None` if it counts no tokens. The body repeats them and is asked only for the
/// time to live of cache writes and the id.
pub(in crate::parse) fn invocation(record: &Object) -> Result<Option<Invocation>, Refused> {
    let (input, output) = (record.object("input"), record.object("output"));
    let of = |object: &Option<Object>, key| {
        object
            .as_ref()
            .map_or(Ok(None), |object| count(object, key))
            .and_then(|n| n.map_or_else(|| count(record, key), |n| Ok(Some(n))))
    };
    let fresh = of(&input, "inputTokenCount")?;
    let answered = of(&output, "outputTokenCount")?;
    if fresh.is_none() && answered.is_none() {
        return Ok(None);
    }
    let body = output
        .as_ref()
        .and_then(|output| output.object("outputBodyJson"));
    let split = body
        .as_ref()
        .and_then(|body| body.object("usage")?.object("cache_creation"));
    let part = |key| split.as_ref().map_or(Ok(None), |split| count(split, key));
    let written = of(&input, "cacheWriteInputTokenCount")?;
    let (cache_write_5m, cache_write_1h, assumed_5m) = match written {
        Some(total) if total > 0 => split_writes(
            Some(total),
            part("ephemeral_5m_input_tokens")?.unwrap_or(0),
            part("ephemeral_1h_input_tokens")?.unwrap_or(0),
        ),
        _ => (0, 0, false),
    };
    Ok(Some(Invocation {
        counts: Counts {
            tokens: Tokens {
                input: fresh.unwrap_or(0),
                output: answered.unwrap_or(0),
                cache_read: of(&input, "cacheReadInputTokenCount")?.unwrap_or(0),
                cache_write_5m,
                cache_write_1h,
                web_search: 0,
            },
            assumed_5m,
            ..Counts::default()
        },
        id: body.and_then(|body| body.text("id").map(Into::into)),
    }))
}
