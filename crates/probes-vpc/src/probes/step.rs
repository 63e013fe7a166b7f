//! A step in the latency of a series of connects, and its end.

use shakedown_core::Fault;
use shakedown_core::evidence::{Body, Fact, ObservationMeta};
use shakedown_core::id::ObservationKind;

use crate::path::{NetworkPath, Way};
use crate::series::Attempt;

/// A step in connect latency and its end, as an observation.
pub const SCALING_STEP: ObservationKind = ObservationKind::new("vpc.latency-step");

/// The description of [`SCALING_STEP`].
pub const SCALING_STEP_META: ObservationMeta = ObservationMeta {
    kind: SCALING_STEP,
    summary: "a step in connect latency: crosses_connector, began (during the watch, before it), \
              recovered (yes, no), at_least_ms, at_most_ms",
};

#[cfg(feature = "register")]
shakedown_core::register_observation!(SCALING_STEP_META);

/// What a series shows so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Watch {
    /// Too short to tell.
    Undecided,
    /// Quick from the start.
    Steady,
    /// Nobody listens: no pressure, and nothing to watch.
    Refused,
    /// Bad from some connect on, and not yet quick again.
    Pressed {
        /// How long, at the end of the last bad connect, in milliseconds.
        so_far_ms: f64,
        /// Whether the first connect was bad already.
        from_the_start: bool,
    },
    /// Bad for a while and quick again.
    Recovered {
        /// The path is known to have been shut this long, in milliseconds.
        at_least_ms: f64,
        /// It is known to have carried after this long, in milliseconds.
        at_most_ms: f64,
        /// Whether the first connect was bad already.
        from_the_start: bool,
    },
}

/// Reads a series of connects. The first step counts; what comes after its end is not looked at.
pub(crate) fn watch(way: Way, series: &[Attempt], steady: usize, tolerance_ms: f64) -> Watch {
    let bad = |attempt: &Attempt| attempt.unanswered().is_some() || attempt.ms > tolerance_ms;
    let refused = |attempt: &Attempt| {
        attempt.unanswered().is_some_and(|step| step.fault == Some(Fault::Refused))
    };
    if series.first().is_some_and(refused) {
        return Watch::Refused;
    }
    let Some(first_bad) = series.iter().position(bad) else {
        return if series.len() >= steady { Watch::Steady } else { Watch::Undecided };
    };
    let began_ms = series[first_bad].at_ms;
    let from_the_start = first_bad == 0;
    // The end is the first run of `steady` quick connects after it.
    let mut quick = 0;
    let end = series.iter().enumerate().skip(first_bad).find_map(|(index, attempt)| {
        quick = if bad(attempt) { 0 } else { quick + 1 };
        (quick == steady).then(|| index + 1 - steady)
    });
    let Some(end) = end else {
        let last_bad = series.iter().rev().find(|attempt| bad(attempt));
        let so_far_ms = last_bad.map_or(0.0, |attempt| attempt.ended_ms() - began_ms);
        return Watch::Pressed { so_far_ms, from_the_start };
    };
    let last_bad = &series[end - 1];
    // A slow connect that got through at last is itself the first sign of the recovery.
    let carried_ms = match last_bad.unanswered() {
        None => last_bad.ended_ms(),
        Some(_) => series[end].ended_ms(),
    };
    // The path was last known to carry when the connect before was answered.
    let open_ms = match first_bad.checked_sub(1) {
        Some(before) => series[before].ended_ms(),
        None => began_ms,
    };
    Watch::Recovered {
        at_least_ms: last_bad.last_known_bad_ms(way) - began_ms,
        at_most_ms: carried_ms - open_ms,
        from_the_start,
    }
}

