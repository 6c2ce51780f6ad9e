//! Makes inputs out of others by chance.

mod json;

use serde_json::Value;

use crate::chance::Chance;

/// What inputs look like, so that chance does not destroy what makes them interesting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON document.
    Json,
    /// One JSON document on each line.
    Lines,
    /// YAML, of which JSON is a part.
    Yaml,
    /// Text.
    Text,
}

/// Words that are collected from the first inputs.
const WORDS_MAX: usize = 800;

/// Longest such word.
const WORD_BYTES_MAX: usize = 64;

/// What breaks parsers, and what ours know.
const TOKENS: [&str; 48] = [
    "",
    " ",
    "\n",
    "\t",
    "\r\n",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "é",
    "🦀",
    "\u{ffff}",
    "{",
    "}",
    "[",
    "]",
    "{}",
    "[]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "-",
    "-0",
    "1e999",
    "0.1",
    "99999999999999999999",
    "18446744073709551616",
    "- ",
    ": ",
    "? ",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "|\n  ",
    "%YAML 9.9\n",
    "---\n",
    "...\n",
    "#",
    "%",
    "%00",
    "%zz",
    "/",
    "..",
];

/// Changes inputs of one form.
#[derive(Debug)]
pub struct Mutator {
    form: Form,
    words: Vec<String>,
}

impl Mutator {
    /// Collects words from the first inputs.
    #[must_use]
    pub fn new(form: Form, inputs: &[Vec<u8>]) -> Self {
        let mut words: Vec<String> = Vec::new();
        for input in inputs {
            let text = String::from_utf8_lossy(input);
            let parts = text.split(['"', ' ', '\n', ',', '{', '}', '[', ']']);
            for word in parts.filter(|it| !it.is_empty() && it.len() <= WORD_BYTES_MAX) {
                if words.len() < WORDS_MAX && words.iter().all(|it| it != word) {
                    words.push(word.to_owned());
                }
            }
        }
        Self { form, words }
    }

    /// Returns a changed copy.
    pub fn change(&mut self, chance: &mut Chance, input: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let by_form = !chance.once_in(4);
        match self.form {
            Form::Json if by_form => self.document(chance, input, others),
            Form::Lines if by_form => self.lines(chance, input, others),
            Form::Yaml if by_form => match serde_json::from_slice::<Value>(input) {
                Ok(_) => self.document(chance, input, others),
                Err(_) => self.text_lines(chance, input, others),
            },
            Form::Text if by_form => self.text_lines(chance, input, others),
            Form::Json | Form::Lines | Form::Yaml | Form::Text => self.bytes(chance, input, others),
        }
    }

    fn document(&self, chance: &mut Chance, input: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let Ok(mut value) = serde_json::from_slice::<Value>(input) else {
            return self.bytes(chance, input, others);
        };
        let other = chance.pick(others).and_then(|it| serde_json::from_slice(it).ok());
        json::change(chance, &mut value, other.as_ref(), &self.words);
        serde_json::to_vec(&value).unwrap_or_default()
    }

    /// Changes one line, or the lines' order and number, or tears the end off.
    fn lines(&self, chance: &mut Chance, input: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = input.split(|it| *it == b'\n').map(<[u8]>::to_vec).collect();
        if chance.once_in(3) {
            shuffle(chance, &mut lines, others);
        } else if let Some(line) = {
            let idx = chance.below(lines.len());
            lines.get_mut(idx)
        } {
            *line = self.document(chance, line, others);
        }
        let mut text = lines.join(&b'\n');
        if chance.once_in(8) {
            text.truncate(chance.below(text.len() + 1));
        }
        text
    }

    fn text_lines(&self, chance: &mut Chance, input: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = input.split(|it| *it == b'\n').map(<[u8]>::to_vec).collect();
        let idx = chance.below(lines.len());
        match chance.below(4) {
            0 => shuffle(chance, &mut lines, others),
            1 => {
                // Indentation is the grammar of YAML.
                let n = chance.below(8);
                let bare: Vec<u8> =
                    lines[idx].iter().copied().skip_while(|it| *it == b' ').collect();
                lines[idx] = [vec![b' '; n], bare].concat();
            }
            2 => {
                let word = self.word(chance);
                let line = String::from_utf8_lossy(&lines[idx]).into_owned();
                let mut words: Vec<&str> = line.split(' ').collect();
                let at = chance.below(words.len());
                words[at] = &word;
                lines[idx] = words.join(" ").into_bytes();
            }
            _ => return self.bytes(chance, input, others),
        }
        lines.join(&b'\n')
    }

    /// Changes bytes, wherever they stand.
    fn bytes(&self, chance: &mut Chance, input: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        let at = chance.below(bytes.len() + 1);
        let end = (at + 1 + chance.below(16)).min(bytes.len());
        match chance.below(7) {
            0 => {
                let at = chance.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            1 => drop(bytes.drain(at.min(end)..end)),
            2 => drop(bytes.splice(at..at, self.word(chance).into_bytes())),
            3 => drop(bytes.splice(at.min(end)..end, self.word(chance).into_bytes())),
            4 => {
                // Sometimes all that follows: answers must not grow with their input.
                let end = if chance.once_in(4) { bytes.len() } else { end };
                let part = bytes[at.min(end)..end].to_vec();
                let times = 1 + chance.below(40);
                drop(bytes.splice(at..at, part.repeat(times)));
            }
            5 => {
                if let Some(other) = chance.pick(others) {
                    let from = chance.below(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
            }
            _ => bytes.truncate(at),
        }
        bytes
    }

    fn word(&self, chance: &mut Chance) -> String {
        let own = chance.pick(&self.words).filter(|_| chance.clone().once_in(2));
        match own {
            Some(word) => word.clone(),
            None => chance.pick(&TOKENS).copied().unwrap_or_default().to_owned(),
        }
    }
}

fn shuffle(chance: &mut Chance, lines: &mut Vec<Vec<u8>>, others: &[Vec<u8>]) {
    let (one, other) = (chance.below(lines.len()), chance.below(lines.len()));
    match chance.below(4) {
        0 => drop(lines.remove(one)),
        1 => lines.insert(other, lines[one].clone()),
        2 => lines.swap(one, other),
        _ => {
            if let Some(foreign) = chance.pick(others) {
                let foreign: Vec<_> = foreign.split(|it| *it == b'\n').collect();
                let idx = chance.below(foreign.len());
                lines.insert(other, foreign[idx].to_vec());
            }
        }
    }
}
