//! One message, and everything the agent says about it until the answer.

use serde_json::{Value, json};
use shakedown_core::clock::{self, Instant};
use shakedown_core::{Fault, ProbeCtx, Step};
use shakedown_wire::ws::{Message, WebSocket};

use crate::section::{Events, UserPath};
use crate::user::{Stage, quoted};

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    /// `message`, `first-event`, `answer`: as far as it came.
    pub(crate) steps: Vec<Step>,
    pub(crate) transcript: Transcript,
    /// Where and why it ended before the answer.
    pub(crate) broken: Option<(Stage, Fault)>,
}

/// The kinds of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Started,
    Thinking,
    ToolExecuting,
    ToolCompleted,
    Completed,
    Answer,
}

impl Kind {
    fn of(events: &Events, said: &str) -> Option<Self> {
        let kinds = [
            (&events.started, Self::Started),
            (&events.thinking, Self::Thinking),
            (&events.tool_executing, Self::ToolExecuting),
            (&events.tool_completed, Self::ToolCompleted),
            (&events.completed, Self::Completed),
            (&events.answer, Self::Answer),
        ];
        let found = kinds.into_iter().find(|(words, _)| words.iter().any(|word| word == said));
        found.map(|(_, kind)| kind)
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Since the message was sent, in milliseconds.
    pub(crate) at_ms: f64,
    pub(crate) kind: Kind,
    agent: String,
    tool: String,
}

/// The events in the order they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Transcript {
    pub(crate) events: Vec<Event>,
}

/// What an event means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It goes on.
    Running,
    /// The agent that began it is done; the answer may still come.
    Ended,
    /// The answer has come.
    Answered,
}

impl Transcript {
    /// Takes one message of the server; `None` when it is no event of a run.
    pub(crate) fn hear(&mut self, events: &Events, at_ms: f64, said: &Value) -> Option<Progress> {
        let text = |keys: &[&str]| {
            let found = keys
                .iter()
                .find_map(|key| said[*key].as_str().or_else(|| said["payload"][*key].as_str()));
            found.unwrap_or_default().to_owned()
        };
        let kind = Kind::of(events, &text(&["type", "event"]))?;
        let agent = text(&["agent_name", "agent"]);
        let outer = self.outer().is_none_or(|outer| outer.is_empty() || outer == agent);
        self.events.push(Event { at_ms, kind, agent, tool: text(&["tool_name", "tool"]) });
        Some(match kind {
            Kind::Answer => Progress::Answered,
            Kind::Completed if outer => Progress::Ended,
            _ => Progress::Running,
        })
    }

    /// The agent that began the run.
    fn outer(&self) -> Option<&str> {
        let began = self.events.iter().find(|event| event.kind == Kind::Started);
        began.map(|event| event.agent.as_str())
    }

    fn first(&self, kind: Kind) -> Option<usize> {
        self.events.iter().position(|event| event.kind == kind)
    }

    /// What is not as it should be: the five events in order, every tool that was begun completed,
    /// the end by the agent that began.
    pub(crate) fn problems(&self) -> Vec<String> {
        const ORDER: [(Kind, &str); 5] = [
            (Kind::Started, "agent_started"),
            (Kind::Thinking, "agent_thinking"),
            (Kind::ToolExecuting, "tool_executing"),
            (Kind::ToolCompleted, "tool_completed"),
            (Kind::Completed, "agent_completed"),
        ];
        let mut problems = Vec::new();
        let missing: Vec<_> =
            ORDER.iter().filter(|(kind, _)| self.first(*kind).is_none()).collect();
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|(_, name)| *name).collect();
            problems.push(format!("these events never came: {}", names.join(", ")));
        }
        let came: Vec<_> =
            ORDER.iter().filter_map(|(kind, name)| Some((self.first(*kind)?, *name))).collect();
        for pair in came.windows(2) {
            if let [(first, before), (second, after)] = pair
                && first > second
            {
                problems.push(format!("the first {after} came before the first {before}"));
            }
        }
        let count = |kind| self.events.iter().filter(|event| event.kind == kind).count();
        let (begun, done) = (count(Kind::ToolExecuting), count(Kind::ToolCompleted));
        if begun > 0 && done > 0 && begun != done {
            problems.push(format!("{begun} tools were begun, {done} completed"));
        }
        let mut open: Vec<&str> = Vec::new();
        for event in &self.events {
            match event.kind {
                Kind::ToolExecuting => open.push(&event.tool),
                Kind::ToolCompleted => match open.iter().position(|tool| *tool == event.tool) {
                    Some(index) => drop(open.remove(index)),
                    None => problems.push(format!(
                        "the tool `{}` completed and had not been begun",
                        quoted(&event.tool)
                    )),
                },
                _ => {}
            }
        }
        problems
    }
}

