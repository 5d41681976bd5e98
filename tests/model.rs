//! The follower against a model of what happens to files: whatever is done to a log between two looks, each line that was there
//! to be seen is counted.
//!
//! In process and without a clock: time is an argument.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use claude_tokmon::parse::is_complete;
use claude_tokmon::source::{Follower, FollowerState, Progress, SleepWake, Source, inputs};
use proptest::prelude::*;

/// What happens.
#[derive(Debug, Clone)]
enum Act {
    /// A whole line is written.
    Line,
    /// The first part of a line is written.
    Half,
    /// The rest of it comes.
    Rest,
    /// A whole line without its line feed is written; the line feed comes with the next write.
    NoLineFeed,
    /// The log is renamed and begun anew.
    Rotate,
    /// The log is copied and truncated.
    CopyTruncate,
    /// The log is truncated, and so many lines are written to it at once.
    Truncate(u8),
    /// The log is removed and begun anew.
    Remove,
    /// A copy of the log is made under a name that is not followed.
    Copy,
    /// The follower looks.
    Look,
    /// Time passes, in milliseconds; the follower looks when it is due.
    Wait(u16),
    /// The follower ends well and another goes on.
    Restart,
    /// It is killed: another goes on from the last snapshot.
    Crash,
    /// A snapshot is taken.
    Snapshot,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => Just(Act::Line),
        2 => Just(Act::Half),
        3 => Just(Act::Rest),
        1 => Just(Act::NoLineFeed),
        2 => Just(Act::Rotate),
        2 => Just(Act::CopyTruncate),
        1 => (0..6_u8).prop_map(Act::Truncate),
        1 => Just(Act::Remove),
        1 => Just(Act::Copy),
        5 => Just(Act::Look),
        3 => (1..3000_u16).prop_map(Act::Wait),
        1 => Just(Act::Restart),
        1 => Just(Act::Crash),
        2 => Just(Act::Snapshot),
    ]
}

struct Model {
    dir: tempfile::TempDir,
    log: PathBuf,
    now: Instant,
    follower: Follower<SleepWake>,
    counted: BTreeSet<u32>,
    written: BTreeSet<u32>,
    snapshot: (Vec<u8>, BTreeSet<u32>),
    next: u32,
    /// The rest of a line that was begun.
    pending: Option<String>,
    rotations: u32,
}

fn line(n: u32) -> String {
    // All of one length, and alike but for the number.
    format!("{{\"id\":\"{n:08}\",\"text\":\"the same in every line\"}}")
}

fn id(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = text.strip_prefix("{\"id\":\"")?.get(..8)?.parse().ok()?;
    (text == line(number)).then_some(number)
}

