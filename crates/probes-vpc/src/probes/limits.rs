//! Where a path's limits lie: how many connections it carries, and how many new ones per second.
//!
//! Only for a target that can bear it: `vpc.connector-capacity` looks for limits when its
//! `find_limits_up_to` is set, and no further than that.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use shakedown_core::clock::{self, Instant};
use shakedown_core::id::resource;
use shakedown_core::{Fault, Finding, Outcome, ProbeCtx, ProbeError, Span, Step};
use shakedown_wire::net;
use shakedown_wire::pg::{self, Endpoint};

use super::target::DatabaseTarget;
use crate::series::{Attempt, FIRST_RETRANSMIT_MS};

/// Fewer answered connects than these make no rate.
const RATE_FROM: usize = 10;
/// A connect of the rate's search ends before TCP sends its packet again, so that each stands for
/// one packet at a known time.
pub(crate) const ONE_SYN: Duration = Duration::from_millis(900);
/// A longer pause between two offers lets the path save up for a burst that is never offered.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connect that stays unanswered for so long found no room. TCP sends its packet three times in it,
/// at every time scale, so that one that was only too early gets through.
const FULL_AFTER: Duration = Duration::from_secs(5);
const _: () = assert!(ONE_SYN.as_millis() < FIRST_RETRANSMIT_MS as u128);

/// How limits are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// Connections at most.
    pub(crate) up_to: u32,
    /// For how long connects are offered to find the rate.
    pub(crate) rate_window: Duration,
}

/// What was found of a rate limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RateFound {
    /// Every connect was answered.
    AtLeast { per_second: f64 },
    /// Connects were turned away, and those answered meanwhile came at this rate.
    Limit { per_second: f64, answered: usize },
    /// It cannot be told, for this reason.
    Unknown(String),
}

/// What was found of a limit of connections at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RoomFound {
    /// All that may be opened were.
    AtLeast { held: u32 },
    /// The next one stayed unanswered until one of ours was closed. `others` are this run's.
    Limit { held: u32, others: u32 },
    /// It cannot be told, for this reason.
    Unknown { held: u32, why: String },
}

/// Offers connects faster than they are carried, then holds as many as are.
pub(crate) async fn find(
    ctx: &ProbeCtx,
    target: &DatabaseTarget,
    search: Search,
) -> Result<(RateFound, RoomFound), ProbeError> {
    let rate = find_rate(ctx, target, search).await?;
    // What stayed unanswered counts no longer then.
    ctx.sleep(ctx.environment().safety.linger.get()).await?;
    Ok((rate, find_room(ctx, target, search).await?))
}

/// Offers single connects, each closed at once, as fast as the run's own rate permits, and looks at
/// when those that were answered were. What the path had saved up for a burst is used up when the
/// first stays unanswered; what is answered after that came at the path's own rate.
async fn find_rate(
    ctx: &ProbeCtx,
    target: &DatabaseTarget,
    search: Search,
) -> Result<RateFound, ProbeError> {
    let Endpoint::Tcp { host, port } = &target.pg.endpoint else {
        return Ok(RateFound::Unknown("a proxy's socket hides its connects".into()));
    };
    let own = ctx.environment().safety.connection_rate.value;
    let every = own.per / own.count.max(1);
    let offer = async || {
        let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
        let climb = net::tcp_within(ctx, lease, host, *port, ONE_SYN).await.uninterrupted()?;
        let ended = clock::now();
        if let Ok(peer) = climb.result {
            peer.close().await;
        }
        let took: f64 = climb.steps.iter().map(|step| step.elapsed_ms).sum();
        Ok::<_, ProbeError>((ended - Duration::from_secs_f64(took / 1e3), climb.steps))
    };
    let began = clock::now();
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut under_way = FuturesUnordered::new();
    let mut offered = Vec::new();
    while began.elapsed() < search.rate_window {
        tokio::select! {
            Some(one) = under_way.next() => offered.push(one?),
            tick = ctx.guard(ticks.tick()), if under_way.len() < search.up_to as usize => {
                tick?;
                under_way.push(offer());
            }
        }
    }
    while let Some(one) = under_way.next().await {
        offered.push(one?);
    }
    offered.sort_by_key(|(at, _)| *at);
    let series: Vec<(Instant, Option<Step>)> = offered
        .into_iter()
        .map(|(at, steps)| (at, Attempt::of(target.path.way, 0.0, &steps).unanswered().cloned()))
        .collect();
    Ok(read_rate(&series))
}

