//! What befalls the follower and its machine: killed, restarted, stopped, put to sleep, its clock set, its disk full.
//!
//! As in `follow.rs`, each line has an id and one token of its own, and sums are asked of the program itself.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![allow(clippy::print_stderr, reason = "figures, and what was skipped")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers of lines are small"
)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::follow::*;
use common::{Random, Watch, now_ms, program, rfc3339};

// ---- Restarts, with --state ----

/// Writes lines into a file, rotates it now and then, and says at the end how many lines there were.
fn write_and_rotate(dir: &Path, length: Duration, per_second: u64, rotate_every: Duration) -> u64 {
    let path = dir.join("app.log");
    let begun = Instant::now();
    let (mut written, mut rotations) = (0, 0);
    let mut last_rotation = begun;
    let mut file = writer(&path);
    while begun.elapsed() < length {
        let due = (begun.elapsed().as_millis() as u64) * per_second / 1000;
        while written < due {
            file.write_all((line() + "\n").as_bytes()).unwrap();
            written += 1;
        }
        if last_rotation.elapsed() >= rotate_every {
            rotations += 1;
            fs::rename(&path, dir.join(format!("app.log.{rotations}"))).unwrap();
            file = writer(&path);
            last_rotation = Instant::now();
        }
        std::thread::yield_now();
    }
    written
}

#[test]
fn t33_killed_again_and_again_it_counts_each_line_once() {
    each_mode(|mode| {
        let (length, most) = if FULL { (120, 200) } else { (8, 20) };
        let mut follow = Follow::one_log(mode, &WITH_STATE);
        let dir = follow.home.path().to_owned();
        let rotate_every = Duration::from_secs(if FULL { 5 } else { 2 });
        let writer = std::thread::spawn(move || {
            write_and_rotate(&dir, Duration::from_secs(length), 1000, rotate_every)
        });
        let mut random = Random(33);
        let mut kills = 0;
        while !writer.is_finished() && kills < most {
            let pause = Duration::from_millis(50 + random.below(if FULL { 1450 } else { 700 }));
            let until = Instant::now() + pause;
            while Instant::now() < until && !writer.is_finished() {
                std::thread::yield_now();
            }
            restart(&mut follow, &WITH_STATE);
            kills += 1;
        }
        let written = writer.join().unwrap();
        let status = follow.counted(written);
        eprintln!(
            "T33 {mode:?}: {kills} kills, {written} lines written, {} counted",
            tokens(&status)
        );
        assert!(kills >= if FULL { 80 } else { 8 }, "{kills}");
        follow.end(written);
    });
}

#[test]
fn t14_over_a_restart_another_file_with_the_same_inode_is_another_file() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &WITH_STATE);
        follow.append("app.log", &lines(2));
        follow.counted(2);
        settled(&mut follow);
        kill(&mut follow);
        fs::remove_file(follow.path("app.log")).unwrap();
        follow.append("app.log", &lines(3));
        restart(&mut follow, &WITH_STATE);
        follow.end_with(5, 3);
    });
}

#[test]
fn rotated_truncated_and_copied_while_down_nothing_is_lost_or_counted_twice() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &WITH_STATE);
        follow.append("app.log", &lines(3));
        follow.counted(3);
        settled(&mut follow);
        // Rotated twice.
        kill(&mut follow);
        follow.append("app.log", &lines(1));
        fs::rename(follow.path("app.log"), follow.path("app.log.1")).unwrap();
        follow.append("app.log", &lines(2));
        fs::rename(follow.path("app.log.1"), follow.path("app.log.2")).unwrap();
        fs::rename(follow.path("app.log"), follow.path("app.log.1")).unwrap();
        follow.append("app.log", &lines(2));
        restart(&mut follow, &WITH_STATE);
        follow.counted(8);
        settled(&mut follow);
        // Truncated, and grown beyond where we were.
        kill(&mut follow);
        File::options()
            .write(true)
            .truncate(true)
            .open(follow.path("app.log"))
            .unwrap();
        follow.append("app.log", &lines(9));
        restart(&mut follow, &WITH_STATE);
        follow.counted(17);
        settled(&mut follow);
        // Copied and put in its own place.
        kill(&mut follow);
        fs::copy(follow.path("app.log"), follow.path("copy")).unwrap();
        fs::rename(follow.path("copy"), follow.path("app.log")).unwrap();
        follow.append("app.log", &lines(1));
        restart(&mut follow, &WITH_STATE);
        follow.end_with(18, 16);
    });
}

