//! Usage as `LangChain` and Pydantic AI note it down: the input holds the cache, and details stand beside.

use super::messages::tokens;
use super::{Counts, Refused, count, split_writes};
use crate::monitor::Prompts;
use crate::parse::json::Object;

/// The details of `LangChain`. Where they name the times to live of what was written, they may leave out its total.
pub(super) fn langchain(details: &Object, counts: &mut Counts) -> Result<(), Refused> {
    let of = |key| count(details, key).map(Option::unwrap_or_default);
    let total = of("cache_creation")?;
    let written_5m = of("ephemeral_5m_input_tokens")?;
    let written_1h = of("ephemeral_1h_input_tokens")?;
    let tokens = &mut counts.tokens;
    tokens.cache_read = of("cache_read")?;
    (
        tokens.cache_write_5m,
        tokens.cache_write_1h,
        counts.assumed_5m,
    ) = split_writes(Some(total), written_5m, written_1h);
    counts.take_out_of_input();
    Ok(())
}

/// The details of Pydantic AI: what the provider itself said. That of a whole run is the sum of its requests.
pub(super) fn pydantic(
    usage: &Object,
    details: &Object,
    counts: &mut Counts,
) -> Result<(), Refused> {
    if details.get("input_tokens").is_some() {
        let said = tokens(details)?.0;
        counts.tokens.input = said.input;
        counts.tokens.cache_read = said.cache_read;
        let written = said.cache_write();
        let one_hour = match count(usage, "cache_write_1h_tokens")? {
            Some(one_hour) => Some(one_hour),
            None => count(details, "ephemeral_1h_input_tokens")?,
        };
        counts.tokens.cache_write_1h = one_hour.unwrap_or(0).min(written);
        counts.tokens.cache_write_5m = written - counts.tokens.cache_write_1h;
        counts.assumed_5m = written > 0 && one_hour.is_none();
    } else {
        counts.take_out_of_input();
    }
    if count(usage, "requests")? > Some(1) {
        counts.prompts = Prompts::Run;
    }
    Ok(())
}
