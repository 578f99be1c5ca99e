//! Integer convolutions and products.

use proptest::prelude::*;
use qloupe_kernels::{ConvGeometry, ConvI8, Epilogue, GemmI8, Isa, QuantizedSlice, QuantizedSliceMut};
use qloupe_tensor::Requantize;

use crate::conv_f32::{POINTWISE, any_geometry, cases};
use crate::values::integers;

const POLICIES: [Requantize; 5] = [
    Requantize::FloatScaleZeroPointAfter,
    Requantize::FloatScaleZeroPointBefore,
    Requantize::FixedPointDoubleRounding,
    Requantize::FixedPointSingleRounding,
    Requantize::PowerOfTwo,
];

fn bytes(n: usize, seed: u64) -> Vec<u8> {
    integers(n, seed).map(|bits| (bits >> 32) as u8).collect()
}

/// Only bytes at the ends of both dtypes: 0, 127, 128 and 255.
fn extremes(n: usize, seed: u64) -> Vec<u8> {
    let ends = [0, 127, 128, 255];
    integers(n, seed)
        .map(|bits| ends[(bits >> 62) as usize])
        .collect()
}

fn signed(values: &[u8]) -> Vec<i8> {
    values.iter().map(|&v| v as i8).collect()
}

/// The direct sum, one output at a time, in 64 bits.
fn accumulators(
    x: &[i64],
    zero_point: i64,
    weight: impl Fn(usize) -> i64,
    bias: &[i32],
    g: &ConvGeometry,
) -> Vec<i32> {
    let (oh, ow, icg, ocg) = (g.oh(), g.ow(), g.ic / g.group, g.oc / g.group);
    let mut out = Vec::new();
    for i in 0..g.n * oh * ow * g.oc {
        let (pixel, o) = (i / g.oc, i % g.oc);
        let (n, oy, ox) = (pixel / ow / oh, pixel / ow % oh, pixel % ow);
        let mut sum = i64::from(bias[o]);
        for (tap, j) in (0..g.kh * g.kw).flat_map(|tap| (0..icg).map(move |j| (tap, j))) {
            let iy = (oy * g.stride_h + tap / g.kw * g.dilation_h).wrapping_sub(g.pad_top);
            let ix = (ox * g.stride_w + tap % g.kw * g.dilation_w).wrapping_sub(g.pad_left);
            if iy < g.ih && ix < g.iw {
                let value = x[((n * g.ih + iy) * g.iw + ix) * g.ic + o / ocg * icg + j] - zero_point;
                sum += value * weight((o * icg + j) * g.kh * g.kw + tap);
            }
        }
        out.push(i32::try_from(sum).expect("the test stays in int32"));
    }
    out
}

fn compare(name: &str, g: &ConvGeometry, policies: &[Requantize]) {
    compare_over(bytes, name, g, policies);
}

