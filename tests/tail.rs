//! The program on real files and pipes that grow, rotate, vanish and come.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Call, Watch, append, copy_of_program, dollars_now, now_ms, program};
use tempfile::TempDir;

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn tail(home: &Path, args: &[&str]) -> Command {
    let mut command = program(home);
    command.arg("tail").args(args);
    command
}

/// A rule that speaks at any record, and again only for another model.
const EACH_MODEL: [&str; 6] = [
    "--set",
    "cost-rate.above=0",
    "--set",
    "cost-rate.by=[\"model\"]",
    "--set",
    "cost-rate.min_requests=1",
];

fn of_model(model: &str, id: &str) -> String {
    Call {
        at: now_ms(),
        id: format!("msg_{id}"),
        model,
        input: 100_000,
        ..Call::default()
    }
    .line()
}

#[test]
fn an_appended_line_that_crosses_a_limit_is_told_and_the_end_is_clean() {
    let home = home();
    let log = home.path().join("app.log");
    append(&log, &[dollars_now("0", 1)]);
    let mut watch = Watch::start(tail(home.path(), &["app.log"]));
    let start = watch.expect("watching");
    assert_eq!(
        start,
        "watching 1 file · last 7d: 1 response, $1.00 at list price · 16 rules, 5 learning"
    );
    append(&log, &[dollars_now("1", 3)]);
    let alert = watch.expect("cost-rate");
    assert!(
        alert.contains("CRITICAL cost-rate  $4.00/min over 1m, limit $2.00/min · claude-opus-4-7"),
        "{alert}"
    );
    let (code, lines) = watch.end();
    assert_eq!(code, Some(0));
    let end = lines
        .iter()
        .find(|line| line.starts_with("watched 1 file for"))
        .unwrap();
    assert!(
        end.ends_with("1 response, $3.00 at list price · 1 alert"),
        "{end}"
    );
    assert!(
        lines.iter().any(|line| line.contains("STILL ON cost-rate")),
        "{lines:?}"
    );
}

#[test]
fn a_line_in_three_pieces_is_one_record() {
    let home = home();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let mut watch = Watch::start(tail(home.path(), &["app.log"]));
    watch.expect("watching");
    let line = dollars_now("ünï\u{1F600}", 3);
    let emoji = line.find('\u{1F600}').unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(&log).unwrap();
    // The second cut is within a character.
    for piece in [
        &line.as_bytes()[..10],
        &line.as_bytes()[10..emoji + 2],
        &line.as_bytes()[emoji + 2..],
        b"\n",
    ] {
        file.write_all(piece).unwrap();
        file.flush().unwrap();
    }
    watch.expect("cost-rate");
    let (_, lines) = watch.end();
    assert!(
        lines.iter().any(|l| l.contains("1 response, $3.00")),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|l| l.contains("could not be read")),
        "{lines:?}"
    );
}

#[test]
fn a_last_line_without_a_line_feed_counts_once_it_is_quiet() {
    let home = home();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let mut watch = Watch::start(tail(home.path(), &["app.log"]));
    watch.expect("watching");
    let mut file = fs::OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(dollars_now("1", 3).as_bytes()).unwrap();
    watch.expect("cost-rate");
    file.write_all(b"\n").unwrap();
    append(&log, &[of_model("claude-haiku-4-5", "2")]);
    let (_, lines) = watch.end();
    assert!(
        !lines.iter().any(|l| l.contains("could not be read")),
        "{lines:?}"
    );
}

#[test]
fn a_rotated_file_is_read_to_its_end_and_its_successor_from_its_beginning() {
    let home = home();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let mut watch = Watch::start(tail(home.path(), &[&["app.log"], &EACH_MODEL[..]].concat()));
    watch.expect("watching");
    append(&log, &[of_model("claude-opus-4-7", "1")]);
    watch.expect("claude-opus-4-7");
    fs::rename(&log, home.path().join("app.log.1")).unwrap();
    append(&log, &[of_model("claude-haiku-4-5", "2")]);
    watch.expect("claude-haiku-4-5");
    // The writer has not noticed yet.
    append(
        &home.path().join("app.log.1"),
        &[of_model("claude-sonnet-4-6", "3")],
    );
    watch.expect("claude-sonnet-4-6");
    let (_, lines) = watch.end();
    assert!(lines.iter().any(|l| l.contains("3 responses")), "{lines:?}");
}

