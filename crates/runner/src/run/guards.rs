//! Guards: when a metric got worse after our load began, the run stops.

use std::collections::BTreeMap;
use std::time::Duration;

use shakedown_core::clock::{self, Timestamp};
use shakedown_core::environment::{Environment, Guard};
use shakedown_core::id::resource;
use shakedown_core::monitor::{MonitorMeta, Reading};
use shakedown_core::record::{Condition, GuardEvent, Plan, RunEvent, StampedSample};
use shakedown_core::registry::Registry;
use shakedown_core::units::Span;

use super::{Run, RunOptions};

/// What distinguishes one series of a metric from another.
type Labels = Vec<(String, String)>;

/// What the run is to do about a guard.
#[derive(Debug)]
pub(super) enum Notice {
    /// A limit was passed. `cut`: our load goes down to one connection.
    Passed { event: GuardEvent, cut: bool },
    /// The guard cannot act, and why.
    Blind(String),
}

/// The armed guards of a run. Knows no clock of its own.
pub(super) struct Guards {
    rules: Vec<Rule>,
    /// From when on what gets worse may be our doing.
    load_began: Option<Timestamp>,
}

struct Rule {
    guard: Guard,
    /// How old a sample may be for the guard to act on it.
    fresh: Duration,
    /// Whether the signature expects it to get worse.
    expected: bool,
    series: BTreeMap<Labels, Series>,
    /// When the latest fresh sample was taken.
    last: Option<Timestamp>,
    /// Whether its blindness has been told.
    told_blind: bool,
}

#[derive(Default)]
struct Series {
    baseline: Option<f64>,
    /// Since when it has been too high without a break.
    high_since: Option<Timestamp>,
    /// The time of the sample before.
    last: Option<Timestamp>,
    /// Whether something has been told about it; that is done once.
    told: bool,
}

impl Guards {
    pub(super) fn new(
        environment: &Environment,
        registry: &Registry,
        plan: &Plan,
        options: &RunOptions,
    ) -> Self {
        let armed = environment.safety.guards.iter().zip(&plan.guards);
        let armed = armed.filter(|(_, planned)| planned.not_armed.is_none());
        let rules = armed.filter_map(|(guard, _)| {
            let measures = |meta: &&MonitorMeta| meta.metrics.iter().any(|m| m.id == guard.metric);
            let meta = registry.monitors().map(|entry| entry.meta).find(measures)?;
            Some(Rule {
                guard: guard.clone(),
                fresh: fresh(meta, environment),
                expected: options.expected_by_signature.contains(&guard.metric),
                series: BTreeMap::new(),
                last: None,
                told_blind: false,
            })
        });
        Self { rules: rules.collect(), load_began: None }
    }

    /// Our load begins: what has been sampled so far is the baseline.
    pub(super) fn begin(&mut self) -> Vec<Notice> {
        self.begin_at(clock::wall())
    }

    fn begin_at(&mut self, now: Timestamp) -> Vec<Notice> {
        self.load_began = Some(now);
        let mut notices: Vec<Notice> =
            self.rules.iter_mut().filter_map(Rule::already_past).collect();
        let mut unseen = Vec::new();
        for rule in self.rules.iter_mut().filter(|rule| rule.last.is_none()) {
            rule.told_blind = true;
            unseen.push(rule.guard.metric.as_str());
        }
        if !unseen.is_empty() {
            let text = format!("no sample at the gate, guards cannot act: {}", unseen.join(", "));
            notices.push(Notice::Blind(text));
        }
        notices
    }

    pub(super) fn observe(&mut self, samples: &[StampedSample]) -> Vec<Notice> {
        self.observe_at(samples, clock::wall())
    }

    fn observe_at(&mut self, samples: &[StampedSample], now: Timestamp) -> Vec<Notice> {
        let mut notices = Vec::new();
        for rule in &mut self.rules {
            let of_rule = |s: &&StampedSample| s.sample.metric.as_str() == rule.guard.metric;
            let samples: Vec<_> = samples.iter().filter(of_rule).collect();
            for StampedSample { sample, .. } in samples {
                let Reading::Value(value) = sample.value else { continue };
                let labels = &sample.labels;
                notices.extend(rule.observe(labels, value, sample.taken_at, now, self.load_began));
            }
        }
        notices
    }

    /// Which guards have had no fresh sample for too long.
    pub(super) fn overdue(&mut self) -> Vec<Notice> {
        self.overdue_at(clock::wall())
    }

    fn overdue_at(&mut self, now: Timestamp) -> Vec<Notice> {
        if self.load_began.is_none() {
            return Vec::new();
        }
        let overdue = self.rules.iter_mut().filter_map(|rule| {
            let age = age(rule.last?, now);
            let text = format!("its latest sample is {} old", Span(whole_seconds(age)));
            (age > rule.fresh).then(|| rule.blind(&text)).flatten()
        });
        overdue.collect()
    }
}

