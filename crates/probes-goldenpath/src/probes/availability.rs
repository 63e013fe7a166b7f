//! Asks which share of requests the backend answers well, and how long it was out at most. Good: at
//! least the strategy's 99 %.
//!
//! **How.** Requests to the backend's health path go out on a fixed schedule, one every `every`, for
//! `duration`, whether or not earlier ones have been answered: a service that stops answering is
//! asked just as often, and a wait counts from the moment a request was due (no coordinated
//! omission). A request may take `answer_limit`. Good is a status of 200 to 299. The first request is
//! sent alone, before the schedule begins: what it finds was there before this probe's load.
//!
//! **Measures** `availability` (good answers over all that were due and sent), `longest_outage` (from
//! the first bad answer's due time to the next good one's), and from the due time `answer_p50` and
//! `answer_p95` of the good ones.
//!
//! **Verdicts.** *Fail*: availability below `failing_below` (the strategy's error rate of 5 %).
//! *Degraded*: below `target` (the strategy's 99 %). *Pass*: neither. An outage that was there at the
//! first request is told apart from one that began after our load had; the latter may be our doing.
//! *Skip*: the backend has no URL.
//!
//! **Draws** three HTTP connections. Requests that our own budget held back by more than `every` are
//! counted apart (`held_back`) and not blamed on the service.
//!
//! **Configuration**: see [`AvailabilityConfig`].
//!
//! **Cannot tell** whether users get answers: a green health path may hide a WebSocket nobody gets
//! into. See `goldenpath.login-to-response`.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use shakedown_core::attempt::RequestKind;
use shakedown_core::budget::Draw;
use shakedown_core::clock::{self, Instant};
use shakedown_core::evidence::{Body, Fact, ObservationMeta};
use shakedown_core::id::{ObservationKind, resource};
use shakedown_core::{
    Category, Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase,
    Setting, Span, Step, Subject, async_trait,
};
use shakedown_wire::http::{self, Request};

use crate::causes::GOLDEN_PATH_OFFLINE;
use crate::section::UserPath;
use crate::user::{self, uninterrupted};
use crate::window::Window;

/// How available a service was, as an observation.
pub const AVAILABILITY: ObservationKind = ObservationKind::new("goldenpath.availability");

/// The description of [`AVAILABILITY`].
pub const AVAILABILITY_META: ObservationMeta = ObservationMeta {
    kind: AVAILABILITY,
    summary: "how available a service was: asked, good, longest_outage_ms, began (none, before our \
              load, after our load began)",
};

#[cfg(feature = "register")]
shakedown_core::register_observation!(AVAILABILITY_META);

/// See the module.
#[derive(Debug)]
pub struct Availability(AvailabilityConfig);

/// `[probes."goldenpath.availability"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AvailabilityConfig {
    /// For how long requests are sent. Default 60 s.
    pub duration: Span,
    /// The time between two of them. Default 2 s: half of the budget's 60 new connections a minute.
    pub every: Span,
    /// The longest a request may take. Default 5 s, so that three connections carry the schedule
    /// even when nothing is answered.
    pub answer_limit: Span,
    /// Below this share the service is worth a look. Default 0.99, the strategy's target.
    pub target: Setting<f64>,
    /// Below this share the probe fails. Default 0.95: the strategy's alert at an error rate of 5 %.
    pub failing_below: Setting<f64>,
}

impl Default for AvailabilityConfig {
    fn default() -> Self {
        Self {
            duration: Span::secs(60),
            every: Span::secs(2),
            answer_limit: Span::secs(5),
            target: Setting::assumed(0.99, "the strategy's target for staging"),
            failing_below: Setting::assumed(0.95, "the strategy's alert: error rate above 5 %"),
        }
    }
}

impl ProbeSpec for Availability {
    type Config = AvailabilityConfig;

