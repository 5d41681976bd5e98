//! What lies in files already, merged in time order.
//!
//! Each file is a stream with a reorder buffer of ten minutes or 65,536 entries; streams are merged by time, then by the birth
//! of the file, its path and the order within it. A file is opened when the merge has come near its first entry, and not kept
//! open between two reads, so ten thousand files need few descriptors and little memory.
//!
//! What a line means, and when it happened, is asked of a [`Decode`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::identity::FileKey;
use super::lines::SplitStats;
use super::{Found, Line, LineSplitter, SourceInfo};

/// How far entries of one file may be out of order.
pub(super) const REORDER_MS: i64 = 600_000;

const REORDER_ENTRIES: usize = 65_536;

const CHUNK: usize = 256 << 10;

/// How much of a file is looked at to learn when it begins.
const PROBE: u64 = 1 << 20;

/// Reads lines for a merge that does not know what they mean.
pub trait Decode {
    /// What a line holds.
    type Item;

    /// Reads a line. Each item comes with its time in milliseconds since the epoch, or none.
    fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, Self::Item)>);

    /// The file has ended for good: what its lines left open comes now. Nothing by default.
    fn end(&mut self, _source: &SourceInfo, _out: &mut Vec<(Option<i64>, Self::Item)>) {}

    /// The time of the first item in a line, without any effect.
    fn probe(&self, line: Line<'_>) -> Option<i64>;

    /// Whether these bytes are a whole line though no line feed follows. Asked where a file ends that is still growing.
    fn is_whole(&self, bytes: &[u8]) -> bool;

    /// Takes an item in the order of the merge.
    fn take(&mut self, time: Option<i64>, item: Self::Item);
}

/// A file to be read from its beginning.
#[derive(Debug)]
pub struct HistoryFile {
    /// Its name for people.
    pub info: Arc<SourceInfo>,
    input: FileInput,
    birth_ns: u128,
    key: Option<FileKey>,
    /// Read from here on, which is the beginning of a line.
    from: u64,
    /// Read no further than this; a line that is cut off there is left alone.
    limit: Option<u64>,
}

enum FileInput {
    /// Read in pieces, reopened for each.
    Path(PathBuf),
    /// Read as it comes.
    Stream(Box<dyn Read>),
}

impl std::fmt::Debug for FileInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl HistoryFile {
    /// A file that is read whole; `.gz` and `.zst` are unpacked.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn whole(found: &Found) -> io::Result<Self> {
        let input = match found.path.extension().and_then(|ext| ext.to_str()) {
            Some("gz") => {
                let file = File::open(&found.path)?;
                FileInput::Stream(Box::new(flate2::read::MultiGzDecoder::new(
                    io::BufReader::new(file),
                )))
            }
            Some("zst") => {
                let file = io::BufReader::new(File::open(&found.path)?);
                let decoder =
                    ruzstd::decoding::StreamingDecoder::new(file).map_err(io::Error::other)?;
                FileInput::Stream(Box::new(decoder))
            }
            _ => {
                File::open(&found.path)?;
                FileInput::Path(found.path.clone())
            }
        };
        Ok(Self {
            info: SourceInfo::file(&found.path),
            input,
            birth_ns: found.birth_ns,
            key: Some(found.key),
            from: 0,
            limit: None,
        })
    }

    /// A file that is read from an offset up to the size it was found with, because it is followed from there on.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn up_to_now(found: &Found, from: u64) -> io::Result<Self> {
        Ok(Self {
            from,
            limit: Some(found.size),
            ..Self::whole(found)?
        })
    }

    /// Standard input.
    pub fn stdin() -> Self {
        Self {
            info: SourceInfo::stdin(),
            input: FileInput::Stream(Box::new(io::stdin().lock())),
            birth_ns: u128::MAX,
            key: None,
            from: 0,
            limit: None,
        }
    }

    /// A named pipe.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn pipe(path: &Path) -> io::Result<Self> {
        let input = FileInput::Stream(Box::new(File::open(path)?));
        Ok(Self {
            info: SourceInfo::file(path),
            input,
            birth_ns: u128::MAX,
            key: None,
            from: 0,
            limit: None,
        })
    }
}

