//! The sources of start-ups, behind one trait.

use std::sync::Arc;
use std::time::Duration;

use shakedown_core::{AttemptEnd, ProbeCtx, ProbeError, async_trait, clock};

use super::entry::Entry;
use super::follow::Follower;
use super::timeline::{Origin, Start};
use super::{Record, Running, health, process};
use crate::application::Application;

/// How often a log file is looked at for more.
const LOOK: Duration = Duration::from_millis(200);

/// Something that start-ups are seen by.
#[async_trait]
pub(crate) trait Source: Send {
    /// Sees what there is to see and gives it to `record`: nothing when it is not configured.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] when it cannot be used, or the probe ends first; what it saw until then stays
    /// in the record.
    async fn observe(
        &mut self,
        ctx: &ProbeCtx,
        section: &Application,
        running: &Running,
        record: &mut Record,
    ) -> Result<(), ProbeError>;
}

/// Log files. Where no start-up in them has ended, the unfinished one is followed to its end.
#[derive(Debug)]
pub(crate) struct LogFiles {
    files: Vec<(Follower, bool)>,
}

impl LogFiles {
    pub(crate) fn new(section: &Application) -> Self {
        Self { files: section.logs.iter().map(|path| (Follower::new(path), false)).collect() }
    }

    /// Reads what is new.
    pub(crate) fn read(&mut self, record: &mut Record) {
        for (file, complained) in &mut self.files {
            let collector = &mut record.collector;
            let read = file.read(|line| {
                if let Some(entry) = Entry::read(line) {
                    collector.take(Origin::Logs, &entry);
                }
            });
            if let Err(error) = read
                && !std::mem::replace(complained, true)
            {
                let path = file.path().display();
                record.notes.push(format!("the log file {path} cannot be read: {error}"));
            }
        }
    }

    /// Reads on until `enough` or `limit` is over.
    pub(crate) async fn follow(
        &mut self,
        ctx: &ProbeCtx,
        record: &mut Record,
        limit: Duration,
        enough: impl Fn(&[Start]) -> bool,
    ) -> Result<(), ProbeError> {
        let until = clock::now() + ctx.at_most(limit);
        loop {
            self.read(record);
            if enough(&record.collector.starts()) || clock::now() >= until {
                return Ok(());
            }
            ctx.sleep(LOOK).await?;
        }
    }
}

#[async_trait]
impl Source for LogFiles {
    async fn observe(
        &mut self,
        ctx: &ProbeCtx,
        section: &Application,
        _: &Running,
        record: &mut Record,
    ) -> Result<(), ProbeError> {
        if self.files.is_empty() {
            return Ok(());
        }
        // In a loop there always is one that has not ended: those before it tell enough.
        let over = |starts: &[Start]| {
            let mut of_logs = starts.iter().filter(|start| start.origin == Origin::Logs).peekable();
            of_logs.peek().is_none()
                || of_logs.any(|start| start.attempt.end != AttemptEnd::Unknown)
        };
        self.follow(ctx, record, section.startup_ceiling.value.get(), over).await
    }
}

/// The configured command, run once.
#[derive(Debug, Default)]
pub(crate) struct Process {
    refused: bool,
    runs: u32,
}

impl Process {
    pub(crate) fn next_instance(&mut self) -> String {
        self.runs += 1;
        format!("started-{}", self.runs)
    }
}

#[async_trait]
impl Source for Process {
    async fn observe(
        &mut self,
        ctx: &ProbeCtx,
        section: &Application,
        running: &Running,
        record: &mut Record,
    ) -> Result<(), ProbeError> {
        if section.command.is_empty() || self.refused || record.process.is_some() {
            return Ok(());
        }
        ctx.progress("starting the application");
        let collector = &mut record.collector;
        let beside = std::future::pending();
        let instance = self.next_instance();
        let run = process::run(ctx, section, running, collector, instance, beside).await?;
        match run {
            Ok(run) => {
                record.polls.extend(run.polls.iter().cloned());
                record.process = Some(Arc::new(run));
            }
            Err(why) => {
                self.refused = true;
                record.notes.push(why);
            }
        }
        Ok(())
    }
}

/// The health endpoints of the environment's service: what its clients see. Asked once, and again
/// after a failure that is later.
#[derive(Debug, Default)]
pub(crate) struct Health;

#[async_trait]
impl Source for Health {
    async fn observe(
        &mut self,
        ctx: &ProbeCtx,
        section: &Application,
        _: &Running,
        record: &mut Record,
    ) -> Result<(), ProbeError> {
        let service = ctx.environment().services.get(&section.service);
        let Some(service) = service.filter(|_| !section.logs.is_empty()) else { return Ok(()) };
        let of_logs = |origin: Origin| origin == Origin::Logs;
        let asked = record.polls.iter().rev().find(|poll| of_logs(poll.origin)).map(|poll| poll.at);
        let starts = record.collector.starts();
        let failed = starts.iter().rev().find(|start| of_logs(start.origin));
        let failed = failed.and_then(|start| start.attempt.failed_at);
        if asked.is_some() && asked >= failed {
            return Ok(());
        }
        let limit = ctx.environment().safety.connect_timeout.get();
        for path in &section.health_paths {
            let asked = health::poll(ctx, Origin::Logs, &service.url, path.as_str(), limit).await?;
            record.polls.push(asked);
        }
        Ok(())
    }
}