impl Model {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(fast_dir()).unwrap();
        let log = dir.path().join("app.log");
        File::create(&log).unwrap();
        let now = Instant::now();
        let mut model = Self {
            follower: follower(&log, now),
            dir,
            log,
            now,
            counted: BTreeSet::new(),
            written: BTreeSet::new(),
            snapshot: (Vec::new(), BTreeSet::new()),
            next: 0,
            pending: None,
            rotations: 0,
        };
        model.look();
        model.take_snapshot();
        model
    }

    fn write(&mut self, text: &str) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn new_line(&mut self) -> String {
        self.next += 1;
        self.written.insert(self.next);
        line(self.next)
    }

    /// What was begun ends here, wherever it was begun.
    fn finish(&mut self) {
        if let Some(rest) = self.pending.take() {
            self.write(&(rest + "\n"));
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Line => {
                self.finish();
                let line = self.new_line();
                self.write(&(line + "\n"));
            }
            Act::Half => {
                self.finish();
                let line = self.new_line();
                let (half, rest) = line.split_at(line.len() / 2);
                self.write(half);
                self.pending = Some(rest.to_owned());
            }
            Act::Rest => self.finish(),
            Act::NoLineFeed => {
                self.finish();
                let line = self.new_line();
                self.write(&line);
                self.pending = Some(String::new());
            }
            Act::Rotate => {
                self.finish();
                self.shift();
                fs::rename(&self.log, self.rotated(1)).unwrap();
                File::create(&self.log).unwrap();
            }
            Act::CopyTruncate => {
                self.finish();
                self.shift();
                fs::copy(&self.log, self.rotated(1)).unwrap();
                self.truncate();
            }
            Act::Truncate(n) => {
                self.pending = None;
                self.truncate();
                let lines: Vec<String> = (0..*n).map(|_| self.new_line() + "\n").collect();
                self.write(&lines.concat());
            }
            Act::Remove => {
                self.pending = None;
                fs::remove_file(&self.log).unwrap();
                File::create(&self.log).unwrap();
            }
            Act::Copy => {
                fs::copy(&self.log, self.dir.path().join("copy")).unwrap();
            }
            Act::Look => self.look(),
            Act::Wait(ms) => {
                self.now += Duration::from_millis(u64::from(*ms));
                self.read();
            }
            Act::Snapshot => self.take_snapshot(),
            Act::Restart => {
                self.look();
                self.take_snapshot();
                self.resume();
            }
            Act::Crash => self.resume(),
        }
    }

    fn truncate(&self) {
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&self.log)
            .unwrap();
    }

    fn rotated(&self, n: u32) -> PathBuf {
        self.dir.path().join(format!("app.log.{n}"))
    }

    /// `.2` becomes `.3`, `.1` becomes `.2`.
    fn shift(&mut self) {
        for n in (1..=self.rotations).rev() {
            fs::rename(self.rotated(n), self.rotated(n + 1)).unwrap();
        }
        self.rotations += 1;
    }

    fn read(&mut self) {
        let counted = &mut self.counted;
        let written = &self.written;
        loop {
            let progress = self.follower.read(self.now, &mut |line| {
                if let Some(id) = id(line.bytes) {
                    assert!(written.contains(&id), "{id} was never written");
                    counted.insert(id);
                }
            });
            if progress.unwrap() != Progress::More {
                break;
            }
        }
    }

    /// Lets enough time pass that everything has been looked at.
    fn look(&mut self) {
        for _ in 0..3 {
            self.now += Duration::from_millis(2100);
            self.read();
        }
    }

    fn take_snapshot(&mut self) {
        let state = postcard::to_stdvec(&self.follower.state()).unwrap();
        self.snapshot = (state, self.counted.clone());
    }

    fn resume(&mut self) {
        let (state, counted) = &self.snapshot;
        let state: FollowerState = postcard::from_bytes(state).unwrap();
        self.counted = counted.clone();
        self.follower = follower(&self.log, self.now);
        self.follower.resume(state, self.now);
    }

    /// Every whole line that lies on disk, in the log or a rotated one.
    fn on_disk(&self) -> BTreeSet<u32> {
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(self.dir.path()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("app.log") {
                let bytes = fs::read(entry.path()).unwrap();
                ids.extend(bytes.split(|b| *b == b'\n').filter_map(id));
            }
        }
        ids
    }
}

fn follower(log: &Path, now: Instant) -> Follower<SleepWake> {
    let inputs = inputs(&[log.to_owned()]).unwrap();
    Follower::new(inputs, Vec::new(), SleepWake::default(), is_complete, now)
}

/// Where files are made without waiting for a disk, if there is such a place.
fn fast_dir() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

fn cases() -> ProptestConfig {
    let cases = if cfg!(feature = "full") {
        100_000
    } else {
        5000
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn t0_whatever_happens_to_a_log_what_is_there_to_be_seen_is_counted(
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let mut model = Model::new();
        for act in &acts {
            model.act(act);
            prop_assert!(model.counted.is_subset(&model.written));
            if matches!(act, Act::Look | Act::Restart) {
                let missing: Vec<u32> = model.on_disk().difference(&model.counted).copied().collect();
                prop_assert!(missing.is_empty(), "after {act:?}: {missing:?} lie on disk and are not counted");
            }
        }
        model.look();
        let missing: Vec<u32> = model.on_disk().difference(&model.counted).copied().collect();
        prop_assert!(missing.is_empty(), "at the end: {missing:?} lie on disk and are not counted");
    }
}