/// How far a file was read.
#[derive(Debug)]
pub struct Finished {
    /// Its name for people.
    pub info: Arc<SourceInfo>,
    /// Its identity, if it is a file.
    pub key: Option<FileKey>,
    /// The end of its last whole line.
    pub committed: u64,
    /// What was met besides lines.
    pub stats: SplitStats,
    /// Why reading stopped early.
    pub error: Option<io::Error>,
}

struct Stream<T> {
    file: HistoryFile,
    splitter: LineSplitter,
    /// Entries that may still be overtaken by an earlier one: time, order of reading; with their items.
    heap: BinaryHeap<Reverse<(i64, u64)>>,
    items: HashMap<u64, T, rustc_hash::FxBuildHasher>,
    /// Entries whose turn is certain, in order. Which they are depends on the entries only, not on how the file was read.
    ready: VecDeque<(i64, T)>,
    read: u64,
    newest: i64,
    /// The time given to an item without one: that of the item before it.
    last: i64,
    ended: bool,
    error: Option<io::Error>,
}

/// Reads all files and hands every item to the decoder, in time order. `progress` is told of the bytes as they are read.
pub fn merge<D: Decode>(
    files: Vec<HistoryFile>,
    decoder: &mut D,
    progress: impl FnMut(u64),
) -> Vec<Finished> {
    let mut waiting: Vec<(i64, HistoryFile)> = files
        .into_iter()
        .map(|file| (first_time(&file, decoder), file))
        .collect();
    // The file that begins first is taken from the end.
    waiting.sort_by(|a, b| {
        (b.0, b.1.birth_ns, &b.1.info.name).cmp(&(a.0, a.1.birth_ns, &a.1.info.name))
    });
    let mut merge = Merge {
        streams: Vec::new(),
        heads: BinaryHeap::new(),
        buffer: vec![0; CHUNK],
        progress,
    };
    let mut finished = Vec::new();
    loop {
        let front = merge.heads.peek().map(|Reverse(head)| head.time);
        let may_be_earlier =
            |first: i64| front.is_none_or(|front| first.saturating_sub(REORDER_MS) <= front);
        if let Some((_, file)) = waiting.pop_if(|(first, _)| may_be_earlier(*first)) {
            merge.streams.push(Some(Stream::new(file)));
            let index = merge.streams.len() - 1;
            finished.extend(merge.refill(index, decoder));
        } else if let Some(Reverse(head)) = merge.heads.pop() {
            if let Some(item) = merge.streams[head.index]
                .as_mut()
                .and_then(Stream::take_first)
            {
                decoder.take((head.time > i64::MIN).then_some(head.time), item);
            }
            finished.extend(merge.refill(head.index, decoder));
        } else {
            break;
        }
    }
    finished
}

/// The first entry of a stream. Streams are merged in this order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    time: i64,
    birth_ns: u128,
    name: Arc<str>,
    index: usize,
}

struct Merge<T, P> {
    streams: Vec<Option<Stream<T>>>,
    heads: BinaryHeap<Reverse<Head>>,
    buffer: Vec<u8>,
    progress: P,
}

impl<T, P: FnMut(u64)> Merge<T, P> {
    /// Reads a stream on until its first entry is certain, and queues it; or finishes the stream.
    fn refill<D: Decode<Item = T>>(&mut self, index: usize, decoder: &mut D) -> Option<Finished> {
        let stream = self.streams[index].as_mut()?;
        let before = stream.splitter.stats().bytes;
        stream.fill(decoder, &mut self.buffer);
        let read = stream.splitter.stats().bytes - before;
        if read > 0 {
            (self.progress)(read);
        }
        if let Some((time, _)) = stream.ready.front() {
            let Stream { file, .. } = stream;
            let head = Head {
                time: *time,
                birth_ns: file.birth_ns,
                name: Arc::clone(&file.info.name),
                index,
            };
            self.heads.push(Reverse(head));
            return None;
        }
        self.streams[index].take().map(Stream::finish)
    }
}

