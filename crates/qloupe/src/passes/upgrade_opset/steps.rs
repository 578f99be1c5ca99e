//! The changes of operators from opset 7 to 21: one table, and what to do with one node.

use std::collections::BTreeSet;

use half::{bf16, f16};
use qloupe_ir::{Attribute, AttributeValue, Dim, Initializer, Node};
use qloupe_tensor::{DType, Tensor};

use super::facts::{Facts, MAX_TRACE};

/// A change of an operator: (operator, version, what to do with a node of an older version).
pub(super) type Step = (
    &'static str,
    i64,
    fn(&mut Rewrite<'_>) -> Result<Option<String>, String>,
);

/// Every change of form or meaning from opset 7 to 21, by operator and version.
pub(super) const STEPS: &[Step] = &[
    ("BatchNormalization", 9, drop_spatial),
    ("BatchNormalization", 14, drop_training_outputs),
    ("Clip", 11, clip_bounds_to_inputs),
    ("ConvTranspose", 11, refuse_automatic_pads),
    ("DFT", 20, |_| {
        refuse("axis became an input: export the model again with opset 20")
    }),
    ("Dropout", 10, refuse_float_mask),
    ("Dropout", 12, dropout_ratio_to_input),
    ("GridSample", 20, rename_grid_modes),
    ("GroupNormalization", 21, |_| {
        refuse("scale and bias became per channel: export the model again with opset 21")
    }),
    ("Hardmax", 13, normalize_one_axis),
    ("LogSoftmax", 13, normalize_one_axis),
    ("Pad", 11, pads_to_inputs),
    ("ReduceL1", 18, axes_to_input),
    ("ReduceL2", 18, axes_to_input),
    ("ReduceLogSum", 18, axes_to_input),
    ("ReduceLogSumExp", 18, axes_to_input),
    ("ReduceMax", 18, axes_to_input),
    ("ReduceMean", 18, axes_to_input),
    ("ReduceMin", 18, axes_to_input),
    ("ReduceProd", 18, axes_to_input),
    ("ReduceSum", 13, axes_to_input),
    ("ReduceSumSquare", 18, axes_to_input),
    ("Resize", 11, old_resize_to_resize),
    ("Resize", 13, drop_empty_scales),
    ("RoiAlign", 16, keep_roi_coordinates),
    ("Scan", 9, |_| {
        refuse("its inputs and axes changed: export the model again with opset 9 or newer")
    }),
    ("Scatter", 11, rename_scatter),
    ("Slice", 10, slice_to_inputs),
    ("Softmax", 13, normalize_one_axis),
    ("Split", 13, |rewrite| rewrite.ints_to_input("split", 1)),
    ("Split", 18, count_split_outputs),
    ("Squeeze", 13, axes_to_input),
    ("TopK", 10, top_k_to_input),
    ("Unsqueeze", 13, axes_to_input),
    ("Upsample", 9, upsample_scales_to_input),
    ("Upsample", 10, old_resize_to_resize),
];

/// One node on its way to the newer version.
pub(super) struct Rewrite<'a> {
    pub(super) node: Node,
    pub(super) facts: &'a Facts<'a>,
    pub(super) names: &'a mut BTreeSet<String>,
    pub(super) constants: Vec<Initializer>,
    pub(super) before: Vec<Node>,
    pub(super) after: Vec<Node>,
}

impl Rewrite<'_> {
    fn take(&mut self, name: &str) -> Option<AttributeValue> {
        let idx = self.node.attributes.iter().position(|a| a.name == name)?;
        Some(self.node.attributes.remove(idx).value)
    }

    fn take_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(AttributeValue::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(format!("attribute \"{name}\" is no list of integers")),
        }
    }

    fn take_float(&mut self, name: &str) -> Result<Option<f32>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(AttributeValue::Float(value)) => Ok(Some(value)),
            Some(_) => Err(format!("attribute \"{name}\" is no float")),
        }
    }

    fn set(&mut self, name: &str, value: AttributeValue) {
        self.take(name);
        self.node.attributes.push(Attribute::new(name, value));
    }

    fn set_string(&mut self, name: &str, value: &str) {
        self.set(name, AttributeValue::String(value.as_bytes().to_vec()));
    }

    /// A name that no value of the model has.
    fn fresh_name(&mut self, role: &str) -> String {
        let output = self.node.output(0).unwrap_or(&self.node.name);
        let base = format!("{output}_{role}");
        let mut name = base.clone();
        let mut idx = 1;
        while !self.names.insert(name.clone()) {
            idx += 1;
            name = format!("{base}_{idx}");
        }
        name
    }

    fn set_input(&mut self, idx: usize, name: String) {
        let n_inputs = self.node.inputs.len().max(idx + 1);
        self.node.inputs.resize(n_inputs, String::new());
        self.node.inputs[idx] = name;
    }

    fn set_constant(&mut self, idx: usize, role: &str, tensor: Tensor) {
        let name = self.fresh_name(role);
        self.constants.push(Initializer {
            name: name.clone(),
            value: tensor.into(),
        });
        self.set_input(idx, name);
    }

    fn ints_to_input(&mut self, name: &str, idx: usize) -> Result<Option<String>, String> {
        let Some(values) = self.take_ints(name)? else {
            return Ok(None);
        };
        self.set_constant(idx, name, Tensor::vector(values));
        Ok(Some(format!("{name} became an input")))
    }

    /// A rank-0 tensor of the dtype of the first input.
    fn scalar(&self, value: f32) -> Result<Tensor, String> {
        let input = self.node.input(0).unwrap_or_default();
        let dtype = self.facts.float_dtype(input);
        match dtype {
            Some(DType::Float32) => Ok(Tensor::scalar(value)),
            Some(DType::Float64) => Ok(Tensor::scalar(f64::from(value))),
            Some(DType::Float16) => Ok(Tensor::scalar(f16::from_f32(value))),
            Some(DType::BFloat16) => Ok(Tensor::scalar(bf16::from_f32(value))),
            _ => Err(format!(
                "the dtype of input \"{input}\" is not known: run shape inference on the model first"
            )),
        }
    }

    /// Drops outputs after the first that nobody asked for; false when one is named.
    fn drop_unused_outputs(&mut self) -> bool {
        let is_used = self.node.outputs.iter().skip(1).any(|name| !name.is_empty());
        if !is_used {
            self.node.outputs.truncate(1);
        }
        !is_used
    }
}

