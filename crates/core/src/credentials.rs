//! Secrets, resolved from the references an environment holds.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

/// The secrets of a run by credential name. Never serialised, never printed.
#[derive(Clone, Debug, Default)]
pub struct Credentials(BTreeMap<String, SecretString>);

impl Credentials {
    /// The secret called `name`, if one was resolved.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// Adds or replaces a secret.
    pub fn insert(&mut self, name: impl Into<String>, secret: SecretString) {
        self.0.insert(name.into(), secret);
    }

    /// The names there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Every secret, for teaching a [`Redactor`](crate::Redactor) what to hide.
    pub fn expose_all(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(ExposeSecret::expose_secret)
    }
}
