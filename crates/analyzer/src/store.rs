//! The bounded store of decisive entries: what is kept of a log of any length.
//!
//! Counts are exact. Of the lines themselves the first and the last few per service, instance and
//! kind are kept, by time and never by the order of calls, so that the result does not depend on
//! the order of entries or on which worker saw them. Where a bound was reached, the coverage says
//! so ([`Collected::approximated`]).

mod answers;
mod line;
mod observed;
mod pieces;
mod times;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use jiff::Timestamp;
use shakedown_core::attempt::{Held, Tally, Traffic};
use shakedown_core::redact::quotable;
use shakedown_core::startup::{Role, Sign, Timeline};

use crate::entry::{Entry, EntrySink, FileId, LogName, Origin, PayloadKind, Severity};
use crate::read::audit::Audit;
use crate::signals::Search;

use answers::Answers;
pub use line::{Bounded, Line, source};
use line::{Counted, line_of};
use pieces::Piece;
use times::Times;

/// First and last lines kept per service, instance and signal.
const KEEP: usize = 6;
/// Instances told apart per service.
const INSTANCES: usize = 1024;
/// Signs kept per instance, first and last.
const SIGNS: usize = 256;
/// Administrative calls kept per service, first and last.
const CALLS: usize = 128;

/// How a file is called in a quote's source.
pub type SourceName<'n> = dyn Fn(FileId) -> String + 'n;

#[derive(Debug, Default)]
struct Instance {
    signs: Vec<SignKey>,
    /// Those of a summary's rows.
    summed: Vec<SignKey>,
    times: Times,
    lines: BTreeMap<usize, Bounded<Line>>,
    /// Lines of tracebacks that are entries of their own.
    pieces: Vec<Piece>,
}

/// Revision and instance, to find what is kept under an owned pair of them.
#[derive(Clone, Copy, Debug, Hash)]
struct Place<'a>(&'a str, &'a str);

impl Equivalent<(String, String)> for Place<'_> {
    fn equivalent(&self, key: &(String, String)) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

impl From<&Place<'_>> for (String, String) {
    fn from(place: &Place<'_>) -> Self {
        (place.0.to_owned(), place.1.to_owned())
    }
}

/// A sign with the order it is kept by.
#[derive(Clone, Debug, PartialEq)]
struct SignKey(Sign, Line);

impl Eq for SignKey {}

impl PartialOrd for SignKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SignKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |sign: &Self| (sign.0.at, sign.0.order, sign.0.role);
        key(self).cmp(&key(other)).then_with(|| self.1.cmp(&other.1))
    }
}

#[derive(Debug, Default)]
struct Service {
    held: Held,
    classified_errors: u64,
    instances: HashMap<(String, String), Instance>,
    tallies: BTreeMap<usize, Counted>,
    answers: Answers,
    calls: Vec<(Line, Audit)>,
    tests: Counted,
    /// Entries that are lines of a summary.
    summed: u64,
    folded: bool,
}

/// Collects what matters of every entry it is given.
pub struct Collector {
    search: Arc<Search>,
    services: HashMap<String, Service>,
    untimed: bool,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("services", &self.services.len()).finish_non_exhaustive()
    }
}

/// All that was collected about one service.
#[derive(Debug)]
pub struct Collected {
    /// The service.
    pub service: String,
    /// What is held.
    pub held: Held,
    /// Whether a bound was reached.
    pub approximated: bool,
    /// Signal, instance, lines.
    pub lines: Vec<(usize, String, Vec<Line>)>,
    /// How often each signal was seen.
    pub tallies: Vec<(usize, Tally)>,
    /// The answers.
    pub traffic: Vec<Traffic>,
    /// Revision, instance, its signs.
    pub timelines: Vec<(String, String, Timeline)>,
    /// The administrative calls.
    pub calls: Vec<(Line, Audit)>,
    /// Failures of tests: how many, first, last.
    pub tests: (u64, Option<Timestamp>, Option<Timestamp>),
}

impl Collector {
    /// A collector for one worker.
    pub fn new(search: Arc<Search>) -> Self {
        Self { search, services: HashMap::new(), untimed: false }
    }

    /// What was collected, by service.
    pub fn finish(self, names: &SourceName<'_>) -> Vec<Collected> {
        let Self { search, mut services, .. } = self;
        give_summary_to_the_only_service(&mut services);
        let mut services: Vec<_> = services.into_iter().collect();
        services.sort_by(|a, b| a.0.cmp(&b.0));
        services.into_iter().map(|(name, service)| service.finish(name, &search, names)).collect()
    }
}

impl EntrySink for Collector {
    fn entry(&mut self, entry: &Entry<'_>) {
        let named;
        let name = if entry.service.is_empty() {
            named = service_of_call(entry);
            named.as_str()
        } else {
            entry.service
        };
        self.untimed |= entry.time.is_none();
        let service = match self.services.get_mut(name) {
            Some(service) => service,
            None => self.services.entry(name.to_owned()).or_default(),
        };
        service.take(entry, &self.search);
    }

