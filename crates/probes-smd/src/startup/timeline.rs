//! From lines to starts: every attempt of every instance to start, whatever source it was seen by.

use std::collections::{BTreeMap, VecDeque};

use shakedown_core::attempt::{Attempt, AttemptEnd, Quote};
use shakedown_core::clock::Timestamp;
use shakedown_core::redact::quotable;
use shakedown_core::startup::{Markers, Role, Sign, StartupLimit, Timeline};
use shakedown_core::{ProbeError, StartupConfig, Subject};

use super::entry::Entry;
use crate::application::Application;
use crate::section::Startup;

/// Instances told apart; beyond it the one heard of least recently is let go.
const INSTANCES: usize = 64;
/// Signs kept per instance, the latest.
const SIGNS: usize = 4096;
/// Times of lines kept per instance, the latest.
const TIMES: usize = 4096;
/// Lines kept per instance, the latest.
const LINES: usize = 1000;

/// How a start was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// In log files.
    Logs,
    /// As a process of ours.
    Process,
}

impl Origin {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "log files",
            Self::Process => "the started process",
        }
    }
}

/// One attempt of one instance to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// How it was seen.
    pub origin: Origin,
    /// Service, revision and instance.
    pub subject: Subject,
    /// Its phases and its end, put together.
    pub attempt: Attempt,
    /// The marker lines it is put together from, in time order.
    pub signs: Vec<Sign>,
    /// Its lines, the latest thousand of the instance.
    pub lines: Vec<Line>,
}

/// A line of an instance, quoted.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When.
    pub at: Option<Timestamp>,
    /// As written, empty where not said.
    pub severity: String,
    /// The export's id.
    pub insert_id: String,
    /// The log it stands in.
    pub log: String,
    /// The words, fit to be quoted.
    pub text: String,
    /// Whether it is a marker or at WARNING or above.
    pub telling: bool,
}

impl Start {
    /// The first sign of one of `roles`.
    pub fn sign(&self, roles: &[Role]) -> Option<&Sign> {
        self.signs.iter().find(|sign| roles.contains(&sign.role))
    }

    /// How long the start-up took, from its first sign to its completion or failure, in seconds.
    pub fn took_s(&self) -> Option<f64> {
        let attempt = &self.attempt;
        let until = match attempt.end {
            AttemptEnd::Failed => attempt.failed_at,
            AttemptEnd::Completed => self.sign(&Role::UP)?.at,
            AttemptEnd::Stopped | AttemptEnd::Unknown => None,
        };
        seconds(attempt.began, until)
    }
}

/// From the first sign of a failed start-up to the exit of its process, in seconds.
pub(crate) fn way_out_s(start: &Start) -> Option<f64> {
    let exit = start.sign(&Role::EXIT)?;
    seconds(start.attempt.failed_at, exit.at)
}

/// The seconds from one time to a later one.
pub(crate) fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<f64> {
    let apart = to?.as_microsecond() - from?.as_microsecond();
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a start-up")]
    let seconds = apart as f64 / 1e6;
    (seconds >= 0.0).then_some(seconds)
}

#[derive(Debug, Default)]
struct Instance {
    timeline: Timeline,
    lines: VecDeque<Line>,
    heard: u64,
}

/// What is known of every instance so far.
#[derive(Debug)]
pub(crate) struct Collector {
    config: StartupConfig,
    markers: Markers,
    service: String,
    log_service: String,
    instances: BTreeMap<(Origin, String, String), Instance>,
    order: u64,
}

impl Collector {
    /// With the markers of `[startup]` and the limits in force here: those of `[application]`, else
    /// those of `[startup]`, which no time scale has touched.
    pub(crate) fn new(
        startup: Startup,
        application: &Application,
        scale: f64,
    ) -> Result<Self, ProbeError> {
        let mut config = startup.0;
        if application.limits.is_empty() {
            for limit in &mut config.limits {
                limit.seconds /= scale;
                limit.claimed = limit.claimed.map(|claimed| claimed / scale);
            }
        } else {
            let limit = |(name, setting): (&String, &shakedown_core::Setting<_>)| StartupLimit {
                name: name.clone(),
                seconds: shakedown_core::Span::get(setting.value).as_secs_f64(),
                claimed: None,
            };
            config.limits = application.limits.iter().map(limit).collect();
        }
        let markers = Markers::new(&config)
            .map_err(|error| ProbeError::configuration(error.to_string(), "startup"))?;
        Ok(Self {
            config,
            markers,
            service: application.service.clone(),
            log_service: application.log_service.clone(),
            instances: BTreeMap::new(),
            order: 0,
        })
    }

