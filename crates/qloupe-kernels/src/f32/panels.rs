//! Packed float weights, and the dense kernel over them.

use super::tile::{AVX2, AVX512, Tile, Tiles};
use crate::bands::After;
use crate::buffer::Aligned;
use crate::dense::{self, DenseKernel, DenseShape, Segment, TilePlace, tile_vectors};
use crate::{ConvGeometry, Isa};

/// Weights as `[vector of output channels][k][lanes]`, zero beyond the last channel of a group.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    tiles: &'static Tiles,
    shape: DenseShape,
    weight: Aligned<f32>,
    /// From a vector to the next: one line more than the weights, so that vectors do not share cache sets.
    vector_stride: usize,
    bias: Aligned<f32>,
}

impl Panels {
    /// Packs `k` weights per output channel; `weight(output channel, k)`, k in the order of the sum.
    ///
    /// `None` for an instruction set without tiles.
    pub(crate) fn new(
        isa: Isa,
        (oc_per_group, ic_per_group, group): (usize, usize, usize),
        k: usize,
        bias: &[f32],
        weight: impl Fn(usize, usize) -> f32,
    ) -> Option<Self> {
        Self::pack(
            isa,
            (oc_per_group, ic_per_group, group),
            k,
            Some(bias),
            |channel, i, lanes| {
                for (lane, to) in lanes.iter_mut().enumerate() {
                    *to = weight(channel + lane, i);
                }
            },
        )
    }

    /// Packs the right-hand matrix `[k, n]` of a product.
    pub(crate) fn of_matrix(isa: Isa, b: &[f32], k: usize, n: usize, bias: Option<&[f32]>) -> Option<Self> {
        Self::pack(isa, (n, k, 1), k, bias, |channel, i, lanes| {
            lanes.copy_from_slice(&b[i * n + channel..][..lanes.len()]);
        })
    }

    /// Packs what `fill(first channel, k, lanes that exist)` writes.
    fn pack(
        isa: Isa,
        (oc_per_group, ic_per_group, group): (usize, usize, usize),
        k: usize,
        bias: Option<&[f32]>,
        fill: impl Fn(usize, usize, &mut [f32]),
    ) -> Option<Self> {
        let tiles = match isa {
            Isa::Scalar => return None,
            Isa::Avx2 => &AVX2,
            _ => &AVX512,
        };
        let lanes = tiles.lanes;
        let per_group = oc_per_group.div_ceil(lanes);
        let vector_stride = (k + 1) * lanes;
        let mut weight = Aligned::zeroed(per_group * group * vector_stride);
        let mut packed_bias = Aligned::zeroed(per_group * group * lanes);
        let vectors = weight.as_mut_slice().chunks_exact_mut(vector_stride);
        let biases = packed_bias.as_mut_slice().chunks_exact_mut(lanes);
        for (vector, (weights, to)) in vectors.zip(biases).enumerate() {
            let first = vector % per_group * lanes;
            let channel = vector / per_group * oc_per_group + first;
            let n_lanes = lanes.min(oc_per_group - first);
            if let Some(bias) = bias {
                to[..n_lanes].copy_from_slice(&bias[channel..][..n_lanes]);
            }
            for (i, weights) in weights.chunks_exact_mut(lanes).take(k).enumerate() {
                fill(channel, i, &mut weights[..n_lanes]);
            }
        }
        Some(Self {
            tiles,
            shape: DenseShape {
                ic_per_group,
                oc_per_group,
                lanes,
                k_step: 1,
                weight_bytes: per_group * group * k * lanes * size_of::<f32>(),
            },
            weight,
            vector_stride,
            bias: packed_bias,
        })
    }

    pub(crate) fn shape(&self) -> &DenseShape {
        &self.shape
    }

    /// Convolves into `out`; `after` is called for every part of the outputs once it is written.
    ///
    /// # Safety
    /// `out` has room for the outputs of the geometry, and nobody else uses it.
    pub(crate) unsafe fn conv(
        &self,
        x: &[f32],
        geometry: &ConvGeometry,
        clamp: (f32, f32),
        out: *mut f32,
        after: &After<'_>,
    ) {
        let kernel = Run {
            panels: self,
            clamp,
            out,
            out_stride: geometry.oc,
        };
        dense::run(&kernel, &self.shape, geometry, x, after);
    }

    /// The geometry of a product of `m` rows with the packed matrix.
    pub(crate) fn rows(&self, m: usize) -> ConvGeometry {
        ConvGeometry::rows(m, self.shape.ic_per_group, self.shape.oc_per_group)
    }
}

/// Packed weights on the way to an output.
pub(crate) struct Run<'a> {
    pub(crate) panels: &'a Panels,
    pub(crate) clamp: (f32, f32),
    pub(crate) out: *mut f32,
    /// From an output pixel of a tile to the next.
    pub(crate) out_stride: usize,
}

// SAFETY: threads write disjoint outputs through `out`, as `DenseKernel::tile` demands.
unsafe impl Sync for Run<'_> {}

impl DenseKernel<f32, f32> for Run<'_> {
    const CONVERTS: bool = false;

    fn padding(&self) -> f32 {
        0.0
    }

    fn convert(&self, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn tile_vectors(&self, n_pixels: usize, n_vectors: usize) -> usize {
        let kernels = self.panels.tiles.kernels;
        tile_vectors(
            n_pixels,
            n_vectors,
            kernels.len(),
            kernels[kernels.len() - 1].len(),
        )
    }

    fn max_pixels(&self, n_vectors: usize) -> usize {
        self.panels.tiles.kernels[n_vectors - 1].len()
    }

    unsafe fn tile(&self, segments: &[Segment<f32>], place: &TilePlace) {
        let panels = self.panels;
        let weights = panels.weight.as_slice();
        // Tiles bring the weights of the next vectors near, each a part of them.
        let (tiles, far) = (panels.tiles, place.tile_idx);
        let fetching = far.and_then(|_| tiles.fetching.get(place.n_vectors - 1)?.get(place.n_pixels - 1));
        let next = (place.vector + place.n_vectors) * panels.vector_stride;
        let soon = next + far.unwrap_or(0) * (panels.vector_stride / 2);
        let tile = Tile {
            segments,
            x_offset: place.x_offset,
            length: place.length,
            pixel_stride: place.pixel_stride,
            weight: weights[place.vector * panels.vector_stride..].as_ptr(),
            vector_stride: panels.vector_stride,
            bias: panels.bias.as_slice()[place.vector * panels.shape.lanes..].as_ptr(),
            out: self.out.wrapping_add(place.out_offset),
            out_stride: self.out_stride,
            last_lanes: place.last_lanes,
            clamp: self.clamp,
            soon: weights.as_ptr().wrapping_add(soon),
        };
        // SAFETY: the caller's promise; the panels were made for an available instruction set.
        unsafe { fetching.unwrap_or(&tiles.kernels[place.n_vectors - 1][place.n_pixels - 1])(&tile) }
    }
}
