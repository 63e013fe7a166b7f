//! Whoever knows the users refuses the service itself, and says so where it refuses.

use shakedown_core::case::Effect;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::{Case, Observation, id::Cause};

use super::{BETWEEN_SERVICES, is_up, refused_answers, turned_away};
use crate::causes::{GOLDEN_PATH_OFFLINE, TOKENS_REFUSED};

/// The one side says why, the other shows the effect.
const SURE: f64 = 0.75;
/// Shorter words are no names.
const NAME: usize = 5;
/// Lines that are quoted.
const MOST: usize = 3;

/// Everybody is turned away by this service, while another says that it refuses this one's own
/// credentials.
pub(super) fn refused(case: &Case<'_>, all: &[Case<'_>], cause: &Cause) -> Option<Claim> {
    let who = turned_away(case).filter(|_| is_up(case))?;
    let (other, lines) =
        all.iter().filter(|other| other.service != case.service).find_map(|other| {
            let lines: Vec<&Observation> = other
                .hits
                .iter()
                .enumerate()
                .filter(|(index, hit)| {
                    BETWEEN_SERVICES.contains(&hit.signal)
                        && other.effect(*index) != Effect::None
                        && names(hit.fact.get("quote"), case.service)
                })
                .map(|(_, hit)| hit.observation)
                .collect();
            (!lines.is_empty()).then_some((other.service, lines))
        })?;
    let mut claim = Claim::new(Claimed::Cause(cause.clone()), case.service, ClaimStatus::Supported);
    claim.confidence = SURE;
    claim.summary =
        format!("{other} says that it refuses this service's own credentials, and {who}.");
    claim.supporting = lines.into_iter().take(MOST).cloned().collect();
    claim.supporting.extend(refused_answers(case));
    claim.explains = vec![TOKENS_REFUSED, GOLDEN_PATH_OFFLINE];
    claim.next = "compare the version of the secret that the two services' revisions share (not its text), and deploy the one that has the older".to_owned();
    Some(claim)
}

/// Whether `words` name `service`, perhaps without what its environment adds.
fn names(words: &str, service: &str) -> bool {
    let name = |word: &str| {
        let rest = service.strip_prefix(word);
        word.len() >= NAME && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    words.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)).any(name)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_service_is_named_with_or_without_its_environment() {
        let line = "Service secret mismatch for service acme-backend (received ..)";
        assert!(names(line, "acme-backend-staging") && names(line, "acme-backend"));
        assert!(!names(line, "acme-backend2") && !names(line, "acme-frontend-staging"));
        assert!(!names("for service acme", "acme-backend"), "too short to be a name");
    }
}
