//! An error with its causes.

use std::{error::Error, fmt};

/// Shows an error and all its causes on one line, the outermost first.
///
/// Our messages never repeat their source, so each cause is told once; a
/// foreign error that does repeat it is shortened here.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !told.contains(&text) {
                write!(f, ": {text}")?;
            }
            told = text;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    fn told(text: &'static str, source: Option<Told>) -> Told {
        Told { text, source: source.map(Box::new) }
    }

    #[test]
    fn causes_follow_their_effect_on_one_line() {
        let error =
            told("cannot open the door", Some(told("the key broke", Some(told("rust", None)))));
        assert_eq!(Chain(&error).to_string(), "cannot open the door: the key broke: rust");
    }

    #[test]
    fn a_cause_that_its_effect_already_told_is_not_repeated() {
        let error =
            told("http error: refused", Some(told("refused", Some(told("os error 111", None)))));
        assert_eq!(Chain(&error).to_string(), "http error: refused: os error 111");
    }
}
