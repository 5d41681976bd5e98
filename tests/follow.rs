//! The follower on real files, with real writers: nothing lost, nothing twice.
//!
//! Each line written has an id of its own and one token, so the sum of tokens is the number of lines. How it stands is asked of
//! the program itself (SIGUSR1). At the end of each test a replay of all that lies on disk must come to the same sums.
//!
//! By default each test runs with file events and in short; with `--features full` at full length, and also with polling alone
//! and with events that are all lost.
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
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::follow::*;
use common::{Random, Watch, copy_of_program, now_ms, program, rfc3339};
use serde_json::Value;

/// `tail -F` of GNU beside us, for comparison. Nothing depends on what it does.
struct GnuTail {
    child: Child,
    out: tempfile::NamedTempFile,
}

impl GnuTail {
    fn start(path: &Path) -> Option<Self> {
        if !has("tail") {
            return None;
        }
        let out = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new("tail")
            .args(["-n", "+1", "-F"])
            .arg(path)
            .stdout(out.reopen().unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, out })
    }

    fn printed(&self) -> String {
        fs::read_to_string(self.out.path()).unwrap()
    }

    /// Waits until it has printed a text, though not for ever.
    fn until(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.printed().contains(text) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        Command::new("kill").args([signal, &pid]).status().unwrap();
        while signal == "-STOP" && !is_state(&pid, "T") {
            std::thread::yield_now();
        }
    }
}

impl Drop for GnuTail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does something to a log while we and GNU tail are stopped, and says how many lines each has seen in the end.
fn beside_gnu(test: &str, follow: &mut Follow, before: &str, act: impl FnOnce(), written: u64) {
    let path = follow.path("app.log");
    let gnu = GnuTail::start(&path);
    append(&path, before);
    follow.counted(before.lines().count() as u64);
    if let Some(gnu) = &gnu {
        gnu.until(before.lines().last().unwrap());
        gnu.signal("-STOP");
    }
    while_stopped(follow, act);
    follow.counted(written - 1);
    // The last line of all: both have seen what they will see when they have seen it.
    let last = line();
    if let Some(gnu) = &gnu {
        gnu.signal("-CONT");
    }
    append(&path, &(last.clone() + "\n"));
    follow.counted(written);
    if let Some(gnu) = gnu {
        gnu.until(&last);
        let printed = gnu.printed();
        let lines: std::collections::HashSet<&str> = printed.lines().collect();
        eprintln!(
            "{test} {:?}: of {written} lines claude-tokmon counted {written}, GNU tail -F printed {}",
            follow.mode,
            lines.len()
        );
    }
}

#[test]
fn t1_a_line_counts_when_it_is_whole_and_once() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let whole = line();
        let (half, rest) = whole.split_at(40);
        follow.append("app.log", half);
        let status = follow.until("the half line seen", |status| {
            status["files"][0]["lag"] == 40
        });
        assert_eq!(tokens(&status), 0);
        follow.append("app.log", rest);
        follow.counted(1);
        // Its line feed comes late and is a line without anything.
        follow.append("app.log", "\n");
        follow.append("app.log", &lines(1));
        let status = follow.counted(2);
        assert_eq!(status["bad_lines"], 0);
        follow.end(2);
    });
}

#[test]
fn t3_a_line_in_pieces_is_one_even_if_a_character_is_cut() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let text = line().replace("{\"time\"", "{\"note\":\"\u{1F600}\",\"time\"") + "\n";
        let bytes = text.as_bytes();
        let cut = text.find('\u{1F600}').unwrap() + 2;
        let mut file = writer(&follow.path("app.log"));
        let mut seen = 0;
        for piece in [&bytes[..cut], &bytes[cut..cut + 20]] {
            file.write_all(piece).unwrap();
            seen += piece.len();
            follow.until("the piece seen", |status| status["files"][0]["lag"] == seen);
        }
        file.write_all(&bytes[cut + 20..]).unwrap();
        let status = follow.counted(1);
        assert_eq!(status["bad_lines"], 0);
        follow.end(1);
    });
}