#[test]
fn a_truncated_file_is_read_from_its_beginning_even_if_it_has_grown_beyond_where_we_were() {
    let home = home();
    let log = home.path().join("app.log");
    append(&log, &[of_model("claude-opus-4-7", "1")]);
    let mut watch = Watch::start(tail(home.path(), &[&["app.log"], &EACH_MODEL[..]].concat()));
    watch.expect("already on");
    watch.signal("-STOP");
    fs::write(&log, "").unwrap();
    append(
        &log,
        &[
            of_model("claude-haiku-4-5", "2"),
            of_model("claude-sonnet-4-6", "3"),
        ],
    );
    watch.signal("-CONT");
    watch.expect("was truncated or rewritten");
    let (_, lines) = watch.end();
    for model in ["claude-haiku-4-5", "claude-sonnet-4-6"] {
        assert!(lines.iter().any(|l| l.contains(model)), "{lines:?}");
    }
    assert!(lines.iter().any(|l| l.contains("2 responses")), "{lines:?}");
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let home = home();
    let mut watch = Watch::start(tail(home.path(), &["logs/app.log"]));
    watch.expect("waiting for logs/app.log (not there yet)");
    fs::create_dir(home.path().join("logs")).unwrap();
    append(&home.path().join("logs/app.log"), &[dollars_now("1", 3)]);
    watch.expect("cost-rate");
    let (code, lines) = watch.end();
    assert_eq!(code, Some(0));
    assert!(
        lines.iter().any(|l| l == "logs/app.log is there now"),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|l| l.contains("no file events")),
        "{lines:?}"
    );
}

#[test]
fn a_directory_is_followed_with_what_comes_below_it() {
    let home = home();
    fs::create_dir(home.path().join("logs")).unwrap();
    let mut watch = Watch::start(tail(home.path(), &[&["logs"], &EACH_MODEL[..]].concat()));
    watch.expect("watching 0 files (none in logs yet)");
    fs::create_dir_all(home.path().join("logs/a/b")).unwrap();
    append(
        &home.path().join("logs/a/b/x.jsonl"),
        &[of_model("claude-opus-4-7", "1")],
    );
    append(
        &home.path().join("logs/notes.txt"),
        &[of_model("claude-sonnet-4-6", "9")],
    );
    watch.expect("claude-opus-4-7");
    append(
        &home.path().join("logs/y.log"),
        &[of_model("claude-haiku-4-5", "2")],
    );
    watch.expect("claude-haiku-4-5");
    let (_, lines) = watch.end();
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("watched 2 files") && l.contains("2 responses")),
        "{lines:?}"
    );
}

#[test]
fn a_pattern_takes_in_files_that_come_later() {
    let home = home();
    let mut watch = Watch::start(tail(home.path(), &["app-*.log"]));
    watch.expect("waiting for app-*.log (not there yet)");
    append(&home.path().join("other.log"), &[dollars_now("0", 30)]);
    append(&home.path().join("app-1.log"), &[dollars_now("1", 3)]);
    let alert = watch.expect("cost-rate");
    assert!(alert.contains("$3.00/min"), "{alert}");
    watch.end();
}

#[test]
fn an_old_log_is_read_in_silence() {
    let home = home();
    let old = now_ms() - 5 * 3_600_000;
    let book = common::Textbook {
        per_hour: 600.0,
        history_ms: 3_600_000,
        loss: common::Loss::Rewritten,
        incident_ms: 1_800_000,
        after_ms: 600_000,
        seed: 1,
    };
    let shift = old - common::TWO_O_CLOCK;
    let lines: Vec<String> = book
        .lines()
        .0
        .iter()
        .map(|line| shifted(line, shift))
        .collect();
    append(&home.path().join("app.log"), &lines);
    let mut watch = Watch::start(tail(home.path(), &["app.log"]));
    watch.expect("watching 1 file · last 7d: ");
    let (code, lines) = watch.end();
    assert_eq!(code, Some(0));
    assert!(
        !lines
            .iter()
            .any(|l| l.contains("cache-") || l.contains("cost-rate")),
        "{lines:?}"
    );
}

/// The same line at another time.
fn shifted(line: &str, by: i64) -> String {
    let (head, rest) = line.split_at(r#"{"time":""#.len());
    let (time, tail) = rest.split_once('"').unwrap();
    let at = claude_tokmon::parse::rfc3339(time).unwrap().0 + by;
    format!("{head}{}\"{tail}", common::rfc3339(at))
}

#[test]
fn what_is_going_on_when_we_come_is_told_as_such() {
    let home = home();
    append(&home.path().join("app.log"), &[dollars_now("1", 5)]);
    let mut watch = Watch::start(tail(home.path(), &["--json", "app.log"]).stdout_piped());
    let alert = watch.expect("cost-rate");
    assert!(alert.contains("already on"), "{alert}");
    let mut stdout = watch.child.stdout.take().unwrap();
    watch.end();
    let mut json = String::new();
    stdout.read_to_string(&mut json).unwrap();
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["reason"], &first["rule"], &first["schema"]),
        (&"still-firing".into(), &"cost-rate".into(), &1.into())
    );
    assert_eq!(first["exposed_usd"].to_string(), "5.0");
}

