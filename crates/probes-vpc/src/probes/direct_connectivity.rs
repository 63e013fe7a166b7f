//! Reaches the database without the application, rung by rung.
//!
//! **Asks** whether a login at the database can be carried through to its first answer, on the way
//! the application takes (`[database]`) and, where `[database.tcp]` is given, on the instance's own
//! address too. Good: every rung of every way succeeds.
//!
//! **Measures** one ladder per way, one after the other: `resolve`, `connect`, `tls`, `startup`,
//! `auth`, `ready`, `query`, each timed, each with a typed fault when it fails. Before the first
//! packet it states which path that way takes and what a success or a failure on it proves.
//!
//! **Verdicts.** `pass`: every way led to an answer. `degraded`: the application's way did and the
//! other did not. `fail`: the application's way failed; rung and fault say where, the findings what
//! that is consistent with and where to look next. Read together the two ways tell more: a socket
//! that closes at `startup` while TCP answers points at the proxy, while both failing points behind
//! it.
//!
//! **Draws** one database connection at a time, at most two in all.
//!
//! **Configuration**: none of its own. `database.connect_timeout` limits each ladder.
//!
//! **Cannot tell** where on the way a packet got lost. A Connectivity Test of Google's can; the
//! findings name the drop causes that would confirm them.

use std::io::ErrorKind;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::id::{Cause, capability, resource};
use shakedown_core::{
    Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Step,
    async_trait,
};
use shakedown_wire::pg::{self, statements};

use super::target::{self, DatabaseTarget};
use crate::causes::{VPC_EGRESS, VPC_EGRESS_DROPS, elsewhere};
use crate::path::{NetworkPath, Way};
use crate::section::Vpc;

const META: ProbeMeta = ProbeMeta {
    markers: &["staging", "issue_1278", "connectivity"],
    provides: &[capability::DATABASE_SESSION],
    draws: &[Draw::new(resource::DATABASE_CONNECTION, 1)],
    expected: Duration::from_secs(2),
    timeout: Duration::from_secs(80),
    aliases: &[
        "tests/connectivity/test_issue_1278_vpc_connector_validation.py::TestVPCConnectorValidation::test_direct_cloud_sql_connectivity",
    ],
    ..ProbeMeta::new(
        "vpc.direct-connectivity",
        RunPhase::Network,
        "a login at the database succeeds without the application, on every configured way",
    )
};

/// A constant from memory is due at once; the connect limit would be far too patient.
const QUERY_LIMIT: Duration = Duration::from_secs(5);

/// `[probes."vpc.direct-connectivity"]`: nothing to set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DirectConnectivityConfig {}

/// The probe `vpc.direct-connectivity`.
#[derive(Debug)]
pub struct DirectConnectivity;

impl ProbeSpec for DirectConnectivity {
    type Config = DirectConnectivityConfig;
    const META: ProbeMeta = META;

    fn from_config(_: Self::Config) -> Self {
        Self
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(DirectConnectivity);

/// What came of one way.
struct Climbed {
    path: NetworkPath,
    /// Whether a password was there to sign in with.
    password: bool,
    steps: Vec<Step>,
    version: Option<String>,
}

impl Climbed {
    /// The step it failed at. That the server was slow to say goodbye is no failure.
    fn failed(&self) -> Option<&Step> {
        self.steps.iter().find(|step| !step.is_ok() && step.rung != "close")
    }

    fn finding(&self) -> Finding {
        match self.failed() {
            Some(step) => read(&self.path, step, self.password),
            None => {
                let rungs =
                    self.rungs().map(|step| format!("{} {:.1}", step.rung, step.elapsed_ms));
                let version = self.version.as_deref().unwrap_or("of an unknown version");
                Finding::new(format!(
                    "{}: PostgreSQL {version} answered after {:.1} ms ({})",
                    self.path.way,
                    self.total_ms(),
                    rungs.collect::<Vec<_>>().join(", ")
                ))
            }
        }
    }

    fn rungs(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.rung != "close")
    }

    fn total_ms(&self) -> f64 {
        self.rungs().map(|step| step.elapsed_ms).sum()
    }
}

#[async_trait]
impl Probe for DirectConnectivity {
    fn meta(&self) -> &'static ProbeMeta {
        &META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let vpc: Vpc = ctx.section()?;
        let targets = match target::targets(ctx, &vpc, META.id)? {
            Ok(targets) => targets,
            Err(skip) => return Ok(skip),
        };
        let mut climbed = Vec::new();
        for DatabaseTarget { mut pg, path } in targets {
            target::state(ctx, &path);
            pg.statement_timeout = pg.statement_timeout.min(QUERY_LIMIT).min(pg.connect_timeout);
            let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
            let climb = pg::connect(ctx, lease, &pg).await.uninterrupted()?;
            let mut steps = climb.steps;
            let mut version = None;
            if let Ok(mut connection) = climb.result {
                version = connection.parameter("server_version");
                let (step, _) = connection.timed(statements::PING, &[]).await;
                steps.push(step);
                steps.push(connection.close().await);
                target::not_interrupted(ctx)?;
            }
            target::observe_steps(ctx, &target::database(), &steps);
            climbed.push(Climbed { path, password: pg.password.is_some(), steps, version });
        }
        Ok(outcome(climbed))
    }
}

