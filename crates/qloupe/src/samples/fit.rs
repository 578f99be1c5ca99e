//! Owns the geometry: how a picture gets the size of the input.

use super::pixels::Pixels;
use super::resize::{Interpolation, resize};
use crate::recipe::Resize;

/// A picture placed on a canvas of the input's size; what it does not cover is filled.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) picture: Pixels,
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    /// The level that fills; `None`: 0 after normalization.
    pub(super) fill: Option<u8>,
}

/// Gives a picture the size of the input; an open height or width is the picture's own.
///
/// # Source
/// Letterbox: Ultralytics `LetterBox` (ratio, rounding, 114), with Pillow's filters in place of OpenCV's.
/// Center-crop: torchvision `Resize(short_side)` and `CenterCrop`. Keep-height: PaddleOCR `resize_norm_img`, with
/// Pillow's filters.
pub(super) fn fit(
    picture: Pixels,
    [height, width]: [Option<usize>; 2],
    mode: Resize,
    interpolation: Interpolation,
) -> Placed {
    let own_height = height.unwrap_or(picture.height);
    let own_width = width.unwrap_or(picture.width);
    match mode {
        Resize::Stretch => whole(resize(&picture, own_width, own_height, interpolation)),
        Resize::Letterbox { pad } => {
            let box_ = letterbox([picture.height, picture.width], [own_height, own_width]);
            Placed {
                picture: resize(&picture, box_.width, box_.height, interpolation),
                left: box_.left,
                top: box_.top,
                width: own_width,
                height: own_height,
                fill: Some(pad),
            }
        }
        Resize::CenterCrop { short_side } => {
            let [resized_height, resized_width] =
                short_side_size([picture.height, picture.width], short_side);
            let resized = resize(&picture, resized_width, resized_height, interpolation);
            whole(crop_centre(&resized, own_height, own_width))
        }
        Resize::KeepHeight { pad } => {
            let by_ratio = ratio_width([picture.height, picture.width], own_height);
            let canvas = width.unwrap_or(by_ratio);
            Placed {
                picture: resize(&picture, by_ratio.min(canvas), own_height, interpolation),
                left: 0,
                top: 0,
                width: canvas,
                height: own_height,
                fill: pad,
            }
        }
    }
}

fn whole(picture: Pixels) -> Placed {
    Placed {
        left: 0,
        top: 0,
        width: picture.width,
        height: picture.height,
        fill: None,
        picture,
    }
}

#[derive(Debug, PartialEq)]
struct LetterBox {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "sizes of pictures are far below 2^52 and not negative"
)]
fn letterbox([height, width]: [usize; 2], [box_height, box_width]: [usize; 2]) -> LetterBox {
    let ratio = (box_height as f64 / height as f64).min(box_width as f64 / width as f64);
    let scaled = |size: usize, most: usize| ((size as f64 * ratio).round_ties_even() as usize).clamp(1, most);
    let (new_height, new_width) = (scaled(height, box_height), scaled(width, box_width));
    let before = |rest: usize| (rest as f64 / 2.0 - 0.1).round_ties_even().max(0.0) as usize;
    LetterBox {
        left: before(box_width - new_width),
        top: before(box_height - new_height),
        width: new_width,
        height: new_height,
    }
}

/// torchvision: the shorter side exact, the longer one cut to a whole number.
fn short_side_size([height, width]: [usize; 2], short_side: usize) -> [usize; 2] {
    if width <= height {
        [short_side * height / width, short_side]
    } else {
        [short_side, short_side * width / height]
    }
}

/// PaddleOCR: rounded up.
fn ratio_width([height, width]: [usize; 2], new_height: usize) -> usize {
    (new_height * width).div_ceil(height).max(1)
}

fn crop_centre(picture: &Pixels, height: usize, width: usize) -> Pixels {
    // torchvision rounds half of the rest to even.
    let start = |rest: usize| rest / 2 + usize::from(rest % 4 == 3);
    let (top, left) = (start(picture.height - height), start(picture.width - width));
    let row_length = picture.width * picture.channels;
    let columns = left * picture.channels..(left + width) * picture.channels;
    let data = picture
        .data
        .chunks_exact(row_length)
        .skip(top)
        .take(height)
        .flat_map(|row| &row[columns.clone()])
        .copied()
        .collect();
    Pixels {
        width,
        height,
        channels: picture.channels,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letterboxes_are_those_of_ultralytics() {
        struct Case {
            picture: [usize; 2],
            input: [usize; 2],
            expected: [usize; 4],
        }
        let cases = [
            Case {
                picture: [480, 640],
                input: [320, 320],
                expected: [0, 40, 320, 240],
            },
            Case {
                picture: [1080, 810],
                input: [640, 640],
                expected: [80, 0, 480, 640],
            },
            // A rest of 1: -0.1 puts it behind.
            Case {
                picture: [319, 320],
                input: [320, 320],
                expected: [0, 0, 320, 319],
            },
            Case {
                picture: [1, 1000],
                input: [10, 10],
                expected: [0, 4, 10, 1],
            },
        ];
        for Case {
            picture,
            input,
            expected,
        } in cases
        {
            let LetterBox {
                left,
                top,
                width,
                height,
            } = letterbox(picture, input);
            assert_eq!([left, top, width, height], expected, "{picture:?}");
        }
    }

    #[test]
    fn crops_are_those_of_torchvision() {
        assert_eq!(short_side_size([375, 500], 256), [256, 341]);
        assert_eq!(short_side_size([500, 375], 256), [341, 256]);
        struct Case {
            rest: usize,
            start: u8,
        }
        let cases = [
            Case { rest: 0, start: 0 },
            Case { rest: 1, start: 0 },
            Case { rest: 2, start: 1 },
            Case { rest: 3, start: 2 },
            Case { rest: 5, start: 2 },
            Case { rest: 7, start: 4 },
        ];
        for Case { rest, start } in cases {
            let width = rest + 1;
            let picture = Pixels {
                width,
                height: 1,
                channels: 1,
                data: (0..=9).take(width).collect(),
            };
            assert_eq!(crop_centre(&picture, 1, 1).data, [start], "rest {rest}");
        }
    }

    #[test]
    fn keep_height_fills_or_squeezes_on_the_right() {
        let picture = |width: usize| Pixels {
            width,
            height: 2,
            channels: 1,
            data: vec![9; 2 * width],
        };
        let mode = Resize::KeepHeight { pad: None };
        struct Case {
            width: usize,
            input: Option<usize>,
            expected: [usize; 2],
        }
        let cases = [
            Case {
                width: 3,
                input: Some(10),
                expected: [6, 10],
            },
            Case {
                width: 9,
                input: Some(10),
                expected: [10, 10],
            },
            Case {
                width: 9,
                input: None,
                expected: [18, 18],
            },
        ];
        for Case {
            width,
            input,
            expected,
        } in cases
        {
            let placed = fit(picture(width), [Some(4), input], mode, Interpolation::Bilinear);
            assert_eq!([placed.picture.width, placed.width], expected);
            assert_eq!((placed.height, placed.left, placed.top), (4, 0, 0));
        }
    }
}
