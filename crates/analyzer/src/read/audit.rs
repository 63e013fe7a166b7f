//! Audit log entries: who changed what.

use std::collections::BTreeMap;

use serde_json::Value;
use shakedown_core::redact::REDACTED;
use shakedown_core::{Redactor, evidence::Change};

/// How many settings of one call are kept; a Cloud Run service has about fifty.
const MAX_FIELDS: usize = 256;

/// One administrative call or change, from `protoPayload` or from a `jsonPayload` of the same form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// `google.cloud.run.v1.Services.ReplaceService`, `/Services.ReplaceService`, ..
    pub method: String,
    /// Who called, people masked (`a***@example.com`); empty for Google's own changes.
    pub principal: String,
    /// The caller's command, for example `gcloud.run.deploy`, when the client says it.
    pub command: String,
    /// `namespaces/P/services/S`, ..
    pub resource: String,
    /// The status code; 0 is success, `None` when none is given.
    pub status_code: Option<i64>,
    /// The status message, for example "Ready condition status changed to True for ..".
    pub status_message: String,
    /// What the call set, flattened: `annotations.run.googleapis.com/vpc-access-egress`,
    /// `containers.image`, `env.NAME`, `timeoutSeconds`. Values of secrets are replaced; what
    /// changes with every call (operation ids, build ids, client versions) is left out.
    pub fields: BTreeMap<String, String>,
}

impl Audit {
    /// Reads an audit payload. `None` when it is no JSON object or nested too deeply.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let payload: Value = serde_json::from_slice(payload)
            .or_else(|_| serde_json::from_str(&String::from_utf8_lossy(payload)))
            .ok()?;
        payload.is_object().then(|| Self::from_value(&payload))
    }

    /// Whether it only says that its caller may not do what was called for: that tells nothing about
    /// the service, which stays as it was. A condition of a resource is not a caller's.
    pub fn is_refused_call(&self) -> bool {
        const PERMISSION_DENIED: i64 = 7;
        const UNAUTHENTICATED: i64 = 16;
        matches!(self.status_code, Some(PERMISSION_DENIED | UNAUTHENTICATED))
            && !self.status_message.contains("condition status changed")
    }

    fn from_value(payload: &Value) -> Self {
        let text = |path: &str| payload.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let agent = text("/requestMetadata/callerSuppliedUserAgent");
        let command = agent.split_ascii_whitespace().find_map(|word| word.strip_prefix("command/"));
        let mut fields = BTreeMap::new();
        if let Some(set) = settings(payload) {
            flatten(set, String::new(), &Redactor::default(), &mut fields);
        }
        Self {
            method: text("/methodName").to_owned(),
            principal: mask(text("/authenticationInfo/principalEmail")),
            command: command.unwrap_or_default().to_owned(),
            resource: text("/resourceName").to_owned(),
            status_code: payload.pointer("/status/code").and_then(Value::as_i64),
            status_message: text("/status/message").to_owned(),
            fields,
        }
    }

    /// Key, earlier value and value of every setting that differs from an earlier call's; a setting
    /// only one of them has counts when both say their settings at all.
    pub fn changes_since(&self, earlier: &Self) -> Vec<(String, String, String)> {
        if self.fields.is_empty() || earlier.fields.is_empty() {
            return Vec::new();
        }
        let keys: std::collections::BTreeSet<_> =
            self.fields.keys().chain(earlier.fields.keys()).collect();
        let value = |of: &Self, key: &String| of.fields.get(key).cloned().unwrap_or_default();
        keys.into_iter()
            .map(|key| (key.clone(), value(earlier, key), value(self, key)))
            .filter(|(_, from, to)| from != to)
            .collect()
    }

    /// The change as evidence; `earlier` is the call before it on the same resource, if known.
    pub fn to_change(&self, earlier: Option<&Self>) -> Change {
        Change {
            actor: self.principal.clone(),
            method: self.method.clone(),
            fields: earlier.map(|earlier| self.changes_since(earlier)).unwrap_or_default(),
        }
    }
}

/// The part of a call that says what is to be: a revision's template where there is one.
fn settings(payload: &Value) -> Option<&Value> {
    let whole = ["/request/service", "/request/revision", "/response", "/request"]
        .iter()
        .find_map(|path| payload.pointer(path).filter(|found| found.is_object()))?;
    let template = ["/spec/template", "/template"].iter().find_map(|path| whole.pointer(path));
    Some(template.unwrap_or(whole))
}

/// What differs between any two calls, or is no setting.
fn is_noise(key: &str) -> bool {
    const NOISE: [&str; 17] = [
        "@type",
        "operation-id",
        "client-name",
        "client-version",
        "nonce",
        "lastModifier",
        "creator",
        "urls",
        "uid",
        "generation",
        "resourceVersion",
        "selfLink",
        "creationTimestamp",
        "etag",
        "status",
        "ownerReferences",
        "kind",
    ];
    NOISE.iter().any(|noise| key.ends_with(noise)) || key.contains("/build-")
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "password", "passwd", "token", "api_key", "apikey", "private", "credential"]
        .iter()
        .any(|word| key.contains(word))
}

