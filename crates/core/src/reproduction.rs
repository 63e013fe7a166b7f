//! Whether a run reproduced a known failure: feature by feature, schema `shakedown.reproduction/1`.

use serde::{Deserialize, Serialize};

/// The schema's name.
pub const SCHEMA: &str = "shakedown.reproduction/1";

/// What a run showed of the failure a signature describes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reproduction {
    /// [`SCHEMA`].
    pub schema: String,
    /// The signature's id.
    pub signature: String,
    /// The failure, in one line.
    pub title: String,
    /// Whether this is it.
    pub verdict: ReproductionVerdict,
    /// Its features, in the signature's order.
    pub features: Vec<FeatureSeen>,
    /// Where the run's conditions were not the signature's, or are not known.
    pub differences: Vec<Difference>,
    /// Probes whose result is not the one the signature expects. Beside the verdict, never in its
    /// place.
    pub unexpected: Vec<Unexpected>,
}

/// Whether a failure was reproduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReproductionVerdict {
    /// Every decisive feature was seen.
    Reproduced,
    /// A decisive feature was tested and not seen.
    NotReproduced,
    /// Neither: a decisive feature was not tested.
    Undecided,
}

/// What a run showed of one feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureState {
    /// It was there.
    Seen,
    /// It was looked for and not there.
    NotSeen,
    /// Nothing looked for it, or nothing could.
    NotTested,
}

/// One feature of a signature, in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureSeen {
    /// Its id.
    pub id: String,
    /// What it states.
    pub what: String,
    /// Whether the verdict needs it.
    pub decisive: bool,
    /// Whether it was seen.
    pub state: FeatureState,
    /// What was found, or why nothing was.
    pub found: String,
}

/// A condition of the signature that the run did not have, or that nobody can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The condition.
    pub condition: String,
    /// As the signature has it.
    pub expected: String,
    /// As the run had it.
    pub found: String,
}

/// A probe whose result is not the expected one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexpected {
    /// The probe.
    pub probe: String,
    /// What the signature expects: `pass` or `fail`.
    pub expected: String,
    /// What came out.
    pub found: String,
}

impl Reproduction {
    /// The verdict of features: all decisive ones seen, one of them not seen, or neither.
    pub fn verdict_of(features: &[FeatureSeen]) -> ReproductionVerdict {
        let mut verdict = ReproductionVerdict::Reproduced;
        for feature in features.iter().filter(|feature| feature.decisive) {
            match feature.state {
                FeatureState::Seen => {}
                FeatureState::NotSeen => return ReproductionVerdict::NotReproduced,
                FeatureState::NotTested => verdict = ReproductionVerdict::Undecided,
            }
        }
        verdict
    }

    /// Whether the failure is proven absent: every feature was tested and none was seen, be it
    /// decisive or not: what still looks like the failure proves no fix. `None` when none was seen and
    /// one was not tested.
    pub fn is_absent(&self) -> Option<bool> {
        let mut features = self.features.iter();
        if features.clone().any(|feature| feature.state == FeatureState::Seen) {
            return Some(false);
        }
        features.all(|feature| feature.state == FeatureState::NotSeen).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FeatureState::{NotSeen, NotTested, Seen};
    use ReproductionVerdict::{NotReproduced, Reproduced, Undecided};

    #[test]
    fn only_decisive_features_decide() {
        let check = |states: &[(bool, FeatureState)], verdict, absent| {
            let feature = |&(decisive, state): &(bool, FeatureState)| FeatureSeen {
                id: String::new(),
                what: String::new(),
                decisive,
                state,
                found: String::new(),
            };
            let features: Vec<_> = states.iter().map(feature).collect();
            assert_eq!(Reproduction::verdict_of(&features), verdict, "{states:?}");
            let reproduction = Reproduction {
                schema: SCHEMA.to_owned(),
                signature: String::new(),
                title: String::new(),
                verdict,
                features,
                differences: Vec::new(),
                unexpected: Vec::new(),
            };
            assert_eq!(reproduction.is_absent(), absent, "{states:?}");
        };
        check(&[(true, Seen), (true, Seen), (false, NotSeen)], Reproduced, Some(false));
        check(&[(true, Seen), (true, NotTested)], Undecided, Some(false));
        check(&[(true, NotTested), (true, NotSeen)], NotReproduced, None);
        check(&[(true, NotSeen), (true, NotSeen), (false, NotSeen)], NotReproduced, Some(true));
        check(&[(true, NotSeen), (false, Seen)], NotReproduced, Some(false));
        check(&[(true, NotSeen), (false, NotTested)], NotReproduced, None);
    }
}
