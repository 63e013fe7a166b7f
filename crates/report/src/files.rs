//! The files of a session.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::clean::{CleanDiagnosis, CleanRecord};
use crate::{
    diagnosis_json, html, junit, markdown, metric_summaries, strategy_metrics, write_json,
};

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`", path.display())]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

/// Writes every report into the session's directory `dir`, which must exist: the record
/// (`test_execution_log.json`), the strategy's metric files, every metric summed up
/// (`metric_summaries.json`), `diagnosis.json`, `junit.xml`, `report.html` and `summary.md`, readable for
/// nobody else (0600). Returns their paths. Files of an earlier call are replaced.
///
/// # Errors
///
/// [`FileError`] for the first that could not be written; the others are written all the same.
pub fn write_files(
    record: &CleanRecord,
    diagnosis: &CleanDiagnosis,
    dir: &Path,
) -> Result<Vec<PathBuf>, FileError> {
    // One text at a time is held in memory, and the longest in pieces.
    let written = [
        create(dir.join("test_execution_log.json"), |file| {
            let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
            write_json(record, &mut file)?;
            file.flush()
        }),
        write(dir.join("vpc_connector_metrics.json"), &strategy_metrics(record, "vpc")),
        write(dir.join("cloud_sql_operations.json"), &strategy_metrics(record, "cloudsql")),
        write(dir.join("metric_summaries.json"), &metric_summaries(record)),
        write(dir.join("diagnosis.json"), &diagnosis_json(diagnosis)),
        write(dir.join("junit.xml"), &junit(record)),
        write(dir.join("report.html"), &html(record, Some(diagnosis))),
        write(dir.join("summary.md"), &markdown(record, Some(diagnosis))),
    ];
    written.into_iter().collect()
}

/// Of the longest file; the others are written in one piece.
const BUFFER_BYTES: usize = 64 * 1024;

fn write(path: PathBuf, text: &str) -> Result<PathBuf, FileError> {
    create(path, |mut file| file.write_all(text.as_bytes()))
}

fn create(path: PathBuf, write: impl FnOnce(File) -> io::Result<()>) -> Result<PathBuf, FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(&path).and_then(write) {
        Ok(()) => Ok(path),
        Err(source) => Err(FileError { path, source }),
    }
}
