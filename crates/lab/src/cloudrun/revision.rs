//! Revisions: what is deployed, and what the audit log says about it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

/// What a deploy says other than the one before: environment variables and the egress setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deploy {
    /// Names and values; an empty value takes the variable away.
    pub(crate) variables: BTreeMap<String, String>,
    /// Whether all traffic leaves through the connector, `None` as before.
    pub(crate) all_traffic: Option<bool>,
}

/// A revision of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) service: String,
    number: u32,
    /// Its whole environment but for what belongs to an instance.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) all_traffic: bool,
}

/// Whether a variable of the lab's stands for what is in the image.
fn is_in_image(name: &str) -> bool {
    name.starts_with("LAB_")
}

fn is_secret(name: &str) -> bool {
    name.contains("PASSWORD") || name.contains("SECRET")
}

impl Revision {
    pub(crate) fn first(service: &str, variables: BTreeMap<String, String>) -> Self {
        Self { service: service.into(), number: 1, variables, all_traffic: false }
    }

    /// The revision that `deploy` makes of this one.
    pub(crate) fn next(&self, deploy: &Deploy) -> Self {
        let mut next = self.with(deploy);
        next.number = self.number + 1;
        next
    }

    /// The same revision as `deploy` would have had it.
    pub(crate) fn with(&self, deploy: &Deploy) -> Self {
        let mut changed = self.clone();
        for (name, value) in &deploy.variables {
            if value.is_empty() {
                changed.variables.remove(name);
            } else {
                changed.variables.insert(name.clone(), value.clone());
            }
        }
        changed.all_traffic = deploy.all_traffic.unwrap_or(self.all_traffic);
        changed
    }

    /// `backend-00001-lab`.
    pub(crate) fn name(&self) -> String {
        format!("{}-{:05}-lab", self.service, self.number)
    }

    /// What stands for the image: it changes with what the lab does to the code.
    fn image(&self, project: &str) -> String {
        let mut hash = DefaultHasher::new();
        let inside =
            self.variables.iter().filter(|(name, _)| is_in_image(name) && !is_secret(name));
        inside.collect::<Vec<_>>().hash(&mut hash);
        format!("gcr.io/{project}/{}@sha256:{:016x}", self.service, hash.finish())
    }

    /// `ReplaceService`, as `gcloud run deploy` calls it.
    pub(crate) fn replace_service(&self, project: &str, connection_name: &str) -> Value {
        let env: Vec<Value> = self
            .variables
            .iter()
            .filter(|(name, _)| !is_in_image(name))
            .map(|(name, value)| {
                if is_secret(name) {
                    let key = json!({ "name": name.to_lowercase(), "key": "latest" });
                    json!({ "name": name, "valueFrom": { "secretKeyRef": key } })
                } else {
                    json!({ "name": name, "value": value })
                }
            })
            .collect();
        let egress = if self.all_traffic { "all-traffic" } else { "private-ranges-only" };
        let resource = format!("namespaces/{project}/services/{}", self.service);
        json!({
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
            "authenticationInfo": { "principalEmail": "deployer@example.com" },
            "requestMetadata": {
                "callerSuppliedUserAgent": "google-cloud-sdk gcloud/534.0.0 command/gcloud.run.deploy",
            },
            "serviceName": "run.googleapis.com",
            "methodName": "google.cloud.run.v1.Services.ReplaceService",
            "resourceName": resource,
            "request": {
                "@type": "type.googleapis.com/google.cloud.run.v1.ReplaceServiceRequest",
                "name": resource,
                "service": { "kind": "Service", "spec": { "template": {
                    "metadata": { "annotations": {
                        "run.googleapis.com/vpc-access-egress": egress,
                        "run.googleapis.com/vpc-access-connector": "lab-vpc-connector",
                        "run.googleapis.com/cloudsql-instances": connection_name,
                        "autoscaling.knative.dev/minScale": "1",
                        "autoscaling.knative.dev/maxScale": "20",
                    }},
                    "spec": {
                        "containers": [{ "image": self.image(project), "env": env }],
                        "containerConcurrency": 80,
                        "timeoutSeconds": 600,
                    },
                }}},
            },
        })
    }

    /// What the platform adds once the revision's first instance passed its start-up probe: a deploy
    /// that succeeded, which is no health.
    pub(crate) fn ready(&self, project: &str, seconds: f64) -> Value {
        let name = self.name();
        json!({
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
            "serviceName": "run.googleapis.com",
            "methodName": "/Services.ReplaceService",
            "resourceName": format!("namespaces/{project}/revisions/{name}"),
            "status": { "message": format!(
                "Ready condition status changed to True for Revision {name} with message: \
                 Deploying revision succeeded in {seconds:.2}s."
            )},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deploy_changes_what_it_says_and_shows_no_secret() {
        let variables = [("POSTGRES_DB", "staging"), ("POSTGRES_PASSWORD", "hunter2")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let first = Revision::first("backend", variables.into());
        let deploy = Deploy {
            variables: [("LAB_DEFECT".to_owned(), "import".to_owned())].into(),
            all_traffic: Some(true),
        };
        let second = first.next(&deploy);
        assert_eq!(
            (first.name(), second.name()),
            ("backend-00001-lab".into(), "backend-00002-lab".into())
        );
        let (one, two) = (first.replace_service("p", "c"), second.replace_service("p", "c"));
        let at = |entry: &Value, path: &str| entry.pointer(path).unwrap().clone();
        let image = "/request/service/spec/template/spec/containers/0/image";
        assert_ne!(at(&one, image), at(&two, image));
        let egress = "/request/service/spec/template/metadata/annotations/run.googleapis.com~1vpc-access-egress";
        assert_eq!(at(&one, egress), "private-ranges-only");
        assert_eq!(at(&two, egress), "all-traffic");
        let text = two.to_string();
        assert!(
            !text.contains("hunter2") && !text.contains("LAB_DEFECT") && text.contains("staging")
        );
        let back = Deploy {
            variables: [("LAB_DEFECT".to_owned(), String::new())].into(),
            ..Deploy::default()
        };
        assert!(!second.next(&back).variables.contains_key("LAB_DEFECT"));
    }
}
