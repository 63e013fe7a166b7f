//! `/ws`: who is let in.
//!
//! The token is looked for in `Authorization: Bearer T`, then in the subprotocols `jwt.T`,
//! `jwt-auth.T` and `bearer.T` (T as it is or in base64url). As the observed application on staging,
//! it refuses before it accepts: whatever the close code in its log, the client sees HTTP 403.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use super::ws_conversation::{converse, turn_away};
use crate::services::jwt::{Claims, Key, Use};
use crate::services::pages::{Answer, detail, empty};
use crate::services::upstream::{says, wants_upgrade};

/// Subprotocols without a token in them that are agreed to.
const PLAIN: [&str; 6] = ["jwt-auth", "jwt", "bearer", "e2e-testing", "staging-auth", "agent_chat"];
/// Subprotocols with a token in them, in the order in which they are looked at.
const WITH_TOKEN: [&str; 3] = ["jwt.", "jwt-auth.", "bearer."];

/// Who hears the application's log lines: severity and message.
pub(crate) type Log = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// How the WebSockets behave.
pub(crate) struct WebSockets {
    key: Key,
    /// Time between two pings.
    pub(super) heartbeat: Duration,
    /// How long an agent takes from the message to the answer.
    pub(super) thinking: Duration,
    /// When cancelled, everyone is told 1001.
    pub(super) shutdown: CancellationToken,
    pub(super) log: Log,
}

impl fmt::Debug for WebSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSockets")
            .field("heartbeat", &self.heartbeat)
            .field("thinking", &self.thinking)
            .finish_non_exhaustive()
    }
}

/// Why whoever asks is let in and closed with 1011 at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The start-up is not complete: nobody's token is looked at.
    NotReady,
    /// The manager of a WebSocket cannot be made.
    Manager,
}

impl Trouble {
    fn reason(self) -> &'static str {
        match self {
            Self::NotReady => "Service not ready",
            Self::Manager => "WebSocket manager creation failed",
        }
    }
}

/// How a request is answered.
struct Admitted {
    claims: Claims,
    subprotocol: Option<String>,
}

impl WebSockets {
    /// Lets in whoever has a token signed with `secret`.
    pub(crate) fn new(
        secret: &SecretString,
        heartbeat: Duration,
        thinking: Duration,
        shutdown: CancellationToken,
        log: Log,
    ) -> Self {
        Self { key: Key::new(secret), heartbeat, thinking, shutdown, log }
    }

    /// Answers a request for `/ws` of an application in `trouble`, if any. Where it is let in, the future is the conversation: run it once
    /// the answer is on its way.
    pub(crate) fn answer(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        trouble: Option<Trouble>,
    ) -> (Answer, Option<impl Future<Output = ()> + Send + 'static>) {
        let headers = request.headers();
        let asked = wants_upgrade(headers) && says(headers, &SEC_WEBSOCKET_VERSION, "13");
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|_| asked) else {
            // A WebSocket route is none for a plain request.
            return (detail(StatusCode::NOT_FOUND, "Not Found"), None);
        };
        let accept = derive_accept_key(key.as_bytes());
        let admitted = match trouble {
            Some(Trouble::NotReady) => Ok((agreed(&offered(headers)).unwrap_or_default(), None)),
            _ => self.admit(headers).map(|admitted| (admitted.subprotocol, Some(admitted.claims))),
        };
        let (subprotocol, claims) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => {
                (self.log)("ERROR", &why);
                return (empty(StatusCode::FORBIDDEN), None);
            }
        };
        let upgraded = hyper::upgrade::on(&mut request);
        let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&accept).expect("base64 is a header value");
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(subprotocol) = &subprotocol
            && let Ok(subprotocol) = HeaderValue::from_str(subprotocol)
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        let sockets = Arc::clone(self);
        let conversation = async move {
            let Ok(stream) = upgraded.await else { return };
            let stream = TokioIo::new(stream);
            match (trouble, claims) {
                (None, Some(claims)) => converse(stream, &sockets, &claims).await,
                (trouble, _) => {
                    let reason = trouble.unwrap_or(Trouble::NotReady).reason();
                    turn_away(stream, &sockets, reason).await;
                }
            }
        };
        (answer, Some(conversation))
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Admitted, String> {
        let offered = offered(headers);
        let subprotocol = agreed(&offered)?;
        let Some(token) = token(headers, &offered) else {
            return Err("WebSocket connection rejected in staging: No JWT token".into());
        };
        let now = shakedown_core::clock::wall().as_second();
        match self.key.verify(&token, Use::Access, now) {
            Ok(claims) => Ok(Admitted { claims, subprotocol }),
            Err(refusal @ crate::services::jwt::Refusal::Signature) => Err(format!(
                "JWT token verification failed - likely JWT secret mismatch between services: \
                 {refusal}"
            )),
            Err(refusal) => {
                Err(format!("WebSocket connection rejected in staging: Invalid JWT: {refusal}"))
            }
        }
    }
}

