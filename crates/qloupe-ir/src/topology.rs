//! Who produces and who consumes a value.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{Constant, Graph, IrError, Node};

/// An index of producers and consumers of one graph. Subgraphs count as consumers of the outer values they use.
#[derive(Debug)]
pub struct Topology {
    producer: HashMap<String, usize>,
    consumers: HashMap<String, Vec<usize>>,
    order: Vec<String>,
}

/// The part of a graph that some values depend on.
#[derive(Debug)]
pub struct Needed<'a> {
    /// Indices of nodes.
    pub nodes: BTreeSet<usize>,
    /// Names of values.
    pub values: BTreeSet<&'a str>,
}

impl Topology {
    /// Indexes a graph and checks it.
    ///
    /// # Errors
    /// A node that uses a value before it is produced, a value produced twice, an output that nothing produces, an input
    /// declared twice, two initializers of one name that differ.
    pub fn new(graph: &Graph) -> Result<Self, IrError> {
        Self::with_outer(graph, &BTreeSet::new())
    }

    /// As [`Topology::new`], for a subgraph that may use `outer` values.
    ///
    /// # Errors
    /// As [`Topology::new`].
    pub fn with_outer(graph: &Graph, outer: &BTreeSet<&str>) -> Result<Self, IrError> {
        let mut order: Vec<String> = Vec::new();
        let mut known: BTreeSet<&str> = outer.clone();
        let mut inputs: BTreeSet<&str> = BTreeSet::new();
        for input in &graph.inputs {
            if !inputs.insert(&input.name) {
                return Err(IrError::DuplicateInput {
                    name: input.name.clone(),
                });
            }
        }
        let mut stored: BTreeMap<&str, &Constant> = BTreeMap::new();
        for initializer in &graph.initializers {
            // The same tensor twice is harmless.
            let other = stored.insert(&initializer.name, &initializer.value);
            if other.is_some_and(|other| *other != initializer.value) {
                return Err(IrError::DuplicateInitializer {
                    name: initializer.name.clone(),
                });
            }
        }
        let inputs = graph.inputs.iter().map(|i| &i.name);
        for name in inputs.chain(graph.initializers.iter().map(|i| &i.name)) {
            if known.insert(name) {
                order.push(name.clone());
            }
        }
        let mut producer = HashMap::new();
        let mut consumers: HashMap<String, Vec<usize>> = HashMap::new();
        for (idx, node) in graph.nodes.iter().enumerate() {
            for (input_idx, name) in node
                .inputs
                .iter()
                .enumerate()
                .filter(|(_, name)| !name.is_empty())
            {
                if !known.contains(name.as_str()) {
                    return Err(IrError::Unordered {
                        node: node.label().to_owned(),
                        op_type: node.op_type.clone(),
                        input_idx,
                        name: name.clone(),
                        help: later_producer(&graph.nodes[idx..], name),
                    });
                }
            }
            for name in node.used_values() {
                if !known.contains(name) {
                    return Err(IrError::UnknownCapture {
                        node: node.label().to_owned(),
                        op_type: node.op_type.clone(),
                        name: name.to_owned(),
                    });
                }
                let list = consumers.entry(name.to_owned()).or_default();
                if list.last() != Some(&idx) {
                    list.push(idx);
                }
            }
            for name in node.outputs.iter().filter(|name| !name.is_empty()) {
                if !known.insert(name) {
                    return Err(IrError::Duplicate {
                        node: node.label().to_owned(),
                        op_type: node.op_type.clone(),
                        name: name.clone(),
                    });
                }
                order.push(name.clone());
                producer.insert(name.clone(), idx);
            }
        }
        if let Some(output) = graph.outputs.iter().find(|o| !known.contains(o.name.as_str())) {
            return Err(IrError::MissingOutput {
                name: output.name.clone(),
            });
        }
        Ok(Self {
            producer,
            consumers,
            order,
        })
    }

    /// The index of the node that produces a value; `None` for inputs and initializers.
    pub fn producer(&self, name: &str) -> Option<usize> {
        self.producer.get(name).copied()
    }

