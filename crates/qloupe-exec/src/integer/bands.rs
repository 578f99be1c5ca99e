//! Bands of output rows of a convolution: what lies between its sums and its outputs stays in the cache.

use std::ops::Range;

use qloupe_kernels::ConvGeometry;

/// Output elements of a band, for each thread: their sums and real numbers fit into the L2 cache.
const MAX_OUTPUTS: usize = 1 << 16;

/// Some output rows of one image, or some images.
#[derive(Debug)]
pub(super) struct Band {
    /// The convolution that gives these rows alone.
    pub(super) geometry: ConvGeometry,
    /// The elements of the input that it reads.
    pub(super) inputs: Range<usize>,
    /// The elements of the output.
    pub(super) outputs: Range<usize>,
}

impl Band {
    /// All rows of all images.
    pub(super) fn whole(g: &ConvGeometry) -> Self {
        Self {
            geometry: *g,
            inputs: 0..g.n_inputs(),
            outputs: 0..g.n_outputs(),
        }
    }

    /// The shape of the output, NHWC.
    pub(super) fn shape(&self) -> [usize; 4] {
        let g = &self.geometry;
        [g.n, g.oh(), g.ow(), g.oc]
    }
}

/// The bands of a convolution, in the order of its output; a single one where it is small, or where some rows lie in the
/// padding altogether.
pub(super) fn bands(g: &ConvGeometry) -> Vec<Band> {
    let most = MAX_OUTPUTS * rayon::current_num_threads();
    if g.n_outputs() > most
        && let Some(bands) = bands_of(g, most)
    {
        return bands;
    }
    vec![Band::whole(g)]
}

fn bands_of(g: &ConvGeometry, most: usize) -> Option<Vec<Band>> {
    let (oh, row) = (g.oh(), g.ow() * g.oc);
    let mut bands = Vec::new();
    let (image_in, image_out) = (g.ih * g.iw * g.ic, oh * row);
    if image_out <= most {
        let n_images = most / image_out.max(1);
        for first in (0..g.n).step_by(n_images) {
            let end = (first + n_images).min(g.n);
            bands.push(Band {
                geometry: ConvGeometry { n: end - first, ..*g },
                inputs: first * image_in..end * image_in,
                outputs: first * image_out..end * image_out,
            });
        }
        return Some(bands);
    }
    let n_rows = (most / row.max(1)).max(1);
    for image in 0..g.n {
        for first in (0..oh).step_by(n_rows) {
            let end = (first + n_rows).min(oh);
            // Rows of the padded image.
            let top = first * g.stride_h;
            let bottom = (end - 1) * g.stride_h + (g.kh - 1) * g.dilation_h + 1;
            let inside = |row: usize| row.saturating_sub(g.pad_top).min(g.ih);
            let (first_in, end_in) = (inside(top), inside(bottom));
            if first_in == end_in {
                return None;
            }
            let in_row = |row: usize| (image * g.ih + row) * g.iw * g.ic;
            bands.push(Band {
                geometry: ConvGeometry {
                    n: 1,
                    ih: end_in - first_in,
                    pad_top: g.pad_top.saturating_sub(top),
                    pad_bottom: bottom.saturating_sub(g.pad_top + g.ih),
                    ..*g
                },
                inputs: in_row(first_in)..in_row(end_in),
                outputs: (image * oh + first) * row..(image * oh + end) * row,
            });
        }
    }
    Some(bands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_the_output_and_read_what_their_rows_need() {
        let g = ConvGeometry {
            n: 2,
            ih: 9,
            iw: 4,
            ic: 3,
            oc: 5,
            kh: 3,
            kw: 3,
            stride_h: 2,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 1,
            pad_left: 1,
            pad_bottom: 1,
            pad_right: 1,
            group: 1,
        };
        assert_eq!(bands(&g).len(), 1, "small");
        let row = g.ow() * g.oc;
        let bands = bands_of(&g, 2 * row).unwrap();
        assert!(
            bands
                .windows(2)
                .all(|pair| pair[0].outputs.end == pair[1].outputs.start)
        );
        assert_eq!(
            (bands[0].outputs.start, bands.last().unwrap().outputs.end),
            (0, g.n_outputs())
        );
        let in_row = g.iw * g.ic;
        let rows: Vec<_> = bands
            .iter()
            .map(|band| {
                assert_eq!(band.shape().iter().product::<usize>(), band.outputs.len());
                assert_eq!(band.geometry.n_inputs(), band.inputs.len());
                let b = &band.geometry;
                (
                    band.inputs.start / in_row..band.inputs.end / in_row,
                    b.pad_top,
                    b.pad_bottom,
                )
            })
            .collect();
        // Output rows 0-1, 2-3 and 4 of each image.
        let of_image = |at: usize| [(at..at + 4, 1, 0), (at + 3..at + 8, 0, 0), (at + 7..at + 9, 0, 1)];
        assert_eq!(rows, [of_image(0), of_image(9)].concat());
        let images: Vec<_> = bands_of(&ConvGeometry { n: 5, ..g }, 2 * g.oh() * row)
            .unwrap()
            .into_iter()
            .map(|band| {
                (
                    band.shape()[0],
                    band.inputs.len() / in_row,
                    band.outputs.start / row,
                )
            })
            .collect();
        assert_eq!(
            images,
            [(2, 18, 0), (2, 18, 10), (1, 9, 20)],
            "whole images where they are small"
        );
        let far = ConvGeometry { pad_top: 9, ..g };
        assert!(bands_of(&far, row).is_none(), "rows in the padding");
    }
}
