//! Steps and faults: what happened at one rung of the way to the target.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::{self, Timestamp};
use crate::units::Span;

/// One timed step of a probe: a rung of the ladder to the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The rung: `resolve`, `connect`, `tls`, `startup`, `auth`, `ready`, `query`, `http`, `upgrade`.
    pub rung: String,
    /// When it began, by our wall clock.
    pub at: Timestamp,
    /// How long it took, in milliseconds, measured on the monotonic clock.
    pub elapsed_ms: f64,
    /// What it found when it succeeded, for example the address or the certificate's days left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why it failed; `None` when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

impl Step {
    /// A step that began at `at` (monotonic `since`) and ends now.
    pub fn ended(rung: &str, at: Timestamp, since: clock::Instant, fault: Option<Fault>) -> Self {
        Self {
            rung: rung.to_owned(),
            at,
            elapsed_ms: clock::millis(since.elapsed()),
            detail: None,
            fault,
        }
    }

    /// Whether it succeeded.
    pub fn is_ok(&self) -> bool {
        self.fault.is_none()
    }
}

/// What went wrong at a rung, as the peer or the operating system said it.
///
/// A fault is a fact about one exchange, never a cause: "the server closed the connection" is a
/// fault, "the connector drops packets" is a cause that faults may support.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing came within the limit.
    Timeout {
        /// The limit that fired.
        limit: Span,
    },
    /// The peer closed its end in order (EOF) where an answer was due.
    Closed,
    /// The peer reset the connection.
    Reset,
    /// Nobody listens at the address.
    Refused,
    /// Another error of the operating system.
    Os {
        /// The error's number.
        errno: i32,
        /// Its text.
        message: String,
    },
    /// The name has no address.
    Resolve {
        /// The resolver's words.
        message: String,
    },
    /// The TLS handshake failed.
    Tls {
        /// `expired`, `not-valid-for-name`, `unknown-issuer`, `not-supported`, or the alert's name.
        reason: String,
        /// The library's words.
        message: String,
    },
    /// An HTTP status that is not the expected one.
    Http {
        /// The status.
        status: u16,
    },
    /// The database server answered with an error.
    Sql {
        /// The SQLSTATE.
        sqlstate: String,
        /// The server's words.
        message: String,
    },
    /// The WebSocket was refused or closed.
    WebSocket {
        /// The close code, when one came.
        code: Option<u16>,
        /// The reason given.
        reason: String,
    },
    /// What came is not the protocol.
    Protocol {
        /// What was expected and what came.
        message: String,
    },
    /// The peer announced or sent more than is accepted.
    TooLarge {
        /// Bytes announced or sent.
        bytes: u64,
        /// Bytes accepted.
        cap: u64,
    },
}

impl Fault {
    /// A short stable word for tables and expectations: `timeout`, `refused`, `sqlstate:53300`,
    /// `http:503`, `tls:expired`.
    pub fn code(&self) -> String {
        match self {
            Self::Timeout { .. } => "timeout".into(),
            Self::Closed => "closed".into(),
            Self::Reset => "reset".into(),
            Self::Refused => "refused".into(),
            Self::Os { errno, .. } => format!("errno:{errno}"),
            Self::Resolve { .. } => "resolve".into(),
            Self::Tls { reason, .. } => format!("tls:{reason}"),
            Self::Http { status } => format!("http:{status}"),
            Self::Sql { sqlstate, .. } => format!("sqlstate:{sqlstate}"),
            Self::WebSocket { code: Some(code), .. } => format!("websocket:{code}"),
            Self::WebSocket { code: None, .. } => "websocket".into(),
            Self::Protocol { .. } => "protocol".into(),
            Self::TooLarge { .. } => "too-large".into(),
        }
    }

    /// The fault an I/O error stands for.
    pub fn from_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Reset,
            ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Os { errno: error.raw_os_error().unwrap_or(0), message: error.to_string() },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { limit } => write!(f, "no answer within {limit}"),
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::Reset => f.write_str("the peer reset the connection"),
            Self::Refused => f.write_str("connection refused: nobody listens there"),
            Self::Os { errno, message } => write!(f, "{message} (errno {errno})"),
            Self::Resolve { message } => write!(f, "the name does not resolve: {message}"),
            Self::Tls { reason, message } => write!(f, "TLS failed ({reason}): {message}"),
            Self::Http { status } => write!(f, "HTTP status {status}"),
            Self::Sql { sqlstate, message } => write!(f, "{message} (SQLSTATE {sqlstate})"),
            Self::WebSocket { code: Some(code), reason } => {
                write!(f, "WebSocket closed with {code}: {reason}")
            }
            Self::WebSocket { code: None, reason } => write!(f, "WebSocket refused: {reason}"),
            Self::Protocol { message } => write!(f, "not the protocol: {message}"),
            Self::TooLarge { bytes, cap } => {
                write!(f, "the peer announced {bytes} bytes, {cap} are accepted")
            }
        }
    }
}
