//! Reading: bytes to entries.
//!
//! [`read`] takes files, directories and standard input in any of the formats of [`Format`], and
//! gives every entry to a sink. It never fails over what a file holds: a broken record is counted
//! and located, a file that ends early gives what it has.

pub mod audit;
mod batch;
mod build;
mod fields;
mod format;
mod habits;
mod input;
mod junit;
mod keys;
pub(crate) mod lanes;
mod pipeline;
mod record;
mod resource;
pub(crate) mod scan;
mod table;
pub(crate) mod text;
mod time;
mod tree;
mod utf16;

use std::io;
use std::path::PathBuf;

use crate::coverage::Coverage;
use crate::entry::{EntrySink, FileId, Location};

pub use batch::Why;
pub use format::Format;
pub use input::Input;

/// The longest record that is read, in bytes. Cloud Logging's limit for one entry is 256 KiB.
pub const MAX_ENTRY: usize = 4 << 20;

/// How many broken records of a file are located; all are counted.
const MAX_LOCATED: usize = 20;

/// How to read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// How many bytes are read of each input, after decompression: what stops a gzip bomb. Default
    /// 64 GiB.
    pub max_bytes: u64,
    /// The zone of times without one, in seconds east of UTC. Default 0: containers run in UTC.
    pub assumed_offset_s: i32,
    /// The service of entries that name none. Default empty.
    pub service: String,
    /// How many threads parse. Default 2.
    pub threads: usize,
    /// How much is read at once, in bytes. Default 256 KiB: a block and what is found in it stay in
    /// the processor's cache.
    pub block: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 30,
            assumed_offset_s: 0,
            service: String::new(),
            threads: 2,
            block: 256 << 10,
        }
    }
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// An input cannot be opened or read.
    #[error("cannot read {name}")]
    Io {
        /// The input.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// No input was named, or the directories named hold no files.
    #[error("nothing to read")]
    Nothing,
}

/// A record that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where it begins.
    pub location: Location,
    /// Why.
    pub why: Why,
}

/// What became of one file.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Its name as given, `-` for standard input.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// How many bytes were read, decompressed.
    pub bytes: u64,
    /// How many records were found.
    pub records: u64,
    /// How many records could not be read.
    pub broken: u64,
    /// Where the first of them stand.
    pub located: Vec<Broken>,
    /// Why reading ended before the end: a broken compressed stream, `--max-bytes`.
    pub ended_early: Option<String>,
}

impl FileReport {
    /// Of a file of which nothing was read yet.
    pub fn new(name: String, format: Format) -> Self {
        Self {
            name,
            format,
            bytes: 0,
            records: 0,
            broken: 0,
            located: Vec::new(),
            ended_early: None,
        }
    }
}

/// What became of the inputs.
#[derive(Clone, Debug, Default)]
pub struct ReadReport {
    /// The files, in the order they were read. A [`FileId`] is an index into this.
    pub files: Vec<FileReport>,
    /// Run directories of shakedown that were found: see [`read_run_dir`](crate::run::read_run_dir).
    pub run_dirs: Vec<PathBuf>,
    /// Saved answers of Cloud Monitoring that were found: figures, no entries.
    pub series: Vec<PathBuf>,
}

impl ReadReport {
    /// The name of a file.
    pub fn name(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("", |file| &file.name)
    }
}

/// Reads `inputs`, giving each entry to one of the sinks that `make_sink` makes, and merges them.
///
/// An entry with an `insertId` is given once; where one copy has a payload and another does not,
/// that one is given (again, with [`completes`](crate::entry::Entry::completes), when it came
/// second).
///
/// # Errors
///
/// When an input cannot be opened, or there is none. Errors within a file end that file only and are
/// in its report.
pub fn read<S: EntrySink>(
    inputs: &[Input],
    options: &ReadOptions,
    make_sink: impl Fn() -> S,
) -> Result<(S, Coverage, ReadReport), ReadError> {
    let found = input::expand(inputs)?;
    let mut done = pipeline::run(&found.files, options, make_sink)?;
    for (file, source) in done.files.iter_mut().zip(&found.files) {
        file.name = source.name();
    }
    let coverage = done.tally.finish(done.claimed, done.ids_beyond);
    let report = ReadReport { files: done.files, run_dirs: found.runs, series: found.series };
    Ok((done.sink, coverage, report))
}