#[test]
fn t4_long_lines_written_while_we_read_are_never_read_by_halves() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let mut file = writer(&follow.path("app.log"));
        let padding = "x".repeat(20_000);
        let n = if FULL { 50_000 } else { 3000 };
        for _ in 0..n {
            let line = line().replace("{\"time\"", &format!("{{\"pad\":\"{padding}\",\"time\""));
            file.write_all((line + "\n").as_bytes()).unwrap();
        }
        let status = follow.counted(n);
        assert_eq!(status["bad_lines"], 0, "{status}");
        follow.end(n);
    });
}

#[test]
fn t5_a_line_without_end_costs_no_memory_and_hides_nothing() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let mut file = writer(&follow.path("app.log"));
        let chunk = vec![b'x'; 1_000_000];
        for _ in 0..120 {
            file.write_all(&chunk).unwrap();
        }
        file.write_all(("\n".to_owned() + &lines(1)).as_bytes())
            .unwrap();
        let status = follow.counted(1);
        assert_eq!(status["oversize_lines"], 1);
        follow.watch.expect("skipped: a line over 16 MiB");
        let memory = fs::read_to_string(format!("/proc/{}/status", follow.pid())).unwrap();
        let most: u64 = memory
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
            .unwrap();
        assert!(most < 100_000, "{most} kB");
        follow.end(1);
    });
}

#[test]
fn t6_a_hole_of_zeros_before_a_line_is_skipped() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        // A writer that does not append goes on where it was after the file was truncated.
        let mut file = File::create(follow.path("app.log")).unwrap();
        let before = lines(30);
        file.write_all(before.as_bytes()).unwrap();
        follow.counted(30);
        file.set_len(0).unwrap();
        file.write_all(lines(1).as_bytes()).unwrap();
        let status = follow.counted(31);
        assert_eq!(status["nul_bytes"], before.len());
        assert_eq!(status["bad_lines"], 0);
        follow.end_with(31, 1);
    });
}

#[test]
fn t7_odd_lines_are_counted_by_kind_and_good_ones_beside_them() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let mut bytes = b"\xEF\xBB\xBF".to_vec();
        bytes.extend(line().replace('\n', "").into_bytes());
        bytes.extend(b"\r\n\n  \n");
        bytes.extend((line() + &line() + "\n").into_bytes());
        bytes.extend(b"nul\n{\"a\":\xff}\n");
        bytes.extend(lines(1).into_bytes());
        let mut file = writer(&follow.path("app.log"));
        file.write_all(&bytes).unwrap();
        let status = follow.counted(4);
        assert_eq!(status["bad_lines"], 2, "{status}");
        assert_eq!(status["first_bad_lines"][1]["reason"], "invalid UTF-8");
        follow.end(4);
    });
}

#[test]
fn t8_a_writer_that_goes_on_in_the_renamed_file_is_heard() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let path = follow.path("app.log");
        let mut old = writer(&path);
        old.write_all(lines(2).as_bytes()).unwrap();
        follow.counted(2);
        fs::rename(&path, follow.path("app.log.1")).unwrap();
        File::create(&path).unwrap();
        follow.append("app.log", &lines(2));
        follow.counted(4);
        old.write_all(lines(3).as_bytes()).unwrap();
        follow.append("app.log", &lines(1));
        follow.end(8);
    });
}

#[test]
fn t11_a_file_that_was_truncated_and_grew_beyond_is_read_whole() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let path = follow.path("app.log");
        let truncate = || {
            File::options()
                .write(true)
                .truncate(true)
                .open(&path)
                .unwrap();
            append(&path, &lines(5));
        };
        beside_gnu("T11", &mut follow, &lines(3), truncate, 9);
        assert_eq!(follow.status()["files"][0]["generation"], 1);
        follow.end_with(9, 6);
    });
}

