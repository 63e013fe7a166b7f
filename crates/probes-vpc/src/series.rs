//! Connects over time: what each says about the path, and what a series of them shows.

use shakedown_core::{Fault, Step};

use crate::path::Way;

/// The first unanswered SYN is sent again after this long (RFC 6298: an initial timeout of 1 s;
/// Linux and macOS keep to it), at every time scale. A TCP connect that took longer lost one.
pub(crate) const FIRST_RETRANSMIT_MS: f64 = 1000.0;

/// One connect, as far as the path is concerned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attempt {
    /// When it began, in milliseconds since the series began.
    pub(crate) at_ms: f64,
    /// How long it took until the far side answered, or until it was given up, in milliseconds.
    pub(crate) ms: f64,
    /// Whether the far side answered.
    pub(crate) reach: Reach,
}

/// Whether the far side of the path answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reach {
    /// It did: the path carries.
    Answered,
    /// It did, and then the database had a fault of its own at this step.
    AnsweredThen(Step),
    /// It did not: the path, or what is behind it, failed at this step.
    Unanswered(Step),
}

impl Attempt {
    /// What a ladder that began at `at_ms` says about the path.
    ///
    /// Over TCP the far side has answered when the connect succeeded. A proxy's socket accepts
    /// before it dials, so there only the database's own first answer counts, be it an error.
    pub(crate) fn of(way: Way, at_ms: f64, steps: &[Step]) -> Self {
        let deciding: &[&str] = match way {
            Way::Tcp => &["connect"],
            Way::Socket => &["connect", "startup"],
        };
        let decides = |step: &Step| step.rung == "resolve" || deciding.contains(&&*step.rung);
        let ms = steps.iter().filter(|step| deciding.contains(&&*step.rung));
        let ms = ms.map(|step| step.elapsed_ms).sum();
        let reach = match steps.iter().find(|step| !step.is_ok()) {
            None => Reach::Answered,
            Some(step) if matches!(step.fault, Some(Fault::Sql { .. })) || !decides(step) => {
                Reach::AnsweredThen(step.clone())
            }
            Some(step) => Reach::Unanswered(step.clone()),
        };
        Self { at_ms, ms, reach }
    }

    /// The step it failed at before the far side answered.
    pub(crate) fn unanswered(&self) -> Option<&Step> {
        match &self.reach {
            Reach::Unanswered(step) => Some(step),
            _ => None,
        }
    }

    /// The step the database failed at after the far side had answered.
    pub(crate) fn behind(&self) -> Option<&Step> {
        match &self.reach {
            Reach::AnsweredThen(step) => Some(step),
            _ => None,
        }
    }

    /// Whether whoever is on the far side spoke to the end, be it an error message.
    pub(crate) fn is_answered(&self) -> bool {
        match &self.reach {
            Reach::Answered => true,
            Reach::AnsweredThen(step) => matches!(step.fault, Some(Fault::Sql { .. })),
            Reach::Unanswered(_) => false,
        }
    }

    /// When it ended, in milliseconds since the series began.
    pub(crate) fn ended_ms(&self) -> f64 {
        self.at_ms + self.ms
    }

    /// The latest moment at which the path is known not to have carried, for an attempt that failed
    /// or was slow: when its last SYN that stayed unanswered was sent. A proxy's dial is not ours to
    /// see, so on a socket it is the beginning.
    pub(crate) fn last_known_bad_ms(&self, way: Way) -> f64 {
        let unanswered = match way {
            Way::Socket => 0.0,
            Way::Tcp => {
                let sent = syns().take_while(|&at| at <= self.ms).collect::<Vec<_>>();
                let lost = match self.reach {
                    Reach::Unanswered(_) => sent.len(),
                    // The last one was answered.
                    _ => sent.len().saturating_sub(1),
                };
                lost.checked_sub(1).map_or(0.0, |last| sent[last])
            }
        };
        self.at_ms + unanswered
    }
}

/// When SYNs are sent: 0, 1, 3, 7, 15, 31, 63 s.
fn syns() -> impl Iterator<Item = f64> {
    (0..7).map(|n| FIRST_RETRANSMIT_MS * f64::from((1_u32 << n) - 1))
}

