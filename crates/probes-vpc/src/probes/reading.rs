//! What a failed rung means on its path, what it is consistent with, and where to look next.

use std::io::ErrorKind;

use shakedown_core::id::Cause;
use shakedown_core::{Fault, Finding, Step};

use crate::causes::{VPC_EGRESS, VPC_EGRESS_DROPS, elsewhere};
use crate::path::{NetworkPath, Way};

/// What a failed step means on its path, what it is consistent with, and where to look next.
pub(crate) fn read(path: &NetworkPath, step: &Step, password: bool) -> Finding {
    let (what, suggests, next) = reading(path, step, password);
    let finding = Finding::at(step, format!("{}: {what}", path.way)).next(next);
    match suggests {
        Some(cause) => finding.suggesting(cause),
        None => finding,
    }
}

type Reading = (&'static str, Option<Cause>, String);

fn reading(path: &NetworkPath, step: &Step, password: bool) -> Reading {
    use Way::{Socket, Tcp};
    let Some(fault) = &step.fault else { return ("failed", None, String::new()) };
    let os = match fault {
        Fault::Os { errno, .. } => std::io::Error::from_raw_os_error(*errno).kind(),
        _ => ErrorKind::Other,
    };
    let reading = |what, cause: Option<Cause>, next: &str| (what, cause, next.to_owned());
    let unreachable = Some(elsewhere::CLOUD_SQL_UNREACHABLE);
    match (path.way, &*step.rung, fault) {
        (_, _, Fault::Sql { sqlstate, .. }) => answered(sqlstate),
        (_, "resolve", _) => reading(
            "the database's name could not be resolved",
            None,
            "check the host's name and the resolver at this vantage",
        ),
        (Socket, "connect", Fault::Os { .. }) if os == ErrorKind::NotFound => reading(
            "there is no such socket",
            Some(elsewhere::CONFIGURATION_ERROR),
            "start the Auth Proxy for this instance or correct `database.host`; `shakedown doctor` \
             prints the command",
        ),
        (Socket, "connect", Fault::Refused) => reading(
            "the socket is there and nobody listens: the proxy that made it is gone",
            unreachable,
            "start the Auth Proxy again; it replaces the socket",
        ),
        (Tcp, "connect", Fault::Timeout { .. }) if path.books_to_connector() => (
            "the connect stayed unanswered, so packets are lost on the way: egress not set up, a \
             firewall, or a connector without room",
            None,
            format!(
                "compare with vpc.connector-capacity and vpc.scaling-delay, look at the \
                 connector's state, CPU and instances, and run a Connectivity Test: {} would name \
                 the place",
                VPC_EGRESS_DROPS.join(", ")
            ),
        ),
        (Tcp, "connect", Fault::Timeout { .. }) => reading(
            "the connect stayed unanswered, so packets are lost on the way",
            None,
            "check firewalls and authorized networks between this vantage and the instance \
             (DropInfo.Cause CLOUD_SQL_INSTANCE_UNAUTHORIZED_ACCESS, FIREWALL_RULE)",
        ),
        (Tcp, "connect", Fault::Refused) => reading(
            "nobody listens at the database's address; the refusal came back, so the way there and \
             back carries packets",
            unreachable,
            "check that the instance runs and that the port is right (DropInfo.Cause \
             CLOUD_SQL_INSTANCE_NOT_RUNNING)",
        ),
        (Tcp, "connect", Fault::Os { .. })
            if matches!(os, ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) =>
        {
            reading(
                "there is no route to the database's address",
                path.books_to_connector().then_some(VPC_EGRESS),
                "check routes and the service's VPC egress (DropInfo.Cause NO_ROUTE, \
                 VPC_CONNECTOR_NOT_SET)",
            )
        }
        (_, "tls", _) => reading(
            "the server was reached and TLS failed",
            Some(elsewhere::CONFIGURATION_ERROR),
            "compare `ssl_mode` and `tls.ca_file` with the instance's certificate",
        ),
        (Socket, "startup", Fault::Closed | Fault::Reset) => reading(
            "the proxy accepted and then closed before the database said a word: its own dial \
             failed, so the far side is the trouble, not the socket",
            unreachable,
            "read the proxy's log for `dial error` or `failed to connect to instance`",
        ),
        (Tcp, "startup", Fault::Closed | Fault::Reset) => reading(
            "the connect succeeded and the other end closed during start-up: the path carries, the \
             database does not",
            unreachable,
            "look at the instance's state and log: starting, shutting down, out of memory",
        ),
        (Socket, "startup", Fault::Timeout { .. }) => reading(
            "the proxy accepted and nothing came from the database: the proxy still dials, or the \
             database is silent",
            unreachable,
            "read the proxy's log; compare with the same rung over TCP",
        ),
        (Tcp, "startup", Fault::Timeout { .. }) => reading(
            "the connect succeeded and the database stays silent",
            unreachable,
            "look at the instance's CPU, memory and log; if it is well, look for packets lost after \
             the handshake (MTU)",
        ),
        (_, "auth", Fault::Protocol { .. }) if !password => reading(
            "the database was reached; signing in needs something we do not have",
            Some(elsewhere::CONFIGURATION_ERROR),
            "set the credential that `database.credential` names",
        ),
        (_, "startup" | "auth", Fault::Protocol { .. } | Fault::TooLarge { .. }) => reading(
            "somebody answered who does not speak PostgreSQL",
            Some(elsewhere::CONFIGURATION_ERROR),
            "check host and port: who listens there?",
        ),
        (_, "auth" | "ready" | "query", Fault::Timeout { .. }) => reading(
            "the database was reached and is too slow to let us in",
            Some(elsewhere::CLOUD_SQL_SLOW),
            "look at the instance's CPU, locks and login rate; the path is not the trouble",
        ),
        _ => reading(
            "failed on the way to a session",
            None,
            "compare with the other way, if there is one, and with the instance's log",
        ),
    }
}

/// The database itself answered with an error: the path carries.
fn answered(sqlstate: &str) -> Reading {
    let reading = |what, cause: Option<Cause>, next: &str| (what, cause, next.to_owned());
    match sqlstate {
        "53300" => reading(
            "the path carries, and the database has no free connection slot",
            Some(elsewhere::CLOUD_SQL_MAX_CONNECTIONS),
            "see cloudsql.connection-headroom for who holds them",
        ),
        "28P01" | "28000" => reading(
            "the path carries, and the database refuses these credentials",
            Some(elsewhere::CONFIGURATION_ERROR),
            "check `database.user` and the password that `database.credential` names",
        ),
        "3D000" => reading(
            "the path carries, and there is no database of that name",
            Some(elsewhere::CONFIGURATION_ERROR),
            "check `database.name`",
        ),
        "57P03" => reading(
            "the path carries, and the database does not take connections now: it starts, stops or \
             recovers",
            Some(elsewhere::CLOUD_SQL_UNREACHABLE),
            "look at the instance's operations and maintenance; try again in a minute",
        ),
        "57P01" | "57P02" => reading(
            "the path carries, and the database is being stopped",
            Some(elsewhere::CLOUD_SQL_UNREACHABLE),
            "look at the instance's operations and log",
        ),
        _ => reading(
            "the path carries, and the database answered with an error",
            None,
            "the SQLSTATE names it; the instance's log has the rest",
        ),
    }
}

#[cfg(test)]
mod tests {
    use shakedown_core::{Span, Tier, Vantage};

    use super::*;
    use crate::path::Dial;
    use crate::section::{Egress, Vpc};
    use crate::series::tests::ladder;

    const TIMEOUT: Fault = Fault::Timeout { limit: Span::secs(3) };

    fn sql(sqlstate: &str) -> Fault {
        Fault::Sql { sqlstate: sqlstate.into(), message: "words".into() }
    }

    fn os(errno: i32) -> Fault {
        Fault::Os { errno, message: "words".into() }
    }

    fn path(way: Way, vantage: Vantage) -> NetworkPath {
        let vpc = Vpc { name: "c".into(), egress: Some(Egress::AllTraffic), ..Vpc::default() };
        let host = if way == Way::Socket { "/cloudsql/p:r:i" } else { "10.0.0.5" };
        Dial { vantage, tier: Tier::Staging, host, port: 5432, vpc: &vpc }.path()
    }

    #[test]
    fn each_fault_is_read_at_its_rung() {
        use Way::{Socket, Tcp};
        let table: &[(Way, &str, Fault, Option<&str>, &str)] = &[
            (Tcp, "resolve", Fault::Resolve { message: "x".into() }, None, "not be resolved"),
            (Tcp, "connect", TIMEOUT, None, "connector without room"),
            (Tcp, "connect", Fault::Refused, Some("cloud_sql_unreachable"), "nobody listens"),
            (Tcp, "startup", Fault::Closed, Some("cloud_sql_unreachable"), "the path carries"),
            (Tcp, "startup", TIMEOUT, Some("cloud_sql_unreachable"), "stays silent"),
            (Socket, "connect", os(2), Some("configuration_error"), "no such socket"),
            (Socket, "connect", Fault::Refused, Some("cloud_sql_unreachable"), "is gone"),
            (
                Socket,
                "startup",
                Fault::Closed,
                Some("cloud_sql_unreachable"),
                "its own dial failed",
            ),
            (Socket, "startup", TIMEOUT, Some("cloud_sql_unreachable"), "still dials"),
            (Socket, "auth", TIMEOUT, Some("cloud_sql_slow"), "too slow"),
            (Socket, "ready", sql("53300"), Some("cloud_sql_max_connections"), "no free"),
            (Socket, "startup", sql("53300"), Some("cloud_sql_max_connections"), "no free"),
            (Tcp, "auth", sql("28P01"), Some("configuration_error"), "refuses these credentials"),
            (Tcp, "startup", sql("57P03"), Some("cloud_sql_unreachable"), "starts, stops"),
            (Tcp, "ready", sql("3D000"), Some("configuration_error"), "no database"),
            (Tcp, "ready", sql("XX000"), None, "answered with an error"),
        ];
        for (way, rung, fault, cause, words) in table {
            let steps = ladder(&[(rung, 1.0)], Some(fault.clone()));
            let finding = read(&path(*way, Vantage::CloudRun), &steps[0], true);
            let case = format!("{way} {rung} {fault:?}: {finding:?}");
            assert_eq!(finding.suggests.as_ref().map(Cause::as_str), *cause, "{case}");
            assert_eq!(finding.rung.as_deref(), Some(*rung), "{case}");
            assert_eq!(finding.fault.as_ref(), Some(fault), "{case}");
            assert!(finding.summary.starts_with(&format!("{way}: ")), "{case}");
            assert!(finding.summary.contains(words), "{case}");
            assert!(finding.next.is_some_and(|next| !next.is_empty()), "{case}");
        }
    }

    #[test]
    fn who_breaks_the_protocol_at_auth_is_told_from_a_password_that_is_not_there() {
        let fault = Fault::Protocol { message: "words".into() };
        let step = &ladder(&[("auth", 1.0)], Some(fault))[0];
        let said = |password| read(&path(Way::Tcp, Vantage::CloudRun), step, password).summary;
        assert!(said(false).contains("needs something we do not have"), "{}", said(false));
        assert!(said(true).contains("does not speak PostgreSQL"), "{}", said(true));
    }

    #[test]
    fn only_a_path_across_the_connector_suggests_its_egress() {
        #[cfg(target_os = "linux")]
        const NO_ROUTE: i32 = 113;
        #[cfg(not(target_os = "linux"))]
        const NO_ROUTE: i32 = 65;
        let step = &ladder(&[("connect", 1.0)], Some(os(NO_ROUTE)))[0];
        let across = read(&path(Way::Tcp, Vantage::CloudRun), step, true);
        assert_eq!(across.suggests, Some(VPC_EGRESS));
        let past = read(&path(Way::Tcp, Vantage::Laptop), step, true);
        assert_eq!(past.suggests, None);
        let silent = &ladder(&[("connect", 1.0)], Some(TIMEOUT))[0];
        assert!(
            !read(&path(Way::Tcp, Vantage::Laptop), silent, true).summary.contains("connector")
        );
    }
}
