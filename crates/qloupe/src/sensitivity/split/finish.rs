//! The parts of a unit's error over all samples, in words and shares.

use super::channels::{self, Outliers};
use super::{AVOIDABLE, About, Energies, Origin};
use crate::report::Cause;

/// Scales along another axis than the output channels, told however small the part is.
const WRONG_AXIS: &str = "weight_axis";
/// A part below this is not told.
const LEAST_SHARE: f64 = 0.001;
/// Elements outside of the range are told of this many samples.
const N_SAMPLES: usize = 3;
/// The width of a range differs from the values' by at most this part where only its zero point is wrong ...
const SAME_WIDTH: f64 = 0.12;
/// ... which has them stick out at one end by at least this part, and leaves as much unused at the other ...
const SHIFT: f64 = 0.03;
/// ... but for this part of the larger: other samples than those of the calibration leave some of any range unused.
const SAME_SHIFT: f64 = 0.65;
/// A range as it was calibrated is too wide for some samples from this many times the error on: three times the width.
const AVOIDABLE_OF_CALIBRATED: f64 = 9.0;
/// Values that need at most this many times a range lie a little beyond it: the samples of the calibration did not reach so far.
const A_LITTLE: f64 = 1.5;
/// Steps of 8 bits.
const N_STEPS: f64 = 255.0;

/// The energies of all samples.
#[derive(Clone, Debug, Default)]
pub(in crate::sensitivity) struct Totals {
    samples: Vec<Energies>,
}

impl Totals {
    pub(in crate::sensitivity) fn add(&mut self, sample: Energies) {
        self.samples.push(sample);
    }

    fn sum(&self, of: impl Fn(&Energies) -> f64) -> f64 {
        self.samples.iter().map(of).sum()
    }

    fn count(&self, of: impl Fn(&Energies) -> u64) -> u64 {
        self.samples.iter().map(of).sum()
    }

    /// The causes of the local error, the largest first, then what they do not explain.
    pub(in crate::sensitivity) fn causes(&self, about: &About) -> Vec<Cause> {
        let reference = self.sum(|e| e.reference);
        let local = self.sum(|e| e.local);
        if local <= 0.0 {
            return Vec::new();
        }
        let outliers = self.outliers();
        let spread = self.spread(outliers.as_ref());
        let sqnr_db = |energy: f64| 10.0 * (reference / energy.max(f64::MIN_POSITIVE)).log10();
        let mut causes: Vec<Cause> = Origin::ALL
            .iter()
            .map(|&origin| {
                let energy = self.energy(origin, spread);
                Cause {
                    source: self.name_of(origin, about).to_owned(),
                    share: energy / local,
                    avoidable: self.avoidable(origin, about) * energy / local,
                    sqnr_db: sqnr_db(energy),
                    detail: self.detail(origin, about, outliers.as_ref()),
                }
            })
            .filter(|cause| cause.share >= LEAST_SHARE || cause.source == WRONG_AXIS)
            .collect();
        let explained: f64 = causes.iter().map(|cause| cause.share).sum();
        causes.sort_by(|a, b| b.share.total_cmp(&a.share));
        causes.push(Cause {
            source: "residual".to_owned(),
            share: 1.0 - explained,
            avoidable: 0.0,
            sqnr_db: sqnr_db((1.0 - explained).abs() * local),
            detail: "errors that add up to more, or less, than each by itself".to_owned(),
        });
        causes
    }

    /// What one source does by itself, where `spread` is what a few channels add to the rounding of the output.
    fn energy(&self, origin: Origin, spread: f64) -> f64 {
        match origin {
            Origin::OutputRounding => self.part(origin) - spread,
            Origin::OutputSpread => spread,
            other => self.part(other),
        }
    }

    fn part(&self, origin: Origin) -> f64 {
        self.sum(|e| e.parts[origin as usize])
    }

    /// What the channels that stretch the range of the values add to the rounding of the output, which grows with the square
    /// of the step. What a range does that is wider than the values is not theirs.
    fn spread(&self, outliers: Option<&Outliers>) -> f64 {
        let narrow = outliers.map_or(1.0, |outliers| outliers.times.powi(-2));
        (1.0 - narrow) * self.part(Origin::OutputRounding).min(self.plain_rounding())
    }

    /// Rounding of the output with a scale of the whole range of these samples.
    fn plain_rounding(&self) -> f64 {
        let (min, max) = self.range().unwrap_or_default();
        let step = (f64::from(max.max(0.0)) - f64::from(min.min(0.0))) / N_STEPS;
        self.count(|e| e.n_nonzero) as f64 * step * step / 12.0
    }

