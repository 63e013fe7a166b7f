//! The processes of this machine, from /proc.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell;

/// A process, as long as it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) id: u32,
}

/// All that live now, without those that have ended and only wait to be noticed.
pub(crate) fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.map(|id| Process { id }).filter(|process| process.lives()).collect()
}

impl Process {
    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.id))
    }

    fn status(self) -> String {
        fs::read_to_string(self.file("status")).unwrap_or_default()
    }

    fn lives(self) -> bool {
        let status = self.status();
        !status.is_empty() && !status.contains("State:\tZ") && !status.contains("State:\tX")
    }

    /// Whether it was started with `NAME=value` in its environment.
    pub(crate) fn has_variable(self, variable: &str) -> bool {
        let environment = fs::read(self.file("environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|pair| pair == variable.as_bytes())
    }

    /// Whether its working folder or a word of its command line is inside `folder`.
    pub(crate) fn works_in(self, folder: &Path) -> bool {
        let inside = fs::read_link(self.file("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        let folder = folder.as_os_str().as_bytes();
        let command = fs::read(self.file("cmdline")).unwrap_or_default();
        inside || command.windows(folder.len()).any(|part| part == folder)
    }

    /// Its command line, or the title it has given itself.
    pub(crate) fn title(self) -> String {
        let command = fs::read(self.file("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned()
    }

    /// Number and title.
    pub(crate) fn describe(&self) -> String {
        format!("{} {}", self.id, self.title())
    }

    /// SIGKILL. One that has ended meanwhile is as good.
    pub(crate) fn kill(self) -> Result<()> {
        if self.lives() {
            let killed = shell::run(Command::new("kill").args(["-KILL", &self.id.to_string()]));
            return if self.lives() { killed } else { Ok(()) };
        }
        Ok(())
    }

    /// The processor time it has used, in microseconds, as finely as the system counts: 10 ms.
    pub(crate) fn cpu_us(self) -> Option<f64> {
        /// What /proc counts in on every system this runs on.
        const TICKS_PER_S: f64 = 100.0;
        let stat = fs::read_to_string(self.file("stat")).ok()?;
        // The name before may hold spaces; user and system time are the 12th and 13th behind it.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ').skip(11);
        let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
        Some(ticks / TICKS_PER_S * 1e6)
    }

    /// The most memory it has had resident, in bytes.
    pub(crate) fn peak_resident_bytes(self) -> Option<u64> {
        let status = self.status();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes * 1024)
    }
}