/// Compares every instruction set with the direct sum, over inputs and weights of `bytes(number, seed)`.
fn compare_over(
    bytes: impl Fn(usize, u64) -> Vec<u8>,
    name: &str,
    g: &ConvGeometry,
    policies: &[Requantize],
) {
    let icg = g.ic / g.group;
    let mut weight = signed(&bytes(g.oc * icg * g.kh * g.kw, 1));
    // The extremes side by side: where a saturating product would differ.
    for w in weight.iter_mut().take(8) {
        *w = -128;
    }
    let bias: Vec<i32> = integers(g.oc, 2)
        .map(|bits| (bits >> 48) as i32 - 32_768)
        .collect();
    let mut unsigned = bytes(g.n_inputs(), 3);
    for x in unsigned.iter_mut().take(40) {
        *x = 255;
    }
    let signed_x = signed(&unsigned);
    let inputs = [
        (
            QuantizedSlice::U8(&unsigned),
            unsigned.iter().map(|&v| i64::from(v)).collect::<Vec<_>>(),
            [0, 113, 255],
        ),
        (
            QuantizedSlice::I8(&signed_x),
            signed_x.iter().map(|&v| i64::from(v)).collect(),
            [-128, 0, 127],
        ),
    ];
    for (x, values, zero_points) in &inputs {
        for &zero_point in zero_points {
            let expected = accumulators(values, i64::from(zero_point), |i| i64::from(weight[i]), &bias, g);
            compare_differences(*x, values, zero_point, &weight, &bias, g);
            for isa in Isa::available() {
                let place = format!("{name}: {}, zero point {zero_point}, {g:?}", isa.name());
                let conv = ConvI8::with_isa(isa, &weight, Some(&bias), g.oc, icg, g.kh, g.kw, g.group);
                assert!(
                    conv.accumulate(*x, g, zero_point) == expected,
                    "accumulators of {place}"
                );
                let bound = conv.max_abs_accumulator_bound();
                assert!(
                    expected.iter().all(|&acc| i64::from(acc).abs() <= bound),
                    "bound {bound} of {place}"
                );
                for &policy in policies {
                    let multiplier: Vec<f32> = (0..g.oc)
                        .map(|c| 0.25 / 1024.0 * (1.0 + c as f32 / 7.0))
                        .collect();
                    for (multiplier, (min, max), signed_out) in [
                        (multiplier, (0, 255), false),
                        (vec![1.0 / 512.0], (-100, 101), true),
                    ] {
                        let epilogue = Epilogue {
                            multiplier,
                            zero_point: 3,
                            min,
                            max,
                            policy,
                        };
                        let wanted: Vec<i32> = expected
                            .iter()
                            .enumerate()
                            .map(|(i, &acc)| {
                                let n = epilogue.multiplier.len();
                                let multiplier = epilogue.multiplier[i % g.oc % n];
                                policy.apply(acc, multiplier, 3, (min, max))
                            })
                            .collect();
                        let got: Vec<i32> = if signed_out {
                            let mut out = vec![77; g.n_outputs()];
                            conv.run(*x, g, zero_point, &epilogue, QuantizedSliceMut::I8(&mut out));
                            out.into_iter().map(i32::from).collect()
                        } else {
                            let mut out = vec![77; g.n_outputs()];
                            conv.run(*x, g, zero_point, &epilogue, QuantizedSliceMut::U8(&mut out));
                            out.into_iter().map(i32::from).collect()
                        };
                        assert!(got == wanted, "{policy:?} of {place}");
                    }
                }
            }
        }
    }
}

/// The accumulators of a depthwise convolution whose weights have zero points, one or one for each channel.
fn compare_differences(
    x: QuantizedSlice<'_>,
    values: &[i64],
    x_zero_point: i32,
    weight: &[i8],
    bias: &[i32],
    g: &ConvGeometry,
) {
    if g.group != g.ic || g.group != g.oc {
        return;
    }
    let each: Vec<i32> = (0..g.oc).map(|c| [127, -128, 0, 5, -90][c % 5]).collect();
    let taps = g.kh * g.kw;
    for zero_point in [&each[..], &[-77]] {
        let less = |i: usize| i64::from(weight[i]) - i64::from(zero_point[i / taps % zero_point.len()]);
        let expected = accumulators(values, i64::from(x_zero_point), less, bias, g);
        for isa in Isa::available() {
            let conv = ConvI8::depthwise_with_isa(isa, weight, zero_point, Some(bias), g.oc, g.kh, g.kw);
            let got = conv.accumulate(x, g, x_zero_point);
            assert!(got == expected, "differences with {}, {g:?}", isa.name());
            let largest = got.iter().map(|&acc| i64::from(acc).abs()).max();
            assert!(largest.is_none_or(|largest| largest <= conv.max_abs_accumulator_bound()));
        }
    }
}

#[test]
fn all_instruction_sets_are_exact_on_adversarial_shapes() {
    for (name, g) in cases() {
        compare(name, &g, &POLICIES[..2]);
    }
    let names: Vec<_> = Isa::available().map(Isa::name).collect();
    println!("instruction sets compared: {}", names.join(", "));
}

