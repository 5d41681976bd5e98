//! Whether people are reached: hooks for the tools they use, mutes, signs of life, budgets and silence.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![allow(clippy::print_stderr, reason = "what was skipped")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::follow::has;
use common::{Call, Watch, append, dollars_now, now_ms, program};
use serde_json::Value;

/// A server that takes what is posted and answers with the next of these codes, then with 202.
fn server(mut codes: Vec<u16>) -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let path = line.split(' ').nth(1).unwrap_or("").to_owned();
            let mut length = 0;
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                if header.trim().is_empty() {
                    break;
                }
                let header = header.to_ascii_lowercase();
                if let Some(n) = header.strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let code = if codes.is_empty() {
                202
            } else {
                codes.remove(0)
            };
            let answer =
                format!("HTTP/1.1 {code} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if sender
                .send((path, serde_json::from_slice(&body).unwrap()))
                .is_err()
            {
                return;
            }
        }
    });
    (address, receiver)
}

fn contrib(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib/hooks")
        .join(name);
    path.display().to_string()
}

/// Sends the test notices through one of our hooks and gives what arrived.
fn posted(
    name: &str,
    format: &str,
    address: (&str, &str),
    codes: Vec<u16>,
) -> Vec<(String, Value)> {
    let home = tempfile::tempdir().unwrap();
    let (url, received) = server(codes);
    let output = program(home.path())
        .args([
            "tail",
            "--test-alert",
            "--exec-format",
            format,
            "--exec",
            &contrib(name),
        ])
        .env(address.0, format!("{url}{}", address.1))
        .env("CLAUDE_TOKMON_PAGERDUTY_KEY", "key-of-the-service")
        .env("CLAUDE_TOKMON_TEST_HASTE", "5")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("the hook ran 6 times and each time ended well"),
        "{said}"
    );
    received.try_iter().collect()
}

#[test]
fn slack_gets_messages_that_say_what_is_wrong() {
    if !has("curl") {
        return;
    }
    let posts = posted(
        "slack.sh",
        "slack",
        ("SLACK_WEBHOOK_URL", "/services/x"),
        vec![],
    );
    assert_eq!(posts.len(), 6);
    let text = |n: usize| posts[n].1["text"].as_str().unwrap().to_owned();
    assert_eq!(posts[0].0, "/services/x");
    assert!(
        text(4).starts_with(":rotating_light: critical test-critical: this is a test"),
        "{}",
        text(4)
    );
    assert!(
        text(5).starts_with(":white_check_mark: resolved test-critical"),
        "{}",
        text(5)
    );
}

#[test]
fn pagerduty_opens_and_closes_one_incident_for_each_episode() {
    if !has("curl") {
        return;
    }
    // What it cannot take now is tried again.
    let posts = posted(
        "pagerduty.sh",
        "pagerduty",
        ("PAGERDUTY_URL", "/v2/enqueue"),
        vec![429, 500],
    );
    assert_eq!(posts.len(), 8);
    let posts = &posts[2..];
    for (path, event) in posts {
        assert_eq!(path, "/v2/enqueue");
        assert_eq!(event["routing_key"], "key-of-the-service");
        assert_eq!(event["dedup_key"].as_str().unwrap().len(), 16);
        let severity = event["payload"]["severity"].as_str().unwrap();
        assert!(["info", "warning", "critical"].contains(&severity));
        assert!(event["payload"]["source"].is_string());
        assert_eq!(event["payload"]["custom_details"]["alert"]["schema"], 1);
    }
    assert_eq!(posts[4].1["event_action"], "trigger");
    assert_eq!(posts[5].1["event_action"], "resolve");
    assert_eq!(posts[4].1["dedup_key"], posts[5].1["dedup_key"]);
    assert_ne!(posts[0].1["dedup_key"], posts[5].1["dedup_key"]);
}

