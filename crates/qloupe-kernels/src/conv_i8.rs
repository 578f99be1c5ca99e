//! Integer convolution over NHWC activations: u8 or s8 inputs, s8 weights, exact int32 accumulators.

use crate::{ConvGeometry, Epilogue, Isa, QuantizedSlice, QuantizedSliceMut, isa, specification};

/// An integer convolution with packed weights (symmetric: weight zero point 0).
#[derive(Clone, Debug)]
pub struct ConvI8 {
    weight: Vec<i8>,
    bias: Vec<i32>,
    oc: usize,
    ic_per_group: usize,
    kh: usize,
    kw: usize,
    group: usize,
    isa: Isa,
}

impl ConvI8 {
    /// Packs weights of shape `[oc, ic_per_group, kh, kw]` (ONNX order) and an optional bias `[oc]`.
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
        Self {
            weight: weight_oihw.to_vec(),
            bias,
            oc,
            ic_per_group,
            kh,
            kw,
            group,
            isa: isa.require(),
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
        let acc = self.accumulate(x, geometry, x_zero_point);
        epilogue.apply(&acc, self.oc, &mut out);
    }

    /// The exact accumulators, NHWC.
    pub fn accumulate(&self, x: QuantizedSlice<'_>, geometry: &ConvGeometry, x_zero_point: i32) -> Vec<i32> {
        let g = geometry;
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
        let _ = self.isa;
        specification::conv_i8(|idx| x.at(idx), x_zero_point, &self.weight, &self.bias, g)
    }

    /// No accumulator of 8-bit activations can be larger in magnitude; above `i32::MAX` overflow is possible.
    pub fn max_abs_accumulator_bound(&self) -> i64 {
        let per_channel = self.weight.len() / self.oc.max(1);
        self.weight
            .chunks(per_channel.max(1))
            .zip(&self.bias)
            .map(|(w, &bias)| {
                let sum: i64 = w.iter().map(|&w| i64::from(w).abs()).sum();
                255 * sum + i64::from(bias).abs()
            })
            .max()
            .unwrap_or(0)
    }
}
