//! Integer convolution over NHWC activations: u8 or s8 inputs, s8 weights, exact int32 accumulators.

#[cfg(target_arch = "x86_64")]
use crate::i8::{
    amx::AmxConv,
    depthwise::DepthwiseI8,
    panels::{Panels, WeightShape},
    vector::{FloatScale, Output},
};
use crate::{ConvGeometry, Epilogue, Isa, QuantizedSlice, QuantizedSliceMut, isa, specification};

/// An integer convolution with packed weights.
#[derive(Clone, Debug)]
pub struct ConvI8 {
    weight: Weight,
    bias: Vec<i32>,
    oc: usize,
    ic_per_group: usize,
    kh: usize,
    kw: usize,
    group: usize,
    packed: Packed,
}

/// What activations are multiplied by, `[oc, ic_per_group, kh, kw]`.
#[derive(Clone, Debug)]
enum Weight {
    /// Weights whose zero point is 0.
    Int8(Vec<i8>),
    /// Weights less their zero points, in 9 bits.
    Difference(Vec<i16>),
}

#[derive(Clone, Debug)]
enum Packed {
    /// For the specification.
    None,
    #[cfg(target_arch = "x86_64")]
    Dense(Isa, Panels),
    #[cfg(target_arch = "x86_64")]
    Amx(AmxConv),
    #[cfg(target_arch = "x86_64")]
    Depthwise(DepthwiseI8),
}

impl ConvI8 {
    /// Packs weights of shape `[oc, ic_per_group, kh, kw]` (ONNX order), whose zero point is 0, and an optional bias `[oc]`.
    pub fn new(
        weight_oihw: &[i8],
        bias: Option<&[i32]>,
        oc: usize,
        ic_per_group: usize,
        kh: usize,
        kw: usize,
        group: usize,
    ) -> Self {
        Self::with_isa(isa(), weight_oihw, bias, oc, ic_per_group, kh, kw, group)
    }

    /// [`ConvI8::new`] for one instruction set, to compare them.
    #[doc(hidden)]
    #[expect(clippy::too_many_arguments, reason = "the dimensions of a weight")]
    pub fn with_isa(
        isa: Isa,
        weight_oihw: &[i8],
        bias: Option<&[i32]>,
        oc: usize,
        ic_per_group: usize,
        kh: usize,
        kw: usize,
        group: usize,
    ) -> Self {
        assert_eq!(
            weight_oihw.len(),
            oc * ic_per_group * kh * kw,
            "length of the weight"
        );
        let bias = bias.map_or_else(|| vec![0; oc], <[i32]>::to_vec);
        assert_eq!(bias.len(), oc, "length of the bias");
        assert!(
            group > 0 && oc.is_multiple_of(group),
            "{oc} output channels in {group} groups"
        );
        let packed = Packed::new(isa.require(), weight_oihw, &bias, (ic_per_group, kh, kw, group));
        Self {
            weight: Weight::Int8(weight_oihw.to_vec()),
            bias,
            oc,
            ic_per_group,
            kh,
            kw,
            group,
            packed,
        }
    }

    /// Packs weights `[channels, 1, kh, kw]` of a depthwise convolution with zero points, one or one for each channel, and an
    /// optional bias: `sum((x - x_zero_point) * (w - zero_point)) + bias`.
    pub fn depthwise(
        weight: &[i8],
        zero_point: &[i32],
        bias: Option<&[i32]>,
        channels: usize,
        kh: usize,
        kw: usize,
    ) -> Self {
        Self::depthwise_with_isa(isa(), weight, zero_point, bias, channels, kh, kw)
    }

