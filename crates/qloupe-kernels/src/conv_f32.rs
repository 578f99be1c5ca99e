//! Float convolution over NHWC activations with weights packed once.

use crate::chain::Blocks;
#[cfg(target_arch = "x86_64")]
use crate::f32::{depthwise::DepthwiseF32, panels::Panels};
use crate::{ConvGeometry, Isa, isa, specification};

/// A float convolution with packed weights.
#[derive(Clone, Debug)]
pub struct ConvF32 {
    weight: Weight,
    oc: usize,
    ic_per_group: usize,
    kh: usize,
    kw: usize,
    group: usize,
}

#[derive(Clone, Debug)]
enum Weight {
    /// For the specification: OIHW and the bias.
    Plain(Vec<f32>, Vec<f32>),
    #[cfg(target_arch = "x86_64")]
    Dense(Panels),
    #[cfg(target_arch = "x86_64")]
    Depthwise(DepthwiseF32),
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
            weight: Weight::pack(
                isa.require(),
                weight_oihw,
                bias,
                (oc, ic_per_group, kh, kw, group),
            ),
            oc,
            ic_per_group,
            kh,
            kw,
            group,
        }
    }

    /// Convolves `x` (NHWC) into `out` (NHWC), clipped to `clamp`; `(-inf, inf)` for none. NaN stays NaN.
    pub fn run(&self, x: &[f32], geometry: &ConvGeometry, clamp: (f32, f32), out: &mut [f32]) {
        let g = geometry;
        self.check(x, g);
        assert_eq!(out.len(), g.n_outputs(), "length of the output");
        match &self.weight {
            Weight::Plain(weight, bias) => specification::conv_f32(x, weight, bias, g, clamp, out),
            // SAFETY: `out` has the outputs of the geometry.
            #[cfg(target_arch = "x86_64")]
            Weight::Dense(panels) => unsafe { panels.conv(x, g, clamp, out.as_mut_ptr(), &|_| ()) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Weight::Depthwise(depthwise) => unsafe {
                depthwise.conv(x, g, clamp, out.as_mut_ptr(), &|_| ());
            },
        }
    }

    /// [`ConvF32::run`] into the head of a chain, whose steps follow while the outputs are hot.
    ///
    /// # Safety
    /// The buffers of the chain have the outputs of the geometry, and nobody else uses them.
    pub(crate) unsafe fn run_into(
        &self,
        x: &[f32],
        geometry: &ConvGeometry,
        clamp: (f32, f32),
        chain: &Blocks<'_>,
    ) {
        self.check(x, geometry);
        // SAFETY: the caller's; every range comes once, with its outputs written.
        unsafe {
            match &self.weight {
                Weight::Plain(weight, bias) => {
                    chain.fill(|out| specification::conv_f32(x, weight, bias, geometry, clamp, out));
                    chain.run_all();
                }
                #[cfg(target_arch = "x86_64")]
                Weight::Dense(panels) => {
                    panels.conv(x, geometry, clamp, chain.head(), &|range| chain.run(range));
                }
                #[cfg(target_arch = "x86_64")]
                Weight::Depthwise(depthwise) => {
                    depthwise.conv(x, geometry, clamp, chain.head(), &|range| chain.run(range));
                }
            }
        }
    }

    fn check(&self, x: &[f32], g: &ConvGeometry) {
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
    }
}

impl Weight {
    fn pack(
        isa: Isa,
        weight: &[f32],
        bias: Vec<f32>,
        (oc, icg, kh, kw, group): (usize, usize, usize, usize, usize),
    ) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let taps = kh * kw;
            let packed = if icg == 1 && oc == group && group > 1 {
                DepthwiseF32::new(isa, weight, &bias, taps).map(Self::Depthwise)
            } else {
                Panels::new(isa, (oc / group, icg, group), taps * icg, &bias, |channel, k| {
                    weight[(channel * icg + k % icg) * taps + k / icg]
                })
                .map(Self::Dense)
            };
            if let Some(packed) = packed {
                return packed;
            }
        }
        Self::Plain(weight.to_vec(), bias)
    }
}
