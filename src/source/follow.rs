//! Growing files as one perpetual stream of lines.
//!
//! Polling is the truth: active files are looked at every quarter of a second, idle ones and directories every two seconds.
//! File events only make it faster. [`Follower::reconcile`] is the one place that reads, and it asks the file system what is so
//! rather than trusting what it was told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::discover::{Input, Names, discover};
use super::file::{
    ACTIVE_EVERY, Before, FileState, Followed, IDLE_EVERY, Looked, Means, present_key,
};
use super::identity::FileKey;
use super::lines::SplitStats;
use super::mount::{Mount, Mounts};
use super::named_pipe::NamedPipe;
use super::pages::Pages;
use super::siblings::{absolute, entries, find_renamed, open_if, siblings};
use super::wake::{Refusal, Wake, WakeHandle, Watching};
use super::{FileStatus, Line, LineSplitter, Progress, Source, reason};

/// The same where there are very many of them.
const MANY_FILES: usize = 2000;
const MANY_IDLE_EVERY: Duration = Duration::from_secs(4);

/// Events ask for scans; this much time lies between two of them.
const SCAN_PAUSE: Duration = Duration::from_millis(100);

/// A file that was rotated away is read on for this long after it last grew: its writer may not have noticed yet.
const ROTATE_WAIT: Duration = Duration::from_mins(1);

/// Files that were rotated away are kept open, but no more than these. Others are found again by their identity.
const MAX_RETIRED_OPEN: usize = 64;

/// No more than these are read on.
const MAX_RETIRED: usize = 1024;

/// What was rotated away is looked for during this time.
const CHASE_FOR: Duration = Duration::from_secs(10);

/// A file that was not found so often after it lost its name is gone.
const LOST_LOOKS: u8 = 4;

/// Identities of files that are no longer read, remembered so that they are not read again.
const MAX_LET_GO: usize = 1024;

const CHUNK: usize = 256 << 10;

/// Events that the system could not give are asked for again after this long.
const ASK_AGAIN: Duration = Duration::from_mins(5);

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

/// Where files that were rotated away are looked for.
#[derive(Debug)]
struct Chase {
    path: PathBuf,
    /// They are born since then.
    since: u128,
    until: Instant,
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

    /// Looks for files that were not there before. Directories are watched before they are searched again, so that nothing
    /// slips in between.
    fn scan(&mut self, now: Instant) {
        let (mut found, dirs, mut errors) = discover(&self.inputs, Names::Live);
        let pause = if found.len() > MANY_FILES {
            MANY_IDLE_EVERY
        } else {
            IDLE_EVERY
        };
        let there = dirs.into_iter().filter(|dir| dir.is_dir());
        let mut any_new = false;
        for dir in there
            .chain(self.missing_parents())
            .map(|dir| absolute(&dir))
        {
            self.watch(&dir, now);
            any_new |= self.watched.insert(dir);
        }
        if any_new {
            (found, _, errors) = discover(&self.inputs, Names::Live);
        }
        for file in found {
            let known = self
                .files
                .get_mut(&file.key)
                .filter(|known| known.path == file.path);
            match known {
                // Nothing has changed: there is no need to ask again.
                Some(known) if known.is_settled(file.appearance) => {
                    known.next_look = now + pause;
                }
                Some(_) => {}
                None => {
                    let path = absolute(&file.path);
                    if self.by_path.get(&path) != Some(&file.key) {
                        self.adopt(file.path, file.key, now);
                    }
                }
            }
        }
        for (path, error) in errors {
            self.note_unreadable(&path, &error);
        }
        self.note_missing();
        self.chase_again(now);
        self.last_scan = Some(now);
        self.next_scan = now + pause;
    }

    /// Asks for the events of a directory, and says once for each reason that there are none.
    fn watch(&mut self, dir: &Path, now: Instant) {
        if self.polled.get(dir).is_some_and(|again| now < *again) {
            return;
        }
        let mount = if self.watched.contains(dir) && !self.polled.contains_key(dir) {
            Mount::Local
        } else {
            (self.means.mounts.of_path)(dir)
        };
        let reason = match mount {
            Mount::Remote(kind) => Some(NoEvents::Remote(kind)),
            Mount::Local => match self.wake.watch(dir) {
                Watching::Events => {
                    self.polled.remove(dir);
                    return;
                }
                Watching::Gone => return,
                Watching::Unwanted => None,
                Watching::Refused(refusal) => Some(NoEvents::Refused(refusal)),
            },
        };
        self.polled.insert(dir.to_owned(), now + ASK_AGAIN);
        if let Some(reason) = reason.filter(|reason| self.no_events_said.insert(*reason)) {
            let dir = dir.display().to_string();
            self.notes.push(Note::Polling { dir, reason });
        }
    }

