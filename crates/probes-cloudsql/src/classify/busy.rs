//! A pool whose every connection is busy, as the server counts it.

use std::collections::BTreeMap;

use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::monitor::Reading;
use shakedown_core::{Case, Observation};

use crate::causes::POOL_EXHAUSTION;

/// The monitor's metric: busy sessions of an application over all it has, where those fill a pool.
pub(crate) const POOL_BUSY: &str = "cloudsql.pool_busy";
/// What probes of the database are about.
const DATABASE: &str = "database";
/// Fewer samples are a moment.
const ENOUGH: usize = 5;
/// From this share on nearly nothing is left to hand out: the strategy's bound of an exhausted pool.
const TAKEN: f64 = 0.9;
/// Nobody is seen waiting: that somebody does is likely and no more.
const LIKELY: f64 = 0.5;
const NEXT: &str = "the application's own lines about its pool (`shakedown analyze`), and `cloudsql.longest_query`: what its sessions do";

/// An application of which a whole pool's worth of sessions was busy nearly all the time. The server
/// cannot see who waits inside the application, and how many pools share the name is not known
/// there.
pub(super) fn taken(case: &Case<'_>) -> Option<Claim> {
    if case.service != DATABASE {
        return None;
    }
    let mut of: BTreeMap<&str, Vec<(&Observation, f64)>> = BTreeMap::new();
    for (observation, sample) in &case.samples {
        if sample.metric.as_str() == POOL_BUSY
            && let Reading::Value(share) = sample.value
            && let Some((_, application)) =
                sample.labels.iter().find(|(name, _)| name == "application")
        {
            of.entry(application).or_default().push((observation, share));
        }
    }
    let full = |samples: &[(&Observation, f64)]| {
        samples.iter().filter(|(_, share)| *share >= TAKEN).count()
    };
    let (application, samples) = of
        .into_iter()
        .find(|(_, samples)| samples.len() >= ENOUGH && full(samples) * 4 >= samples.len() * 3)?;
    let claimed = Claimed::Cause(POOL_EXHAUSTION);
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Undetermined);
    claim.confidence = LIKELY;
    claim.summary = format!(
        "in {} of {} samples more than 90 % of the sessions of {application} were busy, at least a whole pool of them, while the server let others in: whoever asks that pool waits.",
        full(&samples),
        samples.len()
    );
    claim.supporting =
        samples.iter().take(3).map(|(observation, _)| (*observation).clone()).collect();
    claim.next = NEXT.to_owned();
    Some(claim)
}

#[cfg(test)]
mod tests {
    use shakedown_core::classify::FailureClassifier as _;
    use shakedown_core::clock::Timestamp;
    use shakedown_core::evidence::{Body, Moment, Probed, Subject};
    use shakedown_core::id::Metric;
    use shakedown_core::outcome::Verdict;
    use shakedown_core::{Evidence, Provenance, Sample, Vantage};

    use super::super::Database;
    use super::*;

    fn claims(shares: &[f64]) -> Vec<Claim> {
        let observed = |service: &str, body| Observation {
            moment: Moment::ours(Timestamp::UNIX_EPOCH),
            subject: Subject::service(service),
            vantage: Vantage::CloudRun,
            provenance: Provenance::Measured,
            body,
        };
        let reached = Probed { probe: "cloudsql.connect-timing".into(), ended: Verdict::Pass };
        let samples = shares.iter().map(|share| {
            let sample = Sample::measured(Metric::new(POOL_BUSY), *share, "1");
            observed("", Body::Sample(sample.label("application", "web")))
        });
        let mut observations = vec![observed(DATABASE, Body::Probed(reached))];
        observations.extend(samples);
        Database.classify(&Evidence::new(observations))
    }

    #[test]
    fn a_pool_that_is_taken_nearly_always_is_likely_waited_for() {
        let found = claims(&[1.0, 1.0, 0.4, 1.0, 1.04]);
        let [claim] = &found[..] else { panic!("{found:?}") };
        assert_eq!(claim.claimed, Claimed::Cause(POOL_EXHAUSTION));
        assert_eq!(claim.status, ClaimStatus::Undetermined);
        assert!(claim.summary.starts_with("in 4 of 5 samples"), "{}", claim.summary);
        assert_eq!(claims(&[1.0, 1.0, 0.4, 0.5, 1.0]), [], "half the time it has room");
        assert_eq!(claims(&[1.0, 1.0, 1.0, 1.0]), [], "a moment");
    }
}