#[test]
fn what_was_written_between_our_last_look_and_a_copy_and_truncation_is_read_from_the_copy() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let (path, copy) = (follow.path("app.log"), follow.path("app.log.1"));
        follow.append("app.log", &lines(4));
        follow.counted(4);
        while_stopped(&follow, || {
            append(&path, &lines(3));
            fs::copy(&path, &copy).unwrap();
            File::options()
                .write(true)
                .truncate(true)
                .open(&path)
                .unwrap();
            append(&path, &lines(2));
        });
        follow.end(9);
    });
}

#[test]
fn t12_a_file_rewritten_to_the_same_size_at_the_same_time_is_read_again() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let path = follow.path("app.log");
        let at = rfc3339(now_ms());
        let padding = "p".repeat(200);
        // Lines of one length that differ in their ids alone, far from their ends.
        let fixed = |n: u64| {
            format!(
                "{{\"id\":\"msg_fixed{n:09}\",\"model\":\"claude-haiku-4-5\",\"usage\":{{\"input_tokens\":1,\"output_tokens\":0}},\"time\":\"{at}\",\"pad\":\"{padding}\"}}\n"
            )
        };
        let base = NEXT.fetch_add(100, Ordering::Relaxed);
        let old: String = (0..5).map(|n| fixed(base + n)).collect();
        let new: String = (0..5).map(|n| fixed(base + 50 + n)).collect();
        let rewrite = || {
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            let file = File::options()
                .write(true)
                .truncate(true)
                .open(&path)
                .unwrap();
            (&file).write_all(new.as_bytes()).unwrap();
            file.set_modified(modified).unwrap();
        };
        beside_gnu("T12", &mut follow, &old, rewrite, 11);
        follow.end_with(11, 6);
    });
}

#[test]
fn t13_several_rotations_between_two_looks_lose_nothing() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let path = follow.path("app.log");
        let (one, two) = (follow.path("app.log.1"), follow.path("app.log.2"));
        let rotate = || {
            append(&path, &lines(1));
            fs::rename(&path, &one).unwrap();
            append(&path, &lines(1));
            fs::rename(&one, &two).unwrap();
            fs::rename(&path, &one).unwrap();
            append(&path, &lines(1));
        };
        beside_gnu("T13", &mut follow, &lines(1), rotate, 5);
        follow.end(5);
    });
}

#[test]
fn t14_another_file_with_the_same_inode_is_another_file() {
    use std::os::unix::fs::MetadataExt;
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let path = follow.path("app.log");
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        follow.append("app.log", &lines(2));
        follow.counted(2);
        let old = inode(&path);
        let mut written = 2;
        for _ in 0..100 {
            while_stopped(&follow, || {
                fs::remove_file(&path).unwrap();
                append(&path, &lines(3));
            });
            written += 3;
            follow.counted(written);
            if inode(&path) == old {
                break;
            }
        }
        follow.end_with(written, 3);
    });
}

#[test]
fn t17_copies_moves_and_compression_count_nothing_twice() {
    each_mode(|mode| {
        let mut follow = Follow::start(
            mode,
            |dir| fs::create_dir(dir.join("logs")).unwrap(),
            &["logs"],
        );
        follow.append("logs/a.jsonl", &lines(5));
        follow.counted(5);
        fs::copy(follow.path("logs/a.jsonl"), follow.path("logs/b.jsonl")).unwrap();
        fs::rename(follow.path("logs/a.jsonl"), follow.path("logs/c.jsonl")).unwrap();
        fs::create_dir(follow.path("logs/sub")).unwrap();
        fs::rename(follow.path("logs/b.jsonl"), follow.path("logs/sub/b.jsonl")).unwrap();
        let gzip = Command::new("gzip")
            .arg(follow.path("logs/c.jsonl"))
            .status();
        assert!(gzip.unwrap().success());
        follow.append("logs/d.jsonl", &lines(1));
        follow.end(6);
    });
}