fn offered(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The subprotocol to use: the first plain one, else the one that holds the token.
fn agreed(offered: &[String]) -> Result<Option<String>, String> {
    let plain = offered.iter().find(|name| PLAIN.contains(&name.as_str()));
    let holds = |name: &&String| WITH_TOKEN.iter().any(|prefix| name.starts_with(prefix));
    match plain.or_else(|| offered.iter().find(holds)) {
        Some(agreed) => Ok(Some(agreed.clone())),
        None if offered.is_empty() => Ok(None),
        None => Err("WebSocket closed with 1003: No supported subprotocols".into()),
    }
}

fn token(headers: &HeaderMap, offered: &[String]) -> Option<String> {
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) {
        return Some(token.trim().to_owned());
    }
    let inside = WITH_TOKEN.iter().find_map(|prefix| {
        offered.iter().find_map(|name| name.strip_prefix(prefix).map(str::to_owned))
    })?;
    // A token has two dots, its base64url none.
    if inside.contains('.') {
        return Some(inside);
    }
    let decoded = BASE64.decode(inside.trim_end_matches('=')).ok()?;
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::jwt::{AUDIENCE, ISSUER};

    fn sockets() -> WebSockets {
        let secret = SecretString::from("s".to_owned());
        let hour = Duration::from_secs(3600);
        WebSockets::new(&secret, hour, hour, CancellationToken::new(), Arc::new(|_, _| {}))
    }

    fn signed(secret: &str) -> String {
        let now = shakedown_core::clock::wall().as_second();
        Key::new(&SecretString::from(secret.to_owned())).sign(&Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: "u".into(),
            token_type: Use::Access,
            iat: now,
            exp: now + 3600,
        })
    }

    fn headers(authorization: Option<&str>, protocols: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        if let Some(value) = protocols {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value.parse().unwrap());
        }
        headers
    }

    fn admitted(authorization: Option<&str>, protocols: Option<&str>) -> Result<String, String> {
        let admitted = sockets().admit(&headers(authorization, protocols));
        admitted.map(|admitted| admitted.subprotocol.unwrap_or_default())
    }

    #[test]
    fn a_token_is_found_in_every_place_it_may_stand() {
        let token = signed("s");
        let bearer = format!("Bearer {token}");
        let encoded = BASE64.encode(&token);
        assert_eq!(admitted(Some(&bearer), None), Ok(String::new()));
        for prefix in WITH_TOKEN {
            for inside in [&token, &encoded] {
                let alone = format!("{prefix}{inside}");
                assert_eq!(admitted(None, Some(&alone)), Ok(alone.clone()));
                let beside = format!("agent_chat, {alone}");
                assert_eq!(admitted(None, Some(&beside)), Ok("agent_chat".to_owned()));
            }
        }
    }

    #[test]
    fn the_header_comes_before_the_subprotocols() {
        let (good, bad) = (signed("s"), signed("other"));
        let in_protocol = format!("jwt.{good}");
        assert!(admitted(Some(&format!("Bearer {bad}")), Some(&in_protocol)).is_err());
        let in_protocol = format!("jwt.{bad}");
        assert!(admitted(Some(&format!("Bearer {good}")), Some(&in_protocol)).is_ok());
    }

    #[test]
    fn refusals_are_logged_in_the_applications_words() {
        let cases = [
            (None, None, "No JWT token"),
            (Some(format!("Bearer {}", signed("other"))), None, "likely JWT secret mismatch"),
            (Some("Bearer nonsense".to_owned()), None, "Invalid JWT: Not enough segments"),
            (Some(format!("Bearer {}", signed("s"))), Some("soap"), "No supported subprotocols"),
        ];
        for (authorization, protocols, words) in cases {
            let refused = admitted(authorization.as_deref(), protocols).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
