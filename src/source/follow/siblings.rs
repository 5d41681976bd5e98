//! The files beside a path: those that rotation made of it, and those that were renamed.
//!
//! Knows names and identities. Opens files, and reads nothing in them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::source::discover::is_rotation;
use crate::source::identity::FileKey;

/// The path without `.` and independent of the present directory. A path that cannot be made so is left as it is.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

pub(super) fn is_file(file: &File, key: FileKey) -> bool {
    file.metadata().is_ok_and(|meta| FileKey::of(&meta) == key)
}

/// Finds a file that was renamed within its directory, by its identity.
pub(super) fn find_renamed(path: &Path, key: FileKey) -> Option<File> {
    entries(path)
        .find(|(_, other)| *other == key)
        .and_then(|(path, _)| open_if(&path, key))
}

/// Opens a path if it still is that file: another may have taken its name.
pub(super) fn open_if(path: &Path, key: FileKey) -> Option<File> {
    File::open(path).ok().filter(|file| is_file(file, key))
}

/// The files beside a path whose names go on from its name, the way rotation names them; compressed ones are not followed.
pub(super) fn siblings(path: &Path) -> Vec<(PathBuf, FileKey)> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let is_sibling = |other: &Path| {
        let other = other.file_name().and_then(|name| name.to_str());
        other
            .and_then(|other| other.strip_prefix(name))
            .is_some_and(is_rotation)
    };
    entries(path)
        .filter(|(other, _)| is_sibling(other))
        .collect()
}

/// The files in the directory of a path.
pub(super) fn entries(path: &Path) -> impl Iterator<Item = (PathBuf, FileKey)> {
    let parent = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        meta.is_file().then(|| (entry.path(), FileKey::of(&meta)))
    })
}
