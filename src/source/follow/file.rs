//! One file that is followed: what is known of it, and what a look at it brings.
//!
//! Knows one file and the bytes in it. Which files there are, and which of them are due, is the follower's business.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::mount::{Mount, Mounts};
use super::siblings::{find_renamed, is_file};
use crate::source::identity::{Appearance, FileKey, Marker};
use crate::source::lines::SplitStats;
use crate::source::pages::Pages;
use crate::source::{FileStatus, Line, LineSplitter, SourceInfo, lines_of};

/// Files that grew within `ACTIVE_FOR` are looked at this often.
pub(super) const ACTIVE_EVERY: Duration = Duration::from_millis(250);
const ACTIVE_FOR: Duration = Duration::from_mins(1);

/// Other files, and the directories, are looked at this often.
pub(super) const IDLE_EVERY: Duration = Duration::from_secs(2);

/// A last line without a line feed is taken after this long without growth, if it is whole.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// A remote file that looks shorter than what was read of it must look so for this long: its size may be out of date.
const SHORTER_FOR: Duration = Duration::from_millis(3500);

/// No file is read further than this in one go, so that none keeps others waiting.
pub(super) const MAX_BYTES_AT_ONCE: u64 = 4 << 20;

/// What reading needs besides the file.
pub(super) struct Means {
    /// Shared by all files.
    pub(super) buffer: Pages,
    /// Whether bytes are a whole line though no line feed follows.
    pub(super) is_complete: fn(&[u8]) -> bool,
    pub(super) mounts: Mounts,
}

/// Where it is with one file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileState {
    /// The bytes of its path.
    pub(super) path: Vec<u8>,
    pub(super) key: FileKey,
    pub(super) committed: u64,
    pub(super) marker: Option<Marker>,
    pub(super) known: Option<Appearance>,
    pub(super) discarding: bool,
    pub(super) generation: u32,
    /// It had lost its name.
    pub(super) retired: bool,
}

/// One file that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) info: Arc<SourceInfo>,
    pub(super) path: PathBuf,
    pub(super) key: FileKey,
    /// Open while it grows.
    pub(super) file: Option<File>,
    pub(super) splitter: LineSplitter,
    pub(super) marker: Option<Marker>,
    /// How it looked when all of it was read.
    pub(super) seen: Option<Appearance>,
    /// The same, also of an earlier run.
    pub(super) known: Option<Appearance>,
    /// When it last grew while we watched.
    pub(super) last_growth: Option<Instant>,
    pub(super) next_look: Instant,
    pub(super) unreadable: bool,
    /// Figures of earlier generations of the file.
    pub(super) past: SplitStats,
    /// How often it was found truncated or rewritten.
    pub(super) generation: u32,
    /// How often it was looked for, after it had lost its name, and not found.
    pub(super) lost: u8,
    /// Whether it lies elsewhere, once that was asked.
    is_remote: Option<bool>,
    /// Since when it has looked shorter than what was read of it.
    shorter_since: Option<Instant>,
}

/// What a look at a file has brought.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) more: bool,
    /// It was truncated or rewritten.
    pub(super) truncated: bool,
    /// It may have been copied and truncated since.
    pub(super) before: Option<Before>,
}

/// What was known of a file before it was truncated.
pub(super) struct Before {
    pub(super) marker: Option<Marker>,
    pub(super) seen: Option<Appearance>,
}

impl Followed {
    pub(super) fn new(path: PathBuf, key: FileKey, offset: u64, now: Instant) -> Self {
        Self {
            info: SourceInfo::file(&path),
            path,
            key,
            file: None,
            splitter: LineSplitter::at(offset),
            marker: None,
            seen: None,
            known: None,
            last_growth: None,
            next_look: now,
            unreadable: false,
            past: SplitStats::default(),
            generation: 0,
            lost: 0,
            is_remote: None,
            shorter_since: None,
        }
    }

    pub(super) fn stats(&self) -> SplitStats {
        let mut stats = self.past;
        stats.add(self.splitter.stats());
        stats
    }

