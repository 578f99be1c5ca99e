//! Packed integer weights, and the dense kernel over them.

use std::borrow::Cow;

use super::folded_bias::{FoldedBias, padded};
use super::tile::{AVX2, Tile, Tiles, VNNI};
use super::vector::Output;
use crate::buffer::Aligned;
use crate::dense::{self, DenseKernel, DenseShape, Segment, TilePlace, tile_vectors};
use crate::{ConvGeometry, Isa, QuantizedSlice};

/// Weights as `[vector of output channels][k step][lanes]` of 32 bits, zero beyond the last channel of a group and
/// beyond the end of a segment of K.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    tiles: AnyTiles,
    shape: DenseShape,
    weight: Aligned<i32>,
    vector_stride: usize,
    bias: FoldedBias,
    group: usize,
}

#[derive(Clone, Copy, Debug)]
enum AnyTiles {
    Vnni(Tiles<u8>),
    Avx2(Tiles<i16>),
}

/// The dimensions of weights in ONNX order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightShape {
    pub(crate) oc: usize,
    pub(crate) ic_per_group: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) group: usize,
}

impl Panels {
    /// Packs OIHW weights for kernel rows of which `taps_per_segment` taps are contiguous in memory.
    ///
    /// `None` for an instruction set without tiles.
    pub(crate) fn new(
        isa: Isa,
        shape: WeightShape,
        taps_per_segment: usize,
        weight: &[i8],
        bias: &[i32],
    ) -> Option<Self> {
        let (tiles, lanes, k_step) = match isa {
            Isa::Scalar => return None,
            Isa::Avx2 | Isa::Avx512 => (AnyTiles::Avx2(AVX2), 8, 2),
            Isa::Vnni | Isa::Amx => (AnyTiles::Vnni(VNNI), 16, 4),
        };
        let icg = shape.ic_per_group;
        let taps = shape.kh * shape.kw;
        let segment_steps = (taps_per_segment * icg).div_ceil(k_step);
        let n_steps = segment_steps * (taps / taps_per_segment);
        let oc_per_group = shape.oc / shape.group;
        let per_group = oc_per_group.div_ceil(lanes);
        let vector_stride = (n_steps + 1) * lanes;
        let mut packed = Aligned::zeroed(per_group * shape.group * vector_stride);
        let mut packed_bias = Aligned::zeroed(per_group * shape.group * lanes);
        let mut weight_sum = vec![0_i32; packed_bias.as_slice().len()];
        for channel in 0..shape.oc {
            let in_group = channel % oc_per_group;
            let vector = channel / oc_per_group * per_group + in_group / lanes;
            let lane = in_group % lanes;
            let own = &weight[channel * taps * icg..][..taps * icg];
            weight_sum[vector * lanes + lane] = own.iter().map(|&w| i32::from(w)).sum();
            packed_bias.as_mut_slice()[vector * lanes + lane] = bias[channel];
            let to = &mut packed.as_mut_slice()[vector * vector_stride..];
            for tap in 0..taps {
                for i in 0..icg {
                    let in_segment = tap % taps_per_segment * icg + i;
                    let step = tap / taps_per_segment * segment_steps + in_segment / k_step;
                    let bits = 32 / k_step;
                    let w = i32::from(own[i * taps + tap]) & (((1_i64 << bits) - 1) as i32);
                    to[step * lanes + lane] |= w << (in_segment % k_step * bits);
                }
            }
        }
        Some(Self {
            tiles,
            shape: DenseShape {
                ic_per_group: icg,
                oc_per_group,
                lanes,
                k_step,
                weight_bytes: size_of_val(packed.as_slice()),
            },
            weight: packed,
            vector_stride,
            bias: FoldedBias::new(packed_bias, weight_sum),
            group: shape.group,
        })
    }

    /// True when weights packed for whole kernel rows are also right tap by tap.
    pub(crate) fn fits_single_taps(&self) -> bool {
        self.shape.ic_per_group.is_multiple_of(self.shape.k_step)
    }

