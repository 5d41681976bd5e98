//! What is there to be followed: files that come, directories that are watched, paths that are waited for.
//!
//! Does not read; what becomes of a file that has lost its name is for `rotated`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file::{Followed, IDLE_EVERY};
use super::mount::Mount;
use super::siblings::absolute;
use super::wake::{Wake, Watching};
use super::{Follower, NoEvents, Note};
use crate::source::discover::{Input, Names, discover};
use crate::source::identity::FileKey;

/// Where there are very many files they are looked for less often.
const MANY_FILES: usize = 2000;
const MANY_IDLE_EVERY: Duration = Duration::from_secs(4);

/// Events ask for scans; this much time lies between two of them.
const SCAN_PAUSE: Duration = Duration::from_millis(100);

/// Events that the system could not give are asked for again after this long.
const ASK_AGAIN: Duration = Duration::from_mins(5);

impl<W: Wake> Follower<W> {
    /// Looks for files that were not there before. Directories are watched before they are searched again, so that nothing
    /// slips in between.
    pub(super) fn scan(&mut self, now: Instant) {
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
    pub(super) fn watch(&mut self, dir: &Path, now: Instant) {
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
    pub(super) fn has_events(&self, path: &Path) -> bool {
        let path = absolute(path);
        let dir = path.parent().unwrap_or(Path::new("/"));
        self.watched.contains(dir) && !self.polled.contains_key(dir)
    }

    /// Asks for a scan, though not for one at each of many events.
    pub(super) fn scan_soon(&mut self, now: Instant) {
        let earliest = self.last_scan.map_or(now, |last| last + SCAN_PAUSE);
        self.next_scan = self.next_scan.min(earliest.max(now));
    }

    /// The nearest existing directories above named paths that are not there.
    pub(super) fn missing_parents(&self) -> Vec<PathBuf> {
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
    pub(super) fn adopt(&mut self, path: PathBuf, key: FileKey, now: Instant) {
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

    pub(super) fn note_missing(&mut self) {
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
}