trait Piped {
    fn stdout_piped(self) -> Command;
}

impl Piped for Command {
    fn stdout_piped(mut self) -> Command {
        self.stdout(Stdio::piped());
        self
    }
}

fn raw_response(i: u32) -> String {
    format!(
        r#"{{"id":"msg_{i}","type":"message","role":"assistant","model":"claude-opus-4-7","content":[],"stop_reason":"end_turn","usage":{{"input_tokens":50000,"output_tokens":100}}}}"#
    )
}

#[test]
fn what_a_longer_life_in_the_cache_would_have_saved_is_said_at_the_start() {
    let home = home();
    let log = home.path().join("app.log");
    let first = now_ms() - 7 * 3_600_000;
    let ask = |n: i64| {
        // The second is asked at once, and read.
        let (minutes, read) = if n == 1 { (1, 20_000) } else { (7 * n, 0) };
        let call = Call {
            at: first + minutes * 60_000,
            id: format!("msg_{n}"),
            session: Some("bot"),
            input: 500,
            output: 100,
            read,
            write_5m: 20_000 - read,
            ..Call::default()
        };
        call.line()
    };
    append(&log, &(0..51).map(ask).collect::<Vec<_>>());
    let mut watch = Watch::start(tail(home.path(), &["app.log"]));
    watch.expect("last 7d: 51 responses");
    let advice = watch.expect("cheaper:");
    // Each of the other 49 pauses is longer than five minutes; the prompt is read for $0.01 then, not written for $0.125, and the first
    // write costs $0.075 more.
    assert!(
        advice.starts_with(
            "cheaper: \"ttl\": \"1h\" in cache_control would have cost about $5.56 less (claude-opus-4-7): "
        ),
        "{advice}"
    );
    // None of that came while it watched.
    let (_, lines) = watch.end();
    let said = lines.iter().filter(|line| line.contains("cheaper"));
    assert_eq!(said.count(), 1, "{lines:?}");
}

#[test]
fn raw_responses_without_a_time_that_were_on_disk_enter_totals_only() {
    let home = home();
    let log = home.path().join("app.log");
    append(&log, &(0..10_000).map(raw_response).collect::<Vec<_>>());
    let mut watch = Watch::start(tail(home.path(), &["app.log"]));
    watch.expect("last 7d: 10,000 responses, $2,525.00 at list price");
    watch.expect("10,000 of these responses name no time");
    // One that is written while we watch happened when it came.
    append(
        &log,
        &(10_000..10_020).map(raw_response).collect::<Vec<_>>(),
    );
    let alert = watch.expect("cost-rate");
    assert!(alert.contains("/min over 1m"), "{alert}");
    let (_, lines) = watch.end();
    assert!(
        lines.iter().any(|l| l.contains("20 responses, $5.05")),
        "{lines:?}"
    );
}

