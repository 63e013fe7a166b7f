//! What ends an application we started when we cannot do it ourselves any more.

use std::io;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::group::Group;

/// Waits for the end of its input, which is that of our process however it ends, and kills the group.
/// `read` and `kill` are the shell's own: nothing else is needed.
const SCRIPT: &str = r#"read -r _; kill -9 "-$1""#;

/// A shell that kills a process group when our process has gone, killed at once as well (SIGKILL, out
/// of memory). Dropping it calls it off.
///
/// A shell and not Linux's parent-death signal, because that is tied to the thread that started the
/// process, reaches only that process and not its workers, and other systems have none. Between the
/// application's start and the guard's, a few milliseconds, nobody watches.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Watches over `group`.
    ///
    /// # Errors
    ///
    /// When there is no `/bin/sh` to start.
    pub(crate) fn over(group: Group) -> io::Result<Self> {
        let mut command = std::process::Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "shakedown-guard", &group.id().to_string()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A Ctrl-C at the terminal is ours to handle.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Command::from(command).spawn().map(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Before its input ends. One that has ended already is as good.
        let _ = self.0.start_kill();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Long enough for the busiest machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn stubborn() -> (Child, Group) {
        // Ignores its input and asks to stay; its worker is in the same group.
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", "trap '' TERM HUP INT; sleep 600 & sleep 600"]).stdin(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = Command::from(command).kill_on_drop(true).spawn().expect("a shell");
        let group = child.id().and_then(Group::of).expect("an id");
        (child, group)
    }

    #[tokio::test]
    async fn our_end_is_that_of_the_whole_group() {
        let (mut child, group) = stubborn();
        let mut guard = Guard::over(group).expect("a shell");
        assert!(group.lives());
        // As the system closes it when a process is killed.
        drop(guard.0.stdin.take());
        child.wait().await.expect("killed");
        assert!(group.gone_within(PATIENCE).await, "its workers are left");
    }

    #[tokio::test]
    async fn a_guard_called_off_kills_nobody() {
        let (_child, group) = stubborn();
        let guard = Guard::over(group).expect("a shell");
        let watcher = guard.0.id().and_then(Group::of).expect("an id");
        drop(guard);
        assert!(watcher.gone_within(PATIENCE).await, "it watches on");
        assert!(group.lives());
        group.kill();
    }
}
