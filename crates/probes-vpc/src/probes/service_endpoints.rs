//! Every service and every alias of it, from the outside.
//!
//! **Asks** whether each `[services.<name>]` resolves, accepts TCP, shows a valid certificate, and
//! answers its health path with success; whether each alias does the same; and whether the
//! configured WebSocket upgrades. Good: all of it.
//!
//! **Measures** per URL, on a fresh connection: `resolve`, `connect`, `tls` with the certificate's
//! days left, `http` with status and time to first byte; per WebSocket `upgrade` instead of `http`.
//! Redirects are not followed.
//!
//! **Verdicts.** `fail`: a service's own URL failed at a rung or answered its health path with
//! another status than success, or its WebSocket could not be reached. `degraded`: an alias failed
//! or answers differently, a certificate ends within `certificate_warning_days`, a health path
//! redirects or asks for credentials, or there was no time to ask everyone. `pass`: otherwise. A
//! WebSocket that answers the upgrade with 401 or 403 was reached and wants credentials: a finding,
//! no failure. `skip (not configured)`: the environment has no services.
//!
//! **Draws** three HTTP connections and one WebSocket; URLs are asked three at a time.
//!
//! **Configuration**: `[probes."vpc.service-endpoints"]`, see [`ServiceEndpointsConfig`].
//!
//! **Cannot tell** whether the application works: a green health path may hide broken dependencies.
//! The way to a service is its load balancer's, never the connector's.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::id::resource;
use shakedown_core::{
    Category, Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase,
    SkipReason, Step, Subject, async_trait,
};
use shakedown_wire::{http, ws};

use super::target;
use crate::causes::elsewhere;

const META: ProbeMeta = ProbeMeta {
    category: Category::E2e,
    markers: &["staging", "issue_1278", "connectivity"],
    draws: &[Draw::new(resource::HTTP_CONNECTION, 3), Draw::new(resource::WEBSOCKET, 1)],
    expected: Duration::from_secs(3),
    timeout: Duration::from_secs(75),
    aliases: &["tests/e2e/staging/::connectivity"],
    ..ProbeMeta::new(
        "vpc.service-endpoints",
        RunPhase::Network,
        "every service and every alias answers with a valid certificate and a healthy status",
    )
};

/// `[probes."vpc.service-endpoints"]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ServiceEndpointsConfig {
    /// Days before its end from which a certificate is worth a look. Default 14: our choice; managed
    /// certificates should have been renewed by then.
    pub certificate_warning_days: u32,
}

impl Default for ServiceEndpointsConfig {
    fn default() -> Self {
        Self { certificate_warning_days: 14 }
    }
}

/// The probe `vpc.service-endpoints`.
#[derive(Debug)]
pub struct ServiceEndpoints {
    config: ServiceEndpointsConfig,
}

impl ProbeSpec for ServiceEndpoints {
    type Config = ServiceEndpointsConfig;
    const META: ProbeMeta = META;

    fn from_config(config: Self::Config) -> Self {
        Self { config }
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(ServiceEndpoints);

/// What a URL is to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Own,
    Alias,
    WebSocket,
}

/// One URL to ask.
#[derive(Clone, Debug)]
struct Question {
    service: String,
    kind: Kind,
    url: String,
}

/// What an answered request shows.
#[derive(Clone, Copy, Debug)]
struct Seen {
    status: u16,
    ttfb_ms: f64,
    days_left: Option<i64>,
}

/// What came of one URL.
#[derive(Debug)]
struct Answer {
    question: Question,
    steps: Vec<Step>,
    /// `None` when there was no time to ask.
    result: Option<Result<Seen, Fault>>,
}

#[async_trait]
impl Probe for ServiceEndpoints {
    fn meta(&self) -> &'static ProbeMeta {
        &META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let environment = ctx.environment();
        let questions = environment.services.iter().flat_map(|(name, service)| {
            let health =
                |url: &String| format!("{}{}", url.trim_end_matches('/'), service.health_path);
            let question = |kind, url| Question { service: name.clone(), kind, url };
            let own = Some(&service.url).filter(|url| !url.is_empty());
            let own = own.map(|url| question(Kind::Own, health(url)));
            let aliases = service.aliases.iter().map(|url| question(Kind::Alias, health(url)));
            let socket = service.websocket.iter().map(|url| question(Kind::WebSocket, url.clone()));
            own.into_iter().chain(aliases).chain(socket).collect::<Vec<_>>()
        });
        let questions: Vec<_> = questions.collect();
        if questions.is_empty() {
            let why = "set [services.<name>] url".to_owned();
            return Ok(Outcome::skip(SkipReason::NotConfigured(why)));
        }
        let vantage = environment.identity.vantage.as_str();
        let statement = format!(
            "from vantage {vantage} services are dialled by name, through their load balancer: the \
             connector is not on the way in"
        );
        ctx.progress(&*statement);
        let answers =
            try_join_all(questions.into_iter().map(|question| ask(ctx, question))).await?;
        let warning_days = i64::from(self.config.certificate_warning_days);
        Ok(outcome(&statement, answers, warning_days))
    }
}

