//! Kernels between quantized values against their slow forms, on every instruction set of the machine.

use proptest::prelude::*;
use qloupe_kernels::*;
use qloupe_tensor::Requantize;

use crate::values::integers;

fn random_bytes(n: usize, seed: u64) -> Vec<u8> {
    integers(n, seed).map(|bits| (bits >> 32) as u8).collect()
}

fn signed(x: &[u8]) -> Vec<i8> {
    x.iter().map(|&b| b as i8).collect()
}

/// Bytes as integers of either sign.
fn slice<'a>(is_signed: bool, unsigned: &'a [u8], signed: &'a [i8]) -> QuantizedSlice<'a> {
    if is_signed {
        QuantizedSlice::I8(signed)
    } else {
        QuantizedSlice::U8(unsigned)
    }
}

fn value(is_signed: bool, byte: u8) -> i32 {
    if is_signed {
        i32::from(byte as i8)
    } else {
        i32::from(byte)
    }
}

/// Runs `f` into bytes of either sign.
fn bytes_of(is_signed: bool, n: usize, f: impl FnOnce(QuantizedSliceMut<'_>)) -> Vec<u8> {
    if is_signed {
        let mut out = vec![0_i8; n];
        f(QuantizedSliceMut::I8(&mut out));
        out.into_iter().map(|q| q as u8).collect()
    } else {
        let mut out = vec![0; n];
        f(QuantizedSliceMut::U8(&mut out));
        out
    }
}

fn range_of(is_signed: bool) -> (i32, i32) {
    if is_signed { (-128, 127) } else { (0, 255) }
}

#[test]
fn every_pair_follows_the_formula() {
    let grids = [
        ([(0.021, 3), (0.0173, 130), (0.033, 77)], [false, false, false]),
        ([(0.5, -4), (0.25, 100), (0.5, -128)], [true, true, true]),
        ([(1e-3, 255), (7.5, 0), (0.1, 0)], [false, true, false]),
        ([(1e20, 0), (1e-20, 5), (1e-20, 9)], [false, false, true]),
    ];
    let (a, b): (Vec<u8>, Vec<u8>) = (0..1_u32 << 16).map(|p| ((p >> 8) as u8, p as u8)).unzip();
    let (a_signed, b_signed) = (signed(&a), signed(&b));
    for (scales, signs) in grids {
        for kernel in [QuantizedBinaryKernel::Add, QuantizedBinaryKernel::Mul] {
            for zero_point_before in [false, true] {
                let (min, max) = range_of(signs[2]);
                let op = QuantizedBinary {
                    kernel,
                    a: scales[0],
                    b: scales[1],
                    out: scales[2],
                    zero_point_before,
                    range: (min, max - 2),
                };
                let pairs = a.iter().zip(&b);
                let expected: Vec<u8> = pairs
                    .map(|(&a, &b)| op.apply(value(signs[0], a), value(signs[1], b)) as u8)
                    .collect();
                for isa in Isa::available() {
                    let got = bytes_of(signs[2], a.len(), |out| {
                        let (a, b) = (slice(signs[0], &a, &a_signed), slice(signs[1], &b, &b_signed));
                        op.run_with_isa(isa, a, b, a.len(), out);
                    });
                    assert!(got == expected, "{op:?} {}", isa.name());
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn rows_are_repeated(
        outer in 1_usize..4, middle in 1_usize..70, inner in 1_usize..200, swap in any::<bool>(), seed in any::<u64>(),
    ) {
        let op = QuantizedBinary {
            kernel: QuantizedBinaryKernel::Add,
            a: (0.02, 3),
            b: (0.03, 100),
            out: (0.05, 9),
            zero_point_before: true,
            range: (0, 255),
        };
        let (long, short) = (random_bytes(outer * middle * inner, seed), random_bytes(outer * inner, seed ^ 1));
        let expected: Vec<u8> = (0..long.len())
            .map(|i| {
                let (x, y) = (long[i], short[i / (middle * inner) * inner + i % inner]);
                let (x, y) = (i32::from(x), i32::from(y));
                (if swap { op.apply(y, x) } else { op.apply(x, y) }) as u8
            })
            .collect();
        for isa in Isa::available() {
            let mut out = vec![0; long.len()];
            let (long, short) = (QuantizedSlice::U8(&long), QuantizedSlice::U8(&short));
            let (a, b) = if swap { (short, long) } else { (long, short) };
            op.run_with_isa(isa, a, b, inner, QuantizedSliceMut::U8(&mut out));
            prop_assert!(out == expected, "{}", isa.name());
        }
    }

    #[test]
    fn quantized_pools_follow_their_definition(
        (n, ih, iw, c) in (1_usize..3, 1_usize..9, 1_usize..9, 1_usize..70),
        (kh, kw, stride_h, stride_w) in (1_usize..4, 1_usize..4, 1_usize..4, 1_usize..3),
        (dilation_h, dilation_w, pad_top, pad_left) in (1_usize..3, 1_usize..3, 0_usize..3, 0_usize..3),
        (pad_bottom, pad_right, count_include_pad) in (0_usize..3, 0_usize..3, any::<bool>()),
        seed in any::<u64>(),
    ) {
        let size = |i: usize, k: usize, d: usize, s: usize| i.checked_sub((k - 1) * d + 1).map(|slack| slack / s + 1);
        let oh = size(ih + pad_top + pad_bottom, kh, dilation_h, stride_h).unwrap_or(1);
        let ow = size(iw + pad_left + pad_right, kw, dilation_w, stride_w).unwrap_or(1);
        let g = PoolGeometry {
            n, ih, iw, c, oh, ow, kh, kw, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, pad_bottom, pad_right,
        };
        let x = random_bytes(g.n_inputs(), seed);
        let x_signed = signed(&x);
        let op = AveragePoolQuantized {
            input: (0.037, 11),
            output: (0.029, 3),
            range: (1, 120),
            count_include_pad,
        };
        let mut maxima = Vec::new();
        let mut signed_maxima = Vec::new();
        let mut means = Vec::new();
        for i in 0..g.n_outputs() {
            let (image, oy, ox, channel) = (i / (oh * ow * c), i / (ow * c) % oh, i / c % ow, i % c);
            let (mut taps, mut n_padded) = (Vec::new(), 0);
            for y in 0..kh {
                for x in 0..kw {
                    let (at_y, at_x) = (oy * stride_h + y * dilation_h, ox * stride_w + x * dilation_w);
                    n_padded += usize::from(at_y < pad_top + ih + pad_bottom && at_x < pad_left + iw + pad_right);
                    if at_y >= pad_top && at_y - pad_top < ih && at_x >= pad_left && at_x - pad_left < iw {
                        taps.push(((image * ih + at_y - pad_top) * iw + at_x - pad_left) * c + channel);
                    }
                }
            }
            maxima.push(taps.iter().map(|&at| x[at]).max().unwrap_or(0));
            signed_maxima.push(taps.iter().map(|&at| x_signed[at]).max().unwrap_or(-128));
            let count = if count_include_pad { n_padded } else { taps.len() };
            let sum = taps.iter().fold(0.0_f32, |sum, &at| sum + (i32::from(x[at]) - 11) as f32 * 0.037);
            let mean = sum / count as f32 / 0.029;
            let q = Requantize::FloatScaleZeroPointBefore.apply(1, mean, 3, (1, 120));
            means.push(q as u8);
        }
        for isa in Isa::available() {
            let mut out = vec![0; g.n_outputs()];
            max_pool_quantized_with_isa(isa, &x, &g, &mut out);
            prop_assert!(out == maxima, "{}", isa.name());
            let mut out = vec![0; g.n_outputs()];
            max_pool_quantized_with_isa(isa, &x_signed, &g, &mut out);
            prop_assert!(out == signed_maxima, "{}", isa.name());
            let mut out = vec![0_u8; g.n_outputs()];
            op.run_with_isa(isa, &x, &g, &mut out);
            prop_assert!(out == means, "{}", isa.name());
        }
    }

    #[test]
    fn global_sums_are_exact(n in 1_usize..3, hw in 0_usize..40, c in 1_usize..100, seed in any::<u64>()) {
        let x = random_bytes(n * hw * c, seed);
        let x_signed = signed(&x);
        for is_signed in [false, true] {
            let mut expected = vec![0; n * c];
            for (i, &q) in x.iter().enumerate() {
                expected[i / (hw * c) * c + i % c] += value(is_signed, q);
            }
            for isa in Isa::available() {
                let mut out = vec![1; n * c];
                global_sum_with_isa(isa, slice(is_signed, &x, &x_signed), n, hw, c, &mut out);
                prop_assert!(out == expected, "{}", isa.name());
            }
        }
    }

    #[test]
    fn softmax_divides_integers(
        (outer, n, inner) in (1_usize..4, 1_usize..500, 1_usize..4),
        (input_scale, steps) in (0.0_f64..0.3, 1_u64..1000),
        (is_signed, narrow) in (any::<bool>(), any::<bool>()),
        seed in any::<u64>(),
    ) {
        let mask = if narrow { 31 } else { 255 };
        let x: Vec<u8> = random_bytes(outer * n * inner, seed).iter().map(|b| b & mask).collect();
        let x_signed = signed(&x);
        let largest = (f64::from(u32::MAX) / n as f64).min(8_388_607.0);
        let table = std::array::from_fn(|d| (largest * (-(d as f64) * input_scale).exp()) as u32);
        let kernel = SoftmaxQuantized::new(table, steps, if is_signed { -128 } else { 0 }, range_of(is_signed));
        let run = |isa| {
            bytes_of(is_signed, x.len(), |out| {
                kernel.run_with_isa(isa, slice(is_signed, &x, &x_signed), n, inner, out);
            })
        };
        let expected = run(Isa::Scalar);
        for isa in Isa::available() {
            prop_assert!(run(isa) == expected, "{}", isa.name());
        }
    }

    #[test]
    fn products_of_computed_matrices_are_exact(
        (m, k, n) in (1_usize..20, 0_usize..70, 1_usize..150),
        signs in any::<(bool, bool, bool)>(),
        (a_zero_point, b_zero_point) in (0_i32..256, 0_i32..256),
        (policy, per_column, many) in (0_usize..3, any::<bool>(), any::<bool>()),
        seed in any::<u64>(),
    ) {
        let m = if many { 10 * m } else { m };
        let zero_point = |is_signed, z: i32| if is_signed { z - 128 } else { z };
        let (a_zero_point, b_zero_point) = (zero_point(signs.0, a_zero_point), zero_point(signs.1, b_zero_point));
        let (min, max) = range_of(signs.2);
        let epilogue = Epilogue {
            multiplier: (0..if per_column { n } else { 1 }).map(|i| 1e-4 * (i + 1) as f32).collect(),
            zero_point: 7,
            min: min + 1,
            max,
            policy: [
                Requantize::FloatScaleZeroPointAfter,
                Requantize::FloatScaleZeroPointBefore,
                Requantize::FixedPointSingleRounding,
            ][policy],
        };
        let (a, b) = (random_bytes(2 * m * k, seed), random_bytes(k * n, seed ^ 1));
        let (a_signed, b_signed) = (signed(&a), signed(&b));
        let product = MatMulQuantized {
            a: slice(signs.0, &a, &a_signed),
            b: slice(signs.1, &b, &b_signed),
            m,
            k,
            n,
            a_zero_point,
            b_zero_point,
            epilogue: &epilogue,
        };
        let mut sums = vec![0; 2 * m * n];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = (0..k)
                .map(|j| {
                    (value(signs.0, a[i / n * k + j]) - a_zero_point) * (value(signs.1, b[j * n + i % n]) - b_zero_point)
                })
                .sum();
        }
        let expected = bytes_of(signs.2, sums.len(), |mut out| epilogue.apply(&sums, n, &mut out));
        for isa in Isa::available() {
            let got = bytes_of(signs.2, sums.len(), |out| {
                product.run_with_isa(isa, &[(0, 0), (m * k, 0)], out);
            });
            prop_assert!(got == expected, "{}", isa.name());
        }
    }
}