/// Sends the message and listens until the answer.
pub(crate) async fn talk(
    ctx: &ProbeCtx,
    path: &UserPath,
    socket: &mut WebSocket,
    thread: &str,
) -> Talk {
    let mut talk = Talk { steps: Vec::new(), transcript: Transcript::default(), broken: None };
    let message = json!({ "type": path.message_type, "text": path.message, "thread_id": thread });
    let (at, since) = (clock::wall(), clock::now());
    let sent = socket.send_text(&message.to_string()).await;
    talk.steps.push(Step::ended("message", at, since, sent.as_ref().err().cloned()));
    if let Err(fault) = sent {
        talk.broken = Some((Stage::Message, fault));
        return talk;
    }
    let at = clock::wall();
    let heard = listen(ctx, path, socket, &mut talk.transcript, since).await;
    if let Some(first) = talk.transcript.events.first() {
        let mut step = Step::ended("first-event", at, since, None);
        step.elapsed_ms = first.at_ms;
        talk.steps.push(step);
    }
    let rung = if talk.transcript.events.is_empty() { "first-event" } else { "answer" };
    let mut step = Step::ended(rung, at, since, heard.as_ref().err().cloned());
    step.detail = Some(format!("{} events", talk.transcript.events.len()));
    talk.steps.push(step);
    talk.broken = heard.err().map(|fault| (Stage::Answer, fault));
    talk
}

async fn listen(
    ctx: &ProbeCtx,
    path: &UserPath,
    socket: &mut WebSocket,
    transcript: &mut Transcript,
    since: Instant,
) -> Result<(), Fault> {
    let answer = path.answer_limit.get();
    let mut ended: Option<Instant> = None;
    loop {
        let (from, limit) = match ended {
            Some(ended) => (ended, path.after_run_limit.get()),
            None if transcript.events.is_empty() => {
                (since, path.first_event_limit.get().min(answer))
            }
            None => (since, answer),
        };
        let left = (from + limit).saturating_duration_since(clock::now());
        let message = match socket.next_message(left).await {
            Ok(Message::Text(text)) => text,
            Ok(Message::Binary(_)) => continue,
            // A run that ended has answered, if nothing more comes, with its last event.
            Err(Fault::Timeout { .. }) if ended.is_some() => return Ok(()),
            Err(Fault::Timeout { .. }) => {
                return Err(Fault::Timeout { limit: shakedown_core::Span(limit) });
            }
            Err(fault) => return Err(fault),
        };
        let at_ms = clock::millis(since.elapsed());
        let said: Value = serde_json::from_str(&message).unwrap_or_default();
        match transcript.hear(&path.events, at_ms, &said) {
            Some(Progress::Answered) => return Ok(()),
            Some(Progress::Ended) => ended = Some(clock::now()),
            Some(Progress::Running) => ctx.progress(format!("{} events", transcript.events.len())),
            None if said["type"] == "error" => {
                let message = format!("the server says: {}", quoted(&message));
                return Err(Fault::Protocol { message });
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(said: &[(&str, &str, &str)]) -> (Transcript, Vec<Progress>) {
        let mut transcript = Transcript::default();
        let progress = said.iter().filter_map(|(kind, agent, tool)| {
            let said = json!({ "type": kind, "agent_name": agent, "tool_name": tool });
            transcript.hear(&Events::default(), 1.0, &said)
        });
        let progress = progress.collect();
        (transcript, progress)
    }

    const WHOLE: [(&str, &str, &str); 7] = [
        ("agent_started", "outer", ""),
        ("agent_thinking", "data", ""),
        ("tool_executing", "data", "query"),
        ("tool_completed", "data", "query"),
        ("agent_completed", "data", ""),
        ("agent_completed", "outer", ""),
        ("agent_response", "outer", ""),
    ];

    #[test]
    fn a_run_ends_with_the_agent_that_began_it() {
        let (transcript, progress) = transcript(&WHOLE);
        assert_eq!(transcript.problems(), Vec::<String>::new());
        assert_eq!(progress[4..], [Progress::Running, Progress::Ended, Progress::Answered]);
    }

    #[test]
    fn aliases_and_other_shapes_are_understood_and_other_messages_left_alone() {
        let mut transcript = Transcript::default();
        let events = Events::default();
        let said = json!({ "event": "agent_start", "payload": { "agent": "a" } });
        assert_eq!(transcript.hear(&events, 1.0, &said), Some(Progress::Running));
        assert_eq!(transcript.hear(&events, 1.0, &json!({ "type": "pong" })), None);
        let said = json!({ "type": "agent_complete", "payload": { "agent": "a" } });
        assert_eq!(transcript.hear(&events, 1.0, &said), Some(Progress::Ended));
    }

    #[test]
    fn what_is_missing_swapped_or_left_open_is_told() {
        let problems = |said: &[(&str, &str, &str)]| transcript(said).0.problems().join("; ");
        let without: Vec<_> = WHOLE.into_iter().filter(|e| e.0 != "agent_thinking").collect();
        assert_eq!(problems(&without), "these events never came: agent_thinking");
        let mut swapped = WHOLE;
        swapped.swap(0, 1);
        assert!(
            problems(&swapped).contains("first agent_thinking came before the first agent_started")
        );
        let mut open = WHOLE.to_vec();
        open.insert(4, ("tool_executing", "data", "other"));
        assert_eq!(problems(&open), "2 tools were begun, 1 completed");
        let mut stray = WHOLE;
        stray[3].2 = "other";
        assert!(problems(&stray).contains("the tool `other` completed and had not been begun"));
    }
}
