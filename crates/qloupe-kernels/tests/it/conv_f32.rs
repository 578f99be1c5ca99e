//! Float convolutions.

use proptest::prelude::*;
use qloupe_kernels::{ConvF32, ConvGeometry, Isa};

use crate::values::{first_difference, floats};

pub(crate) const BASE: ConvGeometry = ConvGeometry {
    n: 1,
    ih: 9,
    iw: 11,
    ic: 5,
    oc: 7,
    kh: 3,
    kw: 3,
    stride_h: 1,
    stride_w: 1,
    dilation_h: 1,
    dilation_w: 1,
    pad_top: 1,
    pad_left: 1,
    pad_bottom: 1,
    pad_right: 1,
    group: 1,
};

const UNPADDED: ConvGeometry = ConvGeometry {
    pad_top: 0,
    pad_left: 0,
    pad_bottom: 0,
    pad_right: 0,
    ..BASE
};
pub(crate) const POINTWISE: ConvGeometry = ConvGeometry {
    kh: 1,
    kw: 1,
    ..UNPADDED
};
const DEPTHWISE: ConvGeometry = ConvGeometry {
    ic: 21,
    oc: 21,
    group: 21,
    ..BASE
};

/// Shapes at the edges of tiles, vectors and bands.
pub(crate) fn cases() -> Vec<(&'static str, ConvGeometry)> {
    let mut cases = vec![
        ("dense", BASE),
        ("unpadded", UNPADDED),
        ("pointwise", POINTWISE),
        (
            "pointwise, many pixels",
            ConvGeometry {
                n: 2,
                ih: 37,
                iw: 29,
                ic: 33,
                oc: 50,
                ..POINTWISE
            },
        ),
        (
            "pointwise, strided",
            ConvGeometry {
                stride_h: 2,
                stride_w: 2,
                ic: 16,
                ..POINTWISE
            },
        ),
        ("pointwise, padded", ConvGeometry { kh: 1, kw: 1, ..BASE }),
        (
            "first layer",
            ConvGeometry {
                ih: 33,
                iw: 33,
                ic: 3,
                oc: 32,
                stride_h: 2,
                stride_w: 2,
                ..BASE
            },
        ),
        (
            "asymmetric pads",
            ConvGeometry {
                pad_top: 0,
                pad_left: 2,
                pad_bottom: 3,
                pad_right: 0,
                ..BASE
            },
        ),
        (
            "dilated",
            ConvGeometry {
                dilation_h: 2,
                dilation_w: 3,
                ic: 8,
                ..BASE
            },
        ),
        (
            "dilated, odd channels",
            ConvGeometry {
                dilation_h: 2,
                dilation_w: 2,
                ..BASE
            },
        ),
        (
            "1-D",
            ConvGeometry {
                ih: 1,
                iw: 40,
                kh: 1,
                kw: 5,
                pad_top: 0,
                pad_bottom: 0,
                ..BASE
            },
        ),
        (
            "groups",
            ConvGeometry {
                ic: 12,
                oc: 6,
                group: 3,
                ..BASE
            },
        ),
        (
            "groups, unpadded",
            ConvGeometry {
                ic: 8,
                oc: 40,
                group: 2,
                ..UNPADDED
            },
        ),
        (
            "groups, pointwise",
            ConvGeometry {
                ic: 8,
                oc: 6,
                group: 2,
                ..POINTWISE
            },
        ),
        (
            "depth multiplier",
            ConvGeometry {
                ic: 4,
                oc: 8,
                group: 4,
                ..BASE
            },
        ),
        ("batch", ConvGeometry { n: 3, ..BASE }),
        (
            "pads wider than the image",
            ConvGeometry {
                ih: 2,
                iw: 2,
                pad_left: 4,
                pad_right: 4,
                pad_top: 3,
                ..BASE
            },
        ),
        (
            "pad wider than the kernel reaches",
            ConvGeometry {
                iw: 1,
                pad_left: 5,
                stride_w: 3,
                ..BASE
            },
        ),
        (
            "large weight",
            ConvGeometry {
                ih: 7,
                iw: 7,
                ic: 96,
                oc: 110,
                ..BASE
            },
        ),
        (
            "many bands",
            ConvGeometry {
                ih: 61,
                iw: 60,
                ic: 24,
                oc: 48,
                ..BASE
            },
        ),
        ("no output", ConvGeometry { ih: 1, ..UNPADDED }),
        ("depthwise", DEPTHWISE),
        (
            "depthwise, strided",
            ConvGeometry {
                stride_h: 2,
                stride_w: 2,
                iw: 40,
                ..DEPTHWISE
            },
        ),
        (
            "depthwise, unpadded",
            ConvGeometry {
                ic: 16,
                oc: 16,
                group: 16,
                ..UNPADDED
            },
        ),
        (
            "depthwise, stride 3",
            ConvGeometry {
                stride_h: 3,
                stride_w: 3,
                ..DEPTHWISE
            },
        ),
        (
            "depthwise, dilated",
            ConvGeometry {
                dilation_h: 2,
                dilation_w: 2,
                ..DEPTHWISE
            },
        ),
        ("depthwise, narrow", ConvGeometry { iw: 1, ..DEPTHWISE }),
        (
            "depthwise, mixed strides",
            ConvGeometry {
                stride_h: 2,
                kh: 5,
                pad_left: 0,
                ..DEPTHWISE
            },
        ),
    ];
    for k in [5, 7] {
        for stride in [1, 2] {
            cases.push((
                "depthwise, large",
                ConvGeometry {
                    kh: k,
                    kw: k,
                    stride_h: stride,
                    stride_w: stride,
                    iw: 23,
                    pad_top: k / 2,
                    pad_left: k / 2,
                    ..DEPTHWISE
                },
            ));
        }
    }
    for oc in [1, 8, 15, 16, 17, 24, 31, 32, 33, 48, 49, 64, 65, 80] {
        for iw in [1, 7, 8, 15, 29] {
            cases.push((
                "channels",
                ConvGeometry {
                    ic: 4,
                    iw,
                    ih: 5,
                    oc,
                    ..BASE
                },
            ));
        }
    }
    cases
}

