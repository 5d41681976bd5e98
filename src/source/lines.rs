//! Bytes to lines: whatever the chunks, the same lines. And standard input as a source.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::stdio::stdin;

use super::{FileStatus, Line, Progress, Source, SourceInfo, lines_of};

/// A line longer than this is skipped and counted.
pub const MAX_LINE_BYTES: usize = 16 << 20;

const CHUNK: usize = 256 << 10;

/// What was met besides ordinary lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SplitStats {
    /// Bytes read.
    pub bytes: u64,
    /// Lines over the maximum, skipped.
    pub oversize_lines: u64,
    /// Zero bytes before a line, left behind by a truncation.
    pub nul_bytes: u64,
}

impl SplitStats {
    /// Adds other figures to these.
    pub fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.oversize_lines += other.oversize_lines;
        self.nul_bytes += other.nul_bytes;
    }
}

/// Cuts a stream of chunks into lines. Only what has no line feed yet is kept.
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
    /// Offset of the first byte of `partial`.
    offset: u64,
    number: u64,
    /// In the middle of a line that is too long.
    discarding: bool,
    stats: SplitStats,
}

impl LineSplitter {
    /// A splitter for a stream that begins at an offset.
    pub fn at(offset: u64) -> Self {
        Self {
            offset,
            ..Self::default()
        }
    }

    /// A splitter that goes on where another was; `discarding` if that was in the middle of a line that is too long.
    pub fn resume(offset: u64, discarding: bool) -> Self {
        Self {
            offset,
            discarding,
            ..Self::default()
        }
    }

    /// Whether it is in the middle of a line that is too long.
    pub fn is_discarding(&self) -> bool {
        self.discarding
    }

    /// Offset of the first byte that is not part of a whole line.
    pub fn committed(&self) -> u64 {
        self.offset
    }

    /// Offset of the next byte to be read.
    pub fn position(&self) -> u64 {
        self.offset + self.partial.len() as u64
    }

    /// What has no line feed yet.
    pub fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// What was met besides ordinary lines.
    pub fn stats(&self) -> SplitStats {
        self.stats
    }

    /// Takes a chunk and hands over each line that is now whole: its offset, number and bytes.
    pub fn push(&mut self, chunk: &[u8], mut emit: impl FnMut(u64, u64, &[u8])) {
        self.stats.bytes += chunk.len() as u64;
        let mut rest = chunk;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (head, tail) = rest.split_at(at + 1);
            rest = tail;
            self.number += 1;
            let length = self.partial.len() + head.len();
            if self.discarding || length > MAX_LINE_BYTES {
                self.stats.oversize_lines += u64::from(!self.discarding);
                self.discarding = false;
            } else if self.partial.is_empty() {
                self.line(&head[..at], &mut emit);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&head[..at]);
                self.line(&line, &mut emit);
            }
            self.offset += length as u64;
            self.partial = Vec::new();
        }
        if self.discarding {
            self.offset += rest.len() as u64;
        } else if self.partial.len() + rest.len() > MAX_LINE_BYTES {
            self.discarding = true;
            self.stats.oversize_lines += 1;
            self.offset += (self.partial.len() + rest.len()) as u64;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(rest);
        }
    }

    /// Takes what is left as the last line, though it has no line feed.
    pub fn finish(&mut self, mut emit: impl FnMut(u64, u64, &[u8])) {
        let line = std::mem::take(&mut self.partial);
        if !line.is_empty() {
            self.number += 1;
            self.line(&line, &mut emit);
            self.offset += line.len() as u64;
        }
    }

    /// Goes on at an offset up to which somebody else has cut the lines: how many there were, and zero bytes before them.
    pub(super) fn skip_to(&mut self, offset: u64, lines: u64, nul_bytes: u64) {
        self.stats.bytes += offset.saturating_sub(self.offset);
        self.stats.nul_bytes += nul_bytes;
        self.offset = offset;
        self.number = lines;
    }

    fn line(&mut self, bytes: &[u8], emit: &mut impl FnMut(u64, u64, &[u8])) {
        let (line, nuls) = bare_line(bytes, self.offset);
        self.stats.nul_bytes += nuls;
        emit(self.offset, self.number, line);
    }
}

/// A line without what a truncation left before it, a byte-order mark, and a carriage return after it; and how many zero bytes
/// a truncation left.
pub(super) fn bare_line(bytes: &[u8], offset: u64) -> (&[u8], u64) {
    let nuls = bytes.iter().take_while(|b| **b == 0).count();
    let mut line = &bytes[nuls..];
    if offset == 0 {
        line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    }
    (line.strip_suffix(b"\r").unwrap_or(line), nuls as u64)
}

/// What standard input is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Ends when its last writer closes it.
    Pipe,
    /// Grows.
    File,
}

