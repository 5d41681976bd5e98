//! Memory of responses that were judged, for those that are read next.
//!
//! Knows nothing of what stands in it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::monitor::UsageRecord;

/// So many batches wait to be used again; nobody needs more.
const MOST: usize = 16;

#[allow(clippy::vec_box, reason = "what is kept is the memory of each")]
type Batch = Vec<Box<UsageRecord>>;

/// Where those who have judged responses leave them for those who read others, on other threads. To give each back and to ask for
/// another takes longer than to write it, the more so as it is not the same thread that does.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<Batch>>>);

impl Pool {
    /// Leaves these.
    #[allow(clippy::vec_box, reason = "what is kept is the memory of each")]
    pub fn give(&self, batch: Vec<Box<UsageRecord>>) {
        let mut batches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() < MOST {
            batches.push(batch);
        }
    }

    fn take(&self) -> Option<Batch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// What one of those who read has taken.
#[derive(Debug, Default)]
pub(super) struct Share {
    pool: Pool,
    batch: Batch,
}

impl Share {
    pub(super) fn of(pool: &Pool) -> Self {
        Self {
            pool: pool.clone(),
            batch: Vec::new(),
        }
    }

    /// Takes back what was judged on the same thread.
    pub(super) fn give_back(&mut self, record: Box<UsageRecord>) {
        self.batch.push(record);
    }

    /// Leaves what it took back to all who read.
    pub(super) fn leave_all(&mut self) {
        if !self.batch.is_empty() {
            self.pool.give(std::mem::take(&mut self.batch));
        }
    }

    /// A response whose place may be written over.
    pub(super) fn next(&mut self) -> Option<Box<UsageRecord>> {
        if self.batch.is_empty()
            && let Some(batch) = self.pool.take()
        {
            self.batch = batch;
        }
        self.batch.pop()
    }
}
