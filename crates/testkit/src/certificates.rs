//! Certificates, good and bad, of an authority made for the test.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// Whom a server says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// `localhost` and 127.0.0.1, valid for 30 to 31 days more.
    Good,
    /// The same, expired in 2021.
    Expired,
    /// Valid, but for `elsewhere.shakedown.test`.
    WrongName,
    /// As good, but signed by another authority than the one asked.
    Stranger,
}

/// A certificate authority whose key never leaves memory.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new authority.
    ///
    /// # Panics
    ///
    /// When the system gives no randomness.
    pub fn new() -> Self {
        Self::called("shakedown test authority")
    }

    /// A new authority of another name. One of the same name but another key is a different fault.
    ///
    /// # Panics
    ///
    /// As [`Authority::new`].
    pub fn called(name: &str) -> Self {
        let mut params = params(&[], name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its certificate as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes its certificate to `path`, for `[tls] ca_file`.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.pem()).expect("the authority's certificate is written");
    }

    /// A certificate for `identity` and its key, both as PEM.
    ///
    /// # Panics
    ///
    /// When the system gives no randomness.
    pub fn issue(&self, identity: Identity) -> (String, String) {
        let (certificate, key) = self.sign(identity);
        (certificate.pem(), key.serialize_pem())
    }

    /// A server's TLS for `identity`, HTTP/1.1 by ALPN if the client asks.
    ///
    /// # Panics
    ///
    /// When the system gives no randomness.
    pub fn server(&self, identity: Identity) -> Arc<ServerConfig> {
        let (certificate, key) = self.sign(identity);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a PKCS #8 key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key fits the certificate");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn sign(&self, identity: Identity) -> (rcgen::Certificate, KeyPair) {
        let names: &[&str] = match identity {
            Identity::WrongName => &["elsewhere.shakedown.test"],
            Identity::Good | Identity::Expired | Identity::Stranger => &["localhost", "127.0.0.1"],
        };
        let mut params = params(names, "shakedown test server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if identity == Identity::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let stranger;
        let issuer = if identity == Identity::Stranger {
            stranger = Self::called("another authority");
            &stranger.0
        } else {
            &self.0
        };
        (params.signed_by(&key, issuer).expect("a certificate"), key)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, common_name);
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |offset: i64| {
        let date = today.saturating_add(jiff::Span::new().days(offset));
        let part = |part: i8| part.unsigned_abs();
        date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    params.not_before = day(-1);
    params.not_after = day(31);
    params
}