#[test]
fn t34_whenever_it_dies_while_writing_there_is_an_old_or_a_new_state() {
    for point in ["before-write", "after-write", "after-sync", "after-rename"] {
        let mut follow = Follow::one_log(Mode::Native, &WITH_STATE);
        follow.append("app.log", &lines(2));
        follow.counted(2);
        settled(&mut follow);
        kill(&mut follow);
        let mut command = program(follow.home.path());
        command
            .arg("tail")
            .args(WITH_STATE)
            .env("CLAUDE_TOKMON_FAIL_POINT", point);
        let mut dying = Watch::start(command);
        follow.append("app.log", &lines(2));
        let (code, said) = dying.wait();
        assert_eq!(code, None, "{point}: {said:?}");
        restart(&mut follow, &WITH_STATE);
        follow.counted(4);
        let status = follow.status();
        assert_eq!(tokens(&status), 4, "{point}");
        let Follow { home, watch, .. } = follow;
        watch.end();
        let left = fs::read_dir(home.path()).unwrap().flatten();
        let left: Vec<_> = left
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains(".part-"))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "{point}");
        assert_eq!(tokens(&replay(home.path())), 4, "{point}");
    }
}

#[test]
fn t35_a_state_of_no_use_never_stands_in_the_way() {
    let garbage: [&[u8]; 4] = [
        b"",
        b"\0\0\0\0\0\0\0\0",
        b"{\"magic\":\"claude-tokmon\",\"v\":99,\"len\":0,\"xxh3\":0}\n",
        b"not a state\n",
    ];
    for bytes in garbage {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("state"), bytes).unwrap();
        append(&home.path().join("app.log"), &lines(3));
        let mut command = program(home.path());
        command.arg("tail").args(WITH_STATE);
        let mut watch = Watch::start(command);
        let said = watch.expect("cannot be used");
        assert!(said.contains("it is now state.unusable-1"), "{said}");
        watch.expect("3 responses");
        let (code, _) = watch.end();
        assert_eq!(code, Some(0));
    }
}

#[test]
fn a_state_of_other_paths_or_rules_is_built_anew_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    append(&home.path().join("a.log"), &lines(3));
    append(&home.path().join("b.log"), &lines(2));
    let run = |args: &[&str]| {
        let mut command = program(home.path());
        command.args(["tail", "--state", "state"]).args(args);
        let mut watch = Watch::start(command);
        let start = watch.expect("watching");
        assert_eq!(watch.end().0, Some(0));
        start
    };
    assert!(run(&["a.log"]).contains("3 responses"));
    assert!(run(&["a.log"]).contains("on from where we were"));
    let other = run(&["b.log"]);
    assert!(other.contains("last 7d: 2 responses"), "{other}");
    assert!(run(&["b.log", "--cost-rate", "1"]).contains("last 7d: 2 responses"));
}

#[test]
fn t36_a_state_is_for_one_at_a_time() {
    let mut follow = Follow::one_log(Mode::Native, &WITH_STATE);
    let second = program(follow.home.path())
        .arg("tail")
        .args(WITH_STATE)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(2));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        said.contains("state is in use by another claude-tokmon"),
        "{said}"
    );
    restart(&mut follow, &WITH_STATE);
    follow.end(0);
}

#[test]
fn an_alert_that_was_told_is_not_told_again_after_a_restart() {
    let hook = "echo \"$CLAUDE_TOKMON_EPISODE $CLAUDE_TOKMON_REASON\" >> told";
    let args = ["--state", "state", "app.log", "--exec", hook];
    let mut follow = Follow::start(Mode::Native, |dir| append(&dir.join("app.log"), ""), &args);
    let dear = |n: u64| line_of(n).replace("\"input_tokens\":1", "\"input_tokens\":5000000") + "\n";
    let n = NEXT.fetch_add(10, Ordering::Relaxed);
    follow.append("app.log", &dear(n));
    follow.watch.expect("cost-rate");
    let told = follow.path("told");
    let count = || {
        fs::read_to_string(&told)
            .unwrap_or_default()
            .lines()
            .count()
    };
    while count() == 0 {
        std::thread::yield_now();
    }
    settled(&mut follow);
    for _ in 0..3 {
        restart(&mut follow, &args);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        follow.append("app.log", &(line_of(n) + "\n"));
        settled(&mut follow);
    }
    assert_eq!(count(), 1, "{}", fs::read_to_string(&told).unwrap());
}

