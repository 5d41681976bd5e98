//! Files that have lost their names: read on for a while, looked for where they went, let go in the end.
//!
//! Knows nothing of inputs; what stands under a name now is for `scan`.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Follower;
use super::file::{ACTIVE_EVERY, Before, Followed, IDLE_EVERY};
use super::siblings::{absolute, entries, find_renamed, open_if, siblings};
use super::wake::Wake;
use crate::source::Line;
use crate::source::identity::FileKey;

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

/// Where files that were rotated away are looked for.
#[derive(Debug)]
pub(super) struct Chase {
    path: PathBuf,
    /// They are born since then.
    since: u128,
    until: Instant,
}

impl<W: Wake> Follower<W> {
    /// A path may have been rotated more than once since we last looked: files that stood there meanwhile, or copies of them,
    /// have other names by now. They are the unknown siblings that were born since the last file we knew there. A directory
    /// whose files are being renamed may not show all of them, so they are looked for again for a while.
    pub(super) fn chase(&mut self, path: &Path, key: FileKey, now: Instant) {
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
    pub(super) fn chase_again(&mut self, now: Instant) {
        for chase in std::mem::take(&mut self.chases) {
            let live = self.by_path.get(&absolute(&chase.path)).copied();
            self.look_for_missed(&chase.path, chase.since, live, now);
            if chase.until > now {
                self.chases.push(chase);
            }
        }
    }

    pub(super) fn look_for_missed(
        &mut self,
        path: &Path,
        last: u128,
        live: Option<FileKey>,
        now: Instant,
    ) {
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

    pub(super) fn is_known(&self, key: FileKey) -> bool {
        self.files.contains_key(&key)
            || self.retired.iter().any(|file| file.key == key)
            || self.let_go.contains(&key)
    }

    /// Keeps the figures of a file that is no longer read, and its identity for a while.
    pub(super) fn let_go(&mut self, file: &Followed) {
        self.past.add(file.stats());
        if self.let_go.len() == MAX_LET_GO {
            self.let_go.pop_front();
        }
        self.let_go.push_back(file.key);
    }

    /// Keeps a file that was rotated away or removed, to read what is still written to it.
    pub(super) fn retire(&mut self, mut file: Followed, now: Instant) {
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

    /// A file is truncated after it was copied, as a rule: a copy that begins as it did holds what was written between our last
    /// look and that. There may have been several such rounds: what else was born since then holds what we never saw.
    pub(super) fn find_copies(&self, path: &Path, before: &Before, now: Instant) -> Vec<Followed> {
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

    /// Reads on in the files that were rotated away, and lets go of those that no longer grow.
    pub(super) fn read_retired(&mut self, now: Instant, emit: &mut dyn FnMut(Line<'_>)) -> bool {
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
