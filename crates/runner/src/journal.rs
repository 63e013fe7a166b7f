//! The journal: one line per event, on disk before the next step.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use shakedown_core::Redactor;
use shakedown_core::record::{JournalLine, RunEvent};

use crate::sink::EventSink;

/// The journal's file name inside the session's directory.
const FILE: &str = "journal.jsonl";

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The session's directory could not be made.
    #[error("cannot make the session directory `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be made. It must not exist: a journal is never overwritten.
    #[error("cannot make the journal `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes `journal.jsonl`: one `write` per event and no buffer, so that a killed process has lost
/// nothing it had finished; synced to the disk at the end of each phase and of the run, so that
/// neither has a machine that lost power.
///
/// Every string passes the redactor. Progress is not journaled.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    redactor: Redactor,
    /// The event being written.
    line: Vec<u8>,
}

impl Journal {
    /// Makes `dir` (0700, with its parents) and an empty journal (0600) in it.
    ///
    /// # Errors
    ///
    /// [`JournalError`], also when `dir` has a journal already.
    pub fn create(dir: &Path, redactor: Redactor) -> Result<Self, JournalError> {
        make_dir(dir)
            .map_err(|source| JournalError::Directory { path: dir.to_path_buf(), source })?;
        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        options.append(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(file) => Ok(Self { file, path, redactor, line: Vec::new() }),
            Err(source) => Err(JournalError::File { path, source }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl EventSink for Journal {
    fn emit(&mut self, line: &JournalLine) -> io::Result<()> {
        if matches!(line.event, RunEvent::ProbeProgress { .. }) {
            return Ok(());
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        let text = str::from_utf8(&self.line).map_err(io::Error::other)?;
        if let Cow::Owned(clean) = self.redactor.redact_json(text) {
            self.line = clean.into_bytes();
        }
        self.line.push(b'\n');
        self.file.write_all(&self.line)?;
        if matches!(line.event, RunEvent::PhaseFinished { .. } | RunEvent::RunFinished { .. }) {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        result => result,
    }
}