// ---- Blind spots ----

fn hasty(home: &Path, args: &[&str]) -> Watch {
    let mut command = program(home);
    command
        .arg("tail")
        .args(args)
        .env("CLAUDE_TOKMON_TEST_HASTE", "600");
    Watch::start(command)
}

#[test]
fn a_log_that_is_gone_is_told_and_that_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, &lines(1));
    let mut watch = hasty(home.path(), &["--set", "blind.keep_firing=0s", "app.log"]);
    watch.expect("watching");
    fs::remove_file(&log).unwrap();
    let alert = watch.expect("WARNING  blind");
    assert!(alert.contains("app.log is gone for a minute"), "{alert}");
    append(&log, &lines(1));
    watch.expect("RESOLVED blind");
    assert_eq!(watch.end().0, Some(0));
}

/// A full disk under the JSON ends no watch: people and hooks hear of the alert, and of what is lost.
#[test]
fn a_full_disk_under_the_json_is_told_and_the_watch_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, &lines(1));
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let mut command = program(home.path());
    command
        .args(["tail", "--json", "--cost-rate", "0.01", "app.log"])
        .stdout(full.unwrap());
    let mut watch = Watch::start(command);
    watch.expect("watching");
    append(
        &log,
        &(line().replace("\"input_tokens\":1", "\"input_tokens\":900000") + "\n"),
    );
    watch.expect("CRITICAL cost-rate");
    let alert = watch.expect("WARNING  blind");
    let says = "standard output cannot be written (No space left on device (os error 28)): what should go there is lost";
    assert!(alert.contains(says), "{alert}");
    // It still reads.
    append(&log, &lines(1));
    let mut is_counted = (0..90).map(|_| {
        watch.signal("-USR1");
        let status = watch.expect("\"event\":\"status\"");
        status.contains("\"records\":2")
    });
    assert!(is_counted.any(|is_counted| is_counted));
    drop(is_counted);
    let (code, seen) = watch.end();
    assert_eq!(code, Some(0));
    let lost = seen
        .iter()
        .find(|line| line.contains("did not get through to standard output"));
    assert!(lost.is_some(), "{seen:?}");
}

#[test]
fn a_log_whose_format_changes_is_told() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, &lines(5));
    let mut watch = hasty(home.path(), &["--json", "app.log"]);
    watch.expect("watching");
    let new_format = format!(
        "{{\"llm\":{{\"prompt_tokens_v2\":5,\"text\":\"{}\"}}}}\n",
        "x".repeat(1100)
    );
    append(&log, &new_format.repeat(1000));
    let alert = watch.expect("WARNING  blind");
    assert!(
        alert.contains("app.log gave responses before and none in its last 1,000 lines; has its format changed?"),
        "{alert}"
    );
    assert_eq!(watch.end().0, Some(0));
}

/// Nobody waits for the end of a `tail` to learn that it has understood nothing.
#[test]
fn logs_that_have_never_given_a_response_are_said_once() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, "");
    let mut watch = hasty(home.path(), &["app.log"]);
    watch.expect("watching");
    append(&log, &"{\"llm\":{\"prompt_tokens_v2\":5}}\n".repeat(50));
    let said =
        "no usage record in 50 lines; if there are some, name their place with --usage-field";
    watch.expect(said);
    append(&log, &cents(0, 250));
    watch.expect("CRITICAL cost-rate");
    let (code, seen) = watch.end();
    assert_eq!(code, Some(0));
    let times = seen.iter().filter(|line| line.contains("no usage record"));
    assert_eq!(times.count(), 1, "{seen:?}");
}

#[test]
fn a_hook_that_fails_again_and_again_is_told() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, "");
    let mut watch = hasty(home.path(), &["--exec", "exit 3", "app.log"]);
    watch.expect("watching");
    for n in 0..5 {
        let line = cents(0, 1).replace("claude-haiku-4-5", &format!("claude-unheard-of-{n}"));
        append(&log, &line);
        watch.expect("the hook for unpriced-model failed: exit status: 3");
    }
    let alert = watch.expect("WARNING  blind");
    assert!(
        alert.contains("the hook failed five times in a row"),
        "{alert}"
    );
    assert_eq!(watch.end().0, Some(0));
}

