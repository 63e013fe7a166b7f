//! What stands before every sink: one redactor for secrets, one sanitizer for bytes of strangers.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use regex::Regex;

use crate::credentials::Credentials;

/// What a secret is replaced with.
pub const REDACTED: &str = "[redacted]";

/// Secrets shorter than this are hidden only where a shape gives them away: replacing every "abc"
/// would make a report unreadable and would tell what the secret is.
const SHORTEST: usize = 4;

/// Shapes of secrets that came from outside, so that their values are not known.
///
/// The first group, if any, is kept; the rest of the match is replaced.
static SHAPES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        // user:password@ in a URL
        r"(?P<url>://[^\s/:@'\x22]*:)[^\s/@'\x22]+@",
        // password=..., "password": "..."; the same for secret, token, api key
        r"|(?P<key>(?i-u:\b[a-z_-]*(?:password|passwd|pwd|secret|token|api[_-]?key)[\x22']? ?[=:] ?[\x22']?))[^\s\x22'&,;{}\[\]]{4,}",
        r"|(?P<bearer>(?i-u:\b(?:bearer|basic) ))[A-Za-z0-9._~+/=-]{8,}",
        // JSON Web Token, Google access token, private key
        r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        r"|(?-u:\b)ya29\.[A-Za-z0-9._-]{8,}",
        r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*-----END [A-Z ]*PRIVATE KEY-----",
    ))
    .expect("a constant pattern")
});

/// A part of every shape: most texts have none of them and are spared the pattern. None is of `pass`,
/// the word for a probe that found the target in its good state.
static HINTS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let hints = ["://", "ssw", "pwd", "secret", "token", "key", "bearer", "basic", "eyj", "ya29"];
    AhoCorasick::builder().ascii_case_insensitive(true).build(hints).expect("a few constant words")
});

/// Hides secrets in text: those it was taught, in every encoding they travel in, and what looks
/// like one.
///
/// Cheap to clone. One redactor wraps every sink of a run, from the first event.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Option<AhoCorasick>,
}

impl Redactor {
    /// A redactor that knows the secrets of `credentials`.
    pub fn new(credentials: &Credentials) -> Self {
        Self::from_secrets(credentials.expose_all())
    }

    /// A redactor that knows `secrets`.
    pub fn from_secrets<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<String> = secrets.into_iter().flat_map(forms).collect();
        forms.sort();
        forms.dedup();
        let known = (!forms.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(&forms)
                .expect("a few short patterns")
        });
        Self { known }
    }

    /// `text` without secrets. Borrows when there is nothing to hide.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let text = match &self.known {
            Some(known) if known.is_match(text) => {
                let mut out = String::with_capacity(text.len());
                known.replace_all_with(text, &mut out, |_, _, out| {
                    out.push_str(REDACTED);
                    true
                });
                Cow::Owned(out)
            }
            _ => Cow::Borrowed(text),
        };
        match text {
            Cow::Borrowed(text) => shapes(text),
            Cow::Owned(text) => Cow::Owned(shapes(&text).into_owned()),
        }
    }

    /// Whether no part of `text` can hold something to hide. Where it is `false`, that is still open.
    pub fn spares(&self, text: &str) -> bool {
        !HINTS.is_match(text) && !self.known.as_ref().is_some_and(|known| known.is_match(text))
    }

    /// Whether `text` holds something that must not be written down.
    pub fn finds(&self, text: &str) -> bool {
        matches!(self.redact(text), Cow::Owned(hidden) if hidden != text)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

fn shapes(text: &str) -> Cow<'_, str> {
    if !HINTS.is_match(text) {
        return Cow::Borrowed(text);
    }
    SHAPES.replace_all(text, |found: &regex::Captures<'_>| {
        if let Some(url) = found.name("url") {
            return format!("{}{REDACTED}@", url.as_str());
        }
        let kept = found.name("key").or_else(|| found.name("bearer"));
        let kept = kept.map_or("", |kept| kept.as_str());
        if found[0][kept.len()..].starts_with(REDACTED) {
            return found[0].to_owned();
        }
        format!("{kept}{REDACTED}")
    })
}

/// Every form in which `secret` may turn up: raw, in JSON, percent-encoded with either case of the
/// digits, base64 at each of the three alignments it can have inside a longer text.
fn forms(secret: &str) -> Vec<String> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let json = serde_json::to_string(secret).unwrap_or_default();
    let mut forms = vec![
        secret.to_owned(),
        json.trim_matches('"').to_owned(),
        percent(secret, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte), true),
        percent(secret, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte), false),
        percent(secret, |byte| byte.is_ascii_alphanumeric(), true),
        percent(secret, |byte| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte), true)
            .replace("%20", "+"),
    ];
    for lead in 0..3usize {
        // The characters of the encoding that depend on this secret alone, whatever stands around.
        let padded = [&vec![b' '; lead][..], secret.as_bytes()].concat();
        let skip = (lead * 8).div_ceil(6);
        let keep = padded.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&padded);
            forms.extend(encoded.get(skip..keep).filter(|f| f.len() >= SHORTEST).map(Into::into));
        }
    }
    forms
}

