//! The part of an answer that is kept: short, readable, and without secrets (H4).

use crate::limits;
use crate::once::cut;

/// What is written in place of a secret.
const REDACTED: &str = "[redacted]";

/// Parts of names whose values open doors.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "authorization",
    "api_key",
    "apikey",
    "api-key",
    "cookie",
    "signature",
];

/// The beginning of a body for people, as one line: `secrets` that it repeats, and values of telling names, are blotted
/// out. `None` for an empty one.
pub fn excerpt<'a>(body: &[u8], secrets: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut text = String::from_utf8_lossy(body).into_owned();
    // The longest first: one may be a part of another. And before the values of names, which may end within one.
    let mut secrets: Vec<&str> = secrets.into_iter().filter(|secret| secret.len() >= 6).collect();
    secrets.sort_by_key(|secret| core::cmp::Reverse(secret.len()));
    for secret in &secrets {
        text = text.replace(secret, REDACTED);
    }
    blot_out_begun(&mut text, &secrets);
    let text = blot_out_named(&text);
    let line: String = text.chars().map(|letter| if is_odd(letter) { ' ' } else { letter }).collect();
    let line = cut(line.trim(), limits::HTTP_EXCERPT_BYTES_MAX);
    (!line.is_empty()).then_some(line)
}

fn is_odd(letter: char) -> bool {
    // Direction marks would let a line show something else than it is.
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Blots out the beginning of a secret at the end of the text: there it was cut off, by us or by the receiver.
fn blot_out_begun(text: &mut String, secrets: &[&str]) {
    const LEAST: usize = 4;
    let begun = |secret: &&str| {
        (LEAST..secret.len())
            .rev()
            .find(|length| secret.get(..*length).is_some_and(|part| text.ends_with(part)))
    };
    if let Some(longest) = secrets.iter().filter_map(begun).max() {
        text.truncate(text.len() - longest);
        text.push_str(REDACTED);
    }
}

/// Blots out what follows `"name":` or `name=` where the name tells that it is a secret.
fn blot_out_named(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find([':', '=']) {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        out.push_str(&rest[..=at]);
        rest = after;
        let name: String = before
            .trim_end_matches(['"', '\'', ' ', '\t'])
            .chars()
            .rev()
            .take_while(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-'))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect::<String>()
            .to_ascii_lowercase();
        if SECRET_WORDS.iter().any(|word| name.contains(word)) {
            let value = value_len(after);
            if !value.is_empty() {
                out.push_str(&after[..value.start]);
                out.push_str(REDACTED);
                rest = &after[value.end..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Where the value lies: the inside of quotes, or everything up to what ends it.
fn value_len(text: &str) -> core::ops::Range<usize> {
    let ends = |letter: char| matches!(letter, '&' | ',' | ';' | '}' | ']' | '<' | '\n' | '\r');
    let start = text.len() - text.trim_start_matches([' ', '\t', '\n', '\r']).len();
    let value = &text[start..];
    // What was blotted out before is a part of the value, with its bracket.
    if let Some(rest) = value.strip_prefix(REDACTED) {
        return start..text.len() - rest.len() + rest.find(ends).unwrap_or(rest.len());
    }
    if let Some(inside) = value.strip_prefix('"') {
        let mut escaped = false;
        for (at, letter) in inside.char_indices() {
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return start + 1..start + 1 + at,
                _ => {}
            }
        }
        return start + 1..text.len();
    }
    start..start + value.find(ends).unwrap_or(value.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(body: &str) -> String {
        excerpt(body.as_bytes(), ["whsec_abcdef", "Bearer s3cret-1"]).unwrap_or_default()
    }

    #[test]
    fn h4_secrets_are_blotted_out() {
        let text = of(r#"{"access_token": "abc\"def", "n": 1, "Password":"x", "user":"ada"}"#);
        assert_eq!(text, r#"{"access_token": "[redacted]", "n": 1, "Password":"[redacted]", "user":"ada"}"#);
        assert_eq!(of("a=1&api_key=9f8e&b=2"), "a=1&api_key=[redacted]&b=2");
        assert_eq!(of("you sent whsec_abcdef and Bearer s3cret-1"), "you sent [redacted] and [redacted]");
        assert_eq!(of(r#"{"token":12345}"#), r#"{"token":[redacted]}"#);
        assert_eq!(of(r#"{"token":"never closed"#), r#"{"token":"[redacted]"#);
    }

    #[test]
    fn w63_a_secret_that_is_cut_off_or_stands_behind_a_name_is_blotted_out_whole() {
        assert_eq!(of("you sent whsec_abcde"), "you sent [redacted]");
        assert_eq!(of("you sent Bearer s3cr"), "you sent [redacted]");
        assert_eq!(of("you sent whs"), "you sent whs");
        let secret = "left;right,more";
        let text = |body: &str| excerpt(body.as_bytes(), [secret]).unwrap();
        assert_eq!(text("token=left;right,more&n=1"), "token=[redacted]&n=1");
        assert_eq!(text(r#"{"token":"left;right,more","n":1}"#), r#"{"token":"[redacted]","n":1}"#);
        assert_eq!(text("token=left;right,more"), "token=[redacted]");
        assert_eq!(text("token=left;right,m"), "token=[redacted]");
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(b"", []), None);
        assert_eq!(of("a\r\nb\x1b[31mc\u{202e}d"), "a  b [31mc d");
        assert!(of(&"é".repeat(10_000)).len() <= limits::HTTP_EXCERPT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_make_an_excerpt_without_controls(bytes in any::<Vec<u8>>()) {
            let text = excerpt(&bytes, []).unwrap_or_default();
            prop_assert!(text.chars().all(|letter| !letter.is_control()));
            prop_assert!(text.len() <= limits::HTTP_EXCERPT_BYTES_MAX);
        }

        #[test]
        fn no_secret_survives(secret in "[a-zA-Z0-9_]{6,40}", before in ".*", after in ".*") {
            let text = excerpt(format!("{before}{secret}{after}").as_bytes(), [secret.as_str()]);
            prop_assert!(!text.unwrap_or_default().contains(&secret));
        }

        /// W63: wherever the answer is cut, no beginning of a secret stands at its end.
        #[test]
        fn w63_no_beginning_of_a_secret_survives(
            secret in "[a-zA-Z0-9_]{6,300}",
            before in "[ -/]{0,1100}",
            times in 1_usize..4,
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = format!("{before}{}", format!("{secret} ").repeat(times));
            let cut = before.len() + cut.index(whole.len() - before.len() + 1);
            let text = excerpt(&whole.as_bytes()[..cut], [secret.as_str()]).unwrap_or_default();
            prop_assert!(!text.contains(&secret[..4]), "{text}");
        }
    }
}