#[test]
fn a_state_that_cannot_be_written_is_told() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, "");
    let folder = home.path().join("state");
    fs::create_dir(&folder).unwrap();
    let mut watch = hasty(home.path(), &["--state", "state/tail", "app.log"]);
    watch.expect("watching");
    // All at once: it may be writing in there.
    fs::rename(&folder, home.path().join("gone")).unwrap();
    append(&log, &cents(0, 1));
    let alert = watch.expect("WARNING  blind");
    assert!(
        alert.contains("the state has not been written for a minute"),
        "{alert}"
    );
    assert_eq!(watch.end().0, Some(0));
}

#[test]
fn reading_that_stays_behind_is_told() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, "");
    let mut watch = hasty(home.path(), &["app.log"]);
    watch.expect("watching");
    // More and more, faster than anybody reads: it is looked at once a second.
    let lines: String = (0..2000).map(|_| cents(0, 0)).collect();
    let (lines, is_told) = (lines.repeat(200), AtomicBool::new(false));
    let alert = thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                append(&log, &lines);
                if is_told.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let alert = watch.expect("WARNING  blind");
        is_told.store(true, Ordering::Relaxed);
        alert
    });
    assert!(alert.contains("reading has been behind for"), "{alert}");
    // It ends in the middle.
    assert_eq!(watch.end().0, Some(0));
}

/// A log of which each response came so many seconds ago when it is written.
fn a_log_that_is_late(seconds: i64) -> String {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, &lines(1));
    let mut watch = hasty(home.path(), &["app.log"]);
    watch.expect("watching");
    // Half a minute, in haste.
    let begun = Instant::now();
    let mut n = 0;
    while n < 25 || begun.elapsed() < Duration::from_millis(100) {
        append(&log, &cents(-seconds - n % 7, 1));
        watch.signal("-USR1");
        watch.expect("\"event\":\"status\"");
        n += 1;
    }
    let seen = told(&watch.seen, "WARNING  blind").pop();
    let alert = seen.unwrap_or_else(|| watch.expect("WARNING  blind"));
    assert_eq!(watch.end().0, Some(0));
    alert
}

#[test]
fn a_log_whose_times_are_of_another_zone_is_told() {
    let alert = a_log_that_is_late(5 * 3600 + 1800);
    assert!(
        alert.contains("the times in app.log lie 5h 30m back, and rules with shorter windows do not see its responses"),
        "{alert}"
    );
    assert!(alert.contains("--assume-tz"), "{alert}");
}

/// It is never young, and never quiet for long: what tells it from a log of the past is that its times go no faster than the clock.
#[test]
fn a_pipe_whose_times_are_of_another_zone_is_told() {
    // Many at once are read on another thread.
    for at_once in [1, 60] {
        a_pipe_of_another_zone(at_once);
    }
}

fn a_pipe_of_another_zone(at_once: usize) {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command
        .args(["tail", "-"])
        .env("CLAUDE_TOKMON_TEST_HASTE", "600")
        .stdin(std::process::Stdio::piped());
    let mut watch = Watch::start(command);
    watch.expect("watching");
    let mut pipe = watch.child.stdin.take().unwrap();
    // It says how it stands at each line, at once or with its next tick, and it takes some ticks for it to be sure.
    let deadline = Instant::now() + Duration::from_mins(1);
    while told(&watch.seen, "blind").is_empty() && Instant::now() < deadline {
        let lines: String = (0..at_once).map(|_| cents(-7200, 1)).collect();
        pipe.write_all(lines.as_bytes()).unwrap();
        watch.signal("-USR1");
        watch.expect("\"event\":\"status\"");
    }
    let alerts = told(&watch.seen, "blind");
    let expected = "the times in standard input lie 2h back";
    assert!(
        alerts.iter().any(|alert| alert.contains(expected)),
        "{alerts:?}, and last {:?}",
        watch.seen.last()
    );
    drop(pipe);
    assert_eq!(watch.wait().0, Some(0));
}

#[test]
fn a_log_whose_clock_is_far_off_is_told() {
    let alert = a_log_that_is_late(30 * 86_400 + 100);
    assert!(
        alert.contains("responses in app.log came 30d to 30d after their time")
            && alert.contains("is the clock right that stamps them"),
        "{alert}"
    );
}

#[test]
fn a_log_whose_responses_come_late_is_told_and_how_to_wait_for_them() {
    let alert = a_log_that_is_late(302);
    assert!(
        alert.contains("responses in app.log came 5m ") && alert.contains("--lateness 7m"),
        "{alert}"
    );
}