    /// Multipliers of the channels as [`Panels::conv`] reads them.
    pub(crate) fn padded<'a>(&self, values: &'a [f32]) -> Cow<'a, [f32]> {
        let shape = &self.shape;
        let per_group = shape.vectors_per_group() * shape.lanes;
        padded(values, shape.oc_per_group * self.group, self.group, per_group)
    }

    /// Convolves into `output`, whose multipliers are [`Panels::padded`].
    pub(crate) fn conv(
        &self,
        x: QuantizedSlice<'_>,
        geometry: &ConvGeometry,
        x_zero_point: i32,
        output: Output,
    ) {
        // A byte kernel sees s8 shifted by 128; a 16-bit kernel sees differences from the zero point.
        let folded = match (self.tiles, x) {
            (AnyTiles::Avx2(_), _) => 0,
            (AnyTiles::Vnni(_), QuantizedSlice::U8(_)) => x_zero_point,
            (AnyTiles::Vnni(_), QuantizedSlice::I8(_)) => x_zero_point + 128,
        };
        let bias = self.bias.of(folded);
        let out_stride = geometry.oc;
        let (panels, bias) = (self, &*bias);
        match self.tiles {
            AnyTiles::Vnni(tiles) => {
                let run = Run {
                    panels,
                    bias,
                    tiles,
                    x_zero_point: folded,
                    output,
                    out_stride,
                };
                match x {
                    QuantizedSlice::U8(x) => dense::run::<u8, u8, _>(&run, &self.shape, geometry, x, &|_| ()),
                    QuantizedSlice::I8(x) => dense::run::<i8, u8, _>(&run, &self.shape, geometry, x, &|_| ()),
                }
            }
            AnyTiles::Avx2(tiles) => {
                let run = Run {
                    panels,
                    bias,
                    tiles,
                    x_zero_point,
                    output,
                    out_stride,
                };
                match x {
                    QuantizedSlice::U8(x) => {
                        dense::run::<u8, i16, _>(&run, &self.shape, geometry, x, &|_| ())
                    }
                    QuantizedSlice::I8(x) => {
                        dense::run::<i8, i16, _>(&run, &self.shape, geometry, x, &|_| ())
                    }
                }
            }
        }
    }
}

struct Run<'a, X: 'static> {
    panels: &'a Panels,
    bias: &'a [i32],
    tiles: Tiles<X>,
    x_zero_point: i32,
    output: Output,
    out_stride: usize,
}

impl<X> Run<'_, X> {
    unsafe fn call(&self, segments: &[Segment<X>], place: &TilePlace) {
        let panels = self.panels;
        let lanes = panels.shape.lanes;
        let tile = Tile {
            segments,
            x_offset: place.x_offset,
            n_steps: place.length.div_ceil(panels.shape.k_step),
            pixel_stride: place.pixel_stride,
            weight: panels.weight.as_slice()[place.vector * panels.vector_stride..].as_ptr(),
            vector_stride: panels.vector_stride,
            bias: self.bias[place.vector * lanes..].as_ptr(),
            output: self.output,
            out_offset: place.out_offset,
            out_stride: self.out_stride,
            padded_channel: place.vector * lanes,
            last_lanes: place.last_lanes,
        };
        // SAFETY: the caller's promise; the panels were made for an available instruction set.
        unsafe { self.tiles[place.n_vectors - 1][place.n_pixels - 1](&tile) }
    }
}

macro_rules! kernel {
    ($from:ty, $x:ty, $converts:literal, $run:ident => $padding:expr, $value:ident => $convert:expr) => {
        impl DenseKernel<$from, $x> for Run<'_, $x> {
            const CONVERTS: bool = $converts;

            fn padding(&self) -> $x {
                let $run = self;
                $padding
            }

            fn convert(&self, from: &[$from], to: &mut [$x]) {
                let $run = self;
                for (to, &$value) in to.iter_mut().zip(from) {
                    *to = $convert;
                }
            }

            fn tile_vectors(&self, n_pixels: usize, n_vectors: usize) -> usize {
                tile_vectors(
                    n_pixels,
                    n_vectors,
                    self.tiles.len(),
                    self.tiles[self.tiles.len() - 1].len(),
                )
            }

            fn max_pixels(&self, n_vectors: usize) -> usize {
                self.tiles[n_vectors - 1].len()
            }

            unsafe fn tile(&self, segments: &[Segment<$x>], place: &TilePlace) {
                // SAFETY: the caller's.
                unsafe { self.call(segments, place) }
            }
        }
    };
}

kernel!(u8, u8, false, run => run.x_zero_point as u8, x => { let _ = run; x });
kernel!(i8, u8, true, run => run.x_zero_point as u8, x => { let _ = run; (x as u8) ^ 0x80 });
kernel!(u8, i16, true, run => { let _ = run; 0 }, x => i16::from(x) - run.x_zero_point as i16);
kernel!(i8, i16, true, run => { let _ = run; 0 }, x => i16::from(x) - run.x_zero_point as i16);
