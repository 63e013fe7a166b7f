//! The lab's HTTPS services behind one load balancer.

pub(crate) mod auth;
mod http;
pub(crate) mod jwt;
pub(crate) mod pages;
mod tls;
pub(crate) mod upstream;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::cloudrun::log::CloudLog;
use crate::error::LabError;
use crate::switches::Switches;
use crate::tasks::Tasks;
use auth::Auth;
use upstream::{Route, Upstream};

pub(crate) use tls::Authority;

/// A client may take this long for its TLS handshake, and for each request's header.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service behind the load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Backend,
    Auth,
    Frontend,
}

impl Service {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Auth => "auth",
            Self::Frontend => "frontend",
        }
    }

    pub(crate) fn has_websocket(self) -> bool {
        self == Self::Backend
    }
}

/// A name the load balancer answers to.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) service: Service,
    pub(crate) alias: bool,
}

/// All of them. `.test` is reserved (RFC 6761): no name of these exists anywhere.
pub(crate) const HOSTS: [Host; 4] = [
    Host { name: "backend.lab.shakedown.test", service: Service::Backend, alias: false },
    Host { name: "api.lab.shakedown.test", service: Service::Backend, alias: true },
    Host { name: "auth.lab.shakedown.test", service: Service::Auth, alias: false },
    Host { name: "lab.shakedown.test", service: Service::Frontend, alias: false },
];

/// What stands behind the load balancer.
#[derive(Debug)]
pub(crate) struct Services {
    /// Runs here.
    pub(crate) auth: Auth,
    /// Runs in a process of its own.
    pub(crate) backend: Route,
    /// The process that stands for its start-up and its database; `None` in a lab without: it
    /// answers as long as that serves.
    pub(crate) auth_process: Option<watch::Receiver<Upstream>>,
    /// Where requests are logged.
    pub(crate) log: Arc<CloudLog>,
    /// What the load balancer does wrong.
    pub(crate) switches: watch::Receiver<Switches>,
}

impl Services {
    fn auth_is_up(&self) -> bool {
        let process = self.auth_process.as_ref();
        process.is_none_or(|state| matches!(*state.borrow(), Upstream::Serving(_)))
    }
}

/// Starts the load balancer on a free port of 127.0.0.1: TLS with a certificate for all [`HOSTS`],
/// HTTP/1.1, services by Host header.
pub(crate) fn start(
    authority: &Authority,
    services: Services,
    tasks: &Tasks,
) -> Result<SocketAddr, LabError> {
    let listen = |source: io::Error| LabError::Listen { what: "the load balancer", source };
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let listener = TcpListener::from_std(listener).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let acceptor =
        TlsAcceptor::from(Arc::new(authority.server_config(HOSTS.iter().map(|host| host.name))?));
    let services = Arc::new(services);
    let clients = tasks.clone();
    tasks.spawn_vital("the load balancer", async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            // Without it an answer in two writes waits for the client's delayed ACK, 40 ms.
            let _ = stream.set_nodelay(true);
            let (acceptor, services) = (acceptor.clone(), Arc::clone(&services));
            clients.spawn(async move {
                let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await
                else {
                    return;
                };
                let service = hyper::service::service_fn(move |request| {
                    http::answer(request, Arc::clone(&services))
                });
                // An error is the client's to see.
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE)
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    Ok(address)
}
