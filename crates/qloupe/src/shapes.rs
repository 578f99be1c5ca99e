//! Symbolic dtypes and shapes of a whole graph, before anything runs.
//!
//! Each operator derives its outputs (`qloupe_exec::Operator::infer`); this file walks the graph, fills in what is
//! declared, and computes small tensors that depend on constants and shapes only. What cannot be derived is unknown,
//! never a guess.

use std::collections::BTreeMap;

use qloupe_exec::{BodyInference, EvalContext, Fact, InferContext, Layout, Operator, SymDim, ops};
use qloupe_ir::{Constant, Dim, Graph, Model, Node, TensorType, suggestion};
use qloupe_tensor::{DType, Tensor, n_elements};

/// Larger tensors are described by dtype and shape alone.
const MAX_ELEMENTS: usize = 4096;

/// What is known of every value of a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inference {
    /// The facts by value.
    pub facts: BTreeMap<String, Fact>,
    /// Nodes that could not be inferred, and declarations that contradict.
    pub findings: Vec<ShapeFinding>,
}

/// A node that could not be inferred, or whose declared output contradicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeFinding {
    /// The node.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// What is wrong.
    pub reason: String,
}

/// Shapes that cannot be given to a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// No input has the name.
    #[error("input \"{name}\" does not exist{help}")]
    UnknownInput {
        /// The name.
        name: String,
        /// `, did you mean "x"?` or nothing.
        help: String,
    },
    /// The shape does not fit the declared one.
    #[error("input \"{name}\": shape does not fit, expected [{declared}], got {got:?}")]
    Mismatch {
        /// The input.
        name: String,
        /// The declared dimensions.
        declared: String,
        /// The given shape.
        got: Vec<usize>,
    },
}

/// Infers dtype and shape of every value; `overrides` fix open dimensions of network inputs.
///
/// An open dimension keeps its name; one without a name (`-1`, `0`, `?`) becomes `?0`, `?1` and so on. A named
/// dimension that an override fixes is fixed wherever its name stands.
///
/// # Errors
/// An override of an input that does not exist, or that contradicts a fixed dimension. A node that cannot be inferred
/// is a finding.
pub fn infer(model: &Model, overrides: &BTreeMap<String, Vec<usize>>) -> Result<Inference, ShapeError> {
    let mut walk = ShapeWalk::new(model, overrides)?;
    walk.enter_inputs(None);
    walk.run();
    Ok(walk.inference)
}

/// As [`infer`], with every first dimension of an input that is still open fixed to `batch`.
///
/// # Errors
/// As [`infer`].
pub fn infer_with_batch(
    model: &Model,
    overrides: &BTreeMap<String, Vec<usize>>,
    batch: usize,
) -> Result<Inference, ShapeError> {
    let mut walk = ShapeWalk::new(model, overrides)?;
    walk.enter_inputs(Some(batch));
    walk.run();
    Ok(walk.inference)
}

struct ShapeWalk<'a> {
    /// For the versions of the operator sets.
    model: &'a Model,
    graph: &'a Graph,
    overrides: &'a BTreeMap<String, Vec<usize>>,
    /// Named dimensions that an override or the batch fixes.
    bindings: BTreeMap<String, usize>,
    n_unnamed: usize,
    inference: Inference,
}

impl<'a> ShapeWalk<'a> {
    fn new(model: &'a Model, overrides: &'a BTreeMap<String, Vec<usize>>) -> Result<Self, ShapeError> {
        let mut bindings = BTreeMap::new();
        let inputs = model.graph.runtime_inputs();
        for (name, shape) in overrides {
            let Some(input) = inputs.iter().find(|i| i.name == *name) else {
                let help = suggestion(name, inputs.iter().map(|i| i.name.as_str()));
                return Err(ShapeError::UnknownInput {
                    name: name.clone(),
                    help,
                });
            };
            let Some(declared) = input.tensor_type().and_then(|ty| ty.shape.as_ref()) else {
                continue;
            };
            let fits = declared
                .iter()
                .zip(shape)
                .all(|(dim, size)| dim.size().is_none_or(|fixed| fixed == *size));
            if declared.len() != shape.len() || !fits {
                let declared = declared
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(ShapeError::Mismatch {
                    name: name.clone(),
                    declared,
                    got: shape.clone(),
                });
            }
            for (dim, size) in declared.iter().zip(shape) {
                if let Some(symbol) = symbol_of(dim) {
                    bindings.insert(symbol.to_owned(), *size);
                }
            }
        }
        Ok(Self {
            model,
            graph: &model.graph,
            overrides,
            bindings,
            n_unnamed: 0,
            inference: Inference::default(),
        })
    }

