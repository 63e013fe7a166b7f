//! The tables `[goldenpath]` and `[business]`.

use serde::{Deserialize, Serialize};
use shakedown_core::{SectionSpec, Span};

/// `[goldenpath]`: how a user gets from login to answer.
///
/// Defaults are the observed application's. Secrets are never here: they are `[credentials.<name>]`,
/// and the keys below say which. A user is known by the first of these that is there: `user` and
/// `password` (they log in), `access_token` (renewed with `refresh_token` when it has expired),
/// `refresh_token`, or nothing but `headers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UserPath {
    /// Which of `[services]` users log in at. Default `auth`.
    pub auth_service: String,
    /// Which of `[services]` answers; it has the WebSocket. Default `backend`.
    pub backend_service: String,
    /// Where users log in. Default `/auth/login`.
    pub login_path: String,
    /// Where a refresh token is exchanged. Default `/auth/refresh`.
    pub refresh_path: String,
    /// The login's field for the user's name. Default `email`.
    pub user_field: String,
    /// The login's field for the password. Default `password`.
    pub password_field: String,
    /// Which of `[credentials]` is the user's name. Default `user`.
    pub user: String,
    /// Which of `[credentials]` is the password. Default `password`.
    pub password: String,
    /// Which of `[credentials]` is an access token. Default `access_token`.
    pub access_token: String,
    /// Which of `[credentials]` is a refresh token. Default `refresh_token`.
    pub refresh_token: String,
    /// Which of `[credentials]` go along with every request here, each in its own `header`. Those
    /// that are not there, or name no header, are left out.
    pub headers: Vec<String>,
    /// Where the WebSocket's token stands. Default `authorization`.
    pub token_in: TokenPlace,
    /// Further subprotocols the WebSocket asks for. Default none.
    pub subprotocols: Vec<String>,
    /// What the server may say first. Default `connection_established`, `connection_ready`.
    pub greetings: Vec<String>,
    /// Whether a message is sent at all; `--no-real-llm` says no. Default yes.
    pub send_message: bool,
    /// The type of the message. Default `user_message`.
    pub message_type: String,
    /// Its text: harmless, short, and recognisable as ours.
    pub message: String,
    /// From the message to the first event, at most. Default 10 s: our choice; a run begins before a
    /// model is asked.
    pub first_event_limit: Span,
    /// From the message to the answer, at most. Default 60 s, the observed application's own test
    /// budget.
    pub answer_limit: Span,
    /// How long to wait for an answer of its own once the run has ended; without one the run's last
    /// event is the answer. Default 5 s: our choice.
    pub after_run_limit: Span,
    /// What the server says about an agent's run.
    pub events: Events,
}

impl Default for UserPath {
    fn default() -> Self {
        Self {
            auth_service: "auth".into(),
            backend_service: "backend".into(),
            login_path: "/auth/login".into(),
            refresh_path: "/auth/refresh".into(),
            user_field: "email".into(),
            password_field: "password".into(),
            user: "user".into(),
            password: "password".into(),
            access_token: "access_token".into(),
            refresh_token: "refresh_token".into(),
            headers: words(&["api_key", "service_id", "service_secret"]),
            token_in: TokenPlace::default(),
            subprotocols: Vec::new(),
            greetings: words(&["connection_established", "connection_ready"]),
            send_message: true,
            message_type: "user_message".into(),
            message:
                "This is an automated test by shakedown. Please answer with one short sentence."
                    .into(),
            first_event_limit: Span::secs(10),
            answer_limit: Span::secs(60),
            after_run_limit: Span::secs(5),
            events: Events::default(),
        }
    }
}

impl SectionSpec for UserPath {
    const NAME: &'static str = "goldenpath";
    const SUMMARY: &'static str = "How a user gets from login to answer.";
}

#[cfg(feature = "register")]
shakedown_core::register_section!(UserPath);

/// Where a WebSocket's token stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TokenPlace {
    /// `Authorization: Bearer T`.
    #[default]
    Authorization,
    /// The subprotocol `jwt.T`, as browsers must.
    Subprotocol,
}

/// `[goldenpath.events]`: the five events of an agent's run and the answer, each by the types it may
/// have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// The run begins.
    pub started: Vec<String>,
    /// An agent thinks.
    pub thinking: Vec<String>,
    /// A tool is used.
    pub tool_executing: Vec<String>,
    /// A tool is done.
    pub tool_completed: Vec<String>,
    /// An agent is done; the run, when it is the agent that began it.
    pub completed: Vec<String>,
    /// The answer, when it comes as a message of its own.
    pub answer: Vec<String>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            started: words(&["agent_started", "agent_start"]),
            thinking: words(&["agent_thinking", "agent_progress"]),
            tool_executing: words(&["tool_executing", "tool_execute"]),
            tool_completed: words(&["tool_completed", "tool_complete"]),
            completed: words(&["agent_completed", "agent_complete"]),
            answer: words(&["agent_response", "final_answer", "assistant_message"]),
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `[business]`: what an outage costs. Without `arr_usd` no amount is ever printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Business {
    /// Annual recurring revenue that the golden path earns, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arr_usd: Option<f64>,
    /// The share of it (0 to 1) that is at risk while nobody gets an answer. Default 1, assumed: all.
    pub share_at_risk: f64,
    /// The hours of a year it is earned in. Default 8,760, assumed: all of them, evenly.
    pub hours_per_year: f64,
}

impl Default for Business {
    fn default() -> Self {
        Self { arr_usd: None, share_at_risk: 1.0, hours_per_year: 8760.0 }
    }
}

impl SectionSpec for Business {
    const NAME: &'static str = "business";
    const SUMMARY: &'static str = "What an outage of the golden path costs.";
}

#[cfg(feature = "register")]
shakedown_core::register_section!(Business);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_read_what_they_write_and_refuse_unknown_keys() {
        let text = toml::to_string(&UserPath::default()).expect("serialises");
        assert_eq!(toml::from_str::<UserPath>(&text).expect("reads"), UserPath::default());
        let business: Business = toml::from_str("arr_usd = 500000").expect("reads");
        assert_eq!(business.arr_usd, Some(500_000.0));
        assert!(toml::from_str::<UserPath>("user_password = \"x\"").is_err());
        assert!(toml::from_str::<Business>("arr = 1").is_err());
    }
}
