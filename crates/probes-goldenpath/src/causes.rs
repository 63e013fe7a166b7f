//! Why a user does not get an answer, and what is seen of it. Only classifiers claim these.

use shakedown_core::classify::CauseMeta;
use shakedown_core::id::{Cause, Symptom};

/// Tokens are refused, and why is not known.
pub const AUTH_FAILURE: Cause = Cause::new("auth_failure");
/// The same as seen of another cause: tokens are refused because two services disagree.
pub const TOKENS_REFUSED: Symptom = Symptom::new("auth_failure");
/// Users get no answer.
pub const GOLDEN_PATH_OFFLINE: Symptom = Symptom::new("golden_path_offline");
/// Requests are answered with 5xx.
pub const REQUESTS_FAIL: Symptom = Symptom::new("requests_fail");

/// The description of [`AUTH_FAILURE`].
pub const AUTH_FAILURE_META: CauseMeta = CauseMeta {
    id: "auth_failure",
    symptom: false,
    title: "Valid users are refused",
    good_state: "a token that the auth service issued is accepted by every service",
};

/// The description of [`GOLDEN_PATH_OFFLINE`].
pub const GOLDEN_PATH_OFFLINE_META: CauseMeta = CauseMeta {
    id: "golden_path_offline",
    symptom: true,
    title: "Users get no answer",
    good_state: "a user logs in, opens a WebSocket and gets an answer",
};

/// The description of [`REQUESTS_FAIL`].
pub const REQUESTS_FAIL_META: CauseMeta = CauseMeta {
    id: "requests_fail",
    symptom: true,
    title: "Requests are answered with 5xx",
    good_state: "no request is answered with 5xx",
};

#[cfg(feature = "register")]
shakedown_core::register_cause!(AUTH_FAILURE_META);
#[cfg(feature = "register")]
shakedown_core::register_cause!(GOLDEN_PATH_OFFLINE_META);
#[cfg(feature = "register")]
shakedown_core::register_cause!(REQUESTS_FAIL_META);
