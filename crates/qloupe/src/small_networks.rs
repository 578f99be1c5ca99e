//! Networks of a few nodes for tests, and samples for them.

use std::collections::BTreeMap;

use qloupe_ir::{Dim, Extra, Graph, Model, Node, OpsetImport, TensorType, ValueInfo};
use qloupe_tensor::{DType, Tensor};

use crate::array::write_npy;
use crate::recipe::Recipe;
use crate::samples::Dataset;
use crate::session::Session;

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
