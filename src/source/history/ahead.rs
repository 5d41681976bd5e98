//! Files read ahead in pieces, on all cores.
//!
//! A piece is the lines that begin between two offsets, or the next lines of a file that is unpacked. Most lines can be
//! understood without those before them and come back as items; the others come back as they are, in their place, for the one
//! reader that knows what was before.
//! Does not know what lines mean.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::packed::Packed;
use crate::source::lines::{MAX_LINE_BYTES, bare_line};
use crate::source::pages::{PAGE, first_page};
use crate::source::{Line, SourceInfo};

/// How much more is read at once to find the end of the last line of a piece.
const MORE: usize = 64 << 10;

/// Understands lines without those before them, on a thread of its own.
pub trait Glance: Send {
    /// What a line holds.
    type Item: Send;
    /// What else lines came to, to be told where they are counted.
    type Digest: Send;

    /// Reads a line. Each item comes with its time in milliseconds since the epoch, or none. False if what the line means
    /// depends on the lines before it; nothing is taken of it then.
    fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, Self::Item)>) -> bool;

    /// What the lines since the last call came to.
    fn digest(&mut self) -> Self::Digest;
}

/// Stands for the glances of those who want all lines in order; there are none.
#[derive(Debug)]
pub struct InOrder<T>(
    std::convert::Infallible,
    std::marker::PhantomData<fn() -> T>,
);

impl<T: Send> Glance for InOrder<T> {
    type Item = T;
    type Digest = ();

    fn line(&mut self, _line: Line<'_>, _out: &mut Vec<(Option<i64>, T)>) -> bool {
        match self.0 {}
    }

    fn digest(&mut self) {}
}

/// A line that nothing was taken of.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) offset: u64,
    /// Its number in its piece, from 1.
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

/// Lines that were understood, up to one that was not.
#[derive(Debug)]
pub(super) struct Stretch<T, D> {
    pub(super) items: Vec<(Option<i64>, T)>,
    pub(super) digest: D,
    pub(super) then: Option<Aside>,
}

/// What a piece of a file came to.
#[derive(Debug)]
pub(super) struct Piece<T, D> {
    pub(super) stretches: Vec<Stretch<T, D>>,
    /// Whole lines in it.
    pub(super) lines: u64,
    /// Where the line after the last of them begins; `None` if no line begins in it.
    pub(super) end: Option<u64>,
    /// Zero bytes before lines.
    pub(super) nul_bytes: u64,
    /// The next piece goes on where this one ends. Otherwise the file has to be read on from `end` in order.
    pub(super) goes_on: bool,
}

impl<T, D> Piece<T, D> {
    fn empty(end: Option<u64>, goes_on: bool) -> Self {
        Self {
            stretches: Vec::new(),
            lines: 0,
            end,
            nul_bytes: 0,
            goes_on,
        }
    }
}

/// What a thread has before it: its bytes, and the file that the last of them are from.
#[derive(Default)]
pub(super) struct Desk {
    buffer: Buffer,
    open: Option<(PathBuf, File)>,
    unpacked: Vec<u8>,
}

/// Bytes that were read. What is behind them is kept as it is, so that it need not be zeroed for each piece again.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// They begin there, so that each page of the file lies on a page of memory.
    start: usize,
    len: usize,
}

impl Buffer {
    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// Reads what lies between two offsets, instead of what was there. False if the file ends before.
    fn fill(&mut self, file: &File, from: u64, to: u64) -> io::Result<bool> {
        let wanted = usize::try_from(to - from).map_err(io::Error::other)?;
        if self.bytes.len() < wanted + 2 * PAGE {
            self.bytes.resize(wanted + 2 * PAGE, 0);
        }
        let in_page = usize::try_from(from % PAGE as u64).map_err(io::Error::other)?;
        self.start = first_page(&self.bytes) + in_page;
        self.len = 0;
        self.fill_on(file, from, to)
    }

