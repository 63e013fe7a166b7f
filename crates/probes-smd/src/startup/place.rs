//! What a started application is given: a port, folders, the names and the secret of its database.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;
use shakedown_core::{ProbeCtx, ProbeError};
use shakedown_wire::pg::PgTarget;
use tempfile::TempDir;

use crate::application::{Application, Template};

/// The most files that are named.
const FILES: usize = 20;

/// Folders, port and database of one run of the application. The folders go with it.
#[derive(Debug)]
pub(crate) struct Place {
    port: u16,
    port_text: String,
    folder: TempDir,
    socket_dir: PathBuf,
    temp_dir: PathBuf,
    /// Only where the command or its environment names the socket's folder.
    target: Option<PgTarget>,
}

impl Place {
    /// Makes the folders and finds a free port.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Configuration`] when the database is named without our socket or is not in the
    /// environment, [`ProbeError::Internal`] when the folders cannot be made.
    pub(crate) fn new(ctx: &ProbeCtx, section: &Application) -> Result<Self, ProbeError> {
        let failed = |error| ProbeError::internal("making folders for the application", error);
        let folder = tempfile::Builder::new().prefix("shakedown-").tempdir().map_err(failed)?;
        let (socket_dir, temp_dir) = (folder.path().join("db"), folder.path().join("tmp"));
        for dir in [&socket_dir, &temp_dir] {
            std::fs::create_dir(dir).map_err(failed)?;
        }
        let names = |name: &str| {
            let mut templates = section.command.iter().chain(section.environment.values());
            templates.any(|template: &Template| template.names(name))
        };
        let target = if names("socket_dir") {
            Some(PgTarget::of(ctx)?)
        } else if names("password") {
            let what = "the application is given the database's password and not our socket, and \
                        would go past the budget: name {socket_dir} as its host";
            return Err(ProbeError::configuration(what, "application.environment"));
        } else {
            None
        };
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|port| port.local_addr());
        let port = port.map_err(failed)?.port();
        Ok(Self { port, port_text: port.to_string(), folder, socket_dir, temp_dir, target })
    }

    /// The text of a template.
    pub(crate) fn fill(&self, template: &Template) -> String {
        let target = self.target.as_ref();
        template.fill(|name| match name {
            "port" => &self.port_text,
            "socket_dir" => self.socket_dir.to_str().unwrap_or_default(),
            "temp_dir" => self.temp_dir.to_str().unwrap_or_default(),
            "database" => target.map_or("", |target| &target.database),
            "user" => target.map_or("", |target| &target.user),
            "password" => target
                .and_then(|target| target.password.as_ref())
                .map_or("", |password| password.expose_secret()),
            _ => "",
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The database it is led to.
    pub(crate) fn target(&self) -> Option<&PgTarget> {
        self.target.as_ref()
    }

    pub(crate) fn wants_database(&self) -> bool {
        self.target.is_some()
    }

    /// Whether somebody listens at the port.
    pub(crate) fn listens(&self) -> bool {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).is_err()
    }

    /// The first files in its folder, by path below it.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.temp_dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if let Ok(below) = path.strip_prefix(self.folder.path()) {
                    files.push(below.display().to_string());
                }
                if files.len() >= FILES {
                    return files;
                }
            }
        }
        files.sort();
        files
    }
}