#[test]
fn alertmanager_gets_alerts_with_stable_labels_and_an_end() {
    if !has("curl") {
        return;
    }
    let posts = posted(
        "alertmanager.sh",
        "alertmanager",
        ("ALERTMANAGER_URL", ""),
        vec![],
    );
    assert_eq!(posts.len(), 6);
    let (path, first) = &posts[4];
    let (_, end) = &posts[5];
    assert_eq!(path, "/api/v2/alerts");
    assert_eq!(first[0]["labels"]["alertname"], "test-critical");
    assert_eq!(first[0]["labels"], end[0]["labels"]);
    assert!(
        first[0]["annotations"]["summary"]
            .as_str()
            .unwrap()
            .contains("this is a test")
    );
    assert!(first[0]["endsAt"].is_null());
    assert!(end[0]["endsAt"].is_string());
}

#[test]
fn a_format_that_lacks_something_says_what() {
    let home = tempfile::tempdir().unwrap();
    let said = |args: &[&str]| {
        let output = program(home.path())
            .arg("tail")
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        said(&["--exec", "x", "--exec-format", "pagerduty", "a.log"])
            .contains("set CLAUDE_TOKMON_PAGERDUTY_KEY")
    );
    assert!(said(&["--exec-format", "slack", "a.log"]).contains("add --exec"));
    assert!(said(&["--heartbeat", "1m", "a.log"]).contains("add --json"));
    assert!(said(&["--expect-within", "1m", "a.log"]).contains("add --silent-for"));
    assert!(said(&["--budget", "50", "a.log"]).contains("write it as AMOUNT/PERIOD"));
    assert!(said(&["--budget", "50/week", "a.log"]).contains("none of hour, day and month"));
}

/// A directory with an empty log.
fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    (home, log)
}

fn start(home: &Path, args: &[&str]) -> Watch {
    let mut command = program(home);
    command.arg("tail").args(args).arg("app.log");
    command.env("CLAUDE_TOKMON_TEST_HASTE", "100");
    let mut watch = Watch::start(command);
    watch.expect("watching");
    watch
}

const BY_MODEL: [&str; 2] = ["--set", "cost-rate.by=[\"model\"]"];

fn of_model(model: &str, id: &str) -> String {
    dollars_now(id, 20).replace("claude-opus-4-7", model)
}

/// Typed before environment before configuration; and a hook sees nothing of it.
#[test]
fn what_is_not_typed_is_taken_from_the_environment() {
    let (home, log) = home();
    fs::write(&log, dollars_now("a", 20) + "\n").unwrap();
    let config = "[[rule]]\nname = \"cost-rate\"\nabove = 3000\nseverity = \"info\"\n";
    fs::write(home.path().join("claude-tokmon.toml"), config).unwrap();
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = program(home.path());
        command.args(["replay", "app.log"]).args(args);
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            text(output.stdout),
            text(output.stderr),
            output.status.code(),
        )
    };
    let (out, said, _) = run(&[], &[]);
    assert!(
        out.contains("\nconfigured by claude-tokmon.toml\n"),
        "{out}"
    );
    assert!(!said.contains("cost-rate"));
    assert!(!run(&[], &["--config", "-"]).0.contains("configured by"));
    let rate = ("CLAUDE_TOKMON_COST_RATE", "0.5");
    assert!(run(&[rate], &[]).1.contains("INFO     cost-rate"));
    assert!(
        !run(&[rate], &["--cost-rate", "2000"])
            .1
            .contains("cost-rate")
    );
    let hook = (
        "CLAUDE_TOKMON_EXEC",
        "env | grep -c ^CLAUDE_TOKMON_COST_RATE > seen; true",
    );
    let json = ("CLAUDE_TOKMON_JSON", "yes");
    let (out, _, code) = run(&[rate, hook, json], &["--run-hooks"]);
    assert!(out.starts_with('{') && code == Some(0), "{out}");
    assert_eq!(fs::read_to_string(home.path().join("seen")).unwrap(), "0\n");
    let (_, said, code) = run(&[("CLAUDE_TOKMON_BUDGET", "50")], &[]);
    assert!(
        said.ends_with("1000/month (from the environment: CLAUDE_TOKMON_BUDGET)\n"),
        "{said}"
    );
    assert_eq!(code, Some(2));
    let colour = ("CLAUDE_TOKMON_COLOR", "always");
    let is_coloured = |args: &[&str]| run(&[rate, colour], args).1.contains('\x1b');
    assert!(is_coloured(&[]) && !is_coloured(&["--no-color"]));
    let (_, said, code) = run(&[("CLAUDE_TOKMON_COLOR", "blue")], &[]);
    assert!(
        said.ends_with("\nfrom the environment: CLAUDE_TOKMON_COLOR\n"),
        "{said}"
    );
    assert_eq!(code, Some(2));
}

