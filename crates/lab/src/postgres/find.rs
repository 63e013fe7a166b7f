//! Where the server programs are, and who may run them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User};

use crate::error::LabError;

/// The programs `initdb` and `postgres` of one PostgreSQL installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPrograms {
    folder: PathBuf,
}

impl ServerPrograms {
    /// Finds them: in `given` when there is one (and nowhere else), else where `pg_config --bindir`
    /// says, else the highest version in `/usr/lib/postgresql/*/bin`, `/usr/pgsql-*/bin`,
    /// Homebrew's folders and MacPorts', else the folders of `search_path` (the value of PATH).
    ///
    /// Runs `pg_config`, reads folders, changes nothing.
    ///
    /// # Errors
    /// [`LabError::NoPostgres`] with the lines that install one.
    pub fn find(
        given: Option<&Path>,
        search_path: Option<&std::ffi::OsStr>,
    ) -> Result<Self, LabError> {
        if let Some(folder) = given {
            return Self::in_folder(folder).ok_or_else(|| LabError::NoPostgres {
                searched: format!("no initdb and postgres in {}", folder.display()),
            });
        }
        let installed = [
            ("/usr/lib/postgresql", "", "bin"),
            ("/usr", "pgsql-", "bin"),
            ("/opt/homebrew/opt", "postgresql@", "bin"),
            ("/usr/local/opt", "postgresql@", "bin"),
            ("/opt/local/lib", "postgresql", "bin"),
        ];
        let on_path = search_path
            .map(|path| std::env::split_paths(path).collect::<Vec<_>>())
            .unwrap_or_default();
        pg_config_folder()
            .into_iter()
            .chain(installed.iter().flat_map(|(parent, prefix, bin)| versions(Path::new(parent), prefix, bin)))
            .chain(on_path)
            .find_map(|folder| Self::in_folder(&folder))
            .ok_or_else(|| LabError::NoPostgres {
                searched: "looked at pg_config, /usr/lib/postgresql, /usr/pgsql-*, Homebrew, MacPorts and PATH".into(),
            })
    }

    /// The programs in this folder, when both are there.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Option<Self> {
        let programs = Self { folder: folder.into() };
        (programs.initdb().is_file() && programs.postgres().is_file()).then_some(programs)
    }

    /// Path of `initdb`.
    #[must_use]
    pub fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    /// Path of `postgres`.
    #[must_use]
    pub fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }
}

fn pg_config_folder() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim_end()))
}

/// `PARENT/PREFIX<version>/BIN` for every version there, highest first.
fn versions(parent: &Path, prefix: &str, bin: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?;
            let version =
                version.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
            Some((version, entry.path().join(bin)))
        })
        .collect();
    found.sort_by(|one, two| two.0.cmp(&one.0));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// Whom the server runs as: `None` for ourselves, else `postgres` or `nobody` because we are root.
///
/// # Errors
/// [`LabError::NoUser`] when we are root and neither exists.
pub(crate) fn run_as() -> Result<Option<(Uid, Gid)>, LabError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .map(|user| Some((user.uid, user.gid)))
        .ok_or(LabError::NoUser)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(root: &Path, version: &str) {
        let bin = root.join(version).join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        for program in ["initdb", "postgres"] {
            std::fs::write(bin.join(program), "").unwrap();
        }
    }

    #[test]
    fn versions_are_numbers_highest_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9.6", "15", "9.5", "100", "common"] {
            install(root.path(), version);
        }
        let found = versions(root.path(), "", "bin");
        let expected: Vec<_> =
            ["100", "15", "9.6", "9.5"].iter().map(|v| root.path().join(v).join("bin")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_given_folder_is_not_second_guessed() {
        let root = tempfile::tempdir().unwrap();
        let error = ServerPrograms::find(Some(root.path()), None).unwrap_err().to_string();
        for line in ["apt-get install postgresql", "dnf install", "brew install", "--pg-bin"] {
            assert!(error.contains(line), "{line} missing in {error}");
        }
        install(root.path(), "17");
        assert!(ServerPrograms::find(Some(&root.path().join("17/bin")), None).is_ok());
    }
}