/// Values deeper than this are left out; the strict parser has refused more than 128 already.
fn flatten(value: &Value, at: String, redactor: &Redactor, out: &mut BTreeMap<String, String>) {
    if out.len() >= MAX_FIELDS {
        return;
    }
    match value {
        Value::Object(map) => {
            // `env: [{name, value}]` is a map in disguise.
            if let (Some(name), true) =
                (map.get("name").and_then(Value::as_str), at.ends_with("env"))
            {
                let key = format!("env.{name}");
                let value = match map.get("value").and_then(Value::as_str) {
                    Some(_) if is_secret(name) => REDACTED.to_owned(),
                    Some(value) => redactor.redact(value).into_owned(),
                    None => map.get("valueFrom").map(Value::to_string).unwrap_or_default(),
                };
                out.insert(key, value);
                return;
            }
            for (key, value) in map {
                if is_noise(key) {
                    continue;
                }
                let inner = match (at.as_str(), key.as_str()) {
                    ("", "metadata" | "spec") => String::new(),
                    ("", _) => key.clone(),
                    _ => format!("{at}.{key}"),
                };
                flatten(value, inner, redactor, out);
            }
        }
        Value::Array(list) => {
            for (n, value) in list.iter().enumerate() {
                let inner = match (list.len(), value) {
                    (1, _) | (_, Value::Object(_)) if at.ends_with("env") => at.clone(),
                    (1, _) => at.clone(),
                    _ => format!("{at}.{n}"),
                };
                flatten(value, inner, redactor, out);
            }
        }
        Value::String(text) if is_address(text) => {
            out.insert(at, mask(text));
        }
        Value::String(_) if is_secret(&at) => {
            out.insert(at, REDACTED.to_owned());
        }
        Value::String(text) => {
            out.insert(at, redactor.redact(text).into_owned());
        }
        Value::Null => {}
        other => {
            // `782.0` and `782` are one number; so are `True` and `true`, in texts.
            let text =
                other.as_f64().map_or_else(|| other.to_string(), |number| number.to_string());
            out.insert(at, text);
        }
    }
}

/// Whether a text is somebody's address: one `@` between a name and a domain. An image by its digest
/// (`registry/app@sha256:..`) is none.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let plain = |part: &str, extra: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || extra.contains(c))
    };
    // `user:` and `serviceAccount:` stand before the members of a policy.
    let local = local.rsplit(':').next().unwrap_or_default();
    plain(local, ".-_+'") && plain(domain, ".-") && domain.contains('.')
}

/// A person's address without the person; service accounts stay.
fn mask(address: &str) -> String {
    match address.split_once('@') {
        Some((_, domain)) if domain.ends_with(".gserviceaccount.com") => address.to_owned(),
        Some((local, domain)) => {
            let first: String = local.chars().take(1).collect();
            format!("{first}***@{domain}")
        }
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deploy(egress: &str, extra: &str) -> Audit {
        let text = format!(
            r#"{{"@type":"type.googleapis.com/google.cloud.audit.AuditLog",
            "authenticationInfo":{{"principalEmail":"alice@example.com"}},
            "requestMetadata":{{"callerSuppliedUserAgent":"google-cloud-sdk gcloud/1 command/gcloud.run.deploy x/y"}},
            "methodName":"google.cloud.run.v1.Services.ReplaceService",
            "resourceName":"namespaces/p/services/backend",
            "request":{{"service":{{"metadata":{{"generation":7.0}},"spec":{{"template":{{
              "metadata":{{"annotations":{{"run.googleapis.com/vpc-access-egress":"{egress}",
                "run.googleapis.com/operation-id":"{extra}"}}}},
              "spec":{{"containers":[{{"image":"i:1","env":[{{"name":"MODE","value":"{extra}"}},
                {{"name":"DB_PASSWORD","value":"hunter22"}}]}}],"timeoutSeconds":600.0}}}}}}}}}}}}"#
        );
        Audit::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_deploy_says_who_what_and_how() {
        let audit = deploy("all-traffic", "a");
        assert_eq!(audit.principal, "a***@example.com");
        assert_eq!(audit.command, "gcloud.run.deploy");
        assert_eq!(audit.resource, "namespaces/p/services/backend");
        let fields: Vec<_> = audit.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            fields,
            [
                ("annotations.run.googleapis.com/vpc-access-egress", "all-traffic"),
                ("containers.image", "i:1"),
                ("env.DB_PASSWORD", REDACTED),
                ("env.MODE", "a"),
                ("timeoutSeconds", "600"),
            ]
        );
    }

    #[test]
    fn what_differs_between_two_deploys_is_the_change() {
        let change =
            deploy("all-traffic", "b").to_change(Some(&deploy("private-ranges-only", "a")));
        let key = "annotations.run.googleapis.com/vpc-access-egress".to_owned();
        assert_eq!(
            change.fields,
            [
                (key, "private-ranges-only".to_owned(), "all-traffic".to_owned()),
                ("env.MODE".to_owned(), "a".to_owned(), "b".to_owned()),
            ]
        );
    }

    #[test]
    fn people_are_masked_and_images_by_digest_are_not() {
        for address in ["alice@example.com", "user:alice.b@example.co.uk"] {
            assert!(is_address(address), "{address}");
        }
        for other in ["eu.gcr.io/p/app@sha256:0a1b2c", "postgres://u:p@host/db", "a@b", "@x.y"] {
            assert!(!is_address(other), "{other}");
        }
        let audit = deploy("all-traffic", "a");
        let digest = "europe-west1-docker.pkg.dev/p/apps/backend@sha256:9f86d081884c7d65";
        let text = serde_json::json!({ "request": { "service": { "spec": { "template": {
            "spec": { "containers": [{ "image": digest }] } } } } } });
        let by_digest = Audit::from_value(&text);
        assert_eq!(by_digest.fields["containers.image"], digest);
        assert_ne!(audit.fields["containers.image"], digest);
    }

    #[test]
    fn a_payload_that_is_too_deep_is_no_audit() {
        let bomb = [b"{\"a\":".repeat(500), b"1".to_vec(), b"}".repeat(500)].concat();
        assert_eq!(Audit::parse(&bomb), None);
    }
}
