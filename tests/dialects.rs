//! Every dialect in `fixtures/formats`, read by the program itself: exact tokens and pico-dollars.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use claude_tokmon::pipeline::Undated;
use claude_tokmon::source::SourceInfo;
use common::{NOW, Watch, append, give, now_ms, pipeline, program, rfc3339};
use serde_json::Value;

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", "formats"]
        .iter()
        .collect()
}

fn summary(args: &[&str]) -> Value {
    let home = tempfile::tempdir().unwrap();
    let output = program(home.path())
        .args(["replay", "--json"])
        .args(args)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stdout
        .lines()
        .last()
        .unwrap_or_else(|| panic!("{args:?}: {stderr}"));
    serde_json::from_str(last).unwrap()
}

/// The fields in which `actual` is not what is expected, each with both values.
fn differences(path: &str, expected: &Value, actual: &Value, out: &mut Vec<String>) {
    match expected {
        Value::Object(fields) => {
            for (key, value) in fields {
                differences(&format!("{path}.{key}"), value, &actual[key], out);
            }
        }
        _ if expected == actual => {}
        _ => out.push(format!("{path} is {actual}, not {expected}")),
    }
}

#[test]
fn every_dialect_adds_up_to_the_pico_dollar() {
    let text = fs::read_to_string(folder().join("expected.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let mut wrong = Vec::new();
    for (file, expected) in &table {
        let mut expected = serde_json::to_value(expected).unwrap();
        let args = expected.as_object_mut().unwrap().remove("args");
        let args: Vec<String> =
            serde_json::from_value(args.unwrap_or_else(|| Value::Array(vec![]))).unwrap();
        let path = folder().join(file);
        let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
        all.push(path.to_str().unwrap());
        differences(file, &expected, &summary(&all), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let listed: BTreeSet<String> = table.keys().cloned().collect();
    let there: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "expected.toml")
        .collect();
    assert_eq!(listed, there, "each file has its expected sums");
    assert!(table.len() >= 35);
}

/// Two ways to log the same responses, next to each other: nothing is added by the second.
fn together(files: &[(&str, String)], args: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let path = dir.path().to_str().unwrap();
    summary(&[args, &[path]].concat())
}

fn fixture(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

#[test]
fn a_docker_file_next_to_the_file_it_wraps_adds_nothing() {
    let plain = fixture("claude-code.jsonl");
    let mut wrapped = String::new();
    for line in plain.lines() {
        let log = serde_json::to_string(&format!("{line}\n")).unwrap();
        wrapped.push_str("{\"log\":");
        wrapped.push_str(&log);
        wrapped.push_str(",\"stream\":\"stdout\",\"time\":\"2026-11-23T11:00:00Z\"}\n");
    }
    let alone = together(&[("a.jsonl", plain.clone())], &[]);
    for names in [["a.jsonl", "b.jsonl"], ["b.jsonl", "a.jsonl"]] {
        let both = together(
            &[(names[0], plain.clone()), (names[1], wrapped.clone())],
            &[],
        );
        for field in ["records", "tokens", "cost_pusd", "api_errors"] {
            assert_eq!(both[field], alone[field], "{field}");
        }
    }
}

#[test]
fn a_forked_session_adds_nothing() {
    let parent = fixture("claude-code.jsonl");
    let fork = parent.replace("\"sessionId\":\"s-1\"", "\"sessionId\":\"s-2\"");
    let alone = together(&[("a.jsonl", parent.clone())], &[]);
    let both = together(&[("a.jsonl", parent), ("b.jsonl", fork)], &[]);
    assert_eq!(both["records"], alone["records"]);
    assert_eq!(both["cost_pusd"], alone["cost_pusd"]);
    assert!(both["duplicates"].as_u64() > alone["duplicates"].as_u64());
}

/// The transcript that Claude Code keeps of the run in `stream-json.jsonl`: the same responses with their final counts.
fn transcript() -> String {
    let line = |id: &str, request: &str, written: u64, read: u64, output: u64, second: u64| {
        format!(
            r#"{{"type":"assistant","timestamp":"2026-11-23T10:00:0{second}.000Z","sessionId":"s-2","requestId":"{request}","uuid":"t-{id}","message":{{"id":"{id}","model":"claude-haiku-4-5-20251001","stop_reason":"end_turn","usage":{{"input_tokens":9,"output_tokens":{output},"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read},"cache_creation":{{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":{written}}}}}}}}}"#
        ) + "\n"
    };
    line("msg_02A", "req_02A", 7000, 17000, 200, 1) + &line("msg_02B", "req_02B", 165, 24039, 94, 2)
}

#[test]
fn a_run_together_with_its_own_transcript_counts_once() {
    let run = fixture("stream-json.jsonl");
    let alone = together(&[("run.jsonl", run.clone())], &["--assume-interval", "1s"]);
    assert_eq!(alone["tokens"]["input"], 540);
    for (a, b) in [("a.jsonl", "b.jsonl"), ("b.jsonl", "a.jsonl")] {
        let both = together(&[(a, run.clone()), (b, transcript())], &[]);
        for field in ["records", "tokens", "cost_pusd", "lower_bound"] {
            assert_eq!(both[field], alone[field], "{field}");
        }
        assert_eq!(both["output_understated"], 0);
        assert_eq!(both["reconciled"], 1);
        // 522 input and 13 output tokens stand in no line of their own.
        assert_eq!(both["reconciled_pusd"], "587000000");
    }
    // The copies of the stream's events that newer builds write beside the lines add nothing either.
    let event = |json: &str| {
        format!(
            "{{\"type\":\"stream_event\",\"session_id\":\"s-2\",\"parent_tool_use_id\":null,\"uuid\":\"e\",\"event\":{json}}}\n"
        )
    };
    let events = event(
        r#"{"type":"message_start","message":{"id":"msg_02A","model":"claude-haiku-4-5-20251001","stop_reason":null,"usage":{"input_tokens":9,"output_tokens":4,"cache_creation_input_tokens":7000,"cache_read_input_tokens":17000,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":7000}}}}"#,
    ) + &event(
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":200}}"#,
    ) + &event(r#"{"type":"message_stop"}"#);
    let both = together(
        &[("run.jsonl", events + &run)],
        &["--assume-interval", "1s"],
    );
    for field in ["records", "tokens", "cost_pusd"] {
        assert_eq!(both[field], alone[field], "{field}");
    }
}

#[test]
fn running_totals_of_a_session_are_no_sums() {
    let result = |id: &str, input: u64, output: u64| {
        format!(
            r#"{{"type":"result","num_turns":1,"session_id":"s-7","uuid":"{id}","modelUsage":{{"claude-opus-5":{{"inputTokens":{input},"outputTokens":{output}}}}}}}"#
        ) + "\n"
    };
    let sums = |text: String| {
        let tokens = &together(&[("r.jsonl", text)], &[])["tokens"];
        (
            tokens["input"].as_u64().unwrap(),
            tokens["output"].as_u64().unwrap(),
        )
    };
    let first = result("a", 10, 1);
    let second = result("b", 30, 2);
    assert_eq!(sums(first.clone() + &second), (30, 2), "they run on");
    assert_eq!(
        sums(first.clone() + &second + &first),
        (30, 2),
        "a copy is none"
    );
    assert_eq!(
        sums(second.clone() + &result("c", 5, 1)),
        (35, 3),
        "a smaller one is of a new process"
    );
    let other = result("d", 5, 1).replace("s-7", "s-8");
    assert_eq!(sums(second + &other), (35, 3), "another session");
}

#[test]
fn groups_add_up_to_the_whole() {
    let file = folder().join("loggers.jsonl");
    for by in ["model", "session", "project", "/level"] {
        let summary = summary(&["--by", by, file.to_str().unwrap()]);
        let groups = summary["by_group"].as_object().unwrap();
        let sum: u64 = groups
            .values()
            .map(|group| group["cost_pusd"].as_str().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum.to_string(), summary["cost_pusd"].as_str().unwrap());
        let records: u64 = groups
            .values()
            .map(|group| group["records"].as_u64().unwrap())
            .sum();
        assert_eq!(records, 12, "{by}");
    }
    let summary = summary(&["--by", "/level", file.to_str().unwrap()]);
    let names: Vec<&String> = summary["by_group"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["-", "200", "30", "INFO", "info"]);
}

/// What `tail` counts as the lines come is what `replay` counts of the whole file.
#[test]
fn following_a_file_line_by_line_gives_the_same_sums() {
    let text = fs::read_to_string(folder().join("expected.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let mut n = 0;
    for (file, expected) in &table {
        let args = expected.get("args").map(ToString::to_string);
        if args.is_some_and(|args| !args.contains("--assume-interval")) {
            continue;
        }
        let source = SourceInfo::file(&folder().join(file));
        let mut pipeline = pipeline(&[]);
        for (number, line) in (1..).zip(fixture(file).lines()) {
            give(&mut pipeline, &source, number, line.as_bytes(), NOW);
        }
        pipeline.end(Undated::TotalsOnly, None);
        let totals = pipeline.evaluator.totals();
        assert_eq!(
            totals.cost.0.to_string(),
            expected["cost_pusd"].as_str().unwrap(),
            "{file}"
        );
        let records = u64::try_from(expected["records"].as_integer().unwrap()).unwrap();
        assert_eq!(totals.records, records, "{file}");
        n += 1;
    }
    assert!(n > 25, "{n}");
}

fn tail(home: &std::path::Path, args: &[&str]) -> Watch {
    let mut command = program(home);
    command.args(["tail", "--timezone", "UTC"]).args(args);
    Watch::start(command)
}

#[test]
fn a_streamed_response_is_told_when_it_ends_and_a_cut_one_at_the_end() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let mut watch = tail(home.path(), &["app.log"]);
    watch.expect("watching");
    let at = rfc3339(now_ms());
    let event =
        |id: &str, json: &str| format!(r#"{{"time":"{at}","request_id":"{id}","event":{json}}}"#);
    let start = |id: &str| {
        event(
            id,
            &format!(
                r#"{{"type":"message_start","message":{{"id":"msg_{id}","model":"claude-opus-4-7","stop_reason":null,"usage":{{"input_tokens":400000,"output_tokens":1}}}}}}"#
            ),
        )
    };
    append(&log, &[start("a")]);
    append(
        &log,
        &[event(
            "a",
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":40000}}"#,
        )],
    );
    let alert = watch.expect("cost-rate");
    assert!(alert.contains("$3.00/min"), "{alert}");
    append(&log, &[start("b")]);
    // One line that is counted shows that those before it were read.
    append(
        &log,
        &[format!(
            r#"{{"time":"{at}","id":"msg_c","model":"claude-unheard-of","usage":{{"input_tokens":1,"output_tokens":1}}}}"#
        )],
    );
    watch.expect("unpriced-model");
    let (code, said) = watch.end();
    assert_eq!(code, Some(0));
    assert!(
        said.iter()
            .any(|line| line.contains("3 responses, ≥ $5.00")),
        "{said:?}"
    );
}

#[test]
fn a_line_that_docker_splits_while_we_watch_is_one_line() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let mut watch = tail(home.path(), &["app.log"]);
    watch.expect("watching");
    let at = rfc3339(now_ms());
    let whole = format!(
        r#"{{"id":"msg_1","model":"claude-opus-4-7","content":[{{"text":"{}"}}],"usage":{{"input_tokens":600000,"output_tokens":1}}}}"#,
        "x".repeat(40_000)
    );
    let mut parts: Vec<String> = whole
        .as_bytes()
        .chunks(16_384)
        .map(|part| String::from_utf8(part.to_vec()).unwrap())
        .collect();
    parts.last_mut().unwrap().push('\n');
    assert!(parts.len() == 3);
    for part in parts {
        let log_field = serde_json::to_string(&part).unwrap();
        append(
            &log,
            &[format!(
                r#"{{"log":{log_field},"stream":"stdout","time":"{at}"}}"#
            )],
        );
    }
    watch.expect("cost-rate");
    watch.end();
}

#[test]
fn too_many_responses_to_remember_are_said_once() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    let at = rfc3339(now_ms());
    let line = |n: u32| {
        format!(
            r#"{{"time":"{at}","id":"msg_{n}","model":"claude-haiku-4-5","usage":{{"input_tokens":1,"output_tokens":1}}}}"#
        )
    };
    let lines: Vec<String> = (0..1500).map(line).collect();
    append(&log, &lines);
    let mut watch = tail(home.path(), &["--max-responses", "1000", "app.log"]);
    watch.expect("more than 1,000 responses in 7 days: the oldest are forgotten");
    // An id that a gateway gives to all is said too, and its responses are counted.
    let same: Vec<String> = (0..150)
        .map(|n| {
            format!(r#"{{"time":"{at}","id":"msg_same","model":"claude-haiku-4-5","usage":{{"input_tokens":{n},"output_tokens":1}}}}"#)
        })
        .collect();
    append(&log, &same);
    watch.expect("one response id stands for more than 100 different responses");
    let (_, said) = watch.end();
    assert!(
        said.iter().any(|l| l.contains(": 150 responses,")),
        "{said:?}"
    );
    assert_eq!(
        said.iter().filter(|l| l.contains("are forgotten")).count(),
        1
    );
}
