//! What lies in files already, merged in time order.
//!
//! Each file is a stream with a reorder buffer of ten minutes or 65,536 entries; streams are merged by time, then by the birth
//! of the file, its path and the order within it. Files are read ahead in pieces on all cores; pipes, and what cannot be
//! understood without the lines before it, are read in order. What is packed can be unpacked by one thread at a time only, while
//! others read the lines before. No plain file is kept open between two reads, and none that is packed before its time, so ten
//! thousand need few descriptors and little memory.
//!
//! What a line means, and when it happened, is asked of a [`Decode`].

mod ahead;
mod file;
mod packed;
mod reorder;
mod seek;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;

use self::ahead::{Desk, Job, Part, Piece, Pool, Stretch};
use self::file::FileInput;
use self::reorder::{REORDER_MS, Reorder};
use super::identity::FileKey;
use super::lines::SplitStats;
use super::pages::Pages;
use super::{Line, LineSplitter, SourceInfo};

pub use ahead::{Glance, InOrder};
pub use file::{HistoryFile, last_line_end};
pub use seek::start_of;

/// A file is read ahead in pieces of this size.
const PIECE: u64 = 1 << 20;

/// Of many files that lie beside each other in time each has a piece in memory: they are so large together, as far as pieces
/// do not become too small to be worth it.
const ALL_PIECES: u64 = 4 << 20;
const SMALL_PIECE: u64 = 64 << 10;

const CHUNK: usize = 256 << 10;

/// Reads lines for a merge that does not know what they mean.
pub trait Decode {
    /// What a line holds.
    type Item: Send;

    /// What reads lines ahead on other threads.
    type Glance: Glance<Item = Self::Item>;

    /// Something that reads lines ahead on another thread; one is asked for each. Without any, all lines are read in order.
    fn glance(&self) -> Option<Self::Glance>;

    /// Takes in what lines of a source came to that were read ahead. Told in the order of the lines; `last` is the time of the
    /// last item in them.
    fn digest(
        &mut self,
        source: &Arc<SourceInfo>,
        digest: <Self::Glance as Glance>::Digest,
        last: Option<i64>,
    );

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

    /// The next items may be long in coming: a pipe is read. Nothing by default.
    fn pause(&mut self) {}
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

/// How reading is spread over threads.
#[derive(Debug, Clone, Copy)]
struct Spread {
    /// Whoever merges is one of them.
    threads: usize,
    piece: u64,
}

/// Reads all files and hands every item to the decoder, in time order. `progress` is told of the bytes as they are read.
pub fn merge<D: Decode>(
    files: Vec<HistoryFile>,
    decoder: &mut D,
    progress: impl FnMut(u64),
) -> Vec<Finished> {
    let spread = Spread {
        threads: available_parallelism().map_or(1, usize::from),
        piece: PIECE,
    };
    merge_spread(files, decoder, progress, spread)
}

fn merge_spread<D: Decode>(
    files: Vec<HistoryFile>,
    decoder: &mut D,
    progress: impl FnMut(u64),
    spread: Spread,
) -> Vec<Finished> {
    let Some(own) = decoder.glance() else {
        return merge_on(files, decoder, progress, None);
    };
    // A small file is read before a thread has begun.
    let n_pieces: u64 = files
        .iter()
        .map(|file| file.estimated_bytes().div_ceil(spread.piece))
        .sum();
    let helpers = usize::try_from(n_pieces / 2)
        .unwrap_or(usize::MAX)
        .min(spread.threads.saturating_sub(1));
    let glances: Vec<D::Glance> = (0..helpers).filter_map(|_| decoder.glance()).collect();
    let pool = Pool::new();
    std::thread::scope(|scope| {
        for glance in glances {
            scope.spawn(|| pool.serve(glance));
        }
        let helpers = Helpers {
            pool: &pool,
            own,
            desk: Desk::default(),
            piece: spread.piece,
            n_open: 0,
            // Each thread has one piece to read and one that it has read; the merge has some of its own, to be at while it waits.
            free: isize::try_from(2 * helpers + 8).unwrap_or(isize::MAX),
        };
        let finished = merge_on(files, decoder, progress, Some(helpers));
        pool.close();
        finished
    })
}

/// The threads that read ahead.
struct Helpers<'p, G: Glance> {
    pool: &'p Pool<G>,
    /// For pieces that nobody has begun when they are needed, or while others are waited for.
    own: G,
    desk: Desk,
    /// The largest piece.
    piece: u64,
    /// Files that are being read.
    n_open: u64,
    /// So many more pieces may be read ahead; below zero if some were asked for because they were needed at once.
    free: isize,
}

