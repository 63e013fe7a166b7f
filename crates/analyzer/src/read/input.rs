//! What can be read, and how its bytes come: files, directories, standard input, compressed or not.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ReadError;

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

/// The files behind `inputs`, and the run directories among them.
pub(crate) fn expand(inputs: &[Input]) -> Result<(Vec<Input>, Vec<PathBuf>), ReadError> {
    let (mut files, mut runs) = (Vec::new(), Vec::new());
    for input in inputs {
        match input {
            Input::Path(path) => walk(path, MAX_DIR_DEPTH, &mut files, &mut runs)?,
            other => files.push(other.clone()),
        }
    }
    if files.is_empty() && runs.is_empty() {
        return Err(ReadError::Nothing);
    }
    Ok((files, runs))
}

fn walk(
    path: &Path,
    depth: usize,
    files: &mut Vec<Input>,
    runs: &mut Vec<PathBuf>,
) -> Result<(), ReadError> {
    let failed = |source| ReadError::Io { name: path.display().to_string(), source };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        files.push(Input::Path(path.to_owned()));
        return Ok(());
    }
    if path.join("journal.jsonl").is_file() {
        runs.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(failed)?;
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && depth > 0 {
            walk(&entry, depth - 1, files, runs)?;
        }
    }
    Ok(())
}

/// All bytes of an input, as UTF-8 where it was UTF-16, and why there are no more.
pub(crate) fn load(input: &Input, max_bytes: u64) -> Result<(Vec<u8>, Option<String>), ReadError> {
    let failed = |source| ReadError::Io { name: input.name(), source };
    let mut bytes = Vec::new();
    match input {
        Input::Path(path) => {
            File::open(path).and_then(|file| file.take(max_bytes).read_to_end(&mut bytes))
        }
        Input::Stdin => io::stdin().lock().take(max_bytes).read_to_end(&mut bytes),
        Input::Bytes(_, data) => data.take(max_bytes).read_to_end(&mut bytes),
    }
    .map_err(failed)?;
    Ok((bytes, None))
}