/// The step as an observation; none where there is no step.
pub(crate) fn observation(path: &NetworkPath, seen: &Watch) -> Option<Body> {
    let (from_the_start, recovered, at_least, at_most) = match *seen {
        Watch::Pressed { so_far_ms, from_the_start } => (from_the_start, "no", so_far_ms, None),
        Watch::Recovered { at_least_ms, at_most_ms, from_the_start } => {
            (from_the_start, "yes", at_least_ms, Some(at_most_ms))
        }
        _ => return None,
    };
    let attributes = [
        ("crosses_connector", if path.books_to_connector() { "yes" } else { "unknown" }.into()),
        ("began", if from_the_start { "before it" } else { "during the watch" }.into()),
        ("recovered", recovered.into()),
        ("at_least_ms", format!("{at_least:.0}")),
        ("at_most_ms", at_most.map_or("unknown".into(), |ms| format!("{ms:.0}"))),
    ];
    Some(Body::Fact(Fact {
        fact: SCALING_STEP,
        attributes: attributes.map(|(key, value)| (key.to_owned(), value)).to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use shakedown_core::Span;

    use super::*;
    use crate::series::tests::ladder;

    const TIMEOUT: Fault = Fault::Timeout { limit: Span::secs(3) };

    /// One connect each: when it began, how long it took, how it failed.
    fn series(connects: &[(f64, f64, Option<Fault>)]) -> Vec<Attempt> {
        let attempt = |(at, ms, fault): &(f64, f64, Option<Fault>)| {
            Attempt::of(Way::Tcp, *at, &ladder(&[("connect", *ms)], fault.clone()))
        };
        connects.iter().map(attempt).collect()
    }

    fn quick(from_ms: f64, count: u32) -> Vec<(f64, f64, Option<Fault>)> {
        (0..count).map(|n| (from_ms + 200.0 * f64::from(n), 1.0, None)).collect()
    }

    fn seen(connects: &[(f64, f64, Option<Fault>)]) -> Watch {
        watch(Way::Tcp, &series(connects), 3, 500.0)
    }

    #[test]
    fn quick_connects_from_the_start_are_no_step() {
        assert_eq!(seen(&quick(0.0, 2)), Watch::Undecided);
        assert_eq!(seen(&quick(0.0, 3)), Watch::Steady);
        assert_eq!(seen(&[(0.0, 0.2, Some(Fault::Refused))]), Watch::Refused);
    }

    #[test]
    fn a_step_after_a_long_quiet_counts_from_its_own_beginning() {
        let mut connects = quick(0.0, 10);
        connects.push((2000.0, 900.0, Some(TIMEOUT)));
        connects.extend(quick(3000.0, 3));
        let recovered =
            Watch::Recovered { at_least_ms: 0.0, at_most_ms: 1200.0, from_the_start: false };
        assert_eq!(seen(&connects), recovered);
    }

    #[test]
    fn a_step_is_timed_from_the_last_answer_before_it_to_the_first_after_it() {
        // Quick, then one connect timed out after 3 s with SYNs at 0, 1 and 3 s, then quick.
        let mut connects = quick(0.0, 1);
        connects.push((200.0, 3000.0, Some(TIMEOUT)));
        assert_eq!(seen(&connects), Watch::Pressed { so_far_ms: 3000.0, from_the_start: false });
        connects.extend(quick(3400.0, 3));
        let recovered =
            Watch::Recovered { at_least_ms: 3000.0, at_most_ms: 3400.0, from_the_start: false };
        assert_eq!(seen(&connects), recovered);
    }

    #[test]
    fn a_connect_that_got_through_late_is_the_recovery_to_the_retransmit() {
        // The SYN at 1 s was lost, the one at 3 s was answered.
        let mut connects = vec![(0.0, 3001.0, None)];
        connects.extend(quick(3200.0, 3));
        let recovered =
            Watch::Recovered { at_least_ms: 1000.0, at_most_ms: 3001.0, from_the_start: true };
        assert_eq!(seen(&connects), recovered);
        // On a socket the proxy's dial hides its SYNs: all that is known is when it began.
        let on_socket = watch(Way::Socket, &series(&connects), 3, 500.0);
        let recovered =
            Watch::Recovered { at_least_ms: 0.0, at_most_ms: 3001.0, from_the_start: true };
        assert_eq!(on_socket, recovered);
    }

    #[test]
    fn a_relapse_belongs_to_the_same_step() {
        let mut connects = vec![(0.0, 3000.0, Some(TIMEOUT))];
        connects.extend(quick(3000.0, 2));
        connects.push((3400.0, 3000.0, Some(TIMEOUT)));
        connects.extend(quick(6400.0, 3));
        let recovered =
            Watch::Recovered { at_least_ms: 6400.0, at_most_ms: 6401.0, from_the_start: true };
        assert_eq!(seen(&connects), recovered);
    }
}
