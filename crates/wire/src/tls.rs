//! TLS: one configuration per way of verifying, typed faults, and what a certificate says.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use shakedown_core::Fault;
use shakedown_core::clock::{self, Timestamp};
use shakedown_core::environment::SslMode;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::climb::quoted;

/// How TLS is spoken, one configuration per way of verifying.
pub(crate) struct TlsConfigs {
    /// Nothing is verified: encrypted, to whomever.
    encrypt_only: Arc<ClientConfig>,
    /// A fault when there is no root at all to trust.
    verifying: Result<Verifying, Fault>,
}

struct Verifying {
    /// Issuer and name are verified.
    full: Arc<ClientConfig>,
    /// The issuer is verified, the name is not.
    issuer: Arc<ClientConfig>,
    /// As `full`, and offers HTTP/1.1 by ALPN.
    web: Arc<ClientConfig>,
}

impl TlsConfigs {
    pub(crate) fn new(roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = |verifier: Arc<dyn ServerCertVerifier>| {
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .expect("ring knows TLS 1.2 and 1.3");
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            Arc::new(builder.with_no_client_auth())
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let verifying = match verifier.build() {
            Ok(verifier) => {
                let full = config(verifier.clone());
                let mut web = ClientConfig::clone(&full);
                web.alpn_protocols = vec![b"http/1.1".to_vec()];
                let issuer = config(Arc::new(IssuerOnly(verifier)));
                Ok(Verifying { full, issuer, web: Arc::new(web) })
            }
            Err(error) => Err(Fault::Tls {
                reason: "unknown-issuer".into(),
                message: format!("no root to trust, set `tls.ca_file`: {error}"),
            }),
        };
        Self { encrypt_only: config(Arc::new(Anybody(provider.clone()))), verifying }
    }

    /// The configuration for a database connection.
    pub(crate) fn database(&self, mode: SslMode) -> Result<&Arc<ClientConfig>, Fault> {
        match mode {
            SslMode::Disable | SslMode::Prefer | SslMode::Require => Ok(&self.encrypt_only),
            SslMode::VerifyCa => self.verifying().map(|configs| &configs.issuer),
            SslMode::VerifyFull => self.full(),
        }
    }

    /// Issuer and name are verified.
    pub(crate) fn full(&self) -> Result<&Arc<ClientConfig>, Fault> {
        self.verifying().map(|configs| &configs.full)
    }

    /// The configuration for everything that speaks HTTP.
    pub(crate) fn web(&self) -> Result<&Arc<ClientConfig>, Fault> {
        self.verifying().map(|configs| &configs.web)
    }

    fn verifying(&self) -> Result<&Verifying, Fault> {
        self.verifying.as_ref().map_err(Fault::clone)
    }
}

/// Shakes hands with the TLS server called `host`.
pub(crate) async fn handshake(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<Box<TlsStream<TcpStream>>, Fault> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Fault::Tls {
        reason: "not-valid-for-name".into(),
        message: format!("`{host}` is not a name a certificate can be for: {error}"),
    })?;
    let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    connected.map(Box::new).map_err(|error| fault(&error))
}

/// The fault an error of the handshake stands for.
pub(crate) fn fault(error: &std::io::Error) -> Fault {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return Fault::from_io(error);
    };
    let reason = match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired".into(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "not-valid-yet".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "not-valid-for-name".into()
            }
            CertificateError::UnknownIssuer => "unknown-issuer".into(),
            CertificateError::Revoked => "revoked".into(),
            _ => "bad-certificate".into(),
        },
        rustls::Error::AlertReceived(alert) => kebab(&format!("{alert:?}")),
        rustls::Error::PeerIncompatible(_) => "not-supported".into(),
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
            return Fault::Protocol { message: quoted(&format!("expected TLS: {error}"), 300) };
        }
        _ => "other".into(),
    };
    Fault::Tls { reason, message: quoted(&error.to_string(), 300) }
}

/// `HandshakeFailure` as `handshake-failure`.
fn kebab(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// What the peer's certificate and its TLS session say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Whole days until it expires; negative when it has.
    pub days_left: i64,
    /// When it expires.
    pub not_after: Timestamp,
    /// The DNS names and addresses it is for.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// The TLS version spoken: `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The protocol agreed by ALPN, if one was.
    pub alpn: Option<String>,
}

impl CertificateInfo {
    /// `None` when the peer showed no certificate or one that cannot be read.
    pub(crate) fn of(stream: &TlsStream<TcpStream>) -> Option<Self> {
        let (_, session) = stream.get_ref();
        let leaf = session.peer_certificates()?.first()?;
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        let not_after =
            Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
        let seconds = not_after.as_second() - clock::wall().as_second();
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(quoted(name, 253)),
            GeneralName::IPAddress(octets) => Some(ip(octets)?.to_string()),
            _ => None,
        });
        Some(Self {
            days_left: seconds.div_euclid(86_400),
            not_after,
            names: names.take(100).collect(),
            issuer: quoted(&certificate.issuer().to_string(), 300),
            version: match session.protocol_version()? {
                rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".into(),
                rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3".into(),
                other => format!("{other:?}"),
            },
            alpn: session.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned()),
        })
    }

    /// The detail of a `tls` step.
    pub(crate) fn summary(&self) -> String {
        format!("{}, certificate of {} for {} more days", self.version, self.issuer, self.days_left)
    }
}

fn ip(octets: &[u8]) -> Option<std::net::IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from)).ok()
}

/// Verifies the chain of issuers but not the name, as libpq's `verify-ca`.
#[derive(Debug)]
struct IssuerOnly(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for IssuerOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last: everything else was in order.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Takes any certificate, as libpq's `require`: the peer must only own the key of what it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_root_encrypting_still_works_and_verifying_says_what_to_set() {
        let configs = TlsConfigs::new(RootCertStore::empty());
        for mode in [SslMode::Prefer, SslMode::Require] {
            assert!(configs.database(mode).is_ok());
        }
        for failed in [configs.database(SslMode::VerifyCa), configs.full(), configs.web()] {
            let fault = failed.unwrap_err();
            assert_eq!(fault.code(), "tls:unknown-issuer");
            assert!(fault.to_string().contains("tls.ca_file"));
        }
    }

    #[test]
    fn alerts_have_readable_names() {
        for (alert, name) in [
            (rustls::AlertDescription::HandshakeFailure, "handshake-failure"),
            (rustls::AlertDescription::AccessDenied, "access-denied"),
        ] {
            let error = std::io::Error::other(rustls::Error::AlertReceived(alert));
            assert_eq!(fault(&error).code(), format!("tls:{name}"));
        }
    }
}
