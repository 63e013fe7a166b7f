//! What is a failed start-up and what is not, over the lines of one instance.

use jiff::Timestamp;
use shakedown_core::StartupConfig;
use shakedown_core::attempt::{Attempt, AttemptEnd};
use shakedown_core::startup::{Markers, Sign, Timeline};

/// The attempts that lines make, each with its second.
fn attempts(lines: &[(i64, &str)]) -> Vec<Attempt> {
    let config: StartupConfig = toml::from_str(
        "phases = ['INIT', 'DATABASE']\ndatabase_phase = 'DATABASE'\nphase_started = ['TRANSITION -> (?P<phase>\\w+)']\nphase_failed = ['PHASE FAILED: (?P<phase>\\w+)']",
    )
    .unwrap();
    let markers = Markers::new(&config).unwrap();
    let mut timeline = Timeline::default();
    for (order, (second, line)) in (0..).zip(lines) {
        let at = Timestamp::from_second(1_770_000_000 + second).unwrap();
        let signs = markers.find(line);
        timeline.signs.extend(signs.iter().map(|m| Sign::of(m, Some(at), order, *line)));
        timeline.times.push(at.as_microsecond());
    }
    timeline.attempts(&config)
}

fn ends(lines: &[(i64, &str)]) -> Vec<AttemptEnd> {
    attempts(lines).iter().map(|attempt| attempt.end).collect()
}

const INSTANCE: (i64, &str) = (0, "Starting new instance. Reason: AUTOSCALING");

#[test]
fn a_probe_that_is_answered_at_last_was_only_early() {
    use AttemptEnd::{Completed, Failed, Unknown};
    let early = "STARTUP HTTP probe failed 1 time consecutively for container \"a-1\"";
    let found = "STARTUP HTTP probe succeeded after 4 attempts for container \"a-1\"";
    assert_eq!(ends(&[INSTANCE, (10, early), (20, early), (30, found)]), [Completed]);
    assert_eq!(ends(&[INSTANCE, (10, early), (20, early)]), [Failed]);
    // That somebody listens is less than that the application answers.
    let tcp = ["STARTUP TCP probe failed 1 time consecutively", "STARTUP TCP probe succeeded"];
    assert_eq!(ends(&[INSTANCE, (10, tcp[0]), (30, tcp[1])]), [Unknown]);
    let complete = "Application startup complete.";
    assert_eq!(ends(&[INSTANCE, (10, tcp[0]), (20, complete), (30, tcp[1])]), [Completed]);
    // What failed otherwise stays failed, and so does a port that another holds.
    let failed = "PHASE FAILED: DATABASE - no";
    assert_eq!(ends(&[INSTANCE, (5, failed), (10, early), (30, tcp[1])]), [Failed]);
    let taken = "[Errno 98] error while attempting to bind on address ('0.0.0.0', 80)";
    assert_eq!(ends(&[INSTANCE, (5, taken), (30, tcp[1])]), [Failed]);
}

#[test]
fn what_listens_has_started_unless_it_dies_at_once() {
    use AttemptEnd::{Completed, Failed, Unknown};
    let died = "Container terminated on signal 6.";
    for line in [
        "painter listening on :8080",
        "Server listening on port 3000",
        "level=INFO msg=\"listening\" addr=:8080",
        "Now listening on: http://[::]:8080",
        "listening on http://0.0.0.0:8080",
    ] {
        assert_eq!(ends(&[INSTANCE, (1, line), (60, died)]), [Completed], "{line}");
        assert_eq!(ends(&[INSTANCE, (1, line), (4, died)]), [Failed], "{line}");
        assert_eq!(ends(&[INSTANCE, (1, line), (4, "Container called exit(1).")]), [Failed]);
    }
    // A framework's own word about a start-up stands.
    assert_eq!(ends(&[INSTANCE, (1, "Application startup complete."), (4, died)]), [Completed]);
    for line in [
        "Metrics server listening on :9090",
        "Debugger listening on ws://127.0.0.1:9229/0f",
        "[acme:europe-west1:main] Listening on 127.0.0.1:5432",
        "[1] [INFO] Listening at: http://0.0.0.0:8000 (1)",
        "listening on IPv4 address \"0.0.0.0\", port 5432",
    ] {
        let ends = ends(&[INSTANCE, (1, line)]);
        assert_eq!(ends, [Unknown], "{line}");
    }
}

#[test]
fn a_proxy_is_up_by_its_own_word_and_an_application_beside_it_is_not() {
    use AttemptEnd::{Completed, Unknown};
    let ready = "The proxy has started successfully and is ready for new connections!";
    let stop = "SIGTERM signal received. Shutting down...";
    assert_eq!(ends(&[(1, ready)]), [Completed]);
    assert_eq!(ends(&[(1, ready), (600, stop)]), [Completed]);
    assert_eq!(ends(&[INSTANCE, (1, ready), (2, "Waiting for application startup.")]), [Unknown]);
}

#[test]
fn an_older_worker_that_is_killed_is_no_failed_start() {
    let reload = [
        (0, "Starting gunicorn 21.2.0"),
        (0, "Booting worker with pid: 7"),
        (0, "Booting worker with pid: 8"),
        (100, "Handling signal: hup"),
        (101, "Booting worker with pid: 9"),
        (101, "Booting worker with pid: 10"),
        (102, "Worker (pid:7) was sent SIGTERM!"),
        (200, "Handling signal: hup"),
        (201, "Booting worker with pid: 11"),
        (202, "Worker (pid:9) was sent SIGTERM!"),
        (232, "Worker (pid:9) was sent SIGKILL! Perhaps out of memory?"),
    ];
    assert!(attempts(&reload).iter().all(|attempt| !attempt.failed()), "{:?}", attempts(&reload));
    // The same of a worker that has just booted.
    let mut killed = reload;
    killed[10].1 = "Worker (pid:11) was sent SIGKILL! Perhaps out of memory?";
    assert!(attempts(&killed).iter().any(Attempt::failed));
}

#[test]
fn a_phase_that_was_open_at_an_exit_was_not_said_to_fail() {
    let begun = (5, "TRANSITION -> DATABASE");
    let exit = (30, "Container called exit(3).");
    let silent = attempts(&[INSTANCE, begun, exit]);
    assert!(silent[0].failed() && silent[0].silent && silent[0].failed_in_database);
    for said in ["PHASE FAILED: DATABASE - no", "Application startup failed. Exiting."] {
        let told = attempts(&[INSTANCE, begun, (29, said), exit]);
        assert!(told[0].failed() && !told[0].silent, "{said}");
    }
}