/// The value that `share` (0 to 1) of `values` do not exceed, by nearest rank: always one of them.
pub(crate) fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among a few dozen values"
    )]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
pub(crate) mod tests {
    use shakedown_core::{Span, clock};

    use super::*;

    /// A ladder of successful rungs, or one that ends in a fault.
    pub(crate) fn ladder(rungs: &[(&str, f64)], fault: Option<Fault>) -> Vec<Step> {
        let (at, since) = (clock::wall(), clock::now());
        let mut steps: Vec<Step> = rungs
            .iter()
            .map(|&(rung, elapsed_ms)| Step { elapsed_ms, ..Step::ended(rung, at, since, None) })
            .collect();
        if let Some(last) = steps.last_mut() {
            last.fault = fault;
        }
        steps
    }

    fn sql(sqlstate: &str) -> Fault {
        Fault::Sql { sqlstate: sqlstate.into(), message: "words".into() }
    }

    const TIMEOUT: Fault = Fault::Timeout { limit: Span::secs(3) };

    #[test]
    fn a_proxys_socket_has_answered_when_the_database_has() {
        const CONNECT: (&str, f64) = ("connect", 1.0);
        const STARTUP: (&str, f64) = ("startup", 20.0);
        const AUTH: (&str, f64) = ("auth", 300.0);
        use Way::{Socket, Tcp};
        let table = [
            (Socket, vec![CONNECT, STARTUP], Some(Fault::Closed), "unanswered", 21.0),
            (Socket, vec![CONNECT, STARTUP], Some(TIMEOUT), "unanswered", 21.0),
            (Socket, vec![CONNECT, STARTUP], Some(sql("53300")), "behind", 21.0),
            (Socket, vec![CONNECT, STARTUP, AUTH], Some(sql("28P01")), "behind", 21.0),
            (Socket, vec![CONNECT, STARTUP, AUTH], Some(TIMEOUT), "behind", 21.0),
            (Socket, vec![CONNECT, STARTUP, AUTH], None, "answered", 21.0),
            (Tcp, vec![("resolve", 5.0), CONNECT], Some(Fault::Refused), "unanswered", 1.0),
            (Tcp, vec![("resolve", 5.0)], Some(TIMEOUT), "unanswered", 0.0),
            (Tcp, vec![("resolve", 5.0), CONNECT, STARTUP], Some(Fault::Closed), "behind", 1.0),
            (Tcp, vec![("resolve", 5.0), CONNECT, STARTUP], None, "answered", 1.0),
        ];
        for (way, rungs, fault, expected, ms) in table {
            let attempt = Attempt::of(way, 0.0, &ladder(&rungs, fault.clone()));
            let found = match attempt.reach {
                Reach::Answered => "answered",
                Reach::AnsweredThen(_) => "behind",
                Reach::Unanswered(_) => "unanswered",
            };
            assert_eq!((found, attempt.ms), (expected, ms), "{way} {rungs:?} {fault:?}");
        }
    }

    #[test]
    fn the_last_unanswered_syn_is_known_to_the_retransmit() {
        let failed = |ms| Attempt::of(Way::Tcp, 100.0, &ladder(&[("connect", ms)], Some(TIMEOUT)));
        let slow = |ms| Attempt::of(Way::Tcp, 100.0, &ladder(&[("connect", ms)], None));
        let table = [
            // SYNs at 0, 1, 3 s stayed unanswered.
            (failed(3000.5), 3100.0),
            (failed(2900.0), 1100.0),
            (failed(400.0), 100.0),
            // The SYN at 3 s was answered, the one at 1 s was not.
            (slow(3000.2), 1100.0),
            (slow(1000.1), 100.0),
            (slow(1.0), 100.0),
        ];
        for (attempt, expected) in table {
            assert_eq!(attempt.last_known_bad_ms(Way::Tcp), expected, "{attempt:?}");
            assert_eq!(attempt.last_known_bad_ms(Way::Socket), 100.0);
        }
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(&values, 0.5), Some(3.0));
        assert_eq!(percentile(&values, 0.95), Some(5.0));
        assert_eq!(percentile(&values, 0.0), Some(1.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
