//! A stream that never keeps its writer waiting.
//!
//! Live output goes through a thread of its own: a terminal that was stopped with Ctrl-S delays neither reading nor hooks. What
//! does not fit its queue is counted and said. Replay writes directly, because there nothing may be lost.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

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
    Direct(Arc<std::sync::Mutex<Box<dyn Write + Send>>>, Arc<State>),
    Queued(SyncSender<Vec<u8>>, Arc<State>),
}

#[derive(Debug, Default)]
struct State {
    closed: AtomicBool,
    dropped: AtomicU64,
    pending: AtomicU64,
}

impl Outlet {
    /// Writes at once and waits for it.
    pub fn direct(writer: impl Write + Send + 'static) -> Self {
        Self(Inner::Direct(
            Arc::new(std::sync::Mutex::new(Box::new(writer))),
            Arc::default(),
        ))
    }

    /// Writes on a thread of its own.
    pub fn queued(writer: impl Write + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || write_all(&receiver, writer, &shared));
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
    /// If nobody reads the stream any more.
    pub fn write(&self, piece: &str) -> io::Result<()> {
        let state = self.state();
        if state.closed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match &self.0 {
            Inner::Direct(writer, _) => {
                let mut writer = writer
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let written = writer
                    .write_all(piece.as_bytes())
                    .and_then(|()| writer.flush());
                if written.is_err() {
                    state.closed.store(true, Ordering::Relaxed);
                }
                written
            }
            Inner::Queued(sender, _) => {
                state.pending.fetch_add(1, Ordering::AcqRel);
                if sender.try_send(piece.as_bytes().to_vec()).is_err() {
                    state.pending.fetch_sub(1, Ordering::AcqRel);
                    state.dropped.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }

    /// Nobody reads the stream any more.
    pub fn is_closed(&self) -> bool {
        self.state().closed.load(Ordering::Relaxed)
    }

    /// Pieces that did not fit the queue.
    pub fn dropped(&self) -> u64 {
        self.state().dropped.load(Ordering::Relaxed)
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

fn write_all(receiver: &Receiver<Vec<u8>>, mut writer: impl Write, state: &State) {
    let mut said = 0;
    loop {
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(piece) => {
                let mut written = writer.write_all(&piece);
                let dropped = state.dropped.load(Ordering::Relaxed);
                if dropped > said {
                    said = dropped;
                    let note = format!(
                        "claude-tokmon: {dropped} messages did not fit while this stream was blocked\n"
                    );
                    written = written.and_then(|()| writer.write_all(note.as_bytes()));
                }
                if written.and_then(|()| writer.flush()).is_err() {
                    state.closed.store(true, Ordering::Relaxed);
                }
                state.pending.fetch_sub(1, Ordering::AcqRel);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
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
