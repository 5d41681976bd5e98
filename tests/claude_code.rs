//! A folder of Claude Code with all that real ones have: every response once, totals exact, no storm.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Watch, append, program, rfc3339};
use serde_json::Value;

/// $ per million tokens of claude-opus-4-7 and claude-haiku-4-5: input, output, 1 h write, 5 m write, read; in p$ a token.
const OPUS: [i128; 5] = [5_000_000, 25_000_000, 10_000_000, 6_250_000, 500_000];
const HAIKU: [i128; 5] = [1_000_000, 5_000_000, 2_000_000, 1_250_000, 100_000];

fn cost(prices: [i128; 5], counts: [i128; 5]) -> i128 {
    prices.iter().zip(counts).map(|(price, n)| price * n).sum()
}

struct Session {
    lines: Vec<String>,
    id: &'static str,
    at: i64,
    parent: u32,
}

impl Session {
    fn new(id: &'static str, at: i64) -> Self {
        Self {
            lines: Vec::new(),
            id,
            at,
            parent: 0,
        }
    }

    fn frame(&mut self, kind: &str, rest: &str) -> String {
        self.parent += 1;
        format!(
            r#"{{"parentUuid":"u-{}","isSidechain":false,"type":"{kind}",{rest},"uuid":"u-{}-{}","timestamp":"{}","cwd":"/home/dev/app","sessionId":"{}","version":"2.1.219","gitBranch":"main"}}"#,
            self.parent - 1,
            self.id,
            self.parent,
            rfc3339(self.at),
            self.id
        )
    }

    fn push(&mut self, kind: &str, rest: &str) {
        let line = self.frame(kind, rest);
        self.lines.push(line);
    }

    /// A response as it is written: a line for each block, the output growing, the last one final.
    fn respond(
        &mut self,
        id: &str,
        model: &str,
        [input, output, write_1h, write_5m, read]: [i128; 5],
    ) {
        for (block, (so_far, stop)) in [(1, "null"), (output / 2, "null"), (output, "\"end_turn\"")]
            .into_iter()
            .enumerate()
        {
            self.at += 400;
            let write = write_1h + write_5m;
            let content = [
                r#"{"type":"thinking","thinking":"the \"usage\":{\"input_tokens\":999999} of it"}"#,
                r#"{"type":"text","text":"{\"usage\":{\"input_tokens\":777777,\"output_tokens\":1}}"}"#,
                r#"{"type":"tool_use","id":"t","name":"Bash","input":{"usage":{"input_tokens":555555,"output_tokens":5}}}"#,
            ][block];
            self.push(
                "assistant",
                &format!(
                    r#""message":{{"model":"{model}","id":"{id}","type":"message","role":"assistant","content":[{content}],"stop_reason":{stop},"stop_sequence":null,"usage":{{"input_tokens":{input},"cache_creation_input_tokens":{write},"cache_read_input_tokens":{read},"output_tokens":{so_far},"server_tool_use":{{"web_search_requests":0,"web_fetch_requests":0}},"service_tier":"standard","cache_creation":{{"ephemeral_1h_input_tokens":{write_1h},"ephemeral_5m_input_tokens":{write_5m}}},"inference_geo":"not_available","iterations":[{{"input_tokens":{input},"output_tokens":{so_far},"cache_read_input_tokens":{read},"cache_creation_input_tokens":{write},"type":"message"}}],"speed":"standard"}}}},"requestId":"req_{id}""#
                ),
            );
            if block == 0 {
                // Other lines stand between the blocks of a response.
                self.push(
                    "attachment",
                    r#""attachment":{"usage":{"input_tokens":333333,"output_tokens":3}}"#,
                );
            }
        }
    }

