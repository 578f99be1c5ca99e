//! Models that other tools quantized: under its plan, the float twin computes what the model computes.

#[cfg(test)]
mod prequantized {
    use std::path::{Path, PathBuf};

    use qloupe::Mode;
    use qloupe::analyze::{Analysis, ViewSet};
    use qloupe::array::ArrayFile;
    use qloupe::prepare::{Crop, Network, load_model};
    use qloupe::prequantized::{Agreement, Prequantized};
    use qloupe::report::Report;
    use qloupe::samples::Batch;
    use qloupe::targets;
    use qloupe_tensor::Tensor;

    fn testdata() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
    }

    fn array(file: &str, name: &str) -> Option<Tensor> {
        let file = ArrayFile::open(&testdata().join("quantized").join(file)).unwrap();
        Some(file.read(file.position(name)?).unwrap())
    }

    /// A sample of an array whose leading axis is the sample.
    fn sample(all: &Tensor, idx: usize) -> Tensor {
        let shape = [&[1], &all.shape()[1..]].concat();
        let size = shape.iter().product::<usize>();
        let values = all.as_slice::<f32>().unwrap()[idx * size..(idx + 1) * size].to_vec();
        Tensor::new(&shape, values).unwrap()
    }

    /// A model of the zoo: nodes that stay on integers, integers of the first sample that may be one step off.
    struct Case {
        model: &'static str,
        n_kept: usize,
        n_off_by_one: usize,
    }

    const fn case(model: &'static str, n_kept: usize, n_off_by_one: usize) -> Case {
        Case {
            model,
            n_kept,
            n_off_by_one,
        }
    }

    const ZOO: &[Case] = &[
        case("brevitas_w4a4", 0, 0),
        case("brevitas_w8a8", 0, 0),
        case("inc_qdq", 0, 0),
        case("inc_qoperator", 0, 0),
        case("modelopt_int4_awq", 0, 0),
        case("modelopt_int8", 0, 0),
        case("modelopt_int8_fp16", 36, 0),
        case("nncf_cpu_performance", 0, 0),
        case("nncf_mixed", 0, 0),
        case("ort_blocks_matmulnbits", 25, 0),
        case("ort_blocks_qdq", 0, 0),
        case("ort_dynamic_conv", 0, 0),
        case("ort_dynamic_lstm", 1, 0),
        case("ort_dynamic_vit", 0, 0),
        case("ort_optimized_u8s8", 0, 0),
        case("ort_qdq_s8s8_tensor", 0, 0),
        case("ort_qdq_u16s4_contrib", 0, 0),
        case("ort_qdq_u16s8", 0, 0),
        case("ort_qdq_u8s8_channel", 0, 0),
        case("ort_qoperator_s8s8_channel", 0, 0),
        case("ort_qoperator_u8u8", 0, 0),
        case("quark_a8w8", 0, 0),
        case("quark_xint8", 0, 0),
        case("tf_qat", 0, 0),
        case("torch_pt2e", 0, 0),
        case("torch_qat_s8", 0, 0),
        case("torch_qat_u7", 0, 0),
    ];

    /// What is left of a model after reading: how well its plan fits, and what the analysis says.
    struct Outcome {
        agreement: Agreement,
        /// Output of ONNX Runtime and of the plan in fake-quant mode.
        outputs: (Tensor, Tensor),
        report: Report,
        n_kept: usize,
        n_values: usize,
        n_weights: usize,
        findings: Vec<String>,
    }

    fn run(model: &str) -> Result<Outcome, qloupe::Error> {
        let path = testdata().join("quantized").join(model).with_extension("onnx");
        let quantized = Prequantized::read(model.to_owned(), load_model(&path, &Crop::default())?)?;
        let twin = Network::new(model.to_owned(), quantized.twin().clone())?;
        let target = targets::find("onnxruntime")?;
        let (prepared, plan) = quantized.prepare(&twin, target)?;
        let input = twin.model.graph.runtime_inputs()[0].name.clone();
        let image = sample(&array("images.npz", "input").unwrap(), 0);
        let inputs = vec![(input, image)];
        let agreement = quantized.agreement(&prepared, &plan, &inputs)?;
        let located = |e| twin.located(e);
        let fake = prepared
            .quantized(&twin, &plan, Mode::FakeQuant)?
            .run(&inputs)
            .map_err(located)?;
        let reference = array("reference.npz", &format!("{model}/plain")).unwrap();
        let mut analysis = Analysis::new(
            &twin,
            &prepared,
            &plan,
            Mode::Integer,
            ViewSet::parse(["entire", "local", "tensor"])?,
        )?;
        analysis.observe(&Batch::single(0, inputs), None)?;
        let summary = quantized.summary();
        Ok(Outcome {
            agreement,
            outputs: (sample(&reference, 0), fake[0].1.clone()),
            report: analysis.finish(),
            n_kept: summary.n_kept,
            n_values: summary.values.values().sum(),
            n_weights: summary.weights.values().sum(),
            findings: quantized.audit(target).into_iter().map(|f| f.id).collect(),
        })
    }

    fn cosine(a: &Tensor, b: &Tensor) -> f64 {
        let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    }

    /// Cosine of the outputs of ONNX Runtime and of the plan, at least; float16 networks are computed in another order.
    const MIN_COSINE: f64 = 0.9999;

    #[test]
    fn every_model_of_the_zoo_is_a_plan() {
        let mut wrong = Vec::new();
        for case in ZOO {
            let outcome = run(case.model).unwrap_or_else(|error| panic!("{}: {error}", case.model));
            let (reference, fake) = &outcome.outputs;
            let output = &outcome.report.outputs[0].views.entire;
            let number = |id: &str| output.get(id).map_or(f64::NAN, |metric| metric.value);
            let to_reference = cosine(reference, fake);
            println!(
                "| {} | {} | {} | {} | {} | {to_reference:.6} | {:.6} | {:.2} |",
                case.model,
                outcome.n_values,
                outcome.n_weights,
                outcome.findings.join(", "),
                outcome.agreement,
                number("cosine"),
                number("sqnr_db"),
            );
            let agreement = outcome.agreement;
            let checks = [
                (
                    outcome.n_kept == case.n_kept,
                    format!("{} nodes stay", outcome.n_kept),
                ),
                (agreement.n_different <= case.n_off_by_one, agreement.to_string()),
                (agreement.largest <= 1, agreement.to_string()),
                (agreement.n_skipped == 0, agreement.to_string()),
                (agreement.largest_relative < 1e-5, agreement.to_string()),
                (
                    to_reference > MIN_COSINE,
                    format!("cosine to ONNX Runtime {to_reference}"),
                ),
                (
                    number("cosine") > 0.99,
                    format!("cosine to float {}", number("cosine")),
                ),
            ];
            let failed = checks.into_iter().filter(|(passed, _)| !passed);
            wrong.extend(failed.map(|(_, what)| format!("{}: {what}", case.model)));
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn an_agreement_that_is_none_is_seen() {
        let model = "ort_qdq_u8s8_channel";
        let path = testdata().join("quantized").join(model).with_extension("onnx");
        let quantized =
            Prequantized::read(model.to_owned(), load_model(&path, &Crop::default()).unwrap()).unwrap();
        let mut twin = quantized.twin().clone();
        let weight = twin
            .graph
            .initializers
            .iter_mut()
            .find(|i| i.value.shape().len() == 4)
            .unwrap();
        let tensor = weight.value.tensor().unwrap();
        let doubled = tensor
            .as_slice::<f32>()
            .unwrap()
            .iter()
            .map(|w| 2.0 * w)
            .collect();
        weight.value = Tensor::new(tensor.shape(), doubled).unwrap().into();
        let twin = Network::new(model.to_owned(), twin).unwrap();
        let (prepared, plan) = quantized
            .prepare(&twin, targets::find("onnxruntime").unwrap())
            .unwrap();
        let inputs = vec![(
            "input".to_owned(),
            sample(&array("images.npz", "input").unwrap(), 0),
        )];
        let agreement = quantized.agreement(&prepared, &plan, &inputs).unwrap();
        assert!(
            agreement.n_different > 100 && agreement.largest > 1,
            "{agreement}"
        );
    }

    #[test]
    fn a_float16_model_is_compared_with_its_float32_original() {
        let path = testdata().join("quantized/modelopt_int8_fp16.onnx");
        let quantized =
            Prequantized::read("q".to_owned(), load_model(&path, &Crop::default()).unwrap()).unwrap();
        let twin = Network::new("q".to_owned(), quantized.twin().clone()).unwrap();
        let (prepared, plan) = quantized
            .prepare(&twin, targets::find("onnxruntime").unwrap())
            .unwrap();
        let mut original = load_model(&testdata().join("models/fmnist_mbv2.onnx"), &Crop::default()).unwrap();
        quantized.align(&twin.model, &mut original, "model").unwrap();
        let original = Network::new("model".to_owned(), original).unwrap();
        let views = ViewSet::parse(["entire", "local"]).unwrap();
        let mut analysis = Analysis::new(&original, &prepared, &plan, Mode::Integer, views).unwrap();
        let image = sample(&array("images.npz", "input").unwrap(), 0);
        let batch = Batch::single(0, vec![("input".to_owned(), image)]);
        analysis.observe(&batch, None).unwrap();
        let report = analysis.finish();
        let entire = |layer: &qloupe::report::Layer| layer.views.entire.get("cosine").map(|m| m.value);
        let local = |layer: &qloupe::report::Layer| layer.views.local.get("cosine").map(|m| m.value);
        let worst = report.layers.iter().filter_map(local).fold(1.0, f64::min);
        let n_rows = report.layers.iter().filter_map(entire).count();
        let n_local = report.layers.iter().filter_map(local).count();
        assert!(
            n_rows > 20 && n_local > 10 && (0.99..1.0).contains(&worst),
            "{n_rows} {n_local} {worst}"
        );
        let output = report.outputs[0].views.entire["cosine"].value;
        assert!((0.99..1.0).contains(&output), "{output}");
    }
}
