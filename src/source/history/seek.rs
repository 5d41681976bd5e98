//! Where in a large file the recent past begins, found by halving instead of reading.
//!
//! Logs are nearly sorted. Where that cannot be relied on, the answer is the beginning of the file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Decode;
use super::reorder::REORDER_MS;
use crate::source::{Found, Line, LineSplitter, SourceInfo};

/// Smaller files are read whole.
const WORTH_IT: u64 = 8 << 20;

/// How much is looked at in one place, and how much at most until a line with a time is found.
const BLOCK: usize = 64 << 10;
const MAX_BLOCKS: u64 = 32;

/// Places that are looked at to see whether a file is sorted.
const SAMPLES: u64 = 24;

/// Halving ends when so much is left.
const CLOSE_ENOUGH: u64 = 256 << 10;

/// An offset at the beginning of a line. All that lies before it is older than `oldest_ms`, as far as a file is sorted within
/// ten minutes, which is looked at in a few places. Zero if there is any doubt.
pub fn start_of<D: Decode>(found: &Found, decoder: &D, oldest_ms: i64) -> u64 {
    if found.size < WORTH_IT {
        return 0;
    }
    let Ok(file) = File::open(&found.path) else {
        return 0;
    };
    let look = Look {
        file,
        size: found.size,
        info: SourceInfo::file(&found.path),
        decoder,
    };
    look.start_of(oldest_ms.saturating_sub(REORDER_MS))
        .unwrap_or(0)
}

struct Look<'a, D> {
    file: File,
    size: u64,
    info: std::sync::Arc<SourceInfo>,
    decoder: &'a D,
}

/// Times found in one place.
#[derive(Debug, Clone, Copy)]
struct Times {
    first: i64,
    last: i64,
    /// Offset of the first whole line.
    begin: u64,
}

impl<D: Decode> Look<'_, D> {
    fn start_of(&self, before: i64) -> Option<u64> {
        if !self.is_sorted()? {
            return None;
        }
        let (mut older, mut begin) = (0, 0);
        let first = self.times(0)?;
        if first.last >= before {
            return None;
        }
        let mut newer = self.size;
        while newer - older > CLOSE_ENOUGH {
            let middle = older + (newer - older) / 2;
            match self.times(middle) {
                Some(times) if times.last < before => {
                    older = middle;
                    begin = times.begin;
                }
                _ => newer = middle,
            }
        }
        Some(begin)
    }

    /// Whether no place has times that are far behind those of a place before it.
    fn is_sorted(&self) -> Option<bool> {
        let mut newest = i64::MIN;
        for sample in 0..SAMPLES {
            let times = self.times(self.size / SAMPLES * sample)?;
            if times.first.saturating_add(REORDER_MS) < newest {
                return Some(false);
            }
            newest = newest.max(times.last);
        }
        Some(true)
    }

    /// The smallest and the largest time in the lines that begin after an offset.
    fn times(&self, offset: u64) -> Option<Times> {
        let mut buffer = vec![0; BLOCK];
        let mut splitter: Option<LineSplitter> = (offset == 0).then(LineSplitter::default);
        let mut begin = 0;
        let mut found: Option<(i64, i64)> = None;
        let mut at = offset;
        for _ in 0..MAX_BLOCKS {
            let n = self.file.read_at(&mut buffer, at).ok()?;
            let mut block = &buffer[..n];
            if splitter.is_none()
                && let Some(line_feed) = memchr::memchr(b'\n', block)
            {
                begin = at + line_feed as u64 + 1;
                splitter = Some(LineSplitter::at(begin));
                block = &block[line_feed + 1..];
            }
            if let Some(splitter) = &mut splitter {
                splitter.push(block, |offset, number, bytes| {
                    let line = Line {
                        source: &self.info,
                        offset,
                        number,
                        bytes,
                    };
                    if let Some(time) = self.decoder.probe(line) {
                        let (first, last) = found.unwrap_or((time, time));
                        found = Some((first.min(time), last.max(time)));
                    }
                });
            }
            if found.is_some() || n == 0 {
                break;
            }
            at += n as u64;
        }
        found.map(|(first, last)| Times { first, last, begin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{InOrder, Input, Names, SourceInfo, discover};
    use std::fmt::Write;
    use std::sync::Arc;

    /// Lines of the form `TIME TEXT`.
    struct Numbers;

    impl Decode for Numbers {
        type Item = ();

        type Glance = InOrder<()>;

        fn glance(&self) -> Option<InOrder<()>> {
            None
        }

        fn digest(&mut self, _source: &Arc<SourceInfo>, (): (), _last: Option<i64>) {}

        fn line(&mut self, _line: Line<'_>, _out: &mut Vec<(Option<i64>, ())>) {}

        fn probe(&self, line: Line<'_>) -> Option<i64> {
            let text = std::str::from_utf8(line.bytes).ok()?;
            text.split_once(' ')?.0.parse().ok()
        }

        fn is_whole(&self, _bytes: &[u8]) -> bool {
            false
        }

        fn take(&mut self, _time: Option<i64>, (): ()) {}
    }

    const N: i64 = 120_000;

    fn log(time_of: impl Fn(i64) -> String) -> String {
        let mut text = String::new();
        for n in 0..N {
            writeln!(text, "{} {:0>80}", time_of(n), n).unwrap();
        }
        text
    }

    fn start(text: &str, oldest: i64) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.log"), text).unwrap();
        let (found, ..) = discover(&[Input::Dir(dir.path().to_owned())], Names::Live);
        start_of(&found[0], &Numbers, oldest)
    }

    /// All lines that are new enough lie behind the offset, which is the beginning of a line.
    fn check(text: &str, oldest: i64) -> u64 {
        let offset = start(text, oldest);
        let before = &text[..usize::try_from(offset).unwrap()];
        assert!(before.is_empty() || before.ends_with('\n'));
        let times = before
            .lines()
            .filter_map(|line| line.split_once(' ')?.0.parse::<i64>().ok());
        assert!(times.max().is_none_or(|time| time < oldest), "at {offset}");
        offset
    }

    #[test]
    fn a_sorted_log_is_not_read_from_its_beginning() {
        let text = log(|n| (n * 1000).to_string());
        let size = text.len() as u64;
        for part in [0, 1, 50, 99, 100_u32] {
            let offset = check(&text, N * 10 * i64::from(part));
            let expected = size / 100 * u64::from(part);
            assert!(
                offset <= expected && offset + size / 20 >= expected.min(size),
                "{part} %: {offset} of {size}"
            );
        }
    }

    #[test]
    fn disorder_of_minutes_and_lines_without_times_are_allowed_for() {
        let shaken = log(|n| (n * 1000 - (n * 7919 % 500) * 1000).to_string());
        assert!(check(&shaken, N * 900) > 0);
        let sparse = log(|n| {
            if n % 50 == 0 {
                (n * 1000).to_string()
            } else {
                "-".to_owned()
            }
        });
        assert!(check(&sparse, N * 900) > 0);
    }

    #[test]
    fn a_log_that_is_not_sorted_or_has_no_times_is_read_whole() {
        let twice = log(|n| (n % (N / 2) * 1000).to_string());
        assert_eq!(start(&twice, N * 400), 0);
        let none = log(|_| "-".to_owned());
        assert_eq!(start(&none, N * 900), 0);
        assert_eq!(start("5 a\n6 b\n", 6), 0);
    }
}