#[test]
fn fingers_that_are_used_to_tail_are_understood() {
    let (home, _) = home();
    for flag in ["-f", "-F", "--follow"] {
        let mut command = program(home.path());
        let output = command
            .args(["tail", flag, "-"])
            .stdin(Stdio::piped())
            .output();
        assert_eq!(output.unwrap().status.code(), Some(0), "{flag}");
    }
}

#[test]
fn a_hook_that_always_fails_is_rested_and_that_is_told() {
    let (home, log) = home();
    let args = [&BY_MODEL[..], &["--exec", "exit 1"]].concat();
    let mut watch = start(home.path(), &args);
    let models = [
        "claude-opus-4-7",
        "claude-opus-4-8",
        "claude-opus-5",
        "claude-haiku-4-5",
        "claude-sonnet-4-6",
    ];
    for model in models {
        append(&log, &[of_model(model, model)]);
    }
    let said = watch.expect("WARNING  blind");
    assert!(
        said.contains("the hook failed five times in a row and rests"),
        "{said}"
    );
    assert_eq!(watch.end().0, Some(0));
}

#[test]
fn a_circuit_breaker_is_open_while_a_critical_alert_is_on() {
    let home = tempfile::tempdir().unwrap();
    let run = |episode: &str, severity: &str, reason: &str| {
        let status = Command::new(contrib("breaker.sh"))
            .env("BREAKER_DIR", home.path())
            .env("CLAUDE_TOKMON_EPISODE", episode)
            .env("CLAUDE_TOKMON_SEVERITY", severity)
            .env("CLAUDE_TOKMON_REASON", reason)
            .env("CLAUDE_TOKMON_MESSAGE", "$2.51/min over 1m")
            .status();
        (status.unwrap().success(), home.path().join("open").exists())
    };
    assert_eq!(run("00000000000000aa", "warning", "first"), (true, false));
    assert_eq!(run("00000000000000aa", "critical", "first"), (true, true));
    assert_eq!(
        run("00000000000000bb", "critical", "still-firing"),
        (true, true)
    );
    assert_eq!(
        run("00000000000000aa", "critical", "resolved"),
        (true, true)
    );
    assert_eq!(
        run("00000000000000bb", "critical", "resolved"),
        (true, false)
    );
    assert_eq!(run("../../x", "critical", "first"), (false, false));
}

#[test]
fn a_cache_is_refreshed_once_and_only_where_that_helps() {
    let home = tempfile::tempdir().unwrap();
    let done = home.path().join("done");
    let run = |rule: &str, reason: &str, cause: &str| {
        let status = Command::new(contrib("cache-refresh.sh"))
            .env(
                "CACHE_REFRESH_CMD",
                format!("echo x >> '{}'", done.display()),
            )
            .env("CLAUDE_TOKMON_RULE", rule)
            .env("CLAUDE_TOKMON_REASON", reason)
            .env("CLAUDE_TOKMON_CAUSE", cause)
            .status();
        assert!(status.unwrap().success());
        fs::read_to_string(&done)
            .unwrap_or_default()
            .lines()
            .count()
    };
    assert_eq!(run("cache-break", "first", "dropped"), 0);
    assert_eq!(run("cost-rate", "first", ""), 0);
    assert_eq!(run("cache-break", "first", "rewritten"), 1);
    assert_eq!(run("cache-break", "repeat", "rewritten"), 1);
}

