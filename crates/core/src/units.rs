//! Values as configuration writes them: durations and rates with their unit, and settings that say
//! whether somebody chose them or somebody assumed them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a number came from. Every number in a record carries one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// We measured it ourselves, in this run.
    Measured,
    /// A Google API said so.
    GoogleApi,
    /// A log or a report of somebody else's says so.
    Quoted,
    /// Configuration says so and nobody checked. Never the denominator of a capacity claim.
    Assumed,
    /// The lab says so of itself.
    Simulated,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Measured => "measured",
            Self::GoogleApi => "google-api",
            Self::Quoted => "quoted",
            Self::Assumed => "assumed",
            Self::Simulated => "simulated",
        })
    }
}

/// A text that is not a duration or a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: write {example}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// A duration in configuration: a number with a unit, `"250ms"`, `"30s"`, `"5min"`, `"2h"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The duration itself.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError {
            text: text.to_owned(),
            what: "duration",
            example: "\"250ms\", \"30s\", \"5min\" or \"2h\"",
        };
        let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(error)?;
        let (number, unit) = text.split_at(split);
        let factor = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(error()),
        };
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(error());
        }
        let number: f64 = number.parse().map_err(|_| error())?;
        Duration::try_from_secs_f64(number * factor).map(Self).map_err(|_| error())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let (number, unit) = match micros {
            m if m % 3_600_000_000 == 0 && m > 0 => (m / 3_600_000_000, "h"),
            m if m % 60_000_000 == 0 && m > 0 => (m / 60_000_000, "min"),
            m if m % 1_000_000 == 0 => (m / 1_000_000, "s"),
            m if m % 1_000 == 0 => (m / 1_000, "ms"),
            m => (m, "us"),
        };
        f.pad(&format!("{number}{unit}"))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A rate in configuration: a count per unit of time, `"600/min"` or `"5/s"`.
#[derive(Clone, Copy, PartialEq)]
pub struct Rate {
    /// How many are allowed within one [`Rate::per`].
    pub count: u32,
    /// The window.
    pub per: Duration,
}

impl Rate {
    /// `count` a minute.
    pub const fn per_minute(count: u32) -> Self {
        Self { count, per: Duration::from_secs(60) }
    }

    /// `count` a second.
    pub const fn per_second(count: u32) -> Self {
        Self { count, per: Duration::from_secs(1) }
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error =
            || UnitError { text: text.to_owned(), what: "rate", example: "\"600/min\" or \"5/s\"" };
        let (count, unit) = text.split_once('/').ok_or_else(error)?;
        let count = count.parse().map_err(|_| error())?;
        match unit {
            "s" => Ok(Self::per_second(count)),
            "min" => Ok(Self::per_minute(count)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.per == Duration::from_secs(1) { "s" } else { "min" };
        f.pad(&format!("{}/{unit}", self.count))
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A configured value that says whether it is somebody's guess.
///
/// In TOML either the plain value (`max_connections = 100`: the operator's word) or
/// `{ value = 162, assumed = "why we are not sure" }`. An assumed value gives way to what is read
/// live and is never the denominator of a capacity claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Why it is only assumed; `None` when an operator stated it.
    pub assumed: Option<String>,
}

impl<T> Setting<T> {
    /// A value an operator stated.
    pub fn stated(value: T) -> Self {
        Self { value, assumed: None }
    }

    /// A default or a guess, with the reason it is one.
    pub fn assumed(value: T, reason: &str) -> Self {
        Self { value, assumed: Some(reason.to_owned()) }
    }

    /// Whether this is somebody's guess.
    pub fn is_assumed(&self) -> bool {
        self.assumed.is_some()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Setting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        match value {
            toml::Value::Table(mut table) if table.contains_key("value") => {
                let inner = table.remove("value").expect("checked above");
                let assumed = match table.remove("assumed") {
                    None => None,
                    Some(toml::Value::String(reason)) => Some(reason),
                    Some(_) => return Err(D::Error::custom("`assumed` is the reason, a string")),
                };
                if let Some(key) = table.keys().next() {
                    return Err(D::Error::custom(format!(
                        "unknown field `{key}`, expected `value` or `assumed`"
                    )));
                }
                Ok(Self { value: T::deserialize(inner).map_err(D::Error::custom)?, assumed })
            }
            plain => Ok(Self::stated(T::deserialize(plain).map_err(D::Error::custom)?)),
        }
    }
}

impl<T: Serialize> Serialize for Setting<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Assumed<'a, T> {
            value: &'a T,
            assumed: &'a str,
        }
        match &self.assumed {
            None => self.value.serialize(serializer),
            Some(assumed) => Assumed { value: &self.value, assumed }.serialize(serializer),
        }
    }
}

macro_rules! serde_as_text {
    ($($ty:ident, $example:literal);+ $(;)?) => {$(
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        #[cfg(feature = "register")]
        impl schemars::JsonSchema for $ty {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($ty).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "examples": [$example] })
            }
        }
    )+};
}

serde_as_text! {
    Span, "30s";
    Rate, "600/min";
}

#[cfg(feature = "register")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Setting<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Setting_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let plain = generator.subschema_for::<T>();
        schemars::json_schema!({
            "anyOf": [plain, {
                "type": "object",
                "required": ["value"],
                "additionalProperties": false,
                "properties": { "value": plain, "assumed": { "type": "string" } },
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_what_they_print() {
        for text in ["250ms", "30s", "5min", "2h", "0s", "1500us"] {
            assert_eq!(text.parse::<Span>().expect(text).to_string(), text);
        }
        assert_eq!("1.5s".parse::<Span>(), Ok(Span::millis(1500)));
        assert_eq!("90s".parse::<Span>().map(|s| s.to_string()), Ok("90s".into()));
        for text in ["", "30", "s", "-1s", "1e400s", "30 s", "infs"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_read_what_they_print() {
        for text in ["600/min", "5/s"] {
            assert_eq!(text.parse::<Rate>().expect(text).to_string(), text);
        }
        assert!("600".parse::<Rate>().is_err());
    }

    #[test]
    fn a_setting_is_plain_or_says_why_it_is_assumed() {
        #[derive(Deserialize, Serialize)]
        struct Config {
            max: Setting<u32>,
        }
        let plain: Config = toml::from_str("max = 5").expect("plain");
        assert_eq!(plain.max, Setting::stated(5));
        let text = "[max]\nvalue = 5\nassumed = \"a guess\"\n";
        let assumed: Config = toml::from_str(text).expect("assumed");
        assert_eq!(assumed.max, Setting::assumed(5, "a guess"));
        assert_eq!(toml::to_string(&assumed).expect("serialises"), text);
        assert!(toml::from_str::<Config>("max = { value = 5, because = \"x\" }").is_err());
    }
}