    /// The table `[startup]` with the limits in force.
    pub(crate) fn config(&self) -> &StartupConfig {
        &self.config
    }

    /// Takes one entry and says which markers it holds.
    pub(crate) fn take(&mut self, origin: Origin, entry: &Entry) -> Vec<Role> {
        let other = !self.log_service.is_empty() && entry.service != self.log_service;
        if origin == Origin::Logs && other {
            return Vec::new();
        }
        self.order += 1;
        let text = quotable(&entry.message);
        let signs: Vec<Sign> = self
            .markers
            .find(&entry.message)
            .iter()
            .map(|marker| Sign::of(marker, entry.at, self.order, quotable(marker.line)))
            .collect();
        let roles: Vec<Role> = signs.iter().map(|sign| sign.role).collect();
        let telling = !roles.is_empty() || entry.is_bad();
        // The silence before a failure is the application's, not the platform's.
        let time = entry.at.filter(|_| !entry.log.ends_with("system"));
        let instance = self.instance(origin, &entry.revision, &entry.instance);
        instance.timeline.signs.extend(signs);
        instance.timeline.times.extend(time.map(Timestamp::as_microsecond));
        let surplus = instance.timeline.signs.len().saturating_sub(SIGNS);
        instance.timeline.signs.drain(..surplus);
        let surplus = instance.timeline.times.len().saturating_sub(TIMES);
        instance.timeline.times.drain(..surplus);
        if instance.lines.len() >= LINES {
            instance.lines.pop_front();
        }
        instance.lines.push_back(Line {
            at: entry.at,
            severity: entry.severity.clone(),
            insert_id: entry.insert_id.clone(),
            log: entry.log.clone(),
            text,
            telling,
        });
        roles
    }

    /// Adds what no line says, for example that we saw the process exit.
    pub(crate) fn sign(&mut self, origin: Origin, instance: &str, mut sign: Sign) {
        self.order += 1;
        sign.order = self.order;
        self.instance(origin, "", instance).timeline.signs.push(sign);
    }

    /// Lets go of an instance.
    pub(crate) fn forget(&mut self, origin: Origin, instance: &str) {
        self.instances.retain(|(of, _, name), _| *of != origin || name != instance);
    }

    fn instance(&mut self, origin: Origin, revision: &str, instance: &str) -> &mut Instance {
        let key = (origin, revision.to_owned(), instance.to_owned());
        if self.instances.len() >= INSTANCES && !self.instances.contains_key(&key) {
            let quiet = self.instances.iter().min_by_key(|(_, instance)| instance.heard);
            if let Some(key) = quiet.map(|(key, _)| key.clone()) {
                self.instances.remove(&key);
            }
        }
        let instance = self.instances.entry(key).or_default();
        instance.heard = self.order;
        instance
    }

    /// Every attempt so far, in time order.
    pub(crate) fn starts(&self) -> Vec<Start> {
        let mut starts = Vec::new();
        for ((origin, revision, name), instance) in &self.instances {
            let mut attempts = instance.timeline.clone().attempts(&self.config);
            if *origin == Origin::Process {
                for attempt in &mut attempts {
                    if attempt.exit_source == "platform" {
                        // It was no platform that said so: we waited for the process ourselves.
                        "process".clone_into(&mut attempt.exit_source);
                    }
                }
            }
            let subject = Subject {
                service: self.service.clone(),
                revision: revision.clone(),
                instance: name.clone(),
            };
            starts.extend(attempts.into_iter().map(|attempt| {
                let during = |at: Option<Timestamp>| {
                    at.is_none() || (at >= attempt.began && at <= attempt.ended)
                };
                let signs = instance.timeline.signs.iter().filter(|sign| during(sign.at));
                let mut signs: Vec<Sign> = signs.cloned().collect();
                signs.sort_by_key(|sign| (sign.at, sign.order));
                let lines = instance.lines.iter().filter(|line| during(line.at));
                Start {
                    origin: *origin,
                    subject: subject.clone(),
                    signs,
                    lines: lines.cloned().collect(),
                    attempt,
                }
            }));
        }
        starts.sort_by_key(|start| start.attempt.began);
        starts
    }
}

/// Where a sign stands that no line says.
pub(crate) const WAITED: &str = "waited for";

