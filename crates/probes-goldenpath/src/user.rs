//! A user: who they are, how they get in, and where.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use shakedown_core::attempt::{Quote, RequestKind, Traffic};
use shakedown_core::environment::Service;
use shakedown_core::evidence::Body;
use shakedown_core::id::{Cause, resource};
use shakedown_core::redact::sanitize;
use shakedown_core::{
    Fault, Finding, Interrupted, ProbeCtx, ProbeError, SkipReason, Step, Subject, clock,
};
use shakedown_wire::http::{self, Request};
use shakedown_wire::ws::{self, Message, WebSocket};

use crate::causes::{AUTH_FAILURE, GOLDEN_PATH_OFFLINE};
use crate::section::{TokenPlace, UserPath};

/// A token that ends within so many seconds is renewed before it is used.
const NEARLY_EXPIRED_S: i64 = 5;

/// Of a stranger's words so many characters are kept.
const WORDS: usize = 200;

const CONFIGURATION_ERROR: Cause = Cause::new("configuration_error");
const DEPENDENCY_UNAVAILABLE: Cause = Cause::new("dependency_unavailable");

/// Where a user goes.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) auth: Service,
    pub(crate) websocket: String,
}

/// How a user is known.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// They log in.
    Password { user: SecretString, password: SecretString },
    /// They have been given tokens.
    Tokens { access: Option<SecretString>, refresh: Option<SecretString> },
    /// By headers alone.
    Headers,
}

/// The step of the golden path that something broke at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Login,
    WebSocket,
    Greeting,
    Message,
    Answer,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Login => "the login",
            Self::WebSocket => "opening the WebSocket",
            Self::Greeting => "the server's greeting",
            Self::Message => "sending the message",
            Self::Answer => "the agent's run",
        })
    }
}

/// Why there is no session.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) stage: Stage,
    pub(crate) steps: Vec<Step>,
    pub(crate) fault: Fault,
    /// The server's words, when it gave any.
    pub(crate) words: String,
}

/// A user who is in: greeted over an open WebSocket.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) socket: WebSocket,
    pub(crate) steps: Vec<Step>,
}

/// Where a user goes, or why nobody can say.
pub(crate) fn places(ctx: &ProbeCtx, path: &UserPath) -> Result<Places, SkipReason> {
    let auth = service(ctx, &path.auth_service, "goldenpath.auth_service")?;
    let backend = service(ctx, &path.backend_service, "goldenpath.backend_service")?;
    let Some(websocket) = backend.websocket.clone() else {
        let why = format!("set `services.{}.websocket`", path.backend_service);
        return Err(SkipReason::NotConfigured(why));
    };
    Ok(Places { auth, websocket })
}

/// One of `[services]`.
pub(crate) fn service(ctx: &ProbeCtx, name: &str, key: &str) -> Result<Service, SkipReason> {
    let found = ctx.environment().services.get(name).filter(|service| !service.url.is_empty());
    found.cloned().ok_or_else(|| {
        SkipReason::NotConfigured(format!("set `services.{name}.url`, or name another in `{key}`"))
    })
}

/// How the test user is known, or the key to set.
pub(crate) fn identity(ctx: &ProbeCtx, path: &UserPath) -> Result<Identity, SkipReason> {
    let secret = |name: &str| ctx.credentials().get(name).cloned();
    if let (Some(user), Some(password)) = (secret(&path.user), secret(&path.password)) {
        return Ok(Identity::Password { user, password });
    }
    let (access, refresh) = (secret(&path.access_token), secret(&path.refresh_token));
    if access.is_some() || refresh.is_some() {
        return Ok(Identity::Tokens { access, refresh });
    }
    if !headers(ctx, path).is_empty() {
        return Ok(Identity::Headers);
    }
    Err(SkipReason::NoCredentials(format!(
        "set [credentials.{}] and [credentials.{}] of a dedicated test user, or \
         [credentials.{}] or [credentials.{}], each with `env` or `file`",
        path.user, path.password, path.access_token, path.refresh_token
    )))
}