#[test]
fn a_log_whose_times_are_still_to_come_counts_as_it_comes() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, &cents(7200, 1));
    let mut watch = hasty(home.path(), &["--timezone", "UTC", "app.log"]);
    watch.expect("watching");
    watch.expect("1 of these responses name a time that cannot be, such as ");
    for _ in 0..6 {
        append(&log, &cents(3600, 50));
    }
    watch.expect("CRITICAL cost-rate");
    watch.expect("app.log: its times are ahead of this clock, such as ");
    let (code, seen) = watch.end();
    assert_eq!(code, Some(0));
    let said = |what: &str| seen.iter().filter(|line| line.contains(what)).count();
    assert_eq!(said("are ahead of"), 1, "{seen:?}");
    assert_eq!(said("6 responses, $3.00"), 1, "{seen:?}");
}

#[test]
fn a_log_that_holds_other_things_too_is_not_blind() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, &lines(5));
    let mut watch = hasty(home.path(), &["app.log", "gone.log"]);
    watch.expect("watching");
    let other = format!("{{\"msg\":\"{}\"}}\n", "x".repeat(1100));
    append(&log, &other.repeat(1500));
    // What would be told is told within two looks, one a second.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        watch.signal("-USR1");
        watch.expect("\"event\":\"status\"");
    }
    let (_, said) = watch.end();
    assert!(said.iter().any(|line| line.contains("\"lines\":1500,")));
    assert!(
        !said.iter().any(|line| line.contains("WARNING")),
        "{said:?}"
    );
}

// ---- File systems and their events ----

/// Starts `tail app.log` in an environment in which something is different.
fn tail_with(home: &Path, variable: (&str, &str), args: &[&str]) -> Watch {
    let mut command = program(home);
    command.arg("tail").args(args).env(variable.0, variable.1);
    let mut watch = Watch::start(command);
    watch.expect("watching");
    watch
}

#[test]
fn t26_without_events_it_says_so_once_and_what_helps_and_sees_all() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("logs/a/b")).unwrap();
    append(&home.path().join("logs/a/app.log"), "");
    let watch = tail_with(
        home.path(),
        ("CLAUDE_TOKMON_TEST_WATCH", "refused"),
        &["logs"],
    );
    let mut follow = Follow {
        mode: Mode::Native,
        home,
        watch,
    };
    let said = follow
        .watch
        .expect("this user's inotify watches are used up");
    assert!(
        said.contains("sysctl fs.inotify.max_user_watches="),
        "{said}"
    );
    follow.append("logs/a/app.log", &lines(3));
    follow.append("logs/a/b/new.log", &lines(2));
    let status = follow.counted(5);
    assert_eq!(status["files"][0]["watch"], "poll");
    let warnings = follow.watch.seen.iter();
    let warnings = warnings.filter(|line| line.contains("no file events"));
    assert_eq!(warnings.count(), 1);
    follow.end(5);
}

#[test]
fn t26_the_limits_of_the_system_are_told_apart() {
    let limits = [
        ("max_inotify_watches", "fs.inotify.max_user_watches="),
        ("max_inotify_instances", "fs.inotify.max_user_instances="),
    ];
    for (limit, hint) in limits {
        let home = tempfile::tempdir().unwrap();
        append(&home.path().join("app.log"), "");
        let script = format!(
            "echo 0 > /proc/sys/user/{limit} && exec {} tail app.log",
            env!("CARGO_BIN_EXE_claude-tokmon")
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", &script]);
        command.env("HOME", home.path()).current_dir(home.path());
        let probe = format!("echo 0 > /proc/sys/user/{limit}");
        let may = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", &probe])
            .output()
            .is_ok_and(|output| output.status.success());
        if !may {
            eprintln!("SKIPPED: no user namespace of our own, so {limit} cannot be set here");
            continue;
        }
        let watch = Watch::start(command);
        let mut follow = Follow {
            mode: Mode::Native,
            home,
            watch,
        };
        let said = follow.watch.expect("no file events");
        assert!(said.contains(hint), "{limit}: {said}");
        follow.append("app.log", &lines(2));
        follow.end(2);
    }
}

#[test]
fn t29_a_remote_file_that_looks_shorter_for_a_while_is_not_read_again() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, "");
    let watch = tail_with(
        home.path(),
        ("CLAUDE_TOKMON_TEST_WATCH", "remote"),
        &["app.log"],
    );
    let mut follow = Follow {
        mode: Mode::Poll,
        home,
        watch,
    };
    follow.watch.expect("which tells of no changes");
    follow.append("app.log", &lines(21));
    follow.counted(21);
    // As if an old size were shown: what was cut off comes back as it was.
    let whole = fs::read(&log).unwrap();
    File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(1500)
        .unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let status = follow.status();
        assert_eq!(tokens(&status), 21);
        assert_eq!(status["files"][0]["generation"], 0);
    }
    append(&log, std::str::from_utf8(&whole[1500..]).unwrap());
    append(&log, &lines(2));
    let status = follow.counted(23);
    assert_eq!(status["files"][0]["generation"], 0, "{status}");
    assert_eq!(status["duplicates"], 0, "{status}");
    // One that is truncated is believed in the end, and one that is rewritten at once.
    File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(0)
        .unwrap();
    append(&log, &lines(1));
    let begun = Instant::now();
    follow.counted(24);
    eprintln!(
        "T29: a truncated file was believed {:?} later",
        begun.elapsed()
    );
    fs::write(&log, lines(30)).unwrap();
    follow.end_with(54, 30);
}