impl<T> Stream<T> {
    fn new(file: HistoryFile) -> Self {
        Self {
            splitter: LineSplitter::at(file.from),
            file,

            heap: BinaryHeap::new(),
            items: HashMap::default(),
            ready: VecDeque::new(),
            read: 0,
            newest: i64::MIN,
            last: i64::MIN,
            ended: false,
            error: None,
        }
    }

    /// Whether the earliest entry may be taken: nothing earlier can come any more.
    fn is_certain(&self) -> bool {
        self.ended
            || self.heap.len() >= REORDER_ENTRIES
            || self
                .heap
                .peek()
                .is_some_and(|Reverse((time, _))| self.newest.saturating_sub(*time) > REORDER_MS)
    }

    /// Moves the entries whose turn is certain.
    fn settle(&mut self) {
        while !self.heap.is_empty() && self.is_certain() {
            let Some(Reverse((time, order))) = self.heap.pop() else {
                break;
            };
            self.ready
                .extend(self.items.remove(&order).map(|item| (time, item)));
        }
    }

    /// Reads until an entry is ready or the file is at its end.
    fn fill<D: Decode<Item = T>>(&mut self, decoder: &mut D, buffer: &mut [u8]) {
        while self.ready.is_empty() && !self.ended {
            let n = match self.read(buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    self.error = Some(e);
                    0
                }
            };
            // A file that is followed from here on may be in the middle of a line.
            let whole =
                n == 0 && (self.file.limit.is_none() || decoder.is_whole(self.splitter.partial()));
            let mut items = Vec::new();
            let source = &self.file.info;
            let mut hand_over = |offset, number, bytes: &[u8]| {
                let line = Line {
                    source,
                    offset,
                    number,
                    bytes,
                };
                decoder.line(line, &mut items);
            };
            if n > 0 {
                self.splitter.push(&buffer[..n], &mut hand_over);
            } else if whole && self.error.is_none() {
                self.splitter.finish(&mut hand_over);
            }
            if n == 0 {
                decoder.end(&self.file.info, &mut items);
            }
            for (time, item) in items {
                self.last = time.unwrap_or(self.last);
                self.newest = self.newest.max(self.last);
                self.heap.push(Reverse((self.last, self.read)));
                self.items.insert(self.read, item);
                self.read += 1;
                self.settle();
            }
            self.ended = n == 0;
            self.settle();
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let position = self.splitter.position();
        let left = self
            .file
            .limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(position));
        let length = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        match &mut self.file.input {
            FileInput::Path(path) => File::open(path)?.read_at(&mut buffer[..length], position),
            FileInput::Stream(stream) => stream.read(&mut buffer[..length]),
        }
    }

    fn take_first(&mut self) -> Option<T> {
        self.ready.pop_front().map(|(_, item)| item)
    }

    fn finish(self) -> Finished {
        Finished {
            info: self.file.info,
            key: self.file.key,
            committed: self.splitter.committed(),
            stats: self.splitter.stats(),
            error: self.error,
        }
    }
}

/// When a file begins; the earliest moment there is if its beginning does not tell, or if it can be read only once.
fn first_time<D: Decode>(file: &HistoryFile, decoder: &D) -> i64 {
    let FileInput::Path(path) = &file.input else {
        return i64::MIN;
    };
    let Ok(opened) = File::open(path) else {
        return i64::MIN;
    };
    let mut splitter = LineSplitter::at(file.from);
    let mut buffer = vec![0; 16 << 10];
    let mut first = None;
    while first.is_none()
        && splitter.position() - file.from < PROBE.min(file.limit.unwrap_or(u64::MAX))
    {
        let Ok(n) = opened.read_at(&mut buffer, splitter.position()) else {
            break;
        };
        if n == 0 {
            break;
        }
        splitter.push(&buffer[..n], |offset, number, bytes| {
            first = first.or_else(|| {
                decoder.probe(Line {
                    source: &file.info,
                    offset,
                    number,
                    bytes,
                })
            });
        });
    }
    first.unwrap_or(i64::MIN)
}