    /// Reads on, behind what is there.
    fn fill_on(&mut self, file: &File, from: u64, to: u64) -> io::Result<bool> {
        let wanted = usize::try_from(to - from).map_err(io::Error::other)?;
        let end = self.start + self.len + wanted;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let mut offset = from;
        while self.start + self.len < end {
            match file.read_at(&mut self.bytes[self.start + self.len..end], offset) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.len += n;
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

/// Where the lines of a piece lie.
pub(super) enum Part {
    /// Between two offsets.
    Span {
        path: PathBuf,
        /// Where the file is read from, which is the beginning of a line.
        begin: u64,
        from: u64,
        to: u64,
        /// No further than this.
        file_end: u64,
    },
    /// Behind those of the turns before, in a file that is unpacked: about so many bytes.
    Turn {
        packed: Arc<Packed>,
        turn: u64,
        step: u64,
    },
}

/// A piece to be read.
pub(super) struct Job<G: Glance> {
    info: Arc<SourceInfo>,
    part: Part,
    state: Mutex<State<G>>,
    done: Condvar,
}

enum State<G: Glance> {
    Queued,
    Running,
    Done(io::Result<Piece<G::Item, G::Digest>>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<G: Glance> Job<G> {
    pub(super) fn new(info: Arc<SourceInfo>, part: Part) -> Self {
        Self {
            info,
            part,
            state: Mutex::new(State::Queued),
            done: Condvar::new(),
        }
    }

    /// True if it is this thread that has to do it.
    fn claim(&self) -> bool {
        let mut state = lock(&self.state);
        let queued = matches!(*state, State::Queued);
        if queued {
            *state = State::Running;
        }
        queued
    }

    fn work(&self, glance: &mut G, desk: &mut Desk) {
        let piece = self.read(glance, desk);
        *lock(&self.state) = State::Done(piece);
        self.done.notify_all();
    }

    /// What it came to. Does it itself if nobody has begun, and others while somebody is at it.
    pub(super) fn wait(
        &self,
        pool: &Pool<G>,
        glance: &mut G,
        desk: &mut Desk,
    ) -> io::Result<Piece<G::Item, G::Digest>> {
        if self.claim() {
            return self.read(glance, desk);
        }
        loop {
            let mut state = lock(&self.state);
            if let State::Done(piece) = std::mem::replace(&mut *state, State::Running) {
                return piece;
            }
            if let Some(other) = pool.next_at_once() {
                drop(state);
                if other.claim() {
                    other.work(glance, desk);
                }
            } else {
                drop(self.done.wait(state));
            }
        }
    }

    fn read(&self, glance: &mut G, desk: &mut Desk) -> io::Result<Piece<G::Item, G::Digest>> {
        let Desk {
            buffer,
            open,
            unpacked,
        } = desk;
        let (path, begin, from, to, file_end) = match &self.part {
            Part::Span {
                path,
                begin,
                from,
                to,
                file_end,
            } => (path, *begin, *from, *to, *file_end),
            Part::Turn { packed, turn, step } => {
                let taken = packed.take(*turn, *step, unpacked);
                return Ok(if unpacked.is_empty() {
                    Piece::empty(None, taken.goes_on)
                } else {
                    self.split(unpacked, taken.offset, taken.goes_on, glance)
                });
            }
        };
        let file = match open {
            Some((open, file)) if open == path => file,
            _ => {
                let file = File::open(path)?;
                &mut open.insert((path.clone(), file)).1
            }
        };
        // The byte before tells whether a line begins at the first one.
        let base = if from == begin { from } else { from - 1 };
        let mut whole = buffer.fill(file, base, to)?;
        let start = if from == begin {
            Some(0)
        } else {
            memchr::memchr(b'\n', buffer.filled()).map(|at| at + 1)
        };
        let Some(start) = start.filter(|start| *start < buffer.len) else {
            let end = start.map(|start| base + start as u64);
            return Ok(Piece::empty(end, whole));
        };
        // The last line that begins here may end further on.
        let mut searched = buffer.len.saturating_sub(1).max(start);
        let mut end = None;
        while whole {
            if let Some(at) = memchr::memchr(b'\n', &buffer.filled()[searched..]) {
                end = Some(searched + at + 1);
                break;
            }
            searched = buffer.len;
            let read_to = base + searched as u64;
            let line_start = memchr::memrchr(b'\n', buffer.filled()).map_or(start, |at| at + 1);
            if read_to >= file_end || searched - line_start > MAX_LINE_BYTES {
                whole = false;
                break;
            }
            let more = file_end.min(read_to + MORE as u64);
            whole = buffer.fill_on(file, read_to, more)?;
        }
        let end = end.or_else(|| memchr::memrchr(b'\n', buffer.filled()).map(|at| at + 1));
        let end = end.unwrap_or(start).max(start);
        Ok(self.split(
            &buffer.filled()[start..end],
            base + start as u64,
            whole,
            glance,
        ))
    }

    /// Understands the lines of a text that ends with a line feed.
    fn split(
        &self,
        text: &[u8],
        offset: u64,
        goes_on: bool,
        glance: &mut G,
    ) -> Piece<G::Item, G::Digest> {
        let mut piece = Piece::empty(Some(offset + text.len() as u64), goes_on);
        let mut items = Vec::new();
        let mut begin = 0;
        for feed in memchr::memchr_iter(b'\n', text) {
            let at = offset + begin as u64;
            if feed - begin >= MAX_LINE_BYTES {
                // It is skipped and counted where lines are read in order.
                piece.end = Some(at);
                piece.goes_on = false;
                break;
            }
            piece.lines += 1;
            let (bytes, nuls) = bare_line(&text[begin..feed], at);
            piece.nul_bytes += nuls;
            let line = Line {
                source: &self.info,
                offset: at,
                number: piece.lines,
                bytes,
            };
            if !glance.line(line, &mut items) {
                piece.stretches.push(Stretch {
                    items: std::mem::take(&mut items),
                    digest: glance.digest(),
                    then: Some(Aside {
                        offset: at,
                        number: piece.lines,
                        bytes: bytes.to_vec(),
                    }),
                });
            }
            begin = feed + 1;
        }
        piece.stretches.push(Stretch {
            items,
            digest: glance.digest(),
            then: None,
        });
        piece
    }
}

/// Jobs for the threads that read ahead.
pub(super) struct Pool<G: Glance> {
    queue: Mutex<Queue<G>>,
    more: Condvar,
}

struct Queue<G: Glance> {
    jobs: VecDeque<Arc<Job<G>>>,
    closed: bool,
}

impl<G: Glance> Pool<G> {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                closed: false,
            }),
            more: Condvar::new(),
        }
    }

    pub(super) fn add(&self, job: Arc<Job<G>>) {
        lock(&self.queue).jobs.push_back(job);
        self.more.notify_one();
    }

    /// No more jobs will come, and none that waits need be done.
    pub(super) fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.jobs.clear();
        drop(queue);
        self.more.notify_all();
    }

    /// Does jobs until there will be none.
    pub(super) fn serve(&self, mut glance: G) {
        let mut desk = Desk::default();
        while let Some(job) = self.next() {
            if job.claim() {
                job.work(&mut glance, &mut desk);
            }
        }
    }

    /// A job that nobody has taken yet.
    fn next_at_once(&self) -> Option<Arc<Job<G>>> {
        lock(&self.queue).jobs.pop_front()
    }

    fn next(&self) -> Option<Arc<Job<G>>> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self
                .more
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
