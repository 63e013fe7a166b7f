//! What a running probe is given.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::budget::{Allotment, Budget, Draw, Lease};
use crate::cleanup::CleanupLedger;
use crate::clock::{self, Instant};
use crate::credentials::Credentials;
use crate::environment::Environment;
use crate::evidence::{Body, Observation, Subject};
use crate::id::ResourceKind;
use crate::probe::ProbeError;
use crate::section::SectionSpec;

/// What a probe tells while it runs.
#[derive(Clone, Debug)]
pub enum Note {
    /// Something was observed; goes into the record.
    Observed(Box<Observation>),
    /// Where the probe is, for a person who watches.
    Progress(String),
}

type Listener = Arc<dyn Fn(Note) + Send + Sync>;

/// Values that live as long as the run and are shared by its probes, one per type.
///
/// Wire keeps its TLS configuration here, so that core need not know it.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>);

impl Shared {
    /// The run's value of type `T`, made by `init` the first time it is asked for.
    ///
    /// # Errors
    ///
    /// What `init` returns; it is tried again the next time.
    pub fn get_or_try_init<T, E>(&self, init: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E>
    where
        T: Send + Sync + 'static,
    {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = values.get(&TypeId::of::<T>()) {
            return Ok(Arc::clone(value).downcast().expect("stored under its own type"));
        }
        let value = Arc::new(init()?);
        values.insert(TypeId::of::<T>(), Arc::clone(&value) as Arc<dyn Any + Send + Sync>);
        Ok(value)
    }
}

/// The run was cancelled, or the time allowed was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// Somebody cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The deadline passed.
    #[error("the time allowed is up")]
    Deadline,
}

/// What a running probe, monitor or safety check is given.
///
/// It is the only way to the environment, to credentials and to the shared budget.
pub struct ProbeCtx {
    environment: Arc<Environment>,
    credentials: Arc<Credentials>,
    allotment: Option<Allotment>,
    budget: Budget,
    cancel: CancellationToken,
    deadline: Option<Instant>,
    shared: Shared,
    cleanup: CleanupLedger,
    session: Option<Arc<str>>,
    listener: Option<Listener>,
}

impl ProbeCtx {
    /// A context for `environment`, with a budget from its `[safety]` table.
    pub fn builder(environment: impl Into<Arc<Environment>>) -> ProbeCtxBuilder {
        ProbeCtxBuilder {
            environment: environment.into(),
            credentials: Arc::default(),
            allotment: None,
            budget: None,
            cancel: None,
            deadline: None,
            shared: Shared::default(),
            cleanup: CleanupLedger::default(),
            session: None,
            listener: None,
        }
    }

    /// The environment under test.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// A domain crate's table. The load has checked it already, so this fails only for a section
    /// whose crate is not registered and whose table is wrong.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Configuration`] naming the table and the key.
    pub fn section<T: SectionSpec>(&self) -> Result<T, ProbeError> {
        self.environment
            .section::<T>()
            .map_err(|error| ProbeError::configuration(error.to_string(), T::NAME))
    }

    /// The resolved credentials.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Takes one lease of what was set aside for this probe, waiting for a free slot. Without an
    /// allotment (embedded use) the draw is taken from the budget itself.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Budget`] when more is asked than was declared in `draws`, and
    /// [`ProbeError::Interrupted`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is taken when the future is dropped before it ends.
    pub async fn lease(&self, kind: &ResourceKind) -> Result<Lease, ProbeError> {
        let lease = self.guard(async {
            match &self.allotment {
                Some(allotment) => allotment.lease(kind).await,
                None => {
                    let draw = Draw::new(kind.clone(), 1);
                    self.budget.reserve(&[draw]).await?.lease(kind).await
                }
            }
        });
        Ok(lease.await??)
    }

    /// How many of `kind` this probe may hold at once.
    pub fn drawn(&self, kind: &ResourceKind) -> u32 {
        self.allotment.as_ref().map_or(0, |allotment| allotment.drawn(kind))
    }

    /// How many of `kind` this probe holds as leases now.
    pub fn leased(&self, kind: &ResourceKind) -> u32 {
        self.allotment.as_ref().map_or(0, |allotment| allotment.leased(kind))
    }

