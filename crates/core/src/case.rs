//! The evidence of one service, as a classifier wants to see it: which facts stood at which death,
//! which requests failed meanwhile, and how much all of it weighs.
//!
//! The rules here are the ones every cause shares; `docs/guide/confidence.md` says what the numbers
//! mean. A fact counts only where it had an effect: in a start-up that failed, while requests
//! failed, or where nothing shows that the service worked all the same.

mod argument;
mod ended;
mod probed;
mod recovered;
mod refusals;
mod without;

use std::collections::{BTreeMap, BTreeSet};

use crate::attempt::{Attempt, AttemptEnd, Held, RequestKind, Tally, Traffic};
use crate::classify::Seen;
use crate::clock::Timestamp;
use crate::evidence::{Body, Change, Evidence, Fact, Observation, Probed};
use crate::id::Cause;
use crate::monitor::Sample;
use refusals::Sockets;

pub use argument::Argument;
pub use probed::PROBE_FINDING;
pub use refusals::{
    ANONYMOUS, CHECKER_SILENT, GUEST, SOCKET_BROKEN, SOCKET_CLOSED, TOKEN_ACCEPTED, TOKEN_REFUSED,
    TOKEN_UNFIT,
};

/// How long before the first sign of a failure its reason may have been written, in seconds.
const DEATH_LEAD_S: i64 = 3;
/// How long before the first sign of a failure a setting that explains it was complained of, in
/// seconds: what came through since came through without it.
const SETTING_LEAD_S: i64 = 10;
/// A text that may be about something optional explains failed requests only when no other cause's
/// texts are this many times as frequent.
const RIVAL: u64 = 4;
/// From this weight on a signal may support a cause without another's help.
const DECISIVE: f64 = 0.6;
/// From this confidence on a decisive claim is supported.
const SUPPORTED: f64 = 0.6;
/// The kind of fact that an application goes on without something.
pub const GOES_ON: &str = "app.goes-on";
/// The kind of fact that work somebody asked for over a WebSocket failed: no answer's status says so.
pub const WORK_FAILED: &str = "app.work-failed";
/// The kind of fact that a worker did what a queue or a clock asked it for: nobody is answered.
pub const WORK_DONE: &str = "app.work-done";
/// The kind of fact that a server refused a client, and so is there for others.
pub const REFUSES_CLIENT: &str = "app.refuses-client";
/// Of so many WebSockets that were opened at least one is for each failed piece of work, where work that
/// fails is no exception.
const WORK_SHARE: u64 = 10;
/// Requests and work that failed may be seconds apart from what explains them.
const WORK_NEAR_S: i64 = 60;
/// Below this share of failed answers a service works.
const FEW: f64 = 0.01;
/// No log proves more than this.
const CEILING: f64 = 0.98;

/// A fact stated by a log signal.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'e> {
    /// The observation it stands in.
    pub observation: &'e Observation,
    /// The fact.
    pub fact: &'e Fact,
    /// The signal's id.
    pub signal: &'e str,
    /// The cause it speaks for; empty for none.
    pub cause: &'e str,
    /// How much.
    pub weight: f64,
    /// The line, or one beside it, says that the application goes on without.
    pub tolerated: bool,
}

impl<'e> Hit<'e> {
    /// Whether the application goes on without what failed here, and can.
    fn survived(&self) -> bool {
        self.tolerated && !self.fact.get("after_start").is_empty()
    }

    /// Whether a service that works on took no harm: always when the signal says so of itself
    /// (`after_start = tolerated`), else when the line is no error in its own words.
    fn harmless(&self) -> bool {
        self.quiet() || self.fact.get("after_start") == "tolerated"
    }

    /// How much of it counts where what followed is not held: a warning may have done no harm, and a
    /// complaint about a setting that no logger calls an error may have done none. What has neither
    /// time nor level may be anybody's quotation.
    fn unheard(&self) -> f64 {
        let unlevelled = self.fact.get("severity") == "DEFAULT";
        let untimed = self.place().is_some();
        match () {
            () if self.quiet() || (unlevelled && untimed) => 0.0,
            () if unlevelled && self.harmless() => 0.7,
            () => 0.8,
        }
    }

    /// Its place among lines without a time, in whose order it stands; `None` where it has a time.
    fn place(&self) -> Option<u64> {
        let moment = &self.observation.moment;
        let untimed = moment.resolution_ms == u32::MAX;
        untimed.then(|| u64::try_from(moment.at.as_microsecond()).unwrap_or_default())
    }

