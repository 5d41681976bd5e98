//! From what the user names to the files that are there: files, directories, patterns. Does not look into them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::identity::{Appearance, FileKey, birth_ns};
use crate::pattern::Pattern;

/// Extensions of the files that are read from a directory.
const EXTENSIONS: [&str; 3] = [".jsonl", ".ndjson", ".log"];

/// Something the user named.
#[derive(Debug, Clone)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A named pipe.
    Pipe(PathBuf),
    /// A file, or a name under which one may come.
    File(PathBuf),
    /// A directory, read with all below it.
    Dir(PathBuf),
    /// A pattern; `base` is the longest directory before its first wildcard.
    Glob {
        /// The directory that is searched.
        base: PathBuf,
        /// What its files are called.
        pattern: Pattern,
    },
}

/// An input that cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A pattern that is not one.
    #[error("cannot read the pattern \"{pattern}\": {reason}")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// A device, a socket and the like.
    #[error("{0} is neither a file nor a directory nor a pipe")]
    Kind(PathBuf),
}

/// Which names in a directory are logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// `x.jsonl`, `x.ndjson`, `x.log`.
    Live,
    /// Also their rotated siblings: `x.log.1`, `x.log-20261123`.
    Rotated,
    /// Also compressed ones: `x.log.2.gz`, `x.log.3.zst`.
    Compressed,
}

/// A file that is there.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its path.
    pub path: PathBuf,
    /// Its identity.
    pub key: FileKey,
    /// Its size in bytes.
    pub size: u64,
    /// Milliseconds from the epoch to its last change.
    pub modified_ms: i64,
    /// Nanoseconds from the epoch to its birth; zero where that is not known.
    pub birth_ns: u128,
    /// How it looks.
    pub(super) appearance: Appearance,
}

/// Reads what the user named.
///
/// # Errors
/// If a pattern is malformed or a path is a device.
pub fn inputs(args: &[PathBuf]) -> Result<Vec<Input>, InputError> {
    args.iter().map(|arg| input(arg)).collect()
}

fn input(arg: &Path) -> Result<Input, InputError> {
    if arg == Path::new("-") || arg == Path::new("/dev/stdin") {
        return Ok(Input::Stdin);
    }
    if let Ok(meta) = fs::metadata(arg) {
        use std::os::unix::fs::FileTypeExt;
        let kind = meta.file_type();
        return if kind.is_dir() {
            Ok(Input::Dir(arg.to_owned()))
        } else if kind.is_file() {
            Ok(Input::File(arg.to_owned()))
        } else if kind.is_fifo() {
            Ok(Input::Pipe(arg.to_owned()))
        } else {
            Err(InputError::Kind(arg.to_owned()))
        };
    }
    let text = arg.to_string_lossy();
    let Some(wild) = text.find(['*', '?', '[', '{']) else {
        return Ok(Input::File(arg.to_owned()));
    };
    let base = text[..wild].rfind('/').map_or("", |slash| &text[..=slash]);
    let pattern = Pattern::of_paths(&text).map_err(|reason| InputError::Pattern {
        pattern: text.clone().into_owned(),
        reason,
    })?;
    Ok(Input::Glob {
        base: if base.is_empty() {
            PathBuf::from(".")
        } else {
            PathBuf::from(base)
        },
        pattern,
    })
}

/// Where logs are looked for, as it was written; only the first few places.
pub fn places(inputs: &[Input]) -> String {
    const SHOWN: usize = 3;
    let names = inputs.iter().map(|input| match input {
        Input::Stdin => "standard input".into(),
        Input::Pipe(path) | Input::File(path) | Input::Dir(path) => path.to_string_lossy(),
        Input::Glob { pattern, .. } => pattern.text().into(),
    });
    let mut places: Vec<_> = names.take(SHOWN).collect();
    if inputs.len() > SHOWN {
        places.push("…".into());
    }
    places.join(", ")
}

/// The folders of Claude Code that exist: those of `config_dir` (several with commas between), else the two usual ones.
pub fn claude_code_folders(config_dir: Option<&str>, home: Option<&Path>) -> Vec<PathBuf> {
    let candidates: Vec<PathBuf> = match config_dir.filter(|dirs| !dirs.trim().is_empty()) {
        Some(dirs) => dirs
            .split(',')
            .map(|dir| expand_home(dir.trim(), home))
            .map(projects)
            .collect(),
        None => home
            .map(|home| {
                vec![
                    home.join(".claude/projects"),
                    home.join(".config/claude/projects"),
                ]
            })
            .unwrap_or_default(),
    };
    candidates.into_iter().filter(|dir| dir.is_dir()).collect()
}

/// A configuration folder may be named itself or by its `projects`.
fn projects(dir: PathBuf) -> PathBuf {
    if dir.file_name().is_some_and(|name| name == "projects") {
        dir
    } else {
        dir.join("projects")
    }
}

fn expand_home(dir: &str, home: Option<&Path>) -> PathBuf {
    match (dir.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(dir),
    }
}

/// The files that are there now, each once, and the directories that were searched.
pub fn discover(
    inputs: &[Input],
    names: Names,
) -> (Vec<Found>, Vec<PathBuf>, Vec<(PathBuf, io::Error)>) {
    let mut search = Search {
        names,
        seen: HashSet::new(),
        found: Vec::new(),
        dirs: Vec::new(),
        errors: Vec::new(),
    };
    for input in inputs {
        match input {
            Input::Stdin | Input::Pipe(_) => {}
            Input::File(path) => search.named(path),
            Input::Dir(dir) => search.walk(dir, |path| is_log(path, names)),
            Input::Glob { base, pattern } => search.walk(base, |path| {
                pattern.matches_path(path) && (names == Names::Compressed || !is_compressed(path))
            }),
        }
    }
    (search.found, search.dirs, search.errors)
}