    fn enter_inputs(&mut self, batch: Option<usize>) {
        let graph = &self.model.graph;
        for input in graph.runtime_inputs() {
            let first = input.tensor_type().and_then(|ty| ty.shape.as_ref()?.first());
            if let (Some(batch), Some(symbol)) = (batch, first.and_then(symbol_of)) {
                self.bindings.entry(symbol.to_owned()).or_insert(batch);
            }
        }
        for input in graph.runtime_inputs() {
            let mut fact = input
                .tensor_type()
                .map_or_else(Fact::default, |ty| self.declared_fact(ty));
            if let Some(shape) = self.overrides.get(&input.name) {
                fact.shape = Some(shape.iter().map(|&d| SymDim::from(d)).collect());
            }
            let first = fact.shape.as_mut().and_then(|shape| shape.first_mut());
            if let (Some(batch), Some(first)) = (batch, first.filter(|d| d.as_known().is_none())) {
                *first = SymDim::from(batch);
            }
            self.inference.facts.insert(input.name.clone(), fact);
        }
        for initializer in &graph.initializers {
            self.inference
                .facts
                .insert(initializer.name.clone(), constant_fact(&initializer.value));
        }
    }

    fn run(&mut self) {
        let graph = self.graph;
        let declared = declared_types(graph);
        for node in &graph.nodes {
            let facts = self.node_facts(node);
            for (idx, name) in node
                .outputs
                .iter()
                .enumerate()
                .filter(|(_, name)| !name.is_empty())
            {
                let inferred = facts.get(idx).cloned().unwrap_or_default();
                let fact = match declared.get(name.as_str()) {
                    Some(ty) => self.merge(node, name, inferred, ty),
                    None => inferred,
                };
                self.inference.facts.insert(name.clone(), fact);
            }
        }
    }

    fn node_facts(&mut self, node: &Node) -> Vec<Fact> {
        let Some(operator) = ops::find(&node.op_type, &node.domain) else {
            return Vec::new();
        };
        if let Some(value) = node.tensor("value").filter(|_| node.is_onnx("Constant")) {
            return vec![constant_fact(value)];
        }
        let opset = self.model.opset_of(&node.domain).unwrap_or(1);
        let inputs: Vec<Option<&Fact>> = node
            .inputs
            .iter()
            .map(|name| self.inference.facts.get(name))
            .collect();
        let bodies = Bodies {
            model: self.model,
            facts: &self.inference.facts,
        };
        match operator.infer(&InferContext {
            node,
            opset,
            inputs: &inputs,
            bodies: Some(&bodies),
        }) {
            Ok(mut facts) => {
                if let Some(results) = fold(node, operator, opset, &inputs, &facts) {
                    facts = results.into_iter().map(Fact::of_constant).collect();
                }
                facts
            }
            Err(error) => {
                self.find(node, error.to_string());
                Vec::new()
            }
        }
    }

    /// The declaration fills what is not inferred, and must not contradict what is.
    fn merge(&mut self, node: &Node, name: &str, mut inferred: Fact, declared: &TensorType) -> Fact {
        if let (Some(expected), Some(got)) = (declared.dtype, inferred.dtype)
            && expected != got
        {
            self.find(
                node,
                format!("output \"{name}\": dtype is declared otherwise, expected {expected}, got {got}"),
            );
        }
        inferred.dtype = inferred.dtype.or(declared.dtype);
        let Some(dims) = &declared.shape else {
            return inferred;
        };
        let Some(shape) = &mut inferred.shape else {
            inferred.shape = self.declared_fact(declared).shape;
            return inferred;
        };
        let agrees = |(dim, inferred): (&Dim, &SymDim)| match (dim.size(), inferred.as_size()) {
            (Some(declared), Some(inferred)) => declared == inferred,
            _ => true,
        };
        if dims.len() != shape.len() || !dims.iter().zip(shape.iter()).all(agrees) {
            let got = format_shape(shape);
            self.find(
                node,
                format!("output \"{name}\": shape is declared otherwise, expected {declared}, got {got}"),
            );
        }
        inferred
    }

    fn declared_fact(&mut self, ty: &TensorType) -> Fact {
        let shape = ty
            .shape
            .as_ref()
            .map(|dims| dims.iter().map(|dim| self.declared_dim(dim)).collect());
        Fact::new(ty.dtype, shape)
    }

    fn declared_dim(&mut self, dim: &Dim) -> SymDim {
        if let Some(size) = dim.size() {
            return SymDim::from(size);
        }
        if let Some(symbol) = symbol_of(dim) {
            return self
                .bindings
                .get(symbol)
                .map_or_else(|| SymDim::symbol(symbol), |&size| SymDim::from(size));
        }
        self.n_unnamed += 1;
        SymDim::symbol(&format!("?{}", self.n_unnamed - 1))
    }

