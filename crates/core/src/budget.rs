//! The shared budget: how much of the target this run may use at once.
//!
//! A target is shared with people. Everything that is taken from it is taken from one [`Budget`]
//! per run: a probe's whole draw is set aside before it starts (an [`Allotment`]), and each
//! connection carries one [`Lease`] of it inside. A lease comes back when the peer is known to have
//! closed its end ([`Lease::settle`]); one that is merely dropped lingers first, because a server
//! goes on counting a client for a while after the client has gone.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::clock::{self, Instant};
use crate::id::ResourceKind;
use crate::units::Rate;

/// So many of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// The resource.
    pub resource: ResourceKind,
    /// How many at once.
    pub amount: u32,
    /// With how many it can still do something worth while; usually `amount`. Where the run's load
    /// had to be cut, a probe gets what there is from here on; it sees it in
    /// [`ProbeCtx::drawn`](crate::ProbeCtx::drawn).
    pub least: u32,
}

impl Draw {
    /// `amount` of `resource`, all or nothing.
    pub const fn new(resource: ResourceKind, amount: u32) -> Self {
        Self { resource, amount, least: amount }
    }

    /// `amount` of `resource`, or fewer down to `least` where the run's load had to be cut.
    pub const fn between(resource: ResourceKind, least: u32, amount: u32) -> Self {
        Self { resource, amount, least }
    }
}

/// Why something cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// More than the run may ever use; waiting would not help.
    #[error("{amount} of `{resource}` asked, the run's budget is {ceiling}")]
    Exceeds {
        /// The resource.
        resource: ResourceKind,
        /// How many were asked.
        amount: u32,
        /// How many the run may use.
        ceiling: u32,
    },
    /// More than was declared in `draws`.
    #[error("a lease of `{resource}` was asked beyond the {drawn} declared in `draws`")]
    Undeclared {
        /// The resource.
        resource: ResourceKind,
        /// How many were declared.
        drawn: u32,
    },
}

/// One resource's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The resource.
    pub resource: ResourceKind,
    /// How many are out as leases or linger now.
    pub in_use: u32,
    /// The most that were out at any moment.
    pub peak: u32,
    /// How many the run may use.
    pub ceiling: u32,
}

#[derive(Default)]
struct Slots {
    free: u32,
    out: u32,
    /// When each slot whose peer may still count us becomes free.
    lingering: Vec<Instant>,
}

impl Slots {
    fn sweep(&mut self, now: Instant) {
        let before = self.lingering.len();
        self.lingering.retain(|&until| until > now);
        self.free += u32::try_from(before - self.lingering.len()).unwrap_or(u32::MAX);
    }

    fn total(&self) -> u32 {
        self.free + self.busy()
    }

    fn busy(&self) -> u32 {
        self.out + u32::try_from(self.lingering.len()).unwrap_or(u32::MAX)
    }
}

#[derive(Default)]
struct Pool {
    ceiling: u32,
    peak: u32,
    linger: Duration,
    allotted: BTreeMap<u64, Slots>,
    /// Leases that outlived their allotment. Its `free` is always swept to zero.
    orphaned: Slots,
}

impl Pool {
    fn sweep(&mut self, now: Instant) {
        self.orphaned.sweep(now);
        self.orphaned.free = 0;
        for slots in self.allotted.values_mut() {
            slots.sweep(now);
        }
    }

    fn available(&self) -> u32 {
        let taken: u32 = self.allotted.values().map(Slots::total).sum();
        self.ceiling.saturating_sub(taken + self.orphaned.total())
    }

    fn busy(&self) -> u32 {
        self.allotted.values().map(Slots::busy).sum::<u32>() + self.orphaned.busy()
    }

    fn next_free(&self) -> Option<Instant> {
        let allotted = self.allotted.values().flat_map(|slots| &slots.lingering);
        allotted.chain(&self.orphaned.lingering).min().copied()
    }
}

struct Window {
    rate: Rate,
    recent: VecDeque<Instant>,
}

#[derive(Default)]
struct State {
    pools: BTreeMap<ResourceKind, Pool>,
    rates: BTreeMap<ResourceKind, Window>,
    last_allotment: u64,
}

impl State {
    fn pool(&mut self, kind: &ResourceKind) -> &mut Pool {
        self.pools.entry(kind.clone()).or_default()
    }
}

struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves only counters behind, never a broken invariant.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The budget of one run. Cheap to clone; all clones are one budget.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

impl Budget {
    /// A budget that allows nothing yet.
    pub fn builder() -> BudgetBuilder {
        BudgetBuilder(State::default())
    }

