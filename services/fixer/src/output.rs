//! What programs print, kept within a limit.

use std::collections::VecDeque;

/// Most bytes kept of what one step prints: enough for a stack trace, small enough
/// for a report.
pub(crate) const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Keeps the head and the tail of a stream: the head tells what was begun, the tail
/// how it ended.
#[derive(Debug)]
pub(crate) struct HeadTail {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    n_dropped: u64,
}

impl HeadTail {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { half: bytes_max / 2, head: Vec::new(), tail: VecDeque::new(), n_dropped: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = self.half.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..excess);
        self.n_dropped += u64::try_from(excess).unwrap_or(u64::MAX);
    }

    /// Returns what was kept, as text that can be shown.
    pub(crate) fn into_text(self) -> String {
        let mut bytes = self.head;
        if 0 < self.n_dropped {
            bytes.extend_from_slice(
                format!("\n[… {} bytes left out …]\n", self.n_dropped).as_bytes(),
            );
        }
        bytes.extend(self.tail);
        printable(&bytes)
    }
}

/// Returns text without what would move a terminal's cursor or swell in JSON.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let keep = |it: &char| !it.is_control() || matches!(it, '\n' | '\t');
    String::from_utf8_lossy(bytes).chars().filter(keep).collect()
}

/// Cuts a text to its last part of at most so many bytes.
pub(crate) fn last_part(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "[…] ";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let wanted = text.len() - bytes_max.saturating_sub(MARK.len());
    let start = (wanted..=text.len()).find(|idx| text.is_char_boundary(*idx));
    format!("{MARK}{}", start.and_then(|idx| text.get(idx..)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_keeps_its_head_and_its_tail() {
        let mut output = HeadTail::new(20);
        for part in ["the beginning", " much in between ", "the very end"] {
            output.push(part.as_bytes());
        }
        let text = output.into_text();
        assert!(text.starts_with("the beginn"), "{text}");
        assert!(text.ends_with("e very end"), "{text}");
        assert!(text.contains("22 bytes left out"), "{text}");
    }

    #[test]
    fn a_short_output_is_kept_whole() {
        let mut output = HeadTail::new(100);
        output.push(b"one\n");
        output.push(b"two\n");
        assert_eq!(output.into_text(), "one\ntwo\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_report() {
        assert_eq!(
            printable(b"\x1b[31mred\x00\r\nnext\tcolumn \xff"),
            "[31mred\nnext\tcolumn \u{fffd}"
        );
    }

    #[test]
    fn the_last_part_is_cut_between_characters() {
        assert_eq!(last_part("abc", 3), "abc");
        assert_eq!(last_part("aäöüz", 5 + 3), "aäöüz");
        let cut = last_part("0123456789äöü", 12);
        assert!(cut.len() <= 12 && cut.ends_with("öü"), "{cut}");
    }
}
