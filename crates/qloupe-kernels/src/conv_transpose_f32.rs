//! Float transposed convolution over NHWC activations.

#[cfg(target_arch = "x86_64")]
use crate::f32::panels::Panels;
use crate::{ConvTransposeGeometry, Isa, isa, specification};

/// A float transposed convolution with packed weights.
///
/// The accumulator of an output element starts at the bias and takes the taps that reach it in the order (kh, kw, ic).
/// A tap that falls between two positions of the stride grid does not exist; one in the padding is a multiply-add with 0.
#[derive(Clone, Debug)]
pub struct ConvTransposeF32 {
    weight: Weight,
    ic: usize,
    oc: usize,
    kh: usize,
    kw: usize,
    group: usize,
}

#[derive(Clone, Debug)]
enum Weight {
    /// For the specification: the weight as given and the bias.
    Plain(Vec<f32>, Vec<f32>),
    #[cfg(target_arch = "x86_64")]
    Packed(Panels),
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
            weight: Weight::pack(isa.require(), weight, bias, (ic, oc_per_group, kh * kw, group)),
            ic,
            oc,
            kh,
            kw,
            group,
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
        match &self.weight {
            Weight::Plain(weight, bias) => {
                specification::conv_transpose_f32(x, weight, bias, geometry, clamp, out);
            }
            #[cfg(target_arch = "x86_64")]
            Weight::Packed(panels) => panels.conv_transpose(x, geometry, clamp, out),
        }
    }
}

impl Weight {
    fn pack(
        isa: Isa,
        weight: &[f32],
        bias: Vec<f32>,
        (ic, ocg, taps, group): (usize, usize, usize, usize),
    ) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let icg = ic / group;
            let packed = Panels::new(isa, (ocg, icg, group), taps * icg, &bias, |channel, k| {
                let input = channel / ocg * icg + k % icg;
                weight[(input * ocg + channel % ocg) * taps + k / icg]
            });
            if let Some(packed) = packed {
                return Self::Packed(packed);
            }
        }
        let _ = (isa, ic, ocg, taps, group);
        Self::Plain(weight.to_vec(), bias)
    }
}