/// Reads connects in the order they were offered, each with the step it stayed unanswered at.
fn read_rate(series: &[(Instant, Option<Step>)]) -> RateFound {
    let other = series.iter().find_map(|(_, unanswered)| {
        unanswered.as_ref()?.fault.as_ref().filter(|fault| !matches!(fault, Fault::Timeout { .. }))
    });
    if let Some(fault) = other {
        return RateFound::Unknown(format!("a connect ended with {}", fault.code()));
    }
    let turned_away = series.iter().position(|(_, unanswered)| unanswered.is_some());
    let since = turned_away.unwrap_or_default();
    let Some(first) = series.get(since) else {
        return RateFound::Unknown("no connect ended in the window".into());
    };
    let paused = series[since..].windows(2).map(|pair| pair[1].0.duration_since(pair[0].0)).max();
    if paused > Some(LONGEST_PAUSE) {
        return RateFound::Unknown(
            "the offer paused: each unanswered connect takes one of `safety.database_connections` \
             for `safety.linger` on; raise the one, or lower `safety.connection_rate`"
                .into(),
        );
    }
    let answered: Vec<f64> = series[since..]
        .iter()
        .filter(|(_, unanswered)| unanswered.is_none())
        .map(|(at, _)| at.duration_since(first.0).as_secs_f64())
        .collect();
    match slope(&answered) {
        Some(per_second) if turned_away.is_some() => {
            RateFound::Limit { per_second, answered: answered.len() }
        }
        Some(per_second) => RateFound::AtLeast { per_second },
        None => RateFound::Unknown(format!("only {} connects were answered", answered.len())),
    }
}

/// How many per second these moments are: the line through (moment, count) with the least squares,
/// which one moment too early or too late does not turn.
fn slope(moments: &[f64]) -> Option<f64> {
    if moments.len() < RATE_FROM {
        return None;
    }
    let n = f64::from(u32::try_from(moments.len()).ok()?);
    let counts = || (0..).map(f64::from).zip(moments);
    let (mean_at, mean_count) = (moments.iter().sum::<f64>() / n, (n - 1.0) / 2.0);
    let spread: f64 = moments.iter().map(|at| (at - mean_at).powi(2)).sum();
    let common: f64 = counts().map(|(count, at)| (count - mean_count) * (at - mean_at)).sum();
    (spread > 0.0).then(|| common / spread)
}

/// Opens session after session and keeps them, until one stays unanswered. That it was for want of
/// room is shown by closing one: then the next gets through.
async fn find_room(
    ctx: &ProbeCtx,
    target: &DatabaseTarget,
    search: Search,
) -> Result<RoomFound, ProbeError> {
    let kind = resource::DATABASE_CONNECTION;
    let mut pg = target.pg.clone();
    pg.connect_timeout = FULL_AFTER;
    let open = async || {
        let climb = pg::connect(ctx, ctx.lease(&kind).await?, &pg).await.uninterrupted()?;
        let attempt = Attempt::of(target.path.way, 0.0, &climb.steps);
        Ok::<_, ProbeError>((attempt, climb.result.ok()))
    };
    let count = |held: &[pg::PgConnection]| u32::try_from(held.len()).unwrap_or(u32::MAX);
    let mut held = Vec::new();
    // Those there all the time: a monitor's next question comes and goes.
    let mut others = u32::MAX;
    let found = loop {
        if count(&held) >= search.up_to {
            break RoomFound::AtLeast { held: count(&held) };
        }
        ctx.progress(format!("{} of at most {} connections held", held.len(), search.up_to));
        let (attempt, connection) = open().await?;
        if let Some(connection) = connection {
            held.push(connection);
            others = others.min(of_this_run(ctx).saturating_sub(count(&held)));
            continue;
        }
        let ours = count(&held);
        let unknown = |why: &str| RoomFound::Unknown { held: ours, why: why.to_owned() };
        let timed_out = attempt
            .unanswered()
            .is_some_and(|step| matches!(step.fault, Some(Fault::Timeout { .. })));
        if !timed_out {
            let step = attempt.unanswered().or(attempt.behind());
            let code =
                step.and_then(|step| step.fault.as_ref()).map_or_else(String::new, Fault::code);
            break unknown(&format!("the next one ended with {code}"));
        }
        let Some(one) = held.pop() else {
            break unknown("not one was answered");
        };
        one.close().await;
        let (again, connection) = open().await?;
        held.extend(connection);
        break match again.is_answered() {
            true => RoomFound::Limit { held: ours, others },
            false => unknown("the next one stayed unanswered, and so it did when one was closed"),
        };
    };
    join_all(held.into_iter().map(pg::PgConnection::close)).await;
    Ok(found)
}

/// Database connections this run has open.
fn of_this_run(ctx: &ProbeCtx) -> u32 {
    let usage = ctx.budget().usage();
    let ours = usage.iter().find(|usage| usage.resource == resource::DATABASE_CONNECTION);
    ours.map_or(0, |usage| usage.in_use)
}

