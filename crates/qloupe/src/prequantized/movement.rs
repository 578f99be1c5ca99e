//! Nodes that move integers in a model: the twin has their float form, and its result shares the parameters.

use qloupe_exec::MOVING_OPERATORS;
use qloupe_ir::Node;
use qloupe_tensor::{QuantParams, Tensor};

use super::names::original_name;
use super::read::{Quantization, Reader};

impl Reader<'_> {
    /// Writes the float form of a node that moves integers; nothing for other nodes.
    pub(super) fn move_integers(&mut self, node: &Node) -> Result<(), String> {
        let mut integers = node
            .inputs
            .iter()
            .filter(|name| self.integer_value(name).is_some());
        let Some(first) = integers.next() else {
            return Ok(());
        };
        let Some(params) = self.integer_value(first).cloned() else {
            return Ok(());
        };
        let same = node
            .inputs
            .iter()
            .all(|name| self.integer_value(name).is_none_or(|p| *p == params));
        let moves = node.is_onnx("Concat") || (node.input(0) == Some(first) && integers.next().is_none());
        let known = MOVING_OPERATORS.iter().any(|op| node.is_onnx(op))
            || ["Clip", "Concat", "Pad"].iter().any(|op| node.is_onnx(op));
        let interpolates = node.is_onnx("Resize") && node.string("mode").unwrap_or("nearest") != "nearest";
        let one_scale = params.as_per_tensor().is_some();
        if !known || !moves || !same || !one_scale || interpolates {
            return Err("it computes with the integers".to_owned());
        }
        let mut written = node.clone();
        for name in &mut written.inputs {
            if self.integer_value(name).is_some() {
                *name = self.twin_name(name);
            }
        }
        if node.is_onnx("Pad") && node.string("mode").unwrap_or("constant") == "constant" {
            // Without a value, integers are padded with 0, which stands for another number.
            let value = self.real_constant(node, 2, &params).or_else(|| {
                let zero = params
                    .as_per_tensor()
                    .map(|(scale, zero_point)| -(zero_point as f32) * scale);
                node.input(2)
                    .is_none()
                    .then(|| Tensor::scalar(zero.unwrap_or(0.0)))
            });
            let value = value.ok_or("its padding is computed")?;
            written.inputs.resize(written.inputs.len().max(3), String::new());
            written.inputs[2] = self.store(&format!("{}_value", node.label()), value);
        }
        if node.is_onnx("Clip") {
            for idx in (1..3).filter(|&idx| node.input(idx).is_some()) {
                let bound = self
                    .real_constant(node, idx, &params)
                    .ok_or("its bounds are computed")?;
                written.inputs[idx] = self.store(&format!("{}_bound", node.label()), bound);
            }
        }
        let source = written.inputs[0].clone();
        let n_moved = if node.is_onnx("MaxPool") {
            1
        } else {
            node.outputs.len()
        };
        for (idx, name) in node
            .outputs
            .iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
        {
            let fallback = format!("{name}_real");
            let value = self
                .names
                .take_first(&[original_name(name).unwrap_or(&fallback), &fallback]);
            written.outputs[idx].clone_from(&value);
            if idx < n_moved {
                self.real.insert(name.clone(), value.clone());
                self.values
                    .insert(value, Quantization::Shared(source.clone(), params.clone()));
            }
        }
        self.nodes.push(written);
        Ok(())
    }

    /// The parameters of a value that the model holds in integers.
    pub(super) fn integer_value(&self, name: &str) -> Option<&QuantParams> {
        let value = self.real.get(name)?;
        let made_real = self
            .topology
            .producer(name)
            .is_some_and(|idx| self.lowered.graph.nodes[idx].is_onnx("DequantizeLinear"));
        if made_real {
            None
        } else {
            self.values.get(value)?.params()
        }
    }

    /// An integer constant as the real number that it stands for.
    fn real_constant(&self, node: &Node, idx: usize, params: &QuantParams) -> Option<Tensor> {
        let name = node.input(idx)?;
        let stored = self.lowered.graph.constants().get(name)?.tensor().ok()?;
        qloupe_tensor::dequantize_linear(&stored, params).ok()
    }

    fn store(&mut self, wanted: &str, tensor: Tensor) -> String {
        let name = self.names.take(wanted);
        self.stored.insert(name.clone(), tensor);
        name
    }
}
