//! Float convolution over NHWC activations with weights packed once.

use crate::{ConvGeometry, Isa, isa, specification};

/// A float convolution with packed weights.
#[derive(Clone, Debug)]
pub struct ConvF32 {
    weight: Vec<f32>,
    bias: Vec<f32>,
    oc: usize,
    ic_per_group: usize,
    kh: usize,
    kw: usize,
    group: usize,
    isa: Isa,
}

impl ConvF32 {
    /// Packs weights of shape `[oc, ic_per_group, kh, kw]` (ONNX order) and an optional bias `[oc]`.
    pub fn new(
        weight_oihw: &[f32],
        bias: Option<&[f32]>,
        oc: usize,
        ic_per_group: usize,
        kh: usize,
        kw: usize,
        group: usize,
    ) -> Self {
        Self::with_isa(isa(), weight_oihw, bias, oc, ic_per_group, kh, kw, group)
    }

    /// [`ConvF32::new`] for one instruction set, to compare them.
    #[doc(hidden)]
    #[expect(clippy::too_many_arguments, reason = "the dimensions of a weight")]
    pub fn with_isa(
        isa: Isa,
        weight_oihw: &[f32],
        bias: Option<&[f32]>,
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
        let bias = bias.map_or_else(|| vec![0.0; oc], <[f32]>::to_vec);
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

    /// Convolves `x` (NHWC) into `out` (NHWC), clipped to `clamp`; `(-inf, inf)` for none. NaN stays NaN.
    pub fn run(&self, x: &[f32], geometry: &ConvGeometry, clamp: (f32, f32), out: &mut [f32]) {
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
        assert_eq!(out.len(), g.n_outputs(), "length of the output");
        let _ = self.isa;
        specification::conv_f32(x, &self.weight, &self.bias, g, clamp, out);
    }
}
