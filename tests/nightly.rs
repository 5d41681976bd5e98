//! What takes long, or needs a mount or a tool of its own. Runs with `--features full` only:
//! `cargo test --release --features full --test follow --test faults --test nightly -- --nocapture`.
//!
//! The soak goes on for `CLAUDE_TOKMON_SOAK_SECS` (60 by default): 86400 for a day.
#![cfg(feature = "full")]
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
use std::process::Command;
use std::time::{Duration, Instant};

use common::follow::*;
use common::{Random, Watch, program};

const TIMED: &str = r#"
import logging, logging.handlers, sys, time, datetime
handler = logging.handlers.TimedRotatingFileHandler("app.log", when="S", interval=1)
handler.setFormatter(logging.Formatter("%(message)s"))
log = logging.getLogger("x"); log.addHandler(handler); log.setLevel(logging.INFO)
i = 0
for rotation in range(int(sys.argv[1])):
    for _ in range(800):
        at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
        log.info('{"time":"%s","id":"msg_timed_%d","model":"claude-haiku-4-5","usage":{"input_tokens":1,"output_tokens":0}}' % (at, i))
        i += 1
    # The next line rotates.
    while time.time() < handler.rolloverAt: pass
print(i)
"#;

#[test]
fn t16_a_python_service_that_rotates_each_second_is_read_whole() {
    if !has("python3") {
        return;
    }
    each_mode(|mode| {
        let follow = Follow::one_log(mode, &["app.log"]);
        let output = Command::new("python3")
            .args(["-c", TIMED, "30"])
            .current_dir(follow.home.path())
            .output()
            .unwrap();
        let written = String::from_utf8(output.stdout).unwrap();
        let written: u64 = written.trim().parse().unwrap();
        eprintln!("T16 {mode:?}: {written} lines");
        follow.end(written);
    });
}

/// A directory on another file system than that of temporary files, if there is one.
fn elsewhere(home: &Path) -> Option<tempfile::TempDir> {
    use std::os::unix::fs::MetadataExt;
    let here = fs::metadata(home).unwrap().dev();
    let other = ["/dev/shm", "/run", env!("CARGO_TARGET_TMPDIR")]
        .into_iter()
        .find(|dir| fs::metadata(dir).is_ok_and(|meta| meta.dev() != here));
    if other.is_none() {
        eprintln!("SKIPPED: there is one file system only");
    }
    other.and_then(|dir| tempfile::tempdir_in(dir).ok())
}

#[test]
fn t18_a_log_that_moved_over_a_file_system_and_back_while_we_were_down_counts_once() {
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &WITH_STATE);
        let Some(other) = elsewhere(follow.home.path()) else {
            return;
        };
        follow.append("app.log", &lines(50));
        follow.counted(50);
        settled(&mut follow);
        kill(&mut follow);
        let (log, away) = (follow.path("app.log"), other.path().join("app.log"));
        fs::copy(&log, &away).unwrap();
        fs::remove_file(&log).unwrap();
        fs::copy(&away, &log).unwrap();
        follow.append("app.log", &lines(5));
        restart(&mut follow, &WITH_STATE);
        let status = follow.counted(55);
        assert_eq!(
            status["duplicates"], 0,
            "its place was taken over: {status}"
        );
        follow.end(55);
    });
}

/// Whether we may mount file systems in a namespace of our own.
fn may_mount() -> bool {
    let may = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !may {
        eprintln!("SKIPPED: no mount namespace of our own");
    }
    may
}

/// Starts `tail` after `mounts` were made, and gives a way to run more beside it, under the same mounts.
fn under_mounts(home: tempfile::TempDir, mode: Mode, mounts: &str, args: &str) -> Follow {
    let script = format!(
        "{mounts} && exec {} tail {args}",
        env!("CARGO_BIN_EXE_claude-tokmon")
    );
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(home.path());
    match mode {
        Mode::Native => {}
        Mode::Poll => {
            command.env("CLAUDE_TOKMON_TEST_WATCH", "refused");
        }
        Mode::Blind => {
            command.env("CLAUDE_TOKMON_TEST_WATCH", "blind");
        }
    }
    let mut follow = Follow {
        mode,
        watch: Watch::start(command),
        home,
    };
    follow.watch.expect("watching");
    follow
}

