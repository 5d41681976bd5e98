//! Bytes in: files that grow, files that lie there, pipes.
//!
//! Knows paths, inodes and line feeds. Does not know what a line means: what it must know of that is handed in.
//!
//! | room | holds |
//! |---|---|
//! | `discover`, `identity` | which files there are; which is which, whatever its name |
//! | `lines`, `pages` | bytes cut into lines, and what they are read into |
//! | `follow` | files that grow, are rotated, come and go |
//! | `history` | files that lie there, read on all cores and merged in time order |
//! | `snapshot` | the `--state` file |

mod discover;
mod follow;
mod history;
mod identity;
mod lines;
mod pages;
mod snapshot;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use discover::{
    Found, Input, InputError, Names, claude_code_folders, discover, inputs, places,
};
pub use follow::{
    Follower, FollowerState, Mount, Mounts, NoEvents, Note, NotifyWake, Refusal, RefusedWake,
    Resume, SleepWake, Wake, WakeHandle, Watching, Woken,
};
pub use history::{Decode, Finished, Glance, HistoryFile, InOrder, last_line_end, merge, start_of};
pub use identity::FileKey;
pub use lines::{LineSplitter, MAX_LINE_BYTES, PipeSource, SplitStats};
pub use snapshot::{Loaded, StateError, StateFile, Written};

/// Where lines come from.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// The path as given or found, or `-` for standard input.
    pub name: Arc<str>,
    /// The sub-agent that a file belongs to by its name (`agent-ID.jsonl`).
    pub agent: Option<Arc<str>>,
}

impl SourceInfo {
    /// A file.
    pub fn file(path: &Path) -> Arc<Self> {
        let stem = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".jsonl"));
        let agent = stem.and_then(|stem| stem.strip_prefix("agent-"));
        Arc::new(Self {
            name: path.to_string_lossy().into(),
            agent: agent.map(Into::into),
        })
    }

    /// Standard input.
    pub fn stdin() -> Arc<Self> {
        Arc::new(Self {
            name: "-".into(),
            agent: None,
        })
    }
}

/// One line of a source, without its line feed.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Where it comes from.
    pub source: &'a Arc<SourceInfo>,
    /// Offset of its first byte.
    pub offset: u64,
    /// Its number, from 1, counted from where reading began.
    pub number: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Hands over what a splitter cuts as lines of a source.
fn lines_of<'a>(
    source: &'a Arc<SourceInfo>,
    emit: &'a mut dyn FnMut(Line<'_>),
) -> impl FnMut(u64, u64, &[u8]) + 'a {
    move |offset, number, bytes| {
        emit(Line {
            source,
            offset,
            number,
            bytes,
        });
    }
}

/// Where a source stands after it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More is there to be read at once.
    More,
    /// All that is there has been read.
    CaughtUp,
    /// Nothing will ever come again.
    Ended,
}

/// A stream of lines. Reading never waits; waiting reads nothing.
pub trait Source {
    /// Hands over the lines that are there, up to a fair share.
    ///
    /// # Errors
    /// Only if the source as a whole is lost; trouble with one file is a [`Note`].
    fn read(&mut self, now: Instant, emit: &mut dyn FnMut(Line<'_>)) -> io::Result<Progress>;

    /// Waits until there may be something to read, or for so long.
    fn wait(&mut self, at_most: Duration);

    /// Looks at everything at the next reading, whatever it was said to be.
    fn look_again(&mut self) {}

    /// What happened to files since the last call, for people.
    fn take_notes(&mut self) -> Vec<Note> {
        Vec::new()
    }

    /// What was met besides lines.
    fn stats(&self) -> SplitStats;

    /// How many files are followed.
    fn n_files(&self) -> usize;

    /// How far each file was read.
    fn status(&self) -> Vec<FileStatus>;

    /// Where it is with its files, if it can be taken up again.
    fn state(&self) -> Option<FollowerState> {
        None
    }
}

/// How far a file was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// The path, or `-` for standard input.
    pub path: String,
    /// The end of the last whole line that was read.
    pub offset: u64,
    /// Its size in bytes; `None` if it has none or cannot be asked.
    pub size: Option<u64>,
    /// How often it was found truncated or rewritten.
    pub generation: u32,
    /// Events tell of its changes; otherwise they are seen by looking.
    pub by_events: bool,
}

/// The system's words for an error, without its number.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}