    /// What must not be counted.
    fn decoys(&mut self) {
        self.push("user", r#""message":{"role":"user","content":[{"type":"tool_result","content":"ok"}]},"toolUseResult":{"status":"completed","totalTokens":88888,"usage":{"input_tokens":88888,"output_tokens":8}}"#);
        self.push("progress", r#""data":{"type":"agent_progress","message":{"type":"assistant","message":{"id":"msg_agent1","model":"claude-haiku-4-5","usage":{"input_tokens":3,"output_tokens":1}},"requestId":"req_msg_agent1"},"normalizedMessages":[{"message":{"usage":{"input_tokens":44444,"output_tokens":4}}}]}"#);
        self.push("assistant", r#""message":{"id":"5a4b","model":"<synthetic>","role":"assistant","type":"message","stop_reason":"stop_sequence","usage":{"input_tokens":0,"output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0},"content":[{"type":"text","text":"API Error: 529"}]},"error":"rate_limit","isApiErrorMessage":true"#);
        self.push("system", r#""subtype":"turn_duration","durationMs":1200,"content":"{\"usage\":{\"input_tokens\":22222,\"output_tokens\":2}}""#);
        self.lines
            .push(r#"{"type":"summary","summary":"a summary","leafUuid":"u-1"}"#.to_owned());
        self.lines.push(r#"{"type":"file-history-snapshot","messageId":"m","snapshot":{"usage":{"input_tokens":11111,"output_tokens":1}}}"#.to_owned());
        self.lines.push(r#"{"type":"queue-operation","operation":"enqueue","content":"{\"usage\":{\"input_tokens\":66666,\"output_tokens\":6}}"}"#.to_owned());
    }
}

struct Folder {
    home: tempfile::TempDir,
    project: PathBuf,
    records: u64,
    pico: i128,
}

/// Two hours ago, so that it lies within any history.
fn folder() -> Folder {
    let home = tempfile::tempdir().unwrap();
    let project = home.path().join(".claude/projects/-home-dev-app");
    // The transcripts of the agents of a session lie in a folder of their own, below it. What it is called is no matter: they are
    // known by the names of the files.
    let agents = project.join("s-1").join("agents");
    fs::create_dir_all(&agents).unwrap();
    let start = common::now_ms() - 2 * 3_600_000;
    let mut first = Session::new("s-1", start);
    let mut pico = 0;
    let mut prompt = 20_000;
    for i in 0..30 {
        first.at += 20_000;
        let counts = [
            2,
            700 + i,
            if i == 0 { 20_000 } else { 900 },
            0,
            if i == 0 { 0 } else { prompt },
        ];
        first.respond(&format!("msg_a{i}"), "claude-opus-4-7", counts);
        pico += cost(OPUS, counts);
        prompt += if i == 0 { 0 } else { 900 };
        if i % 7 == 3 {
            first.decoys();
        }
    }
    // Two objects on one line without a line feed between them.
    let glued = first.lines.pop().unwrap();
    let before = first.lines.pop().unwrap();
    first.lines.push(format!("{before}{glued}"));
    fs::write(project.join("s-1.jsonl"), first.lines.join("\n")).unwrap();

    // A sub-agent has a file of its own, with the session's id.
    let mut agent = Session::new("s-1", start + 100_000);
    for i in 0..10 {
        agent.at += 5_000;
        let counts = [
            3,
            120 + i,
            0,
            if i == 0 { 9_000 } else { 300 },
            if i == 0 { 0 } else { 8_700 + 300 * i },
        ];
        agent.respond(&format!("msg_agent{i}"), "claude-haiku-4-5", counts);
        pico += cost(HAIKU, counts);
    }
    let sidechain: Vec<String> = agent
        .lines
        .iter()
        .map(|l| l.replace(r#""isSidechain":false"#, r#""isSidechain":true"#))
        .collect();
    fs::write(agents.join("agent-x7.jsonl"), sidechain.join("\n") + "\n").unwrap();

    // A fork copies the history with identical ids and times, and goes on from there.
    let mut fork = Session::new("s-2", first.at + 60_000);
    for i in 0..5 {
        fork.at += 20_000;
        let counts = [2, 500, 800, 0, prompt];
        fork.respond(&format!("msg_b{i}"), "claude-opus-4-7", counts);
        pico += cost(OPUS, counts);
        prompt += 800;
    }
    let copied: Vec<String> = first
        .lines
        .iter()
        .map(|l| l.replace(r#""sessionId":"s-1""#, r#""sessionId":"s-2""#))
        .collect();
    // A side question replays a message of its parent under another request id.
    let mut side = copied[0]
        .replace("req_msg_a0", "req_side")
        .replace(r#""isSidechain":false"#, r#""isSidechain":true"#);
    side.push('\n');
    fs::write(
        project.join("s-2.jsonl"),
        copied.join("\n") + "\n" + &side + &fork.lines.join("\n") + "\n",
    )
    .unwrap();
    Folder {
        home,
        project,
        records: 45,
        pico,
    }
}

fn summary(home: &Path, args: &[&str]) -> (Value, String) {
    let output = program(home)
        .arg("replay")
        .arg("--json")
        .args(args)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let last = stdout.lines().last().unwrap();
    (
        serde_json::from_str(last).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn every_response_counts_once_and_the_totals_are_exact() {
    let folder = folder();
    for args in [
        &[][..],
        &[".claude/projects"],
        &[".claude/projects/-home-dev-app/s-2.jsonl", ".claude"],
    ] {
        let (summary, stderr) = summary(folder.home.path(), args);
        assert_eq!(summary["records"], folder.records, "{args:?}");
        assert_eq!(summary["cost_pusd"], folder.pico.to_string(), "{args:?}");
        assert_eq!(summary["bad_lines"], 0);
        assert_eq!(summary["lower_bound"], false);
        assert_eq!(summary["cache_waste_usd"].to_string(), "0.0");
        assert!(
            !stderr.contains("cache-") && !stderr.contains("cost-rate"),
            "{stderr}"
        );
    }
}

#[test]
fn tail_finds_the_folder_by_itself_and_a_fork_that_comes_later_is_no_storm() {
    let folder = folder();
    let fork = fs::read_to_string(folder.project.join("s-2.jsonl")).unwrap();
    fs::remove_file(folder.project.join("s-2.jsonl")).unwrap();
    let mut command = program(folder.home.path());
    command.args(["tail", "--set", "no-cache.enabled=false"]);
    let mut watch = Watch::start(command);
    let start = watch.expect("watching 2 files · last 7d: 40 responses, $");
    assert!(!start.contains('≥'), "{start}");
    fs::write(folder.project.join("s-2.jsonl"), fork).unwrap();
    // A line behind it shows that all of it was read.
    append(
        &folder.project.join("s-2.jsonl"),
        &[common::dollars_now("end", 3)],
    );
    watch.expect("CRITICAL cost-rate");
    let (_, lines) = watch.end();
    let alerts: Vec<&String> = lines
        .iter()
        .filter(|l| l.contains("CRITICAL") || l.contains("WARNING"))
        .collect();
    assert_eq!(alerts.len(), 1, "{lines:?}");
    assert!(
        lines.iter().any(|l| l.contains("6 responses, $3.")),
        "{lines:?}"
    );
}

#[test]
fn a_session_whose_output_was_never_written_in_full_is_a_lower_bound() {
    let home = tempfile::tempdir().unwrap();
    let mut session = Session::new("s-1", common::TWO_O_CLOCK);
    session.respond("msg_1", "claude-opus-4-7", [2, 8, 0, 0, 20_000]);
    session.lines.pop();
    append(&home.path().join("s.jsonl"), &session.lines);
    let (summary, _) = summary(home.path(), &["s.jsonl"]);
    assert_eq!(
        (&summary["lower_bound"], &summary["output_understated"]),
        (&true.into(), &1.into())
    );
}

#[test]
fn a_config_dir_of_its_own_replaces_the_usual_ones() {
    let folder = folder();
    let other = tempfile::tempdir().unwrap();
    let run = |dir: &str| {
        let mut command = program(other.path());
        command
            .args(["replay", "--json"])
            .env("CLAUDE_CONFIG_DIR", dir);
        command.output().unwrap()
    };
    let found = run(&format!(
        "/nowhere,{}",
        folder.home.path().join(".claude").display()
    ));
    assert_eq!(found.status.code(), Some(0));
    let none = run("/nowhere");
    assert_eq!(none.status.code(), Some(3));
    let stderr = String::from_utf8(none.stderr).unwrap();
    assert!(
        stderr.contains("there is no Claude Code folder (/nowhere)"),
        "{stderr}"
    );
}
