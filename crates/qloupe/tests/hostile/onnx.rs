//! A model from elsewhere, taken as far as a file alone can be: read, checked, inferred, prepared, quantized, written.

use std::collections::BTreeMap;

use qloupe::passes::convert_fp16::convert_fp16;
use qloupe::prepare::{Network, Prepared};
use qloupe::{shapes, targets};
use qloupe_exec::set_size_limit;
use qloupe_ir::{Model, Topology};
use qloupe_onnx::{model_to_bytes, read_model_bytes};

/// A value that a model of some kilobytes asks for is refused beyond this.
const SIZE_LIMIT: usize = 1 << 20;

/// Reads a model and does with it what a user would do before there is data.
///
/// # Panics
/// On a bug only: a model that was read must be written, and come back the same.
pub(crate) fn exercise(bytes: &[u8]) {
    let Ok(mut model) = read_model_bytes(bytes.to_vec(), None) else {
        return;
    };
    write_and_read_again(&model);
    for constant in model.graph.constants().values() {
        // A value that its dtype cannot hold is found only here.
        let _ = constant.tensor();
    }
    model.graph.order_nodes();
    crop(&model);
    if let Ok(inference) = shapes::infer(&model, &BTreeMap::new()) {
        assert!(
            inference.facts.len() >= model.graph.runtime_inputs().len(),
            "an input has no fact"
        );
    }
    set_size_limit(SIZE_LIMIT);
    if let Ok(network) = Network::new("fuzz.onnx".to_owned(), model) {
        prepare(&network);
    }
}

fn write_and_read_again(model: &Model) {
    let Ok(written) = model_to_bytes(model) else {
        panic!("a model that was read cannot be written");
    };
    let Ok(again) = read_model_bytes(written.clone(), None) else {
        panic!("a model that was written cannot be read");
    };
    assert!(
        model_to_bytes(&again).is_ok_and(|twice| twice == written),
        "a second round trip changes the model"
    );
}

/// Cuts the graph in its middle.
fn crop(model: &Model) {
    let Ok(topology) = Topology::new(&model.graph) else {
        return;
    };
    let values: Vec<String> = topology.values().map(str::to_owned).collect();
    if let Some(middle) = values.get(values.len() / 2) {
        let mut graph = model.graph.clone();
        let _ = graph.crop(&[], std::slice::from_ref(middle));
        let _ = graph.crop(std::slice::from_ref(middle), &[]);
    }
}

fn prepare(network: &Network) {
    for target in ["onnxruntime", "rk3588"].map(targets::find).into_iter().flatten() {
        if let Ok(prepared) = Prepared::new(network, target, 3) {
            let _ = (prepared.value_names(), prepared.weight_names());
        }
    }
    let _ = convert_fp16(&network.model);
}
