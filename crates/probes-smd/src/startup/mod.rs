//! Where start-ups are seen: log files that are followed, a process of ours, health endpoints.
//!
//! Every source gives to one [`Record`], from which the start-ups are put together. The record is
//! made once per run and shared by its probes: an application is started once, by whichever probe
//! comes first, and asked about by all.

mod consent;
mod entry;
mod follow;
mod group;
mod guard;
mod health;
mod lines;
mod place;
mod process;
mod sources;
mod tell;
#[cfg(test)]
pub(crate) mod testing;
mod timeline;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use health::Poll;
pub use process::{Left, ProcessRun, Watched};
use shakedown_core::{
    AttemptEnd, Finding, Outcome, ProbeCtx, ProbeError, SkipReason, StartupConfig,
};
use shakedown_wire::pg::OUR_LIMIT;
pub use timeline::{Line, Origin, Start};

pub(crate) use group::Group;
pub use group::Held;
use sources::{Health, LogFiles, Process, Source as _};
use tell::Told;
use timeline::Collector;
pub(crate) use timeline::{seconds, way_out_s};

use crate::application::Application;
use crate::section::Startup;

/// What every source gives to.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) collector: Collector,
    /// Health, as asked: the service's, and the started process's.
    pub(crate) polls: Vec<Poll>,
    /// The first run of the process.
    pub(crate) process: Option<Arc<ProcessRun>>,
    /// What a person should know about the sources.
    pub(crate) notes: Vec<String>,
}

/// The started process that runs now, for the monitor: its group and its port.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<Option<(Group, u16)>>);

impl Running {
    pub(crate) fn set(&self, running: Option<(Group, u16)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    pub(crate) fn get(&self) -> Option<(Group, u16)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the probes of a run know of start-ups.
#[derive(Debug, Default)]
pub(crate) struct Startups {
    inner: tokio::sync::Mutex<Option<Inner>>,
    pub(crate) running: Running,
    latest: Mutex<Option<Arc<Observed>>>,
}

#[derive(Debug)]
struct Inner {
    record: Record,
    logs: LogFiles,
    health: Health,
    process: Process,
    told: Told,
}

/// The start-ups seen so far, by whatever source.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// In time order, without those that our own limits broke.
    pub(crate) starts: Vec<Start>,
    pub(crate) polls: Vec<Poll>,
    pub(crate) process: Option<Arc<ProcessRun>>,
    pub(crate) notes: Vec<String>,
    /// With the limits in force.
    pub(crate) config: StartupConfig,
}

impl Observed {
    /// Those that failed.
    pub(crate) fn failed(&self) -> impl DoubleEndedIterator<Item = &Start> {
        self.starts.iter().filter(|start| start.attempt.failed())
    }

    /// Those that completed.
    pub(crate) fn completed(&self) -> impl DoubleEndedIterator<Item = &Start> {
        self.starts.iter().filter(|start| start.attempt.end == AttemptEnd::Completed)
    }

    /// The start-up that tells how the application is doing: of each source the latest that has an
    /// end (else the latest), and of these the one that failed. A copy of ours that starts well does
    /// not excuse a staging that does not.
    pub(crate) fn latest(&self) -> Option<&Start> {
        let of = |origin: Origin| {
            let mut starts = self.starts.iter().rev().filter(move |start| start.origin == origin);
            let ended = |start: &&Start| start.attempt.end != AttemptEnd::Unknown;
            starts.clone().find(ended).or_else(|| starts.next())
        };
        let both = [of(Origin::Logs), of(Origin::Process)];
        let mut all = both.into_iter().flatten();
        all.clone().find(|start| start.attempt.end != AttemptEnd::Completed).or_else(|| all.next())
    }

    /// Adds to `outcome` what a person should know about the sources.
    pub(crate) fn noted(&self, outcome: Outcome) -> Outcome {
        self.notes.iter().fold(outcome, |outcome, note| outcome.find(Finding::new(note.clone())))
    }
}

impl Startups {
    /// The run's.
    pub(crate) fn of(ctx: &ProbeCtx) -> Arc<Self> {
        let made =
            ctx.shared().get_or_try_init(|| Ok::<_, std::convert::Infallible>(Self::default()));
        match made {
            Ok(startups) => startups,
            Err(never) => match never {},
        }
    }

