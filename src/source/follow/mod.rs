//! Growing files as one perpetual stream of lines.
//!
//! Polling is the truth: active files are looked at every quarter of a second, idle ones and directories every two seconds.
//! File events only make it faster. [`Follower::reconcile`] is the one place that reads, and it asks the file system what is so
//! rather than trusting what it was told.

mod file;
mod mount;
mod named_pipe;
mod rotated;
mod scan;
mod siblings;
mod wake;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::file::{FileState, Followed, IDLE_EVERY, Looked, Means, present_key};
use self::named_pipe::NamedPipe;
use self::rotated::Chase;
use self::siblings::{absolute, find_renamed, open_if};
use super::discover::Input;
use super::identity::FileKey;
use super::lines::SplitStats;
use super::pages::Pages;
use super::{FileStatus, Line, LineSplitter, Progress, Source, reason};

pub use mount::{Mount, Mounts};
pub use wake::{NotifyWake, Refusal, RefusedWake, SleepWake, Wake, WakeHandle, Watching, Woken};

const CHUNK: usize = 256 << 10;

/// Something about a file that people should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A named path is not there yet.
    Waiting(String),
    /// A named path that was not there has come.
    Appeared(String),
    /// A file became shorter or was rewritten; it is read from its beginning.
    Truncated(String),
    /// A file cannot be read for now.
    Unreadable {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// There are no file events for a directory, nor for others of which the same is true; they are polled.
    Polling {
        /// The first such directory.
        dir: String,
        /// Why.
        reason: NoEvents,
    },
}

/// Why there are no file events for a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoEvents {
    /// The system refused.
    Refused(Refusal),
    /// The directory lies on a file system that is not of this machine.
    Remote(&'static str),
}

/// Where to go on reading a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Its path.
    pub path: PathBuf,
    /// The file.
    pub key: FileKey,
    /// The end of the last whole line that was read.
    pub offset: u64,
}

/// Where a follower is with all its files, to be taken up again by another.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FollowerState {
    files: Vec<FileState>,
    let_go: Vec<FileKey>,
}

/// Follows files, directories and patterns.
pub struct Follower<W: Wake> {
    inputs: Vec<Input>,
    files: HashMap<FileKey, Followed>,
    /// Named pipes.
    pipes: Vec<NamedPipe>,
    /// By absolute path, which is what events name.
    by_path: HashMap<PathBuf, FileKey>,
    /// The birth of the youngest file that a path has stood for.
    births: HashMap<PathBuf, u128>,
    chases: Vec<Chase>,
    /// Files that were rotated away, read on for a while.
    retired: Vec<Followed>,
    /// Those that were let go: they must not be taken for new ones.
    let_go: VecDeque<FileKey>,
    wake: W,
    last_scan: Option<Instant>,
    next_scan: Instant,
    waiting: HashSet<PathBuf>,
    /// Directories that the wake was asked to watch.
    watched: HashSet<PathBuf>,
    /// Directories that there are no events for, and when they are asked for again.
    polled: HashMap<PathBuf, Instant>,
    no_events_said: HashSet<NoEvents>,
    unreadable: HashSet<PathBuf>,
    notes: Vec<Note>,
    past: SplitStats,
    means: Means,
}

impl<W: Wake> Follower<W> {
    /// A follower that has not looked yet. Files named in `resume` are read on from there, all others from their beginning.
    pub fn new(
        inputs: Vec<Input>,
        resume: Vec<Resume>,
        wake: W,
        is_complete: fn(&[u8]) -> bool,
        now: Instant,
    ) -> Self {
        let mut follower = Self {
            inputs,
            files: HashMap::new(),
            pipes: Vec::new(),
            by_path: HashMap::new(),
            births: HashMap::new(),
            chases: Vec::new(),
            retired: Vec::new(),
            let_go: VecDeque::new(),
            wake,
            last_scan: None,
            next_scan: now,
            waiting: HashSet::new(),
            watched: HashSet::new(),
            polled: HashMap::new(),
            no_events_said: HashSet::new(),
            unreadable: HashSet::new(),
            notes: Vec::new(),
            past: SplitStats::default(),
            means: Means {
                buffer: Pages::new(CHUNK),
                is_complete,
                mounts: Mounts::SYSTEM,
            },
        };
        for file in resume {
            follower.take_over(file, now);
        }
        for input in &follower.inputs {
            if let Input::Pipe(path) = input {
                follower.pipes.push(NamedPipe::new(path, now));
            }
        }
        follower
    }

    /// Asks `mounts` where files lie.
    pub fn set_mounts(&mut self, mounts: Mounts) {
        self.means.mounts = mounts;
    }

