//! The `--state` file: one snapshot, replaced as a whole or not at all.
//!
//! Knows bytes only. The file begins with a line that tells its length and hash, so that one that was cut, overwritten or
//! written by another version is told from a good one; such a file is moved aside and never stands in the way.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::reason;

/// Version of the shape of the file. A test (`tests/state.rs`) tells when it has to be raised.
const VERSION: u32 = 28;

const MAGIC: &str = "claude-tokmon";

/// By this variable a test ends the program in the middle of writing.
const FAIL_POINT: &str = "CLAUDE_TOKMON_FAIL_POINT";

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    magic: String,
    v: u32,
    len: u64,
    xxh3: u64,
}

/// What stood in the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded {
    /// There is no such file yet.
    Nothing,
    /// A whole snapshot.
    Snapshot(Vec<u8>),
    /// It cannot be used and was moved aside.
    Unusable {
        /// What is wrong with it.
        reason: String,
        /// Where it is now.
        moved_to: String,
    },
}

/// Another program holds the file, or it cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another instance is running.
    #[error(
        "{0} is in use by another claude-tokmon; give each its own --state file, or end the other one"
    )]
    Busy(String),
    /// The file cannot be made or held there.
    #[error("cannot use {path} as --state: {reason}")]
    Unusable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// How writing goes.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// When a snapshot was last written.
    pub at: Option<Instant>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// A state file that is held for as long as this lives.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// The lock ends with the process, however it ends.
    _lock: File,
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    next: Option<Vec<u8>>,
    busy: bool,
    over: bool,
    written: Written,
}

