//! Chains against separate passes, bit for bit, on every instruction set of the machine.

use std::sync::Mutex;

use proptest::prelude::*;
use qloupe_kernels::*;

use crate::values::{first_difference, floats};

const UNARY: [UnaryKernel; 6] = [
    UnaryKernel::Relu,
    UnaryKernel::Clip { min: -0.3, max: 0.4 },
    UnaryKernel::Sigmoid,
    UnaryKernel::Tanh,
    UnaryKernel::Neg,
    UnaryKernel::HardSwish,
];
const BINARY: [BinaryKernel; 6] = [
    BinaryKernel::Add,
    BinaryKernel::Sub,
    BinaryKernel::Mul,
    BinaryKernel::Div,
    BinaryKernel::Max,
    BinaryKernel::Min,
];

/// A step from three random numbers: its function, and what it reads.
fn step(i: usize, (function, first, second): (usize, usize, usize), n_operands: usize) -> ChainStep {
    let source = |pick: usize| match pick % (i + 1 + n_operands) {
        0 => Source::Head,
        pick if pick <= i => Source::Step(pick - 1),
        pick => Source::Operand(pick - 1 - i),
    };
    let function = if function < UNARY.len() {
        ElementWise::Unary(UNARY[function])
    } else {
        ElementWise::Binary(BINARY[function - UNARY.len()])
    };
    // The first source is never an operand, so that every step belongs to the chain.
    let first = if i == 0 {
        Source::Head
    } else {
        source(first % (i + 1))
    };
    ChainStep {
        function,
        sources: [first, source(second)],
    }
}

/// Head and steps in separate passes.
fn slow(head: &[f32], steps: &[ChainStep], operands: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut results = vec![head.to_vec()];
    for step in steps {
        let value = |source: Source| match source {
            Source::Head => &results[0],
            Source::Step(i) => &results[i + 1],
            Source::Operand(i) => &operands[i],
        };
        let mut out = vec![0.0; head.len()];
        match step.function {
            ElementWise::Unary(kernel) => unary(kernel, value(step.sources[0]), &mut out),
            ElementWise::Binary(kernel) => {
                binary(kernel, value(step.sources[0]), value(step.sources[1]), &mut out);
            }
        }
        results.push(out);
    }
    results
}

fn check(
    head: Head<'_>,
    expected_head: &[f32],
    steps: &[ChainStep],
    keep: &[bool],
    patterns: &[(usize, usize, usize)],
    isa: Isa,
) {
    let n = expected_head.len();
    let values: Vec<Vec<f32>> = patterns
        .iter()
        .enumerate()
        .map(|(i, &(outer, _, inner))| floats(outer * inner, 70 + i as u64))
        .collect();
    let operands: Vec<Operand<'_>> = values
        .iter()
        .zip(patterns)
        .map(|(values, &(outer, middle, inner))| Operand::new(values, outer, middle, inner))
        .collect();
    let expanded: Vec<Vec<f32>> = values
        .iter()
        .zip(patterns)
        .map(|(values, &(outer, middle, inner))| {
            (0..n)
                .map(|i| values[i / (middle * inner) % outer * inner + i % inner])
                .collect()
        })
        .collect();
    let expected = slow(expected_head, steps, &expanded);
    let computed = !matches!(head, Head::Values(_));
    let seen = Mutex::new(vec![Vec::new(); steps.len() + 1]);
    let watch = |result: usize, values: &[f32]| {
        seen.lock().expect("no watch panics")[result].extend(values.iter().map(|v| v.to_bits()))
    };
    run_chain_with_isa(isa, head, steps, &operands, keep, Some(&watch));
    for (i, (seen, expected)) in seen
        .into_inner()
        .expect("no watch panics")
        .iter_mut()
        .zip(&expected)
        .enumerate()
    {
        let mut expected: Vec<u32> = expected.iter().map(|v| v.to_bits()).collect();
        if i == 0 && !computed {
            expected.clear();
        }
        // Pieces come in any order.
        seen.sort_unstable();
        expected.sort_unstable();
        assert!(
            *seen == expected || expected.iter().any(|&v| f32::from_bits(v).is_nan()),
            "{isa:?} result {i} as seen"
        );
    }
    let results = run_chain_with_isa(isa, head, steps, &operands, keep, None);
    for (i, (result, expected)) in results.iter().zip(&expected).enumerate() {
        assert_eq!(result.is_some(), keep[i], "result {i}");
        if let Some(result) = result {
            let difference = first_difference(result, expected);
            assert_eq!(difference, None, "{isa:?} result {i} of {steps:?} keep {keep:?}");
        }
    }
}