    /// The run's budget, to look at.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Cancelled when the probe should come to an end.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// How much time is left; `None` without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
    }

    /// `wanted`, or less when the deadline comes sooner.
    pub fn at_most(&self, wanted: Duration) -> Duration {
        self.remaining().map_or(wanted, |remaining| remaining.min(wanted))
    }

    /// Runs `future` until it ends, the probe is cancelled, or the deadline passes.
    ///
    /// # Errors
    ///
    /// [`Interrupted`]; the future is dropped then.
    pub async fn guard<F: Future>(&self, future: F) -> Result<F::Output, Interrupted> {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Interrupted::Cancelled),
            output = future => Ok(output),
            () = deadline => Err(Interrupted::Deadline),
        }
    }

    /// Sleeps, unless cancelled first.
    ///
    /// # Errors
    ///
    /// [`Interrupted`].
    pub async fn sleep(&self, duration: Duration) -> Result<(), Interrupted> {
        self.guard(tokio::time::sleep(duration)).await
    }

    /// Values shared by the probes of a run.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Where to register the undo of what you are about to create.
    pub fn cleanup(&self) -> &CleanupLedger {
        &self.cleanup
    }

    /// The run's session id, with which whatever is left on the target is marked; `None` when
    /// embedded without one.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Puts something observed into the record, from the environment's vantage.
    pub fn observe(&self, subject: Subject, body: Body) {
        let vantage = self.environment.identity.vantage;
        self.record(Observation::measured(subject, vantage, body));
    }

    /// Puts something into the record that has a clock and a provenance of its own, for example a
    /// line of somebody's log.
    pub fn record(&self, observation: Observation) {
        if let Some(listener) = &self.listener {
            listener(Note::Observed(Box::new(observation)));
        }
    }

    /// Tells a watching person where the probe is.
    pub fn progress(&self, text: impl Into<String>) {
        if let Some(listener) = &self.listener {
            listener(Note::Progress(text.into()));
        }
    }
}

impl fmt::Debug for ProbeCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeCtx")
            .field("environment", &self.environment.identity.name)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// Builds a [`ProbeCtx`].
pub struct ProbeCtxBuilder {
    environment: Arc<Environment>,
    credentials: Arc<Credentials>,
    allotment: Option<Allotment>,
    budget: Option<Budget>,
    cancel: Option<CancellationToken>,
    deadline: Option<Instant>,
    shared: Shared,
    cleanup: CleanupLedger,
    session: Option<Arc<str>>,
    listener: Option<Listener>,
}

impl ProbeCtxBuilder {
    /// The resolved credentials; none by default.
    #[must_use]
    pub fn credentials(mut self, credentials: impl Into<Arc<Credentials>>) -> Self {
        self.credentials = credentials.into();
        self
    }

    /// Another budget than the environment's.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// What was set aside for this probe; all leases then come from it.
    #[must_use]
    pub fn allotment(mut self, allotment: Allotment) -> Self {
        self.allotment = Some(allotment);
        self
    }

    /// When cancelled, the probe should come to an end.
    #[must_use]
    pub fn cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// When the probe's time is up.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The values shared by the probes of a run.
    #[must_use]
    pub fn shared(mut self, shared: Shared) -> Self {
        self.shared = shared;
        self
    }

    /// The ledger undo actions are registered in.
    #[must_use]
    pub fn cleanup(mut self, cleanup: CleanupLedger) -> Self {
        self.cleanup = cleanup;
        self
    }

    /// The run's session id.
    #[must_use]
    pub fn session(mut self, session: impl Into<Arc<str>>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Who hears the notes of the probe. Called from the probe's task; must not block.
    #[must_use]
    pub fn listener(mut self, listener: impl Fn(Note) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// The context.
    pub fn build(self) -> ProbeCtx {
        ProbeCtx {
            budget: self.budget.unwrap_or_else(|| self.environment.safety.budget()),
            environment: self.environment,
            credentials: self.credentials,
            allotment: self.allotment,
            cancel: self.cancel.unwrap_or_default(),
            deadline: self.deadline,
            shared: self.shared,
            cleanup: self.cleanup,
            session: self.session,
            listener: self.listener,
        }
    }
}

/// A budget without limits, for tools that do their own limiting.
pub fn unlimited_budget() -> Budget {
    use crate::id::resource;
    let mut builder = Budget::builder();
    for kind in [resource::DATABASE_CONNECTION, resource::WEBSOCKET, resource::HTTP_CONNECTION] {
        builder = builder.at_once(kind, u32::MAX / 2, Duration::ZERO);
    }
    builder.build()
}