/// Puts what was found into the outcome.
pub(crate) fn tell(outcome: Outcome, (rate, room): &(RateFound, RoomFound)) -> Outcome {
    let waited = Span(FULL_AFTER);
    let outcome = match room {
        RoomFound::Limit { held, others } => outcome
            .find(Finding::new(format!(
                "the path carries {held} connections of this probe beside {others} others of this \
                 run: the next stayed unanswered for {waited} and got through when one was closed; \
                 connections of others on the same path are not counted"
            )))
            .measure("connections_limit", f64::from(held + others), "connections"),
        RoomFound::AtLeast { held } => outcome
            .find(Finding::new(format!("the path carries {held} connections at once, at least")))
            .measure("connections_at_least", f64::from(*held), "connections"),
        RoomFound::Unknown { held, why } => outcome
            .find(Finding::new(format!(
                "how many connections the path carries was not found with {held} of them open: {why}"
            )))
            .measure("connections_at_least", f64::from(*held), "connections"),
    };
    match rate {
        RateFound::Limit { per_second, answered } => outcome
            .find(Finding::new(format!(
                "the path takes {:.0} new connections a minute: {answered} were answered while \
                 others offered meanwhile were not",
                per_second * 60.0
            )))
            .measure("connection_rate_limit", per_second * 60.0, "connections/min"),
        RateFound::AtLeast { per_second } => outcome
            .find(Finding::new(format!(
                "the path takes {:.0} new connections a minute, at least: all offered were answered",
                per_second * 60.0
            )))
            .measure("connection_rate_at_least", per_second * 60.0, "connections/min"),
        RateFound::Unknown(why) => outcome.find(Finding::new(format!(
            "how many new connections the path takes a minute was not found: {why}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::tests::ladder;

    fn unanswered(fault: Fault) -> Option<Step> {
        ladder(&[("connect", 900.0)], Some(fault)).pop()
    }

    /// Connects every 50 ms of which a bucket that holds 5 and earns 4 a second answers some.
    fn bucket(offered: u64) -> Vec<(Instant, Option<Step>)> {
        let began = clock::now();
        let mut level = 5.0_f64;
        let connect = |n: u64| {
            level = (level + 0.2).min(5.0);
            let answered = level >= 1.0;
            level -= if answered { 1.0 } else { 0.0 };
            let lost = || unanswered(Fault::Timeout { limit: Span::millis(900) });
            let unanswered = if answered { None } else { lost() };
            (began + Duration::from_millis(50 * n), unanswered)
        };
        (0..offered).map(connect).collect()
    }

    #[test]
    fn the_rate_is_that_after_the_burst() {
        let RateFound::Limit { per_second, answered } = read_rate(&bucket(400)) else {
            panic!("not found");
        };
        assert!((per_second - 4.0).abs() < 0.04, "{per_second}");
        assert!(answered > 70, "{answered}");
    }

    #[test]
    fn a_rate_is_not_made_of_a_handful_nor_of_refusals() {
        let all = bucket(5);
        assert!(matches!(read_rate(&all), RateFound::Unknown(_)));
        assert!(matches!(read_rate(&[]), RateFound::Unknown(_)));
        let mut refused = bucket(400);
        refused[300].1 = unanswered(Fault::Refused);
        assert_eq!(read_rate(&refused), RateFound::Unknown("a connect ended with refused".into()));
        let mut paused = bucket(400);
        paused.drain(300..330);
        assert!(matches!(read_rate(&paused), RateFound::Unknown(why) if why.contains("paused")));
        let began = clock::now();
        let every_tenth = |n: u64| (began + Duration::from_millis(100 * n), None);
        let all: Vec<_> = (0..50).map(every_tenth).collect();
        let RateFound::AtLeast { per_second } = read_rate(&all) else { panic!("not found") };
        assert!((per_second - 10.0).abs() < 1e-6, "{per_second}");
    }

    #[test]
    fn a_limit_is_told_as_one_and_what_is_unknown_measures_none() {
        let tell = |found| tell(Outcome::pass(), &found);
        let limit = tell((
            RateFound::Limit { per_second: 4.0, answered: 80 },
            RoomFound::Limit { held: 38, others: 2 },
        ));
        let figures: Vec<_> = limit.measurements.iter().map(|m| (&*m.name, m.value)).collect();
        assert_eq!(figures, [("connections_limit", 40.0), ("connection_rate_limit", 240.0)]);
        let unknown = tell((
            RateFound::Unknown("words".into()),
            RoomFound::Unknown { held: 3, why: "words".into() },
        ));
        let figures: Vec<_> = unknown.measurements.iter().map(|m| (&*m.name, m.value)).collect();
        assert_eq!(figures, [("connections_at_least", 3.0)]);
        assert!(unknown.findings.iter().all(|finding| finding.summary.ends_with("words")));
    }
}