// ---- Clocks ----

/// A program whose clocks can be set by writing to a file: the wall clock, and the one that counts from boot, in seconds.
fn with_clock(home: &Path, args: &[&str]) -> Watch {
    let file = home.join("clock");
    let path = file.to_str().unwrap();
    tail_with(home, ("CLAUDE_TOKMON_TEST_CLOCK", path), args)
}

fn set_clock(home: &Path, wall: i64, boot: i64) {
    // In one step, so that no half of it is read.
    fs::write(home.join("clock.new"), format!("{wall} {boot}\n")).unwrap();
    fs::rename(home.join("clock.new"), home.join("clock")).unwrap();
}

/// A response of now, by a clock that is off by some seconds, that costs this many cents.
fn cents(clock_off: i64, cents: u64) -> String {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let at = rfc3339(now_ms() + clock_off * 1000);
    format!(
        "{{\"time\":\"{at}\",\"id\":\"msg_{n:020}\",\"model\":\"claude-haiku-4-5\",\"usage\":{{\"input_tokens\":{},\"output_tokens\":0}}}}\n",
        cents * 10_000
    )
}

/// The lines about a rule that went to stderr by now.
fn told(seen: &[String], rule: &str) -> Vec<String> {
    seen.iter()
        .filter(|line| line.contains(rule) && !line.starts_with('{'))
        .cloned()
        .collect()
}

#[test]
fn t30_a_clock_that_is_set_neither_hides_nor_repeats_an_alert() {
    for step in [3600, -3600, 86_400, -86_400] {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("app.log");
        append(&log, &cents(0, 1));
        set_clock(home.path(), 0, 0);
        let mut watch = with_clock(home.path(), &["app.log"]);
        // An episode that is on while the clock is set goes on.
        append(&log, &cents(0, 250));
        watch.expect("CRITICAL cost-rate");
        set_clock(home.path(), step, 0);
        let way = if step < 0 { "back" } else { "forward" };
        watch.expect(&format!("the clock was put {way}"));
        append(&log, &cents(step, 250));
        let mut follow = Follow {
            mode: Mode::Native,
            home,
            watch,
        };
        let records = |n| move |status: &serde_json::Value| status["records"] == n;
        follow.until("2 records", records(2));
        assert_eq!(
            told(&follow.watch.seen, "cost-rate").len(),
            1,
            "{:?}",
            follow.watch.seen
        );
        // One that begins afterwards is found: here of another rule.
        let errors: Vec<String> = (0..12)
            .map(|n| {
                let at = rfc3339(now_ms() + step * 1000);
                format!("{{\"time\":\"{at}\",\"type\":\"error\",\"request_id\":\"req_{step}_{n}\",\"error\":{{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}}}\n")
            })
            .collect();
        append(&log, &errors.concat());
        follow.watch.expect("WARNING  errors");
        let (code, seen) = follow.watch.end();
        assert_eq!(code, Some(0));
        assert_eq!(
            told(&seen, "cost-rate").len(),
            2,
            "as it began, and that it is on at the end: {seen:?}"
        );
    }
}

#[test]
fn t31_after_a_sleep_it_looks_at_everything_and_tells_little() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    append(&log, &cents(0, 1));
    set_clock(home.path(), 0, 0);
    let mut watch = with_clock(home.path(), &["app.log"]);
    append(&log, &cents(0, 250));
    watch.expect("CRITICAL cost-rate");
    // Two hours pass for the wall and since boot, none for us.
    set_clock(home.path(), 7200, 7200);
    let begun = Instant::now();
    watch.expect("this machine slept for");
    let woken = begun.elapsed();
    assert!(woken < Duration::from_millis(1500), "{woken:?}");
    watch.expect("RESOLVED cost-rate");
    append(&log, &cents(7200, 250));
    watch.expect("CRITICAL cost-rate");
    let (_, seen) = watch.end();
    assert_eq!(told(&seen, "cost-rate").len(), 4, "{seen:?}");
}

