//! The lab's certificate authority.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::error::LabError;

/// Days a certificate of the lab is valid. Google's managed certificates are, too.
const VALID_DAYS: i64 = 90;

/// A certificate authority of this lab alone. Its key never leaves memory.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    pub(crate) fn new() -> Result<Self, LabError> {
        let mut params = params(Vec::new(), "shakedown lab CA")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(certificates)?;
        CertifiedIssuer::self_signed(params, key).map(Self).map_err(certificates)
    }

    /// The authority's certificate, for `ca.pem`.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// TLS with a certificate for these names, HTTP/1.1 only.
    pub(crate) fn server_config(
        &self,
        names: impl Iterator<Item = &'static str>,
    ) -> Result<ServerConfig, LabError> {
        let mut params = params(names.map(str::to_owned).collect(), "shakedown lab")?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(certificates)?;
        let certificate = params.signed_by(&key, &self.0).map_err(certificates)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| LabError::Certificates(error.into()))?;
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(certificates)?
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .map_err(certificates)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn params(names: Vec<String>, common_name: &str) -> Result<CertificateParams, LabError> {
    let mut params = CertificateParams::new(names).map_err(certificates)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let today = shakedown_core::clock::wall().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |offset: i64| {
        let date = today.saturating_add(jiff::Span::new().days(offset));
        let part = |part: i8| part.unsigned_abs();
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    // From yesterday, so that a client whose clock is a little behind accepts it.
    params.not_before = day(-1);
    params.not_after = day(VALID_DAYS - 1);
    Ok(params)
}

fn certificates(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LabError {
    LabError::Certificates(error.into())
}
