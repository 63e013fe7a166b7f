//! How measured durations spread.

use shakedown_core::Outcome;

/// Durations in milliseconds, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    pub(crate) fn of(durations_ms: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = durations_ms.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// The smallest value that at least `share` of all do not exceed: always one that was measured
    /// (nearest rank). Of fewer than 20, the 0.95 one is the greatest.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to len")]
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied()
    }

    pub(crate) fn min(&self) -> Option<f64> {
        self.0.first().copied()
    }

    pub(crate) fn max(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// Adds `<name>_min`, `_p50`, `_p95` and `_max`; nothing when nothing was measured.
    pub(crate) fn into_outcome(self, outcome: Outcome, name: &str) -> Outcome {
        let values = [
            ("min", self.min()),
            ("p50", self.quantile(0.50)),
            ("p95", self.quantile(0.95)),
            ("max", self.max()),
        ];
        values.into_iter().fold(outcome, |outcome, (which, value)| match value {
            Some(value) => outcome.measure(&format!("{name}_{which}"), value, "ms"),
            None => outcome,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let ten = Spread::of((1..=10).rev().map(f64::from));
        assert_eq!((ten.min(), ten.max()), (Some(1.0), Some(10.0)));
        assert_eq!((ten.quantile(0.5), ten.quantile(0.95)), (Some(5.0), Some(10.0)));
        let hundred = Spread::of((1..=100).map(f64::from));
        assert_eq!((hundred.quantile(0.5), hundred.quantile(0.95)), (Some(50.0), Some(95.0)));
        let one = Spread::of([7.0]);
        assert_eq!((one.quantile(0.5), one.quantile(0.95)), (Some(7.0), Some(7.0)));
    }

    #[test]
    fn nothing_measured_gives_no_number() {
        assert_eq!(Spread::of([]).quantile(0.5), None);
        assert!(Spread::of([]).into_outcome(Outcome::pass(), "x").measurements.is_empty());
        let names: Vec<_> = Spread::of([1.0])
            .into_outcome(Outcome::pass(), "total")
            .measurements
            .into_iter()
            .map(|m| m.name)
            .collect();
        assert_eq!(names, ["total_min", "total_p50", "total_p95", "total_max"]);
    }
}