/// Follows a log three hours ago, in which one response stands.
fn three_hours_ago(args: &[&str]) -> Follow {
    let home = tempfile::tempdir().unwrap();
    append(&home.path().join("app.log"), &cents(-3 * 3600, 1));
    set_clock(home.path(), -3 * 3600, 0);
    let watch = with_clock(home.path(), args);
    Follow {
        mode: Mode::Native,
        home,
        watch,
    }
}

/// Kills the program three hours ago and starts it again now, with more lines in its log.
fn again_now(follow: &mut Follow, args: &[&str], lines: &str) {
    kill(follow);
    follow.append("app.log", lines);
    set_clock(follow.home.path(), 0, 0);
    follow.watch = with_clock(follow.home.path(), args);
}

#[test]
fn t43_what_began_and_ended_while_nothing_watched_pages_nobody() {
    let hook = "echo \"$CLAUDE_TOKMON_REASON\" >> told";
    for with_state in [false, true] {
        let mut args = vec!["--exec", hook, "app.log"];
        if with_state {
            args.extend(["--state", "state"]);
        }
        let mut follow = three_hours_ago(&args);
        if with_state {
            settled(&mut follow);
        }
        // A burst two hours ago, an ordinary response after it.
        let lines = cents(-2 * 3600, 900) + &cents(-3600, 1);
        again_now(&mut follow, &args, &lines);
        if with_state {
            let status = follow.until("3 records", |status| status["records"] == 3);
            let missed = told(&follow.watch.seen, "cost-rate");
            assert_eq!(missed.len(), 1, "{missed:?}");
            assert!(
                missed[0].contains("while nothing watched, and is over: $9.0"),
                "{missed:?}"
            );
            let replayed = replay(follow.home.path());
            for field in ["tokens", "records", "cost_pusd", "by_model"] {
                assert_eq!(status[field], replayed[field], "{field}");
            }
        } else {
            // What was there at the start is told at the start, and a replay says the same.
            let start = &follow.watch.seen[0];
            assert!(start.contains("last 7d: 3 responses, $9.02"), "{start}");
            assert_eq!(replay(follow.home.path())["cost_usd"], 9.02);
            follow.status();
            assert_eq!(told(&follow.watch.seen, "CRITICAL").len(), 0);
        }
        assert!(!follow.path("told").exists(), "a hook ran");
        assert_eq!(follow.watch.end().0, Some(0));
    }
}

/// When they came is not known: they are no burst of the moment at which we look again.
#[test]
fn raw_responses_that_came_while_nothing_watched_are_in_the_totals_only() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("app.log");
    let raw = |n: u32| {
        format!(
            "{{\"id\":\"msg_{n}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-opus-4-7\",\"content\":[],\"usage\":{{\"input_tokens\":100000,\"output_tokens\":0}}}}\n"
        )
    };
    let tail = || {
        let mut command = program(home.path());
        command.args(["tail", "--state", "state", "app.log"]);
        Watch::start(command)
    };
    append(&log, &raw(0));
    let mut watch = tail();
    watch.expect("watching 1 file");
    append(&log, &raw(1));
    assert_eq!(watch.end().0, Some(0));
    append(&log, &(2..42).map(raw).collect::<String>());
    let mut watch = tail();
    watch.expect("watching 1 file on from where we were");
    watch.expect("came meanwhile and say not when, so they are in the totals only");
    let (code, seen) = watch.end();
    assert_eq!(code, Some(0));
    assert!(
        !seen.iter().any(|line| line.contains("cost-rate")),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .any(|line| line.contains("42 responses, $21.00")),
        "{seen:?}"
    );
}

#[test]
fn an_alert_that_ended_while_nothing_watched_is_resolved_at_the_next_start() {
    let hook = "echo \"$CLAUDE_TOKMON_REASON $CLAUDE_TOKMON_EPISODE\" >> told";
    let args = ["--exec", hook, "app.log", "--state", "state"];
    let mut follow = three_hours_ago(&args);
    follow.append("app.log", &cents(-3 * 3600, 900));
    follow.watch.expect("CRITICAL cost-rate");
    settled(&mut follow);
    again_now(&mut follow, &args, &cents(0, 1));
    follow.watch.expect("RESOLVED cost-rate");
    settled(&mut follow);
    let told = fs::read_to_string(follow.path("told")).unwrap();
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0].strip_prefix("first "),
        told[1].strip_prefix("resolved ")
    );
}

