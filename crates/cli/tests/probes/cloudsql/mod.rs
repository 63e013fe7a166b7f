//! Pool, limits, monitor and guard of the database.

mod faults;
mod healthy;
mod roles;
