//! The exact texts about tokens.

use shakedown_core::case::{
    ANONYMOUS, CHECKER_SILENT, GUEST, SOCKET_BROKEN, SOCKET_CLOSED, TOKEN_ACCEPTED as ACCEPTED,
    TOKEN_REFUSED as REFUSED, TOKEN_UNFIT as SIGNATURE, WORK_FAILED,
};
use shakedown_core::signal::{LogSignal, SignalTable};

/// A browser says that a WebSocket did not come about, and somebody writes it down for it.
pub(crate) const BROWSER: &str = "app.browser-socket";
/// A client left, and who wrote to it then says so: nothing is wrong with the service.
pub(crate) const CLIENT_LEFT: &str = "app.client-left";

const CONFIGURATION: &str = "configuration_error";
const AUTH: &str = "auth_failure";

/// What works on after such a line took no harm: tokens of strangers are refused all day.
const HARMLESS: &[(&str, &str)] = &[("after_start", "tolerated")];

/// The same below ERROR: services that may not talk to each other, or to who knows the users, are no
/// strangers.
const BELOW_ERROR: &[(&str, &str)] = &[("after_start", "below-error")];

/// The log signals of this crate.
pub const TABLE: SignalTable = SignalTable { name: "goldenpath", signals: SIGNALS };