    /// What was observed last, for whoever only looks.
    pub(crate) fn last(&self) -> Option<Arc<Observed>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks every source that is configured. The process is run the first time; log files are read on
    /// every time. An outcome instead, where no start-up is to be seen.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] when a source cannot be used, or the probe ends first.
    ///
    /// # Cancel safety
    ///
    /// When dropped, a started process is killed, and the next call starts one anew.
    pub(crate) async fn observe(
        &self,
        ctx: &ProbeCtx,
    ) -> Result<Result<Arc<Observed>, Outcome>, ProbeError> {
        let section: Application = ctx.section()?;
        if section.command.is_empty() && section.logs.is_empty() {
            let why = "no start-up observed: set [application] command or logs";
            return Ok(Err(Outcome::skip(SkipReason::NotConfigured(why.into()))));
        }
        let mut inner = ctx.guard(self.inner.lock()).await?;
        let inner = match &mut *inner {
            Some(inner) => inner,
            none => none.insert(Inner::new(ctx, &section)?),
        };
        let Inner { record, logs, health, process, told } = inner;
        logs.observe(ctx, &section, &self.running, record).await?;
        process.observe(ctx, &section, &self.running, record).await?;
        health.observe(ctx, &section, &self.running, record).await?;
        let observed = Arc::new(record.observed());
        told.tell(ctx, &observed);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&observed));
        if observed.starts.is_empty() {
            return Ok(Err(observed.noted(Outcome::skip(none_seen(&section, &observed)))));
        }
        Ok(Ok(observed))
    }

    /// Follows the log files until `enough` or `limit` is over; [`observe`](Self::observe) then gives
    /// what was seen.
    pub(crate) async fn follow_logs(
        &self,
        ctx: &ProbeCtx,
        limit: Duration,
        enough: impl Fn(&[Start]) -> bool + Send,
    ) -> Result<(), ProbeError> {
        let mut inner = ctx.guard(self.inner.lock()).await?;
        match &mut *inner {
            Some(Inner { record, logs, .. }) => logs.follow(ctx, record, limit, enough).await,
            None => Ok(()),
        }
    }

    /// Runs the application once more, with `beside` along with it, and gives the start-up it made.
    pub(crate) async fn run_again(
        &self,
        ctx: &ProbeCtx,
        beside: impl Future<Output = ()> + Send,
    ) -> Result<Result<(ProcessRun, Option<Start>), String>, ProbeError> {
        let section: Application = ctx.section()?;
        let mut inner = ctx.guard(self.inner.lock()).await?;
        let inner = match &mut *inner {
            Some(inner) => inner,
            none => none.insert(Inner::new(ctx, &section)?),
        };
        let collector = &mut inner.record.collector;
        let instance = inner.process.next_instance();
        let run =
            process::run(ctx, &section, &self.running, collector, instance.clone(), beside).await?;
        let run = match run {
            Ok(run) => run,
            Err(not_run) => return Ok(Err(not_run)),
        };
        let mut starts = collector.starts();
        starts.retain(|start| start.subject.instance == instance);
        // One application under load is no start-up of the others' to be asked about.
        collector.forget(Origin::Process, &instance);
        Ok(Ok((run, starts.pop())))
    }
}

/// Why there is nothing to ask about.
fn none_seen(section: &Application, observed: &Observed) -> SkipReason {
    let ours = observed.process.as_ref().and_then(|process| process.limited());
    match ours {
        Some(limited) => SkipReason::Unavailable(limited),
        None if section.command.is_empty() => {
            let files = section.logs.join(", ");
            SkipReason::NotExercised(format!("no start-up in the lines held of {files}"))
        }
        None if observed.process.is_none() && section.logs.is_empty() => {
            SkipReason::Unavailable("the command was not run".to_owned())
        }
        None => SkipReason::NotExercised(
            "no line of the application is a marker of [startup]: state its words there".to_owned(),
        ),
    }
}

impl Inner {
    fn new(ctx: &ProbeCtx, section: &Application) -> Result<Self, ProbeError> {
        let scale = f64::from(u32::from(ctx.environment().time_scale()));
        let collector = Collector::new(ctx.section::<Startup>()?, section, scale)?;
        Ok(Self {
            record: Record { collector, polls: Vec::new(), process: None, notes: Vec::new() },
            logs: LogFiles::new(section),
            health: Health,
            process: Process::default(),
            told: Told::default(),
        })
    }
}

impl Record {
    fn observed(&self) -> Observed {
        let mut starts = self.collector.starts();
        let mut notes = self.notes.clone();
        if let Some(process) = &self.process {
            // It says nothing about the target that ours was too little.
            let limited = process.limited();
            let refused = |start: &Start| start.lines.iter().any(|l| l.text.contains(OUR_LIMIT));
            let ours = |start: &Start| {
                start.origin == Origin::Process
                    && start.subject.instance == process.instance
                    && start.attempt.end != AttemptEnd::Completed
                    && (limited.is_some() || refused(start))
            };
            starts.retain(|start| !ours(start));
            notes.extend(limited);
        }
        Observed {
            starts,
            polls: self.polls.clone(),
            process: self.process.clone(),
            notes,
            config: self.collector.config().clone(),
        }
    }
}
