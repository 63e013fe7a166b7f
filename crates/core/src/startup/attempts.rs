//! From the marks of one instance to its attempts to start.

use jiff::Timestamp;

use super::markers::{Marker, Role};
use super::{StartupConfig, StartupLimit};
use crate::attempt::{Attempt, AttemptEnd, PhaseTime, Places, Quote};

/// Lines this close to the first sign of a failure belong to its burst, in microseconds.
const BURST_US: i64 = 50_000;
/// The platform's word about an exit may come this much later than the process's own, in seconds.
const LATE_EXIT_S: i64 = 30;
/// A message that names a limit belongs to a failure at most this much later, in seconds.
const HINT_S: f64 = 2.0;
/// A server's own line may come this much after those of the application it started, in seconds: it
/// writes to another stream, and a line without a time has that of its arrival.
const OTHER_STREAM_S: f64 = 2.0;
/// What dies this soon after it said where it listens never came up, in seconds.
const YOUNG_S: f64 = 10.0;
/// How many lines are quoted per attempt.
const MOST_WORDS: usize = 6;

/// A marker with its time and words.
#[derive(Clone, Debug, PartialEq)]
pub struct Sign {
    /// When. Signs without a time keep the order of their lines.
    pub at: Option<Timestamp>,
    /// Its place among lines of equal time.
    pub order: u64,
    /// What it says.
    pub role: Role,
    /// The phase.
    pub phase: Option<String>,
    /// The number.
    pub number: Option<f64>,
    /// The line.
    pub quote: Quote,
    /// Whether the line calls the failure a timeout.
    pub timeout: bool,
}

impl Sign {
    /// The sign that `marker` is, in a line of the time `at` and the place `order`, quoted as `text`.
    pub fn of(
        marker: &Marker<'_>,
        at: Option<Timestamp>,
        order: u64,
        text: impl Into<String>,
    ) -> Self {
        Self {
            at,
            order,
            role: marker.role,
            phase: marker.phase.clone(),
            number: marker.number,
            quote: Quote { at, source: String::new(), text: text.into() },
            timeout: marker.says_timeout(),
        }
    }
}

/// The signs of one instance.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The signs.
    pub signs: Vec<Sign>,
    /// The times of its entries, the earliest ones, in microseconds.
    pub times: Vec<i64>,
}

#[derive(Debug, Default)]
struct Building {
    attempt: Attempt,
    /// The phase that is open, and since when.
    open: Option<(String, Option<Timestamp>)>,
    /// When the phase it failed in began.
    phase_began: Option<Timestamp>,
    rank: Option<Role>,
    /// A message that names a limit, which may turn out to be the first sign of a failure.
    hint: Option<Sign>,
    workers: u32,
    /// The processes of the workers it booted.
    pids: Vec<f64>,
    /// All that failed is that the platform's start-up probe was not answered yet.
    unanswered: bool,
    /// What runs beside an application, or by itself, said that it is ready.
    side: Option<Option<Timestamp>>,
    stopped: bool,
    /// That it is up follows only from where it listens.
    listens: bool,
    /// What the server said about itself.
    server: Vec<Role>,
    /// When the application's own sequence said its first word.
    own_began: Option<Timestamp>,
    exited: bool,
    started: bool,
    completed: bool,
    own_sequence: bool,
}

impl Timeline {
    /// The attempts, in time order.
    pub fn attempts(mut self, config: &StartupConfig) -> Vec<Attempt> {
        self.times.sort_unstable();
        let key = |sign: &Sign| (sign.at, sign.order, sign.role, sign.quote.clone());
        self.signs.sort_by_cached_key(key);
        self.signs.dedup_by(|a, b| key(a) == key(b));
        let mut done: Vec<Building> = Vec::new();
        let mut current: Option<Building> = None;
        for sign in &self.signs {
            if current.as_ref().is_some_and(|building| building.is_over(sign)) {
                done.extend(current.take());
            }
            current.get_or_insert_with(Building::default).take(sign);
        }
        done.extend(current);
        let mut earlier: Option<Timestamp> = None;
        let mut attempts = Vec::new();
        for building in done {
            let ended = building.attempt.ended;
            if let Some(attempt) = building.finish(config, earlier, &self.times) {
                attempts.push(attempt);
            }
            earlier = ended.or(earlier);
        }
        attempts
    }
}

