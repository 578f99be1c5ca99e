//! Laws of every algorithm.

use proptest::prelude::*;
use qloupe_tensor::{DType, Granularity};

use super::noise::Noise;
use super::*;

const DTYPES: [DType; 5] = [
    DType::Int8,
    DType::UInt8,
    DType::Int16,
    DType::UInt16,
    DType::Int4,
];

fn observe(samples: &[Vec<f32>]) -> Sketch {
    let mut sketch = Sketch::default();
    for values in samples.iter().filter(|values| !values.is_empty()) {
        let MinMax { min, max, .. } = min_max(values);
        let range = Range {
            min: min + 0.0,
            max: max + 0.0,
        };
        sketch.observe(values, range);
    }
    sketch
}

fn schemes() -> impl Iterator<Item = QuantScheme> {
    DTYPES.into_iter().flat_map(|dtype| {
        [
            QuantScheme::asymmetric(dtype),
            QuantScheme::symmetric(dtype, Granularity::PerTensor),
        ]
    })
}

fn samples() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let scale = prop_oneof![Just(1e-6_f32), Just(1.0), Just(1e6)];
    let sample = prop::collection::vec(-1.0_f32..1.0, 0..20);
    (prop::collection::vec(sample, 1..8), scale).prop_map(|(samples, scale)| {
        let scaled = |sample: Vec<f32>| sample.into_iter().map(|v| v * scale).collect();
        samples.into_iter().map(scaled).collect()
    })
}

proptest! {
    // Every case tries all algorithms with all schemes.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn merging_is_observing_everything(samples in samples(), cut in 0_usize..8) {
        let (first, second) = samples.split_at(cut.min(samples.len()));
        let mut merged = observe(first);
        merged.merge(&observe(second));
        prop_assert_eq!(&merged, &observe(&samples));
    }

    #[test]
    fn ranges_lie_inside_what_was_seen(samples in samples()) {
        let sketch = observe(&samples);
        let whole = sketch.range();
        for (algorithm, scheme) in ALL.iter().flat_map(|a| schemes().map(move |s| (a, s))) {
            let range = algorithm.range(&sketch, &scheme);
            let inside = range.min >= whole.min.min(0.0) && range.max <= whole.max.max(0.0) && range.min <= range.max;
            prop_assert!(inside, "{}, {:?}: {range:?} in {whole:?}", algorithm.id(), scheme);
        }
    }

    #[test]
    fn what_entropy_clips_costs_no_more_than_clipping_nothing(
        sample in prop::collection::vec(-1.0_f32..1.0, 300..500),
        power in 1_i32..12,
        positive in any::<bool>(),
    ) {
        let shaped = |v: f32| if positive { v.abs().powi(power) } else { v.abs().powi(power).copysign(v) };
        let sketch = observe(&[sample.into_iter().map(shaped).collect()]);
        let noise = Noise::new(sketch.points());
        for scheme in schemes() {
            let (error, whole) = (
                noise.error(entropy::Entropy.range(&sketch, &scheme), &scheme),
                noise.error(sketch.range(), &scheme),
            );
            prop_assert!(error <= whole, "{scheme:?}: {error} above {whole}");
        }
    }

    #[test]
    fn no_algorithm_beats_mse_in_squared_error(
        sample in prop::collection::vec(-1.0_f32..1.0, 300..500),
        power in 1_i32..6,
        positive in any::<bool>(),
    ) {
        let shaped = |v: f32| if positive { v.abs().powi(power) } else { v.abs().powi(power).copysign(v) };
        let sketch = observe(&[sample.into_iter().map(shaped).collect()]);
        let noise = Noise::new(sketch.points());
        for (algorithm, scheme) in ALL.iter().flat_map(|a| schemes().map(move |s| (a, s))) {
            let least = noise.error(mse::Mse.range(&sketch, &scheme), &scheme);
            let error = noise.error(algorithm.range(&sketch, &scheme), &scheme);
            // The search is over parts of the whole range: between two of them a little may be found.
            let slack = 0.1 * error + 1e-9 * noise.energy();
            prop_assert!(least <= error + slack, "{}, {scheme:?}: {error} below {least}", algorithm.id());
        }
    }
}

#[test]
fn odd_values_have_ranges() {
    let cases: [(&str, Vec<Vec<f32>>); 4] = [
        ("nothing", vec![]),
        ("zeros", vec![vec![0.0; 10]]),
        ("one constant", vec![vec![3.5; 10], vec![3.5; 4]]),
        ("tiny", vec![vec![1e-40, 2e-40]]),
    ];
    for (what, samples) in cases {
        let sketch = observe(&samples);
        for (algorithm, scheme) in ALL.iter().flat_map(|a| schemes().map(move |s| (a, s))) {
            let range = algorithm.range(&sketch, &scheme);
            let params = qloupe_tensor::params_from_range(&[range], &scheme);
            assert!(params.is_ok(), "{what}, {}: {range:?}", algorithm.id());
        }
    }
}

#[test]
fn ids_are_sorted_and_unique() {
    let sorted = ALL.windows(2).all(|pair| pair[0].id() < pair[1].id());
    assert!(sorted, "the list is sorted by id");
}
