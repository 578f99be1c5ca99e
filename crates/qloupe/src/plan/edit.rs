//! Edits of a plan by a program: what a person does in the lines of its file.

use qloupe_exec::Cast;
use qloupe_ir::suggestion;
use qloupe_tensor::{DType, QuantParams, Range, params_from_range};

use super::{Precision, QuantPlan, ValuePlan, fit_biases, weight_only_dtype};
use crate::Error;
use crate::prepare::Prepared;
use crate::targets;

/// The reason of a precision that nobody but the user asked for.
const BY_HAND: &str = "set by hand";
/// The precisions that can be set.
const PRECISIONS: &[&str] = &["fp16", "float", "int8", "w4a16", "w8a16"];

impl QuantPlan {
    /// Sets the precision of a value: `fp16` or `float`, which raises the unit that computes it out of the integers
    /// (integer units still read it by the scale it had), or `int8`, which brings it back. Of a unit with integer weights beside
    /// float16 values, `fp16` and `float` give these up, and `w4a16` or `w8a16`, as the target has it, brings them back.
    ///
    /// # Errors
    /// [`Error::Options`]: no such value (the nearest is suggested), no such precision, `int8` for a value without a scale.
    pub fn set_precision(&mut self, name: &str, precision: &str) -> Result<(), Error> {
        let form = self.forms().remove(name);
        let target = targets::find(&self.target)?;
        let value = self.require_value(name)?;
        let reason = || BY_HAND.to_owned();
        let params = form.as_ref().and_then(|form| form.read_params().cloned());
        let cast = params.clone().map(Cast::Fixed);
        match precision {
            "fp16" => (value.precision, value.cast) = (Precision::Fp16 { reason: reason() }, cast),
            "float" => (value.precision, value.cast) = (Precision::Float { reason: reason() }, cast),
            "int8"
                if matches!(
                    value.precision,
                    Precision::SharedWith(_) | Precision::Quantized(_)
                ) => {}
            "int8" => {
                let Some(params) = params.filter(|params| params.dtype() == DType::Int8) else {
                    return Err(Error::Options(format!(
                        "value \"{name}\": the plan has no int8 scale and zero_point of it, expected a value that has"
                    )));
                };
                (value.precision, value.cast) = (Precision::Quantized(params), None);
            }
            word if weight_only_dtype(word).is_some_and(|dtype| target.has_only_weights_in(dtype)) => {
                value.precision = Precision::WeightOnly(target.weight_dtype);
            }
            word if weight_only_dtype(word).is_some() => {
                return Err(Error::Options(format!(
                    "value \"{name}\": precision {word} is not one of target {}, expected fp16 or float",
                    target.id
                )));
            }
            other => {
                return Err(Error::unknown_choice(
                    "precision",
                    other,
                    PRECISIONS.iter().copied(),
                ));
            }
        }
        Ok(())
    }

    /// Gives an integer value the scale and zero point of another range, by the rule of the target.
    ///
    /// # Errors
    /// [`Error::Options`]: no such value, a value without integers of its own, a range that is none.
    pub fn set_range(&mut self, prepared: &Prepared, name: &str, range: Range) -> Result<(), Error> {
        let scheme = targets::find(&self.target)?.activation;
        let value = self.require_value(name)?;
        let wrong = |what: &str| Error::Options(format!("value \"{name}\": {what}"));
        if !(range.min.is_finite() && range.max.is_finite() && range.min <= range.max) {
            return Err(wrong(&format!(
                "range is wrong, expected finite min and max in their order, got {} and {}",
                range.min, range.max
            )));
        }
        let is_of_scheme = |params: &QuantParams| scheme.is_some_and(|scheme| scheme.dtype == params.dtype());
        match (&value.precision, scheme) {
            (Precision::Quantized(params), Some(scheme)) if is_of_scheme(params) => {
                let (params, _) = params_from_range(&[range], &scheme)?;
                value.precision = Precision::Quantized(params);
                value.range = Some(range);
            }
            (Precision::SharedWith(other), _) => {
                return Err(wrong(&format!(
                    "has the scale of \"{other}\", expected its range to be set"
                )));
            }
            _ => {
                return Err(wrong(
                    "is not quantized with integers of the target, expected one that is",
                ));
            }
        }
        fit_biases(prepared, self)
    }