    /// Whether changes of a file are told of by events.
    fn has_events(&self, path: &Path) -> bool {
        let path = absolute(path);
        let dir = path.parent().unwrap_or(Path::new("/"));
        self.watched.contains(dir) && !self.polled.contains_key(dir)
    }

    /// Asks for a scan, though not for one at each of many events.
    fn scan_soon(&mut self, now: Instant) {
        let earliest = self.last_scan.map_or(now, |last| last + SCAN_PAUSE);
        self.next_scan = self.next_scan.min(earliest.max(now));
    }

    /// The nearest existing directories above named paths that are not there.
    fn missing_parents(&self) -> Vec<PathBuf> {
        let named = self.inputs.iter().filter_map(|input| match input {
            Input::File(path) | Input::Dir(path) => Some(path),
            Input::Glob { base, .. } => Some(base),
            Input::Stdin | Input::Pipe(_) => None,
        });
        let nearest = |path: &PathBuf| {
            path.ancestors()
                .skip(1)
                .find(|dir| dir.is_dir())
                .map(Path::to_owned)
        };
        named
            .filter(|path| !path.exists())
            .filter_map(nearest)
            .collect()
    }

    /// A file that is new under its path: quite new, moved here, or in place of another.
    fn adopt(&mut self, path: PathBuf, key: FileKey, now: Instant) {
        if let Some(old) = self.by_path.insert(absolute(&path), key)
            && self.files.get(&old).is_some_and(|file| file.path == path)
            && let Some(replaced) = self.files.remove(&old)
        {
            self.retire(replaced, now);
        }
        if let Some(file) = self.files.get_mut(&key) {
            // Known under another name: it was moved, or it has two.
            file.path = path;
            return;
        }
        if let Some(at) = self.retired.iter().position(|file| file.key == key) {
            let mut file = self.retired.swap_remove(at);
            file.path = path;
            self.files.insert(key, file);
            return;
        }
        self.chase(&path, key, now);
        self.files.insert(key, Followed::new(path, key, 0, now));
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

    /// A path may have been rotated more than once since we last looked: files that stood there meanwhile, or copies of them,
    /// have other names by now. They are the unknown siblings that were born since the last file we knew there. A directory
    /// whose files are being renamed may not show all of them, so they are looked for again for a while.
    fn chase(&mut self, path: &Path, key: FileKey, now: Instant) {
        let Some(last) = self.births.insert(absolute(path), key.birth_ns()) else {
            return;
        };
        let until = now + CHASE_FOR;
        match self.chases.iter_mut().find(|chase| chase.path == path) {
            Some(chase) => chase.until = until,
            None => self.chases.push(Chase {
                path: path.to_owned(),
                since: last,
                until,
            }),
        }
        self.look_for_missed(path, last, Some(key), now);
    }

    /// Looks again for what was rotated away.
    fn chase_again(&mut self, now: Instant) {
        for chase in std::mem::take(&mut self.chases) {
            let live = self.by_path.get(&absolute(&chase.path)).copied();
            self.look_for_missed(&chase.path, chase.since, live, now);
            if chase.until > now {
                self.chases.push(chase);
            }
        }
    }

    fn look_for_missed(&mut self, path: &Path, last: u128, live: Option<FileKey>, now: Instant) {
        // The clock of a file system is coarse: files made one after another may share a birth.
        let since = |birth: u128| birth > 0 && birth >= last;
        let mut missed: Vec<(PathBuf, FileKey)> = siblings(path)
            .into_iter()
            .filter(|(_, other)| {
                Some(*other) != live && since(other.birth_ns()) && !self.is_known(*other)
            })
            .collect();
        missed.sort_by_key(|(_, key)| key.birth_ns());
        for (path, key) in missed {
            let mut file = Followed::new(path, key, 0, now);
            file.file = open_if(&file.path, key);
            self.retire(file, now);
        }
    }

    fn is_known(&self, key: FileKey) -> bool {
        self.files.contains_key(&key)
            || self.retired.iter().any(|file| file.key == key)
            || self.let_go.contains(&key)
    }

    /// Keeps the figures of a file that is no longer read, and its identity for a while.
    fn let_go(&mut self, file: &Followed) {
        self.past.add(file.stats());
        if self.let_go.len() == MAX_LET_GO {
            self.let_go.pop_front();
        }
        self.let_go.push_back(file.key);
    }

    /// Keeps a file that was rotated away or removed, to read what is still written to it.
    fn retire(&mut self, mut file: Followed, now: Instant) {
        if file.file.is_none() {
            // It was idle and closed. Its new name is in the same directory as a rule; if it does not show, it may yet.
            file.file = find_renamed(&file.path, file.key);
        }
        if self.retired.len() == MAX_RETIRED {
            let oldest = self.retired.remove(0);
            self.let_go(&oldest);
        }
        let n_open = self.retired.iter().filter(|file| file.file.is_some());
        if n_open.count() >= MAX_RETIRED_OPEN {
            let oldest = self.retired.iter_mut().find(|file| file.file.is_some());
            if let Some(oldest) = oldest {
                oldest.file = None;
            }
        }
        file.next_look = now;
        file.last_growth = Some(now);
        self.retired.push(file);
    }

    fn note_missing(&mut self) {
        for input in &self.inputs {
            let (path, there) = match input {
                Input::File(path) => (path.clone(), path.exists()),
                Input::Dir(path) => (path.clone(), path.is_dir()),
                Input::Glob { pattern, .. } => {
                    let mut files = self.files.values();
                    let any = files.any(|file| pattern.matches_path(&file.path));
                    (PathBuf::from(pattern.text()), any)
                }
                Input::Stdin | Input::Pipe(_) => continue,
            };
            let name = path.display().to_string();
            if there {
                if self.waiting.remove(&path) {
                    self.notes.push(Note::Appeared(name));
                }
            } else if self.waiting.insert(path) {
                self.notes.push(Note::Waiting(name));
            }
        }
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

    /// A file is truncated after it was copied, as a rule: a copy that begins as it did holds what was written between our last
    /// look and that. There may have been several such rounds: what else was born since then holds what we never saw.
    fn find_copies(&self, path: &Path, before: &Before, now: Instant) -> Vec<Followed> {
        let mut unknown = siblings(path);
        unknown.retain(|(_, key)| !self.is_known(*key));
        unknown.sort_by_key(|(_, key)| key.birth_ns());
        let mut copies = Vec::new();
        for (path, key) in unknown {
            let Ok(file) = File::open(&path) else {
                continue;
            };
            let goes_on = before
                .marker
                .filter(|marker| marker.holds(&file).is_ok_and(|holds| holds));
            let is_new = before
                .seen
                .is_some_and(|seen| key.birth_ns() >= seen.changed_ns());
            if goes_on.is_none() && !is_new {
                continue;
            }
            let from = goes_on.map_or(0, |marker| marker.offset());
            let mut copy = Followed::new(path, key, from, now);
            copy.file = Some(file);
            copy.marker = goes_on;
            copies.push(copy);
        }
        copies
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

    /// Reads on in the files that were rotated away, and lets go of those that no longer grow.
    fn read_retired(&mut self, now: Instant, emit: &mut dyn FnMut(Line<'_>)) -> bool {
        let mut more = false;
        let mut copied = Vec::new();
        let mut listings: HashMap<PathBuf, HashMap<FileKey, PathBuf>> = HashMap::new();
        for file in &mut self.retired {
            if file.next_look <= now {
                let was_open = file.file.is_some();
                file.next_look = now + if was_open { ACTIVE_EVERY } else { IDLE_EVERY };
                if !was_open {
                    let dir = file.path.parent().unwrap_or(Path::new("")).to_owned();
                    let listing = listings.entry(dir).or_insert_with(|| {
                        entries(&file.path).map(|(path, key)| (key, path)).collect()
                    });
                    let there = listing.get(&file.key);
                    file.file = there.and_then(|path| open_if(path, file.key));
                    if file.file.is_none() {
                        file.lost += 1;
                        continue;
                    }
                }
                // One that cannot be read any more is let go in time.
                let Ok(looked) = file.drain(now, &mut self.means, emit) else {
                    continue;
                };
                if !was_open {
                    file.file = None;
                }
                if looked.more {
                    file.next_look = now;
                    more = true;
                }
                copied.extend(looked.before.map(|before| (file.path.clone(), before)));
            }
        }
        for (path, before) in copied {
            for copy in self.find_copies(&path, &before, now) {
                self.retire(copy, now);
                more = true;
            }
        }
        let is_complete = self.means.is_complete;
        let over =
            |file: &mut Followed| file.lost >= LOST_LOOKS || !file.grew_within(ROTATE_WAIT, now);
        for mut file in self.retired.extract_if(.., over).collect::<Vec<_>>() {
            if is_complete(file.splitter.partial()) {
                file.take_partial(emit);
            }
            self.let_go(&file);
        }
        more
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
