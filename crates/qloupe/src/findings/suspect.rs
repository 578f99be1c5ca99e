//! Units whose error is larger than it need be: a part of it goes away with plain ranges, a scale for each channel or
//! another precision.

use super::case::{severity_of_fault, severity_of_property};
use super::{Case, Pattern};
use crate::report::{Action, Cause, Finding, Layer};

/// One cause that can be avoided.
pub(super) struct Suspect {
    id: &'static str,
    title: &'static str,
    /// The cause in reports.
    source: &'static str,
    /// Whether it is about network inputs only, or never about them.
    inputs: bool,
    /// An outlier channel is a property of the network, not a mistake in the plan: it is never an error.
    is_fault: bool,
    cause: &'static str,
    fix: &'static str,
    action: fn(&Layer) -> Option<Action>,
}

pub(super) const ACTIVATION_CLIPPED: Suspect = Suspect {
    id: "activation_clipped",
    title: "values far outside of their range",
    source: "output_clipping",
    inputs: false,
    is_fault: true,
    cause: "the range is too small: values are cut off at its ends",
    fix: "calibrate on samples like these, or with min_max; in the plan: the range that was seen",
    action: whole_range,
};

pub(super) const ACTIVATION_OUTLIER_CHANNEL: Suspect = Suspect {
    id: "activation_outlier_channel",
    title: "a few channels that stretch the range of an activation",
    source: "output_spread",
    inputs: false,
    is_fault: false,
    cause: "one scale serves all channels of the activation, and a few of them are much larger: the others use few integers",
    fix: "--optimization-level 2, which moves the size of channels into the next weight; or precision = \"fp16\" for the value",
    action: in_fp16,
};

pub(super) const ACTIVATION_RANGE_WIDE: Suspect = Suspect {
    id: "activation_range_wide",
    title: "a range much wider than the values",
    source: "output_rounding",
    inputs: false,
    is_fault: true,
    cause: "the scale is too large: most of its integers are never used",
    fix: "calibrate again without the samples that stretch it, or with percentile or mse; in the plan: the range that was seen",
    action: whole_range,
};

pub(super) const BIAS_WRONG: Suspect = Suspect {
    id: "bias_wrong",
    title: "a bias that is not what its integers stand for",
    source: "bias",
    inputs: false,
    is_fault: true,
    cause: "the bias is far from that of the float model: its scale is not that of the input times that of the weight",
    fix: "quantize the bias again with scale = input scale * weight scale and zero point 0",
    action: in_float,
};

pub(super) const DEAD_CHANNEL: Suspect = Suspect {
    id: "dead_channel",
    title: "channels whose weights are all zero after quantization",
    source: "dead_channels",
    inputs: false,
    is_fault: true,
    cause: "whole channels of the weight are rounded to zero",
    fix: "one scale for each channel: --method channel",
    action: scale_for_each_channel,
};

pub(super) const FP16_OVERFLOW: Suspect = Suspect {
    id: "fp16_overflow",
    title: "numbers too large for float16",
    source: "fp16_overflow",
    inputs: false,
    is_fault: true,
    cause: "numbers beyond 65504 become infinite in float16",
    fix: "keep the value in float32: precision = \"float\" in the plan; build --precision fp16 --dataset D finds all",
    action: in_float,
};

pub(super) const FP16_UNDERFLOW: Suspect = Suspect {
    id: "fp16_underflow",
    title: "numbers too small for float16",
    source: "fp16_underflow",
    inputs: false,
    is_fault: true,
    cause: "numbers below 6e-5, for which float16 has few digits or none",
    fix: "keep the value in float32: precision = \"float\" in the plan; build --precision fp16 --dataset D finds all",
    action: in_float,
};

pub(super) const INPUT_SATURATED: Suspect = Suspect {
    id: "input_saturated",
    title: "a network input outside of its range",
    source: "output_clipping",
    inputs: true,
    is_fault: true,
    cause: "the input is cut off: the samples are not prepared as those of the calibration were",
    fix: "check mean, std, scale and channel order of the recipe, and that calibration and test samples are fed alike",
    action: whole_range,
};

pub(super) const OUTLIER_CHANNEL: Suspect = Suspect {
    id: "outlier_channel",
    title: "one scale for channels of very different size",
    source: "weight_spread",
    inputs: false,
    is_fault: false,
    cause: "one scale serves all channels of the weight: small channels are rounded away beside large ones",
    fix: "one scale for each channel (--method channel), or --optimization-level 2, which equalizes layers",
    action: scale_for_each_channel,
};

pub(super) const RANGE_EXCEEDED: Suspect = Suspect {
    id: "range_exceeded",
    title: "samples that reach beyond the range that was calibrated",
    source: "range_exceeded",
    inputs: false,
    is_fault: false,
    cause: "the samples of the calibration do not reach as far as these: the largest values are cut off",
    fix: "calibrate on more samples, or with min_max, which keeps the whole range; in the plan: the range that was seen",
    action: whole_range,
};