#[rustfmt::skip]
const SIGNALS: &[LogSignal] = &[
    // The observed application writes "JWT token verification failed - likely JWT secret mismatch
    // between services"; exports that redact tokens leave "JWT=REDACTED verification failed - ..".
    LogSignal::new("goldenpath.secret-mismatch", SIGNATURE, &["verification failed - likely JWT", "JWT secret mismatch", "JWT_SECRET mismatch", "secret mismatch between"]).speaks(CONFIGURATION, 0.8).attributes(HARMLESS),
    LogSignal::new("goldenpath.signature", SIGNATURE, &["Signature verification failed", "InvalidSignatureError", "invalid signature", "signature is invalid", "JWSSignatureVerificationFailed", "SignatureDoesNotMatch", "Invalid token signature", "alg value is not allowed"]).speaks(CONFIGURATION, 0.7).attributes(HARMLESS),
    LogSignal::new("goldenpath.audience", SIGNATURE, &["Invalid audience", "InvalidAudienceError", "Invalid JWT audience", "Invalid JWT=REDACTED audience", "Audience doesn't match", "InvalidIssuerError", "Invalid issuer"]).speaks(CONFIGURATION, 0.7).attributes(HARMLESS),
    LogSignal::new("goldenpath.key-id", SIGNATURE, &["Unable to find a signing key that matches", "unable to find matching key", "No matching signing key"]).speaks(CONFIGURATION, 0.75).attributes(HARMLESS),
    LogSignal::new("goldenpath.service-secret", SIGNATURE, &["Service secret mismatch", "SERVICE_SECRET mismatch", "Invalid service secret", "service authentication failed", "Service authentication failed", "Invalid service credentials", "invalid service credentials", "our service credentials", "nvalid service token", "service secret does not match", "service secret mismatch"]).speaks(CONFIGURATION, 0.75).attributes(BELOW_ERROR),
    LogSignal::new("goldenpath.service-id", SIGNATURE, &["Service ID mismatch"]).speaks(CONFIGURATION, 0.55).attributes(HARMLESS),
    LogSignal::new("goldenpath.invalid-token", REFUSED, &["Invalid JWT", "rejected in staging: Invalid", "Token validation failed", "Invalid token", "JWT validation failed", "JWT verification failed", "InvalidTokenError", "DecodeError: Not enough segments"]).speaks(AUTH, 0.55).attributes(HARMLESS),
    LogSignal::new("goldenpath.expired", REFUSED, &["Signature has expired", "ExpiredSignatureError", "Token has expired", "token is expired"]).speaks(AUTH, 0.4).attributes(HARMLESS),
    // The clocks of issuer and checker differ: nothing else makes a fresh token early.
    LogSignal::new("goldenpath.not-yet-valid", REFUSED, &["token is not yet valid", "ImmatureSignatureError", "Token used too early", "token used before issued", "jwt not active"]).speaks(AUTH, 0.7).attributes(HARMLESS),
    LogSignal::new("goldenpath.checker-silent", CHECKER_SILENT, &["uth service returned 5", "uth service request failed", "uth service unavailable", "uth service is unavailable", "uth service unreachable", "uth service is unreachable", "uthentication service unavailable", "uthentication service is unavailable", "Auth service call failed", "auth service call failed", "uthentication service error", "uth service error", "uth service timed out", "uth service timeout", "uthentication service timed out", "dentity provider unavailable", "dentity provider is unavailable", "dentity provider is unreachable", "ail to fetch data from the url", "no cached JWKS", "oidc: fetching keys", "get keys failed", "Unable to resolve the Configuration with the provided Issuer", "oken introspection failed", "emote token validation failed: Connect", "emote token validation failed: Timeout", "emote token validation failed: Read"]).attributes(BELOW_ERROR),
    LogSignal::new("goldenpath.issuer-silent", CHECKER_SILENT, &["dentity provider ", "openid-configuration"]).capture(r"(?i)identity provider \S+ (?:is )?(?:unavailable|unreachable|not available|down)\b|(?:50\d|refused|timed out|timeout)[^\n]*openid-configuration|openid-configuration[^\n]*(?:50\d|refused|timed out|timeout)").attributes(BELOW_ERROR),
    LogSignal::new("goldenpath.oauth", SIGNATURE, &["invalid_client", "redirect_uri_mismatch", "origin_mismatch", "unauthorized_client", "deleted_client"]).speaks(CONFIGURATION, 0.75).attributes(BELOW_ERROR),
    LogSignal::new("goldenpath.no-token", ANONYMOUS, &["rejected in staging: No JWT", "No JWT token", "No token provided", "Missing authentication token", "No authentication token", "Missing Authorization header"]).any_level(),
    LogSignal::new("goldenpath.closed-1008", SOCKET_CLOSED, &["code 1008", "code=1008", "code: 1008", "with 1008", "(1008)", "1008 (policy violation)"]).any_level(),
    LogSignal::new("goldenpath.closed-1011", SOCKET_BROKEN, &["code 1011", "code=1011", "code: 1011", "with 1011", "(1011)", "1011 (internal error)"]).any_level(),
    LogSignal::new("goldenpath.agent-failed", WORK_FAILED, &["AGENT_NOT_FOUND", "gent execution failed", "gent execution timeout", "gent execution timed out", "gent execution error", "gent run failed", "gent run timed out", "_agent failed", "gent failed: "]),
    LogSignal::new("goldenpath.client-left", CLIENT_LEFT, &["(code 1001", "code = 1001", "1001 (going away)", "code=1001", "ConnectionClosedOK", "ConnectionClosedError: no close frame", "no close frame received or sent", "ClientDisconnect", "WebSocketDisconnect: (1000", "WebSocketDisconnect(code=1000", "lient disconnected", "CLOSE_GOING_AWAY"]).any_level(),
    // The observed application lets whoever has no token look around under such a name.
    LogSignal::new("goldenpath.guest", GUEST, &["demo-user-"]).any_level(),
    // Chrome's and Firefox' words, whatever stands around them.
    LogSignal::new("goldenpath.browser-socket", BROWSER, &["ebSocket connection to ", "establish a connection to the server at ws"]).capture(r"WebSocket connection to '?(?P<target>wss?://[^/'\s]+)[^\n]{0,200}?failed|connection to the server at (?P<host>wss?://[^/\s]+)").any_level(),
    LogSignal::new("goldenpath.accepted", ACCEPTED, &["Token validation successful", "token validation successful", "JWT validated successfully"]).any_level(),
];