async fn ask(ctx: &ProbeCtx, question: Question) -> Result<Answer, ProbeError> {
    let kind = match question.kind {
        Kind::Own | Kind::Alias => resource::HTTP_CONNECTION,
        Kind::WebSocket => resource::WEBSOCKET,
    };
    let lease = ctx.lease(&kind).await?;
    if !target::time_for_a_connect(ctx) {
        lease.settle();
        return Ok(Answer { question, steps: Vec::new(), result: None });
    }
    ctx.progress(&*question.url);
    let (mut steps, result) = if question.kind == Kind::WebSocket {
        let climb = ws::upgrade(ctx, lease, &question.url, &[]).await.uninterrupted()?;
        let ttfb_ms = climb.elapsed_ms("upgrade").unwrap_or_default();
        let result = match climb.result {
            Ok(socket) => {
                socket.close().await;
                Ok(Seen { status: 101, ttfb_ms, days_left: None })
            }
            Err(fault) => Err(fault),
        };
        (climb.steps, result)
    } else {
        let climb = http::get(ctx, lease, &question.url, &[]).await.uninterrupted()?;
        let result = climb.result.map(|response| Seen {
            status: response.status,
            ttfb_ms: response.ttfb_ms,
            days_left: response.certificate.map(|certificate| certificate.days_left),
        });
        (climb.steps, result)
    };
    target::observe_steps(ctx, &Subject::service(question.service.as_str()), &steps);
    target::name_steps(&mut steps, &question.url);
    Ok(Answer { question, steps, result: Some(result) })
}

/// How an answer is judged by itself.
#[derive(Debug)]
enum Judged {
    Fine,
    /// Worth telling, no flaw.
    Told(Finding),
    /// Reached, with a flaw.
    Flawed(Finding),
    /// Not what it should be.
    Broken(Finding),
}

fn judge(answer: &Answer) -> Judged {
    let Question { service, kind, url } = &answer.question;
    let of = match kind {
        Kind::Own => format!("{service} ({url})"),
        Kind::Alias => format!("{service}'s alias {url}"),
        Kind::WebSocket => format!("{service}'s WebSocket {url}"),
    };
    let at_status = |rung: &str, status: u16, what: String| {
        let mut finding = Finding::new(what);
        finding.rung = Some(rung.to_owned());
        finding.fault = Some(Fault::Http { status });
        finding
    };
    match &answer.result {
        None => Judged::Flawed(Finding::new(format!("{of} was not asked: the time was up"))),
        Some(Err(Fault::Http { status: status @ (401 | 403) })) if *kind == Kind::WebSocket => {
            let what = format!("{of} was reached and wants credentials (HTTP status {status})");
            Judged::Told(at_status("upgrade", *status, what))
        }
        Some(Err(fault)) => Judged::Broken(broken(answer, fault, &of)),
        Some(Ok(seen)) => match seen.status {
            101 | 200..=299 => Judged::Fine,
            status @ (300..=399 | 401 | 403) => {
                let what =
                    format!("{of} was reached; its health cannot be seen, HTTP status {status}");
                Judged::Flawed(at_status("http", status, what).next(
                    "set the service's `health_path` to one that answers without credentials or \
                     redirects",
                ))
            }
            status => {
                let what = format!("{of} answers its health path with HTTP status {status}");
                Judged::Broken(
                    at_status("http", status, what)
                        .suggesting(elsewhere::DEPENDENCY_UNAVAILABLE)
                        .next("read the service's log at this moment; the way to it is fine"),
                )
            }
        },
    }
}

