//! Checks that ask a Prometheus: a query, and when its answer is sick.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A query, and when its answer is sick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusCheck {
    /// Where the server is, such as `http://127.0.0.1:9090`; anything with its query API will do.
    #[schemars(regex(pattern = r"^https?://"))]
    pub url: String,
    /// The query, in PromQL.
    #[schemars(regex(pattern = r"\S"))]
    pub query: String,
    /// A comparison, such as `> 0.05`: sick when it holds for any series, or there is none. When
    /// absent, any series that the query returns is sick, as with an alert's expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\s*(<=|>=|==|!=|<|>)\s*[0-9+.-]"))]
    pub sick: Option<String>,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    how: How,
    with: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Below,
    AtMost,
    Above,
    AtLeast,
    Same,
    Other,
}

impl PrometheusCheck {
    /// Returns the comparison, if there is one.
    ///
    /// # Errors
    ///
    /// When it is none; in words.
    pub fn comparison(&self) -> Result<Option<Comparison>, String> {
        self.sick.as_deref().map(Comparison::read).transpose()
    }

    /// Returns what is wrong with it: the field, and why.
    pub(super) fn mistake(&self) -> Option<(&'static str, String)> {
        if let Some(why) = super::url_mistake(&self.url) {
            return Some(("prometheus.url", why));
        }
        if self.query.trim().is_empty() {
            return Some(("prometheus.query", "must not be empty".to_owned()));
        }
        self.comparison().err().map(|why| ("prometheus.sick", why))
    }
}

impl Comparison {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let forms = [
            ("<=", How::AtMost),
            (">=", How::AtLeast),
            ("==", How::Same),
            ("!=", How::Other),
            ("<", How::Below),
            (">", How::Above),
        ];
        let found = forms.into_iter().find_map(|(sign, how)| Some((how, text.strip_prefix(sign)?)));
        let (how, number) =
            found.ok_or("must begin with <, <=, >, >=, == or !=, such as `> 0.05`")?;
        let with = number.trim().parse::<f64>().ok().filter(|it| it.is_finite());
        let with = with.ok_or_else(|| format!("`{}` is not a number", number.trim()))?;
        Ok(Self { how, with })
    }

    /// Returns whether it holds. No comparison with `NaN` holds, but that it is another.
    #[must_use]
    #[expect(clippy::float_cmp, reason = "whoever writes == means it")]
    pub fn holds(self, value: f64) -> bool {
        match self.how {
            How::Below => value < self.with,
            How::AtMost => value <= self.with,
            How::Above => self.with < value,
            How::AtLeast => self.with <= value,
            How::Same => value == self.with,
            How::Other => value != self.with,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_hold_as_they_are_written() {
        for (text, holding, others) in [
            ("< 1", [0.0, -1.0], [1.0, 2.0]),
            ("<=1", [1.0, 0.5], [1.5, 2.0]),
            (" > 0.05", [0.06, 1.0], [0.05, -1.0]),
            (">= 2", [2.0, 3.0], [1.0, f64::NAN]),
            ("== 0", [0.0, -0.0], [1.0, f64::NAN]),
            ("!= 0", [1.0, f64::NAN], [0.0, -0.0]),
        ] {
            let it = Comparison::read(text).unwrap();
            assert!(holding.iter().all(|value| it.holds(*value)), "{text}");
            assert!(!others.iter().any(|value| it.holds(*value)), "{text}");
        }
        for wrong in ["", "1", "=> 1", "> many", "> NaN", "> inf", "< "] {
            assert!(Comparison::read(wrong).is_err(), "{wrong}");
        }
    }
}
