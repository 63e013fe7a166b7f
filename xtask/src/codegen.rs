//! `cargo xtask codegen`: everything in `docs/` that is made from the program itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::shell;

/// Write what docs/ takes from the program: probe pages, schema, strategy guide, exit codes
#[derive(Debug, Args)]
pub(crate) struct Codegen {
    /// Change nothing; fail when something would change
    #[arg(long)]
    check: bool,
}

impl Codegen {
    pub(crate) fn run(self) -> Result<()> {
        let root = shell::root();
        let binary = shell::build_shakedown(&["--quiet"])?;
        if !self.check {
            return shell::run(Command::new(binary).current_dir(&root).arg("codegen").arg(&root));
        }
        // Made beside the original, so that a check never touches the working copy.
        let copy = tempfile::tempdir()?;
        for folder in ["crates", "docs", "environments"] {
            copy_folder(&root.join(folder), &copy.path().join(folder))?;
        }
        shell::run(Command::new(binary).current_dir(copy.path()).arg("codegen").arg(copy.path()))?;
        let diff = Command::new("git")
            .args(["--no-pager", "diff", "--no-index", "--exit-code", "--"])
            .arg(root.join("docs"))
            .arg(copy.path().join("docs"))
            .status()
            .context("cannot start git")?;
        if !diff.success() {
            bail!("generated files are out of date: run `cargo xtask codegen` and commit docs/");
        }
        println!("docs/ is what the program says.");
        Ok(())
    }
}

/// Copies a folder with what is in it; build output and snapshots a test left are none of it.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                copy_folder(&entry.path(), &target)?;
            }
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
