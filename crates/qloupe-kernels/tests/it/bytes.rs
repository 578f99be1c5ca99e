//! Kernels over bytes against a loop over elements, on every instruction set of the machine.

use proptest::prelude::*;
use qloupe_kernels::*;

use crate::values::integers;

fn random_bytes(n: usize, seed: u64) -> Vec<u8> {
    integers(n, seed).map(|bits| (bits >> 32) as u8).collect()
}

fn random_table(seed: u64) -> [u8; 256] {
    random_bytes(256, seed)
        .try_into()
        .expect("invariant: a table has 256 entries")
}

proptest! {
    #[test]
    fn a_table_maps_each_byte(n in 0_usize..300, long in any::<bool>(), seed in any::<u64>()) {
        let n = if long { n + 100_000 } else { n };
        let (x, table) = (random_bytes(n, seed), random_table(seed ^ 1));
        let expected: Vec<u8> = x.iter().map(|&b| table[usize::from(b)]).collect();
        for isa in Isa::available() {
            let mut out = vec![0; n];
            lookup_with_isa(isa, &x, &table, &mut out);
            prop_assert!(out == expected, "{}", isa.name());
        }
    }

    #[test]
    fn members_lie_beside_each_other(
        widths in prop::collection::vec(0_usize..150, 1..4),
        rows in 0_usize..40,
        many in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let rows = if many { rows * 40 } else { rows };
        let parts: Vec<Vec<u8>> = (seed..).zip(&widths).map(|(seed, w)| random_bytes(rows * w, seed)).collect();
        let table = random_table(seed);
        let mut expected = Vec::new();
        for r in 0..rows {
            for (i, (part, &w)) in parts.iter().zip(&widths).enumerate() {
                let map = |&b: &u8| if i % 2 == 0 { table[usize::from(b)] } else { b };
                expected.extend(part[r * w..][..w].iter().map(map));
            }
        }
        let members: Vec<ConcatMember<'_>> = parts
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, (part, &row))| ConcatMember {
                x: QuantizedSlice::U8(part),
                row,
                table: (i % 2 == 0).then_some(&table),
            })
            .collect();
        for isa in Isa::available() {
            let mut out = vec![0; expected.len()];
            concat_quantized_with_isa(isa, &members, rows, QuantizedSliceMut::U8(&mut out));
            prop_assert!(out == expected, "{}", isa.name());
        }
        // What was joined is cut again.
        let mut start = 0;
        let width: usize = widths.iter().sum();
        for (i, &w) in widths.iter().enumerate().filter(|(_, w)| **w > 0) {
            let mut piece = vec![0; rows * w];
            copy_strided(&expected[start.min(expected.len())..], &[(rows, width), (w, 1)], &mut piece);
            let map = |&b: &u8| if i % 2 == 0 { table[usize::from(b)] } else { b };
            prop_assert!(piece == parts[i].iter().map(map).collect::<Vec<u8>>(), "piece {i}");
            start += w;
        }
    }
}

fn check_strided<T: Copy + Default + PartialEq + Send + Sync + 'static>(
    x: &[T],
    axes: &[(usize, usize)],
) -> bool {
    let n: usize = axes.iter().map(|(size, _)| size).product();
    let expected: Vec<T> = (0..n)
        .map(|mut i| {
            let mut at = 0;
            for &(size, stride) in axes.iter().rev() {
                at += i % size * stride;
                i /= size;
            }
            x[at]
        })
        .collect();
    let mut out = vec![T::default(); n];
    copy_strided(x, axes, &mut out);
    out == expected
}

proptest! {
    #[test]
    fn views_are_copied_in_row_major_order(
        sizes in prop::collection::vec(1_usize..40, 4),
        order in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(),
        (step, repeated) in (1_usize..3, any::<bool>()),
    ) {
        let mut strides = [step; 4];
        for axis in (0..3).rev() {
            strides[axis] = strides[axis + 1] * (sizes[axis + 1] + axis % 2);
        }
        let mut axes: Vec<(usize, usize)> = order.iter().map(|&axis| (sizes[axis], strides[axis])).collect();
        if repeated {
            axes[1].1 = 0;
        }
        let n = strides[0] * (sizes[0] + 1);
        let x = random_bytes(n, 3);
        prop_assert!(check_strided(&x, &axes), "bytes {axes:?}");
        let words: Vec<f32> = (0..n).map(|i| i as f32).collect();
        prop_assert!(check_strided(&words, &axes), "words {axes:?}");
        let pairs: Vec<(u8, u32)> = (0..n).map(|i| (i as u8, i as u32)).collect();
        prop_assert!(check_strided(&pairs, &axes), "pairs {axes:?}");
    }
}

#[test]
fn signed_integers_are_looked_up_by_their_bits() {
    let table: [u8; 256] = std::array::from_fn(|i| 255 - i as u8);
    let mut out = [0_i8; 4];
    lookup_quantized(
        QuantizedSlice::I8(&[0, 1, -1, -128]),
        &table,
        QuantizedSliceMut::I8(&mut out),
    );
    assert_eq!(out, [-1, -2, 0, 127]);
}
