//! Asks whether a user gets from login to an answer. Good: login, WebSocket, greeting, one message,
//! the five events in order, and the answer.
//!
//! **How.** Logs in as the test user (or takes its token), opens the backend's WebSocket with the
//! token, waits for the greeting, sends one message and listens until the answer. Each step is timed
//! and its failure typed.
//!
//! **What it leaves on the target**: that one message, in a thread named `shakedown-` and the session
//! id. Use a dedicated user. One message per run, however often the probe is repeated. With
//! `--no-real-llm` (`goldenpath.send_message = false`) it stops once the session stands and leaves
//! nothing.
//!
//! **Measures** `login`, `upgrade`, `greeting`, `first_event` and `answer` (both from the message on),
//! and the number of `events`.
//!
//! **Verdicts.** *Fail*: a step failed, or an event of the five never came. *Degraded*: the events came
//! in another order, a tool was left open, or the answer took longer than `slow`. *Pass*: all came.
//! *Skip (no credentials)*: names the keys to set.
//!
//! **Draws** one HTTP connection and one WebSocket. **Provides** `user-session`.
//!
//! **Configuration**: see [`LoginToResponseConfig`] and the table `[goldenpath]`.
//!
//! **Cannot tell** whether the answer is a good one.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::id::{Capability, resource};
use shakedown_core::{
    Category, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Span,
    Step, Subject, async_trait, clock,
};

use crate::causes::GOLDEN_PATH_OFFLINE;
use crate::section::UserPath;
use crate::talk::{self, Talk};
use crate::user::{self, Broken, Session, uninterrupted};
use crate::window::Window;

/// A user was let in: logged in, connected, greeted.
pub const USER_SESSION: Capability = Capability::new("user-session");

/// See the module.
#[derive(Debug)]
pub struct LoginToResponse(LoginToResponseConfig);

/// `[probes."goldenpath.login-to-response"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LoginToResponseConfig {
    /// An answer that took longer is worth a look. Default 16 s, the observed application's limit
    /// for an agent on staging.
    pub slow: Span,
}

impl Default for LoginToResponseConfig {
    fn default() -> Self {
        Self { slow: Span::secs(16) }
    }
}

impl ProbeSpec for LoginToResponse {
    type Config = LoginToResponseConfig;