proptest! {
    #[test]
    fn chains_equal_separate_passes(
        picks in prop::collection::vec((0_usize..12, 0_usize..100, 0_usize..100), 1..6),
        kept in prop::collection::vec(any::<bool>(), 7),
        (h, w, ic, oc, kernel, group) in (1_usize..12, 1_usize..12, 1_usize..9, 1_usize..40, 0_usize..2, any::<bool>()),
        kind in 0_usize..3,
        seed in 0_u64..1000,
    ) {
        let (ic, group) = if group { (oc, oc) } else { (ic, 1) };
        let k = 2 * kernel + 1;
        let g = ConvGeometry {
            n: 2, ih: h, iw: w, ic, oc, kh: k, kw: k, stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1,
            pad_top: kernel, pad_left: kernel, pad_bottom: kernel, pad_right: kernel, group,
        };
        let n = g.n_outputs();
        let patterns = [(1, 1, 1), (1, h * w * 2, oc), (2, h * w, oc), (2 * h * w, oc, 1), (1, 1, n)];
        let steps: Vec<ChainStep> = picks.iter().enumerate().map(|(i, &pick)| step(i, pick, patterns.len())).collect();
        let mut keep = kept[..=steps.len()].to_vec();
        keep[steps.len()] = true;
        let x = floats(g.n_inputs(), seed);
        let weight = floats(oc * ic / group * k * k, seed + 1);
        for isa in Isa::available() {
            let mut head = vec![0.0; n];
            match kind {
                0 => {
                    let values = floats(n, seed + 2);
                    keep[0] = false;
                    check(Head::Values(&values), &values, &steps, &keep, &patterns, isa);
                }
                1 => {
                    let conv = ConvF32::with_isa(isa, &weight, None, oc, ic / group, k, k, group);
                    conv.run(&x, &g, (f32::NEG_INFINITY, f32::INFINITY), &mut head);
                    check(Head::Conv(&conv, &x, &g), &head, &steps, &keep, &patterns, isa);
                }
                _ => {
                    let m = n / oc;
                    let (a, b) = (floats(m * ic, seed), floats(ic * oc, seed + 3));
                    let gemm = GemmF32::with_isa(isa, &b, ic, oc, None);
                    gemm.run(&a, m, &mut head);
                    check(Head::Product(&gemm, &a, m), &head, &steps, &keep, &patterns, isa);
                }
            }
        }
    }
}

#[test]
fn long_chains_over_several_blocks_and_threads() {
    let (h, w, c) = (97, 61, 48);
    let g = ConvGeometry {
        n: 1,
        ih: h,
        iw: w,
        ic: 8,
        oc: c,
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
    let x = floats(g.n_inputs(), 1);
    let steps = [(2, 0, 0), (8, 0, 1), (6, 2, 4), (1, 3, 0), (8, 4, 6)];
    let steps: Vec<ChainStep> = steps
        .iter()
        .enumerate()
        .map(|(i, &pick)| step(i, pick, 2))
        .collect();
    let patterns = [(1, h * w, c), (1, 1, g.n_outputs())];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for isa in Isa::available() {
        let conv = ConvF32::with_isa(isa, &floats(c * 72, 2), None, c, 8, 3, 3, 1);
        let mut head = vec![0.0; g.n_outputs()];
        conv.run(&x, &g, (f32::NEG_INFINITY, f32::INFINITY), &mut head);
        for keep in [[false, false, false, false, false, true], [true; 6]] {
            pool.install(|| check(Head::Conv(&conv, &x, &g), &head, &steps, &keep, &patterns, isa));
        }
    }
}
