//! Real hooks: what they are given, and that nothing ever waits for them.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Call, Watch, append, dollars_now, now_ms, program};

/// Three scripts and their home. A hook writes to a file under another name first, so that what is seen is whole.
fn script(home: &Path, name: &str, body: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = home.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn tail(home: &Path, args: &[&str]) -> Command {
    let mut command = program(home);
    command.args(["tail", "app.log"]).args(args);
    command
}

/// Waits until a file is there and gives its text.
fn text_of(path: &Path) -> String {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        if let Ok(text) = fs::read_to_string(path) {
            return text;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{} did not come",
            path.display()
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_hook_gets_its_data_by_environment_and_standard_input() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let hook = "cat > stdin.part; env | grep ^CLAUDE_TOKMON_ | sort > env.part; mv stdin.part stdin; mv env.part env";
    let mut command = tail(home.path(), &["--exec", hook]);
    // A variable of the same name that we inherit must not shadow ours or reach the hook.
    command
        .env("CLAUDE_TOKMON_RULE", "inherited")
        .env("CLAUDE_TOKMON_STRAY", "x");
    let mut watch = Watch::start(command);
    watch.expect("watching");
    append(&log, &[dollars_now("1", 3)]);
    watch.expect("cost-rate");
    let env = text_of(&home.path().join("env"));
    let json: serde_json::Value =
        serde_json::from_str(&text_of(&home.path().join("stdin"))).unwrap();
    let names: Vec<&str> = env
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    let expected = "AT CAUSE EPISODE EVENT EXPOSED_USD KEY LIMIT MESSAGE MODE REASON RULE SCHEMA SEVERITY SINCE UNIT VALUE";
    let expected: Vec<String> = expected
        .split(' ')
        .map(|name| format!("CLAUDE_TOKMON_{name}"))
        .collect();
    assert_eq!(names, expected);
    for line in [
        "RULE=cost-rate",
        "REASON=first",
        "SEVERITY=critical",
        "VALUE=3",
        "LIMIT=2",
        "UNIT=usd/min",
        "EXPOSED_USD=3.000000",
        "MODE=tail",
    ] {
        assert!(
            env.lines().any(|l| l == format!("CLAUDE_TOKMON_{line}")),
            "{line} in {env}"
        );
    }
    assert_eq!(
        (&json["event"], &json["rule"], &json["mode"]),
        (&"alert".into(), &"cost-rate".into(), &"tail".into())
    );
    assert!(env.contains(json["episode"].as_str().unwrap()));
    watch.end();
}

#[test]
fn text_of_a_log_never_becomes_part_of_a_command() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let hook = script(
        home.path(),
        "hook",
        "printf '%s' \"$CLAUDE_TOKMON_MESSAGE\" > message.part; mv message.part message",
    );
    let mut watch = Watch::start(tail(home.path(), &["--exec", &hook]));
    watch.expect("watching");
    let model = r"$(touch pwned)`touch pwned`;touch pwned\u0000\n'\u0022";
    append(
        &log,
        &[Call {
            at: now_ms(),
            id: "msg_1".to_owned(),
            model,
            input: 10,
            ..Call::default()
        }
        .line()],
    );
    watch.expect("no price for model");
    let message = text_of(&home.path().join("message"));
    assert!(
        message.contains("$(touch pwned)`touch pwned`;touch pwned\u{fffd}\u{fffd}'\""),
        "{message}"
    );
    assert!(!home.path().join("pwned").exists());
    watch.end();
}

#[test]
fn a_hook_that_sleeps_for_a_minute_delays_nothing_and_ends_with_us() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let hook = script(
        home.path(),
        "hook",
        "echo $$ > pid.part; mv pid.part pid; sleep 60",
    );
    let by_model = [
        "--exec-argv",
        &hook,
        ";",
        "--set",
        "cost-rate.above=0",
        "--set",
        "cost-rate.by=[\"model\"]",
    ];
    let mut watch = Watch::start(tail(home.path(), &by_model));
    watch.expect("watching");
    append(&log, &[dollars_now("1", 3)]);
    watch.expect("cost-rate");
    let pid = text_of(&home.path().join("pid"));
    let sleeping = || {
        Command::new("kill")
            .args(["-0", pid.trim()])
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    for (i, model) in ["claude-opus-4-8", "claude-sonnet-4-6", "claude-haiku-4-5"]
        .into_iter()
        .enumerate()
    {
        append(
            &log,
            &[Call {
                at: now_ms(),
                id: format!("msg_x{i}"),
                model,
                input: 100_000,
                ..Call::default()
            }
            .line()],
        );
        watch.expect(model);
        assert!(sleeping(), "the hook is over: nothing was shown");
    }
    assert_eq!(watch.end().0, Some(0));
    assert!(!sleeping(), "the hook outlives us");
}

#[test]
fn a_hook_that_fails_or_is_not_there_is_told_and_stops_nothing() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    for (hook, complaint) in [
        ("exit 3", "failed: exit status: 3"),
        ("/no/such/program", "failed: exit status: 127"),
    ] {
        fs::write(&log, "").unwrap();
        let mut watch = Watch::start(tail(home.path(), &["--exec", hook]));
        watch.expect("watching");
        append(&log, &[dollars_now("1", 3)]);
        watch.expect(complaint);
        append(
            &log,
            &[Call {
                at: now_ms(),
                id: "msg_2".to_owned(),
                model: "claude-unheard-of",
                input: 10,
                ..Call::default()
            }
            .line()],
        );
        watch.expect("no price for model");
        assert_eq!(watch.end().0, Some(0));
    }
    fs::write(&log, "").unwrap();
    let mut watch = Watch::start(tail(home.path(), &["--exec-argv", "/no/such/program"]));
    watch.expect("watching");
    append(&log, &[dollars_now("1", 3)]);
    watch.expect("could not run");
    watch.end();
}

#[test]
fn replay_runs_no_hook_unless_it_is_told_to() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(
        &log,
        &[Call {
            id: "msg_1".to_owned(),
            input: 1_000_000,
            ..Call::default()
        }
        .line()],
    );
    let run = |more: &[&str]| {
        let status = program(home.path())
            .args(["replay", "app.log", "--exec", "touch ran"])
            .args(more)
            .output()
            .unwrap();
        assert!(status.status.success());
        home.path().join("ran").exists()
    };
    assert!(!run(&[]));
    assert!(run(&["--run-hooks"]));
}

#[test]
fn a_hook_that_does_not_want_to_end_is_made_to() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let hook = script(
        home.path(),
        "hook",
        "trap '' TERM; echo $$ > pid.part; mv pid.part pid; while :; do sleep 1; done",
    );
    let mut watch = Watch::start(tail(home.path(), &["--exec-argv", &hook]));
    watch.expect("watching");
    append(&log, &[dollars_now("1", 3)]);
    watch.expect("cost-rate");
    let pid = text_of(&home.path().join("pid"));
    assert_eq!(watch.end().0, Some(0));
    let mut alive = Command::new("kill");
    alive
        .args(["-0", pid.trim()])
        .stderr(std::process::Stdio::null());
    assert!(!alive.status().unwrap().success(), "the hook outlives us");
}
