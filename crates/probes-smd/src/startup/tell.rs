//! What was seen, put into the record of the run, so that a diagnosis can use it: each line once.

use std::collections::HashSet;

use shakedown_core::clock::Timestamp;
use shakedown_core::evidence::{Body, ClockSource, LogEntry, Moment, StartupEvent};
use shakedown_core::startup::{Role, Sign};
use shakedown_core::{Observation, ProbeCtx, Provenance};

use super::timeline::{Origin, Start, WAITED};
use super::{Observed, Poll};

/// The most that is told of one start-up.
const MOST: usize = 300;
/// How far a container's clock may be off ours, in milliseconds: a guess on the safe side.
const SKEW_MS: u32 = 1000;

/// What was told before.
#[derive(Debug, Default)]
pub(crate) struct Told {
    said: HashSet<String>,
    polls: usize,
}

impl Told {
    /// Tells what is new in `observed`.
    pub(crate) fn tell(&mut self, ctx: &ProbeCtx, observed: &Observed) {
        for start in &observed.starts {
            let mut told = 0;
            let mut once = |observation: Option<Observation>| {
                let Some(observation) = observation.filter(|_| told < MOST) else { return };
                if self.said.insert(format!("{observation:?}")) {
                    told += 1;
                    ctx.record(observation);
                }
            };
            for sign in &start.signs {
                once(exit(sign).and_then(|body| at(ctx, start, sign.at, body)));
            }
            for line in start.lines.iter().filter(|line| line.telling) {
                let body = Body::LogEntry(LogEntry {
                    insert_id: line.insert_id.clone(),
                    severity: line.severity.clone(),
                    message: line.text.clone(),
                    log: line.log.clone(),
                });
                once(at(ctx, start, line.at, body));
            }
        }
        for poll in observed.polls.iter().skip(self.polls) {
            self::poll(ctx, observed, poll);
        }
        self.polls = observed.polls.len();
    }
}

fn poll(ctx: &ProbeCtx, observed: &Observed, poll: &Poll) {
    let of = observed.starts.iter().find(|start| start.origin == poll.origin);
    let subject = of.map(|start| start.subject.clone()).unwrap_or_default();
    for step in &poll.steps {
        ctx.observe(subject.clone(), Body::Step(step.clone()));
    }
}

fn at(ctx: &ProbeCtx, start: &Start, at: Option<Timestamp>, body: Body) -> Option<Observation> {
    let (clock, skew_ms, provenance) = match start.origin {
        Origin::Process => (ClockSource::Ours, 0, Provenance::Measured),
        Origin::Logs => (ClockSource::Container, SKEW_MS, Provenance::Quoted),
    };
    Some(Observation {
        moment: Moment { at: at?, clock, resolution_ms: 1, skew_ms },
        subject: start.subject.clone(),
        vantage: ctx.environment().identity.vantage,
        provenance,
        body,
    })
}

/// What no line says: the exit of a process that we waited for ourselves. Everything else stands in
/// the lines, which are told as they are.
fn exit(sign: &Sign) -> Option<Body> {
    #[expect(clippy::cast_possible_truncation, reason = "an exit code")]
    let code = sign.number.filter(|_| sign.role == Role::ContainerExit).map(|code| code as i32);
    (sign.quote.source == WAITED).then(|| {
        Body::Startup(StartupEvent {
            phase: String::new(),
            event: "exited".to_owned(),
            seconds: None,
            code,
            message: sign.quote.text.clone(),
        })
    })
}
