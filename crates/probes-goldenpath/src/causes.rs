//! Why a user does not get an answer, and what is seen of it. Only classifiers claim these.

use shakedown_core::id::Symptom;

/// The same as [`AUTH_FAILURE`], seen of another cause: tokens are refused because two services disagree.
pub const TOKENS_REFUSED: Symptom = Symptom::new("auth_failure");

shakedown_core::terms! {
    /// Tokens are refused, and why is not known.
    AUTH_FAILURE: Cause = "auth_failure", AUTH_FAILURE_META,
        "Valid users are refused",
        "a token that the auth service issued is accepted by every service";
    /// Users get no answer.
    GOLDEN_PATH_OFFLINE: Symptom = "golden_path_offline", GOLDEN_PATH_OFFLINE_META,
        "Users get no answer",
        "a user logs in, opens a WebSocket and gets an answer";
    /// Requests are answered with 5xx.
    REQUESTS_FAIL: Symptom = "requests_fail", REQUESTS_FAIL_META,
        "Requests are answered with 5xx",
        "no request is answered with 5xx";
}
