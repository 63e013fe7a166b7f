//! The crate against a real PostgreSQL behind an emulated connector and proxy.

mod faults;
mod healthy;
mod roles;
mod staging;
