//! What the environment needs to reach besides the database.
//!
//! **Asks** whether each host of `[network] required_hosts` resolves, accepts TCP and, on port 443,
//! shows a certificate valid for its name; and whether the Auth Proxy's socket is there when the
//! database is reached through one. Good: all of it.
//!
//! **Measures** per host `resolve`, `connect` and `tls`, each timed. Nothing is said on the
//! connections. A database port (5432, 3307 or one of `[database]`'s) is left to
//! `vpc.direct-connectivity`, which draws a database connection for it; a name with `*` cannot be
//! resolved and is printed as a rule.
//!
//! `required_ranges` are **never scanned**: each is printed as a rule for the firewall, with the
//! reason where it is doubtful.
//!
//! **Verdicts.** `fail`: a host failed at a rung, or the socket is missing. `degraded`: a certificate
//! ends within `certificate_warning_days`, or there was no time to test every host. `pass`:
//! otherwise. `skip (not configured)`: the environment names no host, no range and no socket.
//!
//! **Draws** three HTTP connections; hosts are tested three at a time.
//!
//! **Configuration**: `[probes."vpc.network-requirements"]`, see [`NetworkRequirementsConfig`].
//!
//! **Cannot tell** whether a range is open, or whether a socket that is there has a proxy behind it;
//! `vpc.direct-connectivity` finds out about the latter.

use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::clock;
use shakedown_core::environment::{Database, RequiredHost, RequiredRange};
use shakedown_core::id::resource;
use shakedown_core::{
    Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase,
    SkipReason, Step, Subject, async_trait,
};
use shakedown_wire::net;

use super::target;
use crate::causes::elsewhere;

const META: ProbeMeta = ProbeMeta {
    markers: &["staging", "issue_1278", "connectivity"],
    draws: &[Draw::new(resource::HTTP_CONNECTION, 3)],
    expected: Duration::from_secs(2),
    timeout: Duration::from_secs(70),
    ..ProbeMeta::new(
        "vpc.network-requirements",
        RunPhase::Network,
        "every required host answers, and the Auth Proxy's socket is there",
    )
};

/// `[probes."vpc.network-requirements"]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NetworkRequirementsConfig {
    /// Days before its end from which a certificate is worth a look. Default 14: our choice; managed
    /// certificates should have been renewed by then.
    pub certificate_warning_days: u32,
}

impl Default for NetworkRequirementsConfig {
    fn default() -> Self {
        Self { certificate_warning_days: 14 }
    }
}

/// The probe `vpc.network-requirements`.
#[derive(Debug)]
pub struct NetworkRequirements {
    config: NetworkRequirementsConfig,
}

impl ProbeSpec for NetworkRequirements {
    type Config = NetworkRequirementsConfig;
    const META: ProbeMeta = META;