    fn find(&mut self, node: &Node, reason: String) {
        let finding = ShapeFinding {
            node: node.label().to_owned(),
            op_type: node.op_type.clone(),
            reason,
        };
        self.inference.findings.push(finding);
    }
}

/// Inference of subgraphs, which see the values of the graph around them.
#[derive(Debug)]
struct Bodies<'a> {
    model: &'a Model,
    facts: &'a BTreeMap<String, Fact>,
}

impl BodyInference for Bodies<'_> {
    fn infer_body(&self, graph: &Graph, inputs: Vec<Fact>) -> Option<Vec<Fact>> {
        let none = BTreeMap::new();
        let mut walk = ShapeWalk {
            model: self.model,
            graph,
            overrides: &none,
            bindings: BTreeMap::new(),
            n_unnamed: 0,
            inference: Inference::default(),
        };
        let facts = &mut walk.inference.facts;
        for name in graph.captures() {
            facts.insert(name.to_owned(), self.facts.get(name).cloned().unwrap_or_default());
        }
        for (input, fact) in graph.inputs.iter().zip(inputs) {
            facts.insert(input.name.clone(), fact);
        }
        for initializer in &graph.initializers {
            facts.insert(initializer.name.clone(), constant_fact(&initializer.value));
        }
        walk.run();
        let output = |name: &String| walk.inference.facts.get(name).cloned();
        graph.outputs.iter().map(|o| output(&o.name)).collect()
    }
}

/// The name of an open dimension, if it is one: exporters also write `?` for dimensions that are not the same.
fn symbol_of(dim: &Dim) -> Option<&str> {
    match dim {
        Dim::Symbol(name) if !name.is_empty() && name != "?" => Some(name),
        _ => None,
    }
}

fn declared_types(graph: &Graph) -> BTreeMap<&str, &TensorType> {
    let infos = graph.value_info.iter().chain(&graph.outputs);
    infos
        .filter_map(|info| Some((info.name.as_str(), info.tensor_type()?)))
        .collect()
}

/// Large tensors and tensors that cannot be decoded are described by dtype and shape.
fn constant_fact(value: &Constant) -> Fact {
    let decoded = if value.len() <= MAX_ELEMENTS {
        value.tensor().ok()
    } else {
        None
    };
    match decoded {
        Some(tensor) => Fact::of_constant(tensor),
        None => Fact::new(
            Some(value.dtype()),
            Some(value.shape().iter().map(|&d| SymDim::from(d)).collect()),
        ),
    }
}

/// Computes a node on small constants: shape arithmetic.
fn fold(
    node: &Node,
    operator: &dyn Operator,
    opset: i64,
    inputs: &[Option<&Fact>],
    outputs: &[Fact],
) -> Option<Vec<Tensor>> {
    let is_small = |fact: &Fact| {
        fact.fixed_shape()
            .is_some_and(|s| n_elements(&s).is_some_and(|n| n <= MAX_ELEMENTS))
    };
    let is_known = outputs.iter().all(|fact| fact.constant.is_some());
    if is_known || inputs.is_empty() || !outputs.iter().all(is_small) {
        return None;
    }
    let mut tensors: Vec<Option<Tensor>> = Vec::with_capacity(inputs.len());
    for (name, fact) in node.inputs.iter().zip(inputs) {
        tensors.push(if name.is_empty() {
            None
        } else {
            Some(known_tensor((*fact)?)?)
        });
    }
    let arguments: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
    operator
        .eval(&EvalContext {
            node,
            opset,
            layout: Layout::Plain,
            inputs: &arguments,
        })
        .ok()
}

/// The tensor of a fact whose elements are all known.
fn known_tensor(fact: &Fact) -> Option<Tensor> {
    if let Some(tensor) = &fact.constant {
        return Some(tensor.clone());
    }
    let values: Vec<i64> = fact
        .elements
        .as_ref()?
        .iter()
        .map(SymDim::as_known)
        .collect::<Option<_>>()?;
    let shape = fact.fixed_shape()?;
    match fact.dtype? {
        DType::Int64 => Tensor::new(&shape, values).ok(),
        DType::Int32 => {
            let narrow: Option<Vec<i32>> = values.iter().map(|&v| i32::try_from(v).ok()).collect();
            Tensor::new(&shape, narrow?).ok()
        }
        _ => None,
    }
}

