//! A directory of logs, the program that follows it, and what is asked of it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Watch, now_ms, program, rfc3339};

/// How the follower notices changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Native,
    Poll,
    Blind,
}

pub const FULL: bool = cfg!(feature = "full");

/// Runs a test in each mode that is asked for.
pub fn each_mode(test: impl Fn(Mode)) {
    test(Mode::Native);
    if FULL {
        test(Mode::Poll);
        test(Mode::Blind);
    }
}

/// A line of one token, unlike all others.
pub fn line() -> String {
    line_of(NEXT.fetch_add(1, Ordering::Relaxed))
}

pub static NEXT: AtomicU64 = AtomicU64::new(1);

pub fn line_of(n: u64) -> String {
    let at = rfc3339(now_ms());
    format!(
        r#"{{"time":"{at}","id":"msg_{n:020}","model":"claude-haiku-4-5","usage":{{"input_tokens":1,"output_tokens":0}}}}"#
    )
}

pub fn lines(n: usize) -> String {
    (0..n).map(|_| line() + "\n").collect()
}

/// A directory of logs and the program that follows it.
pub struct Follow {
    pub mode: Mode,
    pub home: tempfile::TempDir,
    pub watch: Watch,
}

impl Follow {
    pub fn start(mode: Mode, prepare: impl FnOnce(&Path), args: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        prepare(home.path());
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let watch = Self::run(mode, home.path(), &args);
        let mut follow = Self { mode, home, watch };
        follow.watch.expect("watching");
        follow
    }

    /// Follows one log that is empty yet.
    pub fn one_log(mode: Mode, args: &[&str]) -> Self {
        Self::start(mode, |dir| append(&dir.join("app.log"), ""), args)
    }

    pub fn run(mode: Mode, home: &Path, args: &[String]) -> Watch {
        Self::run_as(program(home), mode, args)
    }

    /// The same with an environment, or a program, that was prepared.
    pub fn run_as(mut command: Command, mode: Mode, args: &[String]) -> Watch {
        command.arg("tail").args(args);
        match mode {
            Mode::Native => {}
            Mode::Poll => {
                command.arg("--poll");
            }
            Mode::Blind => {
                command.env("CLAUDE_TOKMON_TEST_WATCH", "blind");
            }
        }
        Watch::start(command)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn append(&self, name: &str, text: &str) {
        append(&self.path(name), text);
    }

    pub fn pid(&self) -> String {
        self.watch.child.id().to_string()
    }

    /// How it stands.
    pub fn status(&mut self) -> Value {
        self.watch.signal("-USR1");
        let line = self.watch.expect("\"event\":\"status\"");
        serde_json::from_str(&line).unwrap()
    }

    /// Asks until it holds.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{:?}: not {what}: {status}",
                self.mode
            );
            std::thread::yield_now();
        }
    }

    /// Waits until so many lines are counted.
    pub fn counted(&mut self, n: u64) -> Value {
        self.until(&format!("{n} lines"), |status| tokens(status) >= n)
    }

    /// Ends it. All that was written is counted once, and a replay says the same.
    pub fn end(self, written: u64) {
        self.end_with(written, written);
    }

    /// The same where some of what was written lies on disk no more.
    pub fn end_with(mut self, written: u64, on_disk: u64) {
        let status = self.counted(written);
        assert_eq!(tokens(&status), written, "{:?}: {status}", self.mode);
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().unwrap());
        let (code, said) = self.watch.end();
        assert_eq!(code, Some(0), "{said:?}");
        let replayed = replay(home.path());
        assert_eq!(
            tokens(&replayed),
            on_disk,
            "{:?}: replay: {replayed}",
            self.mode
        );
    }
}

pub fn tokens(totals: &Value) -> u64 {
    totals["tokens"]["input"].as_u64().unwrap()
}

/// The totals of everything in a directory.
pub fn replay(dir: &Path) -> Value {
    let output = program(dir)
        .args(["replay", "--json", "."])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

/// A file as a service holds it open.
pub fn writer(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.create(true).append(true).open(path).unwrap()
}

pub fn append(path: &Path, text: &str) {
    writer(path).write_all(text.as_bytes()).unwrap();
}

pub fn is_state(pid: &str, state: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')')
        .next()
        .unwrap()
        .trim_start()
        .starts_with(state)
}

/// Stops the program as Ctrl-Z does, does something, and lets it go on.
pub fn while_stopped(follow: &Follow, act: impl FnOnce()) {
    follow.watch.signal("-STOP");
    while !is_state(&follow.pid(), "T") {
        std::thread::yield_now();
    }
    act();
    follow.watch.signal("-CONT");
}

/// Whether a program is there. A test that lacks it says so.
pub fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// Kills the program so that it cannot do anything more.
pub fn kill(follow: &mut Follow) {
    let _ = follow.watch.child.kill();
    let _ = follow.watch.child.wait();
}

/// Kills the program and starts it again.
pub fn restart(follow: &mut Follow, args: &[&str]) {
    kill(follow);
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    follow.watch = Follow::run(follow.mode, follow.home.path(), &args);
    follow.watch.expect("watching");
}

pub const WITH_STATE: [&str; 4] = ["--state", "state", "app.log", "--lateness=2s"];

/// Waits until a snapshot holds all that is counted.
pub fn settled(follow: &mut Follow) {
    follow.until("kept", |status| {
        let lag = status["files"]
            .as_array()
            .unwrap()
            .iter()
            .all(|file| file["lag"] == 0);
        lag && status["state_pending"] == false
    });
}

pub fn inotify_watches(pid: &str) -> usize {
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    infos
        .flatten()
        .filter_map(|info| fs::read_to_string(info.path()).ok())
        .map(|text| text.matches("inotify wd:").count())
        .sum()
}
