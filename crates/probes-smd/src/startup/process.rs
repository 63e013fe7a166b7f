//! A process of ours: any team's own application, run as its command stands, without docker.
//!
//! It gets an environment of its own, a process group of its own, and the database only through a
//! relay's socket. It is watched until it serves, fails, exits or takes too long, then ended.

use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use shakedown_core::cleanup::Registered;
use shakedown_core::clock::{self, Instant, Timestamp};
use shakedown_core::id::resource;
use shakedown_core::startup::Role;
use shakedown_core::{Allotment, Draw, ProbeCtx, ProbeError};
use shakedown_wire::pg::{PgTarget, Relay, RelayReport, RelaySettings};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::Running;
use super::consent;
use super::entry::Entry;
use super::group::{Group, Held};
use super::guard::Guard;
use super::health::{self, Poll};
use super::lines::Lines;
use super::place::Place;
use super::timeline::{Collector, Origin, exit_sign};
use crate::application::Application;

/// How often its memory and threads are read.
const LOOK: Duration = Duration::from_millis(250);
/// How long after it said that it is complete its health is waited for, and the other way round.
const SETTLE: Duration = Duration::from_secs(2);
/// How long after a failed start-up its exit is waited for.
const EXIT: Duration = Duration::from_secs(10);
/// How often its health is asked.
const ASK: Duration = Duration::from_secs(1);
/// What is still in its pipes after its end is waited for so long.
const DRAIN: Duration = Duration::from_secs(1);

/// How the watching of it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// It exited by itself.
    Exited,
    /// It said that it is complete, or its health did; we ended it.
    Started,
    /// It said that it failed and did not exit; we ended it.
    FailedAndStayed,
    /// It was neither at the ceiling; we ended it.
    Ceiling,
}

/// What of it was left after its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Processes of its group that outlived its first one.
    pub processes: u32,
    /// Whether somebody still listened at its port.
    pub listening: bool,
    /// Files in the folder that was its own, the first few by name.
    pub files: Vec<String>,
    /// Database connections of it still open at the relay.
    pub connections: u32,
}

/// What came of running the application once.
#[derive(Clone, Debug)]
pub struct ProcessRun {
    /// What its evidence calls it: `started-1`.
    pub instance: String,
    /// How the watching ended.
    pub watched: Watched,
    /// Its exit code, also after we ended it.
    pub exit_code: Option<i32>,
    /// The signal it ended on.
    pub signal: Option<i32>,
    /// From its start until its health answered 200, in seconds.
    pub healthy_after_s: Option<f64>,
    /// How long it was watched, in seconds.
    pub took_s: f64,
    /// From its failure or our asking it to end, until nothing of it was left, in seconds; `None`
    /// when something stayed.
    pub gone_after_s: Option<f64>,
    /// Its health, as asked.
    pub polls: Vec<Poll>,
    /// The most its processes held, each figure for itself; `None` where it could not be read.
    pub peak: Option<Held>,
    /// What went through the relay; `None` when it has no database socket.
    pub relay: Option<RelayReport>,
    /// How many database connections it could hold at once.
    pub leases: u32,
    /// What was left.
    pub left: Left,
}

impl ProcessRun {
    /// Whether and how our own limits held it up: it was refused connections, and all that we let
    /// through came to their first answer, so that nothing else did.
    pub fn limited(&self) -> Option<String> {
        let relay = self.relay.as_ref()?;
        let refused = relay.refused + relay.other_role;
        let through = relay.accepted.saturating_sub(refused);
        (refused > 0 && relay.failed == 0 && relay.ready >= through).then(|| {
            format!(
                "the limit was ours: of {} connections {} were refused with 53300 because the run's \
                 budget left {} for it, and {} because of another role than the one that was \
                 checked; raise safety.database_connections",
                relay.accepted, relay.refused, self.leases, relay.other_role
            )
        })
    }
}

/// Why it was not run.
pub(crate) type NotRun = String;

