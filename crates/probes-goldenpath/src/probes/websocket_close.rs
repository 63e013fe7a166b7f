//! Asks whether WebSockets end as they should. Good: strangers are refused, mistakes are answered with
//! their close code, and a goodbye is returned.
//!
//! **How.** One WebSocket after the other: without a token; with a token nobody issued; with a
//! subprotocol nobody knows; and, where there are credentials, two rightful ones: one sends a message
//! of 8,193 bytes, which the observed application refuses (it is a `ping` with padding, so that an
//! application without that limit does nothing about it), the other says goodbye.
//!
//! **What the codes mean.** 1000 goodbye; 1001 the service stops or restarts; 1003 data or subprotocol
//! not supported; 1008 authentication or policy; 1009 message too big; 1011 an error inside the
//! service, or not ready; 1012 restart; 1013 try again later; no close frame at all: a process died or
//! something on the way cut the connection. A refusal before the WebSocket is accepted is an HTTP
//! status instead (401 or 403), whatever code the application's log names.
//!
//! **Verdicts.** *Fail*: a stranger was let in, or nobody answered. *Degraded*: another code than
//! expected. *Pass*: all as expected; what could not be tried without credentials is told.
//!
//! **Draws** one HTTP connection and one WebSocket, one at a time, five in all.
//!
//! **Configuration**: see [`WebsocketCloseConfig`].
//!
//! **Cannot tell** how the service closes when it stops: that would take stopping it.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shakedown_core::budget::Draw;
use shakedown_core::evidence::{Body, Fact, ObservationMeta};
use shakedown_core::id::{ObservationKind, resource};
use shakedown_core::{
    Category, Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase,
    Span, Step, Subject, async_trait, clock,
};
use shakedown_wire::ws::WebSocket;

use crate::causes::AUTH_FAILURE;
use crate::section::UserPath;
use crate::user::{self, uninterrupted};

/// How a WebSocket ended, as an observation.
pub const CLOSED: ObservationKind = ObservationKind::new("goldenpath.websocket-closed");

/// The description of [`CLOSED`].
pub const CLOSED_META: ObservationMeta = ObservationMeta {
    kind: CLOSED,
    summary: "how a WebSocket ended: case, ended (a code, an HTTP status, open, no close frame), \
              reason, meaning, expected (yes, no)",
};

#[cfg(feature = "register")]
shakedown_core::register_observation!(CLOSED_META);

/// A token of the right shape that nobody issued.
const FORGED: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzaGFrZWRvd24ifQ.AAAA";

/// A subprotocol nobody knows.
const UNKNOWN_SUBPROTOCOL: &str = "shakedown-unknown";

/// See the module.
#[derive(Debug)]
pub struct WebsocketClose(WebsocketCloseConfig);

/// `[probes."goldenpath.websocket-close"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct WebsocketCloseConfig {
    /// How long to wait for the server to close. Default 10 s: our choice.
    pub close_limit: Span,
    /// The size of the message that is too big, in bytes. Default 8,193: one more than the observed
    /// application takes. 0 leaves the case out.
    pub too_big_bytes: u32,
}

impl Default for WebsocketCloseConfig {
    fn default() -> Self {
        Self { close_limit: Span::secs(10), too_big_bytes: 8193 }
    }
}

impl ProbeSpec for WebsocketClose {
    type Config = WebsocketCloseConfig;

