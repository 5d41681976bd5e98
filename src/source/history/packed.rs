//! A file that is unpacked as it is read: only from its beginning on, whole lines at a time, by whoever's turn it is.
//!
//! What was unpacked and belongs to no whole line is kept for the next turn, or for whoever reads the rest in order. The file is
//! open from the first turn to its end, so that those whose time has not come need no descriptor.

use std::io::{self, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::source::lines::MAX_LINE_BYTES;

/// One packed file, shared by those who read it in turns.
pub(super) struct Packed {
    state: Mutex<State>,
    moved_on: Condvar,
}

/// The bytes of a file, unpacked.
type Reader = Box<dyn Read + Send>;

struct State {
    open: Box<dyn Fn() -> io::Result<Reader> + Send>,
    reader: Option<Reader>,
    /// Whose turn it is.
    turn: u64,
    /// Where what was not handed out yet begins in the unpacked file.
    offset: u64,
    /// What was unpacked and not handed out yet.
    rest: Vec<u8>,
    /// What comes after it instead of more bytes.
    error: Option<io::Error>,
    /// Nothing more can be unpacked.
    is_at_end: bool,
    /// Nothing more is handed out in turns.
    over: bool,
}

/// What somebody was handed in a turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Where the lines begin in the unpacked file.
    pub(super) offset: u64,
    /// There is another turn. Otherwise the rest has to be read in order.
    pub(super) goes_on: bool,
}

impl Packed {
    /// A file that is unpacked from its beginning on by what `open` gives.
    pub(super) fn new(open: impl Fn() -> io::Result<Reader> + Send + 'static) -> Self {
        Self {
            state: Mutex::new(State {
                open: Box::new(open),
                reader: None,
                turn: 0,
                offset: 0,
                rest: Vec::new(),
                error: None,
                is_at_end: false,
                over: false,
            }),
            moved_on: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, which are numbered from 0, and replaces `text` with the next lines, each with its line feed: those of
    /// about `step` bytes. There are none if the turns are over.
    pub(super) fn take(&self, turn: u64, step: u64, text: &mut Vec<u8>) -> Taken {
        text.clear();
        let mut state = self.lock();
        while state.turn != turn && !state.over {
            state = self
                .moved_on
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let offset = state.offset;
        if !state.over {
            state.unpack_lines(step, text);
            state.turn += 1;
            self.moved_on.notify_all();
        }
        Taken {
            offset,
            goes_on: !state.over,
        }
    }

    /// The file from its beginning, whatever was handed out.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(super) fn reopened(&self) -> io::Result<Reader> {
        (self.lock().open)()
    }

    /// Reads on in order, from behind what was handed out in turns, of which there are no more from now on.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        state.over = true;
        self.moved_on.notify_all();
        let n = if !state.rest.is_empty() {
            let n = state.rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&state.rest[..n]);
            state.rest.drain(..n);
            n
        } else if let Some(error) = state.error.take() {
            return Err(error);
        } else if state.is_at_end {
            0
        } else {
            let n = state.reader().and_then(|reader| reader.read(buffer));
            n.map_err(in_words)?
        };
        state.offset += n as u64;
        Ok(n)
    }
}

impl State {
    fn reader(&mut self) -> io::Result<&mut Reader> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => (self.open)()?,
        };
        Ok(self.reader.insert(reader))
    }

    fn unpack_lines(&mut self, step: u64, text: &mut Vec<u8>) {
        // Then no line but the first can be too long: the others lie in one step.
        let step = step.min(MAX_LINE_BYTES as u64);
        let mut searched = 0;
        let mut wanted = step.saturating_sub(self.rest.len() as u64);
        loop {
            self.unpack_on(wanted);
            let unknown = &self.rest[searched..];
            let first = memchr::memchr(b'\n', unknown).map(|at| searched + at);
            if first.unwrap_or(self.rest.len()) >= MAX_LINE_BYTES {
                self.over = true;
                return;
            }
            if let Some(last) = memchr::memrchr(b'\n', unknown) {
                let end = searched + last + 1;
                text.extend_from_slice(&self.rest[end..]);
                self.rest.truncate(end);
                std::mem::swap(text, &mut self.rest);
                self.offset += end as u64;
                self.over = self.is_at_end;
                return;
            }
            if self.is_at_end {
                self.over = true;
                return;
            }
            searched = self.rest.len();
            wanted = step;
        }
    }

    /// Unpacks so many bytes more, or fewer if there are no more.
    fn unpack_on(&mut self, bytes: u64) {
        if self.is_at_end {
            return;
        }
        let mut rest = std::mem::take(&mut self.rest);
        let unpacked = self
            .reader()
            .and_then(|reader| reader.take(bytes).read_to_end(&mut rest));
        self.rest = rest;
        self.is_at_end = unpacked.as_ref().map_or(true, |n| (*n as u64) < bytes);
        self.error = unpacked.err().map(in_words);
        if self.is_at_end {
            self.reader = None;
        }
    }
}