fn percent(text: &str, plain: impl Fn(u8) -> bool, upper: bool) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else if upper {
            let _ = write!(out, "%{byte:02X}");
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

/// The longest quote, in bytes.
const LONGEST: usize = 300;

/// As much of `text` as decides what [`quotable`] makes of it.
pub fn quotable_part(text: &str) -> &str {
    &text[..text.ceil_char_boundary(LONGEST * 2 + 1)]
}

/// `text` of strangers fit to be quoted on one line: redacted by shape, sanitized, at most 300 bytes
/// of it.
pub fn quotable(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST * 2);
    let redacted = Redactor::default();
    let redacted = redacted.redact(&text[..end]);
    let clean: Cow<'_, str> = sanitize(&redacted);
    let end = clean.floor_char_boundary(LONGEST);
    let cut = end < clean.len() || text.len() > LONGEST * 2;
    let clean = clean[..end].replace(['\n', '\t'], " ");
    if cut { format!("{}\u{2026}", clean.trim()) } else { clean.trim().to_owned() }
}

/// Shows control characters as escapes, so that bytes of strangers cannot drive a terminal.
/// Newlines and tabs stay; direction overrides and other invisible controls do not.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    if is_plain(text) || !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !harmful(c) => out.push(c),
            c if u32::from(c) < 0x100 => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(out)
}

/// Whether `text` is printable ASCII with newlines and tabs, as most is. Looks at many bytes at once.
fn is_plain(text: &str) -> bool {
    let plain = |&byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    text.as_bytes().chunks(64).all(|bytes| bytes.iter().fold(true, |all, byte| all & plain(byte)))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    const CANARY: &str = "c4n4ry(p@ss)/w0rd+\"q";

    #[track_caller]
    fn hides(text: &str) {
        let hidden = Redactor::from_secrets([CANARY]).redact(text).into_owned();
        assert!(hidden.contains(REDACTED), "{text} -> {hidden}");
        assert!(!hidden.contains("c4n4ry"), "{text} -> {hidden}");
    }

    #[test]
    fn a_known_secret_is_hidden_in_every_encoding() {
        hides(CANARY);
        hides(&serde_json::json!({ "x": CANARY }).to_string());
        hides("postgresql://u:c4n4ry%28p%40ss%29%2Fw0rd%2B%22q@h/db");
        hides("postgresql://u:c4n4ry%28p%40ss%29%2fw0rd%2b%22q@h/db");
        for around in ["", "u", "us", "user"] {
            let text = STANDARD.encode(format!("{around}:{CANARY}:{around}"));
            let hidden = Redactor::from_secrets([CANARY]).redact(&text).into_owned();
            assert!(hidden.contains(REDACTED), "{around}: {hidden}");
        }
    }

    #[test]
    fn shapes_of_unknown_secrets_are_hidden() {
        let cases = [
            ("postgresql://u:p%28x%29@host/db", "postgresql://u:[redacted]@host/db"),
            ("password=hunter22 next", "password=[redacted] next"),
            ("\"api_key\": \"k-1234567\"", "\"api_key\": \"[redacted]\""),
            ("Authorization: Bearer abc.def-1234", "Authorization: Bearer [redacted]"),
            ("got eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl back", "got [redacted] back"),
            (
                "MY_API_KEY=hunter22, user-secret: hunter22",
                "MY_API_KEY=[redacted], user-secret: [redacted]",
            ),
            ("PassWd='hunter22' db_pwd=hunter22", "PassWd='[redacted]' db_pwd=[redacted]"),
            ("x-token: hunter22", "x-token: [redacted]"),
            ("authorization: BASIC dXNlcjpodW50ZXIy", "authorization: BASIC [redacted]"),
            ("ya29.hunter22-hunter22", "[redacted]"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[redacted]"),
            ("nothing to hide: 53300", "nothing to hide: 53300"),
            ("https://host:443/path@x", "https://host:443/path@x"),
        ];
        for (text, expected) in cases {
            assert_eq!(Redactor::default().redact(text), expected);
        }
    }

    #[test]
    fn redacting_twice_changes_nothing_more() {
        let redactor = Redactor::from_secrets([CANARY]);
        for text in ["password=hunter22", "a://u:secret@h", &format!("token: {CANARY}")] {
            let once = redactor.redact(text).into_owned();
            assert_eq!(redactor.redact(&once), once);
        }
    }

    #[test]
    fn control_characters_become_escapes() {
        assert_eq!(
            sanitize("a\x1b[31mred\x1b]0;t\x07\u{202e}b\n"),
            "a\\x1b[31mred\\x1b]0;t\\x07\\u{202e}b\n"
        );
        assert!(matches!(sanitize("plain äöü\t"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn no_form_of_a_secret_survives(
            secret in "[ -~]{6,24}",
            before in "[a-z ]{0,7}",
            after in "[a-z ]{0,7}",
        ) {
            let redactor = Redactor::from_secrets([secret.as_str()]);
            let text = format!("{before}{secret}{after}");
            prop_assert!(!redactor.redact(&text).contains(&secret) || REDACTED.contains(&secret));
            let encoded = STANDARD.encode(&text);
            prop_assert!(redactor.redact(&encoded) != encoded);
        }
    }
}
