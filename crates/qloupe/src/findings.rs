//! What is wrong, said in words: known patterns, each in a file, with evidence from this model and what to do about it.
//!
//! The most severe come first, and among those what costs most at the network outputs.

mod case;
mod concat_member_lost;
mod constant_channel;
mod cut_head;
mod dead_output;
mod decomposed_layer_norm;
mod dfl_head;
mod different_computation;
mod fallback_cast;
mod gate_range;
mod huge_mask;
mod not_finite;
mod quantizer_settings;
mod second_consumer;
mod shared_scale;
mod squeeze_excite;
mod suspect;
mod swish_range;
#[cfg(test)]
mod tests;

use crate::report::Finding;

pub use case::Case;

/// A way in which accuracy is lost.
pub trait Pattern: Sync {
    /// The id that its findings have.
    fn id(&self) -> &'static str;
    /// One line for lists.
    fn title(&self) -> &'static str;
    /// True for a mistake in a plan or in what was made of it; false for a property of the network, which is lived with.
    fn is_fault(&self) -> bool {
        false
    }
    /// Where the pattern is.
    fn find(&self, case: &Case<'_>) -> Vec<Finding>;
}

/// Every pattern, by id.
pub const PATTERNS: &[&dyn Pattern] = &[
    &suspect::ACTIVATION_CLIPPED,
    &suspect::ACTIVATION_OUTLIER_CHANNEL,
    &suspect::ACTIVATION_RANGE_WIDE,
    &suspect::BIAS_WRONG,
    &concat_member_lost::ConcatMemberLost,
    &constant_channel::ConstantChannel,
    &cut_head::CutHead,
    &suspect::DEAD_CHANNEL,
    &dead_output::DeadOutput,
    &decomposed_layer_norm::DecomposedLayerNorm,
    &dfl_head::DflHead,
    &different_computation::DifferentComputation,
    &fallback_cast::FallbackCast,
    &suspect::FP16_OVERFLOW,
    &suspect::FP16_UNDERFLOW,
    &gate_range::GateRange,
    &huge_mask::HugeMask,
    &suspect::INPUT_SATURATED,
    &not_finite::NotFinite,
    &suspect::OUTLIER_CHANNEL,
    &quantizer_settings::QuantizerSettings,
    &suspect::RANGE_EXCEEDED,
    &second_consumer::SecondConsumer,
    &shared_scale::SharedScale,
    &squeeze_excite::SqueezeExcite,
    &swish_range::SwishRange,
    &suspect::WEIGHT_AXIS,
    &suspect::WEIGHT_CLIPPED,
    &suspect::WEIGHT_SCALE_WIDE,
    &suspect::WEIGHT_WRONG,
    &suspect::ZERO_POINT_SHIFTED,
];

/// The findings of a report, the most severe first.
pub(crate) fn find(case: &Case<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = PATTERNS.iter().flat_map(|pattern| pattern.find(case)).collect();
    sort(&mut found);
    found
}

/// The most severe first; of one severity mistakes before properties of the network, as they are free to put right; and of
/// those what costs most.
pub fn sort(findings: &mut [Finding]) {
    let cost = |finding: &Finding| finding.effect_db.unwrap_or(0.0);
    let is_property = |finding: &Finding| {
        let mut patterns = PATTERNS.iter();
        patterns.any(|pattern| pattern.id() == finding.id && !pattern.is_fault())
    };
    findings.sort_by(|a, b| {
        let by_kind = is_property(a).cmp(&is_property(b));
        a.severity
            .cmp(&b.severity)
            .then(by_kind)
            .then(cost(b).total_cmp(&cost(a)))
    });
}
