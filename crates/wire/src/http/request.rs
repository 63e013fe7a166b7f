//! What to send, and to whom.

use std::fmt;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use shakedown_core::Fault;

use crate::climb::quoted;

/// What servers see us as.
const AGENT: &str = concat!("shakedown/", env!("CARGO_PKG_VERSION"));

/// One request.
///
/// Values of headers are taken for secrets: no `Debug` output shows them.
#[derive(Clone)]
pub struct Request {
    url: String,
    method: Method,
    headers: Vec<(String, String)>,
    body: Bytes,
    pub(crate) limit: Duration,
}

impl Request {
    /// `GET url`; the scheme is `http` or `https`, and `ws` or `wss` for a WebSocket.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: Method::GET,
            headers: Vec::new(),
            body: Bytes::new(),
            limit: Duration::MAX,
        }
    }

    /// `POST url` with a body.
    pub fn post(url: impl Into<String>, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut request = Self::get(url).header(CONTENT_TYPE.as_str(), content_type);
        request.method = Method::POST;
        request.body = Bytes::from(body.into());
        request
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The longest everything may take; `safety.connect_timeout` when that is less, or when this is
    /// not called.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Checks URL and headers.
    pub(crate) fn prepare(&self) -> Result<Prepared, Fault> {
        let wrong = |what: &str| Fault::Protocol {
            message: format!("cannot send to `{}`: {what}", quoted(&self.shown_url(), 200)),
        };
        let uri: Uri = self.url.parse().map_err(|_| wrong("not a URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("no host in it"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("credentials do not belong into a URL"));
        }
        let scheme = uri.scheme().map_or("", Scheme::as_str);
        let (tls, default_port) = match scheme {
            "http" | "ws" => (false, 80),
            "https" | "wss" => (true, 443),
            _ => return Err(wrong("the scheme is not http, https, ws or wss")),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(default_port);
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();

        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text);
        let host_header = value(authority.as_str()).map_err(|_| wrong("not a host"))?;
        headers.insert(HOST, host_header);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        for (name, text) in &self.headers {
            let bad = || wrong(&format!("the header `{}` cannot be sent", quoted(name, 60)));
            let name: HeaderName = name.parse().map_err(|_| bad())?;
            let mut value = value(text).map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let request = http::Request::builder().method(self.method.clone()).uri(path);
        let mut request = request
            .body(Full::new(self.body.clone()))
            .map_err(|_| wrong("the path cannot be sent"))?;
        *request.headers_mut() = headers;
        Ok(Prepared { tls, host, port, request })
    }

    /// Without query, which may hold secrets.
    fn shown_url(&self) -> String {
        let end = self.url.find(['?', '#']).unwrap_or(self.url.len());
        self.url[..end].to_owned()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &self.shown_url())
            .field("headers", &headers)
            .field("body_bytes", &self.body.len())
            .field("limit", &self.limit)
            .finish()
    }
}

/// A request that can be sent, and to whom.
pub(crate) struct Prepared {
    pub(crate) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) request: http::Request<Full<Bytes>>,
}
