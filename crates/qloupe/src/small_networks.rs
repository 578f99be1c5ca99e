//! Networks of a few nodes for tests, and samples for them.

use std::collections::BTreeMap;

use qloupe_exec::Mode;
use qloupe_ir::{Dim, Extra, Graph, Model, Node, OpsetImport, TensorType, ValueInfo};
use qloupe_tensor::{DType, Tensor};

use crate::array::write_npy;
use crate::quantize::{QuantizeOptions, Quantized, quantize};
use crate::recipe::Recipe;
use crate::runner::Runner;
use crate::samples::Dataset;
use crate::session::Session;
use crate::{calibrate, targets};

/// A network with samples.
pub(crate) struct Opened {
    pub(crate) session: Session,
    pub(crate) samples: Dataset,
    /// Where the samples are.
    _folder: tempfile::TempDir,
}

impl Opened {
    /// `samples` has one more axis in front than the input without its first.
    pub(crate) fn new(model: Model, samples: &Tensor) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.npy");
        write_npy(&file, samples).unwrap();
        let recipe = Recipe::default();
        let session = Session::of_model("m.onnx".to_owned(), model, &BTreeMap::new(), &recipe).unwrap();
        let samples = Dataset::open(&file, &session.inputs).unwrap();
        Self {
            session,
            samples,
            _folder: folder,
        }
    }

    /// The first output of every sample, one after the other.
    pub(crate) fn outputs(&self, run: impl Fn(&[(String, Tensor)]) -> Tensor) -> Vec<f32> {
        let of_sample = |idx: usize| {
            let inputs = self.samples.batch(idx).unwrap().inputs;
            run(&inputs).require::<f32>().unwrap().to_vec()
        };
        (0..self.samples.len()).flat_map(of_sample).collect()
    }

    /// The outputs of the float network.
    pub(crate) fn golden(&self) -> Vec<f32> {
        self.outputs(|inputs| {
            let outputs = Runner::Float.run(&self.session.network, inputs, None).unwrap();
            outputs[0].1.clone()
        })
    }

    /// What runs against the float network, over all samples.
    pub(crate) fn sqnr_db(&self, run: impl Fn(&[(String, Tensor)]) -> Tensor) -> f64 {
        let (golden, test) = (self.golden(), self.outputs(run));
        let square = |v: f32| f64::from(v).powi(2);
        let signal: f64 = golden.iter().map(|&a| square(a)).sum();
        let noise: f64 = golden.iter().zip(&test).map(|(&a, &b)| square(a - b)).sum();
        10.0 * (signal / noise).log10()
    }

    /// A plan in integers against the float network, over all samples.
    pub(crate) fn sqnr_db_of(&self, quantized: &Quantized) -> f64 {
        let runner = quantized.runner(&self.session, Mode::Integer).unwrap();
        self.sqnr_db(|inputs| {
            let outputs = runner.run(&self.session.network, inputs, None).unwrap();
            outputs[0].1.clone()
        })
    }

    /// Quantized for `onnxruntime` with `min_max`.
    pub(crate) fn quantized(&self, optimization_level: u8) -> Quantized {
        let options = QuantizeOptions {
            algorithm: calibrate::find("min_max").unwrap(),
            optimization_level,
            ..QuantizeOptions::new(targets::find("onnxruntime").unwrap())
        };
        quantize(&self.session, &self.samples, &options, &|_, _, _| ()).unwrap()
    }
}

fn info(name: &str, shape: &[i64]) -> ValueInfo {
    let ty = TensorType {
        dtype: Some(DType::Float32),
        shape: Some(shape.iter().map(|&dim| Dim::Known(dim)).collect()),
        extra: Extra::default(),
    };
    ValueInfo::tensor(name, ty)
}

/// A network from `x` to `y` with constants.
pub(crate) fn model(nodes: Vec<Node>, shapes: [&[i64]; 2], constants: Vec<(&str, Tensor)>) -> Model {
    let mut model = Model {
        ir_version: 8,
        opset_imports: vec![OpsetImport {
            domain: String::new(),
            version: 13,
        }],
        graph: Graph {
            name: "graph".to_owned(),
            inputs: vec![info("x", shapes[0])],
            outputs: vec![info("y", shapes[1])],
            nodes,
            ..Graph::default()
        },
        ..Model::default()
    };
    for (name, tensor) in constants {
        model.graph.set_initializer(name, tensor);
    }
    model
}

/// Numbers between -1 and 1, each scaled; the same ones every time.
pub(crate) fn numbers(shape: &[usize], scale: f32) -> Tensor {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 32768.0 - 1.0
    };
    let values = (0..shape.iter().product()).map(|_| next() * scale).collect();
    Tensor::new(shape, values).unwrap()
}
