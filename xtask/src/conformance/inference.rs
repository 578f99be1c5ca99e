//! What operators infer of a case must not contradict what they compute.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use qloupe_exec::{Fact, InferContext, Program, SymDim, ops};
use qloupe_tensor::Tensor;

/// Infers the graph twice, with inputs of known shape and with inputs of known content, and compares with the outputs.
pub(super) fn check(
    program: &Program,
    opset_of: &dyn Fn(&str) -> i64,
    inputs: &[(String, Tensor)],
    outputs: &[(String, Tensor)],
) -> anyhow::Result<()> {
    let of_shape = |t: &Tensor| {
        let dims = t.shape().iter().map(|&d| SymDim::from(d)).collect();
        Fact::new(Some(t.dtype()), Some(dims))
    };
    let of_content = |t: &Tensor| Fact::of_constant(t.clone());
    for fact_of in [&of_shape as &dyn Fn(&Tensor) -> Fact, &of_content] {
        let known = inputs
            .iter()
            .map(|(name, tensor)| (name.clone(), fact_of(tensor)));
        let facts = infer(program, opset_of, known.collect())?;
        for (name, tensor) in outputs {
            let fact = facts
                .get(name)
                .with_context(|| format!("nothing is inferred of \"{name}\""))?;
            compare(name, fact, tensor)?;
        }
    }
    Ok(())
}

fn infer(
    program: &Program,
    opset_of: &dyn Fn(&str) -> i64,
    mut facts: BTreeMap<String, Fact>,
) -> anyhow::Result<BTreeMap<String, Fact>> {
    let graph = program.graph();
    for initializer in &graph.initializers {
        facts.insert(
            initializer.name.clone(),
            Fact::of_constant(initializer.value.tensor()?),
        );
    }
    for node in &graph.nodes {
        let operator = ops::find(&node.op_type, &node.domain)
            .with_context(|| format!("unsupported operator {}", node.op_type))?;
        let unknown = Fact::default();
        let of = |name: &String| (!name.is_empty()).then(|| facts.get(name).unwrap_or(&unknown));
        let inputs: Vec<Option<&Fact>> = node.inputs.iter().map(of).collect();
        let ctx = InferContext {
            node,
            opset: opset_of(&node.domain),
            inputs: &inputs,
            bodies: None,
        };
        let inferred = operator
            .infer(&ctx)
            .with_context(|| format!("inference of node \"{}\" ({})", node.label(), node.op_type))?;
        facts.extend(node.outputs.iter().cloned().zip(inferred));
    }
    Ok(facts)
}

fn compare(name: &str, fact: &Fact, tensor: &Tensor) -> anyhow::Result<()> {
    if fact.dtype.is_some_and(|dtype| dtype != tensor.dtype()) {
        bail!(
            "output \"{name}\" is inferred as {:?}, expected {}",
            fact.dtype,
            tensor.dtype()
        );
    }
    if let Some(shape) = &fact.shape {
        let fits = |(dim, &size): (&SymDim, &usize)| dim.as_known().is_none() || dim.as_size() == Some(size);
        if shape.len() != tensor.rank() || !shape.iter().zip(tensor.shape()).all(fits) {
            let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
            bail!(
                "output \"{name}\" is inferred as [{}], expected {:?}",
                dims.join(", "),
                tensor.shape()
            );
        }
    }
    if let (Some(elements), Some(values)) = (&fact.elements, tensor.as_slice::<i64>()) {
        let fits = |(element, &value): (&SymDim, &i64)| element.as_known().is_none_or(|e| e == value);
        if elements.len() != values.len() || !elements.iter().zip(values).all(fits) {
            let elements: Vec<String> = elements.iter().map(ToString::to_string).collect();
            bail!(
                "output \"{name}\" is inferred to hold [{}], expected {values:?}",
                elements.join(", ")
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named() {
        let tensor = Tensor::vector(vec![1_i64, 2]);
        let open = Fact::new(None, Some(vec![SymDim::symbol("n")]));
        assert!(compare("y", &open, &tensor).is_ok());
        let wrong = Fact::new(None, Some(vec![SymDim::known(3)]));
        assert_eq!(
            compare("y", &wrong, &tensor).unwrap_err().to_string(),
            "output \"y\" is inferred as [3], expected [2]"
        );
    }
}
