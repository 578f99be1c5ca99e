//! The text of a plan, as `file.rs` reads it.

use qloupe_exec::Cast;
use qloupe_tensor::{DType, Granularity, QuantParams};

use super::constants::scale_array;
use super::file::SCHEMA;
use super::{PassRecord, Precision, QuantPlan, ValuePlan, WeightPlan, weight_only_word};
use crate::passes::{Rescale, Scaling, Shift};

const HEADER: &str = "\
# The precision of every value. Edit `precision`: \"fp16\" or \"float\" raises a value, and the unit that computes it,
# out of the integers (hybrid quantization by hand); scale and zero_point may be changed, too. A value with
# `shared_with` follows that value. `min` and `max` are the calibrated range, for information.
";

/// The text of a plan. `constants` is the name of the file beside it that holds the constants which passes changed, and the scales
/// of blocks; without one, the text has these.
pub fn format_plan(plan: &QuantPlan, constants: Option<&str>) -> String {
    let mut head = vec![
        format!("schema = {}", quoted(SCHEMA)),
        format!("target = {}", quoted(&plan.target)),
        format!("algorithm = {}", quoted(&plan.algorithm)),
        format!("method = {}", quoted(plan.method.name())),
        format!("optimization_level = {}", plan.optimization_level),
        format!("n_samples = {}", plan.n_samples),
    ];
    if !plan.optimized.race.is_empty() {
        head.push(format!("race = {}", quoted(&plan.optimized.race)));
    }
    if let Some(constants) = constants {
        head.push(
            "# Weights and biases that passes changed, scales of blocks; the plan does not fit the model without them."
                .to_owned(),
        );
        head.push(format!("constants = {}", quoted(constants)));
    }
    head.extend(plan.optimized.passes.iter().map(format_pass));
    head.extend(plan.optimized.rescales.iter().map(format_rescale));
    head.extend(plan.optimized.scalings.iter().map(format_scaling));
    head.extend(plan.optimized.shifts.iter().map(format_shift));
    if !plan.optimized.new_biases.is_empty() {
        head.push("\n# Biases for nodes that had none.\n[new_biases]".to_owned());
        let entry = |(output, name): (&String, &String)| format!("{} = {}", quoted(output), quoted(name));
        head.extend(plan.optimized.new_biases.iter().map(entry));
    }
    head.push(format!("\n{HEADER}[values]"));
    let middle =
        "\n# Weights: one scale for the tensor, for each index of `axis`, or for each block of it (`scale` may name an array of the file\n# of constants). zero_point is 0 where it is absent.\n[weights]".to_owned();
    let values = plan.values.iter().map(format_value);
    let weights = plan
        .weights
        .iter()
        .map(|weight| format_weight(weight, constants.is_some()));
    let lines: Vec<String> = head
        .into_iter()
        .chain(values)
        .chain([middle])
        .chain(weights)
        .collect();
    lines.join("\n") + "\n"
}

fn format_pass(record: &PassRecord) -> String {
    format!(
        "\n[[passes]]\nname = {}\nkept = {}\nevidence = {}",
        quoted(&record.pass),
        record.kept,
        quoted(&record.evidence)
    )
}

fn format_rescale(rescale: &Rescale) -> String {
    format!(
        "\n# Each member of this Concat is multiplied by 2 to the power of its exponent, and back in float after it.\n\
         [[rescales]]\nvalue = {}\naxis = {}\nrank = {}\nsizes = {:?}\nexponents = {:?}",
        quoted(&rescale.value),
        rescale.axis,
        rescale.rank,
        rescale.sizes,
        rescale.exponents
    )
}

fn format_scaling(scaling: &Scaling) -> String {
    let values: Vec<String> = scaling.values.iter().map(|name| quoted(name)).collect();
    format!(
        "\n# Each channel of these values is divided by its scale; the constants before and after them take it in.\n\
         [[scalings]]\npass = {}\nvalues = [{}]\naxis = {}\nscale = [{}]",
        quoted(&scaling.pass),
        values.join(", "),
        scaling.axis,
        numbers(&scaling.scale)
    )
}

