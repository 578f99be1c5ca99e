//! Arrays as samples of an input: which axis is the sample, what must fit, how values get the input's dtype.

use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::input_spec::InputSpec;
use crate::recipe::{ChannelOrder, Layout};

/// How the samples of an array are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleAxis {
    /// The array is one sample.
    Whole,
    /// The leading axis counts so many samples.
    Leading(usize),
}

/// Finds the samples of an array of `shape`, or tells why it does not fit the input.
///
/// One dimension more than the input: the leading axis is the sample. As many: the leading axis is the sample too,
/// unless the array has exactly the input's fixed shape. One less: one sample without its batch of 1.
pub(super) fn sample_axis(shape: &[usize], spec: &InputSpec) -> Result<SampleAxis, String> {
    let want = spec.shape.as_slice();
    let fits = |dims: &[usize], want: &[Option<usize>]| {
        dims.len() == want.len()
            && dims
                .iter()
                .zip(want)
                .all(|(dim, want)| want.is_none_or(|want| want == *dim))
    };
    let batch_is_open = matches!(want.first(), Some(None | Some(1)));
    match shape {
        [n, rest @ ..] if fits(rest, want) => Ok(SampleAxis::Leading(*n)),
        shape if !batch_is_open && fits(shape, want) => Ok(SampleAxis::Whole),
        [n, rest @ ..] if !want.is_empty() && fits(rest, &want[1..]) => Ok(SampleAxis::Leading(*n)),
        shape if batch_is_open && fits(shape, &want[1..]) => Ok(SampleAxis::Whole),
        shape => Err(format!(
            "wrong shape, expected {} (or a leading axis of samples before it), got {shape:?}",
            spec.shape_text()
        )),
    }
}

/// Refuses an array whose dtype the input does not take.
pub(super) fn check_dtype(got: DType, spec: &InputSpec) -> Result<(), String> {
    let expected = spec.recipe.dtype.unwrap_or(spec.dtype);
    let is_number = got.is_float() || (got.size_bits() >= 8 && got.integer_range().is_some());
    if got == expected || (spec.recipe.normalize_arrays && is_number) {
        return Ok(());
    }
    let name = &spec.name;
    Err(format!(
        "wrong dtype, expected {expected}, got {got}; convert it, or set dtype = \"{got}\" in [input.{name}] of the recipe"
    ))
}

/// Gives a sample its batch of 1, checks its values, normalizes and converts it where the recipe says so.
pub(super) fn finish(sample: Tensor, spec: &InputSpec) -> Result<Tensor, String> {
    let n_bad = if sample.dtype().is_float() {
        let values = sample.to_f64_vec().map_err(|error| error.to_string())?;
        values.iter().filter(|value| !value.is_finite()).count()
    } else {
        0
    };
    if n_bad > 0 {
        let verb = if n_bad == 1 { "value is" } else { "values are" };
        return Err(format!("{n_bad} {verb} NaN or infinite, expected finite numbers"));
    }
    let mut shape = sample.shape().to_vec();
    if shape.len() + 1 == spec.shape.len() {
        shape.insert(0, 1);
    }
    let sample = sample.reshape(&shape).map_err(|error| error.to_string())?;
    if spec.recipe.normalize_arrays {
        let sample = sample.to_f32().map_err(|error| error.to_string())?;
        let values = sample.require::<f32>().map_err(|error| error.to_string())?;
        let channel = channels_of(&shape, spec);
        let normalized = values
            .iter()
            .enumerate()
            .map(|(element, &value)| f64::from(spec.normalize(channel(element), value)));
        return cast(&shape, normalized.collect(), spec.dtype);
    }
    if sample.dtype() == spec.dtype {
        return Ok(sample);
    }
    let values = sample.to_f64_vec().map_err(|error| error.to_string())?;
    cast(&shape, values, spec.dtype)
}

