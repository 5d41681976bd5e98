//! Which file is which, though names move and inodes are used again; and whether what was read of it is still there.

use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::UNIX_EPOCH;

use xxhash_rust::xxh3::xxh3_64;

/// How much before the place we have read up to is remembered by its hash: at least one whole record as a rule, so that its
/// unique id and time are in it.
const MARKER_BYTES: usize = 4096;

/// A file as long as it exists: device, inode, and birth where the file system knows it. A new file may get the inode of one
/// that was just removed, but not its birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileKey {
    dev: u64,
    ino: u64,
    birth_ns: u128,
}

impl FileKey {
    /// The same file, but for the number of its device, which may change when a file system is mounted again.
    pub(super) fn is_renumbered(&self, other: &Self) -> bool {
        self.ino == other.ino && self.birth_ns == other.birth_ns && self.birth_ns > 0
    }

    /// Nanoseconds from the epoch to the file's birth; zero where that is not known.
    pub(super) fn birth_ns(&self) -> u128 {
        self.birth_ns
    }

    /// The identity of an existing file.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            birth_ns: birth_ns(meta),
        }
    }
}

/// Nanoseconds from the epoch to the file's birth; zero where that is not known.
pub(super) fn birth_ns(meta: &Metadata) -> u128 {
    let born = meta
        .created()
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    born.map_or(0, |since| since.as_nanos())
}

/// How much of the beginning of a file is remembered by its hash.
const HEAD_BYTES: usize = 1024;

/// Hashes of the first bytes of a file and of those just before an offset. If they no longer match, the file was truncated or
/// rewritten, even if it has since grown beyond that offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    offset: u64,
    hash: u64,
    head: u64,
}

/// What changes when a file is written to, even if its size and the time of its last change are set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Appearance {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Appearance {
    /// When it last changed in any way, in nanoseconds from the epoch.
    pub(super) fn changed_ns(&self) -> u128 {
        let (secs, nanos) = self.changed;
        u128::try_from(i128::from(secs) * 1_000_000_000 + i128::from(nanos)).unwrap_or(0)
    }

    /// How a file looks now.
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Marker {
    /// Remembers what stands before `offset`.
    pub(super) fn take(file: &File, offset: u64) -> io::Result<Self> {
        Ok(Self {
            offset,
            hash: hash_before::<MARKER_BYTES>(file, offset)?,
            head: hash_before::<HEAD_BYTES>(file, offset.min(HEAD_BYTES as u64))?,
        })
    }

    /// Whether the same bytes still stand there. False if the file has become shorter.
    pub(super) fn holds(&self, file: &File) -> io::Result<bool> {
        match Self::take(file, self.offset) {
            Ok(now) => Ok(now == *self),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether the file still begins with the same bytes, as far as it goes.
    pub(super) fn begins(&self, file: &File) -> io::Result<bool> {
        let length = self.offset.min(HEAD_BYTES as u64);
        match hash_before::<HEAD_BYTES>(file, length) {
            Ok(head) => Ok(head == self.head),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// The offset it was taken at.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

fn hash_before<const MOST: usize>(file: &File, offset: u64) -> io::Result<u64> {
    let length = usize::try_from(offset).unwrap_or(usize::MAX).min(MOST);
    let mut bytes = [0; MOST];
    let bytes = &mut bytes[..length];
    file.read_exact_at(bytes, offset - length as u64)?;
    Ok(xxh3_64(bytes))
}
