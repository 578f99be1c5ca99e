//! The shapes of convolutions and pools over NHWC activations.

/// The geometry of a 2-D convolution; a 1-D one has `ih == kh == 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are the ONNX attributes and dimensions")]
pub struct ConvGeometry {
    pub n: usize,
    pub ih: usize,
    pub iw: usize,
    pub ic: usize,
    pub oc: usize,
    pub kh: usize,
    pub kw: usize,
    pub stride_h: usize,
    pub stride_w: usize,
    pub dilation_h: usize,
    pub dilation_w: usize,
    pub pad_top: usize,
    pub pad_left: usize,
    pub pad_bottom: usize,
    pub pad_right: usize,
    pub group: usize,
}

impl ConvGeometry {
    /// The geometry of a matrix product `[m, k] x [k, n]`: a 1x1 convolution over one row of pixels.
    pub(crate) fn rows(m: usize, k: usize, n: usize) -> Self {
        Self {
            n: 1,
            ih: 1,
            iw: m,
            ic: k,
            oc: n,
            kh: 1,
            kw: 1,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_left: 0,
            pad_bottom: 0,
            pad_right: 0,
            group: 1,
        }
    }

    /// Output height; 0 when the kernel is larger than the padded input.
    pub fn oh(&self) -> usize {
        let padded = self.ih + self.pad_top + self.pad_bottom;
        extent(padded, self.kh, self.stride_h, self.dilation_h)
    }

    /// Output width; 0 when the kernel is larger than the padded input.
    pub fn ow(&self) -> usize {
        let padded = self.iw + self.pad_left + self.pad_right;
        extent(padded, self.kw, self.stride_w, self.dilation_w)
    }

    /// Elements of the input.
    pub fn n_inputs(&self) -> usize {
        self.n * self.ih * self.iw * self.ic
    }

    /// Elements of the output.
    pub fn n_outputs(&self) -> usize {
        self.n * self.oh() * self.ow() * self.oc
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_padded(&self) -> bool {
        self.pad_top + self.pad_left + self.pad_bottom + self.pad_right > 0
    }
}

fn extent(padded: usize, kernel: usize, stride: usize, dilation: usize) -> usize {
    match padded.checked_sub((kernel - 1) * dilation + 1) {
        Some(slack) => slack / stride + 1,
        None => 0,
    }
}

/// The geometry of a transposed convolution: that of the convolution it transposes, with `ih`, `iw`, `ic` of its own
/// (smaller) input and `oc` of its own output, and the output padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are the ONNX attributes")]
pub struct ConvTransposeGeometry {
    pub conv: ConvGeometry,
    pub output_padding_h: usize,
    pub output_padding_w: usize,
}

impl ConvTransposeGeometry {
    /// Output height: `stride * (ih - 1) + output_padding + (kh - 1) * dilation + 1 - pads`.
    pub fn oh(&self) -> usize {
        let g = &self.conv;
        let full =
            g.stride_h * g.ih.saturating_sub(1) + self.output_padding_h + (g.kh - 1) * g.dilation_h + 1;
        full.saturating_sub(g.pad_top + g.pad_bottom)
    }

    /// Output width, as [`ConvTransposeGeometry::oh`].
    pub fn ow(&self) -> usize {
        let g = &self.conv;
        let full =
            g.stride_w * g.iw.saturating_sub(1) + self.output_padding_w + (g.kw - 1) * g.dilation_w + 1;
        full.saturating_sub(g.pad_left + g.pad_right)
    }

    /// Elements of the output.
    pub fn n_outputs(&self) -> usize {
        self.conv.n * self.oh() * self.ow() * self.conv.oc
    }
}

/// The geometry of a 2-D pool. The output size is given, because ceil mode does not follow from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are the ONNX attributes and dimensions")]
pub struct PoolGeometry {
    pub n: usize,
    pub ih: usize,
    pub iw: usize,
    pub c: usize,
    pub oh: usize,
    pub ow: usize,
    pub kh: usize,
    pub kw: usize,
    pub stride_h: usize,
    pub stride_w: usize,
    pub dilation_h: usize,
    pub dilation_w: usize,
    pub pad_top: usize,
    pub pad_left: usize,
    pub pad_bottom: usize,
    pub pad_right: usize,
}

impl PoolGeometry {
    /// Elements of the input.
    pub fn n_inputs(&self) -> usize {
        self.n * self.ih * self.iw * self.c
    }

    /// Elements of the output.
    pub fn n_outputs(&self) -> usize {
        self.n * self.oh * self.ow * self.c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_follow_onnx() {
        let conv = ConvGeometry {
            n: 1,
            ih: 224,
            iw: 2,
            ic: 3,
            oc: 8,
            kh: 3,
            kw: 3,
            stride_h: 2,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 1,
            pad_left: 0,
            pad_bottom: 1,
            pad_right: 0,
            group: 1,
        };
        assert_eq!((conv.oh(), conv.ow()), (112, 0));
        let transposed = ConvTransposeGeometry {
            conv: ConvGeometry { ih: 3, iw: 3, ..conv },
            output_padding_h: 1,
            output_padding_w: 0,
        };
        assert_eq!((transposed.oh(), transposed.ow()), (6, 5));
    }
}
