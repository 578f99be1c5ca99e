//! Functions of two operands in real numbers: integers are dequantized on the way in and the results quantized on the way
//! out, block by block in the cache.

use rayon::prelude::*;

use crate::binary::binary_block;
use crate::buffer::{as_unwritten, with_scratch};
use crate::{BinaryKernel, Isa, Numbers, Operand, QuantizedSliceMut, isa, parallel, quantize_with_isa};

/// Elements of a block: both operands and the results lie in the L1 cache.
const BLOCK: usize = 1024;

/// `out = clip(rne(kernel(a, b) / scale) + zero_point)`, bit-equal to separate passes. One operand has as many elements as
/// `out`; the other has as many, or is `[outer, inner]` beside `[outer, middle, inner]`.
pub fn real_binary(
    kernel: BinaryKernel,
    operands: [Numbers<'_>; 2],
    inner: usize,
    grid: (f32, i32),
    out: QuantizedSliceMut<'_>,
) {
    real_binary_with_isa(isa(), kernel, operands, inner, grid, out);
}

/// [`real_binary`] for one instruction set, to compare them.
fn real_binary_with_isa(
    isa: Isa,
    kernel: BinaryKernel,
    operands: [Numbers<'_>; 2],
    inner: usize,
    (scale, zero_point): (f32, i32),
    out: QuantizedSliceMut<'_>,
) {
    isa.require();
    let n = out.len();
    assert!(
        operands.iter().any(|operand| operand.len() == n),
        "neither operand has {n} elements"
    );
    if n == 0 {
        return;
    }
    let repeated = operands.map(|operand| {
        (operand.len() != n).then(|| {
            let mut values = vec![0.0; operand.len()];
            operand.to_real_with_isa(isa, &mut values);
            values
        })
    });
    let sides = [0, 1].map(|idx| match &repeated[idx] {
        Some(values) => Side::Repeated(Operand::new(
            values,
            values.len() / inner,
            n / values.len(),
            inner,
        )),
        None => Side::Whole(operands[idx]),
    });
    let piece = |start: usize, mut out: QuantizedSliceMut<'_>| {
        with_scratch(3 * BLOCK, |scratch: &mut [f32]| {
            let (first, rest) = scratch.split_at_mut(BLOCK);
            let (second, results) = rest.split_at_mut(BLOCK);
            let mut done = 0;
            while done < out.len() {
                let at = start + done;
                let reach = sides.iter().map(|side| side.reach(at)).min().unwrap_or(BLOCK);
                let len = reach.min(out.len() - done);
                let a = sides[0].block(isa, at, len, first);
                let b = sides[1].block(isa, at, len, second);
                let results = &mut results[..len];
                binary_block(isa, kernel, a, b, as_unwritten(results));
                quantize_with_isa(isa, results, scale, zero_point, out.part(done..done + len));
                done += len;
            }
        });
    };
    if parallel::runs_here(n) {
        return piece(0, out);
    }
    let start = |idx: usize| idx * parallel::GRAIN;
    match out {
        QuantizedSliceMut::U8(out) => {
            let pieces = out.par_chunks_mut(parallel::GRAIN).enumerate();
            pieces.for_each(|(idx, out)| piece(start(idx), QuantizedSliceMut::U8(out)));
        }
        QuantizedSliceMut::I8(out) => {
            let pieces = out.par_chunks_mut(parallel::GRAIN).enumerate();
            pieces.for_each(|(idx, out)| piece(start(idx), QuantizedSliceMut::I8(out)));
        }
    }
}

/// An operand as blocks read it.
enum Side<'a> {
    Whole(Numbers<'a>),
    Repeated(Operand<'a>),
}

impl Side<'_> {
    /// Elements from `start` on, up to which it is read in one piece.
    fn reach(&self, start: usize) -> usize {
        match self {
            Self::Whole(_) => BLOCK,
            Self::Repeated(operand) => operand.reach(start).min(BLOCK),
        }
    }

    /// The real numbers of a block, in place or in the scratch.
    fn block<'s>(&'s self, isa: Isa, start: usize, len: usize, scratch: &'s mut [f32]) -> &'s [f32] {
        match self {
            Self::Whole(Numbers::Real(values)) => &values[start..][..len],
            Self::Whole(quantized) => {
                let scratch = &mut scratch[..len];
                quantized.part(start, len).to_real_with_isa(isa, scratch);
                scratch
            }
            Self::Repeated(operand) => operand.block(start, len, scratch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QuantizedSlice, binary, dequantize_to_vec, quantize_to_u8};

    #[test]
    fn the_bits_are_those_of_separate_passes() {
        struct Case {
            outer: usize,
            middle: usize,
            inner: usize,
        }
        let case = |outer, middle, inner| Case { outer, middle, inner };
        let cases = [
            case(1, 1, 1),
            case(1, 1, 3000),
            case(1, 49, 64),
            case(49, 64, 1),
            case(3, 700, 5),
            case(2, 3, 2500),
            case(1, 70_000, 1),
            case(300, 1, 400),
        ];
        for Case { outer, middle, inner } in cases {
            let (n_long, n_short) = (outer * middle * inner, outer * inner);
            let bytes = |n: usize, k: usize| (0..n).map(|i| (i * k % 251) as u8).collect::<Vec<u8>>();
            let (long, short) = (bytes(n_long, 37), bytes(n_short, 91));
            let signed: Vec<i8> = long.iter().map(|&q| q.wrapping_sub(128).cast_signed()).collect();
            let reals: Vec<f32> = (0..n_short).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
            let longs = [QuantizedSlice::U8(&long), QuantizedSlice::I8(&signed)];
            let long_of = |q| Numbers::Quantized {
                q,
                scale: 0.03,
                zero_point: 7,
            };
            let shorts = [
                Numbers::Real(&reals),
                Numbers::Quantized {
                    q: QuantizedSlice::U8(&short),
                    scale: 0.011,
                    zero_point: 100,
                },
            ];
            for (long, short) in longs
                .into_iter()
                .flat_map(|long| shorts.map(|short| (long, short)))
            {
                let whole = dequantize_to_vec(long, 0.03, 7);
                let mut short_values = vec![0.0; n_short];
                short.to_real(&mut short_values);
                let spread: Vec<f32> = (0..n_long)
                    .map(|i| short_values[i / (middle * inner) * inner + i % inner])
                    .collect();
                for kernel in [BinaryKernel::Add, BinaryKernel::Sub, BinaryKernel::Div] {
                    for is_swapped in [false, true] {
                        let (mut a, mut b) = (&whole, &spread);
                        let mut operands = [long_of(long), short];
                        if is_swapped {
                            std::mem::swap(&mut a, &mut b);
                            operands.swap(0, 1);
                        }
                        let mut real = vec![0.0; n_long];
                        binary(kernel, a, b, &mut real);
                        let expected = quantize_to_u8(&real, 0.05, 120);
                        for isa in Isa::available() {
                            let mut got = vec![0; n_long];
                            let out = QuantizedSliceMut::U8(&mut got);
                            real_binary_with_isa(isa, kernel, operands, inner, (0.05, 120), out);
                            assert!(
                                got == expected,
                                "{kernel:?} {outer} {middle} {inner} {is_swapped} {isa:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
