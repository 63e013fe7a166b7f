//! What holds a part of the budget for the whole run, and what that leaves for the probes.

use std::sync::Arc;

use shakedown_core::budget::Draw;
use shakedown_core::context::ProbeCtx;
use shakedown_core::id::ResourceKind;
use shakedown_core::record::{PlannedProbe, ProbeResult};
use shakedown_core::safety::SafetyCheck;

use super::Run;

/// A safety check with its context.
pub(super) struct Part {
    pub(super) id: String,
    pub(super) check: Arc<dyn SafetyCheck>,
    pub(super) ctx: Arc<ProbeCtx>,
}

impl Run<'_> {
    /// How many of `kind` safety checks and monitors hold for the whole run.
    pub(super) fn held(&self, kind: &ResourceKind) -> u32 {
        let checks = self.safety_checks.iter().map(|part| part.ctx.drawn(kind));
        checks.chain(self.monitors.drawn(kind)).sum()
    }

    pub(super) fn ceiling(&self, kind: &ResourceKind) -> u32 {
        let usage = self.usage();
        usage.iter().find(|usage| usage.resource == *kind).map_or(0, |usage| usage.ceiling)
    }

    /// Lowers the run's budget for `kind` to `ceiling`, or to one more than is held if that is more:
    /// without a place for the probes there is no run.
    pub(super) fn cut(&mut self, kind: &ResourceKind, ceiling: u32, why: String) {
        self.world.budget.limit(kind, ceiling.max(self.held(kind) + 1));
        self.cuts.push((kind.clone(), why));
    }

    /// `NotRun` when the probe draws more than the budget leaves now. The budget itself would have
    /// it wait for what is held to the end.
    pub(super) fn too_much(&self, planned: &PlannedProbe) -> Option<ProbeResult> {
        let Draw { resource, least, .. } =
            planned.draws.iter().find(|draw| draw.least > self.left(&draw.resource))?;
        let left = self.left(resource);
        let mut why = format!("it draws {least} of `{resource}`, the budget leaves {left}");
        if let Some((_, reason)) = self.cuts.iter().rev().find(|(kind, _)| kind == resource) {
            why.push_str(&format!(": {reason}"));
        }
        Some(ProbeResult::NotRun { why })
    }

    /// What a probe gets of what it draws: all of it, or what the budget leaves now.
    pub(super) fn granted(&self, planned: &PlannedProbe) -> Vec<Draw> {
        let granted = |draw: &Draw| {
            let amount = draw.amount.min(self.left(&draw.resource));
            Draw::new(draw.resource.clone(), amount)
        };
        planned.draws.iter().map(granted).collect()
    }

    pub(super) fn left(&self, kind: &ResourceKind) -> u32 {
        self.ceiling(kind).saturating_sub(self.held(kind))
    }
}
