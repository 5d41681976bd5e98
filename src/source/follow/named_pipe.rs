//! A named pipe as one perpetual stream, whoever writes to it.
//!
//! Knows bytes and line feeds. Does not know files that lie there.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::OFlags;

use super::file::{ACTIVE_EVERY, MAX_BYTES_AT_ONCE};
use crate::source::{Line, LineSplitter, SourceInfo, lines_of};

/// A named pipe. It never ends: when its last writer leaves, another may come.
#[derive(Debug)]
pub(super) struct NamedPipe {
    pub(super) info: Arc<SourceInfo>,
    pub(super) path: PathBuf,
    pub(super) file: Option<File>,
    pub(super) splitter: LineSplitter,
    pub(super) next_look: Instant,
}

impl NamedPipe {
    pub(super) fn new(path: &Path, now: Instant) -> Self {
        Self {
            info: SourceInfo::file(path),
            path: path.to_owned(),
            file: None,
            splitter: LineSplitter::default(),
            next_look: now,
        }
    }

    /// Reads what is there, up to a fair share. True if there may be more. Opened for writing too, it never looks ended, and
    /// no writer has to wait for a reader.
    pub(super) fn read(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        emit: &mut dyn FnMut(Line<'_>),
    ) -> io::Result<bool> {
        self.next_look = now + ACTIVE_EVERY;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(
                File::options()
                    .read(true)
                    .write(true)
                    .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
                    .open(&self.path)?,
            ),
        };
        let source = &self.info;
        let mut left = MAX_BYTES_AT_ONCE;
        while left > 0 {
            match file.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    left = left.saturating_sub(n as u64);
                    self.splitter.push(&buffer[..n], lines_of(source, emit));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}