fn refuse(reason: &str) -> Result<Option<String>, String> {
    Err(reason.to_owned())
}

fn axes_to_input(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    rewrite.ints_to_input("axes", 1)
}

fn drop_spatial(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    match rewrite.take("spatial") {
        None => Ok(None),
        Some(AttributeValue::Int(1)) => Ok(Some("spatial was dropped, it is always 1".to_owned())),
        Some(_) => refuse("spatial 0 does not exist any more: export the model again with opset 9 or newer"),
    }
}

fn drop_training_outputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    if rewrite.drop_unused_outputs() {
        return Ok(None);
    }
    refuse("it has the outputs of a training run: export the model for inference")
}

fn refuse_float_mask(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    if rewrite.drop_unused_outputs() {
        return Ok(None);
    }
    refuse("its mask became a bool: export the model for inference")
}

fn dropout_ratio_to_input(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let Some(ratio) = rewrite.take_float("ratio")? else {
        return Ok(None);
    };
    rewrite.set_constant(1, "ratio", Tensor::scalar(ratio));
    Ok(Some("ratio became an input".to_owned()))
}

fn clip_bounds_to_inputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let mut moved = Vec::new();
    for (idx, name) in [(1, "min"), (2, "max")] {
        if let Some(bound) = rewrite.take_float(name)? {
            let bound = rewrite.scalar(bound)?;
            rewrite.set_constant(idx, name, bound);
            moved.push(name);
        }
    }
    Ok(match moved.as_slice() {
        [] => None,
        [one] => Some(format!("{one} became an input")),
        _ => Some("min and max became inputs".to_owned()),
    })
}

fn refuse_automatic_pads(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let is_same = rewrite
        .node
        .string("auto_pad")
        .is_some_and(|pad| pad.starts_with("SAME_"));
    if is_same || rewrite.node.ints("output_shape").is_some() {
        return refuse("pads that are derived from the output shape became other pads: give them as `pads`");
    }
    Ok(None)
}

fn rename_grid_modes(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let new = match rewrite.node.string("mode") {
        Some("bilinear") => "linear",
        Some("bicubic") => "cubic",
        _ => return Ok(None),
    };
    rewrite.set_string("mode", new);
    Ok(Some(format!("the mode is called {new}")))
}

fn keep_roi_coordinates(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    rewrite.set_string("coordinate_transformation_mode", "output_half_pixel");
    Ok(Some(
        "coordinate_transformation_mode output_half_pixel became explicit".to_owned(),
    ))
}

fn rename_scatter(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    rewrite.node.op_type = "ScatterElements".to_owned();
    Ok(Some("it is called ScatterElements".to_owned()))
}

fn pads_to_inputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    rewrite.ints_to_input("pads", 1)?;
    match rewrite.take_float("value")? {
        Some(value) if value != 0.0 => {
            let value = rewrite.scalar(value)?;
            rewrite.set_constant(2, "value", value);
            Ok(Some("pads and value became inputs".to_owned()))
        }
        _ => Ok(Some("pads became an input".to_owned())),
    }
}

fn slice_to_inputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    for (idx, name) in [(1, "starts"), (2, "ends"), (3, "axes")] {
        rewrite.ints_to_input(name, idx)?;
    }
    Ok(Some("starts, ends and axes became inputs".to_owned()))
}

fn top_k_to_input(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    match rewrite.take("k") {
        Some(AttributeValue::Int(k)) => {
            rewrite.set_constant(1, "k", Tensor::vector(vec![k]));
            Ok(Some("k became an input".to_owned()))
        }
        _ => refuse("attribute \"k\" is absent, expected an integer"),
    }
}

