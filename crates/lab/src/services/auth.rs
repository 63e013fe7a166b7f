//! The auth service: issues tokens to a user with a password, and says whether a token holds.
//!
//! | request | answer |
//! |---|---|
//! | `GET /health` | 200 |
//! | `POST /auth/login {"email","password"}` | 200 with tokens, 401, 422 |
//! | `POST /auth/refresh {"refresh_token"}` | 200 with tokens, 401, 422 |
//! | `POST /auth/validate {"token"}`, with `X-Service-ID` and `X-Service-Secret` | 200 with what the token says, 401, 403 |
//!
//! A request that carries `X-Service-ID` or `X-Service-Secret` is refused when they are wrong,
//! whatever it asks for.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::jwt::{AUDIENCE, Claims, ISSUER, Key, Use};
use super::pages::{Answer, detail, json as document, not_allowed};
use crate::switches::Switches;

/// The header a service names itself in.
pub(crate) const SERVICE_ID: &str = "X-Service-ID";
/// The header it proves that with.
pub(crate) const SERVICE_SECRET: &str = "X-Service-Secret";

/// How long an access token holds, before the time scale: the observed application's 15 minutes.
pub(crate) const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// A refresh token holds so many times longer.
const REFRESH_FACTOR: u32 = 96;

/// The longest request that is read.
const MOST_BYTES: usize = 8 << 10;

/// Who may log in, with what.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// The one user's name.
    pub(crate) user: SecretString,
    /// That user's password.
    pub(crate) password: SecretString,
    /// What services call themselves.
    pub(crate) service_id: SecretString,
    /// How they prove it.
    pub(crate) service_secret: SecretString,
}

/// The auth service.
#[derive(Debug)]
pub(crate) struct Auth {
    accounts: Accounts,
    key: Key,
    /// What tokens are signed with while the services disagree about the secret.
    other_key: Key,
    lifetime: Duration,
    switches: watch::Receiver<Switches>,
}

#[derive(Deserialize)]
struct Login {
    email: String,
    password: String,
}

#[derive(Deserialize)]
struct Refresh {
    refresh_token: String,
}

#[derive(Deserialize)]
struct Validate {
    token: String,
}

impl Auth {
    /// Signs with `secret`; access tokens hold for `lifetime`.
    pub(crate) fn new(
        accounts: Accounts,
        secret: &SecretString,
        lifetime: Duration,
        switches: watch::Receiver<Switches>,
    ) -> Self {
        let other = SecretString::from(format!("{} of another revision", secret.expose_secret()));
        Self { accounts, key: Key::new(secret), other_key: Key::new(&other), lifetime, switches }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        if self.switches.borrow().auth_down {
            return super::pages::empty(StatusCode::SERVICE_UNAVAILABLE);
        }
        let (head, body) = request.into_parts();
        let path = head.uri.path().trim_end_matches('/');
        let get = matches!(head.method, Method::GET | Method::HEAD);
        match path {
            "" if get => document(StatusCode::OK, &json!({ "service": "auth" })),
            "/health" | "/health/live" | "/health/ready" if get => {
                let body = json!({ "status": "healthy", "redis": "disabled (lab)" });
                document(StatusCode::OK, &body)
            }
            "" | "/health" | "/health/live" | "/health/ready" => not_allowed("GET, HEAD"),
            "/auth/login" | "/auth/refresh" | "/auth/validate" if head.method != Method::POST => {
                not_allowed("POST")
            }
            "/auth/login" | "/auth/refresh" | "/auth/validate" => {
                let named = match self.service(&head.headers) {
                    Ok(named) => named,
                    Err(words) => return detail(StatusCode::FORBIDDEN, words),
                };
                let body = Limited::new(body, MOST_BYTES).collect().await;
                let Ok(body) = body.map(http_body_util::Collected::to_bytes) else {
                    return detail(StatusCode::PAYLOAD_TOO_LARGE, "request too large");
                };
                match path {
                    "/auth/login" => with(&body, |login| self.login(&login)),
                    "/auth/refresh" => with(&body, |refresh| self.refresh(&refresh)),
                    _ if !named => detail(StatusCode::FORBIDDEN, "Service authentication required"),
                    _ => with(&body, |asked| self.validate(&asked)),
                }
            }
            _ => detail(StatusCode::NOT_FOUND, "Not Found"),
        }
    }

    /// Whether a service named itself, rightly.
    fn service(&self, headers: &HeaderMap) -> Result<bool, &'static str> {
        let is = |name: &str, secret: &SecretString| {
            headers.get(name).map(|value| value.as_bytes() == secret.expose_secret().as_bytes())
        };
        let id = is(SERVICE_ID, &self.accounts.service_id);
        let secret = is(SERVICE_SECRET, &self.accounts.service_secret);
        match (id, secret) {
            (None, None) => Ok(false),
            (Some(true), Some(true)) => Ok(true),
            (Some(false), _) => Err("Service ID mismatch"),
            _ => Err("Invalid service secret"),
        }
    }

    fn login(&self, login: &Login) -> Answer {
        let accounts = &self.accounts;
        let known = login.email == accounts.user.expose_secret()
            && login.password == accounts.password.expose_secret();
        if !known {
            return detail(StatusCode::UNAUTHORIZED, "Invalid email or password");
        }
        self.tokens(&login.email)
    }

    fn refresh(&self, refresh: &Refresh) -> Answer {
        match self.key().verify(&refresh.refresh_token, Use::Refresh, now()) {
            Ok(claims) => self.tokens(&claims.sub),
            Err(refusal) => detail(StatusCode::UNAUTHORIZED, &refusal.to_string()),
        }
    }

    fn validate(&self, asked: &Validate) -> Answer {
        match self.key().verify(&asked.token, Use::Access, now()) {
            Ok(claims) => {
                let body = json!({ "valid": true, "user_id": claims.sub, "exp": claims.exp });
                document(StatusCode::OK, &body)
            }
            Err(refusal) => {
                let body = json!({ "valid": false, "detail": refusal.to_string() });
                document(StatusCode::UNAUTHORIZED, &body)
            }
        }
    }

    fn key(&self) -> &Key {
        if self.switches.borrow().jwt_mismatch { &self.other_key } else { &self.key }
    }

    fn tokens(&self, user: &str) -> Answer {
        let iat = now();
        let sign = |token_type, lifetime: Duration| {
            let lifetime = i64::try_from(lifetime.as_secs().max(1)).unwrap_or(i64::MAX);
            self.key().sign(&Claims {
                iss: ISSUER.into(),
                aud: AUDIENCE.into(),
                sub: user.into(),
                token_type,
                iat,
                exp: iat.saturating_add(lifetime),
            })
        };
        let body = json!({
            "access_token": sign(Use::Access, self.lifetime),
            "refresh_token": sign(Use::Refresh, self.lifetime * REFRESH_FACTOR),
            "token_type": "Bearer",
            "expires_in": self.lifetime.as_secs(),
            "user": { "id": user, "email": user },
        });
        document(StatusCode::OK, &body)
    }
}

/// Seconds since 1970, as tokens count.
fn now() -> i64 {
    shakedown_core::clock::wall().as_second()
}

/// Reads the body; what does not fit gets FastAPI's answer.
fn with<T: DeserializeOwned>(body: &[u8], answer: impl FnOnce(T) -> Answer) -> Answer {
    match serde_json::from_slice(body) {
        Ok(asked) => answer(asked),
        Err(error) => {
            let wrong: Value = json!([{ "loc": ["body"], "msg": error.to_string() }]);
            document(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "detail": wrong }))
        }
    }
}