    fn merge(&mut self, other: Self) {
        self.untimed |= other.untimed;
        for (name, theirs) in other.services {
            match self.services.entry(name) {
                hashbrown::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(theirs);
                }
                hashbrown::hash_map::Entry::Occupied(mut ours) => ours.get_mut().merge(theirs),
            }
        }
    }
}

/// A summary of one service's log that does not name it is about that service.
fn give_summary_to_the_only_service(services: &mut HashMap<String, Service>) {
    let summary = services.get("").is_some_and(|nobody| nobody.summed == nobody.held.entries);
    if summary
        && services.len() == 2
        && let Some(summary) = services.remove("")
        && let Some(only) = services.values_mut().next()
    {
        only.merge(summary);
    }
}

/// The service an administrative call is about, out of its resource's name.
fn service_of_call(entry: &Entry<'_>) -> String {
    let Some(call) = &entry.audit else { return String::new() };
    let mut parts = call.resource.split('/');
    while let Some(part) = parts.next() {
        if part == "services" {
            return parts.next().unwrap_or_default().to_owned();
        }
    }
    String::new()
}

/// The signs of a summary that a start-up failed. How long anything took, and which exit was its,
/// cannot be told from rows of different moments; nor, where one says that a start-up completed,
/// which was the last.
fn failures_of(summed: Vec<SignKey>, came_up: bool) -> impl Iterator<Item = SignKey> {
    use Role::{ClaimedTimeout, Failed, ImportDeath, PhaseFailed};
    let failure = [ClaimedTimeout, PhaseFailed, Failed, ImportDeath];
    summed.into_iter().filter(move |SignKey(sign, _)| !came_up && failure.contains(&sign.role))
}

impl Service {
    fn take(&mut self, entry: &Entry<'_>, search: &Search) {
        let repeat = entry.repeat.max(1);
        let error = entry.severity >= Severity::Error;
        self.hold(entry, repeat, error);
        if entry.origin == Origin::TestResult {
            self.tests.add(repeat, entry.time, entry.time);
            return;
        }
        if let Some(audit) = &entry.audit {
            self.calls.push((line_of(entry, &audit.status_message), Audit::clone(audit)));
            if self.calls.len() > CALLS * 8 {
                self.shrink_calls();
            }
            // A call has no instance and starts nothing: its words count, its markers do not.
            if !audit.is_refused_call() {
                let mut found = search.look(entry, &entry.message);
                found.marks.clear();
                self.remember(entry, &found);
            }
            return;
        }
        if let Some(piece) = Piece::of(entry) {
            self.put_aside(piece, entry, search);
            return;
        }
        let found = search.look(entry, &entry.message);
        self.answers.take(entry, found.access);
        if error && (!found.signals.is_empty() || !found.marks.is_empty() || entry.http.is_some()) {
            self.classified_errors += repeat;
        }
        if entry.origin == Origin::Summary {
            // A summary's words have no moment: they are counted and kept, and what is read out of
            // them is no more than that a start-up failed, see `failures_of`.
            self.summed += repeat;
            for hit in &found.signals {
                self.tallies.entry(hit.signal).or_default().add(repeat, entry.time, entry.time);
            }
        }
        self.remember(entry, &found);
    }

    fn hold(&mut self, entry: &Entry<'_>, repeat: u64, error: bool) {
        let held = &mut self.held;
        if let Some(time) = entry.time {
            held.from = Some(held.from.map_or(time, |from| from.min(time)));
            held.to = Some(held.to.map_or(time, |to| to.max(time)));
        }
        if entry.completes {
            // Its copy without words was counted.
            held.without_payload = held.without_payload.saturating_sub(repeat);
            return;
        }
        held.entries += repeat;
        held.errors += if error { repeat } else { 0 };
        if entry.payload == PayloadKind::None {
            held.without_payload += repeat;
        }
        let platform =
            matches!(entry.log, LogName::System | LogName::AuditActivity | LogName::AuditSystem);
        if !platform && entry.audit.is_none() {
            held.own += repeat;
        }
    }