    const META: ProbeMeta = ProbeMeta {
        category: Category::E2e,
        markers: &["staging", "issue_1278"],
        draws: &[Draw::new(resource::HTTP_CONNECTION, 3)],
        expected: Duration::from_secs(65),
        timeout: Duration::from_secs(300),
        aliases: &[
            "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_golden_path_pipeline_availability_impact",
            "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_staging_environment_availability_monitoring",
        ],
        ..ProbeMeta::new(
            "goldenpath.availability",
            RunPhase::Impact,
            "the backend answers at least 99 % of requests that keep coming whatever it does",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(Availability);

/// One request.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    /// When it was due, since the first, in milliseconds.
    due_ms: f64,
    /// How long our own budget held it back, in milliseconds.
    held_ms: f64,
    /// From the due time to the whole answer, in milliseconds.
    took_ms: f64,
    result: Result<u16, Fault>,
}

impl Asked {
    fn good(&self) -> bool {
        matches!(self.result, Ok(200..=299))
    }
}

#[async_trait]
impl Probe for Availability {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let path: UserPath = ctx.section()?;
        let key = "goldenpath.backend_service";
        let backend = match user::service(ctx, &path.backend_service, key) {
            Ok(backend) => backend,
            Err(reason) => return Ok(Outcome::skip(reason)),
        };
        let url = format!("{}{}", backend.url.trim_end_matches('/'), backend.health_path);
        let subject = Subject::service(path.backend_service.as_str());
        let every = self.0.every.get().max(Duration::from_millis(1));
        let start = clock::now();
        ctx.progress(format!("{url}, before our load"));
        let mut requests = vec![self.ask(ctx, &url, start, start).await?];
        let begun = clock::now();
        let mut due: FuturesUnordered<_> = (0..self.count(every))
            .map(|index| self.ask(ctx, &url, start, begun + every * index))
            .collect();
        while let Some(request) = due.next().await {
            requests.push(request?);
            ctx.progress(format!("{} of {} answered", requests.len(), requests.len() + due.len()));
        }
        drop(due);
        uninterrupted(ctx)?;
        requests.sort_by(|a, b| a.due_ms.total_cmp(&b.due_ms));
        for request in requests.iter().filter(|request| request.result.is_ok()) {
            if let Ok(status) = request.result {
                user::observe_answer(ctx, &subject, RequestKind::Health, &url, status);
            }
        }
        let kept: Vec<_> = requests.iter().filter(|request| !self.held_back(request)).collect();
        Window::of(ctx).change(|seen| kept.iter().for_each(|one| seen.answers.add(one.good())));
        ctx.observe(subject, observation(&kept));
        Ok(self.judge(&requests).find(Finding::new(format!("asked: {url}"))))
    }
}

impl Availability {
    fn count(&self, every: Duration) -> u32 {
        let count = self.0.duration.get().as_secs_f64() / every.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a range that fits"
        )]
        let count = count.clamp(1.0, 10_000.0) as u32;
        count
    }

    async fn ask(
        &self,
        ctx: &ProbeCtx,
        url: &str,
        start: Instant,
        due: Instant,
    ) -> Result<Asked, ProbeError> {
        ctx.guard(tokio::time::sleep_until(due)).await?;
        let limit = self.0.answer_limit.get();
        let due_ms = clock::millis(due.saturating_duration_since(start));
        // Nobody waits longer for an answer, so nothing waits longer for a connection of ours.
        let lease = tokio::time::timeout(limit, ctx.lease(&resource::HTTP_CONNECTION)).await;
        let Ok(lease) = lease else {
            let (held_ms, result) = (f64::INFINITY, Err(Fault::Timeout { limit: Span(limit) }));
            return Ok(Asked { due_ms, held_ms, took_ms: clock::millis(limit), result });
        };
        let lease = lease?;
        let request = Request::get(url).limit(limit);
        let waited = clock::now();
        let climb = http::send(ctx, lease, &request).await.uninterrupted()?;
        let rungs_ms: f64 = climb.total_ms();
        let took_ms = clock::millis(due.elapsed());
        // What neither the wait for a connection of ours nor a rung took was the budget's pace.
        let paced_ms = (clock::millis(waited.elapsed()) - rungs_ms).max(0.0);
        let held_ms = clock::millis(waited.saturating_duration_since(due)) + paced_ms;
        let result = climb.result.map(|response| response.status);
        Ok(Asked { due_ms, held_ms, took_ms, result })
    }

    /// Whether our own budget spoilt it.
    fn held_back(&self, request: &Asked) -> bool {
        request.held_ms > clock::millis(self.0.every.get()) && !request.good()
    }

    fn judge(&self, requests: &[Asked]) -> Outcome {
        let (held, kept): (Vec<_>, Vec<_>) =
            requests.iter().partition(|request| self.held_back(request));
        let good: Vec<_> = kept.iter().filter(|request| request.good()).collect();
        let share = good.len() as f64 / kept.len().max(1) as f64;
        let outage = longest(&kept);
        let mut outcome = Outcome::pass();
        let counted = format!(
            "{} of {} requests were answered well ({:.1} %)",
            good.len(),
            kept.len(),
            share * 100.0
        );
        let mut finding = Finding::new(counted);
        if let Some(bad) = kept.iter().find(|request| !request.good()) {
            finding.rung = Some("http".into());
            finding.fault = Some(match &bad.result {
                Ok(status) => Fault::Http { status: *status },
                Err(fault) => fault.clone(),
            });
        }
        let next = "read the backend's log from the first bad answer on; `shakedown analyze` puts \
                    its start-ups in order";
        outcome = if share < self.0.failing_below.value {
            if good.is_empty() {
                finding.symptom = Some(GOLDEN_PATH_OFFLINE);
            }
            outcome.failing(finding.next(next))
        } else if share < self.0.target.value {
            outcome.but(finding.next(next))
        } else {
            outcome.find(finding)
        };
        if let Some(outage) = &outage {
            outcome = outcome.find(Finding::new(outage.sentence()));
        }
        if !held.is_empty() {
            outcome = outcome.find(Finding::new(format!(
                "{} requests were held back by our own budget and do not count",
                held.len()
            )));
        }
        outcome = outcome.measure("availability", share, "1");
        let longest_ms = outage.map_or(0.0, |outage| outage.ms);
        outcome = outcome.measure("longest_outage", longest_ms, "ms");
        outcome = outcome.measure("asked", kept.len() as f64, "1");
        outcome = outcome.measure("held_back", held.len() as f64, "1");
        let mut took: Vec<f64> = good.iter().map(|request| request.took_ms).collect();
        took.sort_by(f64::total_cmp);
        for (name, percent) in [("answer_p50", 50), ("answer_p95", 95)] {
            if !took.is_empty() {
                let index = (took.len() * percent).div_ceil(100).max(1) - 1;
                outcome = outcome.measure(name, took[index], "ms");
            }
        }
        let telling = kept.iter().find(|request| !request.good());
        outcome.steps(telling.map(|request| step(request)))
    }
}

