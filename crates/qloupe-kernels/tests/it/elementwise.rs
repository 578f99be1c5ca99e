//! Element-wise, layout and quantization kernels against their definitions, on every instruction set of the machine.

use proptest::prelude::*;
use qloupe_kernels::*;
use qloupe_tensor::{DType, QuantParams, Rounding, Tensor};

use crate::values::{first_difference, floats, integers};

/// Every kind of float: random bits, ties, ends and NaN.
fn hard_floats(n: usize) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        0.5,
        1.5,
        2.5,
        -0.5,
        127.5,
        -128.5,
        255.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        1e-45,
        f32::MAX,
        65_504.0,
        65_519.996,
        65_520.0,
        5.96e-8,
        2.98e-8,
        2.980_232_3e-8,
    ];
    let random = integers(n, 5).map(|bits| f32::from_bits((bits >> 32) as u32));
    let near = floats(n, 6).into_iter().map(|x| x * 40.0);
    special.into_iter().chain(random).chain(near).collect()
}

const UNARY: [UnaryKernel; 17] = [
    UnaryKernel::Abs,
    UnaryKernel::Clip { min: -1.0, max: 6.0 },
    UnaryKernel::Elu { alpha: 0.7 },
    UnaryKernel::Erf,
    UnaryKernel::Exp,
    UnaryKernel::HardSigmoid {
        alpha: 0.2,
        beta: 0.5,
    },
    UnaryKernel::HardSwish,
    UnaryKernel::LeakyRelu { alpha: 0.1 },
    UnaryKernel::Log,
    UnaryKernel::Neg,
    UnaryKernel::Reciprocal,
    UnaryKernel::Relu,
    UnaryKernel::Sigmoid,
    UnaryKernel::Silu,
    UnaryKernel::Softplus,
    UnaryKernel::Sqrt,
    UnaryKernel::Tanh,
];

#[test]
fn unary_kernels_agree_on_every_instruction_set() {
    let x = hard_floats(40_000);
    for kernel in UNARY {
        let run = |isa| {
            let mut out = vec![0.0; x.len()];
            unary_with_isa(isa, kernel, &x, &mut out);
            out
        };
        let expected = run(Isa::Scalar);
        for isa in Isa::available() {
            assert_eq!(
                first_difference(&expected, &run(isa)),
                None,
                "{kernel:?} {}",
                isa.name()
            );
        }
    }
}

#[test]
fn softmax_agrees_on_every_instruction_set_and_sums_to_one() {
    for cols in [1, 3, 16, 17, 100] {
        let x: Vec<f32> = floats(cols * 50, 1).iter().map(|x| x * 20.0).collect();
        let run = |isa| {
            let mut out = vec![0.0; x.len()];
            softmax_rows_with_isa(isa, &x, 50, cols, &mut out);
            out
        };
        let expected = run(Isa::Scalar);
        for row in expected.chunks(cols) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{cols} columns");
        }
        for isa in Isa::available() {
            assert_eq!(
                first_difference(&expected, &run(isa)),
                None,
                "{cols} {}",
                isa.name()
            );
        }
    }
}

