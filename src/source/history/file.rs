//! A file of the past: plain, packed, or a pipe; where it is read from, how far, and when it begins.
//!
//! Knows bytes and line feeds. How files are read side by side is for the merge.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::packed::{Packed, in_words};
use crate::source::identity::FileKey;
use crate::source::{Found, Line, LineSplitter, SourceInfo};

/// Logs are about so many times as large as they are when packed.
const UNPACKED: u64 = 8;

/// How much of a file is looked at to learn when it begins.
const PROBE: u64 = 1 << 20;

/// A file to be read from its beginning.
#[derive(Debug)]
pub struct HistoryFile {
    /// Its name for people.
    pub info: Arc<SourceInfo>,
    pub(super) input: FileInput,
    pub(super) birth_ns: u128,
    pub(super) key: Option<FileKey>,
    /// Read from here on, which is the beginning of a line.
    pub(super) from: u64,
    /// Read no further than this; a line that is cut off there is left alone.
    pub(super) limit: Option<u64>,
    /// Its size when it was found.
    pub(super) size: u64,
}

/// How its bytes are had.
pub(super) enum FileInput {
    /// Read in pieces, reopened for each.
    Path(PathBuf),
    /// Unpacked as it is read.
    Packed(Arc<Packed>),
    /// Read as it comes.
    Stream(Box<dyn Read + Send>),
}

impl std::fmt::Debug for FileInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Packed(_) => f.write_str("Packed"),
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
            Some("gz") => packed(&found.path, |file| {
                Ok(Box::new(flate2::read::MultiGzDecoder::new(file)))
            })?,
            Some("zst") => packed(&found.path, |file| {
                let decoder = ruzstd::decoding::StreamingDecoder::new(file);
                let decoder = decoder.map_err(|error| in_words(io::Error::other(error)))?;
                Ok(Box::new(decoder))
            })?,
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
            size: found.size,
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

    /// How many bytes will be read of it; `None` if that is not known before.
    pub fn bytes(&self) -> Option<u64> {
        let end = self.limit.unwrap_or(self.size);
        matches!(self.input, FileInput::Path(_)).then(|| end.saturating_sub(self.from))
    }

    /// How many bytes there are about, as far as can be told before.
    pub(super) fn estimated_bytes(&self) -> u64 {
        match self.input {
            FileInput::Packed(_) => self.size.saturating_mul(UNPACKED),
            FileInput::Path(_) | FileInput::Stream(_) => self.size,
        }
    }

    /// Standard input.
    pub fn stdin() -> Self {
        Self {
            info: SourceInfo::stdin(),
            input: FileInput::Stream(Box::new(io::stdin())),
            birth_ns: u128::MAX,
            key: None,
            from: 0,
            limit: None,
            size: 0,
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
            size: 0,
        })
    }

    /// When it begins, as `probe` reads its first lines; the earliest moment there is if they do not tell, or if it can be read only
    /// once.
    pub(super) fn first_time(&self, probe: impl Fn(Line<'_>) -> Option<i64>) -> i64 {
        type ReadAt = Box<dyn FnMut(&mut [u8], u64) -> io::Result<usize>>;
        let opened: io::Result<ReadAt> = match &self.input {
            FileInput::Path(path) => File::open(path).map(|file| -> ReadAt {
                Box::new(move |buffer, offset| file.read_at(buffer, offset))
            }),
            FileInput::Packed(packed) => packed
                .reopened()
                .map(|mut reader| -> ReadAt { Box::new(move |buffer, _| reader.read(buffer)) }),
            FileInput::Stream(_) => return i64::MIN,
        };
        let Ok(mut read) = opened else {
            return i64::MIN;
        };
        let mut splitter = LineSplitter::at(self.from);
        let mut buffer = vec![0; 16 << 10];
        let mut first = None;
        while first.is_none()
            && splitter.position() - self.from < PROBE.min(self.limit.unwrap_or(u64::MAX))
        {
            let Ok(n) = read(&mut buffer, splitter.position()) else {
                break;
            };
            if n == 0 {
                break;
            }
            splitter.push(&buffer[..n], |offset, number, bytes| {
                first = first.or_else(|| {
                    probe(Line {
                        source: &self.info,
                        offset,
                        number,
                        bytes,
                    })
                });
            });
        }
        first.unwrap_or(i64::MIN)
    }

    /// The next bytes after so many.
    ///
    /// # Errors
    /// If it cannot be opened, read or unpacked.
    pub(super) fn read(&mut self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self
            .limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(position));
        let length = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        match &mut self.input {
            FileInput::Path(path) => File::open(path)?.read_at(&mut buffer[..length], position),
            FileInput::Packed(packed) => packed.read(&mut buffer[..length]),
            FileInput::Stream(stream) => stream.read(&mut buffer[..length]),
        }
    }
}

/// A packed file, which is known to be there.
fn packed(
    path: &Path,
    unpack: fn(BufReader<File>) -> io::Result<Box<dyn Read + Send>>,
) -> io::Result<FileInput> {
    let path = path.to_owned();
    let open = move || unpack(BufReader::new(File::open(&path)?));
    open()?;
    Ok(FileInput::Packed(Arc::new(Packed::new(open))))
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