/// Runs the configured command once and ends it again. `beside` runs along until it is dropped.
///
/// # Errors
///
/// [`ProbeError`] when the command cannot be run at all.
///
/// # Cancel safety
///
/// When dropped, the whole group is killed; the ledger sees to what is left.
pub(crate) async fn run(
    ctx: &ProbeCtx,
    section: &Application,
    live: &Running,
    collector: &mut Collector,
    instance: String,
    beside: impl Future<Output = ()> + Send,
) -> Result<Result<ProcessRun, NotRun>, ProbeError> {
    let place = Place::new(ctx, section)?;
    let leases = if place.wants_database() { section.draws } else { 0 };
    if let Some(why) = consent::refused(ctx, section, leases) {
        return Ok(Err(why));
    }
    let relay = match place.target() {
        None => None,
        Some(target) => {
            let Some(allotment) = reserve(ctx, section.draws).await? else {
                return Ok(Err("no database connection of the run's budget is left for it".into()));
            };
            if let Some(why) = consent::role_refused(ctx, &allotment, target).await? {
                return Ok(Err(why));
            }
            Some(bind(ctx, &place, target, allotment, section)?)
        }
    };
    let leases = relay.as_ref().map_or(0, |(_, leases)| *leases);
    let relay = relay.map(|(relay, _)| relay);
    let group = Arc::new(OnceLock::new());
    let undo = register(ctx, section, &group);
    let started = Started::spawn(section, &place, &group)?;
    live.set(Some((started.group, place.port())));
    let serve = async {
        match &relay {
            Some(relay) => relay.serve(ctx).await,
            None => std::future::pending().await,
        }
    };
    let beside = async {
        beside.await;
        std::future::pending::<()>().await;
    };
    let watch = Watch { ctx, section, place: &place, collector, instance: &instance };
    let watched = ctx.guard(async {
        tokio::select! {
            () = serve => unreachable!("it serves until it is dropped"),
            () = beside => unreachable!("it goes on for ever"),
            watched = watch.through(started, relay.as_ref()) => watched,
        }
    });
    let watched = watched.await;
    live.set(None);
    let mut run = watched??;
    undo.done();
    run.relay = relay.as_ref().map(Relay::report);
    run.leases = leases;
    run.instance = instance;
    Ok(Ok(run))
}

/// Sets aside up to `wanted` database connections, and fewer where the budget does not have them;
/// `None` where it has none.
async fn reserve(ctx: &ProbeCtx, wanted: u32) -> Result<Option<Allotment>, ProbeError> {
    let draw = |amount| [Draw::new(resource::DATABASE_CONNECTION, amount)];
    let all = wanted.min(consent::free(ctx)).max(1);
    // What earlier probes held may still linger.
    let linger = ctx.environment().safety.linger.get();
    let whole = ctx.guard(tokio::time::timeout(linger, ctx.budget().reserve(&draw(all)))).await?;
    if let Ok(allotment) = whole {
        return Ok(Some(allotment?));
    }
    for amount in (1..all).rev() {
        if let Some(allotment) = ctx.budget().reserve(&draw(amount)).now_or_never() {
            return Ok(Some(allotment?));
        }
    }
    Ok(None)
}

fn bind(
    ctx: &ProbeCtx,
    place: &Place,
    target: &PgTarget,
    allotment: Allotment,
    section: &Application,
) -> Result<(Relay, u32), ProbeError> {
    let leases = allotment.drawn(&resource::DATABASE_CONNECTION);
    let checked = !ctx.environment().consent.application_writes
        && ctx.environment().identity.tier != shakedown_core::Tier::Lab;
    let settings = RelaySettings {
        target: target.clone(),
        patience: section.patience.get(),
        only_user: checked.then(|| target.user.clone()),
    };
    let relay = Relay::bind(place.socket_dir(), allotment, settings)
        .map_err(|error| ProbeError::internal("making the application's database socket", error))?;
    Ok((relay, leases))
}

/// The ledger's entry: the group has gone, whatever became of us.
fn register(ctx: &ProbeCtx, section: &Application, group: &Arc<OnceLock<Group>>) -> Registered {
    let program = section.command.first().map_or("", |program| program.as_str());
    let grace = ctx.environment().safety.grace.get() / 2;
    let group = Arc::clone(group);
    ctx.cleanup().register(
        format!("the started process `{program}` and its group"),
        move || async move {
            match group.get() {
                Some(group) if !group.end(grace).await => Err("it is still there".to_owned()),
                _ => Ok(()),
            }
        },
    )
}

/// A process that was started. Kills its group when it is dropped; its guard does when we are killed.
struct Started {
    child: Child,
    group: Group,
    _guard: Guard,
    lines: mpsc::Receiver<(Timestamp, String)>,
    since: Instant,
}