impl StateFile {
    /// Holds the file, and makes its directory if need be.
    ///
    /// # Errors
    /// If another instance holds it or it cannot be written there.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |e: io::Error| StateError::Unusable {
            path: path.display().to_string(),
            reason: reason(&e),
        };
        // A device may be read for ever, and a pipe keeps nothing.
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            return Err(unusable(io::Error::other("it is no plain file")));
        }
        let dir = folder(path);
        if !dir.is_dir() {
            use std::os::unix::fs::DirBuilderExt;
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(dir).map_err(unusable)?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(with_suffix(path, ".lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StateError::Busy(path.display().to_string()));
            }
            Err(fs::TryLockError::Error(e)) => return Err(unusable(e)),
        }
        remove_leftovers(path);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let target = path.to_owned();
        let worker = std::thread::spawn(move || work(&theirs, &target));
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            shared,
            worker: Some(worker),
        })
    }

    /// Reads the snapshot. What cannot be used is moved aside.
    pub fn load(&self) -> Loaded {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Loaded::Nothing,
            Err(e) => return self.set_aside(&reason(&e)),
        };
        match body(&bytes) {
            Ok(body) => Loaded::Snapshot(body.to_vec()),
            Err(reason) => self.set_aside(reason),
        }
    }

    /// Moves the file aside, because what is in it is of no use.
    pub fn set_aside(&self, reason: &str) -> Loaded {
        let free = (1..).map(|n| with_suffix(&self.path, &format!(".unusable-{n}")));
        let aside = free.into_iter().find(|path| !path.exists());
        let aside = aside.unwrap_or_else(|| with_suffix(&self.path, ".unusable"));
        let moved_to = match fs::rename(&self.path, &aside) {
            Ok(()) => aside.display().to_string(),
            Err(_) => "nowhere: it cannot be renamed".to_owned(),
        };
        Loaded::Unusable {
            reason: reason.to_owned(),
            moved_to,
        }
    }

    /// Has a snapshot written soon, by another thread. One that is still waiting is replaced.
    pub fn write(&self, body: Vec<u8>) {
        let mut work = self.shared.lock();
        work.next = Some(body);
        self.shared.changed.notify_all();
    }

    /// All that was asked for is written, or has failed.
    pub fn is_idle(&self) -> bool {
        let work = self.shared.lock();
        work.next.is_none() && !work.busy
    }

    /// How writing goes.
    pub fn written(&self) -> Written {
        self.shared.lock().written.clone()
    }

    /// Waits until all that was asked for is written.
    pub fn finish(&mut self) -> Written {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
        self.written()
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut work = self.lock();
        work.busy = false;
        loop {
            if let Some(body) = work.next.take() {
                work.busy = true;
                return Some(body);
            }
            if work.over {
                return None;
            }
            work = self
                .changed
                .wait(work)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(shared: &Shared, path: &Path) {
    while let Some(body) = shared.next() {
        let outcome = replace(path, &body);
        let mut work = shared.lock();
        match outcome {
            Ok(()) => {
                work.written = Written {
                    at: Some(Instant::now()),
                    error: None,
                };
            }
            Err(e) => work.written.error = Some(reason(&e)),
        }
    }
}

/// Writes beside the file, makes sure that it is on disk, and puts it in place: whatever happens, there is an old or a new one.
fn replace(path: &Path, body: &[u8]) -> io::Result<()> {
    let header = Header {
        magic: MAGIC.to_owned(),
        v: VERSION,
        len: body.len() as u64,
        xxh3: xxh3_64(body),
    };
    let mut line = serde_json::to_vec(&header)?;
    line.push(b'\n');
    fail_point("before-write");
    let mut file = tempfile::Builder::new()
        .prefix(&leftover_prefix(path))
        .tempfile_in(folder(path))?;
    file.write_all(&line)?;
    file.write_all(body)?;
    fail_point("after-write");
    file.as_file().sync_all()?;
    fail_point("after-sync");
    file.persist(path).map_err(|e| e.error)?;
    fail_point("after-rename");
    File::open(folder(path))?.sync_all()
}

fn fail_point(name: &str) {
    if std::env::var_os(FAIL_POINT).is_some_and(|wanted| wanted == name) {
        std::process::abort();
    }
}

/// The body of a file whose header is true.
fn body(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let end = memchr::memchr(b'\n', bytes).ok_or("it has no header")?;
    let header: Header =
        serde_json::from_slice(&bytes[..end]).map_err(|_| "it has no header that can be read")?;
    let body = &bytes[end + 1..];
    if header.magic != MAGIC {
        Err("it is no state of claude-tokmon")
    } else if header.v != VERSION {
        Err("it was written by another version")
    } else if header.len != body.len() as u64 {
        Err("it is cut off")
    } else if header.xxh3 != xxh3_64(body) {
        Err("its bytes have changed")
    } else {
        Ok(body)
    }
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn leftover_prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.part-")
}

/// Removes what an instance that was killed left behind. The lock is held, so nobody is writing.
fn remove_leftovers(path: &Path) {
    let prefix = leftover_prefix(path);
    for entry in fs::read_dir(folder(path)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_back_and_held_by_one_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/state");
        let mut state = StateFile::open(&path).unwrap();
        assert_eq!(state.load(), Loaded::Nothing);
        assert!(matches!(StateFile::open(&path), Err(StateError::Busy(_))));
        state.write(vec![1; 1000]);
        state.write(vec![2; 1000]);
        let written = state.finish();
        assert!(written.at.is_some() && written.error.is_none());
        assert_eq!(state.load(), Loaded::Snapshot(vec![2; 1000]));
        drop(state);
        assert!(StateFile::open(&path).is_ok(), "the lock ends with it");
    }

    #[test]
    fn what_keeps_nothing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), Path::new("/dev/full")] {
            let refused = StateFile::open(path).map(|_| ()).unwrap_err();
            let says = format!(
                "cannot use {} as --state: it is no plain file",
                path.display()
            );
            assert_eq!(refused.to_string(), says);
        }
    }

    #[test]
    fn a_snapshot_that_was_cut_or_changed_anywhere_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, b"the whole body").unwrap();
        let good = fs::read(&path).unwrap();
        for cut in 0..good.len() {
            assert!(body(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 0x20;
            let read = body(&changed);
            assert!(
                read.is_err() || read == Ok(b"the whole body"),
                "changed at {at}"
            );
        }
        assert!(body(&vec![0; good.len()]).is_err());
        fs::write(&path, "garbage").unwrap();
        let state = StateFile::open(&path).unwrap();
        let Loaded::Unusable { reason, moved_to } = state.load() else {
            panic!("it is unusable");
        };
        assert_eq!(reason, "it has no header");
        assert_eq!(fs::read_to_string(moved_to).unwrap(), "garbage");
        assert_eq!(state.load(), Loaded::Nothing);
    }
}
