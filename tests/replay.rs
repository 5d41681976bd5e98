//! Replay over spans, rotated and compressed files, and pipes.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Call, TWO_O_CLOCK, Watch, append, program};
use serde_json::Value;

fn replay(home: &Path, args: &[&str]) -> (Vec<Value>, i32) {
    let output = program(home)
        .args(["replay", "--json"])
        .args(args)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let objects = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (objects, output.status.code().unwrap())
}

fn fixture() -> String {
    format!("{}/fixtures/cache-break.jsonl", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_span_is_reported_alone_and_what_lies_before_it_is_learned_from() {
    let home = tempfile::tempdir().unwrap();
    let (whole, _) = replay(home.path(), &[&fixture()]);
    let span = [
        "--since",
        "2026-11-23T01:30:00Z",
        "--until",
        "2026-11-23T02:10:00Z",
        &fixture(),
    ];
    let (part, code) = replay(home.path(), &span);
    assert_eq!(code, 0);
    let summary = part.last().unwrap();
    assert_eq!(
        summary["span"][0].as_str().unwrap().get(..16),
        Some("2026-11-23T01:30")
    );
    let records = summary["records"].as_u64().unwrap();
    assert!(
        records > 30 && records < whole.last().unwrap()["records"].as_u64().unwrap() / 2,
        "{records}"
    );
    // The break is found at the same request, as the same episode, at the same cost.
    for field in [
        "episode",
        "at",
        "since",
        "value",
        "limit",
        "exposed_usd",
        "cause",
    ] {
        assert_eq!(part[0][field], whole[0][field], "{field}");
    }
    let reasons: Vec<&str> = part.iter().filter_map(|o| o["reason"].as_str()).collect();
    assert_eq!(reasons, ["first", "repeat", "stopped"]);
}

#[test]
fn rotated_and_compressed_files_of_a_directory_are_read_in_their_order() {
    let home = tempfile::tempdir().unwrap();
    let line = |i: i64| {
        Call {
            at: TWO_O_CLOCK + i * 1000,
            id: format!("msg_{i}"),
            input: 1000,
            ..Call::default()
        }
        .line()
    };
    let logs = home.path().join("logs");
    fs::create_dir(&logs).unwrap();
    append(&logs.join("app.log"), &[line(6), line(7)]);
    append(&logs.join("app.log.1"), &[line(4), line(5)]);
    let old = line(2) + "\n" + &line(3) + "\n";
    let mut gz = flate2::write::GzEncoder::new(
        fs::File::create(logs.join("app.log.2.gz")).unwrap(),
        flate2::Compression::fast(),
    );
    gz.write_all(old.as_bytes()).unwrap();
    gz.finish().unwrap();
    let older = line(0) + "\n" + &line(1);
    let zst = ruzstd::encoding::compress_to_vec(
        older.as_bytes(),
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    fs::write(logs.join("app.log.3.zst"), zst).unwrap();
    // The same file unpacked adds nothing.
    fs::write(logs.join("app.log.4"), &old).unwrap();
    let (objects, code) = replay(home.path(), &["logs"]);
    let summary = objects.last().unwrap();
    assert_eq!(code, 0);
    let found = ["files", "records", "duplicates", "late", "bad_lines"]
        .map(|key| summary[key].as_u64().unwrap());
    assert_eq!(found, [5, 8, 2, 0, 0]);
    fs::write(logs.join("broken.log.gz"), "not gzip").unwrap();
    assert_eq!(replay(home.path(), &["logs"]).1, 3);
}

#[test]
fn standard_input_is_as_good_as_a_file() {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command
        .args(["replay", "--json", "-"])
        .stdin(fs::File::open(fixture()).unwrap())
        .stderr(Stdio::null());
    let output = command.output().unwrap();
    let piped = String::from_utf8(output.stdout)
        .unwrap()
        .replace("\"source\":\"-\"", "");
    let file = program(home.path())
        .args(["replay", "--json", &fixture()])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let file = String::from_utf8(file.stdout)
        .unwrap()
        .replace(&format!("\"source\":\"{}\"", fixture()), "");
    assert_eq!(piped, file);
}

#[test]
fn a_report_that_does_not_fit_the_disk_is_an_error_that_says_where() {
    let home = tempfile::tempdir().unwrap();
    for args in [
        &["replay", "-q"][..],
        &["replay", "--json"],
        &["rules", "--explain"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let output = program(home.path())
            .args(args)
            .arg(fixture())
            .stdout(full.unwrap())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let says = "claude-tokmon: cannot write to standard output: No space left on device";
        assert!(stderr.contains(says), "{args:?} {stderr}");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    // Alerts that nobody can read are no success either.
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let output = program(home.path())
        .args(["replay", "-q"])
        .arg(fixture())
        .stderr(full.unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("could have been avoided"), "{report}");
}

/// A bot that is asked every seven minutes pays its prompt each time; one that is asked every minute pays for an hour of which it
/// needs five minutes. Both hear what the other time to live would have saved; where it is little nothing is said.
#[test]
fn what_another_time_to_live_would_have_saved_is_said() {
    let home = tempfile::tempdir().unwrap();
    let log = |name: &str, minutes: usize, ttl: &str, turns: usize| {
        let line = |n: usize| {
            let (written, read) = match n {
                0 => (40_000, 0),
                2.. if minutes > 5 => (43_000, 0),
                _ => (3_000, 37_000 + 3_000 * n),
            };
            let minute = if n < 2 { n } else { n * minutes };
            format!(
                r#"{{"time":"2026-11-20T{:02}:{:02}:00Z","id":"msg_{n}","session_id":"s-1","model":"claude-opus-4-7","usage":{{"input_tokens":9,"output_tokens":9,"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read},"cache_creation":{{"ephemeral_{ttl}_input_tokens":{written}}}}}}}"#,
                minute / 60,
                minute % 60,
            )
        };
        append(
            &home.path().join(name),
            &(0..turns).map(line).collect::<Vec<_>>(),
        );
        let output = program(home.path())
            .args(["replay", name])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let slow = log("slow.log", 7, "5m", 100);
    assert!(
        slow.contains(
            "\"ttl\": \"1h\" in cache_control would have cost about $24.07 less (claude-opus-4-7)"
        ),
        "{slow}"
    );
    assert!(slow.contains("a longer ttl costs less"), "{slow}");
    assert!(!slow.contains("could have been avoided"), "{slow}");
    let busy = log("busy.log", 1, "1h", 100);
    assert!(
        busy.contains(
            "\"ttl\": \"5m\" in cache_control would have cost about $1.26 less (claude-opus-4-7)"
        ),
        "{busy}"
    );
    let fit = log("fit.log", 1, "5m", 100);
    assert!(!fit.contains("\"ttl\""), "{fit}");
    let (objects, _) = replay(home.path(), &["slow.log"]);
    let saved = &objects.last().unwrap()["other_ttl"]["claude-opus-4-7"];
    assert_eq!(saved["one_hour_saves_usd"], 24.06925);
}

/// Twenty requests at once with one prompt that is not in the cache yet, then forty that read it, each hour. Without a session nobody can
/// tell them from twenty users with a prompt each; that nothing could have been avoided is not said of them.
#[test]
fn what_requests_without_a_session_may_have_paid_again_is_said() {
    let home = tempfile::tempdir().unwrap();
    let log = |session: &str| {
        let line = |hour: usize, second: usize, n: usize| {
            let (written, read) = if n < 20 { (50_000, 0) } else { (0, 50_000) };
            format!(
                r#"{{"time":"2026-11-20T{hour:02}:{:02}:{:02}Z","id":"msg_{hour}_{n}",{session}"model":"claude-opus-4-7","usage":{{"input_tokens":9,"output_tokens":9,"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read}}}}}"#,
                second / 60,
                second % 60,
            )
        };
        let second = |n: usize| if n < 20 { 8 } else { 6 * n - 100 };
        let hours = (0..12).flat_map(|hour| (0..60).map(move |n| line(hour, second(n), n)));
        hours.collect::<Vec<_>>()
    };
    append(&home.path().join("app.log"), &log(""));
    append(
        &home.path().join("named.log"),
        &log(r#""session_id":"s-1","#),
    );
    let report = |log: &str| {
        let output = program(home.path()).args(["replay", log]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let doubt = "requests without a session read less than the cache held of the one before: $";
    let (unnamed, named) = (report("app.log"), report("named.log"));
    assert!(
        unnamed.contains(doubt) && unnamed.contains("--session-field"),
        "{unnamed}"
    );
    assert!(
        unnamed.contains("≥ $0.00 could have been avoided"),
        "{unnamed}"
    );
    assert!(
        !named.contains(doubt) && !named.contains("≥ $0.00"),
        "{named}"
    );
    let (objects, _) = replay(home.path(), &["app.log"]);
    let summary = objects.last().unwrap();
    let doubtful = &summary["cache_doubtful"];
    // All but the first of each hour, which came after a pause, and those of the first hour, before the cache was ever read.
    assert_eq!(doubtful["requests"], 11 * 19, "{summary}");
    assert_eq!(doubtful["tokens"], 11 * 19 * 50_000);
    assert_eq!(summary["cache_waste_usd"], 0.0);
    // 50,000 tokens written for $6.25 a million instead of read for $0.50.
    assert_eq!(
        doubtful["cost_pusd"],
        (11 * 19 * 287_500_000_000_u64).to_string()
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_claude-tokmon");
    let line = format!(
        "{program} replay --json {} 2>err | head -1 >/dev/null; {program} man | head -1 >/dev/null",
        fixture()
    );
    let status = Command::new("/bin/sh")
        .args(["-c", &line])
        .current_dir(home.path())
        .status()
        .unwrap();
    assert!(status.success());
    let stderr = fs::read_to_string(home.path().join("err")).unwrap();
    assert!(
        !stderr.contains("panic") && !stderr.contains("roken pipe"),
        "{stderr}"
    );
}

#[test]
fn packed_files_that_follow_each_other_need_few_descriptors() {
    let home = tempfile::tempdir().unwrap();
    let logs = home.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let text = fs::read_to_string(fixture()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (day, lines) in lines.chunks(10).enumerate() {
        let file = fs::File::create(logs.join(format!("app.log.{day}.gz"))).unwrap();
        let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        gz.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
        gz.finish().unwrap();
    }
    assert!(fs::read_dir(&logs).unwrap().count() > 64);
    let exec = format!(
        "ulimit -n 40; exec {} replay --json logs",
        env!("CARGO_BIN_EXE_claude-tokmon")
    );
    let output = Command::new("sh")
        .args(["-c", &exec])
        .current_dir(home.path())
        .env("HOME", home.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let summary: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let (whole, _) = replay(home.path(), &[&fixture()]);
    assert_eq!(output.status.code(), Some(0), "{summary}");
    assert_eq!(summary["records"], whole.last().unwrap()["records"]);
}

/// Somebody may watch what comes through a pipe: it is judged before more of it comes.
#[test]
fn what_comes_through_a_pipe_can_be_watched() {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command
        .args(["replay", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut watch = Watch::start(command);
    let mut pipe = watch.child.stdin.take().unwrap();
    for (n, id) in (0..).zip(["msg_1", "msg_2"]) {
        // The second one shows that nothing comes before the first any more.
        let call = Call {
            at: TWO_O_CLOCK + n * 1_200_000,
            id: id.to_owned(),
            input: 900_000,
            ..Call::default()
        };
        writeln!(pipe, "{}", call.line()).unwrap();
    }
    watch.expect("CRITICAL cost-rate");
    drop(pipe);
    assert_eq!(watch.wait().0, Some(0));
}

/// What a log does not hold, and what rules did not see of it, is said before anything else.
#[test]
fn coverage_names_gaps_and_times_that_are_of_no_use() {
    let home = tempfile::tempdir().unwrap();
    let minutes = [0, 5, 95, 120, 131, 100];
    let call = |(n, minute): (usize, &i64)| {
        let call = Call {
            at: TWO_O_CLOCK + minute * 60_000,
            id: format!("msg_{n}"),
            input: 10,
            ..Call::default()
        };
        call.line()
    };
    // The last but one comes half an hour late, more than is put in order again; the last was before anybody wrote a log.
    let mut lines: Vec<String> = minutes.iter().enumerate().map(call).collect();
    lines.push(
        lines[0]
            .replace("msg_0", "msg_9")
            .replace("\"2026-", "\"2019-"),
    );
    append(&home.path().join("app.log"), &lines);
    let (objects, code) = replay(home.path(), &["app.log"]);
    assert_eq!(code, 0);
    let summary = objects.last().unwrap();
    let gap = ["2026-11-23T02:05:00.000Z", "2026-11-23T03:35:00.000Z"];
    assert_eq!(summary["longest_gap"], serde_json::json!(gap));
    assert_eq!(summary["too_late"], 1, "{summary}");
    assert_eq!(summary["bad_time"], 1, "{summary}");
    let output = program(home.path())
        .args(["replay", "--timezone", "UTC", "app.log"])
        .output();
    let report = String::from_utf8(output.unwrap().stdout).unwrap();
    for line in [
        "longest gap: 1h 30m without a response, from 2026-11-23 02:05:00 on",
        "1 of 7 responses: so late that rules with short windows did not see them",
        "1 of 7 responses: a time that cannot be, such as 2019-11-23 02:00:00, counted in the totals only",
    ] {
        assert!(report.contains(line), "{line:?} is not in {report}");
    }
}

/// What a logger puts before an object is not taken off: the way to do so is shown, and works.
#[test]
fn the_way_out_for_objects_behind_text_works() {
    let home = tempfile::tempdir().unwrap();
    let object = |n| {
        format!(
            r#"{{"id":"msg_{n}","type":"message","model":"claude-opus-4-7","usage":{{"input_tokens":5,"output_tokens":1}}}}"#
        )
    };
    let lines = [
        format!("2026-11-23 10:00:01,250 - api - INFO - {}", object(1)),
        "2026-11-23 10:00:02,000 - api - INFO - started {with=this}".to_owned(),
        format!("2026-11-23T10:00:03Z INFO api: {}", object(2)),
    ];
    append(&home.path().join("app.log"), &lines);
    let output = program(home.path())
        .args(["replay", "app.log"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("app.log:1:40: text stands before the JSON object"),
        "{stderr}"
    );
    assert!(
        stderr.contains("app.log:2:1: not a JSON object"),
        "{stderr}"
    );
    let (_, way_out) = stderr.split_once("cut off all but the time: ").unwrap();
    let (sed, _) = way_out.split_once(" | claude-tokmon").unwrap();
    let cut = Command::new("/bin/sh")
        .args(["-c", &sed.replace("FILE", "app.log > cut.log")])
        .current_dir(home.path())
        .status();
    assert!(cut.unwrap().success());
    let (objects, code) = replay(home.path(), &["--assume-tz", "UTC", "cut.log"]);
    assert_eq!(code, 0);
    let summary = objects.last().unwrap();
    assert_eq!(
        (&summary["records"], &summary["undated"]),
        (&2.into(), &0.into())
    );
    assert_eq!(summary["span"][0], "2026-11-23T10:00:01.250Z");
}

/// A gateway that makes up a name for each request: the dearest are listed, the others are one row, and those that there is no room
/// for are summed up.
#[test]
fn of_very_many_models_the_dearest_are_listed() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    let mut lines = String::new();
    for n in 0..10_050 {
        let call = Call {
            at: TWO_O_CLOCK + n * 1000,
            id: format!("msg_{n}"),
            model: if n == 99 { "claude-opus-4-7" } else { "a" },
            input: 1000,
            ..Call::default()
        };
        let line = call.line().replace("\"a\"", &format!("\"a-{n}\""));
        lines += &(line + "\n");
    }
    fs::write(&log, lines).unwrap();
    let output = program(home.path())
        .args(["replay", "--quiet", "app.log"])
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = report
        .lines()
        .skip_while(|line| !line.starts_with("model "))
        .skip(1)
        .take(22)
        .collect();
    assert!(names[0].starts_with("claude-opus-4-7 "), "{report}");
    let words: Vec<&str> = names[20].split_whitespace().collect();
    // One of the twenty that are listed is the row of fifty for which there was no room.
    let others = "9,981 others (--json lists all) 9,981 9.98M 0 0 0 no price";
    assert_eq!(words.join(" "), others, "{report}");
    assert!(names[21].starts_with("all "), "{report}");
    let (objects, _) = replay(home.path(), &["--quiet", "app.log"]);
    // Each is announced, more in a minute than anybody reads; the summary is last all the same.
    let [.., truncated, summary] = &objects[..] else {
        panic!("{objects:?}");
    };
    assert_eq!(truncated["truncated"], 10, "{truncated}");
    let models = summary["by_model"].as_object().unwrap();
    assert_eq!(models.len(), 10_001);
    assert_eq!(models["(other)"]["records"], 50);
    assert_eq!(summary["tokens"]["input"], 10_050_000);
}

/// What a program reads of an alert about spending, and the page says: what responses were made of in the hour and a half before, and
/// are now. Those before have a placeholder for their output first.
#[test]
fn what_has_changed_is_in_the_json_and_on_the_page() {
    let home = tempfile::tempdir().unwrap();
    let ordinary = |minute: i64| (minute * 60_000, 2_000, 18_000);
    let grown = (0..60).map(|n| (90 * 60_000 + n * 2_000, 300_000, 0));
    let calls = (0..90).map(ordinary).chain(grown);
    let lines = |(n, (at, input, read))| {
        [1, 400].map(|output| {
            let call = Call {
                at: TWO_O_CLOCK + at,
                id: format!("msg_{n}"),
                input,
                read,
                output,
                ..Call::default()
            };
            call.line() + "\n"
        })
    };
    let calls = calls.chain((180..183).map(ordinary));
    let log: String = calls.enumerate().flat_map(lines).collect();
    fs::write(home.path().join("app.log"), log).unwrap();
    let (objects, _) = replay(home.path(), &["app.log", "--report", "page.html"]);
    let of_rate = |object: &&Value| object["rule"] == "cost-rate";
    let alert = objects.iter().find(of_rate).unwrap();
    let (before, now) = (&alert["changed"]["before"], &alert["changed"]["now"]);
    // 2,000 tokens at $5 a million, 18,000 at $0.50, and 400 of output at $25.
    assert_eq!(
        before.to_string(),
        r#"{"cache_read_percent":90,"cost_usd":0.029,"models":[{"name":"claude-opus-4-7","percent":100}],"output_tokens":400,"portions_percent":{"fast_mode":0,"hour_writes":0,"long_prompts":0,"sub_agents":0,"web_searches":0},"projects":[],"prompt_tokens":20000,"responses_per_minute":1}"#
    );
    assert!(now["prompt_tokens"].as_u64().unwrap() > 200_000, "{now}");
    let last = objects.iter().rfind(of_rate).unwrap();
    assert_eq!(last["reason"], "resolved");
    assert_eq!(last["changed"], Value::Null);
    let page = fs::read_to_string(home.path().join("page.html")).unwrap();
    assert!(page.contains("changed: "));
}

/// Fast mode is six times as dear under the same model's name: what is dear says so, in the alert, in JSON, in the report and on
/// the page. Each has a placeholder for its output first, and counts once.
#[test]
fn what_fast_mode_costs_is_told() {
    let home = tempfile::tempdir().unwrap();
    let lines = |n: i64| {
        let is_fast = n >= 360;
        [1, 400].map(|output| {
            let call = Call {
                at: TWO_O_CLOCK + n * 10_000,
                id: format!("msg_{n}"),
                input: 2_000,
                read: 98_000,
                output,
                ..Call::default()
            };
            let line = call.line() + "\n";
            if is_fast {
                line.replace(r#""usage":{"#, r#""usage":{"speed":"fast","#)
            } else {
                line
            }
        })
    };
    let log: String = (0..600).flat_map(lines).collect();
    fs::write(home.path().join("app.log"), log).unwrap();
    let args = ["app.log", "--report", "page.html", "--timezone", "UTC"];
    let (objects, err) = replay(home.path(), &args);
    let [.., summary] = &objects[..] else {
        panic!("{objects:?}");
    };
    // 2,000 tokens at $5 a million, 98,000 at $0.50, and 400 of output at $25: $0.069; six times that for 240 of them.
    assert_eq!(summary["portions_usd"]["fast_mode"].to_string(), "99.36");
    assert_eq!(summary["cost_usd"].to_string(), "124.2");
    let of_rate = |object: &&Value| object["rule"] == "cost-rate" && object["reason"] == "repeat";
    let alert = objects.iter().find(of_rate);
    let alert = alert.unwrap_or_else(|| panic!("{err}"));
    let fast = |side: &str| alert["changed"][side]["portions_percent"]["fast_mode"].as_u64();
    assert_eq!((fast("before"), fast("now")), (Some(0), Some(100)));
    let page = fs::read_to_string(home.path().join("page.html")).unwrap();
    for words in [
        "of it $99.36 in fast mode",
        "changed: fast mode is 100 % of the cost, not 0 %",
        "look at: what has switched fast mode on since",
    ] {
        assert!(page.contains(words), "{words}");
    }
}
