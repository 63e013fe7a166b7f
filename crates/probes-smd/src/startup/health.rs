//! Health endpoints: what a client sees.

use std::time::Duration;

use shakedown_core::clock::{self, Timestamp};
use shakedown_core::id::resource;
use shakedown_core::redact::quotable;
use shakedown_core::{ProbeCtx, ProbeError, Step};
use shakedown_wire::http::{self, Request};

use super::timeline::Origin;

/// One request to a health endpoint.
#[derive(Clone, Debug)]
pub struct Poll {
    /// Whether it went to the started process or to the service of the environment.
    pub origin: Origin,
    /// When it was sent.
    pub at: Timestamp,
    /// The path.
    pub path: String,
    /// The status; `None` when no answer came.
    pub status: Option<u16>,
    /// The beginning of the body, fit to be quoted.
    pub body: String,
    /// The rungs.
    pub steps: Vec<Step>,
}

impl Poll {
    /// Whether the service said that it is well.
    pub fn is_good(&self) -> bool {
        self.status == Some(200)
    }

    /// What came, for people.
    pub fn said(&self) -> String {
        match (self.status, self.steps.last().and_then(|step| step.fault.as_ref())) {
            (Some(status), _) if self.body.is_empty() => format!("{status}, no body"),
            (Some(status), _) => format!("{status} {}", self.body),
            (None, Some(fault)) => fault.to_string(),
            (None, None) => "no answer".to_owned(),
        }
    }
}

/// Asks `base` + `path` once, over one lease.
///
/// # Errors
///
/// [`ProbeError`] when the budget or the probe's end is in the way: no word about the target.
pub(crate) async fn poll(
    ctx: &ProbeCtx,
    origin: Origin,
    base: &str,
    path: &str,
    limit: Duration,
) -> Result<Poll, ProbeError> {
    let lease = ctx.lease(&resource::HTTP_CONNECTION).await?;
    let at = clock::wall();
    let request = Request::get(format!("{}{path}", base.trim_end_matches('/'))).limit(limit);
    let climb = http::send(ctx, lease, &request).await.uninterrupted()?;
    let (status, body) = match &climb.result {
        Ok(response) => {
            let head = &response.body[..response.body.len().min(600)];
            (Some(response.status), quotable(&String::from_utf8_lossy(head)))
        }
        Err(_) => (None, String::new()),
    };
    Ok(Poll { origin, at, path: path.to_owned(), status, body, steps: climb.steps })
}
