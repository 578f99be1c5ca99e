//! Functions and branches put in the place of the node that uses them.
//!
//! Values of the inner graph get names that tell where they were: `node/value` for a function, `node/then_branch/value`
//! for a branch.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Attribute, AttributeValue, Function, Graph, IrError, Model, Node, OpsetImport, ValueInfo};

/// Functions may use functions, this deep.
const MAX_DEPTH: usize = 64;
/// More nodes than any model has: functions that double at each level reach it soon.
const MAX_NODES: usize = 1 << 20;

impl Model {
    /// Replaces every node that uses a function of the model by the body of the function.
    ///
    /// # Errors
    /// Functions that use themselves or grow without bounds; one that imports another version of an operator set than
    /// the model.
    pub fn inline_functions(&mut self) -> Result<(), IrError> {
        let functions = std::mem::take(&mut self.functions);
        for function in &functions {
            for import in &function.opset_imports {
                self.import(function, import)?;
            }
        }
        let by_name = functions
            .iter()
            .map(|f| ((f.domain.as_str(), f.name.as_str()), f));
        let mut inliner = Inliner {
            functions: by_name.collect(),
            taken: value_names(&self.graph).into_iter().map(str::to_owned).collect(),
            n_nodes: 0,
        };
        inliner.inline(&mut self.graph.nodes, 0)
    }

    fn import(&mut self, function: &Function, import: &OpsetImport) -> Result<(), IrError> {
        match self.opset_of(&import.domain) {
            Some(version) if version == import.version => Ok(()),
            Some(version) => Err(IrError::FunctionOpset {
                function: function.name.clone(),
                domain: import.domain.clone(),
                expected: version,
                got: import.version,
            }),
            None => {
                self.opset_imports.push(import.clone());
                Ok(())
            }
        }
    }
}

impl Graph {
    /// Replaces a node by the subgraph in one of its attributes: the branch of an `If` that is always taken.
    ///
    /// Nothing happens if the node has no such attribute, or no output for an output of the subgraph.
    pub fn inline_branch(&mut self, node_idx: usize, attribute: &str) {
        let node = &self.nodes[node_idx];
        let Some((_, branch)) = node.subgraphs().find(|(name, _)| *name == attribute) else {
            return;
        };
        let mut branch = branch.clone();
        let mut taken: BTreeSet<String> = value_names(self).into_iter().map(str::to_owned).collect();
        let prefix = format!("{}/{attribute}", node.label());
        let outer: BTreeSet<&str> = branch.captures().into_iter().collect();
        let mut renamed = BTreeMap::new();
        for name in own_names(&branch) {
            renamed.insert(name.to_owned(), fresh(&mut taken, &format!("{prefix}/{name}")));
        }
        let stored: BTreeSet<&str> = branch.initializers.iter().map(|i| i.name.as_str()).collect();
        let mut copies = Vec::new();
        let mut returned: BTreeSet<&str> = BTreeSet::new();
        for (inner, outer_name) in branch.output_names().zip(&node.outputs) {
            if outer_name.is_empty() {
                continue;
            }
            // A value that is not produced in the branch, or that is returned twice, is copied.
            if outer.contains(inner) || stored.contains(inner) || !returned.insert(inner) {
                copies.push((inner.to_owned(), outer_name.clone()));
            } else {
                renamed.insert(inner.to_owned(), outer_name.clone());
            }
        }
        for inner in &mut branch.nodes {
            rename_node(inner, &renamed, &prefix);
        }
        let new_name = |name: &String| renamed.get(name).unwrap_or(name).clone();
        for (inner, outer_name) in copies {
            let source = new_name(&inner);
            branch
                .nodes
                .push(Node::new("Identity", &outer_name, &[&source], &[&outer_name]));
        }
        for mut initializer in branch.initializers {
            initializer.name = new_name(&initializer.name);
            self.initializers.push(initializer);
        }
        let declared: BTreeSet<String> = self
            .outputs
            .iter()
            .chain(&self.value_info)
            .map(|v| v.name.clone())
            .collect();
        let infos = branch.value_info.into_iter().chain(branch.outputs);
        for info in infos.filter(|info| renamed.contains_key(&info.name)) {
            let name = new_name(&info.name);
            if !declared.contains(&name) {
                self.value_info.push(ValueInfo { name, ..info });
            }
        }
        self.nodes.splice(node_idx..=node_idx, branch.nodes);
    }
}

struct Inliner<'f> {
    functions: BTreeMap<(&'f str, &'f str), &'f Function>,
    taken: BTreeSet<String>,
    n_nodes: usize,
}

