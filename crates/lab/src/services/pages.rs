//! Answers as small as they can be.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

/// What every service answers with.
pub(crate) type Answer = Response<Full<Bytes>>;

/// A JSON document.
pub(crate) fn json(status: StatusCode, body: &Value) -> Answer {
    page(status, "application/json", body.to_string())
}

/// An error as FastAPI writes it.
pub(crate) fn detail(status: StatusCode, words: &str) -> Answer {
    json(status, &json!({ "detail": words }))
}

/// 405, with what is allowed instead.
pub(crate) fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Nothing but a status.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// A text of some type.
pub(crate) fn page(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