#[test]
fn t19_files_in_directories_made_this_moment_are_found() {
    each_mode(|mode| {
        let mut follow = Follow::start(
            mode,
            |dir| fs::create_dir(dir.join("logs")).unwrap(),
            &["logs", "a/b/c/x.jsonl"],
        );
        let rounds = if FULL { 200 } else { 40 };
        for round in 0..rounds {
            let script = format!(
                "mkdir -p logs/{round}/b/c && printf '%s\\n' \"$LINE\" > logs/{round}/b/c/x.jsonl"
            );
            let status = Command::new("sh")
                .args(["-c", &script])
                .env("LINE", line())
                .current_dir(follow.home.path())
                .status();
            assert!(status.unwrap().success());
        }
        follow.counted(rounds);
        let named = follow.path("a/b/c");
        fs::create_dir_all(&named).unwrap();
        append(&named.join("x.jsonl"), &lines(1));
        follow.end(rounds + 1);
    });
}
#[test]
fn t20_a_directory_that_is_made_anew_is_followed_anew_and_leaks_nothing() {
    each_mode(|mode| {
        let mut follow = Follow::start(
            mode,
            |dir| fs::create_dir(dir.join("logs")).unwrap(),
            &["logs"],
        );
        let rounds = if FULL { 50 } else { 10 };
        let dir = follow.path("logs");
        let mut written = 0;
        let mut watches = 0;
        for round in 0..rounds {
            append(&dir.join("x.jsonl"), &lines(1));
            written += 1;
            follow.counted(written);
            if round == 2 {
                watches = inotify_watches(&follow.pid());
            }
            fs::remove_dir_all(&dir).unwrap();
            fs::create_dir(&dir).unwrap();
        }
        assert!(inotify_watches(&follow.pid()) <= watches + 1);
        fs::rename(&dir, follow.path("logs2")).unwrap();
        fs::create_dir(&dir).unwrap();
        append(&dir.join("y.jsonl"), &lines(1));
        follow.end_with(written + 1, 1);
    });
}

#[test]
fn t21_a_link_that_is_turned_is_followed_to_both_of_its_files() {
    use std::os::unix::fs::symlink;
    each_mode(|mode| {
        let mut follow = Follow::start(
            mode,
            |dir| {
                fs::create_dir(dir.join("real")).unwrap();
                append(&dir.join("real/a.log"), "");
                symlink("real/a.log", dir.join("current")).unwrap();
            },
            &["current"],
        );
        follow.append("real/a.log", &lines(1));
        follow.counted(1);
        let turn = |to: &str| {
            symlink(to, follow.path("next")).unwrap();
            fs::rename(follow.path("next"), follow.path("current")).unwrap();
        };
        turn("real/b.log");
        append(&follow.path("real/b.log"), &lines(2));
        follow.counted(3);
        follow.append("real/a.log", &lines(1));
        follow.append("real/b.log", &lines(1));
        follow.end(5);
    });
}

#[test]
fn t22_a_log_that_may_not_be_read_for_a_while_goes_on_where_it_was() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !rustix::process::getuid().is_root() {
        eprintln!("SKIPPED: only root can write a log that we may not read");
        return;
    }
    each_mode(|mode| {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("app.log");
        let allow = |path: &Path, bits| {
            fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
        };
        allow(home.path(), 0o755);
        append(&log, "");
        let copy = copy_of_program(home.path());
        let mut command = Command::new(&copy);
        command.current_dir(home.path()).uid(65_534).gid(65_534);
        let watch = Follow::run_as(command, mode, &["app.log".to_owned()]);
        let mut follow = Follow { mode, home, watch };
        follow.watch.expect("watching");
        follow.append("app.log", &lines(2));
        follow.counted(2);
        allow(&log, 0o000);
        // Open as it is, it is read on.
        follow.append("app.log", &lines(2));
        follow.counted(4);
        allow(&log, 0o644);
        follow.append("app.log", &lines(1));
        follow.counted(5);
        // As logrotate makes the next one: for its owner alone at first.
        fs::rename(&log, follow.path("app.log.1")).unwrap();
        append(&log, "");
        allow(&log, 0o600);
        follow.append("app.log", &lines(3));
        follow
            .watch
            .expect("cannot read app.log: permission denied");
        allow(&log, 0o644);
        follow.counted(8);
        follow.status();
        let warnings = follow.watch.seen.iter();
        let warnings = warnings.filter(|line| line.contains("cannot read app.log"));
        assert_eq!(warnings.count(), 1, "{:?}", follow.watch.seen);
        fs::remove_file(&copy).unwrap();
        follow.end(8);
    });
}