impl Inliner<'_> {
    fn inline(&mut self, nodes: &mut Vec<Node>, depth: usize) -> Result<(), IrError> {
        let mut inlined = Vec::with_capacity(nodes.len());
        for mut node in std::mem::take(nodes) {
            for attribute in &mut node.attributes {
                for graph in attribute.value.graphs_mut() {
                    self.inline(&mut graph.nodes, depth)?;
                }
            }
            let function = self
                .functions
                .get(&(node.domain.as_str(), node.op_type.as_str()))
                .copied();
            let Some(function) = function else {
                inlined.push(node);
                continue;
            };
            self.n_nodes += function.nodes.len();
            if depth >= MAX_DEPTH || self.n_nodes > MAX_NODES {
                return Err(IrError::FunctionRecursion {
                    function: function.name.clone(),
                });
            }
            let mut body = self.body(&node, function);
            self.inline(&mut body, depth + 1)?;
            inlined.extend(body);
        }
        *nodes = inlined;
        Ok(())
    }

    /// The nodes of a function with the names and attributes of the node that uses it.
    fn body(&mut self, node: &Node, function: &Function) -> Vec<Node> {
        let mut renamed: BTreeMap<String, String> = BTreeMap::new();
        for (idx, formal) in function.inputs.iter().enumerate() {
            renamed.insert(formal.clone(), node.input(idx).unwrap_or_default().to_owned());
        }
        let mut copies = Vec::new();
        for (formal, actual) in function.outputs.iter().zip(&node.outputs) {
            if actual.is_empty() {
                continue;
            }
            if let Some(source) = renamed.get(formal) {
                copies.push((source.clone(), actual.clone()));
            } else {
                renamed.insert(formal.clone(), actual.clone());
            }
        }
        let prefix = node.label().to_owned();
        for name in function
            .nodes
            .iter()
            .flat_map(|n| &n.outputs)
            .filter(|name| !name.is_empty())
        {
            if !renamed.contains_key(name) {
                renamed.insert(name.clone(), fresh(&mut self.taken, &format!("{prefix}/{name}")));
            }
        }
        let mut body = function.nodes.clone();
        for inner in &mut body {
            rename_node(inner, &renamed, &prefix);
            bind_attributes(inner, node, function);
        }
        for (source, actual) in copies {
            body.push(Node::new("Identity", &actual, &[&source], &[&actual]));
        }
        body
    }
}

/// Every name of a value in a graph and in its subgraphs.
fn value_names(graph: &Graph) -> Vec<&str> {
    let mut names = own_names(graph);
    for (_, subgraph) in graph.nodes.iter().flat_map(Node::subgraphs) {
        names.extend(value_names(subgraph));
    }
    names
}

/// Inputs, stored tensors and computed values of a graph.
fn own_names(graph: &Graph) -> Vec<&str> {
    let inputs = graph.inputs.iter().map(|i| &i.name);
    let stored = graph.initializers.iter().map(|i| &i.name);
    let produced = graph.nodes.iter().flat_map(|n| &n.outputs);
    let names = inputs.chain(stored).chain(produced).map(String::as_str);
    names.filter(|name| !name.is_empty()).collect()
}

