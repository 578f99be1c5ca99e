//! Float transposed convolution over NHWC activations.

use crate::{ConvTransposeGeometry, Isa, isa, specification};

/// A float transposed convolution with packed weights.
///
/// The accumulator of an output element starts at the bias and takes the taps that reach it in the order (kh, kw, ic).
/// A tap that falls between two positions of the stride grid does not exist; one in the padding is a multiply-add with 0.
#[derive(Clone, Debug)]
pub struct ConvTransposeF32 {
    weight: Vec<f32>,
    bias: Vec<f32>,
    ic: usize,
    oc: usize,
    kh: usize,
    kw: usize,
    group: usize,
    isa: Isa,
}

impl ConvTransposeF32 {
    /// Packs weights of shape `[ic, oc_per_group, kh, kw]` (ONNX order) and an optional bias `[oc_per_group * group]`.
    pub fn new(
        weight: &[f32],
        bias: Option<&[f32]>,
        ic: usize,
        oc_per_group: usize,
        kh: usize,
        kw: usize,
        group: usize,
    ) -> Self {
        Self::with_isa(isa(), weight, bias, ic, oc_per_group, kh, kw, group)
    }

    /// [`ConvTransposeF32::new`] for one instruction set, to compare them.
    #[doc(hidden)]
    #[expect(clippy::too_many_arguments, reason = "the dimensions of a weight")]
    pub fn with_isa(
        isa: Isa,
        weight: &[f32],
        bias: Option<&[f32]>,
        ic: usize,
        oc_per_group: usize,
        kh: usize,
        kw: usize,
        group: usize,
    ) -> Self {
        let oc = oc_per_group * group;
        assert_eq!(weight.len(), ic * oc_per_group * kh * kw, "length of the weight");
        let bias = bias.map_or_else(|| vec![0.0; oc], <[f32]>::to_vec);
        assert_eq!(bias.len(), oc, "length of the bias");
        assert!(
            group > 0 && ic.is_multiple_of(group),
            "{ic} input channels in {group} groups"
        );
        Self {
            weight: weight.to_vec(),
            bias,
            ic,
            oc,
            kh,
            kw,
            group,
            isa: isa.require(),
        }
    }

    /// Computes `out` (NHWC) from `x` (NHWC), clipped to `clamp`; `(-inf, inf)` for none.
    pub fn run(&self, x: &[f32], geometry: &ConvTransposeGeometry, clamp: (f32, f32), out: &mut [f32]) {
        let g = &geometry.conv;
        assert_eq!(
            (g.oc, g.ic, g.kh, g.kw, g.group),
            (self.oc, self.ic, self.kh, self.kw, self.group),
            "geometry of the weight"
        );
        assert_eq!(x.len(), g.n_inputs(), "length of the input");
        assert_eq!(out.len(), geometry.n_outputs(), "length of the output");
        let _ = self.isa;
        specification::conv_transpose_f32(x, &self.weight, &self.bias, geometry, clamp, out);
    }
}