    /// Where it is, as far as whole lines go.
    pub fn state(&self) -> FollowerState {
        let of = |file: &Followed, retired: bool| FileState {
            path: file.path.as_os_str().as_bytes().to_vec(),
            key: file.key,
            committed: file.splitter.committed(),
            marker: file.marker,
            known: file.known,
            discarding: file.splitter.is_discarding(),
            generation: file.generation,
            retired,
        };
        let files = self.files.values().map(|file| of(file, false));
        let retired = self.retired.iter().map(|file| of(file, true));
        FollowerState {
            files: files.chain(retired).collect(),
            let_go: self.let_go.iter().copied().collect(),
        }
    }

    /// Goes on where another follower was. What happened to its files meanwhile shows at the first look at each.
    pub fn resume(&mut self, state: FollowerState, now: Instant) {
        self.let_go.extend(state.let_go);
        for saved in state.files {
            let path = PathBuf::from(std::ffi::OsString::from_vec(saved.path.clone()));
            let key = present_key(&path, &saved);

            let mut file = Followed::new(path, key, 0, now);
            file.splitter = LineSplitter::resume(saved.committed, saved.discarding);
            file.marker = saved.marker;
            file.known = saved.known;
            file.generation = saved.generation;
            if saved.retired {
                self.retire(file, now);
                continue;
            }
            let absolute = absolute(&file.path);
            let birth = self.births.entry(absolute.clone()).or_default();
            *birth = key.birth_ns().max(*birth);
            self.by_path.insert(absolute, key);
            self.files.insert(key, file);
        }
    }

    /// A way to end a wait from another thread.
    pub fn wake_handle(&self) -> WakeHandle {
        self.wake.handle()
    }

    /// A file that was read up to here by somebody else. What stands there is marked now, so that a rotation or truncation from
    /// this moment on is seen.
    fn take_over(&mut self, resume: Resume, now: Instant) {
        let Resume { path, key, offset } = resume;
        let absolute = absolute(&path);
        self.births.insert(absolute.clone(), key.birth_ns());
        self.by_path.insert(absolute, key);
        let mut file = Followed::new(path, key, offset, now);
        file.file = open_if(&file.path, key);
        file.file = file.file.or_else(|| find_renamed(&file.path, key));
        // A file that cannot be read now is told when it is looked at.
        let _ = file.mark();
        file.file = None;
        self.files.insert(key, file);
    }

    fn note_unreadable(&mut self, path: &Path, error: &io::Error) {
        if self.unreadable.insert(path.to_owned()) {
            let path = path.display().to_string();
            self.notes.push(Note::Unreadable {
                path,
                reason: reason(error),
            });
        }
    }