    /// Whether it may be about something the service can do without.
    fn optional(&self) -> bool {
        self.fact.get("goes_on") == "service"
    }

    /// Whether it only says that something did not come about, in an application's words.
    fn says_that(&self) -> bool {
        self.fact.get("says") == "that"
    }

    /// Whether its line is below ERROR. A line without a level is not.
    fn quiet(&self) -> bool {
        matches!(self.fact.get("severity"), "DEBUG" | "INFO" | "NOTICE" | "WARNING")
    }
}

/// What followed a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A start-up failed at that moment: the index into [`Case::attempts`].
    Death(usize),
    /// It was written earlier in a start-up that failed.
    Before(usize),
    /// Requests failed meanwhile.
    Requests,
    /// The fact is an effect itself, for example an instance that was killed.
    Itself,
    /// What is held does not show what followed.
    Unknown,
    /// The service worked on.
    None,
}

/// The evidence of one service.
#[derive(Debug)]
pub struct Case<'e> {
    /// The service.
    pub service: &'e str,
    /// The facts that log signals stated, in time order.
    pub hits: Vec<Hit<'e>>,
    /// The attempts to start, in time order.
    pub attempts: Vec<(&'e Observation, &'e Attempt)>,
    /// The answers.
    pub traffic: Vec<(&'e Observation, &'e Traffic)>,
    /// How often each signal was seen.
    pub tallies: Vec<&'e Tally>,
    /// The changes, in time order.
    pub changes: Vec<(&'e Observation, &'e Change)>,
    /// The samples of monitors, about whatever subject.
    pub samples: Vec<(&'e Observation, &'e Sample)>,
    /// The verdicts of probes about the service, in time order.
    pub probed: Vec<(&'e Observation, &'e Probed)>,
    /// Facts that no log signal stated, in time order.
    pub facts: Vec<(&'e Observation, &'e Fact)>,
    /// What is held.
    pub held: Held,
    effects: Vec<Effect>,
    owners: Vec<Option<&'e str>>,
    sockets: Sockets,
    broken: bool,
    shut: BTreeSet<&'e str>,
    blocked: bool,
    work_failed: Vec<Timestamp>,
}

impl<'e> Case<'e> {
    /// The cases of all services, by name.
    pub fn all(evidence: &'e Evidence) -> Vec<Self> {
        let mut cases: BTreeMap<&str, Self> = BTreeMap::new();
        let mut samples = Vec::new();
        for observation in evidence.observations() {
            if let Body::Sample(sample) = &observation.body {
                samples.push((observation, sample));
                continue;
            }
            let service = observation.subject.service.as_str();
            let case = cases.entry(service).or_insert_with(|| Self::empty(service));
            case.add(observation);
        }
        let mut cases: Vec<Self> = cases.into_values().collect();
        for case in &mut cases {
            case.samples.clone_from(&samples);
            case.settle();
        }
        cases
    }

    fn empty(service: &'e str) -> Self {
        Self {
            service,
            hits: Vec::new(),
            attempts: Vec::new(),
            traffic: Vec::new(),
            tallies: Vec::new(),
            changes: Vec::new(),
            samples: Vec::new(),
            probed: Vec::new(),
            facts: Vec::new(),
            held: Held::default(),
            effects: Vec::new(),
            owners: Vec::new(),
            sockets: Sockets::None,
            broken: false,
            shut: BTreeSet::new(),
            blocked: false,
            work_failed: Vec::new(),
        }
    }

    fn add(&mut self, observation: &'e Observation) {
        match &observation.body {
            Body::Fact(fact) if !fact.get("signal").is_empty() => self.hits.push(Hit {
                observation,
                fact,
                signal: fact.get("signal"),
                cause: fact.get("cause"),
                weight: fact.get("weight").parse().unwrap_or(0.0),
                tolerated: fact.get("tolerated") == "true",
            }),
            Body::Fact(fact) => self.facts.push((observation, fact)),
            Body::Attempt(attempt) => self.attempts.push((observation, attempt)),
            Body::Traffic(traffic) => self.traffic.push((observation, traffic)),
            Body::Tally(tally) => self.tallies.push(tally),
            Body::Change(change) => self.changes.push((observation, change)),
            Body::Probed(probed) => self.probed.push((observation, probed)),
            Body::Held(held) => self.held = held.clone(),
            _ => {}
        }
    }

