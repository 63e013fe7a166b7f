//! JSON Web Tokens (RFC 7519) signed with HMAC-SHA256 (RFC 7515), as far as the lab needs them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// Whom the lab's tokens are for.
pub(crate) const AUDIENCE: &str = "lab.shakedown.test";
/// Who issues them.
pub(crate) const ISSUER: &str = "https://auth.lab.shakedown.test";

/// The header of every token we issue.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Use {
    /// To ask a service for something.
    Access,
    /// To get another access token.
    Refresh,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Who issued it.
    pub(crate) iss: String,
    /// Whom it is for.
    pub(crate) aud: String,
    /// Whose it is.
    pub(crate) sub: String,
    /// What it may be used for.
    pub(crate) token_type: Use,
    /// When it was issued, seconds since 1970.
    pub(crate) iat: i64,
    /// When it ends, seconds since 1970.
    pub(crate) exp: i64,
}

/// Why a token is refused, in the words of PyJWT, which the observed application uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Not enough segments")]
    Segments,
    #[error("The specified alg value is not allowed")]
    Algorithm,
    #[error("Signature verification failed")]
    Signature,
    #[error("Invalid payload")]
    Payload,
    #[error("Invalid JWT audience")]
    Audience,
    #[error("Signature has expired")]
    Expired,
    #[error("Invalid token type")]
    Use,
}

/// A signing key. It stays out of `Debug` output.
pub(crate) struct Key(hmac::Key);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    pub(crate) fn new(secret: &SecretString) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()))
    }

    /// A token that says `claims`.
    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let payload = serde_json::to_vec(claims).expect("strings and numbers become JSON");
        let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(payload));
        let signature = BASE64.encode(hmac::sign(&self.0, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// What `token` says, if it is one of ours for `usage` and holds at `now` (seconds since 1970).
    pub(crate) fn verify(&self, token: &str, usage: Use, now: i64) -> Result<Claims, Refusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Segments)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Segments)?;
        let decoded = |text: &str| BASE64.decode(text).ok();
        let header: Option<serde_json::Value> =
            decoded(header).and_then(|header| serde_json::from_slice(&header).ok());
        // Never what the token asks for: a token may not choose how it is checked.
        if header.is_none_or(|header| header["alg"] != "HS256") {
            return Err(Refusal::Algorithm);
        }
        let signature = decoded(signature).ok_or(Refusal::Signature)?;
        hmac::verify(&self.0, signed.as_bytes(), &signature).map_err(|_| Refusal::Signature)?;
        let claims: Claims = decoded(payload)
            .and_then(|payload| serde_json::from_slice(&payload).ok())
            .ok_or(Refusal::Payload)?;
        if claims.exp <= now {
            return Err(Refusal::Expired);
        }
        if claims.aud != AUDIENCE {
            return Err(Refusal::Audience);
        }
        if claims.token_type != usage {
            return Err(Refusal::Use);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Key {
        Key::new(&SecretString::from(secret.to_owned()))
    }

    fn claims() -> Claims {
        Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: "user-1".into(),
            token_type: Use::Access,
            iat: 100,
            exp: 200,
        }
    }

    #[test]
    fn a_token_is_read_back_by_its_key_only() {
        let token = key("one").sign(&claims());
        assert_eq!(key("one").verify(&token, Use::Access, 150), Ok(claims()));
        assert_eq!(key("two").verify(&token, Use::Access, 150), Err(Refusal::Signature));
    }

    #[test]
    fn every_claim_is_checked() {
        let verify = |claims: &Claims, now| {
            key("k").verify(&key("k").sign(claims), Use::Access, now).map(|claims| claims.sub)
        };
        assert_eq!(verify(&claims(), 200), Err(Refusal::Expired));
        let other = Claims { aud: "elsewhere".into(), ..claims() };
        assert_eq!(verify(&other, 150), Err(Refusal::Audience));
        let refresh = Claims { token_type: Use::Refresh, ..claims() };
        assert_eq!(verify(&refresh, 150), Err(Refusal::Use));
    }

    #[test]
    fn a_token_does_not_choose_how_it_is_checked() {
        let token = key("k").sign(&claims());
        let (_, rest) = token.split_once('.').unwrap();
        let none = format!("{}.{rest}", BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#));
        assert_eq!(key("k").verify(&none, Use::Access, 150), Err(Refusal::Algorithm));
        for text in ["", "x", "a.b", "a.b.c", "...."] {
            assert!(key("k").verify(text, Use::Access, 150).is_err(), "{text}");
        }
    }

    /// The example of RFC 7515, appendix A.1, with its key.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let secret = BASE64
            .decode(
                "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            )
            .unwrap();
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                      eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let key = Key(hmac::Key::new(hmac::HMAC_SHA256, &secret));
        let token = format!("{signed}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        // Its signature holds; its claims are not ours.
        assert_eq!(key.verify(&token, Use::Access, 0), Err(Refusal::Payload));
    }
}