    fn require_value(&mut self, name: &str) -> Result<&mut ValuePlan, Error> {
        let names = || self.values.iter().map(|value| value.name.as_str());
        match names().position(|known| known == name) {
            Some(idx) => Ok(&mut self.values[idx]),
            None => Err(Error::Options(format!(
                "value \"{name}\" does not exist in the plan{}",
                suggestion(name, names())
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::prepare::Crop;
    use crate::quantize::{QuantizeOptions, Quantized, quantize};
    use crate::recipe::Recipe;
    use crate::samples::Dataset;
    use crate::session::Session;

    fn quantized() -> Quantized {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        let recipe = Recipe::read(&data.join("fmnist/recipe.toml")).unwrap();
        let model = data.join("models/fmnist_resnet.onnx");
        let session = Session::open(&model, &Crop::default(), &BTreeMap::new(), &recipe).unwrap();
        let dataset = Dataset::open(&data.join("fmnist/calib"), &session.inputs).unwrap();
        let options = QuantizeOptions {
            algorithm: crate::calibrate::find("min_max").unwrap(),
            optimization_level: 0,
            ..QuantizeOptions::new(targets::find("rk3588").unwrap())
        };
        quantize(&session, &dataset, &options, &|_, _, _| ()).unwrap()
    }

    #[test]
    fn a_value_is_raised_and_comes_back() {
        let Quantized { mut plan, .. } = quantized();
        let before = plan.clone();
        let int8 = |value: &&ValuePlan| matches!(value.precision, Precision::Quantized(_));
        let name = plan.values.iter().rev().find(int8).unwrap().name.clone();
        for (precision, n_raised) in [("fp16", 1), ("float", 1), ("int8", 0)] {
            plan.set_precision(&name, precision).unwrap();
            let changed = plan
                .values
                .iter()
                .zip(&before.values)
                .filter(|(a, b)| a.precision != b.precision);
            assert_eq!(changed.count(), n_raised, "{precision}");
        }
        assert_eq!(plan, before, "the scale is kept while the value is raised");
    }

    #[test]
    fn a_range_gives_scale_and_zero_point() {
        let Quantized {
            prepared, mut plan, ..
        } = quantized();
        let name = plan.values[0].name.clone();
        plan.set_range(
            &prepared,
            &name,
            Range {
                min: -1.0,
                max: 254.0,
            },
        )
        .unwrap();
        let Precision::Quantized(params) = &plan.values[0].precision else {
            panic!("{:?}", plan.values[0])
        };
        assert_eq!(params.as_per_tensor(), Some((1.0, -127)));
    }

    #[test]
    fn what_cannot_be_set_is_said() {
        let Quantized {
            prepared, mut plan, ..
        } = quantized();
        let input = plan.values[0].name.clone();
        let wrong = format!("{input}s");
        let range = |min, max| Range { min, max };
        let shared = plan.values.iter().find_map(|value| match &value.precision {
            Precision::SharedWith(other) => Some((value.name.clone(), other.clone())),
            _ => None,
        });
        let errors = [
            (
                plan.set_precision(&wrong, "fp16"),
                format!("value \"{wrong}\" does not exist in the plan, did you mean \"{input}\"?"),
            ),
            (
                plan.set_precision(&input, "fp17"),
                "unknown precision \"fp17\", did you mean \"fp16\"? expected one of fp16, float, int8, w4a16, w8a16"
                    .to_owned(),
            ),
            (
                plan.set_range(&prepared, &input, range(1.0, -1.0)),
                format!(
                    "value \"{input}\": range is wrong, expected finite min and max in their order, got 1 and -1"
                ),
            ),
        ];
        for (result, text) in errors {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
        if let Some((name, other)) = shared {
            assert_eq!(
                plan.set_range(&prepared, &name, range(0.0, 1.0))
                    .unwrap_err()
                    .to_string(),
                format!("value \"{name}\": has the scale of \"{other}\", expected its range to be set")
            );
        }
        plan.values[0].precision = Precision::Float {
            reason: String::new(),
        };
        plan.values[0].cast = None;
        assert_eq!(
            plan.set_precision(&input, "int8").unwrap_err().to_string(),
            format!(
                "value \"{input}\": the plan has no int8 scale and zero_point of it, expected a value that has"
            )
        );
        assert_eq!(
            plan.set_range(&prepared, &input, range(0.0, 1.0))
                .unwrap_err()
                .to_string(),
            format!("value \"{input}\": is not quantized with integers of the target, expected one that is")
        );
    }
}