/// The headers that go along with every request.
fn headers(ctx: &ProbeCtx, path: &UserPath) -> Vec<(String, SecretString)> {
    let header = |name: &String| {
        let header = ctx.environment().credentials.get(name)?.header.clone()?;
        Some((header, ctx.credentials().get(name)?.clone()))
    };
    path.headers.iter().filter_map(header).collect()
}

/// Tokens as they were last given out in this run.
#[derive(Debug, Default)]
struct Renewed(Mutex<Option<(SecretString, Option<SecretString>)>>);

impl Renewed {
    fn of(ctx: &ProbeCtx) -> Arc<Self> {
        let renewed =
            ctx.shared().get_or_try_init(|| Ok::<_, std::convert::Infallible>(Self::default()));
        renewed.unwrap_or_else(|never| match never {})
    }

    fn get(&self) -> Option<(SecretString, Option<SecretString>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, access: SecretString, refresh: Option<SecretString>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((access, refresh));
    }
}

/// The steps on the way to a token, and the token; `None` where headers are enough.
type Ticket = (Vec<Step>, Result<Option<SecretString>, (Fault, String)>);

/// Logs in, or takes or renews a token.
pub(crate) async fn ticket(
    ctx: &ProbeCtx,
    path: &UserPath,
    places: &Places,
    identity: &Identity,
) -> Result<Ticket, ProbeError> {
    let url = |path: &str| format!("{}{path}", places.auth.url.trim_end_matches('/'));
    let (access, refresh) = match identity {
        Identity::Headers => return Ok((Vec::new(), Ok(None))),
        Identity::Password { user, password } => {
            let body = json!({
                path.user_field.as_str(): user.expose_secret(),
                path.password_field.as_str(): password.expose_secret(),
            });
            let url = url(&path.login_path);
            let (steps, answer) = post(ctx, path, &url, &body, "login").await?;
            return Ok((
                steps,
                answer.and_then(|answer| tokens(&answer)).map(|(token, _)| Some(token)),
            ));
        }
        Identity::Tokens { access, refresh } => match Renewed::of(ctx).get() {
            Some((access, renewed)) => (Some(access), renewed.or_else(|| refresh.clone())),
            None => (access.clone(), refresh.clone()),
        },
    };
    let fresh = access.filter(|token| !expired(token, clock::wall().as_second()));
    if let Some(token) = fresh {
        return Ok((Vec::new(), Ok(Some(token))));
    }
    let Some(refresh) = refresh else {
        let words = "the access token has expired and there is no refresh token".to_owned();
        let step =
            Step::ended("refresh", clock::wall(), clock::now(), Some(Fault::Http { status: 401 }));
        return Ok((vec![step], Err((Fault::Http { status: 401 }, words))));
    };
    let body = json!({ "refresh_token": refresh.expose_secret() });
    let (steps, answer) = post(ctx, path, &url(&path.refresh_path), &body, "refresh").await?;
    let token = answer.and_then(|answer| tokens(&answer)).map(|(access, next)| {
        Renewed::of(ctx).set(access.clone(), next);
        Some(access)
    });
    Ok((steps, token))
}

