//! One stage of a ramp of connects, and how stages compare.

use shakedown_core::evidence::{Body, Fact, ObservationMeta};
use shakedown_core::id::ObservationKind;
use shakedown_core::{Fault, Step};

use crate::path::{NetworkPath, Way};
use crate::series::{Attempt, FIRST_RETRANSMIT_MS, percentile};

/// One stage of the ramp, as an observation.
pub const CONNECTOR_STAGE: ObservationKind = ObservationKind::new("vpc.connector-stage");

/// The description of [`CONNECTOR_STAGE`].
pub const CONNECTOR_STAGE_META: ObservationMeta = ObservationMeta {
    kind: CONNECTOR_STAGE,
    summary: "connects offered at once: crosses_connector, offered, attempts, answered, p50_ms, \
              p95_ms, max_ms, resent (TCP connects that took a second SYN), faults",
};

#[cfg(feature = "register")]
shakedown_core::register_observation!(CONNECTOR_STAGE_META);

/// What one stage saw.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// Connections opened at the same moment.
    pub(crate) offered: u32,
    pub(crate) attempts: Vec<Attempt>,
}

impl Stage {
    pub(crate) fn answered_ms(&self) -> Vec<f64> {
        let answered = self.attempts.iter().filter(|attempt| attempt.unanswered().is_none());
        answered.map(|attempt| attempt.ms).collect()
    }

    pub(crate) fn p50(&self) -> Option<f64> {
        percentile(&self.answered_ms(), 0.5)
    }

    /// TCP connects that got through with a later SYN than the first.
    pub(crate) fn resent(&self, way: Way) -> usize {
        match way {
            Way::Tcp => self.answered_ms().iter().filter(|&&ms| ms >= FIRST_RETRANSMIT_MS).count(),
            Way::Socket => 0,
        }
    }

    pub(crate) fn observation(&self, path: &NetworkPath) -> Body {
        let answered = self.answered_ms();
        let ms =
            |share| percentile(&answered, share).map_or("none".into(), |ms| format!("{ms:.3}"));
        let faults: Vec<_> = self.attempts.iter().filter_map(Attempt::unanswered).collect();
        let attributes = [
            ("crosses_connector", if path.books_to_connector() { "yes" } else { "unknown" }.into()),
            ("offered", self.offered.to_string()),
            ("attempts", self.attempts.len().to_string()),
            ("answered", answered.len().to_string()),
            ("p50_ms", ms(0.5)),
            ("p95_ms", ms(0.95)),
            ("max_ms", ms(1.0)),
            ("resent", self.resent(path.way).to_string()),
            ("faults", codes(&faults)),
        ];
        Body::Fact(Fact {
            fact: CONNECTOR_STAGE,
            attributes: attributes.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        })
    }
}

/// `timeout at connect, refused at connect`: each kind once.
pub(crate) fn codes(steps: &[&Step]) -> String {
    let mut kinds: Vec<String> = steps
        .iter()
        .map(|step| {
            let code = step.fault.as_ref().map_or("none".into(), Fault::code);
            format!("{code} at {}", step.rung)
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds.join(", ")
}

/// How a stage compares with the first.
#[derive(Debug, PartialEq)]
pub(crate) struct Queueing {
    pub(crate) offered: u32,
    pub(crate) p50: f64,
    pub(crate) first: f64,
}

/// The first stage whose median has grown beyond factor and tolerance.
pub(crate) fn queueing(stages: &[Stage], factor: f64, tolerance_ms: f64) -> Option<Queueing> {
    let first = stages.first()?.p50()?;
    stages.iter().skip(1).find_map(|stage| {
        let p50 = stage.p50()?;
        let grown = p50 > factor * first && p50 > tolerance_ms;
        grown.then_some(Queueing { offered: stage.offered, p50, first })
    })
}