impl<G: Glance> Helpers<'_, G> {
    /// How large the next piece is.
    fn next_piece(&self) -> u64 {
        let fair = ALL_PIECES / self.n_open.max(1);
        self.piece.min(fair.max(SMALL_PIECE))
    }
}

/// Where a file stands that is read ahead in pieces.
struct Ahead<G: Glance> {
    /// Where the next piece begins that nobody was asked to read; of what is unpacked, its number.
    next: u64,
    /// Where the last piece ends; of what is unpacked nobody knows.
    end: u64,
    jobs: VecDeque<Arc<Job<G>>>,
}

struct Stream<D: Decode> {
    file: HistoryFile,
    splitter: LineSplitter,
    ahead: Option<Ahead<D::Glance>>,
    /// Lines in the pieces so far.
    lines: u64,
    entries: Reorder<D::Item>,
    ended: bool,
    error: Option<io::Error>,
}

/// Files of which none is open for long are asked for so many pieces before their turn.
const WAITING_AHEAD: usize = 4;

fn merge_on<D: Decode>(
    files: Vec<HistoryFile>,
    decoder: &mut D,
    progress: impl FnMut(u64),
    helpers: Option<Helpers<'_, D::Glance>>,
) -> Vec<Finished> {
    let reads_ahead = helpers.is_some();
    let mut waiting: Vec<(i64, Stream<D>)> = files
        .into_iter()
        .map(|file| {
            (
                file.first_time(|line| decoder.probe(line)),
                Stream::new(file, reads_ahead),
            )
        })
        .collect();
    // The file that begins first is taken from the end.
    waiting.sort_by(|(a, x), (b, y)| {
        (b, y.file.birth_ns, &y.file.info.name).cmp(&(a, x.file.birth_ns, &x.file.info.name))
    });
    let mut merge = Merge {
        streams: Vec::new(),
        heads: BinaryHeap::new(),
        buffer: Pages::new(CHUNK),
        progress,
        helpers,
    };
    let mut finished = Vec::new();
    loop {
        let front = merge.heads.peek().map(|Reverse(head)| head.time);
        let may_be_earlier =
            |first: i64| front.is_none_or(|front| first.saturating_sub(REORDER_MS) <= front);
        if let Some((_, stream)) = waiting.pop_if(|(first, _)| may_be_earlier(*first)) {
            if let Some(helpers) = &mut merge.helpers {
                for (_, stream) in waiting.iter_mut().rev().take(WAITING_AHEAD) {
                    stream.ask_for(helpers, 1, false);
                }
            }
            merge.streams.push(Some(stream));
            merge.note_open(1);
            let index = merge.streams.len() - 1;
            finished.extend(merge.refill(index, decoder));
        } else if let Some(Reverse(head)) = merge.heads.pop() {
            let waits = waiting
                .last()
                .map(|(first, _)| first.saturating_sub(REORDER_MS));
            merge.take_from(head, waits, decoder, &mut finished);
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

struct Merge<'p, D: Decode, P> {
    streams: Vec<Option<Stream<D>>>,
    heads: BinaryHeap<Reverse<Head>>,
    buffer: Pages,
    progress: P,
    helpers: Option<Helpers<'p, D::Glance>>,
}

impl<D: Decode, P: FnMut(u64)> Merge<'_, D, P> {
    /// Hands over the entries of a stream for as long as they come before those of all others, and before `waits`, when
    /// another file may begin.
    fn take_from(
        &mut self,
        mut head: Head,
        waits: Option<i64>,
        decoder: &mut D,
        finished: &mut Vec<Finished>,
    ) {
        loop {
            let Some(stream) = self.streams[head.index].as_mut() else {
                return;
            };
            if let Some((time, item)) = stream.entries.take_first() {
                decoder.take((time > i64::MIN).then_some(time), item);
            }
            let Some(next) = stream.entries.first() else {
                break;
            };
            head.time = next;
            let others = self
                .heads
                .peek()
                .is_some_and(|Reverse(other)| *other < head);
            if others || waits.is_some_and(|waits| waits <= next) {
                self.heads.push(Reverse(head));
                return;
            }
        }
        finished.extend(self.refill(head.index, decoder));
    }

    /// More or fewer files are being read.
    fn note_open(&mut self, more: i64) {
        if let Some(helpers) = &mut self.helpers {
            helpers.n_open = helpers.n_open.saturating_add_signed(more);
        }
    }

    /// Reads a stream on until its first entry is certain, and queues it; or finishes the stream.
    fn refill(&mut self, index: usize, decoder: &mut D) -> Option<Finished> {
        let stream = self.streams[index].as_mut()?;
        let before = stream.splitter.stats().bytes;
        stream.fill(decoder, &mut self.buffer, self.helpers.as_mut());
        let read = stream.splitter.stats().bytes - before;
        if read > 0 {
            (self.progress)(read);
        }
        if let Some(time) = stream.entries.first() {
            let Stream { file, .. } = stream;
            let head = Head {
                time,
                birth_ns: file.birth_ns,
                name: Arc::clone(&file.info.name),
                index,
            };
            self.heads.push(Reverse(head));
            return None;
        }
        self.note_open(-1);
        self.streams[index].take().map(Stream::finish)
    }
}

impl<D: Decode> Stream<D> {
    fn new(file: HistoryFile, reads_ahead: bool) -> Self {
        let end = match file.input {
            FileInput::Path(_) => file.limit.unwrap_or(file.size),
            FileInput::Packed(_) if file.from == 0 && file.limit.is_none() => u64::MAX,
            FileInput::Packed(_) | FileInput::Stream(_) => 0,
        };
        let ahead = (reads_ahead && end > file.from).then(|| Ahead {
            next: file.from,
            end,
            jobs: VecDeque::new(),
        });
        Self {
            splitter: LineSplitter::at(file.from),
            file,
            ahead,
            lines: 0,
            entries: Reorder::new(),
            ended: false,
            error: None,
        }
    }

    /// Sees to it that so many pieces are being read, as far as there is room; the first finds room anyhow if it has to.
    fn ask_for(&mut self, helpers: &mut Helpers<'_, D::Glance>, n: usize, has_to: bool) {
        let Some(ahead) = &mut self.ahead else {
            return;
        };
        while ahead.jobs.len() < n
            && ahead.next < ahead.end
            && (helpers.free > 0 || (has_to && ahead.jobs.is_empty()))
        {
            let part = match &self.file.input {
                FileInput::Path(path) => {
                    let from = ahead.next;
                    ahead.next = ahead.end.min(from + helpers.next_piece());
                    Part::Span {
                        path: path.clone(),
                        begin: self.file.from,
                        from,
                        to: ahead.next,
                        file_end: ahead.end,
                    }
                }
                FileInput::Packed(packed) => {
                    ahead.next += 1;
                    Part::Turn {
                        packed: Arc::clone(packed),
                        turn: ahead.next - 1,
                        step: helpers.next_piece(),
                    }
                }
                FileInput::Stream(_) => return,
            };
            let job = Arc::new(Job::new(Arc::clone(&self.file.info), part));
            helpers.pool.add(Arc::clone(&job));
            ahead.jobs.push_back(job);
            helpers.free -= 1;
        }
    }

    /// Reads until an entry is ready or the file is at its end.
    fn fill(
        &mut self,
        decoder: &mut D,
        buffer: &mut [u8],
        mut helpers: Option<&mut Helpers<'_, D::Glance>>,
    ) {
        while self.entries.first().is_none() && !self.ended {
            match helpers.as_deref_mut().filter(|_| self.ahead.is_some()) {
                Some(helpers) => self.take_piece(decoder, helpers),
                None => self.read_on(decoder, buffer),
            }
        }
    }

    /// Takes in the next piece that was read ahead.
    fn take_piece(&mut self, decoder: &mut D, helpers: &mut Helpers<'_, D::Glance>) {
        self.ask_for(helpers, usize::MAX, true);
        let job = self.ahead.as_mut().and_then(|ahead| ahead.jobs.pop_front());
        let Some(job) = job else {
            self.ahead = None;
            return;
        };
        let piece = job.wait(helpers.pool, &mut helpers.own, &mut helpers.desk);
        helpers.free += 1;
        let goes_on = match piece {
            Ok(piece) => self.take_in(piece, decoder),
            // Read in order from here on, it meets the same error.
            Err(_) => false,
        };
        if goes_on {
            // The next one is read while others are taken from.
            self.ask_for(helpers, 1, true);
        } else {
            let left = self.ahead.take().map_or(0, |ahead| ahead.jobs.len());
            helpers.free += isize::try_from(left).unwrap_or(0);
        }
    }

    /// Takes in what a piece came to. False if the file has to be read in order from here on.
    fn take_in(
        &mut self,
        piece: Piece<D::Item, <D::Glance as Glance>::Digest>,
        decoder: &mut D,
    ) -> bool {
        for Stretch {
            items,
            digest,
            then,
        } in piece.stretches
        {
            let last = items.iter().rev().find_map(|(time, _)| *time);
            decoder.digest(&self.file.info, digest, last);
            for (time, item) in items {
                self.entries.push(time, item);
            }
            if let Some(aside) = then {
                let mut items = Vec::new();
                let line = Line {
                    source: &self.file.info,
                    offset: aside.offset,
                    number: self.lines + aside.number,
                    bytes: &aside.bytes,
                };
                decoder.line(line, &mut items);
                for (time, item) in items {
                    self.entries.push(time, item);
                }
            }
        }
        self.lines += piece.lines;
        if let Some(end) = piece.end {
            self.splitter.skip_to(end, self.lines, piece.nul_bytes);
        }
        piece.goes_on
    }

    /// Reads the next bytes in order.
    fn read_on(&mut self, decoder: &mut D, buffer: &mut [u8]) {
        if matches!(self.file.input, FileInput::Stream(_)) {
            decoder.pause();
        }
        let n = match self.file.read(self.splitter.position(), buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return,
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
            self.entries.push(time, item);
        }
        self.ended = n == 0;
        if self.ended {
            self.entries.end();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Input, Names, discover};
    use proptest::prelude::*;
    use std::io::Write;
    use std::path::Path;

    /// Lines of the form `TIME NAME`; a line without a time is `- NAME`.
    #[derive(Default)]
    struct Words {
        taken: Vec<(Option<i64>, String)>,
        lines: u64,
    }

    fn word(line: &Line<'_>) -> Option<(Option<i64>, String)> {
        let text = std::str::from_utf8(line.bytes).ok()?;
        let (time, name) = text.split_once(' ')?;
        Some((time.parse().ok(), name.to_owned()))
    }

    /// Reads ahead every line but those that say `aside`.
    #[derive(Default)]
    struct WordsAhead(u64);

    impl Glance for WordsAhead {
        type Item = String;
        type Digest = u64;

        fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, String)>) -> bool {
            let is_aside = line.bytes.windows(5).any(|word| word == b"aside");
            if !is_aside {
                self.0 += 1;
                out.extend(word(&line));
            }
            !is_aside
        }

        fn digest(&mut self) -> u64 {
            std::mem::take(&mut self.0)
        }
    }

    impl Decode for Words {
        type Item = String;
        type Glance = WordsAhead;

        fn glance(&self) -> Option<WordsAhead> {
            Some(WordsAhead::default())
        }

        fn digest(&mut self, _source: &Arc<SourceInfo>, lines: u64, _last: Option<i64>) {
            self.lines += lines;
        }

        fn line(&mut self, line: Line<'_>, out: &mut Vec<(Option<i64>, String)>) {
            self.lines += 1;
            out.extend(word(&line));
        }

        fn probe(&self, line: Line<'_>) -> Option<i64> {
            word(&line)?.0
        }

        fn is_whole(&self, _bytes: &[u8]) -> bool {
            false
        }

        fn take(&mut self, time: Option<i64>, item: String) {
            self.taken.push((time, item));
        }
    }

    fn files_in(dir: &Path) -> Vec<HistoryFile> {
        let (found, ..) = discover(&[Input::Dir(dir.to_owned())], Names::Compressed);
        let files = found.iter().map(|found| HistoryFile::whole(found).unwrap());
        files.collect()
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
        let files = files_in(dir.path());
        let mut words = Words::default();
        merge(files, &mut words, |_| {});
        words
            .taken
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

    fn gzip(text: &str) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    /// Lines of which some are odd, long, empty, or have no time.
    fn lines() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            6 => (0_i64..2_000_000, "[a-z]{1,6}").prop_map(|(time, word)| format!("{time} {word}")),
            1 => (0_i64..2_000_000).prop_map(|time| format!("{time} aside")),
            1 => "[a-z]{1,4}".prop_map(|word| format!("- {word}")),
            1 => Just(String::new()),
            1 => (0_i64..2_000_000, 20_usize..90).prop_map(|(time, n)| format!("{time} {}", "x".repeat(n))),
            1 => Just("\0\0\u{feff}7 nul\r".to_owned()),
        ];
        (prop::collection::vec(line, 0..60), any::<bool>()).prop_map(|(lines, ends)| {
            let end = if ends { "\n" } else { "" };
            lines.join("\n") + end
        })
    }

    proptest! {
        #[test]
        fn any_pieces_and_threads_give_what_reading_in_order_gives(
            a in lines(),
            b in lines(),
            piece in 1_u64..80,
            threads in 0_usize..5,
            packed in any::<bool>(),
        ) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("a.log"), &a).unwrap();
            if packed {
                std::fs::write(dir.path().join("b.log.1.gz"), gzip(&b)).unwrap();
            } else {
                std::fs::write(dir.path().join("b.log"), &b).unwrap();
            }
            let read = |spread: Option<Spread>| {
                let files = files_in(dir.path());
                let mut words = Words::default();
                let mut bytes = 0;
                let mut finished = match spread {
                    Some(spread) => merge_spread(files, &mut words, |n| bytes += n, spread),
                    None => merge_on(files, &mut words, |n| bytes += n, None),
                };
                finished.sort_by(|a, b| a.info.name.cmp(&b.info.name));
                let ends: Vec<_> = finished.iter().map(|f| (f.committed, f.stats)).collect();
                (words.taken, words.lines, ends, bytes)
            };
            prop_assert_eq!(read(Some(Spread { threads, piece })), read(None));
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_whatever_the_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(crate::source::MAX_LINE_BYTES + 5);
        let text = format!("1 a\n{long}\n2 b\n3 c\n");
        std::fs::write(dir.path().join("a.log"), &text).unwrap();
        let packed = tempfile::tempdir().unwrap();
        std::fs::write(packed.path().join("a.log.1.gz"), gzip(&text)).unwrap();
        let pieces = [1 << 10, 1 << 20, 1 << 30];
        for (dir, piece) in [&dir, &packed]
            .iter()
            .flat_map(|dir| pieces.map(|piece| (dir, piece)))
        {
            let files = files_in(dir.path());
            let mut words = Words::default();
            let finished = merge_spread(files, &mut words, |_| {}, Spread { threads: 2, piece });
            let taken: Vec<&str> = words.taken.iter().map(|(_, word)| &**word).collect();
            assert_eq!(taken, ["a", "b", "c"]);
            assert_eq!(finished[0].stats.oversize_lines, 1);
        }
    }
}
