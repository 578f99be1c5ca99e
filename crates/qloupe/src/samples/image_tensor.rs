//! From a picture to the tensor of an input: decode, fit, normalize, lay out, convert.

use std::path::Path;

use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::fit::{Placed, fit};
use super::input_spec::{ImageInput, InputSpec};
use super::pixels::{DecodeError, decode};
use crate::recipe::{ChannelOrder, Layout};

const N_LEVELS: usize = 256;

/// The tensor that a picture becomes, of batch 1.
pub(super) fn read_image(path: &Path, spec: &InputSpec, image: &ImageInput) -> Result<Tensor, DecodeError> {
    let picture = decode(path, image.channel_order.n_channels())?;
    let placed = fit(
        picture,
        [image.height, image.width],
        spec.recipe.resize,
        spec.recipe.interpolation,
    );
    let values = normalize(&placed, image);
    let n_channels = image.channel_order.n_channels();
    let shape = match image.layout {
        Layout::Nchw => [1, n_channels, placed.height, placed.width],
        Layout::Nhwc => [1, placed.height, placed.width, n_channels],
    };
    if spec.dtype == DType::Float32 {
        return Tensor::new(&shape, values).map_err(|error| DecodeError::Decode(error.to_string()));
    }
    let values = values.into_iter().map(f64::from).collect();
    cast(&shape, values, spec.dtype).map_err(DecodeError::Decode)
}

fn normalize(placed: &Placed, image: &ImageInput) -> Vec<f32> {
    let n_channels = image.channel_order.n_channels();
    let Placed {
        width,
        height,
        picture,
        ..
    } = placed;
    let at = |channel: usize, y: usize, x: usize| match image.layout {
        Layout::Nchw => (channel * height + y) * width + x,
        Layout::Nhwc => (y * width + x) * n_channels + channel,
    };
    let level = |channel: usize, level: u8| image.normalized[channel * N_LEVELS + usize::from(level)];
    let mut values = vec![0.0; n_channels * width * height];
    for channel in 0..n_channels {
        if let Some(fill) = placed.fill {
            for (y, x) in (0..*height).flat_map(|y| (0..*width).map(move |x| (y, x))) {
                values[at(channel, y, x)] = level(channel, fill);
            }
        }
        let source = if image.channel_order == ChannelOrder::Bgr {
            n_channels - 1 - channel
        } else {
            channel
        };
        for (row, pixels) in picture.data.chunks_exact(picture.width * n_channels).enumerate() {
            for (column, pixel) in pixels.chunks_exact(n_channels).enumerate() {
                values[at(channel, placed.top + row, placed.left + column)] = level(channel, pixel[source]);
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    fn tensor(shape: &[usize], dtype: DType, recipe: &str) -> Tensor {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image::RgbImage::from_raw(2, 1, vec![10, 20, 30, 40, 50, 60])
            .unwrap()
            .save(&path)
            .unwrap();
        let recipe = Recipe::parse(&format!("[input.x]\n{recipe}"), "").unwrap();
        let shape = shape.iter().map(|&dim| (dim > 0).then_some(dim)).collect();
        let spec = InputSpec::new("x", dtype, shape, &recipe).unwrap();
        read_image(&path, &spec, spec.image.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn pictures_become_tensors_in_layout_order_and_dtype() {
        struct Case {
            shape: &'static [usize],
            recipe: &'static str,
            expected: Tensor,
        }
        let f32s = |shape: &[usize], values: &[f32]| Tensor::new(shape, values.to_vec()).unwrap();
        let cases = [
            Case {
                shape: &[0, 3, 0, 0],
                recipe: "",
                expected: f32s(&[1, 3, 1, 2], &[10.0, 40.0, 20.0, 50.0, 30.0, 60.0]),
            },
            Case {
                shape: &[1, 1, 2, 3],
                recipe: "layout = \"nhwc\"\nchannel_order = \"bgr\"\nresize = \"letterbox\"\nsize = [1, 2]",
                expected: f32s(&[1, 1, 2, 3], &[30.0, 20.0, 10.0, 60.0, 50.0, 40.0]),
            },
            Case {
                shape: &[1, 3, 1, 2],
                recipe: "channel_order = \"bgr\"\nscale = 2\nmean = [60, 40, 20]\nstd = [1, 2, 4]",
                expected: f32s(&[1, 3, 1, 2], &[0.0, 60.0, 0.0, 30.0, 0.0, 15.0]),
            },
            Case {
                shape: &[1, 3, 1, 3],
                recipe: "resize = \"keep-height\"\nmean = 10\nstd = 10",
                expected: f32s(&[1, 3, 1, 3], &[0.0, 3.0, 0.0, 1.0, 4.0, 0.0, 2.0, 5.0, 0.0]),
            },
            Case {
                shape: &[1, 3, 1, 3],
                recipe: "resize = \"keep-height\"\npad = 7",
                expected: f32s(
                    &[1, 3, 1, 3],
                    &[10.0, 40.0, 7.0, 20.0, 50.0, 7.0, 30.0, 60.0, 7.0],
                ),
            },
        ];
        for Case {
            shape,
            recipe,
            expected,
        } in cases
        {
            assert_eq!(tensor(shape, DType::Float32, recipe), expected, "{recipe}");
        }
        let bytes = tensor(&[1, 3, 1, 2], DType::UInt8, "");
        assert_eq!(bytes.as_slice::<u8>().unwrap(), [10, 40, 20, 50, 30, 60]);
    }
}
