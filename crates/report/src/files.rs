//! The files of a session.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::clean::{CleanDiagnosis, CleanRecord};
use crate::{diagnosis_json, html, json, junit, markdown, metric_summaries, strategy_metrics};

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
    // One text at a time is held in memory.
    let written = [
        write(dir.join("test_execution_log.json"), &json(record)),
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

fn write(path: PathBuf, text: &str) -> Result<PathBuf, FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(&path).and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(path),
        Err(source) => Err(FileError { path, source }),
    }
}
