//! `cargo xtask load-time`: how long a model takes until it can run. The time per byte and per node must not grow with
//! the model.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use qloupe_exec::Program;
use qloupe_ir::{Dim, Extra, Graph, Initializer, Model, Node, OpsetImport, TensorType, ValueInfo};
use qloupe_onnx::{read_model, write_model};
use qloupe_tensor::{DType, Tensor};

/// The best of so many runs counts.
const N_RUNS: usize = 3;

/// A chain of MatMul and Relu with square weights, or of Relu alone where `width` is 0.
struct Size {
    n_layers: usize,
    width: usize,
}

const SIZES: &[Size] = &[
    Size {
        n_layers: 4,
        width: 256,
    },
    Size {
        n_layers: 10,
        width: 512,
    },
    Size {
        n_layers: 25,
        width: 1024,
    },
    Size {
        n_layers: 64,
        width: 2048,
    },
    Size {
        n_layers: 1_000,
        width: 0,
    },
    Size {
        n_layers: 10_000,
        width: 0,
    },
    Size {
        n_layers: 100_000,
        width: 0,
    },
];

/// Writes models of all sizes to a temporary folder and loads them.
///
/// # Errors
/// A folder that cannot be written; a model that cannot be loaded is a bug.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("qloupe-load-time-{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    let result = measure_all(&folder);
    std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    result
}

fn measure_all(folder: &Path) -> anyhow::Result<()> {
    println!("| file | nodes | read_model | Program::new | GB/s | us per node |");
    println!("|---|---|---|---|---|---|");
    let path = folder.join("model.onnx");
    for size in SIZES {
        write_model(&model(size)?, &path)?;
        let (mut read_s, mut prepare_s) = (f64::INFINITY, f64::INFINITY);
        let mut n_nodes = 0;
        for _ in 0..N_RUNS {
            let start = Instant::now();
            let model = read_model(&path)?;
            read_s = read_s.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            let program = Program::new(&model)?;
            prepare_s = prepare_s.min(start.elapsed().as_secs_f64());
            n_nodes = program.graph().nodes.len();
        }
        let size_mb = path.metadata()?.len() as f64 / 1e6;
        let total_s = read_s + prepare_s;
        println!(
            "| {size_mb:.1} MB | {n_nodes} | {:.2} ms | {:.2} ms | {:.2} | {:.2} |",
            read_s * 1e3,
            prepare_s * 1e3,
            size_mb / 1e3 / total_s,
            total_s * 1e6 / n_nodes as f64
        );
    }
    Ok(())
}

fn model(size: &Size) -> anyhow::Result<Model> {
    let width = i64::try_from(size.width.max(1))?;
    let info = |name: &str| {
        let ty = TensorType {
            dtype: Some(DType::Float32),
            shape: Some(vec![Dim::Known(1), Dim::Known(width)]),
            extra: Extra::default(),
        };
        ValueInfo::tensor(name, ty)
    };
    let mut graph = Graph {
        inputs: vec![info("x")],
        ..Graph::default()
    };
    let mut value = "x".to_owned();
    let mut state = 1_u32;
    for layer in 0..size.n_layers {
        if size.width > 0 {
            let (weight, product) = (format!("layer{layer}.weight"), format!("layer{layer}.product"));
            let random = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            });
            let shape = [size.width, size.width];
            let tensor = Tensor::new(&shape, random.take(size.width * size.width).collect())?;
            graph.initializers.push(Initializer {
                name: weight.clone(),
                value: tensor.into(),
            });
            graph.nodes.push(Node::new(
                "MatMul",
                &format!("layer{layer}.matmul"),
                &[&value, &weight],
                &[&product],
            ));
            value = product;
        }
        let output = format!("layer{layer}.output");
        graph.nodes.push(Node::new(
            "Relu",
            &format!("layer{layer}.relu"),
            &[&value],
            &[&output],
        ));
        value = output;
    }
    graph.outputs.push(info(&value));
    Ok(Model {
        ir_version: 8,
        opset_imports: vec![OpsetImport {
            domain: String::new(),
            version: 17,
        }],
        graph,
        ..Model::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_both_kinds_load() {
        for size in [
            Size {
                n_layers: 2,
                width: 4,
            },
            Size {
                n_layers: 3,
                width: 0,
            },
        ] {
            let program = Program::new(&model(&size).unwrap()).unwrap();
            let n_nodes = size.n_layers * if size.width > 0 { 2 } else { 1 };
            assert_eq!(program.graph().nodes.len(), n_nodes);
        }
    }
}
