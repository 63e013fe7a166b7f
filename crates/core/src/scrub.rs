//! Cleaning the strings of a JSON text without reading it into a tree.

use std::borrow::Cow;

use crate::redact::Redactor;

/// Keys whose values are words or times of the record model. They stay as they are: a weak secret
/// that happens to be such a word must not make a journal unreadable.
const OURS: &[&str] = &[
    "at",
    "category",
    "clock",
    "conditions",
    "created_at",
    "event",
    "how",
    "kind",
    "limit",
    "provenance",
    "schema",
    "started_at",
    "state",
    "status",
    "taken_at",
    "tier",
    "vantage",
    "verdict",
    "visible_at",
];

/// `json` with every string value passed through `clean`, except the words of the record model.
/// Keys stay. Borrows when nothing changed. A text that is not JSON is cleaned as far as it is.
///
/// `spares` says of a text that `clean` changes no part of it. Where nothing is escaped every string
/// stands in `json` as it is, and one look at the whole can spare them all.
pub fn scrub<'j>(
    json: &'j str,
    spares: impl FnOnce(&str) -> bool,
    clean: impl for<'s> Fn(&'s str) -> Cow<'s, str>,
) -> Cow<'j, str> {
    if !json.contains('\\') && spares(json) {
        return Cow::Borrowed(json);
    }
    let bytes = json.as_bytes();
    let (mut out, mut copied) = (String::new(), 0);
    let (mut key, mut outer) = ("", Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => outer.push(key),
            b'}' | b']' => key = outer.pop().unwrap_or_default(),
            b'"' => {
                let end = end_of_string(bytes, at);
                let inner = json[at + 1..end].trim_end_matches('"');
                if json[end..].trim_start().starts_with(':') {
                    key = inner;
                } else if let Some(cleaned) = cleaned(&json[at..end], inner, &clean)
                    && !OURS.contains(&key)
                {
                    out.push_str(&json[copied..at]);
                    out.push_str(&cleaned);
                    copied = end;
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[copied..]);
    Cow::Owned(out)
}

/// The JSON literal of the cleaned string; `None` when cleaning changed nothing.
fn cleaned(
    literal: &str,
    inner: &str,
    clean: &impl for<'s> Fn(&'s str) -> Cow<'s, str>,
) -> Option<String> {
    let text: Cow<'_, str> = if inner.contains('\\') {
        Cow::Owned(serde_json::from_str(literal).ok()?)
    } else {
        Cow::Borrowed(inner)
    };
    match clean(&text) {
        Cow::Owned(cleaned) if cleaned != *text => serde_json::to_string(&cleaned).ok(),
        _ => None,
    }
}

/// The index behind the quote that ends the string which begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

impl Redactor {
    /// [`redact`](Self::redact) for every string of a JSON text, as the reader of that text will see
    /// it; it stays valid JSON and, where it is a record of ours, readable as one.
    pub fn redact_json<'j>(&self, json: &'j str) -> Cow<'j, str> {
        scrub(json, |json| self.spares(json), |text| self.redact(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_cleaned_and_the_rest_stays() {
        let redactor = Redactor::from_secrets(["hunter22", "pass", "measured"]);
        let json = r#"{"verdict":"pass","text":"password=\"hunter22\"","hunter22":1,"list":["a hunter22",{"kind":"pass"},"pass"]}"#;
        let clean = redactor.redact_json(json);
        let value: serde_json::Value = serde_json::from_str(&clean).expect("still JSON");
        assert_eq!(value["verdict"], "pass", "a word of ours");
        assert!(!value["text"].as_str().expect("string").contains("hunter22"));
        assert_eq!(value["list"][0], "a [redacted]");
        assert_eq!(value["list"][1]["kind"], "pass");
        assert_eq!(value["list"][2], "[redacted]", "under `list`, not under `kind`");
        assert_eq!(value["hunter22"], 1, "keys stay");
    }

    #[test]
    fn one_look_at_the_whole_misses_nothing() {
        let redactor = Redactor::from_secrets(["s3\"cret"]);
        // The secret as it stands in JSON, inside of JSON: only the string itself shows it.
        let text = serde_json::json!({ "body": r#"s3\"cret"# }).to_string();
        assert!(redactor.spares(&text));
        assert_eq!(redactor.redact_json(&text), r#"{"body":"[redacted]"}"#);
        let plain = r#"{"verdict":"pass","text":"nothing to hide"}"#;
        assert!(redactor.spares(plain) && matches!(redactor.redact_json(plain), Cow::Borrowed(_)));
        for text in [r#"["a://b:hidden@c"]"#, r#"["PASSWD=hidden"]"#, r#"["password: hidden"]"#] {
            assert!(!redactor.redact_json(text).contains("hidden"), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_does_not_panic() {
        for text in ["", "\"", "\"\\", "{\"a\":\"", "]]}", "\"ü\\", "\"\\u00"] {
            let _ = Redactor::from_secrets(["secret"]).redact_json(text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives_when_nothing_is_hidden(text in "\\PC*") {
            let json = serde_json::to_string(&[&text]).expect("a string");
            let scrubbed = scrub(&json, |_| false, |text| Cow::Owned(text.to_owned()));
            proptest::prop_assert_eq!(&*scrubbed, &*json);
        }

        #[test]
        fn nothing_panics(text in "[\"\\\\{}\\[\\]:,a ü]*") {
            let _ = scrub(&text, |_| false, |_| Cow::Owned("x".into()));
        }
    }
}