/// Shapes at the edges of tiles of 16 pixels, 16 output channels and 64 bytes of K.
#[test]
fn all_instruction_sets_are_exact_at_the_edges_of_tiles() {
    let base = ConvGeometry {
        n: 1,
        ih: 3,
        iw: 16,
        ic: 16,
        oc: 17,
        kh: 3,
        kw: 3,
        ..POINTWISE
    };
    let padded = ConvGeometry {
        pad_top: 1,
        pad_left: 1,
        pad_bottom: 1,
        pad_right: 1,
        ..base
    };
    for ic in [1, 3, 4, 15, 16, 21, 24, 32, 40, 63, 64, 65, 96, 160, 192] {
        compare(
            "channels of a row",
            &ConvGeometry { ic, ..padded },
            &POLICIES[..1],
        );
        compare(
            "pixels",
            &ConvGeometry {
                ic,
                ih: 5,
                ..POINTWISE
            },
            &POLICIES[..1],
        );
        let strided = ConvGeometry {
            ic,
            stride_h: 2,
            stride_w: 2,
            ..padded
        };
        compare("strided", &strided, &POLICIES[..1]);
        let dilated = ConvGeometry {
            ic,
            dilation_w: 2,
            ..padded
        };
        compare("dilated", &dilated, &POLICIES[..1]);
    }
    for iw in [1, 2, 7, 14, 15, 16, 17, 31, 32, 33, 48, 49] {
        for oc in [16, 32, 33, 48, 70] {
            compare("tiles", &ConvGeometry { iw, oc, ..padded }, &POLICIES[..2]);
        }
    }
    for (iw, stride) in [(7, 1), (8, 1), (9, 1), (13, 2)] {
        let short = ConvGeometry {
            ih: iw,
            iw,
            ic: 64,
            oc: 136,
            stride_h: stride,
            stride_w: stride,
            ..padded
        };
        compare("short rows", &short, &POLICIES[..1]);
    }
    for (ic, oc, group) in [(32, 32, 8), (64, 64, 2), (24, 48, 12), (6, 130, 2), (40, 80, 40)] {
        let grouped = ConvGeometry {
            ic,
            oc,
            group,
            ..padded
        };
        compare("groups", &grouped, &POLICIES[..1]);
    }
}

#[test]
fn all_instruction_sets_are_exact_on_extreme_values() {
    for k in [1, 64, 1000, 4608] {
        let pixels = ConvGeometry {
            ih: 1,
            iw: 19,
            ic: k,
            oc: 35,
            ..POINTWISE
        };
        let all = |byte: u8| move |n: usize, _: u64| vec![byte; n];
        compare_over(extremes, "extremes", &pixels, &POLICIES[..2]);
        compare_over(all(128), "the largest products", &pixels, &POLICIES[..2]);
        compare_over(all(127), "the largest sums", &pixels, &POLICIES[..2]);
    }
}

#[test]
fn every_policy_is_that_of_the_specification() {
    for (name, g) in cases().into_iter().take(3) {
        compare(name, &g, &POLICIES);
    }
}

prop_compose! {
    /// Wider images, more channels and longer sums than those of [`any_geometry`].
    fn large_geometry()(
        (ih, ow, stride, kernel, pad) in (1_usize..4, 1_usize..41, 1_usize..3, 0_usize..3, 0_usize..2),
        (ic, oc, group) in (1_usize..300, 1_usize..71, 1_usize..3),
    ) -> ConvGeometry {
        let (kh, kw) = [(1, 1), (3, 3), (1, 5)][kernel];
        ConvGeometry {
            n: 1, ih: ih + kh - 1, iw: (ow - 1) * stride + kw, ic: ic / group * group + group, oc: oc * group,
            kh, kw, stride_h: stride, stride_w: stride, dilation_h: 1, dilation_w: 1,
            pad_top: pad, pad_left: pad, pad_bottom: pad, pad_right: pad, group,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn all_instruction_sets_are_exact_on_large_geometries(g in large_geometry()) {
        compare_over(extremes, "large", &g, &POLICIES[..1]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn all_instruction_sets_are_exact_on_any_geometry(g in any_geometry()) {
        compare("any", &g, &POLICIES[..1]);
    }
}

#[test]
fn a_product_is_that_of_the_definition() {
    for (m, k, n) in [
        (1, 1, 1),
        (3, 5, 17),
        (65, 64, 33),
        (2, 1000, 40),
        (0, 4, 4),
        (4, 0, 3),
    ] {
        let b = signed(&bytes(k * n, 1));
        let a = bytes(m * k, 2);
        let expected: Vec<i32> = (0..m * n)
            .map(|i| {
                (0..k)
                    .map(|j| (i32::from(a[i / n * k + j]) - 9) * i32::from(b[j * n + i % n]))
                    .sum()
            })
            .collect();
        for isa in Isa::available() {
            let got = GemmI8::with_isa(isa, &b, k, n, None).accumulate(QuantizedSlice::U8(&a), m, 9);
            assert!(got == expected, "{} {m} {k} {n}", isa.name());
        }
    }
}

#[test]
fn an_overflow_is_visible_in_the_bound() {
    let conv = ConvI8::new(&vec![-128; 70_000], None, 1, 70_000, 1, 1, 1);
    assert_eq!(conv.max_abs_accumulator_bound(), 255 * 128 * 70_000);
    assert!(
        conv.max_abs_accumulator_bound() > i64::from(i32::MAX),
        "overflow is possible"
    );
}