impl Building {
    /// Whether `sign` belongs to the next attempt.
    fn is_over(&self, sign: &Sign) -> bool {
        let begins = sign.role <= Role::Begun;
        if sign.role == Role::SideReady {
            return self.exited;
        }
        if !begins {
            let exit = matches!(sign.role, Role::ContainerExit | Role::Killed | Role::WorkerKilled);
            let later = seconds(self.attempt.ended, sign.at);
            let late = later.is_some_and(|s| s > LATE_EXIT_S as f64);
            // What exited fails no more: the lines that began the next attempt are not held.
            let again = matches!(sign.role, Role::PhaseFailed | Role::Failed | Role::ImportDeath)
                && later.is_some_and(|s| s > OTHER_STREAM_S);
            return self.exited && (again || (exit && late));
        }
        if self.exited {
            return true;
        }
        let Some(rank) = self.rank else { return false };
        let server =
            matches!(sign.role, Role::Server | Role::Worker | Role::Process | Role::Waiting);
        let late = seconds(self.own_began, sign.at).is_some_and(|s| s <= OTHER_STREAM_S);
        if server && late && !self.server.contains(&sign.role) {
            return false;
        }
        match sign.role {
            // The platform's clock against the container's: its line may come a little late.
            Role::Instance => seconds(self.attempt.began, sign.at).is_none_or(|s| s > 5.0),
            Role::Worker | Role::Process | Role::Waiting if self.workers > 1 => false,
            Role::Worker => rank >= Role::Process && (self.completed || self.attempt.failed()),
            role => role <= rank,
        }
    }

    /// Whether a sign is about a worker that an earlier start-up booted: a server that replaces its
    /// workers boots the new ones first, and then ends the old.
    fn is_about_an_older_worker(&self, sign: &Sign) -> bool {
        matches!(sign.role, Role::WorkerKilled | Role::Stop)
            && !self.pids.is_empty()
            && sign.number.is_some_and(|pid| !self.pids.contains(&pid))
    }

    fn take(&mut self, sign: &Sign) {
        match sign.role {
            Role::PortOpen | Role::Ready => return self.found(sign),
            Role::SideReady => {
                self.attempt.began = self.attempt.began.or(sign.at);
                self.side.get_or_insert(sign.at);
                return;
            }
            _ if self.is_about_an_older_worker(sign) => return,
            _ => {}
        }
        let attempt = &mut self.attempt;
        attempt.began = attempt.began.or(sign.at);
        attempt.ended = sign.at.or(attempt.ended);
        if sign.at.is_none() {
            let at = sign.order;
            let places =
                attempt.places.get_or_insert(Places { began: at, phase_began: at, ended: at });
            places.ended = at;
            if sign.role == Role::PhaseStarted && attempt.end != AttemptEnd::Failed {
                places.phase_began = at;
            }
        }
        if sign.role <= Role::PhaseCompleted {
            self.started = true;
            self.rank = Some(self.rank.map_or(sign.role, |rank| rank.max(sign.role)));
        }
        if matches!(sign.role, Role::Begun | Role::PhaseStarted) {
            self.own_began = self.own_began.or(sign.at);
        }
        match sign.role {
            Role::Worker => {
                self.workers += 1;
                self.pids.extend(sign.number);
                self.server.push(sign.role);
            }
            Role::Begun => self.own_sequence = true,
            Role::PhaseStarted => {
                self.own_sequence = true;
                self.enter(sign);
            }
            Role::PhaseCompleted => {
                self.own_sequence = true;
                self.leave(sign);
            }
            Role::ClaimedTimeout => {
                // Only a failure that follows makes it one: a retry says the same.
                if !matches!(attempt.end, AttemptEnd::Failed | AttemptEnd::Completed) {
                    self.hint = Some(sign.clone());
                }
            }
            Role::PhaseFailed => {
                self.own_sequence = true;
                if let Some(phase) = &sign.phase
                    && self.attempt.failed_phase.is_empty()
                {
                    self.attempt.failed_phase.clone_from(phase);
                }
                self.fail(sign);
            }
            Role::Failed => {
                if let Some(phase) = &sign.phase
                    && self.attempt.failed_phase.is_empty()
                {
                    self.attempt.failed_phase.clone_from(phase);
                }
                self.fail(sign);
            }
            Role::ImportDeath => {
                self.attempt.at_import = !self.own_sequence;
                self.fail(sign);
            }
            Role::NotReady | Role::Unanswered => {
                self.completed = false;
                self.fail(sign);
            }
            Role::Listening => {
                self.listens |= !self.completed;
                self.complete(sign.at);
            }
            Role::Completed => {
                self.listens = false;
                self.complete(sign.at);
            }
            Role::WorkerExit | Role::ContainerExit => self.exit(sign),
            Role::Killed | Role::WorkerKilled => {
                self.exited = true;
                self.forget_if_young(sign);
                if !self.completed && self.started {
                    self.fail(sign);
                }
            }
            Role::Stop => {
                self.exited = true;
                self.stopped = true;
                if attempt.end == AttemptEnd::Unknown {
                    attempt.end = AttemptEnd::Stopped;
                }
            }
            Role::Server | Role::Process | Role::Waiting => self.server.push(sign.role),
            Role::Instance | Role::PortOpen | Role::Ready | Role::SideReady => {}
        }
    }