    pub(super) fn status(&self) -> FileStatus {
        let open = self.file.as_ref().and_then(|file| file.metadata().ok());
        let named = || {
            let meta = fs::metadata(&self.path).ok()?;
            (FileKey::of(&meta) == self.key).then_some(meta)
        };
        FileStatus {
            path: self.path.display().to_string(),
            offset: self.splitter.committed(),
            size: open
                .or_else(named)
                .or_else(|| find_renamed(&self.path, self.key)?.metadata().ok())
                .map(|meta| meta.len()),
            generation: self.generation,
            by_events: false,
        }
    }

    /// All of it was read when it looked like this, and no line is left without an end.
    pub(super) fn is_settled(&self, appearance: Appearance) -> bool {
        self.seen == Some(appearance)
            && self.file.is_none()
            && !self.unreadable
            && self.splitter.partial().is_empty()
    }

    pub(super) fn grew_within(&self, time: Duration, now: Instant) -> bool {
        self.last_growth
            .is_some_and(|growth| now.duration_since(growth) < time)
    }

    pub(super) fn look(
        &mut self,
        meta: &Metadata,
        now: Instant,
        means: &mut Means,
        emit: &mut dyn FnMut(Line<'_>),
    ) -> io::Result<Looked> {
        let changed = self.seen != Some(Appearance::of(meta)) || self.unreadable;
        let mut looked = Looked::default();
        if changed {
            let file = match self.file.take() {
                Some(file) => file,
                None => File::open(&self.path)?,
            };
            if !is_file(&file, self.key) {
                // Another has taken its name this very moment, which shows at the next look.
                return Ok(looked);
            }
            self.unreadable = false;

            looked = self.catch_up(file, meta, now, means, emit)?;
        }
        let quiet = !self.grew_within(QUIET_FOR, now);
        let partial = self.splitter.partial();
        if quiet && !partial.is_empty() && (means.is_complete)(partial) {
            self.take_partial(emit);
            self.mark()?;
        }
        let active = self.grew_within(ACTIVE_FOR, now) || self.shorter_since.is_some();
        if !active {
            self.file = None;
        }
        self.next_look = now + if active { ACTIVE_EVERY } else { IDLE_EVERY };
        Ok(looked)
    }

    /// Reads what is new in a file that has changed, from its beginning if it was truncated or rewritten.
    pub(super) fn catch_up(
        &mut self,
        file: File,
        meta: &Metadata,
        now: Instant,
        means: &mut Means,
        emit: &mut dyn FnMut(Line<'_>),
    ) -> io::Result<Looked> {
        let mut looked = Looked::default();
        if self.may_be_out_of_date(&file, meta.len(), now, means.mounts)? {
            self.file = Some(file);
            return Ok(looked);
        }
        let intact = match &self.marker {
            Some(marker) => marker.holds(&file)?,
            None => true,
        } && self.partial_holds(&file)?;
        looked.truncated = !intact || meta.len() < self.splitter.position();
        // A file that was empty may have been written, copied and emptied again: that does not show in it.
        let was_empty = self.splitter.position() == 0 && self.known.is_some();
        if looked.truncated || was_empty {
            looked.before = Some(Before {
                marker: self.marker,
                seen: self.known,
            });
        }
        if looked.truncated {
            self.restart();
        }
        self.file = Some(file);
        let end = if self.is_remote == Some(true) {
            meta.len()
        } else {
            u64::MAX
        };
        looked.more = self.read(end, now, &mut means.buffer, emit)?;
        self.seen = (!looked.more).then(|| Appearance::of(meta));
        self.known = self.seen.or(self.known);
        Ok(looked)
    }

    /// Whether a remote file only looks shorter than it is: sizes of such files come late, and what was read is not read again
    /// for that. It is believed when it has looked so for long enough, or at once if other bytes stand at its beginning.
    fn may_be_out_of_date(
        &mut self,
        file: &File,
        size: u64,
        now: Instant,
        mounts: Mounts,
    ) -> io::Result<bool> {
        let is_remote = *self
            .is_remote
            .get_or_insert_with(|| (mounts.of_file)(file) != Mount::Local);
        if !is_remote || size >= self.splitter.position() {
            self.shorter_since = None;
            return Ok(false);
        }
        if let Some(marker) = &self.marker
            && !marker.begins(file)?
        {
            return Ok(false);
        }
        let since = *self.shorter_since.get_or_insert(now);
        Ok(now.duration_since(since) < SHORTER_FOR)
    }

    /// Whether what was read of a line that has not ended still stands there.
    pub(super) fn partial_holds(&self, file: &File) -> io::Result<bool> {
        const ENOUGH: usize = 4096;
        let partial = self.splitter.partial();
        let length = partial.len().min(ENOUGH);
        let end = self.splitter.position();
        let ends = [
            (self.splitter.committed(), &partial[..length]),
            (end - length as u64, &partial[partial.len() - length..]),
        ];
        let mut there = [0; ENOUGH];
        for (offset, expected) in ends {
            let there = &mut there[..length];
            match file.read_exact_at(there, offset) {
                Ok(()) if there == expected => {}
                Ok(()) => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Begins a new generation: what was read is no longer there.
    pub(super) fn restart(&mut self) {
        self.past.add(self.splitter.stats());
        self.generation += 1;
        self.shorter_since = None;
        self.splitter = LineSplitter::default();
        self.marker = None;
    }

    /// Reads to the end, but not beyond `end`, or a fair share. True if there is more.
    fn read(
        &mut self,
        end: u64,
        now: Instant,
        buffer: &mut [u8],
        emit: &mut dyn FnMut(Line<'_>),
    ) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let source = &self.info;
        let start = self.splitter.position();
        let mut more = false;
        loop {
            let position = self.splitter.position();
            if position - start >= MAX_BYTES_AT_ONCE {
                more = true;
                break;
            }
            let room = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
            let room = room.min(buffer.len());
            match file.read_at(&mut buffer[..room], position) {
                Ok(0) => break,
                Ok(n) => {
                    self.last_growth = Some(now);
                    self.splitter.push(&buffer[..n], lines_of(source, emit));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.mark()?;
        Ok(more)
    }

    pub(super) fn mark(&mut self) -> io::Result<()> {
        let committed = self.splitter.committed();
        let stale = self
            .marker
            .is_none_or(|marker| marker.offset() != committed);
        if let Some(file) = self.file.as_ref().filter(|_| stale && committed > 0) {
            self.marker = Some(Marker::take(file, committed)?);
        }
        Ok(())
    }

    /// Reads what is left of a file that has lost its name.
    pub(super) fn drain(
        &mut self,
        now: Instant,
        means: &mut Means,
        emit: &mut dyn FnMut(Line<'_>),
    ) -> io::Result<Looked> {
        let file = self
            .file
            .take()
            .or_else(|| find_renamed(&self.path, self.key));
        let Some(file) = file else {
            return Ok(Looked::default());
        };
        let meta = file.metadata()?;
        if self.seen == Some(Appearance::of(&meta)) {
            self.file = Some(file);
            return Ok(Looked::default());
        }
        self.catch_up(file, &meta, now, means, emit)
    }

    pub(super) fn take_partial(&mut self, emit: &mut dyn FnMut(Line<'_>)) {
        let source = &self.info;
        self.splitter.finish(lines_of(source, emit));
    }
}

/// The identity under which a file is known now. It may be that of before; with another number of its device; or, if that
/// file is nowhere, that of another with the same content: a copy that has taken its place.
pub(super) fn present_key(path: &Path, saved: &FileState) -> FileKey {
    let Ok(meta) = fs::metadata(path) else {
        return saved.key;
    };
    let now = FileKey::of(&meta);
    if now == saved.key || saved.retired {
        return saved.key;
    }
    if now.is_renumbered(&saved.key) {
        return now;
    }
    let is_gone = find_renamed(path, saved.key).is_none();
    let same = || {
        let file = File::open(path).ok()?;
        saved.marker?.holds(&file).ok()
    };
    if is_gone && same() == Some(true) {
        now
    } else {
        saved.key
    }
}
