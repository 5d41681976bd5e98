//! Where strings end, sixty-four bytes at a time, with the widest instructions that the processor has.
//!
//! Knows of JSON only how a string is written.

#![allow(
    clippy::inline_always,
    reason = "only what is inlined where the instructions are chosen is compiled for them"
)]

use fearless_simd::{Level, dispatch, prelude::*, u8x64};

const SIZE: usize = 64;

/// Bytes that were looked at together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Block {
    begin: usize,
    end: usize,
    /// A bit for each of its bytes that is a quote which no backslash goes with, the first lowest.
    ends: u64,
    /// The same for each backslash.
    backslashes: u64,
    /// Its last byte is a backslash that goes with the byte behind it.
    escapes_next: bool,
}

impl Block {
    pub(super) const fn begin(&self) -> usize {
        self.begin
    }

    pub(super) const fn end(&self) -> usize {
        self.end
    }

    /// The end of the string that goes on where the block begins, if it lies in it.
    #[inline]
    pub(super) const fn first_end(&self) -> Option<usize> {
        self.first(self.ends, self.begin)
    }

    /// The end of a string that goes on there, if it lies in the block.
    #[inline]
    pub(super) const fn end_from(&self, at: usize) -> Option<usize> {
        self.first(self.ends, at)
    }

    /// The end of a string that goes on there, or an escape before it.
    #[inline]
    pub(super) const fn stop_from(&self, at: usize) -> Option<usize> {
        self.first(self.ends | self.backslashes, at)
    }

    #[inline]
    const fn first(&self, bits: u64, at: usize) -> Option<usize> {
        if at >= self.end {
            return None;
        }
        let bits = bits >> (at - self.begin);
        if bits == 0 {
            return None;
        }
        Some(at + bits.trailing_zeros() as usize)
    }

    /// The first block with the end of the string that goes on at `begin`, behind this block. `None` if there is none, and if
    /// something before it is a fault in a string: a control character, or an escape that there is not.
    #[inline(never)]
    pub(super) fn next(&self, text: &[u8], begin: usize) -> Option<Self> {
        let is_escaped = begin == self.end && self.escapes_next;
        dispatch!(Level::new(), simd => with_end(simd, text, begin, is_escaped))
    }

    /// The block of these bytes, which begin there in a text. `None` if they hold what is a fault in a string.
    #[inline(always)]
    fn of<S: Simd>(
        simd: S,
        bytes: &[u8; SIZE],
        begin: usize,
        text: &[u8],
        is_escaped: bool,
    ) -> Option<Self> {
        let bytes = u8x64::from_slice(simd, bytes);
        let equal = |byte: u8| bytes.simd_eq(u8x64::splat(simd, byte));
        if bytes.simd_lt(u8x64::splat(simd, b' ')).any_true() {
            return None;
        }
        let quotes = equal(b'"').to_bitmask();
        let backslashes = equal(b'\\').to_bitmask();
        let (escaped, escapes_next) = escaped(backslashes, is_escaped);
        let line_feeds_and_tabs = (equal(b'n') | equal(b't')).to_bitmask();
        let others = escaped & !(quotes | backslashes | line_feeds_and_tabs);
        if others != 0 {
            // What is left of those goes on behind the block, or is none.
            let left = others & !rarer_escapes(simd, bytes);
            if left != 0 {
                are_escapes(left, begin, text)?;
            }
        }
        Some(Self {
            begin,
            end: begin + SIZE,
            ends: quotes & !escaped,
            backslashes,
            escapes_next,
        })
    }
}

/// The first block with an end, of those that begin there. A backslash may go with the first byte.
#[inline(always)]
fn with_end<S: Simd>(
    simd: S,
    text: &[u8],
    mut begin: usize,
    mut is_escaped: bool,
) -> Option<Block> {
    let (whole, rest) = text.get(begin..)?.as_chunks();
    for bytes in whole {
        let block = Block::of(simd, bytes, begin, text, is_escaped)?;
        if block.ends != 0 {
            return Some(block);
        }
        is_escaped = block.escapes_next;
        begin = block.end;
    }
    let mut padded = [b' '; SIZE];
    padded[..rest.len()].copy_from_slice(rest);
    let block = Block::of(simd, &padded, begin, text, is_escaped)?;
    (block.ends != 0).then_some(block)
}

/// A bit for each byte that makes an escape with a backslash before it, but those that are found before: of the codes only those
/// with all their digits in the block.
#[inline(always)]
fn rarer_escapes<S: Simd>(simd: S, bytes: u8x64<S>) -> u64 {
    let splat = |byte: u8| u8x64::splat(simd, byte);
    // Letters of both cases, and digits as they are.
    let lower = bytes | splat(0x20);
    let digits = bytes.simd_ge(splat(b'0')) & bytes.simd_le(splat(b'9'));
    let letters = lower.simd_ge(splat(b'a')) & lower.simd_le(splat(b'f'));
    let digits = (digits | letters).to_bitmask();
    let equal = |byte: u8| bytes.simd_eq(splat(byte));
    let single = (equal(b'r') | equal(b'/') | equal(b'b') | equal(b'f')).to_bitmask();
    let codes = equal(b'u').to_bitmask();
    single | codes & (digits >> 1) & (digits >> 2) & (digits >> 3) & (digits >> 4)
}

