//! What the connector's tasks share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::ConnectorOptions;
use crate::random::SplitMix;
use crate::relay::{Direction, Flow};
use crate::switches::Switches;
use crate::throttle::Throttle;
use crate::truth::{ConnectorTruth, Hold, HoldReason, ScaleEvent};

/// Holds remembered one by one; more are only counted.
const HOLDS_KEPT: usize = 100;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: ConnectorOptions,
    /// Bytes per second.
    bandwidth: Throttle,
    /// Connections per second.
    rate: Throttle,
    pub(super) changed: Notify,
    to_server: AtomicU64,
    to_client: AtomicU64,
    gate: watch::Sender<GateState>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    instances: u32,
    open: u32,
    neighbours: u32,
    accepted: u64,
    reset: u64,
    waiting: Option<u32>,
    waiting_max: Option<u32>,
    holds: Vec<Hold>,
    holds_total: u64,
    scale_events: Vec<ScaleEvent>,
    /// Local ports of neighbours that are about to connect.
    expected: HashSet<u16>,
    random: SplitMix,
}

/// Whether a new client may come in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Admission {
    /// This many, at least one.
    Open { room: u32 },
    /// None; `retry` says when to look again, if time alone can change it.
    Held { reason: HoldReason, retry: Option<Duration> },
    /// They are to be refused.
    Refused,
}

impl Admission {
    pub(super) fn gate(self) -> GateState {
        match self {
            Self::Open { .. } => GateState::Open,
            Self::Held { reason, .. } => GateState::Held(reason),
            Self::Refused => GateState::Refusing,
        }
    }
}

/// What the gate does with connection attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GateState {
    Open,
    Held(HoldReason),
    Refusing,
}

/// What is going to happen to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Carried,
    /// To the sink.
    Neighbour,
    Reset,
    /// Carried up to so many bytes.
    Stalled(u64),
}