impl Started {
    fn spawn(
        section: &Application,
        place: &Place,
        group: &OnceLock<Group>,
    ) -> Result<Self, ProbeError> {
        let mut words = section.command.iter().map(|word| place.fill(word));
        let program = words.next().unwrap_or_default();
        let mut command = std::process::Command::new(&program);
        command
            .args(words)
            .current_dir(&section.directory)
            .env_clear()
            .envs(section.environment.iter().map(|(name, value)| (name, place.fill(value))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut command = Command::from(command);
        let since = clock::now();
        let mut child = command.kill_on_drop(true).spawn().map_err(|error| {
            let what = format!("`{program}` in `{}` cannot be run: {error}", section.directory);
            ProbeError::configuration(what, "application.command")
        })?;
        let id = child.id().and_then(Group::of);
        let id = id.ok_or_else(|| ProbeError::internal("starting the application", "no id"))?;
        let _ = group.set(id);
        let guard = Guard::over(id).map_err(|error| {
            id.kill();
            ProbeError::internal("starting the guard of the application", error)
        })?;
        let (sender, lines) = mpsc::channel(1024);
        tokio::spawn(forward(child.stdout.take(), sender.clone()));
        tokio::spawn(forward(child.stderr.take(), sender));
        Ok(Self { child, group: id, _guard: guard, lines, since })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.group.kill();
    }
}

/// Reads a pipe to its end, stamping every line with its arrival.
async fn forward(pipe: Option<impl AsyncRead + Unpin>, sender: mpsc::Sender<(Timestamp, String)>) {
    let Some(mut pipe) = pipe else { return };
    let mut lines = Lines::default();
    let mut buffer = vec![0; 8 << 10];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        let at = clock::wall();
        let mut whole = Vec::new();
        lines.push(&buffer[..read], |line| whole.push(line.to_owned()));
        for line in whole {
            if sender.send((at, line)).await.is_err() {
                return;
            }
        }
    }
    if let Some(line) = lines.end() {
        // Whoever has gone does not miss it.
        let _ = sender.send((clock::wall(), line)).await;
    }
}

struct Watch<'a> {
    ctx: &'a ProbeCtx,
    section: &'a Application,
    place: &'a Place,
    collector: &'a mut Collector,
    instance: &'a str,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    complete: Option<Instant>,
    healthy: Option<Instant>,
    failed: Option<Instant>,
    status: Option<std::process::ExitStatus>,
    polls: Vec<Poll>,
    peak: Option<Held>,
}

impl Seen {
    /// When to stop watching, and as what.
    fn due(&self, ceiling: Instant, scaled: impl Fn(Duration) -> Duration) -> (Instant, Watched) {
        if let Some(failed) = self.failed {
            return (failed + scaled(EXIT), Watched::FailedAndStayed);
        }
        match (self.complete, self.healthy) {
            (Some(complete), Some(healthy)) => (complete.max(healthy), Watched::Started),
            (Some(one), None) | (None, Some(one)) => (one + scaled(SETTLE), Watched::Started),
            (None, None) => (ceiling, Watched::Ceiling),
        }
    }

    fn hold(&mut self, held: Option<Held>) {
        let Some(held) = held else { return };
        let peak = self.peak.get_or_insert_default();
        peak.processes = peak.processes.max(held.processes);
        peak.resident_bytes = peak.resident_bytes.max(held.resident_bytes);
        peak.threads = peak.threads.max(held.threads);
    }
}

