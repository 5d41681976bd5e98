//! The few lines that the README has services add, on the real SDKs with recorded answers.
//!
//! `.ci/run` installs the SDKs. Where they are missing, the test says so and checks the rest.
#![allow(clippy::print_stderr, reason = "what is skipped must be said")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::program;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the service and gives its log; `None` if what it needs is not installed.
fn log_of(what: &str, needed: &Path, command: &mut Command) -> Option<String> {
    if !needed.exists() {
        eprintln!(
            "SKIPPED: {what} is not installed ({}); .ci/run installs it",
            needed.display()
        );
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = command.current_dir(dir.path()).output().unwrap();
    assert!(
        output.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(std::fs::read_to_string(dir.path().join("claude.jsonl")).unwrap())
}

fn check(log: &str) {
    assert_eq!(log.lines().count(), 3);
    assert!(!log.contains("secret"), "prompt text in {log}");
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("claude.jsonl"), log).unwrap();
    let output = program(home.path())
        .args(["replay", "--json", "claude.jsonl"])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let summary: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    // The third is the first again, as a beta response: one id, one response.
    let found =
        ["records", "duplicates", "undated", "bad_lines"].map(|key| summary[key].as_u64().unwrap());
    assert_eq!(found, [2, 1, 0, 0], "{log}");
    assert_eq!(summary["lower_bound"], false);
    let first = 12 * 5_000_000
        + 29 * 25_000_000_i128
        + 100 * 6_250_000
        + 200 * 10_000_000
        + 40_000 * 500_000;
    let second = 25 * 5_000_000 + 60 * 25_000_000 + 7_000 * 500_000;
    assert_eq!(summary["cost_pusd"], (first + second).to_string());
    let third: Value = serde_json::from_str(log.lines().nth(2).unwrap()).unwrap();
    assert_eq!(
        third["diagnostics"]["cache_miss_reason"]["type"],
        "system_changed"
    );
    assert_eq!(
        (&third["session"], &third["id"]),
        (&"s-2".into(), &"msg_01CollectMessage".into())
    );
}

#[test]
fn a_python_service_logs_what_is_needed_and_no_text() {
    let python = root().join("target/collect/venv/bin/python");
    let service = root().join("fixtures/collect/service.py");
    let mut command = Command::new(&python);
    command.arg(service).arg(root().join("contrib/collect"));
    if let Some(log) = log_of("the Python SDK", &python, &mut command) {
        check(&log);
    }
}

#[test]
fn a_typescript_service_logs_what_is_needed_and_no_text() {
    let modules: PathBuf = root().join("target/collect/node");
    let service = root().join("fixtures/collect/service.mjs");
    let mut command = Command::new("node");
    command
        .arg(service)
        .arg(root().join("contrib/collect"))
        .arg(&modules);
    if let Some(log) = log_of(
        "the TypeScript SDK",
        &modules.join("node_modules/@anthropic-ai/sdk"),
        &mut command,
    ) {
        check(&log);
    }
}

#[test]
fn the_readme_shows_these_very_lines() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for name in ["log_usage.py", "log_usage.mjs"] {
        let code = std::fs::read_to_string(root().join("contrib/collect").join(name)).unwrap();
        assert!(
            readme.contains(code.trim_end()),
            "README.md does not show contrib/collect/{name}"
        );
    }
}
