//! The same fault without a platform: the application as `docker run` starts it, and what it writes as
//! `docker logs` gives it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::play::{pause, seconds};

/// How long a start-up may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the server writes when the start-up is over, well or swallowed.
const SERVES: &str = "Application startup complete.";
/// Limits are never scaled below this.
const SHORTEST: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug)]
pub(super) struct Ran {
    /// Everything it wrote.
    pub(super) log: PathBuf,
    /// What it ended with by itself; `None` when it served.
    pub(super) exit_code: Option<i32>,
}

/// A process group that ends when this is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

/// Runs the application of the lab in `lab_dir` until it ends or serves.
pub(super) fn run(lab_dir: &Path, scale: u32, dir: &Path) -> Result<Ran> {
    let text = fs::read_to_string(lab_dir.join("environment.toml")).context("the lab's overlay")?;
    let overlay: toml::Table = text.parse().context("the lab's overlay")?;
    let log = dir.join("container.txt");
    let out = File::create(&log).context("cannot make the container's log")?;
    let program = overlay["application"]["command"][0].as_str().context("a command")?;
    let mut command = Command::new(program);
    command.env_clear().envs(variables(&overlay, lab_dir, scale)?);
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
    let mut child = Group(command.spawn().with_context(|| format!("cannot start {program}"))?);
    #[expect(clippy::disallowed_methods, reason = "a task has no runtime")]
    let now = std::time::Instant::now;
    let begun = now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.0.try_wait().context("cannot wait for the application")? {
            return Ok(Ran { log, exit_code: status.code() });
        }
        if fs::read_to_string(&log).is_ok_and(|text| text.contains(SERVES)) {
            return Ok(Ran { log, exit_code: None });
        }
        pause(Duration::from_millis(50));
    }
    bail!("the application neither served nor ended, see {}", log.display());
}

/// What a tester is told, filled in. Its limits are in the staging's time.
fn variables(overlay: &toml::Table, lab_dir: &Path, scale: u32) -> Result<Vec<(String, String)>> {
    let database = &overlay["database"];
    let text = |value: &toml::Value| value.as_str().unwrap_or_default().to_owned();
    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let secret = fs::read_to_string(lab_dir.join("secrets/database")).context("the password")?;
    let known = [
        ("{port}", free.context("a free port")?.port().to_string()),
        ("{socket_dir}", text(&database["host"])),
        ("{database}", text(&database["name"])),
        ("{user}", text(&database["user"])),
        ("{password}", secret),
        ("{{", "{".to_owned()),
        ("}}", "}".to_owned()),
    ];
    let told = overlay["application"]["environment"].as_table().context("variables")?;
    told.iter()
        .map(|(name, value)| {
            let mut value = text(value);
            for (placeholder, known) in &known {
                value = value.replace(placeholder, known);
            }
            if name.starts_with("LAB_LIMIT_") {
                let limit = (seconds(&value)? / scale).max(SHORTEST);
                value = format!("{}ms", limit.as_millis());
            }
            Ok((name.clone(), value))
        })
        .collect()
}
