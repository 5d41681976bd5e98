//! Where a response may stand in a line, what is read of it, and what is never counted.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use claude_tokmon::monitor::{Stamp, Time};
use claude_tokmon::parse::{Clock, Item, ParseOptions, Skipped, Verdict, parse_line};
use proptest::prelude::*;

const NOW: Time = Time(1_795_500_000_000);
const TEN: &str = "2026-11-23T10:00:00.123Z";

fn clock() -> Clock {
    Clock {
        now: NOW,
        previous: None,
        zone: "UTC".parse().unwrap(),
    }
}

/// What matters of each response in a line, as text: `id model time input/output/5m/1h/read`.
fn read_with(line: &str, options: &ParseOptions) -> (Vec<String>, Verdict) {
    let mut found = Vec::new();
    let verdict = parse_line(line.as_bytes(), options, clock(), |item| {
        if let Item::Usage(usage) = item {
            let time = match usage.stamp {
                Stamp::At(time) => chrono::DateTime::from_timestamp_millis(time.0)
                    .unwrap()
                    .format("%FT%T%.3fZ")
                    .to_string(),
                Stamp::Undated => "undated".to_owned(),
                Stamp::Impossible => "impossible".to_owned(),
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
    assert_eq!(reason(br#"{"secret": tru"#).1, "the JSON object is cut off");
    assert_eq!(reason(br#"{"secret": nope}"#).1, "not valid JSON");
    assert_eq!(
        reason(br#"{"usage":{"input_tokens":-3,"output_tokens":1}}"#).1,
        "input_tokens is -3"
    );
}

const GOOD: &str = r#"{"timestamp":"2026-11-23T10:00:00.123Z","type":"assistant","message":{"id":"msg_1","model":"claude-opus-4-7","content":[{"type":"text","text":"a \"b\" c"}],"usage":{"input_tokens":12,"output_tokens":29,"cache_creation":{"ephemeral_1h_input_tokens":5}}}}"#;

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in any::<Vec<u8>>()) {
        parse_line(&bytes, &ParseOptions::default(), clock(), |_| {});
    }

    #[test]
    fn any_mutation_of_a_good_line_is_read_without_a_panic(at in 0..GOOD.len(), byte: u8, cut in 0..GOOD.len()) {
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[at] = byte;
        parse_line(&bytes, &ParseOptions::default(), clock(), |_| {});
        parse_line(&bytes[..cut], &ParseOptions::default(), clock(), |_| {});
    }

    /// Whatever a prompt holds, it changes nothing.
    #[test]
    fn any_content_leaves_the_counts_alone(text in "\\PC{0,60}", json in "\\{\"usage\":\\{\"input_tokens\":[0-9]{1,5}\\}\\}") {
        let content = serde_json::json!([{"type": "text", "text": text}, {"type": "text", "text": json}, {"type": "x", "usage": {"input_tokens": 5}}]);
        let line = GOOD.replace(r#"[{"type":"text","text":"a \"b\" c"}]"#, &content.to_string());
        prop_assert_eq!(read(&line), read(GOOD));
    }
}