    const META: ProbeMeta = ProbeMeta {
        category: Category::E2e,
        markers: &["staging", "issue_1278"],
        provides: &[USER_SESSION],
        draws: &[Draw::new(resource::HTTP_CONNECTION, 1), Draw::new(resource::WEBSOCKET, 1)],
        expected: Duration::from_secs(20),
        timeout: Duration::from_secs(240),
        aliases: &[
            "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_user_login_to_ai_response_flow_under_pressure",
        ],
        leaves: Some(
            "one message of the test user, in a thread named `shakedown-` and the session id; none \
             with --no-real-llm",
        ),
        ..ProbeMeta::new(
            "goldenpath.login-to-response",
            RunPhase::Impact,
            "a user logs in, is greeted, sees the five events in order and gets an answer",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(LoginToResponse);

#[async_trait]
impl Probe for LoginToResponse {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let path: UserPath = ctx.section()?;
        let ready =
            user::places(ctx, &path).and_then(|places| Ok((places, user::identity(ctx, &path)?)));
        let (places, identity) = match ready {
            Ok(ready) => ready,
            Err(reason) => return Ok(Outcome::skip(reason)),
        };
        ctx.progress("login and WebSocket");
        let opened = user::open(ctx, &path, &places, &identity).await?;
        let window = Window::of(ctx);
        window.change(|seen| seen.sessions.add(opened.is_ok()));
        let mut session = match opened {
            Ok(session) => session,
            Err(broken) => return Ok(failed(&broken)),
        };
        let talk = match ask(ctx, &path, &mut session).await {
            Ok(talk) => talk,
            Err(why) => {
                session.socket.close().await;
                let outcome = timed(Outcome::pass(), &session.steps).find(Finding::new(why));
                return Ok(outcome.steps(session.steps));
            }
        };
        session.socket.close().await;
        uninterrupted(ctx)?;
        Ok(judge(&self.0, &session.steps, talk))
    }
}

fn failed(broken: &Broken) -> Outcome {
    let outcome = Outcome::fail(broken.finding());
    timed(outcome, &broken.steps).steps(broken.steps.clone())
}

/// Sends the run's one message and listens, or says why none is sent.
pub(super) async fn ask(
    ctx: &ProbeCtx,
    path: &UserPath,
    session: &mut Session,
) -> Result<Talk, String> {
    if !path.send_message {
        return Err(
            "the session stands; no message was sent: goldenpath.send_message is false".into()
        );
    }
    let window = Window::of(ctx);
    if window.change(|seen| std::mem::replace(&mut seen.message_sent, true)) {
        return Err("the session stands; this run's one message has been sent already".into());
    }
    let run = ctx.session().map_or_else(|| clock::wall().as_second().to_string(), str::to_owned);
    let thread = format!("shakedown-{run}");
    // Nothing undoes a message. It stands in the ledger all the same: this is where one looks for
    // what a run has left.
    ctx.cleanup().register(
        format!("one message of the test user, left on purpose in the thread {thread}"),
        || async { Ok(()) },
    );
    ctx.progress(format!("one message, in the thread {thread}"));
    let talk = talk::talk(ctx, path, &mut session.socket, &thread).await;
    let subject = Subject::service(path.backend_service.as_str());
    user::observe(ctx, &subject, &talk.steps);
    let answered = talk.broken.is_none();
    window.change(|seen| seen.agents.add(answered));
    Ok(talk)
}

/// The steps' durations under names of their own.
fn timed(outcome: Outcome, steps: &[Step]) -> Outcome {
    const NAMES: [(&str, &str); 6] = [
        ("login", "login"),
        ("refresh", "refresh"),
        ("upgrade", "upgrade"),
        ("greeting", "greeting"),
        ("first-event", "first_event"),
        ("answer", "answer"),
    ];
    NAMES.iter().fold(outcome, |outcome, (rung, name)| {
        match steps.iter().find(|step| step.rung == *rung && step.is_ok()) {
            Some(step) => outcome.measure(name, step.elapsed_ms, "ms"),
            None => outcome,
        }
    })
}

fn judge(config: &LoginToResponseConfig, before: &[Step], talk: Talk) -> Outcome {
    let Talk { steps, transcript, broken } = talk;
    let mut all = before.to_vec();
    all.extend(steps);
    let events = transcript.events.len();
    let mut outcome = Outcome::pass();
    if let Some((stage, fault)) = broken {
        let words = match events {
            0 => "no event came: the agent or its event bridge does not run".to_owned(),
            count => format!("after {count} events"),
        };
        let broken = Broken { stage, steps: all.clone(), fault, words };
        outcome = outcome.failing(broken.finding());
    } else {
        for problem in transcript.problems() {
            let mut finding = Finding::new(problem);
            finding.rung = Some("answer".into());
            if finding.summary.contains("never came") {
                finding.symptom = Some(GOLDEN_PATH_OFFLINE);
                let next =
                    "the agent ran and its events did not get through: look at the event bridge";
                outcome = outcome.failing(finding.next(next));
            } else {
                outcome = outcome.but(finding);
            }
        }
        let answer = all.iter().find(|step| step.rung == "answer");
        let took_ms = answer.map_or(0.0, |step| step.elapsed_ms);
        if took_ms > clock::millis(config.slow.get()) {
            let slow = format!("the answer took {took_ms:.0} ms, longer than {}", config.slow);
            let next =
                "see between which events the time went: thinking is the model's, tools are ours";
            outcome = outcome.but(Finding::new(slow).next(next));
        } else if outcome.findings.is_empty() {
            let good = format!("{events} events in order, the answer after {took_ms:.0} ms");
            outcome = outcome.find(Finding::new(good));
        }
    }
    outcome = timed(outcome, &all);
    outcome.measure("events", events as f64, "1").steps(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shakedown_core::{Fault, Verdict};

    use super::*;
    use crate::section::Events;
    use crate::talk::Transcript;
    use crate::user::Stage;

    fn step(rung: &str, elapsed_ms: f64) -> Step {
        Step { elapsed_ms, ..Step::ended(rung, clock::wall(), clock::now(), None) }
    }

    fn talk(kinds: &[&str], answer_ms: f64, broken: Option<(Stage, Fault)>) -> Talk {
        let mut transcript = Transcript::default();
        for kind in kinds {
            transcript.hear(&Events::default(), 1.0, &json!({ "type": kind }));
        }
        Talk {
            steps: vec![step("first-event", 1.0), step("answer", answer_ms)],
            transcript,
            broken,
        }
    }

    const FIVE: [&str; 5] =
        ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"];

    #[test]
    fn events_and_answer_decide() {
        let config = LoginToResponseConfig::default();
        let verdict = |talk| judge(&config, &[step("login", 3.0)], talk).verdict;
        assert_eq!(verdict(talk(&FIVE, 900.0, None)), Verdict::Pass);
        assert_eq!(verdict(talk(&FIVE, 17_000.0, None)), Verdict::Degraded);
        let swapped = [
            "agent_thinking",
            "agent_started",
            "tool_executing",
            "tool_completed",
            "agent_completed",
        ];
        assert_eq!(verdict(talk(&swapped, 900.0, None)), Verdict::Degraded);
        assert_eq!(verdict(talk(&FIVE[..4], 900.0, None)), Verdict::Fail);
        let cut = Some((Stage::Answer, Fault::Closed));
        assert_eq!(verdict(talk(&FIVE[..2], 900.0, cut)), Verdict::Fail);
    }

    #[test]
    fn silence_after_the_message_is_the_event_bridges() {
        let fault = Fault::Timeout { limit: Span::secs(10) };
        let silent = talk(&[], 10_000.0, Some((Stage::Answer, fault)));
        let outcome = judge(&LoginToResponseConfig::default(), &[], silent);
        assert!(outcome.findings[0].summary.contains("no event came"), "{outcome:?}");
        assert_eq!(outcome.findings[0].symptom, Some(GOLDEN_PATH_OFFLINE));
    }
}