    const META: ProbeMeta = ProbeMeta {
        category: Category::E2e,
        markers: &["staging", "issue_1278"],
        draws: &[Draw::new(resource::HTTP_CONNECTION, 1), Draw::new(resource::WEBSOCKET, 1)],
        expected: Duration::from_secs(10),
        timeout: Duration::from_secs(300),
        ..ProbeMeta::new(
            "goldenpath.websocket-close",
            RunPhase::Impact,
            "strangers are refused, mistakes get their close code, and a goodbye is returned",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(WebsocketClose);

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Anonymous,
    Forged,
    UnknownSubprotocol,
    TooBig,
    Goodbye,
}

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "without a token",
            Self::Forged => "with a token nobody issued",
            Self::UnknownSubprotocol => "with an unknown subprotocol",
            Self::TooBig => "a message that is too big",
            Self::Goodbye => "a goodbye",
        }
    }

    /// Whether this is how it should end.
    fn expects(self, end: &End) -> bool {
        match self {
            Self::Anonymous | Self::Forged => {
                matches!(end, End::Status(401 | 403) | End::Code(1008, _))
            }
            Self::UnknownSubprotocol => {
                matches!(
                    end,
                    End::Status(400 | 401 | 403) | End::Code(1002 | 1003 | 1008, _) | End::Ignored
                )
            }
            Self::TooBig => matches!(end, End::Code(1009, _)),
            Self::Goodbye => matches!(end, End::Code(1000, _)),
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
enum End {
    /// Refused before it was accepted.
    Status(u16),
    /// Closed with a code and a reason.
    Code(u16, String),
    /// Accepted without the subprotocol, which a client then refuses.
    Ignored,
    /// Nothing closed it.
    Open,
    /// It ended without a close frame.
    Cut,
    /// It was not reached at all.
    Unreached(Fault),
}

impl End {
    fn of(fault: Fault) -> Self {
        match fault {
            Fault::Http { status } if status < 500 => Self::Status(status),
            Fault::WebSocket { code: Some(code), reason } => Self::Code(code, reason),
            Fault::WebSocket { code: None, reason } if reason.contains("chose") => Self::Ignored,
            Fault::WebSocket { code: None, reason } if reason.is_empty() => {
                Self::Code(1005, reason)
            }
            Fault::Closed | Fault::Reset => Self::Cut,
            other => Self::Unreached(other),
        }
    }

    fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::Status(status) => Fault::Http { status: *status },
            Self::Code(code, reason) => {
                Fault::WebSocket { code: Some(*code), reason: reason.clone() }
            }
            Self::Cut => Fault::Closed,
            Self::Unreached(fault) => fault.clone(),
            Self::Ignored | Self::Open => return None,
        })
    }

    fn words(&self) -> String {
        match self {
            Self::Status(status) => format!("HTTP status {status}"),
            Self::Code(code, reason) if reason.is_empty() => format!("code {code}"),
            Self::Code(code, reason) => format!("code {code} ({reason})"),
            Self::Ignored => "an acceptance without the subprotocol".into(),
            Self::Open => "an open WebSocket".into(),
            Self::Cut => "no close frame".into(),
            Self::Unreached(fault) => fault.to_string(),
        }
    }

    fn meaning(&self) -> &'static str {
        match self {
            Self::Status(401 | 403) => "refused before it was accepted",
            Self::Status(_) => "the request did not arrive as a WebSocket's",
            Self::Code(code, _) => meaning(*code),
            Self::Ignored => "the server does not negotiate subprotocols",
            Self::Open => "let in",
            Self::Cut => "a process died, or something on the way cut the connection",
            Self::Unreached(_) => "nobody answered",
        }
    }
}

/// What a close code says (RFC 6455 and its registry; what the observed application uses it for).
fn meaning(code: u16) -> &'static str {
    match code {
        1000 => "goodbye",
        1001 => "the service stops or restarts",
        1002 => "a protocol error",
        1003 => "data or subprotocol not supported",
        1005 => "closed without a code",
        1007 => "a message that is not what its type says",
        1008 => "authentication or policy",
        1009 => "message too big",
        1010 => "an extension is missing",
        1011 => "an error inside the service, or it is not ready",
        1012 => "the service restarts",
        1013 => "try again later",
        1014 => "a bad answer from behind a gateway",
        3000..=3999 => "registered for a framework",
        4000..=4999 => "the application's own",
        _ => "not a registered code",
    }
}

