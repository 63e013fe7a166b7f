//! Lab directories: made locked, swept when their owner is dead, listed while it lives.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use shakedown_core::clock::Timestamp;
use shakedown_core::environment::TimeScale;

use crate::error::LabError;
use crate::overlay::Addresses;
use crate::random;
use crate::supervise::stop_stranger;
use crate::truth::Truth;

const PREFIX: &str = "shakedown-lab-";
const LOCK: &str = "lock";

/// A lab's directory, `TMP/shakedown-lab-PID-RANDOM`, 0755 so that others can reach the socket;
/// `secrets` in it is 0700. The lock lasts as long as the process.
#[derive(Debug)]
pub(crate) struct LabDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl LabDir {
    /// Makes it. It bears its name only once it is locked, so that no sweep takes it for dead.
    pub(crate) fn create(tmp: &Path) -> Result<Self, LabError> {
        let random = random::hex(3).map_err(LabError::files("read", "/dev/urandom"))?;
        let path = tmp.join(format!("{PREFIX}{}-{random}", std::process::id()));
        let unnamed = tmp.join(format!(".{PREFIX}{}-{random}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&unnamed)
            .map_err(LabError::files("create", &unnamed))?;
        let lock = unnamed.join(LOCK);
        let lock = File::create(&lock)
            .and_then(|file| {
                Flock::lock(file, FlockArg::LockExclusiveNonblock)
                    .map_err(|(_, errno)| errno.into())
            })
            .map_err(LabError::files("lock", &lock))?;
        for (folder, mode) in [("logs", 0o755), ("secrets", 0o700), ("cloudsql", 0o755)] {
            let folder = unnamed.join(folder);
            std::fs::create_dir(&folder)
                .and_then(|()| std::fs::set_permissions(&folder, Permissions::from_mode(mode)))
                .map_err(LabError::files("create", &folder))?;
        }
        std::fs::set_permissions(&unnamed, Permissions::from_mode(0o755))
            .and_then(|()| std::fs::rename(&unnamed, &path))
            .map_err(LabError::files("create", &path))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with everything in it. The server must have been stopped.
    pub(crate) fn remove(self) -> Result<(), LabError> {
        remove_lock_last(&self.path).map_err(LabError::files("remove", &self.path))
    }
}

/// Removes a directory whose lock is ours. The lock goes last, so that one that is half removed can
/// still be judged: whoever removed it may have died.
fn remove_lock_last(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != LOCK {
            std::fs::remove_file(entry.path())?;
        }
    }
    // Whether that worked shows at once.
    let _ = std::fs::remove_file(path.join(LOCK));
    match std::fs::remove_dir(path) {
        // A sweep came between.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Directories in `tmp` that are ours to judge: named like labs and owned by us.
fn own_directories(tmp: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(tmp) else { return Vec::new() };
    let me = nix::unistd::Uid::effective().as_raw();
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)))
        .filter(|entry| {
            entry.path().symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == me)
        })
        .map(|entry| entry.path())
        .collect()
}

/// The lock of a directory whose owner is dead; `None` while it lives.
fn take_over(path: &Path) -> Option<Flock<File>> {
    let file = File::options().read(true).write(true).open(path.join(LOCK)).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Removes the lab directories of dead processes in `tmp` and stops servers that still run in them.
/// Returns what was removed. Labs that live, and directories of other users, are left alone.
///
/// # Cancel safety
/// Cancel safe: what was not swept is swept next time.
pub async fn sweep(tmp: &Path) -> Vec<PathBuf> {
    let mut swept = Vec::new();
    for path in own_directories(tmp) {
        let Some(_lock) = take_over(&path) else {
            // Without a lock it is empty: whoever removed it died before the last step.
            let _ = std::fs::remove_dir(&path);
            continue;
        };
        if let Some(id) = server_in(&path.join("pg/data")) {
            stop_stranger(id).await;
        }
        // A supervisor may be stopping the server at this very moment and remove files under us.
        for _ in 0..50 {
            if remove_lock_last(&path).is_ok() {
                swept.push(path);
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    swept
}

/// Process id of the server that runs on this data directory, if one does.
fn server_in(data: &Path) -> Option<i32> {
    let file = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let id: i32 = file.lines().next()?.trim().parse().ok()?;
    // The number alone proves nothing: it may be another process by now.
    let ours = if cfg!(target_os = "linux") {
        std::fs::read_link(format!("/proc/{id}/cwd"))
            .is_ok_and(|cwd| data.canonicalize().is_ok_and(|data| cwd == data))
    } else {
        let output = std::process::Command::new("ps")
            .args(["-o", "command=", "-p", &id.to_string()])
            .output()
            .ok()?;
        String::from_utf8_lossy(&output.stdout).contains(&*data.to_string_lossy())
    };
    (id > 1 && ours).then_some(id)
}

/// What `lab.json` in a lab's directory says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabInfo {
    /// Process that serves the lab.
    pub pid: u32,
    /// Scenario.
    pub scenario: String,
    /// When the lab was ready, UTC.
    pub started: Timestamp,
    /// The time scale.
    pub time_scale: TimeScale,
    /// Where it listens.
    pub addresses: Addresses,
}

/// A living lab.
#[derive(Debug, Clone, Serialize)]
pub struct LabStatus {
    /// Its directory.
    pub dir: PathBuf,
    /// What it is; `None` while it starts.
    pub info: Option<LabInfo>,
    /// What it counted last; `None` while it starts.
    pub truth: Option<Truth>,
}

/// The labs of this user in `tmp` that live, oldest name first. Touches nothing.
#[must_use]
pub fn status(tmp: &Path) -> Vec<LabStatus> {
    let mut labs: Vec<_> = own_directories(tmp)
        .into_iter()
        .filter(|dir| dir.join(LOCK).exists() && take_over(dir).is_none())
        .map(|dir| LabStatus {
            info: read_json(&dir.join("lab.json")),
            truth: read_json(&dir.join("truth.json")),
            dir,
        })
        .collect();
    labs.sort_by(|one, two| one.dir.cmp(&two.dir));
    labs
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Writes a file so that a reader sees either the old or the new content.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, content)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sweep_takes_the_dead_and_spares_the_living() {
        let tmp = tempfile::tempdir().unwrap();
        let alive = LabDir::create(tmp.path()).unwrap();
        let dead = LabDir::create(tmp.path()).unwrap();
        let dead_path = dead.path().to_owned();
        drop(dead);
        std::fs::create_dir(tmp.path().join("unrelated")).unwrap();
        let almost_swept = tmp.path().join(format!("{PREFIX}1-a"));
        std::fs::create_dir(&almost_swept).unwrap();
        assert_eq!(status(tmp.path()).len(), 1);
        assert_eq!(sweep(tmp.path()).await, std::slice::from_ref(&dead_path));
        assert!(!almost_swept.exists());
        assert!(
            !dead_path.exists() && alive.path().exists() && tmp.path().join("unrelated").exists()
        );
        assert_eq!(status(tmp.path())[0].dir, alive.path());
        alive.remove().unwrap();
        assert!(status(tmp.path()).is_empty());
    }

    #[tokio::test]
    async fn a_stranger_with_the_same_process_id_is_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let data = tmp.path().join("pg/data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(server_in(&data), None);
    }

    #[test]
    fn secrets_are_private() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = LabDir::create(tmp.path()).unwrap();
        let mode = |name: &str| dir.path().join(name).metadata().unwrap().mode() & 0o777;
        assert_eq!((mode("secrets"), mode("cloudsql"), mode(".")), (0o700, 0o755, 0o755));
    }
}