    /// The channels that stretch the range of the output.
    fn outliers(&self) -> Option<Outliers> {
        let mut ranges = Vec::new();
        for sample in &self.samples {
            channels::merge(&mut ranges, &sample.channels);
        }
        channels::outliers(&ranges)
    }

    /// The part of one source's error that plain ranges, scales for each channel or another precision avoid.
    fn avoidable(&self, origin: Origin, about: &About) -> f64 {
        let beyond = |excess: f64| {
            if excess > AVOIDABLE {
                1.0 - 1.0 / excess
            } else {
                0.0
            }
        };
        match origin {
            Origin::WeightRounding | Origin::WeightClipping if about.weights.wrong_axis.is_some() => {
                (1.0 - 1.0 / about.weights.excess).max(0.0)
            }
            Origin::WeightRounding | Origin::WeightClipping => beyond(about.weights.excess),
            Origin::WeightSpread => {
                let rounding = self.part(Origin::WeightRounding).max(f64::MIN_POSITIVE);
                beyond(1.0 + self.part(Origin::WeightSpread) / rounding)
            }
            Origin::Bias => beyond(about.bias_excess),
            // The scale is right; what sticks out at one end is all that the zero point costs.
            Origin::OutputRounding if about.is_beside_calibrated() => 0.0,
            Origin::OutputClipping if about.is_beside_calibrated() => 1.0,
            Origin::OutputClipping if self.is_exceeded(about) => beyond(self.output_excess(origin, about)),
            Origin::OutputRounding | Origin::OutputClipping => {
                let excess = self.output_excess(origin, about);
                // Other samples than these may need the range that was calibrated.
                if about.has_calibrated_range() && excess <= AVOIDABLE_OF_CALIBRATED {
                    0.0
                } else {
                    beyond(excess)
                }
            }
            Origin::Fp16Overflow | Origin::Fp16Underflow | Origin::OutputSpread | Origin::Computation => 1.0,
            _ => 0.0,
        }
    }

    /// The error that one source makes at the output over that of a scale of the whole range of these samples. A range that
    /// is too narrow rounds finely: what its clipping costs counts with what it rounds.
    fn output_excess(&self, origin: Origin, about: &About) -> f64 {
        if about.params.is_none() || self.range().is_none() {
            return 0.0;
        }
        let rounding = self.part(Origin::OutputRounding);
        let error = match origin {
            Origin::OutputClipping => rounding + self.part(Origin::OutputClipping),
            _ => rounding,
        };
        error / self.plain_rounding().max(f64::MIN_POSITIVE)
    }

    /// The smallest and the largest golden value.
    pub(in crate::sensitivity) fn range(&self) -> Option<(f32, f32)> {
        let seen = self.samples.iter().filter_map(|e| e.range);
        seen.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    fn detail(&self, origin: Origin, about: &About, outliers: Option<&Outliers>) -> String {
        match origin {
            Origin::OutputSpread => outliers.map_or_else(String::new, |outliers| {
                format!(
                    "channels {} make the range {:.1} times as wide as all others need it",
                    list(&outliers.channels),
                    outliers.times
                )
            }),
            Origin::WeightSpread => format!(
                "one scale for all channels; those that lose most: {}",
                list(&about.weights.worst_channels)
            ),
            Origin::WeightClipping => format!(
                "{} of {} weights are outside, in channels {}",
                about.weights.n_clipped,
                about.weights.n_weights,
                list(&about.weights.clipped_channels)
            ),
            Origin::WeightRounding if about.has_other_weights() => {
                "the weights are not those of the float model: no scale rounds to them".to_owned()
            }
            Origin::WeightRounding => match about.weights.wrong_axis {
                Some((axis, expected)) => {
                    format!("the scales lie along axis {axis}, expected the output channels, axis {expected}")
                }
                None if !about.weights.dead_channels.is_empty() => format!(
                    "nothing is left of channels {}",
                    list(&about.weights.dead_channels)
                ),
                None if about.weights.reach > 2.0 => format!(
                    "a scale reaches {:.1} times as far as the largest weight",
                    about.weights.reach
                ),
                None => String::new(),
            },
            Origin::OutputRounding => self.wide_range(about),
            Origin::OutputClipping | Origin::Fp16Overflow => {
                self.outside(self.count(|e| e.n_clipped), self.count(|e| e.n_outputs), |e| {
                    e.n_clipped
                })
            }
            Origin::InputClipping => self.outside(
                self.count(|e| e.n_inputs_clipped),
                self.count(|e| e.n_inputs),
                |e| e.n_inputs_clipped,
            ),
            Origin::Bias if about.bias_excess > AVOIDABLE => format!(
                "{:.0} times the error that rounding to its scale makes",
                about.bias_excess.sqrt()
            ),
            _ => String::new(),
        }
    }

    fn name_of(&self, origin: Origin, about: &About) -> &'static str {
        match origin {
            Origin::WeightRounding | Origin::WeightClipping if about.weights.wrong_axis.is_some() => {
                WRONG_AXIS
            }
            Origin::WeightRounding if !about.weights.dead_channels.is_empty() => "dead_channels",
            Origin::WeightRounding if about.has_other_weights() => "weight_values",
            Origin::WeightRounding => "weight_rounding",
            Origin::WeightClipping => "weight_clipping",
            Origin::WeightSpread => "weight_spread",
            Origin::Bias => "bias",
            Origin::InputRounding => "input_rounding",
            Origin::InputClipping => "input_clipping",
            Origin::OutputRounding => "output_rounding",
            Origin::OutputClipping if self.is_shifted(about) => "zero_point",
            Origin::OutputClipping if self.is_exceeded(about) => "range_exceeded",
            Origin::OutputClipping => "output_clipping",
            Origin::OutputSpread => "output_spread",
            Origin::Arithmetic if about.is_product => "requantize",
            Origin::Arithmetic => "lut",
            Origin::Fp16Rounding => "fp16_rounding",
            Origin::Fp16Overflow => "fp16_overflow",
            Origin::Fp16Underflow => "fp16_underflow",
            Origin::Computation => "computation",
        }
    }