/// `climbed` begins with the application's way.
fn outcome(climbed: Vec<Climbed>) -> Outcome {
    let mut outcome = Outcome::pass();
    for (index, way) in climbed.iter().enumerate() {
        let finding = way.finding();
        outcome = match (way.failed(), index) {
            (None, _) => outcome.find(finding),
            (Some(_), 0) => outcome.failing(finding),
            (Some(_), _) => outcome.but(finding),
        };
    }
    if let [first, second] = &climbed[..]
        && let Some(finding) = together(first, second)
    {
        outcome = outcome.find(finding);
    }
    for way in climbed {
        let name = way.path.way.to_string().to_lowercase();
        for step in way.rungs().filter(|step| step.is_ok()) {
            outcome = outcome.measure(&format!("{name}_{}", step.rung), step.elapsed_ms, "ms");
        }
        if way.failed().is_none() {
            outcome = outcome.measure(&format!("{name}_total"), way.total_ms(), "ms");
        }
        outcome = outcome.find(way.path.finding()).steps(way.steps);
    }
    outcome
}

/// What a failed step means on its path, what it is consistent with, and where to look next.
fn read(path: &NetworkPath, step: &Step, password: bool) -> Finding {
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
            Some(elsewhere::AUTH_FAILURE),
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

/// What the application's socket and the instance's own address tell together.
fn together(first: &Climbed, second: &Climbed) -> Option<Finding> {
    if (first.path.way, second.path.way) != (Way::Socket, Way::Tcp) {
        return None;
    }
    let far_side =
        |step: &Step| step.rung == "startup" && !matches!(step.fault, Some(Fault::Sql { .. }));
    let finding = match (first.failed(), second.failed()) {
        (Some(socket), None) if far_side(socket) => Finding::new(
            "together: the instance answers over TCP and not through the proxy, so the proxy's own \
             dial is the trouble",
        )
        .next(
            "check the proxy's credentials (cloudsql.instances.connect), its log, and whether it \
               dials the same address",
        ),
        (Some(socket), Some(tcp)) if far_side(socket) && tcp.rung == "connect" => Finding::new(
            "together: neither the proxy nor a direct connect reaches the instance, so the trouble \
             lies behind the proxy",
        ),
        (Some(socket), Some(tcp)) if far_side(socket) && tcp.rung == "startup" => Finding::new(
            "together: a direct connect reaches the instance, and neither way gets an answer from \
             the database, so the database is the trouble",
        ),
        (None, Some(tcp)) if tcp.rung == "connect" => Finding::new(
            "together: the proxy reaches the instance and a direct connect does not, so the \
             database is up and `database.tcp` or its path is the trouble",
        ),
        _ => return None,
    };
    Some(finding)
}

#[cfg(test)]
mod tests {
    use shakedown_core::{Span, Tier, Vantage, Verdict};

    use super::*;
    use crate::path::Dial;
    use crate::section::Egress;
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

    fn climbed(way: Way, rungs: &[&str], fault: Option<Fault>) -> Climbed {
        let rungs: Vec<_> = rungs.iter().map(|&rung| (rung, 1.0)).collect();
        let steps = ladder(&rungs, fault);
        Climbed {
            path: path(way, Vantage::CloudRun),
            password: true,
            steps,
            version: Some("15.4".into()),
        }
    }

    const ALL: &[&str] = &["connect", "startup", "auth", "ready", "query"];

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
            (Tcp, "auth", sql("28P01"), Some("auth_failure"), "refuses these credentials"),
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

    #[test]
    fn the_applications_way_decides_and_both_are_read_together() {
        let socket = |rungs, fault| climbed(Way::Socket, rungs, fault);
        let tcp = |rungs, fault| climbed(Way::Tcp, rungs, fault);
        let table = [
            (socket(ALL, None), tcp(ALL, None), Verdict::Pass, None),
            (
                socket(&["connect", "startup"], Some(Fault::Closed)),
                tcp(ALL, None),
                Verdict::Fail,
                Some("so the proxy's own dial is the trouble"),
            ),
            (
                socket(&["connect", "startup"], Some(Fault::Closed)),
                tcp(&["connect"], Some(TIMEOUT)),
                Verdict::Fail,
                Some("lies behind the proxy"),
            ),
            (
                socket(&["connect", "startup"], Some(TIMEOUT)),
                tcp(&["connect", "startup"], Some(TIMEOUT)),
                Verdict::Fail,
                Some("the database is the trouble"),
            ),
            (
                socket(ALL, None),
                tcp(&["connect"], Some(TIMEOUT)),
                Verdict::Degraded,
                Some("`database.tcp` or its path"),
            ),
            (
                socket(&["connect", "startup", "auth"], Some(sql("28P01"))),
                tcp(&["connect", "startup", "auth"], Some(sql("28P01"))),
                Verdict::Fail,
                None,
            ),
        ];
        for (first, second, verdict, words) in table {
            let failed = first.failed().map(|step| step.rung.clone());
            let outcome = outcome(vec![first, second]);
            assert_eq!(outcome.verdict, verdict);
            let found = outcome.findings.iter().find(|f| f.summary.starts_with("together: "));
            assert_eq!(found.is_some(), words.is_some(), "{outcome:?}");
            if let (Some(found), Some(words)) = (found, words) {
                assert!(found.summary.contains(words), "{found:?}");
            }
            assert_eq!(outcome.findings[0].rung, failed, "the fault comes first");
            let paths = outcome.findings.iter().filter(|f| f.summary.starts_with("path: "));
            assert_eq!(paths.count(), 2);
        }
    }

    #[test]
    fn a_slow_goodbye_is_no_failure_and_not_in_the_total() {
        let mut climbed = climbed(Way::Socket, ALL, None);
        climbed.steps.extend(ladder(&[("close", 1000.0)], Some(TIMEOUT)));
        assert!(climbed.failed().is_none());
        assert_eq!(climbed.total_ms(), 5.0);
        assert_eq!(outcome(vec![climbed]).verdict, Verdict::Pass);
    }
}
