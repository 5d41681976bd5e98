//! Memory that files are read into.
//!
//! Some processors copy several times slower from the page cache to memory that does not begin where a page of the file does,
//! and memory as it comes from an allocator begins sixteen bytes behind. Knows no files.

use std::ops::{Deref, DerefMut};

/// Bytes in a page.
pub(super) const PAGE: usize = 4096;

/// How far into memory its first page begins.
pub(super) fn first_page(memory: &[u8]) -> usize {
    memory.as_ptr().align_offset(PAGE).min(PAGE)
}

/// Memory that begins with a page.
pub(super) struct Pages {
    memory: Vec<u8>,
    start: usize,
}

impl Pages {
    /// Memory of so many bytes.
    pub(super) fn new(length: usize) -> Self {
        let mut memory = vec![0; length + PAGE];
        let start = first_page(&memory);
        memory.truncate(start + length);
        Self { memory, start }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_page_and_is_as_long_as_asked_for() {
        for length in [1, PAGE, 100_000] {
            let pages = Pages::new(length);
            assert_eq!(pages.len(), length);
            assert_eq!(pages.as_ptr().addr() % PAGE, 0);
        }
    }
}
