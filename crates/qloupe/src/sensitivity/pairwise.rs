//! Sums over the elements of two values.

/// Sums that run side by side: the order of additions is the same on every machine, and none waits for the one before.
const N_SUMS: usize = 16;
/// Elements whose products are summed in float32 before they are added to the sum of all.
const N_BLOCK: usize = 1024;

/// The sum of a term of each pair of elements.
pub(super) fn sum_of_pairs(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (a_chunks, a_rest) = a.as_chunks::<N_SUMS>();
    let (b_chunks, b_rest) = b.as_chunks::<N_SUMS>();
    let mut sums = [0.0_f64; N_SUMS];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..N_SUMS {
            sums[i] += term(f64::from(a[i]), f64::from(b[i]));
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    let rest: f64 = rest.map(|(&a, &b)| term(f64::from(a), f64::from(b))).sum();
    sums.iter().sum::<f64>() + rest
}

/// The sum of the products of all pairs: to about six digits, four times as fast as [`sum_of_pairs`].
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let blocks = a.chunks(N_BLOCK).zip(b.chunks(N_BLOCK));
    blocks.map(|(a, b)| f64::from(dot_of_block(a, b))).sum()
}

fn dot_of_block(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<N_SUMS>();
    let (b_chunks, b_rest) = b.as_chunks::<N_SUMS>();
    let mut sums = [0.0_f32; N_SUMS];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..N_SUMS {
            sums[i] += a[i] * b[i];
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    sums.iter().sum::<f32>() + rest.map(|(&a, &b)| a * b).sum::<f32>()
}

/// The differences of the elements.
pub(super) fn difference_of(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_counts_once() {
        for n in [0, 1, 15, 16, 17, 40, 1023, 1024, 2060] {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let b = vec![2.0_f32; n];
            let expected = (0..n).map(|i| 2.0 * i as f64).sum::<f64>();
            for sum in [sum_of_pairs(&a, &b, |a, b| a * b), dot(&a, &b)] {
                assert!((sum - expected).abs() < f64::EPSILON, "{n}: {sum}");
            }
        }
    }
}
