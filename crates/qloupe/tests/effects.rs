//! The effects of units on the network outputs, the parts of their errors, and what is made of them.

#[cfg(test)]
mod fmnist;

#[cfg(test)]
mod effects {
    use qloupe::analyze::{AnalyzeOptions, ViewSet, analyze};
    use qloupe::calibrate;
    use qloupe::exam::Exam;
    use qloupe::hybrid::{Goal, Judge, propose};
    use qloupe::plan::{Method, Precision};
    use qloupe::quantize::{QuantizeOptions, Quantized, quantize};
    use qloupe::report::{Layer, Report};
    use qloupe::samples::Dataset;
    use qloupe::sensitivity::Depth;
    use qloupe::session::Session;
    use qloupe::targets;
    use qloupe_exec::Mode;

    use crate::fmnist::{session, testdata};

    const N_SAMPLES: usize = 2;
    /// Figures of runs that compute the same in another order.
    const TOLERANCE_DB: f64 = 1e-3;

    struct Case {
        session: Session,
        samples: Dataset,
        quantized: Quantized,
    }

    fn case(model: &str, target: &str, level: u8) -> Case {
        let (session, calibration) = session(model);
        let samples = Dataset::open(&testdata().join("fmnist/test"), &session.inputs).unwrap();
        let options = QuantizeOptions {
            algorithm: calibrate::find("min_max").unwrap(),
            method: Method::Layer,
            optimization_level: level,
            ..QuantizeOptions::new(targets::find(target).unwrap())
        };
        let quantized = quantize(&session, &calibration, &options, &|_, _, _| ()).unwrap();
        Case {
            session,
            samples,
            quantized,
        }
    }

    impl Case {
        fn report(&self) -> Report {
            let options = AnalyzeOptions {
                mode: Mode::FakeQuant,
                views: ViewSet::parse(["entire", "tensor", "local", "alone", "rescued"]).unwrap(),
                n_effect_samples: N_SAMPLES,
                depth: Depth::Exact,
                until_stable: false,
            };
            analyze(
                (
                    &self.session.network,
                    &self.quantized.prepared,
                    &self.quantized.plan,
                ),
                &self.samples,
                &options,
                &|_, _, _| (),
                None,
            )
            .unwrap()
        }

        /// Leaves nothing in integers but some values.
        fn keep_only(&mut self, wanted: impl Fn(&str) -> bool) {
            let plan = &mut self.quantized.plan;
            let names: Vec<String> = plan.values.iter().map(|value| value.name.clone()).collect();
            for name in names.iter().filter(|name| !wanted(name)) {
                plan.set_real(name, "float", "test");
            }
        }
    }

    fn sqnr_db(layer: &Layer, view: &str, output: &str) -> f64 {
        let views = &layer.views;
        let by_output = if view == "alone" {
            &views.alone
        } else {
            &views.rescued
        };
        by_output[output]["sqnr_db"].value
    }

    fn by_effect(report: &Report) -> Vec<&Layer> {
        let mut layers: Vec<&Layer> = report
            .layers
            .iter()
            .filter(|layer| layer.effect.is_some())
            .collect();
        layers.sort_by(|a, b| b.effect.unwrap().noise.total_cmp(&a.effect.unwrap().noise));
        layers
    }

    #[test]
    fn every_quantized_unit_and_input_has_both_views_and_shares_add_up() {
        for (model, target, level) in [("fmnist_resnet", "onnxruntime", 1), ("fmnist_vit", "rk3588", 3)] {
            let case = case(model, target, level);
            let report = case.report();
            let measured = by_effect(&report);
            assert!(measured.len() > 10, "{model}: {}", measured.len());
            for layer in &measured {
                assert!(!layer.views.rescued.is_empty(), "{model}: {}", layer.name);
                assert!(
                    !layer.causes.is_empty() || layer.views.local.is_empty(),
                    "{model}: {}",
                    layer.name
                );
            }
            let sum: f64 = measured.iter().map(|layer| layer.effect.unwrap().share).sum();
            assert!((sum - 1.0).abs() < TOLERANCE_DB, "{model}: {sum}");
            let additivity = report.additivity.as_ref().unwrap();
            assert_eq!(additivity.n_samples, N_SAMPLES);
            assert!(additivity.noise > 0.0, "{model}");
        }
    }