/// The channel of each element; 0 everywhere for inputs without channels.
fn channels_of(shape: &[usize], spec: &InputSpec) -> impl Fn(usize) -> usize + use<> {
    let (stride, n_channels) = match &spec.image {
        Ok(image) => {
            let stride = match image.layout {
                Layout::Nchw => shape[2..].iter().product(),
                Layout::Nhwc => 1,
            };
            (stride, ChannelOrder::n_channels(image.channel_order))
        }
        Err(_) => (1, 1),
    };
    move |element| element / usize::max(stride, 1) % n_channels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    fn spec(shape: &[usize], dtype: DType, recipe: &str) -> InputSpec {
        let recipe = Recipe::parse(&format!("[input.x]\n{recipe}"), "").unwrap();
        let shape = shape.iter().map(|&dim| (dim > 0).then_some(dim)).collect();
        InputSpec::new("x", dtype, shape, &recipe).unwrap()
    }

    #[test]
    fn the_sample_axis_is_found() {
        struct Case {
            input: &'static [usize],
            array: &'static [usize],
            axis: SampleAxis,
        }
        let cases = [
            Case {
                input: &[0, 3, 8, 8],
                array: &[5, 3, 8, 8],
                axis: SampleAxis::Leading(5),
            },
            Case {
                input: &[0, 3, 8, 8],
                array: &[5, 1, 3, 8, 8],
                axis: SampleAxis::Leading(5),
            },
            Case {
                input: &[1, 3, 8, 8],
                array: &[3, 8, 8],
                axis: SampleAxis::Whole,
            },
            Case {
                input: &[4, 3, 8, 8],
                array: &[4, 3, 8, 8],
                axis: SampleAxis::Whole,
            },
            Case {
                input: &[4, 3, 8, 8],
                array: &[9, 3, 8, 8],
                axis: SampleAxis::Leading(9),
            },
            Case {
                input: &[2, 0, 128],
                array: &[2, 1, 128],
                axis: SampleAxis::Whole,
            },
            Case {
                input: &[2, 0, 128],
                array: &[7, 2, 1, 128],
                axis: SampleAxis::Leading(7),
            },
            Case {
                input: &[],
                array: &[],
                axis: SampleAxis::Whole,
            },
            Case {
                input: &[],
                array: &[3],
                axis: SampleAxis::Leading(3),
            },
        ];
        for Case { input, array, axis } in cases {
            let found = sample_axis(array, &spec(input, DType::Float32, ""));
            assert_eq!(found, Ok(axis), "{input:?} {array:?}");
        }
        assert_eq!(
            sample_axis(&[200, 28, 28], &spec(&[0, 3, 8, 8], DType::Float32, "")),
            Err("wrong shape, expected [?, 3, 8, 8] (or a leading axis of samples before it), got [200, 28, 28]".to_owned())
        );
    }

    #[test]
    fn dtypes_and_values_are_checked() {
        assert_eq!(
            check_dtype(DType::Float64, &spec(&[1], DType::Float32, "")).unwrap_err(),
            "wrong dtype, expected float32, got float64; convert it, or set dtype = \"float64\" in [input.x] of the recipe"
        );
        let error = |values: Vec<f32>| finish(Tensor::vector(values), &spec(&[3], DType::Float32, ""));
        assert_eq!(
            error(vec![f32::NAN, 0.0, f32::INFINITY]).unwrap_err(),
            "2 values are NaN or infinite, expected finite numbers"
        );
        assert_eq!(
            error(vec![f32::NAN, 0.0, 1.0]).unwrap_err(),
            "1 value is NaN or infinite, expected finite numbers"
        );
    }

    #[test]
    fn the_recipe_converts_and_normalizes() {
        let float64 = spec(&[2], DType::Float32, "dtype = \"float64\"");
        check_dtype(DType::Float64, &float64).unwrap();
        assert_eq!(
            finish(Tensor::vector(vec![1.5_f64, 2.0]), &float64),
            Ok(Tensor::vector(vec![1.5_f32, 2.0]))
        );
        let recipe = "normalize_arrays = true\nmean = [1, 2, 3]\nstd = 2";
        let normalized = spec(&[0, 3, 1, 2], DType::Float32, recipe);
        check_dtype(DType::UInt8, &normalized).unwrap();
        assert_eq!(
            finish(
                Tensor::new(&[3, 1, 2], vec![1_u8, 3, 2, 4, 3, 5]).unwrap(),
                &normalized
            ),
            Ok(Tensor::new(&[1, 3, 1, 2], vec![0.0_f32, 1.0, 0.0, 1.0, 0.0, 1.0]).unwrap())
        );
    }
}