/// `[N, 3, h, w]`.
pub fn format_shape(shape: &[SymDim]) -> String {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Extra, OpsetImport, ValueInfo};

    use super::*;

    fn info(name: &str, dtype: DType, dims: &[Dim]) -> ValueInfo {
        ValueInfo::tensor(
            name,
            TensorType {
                dtype: Some(dtype),
                shape: Some(dims.to_vec()),
                extra: Extra::default(),
            },
        )
    }

    fn symbol(name: &str) -> Dim {
        Dim::Symbol(name.to_owned())
    }

    /// x: [N, 3, -1, ?] -> Relu -> Shape -> Reshape back.
    fn model() -> Model {
        let x = info(
            "x",
            DType::Float32,
            &[symbol("N"), Dim::Known(3), Dim::Known(-1), symbol("?")],
        );
        let other = info("other", DType::Float32, &[symbol("N")]);
        let y = info(
            "y",
            DType::Float32,
            &[symbol("N"), Dim::Known(3), Dim::Unknown, Dim::Unknown],
        );
        Model {
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 13,
            }],
            graph: Graph {
                inputs: vec![x, other],
                outputs: vec![y],
                nodes: vec![
                    Node::new("Relu", "relu", &["x"], &["a"]),
                    Node::new("Shape", "shape", &["a"], &["s"]),
                    Node::new("Reshape", "reshape", &["a", "s"], &["y"]),
                ],
                ..Graph::default()
            },
            ..Model::default()
        }
    }

    fn shape_of(inference: &Inference, name: &str) -> String {
        inference.facts[name]
            .shape
            .as_ref()
            .map_or_else(|| "[..]".to_owned(), |shape| format_shape(shape))
    }

    #[test]
    fn open_dimensions_keep_their_names_until_they_are_fixed() {
        let open = infer(&model(), &BTreeMap::new()).unwrap();
        assert_eq!(shape_of(&open, "a"), "[N, 3, ?0, ?1]");
        assert_eq!(shape_of(&open, "y"), "[N, 3, ?0, ?1]");
        let batch = infer_with_batch(&model(), &BTreeMap::new(), 1).unwrap();
        assert_eq!(
            (shape_of(&batch, "y"), shape_of(&batch, "other")),
            ("[1, 3, ?0, ?1]".into(), "[1]".into())
        );
        let given = BTreeMap::from([("x".to_owned(), vec![2, 3, 8, 9])]);
        let fixed = infer(&model(), &given).unwrap();
        assert_eq!(
            (shape_of(&fixed, "y"), shape_of(&fixed, "other")),
            ("[2, 3, 8, 9]".into(), "[2]".into())
        );
        assert_eq!(fixed.findings, []);
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let cases = [
            ("y", vec![1], "input \"y\" does not exist"),
            (
                "x",
                vec![1, 4, 8, 8],
                "input \"x\": shape does not fit, expected [N, 3, -1, ?], got [1, 4, 8, 8]",
            ),
            (
                "x",
                vec![1, 3],
                "input \"x\": shape does not fit, expected [N, 3, -1, ?], got [1, 3]",
            ),
        ];
        for (name, shape, expected) in cases {
            let error = infer(&model(), &BTreeMap::from([(name.to_owned(), shape)]))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_contradiction_is_a_finding_and_the_walk_goes_on() {
        let mut model = model();
        model.graph.value_info = vec![info(
            "a",
            DType::Float32,
            &[Dim::Known(1), Dim::Known(4), Dim::Unknown, Dim::Unknown],
        )];
        model.graph.nodes[2].inputs[1] = "other".to_owned();
        let got = infer(&model, &BTreeMap::new()).unwrap();
        assert_eq!(
            got.findings[0].reason,
            "output \"a\": shape is declared otherwise, expected float32[1, 4, ?, ?], got [N, 3, ?0, ?1]"
        );
        assert_eq!(got.findings[0].node, "relu");
    }

    #[test]
    fn an_unknown_operator_takes_what_is_declared() {
        let mut model = model();
        model.graph.nodes[0] = Node {
            domain: "com.example".to_owned(),
            ..Node::new("Magic", "magic", &["x"], &["a"])
        };
        let got = infer(&model, &BTreeMap::new()).unwrap();
        assert_eq!(got.facts["a"], Fact::default());
        assert_eq!(
            shape_of(&got, "y").split(", ").nth(1),
            Some("3"),
            "the declared output"
        );
    }

    #[test]
    fn arithmetic_on_constants_is_computed() {
        let mut model = model();
        let one = Tensor::vector(vec![1_i64, 2]);
        model.graph.nodes = vec![
            Node::new("Constant", "c", &[], &["c"])
                .with_attribute("value", AttributeValue::Tensor(one.into())),
            Node::new("Add", "add", &["c", "c"], &["s"]),
            Node::new("Expand", "expand", &["other", "s"], &["y"]),
        ];
        model.graph.outputs[0].ty = None;
        let fixed = BTreeMap::from([("other".to_owned(), vec![4])]);
        let got = infer(&model, &fixed).unwrap();
        assert_eq!(got.facts["s"].constant, Some(Tensor::vector(vec![2_i64, 4])));
        assert_eq!(shape_of(&got, "y"), "[2, 4]");
    }
}
