//! The closing line of a `claude -p` run or of the Agent SDK: what the whole run used, by model.

use super::json::Object;
use super::usage::{count, recorded_cost};
use super::{Run, RunModel};
use crate::monitor::Tokens;

/// Each count under its name and the name that hand-made logs use.
const INPUT: [&str; 2] = ["inputTokens", "input_tokens"];
const OUTPUT: [&str; 2] = ["outputTokens", "output_tokens"];
const READ: [&str; 2] = ["cacheReadInputTokens", "cache_read_input_tokens"];
const WRITTEN: [&str; 2] = ["cacheCreationInputTokens", "cache_creation_input_tokens"];
const SEARCHES: [&str; 2] = ["webSearchRequests", "web_search_requests"];

/// Whether an object is such a line. `kind` is what it says it is; the Agent SDK for Python leaves that to the class.
pub(super) fn is_result(object: &Object, kind: Option<&str>) -> bool {
    let has = |key: &&str| object.get(key).is_some();
    let sums = ["num_turns", "modelUsage", "model_usage", "total_cost_usd"];
    let own = ["num_turns", "duration_api_ms", "session_id", "usage"];
    match kind {
        Some("result") => sums.iter().any(has),
        None => own.iter().all(has),
        Some(_) => false,
    }
}

/// What the line says, but for the names around it. An error names the count that is none.
pub(super) fn read(object: &Object) -> Result<Run, String> {
    let mut models = Vec::new();
    let by_model = object
        .object("modelUsage")
        .or_else(|| object.object("model_usage"));
    for (name, raw) in by_model.iter().flat_map(Object::entries) {
        if let Some(usage) = Object::of(raw) {
            models.push(model(name, &usage)?);
        }
    }
    let usage = object.object("usage");
    if models.is_empty()
        && let Some(usage) = &usage
    {
        // Old builds give one sum for the run and name no model.
        let mut sum = RunModel {
            name: None,
            ..model("", usage)?
        };
        if let Some(tools) = usage.object("server_tool_use") {
            sum.tokens.web_search = count(&tools, SEARCHES[1]).ok().flatten().unwrap_or(0);
        }
        models.push(sum);
    }
    let split = usage.and_then(|usage| usage.object("cache_creation"));
    let part = |key| {
        split
            .as_ref()
            .and_then(|split| count(split, key).ok()?)
            .unwrap_or(0)
    };
    Ok(Run {
        session: None,
        project: None,
        id: object.text("uuid").map(Into::into),
        models,
        writes: (
            part("ephemeral_5m_input_tokens"),
            part("ephemeral_1h_input_tokens"),
        ),
    })
}

fn model(name: &str, usage: &Object) -> Result<RunModel, String> {
    let first = |keys: [&'static str; 2]| -> Result<u64, String> {
        for key in keys {
            let read = count(usage, key).map_err(|e| match e {
                super::usage::Refused::Number { reason, .. } => reason,
                _ => key.to_owned(),
            })?;
            if let Some(n) = read {
                return Ok(n);
            }
        }
        Ok(0)
    };
    Ok(RunModel {
        name: Some(
            usage
                .text("canonicalModel")
                .map_or_else(|| name.to_owned(), Into::into),
        ),
        tokens: Tokens {
            input: first(INPUT)?,
            output: first(OUTPUT)?,
            cache_write_5m: first(WRITTEN)?,
            cache_write_1h: 0,
            cache_read: first(READ)?,
            web_search: first(SEARCHES)?,
        },
        recorded_cost: ["costUSD", "cost_usd"]
            .iter()
            .find_map(|key| recorded_cost(usage.get(key)?)),
    })
}
