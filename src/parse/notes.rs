//! What the reading of a response takes from which value of its line, for whoever wants to know.
//!
//! Knows neither why nor what becomes of it.

use std::cell::{Cell, RefCell};

use super::json::Raw;
use super::usage::NamedCount;

/// What the reading of a response takes from a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Time,
    Id,
    Request,
    Session,
    Agent,
    Project,
    Model,
    StopReason,
    /// The steps of a response, whose numbers change nothing.
    Steps,
    Count(NamedCount),
}

/// What is taken from where.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// By where the text of the value begins in memory.
    taken: RefCell<Vec<(usize, Role)>>,
    /// The reading has come to a response, and all of it was noted.
    is_whole: Cell<bool>,
    /// It took a way on which values mean more than what they are taken for.
    is_odd: Cell<bool>,
}

impl Notes {
    /// The reading begins with another place.
    pub(super) fn begin(&self) {
        self.taken.borrow_mut().clear();
        self.is_whole.set(false);
    }

    /// A value is taken for something.
    pub(super) fn take(&self, role: Role, value: Raw<'_>) {
        let at = value.bytes().as_ptr().addr();
        self.taken.borrow_mut().push((at, role));
    }

    /// All that the response says was noted, or was looked at and will be the same.
    pub(super) fn end(&self) {
        self.is_whole.set(true);
    }

    /// What follows cannot be told from single values.
    pub(super) fn give_up(&self) {
        self.is_odd.set(true);
    }

    /// What was taken, by where the text of the value begins in memory. `None` if that does not tell what the response says.
    pub(super) fn taken(&self) -> Option<Vec<(usize, Role)>> {
        (self.is_whole.get() && !self.is_odd.get()).then(|| self.taken.take())
    }
}
