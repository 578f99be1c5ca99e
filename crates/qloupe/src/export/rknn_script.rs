//! `rknn-script`: a folder with a Python script that converts the model by the vendor's tool, its samples and the plan.

use std::path::{Path, PathBuf};

use qloupe_tensor::{DType, Tensor};
use serde_json::json;

use super::python::{float, list, string};
use super::{ExportFormat, ExportOption, Exported, Request};
use crate::Error;
use crate::array::write_npy;
use crate::plan::format_plan;
use crate::recipe::{ChannelOrder, Layout};
use crate::samples::{Dataset, InputSpec, cast};
use crate::write::{WriteError, write_atomically};

const SCRIPT: &str = include_str!("rknn_convert.py.txt");
/// How far a level may be from a whole number to be one: what normalizing and back leaves in float32.
const LEVEL_TOLERANCE: f64 = 1e-3;

/// `convert.py`, `dataset.txt`, `samples/` and `plan.toml` in a folder.
///
/// Samples are written as arrays, resized and ordered as the recipe says, before mean and std: the vendor's tool knows
/// no letterbox and no crop, and takes arrays as they are before its own mean and std.
pub(super) struct RknnScript;

impl ExportFormat for RknnScript {
    fn id(&self) -> &'static str {
        "rknn-script"
    }

    fn title(&self) -> &'static str {
        "a folder with a Python script that converts the model by rknn-toolkit2 with the plan, and its samples"
    }

    fn needs(&self) -> &'static [ExportOption] {
        &[ExportOption::Dataset]
    }

    fn default_output(&self, request: &Request<'_>) -> PathBuf {
        request.model.with_extension("rknn-script")
    }

    fn export(&self, request: &Request<'_>, output: &Path) -> Result<Exported, Error> {
        request.require_rockchip()?;
        let inputs = &request.session.inputs;
        let path = request.dataset.expect("invariant: --dataset was checked");
        let dataset = Dataset::open(path, inputs)?;
        let model = std::fs::canonicalize(request.model).map_err(|error| Error::File {
            path: request.model.to_owned(),
            what: format!("cannot be found: {error}"),
        })?;
        let first = dataset.sample(0)?;
        let script = script(request, &model, &first)?;
        let samples = output.join("samples");
        std::fs::create_dir_all(&samples).map_err(|source| WriteError::Io {
            file: samples.clone(),
            source,
        })?;
        let mut lines = String::new();
        for idx in 0..dataset.len() {
            let sample = dataset.sample(idx)?;
            let mut files = Vec::new();
            for (input, ((name, tensor), (_, expected))) in sample.iter().zip(&first).enumerate() {
                if tensor.shape() != expected.shape() {
                    return Err(Error::Options(format!(
                        "sample {idx}, input \"{name}\": the vendor's tool takes one shape, expected {:?}, got {:?}",
                        expected.shape(),
                        tensor.shape()
                    )));
                }
                let file = sample_file(idx, input, inputs.len());
                write_npy(&output.join(&file), &denormalized(tensor, &inputs[input])?)?;
                files.push(file);
            }
            lines.push_str(&files.join(" "));
            lines.push('\n');
        }
        let written = [
            ("convert.py", script),
            ("dataset.txt", lines),
            ("plan.toml", format_plan(request.plan, None)),
        ];
        for (name, text) in &written {
            write_atomically(&output.join(name), text.as_bytes())?;
        }
        let mut notes: Vec<String> = dataset
            .notes()
            .iter()
            .map(|note| format!("note: {note}"))
            .collect();
        notes.insert(
            0,
            format!(
                "{} samples; run it with python {}",
                dataset.len(),
                output.join("convert.py").display()
            ),
        );
        Ok(Exported {
            files: written.iter().map(|(name, _)| output.join(name)).collect(),
            lines: notes,
            fields: vec![("n_samples", json!(dataset.len()))],
        })
    }
}

fn sample_file(idx: usize, input: usize, n_inputs: usize) -> String {
    if n_inputs == 1 {
        format!("samples/{idx:04}.npy")
    } else {
        format!("samples/{idx:04}_{input}.npy")
    }
}

/// Mean and std of an input in the units of its arrays, one for each channel; `None` for an input that has neither.
///
/// `x' = (x * scale - mean) / std = (x - mean / scale) / (std / scale)`.
fn mean_and_std(spec: &InputSpec) -> Option<Vec<(f32, f32)>> {
    let recipe = &spec.recipe;
    let scales = recipe.scale.to_bits() != 1.0_f32.to_bits();
    if recipe.mean.is_empty() && recipe.std.is_empty() && !scales {
        return None;
    }
    let n = spec
        .image
        .as_ref()
        .map_or(1, |image| image.channel_order.n_channels());
    let at =
        |values: &[f32], idx: usize, default: f32| *values.get(idx).or(values.first()).unwrap_or(&default);
    let n = n.max(recipe.mean.len()).max(recipe.std.len());
    let of = |idx| {
        (
            at(&recipe.mean, idx, 0.0) / recipe.scale,
            at(&recipe.std, idx, 1.0) / recipe.scale,
        )
    };
    Some((0..n).map(of).collect())
}