    /// The platform's start-up probe was answered: that it was not before is no failure.
    fn found(&mut self, sign: &Sign) {
        if self.exited {
            return;
        }
        if self.unanswered {
            self.unanswered = false;
            let attempt = &mut self.attempt;
            attempt.end = AttemptEnd::Unknown;
            (attempt.failed_at, attempt.timed_out, attempt.silent) = (None, false, false);
            attempt.words.clear();
            if std::mem::take(&mut attempt.swallowed) {
                self.complete(sign.at);
            }
        }
        if sign.role == Role::Ready && self.attempt.end == AttemptEnd::Unknown {
            self.attempt.began = self.attempt.began.or(sign.at);
            self.complete(sign.at);
        }
    }

    /// Who listens and dies at once did not come up. A framework's own word stands.
    fn forget_if_young(&mut self, sign: &Sign) {
        let lived = seconds(self.attempt.completed_at, sign.at);
        if self.listens && !self.stopped && lived.is_some_and(|lived| lived <= YOUNG_S) {
            self.completed = false;
        }
    }

    fn enter(&mut self, sign: &Sign) {
        let Some(phase) = &sign.phase else { return };
        if self.open.as_ref().is_some_and(|(open, _)| open == phase) {
            return;
        }
        // The end of a phase is often written only when the next begins.
        if let Some((open, since)) = self.open.take() {
            self.set(&open, seconds(since, sign.at));
        }
        if self.attempt.phases.iter().all(|known| known.phase != *phase) {
            self.attempt.phases.push(PhaseTime { phase: phase.clone(), seconds: None });
        }
        self.open = Some((phase.clone(), sign.at));
    }

    fn leave(&mut self, sign: &Sign) {
        let Some(phase) = &sign.phase else { return };
        if self.attempt.phases.iter().all(|known| known.phase != *phase) {
            self.attempt.phases.push(PhaseTime { phase: phase.clone(), seconds: None });
        }
        let since = self.open.take_if(|(open, _)| open == phase).and_then(|(_, since)| since);
        self.set(phase, sign.number.or_else(|| seconds(since, sign.at)));
    }

    fn set(&mut self, phase: &str, took: Option<f64>) {
        let known = self.attempt.phases.iter_mut().find(|known| known.phase == phase);
        if let Some(known) = known
            && known.seconds.is_none()
        {
            known.seconds = took.map(milli);
        }
    }

    fn fail(&mut self, sign: &Sign) {
        let attempt = &mut self.attempt;
        if self.completed {
            // Not its start-up any more.
            return;
        }
        let hint = self.hint.take();
        let hint = hint.filter(|hint| seconds(hint.at, sign.at).is_none_or(|s| s <= HINT_S));
        let first = attempt.end != AttemptEnd::Failed;
        let only_ends = Role::EXIT.contains(&sign.role) && hint.is_none();
        attempt.silent = only_ends && (first || attempt.silent);
        self.unanswered = sign.role == Role::Unanswered && (first || self.unanswered);
        if let Some(hint) = hint {
            attempt.claimed_timeout_s = attempt.claimed_timeout_s.or(hint.number);
            attempt.timed_out = true;
            attempt.failed_at = attempt.failed_at.or(hint.at);
        }
        attempt.end = AttemptEnd::Failed;
        attempt.failed_at = attempt.failed_at.or(sign.at);
        attempt.timed_out |= sign.timeout;
        if attempt.words.len() < MOST_WORDS
            && !attempt.words.iter().any(|words| words.text == sign.quote.text)
        {
            attempt.words.push(sign.quote.clone());
        }
    }