impl Watch<'_> {
    async fn through(
        mut self,
        mut started: Started,
        relay: Option<&Relay>,
    ) -> Result<ProcessRun, ProbeError> {
        let mut seen = Seen::default();
        let watched = self.watch(&mut started, &mut seen).await?;
        let over = clock::now();
        let took_s = (over - started.since).as_secs_f64();
        let mut left = Left::default();
        let grace = self.ctx.environment().safety.grace.get();
        if watched == Watched::Exited {
            // Its children get a moment to notice.
            started.group.gone_within(LOOK).await;
            left.processes = started
                .group
                .held()
                .map_or_else(|| u32::from(started.group.lives()), |held| held.processes);
        } else {
            let ended = tokio::join!(started.group.end(grace), started.child.wait());
            seen.status = ended.1.ok();
        }
        self.drain(&mut started, &mut seen, watched).await;
        let mut gone = left.processes == 0;
        gone &= started.group.end(grace).await;
        left.connections = relay.map_or(0, |relay| relay.report().open);
        if left.connections > 0 {
            tokio::time::sleep(LOOK).await;
            left.connections = relay.map_or(0, |relay| relay.report().open);
        }
        left.listening = self.place.listens();
        left.files = self.place.files();
        gone &= !left.listening && left.connections == 0;
        let from = seen.failed.filter(|_| watched == Watched::Exited).unwrap_or(over);
        let at = |instant: Instant| (instant - started.since).as_secs_f64();
        let status = seen.status;
        Ok(ProcessRun {
            instance: String::new(),
            watched,
            exit_code: status.and_then(|status| status.code()),
            signal: status.as_ref().and_then(std::os::unix::process::ExitStatusExt::signal),
            healthy_after_s: seen.healthy.map(at),
            took_s,
            gone_after_s: gone.then(|| from.elapsed().as_secs_f64()),
            polls: seen.polls,
            peak: seen.peak,
            relay: None,
            leases: 0,
            left,
        })
    }

    async fn watch(
        &mut self,
        started: &mut Started,
        seen: &mut Seen,
    ) -> Result<Watched, ProbeError> {
        let scale = self.ctx.environment().time_scale();
        let ceiling = started.since + self.section.startup_ceiling.value.get();
        let mut look = tokio::time::interval(LOOK);
        let (ctx, place, section) = (self.ctx, self.place, self.section);
        let every = scale.tolerance(ASK);
        let asks = futures_util::stream::unfold(0_usize, move |asked| async move {
            tokio::time::sleep(every).await;
            let path = &section.health_paths.get(asked % section.health_paths.len().max(1))?;
            let base = format!("http://127.0.0.1:{}", place.port());
            let limit = scale.limit(SETTLE);
            Some((health::poll(ctx, Origin::Process, &base, path.as_str(), limit).await, asked + 1))
        });
        let mut asks = std::pin::pin!(asks.fuse());
        let mut open = true;
        loop {
            let (due, watched) = seen.due(ceiling, |limit| scale.limit(limit));
            tokio::select! {
                line = started.lines.recv(), if open => match line {
                    Some((at, line)) => self.line(at, &line, seen),
                    None => open = false,
                },
                status = started.child.wait() => {
                    seen.status = status.ok();
                    return Ok(Watched::Exited);
                }
                Some(poll) = asks.next(), if seen.healthy.is_none() => {
                    let poll = poll?;
                    if poll.is_good() {
                        seen.healthy = Some(clock::now());
                    }
                    seen.polls.push(poll);
                }
                _ = look.tick() => seen.hold(started.group.held()),
                () = tokio::time::sleep_until(due) => return Ok(watched),
            }
        }
    }

    fn line(&mut self, at: Timestamp, line: &str, seen: &mut Seen) {
        let Some(entry) = Entry::read(line) else { return };
        let instance = self.instance.to_owned();
        // Our own clock, at its arrival: one clock for everything about a process of ours.
        let entry = Entry { at: Some(at), revision: String::new(), instance, ..entry };
        for role in self.collector.take(Origin::Process, &entry) {
            match role {
                up if Role::UP.contains(&up) => {
                    seen.complete = seen.complete.or(Some(clock::now()));
                }
                Role::Failed | Role::PhaseFailed | Role::ImportDeath if seen.complete.is_none() => {
                    seen.failed = seen.failed.or(Some(clock::now()));
                }
                _ => {}
            }
        }
    }

    /// Reads what is still in the pipes and notes an exit that was not our doing.
    async fn drain(&mut self, started: &mut Started, seen: &mut Seen, watched: Watched) {
        let until = clock::now() + DRAIN;
        while let Ok(Some((at, line))) = tokio::time::timeout_at(until, started.lines.recv()).await
        {
            self.line(at, &line, seen);
        }
        if let Some(status) = seen.status.filter(|_| watched == Watched::Exited) {
            let signal = std::os::unix::process::ExitStatusExt::signal(&status);
            let sign = exit_sign(clock::wall(), status.code(), signal);
            self.collector.sign(Origin::Process, self.instance, sign);
        }
    }
}
