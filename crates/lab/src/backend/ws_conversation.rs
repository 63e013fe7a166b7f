//! What is said over `/ws`: a greeting, pings, and for each message the five events and the answer.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use shakedown_core::clock::{self, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::ws::WebSockets;
use crate::services::jwt::Claims;

/// The observed application's own limit.
const MAX_MESSAGE_BYTES: usize = 8192;

/// The five events of a run, in order.
const EVENTS: [&str; 5] =
    ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"];

/// The agents below the outer one; each thinks, uses its tool and completes.
const SUB_AGENTS: [(&str, &str); 3] =
    [("data", "query_usage"), ("optimization", "rank_savings"), ("report", "write_report")];

/// The outer agent.
const SUPERVISOR: &str = "supervisor";

/// Types a user's message may have.
const USER_MESSAGES: [&str; 4] = ["user_message", "chat", "agent_request", "start_agent"];

/// How long the other end may take to close its own.
const FAREWELL: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Talks until either end closes.
pub(super) async fn converse(stream: TokioIo<Upgraded>, sockets: &WebSockets, claims: &Claims) {
    let config = WebSocketConfig::default()
        .read_buffer_size(MAX_MESSAGE_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    (sockets.log)("INFO", "WebSocket connection established");
    let goodbye = talk(&mut socket, sockets, claims).await;
    part(socket, goodbye).await;
}

/// Closes with 1011 before a word is said.
pub(super) async fn turn_away(
    stream: TokioIo<Upgraded>,
    sockets: &WebSockets,
    reason: &'static str,
) {
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    (sockets.log)("ERROR", &format!("WebSocket closed with 1011: {reason}"));
    part(socket, Some((CloseCode::Error, reason))).await;
}

/// The close frame to send; `None` when the other end closed or is gone.
async fn talk(
    socket: &mut Socket,
    sockets: &WebSockets,
    claims: &Claims,
) -> Option<(CloseCode, &'static str)> {
    let greeting = json!({
        "type": "connection_established",
        "user_id": claims.sub,
        "golden_path_events": EVENTS,
        "heartbeat_interval_ms": sockets.heartbeat.as_millis(),
        "timestamp": clock::wall().to_string(),
    });
    say(socket, &greeting).await.ok()?;
    let left = claims.exp.saturating_sub(clock::wall().as_second());
    let expires = clock::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0));
    let mut beat = tokio::time::interval_at(clock::now() + sockets.heartbeat, sockets.heartbeat);
    let mut due: VecDeque<(Instant, Value)> = VecDeque::new();
    loop {
        let next = due.front().map(|(at, _)| *at);
        tokio::select! {
            message = socket.next() => match message? {
                Ok(Message::Text(text)) => {
                    let (answer, events) = heard(&text, sockets.thinking, claims);
                    if let Some(answer) = answer {
                        say(socket, &answer).await.ok()?;
                    }
                    due.extend(events);
                }
                Ok(Message::Binary(_)) => {
                    return Some((CloseCode::Unsupported, "text expected"));
                }
                // Pings are answered by the library, pongs need no answer, a close is answered.
                Ok(_) => {}
                Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                    return Some((CloseCode::Size, "message too big"));
                }
                Err(_) => return None,
            },
            () = tokio::time::sleep_until(next.unwrap_or(expires)), if next.is_some() => {
                if let Some((_, event)) = due.pop_front() {
                    say(socket, &event).await.ok()?;
                }
            }
            _ = beat.tick() => socket.send(Message::Ping(Vec::new().into())).await.ok()?,
            () = tokio::time::sleep_until(expires) => {
                return Some((CloseCode::Policy, "token expired"));
            }
            () = sockets.shutdown.cancelled() => {
                return Some((CloseCode::Away, "service restart"));
            }
        }
    }
}

async fn say(socket: &mut Socket, what: &Value) -> Result<(), Error> {
    socket.send(Message::text(what.to_string())).await
}

type Events = Vec<(Instant, Value)>;