/// Posts a JSON document and reads the answer; its last rung is called `rung`.
async fn post(
    ctx: &ProbeCtx,
    path: &UserPath,
    url: &str,
    body: &Value,
    rung: &str,
) -> Result<(Vec<Step>, Result<Value, (Fault, String)>), ProbeError> {
    let lease = ctx.lease(&resource::HTTP_CONNECTION).await?;
    let request = Request::post(url, "application/json", body.to_string());
    let request = headers(ctx, path)
        .iter()
        .fold(request, |request, (name, value)| request.header(name, value.expose_secret()));
    let climb = http::send(ctx, lease, &request).await.uninterrupted()?;
    let mut steps = climb.steps;
    let answer = match climb.result {
        Err(fault) => Err((fault, String::new())),
        Ok(response) if !response.is_success() => {
            let words = quoted(&String::from_utf8_lossy(&response.body));
            Err((Fault::Http { status: response.status }, words))
        }
        Ok(response) => serde_json::from_slice(&response.body).map_err(|_| {
            let message = "expected a JSON document with a token".to_owned();
            (Fault::Protocol { message }, String::new())
        }),
    };
    if let Some(step) = steps.last_mut().filter(|step| step.rung == "http") {
        rung.clone_into(&mut step.rung);
        if let Err((fault, _)) = &answer {
            step.fault = Some(fault.clone());
        }
    }
    let subject = Subject::service(path.auth_service.as_str());
    observe(ctx, &subject, &steps);
    Ok((steps, answer))
}

/// Access and refresh token of an answer.
fn tokens(answer: &Value) -> Result<(SecretString, Option<SecretString>), (Fault, String)> {
    let secret = |key: &str| answer[key].as_str().map(|token| SecretString::from(token.to_owned()));
    secret("access_token")
        .or_else(|| secret("token"))
        .map(|token| (token, secret("refresh_token")))
        .ok_or_else(|| {
            let message = "the answer holds no `access_token`".to_owned();
            (Fault::Protocol { message }, String::new())
        })
}

/// Whether a token says itself that it has ended, or nearly; one that is no JWT says nothing.
fn expired(token: &SecretString, now: i64) -> bool {
    let payload = token.expose_secret().split('.').nth(1);
    let payload = payload.and_then(|payload| BASE64.decode(payload.trim_end_matches('=')).ok());
    let claims: Option<Value> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
    let ends = claims.and_then(|claims| claims["exp"].as_f64());
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 stay below 2^53")]
    ends.is_some_and(|ends| ends <= (now + NEARLY_EXPIRED_S) as f64)
}

/// Opens the WebSocket with `token`, if there is one.
pub(crate) async fn connect(
    ctx: &ProbeCtx,
    path: &UserPath,
    url: &str,
    token: Option<&str>,
) -> Result<shakedown_wire::Climb<WebSocket>, ProbeError> {
    let mut request = Request::get(url);
    let mut subprotocols = path.subprotocols.clone();
    match (token, path.token_in) {
        (Some(token), TokenPlace::Authorization) => {
            request = request.header("Authorization", &format!("Bearer {token}"));
        }
        (Some(token), TokenPlace::Subprotocol) => subprotocols.push(format!("jwt.{token}")),
        (None, _) => {}
    }
    if !subprotocols.is_empty() {
        request = request.header("Sec-WebSocket-Protocol", &subprotocols.join(", "));
    }
    for (name, value) in headers(ctx, path) {
        request = request.header(&name, value.expose_secret());
    }
    let lease = ctx.lease(&resource::WEBSOCKET).await?;
    ws::open(ctx, lease, &request).await.uninterrupted()
}

/// From login to the server's greeting.
pub(crate) async fn open(
    ctx: &ProbeCtx,
    path: &UserPath,
    places: &Places,
    identity: &Identity,
) -> Result<Result<Session, Broken>, ProbeError> {
    let (mut steps, token) = ticket(ctx, path, places, identity).await?;
    let token = match token {
        Ok(token) => token,
        Err((fault, words)) => return Ok(Err(Broken { stage: Stage::Login, steps, fault, words })),
    };
    let token = token.as_ref().map(|token| token.expose_secret());
    let climb = connect(ctx, path, &places.websocket, token).await?;
    let subject = Subject::service(path.backend_service.as_str());
    observe(ctx, &subject, &climb.steps);
    observe_upgrade(ctx, &subject, &places.websocket, climb.result.as_ref().err());
    let words = climb.failed_step().and_then(|step| step.detail.clone()).unwrap_or_default();
    steps.extend(climb.steps);
    let mut socket = match climb.result {
        Ok(socket) => socket,
        Err(fault) => return Ok(Err(Broken { stage: Stage::WebSocket, steps, fault, words })),
    };
    let (at, since) = (clock::wall(), clock::now());
    let limit = ctx.environment().safety.connect_timeout.get();
    let greeting = greeting(&mut socket, path, limit).await;
    let mut step = Step::ended("greeting", at, since, greeting.as_ref().err().cloned());
    step.detail = greeting.as_ref().ok().cloned();
    ctx.observe(subject, Body::Step(step.clone()));
    steps.push(step);
    match greeting {
        Ok(_) => Ok(Ok(Session { socket, steps })),
        Err(fault) => {
            socket.close().await;
            uninterrupted(ctx)?;
            Ok(Err(Broken { stage: Stage::Greeting, steps, fault, words: String::new() }))
        }
    }
}

