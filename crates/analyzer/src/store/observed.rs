//! Log lines and start-up events that probes recorded: collected as if they stood in a log.

use shakedown_core::evidence::{Body, LogEntry, Observation, StartupEvent};
use shakedown_core::startup::{Marker, Role, Sign};

use super::line::line_of;
use super::{Collector, SignKey};
use crate::entry::{
    Entry, EntrySink, FileId, Labels, Location, LogName, Origin, PayloadKind, Severity,
};

impl Collector {
    /// Whether an observation is one that [`observe`](Self::observe) collects.
    pub fn takes(observation: &Observation) -> bool {
        matches!(observation.body, Body::LogEntry(_) | Body::Startup(_))
    }

    /// Takes the log lines and start-up events out of `observations` and gives the rest back. Their
    /// quotes name `file` and the place in the list.
    pub fn observe(
        &mut self,
        mut observations: Vec<Observation>,
        file: FileId,
    ) -> Vec<Observation> {
        let mut location = Location { file, offset: 0 };
        observations.retain(|observation| {
            match &observation.body {
                Body::LogEntry(said) => self.entry(&entry(observation, said, location)),
                Body::Startup(event) => self.event(observation, event, location),
                _ => {}
            }
            location.offset += 1;
            !Self::takes(observation)
        });
        observations
    }

    fn event(&mut self, observation: &Observation, event: &StartupEvent, location: Location) {
        let role = match event.event.as_str() {
            "started" => Role::PhaseStarted,
            "completed" => Role::PhaseCompleted,
            "failed" => Role::PhaseFailed,
            "exited" => Role::WorkerExit,
            _ => return,
        };
        // The words of the event, which may also state a fact, count as a line of the service.
        let words = LogEntry {
            severity: if role == Role::PhaseFailed { "ERROR" } else { "INFO" }.to_owned(),
            message: event.message.clone(),
            ..LogEntry::default()
        };
        let said = entry(observation, &words, location);
        if !event.message.is_empty() {
            self.entry(&said);
        }
        let text = match event.message.as_str() {
            "" => format!("{} {}", event.phase, event.event),
            message => format!("{} {}: {message}", event.phase, event.event),
        };
        let line = line_of(&said, &text);
        let marker = Marker {
            role,
            phase: (!event.phase.is_empty()).then(|| event.phase.clone()),
            number: match role {
                Role::PhaseCompleted => event.seconds,
                _ => event.code.map(f64::from),
            },
            line: &event.message,
        };
        let sign =
            Sign::of(&marker, Some(observation.moment.at), location.offset, line.text.clone());
        let subject = &observation.subject;
        let service = self.services.entry(subject.service.clone()).or_default();
        let key = (subject.revision.clone(), subject.instance.clone());
        service.instances.entry(key).or_default().signs.push(SignKey(sign, line));
    }
}

/// A recorded log line as an entry.
fn entry<'o>(observation: &'o Observation, said: &'o LogEntry, location: Location) -> Entry<'o> {
    let subject = &observation.subject;
    let severity = Severity::from_word(said.severity.as_bytes())
        .or_else(|| Severity::from_text(&said.message))
        .unwrap_or_default();
    Entry {
        time: Some(observation.moment.at),
        clock: observation.moment.clock,
        resolution_ms: observation.moment.resolution_ms,
        severity,
        service: &subject.service,
        revision: &subject.revision,
        instance: &subject.instance,
        insert_id: &said.insert_id,
        log: LogName::from_name(said.log.as_bytes()),
        message: said.message.as_str().into(),
        payload: if said.message.is_empty() { PayloadKind::None } else { PayloadKind::Text },
        http: None,
        audit: None,
        labels: Labels::default(),
        origin: Origin::Log,
        repeat: 1,
        completes: false,
        cut: false,
        template: 0,
        location,
        provenance: observation.provenance,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shakedown_core::evidence::{ClockSource, Moment, Subject};
    use shakedown_core::startup::Markers;
    use shakedown_core::{Provenance, StartupConfig, Vantage};

    use super::*;
    use crate::signals::Search;

    fn at(second: i64, body: Body) -> Observation {
        let at = jiff::Timestamp::from_second(1_770_000_000 + second).unwrap();
        Observation {
            moment: Moment { at, clock: ClockSource::Container, resolution_ms: 1, skew_ms: 0 },
            subject: Subject { instance: "i".into(), ..Subject::service("backend") },
            vantage: Vantage::CloudRun,
            provenance: Provenance::Measured,
            body,
        }
    }

    fn event(phase: &str, event: &str, message: &str) -> Body {
        let (phase, event, message) = (phase.into(), event.into(), message.into());
        Body::Startup(StartupEvent { phase, event, seconds: None, code: None, message })
    }

    #[test]
    fn recorded_events_and_lines_make_one_attempt_to_start() {
        let config = StartupConfig {
            phases: vec!["INIT".into(), "DATABASE".into()],
            database_phase: "DATABASE".into(),
            ..StartupConfig::default()
        };
        let search = Search::new([], Markers::new(&config).unwrap()).unwrap();
        let mut collector = Collector::new(Arc::new(search));
        let exit = LogEntry { message: "Container called exit(3).".into(), ..LogEntry::default() };
        let other = Body::Probed(shakedown_core::evidence::Probed {
            probe: "p".into(),
            ended: shakedown_core::Verdict::Pass,
        });
        let rest = collector.observe(
            vec![
                at(0, event("INIT", "started", "")),
                at(1, event("DATABASE", "started", "")),
                at(11, event("DATABASE", "failed", "timeout after 10.0s")),
                at(12, Body::LogEntry(exit)),
                at(13, other),
            ],
            FileId(0),
        );
        assert_eq!(rest.len(), 1, "what is neither is given back");
        let collected = collector.finish(&|_| "session".to_owned());
        let timeline = collected[0].timelines[0].2.clone();
        let attempts = timeline.attempts(&config);
        let [attempt] = attempts.as_slice() else { panic!("{attempts:?}") };
        assert!(attempt.failed() && attempt.failed_in_database && attempt.timed_out);
        assert_eq!((attempt.exit_code, attempt.measured_s), (Some(3), Some(10.0)));
        assert_eq!(attempt.phases[0].seconds, Some(1.0));
    }
    #[test]
    fn an_exit_that_was_seen_carries_its_code() {
        let config = StartupConfig { phases: vec!["INIT".into()], ..StartupConfig::default() };
        let search = Search::new([], Markers::new(&config).unwrap()).unwrap();
        let mut collector = Collector::new(Arc::new(search));
        let mut exit = event("", "exited", "the process exited with 7");
        let Body::Startup(exited) = &mut exit else { unreachable!("it is one") };
        exited.code = Some(7);
        collector.observe(vec![at(0, event("INIT", "started", "")), at(1, exit)], FileId(0));
        let collected = collector.finish(&|_| "session".to_owned());
        let attempts = collected[0].timelines[0].2.clone().attempts(&config);
        assert_eq!((attempts[0].exit_code, attempts[0].failed()), (Some(7), true));
    }
}