#[test]
fn what_is_muted_goes_to_json_alone() {
    let (home, log) = home();
    fs::write(
        home.path().join("mute"),
        "cost-rate model=claude-opus-4-7 until 2099-01-01\nnonsense\n",
    )
    .unwrap();
    let args = [
        &BY_MODEL[..],
        &[
            "--json",
            "--mute",
            "mute",
            "--exec",
            "echo $CLAUDE_TOKMON_KEY >> told",
        ],
    ]
    .concat();
    let mut command = program(home.path());
    command.arg("tail").args(args).arg("app.log");
    command.stdout(fs::File::create(home.path().join("json")).unwrap());
    let mut watch = Watch::start(command);
    watch.expect("mute:2: \"nonsense\" has no end; write it as RULE");
    append(
        &log,
        &[
            of_model("claude-opus-4-7", "a"),
            of_model("claude-haiku-4-5", "b"),
        ],
    );
    watch.expect("CRITICAL cost-rate");
    // The file may change while it is used.
    fs::write(home.path().join("mute"), "cost-rate until 2099-01-01\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !home.path().join("told").exists() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let (_, said) = watch.end();
    let loud: Vec<&String> = said
        .iter()
        .filter(|line| line.contains("CRITICAL"))
        .collect();
    assert_eq!(loud.len(), 1, "{said:?}");
    assert!(loud[0].contains("claude-haiku-4-5"), "{loud:?}");
    assert_eq!(
        fs::read_to_string(home.path().join("told")).unwrap(),
        "model=claude-haiku-4-5\n"
    );
    let json = fs::read_to_string(home.path().join("json")).unwrap();
    let muted: Vec<bool> = json
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|alert| alert["reason"] == "first")
        .map(|alert| alert["muted"].as_bool().unwrap())
        .collect();
    assert_eq!(muted, [true, false]);
}

#[test]
fn a_heartbeat_is_a_line_of_json_and_a_command() {
    let (home, log) = home();
    let out = home.path().join("json");
    let mut command = program(home.path());
    command.args([
        "tail",
        "--json",
        "--heartbeat",
        "1s",
        "--heartbeat-exec",
        "echo beat >> beats",
        "app.log",
    ]);
    command.stdout(fs::File::create(&out).unwrap());
    let mut watch = Watch::start(command);
    watch.expect("watching");
    append(&log, &[dollars_now("1", 1)]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let last = loop {
        let json = fs::read_to_string(&out).unwrap();
        let beats: Vec<Value> = json
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let counted = beats
            .iter()
            .rfind(|beat| beat["event"] == "heartbeat" && beat["records"] == 1);
        if let Some(last) = counted {
            break last.clone();
        }
        assert!(Instant::now() < deadline, "{json}");
        std::thread::yield_now();
    };
    assert_eq!(last["schema"], 1);
    assert_eq!(last["files"], 1);
    assert_eq!(last["cost_pusd"], "1000000000000");
    assert_eq!(watch.end().0, Some(0));
    assert!(
        fs::read_to_string(home.path().join("beats"))
            .unwrap()
            .starts_with("beat\n")
    );
}

#[test]
fn systemd_hears_that_we_are_ready_alive_and_ending() {
    let (home, _) = home();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let next = || {
        let mut buffer = [0; 256];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).trim().to_owned()
    };
    let mut command = program(home.path());
    command
        .args(["tail", "app.log"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let watch = Watch::start(command);
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), "WATCHDOG=1");
    assert_eq!(next(), "WATCHDOG=1");
    // A loop that does not turn says nothing.
    watch.signal("-STOP");
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let mut buffer = [0; 256];
    while socket.recv(&mut buffer).is_ok() {}
    watch.signal("-CONT");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(next(), "WATCHDOG=1");
    let ending = std::thread::spawn(move || watch.end().0);
    let mut said = next();
    while said == "WATCHDOG=1" {
        said = next();
    }
    assert_eq!(said, "STOPPING=1");
    assert_eq!(ending.join().unwrap(), Some(0));
}