#[async_trait]
impl Probe for WebsocketClose {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let path: UserPath = ctx.section()?;
        let places = match user::places(ctx, &path) {
            Ok(places) => places,
            Err(reason) => return Ok(Outcome::skip(reason)),
        };
        let mut ends = Vec::new();
        let strange = UserPath { headers: Vec::new(), ..path.clone() };
        let unknown =
            UserPath { subprotocols: vec![UNKNOWN_SUBPROTOCOL.into()], ..strange.clone() };
        for (case, path, token) in [
            (Case::Anonymous, &strange, None),
            (Case::Forged, &strange, Some(FORGED)),
            (Case::UnknownSubprotocol, &unknown, None),
        ] {
            ctx.progress(case.name());
            let climb = user::connect(ctx, path, &places.websocket, token).await?;
            let end = match climb.result {
                Ok(socket) => self.ends(socket).await,
                Err(fault) => End::of(fault),
            };
            ends.push((case, end));
        }
        uninterrupted(ctx)?;
        let untried = self.rightful(ctx, &path, &places, &mut ends).await?;
        let subject = Subject::service(path.backend_service.as_str());
        for (case, end) in &ends {
            ctx.observe(subject.clone(), observation(*case, end));
            // Not as it should be: a step of the backend's, and no longer a stranger's own doing.
            if let Some(fault) = end.fault().filter(|_| !case.expects(end)) {
                let step = Step::ended("upgrade", clock::wall(), clock::now(), Some(fault));
                ctx.observe(subject.clone(), Body::Step(step));
            }
        }
        let outcome = judge(&ends);
        Ok(match untried {
            Some(why) => outcome.find(Finding::new(why)),
            None => outcome,
        })
    }
}

impl WebsocketClose {
    /// The cases that take a session; why they were not tried, when they were not.
    async fn rightful(
        &self,
        ctx: &ProbeCtx,
        path: &UserPath,
        places: &user::Places,
        ends: &mut Vec<(Case, End)>,
    ) -> Result<Option<String>, ProbeError> {
        let identity = match user::identity(ctx, path) {
            Ok(identity) => identity,
            Err(reason) => {
                return Ok(Some(format!("rightful WebSockets were not tried: {reason}")));
            }
        };
        let (_, token) = user::ticket(ctx, path, places, &identity).await?;
        let token = match token {
            Ok(token) => token,
            Err((fault, _)) => {
                return Ok(Some(format!(
                    "rightful WebSockets were not tried: login failed: {fault}"
                )));
            }
        };
        let token = token.as_ref().map(|token| token.expose_secret());
        for case in [Case::TooBig, Case::Goodbye] {
            if case == Case::TooBig && self.0.too_big_bytes == 0 {
                continue;
            }
            ctx.progress(case.name());
            let climb = user::connect(ctx, path, &places.websocket, token).await?;
            let end = match climb.result {
                Err(fault) => End::of(fault),
                Ok(socket) if case == Case::Goodbye => goodbye(socket).await,
                Ok(mut socket) => match socket.send_text(&too_big(self.0.too_big_bytes)).await {
                    Ok(()) => self.ends(socket).await,
                    Err(fault) => End::of(fault),
                },
            };
            ends.push((case, end));
        }
        uninterrupted(ctx)?;
        Ok(None)
    }

    /// How the server ends an open WebSocket, whatever it says before.
    async fn ends(&self, mut socket: WebSocket) -> End {
        let until = clock::now() + self.0.close_limit.get();
        let end = loop {
            let left = until.saturating_duration_since(clock::now());
            match socket.next_message(left).await {
                Ok(_) => {}
                Err(Fault::Timeout { .. }) => break End::Open,
                Err(fault) => break End::of(fault),
            }
        };
        socket.close().await;
        end
    }
}

/// We say it; the server should return it and close its end.
async fn goodbye(socket: WebSocket) -> End {
    match socket.close().await.fault {
        None => End::Code(1000, String::new()),
        Some(_) => End::Open,
    }
}

/// A ping with padding.
fn too_big(bytes: u32) -> String {
    let frame = json!({ "type": "ping", "padding": "" }).to_string().len();
    let padding = "x".repeat((bytes as usize).saturating_sub(frame));
    json!({ "type": "ping", "padding": padding }).to_string()
}