    fn complete(&mut self, at: Option<Timestamp>) {
        match self.attempt.end {
            // A framework's "complete" after the application's own "failed": it was swallowed.
            AttemptEnd::Failed => self.attempt.swallowed = true,
            _ => {
                self.completed = true;
                self.attempt.end = AttemptEnd::Completed;
                // The server says so after the application: the last word counts.
                self.attempt.completed_at = at.or(self.attempt.completed_at);
            }
        }
    }

    fn exit(&mut self, sign: &Sign) {
        #[expect(clippy::cast_possible_truncation, reason = "an exit code")]
        let code = sign.number.map(|number| number as i32);
        self.exited = true;
        if let Some(code) = code {
            let source = if sign.role == Role::WorkerExit { "server" } else { "platform" };
            if self.attempt.exit_code.is_none() || source == "platform" {
                self.attempt.exit_code = Some(code);
                source.clone_into(&mut self.attempt.exit_source);
            }
            match code {
                0 if self.attempt.end == AttemptEnd::Unknown => {
                    self.attempt.end = AttemptEnd::Stopped
                }
                0 => {}
                _ => {
                    self.forget_if_young(sign);
                    self.fail(sign);
                }
            }
        }
    }

    fn finish(
        mut self,
        config: &StartupConfig,
        earlier: Option<Timestamp>,
        times: &[i64],
    ) -> Option<Attempt> {
        if let Some((open, since)) = self.open.take() {
            let end = self.attempt.failed_at.or_else(|| {
                (self.attempt.end == AttemptEnd::Completed).then_some(self.attempt.ended).flatten()
            });
            if self.attempt.failed() && self.attempt.failed_phase.is_empty() {
                self.attempt.failed_phase.clone_from(&open);
            }
            if open == self.attempt.failed_phase {
                self.phase_began = since;
            }
            self.set(&open, seconds(since, end));
        }
        // A proxy is up when it says so; beside an application that says anything itself, it is not it.
        let alone = self.server.is_empty() && !self.own_sequence;
        if let Some(side) = self.side.take().filter(|_| alone)
            && matches!(self.attempt.end, AttemptEnd::Unknown | AttemptEnd::Stopped)
        {
            self.complete(side);
        }
        let attempt = &mut self.attempt;
        attempt.phase_began = self.phase_began;
        // Whoever is only seen stopping started before the window: no attempt is held.
        if !self.started && matches!(attempt.end, AttemptEnd::Stopped | AttemptEnd::Unknown) {
            return None;
        }
        let micros = |at: Timestamp| at.as_microsecond();
        if attempt.end == AttemptEnd::Failed && !self.started {
            // Its first sign is its first line of any sort after the attempt before.
            let after = earlier.map_or(i64::MIN, micros);
            let first = times.iter().copied().find(|time| *time > after);
            let first = first.and_then(|time| Timestamp::from_microsecond(time).ok());
            attempt.began = attempt.began.into_iter().chain(first).min();
        }
        if let Some(failed) = attempt.failed_at.map(micros) {
            let at = times.partition_point(|time| *time < failed - BURST_US);
            let after = earlier.map_or(i64::MIN, micros);
            let last = at.checked_sub(1).map(|at| times[at]).filter(|time| *time > after);
            #[expect(clippy::cast_precision_loss, reason = "microseconds of a start-up")]
            let silence = last.map(|last| (failed - last) as f64 / 1e6).filter(|s| *s >= 1.0);
            measure(attempt, self.phase_began, silence, self.started, config);
        }
        attempt.reached_database = reached(attempt, config);
        attempt.failed_in_database =
            !attempt.failed_phase.is_empty() && attempt.failed_phase == config.database_phase;
        Some(self.attempt)
    }
}

