//! Browsers whose pages may not call: every preflight is refused.

use shakedown_core::attempt::RequestKind;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::{Case, id::Cause};

use crate::causes::GOLDEN_PATH_OFFLINE;

/// That preflights are refused is measured by whoever answered; that the list of origins is wrong,
/// and not the address that users came by, is read off that none was let in.
const CONFIDENCE: f64 = 0.75;

/// All preflights are refused, while the service runs: the origins it allows are not those its users
/// come from.
pub(super) fn refused(case: &Case<'_>, cause: &Cause) -> Option<Claim> {
    let preflights = case.traffic.iter().filter(|(_, traffic)| {
        traffic.request == RequestKind::Preflight && case.turned_away(traffic)
    });
    let mut preflights: Vec<_> = preflights.collect();
    // The platform and the server count the same ones.
    if preflights.iter().any(|(_, traffic)| !traffic.access) {
        preflights.retain(|(_, traffic)| !traffic.access);
    }
    let count: u64 = preflights.iter().map(|(_, traffic)| traffic.count).sum();
    if count == 0 || (case.failures().next().is_some() && !case.serves()) {
        return None;
    }
    let claimed = Claimed::Cause(cause.clone());
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Supported);
    claim.confidence = CONFIDENCE;
    claim.summary = format!(
        "{count} preflights (OPTIONS) of browsers were refused, and since the first of them none was \
         answered well: pages of another origin cannot call this service, whatever it answers to others."
    );
    claim.supporting = preflights.iter().take(3).map(|(line, _)| (*line).clone()).collect();
    claim.explains = vec![GOLDEN_PATH_OFFLINE];
    claim.next = "compare the origins this revision allows (CORS) with the address in the users' \
                  browsers: `curl -i -X OPTIONS -H 'Origin: https://SITE' -H \
                  'Access-Control-Request-Method: POST' URL`"
        .to_owned();
    Some(claim)
}
