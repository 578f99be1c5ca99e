//! Real models come out of a round trip byte for byte, and survive a rewrite of every tensor.

#[cfg(test)]
mod round_trip {
    use std::path::{Path, PathBuf};

    use qloupe_ir::{AttributeValue, Constant, Graph, Model, Node};
    use qloupe_onnx::{model_to_bytes, read_model, read_model_bytes, write_model};

    /// The models of the repository, and those of the folder `QLOUPE_MODELS`.
    fn models() -> Vec<PathBuf> {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        let mut folders = vec![testdata.join("models"), testdata.join("quantized")];
        match std::env::var_os("QLOUPE_MODELS") {
            Some(folder) => folders.push(folder.into()),
            None => println!("QLOUPE_MODELS is not set: only the models of the repository are tested"),
        }
        let mut models: Vec<PathBuf> = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
            .collect();
        models.sort();
        assert!(!models.is_empty(), "testdata/models holds no model");
        models
    }

    #[test]
    fn untouched_models_are_byte_identical() {
        for path in models() {
            let bytes = std::fs::read(&path).unwrap();
            let model = read_model(&path).unwrap();
            assert!(
                model_to_bytes(&model).unwrap() == bytes,
                "{} differs after a round trip",
                path.display()
            );
            let folder = tempfile::tempdir().unwrap();
            let copy = folder.path().join("copy.onnx");
            write_model(&model, &copy).unwrap();
            assert!(
                std::fs::read(&copy).unwrap() == bytes,
                "{} differs on disk",
                path.display()
            );
        }
    }

    #[test]
    fn decoded_tensors_are_written_with_the_same_values() {
        for path in models() {
            let model = read_model(&path).unwrap();
            let mut decoded = model.clone();
            decode_graph(&mut decoded.graph);
            let back = read_model_bytes(model_to_bytes(&decoded).unwrap(), None).unwrap();
            assert!(same_model(&back, &model), "{} has other values", path.display());
        }
    }

    /// Debug text tells NaN from NaN, which `==` does not.
    fn same_model(a: &Model, b: &Model) -> bool {
        let text = |model: &Model| {
            let mut model = model.clone();
            decode_graph(&mut model.graph);
            format!("{model:?}")
        };
        text(a) == text(b)
    }

    fn decode_graph(graph: &mut Graph) {
        for initializer in &mut graph.initializers {
            decode(&mut initializer.value);
        }
        graph.nodes.iter_mut().for_each(decode_node);
    }

    fn decode_node(node: &mut Node) {
        for attribute in &mut node.attributes {
            match &mut attribute.value {
                AttributeValue::Tensor(value) => decode(value),
                AttributeValue::Tensors(values) => values.iter_mut().for_each(decode),
                AttributeValue::Graph(graph) => decode_graph(graph),
                AttributeValue::Graphs(graphs) => graphs.iter_mut().for_each(decode_graph),
                _ => {}
            }
        }
    }

    fn decode(constant: &mut Constant) {
        *constant = Constant::Memory(constant.tensor().unwrap());
    }
}