    /// Sets aside all of `draws`, waiting until all of it is there at once.
    ///
    /// # Errors
    ///
    /// [`BudgetError::Exceeds`] at once when a draw is above the ceiling: waiting would not help.
    ///
    /// # Cancel safety
    ///
    /// Nothing is set aside when the future is dropped before it ends.
    pub async fn reserve(&self, draws: &[Draw]) -> Result<Allotment, BudgetError> {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.try_reserve(draws)? {
                Ok(allotment) => return Ok(allotment),
                Err(next_free) => wait(changed, next_free).await,
            }
        }
    }

    /// `Err` is when the next lingering slot becomes free, if one lingers.
    fn try_reserve(
        &self,
        draws: &[Draw],
    ) -> Result<Result<Allotment, Option<Instant>>, BudgetError> {
        let mut state = self.0.state();
        let now = clock::now();
        let mut wanted: BTreeMap<&ResourceKind, u32> = BTreeMap::new();
        for draw in draws {
            *wanted.entry(&draw.resource).or_default() += draw.amount;
        }
        let mut fits = true;
        for (&kind, &amount) in &wanted {
            let pool = state.pool(kind);
            pool.sweep(now);
            if amount > pool.ceiling {
                let (resource, ceiling) = (kind.clone(), pool.ceiling);
                return Err(BudgetError::Exceeds { resource, amount, ceiling });
            }
            fits &= amount <= pool.available();
        }
        if !fits {
            return Ok(Err(wanted.keys().filter_map(|kind| state.pool(kind).next_free()).min()));
        }
        state.last_allotment += 1;
        let id = state.last_allotment;
        for (&kind, &amount) in &wanted {
            let slots = Slots { free: amount, ..Slots::default() };
            state.pool(kind).allotted.insert(id, slots);
        }
        Ok(Ok(Allotment { budget: self.clone(), id }))
    }

    /// Lowers the ceiling of `kind` to at most `ceiling` for the rest of the run. What is already
    /// out stays out; nothing new is set aside until it fits.
    pub fn limit(&self, kind: &ResourceKind, ceiling: u32) {
        let mut state = self.0.state();
        let pool = state.pool(kind);
        pool.ceiling = pool.ceiling.min(ceiling);
    }

    /// Waits until one more act of `kind` stays within its rate. Returns at once for a kind without
    /// a rate.
    ///
    /// # Cancel safety
    ///
    /// Nothing is counted when the future is dropped before it ends.
    pub async fn pace(&self, kind: &ResourceKind) {
        loop {
            let until = {
                let mut state = self.0.state();
                let Some(window) = state.rates.get_mut(kind) else { return };
                let now = clock::now();
                while window.recent.front().is_some_and(|&at| at + window.rate.per <= now) {
                    window.recent.pop_front();
                }
                match window.recent.front() {
                    Some(&oldest) if window.recent.len() >= window.rate.count.max(1) as usize => {
                        oldest + window.rate.per
                    }
                    _ => {
                        window.recent.push_back(now);
                        return;
                    }
                }
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// What is in use now.
    pub fn usage(&self) -> Vec<Usage> {
        let mut state = self.0.state();
        let now = clock::now();
        let usage = state.pools.iter_mut().map(|(kind, pool)| {
            pool.sweep(now);
            Usage {
                resource: kind.clone(),
                in_use: pool.busy(),
                peak: pool.peak,
                ceiling: pool.ceiling,
            }
        });
        usage.collect()
    }

    fn give_back(&self, kind: &ResourceKind, id: u64, settled: bool) {
        let mut state = self.0.state();
        let pool = state.pool(kind);
        let until = clock::now() + pool.linger;
        let linger = !settled && !pool.linger.is_zero();
        let slots = pool.allotted.get_mut(&id).unwrap_or(&mut pool.orphaned);
        slots.out -= 1;
        if linger {
            slots.lingering.push(until);
        } else {
            slots.free += 1;
        }
        pool.orphaned.free = 0;
        drop(state);
        self.0.changed.notify_waiters();
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.usage()).finish()
    }
}

async fn wait(changed: impl Future<Output = ()>, next_free: Option<Instant>) {
    match next_free {
        None => changed.await,
        Some(at) => {
            let _ = tokio::time::timeout_at(at, changed).await;
        }
    }
}

/// Builds a [`Budget`].
pub struct BudgetBuilder(State);

impl BudgetBuilder {
    /// At most `ceiling` of `kind` at once; one that is dropped unsettled lingers for `linger`.
    #[must_use]
    pub fn at_once(mut self, kind: ResourceKind, ceiling: u32, linger: Duration) -> Self {
        self.0.pools.insert(kind, Pool { ceiling, linger, ..Pool::default() });
        self
    }

    /// At most `rate` acts of `kind`, in any window of that length.
    #[must_use]
    pub fn paced(mut self, kind: ResourceKind, rate: Rate) -> Self {
        self.0.rates.insert(kind, Window { rate, recent: VecDeque::new() });
        self
    }

    /// The budget.
    pub fn build(self) -> Budget {
        Budget(Arc::new(Inner { state: Mutex::new(self.0), changed: Notify::new() }))
    }
}

/// What has been set aside for one probe. Dropping it gives back what is not out as leases.
pub struct Allotment {
    budget: Budget,
    id: u64,
}

impl Allotment {
    /// Takes one lease, waiting until a slot of this allotment is free.
    ///
    /// # Errors
    ///
    /// [`BudgetError::Undeclared`] when none of `kind` was set aside.
    ///
    /// # Cancel safety
    ///
    /// Nothing is taken when the future is dropped before it ends.
    pub async fn lease(&self, kind: &ResourceKind) -> Result<Lease, BudgetError> {
        loop {
            let changed = self.budget.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.take(kind, true)? {
                Ok(lease) => return Ok(lease),
                Err(next_free) => wait(changed, next_free).await,
            }
        }
    }

    /// Takes one lease if a slot is free now.
    ///
    /// # Errors
    ///
    /// [`BudgetError::Undeclared`] when all that was set aside is out or none was.
    pub fn try_lease(&self, kind: &ResourceKind) -> Result<Lease, BudgetError> {
        self.take(kind, false)?.map_err(|_| BudgetError::Undeclared {
            resource: kind.clone(),
            drawn: self.drawn(kind),
        })
    }

    /// How many of `kind` were set aside.
    pub fn drawn(&self, kind: &ResourceKind) -> u32 {
        let mut state = self.budget.0.state();
        state.pool(kind).allotted.get(&self.id).map_or(0, Slots::total)
    }

    /// How many of what was set aside are out as leases now; those that linger do not count.
    pub fn leased(&self, kind: &ResourceKind) -> u32 {
        let mut state = self.budget.0.state();
        state.pool(kind).allotted.get(&self.id).map_or(0, |slots| slots.out)
    }

    fn take(
        &self,
        kind: &ResourceKind,
        may_wait: bool,
    ) -> Result<Result<Lease, Option<Instant>>, BudgetError> {
        let mut state = self.budget.0.state();
        let pool = state.pool(kind);
        pool.sweep(clock::now());
        let Some(slots) = pool.allotted.get_mut(&self.id).filter(|slots| slots.total() > 0) else {
            return Err(BudgetError::Undeclared { resource: kind.clone(), drawn: 0 });
        };
        if slots.free == 0 {
            return Ok(Err(if may_wait { slots.lingering.iter().min().copied() } else { None }));
        }
        slots.free -= 1;
        slots.out += 1;
        pool.peak = pool.peak.max(pool.busy());
        let budget = self.budget.clone();
        Ok(Ok(Lease { budget, kind: kind.clone(), id: self.id, settled: false }))
    }
}

impl Drop for Allotment {
    fn drop(&mut self) {
        let mut state = self.budget.0.state();
        for pool in state.pools.values_mut() {
            if let Some(slots) = pool.allotted.remove(&self.id) {
                pool.orphaned.out += slots.out;
                pool.orphaned.lingering.extend(slots.lingering);
            }
        }
        drop(state);
        self.budget.0.changed.notify_waiters();
    }
}

impl fmt::Debug for Allotment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Allotment").field(&self.id).finish()
    }
}

/// The right to hold one of a resource. It travels inside the connection it was taken for.
///
/// Dropping it makes the slot linger, since the peer may go on counting us; [`Lease::settle`] gives
/// it back at once and is only right when the peer is known to have closed its end.
#[must_use = "a lease that is dropped lingers"]
pub struct Lease {
    budget: Budget,
    kind: ResourceKind,
    id: u64,
    settled: bool,
}

impl Lease {
    /// The resource it is for.
    pub fn kind(&self) -> &ResourceKind {
        &self.kind
    }

    /// Waits until one more act of `kind` stays within the run's rate; see [`Budget::pace`].
    pub async fn pace(&self, kind: &ResourceKind) {
        self.budget.pace(kind).await;
    }

    /// Gives the slot back at once: the peer is known to have closed its end, or was never reached.
    pub fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.give_back(&self.kind, self.id, self.settled);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.kind).finish()
    }
}

#[cfg(test)]
mod tests;