fn fresh(taken: &mut BTreeSet<String>, wanted: &str) -> String {
    let numbered = (2_usize..).map(|n| format!("{wanted}_{n}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    let name = names
        .find(|name| !taken.contains(name))
        .expect("invariant: there is always another number");
    taken.insert(name.clone());
    name
}

/// Renames the values of a node, those that its subgraphs capture too.
fn rename_node(node: &mut Node, renamed: &BTreeMap<String, String>, prefix: &str) {
    if !node.name.is_empty() {
        node.name = format!("{prefix}/{}", node.name);
    }
    rename_values(node, renamed);
}

fn rename_values(node: &mut Node, renamed: &BTreeMap<String, String>) {
    for name in node.inputs.iter_mut().chain(&mut node.outputs) {
        if let Some(new) = renamed.get(name) {
            name.clone_from(new);
        }
    }
    for attribute in &mut node.attributes {
        for graph in attribute.value.graphs_mut() {
            let mut visible = renamed.clone();
            for name in own_names(graph) {
                visible.remove(name);
            }
            for inner in &mut graph.nodes {
                rename_values(inner, &visible);
            }
            for output in &mut graph.outputs {
                if let Some(new) = visible.get(&output.name) {
                    output.name.clone_from(new);
                }
            }
        }
    }
}

/// Replaces references to attributes of the function by what the node that uses it says; a reference to an attribute
/// that is neither given nor has a default is dropped.
fn bind_attributes(inner: &mut Node, node: &Node, function: &Function) {
    let defaults = |name: &str| {
        function
            .default_attributes
            .iter()
            .find(|a| a.name == name)
            .map(|a| &a.value)
    };
    let bind = |mut attribute: Attribute| {
        if let AttributeValue::Reference(name) = &attribute.value {
            attribute.value = node.attribute(name).or_else(|| defaults(name))?.clone();
        }
        for graph in attribute.value.graphs_mut() {
            graph
                .nodes
                .iter_mut()
                .for_each(|nested| bind_attributes(nested, node, function));
        }
        Some(attribute)
    };
    inner.attributes = std::mem::take(&mut inner.attributes)
        .into_iter()
        .filter_map(bind)
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topology;

    fn function(name: &str, nodes: Vec<Node>) -> Function {
        Function {
            name: name.to_owned(),
            domain: "f".to_owned(),
            inputs: vec!["a".to_owned(), "b".to_owned()],
            outputs: vec!["r".to_owned()],
            nodes,
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 18,
            }],
            ..Function::default()
        }
    }

    fn call(op_type: &str, name: &str, inputs: &[&str], output: &str) -> Node {
        Node {
            domain: "f".to_owned(),
            ..Node::new(op_type, name, inputs, &[output])
        }
    }

    fn model(functions: Vec<Function>, nodes: Vec<Node>) -> Model {
        Model {
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 18,
            }],
            graph: Graph {
                inputs: vec![ValueInfo::untyped("x")],
                outputs: vec![ValueInfo::untyped("y")],
                nodes,
                ..Graph::default()
            },
            functions,
            ..Model::default()
        }
    }

    #[test]
    fn functions_in_functions_become_nodes_with_names_that_tell_where() {
        let reference = AttributeValue::Reference("slope".to_owned());
        let inner = function(
            "Inner",
            vec![
                Node::new("LeakyRelu", "act", &["a"], &["t"]).with_attribute("alpha", reference.clone()),
                Node::new("Add", "", &["t", "a"], &["r"]),
            ],
        );
        let outer = function(
            "Outer",
            vec![call("Inner", "in", &["a"], "r").with_attribute("slope", reference)],
        );
        let node = call("Outer", "block", &["x"], "y").with_attribute("slope", AttributeValue::Float(0.5));
        let mut model = model(vec![inner, outer], vec![node]);
        model.inline_functions().unwrap();
        let nodes = &model.graph.nodes;
        assert_eq!(nodes.len(), 2);
        assert_eq!(
            (nodes[0].name.as_str(), nodes[0].float("alpha")),
            ("block/in/act", Some(0.5))
        );
        assert_eq!(nodes[0].outputs, ["block/in/t"]);
        assert_eq!(
            (&nodes[1].inputs, &nodes[1].outputs),
            (&vec!["block/in/t".into(), "x".into()], &vec!["y".into()])
        );
        Topology::new(&model.graph).unwrap();
    }

    #[test]
    fn an_input_that_is_returned_is_copied_and_a_missing_one_is_absent() {
        let mut identity = function("Same", vec![]);
        identity.outputs = vec!["a".to_owned()];
        let clip = function("Clip2", vec![Node::new("Clip", "", &["a", "b"], &["r"])]);
        let nodes = vec![call("Same", "s", &["x"], "m"), call("Clip2", "c", &["m"], "y")];
        let mut model = model(vec![identity, clip], nodes);
        model.inline_functions().unwrap();
        assert!(model.graph.nodes[0].is_onnx("Identity"));
        assert_eq!(model.graph.nodes[1].input(1), None);
    }

    #[test]
    fn functions_that_never_end_are_refused() {
        let endless = function("Again", vec![call("Again", "n", &["a"], "r")]);
        let mut model = model(vec![endless], vec![call("Again", "n", &["x"], "y")]);
        assert_eq!(
            model.inline_functions().unwrap_err().to_string(),
            "function \"Again\" uses itself or grows to more than 1048576 nodes, expected functions of functions 64 deep at most"
        );
        let mut other = function("F", vec![]);
        other.opset_imports[0].version = 17;
        let mut model = self::model(vec![other], vec![]);
        assert_eq!(
            model.inline_functions().unwrap_err().to_string(),
            "function \"F\" imports version 17 of operator set \"ai.onnx\", expected 18 as the model does"
        );
    }

    #[test]
    fn a_branch_takes_the_place_of_its_node() {
        let branch = Graph {
            outputs: vec![ValueInfo::untyped("t"), ValueInfo::untyped("x")],
            nodes: vec![
                Node::new("Relu", "r", &["x"], &["u"]),
                Node::new("Neg", "n", &["u"], &["t"]),
            ],
            ..Graph::default()
        };
        let node = Node::new("If", "if", &["c"], &["y", "z"])
            .with_attribute("then_branch", AttributeValue::Graph(Box::new(branch)));
        let mut graph = model(vec![], vec![node]).graph;
        graph.inline_branch(0, "then_branch");
        let outputs: Vec<&str> = graph.nodes.iter().map(|n| n.outputs[0].as_str()).collect();
        assert_eq!(outputs, ["if/then_branch/u", "y", "z"]);
        assert_eq!(graph.nodes[1].name, "if/then_branch/n");
        Topology::new(&graph).unwrap();
    }
}