/// What is wrong with the packing, with the innermost reason; what the system says stays as it is.
pub(super) fn in_words(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = format!("it is cut off or damaged, or not packed as its name says ({innermost})");
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &'static [u8]) -> Packed {
        Packed::new(move || Ok(Box::new(text)))
    }

    /// All turns, then the rest.
    fn all(packed: &Packed, step: u64) -> (Vec<(u64, String)>, String) {
        let (mut turns, mut text, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0.. {
            let taken = packed.take(turn, step, &mut text);
            if !text.is_empty() {
                turns.push((taken.offset, String::from_utf8_lossy(&text).into_owned()));
            }
            if !taken.goes_on {
                break;
            }
        }
        let mut buffer = [0; 3];
        while let Ok(n @ 1..) = packed.read(&mut buffer) {
            rest.extend_from_slice(&buffer[..n]);
        }
        (turns, String::from_utf8_lossy(&rest).into_owned())
    }

    #[test]
    fn turns_are_whole_lines_and_the_rest_is_what_follows_them() {
        let text = b"one\ntwo\n\nthree and more\nfour";
        let of = |turns: &[(u64, &str)]| -> Vec<(u64, String)> {
            turns.iter().map(|(at, t)| (*at, (*t).to_owned())).collect()
        };
        let (turns, rest) = all(&packed(text), 6);
        assert_eq!(
            turns,
            of(&[(0, "one\n"), (4, "two\n\n"), (9, "three and more\n")])
        );
        assert_eq!(rest, "four");
        let (turns, rest) = all(&packed(text), 1 << 20);
        assert_eq!(turns, of(&[(0, "one\ntwo\n\nthree and more\n")]));
        assert_eq!(rest, "four");
        assert_eq!(all(&packed(b""), 4), (vec![], String::new()));
    }

    /// Breaks after its bytes.
    struct Broken(&'static [u8]);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("broken")),
                n => Ok(n),
            }
        }
    }

    #[test]
    fn what_comes_before_an_error_is_handed_out_and_the_error_is_met_after_it() {
        let packed = Packed::new(|| Ok(Box::new(Broken(b"one\ntw"))));
        let mut text = Vec::new();
        assert!(!packed.take(0, 100, &mut text).goes_on);
        assert_eq!(text, b"one\n");
        let mut buffer = [0; 9];
        assert_eq!(packed.read(&mut buffer).ok(), Some(2));
        let error = packed.read(&mut buffer).map_err(|e| e.to_string());
        assert!(error.is_err_and(|text| text.ends_with("(broken)")));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_in_its_place() {
        let packed = Packed::new(|| Err(io::ErrorKind::NotFound.into()));
        let mut text = Vec::new();
        assert!(!packed.take(0, 100, &mut text).goes_on);
        let error = packed.read(&mut [0; 9]).map_err(|e| e.kind());
        assert_eq!(error, Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn a_turn_that_comes_too_late_is_handed_nothing() {
        let packed = packed(b"one\ntwo\nthree\n");
        let mut text = Vec::new();
        assert!(packed.take(0, 4, &mut text).goes_on);
        let mut buffer = [0; 4];
        assert_eq!(packed.read(&mut buffer).ok(), Some(4));
        let taken = packed.take(7, 4, &mut text);
        assert_eq!((taken.goes_on, text.is_empty()), (false, true));
    }
}