fn piped(home: &Path, args: &[&str], input: &[String]) -> (Option<i32>, String) {
    let mut command = tail(home, args);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all((input.join("\n") + "\n").as_bytes())
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_log_piped_from_yesterday_fires_nothing_and_is_pointed_to_replay() {
    let home = home();
    let yesterday = now_ms() - 86_400_000;
    let lines: Vec<String> = (0..50)
        .map(|i| {
            Call {
                at: yesterday + i * 100,
                id: format!("msg_{i}"),
                input: 100_000,
                ..Call::default()
            }
            .line()
        })
        .collect();
    let (code, stderr) = piped(home.path(), &["-"], &lines);
    assert_eq!(code, Some(0));
    assert!(
        stderr.contains("to test rules on history use: claude-tokmon replay -"),
        "{stderr}"
    );
    assert!(!stderr.contains("cost-rate"), "{stderr}");
}

#[test]
fn a_pipe_of_the_present_alerts_and_ends_with_its_writer() {
    let home = home();
    let (code, stderr) = piped(
        home.path(),
        &["-"],
        &[dollars_now("1", 1), dollars_now("2", 3)],
    );
    assert_eq!(code, Some(0));
    assert!(stderr.contains("CRITICAL cost-rate"), "{stderr}");
    assert!(
        stderr
            .contains("watched standard input for 0s: 2 responses, $4.00 at list price · 1 alert"),
        "{stderr}"
    );
}

/// Part of it is read on another thread then.
#[test]
fn all_of_a_pipe_counts_however_fast_it_comes() {
    let home = home();
    let begin = now_ms() - 3_000_000;
    let cent = |i: i64| Call {
        at: begin + i * 100,
        id: format!("msg_{i}"),
        input: 2_000,
        ..Call::default()
    };
    let mut lines = Vec::new();
    for i in 0..30_000 {
        lines.push(cent(i).line());
        if i % 3 == 0 {
            lines.push(cent(i / 2).line());
        }
        if i % 500 == 0 {
            lines.push("{\"usage\": {".to_owned());
        }
    }
    let (code, stderr) = piped(home.path(), &["-"], &lines);
    assert_eq!(code, Some(0));
    let sum = "30,000 responses, $300.00 at list price · 1 alert";
    assert!(stderr.contains(sum), "{stderr}");
    assert!(
        stderr.contains("60 of 40,060 lines could not be read"),
        "{stderr}"
    );
}

/// Where nobody hears of an alert there is nothing to watch for; with a hook there is.
#[test]
fn a_reader_of_alerts_that_goes_ends_tail_unless_a_hook_hears_of_them() {
    for args in [&["app.log"][..], &["--exec", "echo >> heard", "app.log"]] {
        let home = home();
        let log = home.path().join("app.log");
        append(&log, &[dollars_now("1", 1)]);
        let mut command = tail(home.path(), args);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut first).unwrap();
        assert!(first.contains("watching"), "{first}");
        drop(stderr);
        append(&log, &[dollars_now("2", 9)]);
        let heard = home.path().join("heard");
        let deadline = Instant::now() + Duration::from_secs(20);
        while child.try_wait().unwrap().is_none() && !heard.exists() {
            assert!(Instant::now() < deadline, "it neither ends nor goes on");
            std::thread::yield_now();
        }
        if args.len() == 1 {
            assert_eq!(child.wait().unwrap().code(), Some(0));
        } else {
            assert!(heard.exists());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn a_reader_of_json_that_goes_ends_tail_and_nothing_else_does() {
    let home = home();
    let log = home.path().join("app.log");
    append(&log, &[dollars_now("1", 1)]);
    let mut watch = Watch::start(tail(home.path(), &["--json", "app.log"]).stdout_piped());
    watch.expect("watching");
    drop(watch.child.stdout.take());
    let (code, lines) = watch.wait();
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(!lines.iter().any(|l| l.contains("panic")), "{lines:?}");
}

#[test]
fn interrupt_ends_it_well() {
    let home = home();
    append(&home.path().join("app.log"), &[dollars_now("1", 1)]);
    for signal in ["-INT", "-HUP"] {
        let mut watch = Watch::start(tail(home.path(), &["app.log"]));
        watch.expect("watching");
        watch.signal(signal);
        let (code, lines) = watch.wait();
        assert_eq!(code, Some(0));
        assert!(lines.iter().any(|l| l.starts_with("watched")), "{lines:?}");
    }
}

#[test]
fn control_characters_of_a_log_do_not_reach_the_terminal() {
    let home = home();
    let log = home.path().join("app.log");
    fs::write(&log, "").unwrap();
    let mut watch = Watch::start(tail(
        home.path(),
        &[&["app.log", "--color", "always"], &EACH_MODEL[..]].concat(),
    ));
    watch.expect("watching");
    append(&log, &[of_model(r"evil\u001b]0;title\u0007\nline", "1")]);
    let alert = watch.expect("no price for model");
    assert!(
        !alert.contains('\u{7}') && !alert.contains("\u{1b}]"),
        "{alert:?}"
    );
    assert!(
        alert.contains("evil\u{fffd}]0;title\u{fffd}\u{fffd}line"),
        "{alert:?}"
    );
}

#[test]
fn a_closed_standard_input_is_told_and_ends_with_3() {
    let home = home();
    let output = tail(home.path(), &["-"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr,
        "claude-tokmon: cannot follow \"-\": standard input is closed or the null device\n"
    );
}

#[test]
fn many_idle_files_need_few_descriptors() {
    let home = home();
    fs::create_dir(home.path().join("logs")).unwrap();
    for i in 0..300 {
        append(
            &home.path().join(format!("logs/{i}.jsonl")),
            &[of_model("claude-opus-4-7", &i.to_string())],
        );
    }
    // The limit is set by the shell that becomes the program.
    let line = format!(
        "ulimit -n 64; exec {} tail logs",
        env!("CARGO_BIN_EXE_claude-tokmon")
    );
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &line])
        .current_dir(home.path())
        .env("HOME", home.path());
    let mut watch = Watch::start(command);
    watch.expect("watching 300 files · last 7d: 300 responses, $150.00");
    append(
        &home.path().join("logs/7.jsonl"),
        &[of_model("claude-unheard-of", "x")],
    );
    watch.expect("no price for model");
    let (_, lines) = watch.end();
    assert!(
        !lines.iter().any(|l| l.contains("cannot read")),
        "{lines:?}"
    );
}

#[test]
fn control_characters_of_the_name_of_a_file_do_not_reach_the_terminal() {
    let home = home();
    let name = "evil\u{1b}]0;title\u{7}\nline.log";
    fs::write(home.path().join(name), "no object\n").unwrap();
    let mut watch = Watch::start(tail(home.path(), &[name, "--color", "always"]));
    let line = watch.expect("not a JSON object");
    assert!(
        line.contains("evil\u{fffd}]0;title\u{fffd}\u{fffd}line.log:1:1"),
        "{line:?}"
    );
}

#[test]
fn a_log_without_a_usage_record_and_a_pointer_that_leads_nowhere_are_told() {
    let home = home();
    append(
        &home.path().join("app.log"),
        &["{\"msg\":\"hello\"}".to_owned(), dollars_now("1", 1)],
    );
    append(
        &home.path().join("other.log"),
        &["{\"usage\":{\"billed_tokens\":1}}".to_owned()],
    );
    let mut watch = Watch::start(tail(
        home.path(),
        &["--usage-field", "/payload/usage", "app.log"],
    ));
    watch.expect("no usage record in 2 lines; --usage-field /payload/usage leads to no usage object in any of them");
    watch.end();
    let mut watch = Watch::start(tail(home.path(), &["other.log"]));
    watch.expect(
        "no usage record in 1 line; if there are some, name their place with --usage-field",
    );
    watch.expect(
        "not counted, 1 of them: usage objects in a dialect that this version does not read",
    );
    watch.end();
}

/// Root may read everything, so this runs as somebody else.
#[test]
fn a_file_that_nobody_may_read_ends_with_3_unless_another_can_be() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let home = home();
    append(&home.path().join("app.log"), &[dollars_now("1", 1)]);
    append(&home.path().join("open.log"), &[dollars_now("2", 1)]);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.path().join("app.log"), fs::Permissions::from_mode(0o0)).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let as_somebody = |args: &[&str]| {
        let mut command = Command::new(copy_of_program(home.path()));
        command.args(args).current_dir(home.path());
        if is_root {
            use std::os::unix::process::CommandExt;
            command.uid(65_534).gid(65_534);
        }
        command
    };
    let output = as_somebody(&["tail", "app.log"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("cannot read app.log: permission denied"),
        "{stderr}"
    );
    let replay = as_somebody(&["replay", "app.log"]).output().unwrap();
    assert_eq!(replay.status.code(), Some(3));
    let mut watch = Watch::start(as_somebody(&["tail", "app.log", "open.log"]));
    watch.expect("cannot read app.log: permission denied");
    watch.expect("watching 1 file");
    fs::set_permissions(
        home.path().join("app.log"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    append(&home.path().join("app.log"), &[dollars_now("3", 3)]);
    watch.expect("cost-rate");
    watch.end();
}

#[test]
fn several_rotations_between_two_looks_lose_nothing() {
    let home = home();
    let log = home.path().join("app.log");
    append(&log, &[of_model("claude-opus-4-7", "0")]);
    let mut watch = Watch::start(tail(home.path(), &[&["app.log"], &EACH_MODEL[..]].concat()));
    watch.expect("watching");
    watch.signal("-STOP");
    let models = [
        "claude-opus-5",
        "claude-opus-4-8",
        "claude-haiku-4-5",
        "claude-sonnet-4-6",
    ];
    for (i, model) in models.into_iter().enumerate() {
        append(&log, &[of_model(model, &format!("r{i}"))]);
        if i + 1 < models.len() {
            for n in (1..=i).rev() {
                fs::rename(
                    home.path().join(format!("app.log.{n}")),
                    home.path().join(format!("app.log.{}", n + 1)),
                )
                .unwrap();
            }
            fs::rename(&log, home.path().join("app.log.1")).unwrap();
        }
    }
    watch.signal("-CONT");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !models
        .iter()
        .all(|model| watch.seen.iter().any(|line| line.contains(model)))
    {
        assert!(std::time::Instant::now() < deadline, "{:?}", watch.seen);
        watch.expect("cost-rate");
    }
    let (_, lines) = watch.end();
    assert!(lines.iter().any(|l| l.contains("4 responses")), "{lines:?}");
}
