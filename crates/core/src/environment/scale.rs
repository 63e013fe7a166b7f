//! The lab's time scale: a resolved copy of the environment in which durations are shorter.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{Rate, Span};

/// A limit is never scaled below this.
const SHORTEST_LIMIT: Duration = Duration::from_secs(1);
/// A tolerance is never scaled below this.
const SHORTEST_TOLERANCE: Duration = Duration::from_millis(250);

/// 1 to 20: durations are divided by it, rates multiplied; counts and sizes stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(try_from = "u32", into = "u32")]
pub struct TimeScale(u32);

impl Default for TimeScale {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u32> for TimeScale {
    type Error = String;

    fn try_from(scale: u32) -> Result<Self, String> {
        Self::new(scale)
    }
}

impl From<TimeScale> for u32 {
    fn from(scale: TimeScale) -> Self {
        scale.0
    }
}

impl fmt::Display for TimeScale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TimeScale {
    /// Checks the range.
    ///
    /// # Errors
    /// A sentence about it, outside 1 to 20.
    pub fn new(scale: u32) -> Result<Self, String> {
        if (1..=20).contains(&scale) {
            Ok(Self(scale))
        } else {
            Err(format!("a time scale is 1 to 20, not {scale}"))
        }
    }

    /// A duration that something takes.
    pub fn duration(self, duration: Duration) -> Duration {
        duration / self.0
    }

    /// A limit after which something is given up: never below one second.
    pub fn limit(self, limit: Duration) -> Duration {
        self.duration(limit).max(SHORTEST_LIMIT.min(limit))
    }

    /// A tolerance of a measurement: never below a quarter of a second.
    pub fn tolerance(self, tolerance: Duration) -> Duration {
        self.duration(tolerance).max(SHORTEST_TOLERANCE.min(tolerance))
    }

    /// A rate.
    pub fn rate(self, rate: Rate) -> Rate {
        Rate { count: rate.count.saturating_mul(self.0), per: rate.per }
    }

    /// Scales every duration and rate of a configuration table in place.
    ///
    /// A string is one of them when all of it parses as one, which is how configuration types write
    /// them. A key that ends in `timeout`, `limit` or `limits` names a limit, one that ends in
    /// `tolerance` a tolerance.
    pub fn table(self, table: &mut toml::Table) {
        if self.0 > 1 {
            for (key, value) in table.iter_mut() {
                self.value(key, value);
            }
        }
    }

    fn value(self, key: &str, value: &mut toml::Value) {
        match value {
            toml::Value::String(text) => {
                if let Ok(span) = text.parse::<Span>() {
                    *text = Span(self.by_name(key, span.get())).to_string();
                } else if let Ok(rate) = text.parse::<Rate>() {
                    *text = self.rate(rate).to_string();
                }
            }
            toml::Value::Array(values) => values.iter_mut().for_each(|v| self.value(key, v)),
            toml::Value::Table(table) => {
                for (inner, value) in table.iter_mut() {
                    self.value(if inner == "value" { key } else { inner }, value);
                }
            }
            _ => {}
        }
    }

    fn by_name(self, key: &str, duration: Duration) -> Duration {
        if key.ends_with("timeout") || key.ends_with("limit") || key.ends_with("limits") {
            self.limit(duration)
        } else if key.ends_with("tolerance") {
            self.tolerance(duration)
        } else {
            self.duration(duration)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_shrink_rates_grow_counts_stay() {
        let text = r#"
            cadence = "10s"
            connect_timeout = { value = "5s", assumed = "a guess of 30s" }
            run_limit = "90min"
            phase_limits = ["10min", "2s"]
            skew_tolerance = "1s"
            rate = "60/min"
            max = 5
            window = "Sunday 06:00-07:00 UTC"
        "#;
        let mut table: toml::Table = text.parse().expect("valid");
        TimeScale(10).table(&mut table);
        let expected = r#"
            cadence = "1s"
            connect_timeout = { value = "1s", assumed = "a guess of 30s" }
            run_limit = "9min"
            phase_limits = ["1min", "1s"]
            skew_tolerance = "250ms"
            rate = "600/min"
            max = 5
            window = "Sunday 06:00-07:00 UTC"
        "#;
        assert_eq!(table, expected.parse().expect("valid"));
    }
}