    /// Asks the file system about one file and reads what is new. True if there is more to read at once.
    fn reconcile(&mut self, key: FileKey, now: Instant, emit: &mut dyn FnMut(Line<'_>)) -> bool {
        let Some(file) = self.files.get_mut(&key) else {
            return false;
        };
        let path = file.path.clone();
        match fs::metadata(&path) {
            Ok(meta) if FileKey::of(&meta) == key => {
                let looked = file.look(&meta, now, &mut self.means, emit);
                self.settle(key, &path, looked, now)
            }
            // Another file stands under the name: the rest of the old one first, then the new one from its beginning.
            Ok(meta) => {
                let drained = file.drain(now, &mut self.means, emit);
                if self.settle(key, &path, drained, now) {
                    return true;
                }
                if meta.is_file() {
                    self.adopt(path, FileKey::of(&meta), now);
                }
                meta.is_file()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let drained = file.drain(now, &mut self.means, emit);
                if self.settle(key, &path, drained, now) {
                    return true;
                }
                self.by_path.remove(&absolute(&path));
                if let Some(gone) = self.files.remove(&key) {
                    self.retire(gone, now);
                }
                self.scan_soon(now);
                false
            }
            Err(error) => self.settle(key, &path, Err(error), now),
        }
    }

    /// Says once that a file cannot be read, and that it could again.
    fn settle(
        &mut self,
        key: FileKey,
        path: &Path,
        looked: io::Result<Looked>,
        now: Instant,
    ) -> bool {
        match looked {
            Ok(looked) => {
                self.unreadable.remove(path);
                if looked.truncated {
                    self.notes.push(Note::Truncated(path.display().to_string()));
                }
                if let Some(before) = looked.before {
                    for copy in self.find_copies(path, &before, now) {
                        self.retire(copy, now);
                    }
                }
                looked.more
            }
            Err(error) => {
                if let Some(file) = self.files.get_mut(&key) {
                    file.unreadable = true;
                    file.file = None;
                }
                self.note_unreadable(path, &error);
                false
            }
        }
    }
}

impl<W: Wake> Source for Follower<W> {
    fn read(&mut self, now: Instant, emit: &mut dyn FnMut(Line<'_>)) -> io::Result<Progress> {
        if self.next_scan <= now {
            self.scan(now);
        }
        let due: Vec<FileKey> = self
            .files
            .values()
            .filter(|file| file.next_look <= now)
            .map(|file| file.key)
            .collect();
        let mut more = false;
        for key in due {
            if self.reconcile(key, now, emit) {
                more = true;
                // There is more to be read at once, whatever the pause between two looks.
                if let Some(file) = self.files.get_mut(&key) {
                    file.next_look = now;
                }
            } else if let Some(file) = self
                .files
                .get_mut(&key)
                .filter(|file| file.next_look <= now)
            {
                file.next_look = now + IDLE_EVERY;
            }
        }
        more |= self.read_retired(now, emit);
        for pipe in &mut self.pipes {
            match pipe.read(now, &mut self.means.buffer, emit) {
                Ok(is_more) => more |= is_more,
                Err(error) => {
                    let path = pipe.path.clone();
                    self.note_unreadable(&path, &error);
                    break;
                }
            }
        }
        Ok(if more {
            Progress::More
        } else {
            Progress::CaughtUp
        })
    }

    fn wait(&mut self, at_most: Duration) {
        let now = Instant::now();
        let looks = self
            .files
            .values()
            .chain(&self.retired)
            .map(|file| file.next_look);
        let pipes = self.pipes.iter().map(|pipe| pipe.next_look);
        let next = looks
            .chain(pipes)
            .chain([self.next_scan])
            .min()
            .unwrap_or(now);

        let woken = self
            .wake
            .wait(at_most.min(next.saturating_duration_since(now)));
        if woken.all {
            self.look_at_all(now);
        }
        for path in &woken.paths {
            for pipe in &mut self.pipes {
                if absolute(&pipe.path) == *path {
                    pipe.next_look = now;
                }
            }
            match self
                .by_path
                .get(path)
                .and_then(|key| self.files.get_mut(key))
            {
                Some(file) => file.next_look = now,
                None if !woken.names.contains(path) => self.look_at_file_of(path, now),
                None => self.look_around(path, now),
            }
        }
    }

    fn look_again(&mut self) {
        self.look_at_all(Instant::now());
    }

    fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    fn stats(&self) -> SplitStats {
        let mut stats = self.past;
        for file in self.files.values().chain(&self.retired) {
            stats.add(file.stats());
        }
        for pipe in &self.pipes {
            stats.add(pipe.splitter.stats());
        }
        stats
    }

    fn n_files(&self) -> usize {
        self.files.len() + self.pipes.len()
    }

    fn state(&self) -> Option<FollowerState> {
        Some(Follower::state(self))
    }

    fn status(&self) -> Vec<FileStatus> {
        let status = |file: &Followed| FileStatus {
            by_events: self.has_events(&file.path),
            ..file.status()
        };
        let mut files: Vec<FileStatus> = self.files.values().map(status).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.extend(self.retired.iter().map(status));
        files.extend(self.pipes.iter().map(|pipe| FileStatus {
            path: pipe.path.display().to_string(),
            offset: pipe.splitter.committed(),
            size: None,
            generation: 0,
            by_events: self.has_events(&pipe.path),
        }));
        files
    }
}

impl<W: Wake> Follower<W> {
    fn look_at_all(&mut self, now: Instant) {
        self.next_scan = now;
        for file in self.files.values_mut().chain(&mut self.retired) {
            file.next_look = now;
        }
    }

    /// A file has grown whose path is not one of ours. It may still be one of ours by another name; if not, it may grow as it
    /// likes.
    fn look_at_file_of(&mut self, path: &Path, now: Instant) {
        let Ok(meta) = fs::metadata(path) else {
            return self.look_around(path, now);
        };
        let key = FileKey::of(&meta);
        let retired = self.retired.iter_mut().filter(|file| file.key == key);
        for file in self.files.get_mut(&key).into_iter().chain(retired) {
            file.next_look = now;
        }
    }

    /// An event for a path that is not followed: a file may have come, or a file that is followed has gone there.
    fn look_around(&mut self, path: &Path, now: Instant) {
        self.scan_soon(now);
        for file in &mut self.retired {
            if file.path.parent() == path.parent() {
                file.next_look = now;
            }
        }
    }
}