/// Fresh is: as old as the source's own period and delay and our cadence make it at most; for what we
/// measure directly, two cadences.
fn fresh(meta: &MonitorMeta, environment: &Environment) -> Duration {
    let cadence = environment.monitoring.cadence.get();
    if meta.period.is_zero() && meta.delay.is_zero() {
        return 2 * cadence;
    }
    environment.time_scale().duration(meta.period + meta.delay) + cadence
}

fn age(taken_at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(taken_at)).unwrap_or_default()
}

fn whole_seconds(age: Duration) -> Duration {
    Duration::from_secs(age.as_secs().max(1))
}

impl Rule {
    fn observe(
        &mut self,
        labels: &Labels,
        value: f64,
        taken_at: Timestamp,
        now: Timestamp,
        load_began: Option<Timestamp>,
    ) -> Option<Notice> {
        let fresh = self.fresh;
        let series = self.series.entry(labels.clone()).or_default();
        if series.last.is_some_and(|last| taken_at <= last) {
            return None;
        }
        let gap = series.last.replace(taken_at).is_some_and(|last| age(last, taken_at) > fresh);
        if load_began.is_none_or(|began| taken_at <= began) {
            series.baseline = Some(value);
            self.last = self.last.max(Some(taken_at));
            return load_began.and_then(|_| self.already_past());
        }
        if age(taken_at, now) > fresh {
            let text =
                format!("its latest sample is {} old", Span(whole_seconds(age(taken_at, now))));
            return self.blind(&text);
        }
        self.last = self.last.max(Some(taken_at));
        let limit = self.guard.limit(series.baseline).filter(|&limit| value > limit);
        let (Some(limit), false) = (limit, series.told) else {
            series.high_since = None;
            return None;
        };
        if gap {
            series.high_since = None;
        }
        let since = *series.high_since.get_or_insert(taken_at);
        if age(since, taken_at) < self.guard.lasting.get() {
            return None;
        }
        series.told = true;
        let baseline = series.baseline;
        Some(self.worse(value, limit, baseline))
    }

    /// What is told of a series that is too high now that our load is there.
    fn worse(&self, value: f64, limit: f64, baseline: Option<f64>) -> Notice {
        let metric = &self.guard.metric;
        let (stopped, cut, end) = match baseline {
            _ if self.expected => (false, false, "as the signature expects".to_owned()),
            Some(baseline) => (true, false, format!("it was {} before our load", number(baseline))),
            None => (false, true, "nobody knows what it was before our load".to_owned()),
        };
        let summary = format!("{metric} is {}, above {}; {end}", number(value), number(limit));
        self.passed(value, limit, baseline, stopped, cut, summary)
    }

    /// A finding when a series was too high before our load.
    fn already_past(&mut self) -> Option<Notice> {
        let above = self.guard.above?;
        let past = |series: &&mut Series| {
            !series.told && series.baseline.is_some_and(|baseline| baseline > above)
        };
        let series = self.series.values_mut().find(past)?;
        series.told = true;
        let value = series.baseline?;
        let summary = format!(
            "{} was {} before our load, above {} already",
            self.guard.metric,
            number(value),
            number(above)
        );
        Some(self.passed(value, above, Some(value), false, !self.expected, summary))
    }

    fn passed(
        &self,
        value: f64,
        limit: f64,
        baseline: Option<f64>,
        stopped: bool,
        cut: bool,
        summary: String,
    ) -> Notice {
        let metric = self.guard.metric.clone().into();
        let event = GuardEvent { metric, value, limit, baseline, stopped, summary };
        Notice::Passed { event, cut }
    }

    fn blind(&mut self, why: &str) -> Option<Notice> {
        if std::mem::replace(&mut self.told_blind, true) {
            return None;
        }
        Some(Notice::Blind(format!("the guard on {} cannot act: {why}", self.guard.metric)))
    }
}

/// What a guard compares with.
trait Limit {
    /// The lowest limit in force; `None` without one.
    fn limit(&self, baseline: Option<f64>) -> Option<f64>;
}

impl Limit for Guard {
    fn limit(&self, baseline: Option<f64>) -> Option<f64> {
        let relative = self.above_baseline.zip(baseline).map(|(times, baseline)| {
            (times * baseline).max(self.floor.unwrap_or(f64::NEG_INFINITY))
        });
        match (self.above, relative) {
            (Some(above), Some(relative)) => Some(above.min(relative)),
            (above, relative) => above.or(relative),
        }
    }
}

/// Three digits behind the point, without trailing zeros.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Run<'_> {
    pub(super) fn heed_guards(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Blind(text) => self.log.remark(text),
                Notice::Passed { event, cut } => {
                    let (stopped, summary) = (event.stopped, event.summary.clone());
                    self.log.emit(RunEvent::GuardNoticed(event));
                    if cut {
                        self.cut(&resource::DATABASE_CONNECTION, 1, summary.clone());
                    }
                    if stopped {
                        let why = format!("a guard stopped the run: {summary}");
                        self.stop(Condition::GuardStopped, why);
                    }
                }
            }
        }
    }

    /// Tells once of each guard that has gone blind.
    pub(super) fn overdue(&mut self) {
        let notices = self.guards.overdue();
        self.heed_guards(notices);
    }
}

#[cfg(test)]
mod tests;