/// What is answered at once, and what is sent when.
fn heard(text: &str, thinking: Duration, claims: &Claims) -> (Option<Value>, Events) {
    let error = |code: &str| (Some(json!({ "type": "error", "code": code })), Vec::new());
    let Ok(message) = serde_json::from_str::<Value>(text) else { return error("INVALID_JSON") };
    match message["type"].as_str() {
        Some("ping") => (Some(json!({ "type": "pong" })), Vec::new()),
        Some("pong" | "heartbeat") => (None, Vec::new()),
        Some(kind) if USER_MESSAGES.contains(&kind) => {
            let asked = message["text"].as_str().or(message["content"].as_str());
            let Some(asked) = asked.filter(|asked| !asked.trim().is_empty()) else {
                return error("EMPTY_MESSAGE");
            };
            let run = run(asked, &message["thread_id"], claims);
            let count = u32::try_from(run.len()).unwrap_or(u32::MAX);
            let now = clock::now();
            let at = |index: u32| now + thinking * index / count;
            (None, (1..=count).map(at).zip(run).collect())
        }
        _ => error("UNKNOWN_TYPE"),
    }
}

/// Everything an agent run says, in order.
fn run(asked: &str, thread: &Value, claims: &Claims) -> Vec<Value> {
    let id = format!("run-{}", clock::wall().as_microsecond());
    let event = |kind: &str, agent: &str| json!({ "type": kind, "agent_name": agent, "run_id": id, "thread_id": thread });
    let mut said = vec![event(EVENTS[0], SUPERVISOR)];
    for (agent, tool) in SUB_AGENTS {
        said.push(event(EVENTS[1], agent));
        for kind in &EVENTS[2..4] {
            let mut event = event(kind, agent);
            event["tool_name"] = tool.into();
            said.push(event);
        }
        said.push(event(EVENTS[4], agent));
    }
    said.push(event(EVENTS[4], SUPERVISOR));
    let words = asked.split_whitespace().count();
    let mut answer = event("agent_response", SUPERVISOR);
    answer["text"] = format!("You, {}, said {words} words.", claims.sub).into();
    said.push(answer);
    said
}

/// Says goodbye, and reads what the other end still has to say, so that its system does not answer
/// with a reset that overtakes the close frame.
async fn part(mut socket: Socket, goodbye: Option<(CloseCode, &'static str)>) {
    let farewell = async {
        if let Some((code, reason)) = goodbye {
            let frame = CloseFrame { code, reason: reason.into() };
            let _ = socket.close(Some(frame)).await;
            let _ = socket.flush().await;
        }
        let mut stream = socket.into_inner();
        // TLS wants to be told, too; a client that is gone already does not care.
        let _ = stream.shutdown().await;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::jwt::Use;

    fn claims() -> Claims {
        Claims {
            iss: String::new(),
            aud: String::new(),
            sub: "u".into(),
            token_type: Use::Access,
            iat: 0,
            exp: 0,
        }
    }

    #[test]
    fn a_run_begins_and_ends_with_the_outer_agent_and_then_answers() {
        let said = run("two words", &json!("t"), &claims());
        let kinds: Vec<_> = said.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds[..5], EVENTS);
        assert_eq!(kinds[kinds.len() - 2..], ["agent_completed", "agent_response"]);
        for outer in [0, said.len() - 2] {
            assert_eq!(said[outer]["agent_name"], SUPERVISOR);
        }
        let starts = kinds.iter().filter(|kind| **kind == "agent_started").count();
        assert_eq!((starts, kinds.len()), (1, 1 + 3 * 4 + 2));
        assert!(said.iter().all(|event| event["thread_id"] == "t"));
    }

    #[tokio::test(start_paused = true)]
    async fn events_come_one_after_the_other_and_end_with_the_thinking() {
        let thinking = Duration::from_secs(2);
        let start = clock::now();
        let text = json!({ "type": "chat", "text": "hi", "thread_id": "t" }).to_string();
        let (answer, events) = heard(&text, thinking, &claims());
        assert_eq!(answer, None);
        assert!(events.is_sorted_by_key(|(at, _)| *at));
        assert_eq!(events.last().map(|(at, _)| *at), Some(start + thinking));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_message_gets_an_error() {
        for (text, code) in [
            ("{", "INVALID_JSON"),
            (r#"{"type":"dance"}"#, "UNKNOWN_TYPE"),
            (r#"{"type":"chat","text":" "}"#, "EMPTY_MESSAGE"),
        ] {
            let (answer, events) = heard(text, Duration::ZERO, &claims());
            assert_eq!(answer.unwrap()["code"], code, "{text}");
            assert!(events.is_empty());
        }
    }
}