    /// [`ConvI8::depthwise`] for one instruction set, to compare them.
    #[doc(hidden)]
    pub fn depthwise_with_isa(
        isa: Isa,
        weight: &[i8],
        zero_point: &[i32],
        bias: Option<&[i32]>,
        channels: usize,
        kh: usize,
        kw: usize,
    ) -> Self {
        assert_eq!(weight.len(), channels * kh * kw, "length of the weight");
        let n = zero_point.len();
        assert!(
            n == 1 || n == channels,
            "number of zero points, expected 1 or {channels}, got {n}"
        );
        let bias = bias.map_or_else(|| vec![0; channels], <[i32]>::to_vec);
        assert_eq!(bias.len(), channels, "length of the bias");
        let less = |(idx, &w): (usize, &i8)| {
            let difference = i32::from(w) - zero_point[idx / (kh * kw) % n];
            i16::try_from(difference).expect("zero points of int8 weights are int8")
        };
        let difference: Vec<i16> = weight.iter().enumerate().map(less).collect();
        #[cfg(target_arch = "x86_64")]
        let packed = DepthwiseI8::new(isa.require(), &difference, &bias, kh * kw);
        #[cfg(target_arch = "x86_64")]
        let packed = packed.map_or(Packed::None, Packed::Depthwise);
        #[cfg(not(target_arch = "x86_64"))]
        let packed = Packed::None;
        let _ = isa;
        Self {
            weight: Weight::Difference(difference),
            bias,
            oc: channels,
            ic_per_group: 1,
            kh,
            kw,
            group: channels,
            packed,
        }
    }

    /// Convolves and requantizes: `requantize(sum((x - x_zero_point) * w) + bias)`; padding holds `x_zero_point`.
    pub fn run(
        &self,
        x: QuantizedSlice<'_>,
        geometry: &ConvGeometry,
        x_zero_point: i32,
        epilogue: &Epilogue,
        mut out: QuantizedSliceMut<'_>,
    ) {
        epilogue.check(self.oc, &out);
        assert_eq!(out.len(), geometry.n_outputs(), "length of the output");
        #[cfg(target_arch = "x86_64")]
        if let Some(zero_point_before) = epilogue.float_scale() {
            self.check(x, geometry, x_zero_point);
            let scale = |multiplier: &[f32]| FloatScale {
                multiplier: multiplier.as_ptr(),
                zero_point: epilogue.zero_point as f32,
                range: (epilogue.min as f32, epilogue.max as f32),
                zero_point_before,
            };
            let bytes = out.as_mut_ptr();
            match &self.packed {
                Packed::None => {}
                Packed::Dense(isa, panels) => {
                    let multiplier = panels.padded(&epilogue.multiplier);
                    let output = Output::Quantized(bytes, scale(&multiplier));
                    self.dense(*isa, panels, x, geometry, x_zero_point, output);
                    return;
                }
                Packed::Amx(amx) => {
                    let multiplier = amx.padded(&epilogue.multiplier);
                    amx.conv(
                        x,
                        geometry,
                        x_zero_point,
                        Output::Quantized(bytes, scale(&multiplier)),
                    );
                    return;
                }
                Packed::Depthwise(depthwise) => {
                    let multiplier = depthwise.padded(&epilogue.multiplier);
                    depthwise.conv(
                        x,
                        geometry,
                        x_zero_point,
                        Output::Quantized(bytes, scale(&multiplier)),
                    );
                    return;
                }
            }
        }
        let acc = self.accumulate(x, geometry, x_zero_point);
        epilogue.apply(&acc, self.oc, &mut out);
    }

    /// The exact accumulators, NHWC.
    pub fn accumulate(&self, x: QuantizedSlice<'_>, geometry: &ConvGeometry, x_zero_point: i32) -> Vec<i32> {
        self.check(x, geometry, x_zero_point);
        match &self.packed {
            Packed::None => {
                let (x, bias) = (|idx| x.at(idx), &self.bias);
                match &self.weight {
                    Weight::Int8(w) => specification::conv_i8(x, x_zero_point, w, bias, geometry),
                    Weight::Difference(w) => specification::conv_i8(x, x_zero_point, w, bias, geometry),
                }
            }
            #[cfg(target_arch = "x86_64")]
            Packed::Dense(isa, panels) => {
                let mut out = vec![0; geometry.n_outputs()];
                let output = Output::Accumulators(out.as_mut_ptr());
                self.dense(*isa, panels, x, geometry, x_zero_point, output);
                out
            }
            #[cfg(target_arch = "x86_64")]
            Packed::Amx(amx) => {
                let mut out = vec![0; geometry.n_outputs()];
                amx.conv(x, geometry, x_zero_point, Output::Accumulators(out.as_mut_ptr()));
                out
            }
            #[cfg(target_arch = "x86_64")]
            Packed::Depthwise(depthwise) => {
                let mut out = vec![0; geometry.n_outputs()];
                depthwise.conv(x, geometry, x_zero_point, Output::Accumulators(out.as_mut_ptr()));
                out
            }
        }
    }