fn format_shift(shift: &Shift) -> String {
    let values: Vec<String> = shift.values.iter().map(|name| quoted(name)).collect();
    format!(
        "\n# Each channel of these values is less by its shift, which the biases before and after them take in.\n\
         [[shifts]]\npass = {}\nvalues = [{}]\nshift = [{}]",
        quoted(&shift.pass),
        values.join(", "),
        numbers(&shift.shift)
    )
}

fn format_value(value: &ValuePlan) -> String {
    let mut fields = match &value.precision {
        Precision::Quantized(params) => {
            let mut fields = vec![format!("precision = {}", quoted(params.dtype().name()))];
            fields.extend(format_params(params));
            fields
        }
        Precision::WeightOnly(dtype) => {
            let word = weight_only_word(*dtype).unwrap_or("fp16");
            vec![format!("precision = {}", quoted(word))]
        }
        Precision::SharedWith(other) => vec![format!("shared_with = {}", quoted(other))],
        Precision::Fp16 { reason } => vec![
            "precision = \"fp16\"".to_owned(),
            format!("reason = {}", quoted(reason)),
        ],
        Precision::Float { reason } => vec![
            "precision = \"float\"".to_owned(),
            format!("reason = {}", quoted(reason)),
        ],
    };
    match &value.cast {
        Some(Cast::Fixed(params)) => {
            fields.extend(format_params(params));
            fields.push(format!("dtype = {}", quoted(params.dtype().name())));
        }
        Some(Cast::Dynamic) => fields.push(format!("dynamic = {}", quoted(DType::UInt8.name()))),
        None => {}
    }
    if let Some(range) = value.range {
        fields.push(format!("min = {}", number(range.min)));
        fields.push(format!("max = {}", number(range.max)));
    }
    fields.push(format!("unit = {}", quoted(&value.unit)));
    if !value.chosen.is_empty() {
        fields.push(format!("chosen = {}", quoted(&value.chosen)));
    }
    format!("{} = {{ {} }}", quoted(&value.name), fields.join(", "))
}

fn format_params(params: &QuantParams) -> Vec<String> {
    match params.as_per_tensor() {
        Some((scale, zero_point)) => vec![
            format!("scale = {}", number(scale)),
            format!("zero_point = {zero_point}"),
        ],
        None => {
            let mut fields = format_granularity(params.granularity());
            fields.push(format!("scale = [{}]", numbers(params.scale())));
            fields.push(format!("zero_point = {:?}", params.zero_point()));
            fields
        }
    }
}

fn format_granularity(granularity: Granularity) -> Vec<String> {
    match granularity {
        Granularity::PerTensor => Vec::new(),
        Granularity::PerChannel { axis } => vec![format!("axis = {axis}")],
        Granularity::PerBlock { axis, block_size } => {
            vec![format!("axis = {axis}"), format!("block_size = {block_size}")]
        }
    }
}

fn numbers(values: &[f32]) -> String {
    values.iter().map(|&v| number(v)).collect::<Vec<_>>().join(", ")
}

/// A weight; `has_arrays`: there is a file for the scales of blocks.
fn format_weight(weight: &WeightPlan, has_arrays: bool) -> String {
    let mut fields = vec![format!("dtype = {}", quoted(weight.params.dtype().name()))];
    fields.extend(format_granularity(weight.params.granularity()));
    fields.push(match scale_array(weight).filter(|_| has_arrays) {
        Some(array) => format!("scale = {}", quoted(&array)),
        None => format!("scale = [{}]", numbers(weight.params.scale())),
    });
    if weight.params.zero_point().iter().any(|&z| z != 0) {
        fields.push(format!("zero_point = {:?}", weight.params.zero_point()));
    }
    if !weight.outcome.is_empty() {
        fields.push(format!("outcome = {}", quoted(&weight.outcome)));
    }
    format!("{} = {{ {} }}", quoted(&weight.name), fields.join(", "))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// The shortest text that reads back as the same f32.
fn number(value: f32) -> String {
    format!("{value:?}")
}