impl Shared {
    pub(super) fn new(options: ConnectorOptions) -> Self {
        let settings = &options.settings;
        let bandwidth = bytes_per_second(settings.throughput_mbps(settings.instances_min));
        let rate = settings.connection_rate;
        let rate = f64::from(rate.count) / rate.per.as_secs_f64();
        let inner = Inner {
            instances: settings.instances_min,
            open: 0,
            neighbours: 0,
            accepted: 0,
            reset: 0,
            waiting: None,
            waiting_max: None,
            holds: Vec::new(),
            holds_total: 0,
            scale_events: Vec::new(),
            expected: HashSet::new(),
            random: SplitMix::new(options.seed),
        };
        Self {
            // What a busy machine's pause of a tenth of a second costs, it may catch up.
            bandwidth: Throttle::new(bandwidth, bandwidth * 0.1),
            rate: Throttle::new(rate, rate.max(1.0)),
            changed: Notify::new(),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            gate: watch::Sender::new(GateState::Open),
            inner: Mutex::new(inner),
            options,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn switches(&self) -> watch::Receiver<Switches> {
        self.options.switches.clone()
    }

    pub(super) fn capacity(&self) -> u32 {
        self.inner().instances.saturating_mul(self.options.settings.connections_per_instance)
    }

    pub(super) fn admission(&self) -> Admission {
        let switches = *self.options.switches.borrow();
        if switches.database == crate::switches::DatabaseMode::Refused {
            return Admission::Refused;
        }
        let held = |reason| Admission::Held { reason, retry: None };
        if switches.drop {
            return held(HoldReason::Drop);
        }
        if switches.no_egress {
            return held(HoldReason::NoEgress);
        }
        let room = self.capacity().saturating_sub(self.inner().open);
        if room == 0 {
            return held(HoldReason::Capacity);
        }
        match self.rate.wait_for_one() {
            Some(wait) => Admission::Held { reason: HoldReason::Rate, retry: Some(wait) },
            None => Admission::Open { room },
        }
    }

    /// Records what the gate does from now on.
    pub(super) fn record_gate(&self, state: GateState) {
        if !self.gate.send_if_modified(|gate| std::mem::replace(gate, state) != state) {
            return;
        }
        let now = self.options.clock.ms();
        let mut inner = self.inner();
        if let Some(hold) = inner.holds.last_mut() {
            hold.until_ms.get_or_insert(now);
        }
        if let GateState::Held(reason) = state {
            inner.holds_total += 1;
            if inner.holds.len() == HOLDS_KEPT {
                inner.holds.remove(0);
            }
            inner.holds.push(Hold { reason, from_ms: now, until_ms: None });
        } else {
            inner.waiting = inner.waiting.map(|_| 0);
        }
    }

    /// Resolves when the gate does what faults and load want of it.
    pub(super) async fn settled(&self) {
        let mut gate = self.gate.subscribe();
        while *gate.borrow_and_update() != self.admission().gate() {
            // Time alone may change what is wanted, without the gate ever changing.
            let _ = tokio::time::timeout(Duration::from_millis(20), gate.changed()).await;
        }
    }

    pub(super) fn held(&self) -> Option<HoldReason> {
        match *self.gate.borrow() {
            GateState::Held(reason) => Some(reason),
            GateState::Open | GateState::Refusing => None,
        }
    }

    /// Lets a client in and decides its fate.
    pub(super) fn admit(self: &Arc<Self>, port: u16) -> Client {
        let switches = *self.options.switches.borrow();
        let mut inner = self.inner();
        inner.open += 1;
        inner.accepted += 1;
        let fate = if inner.expected.remove(&port) {
            inner.neighbours += 1;
            Fate::Neighbour
        } else {
            // Neighbours were there before us: they do not use up the connection rate.
            self.rate.draw(1.0);
            if switches.reset_share > 0.0 && inner.random.unit() < switches.reset_share {
                inner.reset += 1;
                Fate::Reset
            } else {
                match switches.stall {
                    Some((share, after_bytes)) if inner.random.unit() < share => {
                        Fate::Stalled(after_bytes)
                    }
                    _ => Fate::Carried,
                }
            }
        };
        Client { shared: Arc::clone(self), fate, carried: AtomicU64::new(0) }
    }

    /// Makes the next client from this local port a neighbour.
    pub(super) fn expect_neighbour(&self, port: u16) {
        self.inner().expected.insert(port);
    }

    /// Takes that back.
    pub(super) fn forget_neighbour(&self, port: u16) {
        self.inner().expected.remove(&port);
    }

    pub(super) fn record_waiting(&self, waiting: Option<u32>) {
        let mut inner = self.inner();
        inner.waiting = waiting;
        inner.waiting_max = inner.waiting_max.max(waiting);
    }

    /// Instances and connections in use.
    pub(super) fn load(&self) -> (u32, u32) {
        let inner = self.inner();
        (inner.instances, inner.open)
    }

    pub(super) fn set_instances(&self, instances: u32) {
        let mbps = self.options.settings.throughput_mbps(instances);
        let event = ScaleEvent { at_ms: self.options.clock.ms(), instances };
        {
            let mut inner = self.inner();
            inner.instances = instances;
            inner.scale_events.push(event);
        }
        self.bandwidth.set_rate(bytes_per_second(mbps));
        self.changed.notify_one();
    }

    pub(super) fn bytes(&self) -> u64 {
        self.to_server.load(Ordering::Relaxed) + self.to_client.load(Ordering::Relaxed)
    }

    pub(super) fn draw_unit(&self) -> f64 {
        self.inner().random.unit()
    }

    pub(super) fn truth(&self) -> ConnectorTruth {
        let inner = self.inner();
        ConnectorTruth {
            instances: inner.instances,
            capacity: inner
                .instances
                .saturating_mul(self.options.settings.connections_per_instance),
            throughput_mbps: self.options.settings.throughput_mbps(inner.instances),
            open: inner.open,
            neighbours: inner.neighbours,
            accepted: inner.accepted,
            rejected: inner.reset,
            waiting: inner.waiting,
            waiting_max: inner.waiting_max,
            held: self.held().is_some(),
            holds_total: inner.holds_total,
            holds: inner.holds.clone(),
            bytes_to_server: self.to_server.load(Ordering::Relaxed),
            bytes_to_client: self.to_client.load(Ordering::Relaxed),
            scale_events: inner.scale_events.clone(),
        }
    }
}

pub(super) fn bytes_per_second(mbps: f64) -> f64 {
    mbps * 1e6 / 8.0
}

/// One accepted client. Dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Client {
    shared: Arc<Shared>,
    pub(super) fate: Fate,
    carried: AtomicU64,
}

impl Client {
    async fn stall(&self, after_bytes: u64, bytes: u64) {
        if self.carried.fetch_add(bytes, Ordering::Relaxed) + bytes > after_bytes {
            // An error means the lab is ending.
            let _ = self.shared.switches().wait_for(|switches| switches.stall.is_none()).await;
        }
    }
}

impl Flow for Client {
    async fn pass(&self, direction: Direction, bytes: usize) {
        let bytes = bytes as u64;
        let counter = match direction {
            Direction::ToServer => &self.shared.to_server,
            Direction::ToClient => &self.shared.to_client,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
        if let Fate::Stalled(after_bytes) = self.fate {
            self.stall(after_bytes, bytes).await;
        }
        let wait = self.shared.bandwidth.draw(bytes as f64);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut inner = self.shared.inner();
        inner.open -= 1;
        if self.fate == Fate::Neighbour {
            inner.neighbours -= 1;
        }
        drop(inner);
        self.shared.changed.notify_one();
    }
}