async fn greeting(
    socket: &mut WebSocket,
    path: &UserPath,
    limit: Duration,
) -> Result<String, Fault> {
    let text = match socket.next_message(limit).await? {
        Message::Text(text) => text,
        Message::Binary(bytes) => {
            let message = format!("expected a greeting, got {} bytes", bytes.len());
            return Err(Fault::Protocol { message });
        }
    };
    let said: Value = serde_json::from_str(&text).unwrap_or_default();
    match said["type"].as_str().or(said["event"].as_str()) {
        Some(kind) if path.greetings.iter().any(|known| known == kind) => Ok(kind.to_owned()),
        _ => {
            let message =
                format!("expected one of {}, got: {}", path.greetings.join(", "), quoted(&text));
            Err(Fault::Protocol { message })
        }
    }
}

/// Steps into the record.
pub(crate) fn observe(ctx: &ProbeCtx, subject: &Subject, steps: &[Step]) {
    for step in steps {
        ctx.observe(subject.clone(), Body::Step(step.clone()));
    }
}

/// What a request of a rightful user was answered with.
pub(crate) fn observe_answer(
    ctx: &ProbeCtx,
    subject: &Subject,
    request: RequestKind,
    url: &str,
    status: u16,
) {
    let at = Some(clock::wall());
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.find('/').map_or("/", |start| &path[start..]).to_owned();
    let text = format!("{path} answered {status}");
    ctx.observe(
        subject.clone(),
        Body::Traffic(Traffic {
            browser: false,
            request,
            path,
            access: false,
            status,
            count: 1,
            first: at,
            last: at,
            minutes: Vec::new(),
            quote: Quote { at, source: "shakedown".into(), text },
        }),
    );
}

fn observe_upgrade(ctx: &ProbeCtx, subject: &Subject, url: &str, fault: Option<&Fault>) {
    let status = match fault {
        None => 101,
        Some(Fault::Http { status }) => *status,
        Some(_) => return,
    };
    observe_answer(ctx, subject, RequestKind::Websocket, url, status);
}

/// What our own side cut short is no news about the target.
pub(crate) fn uninterrupted(ctx: &ProbeCtx) -> Result<(), ProbeError> {
    if ctx.cancelled().is_cancelled() {
        return Err(Interrupted::Cancelled.into());
    }
    if ctx.remaining().is_some_and(|remaining| remaining.is_zero()) {
        return Err(Interrupted::Deadline.into());
    }
    Ok(())
}

/// A stranger's words: without control characters, cut.
pub(crate) fn quoted(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}...", sanitize(&text[..end])),
        None => sanitize(text).into_owned(),
    }
}

