//! Texts of strangers: what cannot be seen, or changes how the rest is seen, is written out. So a
//! name cannot begin a new line, steer a terminal, or read as another name.

use std::{borrow::Cow, fmt::Write as _};

use crate::id::sha256_hex;

/// Digits of a digest that tell long texts apart.
const DIGEST_CHARS: usize = 16;

/// Returns whether a character shows nothing of its own, or changes how others are shown: control
/// characters, marks of direction, characters without width, fillers and tags.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Returns a text on one line, with what is hidden written out, such as `\n` and `\u{202e}`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// Returns a text whose line ends and tabs stay, with everything else that is hidden written out.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

/// Returns a name for a log: on one line, without what is hidden and without brackets, which part
/// a name that is proven from one that is only given.
#[must_use]
pub fn name(text: &str, chars_max: usize) -> String {
    // What only varies how the character before it looks is part of no name.
    let varies = |c: char| matches!(c, '\u{fe00}'..='\u{fe0f}');
    let legal = |c: &char| !is_hidden(*c) && !varies(*c) && !"()".contains(*c);
    let kept: String = text.chars().filter(legal).take(chars_max).collect();
    kept.trim().to_owned()
}

/// Escapes a text in place, if it must be. It keeps within so many bytes: what becomes longer is
/// cut, and told from others by a digest.
pub(crate) fn make(text: &mut String, bytes_max: usize) {
    let Cow::Owned(mut escaped) = line(text) else { return };
    if bytes_max < escaped.len() {
        let digest = sha256_hex(text.as_bytes());
        let mark = format!("…{}", digest.get(..DIGEST_CHARS).unwrap_or(&digest));
        let end = escaped.floor_char_boundary(bytes_max.saturating_sub(mark.len()));
        escaped.truncate(end);
        escaped.push_str(&mark);
    }
    *text = escaped;
}

fn escaped(text: &str, is_wrong: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_wrong) {
        return Cow::Borrowed(text);
    }
    let mut seen = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            _ if !is_wrong(c) => seen.push(c),
            '\n' => seen.push_str("\\n"),
            '\r' => seen.push_str("\\r"),
            '\t' => seen.push_str("\\t"),
            // Writing to a string cannot fail.
            other => drop(write!(seen, "\\u{{{:x}}}", u32::from(other))),
        }
    }
    Cow::Owned(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_written_out_and_all_else_stays() {
        for (text, shown) in [
            ("plain ünïcode 数据 ❤️", "plain ünïcode 数据 ❤️"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[31mred\u{7}\u{9b}", "\\u{1b}[31mred\\u{7}\\u{9b}"),
            ("api\u{202e}dorp", "api\\u{202e}dorp"),
            ("a\u{200b}b\u{200d}c\u{feff}", "a\\u{200b}b\\u{200d}c\\u{feff}"),
            ("a\u{2028}b\u{85}c", "a\\u{2028}b\\u{85}c"),
            ("\u{2066}x\u{2069}\u{e0041}", "\\u{2066}x\\u{2069}\\u{e0041}"),
        ] {
            assert_eq!(line(text), shown);
            assert_eq!(line(&line(text)), shown, "twice is as good as once");
        }
        assert_eq!(lines("a\n\tb\u{1b}\u{202e}"), "a\n\tb\\u{1b}\\u{202e}");
    }

    #[test]
    fn what_becomes_too_long_is_cut_and_stays_another_text() {
        let made = |end: &str| {
            let mut text = format!("{}{end}", "\u{202e}".repeat(50));
            make(&mut text, 100);
            text
        };
        let (a, b) = (made("a"), made("b"));
        assert!(a.len() <= 100 && a != b, "{a} {b}");
        let mut again = a.clone();
        make(&mut again, 100);
        assert_eq!(again, a);
    }

    #[test]
    fn a_name_cannot_claim_to_be_another() {
        assert_eq!(
            name("oidc:ceo (approved by token:ann)\n\u{202e}", 99),
            "oidc:ceo approved by token:ann"
        );
        assert_eq!(name(" ann ", 99), "ann");
        assert_eq!(name("abc", 2), "ab");
    }
}
