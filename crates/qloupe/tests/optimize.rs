//! The whole way from samples to a plan: what the race and the passes win, that it is judged, repeatable and kept in files.

#[cfg(test)]
mod fmnist;

#[cfg(test)]
mod optimize {
    use qloupe::calibrate;
    use qloupe::plan::{Method, format_plan, write_plan};
    use qloupe::quantize::{QuantizeOptions, Quantized, quantize, read_plan};
    use qloupe::runner::Runner;
    use qloupe::samples::Dataset;
    use qloupe::session::Session;
    use qloupe::targets;
    use qloupe_exec::Mode;
    use qloupe_tensor::Tensor;

    use crate::fmnist::{session, testdata};

    fn options(algorithm: &str, method: Method, optimization_level: u8) -> QuantizeOptions {
        QuantizeOptions {
            algorithm: calibrate::find(algorithm).unwrap(),
            method,
            optimization_level,
            ..QuantizeOptions::new(targets::find("onnxruntime").unwrap())
        }
    }

    fn inputs(dataset: &Dataset, n: usize) -> Vec<Vec<(String, Tensor)>> {
        (0..n).map(|idx| dataset.batch(idx).unwrap().inputs).collect()
    }

    fn outputs(session: &Session, quantized: &Quantized, inputs: &[Vec<(String, Tensor)>]) -> Vec<f32> {
        let runner = quantized.runner(session, Mode::Integer).unwrap();
        let run = |inputs: &Vec<(String, Tensor)>| {
            let outputs = runner.run(&session.network, inputs, None).unwrap();
            outputs[0].1.require::<f32>().unwrap().to_vec()
        };
        inputs.iter().flat_map(run).collect()
    }

    fn sqnr_db(session: &Session, quantized: &Quantized, inputs: &[Vec<(String, Tensor)>]) -> f64 {
        let float = |inputs: &Vec<(String, Tensor)>| {
            let outputs = Runner::Float.run(&session.network, inputs, None).unwrap();
            outputs[0].1.require::<f32>().unwrap().to_vec()
        };
        let golden: Vec<f32> = inputs.iter().flat_map(float).collect();
        let test = outputs(session, quantized, inputs);
        let square = |v: f64| v * v;
        let signal: f64 = golden.iter().map(|&a| square(f64::from(a))).sum();
        let noise: f64 = golden
            .iter()
            .zip(&test)
            .map(|(&a, &b)| square(f64::from(a) - f64::from(b)))
            .sum();
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn what_is_kept_helps_on_samples_that_nothing_learned_from() {
        let (session, dataset) = session("fmnist_mbv2");
        let test = Dataset::open(&testdata().join("fmnist/test"), &session.inputs).unwrap();
        let test = inputs(&test, test.len().min(60));
        for method in [Method::Layer, Method::Channel] {
            let plain = quantize(&session, &dataset, &options("min_max", method, 0), &|_, _, _| ()).unwrap();
            let best = quantize(&session, &dataset, &options("auto", method, 3), &|_, _, _| ()).unwrap();
            let (before, after) = (sqnr_db(&session, &plain, &test), sqnr_db(&session, &best, &test));
            assert!(after > before + 1.0, "{method:?}: {before:.2} dB, {after:.2} dB");
            assert!(plain.plan.optimized.passes.is_empty() && plain.plan.optimized.constants.is_empty());
            assert!(!best.plan.optimized.passes.is_empty());
            assert!(
                best.plan.optimized.race.contains("min_max"),
                "{}",
                best.plan.optimized.race
            );
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (session, dataset) = session("fmnist_mbv2");
        let with_threads = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            let options = options("auto", Method::Layer, 3);
            pool.install(|| {
                quantize(&session, &dataset, &options, &|_, _, _| ())
                    .unwrap()
                    .plan
            })
        };
        let (one, three) = (with_threads(1), with_threads(3));
        assert_eq!(format_plan(&one, None), format_plan(&three, None));
        assert!(
            one.optimized.constants == three.optimized.constants,
            "constants differ"
        );
    }

    #[test]
    fn a_plan_is_the_same_after_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.plan.toml");
        for model in ["fmnist_mbv2", "fmnist_vit"] {
            let (session, dataset) = session(model);
            let options = options("mse", Method::Channel, 3);
            let quantized = quantize(&session, &dataset, &options, &|_, _, _| ()).unwrap();
            write_plan(&path, &quantized.plan).unwrap();
            let read = read_plan(&path, &session).unwrap();
            let inputs = inputs(&dataset, 2);
            assert_eq!(
                outputs(&session, &quantized, &inputs),
                outputs(&session, &read, &inputs),
                "{model}"
            );
        }
    }

    #[test]
    fn statistics_serve_another_algorithm() {
        let folder = tempfile::tempdir().unwrap();
        let statistics = Some(folder.path().join("s.npz"));
        let (session, dataset) = session("fmnist_resnet");
        let with = |algorithm: &str, statistics: &Option<std::path::PathBuf>| {
            let options = QuantizeOptions {
                statistics: statistics.clone(),
                ..options(algorithm, Method::Channel, 0)
            };
            quantize(&session, &dataset, &options, &|_, _, _| ())
                .unwrap()
                .plan
        };
        with("min_max", &statistics);
        for algorithm in [
            "min_max",
            "mse",
            "entropy",
            "percentile",
            "octav",
            "moving_average",
        ] {
            assert_eq!(
                with(algorithm, &statistics),
                with(algorithm, &None),
                "{algorithm}"
            );
        }
        let (other, dataset) = self::session("fmnist_mbv2");
        let options = QuantizeOptions {
            statistics,
            ..options("mse", Method::Channel, 0)
        };
        let error = quantize(&other, &dataset, &options, &|_, _, _| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains("statistics of another model"), "{error}");
    }

    #[test]
    fn one_sample_is_enough() {
        let (session, _) = session("fmnist_mbv2");
        let first = std::fs::read_dir(testdata().join("fmnist/calib"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let dataset = Dataset::open(&first.path(), &session.inputs).unwrap();
        let quantized = quantize(
            &session,
            &dataset,
            &options("auto", Method::Channel, 3),
            &|_, _, _| (),
        )
        .unwrap();
        assert_eq!(quantized.plan.n_samples, 1);
    }
}