    /// True where the range of the output is about as wide as the values but lies beside them.
    fn is_shifted(&self, about: &About) -> bool {
        let (Some((min, max)), Some(params)) = (self.range(), about.per_tensor_params()) else {
            return false;
        };
        let (min, max) = (f64::from(min.min(0.0)), f64::from(max.max(0.0)));
        let (low, high) = params.real_range(0);
        let width = high - low;
        // A plan that tells the range it was made from says which of both is wrong.
        match about.has_calibrated_scale() {
            Some(false) => return false,
            Some(true) if about.is_beside_calibrated() => return true,
            _ => (),
        }
        let (below, above) = ((low - min) / width, (max - high) / width);
        let is_as_wide = (below + above).abs() < SAME_WIDTH;
        let (less, more) = (below.abs().min(above.abs()), below.abs().max(above.abs()));
        is_as_wide && less > SHIFT && less >= SAME_SHIFT * more && below * above < 0.0
    }

    /// True where values lie outside of a range that was calibrated and not changed since: a little, or in few of the samples.
    fn is_exceeded(&self, about: &About) -> bool {
        let (Some((min, max)), Some(params)) = (self.range(), about.per_tensor_params()) else {
            return false;
        };
        let is_known = about.calibrated.is_some();
        if is_known && !about.has_calibrated_range() {
            return false;
        }
        let (low, high) = params.real_range(0);
        let needed = (f64::from(max).max(high) - f64::from(min).min(low)) / (high - low);
        let n_clipped = self.samples.iter().filter(|sample| sample.n_clipped > 0).count();
        n_clipped > 0 && (needed <= A_LITTLE || (is_known && 2 * n_clipped <= self.samples.len()))
    }

    fn outside(&self, clipped: u64, all: u64, of: impl Fn(&Energies) -> u64) -> String {
        let mut samples: Vec<usize> = (0..self.samples.len())
            .filter(|&i| of(&self.samples[i]) > 0)
            .collect();
        samples.sort_by_key(|&i| std::cmp::Reverse(of(&self.samples[i])));
        samples.truncate(N_SAMPLES);
        let percent = 100.0 * clipped as f64 / all.max(1) as f64;
        format!(
            "{percent:.3}% of elements are outside, most in samples {}",
            list(&samples)
        )
    }

    /// Where the range of the output is wider than the values.
    fn wide_range(&self, about: &About) -> String {
        let (Some((min, max)), Some(params)) = (self.range(), about.per_tensor_params()) else {
            return String::new();
        };
        let (low, high) = params.real_range(0);
        let step = params.scale()[0];
        // Ranges hold 0.
        let used = f64::from(max.max(0.0)) - f64::from(min.min(0.0));
        let times = (high - low) / used.max(f64::MIN_POSITIVE);
        if times > 2.0 {
            format!(
                "the range is {times:.1} times as wide as the values {min:.4} to {max:.4}; a step is {step:.4}"
            )
        } else {
            format!("a step is {step:.4}, the values span {min:.4} to {max:.4}")
        }
    }
}

fn list(numbers: &[usize]) -> String {
    const MAX: usize = 6;
    let shown: Vec<String> = numbers.iter().take(MAX).map(ToString::to_string).collect();
    let more = if numbers.len() > MAX { ", .." } else { "" };
    format!("{}{more}", shown.join(", "))
}