fn compare(name: &str, g: &ConvGeometry, clamp: (f32, f32)) {
    let icg = g.ic / g.group;
    let weight = floats(g.oc * icg * g.kh * g.kw, 1);
    let bias = floats(g.oc, 2);
    let mut x = floats(g.n_inputs(), 3);
    if let Some(first) = x.first_mut() {
        *first = f32::NAN;
    }
    let run = |isa| {
        let mut out = vec![9.0; g.n_outputs()];
        ConvF32::with_isa(isa, &weight, Some(&bias), g.oc, icg, g.kh, g.kw, g.group)
            .run(&x, g, clamp, &mut out);
        out
    };
    let expected = run(Isa::Scalar);
    for isa in Isa::available() {
        let difference = first_difference(&expected, &run(isa));
        assert_eq!(
            difference,
            None,
            "{name}: {} differs from scalar for {g:?}",
            isa.name()
        );
    }
}

#[test]
fn all_instruction_sets_agree_on_adversarial_shapes() {
    for (name, g) in cases() {
        compare(name, &g, (f32::NEG_INFINITY, f32::INFINITY));
        compare(name, &g, (0.0, 0.5));
    }
    let names: Vec<_> = Isa::available().map(Isa::name).collect();
    println!("instruction sets compared: {}", names.join(", "));
}

#[test]
fn a_hand_computed_convolution() {
    let g = ConvGeometry {
        ih: 1,
        iw: 3,
        ic: 1,
        oc: 1,
        kh: 1,
        kw: 2,
        pad_top: 0,
        pad_bottom: 0,
        pad_right: 0,
        ..BASE
    };
    for isa in Isa::available() {
        let mut out = [0.0; 3];
        ConvF32::with_isa(isa, &[10.0, 1.0], Some(&[0.5]), 1, 1, 1, 2, 1).run(
            &[1.0, 2.0, 3.0],
            &g,
            (f32::NEG_INFINITY, 20.0),
            &mut out,
        );
        assert_eq!(
            out.map(f32::to_bits),
            [1.5, 12.5, 20.0].map(f32::to_bits),
            "{}",
            isa.name()
        );
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let geometries = [
        ConvGeometry {
            ih: 40,
            iw: 40,
            ic: 32,
            oc: 48,
            ..BASE
        },
        ConvGeometry {
            ih: 7,
            iw: 7,
            ic: 128,
            oc: 128,
            ..BASE
        },
        ConvGeometry {
            ih: 64,
            iw: 64,
            ic: 40,
            oc: 40,
            group: 40,
            ..BASE
        },
        ConvGeometry {
            ih: 64,
            iw: 64,
            ic: 40,
            oc: 40,
            ..POINTWISE
        },
    ];
    for g in geometries {
        let icg = g.ic / g.group;
        let conv = ConvF32::new(
            &floats(g.oc * icg * g.kh * g.kw, 1),
            None,
            g.oc,
            icg,
            g.kh,
            g.kw,
            g.group,
        );
        let x = floats(g.n_inputs(), 3);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = vec![0.0; g.n_outputs()];
            pool.install(|| conv.run(&x, &g, (0.0, 6.0), &mut out));
            out
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert_eq!(
                first_difference(&one, &run(threads)),
                None,
                "{threads} threads, {g:?}"
            );
        }
    }
}

prop_compose! {
    pub(crate) fn any_geometry()(
        (n, ih, iw) in (1_usize..3, 1_usize..20, 1_usize..20),
        (group, icg, ocg) in (1_usize..4, 1_usize..9, 1_usize..40),
        (kh, kw) in (1_usize..5, 1_usize..5),
        (stride_h, stride_w, dilation_h, dilation_w) in (1_usize..4, 1_usize..4, 1_usize..3, 1_usize..3),
        (pad_top, pad_left, pad_bottom, pad_right) in (0_usize..4, 0_usize..4, 0_usize..4, 0_usize..4),
    ) -> ConvGeometry {
        ConvGeometry {
            n, ih, iw, ic: group * icg, oc: group * ocg, kh, kw, stride_h, stride_w, dilation_h, dilation_w,
            pad_top, pad_left, pad_bottom, pad_right, group,
        }
    }
}

proptest! {
    #[test]
    fn all_instruction_sets_agree_on_any_geometry(g in any_geometry()) {
        compare("any", &g, (f32::NEG_INFINITY, f32::INFINITY));
    }
}
