//! Files from elsewhere, broken on purpose: every seed of the fuzzer and what it has found.

mod hostile {
    pub(crate) mod array;
    pub(crate) mod dataset;
    pub(crate) mod onnx;
    pub(crate) mod plan;
}

#[cfg(test)]
mod replay {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::hostile::{array, dataset, onnx, plan};

    /// A seed takes milliseconds; this is what a slow machine in a debug build may need.
    const MAX_TIME: Duration = Duration::from_secs(20);

    /// Nothing may panic; an error is as good as a result.
    fn replay(target: &str, exercise: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(target);
        let mut seeds: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{} holds no seed", folder.display());
        for seed in seeds {
            let start = Instant::now();
            exercise(&std::fs::read(&seed).unwrap());
            assert!(
                start.elapsed() < MAX_TIME,
                "{} took {:?}",
                seed.display(),
                start.elapsed()
            );
        }
    }

    #[test]
    fn seeds_of_array_are_harmless() {
        replay("array", array::exercise);
    }

    #[test]
    fn seeds_of_dataset_are_harmless() {
        replay("dataset", dataset::exercise);
    }

    #[test]
    fn seeds_of_onnx_are_harmless() {
        replay("onnx", onnx::exercise);
    }

    #[test]
    fn seeds_of_plan_are_harmless() {
        replay("plan", plan::exercise);
    }
}
