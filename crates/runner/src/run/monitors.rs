//! The monitors: each in a task of its own, at the environment's cadence, never twice at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use shakedown_core::clock;
use shakedown_core::context::ProbeCtx;
use shakedown_core::id::{Metric, ResourceKind};
use shakedown_core::meta::RunPhase;
use shakedown_core::monitor::{MetricMeta, Monitor, MonitorError, Reading, Sample};
use shakedown_core::record::{Plan, RunEvent, StampedSample};
use shakedown_core::units::Span;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Run;
use super::wait::{Heed, Message};
use crate::isolate::{ABORT_PATIENCE, abort, chain, join_text};

/// What is going on, for stamping samples.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    phase: Option<RunPhase>,
    pub(super) probe: Option<Arc<str>>,
    /// Whether samples are taken now.
    sampling: bool,
}

impl Default for Stage {
    fn default() -> Self {
        Self { phase: None, probe: None, sampling: true }
    }
}

impl Stage {
    pub(super) fn enter(&mut self, phase: RunPhase) {
        *self = Self { phase: Some(phase), probe: None, sampling: true };
    }

    fn stamp(&self, monitor: &str, sample: Sample) -> StampedSample {
        StampedSample {
            monitor: monitor.to_owned(),
            phase: self.phase,
            probe: self.probe.as_deref().map(str::to_owned),
            sample,
        }
    }

    pub(super) fn leave(&mut self, sampling: bool) {
        *self = Self { phase: None, probe: None, sampling };
    }
}

/// The running monitors.
#[derive(Default)]
pub(super) struct Monitors {
    running: Vec<Running>,
    /// Take one more sample and end.
    finish: CancellationToken,
    /// End now.
    stop: CancellationToken,
}

struct Running {
    id: String,
    monitor: Arc<dyn Monitor>,
    ctx: Arc<ProbeCtx>,
    task: JoinHandle<()>,
}

impl Monitors {
    pub(super) fn drawn<'a>(&'a self, kind: &'a ResourceKind) -> impl Iterator<Item = u32> + 'a {
        self.running.iter().map(|running| running.ctx.drawn(kind))
    }
}

impl Run<'_> {
    /// Starts every monitor and waits for the first sample of each: the baseline.
    pub(super) async fn start_monitors(&mut self, plan: &Plan) {
        let mut firsts = Vec::new();
        for planned in &plan.monitors {
            match self.start_monitor(&planned.id) {
                Ok(first) => firsts.push(first),
                Err(error) => self.monitor_failed(planned.id.clone(), error),
            }
        }
        let limit = self.world.answer_limit() + ABORT_PATIENCE;
        let firsts = std::pin::pin!(join_all(firsts));
        self.wait(firsts, clock::now() + limit, Heed::Halt).await;
        self.drain();
    }

    fn start_monitor(&mut self, id: &str) -> Result<oneshot::Receiver<()>, String> {
        let entry = self.registry.monitors().find(|entry| entry.meta.id == id);
        let entry = entry.ok_or("the registry does not have it")?;
        let monitor: Arc<dyn Monitor> = (entry.build)(&self.world.environment)
            .map_err(|error| format!("its configuration: {}", error.message()))?
            .into();
        // A monitor never takes the last one: without a place for the probes there is no run.
        for draw in entry.meta.draws {
            let left = self.left(&draw.resource);
            if draw.amount >= left {
                let (kind, amount) = (&draw.resource, draw.amount);
                let mut why = format!("it draws {amount} of `{kind}`, the budget leaves {left}");
                if let Some((_, reason)) = self.cuts.iter().rev().find(|(cut, _)| cut == kind) {
                    why.push_str(&format!(": {reason}"));
                }
                return Err(why);
            }
        }
        let allotment = {
            let reserve = self.world.budget.reserve(entry.meta.draws);
            futures_util::FutureExt::now_or_never(reserve)
                .ok_or("what it draws is taken")?
                .map_err(|error| error.to_string())?
        };
        let ctx = Arc::new(self.world.context().allotment(allotment).build());
        let cadence = self.world.environment.monitoring.cadence.get();
        let (first, first_taken) = oneshot::channel();
        let watch = Watch {
            id: id.to_owned(),
            monitor: Arc::clone(&monitor),
            ctx: Arc::clone(&ctx),
            cadence,
            limit: self.world.answer_limit(),
            stage: self.stage.subscribe(),
            outbox: self.outbox.clone(),
            finish: self.monitors.finish.clone(),
            stop: self.monitors.stop.clone(),
        };
        let task = tokio::spawn(watch.run(first));
        self.monitors.running.push(Running { id: id.to_owned(), monitor, ctx, task });
        Ok(first_taken)
    }

    /// Tells why a monitor gives nothing, and every metric of it that it is unavailable for that.
    pub(super) fn monitor_failed(&mut self, monitor: String, error: String) {
        let entry = self.registry.monitors().find(|entry| entry.meta.id == monitor);
        let stage = self.stage.borrow().clone();
        let unavailable = |metric: &MetricMeta| {
            let why = metric.no_source.unwrap_or(&error);
            let sample = Sample::unavailable(Metric::new(metric.id), metric.unit, why);
            stage.stamp(&monitor, sample)
        };
        let metrics = entry.map_or(&[][..], |entry| entry.meta.metrics);
        let samples: Vec<StampedSample> = metrics.iter().map(unavailable).collect();
        self.log.emit(RunEvent::MonitorFailed { monitor, error });
        if !samples.is_empty() {
            self.log.emit(RunEvent::Sampled { samples });
        }
    }

    /// Stops and closes every monitor, all at the same time. In a run that came to its end each takes
    /// one more sample before: how it is after the last phase.
    pub(super) async fn close_monitors(&mut self) {
        let monitors = std::mem::take(&mut self.monitors);
        if monitors.running.is_empty() {
            return;
        }
        let patience = match self.is_aborted() {
            true => ABORT_PATIENCE,
            false => self.world.grace().max(ABORT_PATIENCE),
        };
        let last_sample = if self.halt.is_none() {
            monitors.finish.cancel();
            self.world.answer_limit() + ABORT_PATIENCE
        } else {
            monitors.stop.cancel();
            Duration::ZERO
        };
        let ended = last_sample + patience;
        let closing = join_all(monitors.running.into_iter().map(|m| m.close(ended, patience)));
        let due = clock::now() + last_sample + 3 * patience;
        if let super::wait::Waited::Done(failures) =
            self.wait(std::pin::pin!(closing), due, Heed::Nothing).await
        {
            for (monitor, error) in failures.into_iter().flatten() {
                self.log.emit(RunEvent::MonitorFailed { monitor, error });
            }
        }
        self.drain();
    }
}

