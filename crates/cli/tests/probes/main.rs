//! The probes against labs whose truth is known: a real PostgreSQL behind an emulated connector and
//! proxy, and the services of a staging.

mod cloudsql;
mod goldenpath;
mod staging;
mod vpc;

use shakedown as _;