/// Standard input as a source.
#[derive(Debug)]
pub struct PipeSource {
    info: Arc<SourceInfo>,
    kind: Kind,
    splitter: LineSplitter,
    buffer: Vec<u8>,
    ended: bool,
}

impl PipeSource {
    /// Standard input.
    ///
    /// # Errors
    /// If it is closed or is the null device: nothing can come from it.
    pub fn stdin() -> io::Result<Self> {
        let stat = fstat(stdin())?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::CharacterDevice if !rustix::termios::isatty(stdin()) => {
                return Err(io::Error::other(
                    "standard input is closed or the null device",
                ));
            }
            FileType::Directory => return Err(io::Error::other("standard input is a directory")),
            _ => Kind::Pipe,
        };
        if kind == Kind::Pipe {
            widen();
        }
        Ok(Self {
            info: SourceInfo::stdin(),
            kind,
            splitter: LineSplitter::default(),
            buffer: vec![0; CHUNK],
            ended: false,
        })
    }

    /// Whether it ends when its writer does.
    pub fn is_pipe(&self) -> bool {
        self.kind == Kind::Pipe
    }

    /// Whether there is something to read, or the end, within so long.
    fn is_readable(at_most: Duration) -> bool {
        let timeout = Timespec::try_from(at_most).ok();
        let input = stdin();
        let mut fds = [PollFd::new(&input, PollFlags::IN)];
        poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }
}

/// Has the pipe hold as much as is read at once, so that its writer waits less for us, and we for it. If it cannot be, it can do
/// without.
fn widen() {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(stdin(), CHUNK);
}

impl Source for PipeSource {
    fn read(&mut self, _now: Instant, emit: &mut dyn FnMut(Line<'_>)) -> io::Result<Progress> {
        if self.ended {
            return Ok(Progress::Ended);
        }
        if !Self::is_readable(Duration::ZERO) {
            return Ok(Progress::CaughtUp);
        }
        let n = match rustix::io::read(stdin(), &mut self.buffer) {
            Ok(n) => n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {
                return Ok(Progress::CaughtUp);
            }
            Err(e) => return Err(e.into()),
        };
        let source = &self.info;
        let mut hand_over = lines_of(source, emit);
        if n > 0 {
            self.splitter.push(&self.buffer[..n], &mut hand_over);
            return Ok(Progress::More);
        }
        if self.kind == Kind::File {
            return Ok(Progress::CaughtUp);
        }
        self.splitter.finish(&mut hand_over);
        self.ended = true;
        Ok(Progress::Ended)
    }

    fn wait(&mut self, at_most: Duration) {
        match self.kind {
            Kind::Pipe => {
                Self::is_readable(at_most);
            }
            // A file is always readable, also at its end.
            Kind::File => std::thread::sleep(at_most.min(Duration::from_millis(100))),
        }
    }

    fn stats(&self) -> SplitStats {
        self.splitter.stats()
    }

    fn n_files(&self) -> usize {
        1
    }

    fn status(&self) -> Vec<FileStatus> {
        let size = fstat(stdin())
            .ok()
            .filter(|_| self.kind == Kind::File)
            .and_then(|stat| u64::try_from(stat.st_size).ok());
        vec![FileStatus {
            path: self.info.name.to_string(),
            offset: self.splitter.committed(),
            size,
            generation: 0,
            by_events: true,
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<(u64, u64, Vec<u8>)> {
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::default();
        for chunk in chunks {
            splitter.push(chunk, |offset, number, line| {
                lines.push((offset, number, line.to_vec()));
            });
        }
        splitter.finish(|offset, number, line| lines.push((offset, number, line.to_vec())));
        lines
    }

    #[test]
    fn marks_that_are_not_part_of_a_line_are_dropped() {
        let lines = split(&[b"\xEF\xBB\xBFa\r\n\0\0\0b\n\nc"]);
        let texts: Vec<_> = lines
            .iter()
            .map(|(o, n, l)| (*o, *n, l.as_slice()))
            .collect();
        assert_eq!(
            texts,
            [(0, 1, &b"a"[..]), (6, 2, b"b"), (11, 3, b""), (12, 4, b"c")]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_counted_once() {
        let long = vec![b'x'; MAX_LINE_BYTES / 2 + 1];
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for chunk in [&long[..], &long, &long, b"tail\nnext\n"] {
            splitter.push(chunk, |_, number, line| lines.push((number, line.to_vec())));
        }
        assert_eq!(lines, [(2, b"next".to_vec())]);
        assert_eq!(splitter.stats().oversize_lines, 1);
        assert_eq!(splitter.committed(), 3 * long.len() as u64 + 10);
        assert!(splitter.partial().is_empty());
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(0), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&chunks), split(&[&text]));
        }
    }
}
