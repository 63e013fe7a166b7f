//! Durations, rates and the time scale.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// By how much the lab's clock runs faster than the staging it stands for: a whole number, 1 to 20.
///
/// Durations are divided by it and rates multiplied; counts and sizes stay. It is applied once, when
/// settings and scenario are resolved, so nothing else in the lab knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct TimeScale(u32);

impl TimeScale {
    /// Real time.
    pub const ONE: Self = Self(1);

    /// Checks the range.
    ///
    /// # Errors
    /// [`InvalidTimeScale`] outside 1..=20.
    pub fn new(factor: u32) -> Result<Self, InvalidTimeScale> {
        if (1..=20).contains(&factor) { Ok(Self(factor)) } else { Err(InvalidTimeScale(factor)) }
    }

    /// The factor, 1 to 20.
    #[must_use]
    pub fn factor(self) -> u32 {
        self.0
    }

    /// A duration that may become as short as it likes.
    #[must_use]
    pub fn duration(self, full: Duration) -> Duration {
        full / self.0
    }

    /// A limit: scaled like a duration, but never below one second (nor below itself, when it was
    /// shorter than that from the start).
    #[must_use]
    pub fn limit(self, full: Duration) -> Duration {
        self.duration(full).max(full.min(Duration::from_secs(1)))
    }

    /// A rate in anything per time.
    #[must_use]
    pub fn rate(self, full: f64) -> f64 {
        full * f64::from(self.0)
    }
}

impl Default for TimeScale {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<u32> for TimeScale {
    type Error = InvalidTimeScale;
    fn try_from(factor: u32) -> Result<Self, InvalidTimeScale> {
        Self::new(factor)
    }
}

impl From<TimeScale> for u32 {
    fn from(scale: TimeScale) -> Self {
        scale.0
    }
}

/// A time scale outside 1 to 20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("time scale must be a whole number from 1 to 20, not {0}")]
pub struct InvalidTimeScale(pub u32);

/// A duration written with its unit: `"30s"`, `"200ms"`, `"5min"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        // One unit only, so that any reader of "NUMBER UNIT" can take it.
        match (self.0.as_secs(), self.0.subsec_nanos()) {
            (secs, 0) => write!(f, "{secs}s"),
            (_, nanos) if nanos % 1_000_000 == 0 => write!(f, "{}ms", self.0.as_millis()),
            _ => write!(f, "{}us", self.0.as_micros()),
        }
    }
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|e| {
            format!("{text:?} is not a duration such as \"30s\", \"200ms\" or \"5min\": {e}")
        })
    }
}

/// A rate written per time: `"600/min"`, `"5/s"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Events per second, above zero.
    pub per_second: f64,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/min", self.per_second * 60.0)
    }
}

impl std::str::FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate such as \"600/min\" or \"5/s\"");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let count: f64 = count.trim().parse().map_err(|_| wrong())?;
        if !(count.is_finite() && count > 0.0) {
            return Err(wrong());
        }
        Ok(Self { per_second: count / seconds })
    }
}

macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as ::serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(::serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use serde_as_text;
serde_as_text!(Span, Rate);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_stop_at_one_second_but_short_ones_stay() {
        let scale = TimeScale::new(20).unwrap();
        assert_eq!(scale.limit(Duration::from_secs(10)), Duration::from_secs(1));
        assert_eq!(scale.limit(Duration::from_secs(40)), Duration::from_secs(2));
        assert_eq!(scale.limit(Duration::from_millis(300)), Duration::from_millis(300));
        assert_eq!(scale.duration(Duration::from_secs(10)), Duration::from_millis(500));
        assert!((scale.rate(10.0) - 200.0).abs() < f64::EPSILON);
    }

    #[test]
    fn time_scale_range() {
        assert_eq!(TimeScale::new(0), Err(InvalidTimeScale(0)));
        assert_eq!(TimeScale::new(21), Err(InvalidTimeScale(21)));
    }

    #[test]
    fn rates() {
        assert_eq!("600/min".parse::<Rate>().unwrap().per_second, 10.0);
        assert_eq!("5/s".parse::<Rate>().unwrap().to_string(), "300/min");
        for wrong in ["600", "0/s", "-1/s", "1/day", "NaN/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn spans_survive_text(micros in 0u64..10_000_000_000) {
            let span = Span(Duration::from_micros(micros));
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
    }
}
