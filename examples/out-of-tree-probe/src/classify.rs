//! From what was observed to what is claimed.

use shakedown_core::classify::{Claim, ClaimStatus, Claimed, ClassifierMeta};
use shakedown_core::evidence::Fact;
use shakedown_core::{
    ClassifierSpec, Evidence, FailureClassifier, Observation, register_classifier,
};

use crate::evidence::{LEDGER_POSITION, LEDGER_REPLICA_BEHIND};

/// Claims [`LEDGER_REPLICA_BEHIND`] from the replica's positions.
///
/// A replica that was in time once keeps up, so one position within the tolerance refutes the
/// claim; late ones support it only if none does. Without a position nothing is decided.
#[derive(Debug, Default)]
pub struct LedgerReplication;

impl ClassifierSpec for LedgerReplication {
    const META: ClassifierMeta = ClassifierMeta {
        id: "acme.ledger-replication",
        summary: "whether the ledger's replica keeps up, from the positions it told",
        causes: &[LEDGER_REPLICA_BEHIND],
        symptoms: &[],
    };
}

register_classifier!(LedgerReplication);

impl FailureClassifier for LedgerReplication {
    fn meta(&self) -> &'static ClassifierMeta {
        &Self::META
    }

    fn classify(&self, evidence: &Evidence) -> Vec<Claim> {
        let (mut late, mut in_time) = (Vec::new(), Vec::new());
        for (observation, fact) in evidence.facts(&LEDGER_POSITION) {
            match is_late(fact) {
                Some(true) => late.push(observation.clone()),
                Some(false) => in_time.push(observation.clone()),
                // A fact without its numbers says nothing either way.
                None => {}
            }
        }
        vec![claim(late, in_time)]
    }
}

fn is_late(fact: &Fact) -> Option<bool> {
    let number = |name: &str| {
        let (_, value) = fact.attributes.iter().find(|(attribute, _)| attribute == name)?;
        value.parse::<f64>().ok()
    };
    Some(number("behind_ms")? > number("tolerance_ms")?)
}

fn claim(late: Vec<Observation>, in_time: Vec<Observation>) -> Claim {
    let (status, confidence, summary) = match (late.len(), in_time.len()) {
        (0, 0) => {
            (ClaimStatus::Undetermined, 0.0, "the replica was not asked how far it is".to_owned())
        }
        (late, 0) => (
            ClaimStatus::Supported,
            // One late answer may be a burst of writes; each further one leaves less room for that.
            1.0 - 0.5_f64.powi(i32::try_from(late).unwrap_or(i32::MAX)),
            format!("the replica was late each of the {late} times it was asked"),
        ),
        (late, in_time) => (
            ClaimStatus::Refuted,
            1.0,
            format!("the replica was in time {in_time} of {} times", late + in_time),
        ),
    };
    Claim {
        confidence,
        summary,
        supporting: late,
        against: in_time,
        next: "acme.ledger-lag".into(),
        ..Claim::new(Claimed::Cause(LEDGER_REPLICA_BEHIND), "ledger", status)
    }
}

#[cfg(test)]
mod tests {
    use shakedown_core::evidence::{Body, Subject, Vantage};

    use super::*;

    fn position(behind_ms: &str) -> Observation {
        let attributes = [("behind_ms", behind_ms), ("tolerance_ms", "2000")];
        let attributes = attributes.map(|(name, value)| (name.into(), value.into())).to_vec();
        let body = Body::Fact(Fact { fact: LEDGER_POSITION, attributes });
        Observation::measured(Subject::service("ledger"), Vantage::Unknown, body)
    }

    #[track_caller]
    fn check(behind_ms: &[&str], status: ClaimStatus) {
        let evidence = Evidence::new(behind_ms.iter().map(|ms| position(ms)).collect());
        let claims = LedgerReplication.classify(&evidence);
        assert_eq!(claims.len(), 1);
        assert_eq!(claims[0].status, status, "{behind_ms:?}");
        assert_eq!(LedgerReplication.classify(&evidence), claims, "it is a function");
    }

    #[test]
    fn it_claims_from_facts_only() {
        check(&[], ClaimStatus::Undetermined);
        check(&["no number"], ClaimStatus::Undetermined);
        check(&["9000", "9000"], ClaimStatus::Supported);
        check(&["9000", "10"], ClaimStatus::Refuted);
    }
}
