//! When Google may take the instance down for maintenance.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use shakedown_core::clock::Timestamp;

/// A weekly window in UTC, `"Sunday 06:00-07:00 UTC"`. One that ends before it begins ends on the
/// day after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaintenanceWindow {
    day: Weekday,
    start: Time,
    end: Time,
}

/// A text that is not a maintenance window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a maintenance window: write \"Sunday 06:00-07:00 UTC\", a day and two different \
     times in UTC"
)]
pub struct MaintenanceWindowError(String);

impl MaintenanceWindow {
    /// Whether `at` lies within it. The end does not.
    pub fn contains(&self, at: Timestamp) -> bool {
        let now = TimeZone::UTC.to_datetime(at);
        let (today, time) = (now.weekday(), now.time());
        if self.start < self.end {
            today == self.day && self.start <= time && time < self.end
        } else {
            (today == self.day && self.start <= time)
                || (today == self.day.wrapping_add(1) && time < self.end)
        }
    }

    /// When the window that `at` lies in or comes before next begins.
    pub fn next_start(&self, at: Timestamp) -> Timestamp {
        let now = TimeZone::UTC.to_datetime(at);
        let days_away = now.weekday().until(self.day);
        let start = now.date().saturating_add(i64::from(days_away).days()).to_datetime(self.start);
        let start = if start < now { start.saturating_add(7.days()) } else { start };
        TimeZone::UTC.to_timestamp(start).unwrap_or(Timestamp::MAX)
    }
}

fn weekday(text: &str) -> Option<Weekday> {
    use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    [Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday].into_iter().find(|day| {
        let name = name(*day);
        text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..3])
    })
}

fn name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    if hour.len() != 2 || minute.len() != 2 {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

impl FromStr for MaintenanceWindow {
    type Err = MaintenanceWindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || MaintenanceWindowError(text.to_owned());
        let mut words = text.split_whitespace();
        let (Some(day), Some(times), Some("UTC"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(error());
        };
        let (start, end) = times.split_once('-').ok_or_else(error)?;
        let day = weekday(day).ok_or_else(error)?;
        let (start, end) = (time(start).ok_or_else(error)?, time(end).ok_or_else(error)?);
        if start == end {
            return Err(error());
        }
        Ok(Self { day, start, end })
    }
}

impl fmt::Display for MaintenanceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start, self.end);
        let text = format!(
            "{} {:02}:{:02}-{:02}:{:02} UTC",
            name(self.day),
            start.hour(),
            start.minute(),
            end.hour(),
            end.minute()
        );
        f.pad(&text)
    }
}

impl TryFrom<String> for MaintenanceWindow {
    type Error = MaintenanceWindowError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MaintenanceWindow> for String {
    fn from(window: MaintenanceWindow) -> Self {
        window.to_string()
    }
}

#[cfg(feature = "register")]
impl schemars::JsonSchema for MaintenanceWindow {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MaintenanceWindow".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["Sunday 06:00-07:00 UTC"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> MaintenanceWindow {
        text.parse().expect(text)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    #[test]
    fn windows_read_what_they_print() {
        for text in ["Sunday 06:00-07:00 UTC", "Monday 23:30-01:00 UTC"] {
            assert_eq!(window(text).to_string(), text);
        }
        assert_eq!(
            window("sun  6:00-07:00 UTC".replace(" 6", " 06").as_str()).day,
            Weekday::Sunday
        );
        for text in [
            "",
            "Sunday",
            "Sunday 06:00-07:00",
            "Sunday 06:00-07:00 PST",
            "Someday 06:00-07:00 UTC",
            "Sunday 06:00 UTC",
            "Sunday 25:00-26:00 UTC",
            "Sunday 06:00-06:00 UTC",
            "Sunday 06:00-07:00 UTC please",
        ] {
            assert!(text.parse::<MaintenanceWindow>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_contains_its_start_and_not_its_end() {
        let sunday = window("Sunday 06:00-07:00 UTC");
        // 2025-09-14 was a Sunday.
        for (text, inside) in [
            ("2025-09-14T05:59:59Z", false),
            ("2025-09-14T06:00:00Z", true),
            ("2025-09-14T06:59:59Z", true),
            ("2025-09-14T07:00:00Z", false),
            ("2025-09-15T06:30:00Z", false),
            ("2025-09-14T08:30:00+02:00", true),
        ] {
            assert_eq!(sunday.contains(at(text)), inside, "{text}");
        }
    }

    #[test]
    fn a_window_over_midnight_goes_on_the_day_after() {
        let night = window("Sunday 23:00-01:00 UTC");
        assert!(night.contains(at("2025-09-14T23:30:00Z")));
        assert!(night.contains(at("2025-09-15T00:59:00Z")));
        assert!(!night.contains(at("2025-09-15T01:00:00Z")));
        assert!(!night.contains(at("2025-09-14T00:30:00Z")));
    }

    #[test]
    fn the_next_start_is_at_most_a_week_away() {
        let sunday = window("Sunday 06:00-07:00 UTC");
        let next = at("2025-09-14T06:00:00Z");
        assert_eq!(sunday.next_start(at("2025-09-13T12:00:00Z")), next);
        assert_eq!(sunday.next_start(next), next);
        assert_eq!(sunday.next_start(at("2025-09-14T06:30:00Z")), at("2025-09-21T06:00:00Z"));
    }
}