#[test]
fn t24_standard_input_is_read_in_whatever_way_it_comes() {
    let home = tempfile::tempdir().unwrap();
    append(&home.path().join("app.log"), &lines(3));
    let binary = env!("CARGO_BIN_EXE_claude-tokmon");
    let run = |script: &str| {
        let output = Command::new("sh")
            .args(["-c", &script.replace("TOKMON", binary)])
            .current_dir(home.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    for script in [
        "cat app.log | TOKMON tail -",
        "cat app.log | TOKMON tail /dev/stdin",
    ] {
        let (code, said) = run(script);
        assert_eq!(code, Some(0), "{script}: {said}");
        assert!(said.contains("3 responses, "), "{script}: {said}");
    }
    let (code, said) = run("TOKMON tail - <&-");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("standard input is closed"), "{said}");
    // A file is followed there as elsewhere: it may grow.
    let mut command = program(home.path());
    command.args(["tail", "-"]);
    command.stdin(File::open(home.path().join("app.log")).unwrap());
    let watch = Watch::start(command);
    let mut follow = Follow {
        mode: Mode::Native,
        home,
        watch,
    };
    follow.watch.expect("watching the file on standard input");
    follow.counted(3);
    follow.append("app.log", &lines(1));
    follow.counted(4);
    let (code, said) = follow.watch.end();
    assert_eq!(code, Some(0), "{said:?}");
}

#[test]
fn t23_a_named_pipe_is_read_from_one_writer_after_another() {
    each_mode(|mode| {
        let mut follow = Follow::start(
            mode,
            |dir| {
                let made = Command::new("mkfifo").arg(dir.join("pipe")).status();
                assert!(made.unwrap().success());
            },
            &["pipe"],
        );
        for n in 1..=3 {
            let path = follow.path("pipe");
            let text = lines(2);
            // Opening for writing waits for a reader.
            fs::write(path, text).unwrap();
            follow.counted(2 * n);
        }
        let (code, said) = follow.watch.end();
        assert_eq!(code, Some(0), "{said:?}");
    });
}

#[test]
fn t25_many_files_need_few_descriptors() {
    each_mode(|mode| {
        let n = if FULL { 10_000 } else { 1000 };
        let home = tempfile::tempdir().unwrap();
        for i in 0..n {
            let dir = home.path().join(format!("logs/{}", i % 100));
            fs::create_dir_all(&dir).unwrap();
            append(&dir.join(format!("{i}.jsonl")), "{\"msg\":\"old\"}\n");
        }
        let mut command = Command::new("prlimit");
        command
            .args(["--nofile=64", env!("CARGO_BIN_EXE_claude-tokmon")])
            .env_clear()
            .env("HOME", home.path())
            .current_dir(home.path());
        let watch = Follow::run_as(command, mode, &["logs".to_owned()]);
        let mut follow = Follow { mode, home, watch };
        follow.watch.expect("watching");
        for i in 0..20 {
            follow.append(&format!("logs/{i}/{i}.jsonl"), &lines(2));
        }
        let begun = Instant::now();
        follow.counted(40);
        let seen = begun.elapsed();
        let open = fs::read_dir(format!("/proc/{}/fd", follow.pid()))
            .unwrap()
            .count();
        assert!(open <= 48, "{open} descriptors");
        eprintln!(
            "T25 {mode:?}: {n} files, 20 active: {open} descriptors, new lines seen within {seen:?}"
        );
        follow.end(40);
    });
}

#[test]
fn t27_a_flood_of_events_hides_no_file() {
    each_mode(|mode| {
        let follow = Follow::start(
            mode,
            |dir| {
                for name in ["a.log", "b.log", "c.log"] {
                    append(&dir.join(name), "");
                }
            },
            &["a.log", "b.log", "c.log"],
        );
        let (a, b, c) = (
            follow.path("a.log"),
            follow.path("b.log"),
            follow.path("c.log"),
        );
        while_stopped(&follow, || {
            let mut files = [&a, &b].map(|path| writer(path));
            for n in 0..20_000 {
                files[n % 2].write_all(b"\n").unwrap();
                if n == 15_000 {
                    append(&c, &lines(1));
                }
            }
            append(&a, &lines(1));
        });
        follow.end(2);
    });
}

#[test]
fn t44_output_that_grows_in_two_files_and_over_a_rotation_counts_once() {
    each_mode(|mode| {
        let mut follow = Follow::start(
            mode,
            |dir| fs::create_dir(dir.join("logs")).unwrap(),
            &["logs"],
        );
        let at = rfc3339(now_ms());
        let grown = |output: u64| {
            format!(
                r#"{{"time":"{at}","id":"msg_grows","model":"claude-haiku-4-5","usage":{{"input_tokens":1,"output_tokens":{output}}}}}"#
            ) + "\n"
        };
        let output = |status: &Value| status["tokens"]["output"].as_u64().unwrap();
        follow.append("logs/a.log", &grown(5));
        follow.append("logs/b.log", &grown(9));
        follow.until("9 tokens", |status| output(status) == 9);
        fs::rename(follow.path("logs/a.log"), follow.path("logs/a.log.1")).unwrap();
        follow.append("logs/a.log", &grown(7));
        follow.append("logs/a.log", &grown(30));
        follow.until("30 tokens", |status| output(status) == 30);
        follow.end(1);
    });
}

#[test]
fn t41_lines_are_seen_soon_after_they_are_written() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let n = if FULL { 200 } else { 20 };
        // From now on it is a file that grows.
        follow.append("app.log", &lines(1));
        follow.counted(1);
        let mut random = Random(41);
        let mut waits = Vec::new();
        let mut written = 1;
        for _ in 0..n {
            let before = random.below(20);
            follow.append("app.log", &lines(before as usize));
            written += before + 1;
            let begun = Instant::now();
            follow.append("app.log", &lines(1));
            follow.counted(written);
            waits.push(begun.elapsed());
        }
        waits.sort();
        let (median, last) = (waits[waits.len() / 2], waits[waits.len() - 1]);
        eprintln!("T41 {mode:?}: seen after {median:?} (median), {last:?} (worst of {n})");
        assert!(last < Duration::from_secs(1), "{last:?}");
        follow.end(written);
    });
}

