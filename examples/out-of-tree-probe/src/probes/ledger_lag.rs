//! Asks the ledger's replica how far it is behind its primary. Good: no further than users notice.
//!
//! **How.** `ledger.position_url` is fetched `samples` times, each on a connection of its own, with
//! `pause` between. The page is JSON: `behind_ms`, `entries_behind`. The least lag counts: a burst
//! of writes makes any replica late for a moment, and one that recovers keeps up.
//!
//! **Verdicts.** *Fail*: nobody answered, with the rung and the typed error; the answer was no
//! position; or the replica was behind by more than `ledger.lag_tolerance` every time. *Degraded*:
//! it was so at least once. *Pass*: never. *Skip*: `ledger.position_url` is not set.
//!
//! **Draws** one HTTP connection. **Configuration**: see [`LedgerLagConfig`].
//!
//! **Cannot tell** why the replica is late.

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::evidence::{Body, Fact, Subject};
use shakedown_core::id::resource;
use shakedown_core::{
    Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Provenance,
    RunPhase, SkipReason, Span, async_trait, register_probe,
};
use shakedown_wire::{Climb, http};

use crate::Ledger;
use crate::evidence::{LEDGER_POSITION, LEDGER_REPLICA_BEHIND};

/// See the module.
#[derive(Debug)]
pub struct LedgerLag(LedgerLagConfig);

/// `[probes."acme.ledger-lag"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerLagConfig {
    /// How often the replica is asked. Default 3: the fewest that tell a moment from a state.
    pub samples: u32,
    /// Time between two questions. Default 1 s, half of what is tolerated by default.
    pub pause: Span,
}

impl Default for LedgerLagConfig {
    fn default() -> Self {
        Self { samples: 3, pause: Span::secs(1) }
    }
}

impl ProbeSpec for LedgerLag {
    type Config = LedgerLagConfig;

    const META: ProbeMeta = ProbeMeta {
        draws: &[Draw::new(resource::HTTP_CONNECTION, 1)],
        ..ProbeMeta::new(
            "acme.ledger-lag",
            RunPhase::Impact,
            "the ledger's replica is no further behind than users notice",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

register_probe!(LedgerLag);

/// The replica's answer.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Position {
    behind_ms: f64,
    entries_behind: u64,
}

#[async_trait]
impl Probe for LedgerLag {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let ledger: Ledger = ctx.section()?;
        if ledger.position_url.is_empty() {
            return Ok(Outcome::skip(SkipReason::NotConfigured("ledger.position_url".into())));
        }
        let mut positions = Vec::new();
        for sample in 1..=self.0.samples.max(1) {
            if sample > 1 {
                ctx.sleep(self.0.pause.get()).await?;
            }
            ctx.progress(format!("question {sample} of {}", self.0.samples.max(1)));
            let lease = ctx.lease(&resource::HTTP_CONNECTION).await?;
            let climb = http::get(ctx, lease, &ledger.position_url, &[]).await.uninterrupted()?;
            match position(&climb) {
                Ok(position) => positions.push(position),
                // A refusal is the answer, not an error of ours.
                Err(finding) => return Ok(Outcome::fail(*finding).steps(climb.steps)),
            }
            ctx.observe(Subject::service("ledger"), fact(positions[positions.len() - 1], &ledger));
        }
        Ok(judge(&ledger, &positions))
    }
}

/// What the page says, or what to tell when it says nothing.
fn position(climb: &Climb<http::Response>) -> Result<Position, Box<Finding>> {
    let response = match &climb.result {
        Ok(response) => response,
        Err(fault) => {
            let finding = match climb.failed_step() {
                Some(step) => Finding::at(step, "the replica does not answer"),
                None => Finding::new(format!("the replica does not answer: {fault}")),
            };
            let next = "look whether the replica runs; its page is [ledger] position_url";
            return Err(Box::new(finding.next(next)));
        }
    };
    let fault = if response.status != 200 {
        Fault::Http { status: response.status }
    } else {
        match serde_json::from_slice(&response.body) {
            Ok(position) => return Ok(position),
            Err(error) => Fault::Protocol { message: format!("not a position: {error}") },
        }
    };
    let mut finding = Finding::new(format!("the replica says no position: {fault}"))
        .next("open [ledger] position_url: it should answer 200 and JSON with behind_ms");
    finding.rung = Some("http".into());
    finding.fault = Some(fault);
    Err(Box::new(finding))
}

fn fact(position: Position, ledger: &Ledger) -> Body {
    let tolerance_ms = ledger.lag_tolerance.get().as_secs_f64() * 1e3;
    let attributes = [
        ("behind_ms", position.behind_ms.to_string()),
        ("tolerance_ms", tolerance_ms.to_string()),
        ("entries_behind", position.entries_behind.to_string()),
    ];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value)).to_vec();
    Body::Fact(Fact { fact: LEDGER_POSITION, attributes })
}

/// `positions` holds one at least.
fn judge(ledger: &Ledger, positions: &[Position]) -> Outcome {
    let tolerance_ms = ledger.lag_tolerance.get().as_secs_f64() * 1e3;
    let lags = || positions.iter().map(|position| position.behind_ms);
    let (least, most) = (lags().fold(f64::INFINITY, f64::min), lags().fold(0.0, f64::max));
    let late = lags().filter(|&lag| lag > tolerance_ms).count();
    let finding = Finding::new(format!(
        "the replica was behind by {least:.0} to {most:.0} ms, more than {tolerance_ms:.0} ms \
         {late} of {} times",
        positions.len()
    ))
    .suggesting(LEDGER_REPLICA_BEHIND)
    .next("compare the primary's write rate with the replica's apply rate");
    let outcome = match late {
        0 => Outcome::pass(),
        late if late < positions.len() => Outcome::degraded(finding),
        _ => Outcome::fail(finding),
    };
    // The replica's own words: quoted, not measured.
    let quoted = |outcome: Outcome, name: &str, value| {
        outcome.number(name, value, "ms", Provenance::Quoted, Some(tolerance_ms))
    };
    quoted(quoted(outcome, "lag_least", least), "lag_most", most)
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    #[track_caller]
    fn check(lags_ms: &[f64], verdict: Verdict) {
        let position = |&behind_ms: &f64| Position { behind_ms, entries_behind: 0 };
        let positions: Vec<Position> = lags_ms.iter().map(position).collect();
        let outcome = judge(&Ledger::default(), &positions);
        assert_eq!(outcome.verdict, verdict, "{lags_ms:?}");
        let suggested = outcome.findings.iter().any(|f| f.suggests == Some(LEDGER_REPLICA_BEHIND));
        assert_eq!(suggested, verdict != Verdict::Pass, "{lags_ms:?}");
    }

    #[test]
    fn a_moment_is_told_from_a_state() {
        check(&[0.0, 2000.0], Verdict::Pass);
        check(&[5000.0, 10.0], Verdict::Degraded);
        check(&[5000.0, 2001.0], Verdict::Fail);
    }
}