impl Running {
    async fn close(mut self, ended: Duration, patience: Duration) -> Option<(String, String)> {
        if tokio::time::timeout(ended, &mut self.task).await.is_err() {
            abort(&mut self.task).await;
        }
        let monitor = self.monitor;
        let mut task = tokio::spawn(async move { monitor.close().await });
        let error = match tokio::time::timeout(patience, &mut task).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => join_text(error),
            Err(_) => {
                abort(&mut task).await;
                format!("it was not closed within {}", Span(patience))
            }
        };
        Some((self.id, error))
    }
}

/// The task of one monitor.
struct Watch {
    id: String,
    monitor: Arc<dyn Monitor>,
    ctx: Arc<ProbeCtx>,
    cadence: Duration,
    /// How long one sample may take.
    limit: Duration,
    stage: watch::Receiver<Stage>,
    outbox: mpsc::Sender<Message>,
    finish: CancellationToken,
    stop: CancellationToken,
}

impl Watch {
    async fn run(mut self, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let mut tick = clock::now();
        let (finish, stop) = (self.finish.clone(), self.stop.clone());
        loop {
            let last = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = finish.cancelled() => true,
                sampling = self.stage.wait_for(|stage| stage.sampling) => match sampling {
                    Ok(_) => false,
                    Err(_) => return,
                },
            };
            let stage = self.stage.borrow().clone();
            let Some((message, again)) = self.sample(&stage).await else { return };
            // Who fails to answer while the run ends is not asked once more.
            let enough = last || finish.is_cancelled() && !matches!(message, Message::Sampled(_));
            if self.outbox.send(message).await.is_err() || enough || !again {
                return;
            }
            if let Some(first) = first.take() {
                _ = first.send(());
            }
            // What took longer than a cadence is not caught up on.
            while tick <= clock::now() {
                tick += self.cadence.max(Duration::from_millis(1));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = finish.cancelled() => {}
                () = tokio::time::sleep_until(tick) => {}
            }
        }
    }

    /// One sample, and whether another may be taken. `None` when the run ends.
    async fn sample(&self, stage: &Stage) -> Option<(Message, bool)> {
        let (monitor, ctx) = (Arc::clone(&self.monitor), Arc::clone(&self.ctx));
        let mut task = tokio::spawn(async move { monitor.sample(&ctx).await });
        let waited = {
            let limited = tokio::time::timeout(self.limit, Pin::new(&mut task));
            self.stop.run_until_cancelled(limited).await
        };
        let failed = |error: String| Message::MonitorFailed { monitor: self.id.clone(), error };
        match waited {
            None => {
                abort(&mut task).await;
                None
            }
            Some(Ok(Ok(sampled))) => Some((self.message(stage, sampled), true)),
            Some(Ok(Err(error))) => Some((failed(join_text(error)), true)),
            Some(Err(_)) => {
                let late = format!("no sample within {}", Span(self.limit));
                match abort(&mut task).await {
                    Some(_) => Some((failed(late), true)),
                    None => Some((failed(format!("{late}; it blocks its thread")), false)),
                }
            }
        }
    }

    fn message(&self, stage: &Stage, sampled: Result<Vec<Sample>, MonitorError>) -> Message {
        let stamp = |mut sample: Sample| {
            if matches!(sample.value, Reading::Value(value) if !value.is_finite()) {
                sample.value = Reading::Unavailable("the monitor measured no number".to_owned());
            }
            stage.stamp(&self.id, sample)
        };
        match sampled {
            Ok(samples) => Message::Sampled(samples.into_iter().map(stamp).collect()),
            Err(error) => Message::MonitorFailed { monitor: self.id.clone(), error: chain(&error) },
        }
    }
}
