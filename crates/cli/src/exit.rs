//! Exit codes: what they mean and which one wins.

use std::collections::BTreeSet;

use shakedown_core::record::Condition;

use crate::output;

/// Everything passed, or was degraded without `--strict`.
pub(crate) const PASSED: u8 = 0;
/// Something of ours broke.
pub(crate) const INTERNAL: u8 = 1;
/// The command line or the environment is wrong, or nothing was selected.
pub(crate) const USAGE: u8 = 2;
/// A probe failed.
pub(crate) const FINDINGS: u8 = 10;
/// A probe came to no verdict, or all were skipped or blocked.
pub(crate) const NO_VERDICT: u8 = 11;
/// The gate refused.
pub(crate) const GATE_REFUSED: u8 = 12;
/// A guard stopped the run.
pub(crate) const GUARD_STOPPED: u8 = 13;
/// The run's own time was up.
pub(crate) const DEADLINE: u8 = 14;
/// Something we created is not known to be gone.
pub(crate) const CLEANUP_NOT_PROVEN: u8 = 15;
/// The asked signature was not reproduced, or was, when its absence was expected.
pub(crate) const NOT_REPRODUCED: u8 = 20;
/// Whether the asked signature was reproduced is undecided.
pub(crate) const UNDECIDED: u8 = 21;
/// Somebody interrupted the run.
pub(crate) const INTERRUPTED: u8 = 130;

/// Every code with its meaning, for the documentation. 3 is never used: it is what we diagnose.
pub(crate) const ALL: &[(u8, &str)] = &[
    (PASSED, "every probe passed, was skipped with a reason, or was degraded without `--strict`"),
    (INTERNAL, "something of ours broke; the journal holds what had finished"),
    (USAGE, "the command line or the environment file is wrong, or nothing was selected"),
    (FINDINGS, "a probe failed (with `--strict` also: was degraded)"),
    (NO_VERDICT, "a probe came to no verdict, or all were skipped or blocked"),
    (GATE_REFUSED, "the gate refused: adding our load was not safe"),
    (GUARD_STOPPED, "a guard stopped the run: the target got worse after our load began"),
    (DEADLINE, "the run's own time was up"),
    (CLEANUP_NOT_PROVEN, "something we created is not known to be gone"),
    (
        NOT_REPRODUCED,
        "the asked signature was not reproduced; with `--expect absent`: a feature was seen",
    ),
    (
        UNDECIDED,
        "whether the asked signature was reproduced, or is absent, is undecided: a feature was not tested",
    ),
    (INTERRUPTED, "somebody interrupted the run"),
];

/// The codes of `conditions`, the winning one first. `asked` is the code of a signature that was
/// asked for: with one, the run is about the signature, and what single probes say comes after it.
pub(crate) fn codes(conditions: &BTreeSet<Condition>, strict: bool, asked: Option<u8>) -> Vec<u8> {
    /// What leaves a run incomplete.
    const INCOMPLETE: &[(Condition, u8)] = &[
        (Condition::Internal, INTERNAL),
        (Condition::Interrupted, INTERRUPTED),
        (Condition::CleanupNotProven, CLEANUP_NOT_PROVEN),
        (Condition::GuardStopped, GUARD_STOPPED),
        (Condition::DeadlineReached, DEADLINE),
        (Condition::GateRefused, GATE_REFUSED),
        (Condition::NothingSelected, USAGE),
    ];
    let holds = |condition| conditions.contains(&condition);
    let incomplete = INCOMPLETE.iter().filter(|(condition, _)| holds(*condition));
    let mut codes: Vec<u8> = incomplete.map(|&(_, code)| code).collect();
    codes.extend(asked);
    if holds(Condition::Findings) || strict && holds(Condition::Degraded) {
        codes.push(FINDINGS);
    }
    if holds(Condition::NoVerdict) {
        codes.push(NO_VERDICT);
    }
    if codes.is_empty() {
        codes.push(PASSED);
    }
    codes
}

/// An error of the user's making: exit code 2 instead of 1.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A usage error as `anyhow` carries it.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(message.into()))
}

/// A panic as an error: a defect of ours, to be reported.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    anyhow::anyhow!("{}", text.unwrap_or("no message"))
        .context("shakedown has a defect; the journal holds what had finished")
}

/// Prints an error with its causes and gives its exit code.
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    let is_usage = error.chain().any(|cause| cause.is::<Usage>());
    output::error(error);
    if is_usage { USAGE } else { INTERNAL }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_precedence_wins() {
        use Condition::*;
        let check = |conditions: &[Condition], strict, asked, expected: &[u8]| {
            let set = conditions.iter().copied().collect();
            assert_eq!(codes(&set, strict, asked), expected, "{conditions:?} {asked:?}");
        };
        check(&[Findings], false, Some(PASSED), &[0, 10]);
        check(&[Findings, NoVerdict], false, Some(NOT_REPRODUCED), &[20, 10, 11]);
        check(&[GuardStopped], false, Some(UNDECIDED), &[13, 21]);
        let cases: &[(&[Condition], bool, &[u8])] = &[
            (&[], false, &[0]),
            (&[Degraded], false, &[0]),
            (&[Degraded], true, &[10]),
            (&[Findings], false, &[10]),
            (&[NoVerdict], false, &[11]),
            (&[Findings, NoVerdict], false, &[10, 11]),
            (&[GateRefused, NoVerdict], false, &[12, 11]),
            (&[NothingSelected], false, &[2]),
            (&[GuardStopped, GateRefused, DeadlineReached], false, &[13, 14, 12]),
            (&[CleanupNotProven, GuardStopped], false, &[15, 13]),
            (&[Interrupted, CleanupNotProven], false, &[130, 15]),
            (&[Internal, Interrupted], false, &[1, 130]),
        ];
        for (conditions, strict, expected) in cases {
            check(conditions, *strict, None, expected);
        }
    }

    #[test]
    fn three_is_what_we_diagnose_and_never_what_we_return() {
        assert!(ALL.iter().all(|&(code, _)| code != 3));
    }
}
