//! `cargo xtask bench`: shakedown beside its peers, on the same machine, in turns.

mod analyze;
mod http;
mod page;
mod postgres;
mod program;
mod relay;
mod runner;
mod start;
mod stats;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::shell;
use page::{Page, Section};

/// Measure shakedown beside its peers and write docs/benchmarks.md
///
/// Everything is measured in turns (ours, theirs, ours, theirs, ..), so that whatever else the
/// machine does falls on both. Peers that are not installed are skipped by name.
#[derive(Debug, Args)]
#[command(after_help = "\
Benches: runner postgres http relay start analyze
Build the machine a quiet hour: figures taken beside other work are noise.")]
pub(crate) struct Bench {
    /// Only these; the others' sections stay as they are. By default all
    names: Vec<String>,
    /// How many rounds; the median of them is what counts
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(5..))]
    rounds: u32,
    /// A folder with peers that are not in PATH, for example a virtual environment's bin. May be
    /// given several times
    #[arg(long, value_name = "DIR")]
    peers: Vec<PathBuf>,
    /// Where the page is written
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    out: PathBuf,
}

/// What a bench is given.
pub(crate) struct Setting {
    /// The release binary of `shakedown`.
    shakedown: PathBuf,
    /// The release binary of `shakedown-bench`.
    bench: PathBuf,
    rounds: u32,
    peers: Vec<PathBuf>,
    /// A folder that is gone afterwards, on the disk the build is on.
    scratch: tempfile::TempDir,
}

type Run = fn(&Setting) -> Result<Section>;

/// In the order of the page.
const BENCHES: [(&str, Run); 6] = [
    ("runner", runner::run),
    ("postgres", postgres::run),
    ("http", http::run),
    ("relay", relay::run),
    ("start", start::run),
    ("analyze", analyze::run),
];

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(name) = self.names.iter().find(|name| BENCHES.iter().all(|(n, _)| n != name)) {
            let known = BENCHES.map(|(name, _)| name).join(", ");
            bail!("there is no bench `{name}`: they are {known}");
        }
        let shakedown =
            shell::build_shakedown(&["--release", "--package", "shakedown-bench", "--bins"])?;
        let setting = Setting {
            bench: shakedown.with_file_name("shakedown-bench"),
            shakedown,
            rounds: self.rounds,
            peers: self.peers.iter().map(std::path::absolute).collect::<Result<_, _>>()?,
            scratch: tempfile::tempdir_in(shell::target_dir())?,
        };
        let mut page = Page::read(&shell::root().join(&self.out))?;
        let mut missed = 0;
        for (name, run) in BENCHES {
            if self.names.is_empty() || self.names.iter().any(|wanted| wanted == name) {
                eprintln!("bench {name} ({} rounds) ...", self.rounds);
                let section = run(&setting)?;
                missed += section.missed();
                println!("{}", section.render());
                page.put(name, &section);
            }
        }
        page.write(&BENCHES.map(|(name, _)| name))?;
        eprintln!("wrote {}; {missed} targets missed", self.out.display());
        Ok(())
    }
}

impl Setting {
    fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A peer's program: in the folders given, then in PATH, then where Debian keeps servers.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = self.peers.iter().cloned().chain(std::env::split_paths(&path));
        let mut files = dirs.chain(["/usr/sbin".into()]).map(|dir| dir.join(name));
        files.find(|file| file.is_file())
    }
}
