//! Scores of linear models and what becomes of them: LinearRegressor, LinearClassifier, TreeEnsemble.
//!
//! # Numerics
//! In f64 with in-order sums; the caller rounds once.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::log_softmax::log_softmax_wide;
use crate::OpError;

/// Coefficients and intercepts of several targets.
#[derive(Debug)]
pub(super) struct LinearModel<'a> {
    coefficients: &'a [f32],
    intercepts: &'a [f32],
    n_targets: usize,
}

impl<'a> LinearModel<'a> {
    /// Reads the attributes.
    ///
    /// # Errors
    /// Lists whose lengths do not fit the targets.
    pub(super) fn new(node: &'a Node, n_targets: usize) -> Result<Self, OpError> {
        let coefficients = node.floats("coefficients").unwrap_or_default();
        let intercepts = node.floats("intercepts").unwrap_or_default();
        if coefficients.is_empty() || !coefficients.len().is_multiple_of(n_targets) {
            return Err(OpError::attribute(
                "coefficients",
                format!(
                    "wrong length, expected a multiple of {n_targets}, got {}",
                    coefficients.len()
                ),
            ));
        }
        if !intercepts.is_empty() && intercepts.len() != n_targets {
            return Err(OpError::attribute(
                "intercepts",
                format!("wrong length, expected {n_targets}, got {}", intercepts.len()),
            ));
        }
        Ok(Self {
            coefficients,
            intercepts,
            n_targets,
        })
    }

    /// The scores `[N, targets]` of rows `[N, F]`, or of one row `[F]`.
    ///
    /// # Errors
    /// Another number of features.
    pub(super) fn scores(&self, x: &Tensor) -> Result<Vec<f64>, OpError> {
        let n_features = self.coefficients.len() / self.n_targets;
        if x.shape().last() != Some(&n_features) || x.rank() > 2 {
            return Err(OpError::input(
                0,
                format!("wrong shape, expected [N, {n_features}], got {:?}", x.shape()),
            ));
        }
        let mut scores = Vec::new();
        for row in x.to_f64_vec()?.chunks_exact(n_features) {
            for (target, weights) in self.coefficients.chunks_exact(n_features).enumerate() {
                let start = self.intercepts.get(target).map_or(0.0, |&v| f64::from(v));
                let products = row.iter().zip(weights).map(|(x, &w)| x * f64::from(w));
                scores.push(products.fold(start, |sum, product| sum + product));
            }
        }
        Ok(scores)
    }
}

/// A function of the scores of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostTransform {
    /// The scores themselves.
    None,
    /// `e^x / sum`.
    Softmax,
    /// `1 / (1 + e^-x)`.
    Logistic,
    /// Softmax of the scores that are not 0; a score of 0 stays 0.
    SoftmaxZero,
}

impl PostTransform {
    /// By its name.
    ///
    /// # Errors
    /// An unknown name; PROBIT, which no exporter writes.
    pub(super) fn of(name: &str) -> Result<Self, OpError> {
        match name {
            "NONE" => Ok(Self::None),
            "SOFTMAX" => Ok(Self::Softmax),
            "LOGISTIC" => Ok(Self::Logistic),
            "SOFTMAX_ZERO" => Ok(Self::SoftmaxZero),
            "PROBIT" => Err(OpError::unsupported("post_transform PROBIT")),
            other => Err(OpError::attribute(
                "post_transform",
                format!("unknown, expected NONE, SOFTMAX, LOGISTIC or SOFTMAX_ZERO, got {other}"),
            )),
        }
    }

    /// Applies the function, in place.
    pub(super) fn apply(self, row: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Softmax => {
                log_softmax_wide(row);
                row.iter_mut().for_each(|v| *v = v.exp());
            }
            Self::Logistic => row.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
            Self::SoftmaxZero => {
                let mut kept: Vec<f64> = row.iter().copied().filter(|&v| v != 0.0).collect();
                Self::Softmax.apply(&mut kept);
                for (v, soft) in row.iter_mut().filter(|v| **v != 0.0).zip(kept) {
                    *v = soft;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_of_scores() {
        let cases = [
            ("NONE", [0.0, 1.0, 1.0]),
            ("LOGISTIC", [0.5, 0.731, 0.731]),
            ("SOFTMAX", [0.155, 0.422, 0.422]),
            ("SOFTMAX_ZERO", [0.0, 0.5, 0.5]),
        ];
        for (name, expected) in cases {
            let mut row = [0.0, 1.0, 1.0];
            PostTransform::of(name).unwrap().apply(&mut row);
            let thousandths = |row: [f64; 3]| row.map(|v| (v * 1000.0) as i64);
            assert_eq!(thousandths(row), thousandths(expected), "{name}");
        }
        assert_eq!(
            PostTransform::of("PROBIT").unwrap_err().to_string(),
            "post_transform PROBIT is not supported"
        );
    }
}