    /// Decides, once, what followed each fact and which cause each failed start-up belongs to.
    fn settle(&mut self) {
        self.sockets = self.sockets_turned_away();
        self.broken = self.sockets_break();
        self.shut = self.shut_areas();
        self.blocked = self.preflights_are_refused();
        self.work_failed = self.times_of_failed_work();
        self.tolerate();
        self.effects = self.hits.iter().map(|hit| self.effect_of(hit)).collect();
        self.outweigh();
        self.owners = (0..self.attempts.len()).map(|attempt| self.owner_of(attempt)).collect();
    }

    /// When work failed, where that is more than an exception: no status says it of what is asked for
    /// over a WebSocket.
    fn times_of_failed_work(&self) -> Vec<Timestamp> {
        let failed = self.count_of(WORK_FAILED);
        if failed < refusals::FEW || failed * WORK_SHARE < self.sockets_opened() {
            return Vec::new();
        }
        self.of_kind(WORK_FAILED).map(|hit| hit.observation.moment.at).collect()
    }

    /// Whether work that was asked for over WebSockets fails, more than as an exception.
    pub fn work_fails(&self) -> bool {
        !self.work_failed.is_empty()
    }

    /// Whether it goes on with its work, or with whoever comes next, after all that speaks for a cause.
    pub fn goes_on(&self) -> bool {
        let last = |kind: &str| {
            let tallies = self.tallies.iter().filter(|tally| tally.fact == kind);
            tallies.filter_map(|tally| tally.last).max()
        };
        let speaks = |hit: &&Hit<'_>| hit.weight >= DECISIVE && !hit.tolerated;
        let hits = self.hits.iter().filter(speaks);
        let said = hits.map(|hit| hit.observation.moment.at).max();
        last(WORK_DONE).is_some_and(|done| said.is_none_or(|said| said < done))
            || self.of_kind(REFUSES_CLIENT).next().is_some()
    }