fn observation(case: Case, end: &End) -> Body {
    let (ended, reason) = match end {
        End::Code(code, reason) => (code.to_string(), reason.clone()),
        other => (other.words(), String::new()),
    };
    let attributes = [
        ("case", case.name().to_owned()),
        ("ended", ended),
        ("reason", reason),
        ("meaning", end.meaning().to_owned()),
        ("expected", if case.expects(end) { "yes" } else { "no" }.to_owned()),
    ];
    Body::Fact(Fact {
        fact: CLOSED,
        attributes: attributes.map(|(key, value)| (key.to_owned(), value)).to_vec(),
    })
}

fn judge(ends: &[(Case, End)]) -> Outcome {
    let mut outcome = Outcome::pass();
    for (case, end) in ends {
        let said = format!("{} ended with {}: {}", case.name(), end.words(), end.meaning());
        let mut finding = Finding::new(said);
        if !case.expects(end) {
            finding.rung = Some("upgrade".into());
            finding.fault = end.fault();
        }
        let stranger = matches!(case, Case::Anonymous | Case::Forged);
        outcome =
            match end {
                _ if case.expects(end) => outcome.find(finding),
                End::Unreached(_) => outcome.failing(finding.next(
                    "the backend's WebSocket is not reached: see goldenpath.login-to-response",
                )),
                End::Open if stranger => outcome.failing(
                    finding
                        .suggesting(AUTH_FAILURE)
                        .next("anybody can open this WebSocket: check how it reads tokens"),
                ),
                _ => outcome.but(finding),
            };
    }
    let expected = ends.iter().filter(|(case, end)| case.expects(end)).count();
    outcome.measure("as_expected", expected as f64, "1").measure("tried", ends.len() as f64, "1")
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    fn code(code: u16) -> End {
        End::of(Fault::WebSocket { code: Some(code), reason: "why".into() })
    }

    fn verdict(case: Case, end: End) -> Verdict {
        judge(&[(case, end)]).verdict
    }

    #[test]
    fn every_case_has_its_ends() {
        let table = [
            (Case::Anonymous, End::Status(403), Verdict::Pass),
            (Case::Anonymous, code(1008), Verdict::Pass),
            (Case::Anonymous, code(1011), Verdict::Degraded),
            (Case::Anonymous, End::Open, Verdict::Fail),
            (Case::Forged, End::Open, Verdict::Fail),
            (Case::Forged, End::Status(404), Verdict::Degraded),
            (Case::UnknownSubprotocol, End::Ignored, Verdict::Pass),
            (Case::UnknownSubprotocol, code(1003), Verdict::Pass),
            (Case::TooBig, code(1009), Verdict::Pass),
            (Case::TooBig, End::Open, Verdict::Degraded),
            (Case::TooBig, End::Cut, Verdict::Degraded),
            (Case::Goodbye, code(1000), Verdict::Pass),
            (Case::Goodbye, End::Open, Verdict::Degraded),
            (Case::Goodbye, End::of(Fault::Http { status: 503 }), Verdict::Fail),
        ];
        for (case, end, expected) in table {
            assert_eq!(verdict(case, end.clone()), expected, "{case:?} {end:?}");
        }
    }

    #[test]
    fn the_message_is_exactly_as_big_as_asked_and_only_a_ping() {
        let text = too_big(8193);
        assert_eq!(text.len(), 8193);
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(said["type"], "ping");
    }

    #[test]
    fn faults_become_ends() {
        assert_eq!(End::of(Fault::Http { status: 403 }), End::Status(403));
        assert_eq!(End::of(Fault::Reset), End::Cut);
        assert_eq!(code(1011).meaning(), "an error inside the service, or it is not ready");
        let chose = Fault::WebSocket { code: None, reason: "the server chose none".into() };
        assert_eq!(End::of(chose), End::Ignored);
    }
}