    fn from_config(config: Self::Config) -> Self {
        Self { config }
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(NetworkRequirements);

/// What is done about a required host.
#[derive(Debug, PartialEq)]
enum Plan {
    /// Resolve, connect, TLS.
    Tls,
    /// Resolve, connect.
    Tcp,
    /// Printed as a rule, for this reason.
    Rule(&'static str),
}

/// A bare TCP connect to a database port would count as one of the database's connections.
fn plan(host: &RequiredHost, database: Option<&Database>) -> Plan {
    let databases = |database: &Database| {
        let tcp = database.tcp.as_ref().is_some_and(|tcp| tcp.port == host.port);
        tcp || database.port == host.port
    };
    if host.host.contains('*') {
        Plan::Rule("a wildcard has no address of its own; the hosts behind it are tested by name")
    } else if matches!(host.port, 5432 | 3307) || database.is_some_and(databases) {
        Plan::Rule("a database port; vpc.direct-connectivity tests the database")
    } else if host.port == 443 {
        Plan::Tls
    } else {
        Plan::Tcp
    }
}

/// What came of one host.
#[derive(Debug)]
enum Tested {
    Rule { host: RequiredHost, why: &'static str },
    Climbed { host: RequiredHost, steps: Vec<Step>, days_left: Option<i64> },
    NoTime { host: RequiredHost },
}

#[async_trait]
impl Probe for NetworkRequirements {
    fn meta(&self) -> &'static ProbeMeta {
        &META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let environment = ctx.environment();
        let network = &environment.network;
        let socket = environment.database.as_ref().and_then(Database::socket_path);
        if network.required_hosts.is_empty()
            && network.required_ranges.is_empty()
            && socket.is_none()
        {
            let why = "set network.required_hosts".to_owned();
            return Ok(Outcome::skip(SkipReason::NotConfigured(why)));
        }
        let vantage = environment.identity.vantage.as_str();
        let statement = format!(
            "from vantage {vantage} required hosts are dialled at their own addresses, none of \
             them through the database's path; ranges are not scanned"
        );
        ctx.progress(&*statement);
        let socket = socket.map(|path| {
            let step = look_at_socket(&path);
            (path, step)
        });
        let tests = network.required_hosts.iter().map(|host| test(ctx, host));
        let tested = try_join_all(tests).await?;
        let warning_days = i64::from(self.config.certificate_warning_days);
        Ok(outcome(&statement, socket, tested, &network.required_ranges, warning_days))
    }
}

/// Whether a socket lies at `path`, without connecting to it.
fn look_at_socket(path: &str) -> Step {
    let (at, since) = (clock::wall(), clock::now());
    let fault = match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => None,
        Ok(_) => Some(Fault::Protocol { message: "there is a file, and it is no socket".into() }),
        Err(error) => Some(Fault::from_io(&error)),
    };
    let mut step = Step::ended("socket", at, since, fault);
    step.detail = Some(path.to_owned());
    step
}

async fn test(ctx: &ProbeCtx, host: &RequiredHost) -> Result<Tested, ProbeError> {
    let host = host.clone();
    let plan = plan(&host, ctx.environment().database.as_ref());
    if let Plan::Rule(why) = plan {
        return Ok(Tested::Rule { host, why });
    }
    let lease = ctx.lease(&resource::HTTP_CONNECTION).await?;
    if !target::time_for_a_connect(ctx) {
        lease.settle();
        return Ok(Tested::NoTime { host });
    }
    ctx.progress(format!("{}:{}", host.host, host.port));
    let (mut steps, days_left) = match plan {
        Plan::Tls => {
            let climb = net::tls(ctx, lease, &host.host, host.port).await.uninterrupted()?;
            let days_left = match climb.result {
                Ok(peer) => {
                    let days_left = peer.certificate.days_left;
                    peer.close().await;
                    Some(days_left)
                }
                Err(_) => None,
            };
            (climb.steps, days_left)
        }
        Plan::Tcp | Plan::Rule(_) => {
            let climb = net::tcp(ctx, lease, &host.host, host.port).await.uninterrupted()?;
            if let Ok(peer) = climb.result {
                peer.close().await;
            }
            (climb.steps, None)
        }
    };
    target::observe_steps(ctx, &Subject::service(host.host.as_str()), &steps);
    target::name_steps(&mut steps, &format!("{}:{}", host.host, host.port));
    Ok(Tested::Climbed { host, steps, days_left })
}

fn outcome(
    statement: &str,
    socket: Option<(String, Step)>,
    tested: Vec<Tested>,
    ranges: &[RequiredRange],
    warning_days: i64,
) -> Outcome {
    let mut outcome = Outcome::pass();
    if let Some((path, step)) = socket {
        outcome = if step.is_ok() {
            outcome.find(Finding::new(format!("the Auth Proxy's socket is there: {path}")))
        } else {
            let what = format!("the Auth Proxy's socket is not usable ({path})");
            outcome.failing(
                Finding::at(&step, what)
                    .suggesting(elsewhere::CONFIGURATION_ERROR)
                    .next("start the Auth Proxy; `shakedown doctor` prints the command"),
            )
        };
        outcome = outcome.steps([step]);
    }
    for host in tested {
        outcome = match host {
            Tested::Rule { host, why } => outcome.find(Finding::new(format!(
                "rule to check: allow {}:{} ({}); not dialled: {why}",
                host.host, host.port, host.purpose
            ))),
            Tested::NoTime { host } => outcome.but(Finding::new(format!(
                "{}:{} was not tested: the time was up",
                host.host, host.port
            ))),
            Tested::Climbed { host, steps, days_left } => {
                let (name, purpose) = (format!("{}:{}", host.host, host.port), &host.purpose);
                let failed = steps.iter().find(|step| !step.is_ok());
                let outcome = match (failed, days_left) {
                    (Some(step), _) => outcome.failing(unreachable(step, &name, purpose)),
                    (None, Some(days)) if days < warning_days => outcome.but(
                        Finding::new(format!("the certificate of {name} ends in {days} days"))
                            .next("renew it, or find out why its renewal did not happen"),
                    ),
                    (None, _) => outcome,
                };
                outcome.steps(steps)
            }
        };
    }
    outcome = outcome.find(Finding::new(format!("path: {statement}")));
    for RequiredRange { cidr, purpose, assumed } in ranges {
        let doubt = assumed.as_ref().map_or(String::new(), |why| format!("; doubtful: {why}"));
        outcome = outcome.find(Finding::new(format!(
            "rule to check, never scanned: allow outbound to {cidr} ({purpose}){doubt}"
        )));
    }
    outcome
}

fn unreachable(step: &Step, name: &str, purpose: &str) -> Finding {
    let finding = Finding::at(step, format!("{name} ({purpose}) failed at `{}`", step.rung));
    match (&*step.rung, &step.fault) {
        ("resolve", _) => finding.next("check the name and this vantage's resolver"),
        ("connect", Some(Fault::Timeout { .. })) => {
            finding.next("a firewall or a missing route: check the outbound rules of this vantage")
        }
        ("connect", _) => finding.suggesting(elsewhere::DEPENDENCY_UNAVAILABLE),
        ("tls", _) => finding.next("check who answers there and with which certificate"),
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use shakedown_core::environment::TcpAddress;
    use shakedown_core::{Span, Verdict};

    use super::*;
    use crate::series::tests::ladder;

    fn host(name: &str, port: u16) -> RequiredHost {
        RequiredHost { host: name.into(), port, purpose: "a purpose".into() }
    }

    #[test]
    fn database_ports_and_wildcards_are_never_dialled() {
        let database = Database {
            port: 6432,
            tcp: Some(TcpAddress { host: "h".into(), port: 7432, ssl_mode: Default::default() }),
            ..Database::default()
        };
        let table = [("api.example", 443, Plan::Tls), ("api.example", 8080, Plan::Tcp)];
        for (name, port, expected) in table {
            assert_eq!(plan(&host(name, port), Some(&database)), expected, "{name}:{port}");
        }
        for (name, port) in
            [("*.example", 443), ("db", 5432), ("db", 3307), ("db", 6432), ("db", 7432)]
        {
            let plan = plan(&host(name, port), Some(&database));
            assert!(matches!(plan, Plan::Rule(_)), "{name}:{port} {plan:?}");
        }
    }

    #[test]
    fn hosts_fail_certificates_degrade_and_ranges_are_printed_with_their_doubt() {
        let climbed = |fault, days_left| Tested::Climbed {
            host: host("api.example", 443),
            steps: ladder(&[("resolve", 1.0), ("connect", 1.0)], fault),
            days_left,
        };
        let range = RequiredRange {
            cidr: "35.199.192.0/19".into(),
            purpose: "Cloud SQL".into(),
            assumed: Some("not a Cloud SQL range".into()),
        };
        let judge =
            |tested| outcome("from here", None, vec![tested], std::slice::from_ref(&range), 14);

        let fine = judge(climbed(None, Some(14)));
        assert_eq!(fine.verdict, Verdict::Pass);
        let printed = &fine.findings.last().expect("has findings").summary;
        assert!(
            printed.contains("never scanned") && printed.contains("doubtful: not a"),
            "{printed}"
        );

        assert_eq!(judge(climbed(None, Some(13))).verdict, Verdict::Degraded);
        assert_eq!(judge(Tested::NoTime { host: host("h", 443) }).verdict, Verdict::Degraded);

        let lost = judge(climbed(Some(Fault::Timeout { limit: Span::secs(3) }), None));
        assert_eq!(lost.verdict, Verdict::Fail);
        assert_eq!(lost.findings[0].rung.as_deref(), Some("connect"));
        assert!(lost.findings[0].next.as_ref().is_some_and(|next| next.contains("firewall")));
    }

    #[test]
    fn a_socket_is_looked_at_and_not_connected_to() {
        let missing = look_at_socket("/nowhere/.s.PGSQL.5432");
        assert!(matches!(missing.fault, Some(Fault::Os { errno: 2, .. })), "{missing:?}");
        let file = look_at_socket(file!());
        assert!(!file.is_ok(), "a source file is no socket");
        let (path, step) = ("/nowhere/.s.PGSQL.5432".to_owned(), missing);
        let outcome = outcome("from here", Some((path, step)), vec![], &[], 14);
        assert_eq!(outcome.verdict, Verdict::Fail);
        assert_eq!(outcome.findings[0].rung.as_deref(), Some("socket"));
    }
}
