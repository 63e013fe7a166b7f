//! Regular expressions that are compiled when they are first needed.

use std::sync::OnceLock;

use regex::Regex;
use regex_syntax::ast::parse::Parser;

/// A constant pattern whose syntax is checked at once and which is compiled at its first use: of a
/// hundred patterns behind a literal most are never used, and each would cost some hundred
/// kilobytes.
#[derive(Debug)]
pub struct LazyRegex {
    pattern: &'static str,
    compiled: OnceLock<Regex>,
}

impl LazyRegex {
    /// Checks `pattern`.
    ///
    /// # Errors
    ///
    /// When it is no regular expression.
    pub fn new(pattern: &'static str) -> Result<Self, regex::Error> {
        // Its tree alone: what its classes of characters are made of takes three times as long.
        let tree = Parser::new().parse(pattern);
        tree.map_err(|error| regex::Error::Syntax(error.to_string()))?;
        Ok(Self { pattern, compiled: OnceLock::new() })
    }

    /// The compiled expression.
    ///
    /// # Panics
    ///
    /// When it is larger than [`regex`] allows, 10 MB: it repeats something thousands of times. Or when
    /// it names a class of characters that does not exist.
    pub fn get(&self) -> &Regex {
        self.compiled.get_or_init(|| Regex::new(self.pattern).expect("a pattern of common size"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_is_none_is_told_at_once() {
        let error = LazyRegex::new("(?P<number>").expect_err("a group is open");
        assert!(matches!(error, regex::Error::Syntax(_)), "{error}");
        let digits = LazyRegex::new(r"\d+").expect("a pattern");
        assert!(digits.compiled.get().is_none());
        assert!(digits.get().is_match("7") && digits.compiled.get().is_some());
    }
}