/// An exit of a process of ours, as a sign.
pub(crate) fn exit_sign(at: Timestamp, code: Option<i32>, signal: Option<i32>) -> Sign {
    let (role, number, text) = match (code, signal) {
        (Some(code), _) => {
            (Role::ContainerExit, Some(code), format!("the process exited with {code}"))
        }
        (None, signal) => {
            let number = signal.unwrap_or_default();
            (Role::Killed, signal, format!("the process ended on signal {number}"))
        }
    };
    Sign {
        at: Some(at),
        order: 0,
        role,
        phase: None,
        number: number.map(f64::from),
        quote: Quote { at: Some(at), source: WAITED.into(), text },
        timeout: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collector(application: &str, scale: f64) -> Collector {
        let application: Application = toml::from_str(application).expect("a table");
        Collector::new(Startup::default(), &application, scale).expect("patterns")
    }

    fn entry(at_ms: i64, instance: &str, message: &str) -> Entry {
        let at = Timestamp::from_millisecond(1_758_000_000_000 + at_ms).expect("in range");
        Entry {
            at: Some(at),
            message: message.into(),
            instance: instance.into(),
            ..Entry::default()
        }
    }

    #[test]
    fn a_phase_that_times_out_is_measured_and_its_limit_named() {
        let mut seen =
            collector("limits = { initialization = \"75s\", table_setup = \"10s\" }", 1.0);
        for (at, line) in [
            (0, "DETERMINISTIC STARTUP SEQUENCE INITIATED"),
            (10, "PHASE TRANSITION -> INIT"),
            (100, "PHASE COMPLETED: INIT (0.090s)"),
            (110, "PHASE TRANSITION -> DATABASE"),
            (10_130, "Database initialization timeout after 25.0s"),
            (10_131, "PHASE FAILED: DATABASE - timeout after 25.0s"),
            (10_200, "Application startup failed. Exiting."),
        ] {
            seen.take(Origin::Logs, &entry(at, "a", line));
        }
        let starts = seen.starts();
        assert_eq!(starts.len(), 1, "{starts:?}");
        let attempt = &starts[0].attempt;
        assert_eq!((attempt.failed_phase.as_str(), attempt.timed_out), ("DATABASE", true));
        assert_eq!(attempt.claimed_timeout_s, Some(25.0));
        assert_eq!(attempt.measured_s, Some(10.021));
        assert_eq!(attempt.limit, "table_setup 10 s");
        assert_eq!(starts[0].took_s(), Some(10.131));
        assert_eq!(starts[0].subject.service, "backend");
    }

    #[test]
    fn without_limits_of_its_own_the_markers_limits_are_scaled() {
        let seen = collector("", 10.0);
        let limit = seen.config().limits.iter().find(|limit| limit.claimed == Some(7.5));
        assert!(limit.is_some(), "{:?}", seen.config().limits);
    }

    #[test]
    fn instances_are_kept_apart_and_other_services_out() {
        let mut seen = collector("log_service = \"backend\"", 1.0);
        let line = "PHASE TRANSITION -> INIT";
        let of = |service: &str, instance: &str| Entry {
            service: service.into(),
            ..entry(0, instance, line)
        };
        assert_eq!(seen.take(Origin::Logs, &of("backend", "a")), [Role::PhaseStarted]);
        assert!(seen.take(Origin::Logs, &of("auth", "b")).is_empty());
        seen.take(Origin::Logs, &of("backend", "c"));
        // What we run ourselves is always the application.
        seen.take(Origin::Process, &of("", "d"));
        let starts = seen.starts();
        let of: Vec<_> = starts.iter().map(|start| start.subject.instance.as_str()).collect();
        assert_eq!(of.len(), 3, "{of:?}");
    }

    #[test]
    fn an_exit_we_saw_ourselves_says_so() {
        let mut seen = collector("", 1.0);
        seen.take(Origin::Process, &entry(0, "p", "PHASE TRANSITION -> DATABASE"));
        seen.take(Origin::Process, &entry(50, "p", "PHASE FAILED: DATABASE - no"));
        let at = entry(60, "p", "").at.expect("set");
        seen.sign(Origin::Process, "p", exit_sign(at, Some(3), None));
        let starts = seen.starts();
        let attempt = &starts[0].attempt;
        assert_eq!((attempt.exit_code, attempt.exit_source.as_str()), (Some(3), "process"));
    }
}