    /// Indices of the nodes that use a value, in order, each once.
    pub fn consumers(&self, name: &str) -> &[usize] {
        self.consumers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Every value, in the order of production.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// The nodes and values that `goals` depend on; `given` values are not traced further.
    pub fn needed_for<'a>(&self, graph: &'a Graph, goals: &[&'a str], given: &BTreeSet<&str>) -> Needed<'a> {
        let mut needed = Needed {
            nodes: BTreeSet::new(),
            values: BTreeSet::new(),
        };
        let mut stack: Vec<&'a str> = goals.to_vec();
        while let Some(name) = stack.pop() {
            if !needed.values.insert(name) || given.contains(name) {
                continue;
            }
            if let Some(idx) = self.producer(name)
                && needed.nodes.insert(idx)
            {
                stack.extend(graph.nodes[idx].used_values());
                stack.extend(
                    graph.nodes[idx]
                        .outputs
                        .iter()
                        .map(String::as_str)
                        .filter(|o| needed.values.insert(o)),
                );
            }
        }
        needed
    }

    /// For every node, the values whose last use it is.
    pub fn last_uses(&self) -> BTreeMap<usize, Vec<&str>> {
        let mut last: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for name in &self.order {
            if let Some(&idx) = self.consumers(name).last() {
                last.entry(idx).or_default().push(name);
            }
        }
        last
    }
}

/// Which of the nodes produces a value that is needed before it: the words for the error.
fn later_producer(nodes: &[Node], name: &str) -> String {
    match nodes
        .iter()
        .find(|node| node.outputs.iter().any(|output| output == name))
    {
        Some(node) => format!(
            ", the later node \"{}\" does: the graph has a cycle, or its nodes are out of order",
            node.label()
        ),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use qloupe_tensor::Tensor;

    use super::*;
    use crate::{Initializer, TensorType, ValueInfo, types::Extra};

    fn value(name: &str) -> ValueInfo {
        ValueInfo::tensor(
            name,
            TensorType {
                dtype: None,
                shape: None,
                extra: Extra::default(),
            },
        )
    }

    /// x -> a -> b -> y, with a second path a -> c -> y.
    fn diamond() -> Graph {
        Graph {
            inputs: vec![value("x")],
            outputs: vec![value("y")],
            nodes: vec![
                Node::new("Relu", "n0", &["x"], &["a"]),
                Node::new("Neg", "n1", &["a"], &["b"]),
                Node::new("Abs", "n2", &["a"], &["c"]),
                Node::new("Add", "n3", &["b", "c"], &["y"]),
            ],
            ..Graph::default()
        }
    }

    #[test]
    fn producers_consumers_and_last_uses() {
        let topology = Topology::new(&diamond()).unwrap();
        assert_eq!(topology.producer("c"), Some(2));
        assert_eq!(topology.consumers("a"), [1, 2]);
        assert_eq!(topology.last_uses()[&2], ["a"]);
    }

    #[test]
    fn broken_graphs_are_refused_with_the_place() {
        let mut unordered = diamond();
        unordered.nodes.swap(0, 1);
        assert_eq!(
            Topology::new(&unordered).unwrap_err().to_string(),
            "node \"n1\" (Neg), input 0 \"a\": no earlier node, input or initializer produces this value, the later node \
             \"n0\" does: the graph has a cycle, or its nodes are out of order"
        );
        let mut twice = diamond();
        twice.nodes[2].outputs[0] = "b".to_owned();
        assert_eq!(
            Topology::new(&twice).unwrap_err().to_string(),
            "node \"n2\" (Abs): output \"b\" is produced a second time"
        );
        let mut declared = diamond();
        declared.inputs.push(value("x"));
        assert_eq!(
            Topology::new(&declared).unwrap_err().to_string(),
            "input \"x\" is declared twice, expected each name once"
        );
        let mut missing = diamond();
        missing.outputs[0].name = "z".to_owned();
        assert_eq!(
            Topology::new(&missing).unwrap_err().to_string(),
            "graph output \"z\" is produced by no node, input or initializer"
        );
    }

    #[test]
    fn an_initializer_may_be_stored_twice_if_it_is_the_same() {
        let initializer = |value: f32| Initializer {
            name: "w".to_owned(),
            value: Tensor::scalar(value).into(),
        };
        let mut graph = diamond();
        graph.initializers = vec![initializer(1.0), initializer(1.0)];
        assert_eq!(Topology::new(&graph).unwrap().values().count(), 6);
        graph.initializers.push(initializer(2.0));
        assert_eq!(
            Topology::new(&graph).unwrap_err().to_string(),
            "initializer \"w\" is stored twice with different values, expected one (ONNX Runtime takes the last)"
        );
    }

    #[test]
    fn a_crop_keeps_the_part_between() {
        let mut graph = diamond();
        graph.crop(&["a".to_owned()], &["b".to_owned()]).unwrap();
        assert_eq!(graph.nodes.len(), 1);
        assert_eq!(
            (graph.inputs[0].name.as_str(), graph.outputs[0].name.as_str()),
            ("a", "b")
        );
    }

    #[test]
    fn a_wrong_crop_says_why() {
        let error = diamond().crop(&["bb".to_owned()], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "value \"bb\" does not exist in the graph, did you mean \"b\"?"
        );
        let error = diamond().crop(&["b".to_owned()], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the cropped outputs [\"y\"] still need input \"x\", expected it among the cropped inputs"
        );
    }
}
