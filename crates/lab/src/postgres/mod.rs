//! A real PostgreSQL server of the lab's own.

mod find;
mod seed;
mod server;

#[cfg(feature = "download-postgres")]
mod download;

#[cfg(feature = "download-postgres")]
pub use download::{DOWNLOAD_VERSION, download, download_folder};
pub use find::ServerPrograms;
pub(crate) use seed::{NEIGHBOUR, Roles};
pub(crate) use server::{SUPERUSER, Server, ServerOptions, write_private};