/// A bit for each byte that a backslash goes with, and whether one goes with the byte behind the block.
///
/// In a run of backslashes each second byte is such a byte, and so is the byte behind a run of odd length. Added to its first bit, a
/// run carries to the place behind it, which tells runs apart that begin at even and at odd places: in the latter it is the bits at
/// even places that count.
#[inline(always)]
const fn escaped(backslashes: u64, is_escaped: bool) -> (u64, bool) {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    // A backslash that another one goes with goes with nothing itself.
    let backslashes = backslashes & !(is_escaped as u64);
    let behind = (backslashes << 1) | is_escaped as u64;
    let odd_begins = backslashes & !EVEN & !behind;
    let (sum, carries) = odd_begins.overflowing_add(backslashes);
    ((EVEN ^ (sum << 1)) & behind, carries)
}

/// Whether each of these bytes of a block, with the backslash before it, is an escape.
fn are_escapes(mut bits: u64, begin: usize, text: &[u8]) -> Option<()> {
    while bits != 0 {
        let at = begin + bits.trailing_zeros() as usize;
        bits &= bits - 1;
        match text.get(at)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
            b'u' => {
                let code = text.get(at + 1..at + 5)?;
                if !code.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
            }
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What this processor has, and what others have instead.
    fn levels() -> Vec<Level> {
        let best = Level::new();
        let levels = [best, Level::baseline()].into_iter();
        #[cfg(target_arch = "x86_64")]
        let levels = {
            let narrower = [
                best.as_avx2().map(Simd::level),
                best.as_sse4_2().map(Simd::level),
            ];
            levels.chain(narrower.into_iter().flatten())
        };
        levels.collect()
    }

    /// Where the string ends that the text is within, byte by byte. `None` if it does not, or has a fault up to its end.
    fn end_of_string(text: &[u8]) -> Option<usize> {
        let quoted = |end: usize| {
            let text = std::str::from_utf8(&text[..=end]).ok()?;
            serde_json::from_str::<String>(&format!("\"{text}")).ok()
        };
        (0..text.len()).find(|end| text[*end] == b'"' && quoted(*end).is_some())
    }

    /// The inside of a string and what follows it, with many backslashes.
    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            8 => Just("\\"),
            6 => prop::sample::select(vec!["n", "t", "u", "00e4", "\"", "/", "b", "\\n", "\\\"", "\\u00e4", "\\t", "\\r"]),
            6 => prop::sample::select(vec!["a", "ü", "0123456789", "abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz"]),
            1 => prop::sample::select(vec!["\n", "\u{1f}", "\u{7f}", "\\x", "\\u12g4", "\\u123g"]),
        ];
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn every_second_backslash_of_a_run_goes_with_the_one_before_it() {
        for (backslashes, is_escaped, expected) in [
            (0, false, (0, false)),
            (0, true, (1, false)),
            (0b1, false, (0b10, false)),
            (0b1, true, (0b1, false)),
            (0b11_0110, false, (0b10_0100, false)),
            (0b111, false, (0b1010, false)),
            (0b1110, false, (0b1_0100, false)),
            (1 << 63, false, (0, true)),
            (0b11 << 62, false, (1 << 63, false)),
            (u64::MAX, false, (0xAAAA_AAAA_AAAA_AAAA, false)),
            (u64::MAX, true, (0x5555_5555_5555_5555, true)),
        ] {
            assert_eq!(
                escaped(backslashes, is_escaped),
                expected,
                "{backslashes:b} {is_escaped}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Whatever instructions there are, the end of a string is where a parser finds it, and faults before it are found.
        #[test]
        fn a_string_ends_where_a_parser_says(text in text()) {
            let text = text.as_bytes();
            for level in levels() {
                let block = dispatch!(level, simd => with_end(simd, text, 0, false));
                let end = block.and_then(|block| block.first_end());
                let known = end_of_string(text);
                // A fault behind the end may be in the same block: then it is left to the parser.
                prop_assert!(end.is_none() || end == known, "{:?} {:?} {:?}", end, known, level);
            }
        }

        /// All instructions say the same.
        #[test]
        fn all_processors_see_the_same(text in text(), is_escaped in any::<bool>()) {
            let blocks: Vec<_> = levels()
                .into_iter()
                .map(|level| dispatch!(level, simd => with_end(simd, text.as_bytes(), 0, is_escaped)))
                .collect();
            prop_assert!(blocks.windows(2).all(|two| two[0] == two[1]), "{blocks:?}");
        }

        /// What is without fault is not left to the parser.
        #[test]
        fn a_string_without_fault_is_seen_to_its_end(inside in ".{0,300}", behind in "[a-z ]{0,100}") {
            let text = format!("{}{behind}", &serde_json::to_string(&inside).unwrap()[1..]);
            let end = text.len() - behind.len() - 1;
            let block = Block::default().next(text.as_bytes(), 0).unwrap();
            prop_assert_eq!(block.first_end(), Some(end));
        }
    }
}
