//! Errors of an environment: where, which key, what is wrong, what to do.

use std::fmt;

/// One error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {}{message}", if key.is_empty() { String::new() } else { format!("`{key}`: ") })]
pub struct LoadError {
    /// The file with its line, the variable, or `--set`.
    pub origin: String,
    /// The key's full path; empty when the text as a whole is wrong.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Every error of an environment; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadErrors(pub Vec<LoadError>);

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadErrors {}
