//! What ends a wait early. File events are hints only: with none of them the follower is right, a moment later.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// What a wait has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// Paths that something happened to.
    pub paths: HashSet<PathBuf>,
    /// Events were lost: everything must be looked at.
    pub all: bool,
}

/// Waits for something to happen.
pub trait Wake {
    /// Waits until something happens, or for so long.
    fn wait(&mut self, at_most: Duration) -> Woken;

    /// Asks to be woken by changes in a directory. False if the system cannot, so that only polling sees them.
    fn watch(&mut self, dir: &Path) -> bool;

    /// A way to end a wait from another thread.
    fn handle(&self) -> WakeHandle;
}

impl Wake for Box<dyn Wake> {
    fn wait(&mut self, at_most: Duration) -> Woken {
        (**self).wait(at_most)
    }

    fn watch(&mut self, dir: &Path) -> bool {
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

    /// Nothing is missed that was wanted.
    fn watch(&mut self, _dir: &Path) -> bool {
        true
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
    watched: HashSet<PathBuf>,
}

impl NotifyWake {
    /// One that watches, but loses every event: what polling alone finds is then the whole truth. For tests.
    pub fn blind() -> Self {
        Self::with(|_, _| {})
    }

    fn with(take: fn(&WakeHandle, notify::Result<Event>)) -> Self {
        let handle = WakeHandle::default();
        let events = handle.clone();
        let watcher = notify::recommended_watcher(move |event| take(&events, event)).ok();
        Self {
            handle,
            watcher,
            watched: HashSet::new(),
        }
    }
}

impl Default for NotifyWake {
    fn default() -> Self {
        Self::with(take)
    }
}

/// Lost events are asked for first: such an event names no path. Our own opening and reading of files is no news.
fn take(handle: &WakeHandle, event: notify::Result<Event>) {
    match event {
        Ok(event) if event.need_rescan() => handle.change(|woken| woken.all = true),
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        Ok(event) => handle.change(|woken| woken.paths.extend(event.paths)),
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

    fn watch(&mut self, dir: &Path) -> bool {
        if self.watched.contains(dir) {
            return true;
        }
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let watched = watcher.watch(dir, RecursiveMode::NonRecursive).is_ok();
        if watched {
            self.watched.insert(dir.to_owned());
        }
        watched
    }

    fn handle(&self) -> WakeHandle {
        self.handle.clone()
    }
}
