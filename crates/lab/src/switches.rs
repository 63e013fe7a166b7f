//! Which faults are in force right now, as the parts of the lab ask for it.

use std::time::Duration;

use crate::fault::FaultKind;

/// What the parts of the path have to do wrong. Where several faults say something about the same
/// part, the one that began last decides.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Switches {
    /// The connector's SYNs stay unanswered.
    pub(crate) drop: bool,
    /// The same, because egress is not set up.
    pub(crate) no_egress: bool,
    /// Share of new connections that are reset.
    pub(crate) reset_share: f64,
    /// Share of new connections that stall, and after how many bytes.
    pub(crate) stall: Option<(f64, u64)>,
    /// The proxy closes what it accepts.
    pub(crate) proxy_eof: bool,
    /// The proxy's packets to the instance get no answer: there is no route for them.
    pub(crate) proxy_no_route: bool,
    /// Nobody listens where the cache is.
    pub(crate) cache_down: bool,
    /// How the database behaves towards new connections.
    pub(crate) database: DatabaseMode,
    /// The auth service answers 503.
    pub(crate) auth_down: bool,
    /// The auth service signs with another secret than the backend checks with.
    pub(crate) jwt_mismatch: bool,
    /// The load balancer passes WebSocket requests on without what makes them such.
    pub(crate) websocket_blocked: bool,
}

/// How the database behaves towards new connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum DatabaseMode {
    /// As it is.
    #[default]
    Normal,
    /// Reads the start-up packet and closes.
    Closed,
    /// Never answers.
    Silent,
    /// Does not listen.
    Refused,
    /// Gets what follows the start-up packet late.
    SlowAuth(Duration),
}

impl Switches {
    /// From the faults in force, in the order in which they began.
    pub(crate) fn from_faults<'a>(faults: impl IntoIterator<Item = &'a FaultKind>) -> Self {
        let mut switches = Self::default();
        for fault in faults {
            match *fault {
                FaultKind::ConnectorDrop => switches.drop = true,
                FaultKind::ConnectorNoEgress => switches.no_egress = true,
                FaultKind::ConnectorReset { share } => switches.reset_share = share,
                FaultKind::ConnectorStall { share, after_bytes } => {
                    switches.stall = Some((share, after_bytes))
                }
                FaultKind::Deploy { all_traffic: true, .. } => switches.proxy_no_route = true,
                FaultKind::CacheDown => switches.cache_down = true,
                FaultKind::ProxyEof => switches.proxy_eof = true,
                FaultKind::DatabaseClosed => switches.database = DatabaseMode::Closed,
                FaultKind::DatabaseSilent => switches.database = DatabaseMode::Silent,
                FaultKind::DatabaseRefused => switches.database = DatabaseMode::Refused,
                FaultKind::DatabaseSlowAuth { delay } => {
                    switches.database = DatabaseMode::SlowAuth(delay.0)
                }
                FaultKind::AuthDown => switches.auth_down = true,
                FaultKind::JwtMismatch => switches.jwt_mismatch = true,
                FaultKind::WebsocketBlocked => switches.websocket_blocked = true,
                // These are brought about by clients, statements and deploys, not by the path.
                FaultKind::ConnectorNeighbour { .. }
                | FaultKind::DatabaseSlotsHeld { .. }
                | FaultKind::DatabaseLock { .. }
                | FaultKind::Deploy { .. }
                | FaultKind::ScaleOut { .. }
                | FaultKind::WrongPassword => {}
            }
        }
        switches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_begin_decides() {
        let faults =
            [FaultKind::ConnectorDrop, FaultKind::DatabaseSilent, FaultKind::DatabaseClosed];
        let switches = Switches::from_faults(&faults);
        assert!(switches.drop);
        assert_eq!(switches.database, DatabaseMode::Closed);
        assert_eq!(Switches::from_faults([]), Switches::default());
    }
}
