//! Nodes put into an order in which they can run: some tools write them in the order of their edits.

use std::collections::{BTreeSet, HashMap};

use crate::Graph;

impl Graph {
    /// Puts each node after those whose outputs it uses, in subgraphs too. Nodes that already stand so keep their place
    /// relative to each other; nodes on a cycle stay behind all others. Returns whether anything moved.
    pub fn order_nodes(&mut self) -> bool {
        let mut moved = false;
        for attribute in self.nodes.iter_mut().flat_map(|node| &mut node.attributes) {
            for graph in attribute.value.graphs_mut() {
                moved |= graph.order_nodes();
            }
        }
        let order = self.runnable_order();
        if order.is_sorted() {
            return moved;
        }
        let mut nodes: Vec<Option<_>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|idx| nodes[idx].take()).collect();
        true
    }

    /// The indices of the nodes, the smallest that can run first.
    fn runnable_order(&self) -> Vec<usize> {
        let mut producer: HashMap<&str, usize> = HashMap::new();
        for (idx, node) in self.nodes.iter().enumerate() {
            for name in node.outputs.iter().filter(|name| !name.is_empty()) {
                producer.entry(name).or_insert(idx);
            }
        }
        let mut waits_for = vec![0_usize; self.nodes.len()];
        let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (idx, node) in self.nodes.iter().enumerate() {
            let needed: BTreeSet<usize> = node
                .used_values()
                .into_iter()
                .filter_map(|name| producer.get(name).copied())
                .collect();
            waits_for[idx] = needed.len();
            needed.into_iter().for_each(|other| waiting[other].push(idx));
        }
        let mut ready: BTreeSet<usize> = (0..self.nodes.len()).filter(|&idx| waits_for[idx] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(idx) = ready.pop_first() {
            order.push(idx);
            for &other in &waiting[idx] {
                waits_for[other] -= 1;
                if waits_for[other] == 0 {
                    ready.insert(other);
                }
            }
        }
        order.extend((0..self.nodes.len()).filter(|&idx| waits_for[idx] > 0));
        order
    }
}

#[cfg(test)]
mod tests {
    use crate::{Graph, Node, Topology, ValueInfo};

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let node = |(input, output): &(&str, &str)| Node::new("Relu", output, &[input], &[output]);
        Graph {
            inputs: vec![ValueInfo::untyped("x")],
            nodes: edges.iter().map(node).collect(),
            ..Graph::default()
        }
    }

    fn names(graph: &Graph) -> Vec<&str> {
        graph.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn nodes_move_behind_what_they_use_and_no_further() {
        let mut ordered = graph(&[("x", "a"), ("x", "b"), ("a", "c")]);
        assert!(!ordered.order_nodes());
        let mut shuffled = graph(&[("b", "c"), ("x", "d"), ("a", "b"), ("x", "a")]);
        assert!(shuffled.order_nodes());
        assert_eq!(names(&shuffled), ["d", "a", "b", "c"]);
        assert!(Topology::new(&shuffled).is_ok());
    }

    #[test]
    fn a_cycle_is_left_for_the_check_to_name() {
        let mut cyclic = graph(&[("b", "a"), ("a", "b"), ("x", "c")]);
        cyclic.order_nodes();
        assert_eq!(names(&cyclic), ["c", "a", "b"]);
        let error = Topology::new(&cyclic).unwrap_err().to_string();
        assert_eq!(
            error,
            "node \"a\" (Relu), input 0 \"b\": no earlier node, input or initializer produces this value, the later node \
             \"b\" does: the graph has a cycle, or its nodes are out of order"
        );
    }
}
