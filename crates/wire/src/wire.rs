//! What all connections of a run share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use shakedown_core::{Environment, Fault, ProbeCtx, ProbeError};

use crate::tls::TlsConfigs;

/// What all connections of a run share: the TLS configuration with the roots of the environment,
/// and where to connect instead of resolving.
pub struct Wire {
    resolve: BTreeMap<String, SocketAddr>,
    extra_roots: Vec<CertificateDer<'static>>,
    tls: OnceLock<TlsConfigs>,
}

impl Wire {
    /// The run's wire, made the first time it is asked for and kept in [`ProbeCtx::shared`].
    ///
    /// Reads `[tls] ca_file` then. The system's roots are read the first time TLS is spoken. (They
    /// are found as OpenSSL finds them, so `SSL_CERT_FILE` and `SSL_CERT_DIR` have their effect.)
    ///
    /// The connect functions call this themselves, and report its error as the first rung's fault;
    /// call it before to have it as the configuration error it is.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Configuration`] when the file cannot be read or holds no certificate, and when
    /// `[network.resolve]` maps to something that is not `address:port`.
    pub fn of(ctx: &ProbeCtx) -> Result<Arc<Self>, ProbeError> {
        ctx.shared().get_or_try_init(|| Self::new(ctx.environment()))
    }

    fn new(environment: &Environment) -> Result<Self, ProbeError> {
        let mut resolve = BTreeMap::new();
        for (name, address) in &environment.network.resolve {
            let parsed = address.parse().map_err(|_| {
                ProbeError::configuration(
                    format!("`{address}` is not an address with a port, like `127.0.0.1:5432`"),
                    format!("network.resolve.\"{name}\""),
                )
            })?;
            resolve.insert(name.to_ascii_lowercase(), parsed);
        }
        let extra_roots = match &environment.tls.ca_file {
            Some(path) => read_roots(path)?,
            None => Vec::new(),
        };
        Ok(Self { resolve, extra_roots, tls: OnceLock::new() })
    }

    /// The TLS configuration for HTTPS: ring, TLS 1.2 and 1.3, the system's roots and `[tls]
    /// ca_file`. For clients that bring their own connections, such as reqwest.
    ///
    /// # Errors
    ///
    /// [`Fault::Tls`] when there is no root at all to trust.
    pub fn client_config(&self) -> Result<Arc<rustls::ClientConfig>, Fault> {
        self.tls().full().cloned()
    }

    pub(crate) fn tls(&self) -> &TlsConfigs {
        self.tls.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots.add_parsable_certificates(self.extra_roots.iter().cloned());
            TlsConfigs::new(roots)
        })
    }

    /// Where `[network.resolve]` says to connect for `host` and `port`.
    pub(crate) fn instead(&self, host: &str, port: u16) -> Option<SocketAddr> {
        if self.resolve.is_empty() {
            return None;
        }
        let host = host.to_ascii_lowercase();
        self.resolve.get(&format!("{host}:{port}")).or_else(|| self.resolve.get(&host)).copied()
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("resolve", &self.resolve).finish_non_exhaustive()
    }
}

fn read_roots(path: &str) -> Result<Vec<CertificateDer<'static>>, ProbeError> {
    let wrong = |why: String| ProbeError::configuration(format!("`{path}`: {why}"), "tls.ca_file");
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("no certificate in it".into()));
    }
    let mut store = RootCertStore::empty();
    if store.add_parsable_certificates(certificates.iter().cloned()).0 == 0 {
        return Err(wrong("no certificate in it can be a root".into()));
    }
    Ok(certificates)
}
