//! Where a response may stand in a line, what is read of it, and what is never counted.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use claude_tokmon::monitor::{Prompts, Stamp, Time, Tokens};
use claude_tokmon::parse::{
    Clock, Item, ParseOptions, Reader, Skipped, Spare, Verdict, parse_line,
};
use proptest::prelude::*;

const NOW: Time = Time(1_795_500_000_000);
const TEN: &str = "2026-11-23T10:00:00.123Z";

fn clock() -> Clock<'static> {
    Clock {
        now: NOW,
        previous: None,
        ambiguous: None,
        zone: "UTC".parse().unwrap(),
    }
}

/// What matters of each response in a line, as text: `id model time input/output/5m/1h/read`.
fn read_with(line: &str, options: &ParseOptions) -> (Vec<String>, Verdict) {
    let mut found = Vec::new();
    let verdict = parse_line(line.as_bytes(), options, clock(), |item| {
        if let Item::Usage(usage) = item {
            let time = match usage.stamp {
                Stamp::At(time) => {
                    format!("{:.3}", jiff::Timestamp::from_millisecond(time.0).unwrap())
                }
                Stamp::Undated => "undated".to_owned(),
                Stamp::Impossible(_) => "impossible".to_owned(),
            };
            let t = usage.tokens;
            found.push(format!(
                "{} {} {time} {}/{}/{}/{}/{}",
                usage.id.as_deref().unwrap_or("-"),
                usage.model.as_deref().unwrap_or("-"),
                t.input,
                t.output,
                t.cache_write_5m,
                t.cache_write_1h,
                t.cache_read
            ));
        }
    });
    (found, verdict)
}

fn read(line: &str) -> Vec<String> {
    read_with(line, &ParseOptions::default()).0
}

fn verdict(line: &str) -> Verdict {
    read_with(line, &ParseOptions::default()).1
}

