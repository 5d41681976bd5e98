//! Usage as the AI SDK for TypeScript notes it down, with what the provider said of it beside.
//!
//! From its sixth version on the input holds the cache, and the provider's own counts are there too. Before, it is without the
//! cache, and what was written to that stands only in what the provider said.

use super::{Counts, Refused, count, first_count, read};
use crate::monitor::{Prompts, Tokens};
use crate::parse::json::Object;

/// Whether a usage object is written so. `step` is what it stands in.
pub(in crate::parse) fn is_ai_sdk(step: &Object, usage: &Object) -> bool {
    let has = |key| usage.get(key).is_some();
    has("inputTokenDetails")
        || has("cachedInputTokens")
        || has("promptTokens")
        || has("inputTokens") && provider(step).is_some()
}

/// What the provider said.
fn provider<'a>(step: &Object<'a>) -> Option<Object<'a>> {
    let keys = ["providerMetadata", "experimental_providerMetadata"];
    keys.into_iter().find_map(|key| step.object(key))
}

/// The usage of such a step, or of the run that ended with it.
pub(in crate::parse) fn ai_sdk(
    step: &Object,
    usage: &Object,
    model: Option<&str>,
) -> Result<Counts, Refused> {
    let (input, output) = both(usage)?;
    if let Some(total) = step.object("totalUsage") {
        let all = both(&total)?;
        if all.0 > input || all.1 > output {
            return of_run(step, &total);
        }
    }
    let said = usage
        .object("raw")
        .or_else(|| provider(step)?.object("anthropic")?.object("usage"))
        .or_else(|| step.object("response")?.object("body")?.object("usage"))
        .map(|said| read(&said, model));
    // What it said is of this very step, and not of one of several.
    let is_same = |tokens: &Tokens| {
        output == Some(tokens.output) && [tokens.input, tokens.prompt()].map(Some).contains(&input)
    };
    match said {
        Some(Ok(counts)) if is_same(&counts.tokens) => Ok(counts),
        Some(Err(refused @ Refused::Number { .. })) => Err(refused),
        // From the seventh version on, as in the fourth, the usage beside the last step is that of all of them.
        Some(_) => of_run(step, usage),
        // From the sixth on only a sum lacks what the provider said.
        None if usage.get("inputTokenDetails").is_some() => of_run(step, usage),
        None => made(step, usage),
    }
}

fn of_run(step: &Object, usage: &Object) -> Result<Counts, Refused> {
    Ok(Counts {
        prompts: Prompts::Run,
        ..made(step, usage)?
    })
}

/// The counts that the SDK made itself.
fn made(step: &Object, usage: &Object) -> Result<Counts, Refused> {
    let tokens = if let Some(details) = usage.object("inputTokenDetails") {
        with_details(usage, &details)?
    } else {
        // Without a word of the provider nobody knows what was written to the cache.
        let all = provider(step);
        let of = |name| all.as_ref().and_then(|all| all.object(name));
        let said = of("anthropic").or_else(|| of("bedrock")?.object("usage"));
        beside(usage, &said.ok_or(Refused::OtherDialect)?)?
    };
    Ok(Counts {
        tokens,
        assumed_5m: tokens.cache_write_5m > 0,
        ..Counts::default()
    })
}

const INPUT: [&str; 2] = ["inputTokens", "promptTokens"];
const OUTPUT: [&str; 2] = ["outputTokens", "completionTokens"];

/// The input, which may hold the cache, and the output.
fn both(usage: &Object) -> Result<(Option<u64>, Option<u64>), Refused> {
    Ok((first_count(usage, &INPUT)?, first_count(usage, &OUTPUT)?))
}

/// The counts from the sixth version on.
fn with_details(usage: &Object, details: &Object) -> Result<Tokens, Refused> {
    let cache_read = count(details, "cacheReadTokens")?.unwrap_or(0);
    let cache_write_5m = count(details, "cacheWriteTokens")?.unwrap_or(0);
    let whole = count(usage, "inputTokens")?.unwrap_or(0);
    let fresh = count(details, "noCacheTokens")?;
    Ok(Tokens {
        input: fresh.unwrap_or(whole.saturating_sub(cache_read + cache_write_5m)),
        output: count(usage, "outputTokens")?.unwrap_or(0),
        cache_read,
        cache_write_5m,
        ..Tokens::default()
    })
}

/// The counts before the sixth version.
fn beside(usage: &Object, provider: &Object) -> Result<Tokens, Refused> {
    let read = match count(usage, "cachedInputTokens")? {
        Some(read) => Some(read),
        None => count(provider, "cacheReadInputTokens")?,
    };
    let written = ["cacheCreationInputTokens", "cacheWriteInputTokens"];
    let cache_write_5m = first_count(provider, &written)?.unwrap_or(0);
    Ok(Tokens {
        input: first_count(usage, &INPUT)?.unwrap_or(0),
        output: first_count(usage, &OUTPUT)?.unwrap_or(0),
        cache_read: read.unwrap_or(0),
        cache_write_5m,
        ..Tokens::default()
    })
}
