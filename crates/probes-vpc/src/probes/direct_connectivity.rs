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

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::id::{capability, resource};
use shakedown_core::{
    Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Step,
    async_trait,
};
use shakedown_wire::pg::{self, statements};

use super::reading::read;
use super::target::{self, DatabaseTarget};
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
