//! PostgreSQL: the ladder, statements from a reviewed list, a pool to be observed, and a relay that
//! takes leases for an application that is not ours.

mod connect;
mod connection;
mod frame;
mod logins;
mod meter;
mod pool;
mod relay;
pub mod statements;
mod target;
mod write;

pub use connect::connect;
pub use connection::{ANSWER_CAP_BYTES, Arrival, PgConnection, Streamed};
pub use logins::Logins;
pub use pool::{Pool, PoolFault, Pooled};
pub use relay::{OUR_LIMIT, Relay, RelayReport, RelaySettings};
pub use statements::Statement;
pub use target::{Endpoint, PgTarget};
pub use tokio_postgres::Row;
pub use tokio_postgres::types::{FromSql, ToSql};
pub use write::{WriteAttempt, write_attempt, write_attempt_read_write};