fn step(request: &Asked) -> Step {
    let fault = match &request.result {
        Ok(status) => Fault::Http { status: *status },
        Err(fault) => fault.clone(),
    };
    let mut step = Step::ended("http", clock::wall(), clock::now(), Some(fault));
    step.elapsed_ms = request.took_ms;
    step.detail = Some(format!("due {:.0} ms after the first", request.due_ms));
    step
}

/// The longest time without a good answer.
#[derive(Clone, Debug, PartialEq)]
struct Outage {
    ms: f64,
    /// Whether the very first request failed.
    before_our_load: bool,
    /// Whether a good answer came after it.
    ended: bool,
}

impl Outage {
    fn sentence(&self) -> String {
        let length = format!("the longest time without a good answer was {:.0} ms", self.ms);
        let began = if self.before_our_load {
            "it was there before our load began"
        } else {
            "it began after our load had: compare with a run of fewer probes before blaming the service"
        };
        let ended = if self.ended { "" } else { ", and had not ended with the schedule" };
        format!("{length}; {began}{ended}")
    }

    fn began(outage: Option<&Self>) -> &'static str {
        match outage {
            None => "none",
            Some(outage) if outage.before_our_load => "before our load",
            Some(_) => "after our load began",
        }
    }
}

/// From the due time of the first bad answer to that of the next good one, or of the last request.
fn longest(requests: &[&Asked]) -> Option<Outage> {
    let mut longest: Option<Outage> = None;
    let mut since: Option<(usize, f64)> = None;
    let last_ms = requests.last().map_or(0.0, |request| request.due_ms);
    let ends = requests.iter().map(|request| (request.due_ms, request.good()));
    for (index, (due_ms, good)) in ends.chain([(last_ms, true)]).enumerate() {
        match (since, good) {
            (None, false) => since = Some((index, due_ms)),
            (Some((first, began_ms)), true) => {
                let ended = index < requests.len();
                let outage = Outage { ms: due_ms - began_ms, before_our_load: first == 0, ended };
                if longest.as_ref().is_none_or(|longest| outage.ms > longest.ms) {
                    longest = Some(outage);
                }
                since = None;
            }
            _ => {}
        }
    }
    longest
}

