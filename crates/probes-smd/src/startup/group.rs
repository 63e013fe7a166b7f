//! The process group of an application we started: what it holds, and its end.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use shakedown_core::clock;

/// How often we look whether it has gone.
const LOOK: Duration = Duration::from_millis(20);

/// What its processes hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// How many there are.
    pub processes: u32,
    /// Resident memory, in bytes; pages they share count once for each.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u32,
}

/// A process group by the id of its first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group(Pid);

impl Group {
    /// The group that process `id` was started as the first of.
    pub(crate) fn of(id: u32) -> Option<Self> {
        // 0 would be our own group, 1 everything.
        i32::try_from(id).ok().filter(|id| *id > 1).map(|id| Self(Pid::from_raw(id)))
    }

    /// The id.
    pub(crate) fn id(self) -> i32 {
        self.0.as_raw()
    }

    /// Whether any of its processes is left, one not yet waited for among them.
    pub(crate) fn lives(self) -> bool {
        killpg(self.0, None) != Err(Errno::ESRCH)
    }

    /// Asks it to end; after `patience` it is killed. Whether it has gone.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may be left asked and not killed.
    pub(crate) async fn end(self, patience: Duration) -> bool {
        for (signal, patience) in
            [(Signal::SIGTERM, patience), (Signal::SIGKILL, Duration::from_secs(2))]
        {
            // Gone already is what is wanted.
            let _ = killpg(self.0, signal);
            if self.gone_within(patience).await {
                return true;
            }
        }
        false
    }

    /// Waits for it to go by itself.
    pub(crate) async fn gone_within(self, patience: Duration) -> bool {
        let until = clock::now() + patience;
        while self.lives() {
            if clock::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    /// Kills it at once.
    pub(crate) fn kill(self) {
        let _ = killpg(self.0, Signal::SIGKILL);
    }

    /// What its processes hold now; `None` where the system has no `/proc` to read.
    pub(crate) fn held(self) -> Option<Held> {
        let mut held = Held::default();
        let mut any = false;
        for entry in std::fs::read_dir("/proc").ok()?.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            // A process may end between two looks at it.
            let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue };
            any = true;
            if group_and_state(&stat) != Some((self.0.as_raw(), false)) {
                continue;
            }
            held.processes += 1;
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            held.resident_bytes += number(&status, "VmRSS:") * 1024;
            held.threads += u32::try_from(number(&status, "Threads:")).unwrap_or(u32::MAX);
        }
        any.then_some(held)
    }
}

/// The process group in a line of `/proc/PID/stat`, and whether the process is dead and only not
/// waited for. Its name, in parentheses, may hold anything.
fn group_and_state(stat: &str) -> Option<(i32, bool)> {
    let after = stat.rsplit_once(") ")?.1;
    let mut fields = after.split(' ');
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some((group, matches!(state, "Z" | "X")))
}

fn number(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_behind_any_name() {
        let of = |line: &str| group_and_state(line);
        assert_eq!(of("17 (a) b) (c) S 1 42 42 0 -1"), Some((42, false)));
        assert_eq!(of("17 (a) Z 1 42 42 0 -1"), Some((42, true)));
        assert_eq!(of("garbage"), None);
        assert_eq!(number("Name:\tx\nVmRSS:\t  120 kB\nThreads:\t3\n", "VmRSS:"), 120);
        assert_eq!(Group::of(0), None);
        assert_eq!(Group::of(1), None);
    }
}
