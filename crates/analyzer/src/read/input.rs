//! What can be read, and how its bytes come: files, directories, standard input, compressed or not.

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::ReadError;
use super::utf16::{Order, Utf16};

/// Something to read.
#[derive(Clone, Debug)]
pub enum Input {
    /// A file, or a directory whose files are read in the order of their names.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// Bytes under a name.
    Bytes(String, Arc<[u8]>),
}

impl Input {
    /// The name under which it is reported.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Stdin => "-".to_owned(),
            Self::Bytes(name, _) => name.clone(),
        }
    }
}

/// How deep directories are followed.
const MAX_DIR_DEPTH: usize = 16;

/// What is behind the inputs of an analysis.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Files of entries.
    pub(crate) files: Vec<Input>,
    /// Run directories of shakedown.
    pub(crate) runs: Vec<PathBuf>,
    /// Files of time series.
    pub(crate) series: Vec<PathBuf>,
}

/// The files behind `inputs`, and what among them is not made of entries.
pub(crate) fn expand(inputs: &[Input]) -> Result<Found, ReadError> {
    let mut found = Found::default();
    for input in inputs {
        match input {
            Input::Path(path) => walk(path, MAX_DIR_DEPTH, &mut found)?,
            other => found.files.push(other.clone()),
        }
    }
    if found.files.is_empty() && found.runs.is_empty() && found.series.is_empty() {
        return Err(ReadError::Nothing);
    }
    Ok(found)
}

fn walk(path: &Path, depth: usize, found: &mut Found) -> Result<(), ReadError> {
    let failed = |source| ReadError::Io { name: path.display().to_string(), source };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        if path.file_name().is_some_and(|name| name == "journal.jsonl") {
            found.runs.push(path.parent().unwrap_or(Path::new(".")).to_owned());
        } else if crate::series::recognise(path) {
            found.series.push(path.to_owned());
        } else {
            found.files.push(Input::Path(path.to_owned()));
        }
        return Ok(());
    }
    if path.join("journal.jsonl").is_file() {
        found.runs.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(failed)?;
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && depth > 0 {
            walk(&entry, depth - 1, found)?;
        }
    }
    Ok(())
}

/// The decoded bytes of an input: decompressed, without a byte order mark, UTF-16 as UTF-8.
pub(crate) struct Bytes {
    reader: Box<dyn Read + Send>,
    /// How many more may be read.
    left: u64,
    /// How many were skipped at the beginning.
    pub(crate) skipped: u64,
    /// Why there are no more, when that is not the end.
    pub(crate) ended_early: Option<String>,
}

/// Enough to recognise a compression, or an encoding by its zeros.
const HEAD: usize = 512;

impl Bytes {
    pub(crate) fn open(input: &Input, max_bytes: u64) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Io { name: input.name(), source };
        let raw: Box<dyn Read + Send> = match input {
            Input::Path(path) => Box::new(File::open(path).map_err(failed)?),
            Input::Stdin => Box::new(io::stdin()),
            Input::Bytes(_, data) => Box::new(Cursor::new(Arc::clone(data))),
        };
        let (head, raw) = peek(raw).map_err(failed)?;
        let compressed = matches!(&head[..], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
        let (head, reader) = match &head[..] {
            _ if !compressed => (head, raw),
            [0x1f, ..] => peek(Box::new(MultiGzDecoder::new(raw))).unwrap_or_else(broken),
            _ => peek(Box::new(Zstd::new(raw))).unwrap_or_else(broken),
        };
        let mut reader = reader;
        let mut skipped = 0;
        if head.starts_with(&[0xef, 0xbb, 0xbf]) {
            skipped = 3;
            reader.read_exact(&mut [0; 3]).map_err(failed)?;
        } else if let Some(order) = Order::of(&head) {
            reader = Box::new(Utf16::new(reader, order));
        }
        Ok(Self { reader, left: max_bytes, skipped, ended_early: None })
    }

    /// Fills `into` from its beginning. Returns how many bytes came; fewer than asked for only at
    /// the end.
    pub(crate) fn fill(&mut self, into: &mut [u8]) -> usize {
        let mut len = 0;
        while len < into.len() && self.ended_early.is_none() {
            let want = (into.len() - len).min(usize::try_from(self.left).unwrap_or(usize::MAX));
            if want == 0 {
                // Only now is it known whether anything was left out.
                if self.reader.read(&mut [0]).is_ok_and(|more| more > 0) {
                    self.ended_early = Some("more bytes than may be read of one input".to_owned());
                }
                break;
            }
            match self.reader.read(&mut into[len..len + want]) {
                Ok(0) => break,
                Ok(came) => {
                    len += came;
                    self.left -= came as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => self.ended_early = Some(e.to_string()),
            }
        }
        len
    }
}

type Peeked = (Vec<u8>, Box<dyn Read + Send>);

/// The first bytes, and a reader that gives them again.
fn peek(mut reader: Box<dyn Read + Send>) -> io::Result<Peeked> {
    let mut head = vec![0; HEAD];
    let mut len = 0;
    let mut failed = None;
    while len < HEAD {
        match reader.read(&mut head[len..]) {
            Ok(0) => break,
            Ok(came) => len += came,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if len == 0 => return Err(e),
            // What came before the error is kept; the error comes again after it.
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
    }
    head.truncate(len);
    let again = Cursor::new(head.clone());
    Ok((
        head,
        match failed {
            Some(e) => Box::new(again.chain(Failing(e.kind(), e.to_string()))),
            None => Box::new(again.chain(reader)),
        },
    ))
}

/// A compressed stream that is broken from its first byte: an input with nothing in it but the
/// reason.
fn broken(e: io::Error) -> Peeked {
    (Vec::new(), Box::new(Failing(e.kind(), e.to_string())))
}

struct Failing(io::ErrorKind, String);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(self.0, self.1.clone()))
    }
}

/// All frames of a zstd stream, one after the other.
enum Zstd {
    Between(Box<dyn Read + Send>),
    Frame(Box<StreamingDecoder<Box<dyn Read + Send>, ruzstd::decoding::FrameDecoder>>),
    Ended,
}

impl Zstd {
    fn new(reader: Box<dyn Read + Send>) -> Self {
        Self::Between(reader)
    }
}

impl Read for Zstd {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Self::Ended) {
                Self::Ended => return Ok(0),
                Self::Between(reader) => {
                    let (head, reader) = peek(reader)?;
                    if head.is_empty() {
                        return Ok(0);
                    }
                    let frame = StreamingDecoder::new(reader).map_err(io::Error::other)?;
                    *self = Self::Frame(Box::new(frame));
                }
                Self::Frame(mut frame) => {
                    let len = frame.read(into)?;
                    if len > 0 || into.is_empty() {
                        *self = Self::Frame(frame);
                        return Ok(len);
                    }
                    *self = Self::Between(frame.into_inner());
                }
            }
        }
    }
}
