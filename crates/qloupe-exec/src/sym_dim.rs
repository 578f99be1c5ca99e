//! Symbolic dimensions: an integer plus multiples of named open dimensions.

use std::collections::BTreeMap;
use std::fmt;

/// Longer expressions are not kept as text.
const MAX_EXPRESSION: usize = 256;

/// `constant + sum of factor * atom`. An atom is a name of an open dimension, or an expression that is not linear
/// (`floor(h/2)`, `a*b`), kept as text so that equal expressions compare equal. A long one is told by its fingerprint:
/// the text doubles with every `a*a`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SymDim {
    constant: i64,
    terms: BTreeMap<String, i64>,
}

impl SymDim {
    /// A fixed number.
    pub fn known(value: i64) -> Self {
        Self {
            constant: value,
            terms: BTreeMap::new(),
        }
    }

    /// An open dimension.
    pub fn symbol(name: &str) -> Self {
        Self {
            constant: 0,
            terms: BTreeMap::from([(name.to_owned(), 1)]),
        }
    }

    /// The number, if the expression has no open dimension.
    pub fn as_known(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// The number as a size, if it is one.
    pub fn as_size(&self) -> Option<usize> {
        usize::try_from(self.as_known()?).ok()
    }

    /// True if no size of the open dimensions makes it negative (sizes are not negative).
    pub fn is_non_negative(&self) -> bool {
        self.constant >= 0 && self.terms.values().all(|&factor| factor >= 0)
    }

    /// `self + other`; wraps on overflow, as sizes near 2^63 do not exist.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combine(other, 1)
    }

    /// `self - other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.combine(other, -1)
    }

    /// `self * other`.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        match (self.as_known(), other.as_known()) {
            (Some(k), _) => other.scaled(k),
            (_, Some(k)) => self.scaled(k),
            _ => {
                let (a, b) = (self.bracketed(), other.bracketed());
                Self::expression(if a <= b {
                    format!("{a}*{b}")
                } else {
                    format!("{b}*{a}")
                })
            }
        }
    }

    /// `floor(self / divisor)`. The caller guarantees `divisor != 0` where it is known.
    #[must_use]
    pub fn floor_div(&self, divisor: &Self) -> Self {
        if let Some(k) = divisor.as_known().filter(|&k| k != 0) {
            if k == 1 {
                return self.clone();
            }
            if self.terms.is_empty() {
                return Self::known(self.constant.wrapping_div_euclid(k));
            }
            if k > 0 && self.terms.values().all(|f| f % k == 0) {
                let terms = self.terms.iter().map(|(name, f)| (name.clone(), f / k)).collect();
                return Self {
                    constant: self.constant.div_euclid(k),
                    terms,
                };
            }
        }
        if self == divisor {
            return Self::known(1);
        }
        Self::expression(format!("floor({}/{})", self.bracketed(), divisor.bracketed()))
    }

    fn expression(text: String) -> Self {
        if text.len() <= MAX_EXPRESSION {
            Self::symbol(&text)
        } else {
            Self::symbol(&format!("expression#{:032x}", fingerprint(&text)))
        }
    }

    fn combine(&self, other: &Self, sign: i64) -> Self {
        let mut terms = self.terms.clone();
        for (name, factor) in &other.terms {
            let entry = terms.entry(name.clone()).or_default();
            *entry = entry.wrapping_add(factor.wrapping_mul(sign));
        }
        terms.retain(|_, factor| *factor != 0);
        Self {
            constant: self.constant.wrapping_add(other.constant.wrapping_mul(sign)),
            terms,
        }
    }

    fn scaled(&self, k: i64) -> Self {
        let mut terms = self.terms.clone();
        terms
            .values_mut()
            .for_each(|factor| *factor = factor.wrapping_mul(k));
        terms.retain(|_, factor| *factor != 0);
        Self {
            constant: self.constant.wrapping_mul(k),
            terms,
        }
    }

    fn bracketed(&self) -> String {
        let simple = self.terms.is_empty()
            || (self.constant == 0 && self.terms.len() == 1 && self.terms.values().all(|&f| f == 1));
        if simple {
            self.to_string()
        } else {
            format!("({self})")
        }
    }
}

/// FNV-1a, of 128 bits.
fn fingerprint(text: &str) -> u128 {
    text.bytes()
        .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul((1 << 88) + 0x13b)
        })
}

impl From<usize> for SymDim {
    fn from(size: usize) -> Self {
        Self::known(i64::try_from(size).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for SymDim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (name, &factor) in &self.terms {
            let sign = if factor < 0 {
                "-"
            } else if first {
                ""
            } else {
                "+"
            };
            match factor.unsigned_abs() {
                1 => write!(f, "{sign}{name}")?,
                n => write!(f, "{sign}{n}*{name}")?,
            }
            first = false;
        }
        match self.constant {
            0 if !first => Ok(()),
            c if first || c < 0 => write!(f, "{c}"),
            c => write!(f, "+{c}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_does_not_outgrow_memory() {
        let square = |x: SymDim| x.times(&x);
        let power = (0..100).fold(SymDim::symbol("h"), |x, _| square(x));
        let same = (0..100).fold(SymDim::symbol("h"), |x, _| square(x));
        let other = (0..100).fold(SymDim::symbol("w"), |x, _| square(x));
        assert!(power.to_string().len() <= MAX_EXPRESSION, "{power}");
        assert_eq!(power, same);
        assert_ne!(power, other);
        assert_eq!(fingerprint("a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn numbers_wrap_and_never_panic() {
        let (min, minus_one) = (SymDim::known(i64::MIN), SymDim::known(-1));
        assert_eq!(min.floor_div(&minus_one), min);
        assert_eq!(min.times(&minus_one), min);
        assert_eq!(min.minus(&SymDim::known(1)), SymDim::known(i64::MAX));
    }

    #[test]
    fn expressions_simplify_as_far_as_they_are_linear() {
        let (h, w) = (SymDim::symbol("h"), SymDim::symbol("w"));
        let two = SymDim::known(2);
        let cases = [
            (h.plus(&SymDim::known(1)).minus(&SymDim::known(1)), "h"),
            (h.times(&two).floor_div(&two), "h"),
            (h.times(&w), "h*w"),
            (w.times(&h).minus(&h.times(&w)), "0"),
            (
                h.minus(&SymDim::known(1)).floor_div(&two).plus(&SymDim::known(1)),
                "floor((h-1)/2)+1",
            ),
            (h.floor_div(&h), "1"),
            (SymDim::known(7).floor_div(&two), "3"),
        ];
        for (expression, expected) in cases {
            assert_eq!(expression.to_string(), expected);
        }
    }
}