/// The end of the last whole line of a file, for one that is followed without being read.
///
/// # Errors
/// If it cannot be read.
pub fn last_line_end(found: &Found) -> io::Result<u64> {
    let file = File::open(&found.path)?;
    let mut buffer = vec![0; 64 << 10];
    let mut end = found.size;
    while end > 0 {
        let length = usize::try_from(end).unwrap_or(usize::MAX).min(buffer.len());
        let start = end - length as u64;
        file.read_exact_at(&mut buffer[..length], start)?;
        if let Some(at) = memchr::memrchr(b'\n', &buffer[..length]) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Input, Names, discover};

    /// Lines of the form `TIME NAME`; a line without a time is `- NAME`.
    #[derive(Default)]
    struct Words(Vec<(Option<i64>, String)>);

    fn word(line: &Line<'_>) -> Option<(Option<i64>, String)> {
        let text = std::str::from_utf8(line.bytes).ok()?;
        let (time, name) = text.split_once(' ')?;
        Some((time.parse().ok(), name.to_owned()))
    }

    impl Decode for Words {
        type Item = String;

        fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, String)>) {
            out.extend(word(&line));
        }

        fn probe(&self, line: Line<'_>) -> Option<i64> {
            word(&line)?.0
        }

        fn is_whole(&self, _bytes: &[u8]) -> bool {
            false
        }

        fn take(&mut self, time: Option<i64>, item: String) {
            self.0.push((time, item));
        }
    }

    fn merged(files: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let born =
            |path: &Path| crate::source::identity::birth_ns(&std::fs::metadata(path).unwrap());
        let mut last = 0;
        for (name, text) in files {
            let path = dir.path().join(name);
            // The clock of a file system is coarse: try until this file is younger than the one before.
            loop {
                std::fs::write(&path, text).unwrap();
                if born(&path) > last || born(&path) == 0 {
                    break;
                }
                std::fs::remove_file(&path).unwrap();
            }
            last = born(&path);
        }
        let (found, ..) = discover(&[Input::Dir(dir.path().to_owned())], Names::Compressed);
        let files = found
            .iter()
            .map(|found| HistoryFile::whole(found).unwrap())
            .collect();
        let mut words = Words::default();
        merge(files, &mut words, |_| {});
        words
            .0
            .into_iter()
            .map(|(_, word)| word)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn files_are_merged_by_time_and_disorder_of_ten_minutes_is_mended() {
        let a = "1000 a1\n5000 a3\n3000 a2\n9000 a4";
        let b = "2000 b1\n4000 b2\n";
        assert_eq!(merged(&[("a.log", a), ("b.log", b)]), "a1 b1 a2 b2 a3 a4");
    }

    #[test]
    fn at_the_same_time_the_older_file_comes_first_and_its_order_is_kept() {
        assert_eq!(
            merged(&[("z.log", "7 z1\n7 z2\n"), ("a.log", "7 a1\n")]),
            "z1 z2 a1"
        );
    }

    #[test]
    fn what_is_more_than_ten_minutes_late_stays_behind() {
        let late = "0 a\n700000 b\n1400000 c\n1 late\n2100000 d\n";
        assert_eq!(merged(&[("a.log", late)]), "a b late c d");
    }

    #[test]
    fn an_item_without_a_time_keeps_its_place() {
        assert_eq!(merged(&[("a.log", "1 a\n- x\n3 c\n2 b\n")]), "a x b c");
    }
}