/// Which wait ended in the failure, and which limit it was. Where the lines of a start-up that are
/// held begin with its failure (`whole` is false), the silence before it may be theirs who cut the
/// export: it is a wait only where it has the length of a limit.
fn measure(
    attempt: &mut Attempt,
    phase_began: Option<Timestamp>,
    silence: Option<f64>,
    whole: bool,
    config: &StartupConfig,
) {
    let phase = seconds(phase_began, attempt.failed_at);
    let close = |measured: f64, limit: f64| {
        measured >= limit - 0.1 && measured - limit <= limit.mul_add(0.05, 0.5)
    };
    let claimed = attempt.claimed_timeout_s;
    let of_a_limit = |wait: &f64| {
        let claimed_fits = claimed.is_some_and(|claimed| close(*wait, claimed));
        claimed_fits || config.limits.iter().any(|limit| close(*wait, limit.seconds))
    };
    let silence = silence.filter(|wait| whole || of_a_limit(wait));
    let measured = match (phase, claimed) {
        (Some(phase), Some(claimed)) if close(phase, claimed) => Some(phase),
        _ => silence.or(phase),
    };
    if !attempt.timed_out && attempt.failed_phase.is_empty() {
        return;
    }
    attempt.measured_s = measured.map(milli);
    let (Some(measured), true) = (measured, attempt.timed_out) else { return };
    if let Some(claimed) = claimed.filter(|claimed| close(measured, *claimed)) {
        attempt.limit = format!("the claimed {claimed} s");
        return;
    }
    let fits = config
        .limits
        .iter()
        .filter(|limit| limit.claimed.is_none() || limit.claimed == claimed)
        .filter(|limit| close(measured, limit.seconds));
    let apart = |limit: &StartupLimit| (measured - limit.seconds).abs();
    // The first named wins where several limits have one length: their order says which fires.
    let best = fits.reduce(|best, next| if apart(next) < apart(best) { next } else { best });
    if let Some(limit) = best {
        attempt.limit = format!("{} {} s", limit.name, limit.seconds);
    }
}

/// Whether the attempt came as far as the database phase.
fn reached(attempt: &Attempt, config: &StartupConfig) -> Option<bool> {
    let index = |name: &str| config.phases.iter().position(|phase| phase == name);
    let database = index(&config.database_phase);
    let furthest = attempt
        .phases
        .iter()
        .map(|phase| phase.phase.as_str())
        .chain(Some(attempt.failed_phase.as_str()))
        .filter_map(index)
        .max();
    match (furthest, database) {
        (Some(furthest), Some(database)) => Some(furthest >= database),
        _ if attempt.at_import => Some(false),
        _ => None,
    }
}

fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a start-up")]
    let apart =
        |from: Timestamp, to: Timestamp| (to.as_microsecond() - from.as_microsecond()) as f64 / 1e6;
    Some(apart(from?, to?)).filter(|seconds| *seconds >= 0.0)
}

fn milli(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::Markers;

    #[test]
    fn the_server_s_own_lines_may_come_after_the_application_s() {
        let config: StartupConfig = toml::from_str(
            "phases = [\"INIT\"]\nbegun = [\"SEQUENCE INITIATED\"]\nphase_started = ['TRANSITION -> (?P<phase>\\w+)']",
        )
        .unwrap();
        let markers = Markers::new(&config).unwrap();
        let lines = [
            (10.0, "Starting new instance. Reason: AUTOSCALING"),
            (13.1, "SEQUENCE INITIATED"),
            (13.2, "TRANSITION -> INIT"),
            (13.3, "Started server process [1]"),
            (13.3, "Waiting for application startup."),
            (14.0, "Application startup failed. Exiting."),
            (19.0, "Started server process [1]"),
        ];
        let mut timeline = Timeline::default();
        for (order, (at, line)) in lines.into_iter().enumerate() {
            let at = Timestamp::from_millisecond((at * 1000.0) as i64).unwrap();
            timeline.signs.extend(
                markers.find(line).iter().map(|m| Sign::of(m, Some(at), order as u64, line)),
            );
        }
        let attempts = timeline.attempts(&config);
        assert_eq!(attempts.len(), 2, "{attempts:#?}");
        assert_eq!((attempts[0].end, attempts[0].phases.len()), (AttemptEnd::Failed, 1));
    }
}
