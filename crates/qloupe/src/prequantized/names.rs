//! Names: the value of the float model that a quantizer made `x_quantized` from, and names that are still free.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_ir::Graph;

/// What quantizers add to the name of the value or weight that they quantize.
const SUFFIXES: &[&str] = &[
    "_DequantizeLinear_Output",
    "_QuantizeInput",
    "_QuantizeLinear_Input",
    "_QuantizeLinear_Output",
    "_dequantized",
    "_quantized",
];

/// The name without what a quantizer added to it; `None` when it added nothing.
pub(super) fn original_name(name: &str) -> Option<&str> {
    let stripped = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
    stripped.filter(|rest| !rest.is_empty())
}

/// Every name that a graph uses.
#[derive(Debug)]
pub(super) struct Names {
    used: BTreeSet<String>,
    /// The next number to try behind a name that is taken.
    next: BTreeMap<String, usize>,
}

impl Names {
    /// The names of a graph; those inside subgraphs count, too.
    pub(super) fn of(graph: &Graph) -> Self {
        let mut names = Self {
            used: BTreeSet::new(),
            next: BTreeMap::new(),
        };
        names.add(graph);
        names
    }

    fn add(&mut self, graph: &Graph) {
        let infos = graph.inputs.iter().chain(&graph.outputs).map(|info| &info.name);
        self.used.extend(infos.cloned());
        self.used
            .extend(graph.initializers.iter().map(|stored| stored.name.clone()));
        for node in &graph.nodes {
            self.used.extend(node.inputs.iter().chain(&node.outputs).cloned());
            node.subgraphs().for_each(|(_, subgraph)| self.add(subgraph));
        }
    }

    /// True for a name that nothing has.
    pub(super) fn is_free(&self, name: &str) -> bool {
        !self.used.contains(name)
    }

    /// Takes the wanted name where it is free, else one like it.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        if self.used.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        let number = self.next.entry(wanted.to_owned()).or_insert(2);
        loop {
            let name = format!("{wanted}_{number}");
            *number += 1;
            if self.used.insert(name.clone()) {
                return name;
            }
        }
    }

    /// Takes the first name that is free; where none is, one like the first.
    pub(super) fn take_first(&mut self, wanted: &[&str]) -> String {
        let free = wanted.iter().find(|name| self.is_free(name));
        self.take(free.or(wanted.first()).copied().unwrap_or("value"))
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;

    #[test]
    fn suffixes_of_quantizers_are_known() {
        struct Case {
            name: &'static str,
            expected: Option<&'static str>,
        }
        let cases = [
            Case {
                name: "conv1.weight_quantized",
                expected: Some("conv1.weight"),
            },
            Case {
                name: "y_QuantizeLinear_Input",
                expected: Some("y"),
            },
            Case {
                name: "x_DequantizeLinear_Output",
                expected: Some("x"),
            },
            Case {
                name: "quantized",
                expected: None,
            },
            Case {
                name: "_quantized",
                expected: None,
            },
        ];
        for case in cases {
            assert_eq!(original_name(case.name), case.expected, "{}", case.name);
        }
    }

    #[test]
    fn a_name_is_given_once() {
        let graph = Graph {
            nodes: vec![Node::new("Relu", "", &["x"], &["y"])],
            ..Graph::default()
        };
        let mut names = Names::of(&graph);
        assert_eq!(names.take("y"), "y_2");
        assert_eq!(names.take_first(&["x", "z"]), "z");
        assert_eq!(names.take_first(&["x", "z"]), "x_2");
    }
}
