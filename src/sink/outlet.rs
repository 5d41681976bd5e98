//! A stream that never keeps its writer waiting.
//!
//! Live output goes through a thread of its own: a terminal that was stopped with Ctrl-S delays neither reading nor hooks. What
//! does not fit its queue, or does not get through because a disk is full, is counted and said. Replay writes directly, because
//! there nothing may be lost. Knows pieces of text, not what they say.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Pieces that may wait to be written.
const QUEUE: usize = 1024;

/// How long the end of the program waits for a stream that is blocked.
const PATIENCE: Duration = Duration::from_secs(2);

/// A stream for text that is complete in each piece.
#[derive(Clone)]
pub struct Outlet(Inner);

#[derive(Clone)]
enum Inner {
    Direct(Arc<Mutex<Box<dyn Write + Send>>>, Arc<State>),
    Queued(SyncSender<String>, Arc<State>),
}

#[derive(Debug, Default)]
struct State {
    closed: AtomicBool,
    /// Pieces that did not fit the queue, or did not get through.
    lost: AtomicU64,
    pending: AtomicU64,
    /// Why the last piece did not get through.
    trouble: Mutex<Option<String>>,
}

impl State {
    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a piece and notes what became of it. Behind one that did not get through, and may be cut, a line begins anew.
    fn put(&self, writer: &mut (impl Write + ?Sized), piece: &str) -> io::Result<()> {
        let begin = if self.trouble().is_some() { "\n" } else { "" };
        let written = writer
            .write_all(begin.as_bytes())
            .and_then(|()| writer.write_all(piece.as_bytes()))
            .and_then(|()| writer.flush());
        match &written {
            Ok(()) => *self.trouble() = None,
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
            }
            Err(e) => {
                self.lost.fetch_add(1, Ordering::AcqRel);
                *self.trouble() = Some(e.to_string());
            }
        }
        written
    }
}

impl Outlet {
    /// Writes at once and waits for it.
    pub fn direct(writer: impl Write + Send + 'static) -> Self {
        Self(Inner::Direct(
            Arc::new(Mutex::new(Box::new(writer))),
            Arc::default(),
        ))
    }

    /// Writes on a thread of its own. `note` says there how many pieces were lost before the next one that gets through.
    pub fn queued(writer: impl Write + Send + 'static, note: fn(u64) -> String) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || write_all(&receiver, writer, note, &shared));
        Self(Inner::Queued(sender, state))
    }

    fn state(&self) -> &State {
        match &self.0 {
            Inner::Direct(_, state) | Inner::Queued(_, state) => state,
        }
    }

    /// Writes a piece, or queues it.
    ///
    /// # Errors
    /// If nobody reads the stream any more, or it cannot be written now.
    pub fn write(&self, piece: &str) -> io::Result<()> {
        let state = self.state();
        if state.closed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match &self.0 {
            Inner::Direct(writer, _) => {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                state.put(&mut **writer, piece)
            }
            Inner::Queued(sender, _) => {
                state.pending.fetch_add(1, Ordering::AcqRel);
                if sender.try_send(piece.to_owned()).is_err() {
                    state.pending.fetch_sub(1, Ordering::AcqRel);
                    state.lost.fetch_add(1, Ordering::AcqRel);
                }
                Ok(())
            }
        }
    }

    /// Nobody reads the stream any more.
    pub fn is_closed(&self) -> bool {
        self.state().closed.load(Ordering::Relaxed)
    }

    /// Pieces that did not fit the queue, or did not get through.
    pub fn lost(&self) -> u64 {
        self.state().lost.load(Ordering::Acquire)
    }

    /// Why the last piece did not get through, if it did not.
    pub fn trouble(&self) -> Option<String> {
        self.state().trouble().clone()
    }

    /// Waits until all is written, but not for ever.
    pub fn drain(&self) {
        let deadline = Instant::now() + PATIENCE;
        let state = self.state();
        while state.pending.load(Ordering::Acquire) > 0
            && !state.closed.load(Ordering::Relaxed)
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn write_all(
    receiver: &Receiver<String>,
    mut writer: impl Write,
    note: fn(u64) -> String,
    state: &State,
) {
    let mut said = 0;
    for piece in receiver {
        let lost = state.lost.load(Ordering::Acquire);
        let written = if lost > said {
            state.put(&mut writer, &(note(lost - said) + &piece))
        } else {
            state.put(&mut writer, &piece)
        };
        if written.is_ok() {
            said = lost;
        }
        state.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Writes a text to standard output. A reader that has seen enough is no error.
///
/// # Errors
/// If it cannot be written, as to a disk that is full.
pub fn print(text: &str) -> Result<()> {
    unless_closed(Outlet::direct(io::stdout()).write(text))
}

/// What became of a text for standard output. A reader that has seen enough is no error.
///
/// # Errors
/// If it could not be written, as to a disk that is full.
pub fn unless_closed(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// Whether the reader of standard output has gone, even though nothing was written.
pub(super) fn stdout_is_gone() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
        && fds[0]
            .revents()
            .intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// A stream that takes a few bytes of the pieces that it is told to refuse.
    struct Disk {
        is_full: Arc<AtomicBool>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.is_full.load(Ordering::Acquire) {
                let _ = self.written.send(bytes.to_vec());
                Ok(bytes.len())
            } else if bytes.len() > 4 {
                let _ = self.written.send(bytes[..4].to_vec());
                Ok(4)
            } else {
                Err(io::ErrorKind::StorageFull.into())
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_that_cannot_be_written_for_a_while_says_what_is_missing() {
        let is_full = Arc::new(AtomicBool::new(false));
        let (written, all) = channel();
        let disk = Disk {
            is_full: Arc::clone(&is_full),
            written,
        };
        let outlet = Outlet::queued(disk, |n| format!("{n} missing\n"));
        let write = |piece: &str, full: bool| {
            is_full.store(full, Ordering::Release);
            outlet.write(piece).unwrap();
            outlet.drain();
        };
        write("one\n", false);
        assert!(outlet.trouble().is_none());
        write("second\n", true);
        write("third\n", true);
        assert!(outlet.trouble().is_some());
        assert_eq!(outlet.lost(), 2);
        write("four\n", false);
        write("five\n", false);
        assert!(outlet.trouble().is_none() && !outlet.is_closed());
        drop(outlet);
        let text: Vec<u8> = all.into_iter().flatten().collect();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "one\nseco\n2 missing\nfour\nfive\n"
        );
    }
}
