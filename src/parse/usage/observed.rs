//! Usage as tools beside the API note it down: Langfuse observations and pi-coding-agent.

use super::{Counts, Refused, count, first_count};
use crate::monitor::Tokens;
use crate::parse::json::Object;

pub(super) fn read(usage: &Object) -> Result<Counts, Refused> {
    let read = first_count(
        usage,
        &[
            "cacheRead",
            "cache_read_input_tokens",
            "input_cached_tokens",
            "input_cache_read",
        ],
    )?
    .unwrap_or(0);
    let write = first_count(
        usage,
        &[
            "cacheWrite",
            "cache_creation_input_tokens",
            "input_cache_creation",
        ],
    )?
    .unwrap_or(0);
    let input = count(usage, "input")?.unwrap_or(0);
    let output = count(usage, "output")?.unwrap_or(0);
    // The total tells whether the input holds the cache; without one that does, it is without it.
    let total = count(usage, "total")?;
    let inclusive = read + write > 0 && total == Some(input + output) && input >= read + write;
    Ok(Counts {
        tokens: Tokens {
            input: if inclusive {
                input - read - write
            } else {
                input
            },
            output,
            cache_read: read,
            cache_write_5m: write,
            ..Tokens::default()
        },
        assumed_5m: write > 0,
        recorded_cost: usage
            .object("cost")
            .and_then(|cost| super::recorded_cost(cost.get("total")?)),
        ..Counts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_tells_whether_the_input_holds_the_cache() {
        let input = |total: u64| {
            let json = format!(
                r#"{{"input":100,"output":5,"total":{total},"cache_read_input_tokens":60,"cache_creation_input_tokens":10}}"#
            );
            read(&Object::parse(&json).unwrap()).unwrap().tokens.input
        };
        assert_eq!(input(105), 30);
        assert_eq!(input(175), 100);
        assert_eq!(input(7), 100);
    }
}
