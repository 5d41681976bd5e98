//! What ends a wait early. File events are hints only: with none of them the follower is right, a moment later.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::io::Errno;

/// What a wait has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// Paths that something happened to.
    pub paths: HashSet<PathBuf>,
    /// Those of them that came, went or were renamed, as far as that is known: there may be other files now.
    pub names: HashSet<PathBuf>,
    /// Events were lost: everything must be looked at.
    pub all: bool,
}

/// Whether a directory is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watching {
    /// Its changes end a wait.
    Events,
    /// Nobody wants that.
    Unwanted,
    /// It went away this very moment. It may be back at the next.
    Gone,
    /// The system cannot, so that only polling sees its changes.
    Refused(Refusal),
}

/// Why the system does not watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// As many directories are watched as this user may.
    NoWatchesLeft,
    /// As many programs watch as this user may, or too many files are open.
    NoInstancesLeft,
    /// Another reason.
    Other,
}

/// Waits for something to happen.
pub trait Wake {
    /// Waits until something happens, or for so long.
    fn wait(&mut self, at_most: Duration) -> Woken;

    /// Asks to be woken by changes in a directory.
    fn watch(&mut self, dir: &Path) -> Watching;

    /// A way to end a wait from another thread.
    fn handle(&self) -> WakeHandle;
}

impl Wake for Box<dyn Wake> {
    fn wait(&mut self, at_most: Duration) -> Woken {
        (**self).wait(at_most)
    }

    fn watch(&mut self, dir: &Path) -> Watching {
        (**self).watch(dir)
    }

    fn handle(&self) -> WakeHandle {
        (**self).handle()
    }
}

/// Ends a wait from another thread.
#[derive(Debug, Clone, Default)]
pub struct WakeHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    woken: Woken,
    any: bool,
}

impl WakeHandle {
    /// Ends the wait.
    pub fn wake(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl FnOnce(&mut Woken)) {
        let mut pending = self.lock();
        change(&mut pending.woken);
        pending.any = true;
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, at_most: Duration) -> Woken {
        let pending = self.lock();
        let waited = self
            .0
            .changed
            .wait_timeout_while(pending, at_most, |pending| !pending.any);
        let (mut pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
        pending.any = false;
        std::mem::take(&mut pending.woken)
    }
}

/// Waits for the time only, because the user asks for it.
#[derive(Debug, Default)]
pub struct SleepWake(WakeHandle);

impl Wake for SleepWake {
    fn wait(&mut self, at_most: Duration) -> Woken {
        self.0.wait(at_most)
    }

    fn watch(&mut self, _dir: &Path) -> Watching {
        Watching::Unwanted
    }

    fn handle(&self) -> WakeHandle {
        self.0.clone()
    }
}

/// Is woken by the file events of the system.
#[derive(Debug)]
pub struct NotifyWake {
    handle: WakeHandle,
    watcher: Option<RecommendedWatcher>,
    take: Take,
    watched: HashSet<PathBuf>,
}

/// What is done with an event.
type Take = fn(&WakeHandle, notify::Result<Event>);

impl NotifyWake {
    /// One that watches, but loses every event: what polling alone finds is then the whole truth. For tests.
    pub fn blind() -> Self {
        Self::with(|_, _| {})
    }

    /// The watcher is made when it is first needed, and again if it could not be made.
    fn with(take: Take) -> Self {
        Self {
            handle: WakeHandle::default(),
            watcher: None,
            take,
            watched: HashSet::new(),
        }
    }

    fn watcher(&mut self) -> notify::Result<&mut RecommendedWatcher> {
        let watcher = if let Some(watcher) = self.watcher.take() {
            watcher
        } else {
            let (events, take) = (self.handle.clone(), self.take);
            notify::recommended_watcher(move |event| take(&events, event))?
        };
        Ok(self.watcher.insert(watcher))
    }
}

impl Default for NotifyWake {
    fn default() -> Self {
        Self::with(take)
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn refusal(error: &notify::Error) -> Refusal {
    match &error.kind {
        ErrorKind::MaxFilesWatch => Refusal::NoWatchesLeft,
        ErrorKind::Io(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            Refusal::NoInstancesLeft
        }
        _ => Refusal::Other,
    }
}

/// Lost events are asked for first: such an event names no path. Our own opening and reading of files is no news.
fn take(handle: &WakeHandle, event: notify::Result<Event>) {
    match event {
        Ok(event) if event.need_rescan() => handle.change(|woken| woken.all = true),
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        Ok(event) => handle.change(|woken| {
            let grew = matches!(event.kind, EventKind::Modify(ModifyKind::Data(_)));
            if !grew {
                woken.names.extend(event.paths.iter().cloned());
            }
            woken.paths.extend(event.paths);
        }),
        Err(_) => handle.change(|woken| woken.all = true),
    }
}

impl Wake for NotifyWake {
    fn wait(&mut self, at_most: Duration) -> Woken {
        let woken = self.handle.wait(at_most);
        // A watched directory that was removed or renamed is watched again when it is next asked for.
        self.watched
            .retain(|dir| !woken.paths.contains(dir) || dir.is_dir());
        woken
    }

    fn watch(&mut self, dir: &Path) -> Watching {
        if self.watched.contains(dir) {
            return Watching::Events;
        }
        let watched = self
            .watcher()
            .and_then(|watcher| watcher.watch(dir, RecursiveMode::NonRecursive));
        match watched {
            Ok(()) => {
                self.watched.insert(dir.to_owned());
                Watching::Events
            }
            Err(error) if is_gone(&error) => Watching::Gone,
            Err(error) => Watching::Refused(refusal(&error)),
        }
    }

    fn handle(&self) -> WakeHandle {
        self.handle.clone()
    }
}

/// Is refused every directory, as where all watches of the user are taken. For tests.
#[derive(Debug, Default)]
pub struct RefusedWake(WakeHandle);

impl Wake for RefusedWake {
    fn wait(&mut self, at_most: Duration) -> Woken {
        self.0.wait(at_most)
    }

    fn watch(&mut self, _dir: &Path) -> Watching {
        Watching::Refused(Refusal::NoWatchesLeft)
    }

    fn handle(&self) -> WakeHandle {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_has_gone_is_not_refused_and_is_watched_when_it_is_back() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("logs");
        let mut wake = NotifyWake::default();
        assert_eq!(wake.watch(&dir), Watching::Gone);
        std::fs::create_dir(&dir).expect("made");
        assert_eq!(wake.watch(&dir), Watching::Events);
    }
}
