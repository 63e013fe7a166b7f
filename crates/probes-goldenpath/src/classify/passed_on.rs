//! WebSocket requests that arrive as plain ones.

use shakedown_core::attempt::{RequestKind, Traffic};
use shakedown_core::case::Hit;
use shakedown_core::classify::Claim;
use shakedown_core::{Case, id::Cause};

use crate::causes::GOLDEN_PATH_OFFLINE;

/// How a service answers a WebSocket's request that arrives as a plain one.
const PLAIN: [&str; 4] = ["http:400", "http:404", "http:405", "http:426"];

/// Whether a probe's finding says that a WebSocket's request was answered like a plain one.
pub(super) fn is_plain(hit: &Hit<'_>) -> bool {
    hit.fact.get("rung") == "upgrade" && PLAIN.contains(&hit.fact.get("fault"))
}

/// WebSocket requests arrive as plain ones at a service that runs: what stands before it does not
/// pass them on.
pub(super) fn not_passed_on(case: &Case<'_>, cause: &Cause) -> Option<Claim> {
    let let_in = case.answers(RequestKind::Websocket).any(Traffic::served);
    if let_in || !case.answers(RequestKind::Health).any(Traffic::served) {
        return None;
    }
    let argument = case.argue(cause, is_plain)?;
    let summary = format!(
        "{} that WebSocket requests are answered like plain ones, while health checks are answered: \
         what stands before the service does not pass on what makes them WebSockets, or their route \
         is another one.",
        argument.say()
    );
    let next = "the load balancer's and every proxy's rules for Upgrade and Connection headers, and \
                one WebSocket opened past them";
    let mut claim = argument.claim(case.service, summary, next);
    claim.explains = vec![GOLDEN_PATH_OFFLINE];
    Some(claim)
}