fn broken(answer: &Answer, fault: &Fault, of: &str) -> Finding {
    let step = answer.steps.iter().find(|step| !step.is_ok());
    let finding = match step {
        Some(step) => Finding::at(step, format!("{of} failed at `{}`", step.rung)),
        None => Finding::new(format!("{of} failed: {fault}")),
    };
    match (step.map(|step| &*step.rung), fault) {
        (Some("resolve"), _) => finding.next("check the name in DNS: who owns it, where it points"),
        (Some("connect"), Fault::Timeout { .. }) => {
            finding.next("a firewall on the way, or an address that is no longer used")
        }
        (Some("connect"), Fault::Refused) => {
            finding.next("nobody listens there: check the load balancer's forwarding rule")
        }
        (Some("tls"), Fault::Tls { reason, .. }) if reason == "expired" => {
            finding.next("renew the certificate, or find out why its renewal did not happen")
        }
        (Some("tls"), _) => finding.next("check which certificate this name is served with"),
        (Some("http" | "upgrade"), Fault::Timeout { .. } | Fault::Closed | Fault::Reset) => finding
            .suggesting(elsewhere::DEPENDENCY_UNAVAILABLE)
            .next("the load balancer answers, the service behind it does not: read its log"),
        _ => finding,
    }
}

fn outcome(statement: &str, answers: Vec<Answer>, warning_days: i64) -> Outcome {
    let mut outcome = Outcome::pass();
    for answer in &answers {
        let about = |finding: Finding| finding.about(answer.question.service.as_str());
        outcome = match (judge(answer), answer.question.kind) {
            (Judged::Fine, _) => outcome,
            (Judged::Told(finding), _) => outcome.find(about(finding)),
            (Judged::Broken(finding), Kind::Own | Kind::WebSocket) => {
                outcome.failing(about(finding))
            }
            (Judged::Broken(finding) | Judged::Flawed(finding), _) => outcome.but(about(finding)),
        };
    }
    for alias in answers.iter().filter(|answer| answer.question.kind == Kind::Alias) {
        let own = answers.iter().find(|own| {
            own.question.kind == Kind::Own && own.question.service == alias.question.service
        });
        if let Some(Answer { result: Some(Ok(own)), .. }) = own
            && let Some(Ok(seen)) = &alias.result
            && own.status != seen.status
        {
            outcome = outcome.but(Finding::new(format!(
                "{}'s alias {} answers differently: HTTP status {}, the service itself {}",
                alias.question.service, alias.question.url, seen.status, own.status
            )));
        }
    }
    for answer in &answers {
        if let Some(Ok(Seen { days_left: Some(days), .. })) = answer.result
            && days < warning_days
        {
            outcome = outcome.but(
                Finding::new(format!(
                    "the certificate of {} ends in {days} days",
                    answer.question.url
                ))
                .next("renew it, or find out why its renewal did not happen"),
            );
        }
    }
    if outcome.findings.is_empty() {
        let nearest =
            answers.iter().filter_map(|answer| answer.result.as_ref()?.as_ref().ok()?.days_left);
        let days = nearest.min().map(|days| format!(", the next certificate ends in {days} days"));
        let summary =
            format!("{} URLs answer as they should{}", answers.len(), days.unwrap_or_default());
        outcome = outcome.find(Finding::new(summary));
    }
    outcome = outcome.find(Finding::new(format!("path: {statement}")));
    for answer in answers {
        let Question { service, kind, .. } = &answer.question;
        if let Some(Ok(seen)) = answer.result {
            let name = service.replace('-', "_");
            match kind {
                Kind::Own => {
                    outcome = outcome.measure(&format!("{name}_ttfb"), seen.ttfb_ms, "ms");
                    if let Some(days) = seen.days_left.and_then(|days| i32::try_from(days).ok()) {
                        let name = format!("{name}_certificate_left");
                        outcome = outcome.measure(&name, days.into(), "days");
                    }
                }
                Kind::WebSocket => {
                    outcome = outcome.measure(&format!("{name}_upgrade"), seen.ttfb_ms, "ms");
                }
                Kind::Alias => {}
            }
        }
        outcome = outcome.steps(answer.steps);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use shakedown_core::{Span, Verdict};

    use super::*;
    use crate::series::tests::ladder;

    fn answer(kind: Kind, url: &str, result: Option<Result<Seen, Fault>>) -> Answer {
        let rung = if kind == Kind::WebSocket { "upgrade" } else { "http" };
        let fault = result.as_ref().and_then(|result| result.as_ref().err()).cloned();
        let steps = ladder(&[("resolve", 1.0), ("connect", 1.0), (rung, 1.0)], fault);
        let question = Question { service: "backend".into(), kind, url: url.into() };
        Answer { question, steps, result }
    }

    fn status(status: u16) -> Option<Result<Seen, Fault>> {
        Some(Ok(Seen { status, ttfb_ms: 7.5, days_left: Some(60) }))
    }

    fn fault(fault: Fault) -> Option<Result<Seen, Fault>> {
        Some(Err(fault))
    }

    fn verdict(answers: Vec<Answer>) -> (Verdict, Option<String>) {
        let outcome = outcome("from here", answers, 14);
        let code = outcome.findings[0].fault.as_ref().map(Fault::code);
        (outcome.verdict, code)
    }

    #[test]
    fn the_services_own_url_decides_and_an_alias_only_degrades() {
        const TIMEOUT: Fault = Fault::Timeout { limit: Span::secs(3) };
        use Kind::{Alias, Own, WebSocket};
        use Verdict::{Degraded, Fail, Pass};
        let table = [
            (Own, status(200), Pass, None),
            (Own, status(204), Pass, None),
            (Own, status(503), Fail, Some("http:503")),
            (Own, status(404), Fail, Some("http:404")),
            (Own, status(401), Degraded, Some("http:401")),
            (Own, status(302), Degraded, Some("http:302")),
            (Own, fault(TIMEOUT), Fail, Some("timeout")),
            (Own, None, Degraded, None),
            (Alias, status(503), Degraded, Some("http:503")),
            (Alias, fault(Fault::Resolve { message: "x".into() }), Degraded, Some("resolve")),
            (WebSocket, status(101), Pass, None),
            (WebSocket, fault(Fault::Http { status: 401 }), Pass, Some("http:401")),
            (WebSocket, fault(Fault::Http { status: 403 }), Pass, Some("http:403")),
            (WebSocket, fault(Fault::Http { status: 502 }), Fail, Some("http:502")),
            (WebSocket, fault(Fault::Closed), Fail, Some("closed")),
        ];
        for (kind, result, expected, code) in table {
            let case = format!("{kind:?} {result:?}");
            let found = verdict(vec![answer(kind, "https://b", result)]);
            assert_eq!(found, (expected, code.map(str::to_owned)), "{case}");
        }
    }

    #[test]
    fn an_alias_that_answers_differently_is_told() {
        let answers = |alias| {
            vec![
                answer(Kind::Own, "https://b/health", status(200)),
                answer(Kind::Alias, "https://alias/health", status(alias)),
            ]
        };
        assert_eq!(verdict(answers(200)).0, Verdict::Pass);
        let outcome = outcome("from here", answers(204), 14);
        assert_eq!(outcome.verdict, Verdict::Degraded);
        let told = &outcome.findings[0].summary;
        assert!(told.contains("alias https://alias/health answers differently"), "{told}");
    }

    #[test]
    fn certificates_near_their_end_degrade_and_figures_name_their_service() {
        let ends = |days| {
            let seen = Seen { status: 200, ttfb_ms: 7.5, days_left: Some(days) };
            outcome("from here", vec![answer(Kind::Own, "https://b", Some(Ok(seen)))], 14)
        };
        assert_eq!(ends(14).verdict, Verdict::Pass);
        assert_eq!(ends(13).verdict, Verdict::Degraded);
        let figures: Vec<_> =
            ends(60).measurements.iter().map(|m| (m.name.clone(), m.value)).collect();
        let expected = [("backend_ttfb", 7.5), ("backend_certificate_left", 60.0)];
        assert_eq!(figures, expected.map(|(name, value)| (name.to_owned(), value)));
    }
}
