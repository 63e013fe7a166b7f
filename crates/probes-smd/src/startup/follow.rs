//! Log files, read from their beginning and followed.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::lines::Lines;

/// The most that is read of a file before what is written while we follow it; what stands before
/// that is left out.
const TAIL: u64 = 32 << 20;
/// A file that grows, and may be replaced or cut.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    offset: u64,
    lines: Lines,
    begun: bool,
}

impl Follower {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), offset: 0, lines: Lines::default(), begun: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives every whole line written since the last call to `line`.
    ///
    /// # Errors
    ///
    /// Those of opening and reading. The next call goes on where this one ended.
    pub(crate) fn read(&mut self, mut line: impl FnMut(&str)) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        if length < self.offset {
            // Another file by the same name, or the same one, cut.
            self.offset = 0;
            self.lines = Lines::default();
        }
        let mut partial = false;
        if !std::mem::replace(&mut self.begun, true) && length > TAIL {
            self.offset = length - TAIL;
            partial = true;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.offset += read as u64;
            self.lines.push(&buffer[..read], |text| {
                if !std::mem::take(&mut partial) {
                    line(text);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn lines(follower: &mut Follower) -> Vec<String> {
        let mut lines = Vec::new();
        follower.read(|line| lines.push(line.to_owned())).expect("readable");
        lines
    }

    #[test]
    fn lines_come_when_they_are_whole_and_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        let mut follower = Follower::new(&path);
        assert!(follower.read(|_| {}).is_err(), "not there yet");
        let mut file = File::create(&path).expect("a file");
        file.write_all(b"one\ntw").expect("written");
        assert_eq!(lines(&mut follower), ["one"]);
        assert!(lines(&mut follower).is_empty());
        file.write_all(b"o\r\n\nthree\n").expect("written");
        assert_eq!(lines(&mut follower), ["two", "", "three"]);
        // Cut and begun anew.
        std::fs::write(&path, "new\n").expect("written");
        assert_eq!(lines(&mut follower), ["new"]);
    }
}
