//! A few bits about texts, which tell of most other texts that they are not in there.
//!
//! A Bloom filter (Bloom, 1970) with one bit for each pair of neighbouring bytes, in lower
//! case: a text can only be contained where all its pairs are. What may be contained must be
//! looked at.

/// With the about 100 pairs of an incident a third of the bits is set, so that a word of eight
/// letters passes one of 3,000 others.
const N_BITS: u32 = 256;
const WORD_BITS: u32 = u64::BITS;

/// The bits of some texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signature([u64; (N_BITS / WORD_BITS) as usize]);

impl Signature {
    /// Returns the bits of texts, whatever the case of their letters.
    pub(super) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut signature = Self::default();
        for text in texts {
            if text.is_ascii() {
                signature.add(text.bytes().map(|it| it.to_ascii_lowercase()));
            } else {
                let lower: String = text.chars().flat_map(char::to_lowercase).collect();
                signature.add(lower.bytes());
            }
        }
        signature
    }

    fn add(&mut self, bytes: impl Iterator<Item = u8>) {
        let mut before = None;
        for byte in bytes {
            if let Some(before) = before.replace(byte) {
                let bit = bit(before, byte);
                if let Some(word) = self.0.get_mut((bit / WORD_BITS) as usize) {
                    *word |= 1 << (bit % WORD_BITS);
                }
            }
        }
    }

    /// Returns whether a text with the bits `of` may be contained; `false` is certain.
    pub(super) fn may_contain(&self, of: &Self) -> bool {
        self.0.iter().zip(of.0).all(|(mine, wanted)| mine & wanted == wanted)
    }
}

/// Spreads pairs by multiplication with 2^32 over the golden ratio (Knuth, TAOCP 3, 6.4).
fn bit(a: u8, b: u8) -> u32 {
    let pair = u32::from(a) << 8 | u32::from(b);
    pair.wrapping_mul(0x9E37_79B1) >> (u32::BITS - N_BITS.ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Signature {
        Signature::of([text])
    }

    #[test]
    fn what_is_contained_is_never_ruled_out() {
        let text = "The Database of StÖrung-Ümläut is DOWN, ß and İ";
        let lower: String = text.chars().flat_map(char::to_lowercase).collect();
        let starts: Vec<usize> = lower.char_indices().map(|(at, _)| at).collect();
        for from in &starts {
            for to in starts.iter().filter(|to| from <= to) {
                let part = lower.get(*from..*to).unwrap();
                assert!(of(text).may_contain(&of(part)), "{part}");
            }
        }
    }

    #[test]
    fn most_other_texts_are_ruled_out() {
        let texts = Signature::of([
            "service_down",
            "orders-api-7",
            "no configured target fits the event; add one, or a selector that finds it",
        ]);
        let words = ["database", "payments", "resolved by", "disk.full", "analytics", "k8s-prod"];
        let passed: Vec<_> = words.iter().filter(|it| texts.may_contain(&of(it))).collect();
        assert!(passed.is_empty(), "{passed:?}");
    }
}