// ---- Real rotation ----

/// Rotates with logrotate, so many times, while lines are written; `reopen` as a service does that was told to.
fn logrotate(follow: &Follow, options: &str, times: usize, per_second: u64, reopen: bool) -> u64 {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    let dir = follow.home.path().to_owned();
    let path = dir.join("app.log");
    let conf = dir.join("rotate.conf");
    let text = format!(
        "\"{}\" {{\n rotate 1000\n nodateext\n missingok\n su root root\n {options}\n}}\n",
        path.display()
    );
    fs::write(&conf, text).unwrap();
    let (over, rotated) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let writer = {
        let (over, rotated, path) = (Arc::clone(&over), Arc::clone(&rotated), path.clone());
        std::thread::spawn(move || {
            let open = || writer(&path);
            let (mut file, begun, mut written) = (open(), Instant::now(), 0);
            while !over.load(Ordering::Relaxed) {
                if reopen && rotated.swap(false, Ordering::Relaxed) {
                    file = open();
                }
                let due = begun.elapsed().as_millis() as u64 * per_second / 1000;
                while written < due {
                    file.write_all((line() + "\n").as_bytes()).unwrap();
                    written += 1;
                }
                std::thread::yield_now();
            }
            written
        })
    };
    for _ in 0..times {
        let status = Command::new("logrotate")
            .args(["-f", "-s"])
            .arg(dir.join("rotate.state"))
            .arg(&conf)
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        rotated.store(true, Ordering::Relaxed);
    }
    over.store(true, Ordering::Relaxed);
    writer.join().unwrap()
}