fn observation(requests: &[&Asked]) -> Body {
    let outage = longest(requests);
    let good = requests.iter().filter(|request| request.good()).count();
    let attributes = [
        ("asked", requests.len().to_string()),
        ("good", good.to_string()),
        ("longest_outage_ms", format!("{:.0}", outage.as_ref().map_or(0.0, |outage| outage.ms))),
        ("began", Outage::began(outage.as_ref()).to_owned()),
    ];
    Body::Fact(Fact {
        fact: AVAILABILITY,
        attributes: attributes.map(|(key, value)| (key.to_owned(), value)).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    fn requests(statuses: &[u16]) -> Vec<Asked> {
        let request = |(index, status): (usize, &u16)| Asked {
            due_ms: index as f64 * 2000.0,
            held_ms: 0.0,
            took_ms: 5.0,
            result: Ok(*status),
        };
        statuses.iter().enumerate().map(request).collect()
    }

    fn outage(statuses: &[u16]) -> Option<Outage> {
        longest(&requests(statuses).iter().collect::<Vec<_>>())
    }

    #[test]
    fn the_longest_outage_and_whether_it_was_there_before_us() {
        let found = |ms, before_our_load, ended| Some(Outage { ms, before_our_load, ended });
        assert_eq!(outage(&[200, 200]), None);
        assert_eq!(outage(&[200, 503, 503, 200, 503, 200]), found(4000.0, false, true));
        assert_eq!(outage(&[503, 503, 200]), found(4000.0, true, true));
        assert_eq!(outage(&[200, 503, 503]), found(2000.0, false, false));
    }

    #[test]
    fn the_verdict_follows_the_share() {
        let probe = Availability::from_config(AvailabilityConfig::default());
        let of = |bad: usize| {
            let mut statuses = vec![200; 100];
            statuses[..bad].fill(503);
            probe.judge(&requests(&statuses))
        };
        assert_eq!(of(1).verdict, Verdict::Pass);
        assert_eq!(of(2).verdict, Verdict::Degraded);
        assert_eq!(of(5).verdict, Verdict::Degraded);
        let failed = of(6);
        assert_eq!(failed.verdict, Verdict::Fail);
        assert_eq!(failed.findings[0].symptom, None, "94 % are not offline");
        assert_eq!(of(100).findings[0].symptom, Some(GOLDEN_PATH_OFFLINE));
    }

    #[test]
    fn what_our_own_budget_held_back_is_not_the_services_fault() {
        let probe = Availability::from_config(AvailabilityConfig::default());
        let mut requests = requests(&[200, 503, 200]);
        requests[1].held_ms = 2500.0;
        let outcome = probe.judge(&requests);
        assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
        let held = outcome.measurements.iter().find(|m| m.name == "held_back").map(|m| m.value);
        assert_eq!(held, Some(1.0));
    }
}
