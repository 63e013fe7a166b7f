//! Around the run: the gate before it, the stability check after each phase, the end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use shakedown_core::clock;
use shakedown_core::environment::Tier;
use shakedown_core::meta::RunPhase;
use shakedown_core::record::{CheckRecord, Condition, Plan, RunEvent};
use shakedown_core::safety::{Check, CheckState};
use shakedown_core::units::Span;

use super::Run;
use super::parts::Part;
use super::wait::{Heed, Waited};
use crate::isolate::{ABORT_PATIENCE, abort, join_text};

impl Run<'_> {
    /// Asks every safety check, then takes the monitors' first samples. `false` when nothing may run;
    /// the reason is the halt's.
    pub(super) async fn gate(&mut self, plan: &Plan) -> bool {
        self.heed_interrupt();
        if self.world.environment.identity.tier == Tier::Production {
            let why = "production is never probed: choose another environment";
            self.answered("tier", vec![Check::refused("tier", why)]);
            self.stop(Condition::GateRefused, format!("the gate refused: {why}"));
        }
        let mut checks = Vec::new();
        for planned in &plan.safety_checks {
            if self.halt.is_some() {
                return false;
            }
            let answers = self.ask_gate(&planned.id).await;
            checks.extend(answers.clone());
            self.answered(&planned.id, answers);
        }
        self.judge(&checks);
        if self.halt.is_some() {
            return false;
        }
        self.lower(checks);
        self.start_monitors(plan).await;
        let notices = self.guards.begin();
        self.heed_guards(notices);
        self.halt.is_none()
    }

    /// Builds one safety check, sets aside what it draws and asks it.
    async fn ask_gate(&mut self, id: &str) -> Vec<Check> {
        let Some(entry) = self.registry.safety_checks().find(|entry| entry.meta.id == id) else {
            return vec![Check::refused(id, "the registry does not have it")];
        };
        let check: Arc<_> = match (entry.build)(&self.world.environment) {
            Ok(check) => check.into(),
            Err(error) => return vec![Check::refused(id, error.message())],
        };
        let meta = entry.meta;
        let unknown = |why: String| {
            let mut check = Check::unknown(meta.summary, why);
            check.limit = meta.draws.first().map(|draw| (draw.resource.clone(), 1));
            vec![check]
        };
        if let Some(draw) = meta.draws.iter().find(|draw| draw.amount > self.left(&draw.resource)) {
            let left = self.left(&draw.resource);
            let why = format!("it draws {} of `{}`, {left} are left", draw.amount, draw.resource);
            return unknown(why);
        }
        let allotment = match self.world.budget.reserve(meta.draws).await {
            Ok(allotment) => allotment,
            Err(error) => return unknown(error.to_string()),
        };
        let ctx = Arc::new(self.world.context().allotment(allotment).build());
        let part = Part { id: id.to_owned(), check, ctx };
        let (check, ctx) = (Arc::clone(&part.check), Arc::clone(&part.ctx));
        self.safety_checks.push(part);
        let answer = self.ask(async move { check.gate(&ctx).await }, Heed::Halt).await;
        answer.unwrap_or_else(unknown)
    }

    /// Runs a call into a safety check in a task of its own, within the answer limit. `Err` says why
    /// there is no answer.
    async fn ask<T: Send + 'static>(
        &mut self,
        call: impl Future<Output = T> + Send + 'static,
        heed: Heed,
    ) -> Result<T, String> {
        let limit = match heed {
            Heed::Nothing if self.is_aborted() => ABORT_PATIENCE,
            _ => self.world.answer_limit(),
        };
        let mut task = tokio::spawn(call);
        let waited = self.wait(Pin::new(&mut task), clock::now() + limit, heed).await;
        let why = match waited {
            Waited::Done(Ok(answer)) => return Ok(answer),
            Waited::Done(Err(error)) => {
                self.conditions.insert(Condition::Internal);
                return Err(join_text(error));
            }
            Waited::Due => format!("no answer within {}", Span(limit)),
            Waited::Halted | Waited::Aborted => self.why_halted(),
        };
        abort(&mut task).await;
        Err(why)
    }

    fn answered(&mut self, by: &str, checks: Vec<Check>) {
        self.log.emit(RunEvent::Gate(CheckRecord { by: by.to_owned(), after: None, checks }));
    }

    fn judge(&mut self, checks: &[Check]) {
        if let Some(why) = refusal(checks) {
            return self.stop(Condition::GateRefused, format!("the gate refused: {why}"));
        }
        if self.options.require_healthy
            && let Some(why) = unwell(checks)
        {
            self.stop(Condition::GateRefused, format!("environment not healthy: {why}"));
        }
    }

    /// Applies what the checks say about how much load there may be. A check that got no connection
    /// does not keep its place in the budget: what is left is for the probes.
    fn lower(&mut self, checks: Vec<Check>) {
        for check in checks {
            let Some((kind, count)) = &check.limit else { continue };
            for part in &mut self.safety_checks {
                if part.ctx.drawn(kind) > 0 && part.ctx.leased(kind) == 0 {
                    part.ctx = Arc::new(self.world.context().build());
                }
            }
            self.cut(kind, *count, told(&check));
        }
    }

    /// Asks every safety check whether the target is no worse for us.
    pub(super) async fn stability(&mut self, after: Option<RunPhase>) {
        for index in 0..self.safety_checks.len() {
            if self.is_aborted() {
                return;
            }
            let part = &self.safety_checks[index];
            let (id, check, ctx) = (part.id.clone(), part.check.clone(), part.ctx.clone());
            let answer = self.ask(async move { check.stability(&ctx).await }, Heed::Abort).await;
            let checks = answer.unwrap_or_else(|why| vec![Check::unknown(&id, why)]);
            if let Some(why) = refusal(&checks) {
                self.stop(Condition::GuardStopped, format!("the target is worse for us: {why}"));
            }
            self.log.emit(RunEvent::Stability(CheckRecord { by: id, after, checks }));
        }
    }

    /// Ends what runs beside the probes, whatever happened before.
    pub(super) async fn close(&mut self) {
        self.close_monitors().await;
        if !self.conditions.contains(&Condition::GateRefused) {
            self.stability(None).await;
        }
        for Part { id, check, ctx } in std::mem::take(&mut self.safety_checks) {
            let finish = async move { check.finish(&ctx).await };
            if let Err(why) = self.ask(finish, Heed::Nothing).await {
                self.conditions.insert(Condition::CleanupNotProven);
                self.log.remark(format!("`{id}` could not be finished: {why}"));
            }
        }
        let ledger = self.world.cleanup.clone();
        for undone in self.clean_up(&ledger).await {
            if let Some(why) = undone.failed {
                self.conditions.insert(Condition::CleanupNotProven);
                self.log.remark(format!("not undone: {}: {why}", undone.what));
            }
        }
    }
}

fn refusal(checks: &[Check]) -> Option<String> {
    let refused = |check: &&Check| matches!(check.state, CheckState::Refused { .. });
    checks.iter().find(refused).map(told)
}

/// Why the target is not known to be in its good state. That a check could not be asked is no reason
/// as long as another found the target well: some can never be asked from here.
fn unwell(checks: &[Check]) -> Option<String> {
    if let Some(check) = checks.iter().find(|check| check.healthy == Some(false)) {
        return Some(told(check));
    }
    if checks.iter().any(|check| check.healthy == Some(true)) {
        return None;
    }
    let unknown = |check: &&Check| matches!(check.state, CheckState::Unknown { .. });
    Some(checks.iter().find(unknown).map_or("no safety check says so".to_owned(), told))
}

fn told(check: &Check) -> String {
    match &check.state {
        CheckState::Ok if check.detail.is_empty() => check.name.clone(),
        CheckState::Ok => format!("{}: {}", check.name, check.detail),
        CheckState::Unknown { why } => format!("{} is unknown: {why}", check.name),
        CheckState::Refused { why } => format!("{}: {why}", check.name),
    }
}