/// How links in a directory are met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Through,
    Apart,
}

struct Search {
    names: Names,
    seen: HashSet<FileKey>,
    found: Vec<Found>,
    dirs: Vec<PathBuf>,
    errors: Vec<(PathBuf, io::Error)>,
}

impl Search {
    /// A named file is read whatever its name; so are the rotated siblings that precede it in time.
    fn named(&mut self, path: &Path) {
        let parent = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        self.dirs.push(parent.to_owned());
        if self.names == Names::Rotated {
            for sibling in rotated_siblings(path, parent) {
                self.take(sibling);
            }
        }
        self.take(path.to_owned());
    }

    fn walk(&mut self, dir: &Path, wanted: impl Fn(&Path) -> bool) {
        self.walk_through(dir, &wanted, Links::Apart);
    }

    /// Following links costs a question for each entry, so those that are met are walked by themselves.
    fn walk_through(&mut self, dir: &Path, wanted: &impl Fn(&Path) -> bool, links: Links) {
        let walk = WalkDir::new(dir)
            .follow_links(links == Links::Through)
            .sort_by_file_name();
        for entry in walk {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => self.dirs.push(entry.into_path()),
                Ok(entry) if entry.file_type().is_file() => {
                    if wanted(entry.path()) {
                        self.take(entry.into_path());
                    }
                }
                Ok(entry) if entry.file_type().is_symlink() => {
                    if entry.path().is_dir() {
                        self.walk_through(entry.path(), wanted, Links::Through);
                    } else if wanted(entry.path()) {
                        self.take(entry.into_path());
                    }
                }
                Ok(_) => {}
                Err(e) => {
                    let path = e.path().unwrap_or(dir).to_owned();
                    // A loop of links and a file that vanishes meanwhile are no errors of the user's.
                    let kind = e.io_error().map(io::Error::kind);
                    if let Some(kind) = kind.filter(|kind| *kind != io::ErrorKind::NotFound) {
                        self.errors.push((path, kind.into()));
                    }
                }
            }
        }
    }

    fn take(&mut self, path: PathBuf) {
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => {
                let key = FileKey::of(&meta);
                if self.seen.insert(key) {
                    use std::os::unix::fs::MetadataExt;
                    self.found.push(Found {
                        path,
                        key,
                        size: meta.len(),
                        modified_ms: meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000,
                        birth_ns: birth_ns(&meta),
                        appearance: Appearance::of(&meta),
                    });
                }
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => self.errors.push((path, e)),
        }
    }
}

/// Uncompressed rotated siblings of a file: `NAME.1`, `NAME-20261123`, `NAME.2026-11-23`.
fn rotated_siblings(path: &Path, parent: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let is_sibling = |other: &str| other.strip_prefix(name).is_some_and(is_rotation);
    let mut siblings: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_sibling))
        .map(|entry| entry.path())
        .collect();
    siblings.sort();
    siblings
}

/// What rotation puts behind a name: `.1`, `-20261123`, `.2026-11-23`: a separator, then digits in groups.
pub(super) fn is_rotation(suffix: &str) -> bool {
    suffix.starts_with(['.', '-'])
        && suffix.len() > 1
        && suffix[1..]
            .split(['-', '.', '_', 'T'])
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

fn is_compressed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ext| ext == "gz" || ext == "zst")
}

fn is_log(path: &Path, names: Names) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let plain = match name
        .strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".zst"))
    {
        Some(stem) if names == Names::Compressed => stem,
        Some(_) => return false,
        None => name,
    };
    EXTENSIONS.iter().any(|dotted| match plain.rfind(dotted) {
        Some(at) => {
            let suffix = &plain[at + dotted.len()..];
            suffix.is_empty() || (names != Names::Live && is_rotation(suffix))
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_logs_and_of_what_rotation_makes_of_them() {
        let log = |name: &str, names| is_log(Path::new(name), names);
        assert!(
            log("a.jsonl", Names::Live)
                && log("a.ndjson", Names::Live)
                && log("x.y.log", Names::Live)
        );
        assert!(
            !log("a.log.1", Names::Live)
                && !log("a.txt", Names::Compressed)
                && !log("a.jsonl.bak", Names::Compressed)
        );
        assert!(log("a.log.1", Names::Rotated) && log("a.log-20261123", Names::Rotated));
        assert!(!log("a.log.1.gz", Names::Rotated) && log("a.log.1.gz", Names::Compressed));
        assert!(log("a.jsonl.zst", Names::Compressed) && !log("a.log-old", Names::Rotated));
    }

    #[test]
    fn a_pattern_is_searched_from_its_last_plain_directory() {
        let Input::Glob { base, pattern } = input(Path::new("/var/log/*/app-*.log")).unwrap()
        else {
            panic!("not a pattern")
        };
        assert_eq!(base, Path::new("/var/log/"));
        assert!(
            pattern.matches_path(Path::new("/var/log/a/app-1.log"))
                && !pattern.matches_path(Path::new("/var/log/a/b/app-1.log"))
        );
    }

    #[test]
    fn a_config_dir_may_be_a_list_of_roots_or_of_their_projects() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/projects")).unwrap();
        fs::create_dir_all(dir.path().join("b/projects")).unwrap();
        let list = format!("~/a, {}/b/projects,/nowhere", dir.path().display());
        let folders = claude_code_folders(Some(&list), Some(dir.path()));
        assert_eq!(
            folders,
            [dir.path().join("a/projects"), dir.path().join("b/projects")]
        );
        assert!(claude_code_folders(None, Some(dir.path())).is_empty());
    }
}