    /// Requests that failed belong to the texts that are about as frequent: a few lines about what may
    /// be optional, beside many about something else, only stood by. So did those that were written
    /// while nothing failed too, beside others that were not. Nor do failures belong to words that
    /// only say that something failed, where others say why.
    fn outweigh(&mut self) {
        let mut lines: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        let claims = |hit: &Hit<'_>, effect: Effect| {
            matches!(effect, Effect::Requests | Effect::Unknown) && hit.weight >= DECISIVE
        };
        for (hit, effect) in self.hits.iter().zip(&self.effects) {
            if claims(hit, *effect) {
                let tally = self.tallies.iter().find(|tally| tally.signal == hit.signal);
                let count = tally.map_or(0, |tally| tally.count);
                lines.entry(hit.cause).or_default().insert(hit.signal, count);
            }
        }
        let most = |of: &BTreeMap<&str, u64>| of.values().copied().max().unwrap_or(0);
        let least: BTreeSet<&str> = lines
            .iter()
            .filter(|(_, of)| lines.values().any(|other| most(of) * RIVAL < most(other)))
            .map(|(cause, _)| *cause)
            .collect();
        let each = || self.hits.iter().zip(&self.effects);
        let alone = |hit: &Hit<'_>| {
            let mut failed = self.traffic.iter().filter(|(_, traffic)| self.answer_failed(traffic));
            let at = hit.observation.moment.at;
            let work = |work: &Timestamp| seconds(*work, at).abs() <= WORK_NEAR_S;
            !failed.any(|(_, traffic)| traffic.beside(at)) && !self.work_failed.iter().any(work)
        };
        let harmless: BTreeSet<_> = each()
            .filter(|(hit, effect)| match effect {
                Effect::None => hit.optional(),
                Effect::Requests => hit.optional() && alone(hit),
                _ => false,
            })
            .map(|(hit, _)| hit.about())
            .collect();
        let why = |hit: &Hit<'_>| hit.weight >= DECISIVE && !hit.says_that();
        let causes = |wanted: &dyn Fn(&Hit<'_>, Effect) -> bool| -> BTreeSet<&str> {
            let hits = each().filter(|(hit, effect)| why(hit) && wanted(hit, **effect));
            hits.map(|(hit, _)| hit.cause).collect()
        };
        let told = causes(&|_, effect| effect == Effect::Requests);
        let harms = causes(&|hit, effect| {
            let fails = matches!(effect, Effect::Requests | Effect::Itself | Effect::Death(_));
            fails && !harmless.contains(&hit.about())
        });
        let stands = each().map(|(hit, effect)| {
            let other = |causes: &BTreeSet<&str>| causes.iter().any(|cause| *cause != hit.cause);
            let rare = hit.optional() && least.contains(hit.cause);
            let stood_by = harmless.contains(&hit.about()) && other(&harms);
            match effect {
                Effect::Requests => !(rare || stood_by || (hit.says_that() && other(&told))),
                Effect::Unknown => !rare,
                _ => true,
            }
        });
        let stands: Vec<bool> = stands.collect();
        for (effect, stands) in self.effects.iter_mut().zip(stands) {
            if !stands {
                *effect = Effect::None;
            }
        }
    }

    fn effect_of(&self, hit: &Hit<'_>) -> Effect {
        if hit.fact.get("effect") == "self" {
            return Effect::Itself;
        }
        let at = hit.observation.moment.at;
        for (index, (observation, attempt)) in self.attempts.iter().enumerate() {
            if !attempt.failed() || observation.subject.instance != hit.observation.subject.instance
            {
                continue;
            }
            if let (Some(places), Some(place)) = (attempt.places, hit.place()) {
                if place < places.began || place > places.ended {
                    continue;
                }
                let quiet = hit.quiet() && !hit.fact.get("after_start").is_empty();
                return match place >= places.phase_began {
                    _ if quiet => Effect::None,
                    true => Effect::Death(index),
                    false => Effect::Before(index),
                };
            }
            let within = |from: Option<Timestamp>, lead: i64| {
                let ended = attempt.ended.or(attempt.failed_at);
                from.is_some_and(|from| seconds(from, at) >= -lead)
                    && ended.is_some_and(|ended| seconds(ended, at) <= 1)
            };
            if within(attempt.failed_at, DEATH_LEAD_S) {
                return Effect::Death(index);
            }
            if within(attempt.began, 0) {
                // What was no error and did not end the start-up then did not end it later; nor did
                // a complaint about a setting, where the next phase began or time went by.
                let quiet = hit.quiet() && !hit.fact.get("after_start").is_empty();
                let later = |from: Option<Timestamp>| from.is_some_and(|from| at < from);
                let lead = attempt.failed_at.map(|failed| seconds(at, failed));
                let since = later(attempt.phase_began) || lead > Some(SETTING_LEAD_S);
                let passed = quiet || (hit.fact.get("after_start") == "tolerated" && since);
                return if passed { Effect::None } else { Effect::Before(index) };
            }
        }
        if hit.harmless() && self.in_a_start_that_completed(hit) {
            return Effect::None;
        }
        let mut failed = self.traffic.iter().filter(|(_, traffic)| self.answer_failed(traffic));
        let beside = |work: &Timestamp| seconds(*work, at).abs() <= WORK_NEAR_S;
        // Answers without a time may be of any: an error then is theirs.
        let error = !hit.harmless() && !hit.optional();
        let near = |traffic: &Traffic| traffic.near(at) || (error && traffic.first.is_none());
        let requests =
            failed.any(|(_, traffic)| near(traffic)) || self.work_failed.iter().any(beside);
        match () {
            // An application that goes on without something does not fail requests for it.
            () if hit.tolerated => Effect::None,
            () if hit.harmless() && self.works() => Effect::None,
            () if requests => Effect::Requests,
            () if hit.optional() && self.answers_users() => Effect::None,
            () => Effect::Unknown,
        }
    }

    /// Whether it was written while its instance started, and that start-up completed all the same.
    fn in_a_start_that_completed(&self, hit: &Hit<'_>) -> bool {
        let at = hit.observation.moment.at;
        self.attempts.iter().any(|(observation, attempt)| {
            attempt.end == AttemptEnd::Completed
                && observation.subject.instance == hit.observation.subject.instance
                && attempt.began.is_some_and(|began| began <= at)
                && attempt.completed_at.is_some_and(|completed| at <= completed)
        })
    }

    /// The cause that the failure of an attempt speaks for, when one clearly does.
    fn owner_of(&self, attempt: usize) -> Option<&'e str> {
        if !self.attempts[attempt].1.failed() {
            return None;
        }
        // Whoever says why explains those who say that; a text that several causes write decides
        // only where nothing else does.
        self.best_of(attempt, |hit| hit.fact.get("says") == "why")
            .or_else(|| self.best_of(attempt, |hit| hit.fact.get("ambiguous") != "true"))
            .or_else(|| self.best_of(attempt, |_| true))
    }

    fn best_of(&self, attempt: usize, admit: impl Fn(&Hit<'e>) -> bool) -> Option<&'e str> {
        let mut scores: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
        for (hit, effect) in self.hits.iter().zip(&self.effects) {
            let factor = match effect {
                Effect::Death(index) if *index == attempt => 1.0,
                Effect::Before(index) if *index == attempt && !hit.tolerated => 0.6,
                _ => continue,
            };
            if hit.survived() || hit.cause.is_empty() || !admit(hit) {
                continue;
            }
            let signals = scores.entry(hit.cause).or_default();
            let score = signals.entry(hit.signal).or_default();
            *score = score.max(hit.weight * factor);
        }
        let scored = scores.into_iter().map(|(cause, signals)| (cause, any_of(signals.values())));
        let best = scored.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        (best.1 >= 0.3).then_some(best.0)
    }

    /// The hits of a kind.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Hit<'e>> {
        self.hits.iter().filter(move |hit| hit.fact.fact.as_str() == kind)
    }

    /// The attempts that failed.
    pub fn failures(&self) -> impl Iterator<Item = (usize, &'e Observation, &'e Attempt)> {
        self.attempts
            .iter()
            .enumerate()
            .filter(|(_, (_, attempt))| attempt.failed())
            .map(|(index, (observation, attempt))| (index, *observation, *attempt))
    }

    /// The attempts whose failure belongs to `cause`.
    pub fn owned(&self, cause: &Cause) -> Vec<usize> {
        let owned = |(_, owner): &(usize, &Option<&str>)| **owner == Some(cause.as_str());
        self.owners.iter().enumerate().filter(owned).map(|(index, _)| index).collect()
    }

    /// What followed a hit: an element of [`Case::hits`].
    pub fn effect(&self, hit: usize) -> Effect {
        self.effects[hit]
    }

    /// Whether any request was served, or a start-up completed.
    pub fn serves(&self) -> bool {
        self.traffic.iter().any(|(_, traffic)| traffic.served())
            || self.attempts.iter().any(|(_, attempt)| attempt.end == AttemptEnd::Completed)
    }

    /// Whether a request was served other than a health check.
    fn answers_users(&self) -> bool {
        self.traffic.iter().any(|(_, traffic)| traffic.served() && is_users(traffic.request))
    }

    /// Whether it serves, every start-up that is held came through, and hardly a request failed:
    /// single failures are no state.
    pub fn works(&self) -> bool {
        let count = |failed: bool| -> u64 {
            let traffic = self.traffic.iter().map(|(_, traffic)| *traffic);
            traffic
                .filter(|traffic| self.answer_failed(traffic) == failed)
                .map(|traffic| traffic.count)
                .sum()
        };
        let failed = count(true);
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = failed as f64 / (failed + count(false)).max(1) as f64;
        let single = share < FEW && !self.work_fails();
        self.serves() && self.failures().next().is_none() && single
    }

    /// The answers to one kind of request.
    pub fn answers(&self, request: RequestKind) -> impl Iterator<Item = &'e Traffic> {
        self.traffic
            .iter()
            .map(|(_, traffic)| *traffic)
            .filter(move |traffic| traffic.request == request)
    }

    /// How often a signal kind was seen, exactly.
    pub fn seen_kind(&self, kind: &str) -> Option<Seen> {
        let tallies = self.tallies.iter().filter(|tally| tally.fact == kind);
        seen(tallies.map(|tally| (tally.count, tally.first, tally.last)))
    }
}