/// The ids of all lines that lie on disk.
fn ids_on_disk(dir: &Path) -> std::collections::HashSet<String> {
    let mut ids = std::collections::HashSet::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("app.log") {
            let text = fs::read(entry.path()).unwrap();
            let text = String::from_utf8_lossy(&text);
            ids.extend(text.lines().filter_map(|line| {
                Some(
                    line.split("\"id\":\"")
                        .nth(1)?
                        .split('"')
                        .next()?
                        .to_owned(),
                )
            }));
        }
    }
    ids
}

#[test]
fn t9_logrotate_with_create_loses_nothing() {
    if !has("logrotate") {
        return;
    }
    each_mode(|mode| {
        let follow = Follow::one_log(mode, &["app.log"]);
        let times = if FULL { 200 } else { 20 };
        let written = logrotate(&follow, "create", times, 2000, true);
        eprintln!("T9 {mode:?}: {times} rotations, {written} lines");
        follow.end(written);
    });
}

#[test]
fn t10_logrotate_with_copytruncate_loses_only_what_is_in_no_file() {
    if !has("logrotate") {
        return;
    }
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        let times = if FULL { 50 } else { 10 };
        let written = logrotate(&follow, "copytruncate", times, 500, false);
        let on_disk = ids_on_disk(follow.home.path()).len() as u64;
        let status = follow.counted(on_disk);
        let counted = tokens(&status);
        eprintln!(
            "T10 {mode:?}: {times} rotations, {written} lines written, {on_disk} on disk, {counted} counted"
        );
        assert!(counted <= written);
        // What is on disk and was counted is the same set, or some more that a truncation took after we had read it.
        let replayed = tokens(&replay(follow.home.path()));
        assert_eq!(replayed, on_disk);
        assert_eq!(follow.watch.end().0, Some(0));
    });
}

const ROTATING: &str = r#"
import logging, logging.handlers, sys, threading, datetime
handler = logging.handlers.RotatingFileHandler("app.log", maxBytes=256 * 1024, backupCount=10000)
handler.setFormatter(logging.Formatter("%(message)s"))
log = logging.getLogger("x"); log.addHandler(handler); log.setLevel(logging.INFO)
n = int(sys.argv[1])
def work(t):
    for i in range(n):
        at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
        log.info('{"time":"%s","id":"msg_python%d_%d","model":"claude-haiku-4-5","usage":{"input_tokens":1,"output_tokens":0}}' % (at, t, i))
threads = [threading.Thread(target=work, args=(t,)) for t in range(5)]
[t.start() for t in threads]; [t.join() for t in threads]
"#;

#[test]
fn t15_a_python_service_that_rotates_its_own_log_is_read_whole() {
    if !has("python3") {
        return;
    }
    each_mode(|mode| {
        let follow = Follow::one_log(mode, &["app.log"]);
        let each = if FULL { 100_000 } else { 4000 };
        let status = Command::new("python3")
            .args(["-c", ROTATING, &each.to_string()])
            .current_dir(follow.home.path())
            .status();
        assert!(status.unwrap().success());
        follow.end(5 * each);
    });
}