impl Broken {
    /// The finding: what broke, what that is consistent with, what to do.
    pub(crate) fn finding(&self) -> Finding {
        let Self { stage, steps, fault, words } = self;
        let mut summary = format!("{stage} failed: {fault}");
        if !words.is_empty() {
            summary.push_str(&format!(" ({words})"));
        }
        let mut finding = Finding::new(summary);
        finding.rung = steps.last().map(|step| step.rung.clone());
        finding.fault = Some(fault.clone());
        finding.symptom = Some(GOLDEN_PATH_OFFLINE);
        let refused = matches!(
            fault,
            Fault::Http { status: 401 | 403 } | Fault::WebSocket { code: Some(1008), .. }
        );
        match (stage, fault) {
            (Stage::Login, Fault::Http { status: 401 | 403 | 422 }) => {
                finding.suggesting(AUTH_FAILURE).next(
                    "log in as this user by hand; check the credentials and `goldenpath.*_field`",
                )
            }
            (Stage::Login, _) => finding
                .suggesting(DEPENDENCY_UNAVAILABLE)
                .next("read the auth service's log at this moment"),
            (Stage::WebSocket | Stage::Greeting, _) if refused => {
                finding.suggesting(CONFIGURATION_ERROR).next(
                    "the auth service gave this token out and the backend refuses it: compare \
                     signing secret (its version), audience and clocks of the two",
                )
            }
            (Stage::WebSocket, Fault::Http { status: 400 | 404 | 405 | 426 }) => {
                finding.suggesting(CONFIGURATION_ERROR).next(
                    "the request arrived without what makes it a WebSocket, or at another route: \
                     check what the load balancer passes on",
                )
            }
            (Stage::WebSocket, _) => finding
                .suggesting(DEPENDENCY_UNAVAILABLE)
                .next("the backend does not serve: read its log, beginning with its start-up"),
            (Stage::Greeting | Stage::Message, _) => {
                finding.next("the connection stands, the application does not speak: read its log")
            }
            (Stage::Answer, Fault::Timeout { .. }) => finding.next(
                "the run began or should have: look for this thread's id in the backend's log",
            ),
            (Stage::Answer, _) => finding.next("read the backend's log for this thread's id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(exp: i64) -> SecretString {
        let payload = BASE64.encode(json!({ "exp": exp }).to_string());
        SecretString::from(format!("{}.{payload}.x", BASE64.encode("{}")))
    }

    #[test]
    fn a_token_says_when_it_ends_and_an_opaque_one_does_not() {
        assert!(!expired(&jwt(1_000), 900));
        assert!(expired(&jwt(1_000), 996), "within five seconds");
        assert!(expired(&jwt(1_000), 2_000));
        assert!(!expired(&SecretString::from("opaque".to_owned()), 2_000));
    }

    #[test]
    fn the_stage_and_the_fault_tell_what_it_is_consistent_with() {
        let http = |status| Fault::Http { status };
        let closed = |code| Fault::WebSocket { code: Some(code), reason: String::new() };
        let table = [
            (Stage::Login, http(401), Some("auth_failure")),
            (Stage::Login, http(503), Some("dependency_unavailable")),
            (Stage::Login, Fault::Refused, Some("dependency_unavailable")),
            (Stage::WebSocket, http(403), Some("configuration_error")),
            (Stage::WebSocket, http(404), Some("configuration_error")),
            (Stage::WebSocket, http(503), Some("dependency_unavailable")),
            (Stage::Greeting, closed(1008), Some("configuration_error")),
            (Stage::Greeting, closed(1011), None),
            (Stage::Answer, Fault::Closed, None),
        ];
        for (stage, fault, cause) in table {
            let broken = Broken { stage, steps: Vec::new(), fault, words: String::new() };
            let finding = broken.finding();
            let suggests = finding.suggests.as_ref().map(Cause::as_str);
            assert_eq!(suggests, cause, "{}", finding.summary);
            assert_eq!(finding.symptom, Some(GOLDEN_PATH_OFFLINE));
        }
    }

    #[test]
    fn an_answer_without_a_token_is_no_login() {
        assert!(tokens(&json!({ "token_type": "Bearer" })).is_err());
        let (access, refresh) =
            tokens(&json!({ "access_token": "a", "refresh_token": "r" })).unwrap();
        assert_eq!(access.expose_secret(), "a");
        assert_eq!(refresh.unwrap().expose_secret(), "r");
    }
}