    /// With a single source in the plan, alone is what the whole network does, and without it nothing is left.
    #[test]
    fn the_only_source_is_the_whole_error() {
        let mut case = case("fmnist_mbv2", "onnxruntime", 0);
        let report = case.report();
        let worst = by_effect(&report)[0].name.clone();
        let reads: Vec<String> = {
            let nodes = &case.quantized.prepared.model.graph.nodes;
            let node = nodes.iter().find(|node| node.outputs.contains(&worst)).unwrap();
            node.inputs.clone()
        };
        let unit_of_worst = report.layers.iter().find(|layer| layer.name == worst).unwrap();
        assert!(!unit_of_worst.node.is_empty() && !reads.is_empty());
        case.keep_only(|name| name == worst);
        let report = case.report();
        let layers = by_effect(&report);
        assert_eq!(
            layers.len(),
            1,
            "{:?}",
            layers.iter().map(|layer| &layer.name).collect::<Vec<_>>()
        );
        let output = &report.outputs[0].name;
        let entire = report.additivity.as_ref().unwrap().sqnr_db;
        let alone = sqnr_db(layers[0], "alone", output);
        assert!((alone - entire).abs() < TOLERANCE_DB, "{alone} {entire}");
        let rescued = sqnr_db(layers[0], "rescued", output);
        assert!(rescued > alone + 60.0, "{rescued} {alone}");
        assert!((report.additivity.as_ref().unwrap().explained - 1.0).abs() < TOLERANCE_DB);
    }

    #[test]
    fn parts_and_residual_are_the_whole() {
        let case = case("fmnist_mbv2", "rk3588", 1);
        let report = case.report();
        for layer in by_effect(&report) {
            let own = layer.causes.iter().filter(|cause| cause.source != "inherited");
            let (named, small): (f64, f64) =
                own.fold((0.0, 0.0), |(sum, n), cause| (sum + cause.share, n + 1.0));
            // What is too small to be told is in neither.
            assert!(
                (named - 1.0).abs() < 0.001 * (1.0 + small),
                "{}: {named}",
                layer.name
            );
        }
    }

    #[test]
    fn a_clipped_value_is_found_first_and_refitting_it_helps() {
        let mut case = case("fmnist_mbv2", "rk3588", 1);
        let values = &case.quantized.plan.values;
        let middle = values[values.len() / 2].name.clone();
        let range = case.quantized.plan.value(&middle).unwrap().range.unwrap();
        let small = qloupe_tensor::Range {
            min: range.min / 6.0,
            max: range.max / 6.0,
        };
        let faulty = case
            .quantized
            .plan
            .with_range(&case.quantized.prepared, &middle, small);
        case.quantized.plan = faulty.unwrap().unwrap();
        assert!(matches!(
            case.quantized.plan.value(&middle).unwrap().precision,
            Precision::Quantized(_)
        ));
        let mut report = case.report();
        let first = &report.findings[0];
        assert_eq!(
            (first.id.as_str(), first.layer.as_deref()),
            ("activation_clipped", Some(middle.as_str()))
        );
        let samples = (0..N_SAMPLES)
            .map(|idx| case.samples.batch(idx).unwrap().inputs)
            .collect();
        let exam = Exam::new(&case.session.network, samples, Mode::Integer).unwrap();
        let fixer = qloupe::fix::Fixer::new(&case.session, &case.quantized, exam);
        fixer.try_all(&mut report.findings, 1, &|_, _, _| ()).unwrap();
        let tried = report.findings[0].tried.as_ref().unwrap();
        assert!(tried.gain_db > 3.0, "{tried:?}");
    }

    #[test]
    fn a_proposal_reaches_the_goal_and_needs_every_unit() {
        let case = case("fmnist_mbv2", "rk3588", 0);
        let report = case.report();
        let samples = (0..N_SAMPLES)
            .map(|idx| case.samples.batch(idx).unwrap().inputs)
            .collect();
        let exam = Exam::new(&case.session.network, samples, Mode::Integer).unwrap();
        let before = exam
            .judge(&case.session.network, &case.quantized)
            .unwrap()
            .worst_db;
        let judge = Judge::new(Goal::MinSqnrDb(before + 4.0), &exam, None, Mode::Integer).unwrap();
        let proposal = propose(&case.session, &case.quantized, &report, &judge, &|_, _, _| ()).unwrap();
        assert!(judge.reaches(&proposal.after), "{:?}", proposal.after);
        let raised: Vec<&str> = proposal
            .units
            .iter()
            .filter(|unit| unit.reason.starts_with("hybrid"))
            .map(|unit| unit.value.as_str())
            .collect();
        assert!(
            !raised.is_empty() && raised.len() < proposal.units.len() / 2,
            "{raised:?}"
        );
        let Quantized { prepared, plan, .. } = &case.quantized;
        for left_out in &raised {
            let mut plan = plan.clone();
            for value in raised.iter().filter(|value| *value != left_out) {
                assert!(plan.set_real(value, qloupe::plan::real_precision(prepared), "test"));
            }
            let prepared = qloupe::prepare::Prepared::new(&case.session.network, prepared.target, 0).unwrap();
            let trial = Quantized::new(prepared, plan);
            let marks = exam.judge(&case.session.network, &trial).unwrap();
            assert!(marks.worst_db < before + 4.0, "{left_out} is not needed");
        }
    }
}