#[test]
fn a_service_that_falls_silent_is_told_and_that_it_speaks_again() {
    let (home, log) = home();
    let mut watch = start(home.path(), &["--silent-for", "1s", "--lateness", "0s"]);
    append(&log, &[dollars_now("1", 1)]);
    let said = watch.expect("WARNING  silence");
    assert!(said.contains("no response for 1s, limit 1s"), "{said}");
    append(&log, &[dollars_now("2", 1)]);
    watch.expect("RESOLVED silence");
    assert_eq!(watch.end().0, Some(0));
    // What never spoke is silent only if it was expected to.
    let (home, _) = self::home();
    let mut watch = start(
        home.path(),
        &[
            "--silent-for",
            "1s",
            "--expect-within",
            "1s",
            "--lateness",
            "0s",
        ],
    );
    let said = watch.expect("WARNING  silence");
    assert!(
        said.contains("no response yet, though one was expected"),
        "{said}"
    );
    assert_eq!(watch.end().0, Some(0));
    // Once it has spoken, what was expected of its first word says nothing any more.
    let (home, log) = self::home();
    let mut watch = start(
        home.path(),
        &[
            "--silent-for",
            "1s",
            "--expect-within",
            "1h",
            "--lateness",
            "0s",
        ],
    );
    append(&log, &[dollars_now("1", 1)]);
    watch.expect("WARNING  silence");
    assert_eq!(watch.end().0, Some(0));
}