#[test]
fn a_budget_whose_day_ended_while_nothing_watched_is_resolved_at_the_next_start() {
    let hook = "echo \"$CLAUDE_TOKMON_RULE $CLAUDE_TOKMON_REASON\" >> told";
    let args = [
        "--exec",
        hook,
        "--budget",
        "1/hour",
        "--state",
        "state",
        "app.log",
        "--set",
        "cost-rate.enabled=false",
    ];
    let mut follow = three_hours_ago(&args);
    follow.append("app.log", &cents(-3 * 3600, 200));
    follow.watch.expect("CRITICAL budget");
    settled(&mut follow);
    again_now(&mut follow, &args, &cents(0, 1));
    let said = follow.watch.expect("RESOLVED budget");
    assert!(
        said.contains("the hour is over: $2.01 of $1.00 spent"),
        "{said}"
    );
    settled(&mut follow);
    let told = fs::read_to_string(follow.path("told")).unwrap();
    assert_eq!(told, "budget first\nbudget resolved\n");
    assert_eq!(follow.watch.end().0, Some(0));
}

// ---- Signals ----

#[test]
fn t38_it_ends_soon_and_well_whatever_it_is_doing() {
    let hook = "sleep 600";
    for signal in ["-TERM", "-HUP", "-INT"] {
        let args = [&WITH_STATE[..], &["--exec", hook]].concat();
        let mut follow = Follow::one_log(Mode::Native, &args);
        let dir = follow.home.path().to_owned();
        follow.append("app.log", &cents(0, 900));
        follow.watch.expect("CRITICAL cost-rate");
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writer = {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut file = writer(&dir.join("app.log"));
                let (begun, mut written) = (Instant::now(), 0);
                while !stop.load(Ordering::Relaxed) {
                    if written <= begun.elapsed().as_millis() {
                        file.write_all(lines(5).as_bytes()).unwrap();
                        written += 5;
                    }
                    std::thread::yield_now();
                }
            })
        };
        follow.counted(100);
        let begun = Instant::now();
        follow.watch.signal(signal);
        let (code, said) = follow.watch.wait();
        let took = begun.elapsed();
        assert_eq!(code, Some(0), "{said:?}");
        assert!(took < Duration::from_secs(2), "{signal}: {took:?}");
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        let left = std::process::Command::new("pgrep")
            .args(["-f", "sleep 600"])
            .output();
        if let Ok(left) = left {
            let ours = String::from_utf8(left.stdout).unwrap();
            let ours: Vec<&str> = ours
                .lines()
                .filter(|pid| {
                    fs::read_link(format!("/proc/{pid}/cwd"))
                        .is_ok_and(|cwd| cwd == follow.home.path())
                })
                .collect();
            assert_eq!(ours, Vec::<&str>::new(), "{signal}: a hook goes on");
        }
        // It goes on where it ended, and what the hook has not heard is told again.
        follow.watch = Follow::run(
            Mode::Native,
            follow.home.path(),
            &WITH_STATE.map(ToString::to_string),
        );
        let start = follow.watch.expect("watching");
        assert!(start.contains("on from where we were"), "{start}");
        follow.watch.expect("CRITICAL cost-rate  already on");
        let on_disk = tokens(&replay(follow.home.path()));
        follow.end(on_disk);
    }
}

#[test]
fn t38_a_second_signal_ends_it_at_once_and_a_stop_loses_nothing() {
    let mut follow = Follow::one_log(Mode::Native, &["app.log", "--exec", "sleep 600"]);
    follow.append("app.log", &lines(1));
    follow.counted(1);
    // SIGTSTP, as Ctrl-Z sends it.
    follow.watch.signal("-TSTP");
    follow.append("app.log", &lines(2));
    follow.watch.signal("-CONT");
    follow.counted(3);
    follow.append("app.log", &cents(0, 900));
    follow.watch.expect("CRITICAL cost-rate");
    let begun = Instant::now();
    follow.watch.signal("-TERM");
    follow.watch.signal("-TERM");
    let (code, said) = follow.watch.wait();
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(code == Some(0) || code == Some(143), "{code:?} {said:?}");
}