    fn check(&self, x: QuantizedSlice<'_>, g: &ConvGeometry, x_zero_point: i32) {
        assert_eq!(
            (g.oc, g.ic, g.kh, g.kw, g.group),
            (
                self.oc,
                self.ic_per_group * self.group,
                self.kh,
                self.kw,
                self.group
            ),
            "geometry of the weight"
        );
        assert_eq!(x.len(), g.n_inputs(), "length of the input");
        let (low, high) = x.range();
        assert!(
            (low..=high).contains(&x_zero_point),
            "zero point {x_zero_point} is outside the input dtype"
        );
    }

    /// Runs the packed weights, or others packed for a dilation that breaks kernel rows apart.
    #[cfg(target_arch = "x86_64")]
    fn dense(
        &self,
        isa: Isa,
        panels: &Panels,
        x: QuantizedSlice<'_>,
        g: &ConvGeometry,
        x_zero_point: i32,
        output: Output,
    ) {
        match &self.weight {
            Weight::Int8(weight)
                if self.group == 1 && g.dilation_w > 1 && self.kw > 1 && !panels.fits_single_taps() =>
            {
                let shape = WeightShape {
                    oc: self.oc,
                    ic_per_group: self.ic_per_group,
                    kh: self.kh,
                    kw: self.kw,
                    group: self.group,
                };
                let single = Panels::new(isa, shape, 1, weight, &self.bias);
                single
                    .expect("invariant: the instruction set has tiles")
                    .conv(x, g, x_zero_point, output);
            }
            _ => panels.conv(x, g, x_zero_point, output),
        }
    }

    /// No accumulator of 8-bit activations can be larger in magnitude; above `i32::MAX` overflow is possible.
    pub fn max_abs_accumulator_bound(&self) -> i64 {
        fn largest<W: Copy + Into<i64>>(weight: &[W], bias: &[i32]) -> Option<i64> {
            let per_channel = weight.len() / bias.len().max(1);
            let channels = weight.chunks(per_channel.max(1)).zip(bias);
            let bounds = channels.map(|(w, &bias)| {
                let sum: i64 = w.iter().map(|&w| w.into().abs()).sum();
                255 * sum + i64::from(bias).abs()
            });
            bounds.max()
        }
        let largest = match &self.weight {
            Weight::Int8(weight) => largest(weight, &self.bias),
            Weight::Difference(weight) => largest(weight, &self.bias),
        };
        largest.unwrap_or(0)
    }
}

impl Packed {
    fn new(
        isa: Isa,
        weight: &[i8],
        bias: &[i32],
        (ic_per_group, kh, kw, group): (usize, usize, usize, usize),
    ) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let oc = bias.len();
            let packed = if ic_per_group == 1 && oc == group && group > 1 {
                DepthwiseI8::new(isa, weight, bias, kh * kw).map(Self::Depthwise)
            } else {
                let shape = WeightShape {
                    oc,
                    ic_per_group,
                    kh,
                    kw,
                    group,
                };
                if isa == Isa::Amx {
                    return Self::Amx(AmxConv::new(shape, weight, bias));
                }
                let taps_per_segment = if group == 1 { kw } else { 1 };
                Panels::new(isa, shape, taps_per_segment, weight, bias).map(|panels| Self::Dense(isa, panels))
            };
            if let Some(packed) = packed {
                return packed;
            }
        }
        let _ = (isa, weight, bias, ic_per_group, kh, kw, group);
        Self::None
    }
}