    /// Under which instance an entry is kept.
    fn place_of<'e>(&mut self, entry: &Entry<'e>) -> Place<'e> {
        let place = Place(entry.revision, entry.instance);
        if self.instances.len() < INSTANCES || self.instances.contains_key(&place) {
            return place;
        }
        self.folded = true;
        Place("", "")
    }

    fn remember(&mut self, entry: &Entry<'_>, found: &crate::signals::Findings<'_, '_>) {
        let place = self.place_of(entry);
        let instance = match self.instances.get_mut(&place) {
            Some(instance) => instance,
            None => self.instances.entry((&place).into()).or_default(),
        };
        // The silence before a failure is the application's: requests are the platform's lines.
        let spoke = entry.http.is_none()
            && entry.audit.is_none()
            && entry.log != LogName::System
            && entry.origin == Origin::Log;
        if let Some(time) = entry.time.filter(|_| spoke) {
            instance.times.push(time.as_microsecond());
        }
        let signs = match entry.origin {
            Origin::Log => &mut instance.signs,
            Origin::Summary => &mut instance.summed,
            Origin::TestResult => &mut Vec::new(),
        };
        for mark in &found.marks {
            let line = line_of(entry, mark.line);
            let sign = Sign::of(mark, entry.time, line.order, line.text.clone());
            signs.push(SignKey(sign, line));
        }
        if signs.len() >= SIGNS * 8 {
            shrink_signs(signs);
        }
        for hit in &found.signals {
            let mut line = line_of(entry, &hit.line);
            line.captured = hit
                .captured
                .iter()
                .map(|(name, value)| ((*name).to_owned(), quotable(value)))
                .collect();
            line.tolerated = hit.tolerated;
            instance.lines.entry(hit.signal).or_insert_with(|| Bounded::new(KEEP)).push(line);
            if entry.origin == Origin::Log {
                self.tallies.entry(hit.signal).or_default().add(
                    entry.repeat.max(1),
                    entry.time,
                    entry.time,
                );
            }
        }
    }

    fn shrink_calls(&mut self) {
        self.calls.sort_by(|a, b| a.0.cmp(&b.0));
        let surplus = self.calls.len().saturating_sub(CALLS * 2);
        if surplus > 0 {
            self.calls.drain(CALLS..CALLS + surplus);
        }
    }

    fn merge(&mut self, other: Self) {
        let (held, theirs) = (&mut self.held, other.held);
        held.entries += theirs.entries;
        held.without_payload += theirs.without_payload;
        held.errors += theirs.errors;
        held.own += theirs.own;
        held.cut |= theirs.cut;
        held.from = held.from.into_iter().chain(theirs.from).min();
        held.to = held.to.into_iter().chain(theirs.to).max();
        self.classified_errors += other.classified_errors;
        self.summed += other.summed;
        self.folded |= other.folded;
        self.tests.add(other.tests.count, other.tests.first, other.tests.last);
        for (key, theirs) in other.instances {
            let ours = self.instances.entry(key).or_default();
            ours.signs.extend(theirs.signs);
            if ours.signs.len() >= SIGNS * 8 {
                shrink_signs(&mut ours.signs);
            }
            ours.summed.extend(theirs.summed);
            if ours.summed.len() >= SIGNS * 8 {
                shrink_signs(&mut ours.summed);
            }
            ours.times.merge(theirs.times);
            ours.pieces.extend(theirs.pieces);
            for (signal, lines) in theirs.lines {
                ours.lines.entry(signal).or_insert_with(|| Bounded::new(KEEP)).merge(lines);
            }
        }
        for (signal, theirs) in other.tallies {
            self.tallies.entry(signal).or_default().add(theirs.count, theirs.first, theirs.last);
        }
        self.answers.merge(other.answers);
        self.calls.extend(other.calls);
    }

    fn finish(mut self, service: String, search: &Search, names: &SourceName<'_>) -> Collected {
        self.join(search);
        let mut approximated = self.folded;
        let mut lines = Vec::new();
        let mut timelines = Vec::new();
        let came_up = self.instances.values().any(|instance| {
            instance.summed.iter().any(|SignKey(sign, _)| sign.role == Role::Completed)
        });
        let mut instances: Vec<_> = std::mem::take(&mut self.instances).into_iter().collect();
        instances.sort_by(|a, b| a.0.cmp(&b.0));
        for ((revision, name), mut instance) in instances {
            instance.signs.extend(failures_of(instance.summed, came_up));
            shrink_signs(&mut instance.signs);
            for (signal, kept) in std::mem::take(&mut instance.lines) {
                approximated |= kept.dropped;
                lines.push((signal, name.clone(), kept.into_sorted()));
            }
            let signs = instance.signs.into_iter().map(|SignKey(mut sign, line)| {
                sign.quote.source = source(names, &line);
                sign
            });
            let signs = signs.collect();
            timelines.push((
                revision,
                name,
                Timeline { signs, times: instance.times.into_sorted() },
            ));
        }
        lines.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        self.shrink_calls();
        let tallies = self.tallies.into_iter().map(|(index, counted)| {
            let signal = search.signal(index);
            let (signal, fact) = (signal.id.to_owned(), signal.kind.to_owned());
            let Counted { count, first, last } = counted;
            (index, Tally { signal, fact, count, first, last })
        });
        self.held.unclassified = self.held.errors.saturating_sub(self.classified_errors);
        Collected {
            service,
            approximated,
            lines,
            tallies: tallies.collect(),
            traffic: self.answers.finish(names),
            timelines,
            calls: self.calls,
            tests: (self.tests.count, self.tests.first, self.tests.last),
            held: self.held,
        }
    }
}

fn shrink_signs(signs: &mut Vec<SignKey>) {
    signs.sort_unstable();
    signs.dedup();
    let surplus = signs.len().saturating_sub(SIGNS * 2);
    if surplus > 0 {
        signs.drain(SIGNS..SIGNS + surplus);
    }
}