pub(super) const WEIGHT_AXIS: Suspect = Suspect {
    id: "weight_axis",
    title: "scales along another axis than the output channels",
    source: "weight_axis",
    inputs: false,
    is_fault: true,
    cause: "the scales of the weight are applied along the wrong axis",
    fix: "quantize the weight along its output channels",
    action: scale_for_each_channel,
};

pub(super) const WEIGHT_CLIPPED: Suspect = Suspect {
    id: "weight_clipped",
    title: "weights outside of what their scale can hold",
    source: "weight_clipping",
    inputs: false,
    is_fault: true,
    cause: "the scale of the weight is too small: weights are cut off",
    fix: "scale = largest weight / 127",
    action: scale_of_the_plan,
};

pub(super) const WEIGHT_SCALE_WIDE: Suspect = Suspect {
    id: "weight_scale_wide",
    title: "a weight scale much larger than the weights",
    source: "weight_rounding",
    inputs: false,
    is_fault: true,
    cause: "the scale of the weight is too large: the weights use few of its integers",
    fix: "scale = largest weight / 127",
    action: scale_of_the_plan,
};

pub(super) const WEIGHT_WRONG: Suspect = Suspect {
    id: "weight_wrong",
    title: "weights that are not those of the float model",
    source: "weight_values",
    inputs: false,
    is_fault: true,
    cause: "the weights are far from those of the float model, and no scale explains it",
    fix: "quantize the weight again from this float model; check that both models are of one training run",
    action: in_float,
};

pub(super) const ZERO_POINT_SHIFTED: Suspect = Suspect {
    id: "zero_point_shifted",
    title: "a range as wide as the values, beside them",
    source: "zero_point",
    inputs: false,
    is_fault: true,
    cause: "the zero point is wrong: the range is as wide as the values but lies beside them",
    fix: "zero_point = round(quant_min - min / scale); in the plan: the range that was seen",
    action: whole_range,
};

/// Causes that belong to the values a unit reads, or to none of its own numbers.
const NOT_OWN: &[&str] = &["input_rounding", "input_clipping", "inherited", "residual"];

impl Pattern for Suspect {
    fn id(&self) -> &'static str {
        self.id
    }

    fn title(&self) -> &'static str {
        self.title
    }

    fn is_fault(&self) -> bool {
        self.is_fault
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let layers = case.report.layers.iter();
        layers.filter_map(|layer| self.at(case, layer)).collect()
    }
}

impl Suspect {
    fn at(&self, case: &Case<'_>, layer: &Layer) -> Option<Finding> {
        let is_input = layer.op_type == "Input";
        let is_about = |cause: &&Cause| cause.source == self.source && cause.avoidable > 0.0;
        let cause = layer.causes.iter().find(is_about)?;
        // Only clipping differs between inputs and other values.
        if self.source == "output_clipping" && is_input != self.inputs {
            return None;
        }
        let own = layer
            .causes
            .iter()
            .filter(|cause| !NOT_OWN.contains(&cause.source.as_str()));
        let own: f64 = own.map(|cause| cause.share).sum();
        // With scales along another axis the bias and the requantization go wrong, too.
        let part = if self.source == "weight_axis" {
            1.0
        } else {
            (cause.avoidable / own.max(f64::MIN_POSITIVE)).min(1.0)
        };
        let effect_db = case.cost_db(layer.effect?.noise * part)?;
        let detail = if cause.detail.is_empty() {
            String::new()
        } else {
            format!("; {}", cause.detail)
        };
        let severity = if self.is_fault {
            severity_of_fault(effect_db)
        } else {
            severity_of_property(effect_db)
        };
        Some(Finding {
            id: self.id.to_owned(),
            severity: severity?,
            layer: Some(layer.name.clone()),
            cause: self.cause.to_owned(),
            evidence: format!(
                "{:.0}% of the unit's own error, {effect_db:.1} dB at the outputs{detail}",
                100.0 * part,
            ),
            fix: self.fix.to_owned(),
            effect_db: Some(effect_db),
            action: (self.action)(layer),
            tried: None,
        })
    }
}

fn whole_range(layer: &Layer) -> Option<Action> {
    Some(Action::SetRange {
        value: layer.name.clone(),
        range: layer.seen?,
    })
}

fn in_fp16(layer: &Layer) -> Option<Action> {
    Some(Action::SetPrecision {
        value: layer.name.clone(),
        precision: "fp16".to_owned(),
    })
}

fn in_float(layer: &Layer) -> Option<Action> {
    Some(Action::SetPrecision {
        value: layer.name.clone(),
        precision: "float".to_owned(),
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "one of several actions, others are optional"
)]
fn scale_for_each_channel(layer: &Layer) -> Option<Action> {
    Some(Action::RefitWeights {
        value: layer.name.clone(),
        per_channel: true,
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "one of several actions, others are optional"
)]
fn scale_of_the_plan(layer: &Layer) -> Option<Action> {
    Some(Action::RefitWeights {
        value: layer.name.clone(),
        per_channel: false,
    })
}