/// Runs something under the mounts of the program.
fn beside(follow: &Follow, script: &str) -> String {
    let output = Command::new("nsenter")
        .args(["--user", "--mount", "--preserve-credentials", "--target"])
        .arg(follow.pid())
        .args([
            "sh",
            "-c",
            &format!("cd {} && {script}", follow.home.path().display()),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn t28_bind_mounts_and_overlays_are_followed_into_their_copies() {
    if !may_mount() || !has("nsenter") {
        return;
    }
    each_mode(|mode| {
        // A bind mount: what is written under the one name is seen under the other.
        let home = tempfile::tempdir().unwrap();
        for dir in ["real", "bound"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        append(&home.path().join("real/app.log"), "");
        let mut follow = under_mounts(home, mode, "mount --bind real bound", "bound");
        follow.append("real/app.log", &lines(3));
        let begun = Instant::now();
        follow.counted(3);
        eprintln!("T28 {mode:?}: bind mount, seen after {:?}", begun.elapsed());
        assert_eq!(follow.watch.end().0, Some(0));
        // An overlay: the lower file is followed when its first append makes an upper one of it.
        let home = tempfile::tempdir().unwrap();
        for dir in ["lower", "tmp", "merged"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        append(&home.path().join("lower/app.log"), "");
        let mounts = "mount -t tmpfs none tmp && mkdir tmp/upper tmp/work && mount -t overlay none -o lowerdir=lower,upperdir=tmp/upper,workdir=tmp/work,userxattr merged";
        let probe = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", mounts])
            .current_dir(home.path())
            .status();
        if !probe.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: no overlay can be mounted here");
            return;
        }
        let mut follow = under_mounts(home, mode, mounts, "merged");
        let begun = Instant::now();
        for _ in 0..3 {
            fs::write(follow.path("more"), lines(2)).unwrap();
            beside(&follow, "cat more >> merged/app.log");
        }
        follow.counted(6);
        eprintln!("T28 {mode:?}: overlay, seen after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(follow.watch.end().0, Some(0));
    });
}

#[test]
fn t32_a_full_disk_stops_the_state_and_nothing_else() {
    if !may_mount() || !has("nsenter") {
        return;
    }
    each_mode(|mode| {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("small")).unwrap();
        append(&home.path().join("app.log"), "");
        let args = "--state small/state app.log";
        let mounts = "mount -t tmpfs -o size=64k none small";
        let mut follow = under_mounts(home, mode, mounts, args);
        follow.append("app.log", &lines(2));
        follow.counted(2);
        settled(&mut follow);
        let before = beside(&follow, "cat small/state | md5sum");
        beside(
            &follow,
            "dd if=/dev/zero of=small/fill bs=1k 2>/dev/null || true",
        );
        follow.append("app.log", &lines(400));
        follow.counted(402);
        follow.watch.expect("the state cannot be written");
        follow.until("an error", |status| !status["state_error"].is_null());
        assert_eq!(beside(&follow, "cat small/state | md5sum"), before);
        beside(&follow, "rm small/fill");
        follow.append("app.log", &lines(1));
        follow.counted(403);
        follow.until("no error", |status| status["state_error"].is_null());
        settled(&mut follow);
        assert_ne!(beside(&follow, "cat small/state | md5sum"), before);
        follow.end(403);
    });
}

/// The most memory a process has held, in KiB.
fn peak_kib(follow: &Follow) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", follow.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let digits = line.unwrap().split_whitespace().nth(1).unwrap();
    digits.parse().unwrap()
}

#[test]
fn t40_a_backlog_of_a_gigabyte_in_many_files_costs_little_memory() {
    each_mode(|mode| {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("logs")).unwrap();
        let filler = format!("{{\"msg\":\"{}\"}}\n", "x".repeat(985));
        let block = filler.repeat(105);
        let mut follow = Follow {
            mode,
            watch: {
                let mut command = program(home.path());
                if mode == Mode::Blind {
                    command.env("CLAUDE_TOKMON_TEST_WATCH", "blind");
                }
                let poll: &[String] = if mode == Mode::Poll {
                    &["--poll".to_owned()]
                } else {
                    &[]
                };
                let args = [&["logs".to_owned()], poll].concat();
                Follow::run_as(command, Mode::Native, &args)
            },
            home,
        };
        follow.watch.expect("watching");
        for i in 0..10_000 {
            let text = format!("{block}{}", lines(1));
            append(&follow.path(&format!("logs/{i}.log")), &text);
        }
        let deadline = Instant::now() + Duration::from_mins(2);
        while tokens(&follow.status()) < 10_000 {
            assert!(Instant::now() < deadline);
        }
        let peak = peak_kib(&follow);
        eprintln!(
            "T40 {mode:?}: 10,000 files, 1.04 GB: at most {} MiB",
            peak / 1024
        );
        assert!(peak < 64 * 1024, "{peak} KiB");
        assert_eq!(follow.watch.end().0, Some(0));
    });
}

#[test]
fn t42_an_idle_log_is_not_opened_again_and_again() {
    if !has("strace") {
        return;
    }
    each_mode(|mode| {
        let mut follow = Follow::one_log(mode, &["app.log"]);
        follow.append("app.log", &lines(1));
        follow.counted(1);
        // Idle is what has not grown for a minute: it is closed then.
        let deadline = Instant::now() + Duration::from_secs(90);
        while holds_open(&follow, "app.log") {
            assert!(Instant::now() < deadline, "it is never closed");
            std::thread::yield_now();
        }
        let elsewhere = tempfile::tempdir().unwrap();
        let out = elsewhere.path().join("trace");
        let length = 30;
        let pid = follow.pid();
        let args = [
            "-f",
            "-e",
            "trace=openat,inotify_add_watch,statx,newfstatat",
            "-p",
            &pid,
            "-o",
        ];
        let status = Command::new("timeout")
            .args(["-s", "INT", &length.to_string(), "strace"])
            .args(args)
            .arg(&out)
            .output()
            .unwrap();
        let trace = fs::read_to_string(&out).unwrap_or_default();
        if trace.is_empty() {
            eprintln!("SKIPPED: strace may not look here ({status:?})");
            return;
        }
        let calls = |name: &str| trace.lines().filter(|line| line.contains(name)).count();
        let opens = calls("openat(");
        let of_the_log = trace
            .lines()
            .filter(|l| l.contains("openat(") && l.contains("app.log"));
        let stats = calls("statx(") + calls("newfstatat(");
        let watches = calls("inotify_add_watch(");
        eprintln!(
            "T42 {mode:?}: {length} s idle: {opens} opens, {stats} stats, {watches} watches added"
        );
        assert_eq!(of_the_log.count(), 0);
        assert_eq!(watches, 0);
        assert!(opens <= length, "{opens} opens");
        assert!(stats <= 10 * length, "{stats} stats");
        follow.end(1);
    });
}

/// All that may happen to a log, at random, for as long as is asked for: nothing is lost, and nothing grows.
#[test]
fn t45_soak() {
    let secs = std::env::var("CLAUDE_TOKMON_SOAK_SECS");
    let secs = secs.ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let mut follow = Follow::one_log(Mode::Native, &WITH_STATE);
    let mut random = Random(std::process::id().into());
    let (begun, mut written, mut rotations) = (Instant::now(), 0_u64, 0_u64);
    let mut file = writer(&follow.path("app.log"));
    let mut early = None;
    let mut events = [0_u64; 6];
    while begun.elapsed() < Duration::from_secs(secs) {
        let n = random.below(200);
        file.write_all(lines(n as usize).as_bytes()).unwrap();
        written += n;
        let what = random.below(40);
        match what {
            0 => {
                // Half a line, and the rest of it.
                let text = line() + "\n";
                let cut = random.below(text.len() as u64) as usize;
                file.write_all(&text.as_bytes()[..cut]).unwrap();
                file.write_all(&text.as_bytes()[cut..]).unwrap();
                written += 1;
            }
            1 => {
                rotations += 1;
                let to = follow.path(&format!("app.log.{}", rotations % 5));
                // Only what is counted and kept is thrown away.
                follow.counted(written);
                settled(&mut follow);
                fs::rename(follow.path("app.log"), to).unwrap();
                file = writer(&follow.path("app.log"));
            }
            2 => {
                follow.counted(written);
                settled(&mut follow);
                File::options()
                    .write(true)
                    .truncate(true)
                    .open(follow.path("app.log"))
                    .unwrap();
            }
            3 => {
                fs::copy(follow.path("app.log"), follow.path("app.log.copy")).unwrap();
            }
            4 => restart(&mut follow, &WITH_STATE),
            5 => {
                follow.watch.signal("-STOP");
                file.write_all(lines(50).as_bytes()).unwrap();
                written += 50;
                follow.watch.signal("-CONT");
            }
            _ => {}
        }
        if let Some(event) = events.get_mut(what as usize) {
            *event += 1;
        }
        follow.counted(written);
        if early.is_none() && begun.elapsed() > Duration::from_secs(secs / 4) {
            early = Some(figures(&follow));
        }
    }
    let late = figures(&follow);
    let (early_fds, early_watches) = early.unwrap_or(late);
    let status = follow.counted(written);
    eprintln!(
        "T45: {secs} s, {written} lines; halves, rotations, truncations, copies, kills, stops: {events:?}; descriptors {early_fds} then {}, watches {early_watches} then {}; peak {} MiB",
        late.0,
        late.1,
        peak_kib(&follow) / 1024
    );
    assert_eq!(tokens(&status), written);
    assert!(late.0 <= early_fds + 8 && late.1 <= early_watches + 1);
    assert_eq!(follow.watch.end().0, Some(0));
}

/// Whether a process has a file of this name open.
fn holds_open(follow: &Follow, name: &str) -> bool {
    let fds = fs::read_dir(format!("/proc/{}/fd", follow.pid())).unwrap();
    let targets = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    targets.into_iter().any(|target| target.ends_with(name))
}

/// Open descriptors and inotify watches.
fn figures(follow: &Follow) -> (usize, usize) {
    let fds = fs::read_dir(format!("/proc/{}/fd", follow.pid()))
        .unwrap()
        .count();
    (fds, inotify_watches(&follow.pid()))
}