/// A sample before mean and std; whole levels of pictures as uint8.
fn denormalized(tensor: &Tensor, spec: &InputSpec) -> Result<Tensor, Error> {
    let (Some(channels), Some(values)) = (mean_and_std(spec), tensor.as_slice::<f32>()) else {
        return Ok(tensor.clone());
    };
    let is_last = spec
        .image
        .as_ref()
        .is_ok_and(|image| image.layout == Layout::Nhwc);
    let axis = if is_last {
        tensor.rank() - 1
    } else {
        1.min(tensor.rank().saturating_sub(1))
    };
    let inner: usize = tensor.shape().iter().skip(axis + 1).product();
    let raw = values.iter().enumerate().map(|(idx, &value)| {
        let (mean, std) = channels[(idx / inner.max(1)) % channels.len()];
        f64::from(value) * f64::from(std) + f64::from(mean)
    });
    let raw: Vec<f64> = raw.collect();
    let whole = |value: f64| value.round_ties_even();
    let are_levels = raw.iter().all(|&value| {
        (value - whole(value)).abs() <= LEVEL_TOLERANCE && (0.0..=255.0).contains(&whole(value))
    });
    let (values, dtype) = if are_levels {
        (raw.into_iter().map(whole).collect(), DType::UInt8)
    } else {
        (raw, DType::Float32)
    };
    cast(tensor.shape(), values, dtype).map_err(Error::Options)
}

fn script(request: &Request<'_>, model: &Path, first: &[(String, Tensor)]) -> Result<String, Error> {
    let inputs = &request.session.inputs;
    let mut config = String::new();
    let normalizations: Vec<_> = inputs.iter().map(mean_and_std).collect();
    if normalizations.iter().any(Option::is_some) {
        let of = |pick: fn(&(f32, f32)) -> f32| {
            let input = |channels: &Option<Vec<(f32, f32)>>| {
                let identity = [(0.0, 1.0)];
                let channels = channels.as_deref().unwrap_or(&identity);
                list(channels.iter().map(|channel| float(pick(channel))))
            };
            list(normalizations.iter().map(input))
        };
        config.push_str(&format!("            mean_values={},\n", of(|channel| channel.0)));
        config.push_str(&format!("            std_values={},\n", of(|channel| channel.1)));
    }
    let is_bgr = |spec: &InputSpec| {
        spec.image
            .as_ref()
            .is_ok_and(|image| image.channel_order == ChannelOrder::Bgr)
    };
    if inputs.iter().any(is_bgr) {
        let flags = inputs
            .iter()
            .map(|spec| if is_bgr(spec) { "True" } else { "False" }.to_owned());
        config.push_str(&format!("            quant_img_RGB2BGR={},\n", list(flags)));
    }
    let names = list(first.iter().map(|(name, _)| string(name)));
    let shapes = list(first.iter().map(|(_, tensor)| format!("{:?}", tensor.shape())));
    let mut load = format!("inputs={names}, input_size_list={shapes}");
    if !request.crop.outputs.is_empty() {
        load.push_str(&format!(
            ", outputs={}",
            list(request.crop.outputs.iter().map(|name| string(name)))
        ));
    }
    let options = [
        ("--crop-inputs", &request.crop.inputs),
        ("--crop-outputs", &request.crop.outputs),
    ];
    let options = options.iter().filter(|(_, names)| !names.is_empty());
    let options = options.flat_map(|(option, names)| [string(option), string(&names.join(","))]);
    let model = model.to_str().ok_or_else(|| Error::File {
        path: model.to_owned(),
        what: "is no path in Unicode, expected one that a Python script can hold".to_owned(),
    })?;
    let stem = Path::new(model).file_stem().unwrap_or_default().to_string_lossy();
    let files = (0..inputs.len()).map(|input| string(&sample_file(0, input, inputs.len())));
    let plan = request.plan;
    let fields = [
        ("@STEM@", stem.into_owned()),
        ("@TARGET@", plan.target.clone()),
        ("@MODEL@", string(model)),
        ("@EXPORT_OPTIONS@", list(options)),
        ("@FIRST_SAMPLE@", list(files)),
        ("@PLATFORM@", string(&plan.target)),
        ("@METHOD@", string(plan.method.name())),
        ("@LEVEL@", plan.optimization_level.to_string()),
        ("@CONFIG@", config),
        ("@LOAD@", load),
    ];
    Ok(fields
        .iter()
        .fold(SCRIPT.to_owned(), |text, (mark, value)| text.replace(mark, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn samples_go_back_to_levels() {
        let text = "[input.x]\nscale = 0.5\nmean = [10, 20, 30]\nstd = 4\nlayout = \"nchw\"\n";
        let recipe = Recipe::parse(text, "r").unwrap();
        let spec = InputSpec::new(
            "x",
            DType::Float32,
            vec![Some(1), Some(3), Some(1), Some(2)],
            &recipe,
        )
        .unwrap();
        assert_eq!(
            mean_and_std(&spec),
            Some(vec![(20.0, 8.0), (40.0, 8.0), (60.0, 8.0)])
        );
        let levels = [0.0_f32, 255.0, 1.0, 2.0, 3.0, 77.0];
        let normalized = levels
            .iter()
            .enumerate()
            .map(|(idx, level)| (level * 0.5 - [10.0, 20.0, 30.0][idx / 2]) / 4.0);
        let normalized: Vec<f32> = normalized.collect();
        let tensor = Tensor::new(&[1, 3, 1, 2], normalized.clone()).unwrap();
        let raw = denormalized(&tensor, &spec).unwrap();
        assert_eq!(raw.require::<u8>().unwrap(), [0, 255, 1, 2, 3, 77]);
        let tensor = Tensor::new(&[1, 3, 1, 2], normalized.iter().map(|v| v + 0.01).collect()).unwrap();
        assert_eq!(denormalized(&tensor, &spec).unwrap().dtype(), DType::Float32);
    }
}
