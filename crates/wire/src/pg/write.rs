//! Whether a write would be refused, tried without leaving one.

use shakedown_core::Fault;

use super::connection::PgConnection;
use super::statements::{BEGIN, BEGIN_READ_WRITE, CREATE_TABLE, ROLLBACK};

/// What came of trying to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteAttempt {
    /// The server refused it.
    Refused {
        /// 25006: the transaction is read-only; 42501: the role may not; 3F000: no schema to write
        /// to.
        sqlstate: String,
    },
    /// The server did it, and undid it with the transaction.
    Allowed,
}

/// Tries to create a table in a transaction of the session's default mode, and rolls it back: a
/// read-only session refuses with 25006.
///
/// # Errors
///
/// A fault of the connection, or of the rolling back: the session has ended then, which undoes the
/// write as well.
///
/// # Cancel safety
///
/// When dropped, the transaction may be left open and nothing else may be asked on this session:
/// drop it, and the server rolls back.
pub async fn write_attempt(connection: &mut PgConnection) -> Result<WriteAttempt, Fault> {
    connection.attempt(false).await
}

/// As [`write_attempt`], in a transaction that asks to write: whether the role could at all.
///
/// # Errors
///
/// As [`write_attempt`].
///
/// # Cancel safety
///
/// As [`write_attempt`].
pub async fn write_attempt_read_write(
    connection: &mut PgConnection,
) -> Result<WriteAttempt, Fault> {
    connection.attempt(true).await
}

impl PgConnection {
    async fn attempt(&mut self, read_write: bool) -> Result<WriteAttempt, Fault> {
        let begin = if read_write { BEGIN_READ_WRITE } else { BEGIN };
        match self.query(begin, &[]).await {
            Ok(_) => {}
            // A standby refuses to begin a transaction that may write; none is open then.
            Err(Fault::Sql { sqlstate, .. }) => return Ok(WriteAttempt::Refused { sqlstate }),
            Err(fault) => return Err(fault),
        }
        let written = self.query(CREATE_TABLE, &[]).await;
        self.query(ROLLBACK, &[]).await?;
        match written {
            Ok(_) => Ok(WriteAttempt::Allowed),
            Err(Fault::Sql { sqlstate, .. }) => Ok(WriteAttempt::Refused { sqlstate }),
            Err(fault) => Err(fault),
        }
    }
}