#[test]
fn a_response_is_found_in_every_wrapper() {
    let table = [
        // The response itself has no time.
        (
            r#"{"id":"msg_01A","type":"message","model":"claude-sonnet-4-5-20250929","content":[],"stop_reason":"end_turn","usage":{"input_tokens":12,"cache_creation_input_tokens":5,"cache_read_input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":3},"output_tokens":29,"service_tier":"standard"}}"#,
            "msg_01A claude-sonnet-4-5-20250929 undated 12/29/2/3/7",
        ),
        // The model stands in the request only.
        (
            r#"{"timestamp":"2026-11-23T10:00:00.123Z","request":{"model":"claude-3-5-sonnet-latest"},"response":{"id":"msg_01F","usage":{"input_tokens":12,"output_tokens":29}},"request_id":"req_01F"}"#,
            "msg_01F claude-3-5-sonnet-latest 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        // structlog
        (
            r#"{"event":"anthropic_response","model":"claude-opus-5","usage":{"input_tokens":12,"output_tokens":29},"level":"info","timestamp":"2026-11-23T10:00:00.123456Z"}"#,
            "- claude-opus-5 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        // Python logging: the message is JSON in a string, the time has a comma and no zone.
        (
            r#"{"asctime":"2026-11-23 10:00:00,123","levelname":"INFO","message":"{\"id\":\"msg_01G\",\"usage\":{\"input_tokens\":12,\"output_tokens\":29}}"}"#,
            "msg_01G - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        // pino, zap, tracing, slog
        (
            r#"{"level":30,"time":1795428000123,"pid":1,"msg":"done","response":{"id":"msg_01H","usage":{"input_tokens":12,"output_tokens":29}}}"#,
            "msg_01H - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        (
            r#"{"level":"info","ts":1795428000.123,"msg":"done","response":{"id":"msg_01I","usage":{"input_tokens":12,"output_tokens":29}}}"#,
            "msg_01I - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        (
            r#"{"timestamp":"2026-11-23T10:00:00.123456Z","level":"INFO","fields":{"message":"done","usage":"{\"input_tokens\":12,\"output_tokens\":29}"},"target":"app"}"#,
            "- - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        (
            r#"{"time":"2026-11-23T11:00:00.123456789+01:00","level":"INFO","msg":"done","usage":{"input_tokens":12,"output_tokens":29}}"#,
            "- - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        // docker, docker in docker, journald
        (
            r#"{"log":"{\"id\":\"msg_01J\",\"type\":\"message\",\"usage\":{\"input_tokens\":12,\"output_tokens\":29}}\n","stream":"stdout","time":"2026-11-23T10:00:00.123456789Z"}"#,
            "msg_01J - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        (
            r#"{"log":"{\"log\":\"{\\\"id\\\":\\\"msg_01L\\\",\\\"usage\\\":{\\\"input_tokens\\\":12,\\\"output_tokens\\\":29}}\"}","time":"2026-11-23T10:00:00.123Z"}"#,
            "msg_01L - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        (
            r#"{"MESSAGE":"{\"id\":\"msg_01K\",\"usage\":{\"input_tokens\":12,\"output_tokens\":29}}","__REALTIME_TIMESTAMP":"1795428000123456"}"#,
            "msg_01K - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        // The record's own time is preferred to the transport's.
        (
            r#"{"log":"{\"ts\":1795428000.123,\"id\":\"msg_01M\",\"usage\":{\"input_tokens\":12,\"output_tokens\":29}}","time":"2026-11-23T10:00:09Z"}"#,
            "msg_01M - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        // A latency is no time; the end is preferred to the start.
        (
            r#"{"time":0.53,"startTime":"2026-11-23T09:59:00Z","endTime":"2026-11-23T10:00:00.123Z","data":{"message":{"id":"msg_01N","usage":{"input_tokens":12,"output_tokens":29}}}}"#,
            "msg_01N - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        (
            r#"{"jsonPayload":{"message":{"id":"msg_01O","usage":{"input_tokens":12,"output_tokens":29}}},"timestamp":"2026-11-23T10:00:00.123Z"}"#,
            "msg_01O - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        (
            r#"{"timestamp":"2019-01-01T00:00:00Z","id":"msg_01P","usage":{"input_tokens":1,"output_tokens":2}}"#,
            "msg_01P - impossible 1/2/0/0/0",
        ),
        // Serilog, and an event of a .NET console
        (
            r#"{"@t":"2026-11-23T10:00:00.1234567Z","@mt":"done","id":"msg_01Q","usage":{"input_tokens":12,"output_tokens":29}}"#,
            "msg_01Q - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        (
            r#"{"Timestamp":"2026-11-23T10:00:00.123Z","Message":"done","usage":{"input_tokens":12,"output_tokens":29}}"#,
            "- - 2026-11-23T10:00:00.123Z 12/29/0/0/0",
        ),
        // Shortened names of the cache counts
        (
            r#"{"usage":{"input_tokens":12,"output_tokens":29,"cache_read_tokens":7,"cache_write_tokens":5}}"#,
            "- - undated 12/29/5/0/7",
        ),
        // Escaped keys are keys; of duplicate ones the last counts; unknown fields are no matter.
        (
            r#"{"us\u0061ge":{"input_tokens":12,"\u006futput_tokens":29,"new":[1]},"usage":{"input_tokens":1,"output_tokens":2}}"#,
            "- - undated 1/2/0/0/0",
        ),
        (
            r#"{"usage":{"input_tokens":"12","output_tokens":29.0,"cache_read_input_tokens":null}}"#,
            "- - undated 12/29/0/0/0",
        ),
    ];
    for (line, expected) in table {
        assert_eq!(read(line), [expected], "{line}");
    }
}

/// Which prompts the counts are of decides whether the cache is judged by them.
#[test]
fn sums_over_several_prompts_are_told_from_responses() {
    let prompts = |line: &str| {
        let mut found = Vec::new();
        parse_line(line.as_bytes(), &ParseOptions::default(), clock(), |item| {
            if let Item::Usage(usage) = item {
                found.push(usage.prompts.clone());
            }
        });
        assert_eq!(found.len(), 1, "{line}");
        found.swap_remove(0)
    };
    let counts = r#""input_tokens":30,"cache_read_input_tokens":900,"output_tokens":7"#;
    let tools = |n: u8| {
        format!(r#""server_tool_use":{{"web_search_requests":0,"web_fetch_requests":{n}}}"#)
    };
    let step = |kind: &str, read: u64| {
        format!(
            r#"{{"type":"{kind}","input_tokens":10,"cache_read_input_tokens":{read},"output_tokens":2}}"#
        )
    };
    let with = |more: &str| prompts(&format!(r#"{{"usage":{{{counts},{more}}}}}"#));
    assert_eq!(with(&tools(0)), Prompts::One);
    assert_eq!(with(&tools(1)), Prompts::Sum);
    let steps = |all: &[String]| format!(r#"{},"iterations":[{}]"#, tools(1), all.join(","));
    assert_eq!(with(&steps(&[step("message", 900)])), Prompts::One);
    assert_eq!(
        with(&steps(&[step("compaction", 5), step("message", 900)])),
        Prompts::One
    );
    let tokens = |cache_read| Tokens {
        input: 10,
        output: 2,
        cache_read,
        ..Tokens::default()
    };
    assert_eq!(
        with(&steps(&[
            step("message", 200),
            step("advisor_message", 1),
            step("message", 300),
            step("message", 400)
        ])),
        Prompts::Steps([200, 300, 400].map(tokens).into())
    );
    // A stream tells at its end.
    let stream = |end: &str| {
        prompts(&format!(
            r#"{{"type":"message_start","message":{{"id":"msg_1","usage":{{{counts}}}}}}}{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{{"output_tokens":9{end}}}}}{{"type":"message_stop"}}"#
        ))
    };
    assert_eq!(stream(""), Prompts::One);
    let searched = r#","server_tool_use":{"web_search_requests":1}"#;
    assert_eq!(stream(searched), Prompts::Sum);
    let steps = format!(
        r#"{searched},"iterations":[{},{}]"#,
        step("message", 200),
        step("message", 400)
    );
    assert_eq!(
        stream(&steps),
        Prompts::Steps([200, 400].map(tokens).into())
    );
    // Pydantic AI sums up the requests of a run.
    let run = |n: u8| {
        format!(
            r#"{{"usage":{{"input_tokens":940,"cache_read_tokens":900,"output_tokens":7,"details":{{"input_tokens":40}},"requests":{n}}}}}"#
        )
    };
    assert_eq!(
        (prompts(&run(1)), prompts(&run(2))),
        (Prompts::One, Prompts::Run)
    );
    // So does the AI SDK, and then leaves out what the provider said.
    let ai = |raw: &str, more: &str| {
        format!(
            r#"{{"usage":{{"inputTokens":940,"outputTokens":7,"inputTokenDetails":{{"noCacheTokens":40,"cacheReadTokens":900}}{raw}}}{more}}}"#
        )
    };
    let raw = r#","raw":{"input_tokens":40,"cache_read_input_tokens":900,"output_tokens":7}"#;
    assert_eq!(prompts(&ai(raw, "")), Prompts::One);
    assert_eq!(prompts(&ai("", "")), Prompts::Run);
    let total = |n: u64| {
        format!(r#","totalUsage":{{"inputTokens":{n},"outputTokens":7,"inputTokenDetails":{{}}}}"#)
    };
    assert_eq!(prompts(&ai(raw, &total(940))), Prompts::One);
    assert_eq!(prompts(&ai(raw, &total(941))), Prompts::Run);
}

#[test]
fn a_line_may_hold_several_objects_or_end_with_a_comma() {
    let one = r#"{"id":"msg_1","usage":{"input_tokens":1,"output_tokens":2}}"#;
    let two = one.replace("msg_1", "msg_2");
    assert_eq!(read(&format!("{one}{two}")).len(), 2);
    assert_eq!(verdict(&format!("{one},")), Verdict::Items(1));
    let (found, verdict) = read_with(&format!("{one}{{\"cut"), &ParseOptions::default());
    assert_eq!(found.len(), 1);
    assert!(
        matches!(verdict, Verdict::Bad { items: 1, .. }),
        "{verdict:?}"
    );
}

#[test]
fn usage_is_never_counted_inside_prompts_tools_and_reports() {
    let usage = r#"{"input_tokens":999,"output_tokens":9}"#;
    let decoys = [
        format!(
            r#"{{"type":"user","message":{{"role":"user","content":[{{"type":"text","usage":{usage}}}]}}}}"#
        ),
        format!(
            r#"{{"type":"user","message":{{"role":"user","content":"x"}},"toolUseResult":{{"usage":{usage},"totalTokens":5}}}}"#
        ),
        format!(
            r#"{{"type":"assistant","message":{{"id":"msg_1","content":[{{"type":"tool_use","input":{{"usage":{usage}}}}}]}}}}"#
        ),
        format!(
            r#"{{"type":"progress","data":{{"type":"agent_progress","message":{{"message":{{"usage":{usage}}}}}}}}}"#
        ),
        format!(
            r#"{{"input":{{"usage":{usage}}},"tools":[{{"usage":{usage}}}],"metadata":{{"usage":{usage}}}}}"#
        ),
        format!(r#"{{"request":{{"messages":[],"usage":{usage}}}}}"#),
        format!(r#"{{"a":{{"b":{{"usage":{usage}}}}}}}"#),
        // What a framework was asked, and what came of tools, stands beside what it answered.
        format!(
            r#"{{"steps":[{{"content":[{{"usage":{usage}}}],"toolResults":[{{"output":{{"usage":{usage}}}}}]}}]}}"#
        ),
        format!(
            r#"{{"generations":[[{{"text":"x","generation_info":{{"usage":{usage}}}}}]],"llm_output":{{"n":1}}}}"#
        ),
        format!(
            r#"{{"response_metadata":{{"input":{{"usage":{usage}}}}},"content":[{{"usage_metadata":{usage}}}]}}"#
        ),
        format!(r#"{{"record":{{"extra":{{"tool":{{"usage":{usage}}}}}}}}}"#),
        // Four objects deep is out of reach of the built-in search.
        format!(r#"{{"data":{{"data":{{"data":{{"usage":{usage}}}}}}}}}"#),
        format!(
            r#"{{"type":"result","subtype":"success","num_turns":2,"usage":{usage},"modelUsage":{{}}}}"#
        ),
        format!(r#"{{"type":"message_delta","usage":{usage}}}"#),
        r#"{"usage":"input_tokens 999"}"#.to_owned(),
        r#"{"usage":[1,2]}"#.to_owned(),
    ];
    for line in decoys {
        assert_eq!(read(&line), Vec::<String>::new(), "{line}");
        assert!(!matches!(verdict(&line), Verdict::Bad { .. }), "{line}");
    }
}

#[test]
fn what_looks_like_a_response_and_is_none_is_told_apart() {
    assert_eq!(
        verdict(r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#),
        Verdict::Items(1)
    );
    assert_eq!(
        verdict(
            r#"{"message":{"model":"<synthetic>","usage":{"input_tokens":0,"output_tokens":0}}}"#
        ),
        Verdict::Skipped(Skipped::Synthetic)
    );
    assert_eq!(
        verdict(r#"{"usage":{"billed_tokens":3}}"#),
        Verdict::Skipped(Skipped::OtherDialect)
    );
    assert_eq!(verdict(r#"{"hello":"world"}"#), Verdict::NoUsage);
    assert_eq!(verdict("  \r"), Verdict::Blank);
}

#[test]
fn a_pointer_replaces_the_search_for_its_item_only() {
    let line = r#"{"at":{"s":1795428000.123},"who":{"chat":"c-7"},"payload":{"llm":{"usage":{"input_tokens":12,"output_tokens":29},"name":"claude-opus-5","key":"r-1"}},"usage":{"input_tokens":1,"output_tokens":1},"model":"other"}"#;
    let pointer = |text: &str| Some(text.parse().unwrap());
    let mut options = ParseOptions {
        usage_field: pointer("/payload/llm/usage"),
        ..ParseOptions::default()
    };
    assert_eq!(read_with(line, &options).0, ["- other undated 12/29/0/0/0"]);
    options.model_field = pointer("/payload/llm/name");
    options.time_field = pointer("/at/s");
    options.id_field = pointer("/payload/llm/key");
    assert_eq!(
        read_with(line, &options).0,
        [format!("r-1 claude-opus-5 {TEN} 12/29/0/0/0")]
    );
    options.usage_field = pointer("/payload/nothing");
    assert_eq!(read_with(line, &options), (vec![], Verdict::NoUsage));
}

#[test]
fn bad_lines_are_named_without_their_text() {
    let reason = |line: &[u8]| match parse_line(line, &ParseOptions::default(), clock(), |_| {}) {
        Verdict::Bad { column, reason, .. } => (column, reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(b"secret"), (1, "not a JSON object".to_owned()));
    assert_eq!(reason(b"[1]"), (1, "not a JSON object".to_owned()));
    assert_eq!(reason(b"{\"a\":\xff}"), (6, "invalid UTF-8".to_owned()));
    // A packed file of another name, and what some shells write with `>`.
    for (bytes, word) in [
        (&b"\x1f\x8b\x08\0\0"[..], "zcat"),
        (b"\x28\xb5\x2f\xfd\x04", "zstdcat"),
        (b"\xff\xfe{\0\"\0", "iconv"),
    ] {
        assert!(reason(bytes).1.contains(word));
    }
    assert_eq!(reason(br#"{"secret": tru"#).1, "the JSON object is cut off");
    let cut = b"{\"secret\": \"caf\xc3";
    assert_eq!(
        reason(cut),
        (cut.len(), "the JSON object is cut off".to_owned())
    );
    assert_eq!(reason(br#"{"secret": nope}"#).1, "not valid JSON");
    assert_eq!(
        reason(br#"{"usage":{"input_tokens":-3,"output_tokens":1}}"#).1,
        "input_tokens is -3"
    );
}

/// A writer that cuts text at so many bytes cuts letters in two. The response was billed all the same.
#[test]
fn a_broken_letter_in_a_text_takes_nothing_from_the_counts() {
    let broken = |text: &str, with: &[u8]| {
        let (before, after) = text.split_once('~').unwrap();
        [before.as_bytes(), with, after.as_bytes()].concat()
    };
    let items = |line: &[u8]| {
        let mut items = Vec::new();
        let verdict = parse_line(line, &ParseOptions::default(), clock(), |item| {
            items.push(item.clone());
        });
        (verdict, items)
    };
    let plain = GOOD.replace("\"a ", "\"a~ ");
    let escaped = format!(
        r#"{{"MESSAGE":{}}}"#,
        serde_json::to_string(&plain).unwrap()
    );
    for line in [&plain, &escaped] {
        let whole = items(line.replace('~', "").as_bytes());
        assert_eq!(whole.1.len(), 1, "{line}");
        assert_eq!(items(&broken(line, b"\xe2\x82")), whole, "{line}");
    }
    // A name is a name with a mark in it.
    let session = GOOD.replace("{\"timestamp", "{\"sessionId\":\"caf~\",\"timestamp");
    let (_, items) = items(&broken(&session, b"\xe9"));
    let [Item::Usage(usage)] = &items[..] else {
        panic!("{items:?}")
    };
    assert_eq!(usage.names.session.as_deref(), Some("caf\u{fffd}"));
}

const GOOD: &str = r#"{"timestamp":"2026-11-23T10:00:00.123Z","type":"assistant","message":{"id":"msg_1","model":"claude-opus-4-7","content":[{"type":"text","text":"a \"b\" c"}],"usage":{"input_tokens":12,"output_tokens":29,"cache_creation":{"ephemeral_1h_input_tokens":5}}}}"#;

/// Every line of every dialect.
fn good_lines() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/formats");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().unwrap() != "toml")
        .collect();
    files.sort();
    let texts = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap());
    let lines: Vec<String> = texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.is_empty())
        .collect();
    assert!(lines.len() > 100);
    lines
}

/// What must hold whatever was read.
fn check(item: &Item) {
    if let Item::Usage(usage) = item {
        let t = usage.tokens;
        for n in [t.input, t.output, t.cache_write(), t.cache_read] {
            assert!(n <= 4_000_000_000_000, "{n}");
        }
        if let Stamp::At(time) = usage.stamp {
            assert!(time <= NOW && time.0 >= 1_672_531_200_000, "{time:?}");
        }
    }
}

fn read_any(bytes: &[u8]) {
    let mut reader = Reader::default();
    let mut spare = Spare::default();
    for line in bytes.split(|b| *b == b'\n') {
        let options = ParseOptions::default();
        reader.line(line, &options, clock(), &mut spare, &mut |item| {
            check(item);
        });
    }
    reader.finish(&mut |item| check(item));
}

/// What a line comes to, with what is kept from the lines before.
fn read_after(line: &[u8], spare: &mut Spare) -> (Verdict, Vec<Item>) {
    let mut reader = Reader::default();
    let mut items = Vec::new();
    let mut emit = |item: &Item| items.push(item.clone());
    let verdict = reader.line(line, &ParseOptions::default(), clock(), spare, &mut emit);
    reader.finish(&mut emit);
    (verdict, items)
}

#[test]
fn lines_of_all_dialects_say_the_same_whatever_came_before() {
    let mut spare = Spare::default();
    let lines = good_lines();
    for line in lines.iter().flat_map(|line| [line; 3]).chain(&lines) {
        let fresh = read_after(line.as_bytes(), &mut Spare::default());
        assert_eq!(read_after(line.as_bytes(), &mut spare), fresh, "{line}");
    }
}

/// JSON made of the words that the reader knows.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let words = [
        "usage",
        "message",
        "type",
        "message_start",
        "message_delta",
        "result",
        "modelUsage",
        "input_tokens",
        "output_tokens",
        "cache_creation",
        "cache_creation_input_tokens",
        "ephemeral_1h_input_tokens",
        "prompt_tokens",
        "completion_tokens",
        "inputTokens",
        "usageDetails",
        "input",
        "output",
        "total",
        "id",
        "msg_1",
        "model",
        "claude-opus-5",
        "log",
        "stream",
        "stdout",
        "{\"usage\":{\"input_tokens\":1}}",
        "resourceLogs",
        "scopeLogs",
        "logRecords",
        "attributes",
        "key",
        "value",
        "stringValue",
        "event.name",
        "api_request",
        "iterations",
        "timestamp",
        "2026-11-23T10:00:00Z",
        "custom_id",
        "modelId",
        "errorCode",
        "num_turns",
        "session_id",
        "content_block_start",
        "content_block",
        "fallback",
        "to",
        "delta",
        "stop_reason",
        "gen_ai.usage.input_tokens",
        "MESSAGE",
        "role",
        "user",
        "content",
        "error",
        "isApiErrorMessage",
        "costUSD",
        "total_cost_usd",
    ];
    let word = prop::sample::select(words.to_vec());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        let member = (word.clone(), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::Array),
            prop::collection::vec(member, 0..8).prop_map(|members| {
                Value::Object(
                    members
                        .into_iter()
                        .map(|(k, v)| (k.to_owned(), v))
                        .collect(),
                )
            }),
        ]
    })
}

/// Puts decoys into each object: what prompts, tools and their results may hold.
fn add_decoys(value: &mut serde_json::Value, decoy: &serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            for member in members.values_mut() {
                add_decoys(member, decoy);
            }
            for key in [
                "content",
                "tool_input",
                "arguments",
                "toolUseResult",
                "completion",
                "text",
            ] {
                match members.get_mut(key) {
                    Some(serde_json::Value::Array(blocks)) => blocks.push(decoy.clone()),
                    Some(_) => {}
                    None => {
                        members.insert(
                            key.to_owned(),
                            serde_json::json!([decoy, decoy.to_string()]),
                        );
                    }
                }
            }
        }
        serde_json::Value::Array(elements) => {
            for element in elements {
                add_decoys(element, decoy);
            }
        }
        _ => {}
    }
}

#[test]
fn no_decoy_in_prompts_and_tools_changes_a_count_in_any_dialect() {
    let usage = serde_json::json!({"input_tokens": 999, "output_tokens": 9});
    let decoy = serde_json::json!({
        "type": "tool_result", "usage": usage, "message": {"id": "msg_decoy", "usage": usage},
        "modelUsage": {"x": {"inputTokens": 9}}, "prompt_tokens": 9, "completion_tokens": 9,
        "text": "{\"usage\":{\"input_tokens\":999,\"output_tokens\":9}}",
    });
    let mut n = 0;
    for line in good_lines() {
        let Ok(mut value) = serde_json::from_str::<serde_json::Value>(&line) else {
            continue;
        };
        let before = read(&value.to_string());
        add_decoys(&mut value, &decoy);
        let with = value.to_string();
        assert_eq!(read(&with), before, "{line}");
        // The same with the keys of the decoys escaped.
        let escaped = with
            .replace("\"tool_input\"", "\"tool_inp\\u0075t\"")
            .replace("\"content\"", "\"cont\\u0065nt\"");
        assert_eq!(read(&escaped), before, "{line}");
        n += before.len();
    }
    assert!(n > 70, "{n}");
}

#[test]
fn a_count_that_is_none_is_never_taken_for_another_number() {
    let mut n = 0;
    for line in good_lines() {
        let before = read(&line);
        for key in [
            "input_tokens",
            "output_tokens",
            "prompt_tokens",
            "inputTokens",
            "cacheRead",
        ] {
            for wrong in [
                "-1",
                "1.5",
                "1e3",
                "true",
                "[]",
                "{}",
                "\"many\"",
                "18446744073709551616",
                "99999999999999",
            ] {
                let Some(at) = line.find(&format!("\"{key}\":")) else {
                    continue;
                };
                let from = at + key.len() + 3;
                let length = line[from..].find([',', '}']).unwrap();
                let bad = format!("{}{wrong}{}", &line[..from], &line[from + length..]);
                let (found, verdict) = read_with(&bad, &ParseOptions::default());
                let named =
                    matches!(&verdict, Verdict::Bad { reason, .. } if reason.contains("is "));
                // Where the key stands in what is not read, nothing changes.
                assert!(
                    named || found == before || found.len() < before.len(),
                    "{bad}: {found:?}"
                );
                n += usize::from(named);
            }
        }
    }
    assert!(n > 400, "{n}");
}

#[test]
fn arrays_are_read_element_by_element() {
    let one = r#"{"id":"msg_1","usage":{"input_tokens":1,"output_tokens":2}}"#;
    assert_eq!(read(&format!("[{one}, {one}]")).len(), 2);
    assert_eq!(verdict("["), Verdict::NoUsage);
    assert_eq!(verdict("]"), Verdict::NoUsage);
    assert!(matches!(
        verdict(&format!("[{one},1]")),
        Verdict::Bad { .. }
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in any::<Vec<u8>>()) {
        read_any(&bytes);
    }

    #[test]
    fn any_json_is_read_without_a_panic(values in prop::collection::vec(any_json(), 1..4)) {
        let lines: Vec<String> = values.iter().map(ToString::to_string).collect();
        read_any(lines.join("\n").as_bytes());
    }

    #[test]
    fn any_mutation_of_good_lines_is_read_without_a_panic(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..5),
    ) {
        let lines = good_lines();
        let mut bytes = Vec::new();
        let mut spare = Spare::default();
        for (line, at, byte, how) in picks {
            let mut line = line.get(&lines).clone().into_bytes();
            read_after(&line, &mut spare);
            let at = at.index(line.len());
            match how {
                0 => line[at] = byte,
                1 => line.truncate(at),
                2 => line.insert(at, byte),
                _ => {
                    let tail = line[at..].to_vec();
                    line.extend(tail);
                }
            }
            // Nor do the good ones change what it says.
            let fresh = read_after(&line, &mut Spare::default());
            prop_assert_eq!(read_after(&line, &mut spare), fresh);
            bytes.extend(line);
            bytes.push(b'\n');
        }
        read_any(&bytes);
    }

    /// Whatever a prompt holds, it changes nothing.
    #[test]
    fn any_content_leaves_the_counts_alone(text in "\\PC{0,60}", json in "\\{\"usage\":\\{\"input_tokens\":[0-9]{1,5}\\}\\}") {
        let content = serde_json::json!([{"type": "text", "text": text}, {"type": "text", "text": json}, {"type": "x", "usage": {"input_tokens": 5}}]);
        let line = GOOD.replace(r#"[{"type":"text","text":"a \"b\" c"}]"#, &content.to_string());
        prop_assert_eq!(read(&line), read(GOOD));
    }
}