fn count_split_outputs(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    if rewrite.node.input(1).is_some() {
        return Ok(None);
    }
    let n_outputs = i64::try_from(rewrite.node.outputs.len()).unwrap_or(i64::MAX);
    rewrite.set("num_outputs", AttributeValue::Int(n_outputs));
    Ok(Some(format!("num_outputs {n_outputs} became explicit")))
}

fn upsample_scales_to_input(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    match rewrite.take("scales") {
        Some(AttributeValue::Floats(scales)) => {
            rewrite.set_constant(1, "scales", Tensor::vector(scales));
            Ok(Some("scales became an input".to_owned()))
        }
        _ => refuse("attribute \"scales\" is absent, expected a list of floats"),
    }
}

/// `Upsample`, and `Resize` of opset 10, sample at `x / scale`; nearest rounds down, but up along an axis that shrinks.
fn old_resize_to_resize(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let scales = rewrite.node.input(1).unwrap_or_default().to_owned();
    if rewrite.node.string("mode").unwrap_or("nearest") == "nearest" {
        let own = rewrite.constants.iter().find(|i| i.name == scales);
        let known = match own {
            Some(initializer) => initializer.value.tensor().ok(),
            None => rewrite.facts.constant(&scales),
        };
        let factors = known.and_then(|tensor| tensor.into_vec::<f32>().ok());
        let Some(factors) = factors else {
            return refuse("the rounding of nearest depends on the scales, which are no constant");
        };
        let nearest_mode = if factors.iter().all(|&factor| factor >= 1.0) {
            "floor"
        } else if factors.iter().all(|&factor| factor <= 1.0) {
            "ceil"
        } else {
            return refuse("nearest that grows one axis and shrinks another rounds in two ways");
        };
        rewrite.set_string("nearest_mode", nearest_mode);
    }
    rewrite.set_string("coordinate_transformation_mode", "asymmetric");
    let was = std::mem::replace(&mut rewrite.node.op_type, "Resize".to_owned());
    rewrite.set_input(1, String::new());
    rewrite.set_input(2, scales);
    Ok(Some(if was == "Resize" {
        "asymmetric coordinates became explicit".to_owned()
    } else {
        "it became a Resize with asymmetric coordinates".to_owned()
    }))
}

/// Opset 11 says "no scales" with an empty tensor, opset 13 by leaving the input out.
fn drop_empty_scales(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let mode = rewrite.node.string("coordinate_transformation_mode");
    if mode == Some("tf_half_pixel_for_nn") {
        return refuse("tf_half_pixel_for_nn does not exist any more: export the model again with opset 13");
    }
    if rewrite.node.input(3).is_none() || rewrite.node.input(2).is_none() {
        return Ok(None);
    }
    rewrite.set_input(2, String::new());
    Ok(Some("the empty scales were left out".to_owned()))
}

/// Before opset 13, Softmax, LogSoftmax and Hardmax work on all axes from `axis` (default 1) on, taken as one.
fn normalize_one_axis(rewrite: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let axis = rewrite.node.int("axis").unwrap_or(1);
    let input = rewrite.node.input(0).unwrap_or_default().to_owned();
    let rank = rewrite.facts.rank(&input, MAX_TRACE);
    let rank = rank.and_then(|rank| i64::try_from(rank).ok());
    let from_front = match rank {
        Some(rank) if axis < 0 => Some(axis + rank),
        _ => Some(axis).filter(|axis| *axis >= 0),
    };
    let is_last = axis == -1 || rank.is_some_and(|rank| from_front == Some(rank - 1));
    let rest_is_one = || {
        let first = usize::try_from(from_front?).ok()?.checked_add(1)?;
        let shape = rewrite.facts.shape(&input)?;
        Some(shape.get(first..)?.iter().all(|dim| *dim == Dim::Known(1)))
    };
    if is_last || rest_is_one() == Some(true) {
        let was_explicit = rewrite.node.int("axis").is_some();
        rewrite.set("axis", AttributeValue::Int(axis));
        return Ok((!was_explicit).then(|| format!("axis {axis} became explicit")));
    }
    let [shape, flat, flat_result] =
        ["shape", "flattened", "flattened_result"].map(|role| rewrite.fresh_name(role));
    let output = rewrite.node.output(0).unwrap_or_default().to_owned();
    let label = rewrite.node.label().to_owned();
    let flatten = Node::new("Flatten", &format!("{label}_flatten"), &[&input], &[&flat]);
    rewrite.before = vec![
        Node::new("Shape", &format!("{label}_shape"), &[&input], &[&shape]),
        flatten.with_attribute("axis", AttributeValue::Int(axis)),
    ];
    rewrite.after = vec![Node::new(
        "Reshape",
        &format!("{label}_reshape"),
        &[&flat_result, &shape],
        &[&output],
    )];
    rewrite.set_input(0, flat);
    rewrite.node.outputs = vec![flat_result];
    rewrite.set("axis", AttributeValue::Int(1));
    Ok(Some(format!(
        "it works on all axes from {axis} on, which Flatten and Reshape around it make one"
    )))
}