#[test]
fn a_budget_is_told_by_the_half_and_when_it_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    let day = 86_400_000;
    // Two days ago, at noon in Berlin, whatever the day is there.
    let noon = now_ms() / day * day - 2 * day + day / 2;
    let lines: Vec<String> = (0..5)
        .map(|i| {
            Call {
                at: noon + i * 60_000,
                id: format!("msg_{i}"),
                input: 2_400_000,
                ..Call::default()
            }
            .line()
        })
        .collect();
    append(&log, &lines);
    let output = program(home.path())
        .args([
            "replay",
            "--budget",
            "50/day",
            "--budget",
            "1000/month",
            "--set",
            "cost-rate.enabled=false",
            "--timezone",
            "Europe/Berlin",
            "app.log",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let told: Vec<&str> = said
        .lines()
        .filter(|line| line.contains(" budget "))
        .collect();
    assert_eq!(told.len(), 4, "{said}");
    assert!(
        told[0].contains("WARNING") && told[0].contains("at the pace of the last hour"),
        "{said}"
    );
    assert!(told[1].contains("$36.00 of $50.00 for the day"), "{said}");
    assert!(told[2].contains("spent: 96 %"), "{said}");
    assert!(
        told[3].contains("CRITICAL") && told[3].contains("$60.00 of $50.00"),
        "{said}"
    );
}

// ---- Where the output goes ----

fn sh(home: &Path, script: &str) -> (Option<i32>, String, String) {
    let script = script.replace("TOKMON", env!("CARGO_BIN_EXE_claude-tokmon"));
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("TZ", "UTC")
        .env("TERM", "xterm-256color")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let (home, log) = home();
    append(&log, &[dollars_now("1", 9)]);
    let has_colour = |script: &str| {
        let (code, _, said) = sh(home.path(), script);
        assert_eq!(code, Some(0), "{script}: {said}");
        assert!(said.contains("cost-rate"), "{script}: {said}");
        said.contains('\u{1b}')
    };
    assert!(!has_colour("TOKMON replay app.log"));
    assert!(has_colour("FORCE_COLOR=1 TOKMON replay app.log"));
    assert!(has_colour("TOKMON replay --color always app.log"));
    assert!(!has_colour(
        "NO_COLOR=1 FORCE_COLOR=1 TOKMON replay app.log"
    ));
    // On a terminal, and on one that says it wants none, and on a very narrow one.
    if !has("script") {
        return;
    }
    let on_terminal = |env: &str| {
        let tokmon = env!("CARGO_BIN_EXE_claude-tokmon");
        let inner = format!("stty cols 20; {env} {tokmon} replay app.log");
        let (code, out, _) = sh(home.path(), &format!("script -qec '{inner}' /dev/null"));
        assert_eq!(code, Some(0), "{out}");
        assert!(
            out.contains("exposed ~$9.00"),
            "details are for terminals: {out}"
        );
        out.contains('\u{1b}')
    };
    assert!(on_terminal(""));
    assert!(!on_terminal("NO_COLOR=1"));
    assert!(!on_terminal("TERM=dumb"));
}

#[test]
fn on_a_terminal_lines_of_an_alert_break_between_words_and_in_a_pipe_not_at_all() {
    if !has("script") {
        return;
    }
    let (home, log) = home();
    append(&log, &[dollars_now("1", 9)]);
    let replay = concat!(env!("CARGO_BIN_EXE_claude-tokmon"), " replay app.log");
    let alert = |script: &str| {
        let (code, out, _) = sh(home.path(), script);
        assert_eq!(code, Some(0), "{out}");
        let lines = out
            .lines()
            .map(|line| line.trim_end_matches('\r').to_owned());
        let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        lines
    };
    let in_pipe = alert(&format!("{replay} 2>&1"));
    assert_eq!(in_pipe.len(), 3, "a date and two lines: {in_pipe:?}");
    let wide = alert(&format!(
        "script -qec 'stty cols 400; NO_COLOR=1 {replay}' /dev/null"
    ));
    let narrow = alert(&format!(
        "script -qec 'stty cols 60; NO_COLOR=1 {replay}' /dev/null"
    ));
    assert_eq!(wide[1], in_pipe[1]);
    assert!(narrow.len() > wide.len(), "{narrow:?}");
    let words = |lines: &[String]| {
        let words = lines.iter().flat_map(|line| line.split_whitespace());
        words.map(str::to_owned).collect::<Vec<String>>()
    };
    assert_eq!(words(&narrow), words(&wide));
    for line in &narrow {
        assert!(line.chars().count() <= 60, "{line}");
    }
    for line in &narrow[1..] {
        let begins = line.contains(" cost-rate  ");
        assert!(begins || line.starts_with("         "), "set in: {line}");
    }
}

#[test]
fn a_closed_stdout_or_stderr_stops_no_hook() {
    for closed in [">&-", "2>&-", ">&- 2>&-"] {
        let (home, log) = home();
        append(&log, &[dollars_now("1", 1)]);
        // Nothing can be read of it, so it says by this that it is ready.
        let notify = home.path().join("notify");
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let script = format!(
            "TOKMON tail --exec 'echo $CLAUDE_TOKMON_RULE > told' app.log {closed} & echo $! > pid; wait"
        );
        let script = script.replace("TOKMON", env!("CARGO_BIN_EXE_claude-tokmon"));
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .current_dir(home.path())
            .env("NOTIFY_SOCKET", &notify)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut said = [0; 64];
        let n = socket.recv(&mut said).unwrap();
        assert!(said[..n].starts_with(b"READY=1"), "{closed}");
        append(&log, &[dollars_now("2", 9)]);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !home.path().join("told").exists() {
            assert!(Instant::now() < deadline, "{closed}");
            std::thread::yield_now();
        }
        let pid = fs::read_to_string(home.path().join("pid")).unwrap();
        Command::new("kill").arg(pid.trim()).status().unwrap();
        child.wait().unwrap();
    }
}

/// Nobody reads what it says and a hook hangs: what is written is counted all the same.
#[test]
fn a_blocked_terminal_and_a_hook_that_hangs_delay_no_reading() {
    let (home, log) = home();
    let mut reader = Command::new(env!("CARGO_BIN_EXE_claude-tokmon"))
        .args(["tail", "--json", "--heartbeat", "1s", "--exec", "sleep 600"])
        .args(BY_MODEL)
        .args(["--state", "state", "app.log"])
        .current_dir(home.path())
        .env("HOME", home.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A pipe holds 64 KiB; these alerts are more than that.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !home.path().join("state").exists() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let read = || {
        let io = fs::read_to_string(format!("/proc/{}/io", reader.id())).unwrap();
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        read.unwrap().parse::<u64>().unwrap()
    };
    let before = read();
    for n in 0..300 {
        append(
            &log,
            &[of_model(&format!("claude-opus-4-7-{n}"), &n.to_string())],
        );
    }
    // All of it is read, though nobody has read a word of ours.
    let size = fs::metadata(&log).unwrap().len();
    let begun = Instant::now();
    while read() < before + size {
        assert!(begun.elapsed() < Duration::from_secs(5), "reading waits");
        std::thread::yield_now();
    }
    Command::new("kill")
        .args(["-TERM", &reader.id().to_string()])
        .status()
        .unwrap();
    let begun = Instant::now();
    while reader.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not end");
        std::thread::yield_now();
    }
}

#[test]
fn a_name_of_a_megabyte_reaches_nobody_whole() {
    let (home, log) = home();
    let hook = "cat > stdin; env > env.part; mv env.part env";
    let mut watch = start(home.path(), &["--exec", hook]);
    let name = format!("$(touch pwned)\\u001b[2J{}", "x".repeat(1 << 20));
    append(
        &log,
        &[dollars_now("1", 9).replace("\"id\"", &format!("\"session\":\"{name}\",\"id\""))],
    );
    let said = watch.expect("CRITICAL cost-rate");
    assert!(said.len() < 2_000, "{} bytes", said.len());
    assert!(!said.contains('\u{1b}'));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !home.path().join("env").exists() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let env = fs::read_to_string(home.path().join("env")).unwrap();
    let ours = env
        .lines()
        .filter(|line| line.starts_with("CLAUDE_TOKMON_"));
    assert!(ours.clone().count() >= 16 && ours.clone().all(|line| line.len() < 1_100));
    assert!(fs::metadata(home.path().join("stdin")).unwrap().len() < 20_000);
    assert!(!home.path().join("pwned").exists());
    assert_eq!(watch.end().0, Some(0));
}

#[test]
fn a_rule_groups_by_whatever_the_line_says() {
    let (home, log) = home();
    let rule = "[[rule]]\nname = \"tenant-cost\"\nmetric = \"cost\"\nwindow = \"60s\"\nby = [\"/tenant/name\"]\nwhere = { \"/tier\" = \"paid*\" }\nabove = 5\n";
    fs::write(home.path().join("claude-tokmon.toml"), rule).unwrap();
    let of = |id: &str, tenant: &str, tier: &str| {
        let extra = format!("\"tenant\":{{\"name\":\"{tenant}\"}},\"tier\":\"{tier}\",\"id\"");
        dollars_now(id, 6).replace("\"id\"", &extra)
    };
    append(
        &log,
        &[
            of("1", "acme", "paid-2"),
            of("2", "free-rider", "trial"),
            of("3", "globex", "paid"),
        ],
    );
    let output = program(home.path())
        .args([
            "replay",
            "--json",
            "--by",
            "/tier",
            "--set",
            "cost-rate.enabled=false",
            "app.log",
        ])
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let keys: Vec<&str> = lines
        .iter()
        .filter(|line| line["rule"] == "tenant-cost" && line["reason"] == "first")
        .map(|line| line["key"]["/tenant/name"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["acme", "globex"], "{out}");
    let groups = lines.last().unwrap()["by_group"].as_object().unwrap();
    assert_eq!(
        groups.keys().collect::<Vec<_>>(),
        ["paid", "paid-2", "trial"]
    );
    // What is printed reads back.
    let printed = program(home.path()).arg("rules").output().unwrap();
    fs::write(home.path().join("again.toml"), &printed.stdout).unwrap();
    let again = program(home.path())
        .args(["rules", "--config", "again.toml"])
        .output()
        .unwrap();
    assert_eq!(
        printed.stdout,
        again.stdout,
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
}

/// A hundred alerts at once: people read twenty, hooks get as many as their queue holds, and what did not fit is said.
#[test]
fn a_storm_is_cut_for_people_and_said_to_be() {
    let (home, log) = home();
    let rule = "[[rule]]\nname = \"tenant-cost\"\nmetric = \"cost\"\nwindow = \"60s\"\nby = [\"/tenant\"]\nabove = 5\nseverity = \"critical\"\n\n[[rule]]\nname = \"cost-rate\"\nenabled = false\n";
    fs::write(home.path().join("claude-tokmon.toml"), rule).unwrap();
    let out = home.path().join("json");
    let mut command = program(home.path());
    command.args([
        "tail",
        "--json",
        "--exec",
        // None ends before all hundred are there.
        "while [ ! -e all ]; do sleep 0.01; done; echo $CLAUDE_TOKMON_KEY >> told",
        "app.log",
    ]);
    command.stdout(fs::File::create(&out).unwrap());
    let mut watch = Watch::start(command);
    watch.expect("watching");
    let lines: Vec<String> = (0..100)
        .map(|n| {
            dollars_now(&n.to_string(), 6)
                .replace("\"id\"", &format!("\"tenant\":\"t-{n}\",\"id\""))
        })
        .collect();
    append(&log, &lines);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        watch.signal("-USR1");
        let status = watch.expect("\"event\":\"status\"");
        if status.contains("\"records\":100,") {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
    }
    fs::write(home.path().join("all"), "").unwrap();
    // One runs, 64 wait.
    let lost = watch.expect("notices did not fit its queue");
    assert!(
        lost.contains("too slow: 35 ") || lost.contains("too slow: 36 "),
        "{lost}"
    );
    let told = || {
        fs::read_to_string(home.path().join("told"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    while told() < 64 {
        assert!(Instant::now() < deadline, "{}", told());
        std::thread::yield_now();
    }
    let (code, said) = watch.end();
    assert_eq!(code, Some(0));
    let alerts = said.iter().filter(|line| {
        line.contains("CRITICAL tenant-cost") && !line.contains("still on at the end")
    });
    // All of them in one minute, or some in the next.
    assert!((20..=40).contains(&alerts.count()), "{said:?}");
    assert!(
        said.iter()
            .any(|line| line.contains("more notices in that minute")),
        "{said:?}"
    );
    assert!((64..=65).contains(&told()), "{}", told());
    let json = fs::read_to_string(&out).unwrap();
    let truncated = json.lines().filter(|line| line.contains("\"truncated\":"));
    assert!(truncated.count() >= 1, "{json}");
}

/// Two rules trip over the same money, and one would speak for both. If people asked not to hear of that one, the other does.
#[test]
fn what_is_muted_speaks_for_nothing_else() {
    let (home, log) = home();
    let spike = [
        "--set",
        "token-spike.above=1000",
        "--set",
        "token-spike.for=0s",
        "--set",
        "token-spike.min_requests=1",
    ];
    let told = |mute: &str| {
        fs::write(home.path().join("mute"), mute).unwrap();
        append(&log, &[dollars_now(mute.get(..4).unwrap_or("none"), 9)]);
        let output = program(home.path())
            .args(["replay", "--mute", "mute", "app.log"])
            .args(spike)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let rules = ["cost-rate", "token-spike"];
        let first = |rule: &&str| {
            said.lines()
                .any(|line| line.contains(&format!(" {rule}  ")) && !line.contains("STILL ON"))
        };
        rules.into_iter().filter(first).collect::<Vec<_>>()
    };
    assert_eq!(told(""), ["cost-rate"]);
    assert_eq!(told("cost-rate until 2099-01-01\n"), ["token-spike"]);
}