#[test]
fn binary_kernels_are_the_scalar_operation() {
    let (a, b) = (
        hard_floats(40_000),
        hard_floats(40_000).into_iter().rev().collect::<Vec<_>>(),
    );
    // Either zero is a maximum of two zeros.
    let is_zero = |x: f32| x.to_bits() << 1 == 0;
    let larger = |a: f32, b: f32| {
        if a.is_nan() || b.is_nan() {
            f32::NAN
        } else {
            a.max(b)
        }
    };
    let smaller = |a: f32, b: f32| {
        if a.is_nan() || b.is_nan() {
            f32::NAN
        } else {
            a.min(b)
        }
    };
    type Definition<'a> = &'a dyn Fn(f32, f32) -> f32;
    let cases: [(BinaryKernel, Definition<'_>); 6] = [
        (BinaryKernel::Add, &|a, b| a + b),
        (BinaryKernel::Sub, &|a, b| a - b),
        (BinaryKernel::Mul, &|a, b| a * b),
        (BinaryKernel::Div, &|a, b| a / b),
        (BinaryKernel::Max, &larger),
        (BinaryKernel::Min, &smaller),
    ];
    let same = |a: f32, b: f32| {
        a.to_bits() == b.to_bits() || (is_zero(a) && is_zero(b)) || (a.is_nan() && b.is_nan())
    };
    for (kernel, f) in cases {
        let mut out = vec![0.0; a.len()];
        binary(kernel, &a, &b, &mut out);
        let wrong = (0..a.len()).find(|&i| !same(out[i], f(a[i], b[i])));
        assert_eq!(wrong, None, "{kernel:?}");
        binary_row(kernel, &a, &b[..21], &mut out);
        let wrong = (0..a.len()).find(|&i| !same(out[i], f(a[i], b[i % 21])));
        assert_eq!(wrong, None, "{kernel:?} with a row");
        binary_scalar(kernel, &a, 1.25, &mut out);
        let wrong = (0..a.len()).find(|&i| !same(out[i], f(a[i], 1.25)));
        assert_eq!(wrong, None, "{kernel:?} with a scalar");
    }
}

#[test]
fn quantization_is_that_of_qloupe_tensor() {
    let x = hard_floats(70_000);
    let tensor = Tensor::vector(x.clone());
    let cases = [
        (DType::UInt8, 0.5, 0),
        (DType::UInt8, 0.013, 128),
        (DType::UInt8, 1.0, 255),
        (DType::Int8, 0.25, 0),
        (DType::Int8, 3e-5, -128),
        (DType::Int8, 1e20, 127),
    ];
    for (dtype, scale, zero_point) in cases {
        let params = QuantParams::per_tensor(dtype, scale, zero_point).unwrap();
        let expected = qloupe_tensor::quantize_linear(&tensor, &params, Rounding::TiesEven).unwrap();
        let real = qloupe_tensor::dequantize_linear(&expected, &params).unwrap();
        let fake = qloupe_tensor::fake_quantize_linear(&tensor, &params, Rounding::TiesEven).unwrap();
        let place = format!("{dtype} {scale} {zero_point}");
        for isa in Isa::available() {
            let mut out = vec![0.0; x.len()];
            if dtype == DType::UInt8 {
                let mut q = vec![0; x.len()];
                quantize_with_isa(isa, &x, scale, zero_point, QuantizedSliceMut::U8(&mut q));
                assert!(q == expected.as_slice::<u8>().unwrap(), "{place} {}", isa.name());
                dequantize(QuantizedSlice::U8(&q), scale, zero_point, &mut out);
            } else {
                let mut q = vec![0; x.len()];
                quantize_with_isa(isa, &x, scale, zero_point, QuantizedSliceMut::I8(&mut q));
                assert!(q == expected.as_slice::<i8>().unwrap(), "{place} {}", isa.name());
                dequantize(QuantizedSlice::I8(&q), scale, zero_point, &mut out);
            }
            assert_eq!(first_difference(&out, real.as_slice().unwrap()), None, "{place}");
        }
        let mut out = vec![0.0; x.len()];
        fake_quantize(&x, scale, zero_point, params.quant_range(), &mut out);
        assert_eq!(
            first_difference(&out, fake.as_slice().unwrap()),
            None,
            "fake {place}"
        );
    }
}

#[test]
fn fp16_rounding_and_its_counts_are_those_of_qloupe_tensor() {
    let x = hard_floats(100_000);
    let mut expected = x.clone();
    let counts = qloupe_tensor::round_to_fp16_in_place(&mut expected);
    for isa in Isa::available() {
        let mut got = x.clone();
        assert_eq!(round_to_fp16_with_isa(isa, &mut got), counts, "{}", isa.name());
        assert_eq!(first_difference(&expected, &got), None, "{}", isa.name());
    }
}

#[test]
fn min_max_counts_what_is_not_finite() {
    let mut x = floats(100_001, 1);
    x[7] = f32::NAN;
    x[70_000] = f32::NEG_INFINITY;
    x[99_999] = -5.0;
    let range = min_max(&x);
    assert_eq!((range.n_nan, range.n_inf), (1, 1));
    assert_eq!(
        (range.min.to_bits(), range.max < 1.0),
        ((-5.0_f32).to_bits(), true)
    );
    let none = min_max(&[]);
    assert!(none.min > none.max, "the range of nothing is empty");
}

#[test]
fn the_range_of_any_length_is_that_of_its_numbers_one_by_one() {
    let x = floats(300, 5);
    for start in [0, 1, 99] {
        for n in 1..=200 {
            let x = &x[start..][..n];
            let range = min_max(x);
            let min = x.iter().copied().fold(f32::INFINITY, f32::min) + 0.0;
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max) + 0.0;
            assert_eq!(
                (range.min.to_bits(), range.max.to_bits()),
                (min.to_bits(), max.to_bits()),
                "{n}"
            );
            assert_eq!((range.n_nan, range.n_inf), (0, 0));
        }
    }
}

#[test]
fn pools_follow_their_definition() {
    let g = PoolGeometry {
        n: 1,
        ih: 3,
        iw: 3,
        c: 1,
        oh: 2,
        ow: 2,
        kh: 2,
        kw: 2,
        stride_h: 2,
        stride_w: 2,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 1,
        pad_left: 1,
        pad_bottom: 0,
        pad_right: 0,
    };
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let bits = |values: [f32; 4]| values.map(f32::to_bits);
    let mut out = [0.0; 4];
    max_pool(&x, &g, &mut out);
    assert_eq!(bits(out), bits([1.0, 3.0, 7.0, 9.0]));
    average_pool(&x, &g, false, &mut out);
    assert_eq!(bits(out), bits([1.0, 2.5, 5.5, 7.0]));
    average_pool(&x, &g, true, &mut out);
    assert_eq!(bits(out), bits([0.25, 1.25, 2.75, 7.0]));
    let mut out = [0; 4];
    max_pool_quantized(&[1_i8, 2, 3, 4, 5, -6, -7, -8, -9], &g, &mut out);
    assert_eq!(out, [1, 3, 4, 5]);
    let mut mean = [0.0; 1];
    global_average_pool(&x, 1, 9, 1, &mut mean);
    assert_eq!(mean[0].to_bits(), 5.0_f32.to_bits());
    let mut sums = [0; 3];
    global_sum(QuantizedSlice::I8(&[1, -2, 3, 4, -5, 6]), 1, 2, 3, &mut sums);
    assert_eq!(sums, [5, -7, 9]);
}

proptest! {
    #[test]
    fn a_layout_change_goes_there_and_back(n in 1_usize..3, c in 1_usize..70, hw in 1_usize..300) {
        let x: Vec<u8> = integers(n * c * hw, 1).map(|bits| (bits >> 32) as u8).collect();
        let (mut nhwc, mut back) = (x.clone(), x.clone());
        nchw_to_nhwc(&x, n, c, hw, &mut nhwc);
        for (i, &value) in x.iter().enumerate() {
            let (image, channel, pixel) = (i / (c * hw), i / hw % c, i % hw);
            prop_assert_eq!(nhwc[(image * hw + pixel) * c + channel], value);
        }
        nhwc_to_nchw(&nhwc, n, c, hw, &mut back);
        prop_assert_eq!(back, x);
    }
}