/// Whether such a request is one for the sake of its answer.
fn is_users(request: RequestKind) -> bool {
    !matches!(request, RequestKind::Health | RequestKind::Preflight | RequestKind::Static)
}

/// Adds up counts and spans; `None` of nothing.
pub fn seen(
    parts: impl Iterator<Item = (u64, Option<Timestamp>, Option<Timestamp>)>,
) -> Option<Seen> {
    parts.filter(|part| part.0 > 0).fold(None, |sum: Option<Seen>, (count, first, last)| {
        let Some(sum) = sum else { return Some(Seen { count, first, last }) };
        let first = [sum.first, first].into_iter().flatten().min();
        let last = [sum.last, last].into_iter().flatten().max();
        Some(Seen { count: sum.count + count, first, last })
    })
}

/// The chance that at least one of independent pieces of evidence is right.
fn any_of<'w>(weights: impl IntoIterator<Item = &'w f64>) -> f64 {
    1.0 - weights.into_iter().fold(1.0, |wrong, weight| wrong * (1.0 - weight))
}

fn round(confidence: f64) -> f64 {
    (confidence * 100.0).round() / 100.0
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second() - from.as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_pieces_add_up_and_never_reach_certainty() {
        assert!((any_of(&[0.5, 0.5]) - 0.75).abs() < 1e-9);
        assert_eq!(any_of(&[]), 0.0);
    }
}
