//! Steps whose results depend on nothing but the shapes of the inputs: what one run computed, later runs on inputs of the
//! same shapes take over. Where the batch is open, exporters spend a third of the nodes on working out shapes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::Value;

/// Larger results are computed again: masks and positions should not stay in memory between runs.
const MAX_BYTES: usize = 1 << 16;

/// The results of steps that depend on shapes only, for the shapes of the latest run.
#[derive(Debug)]
pub(crate) struct ShapeMemo {
    /// The slots that no step writes and that are no constants.
    sources: Vec<usize>,
    /// One for each step.
    is_shape_only: Vec<bool>,
    latest: Mutex<Option<Arc<Known>>>,
}

#[derive(Clone, Debug)]
struct Known {
    /// The shape of each source; `None` for one that is not given, or no tensor.
    shapes: Vec<Option<Vec<usize>>>,
    /// For each step its results, once it ran.
    results: Vec<Option<Vec<Value>>>,
}

impl ShapeMemo {
    pub(crate) fn new(sources: Vec<usize>, is_shape_only: Vec<bool>) -> Self {
        Self {
            sources,
            is_shape_only,
            latest: Mutex::default(),
        }
    }

    /// What a run that begins with `values` can take over; nothing where it begins behind the sources.
    pub(crate) fn recall(&self, values: &[Option<Value>]) -> Recall<'_> {
        let n_given = values.iter().flatten().count();
        let n_sources = self
            .sources
            .iter()
            .filter(|&&slot| values[slot].is_some())
            .count();
        if n_given != n_sources || !self.is_shape_only.contains(&true) {
            return Recall {
                memo: self,
                known: None,
                has_learned: false,
            };
        }
        let shape = |&slot: &usize| Some(values[slot].as_ref()?.as_tensor()?.shape());
        let shapes: Vec<_> = self.sources.iter().map(shape).collect();
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = latest.filter(|known| known.shapes == shapes).unwrap_or_else(|| {
            Arc::new(Known {
                shapes,
                results: vec![None; self.is_shape_only.len()],
            })
        });
        Recall {
            memo: self,
            known: Some(known),
            has_learned: false,
        }
    }
}

/// The part of a run in the memory of its program.
#[derive(Debug)]
pub(crate) struct Recall<'p> {
    memo: &'p ShapeMemo,
    /// `None`: it has none.
    known: Option<Arc<Known>>,
    has_learned: bool,
}

impl Recall<'_> {
    /// True for a step whose results are to be learned when it runs.
    pub(crate) fn wants(&self, step: usize) -> bool {
        self.known.is_some() && self.memo.is_shape_only[step]
    }

    /// The results of a step, if an earlier run on such inputs had them.
    pub(crate) fn results(&self, step: usize) -> Option<&[Value]> {
        self.known.as_ref()?.results[step].as_deref()
    }

    /// Takes over the results of a step that is wanted.
    pub(crate) fn learn(&mut self, step: usize, results: &[Value]) {
        if let Some(known) = &mut self.known
            && results.iter().map(Value::size_bytes).sum::<usize>() <= MAX_BYTES
        {
            Arc::make_mut(known).results[step] = Some(results.to_vec());
            self.has_learned = true;
        }
    }

    /// Leaves to later runs what this one learned.
    pub(crate) fn finish(&mut self) {
        if std::mem::take(&mut self.has_learned) {
            let mut latest = self.memo.latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.clone_from(&self.known);
        }
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Graph, Model, Node, OpsetImport, ValueInfo};
    use qloupe_tensor::{DType, Tensor};

    use crate::{Program, Tapped};

    /// A vector times the square of its length: all but the last product depends on the shape only.
    fn program() -> Program {
        let to = AttributeValue::Int(DType::Float32.to_onnx().into());
        let cast = Node::new("Cast", "cast", &["shape"], &["float"]).with_attribute("to", to);
        let graph = Graph {
            inputs: vec![ValueInfo::untyped("x")],
            outputs: vec![ValueInfo::untyped("y"), ValueInfo::untyped("square")],
            nodes: vec![
                Node::new("Shape", "shape", &["x"], &["shape"]),
                cast,
                Node::new("Mul", "square", &["float", "float"], &["square"]),
                Node::new("Mul", "y", &["x", "square"], &["y"]),
            ],
            ..Graph::default()
        };
        let opset_imports = vec![OpsetImport {
            domain: String::new(),
            version: 13,
        }];
        Program::new(&Model {
            opset_imports,
            graph,
            ..Model::default()
        })
        .unwrap()
    }

    fn x(values: &[f32]) -> Vec<(String, Tensor)> {
        vec![("x".to_owned(), Tensor::vector(values.to_vec()))]
    }

    #[test]
    fn later_runs_on_the_same_shape_take_over_what_depends_on_it_alone() {
        let program = program();
        let run = |values: &[f32]| {
            let outputs = program.run(x(values)).unwrap();
            let values = |idx: usize| outputs[idx].1.require::<f32>().unwrap().to_vec();
            (values(0), values(1))
        };
        let known = || {
            let latest = program.shape_memo.latest.lock().unwrap();
            let results = latest.as_ref().map(|known| known.results.clone());
            results.map_or(0, |results| results.iter().flatten().count())
        };
        assert_eq!(known(), 0);
        assert_eq!(run(&[1.0, 2.0]), (vec![4.0, 8.0], vec![4.0]));
        assert_eq!(known(), 3);
        assert_eq!(run(&[3.0, 5.0]), (vec![12.0, 20.0], vec![4.0]));
        assert_eq!(run(&[1.0, 2.0, 3.0]), (vec![9.0, 18.0, 27.0], vec![9.0]));
        assert_eq!(run(&[1.0, 2.0]), (vec![4.0, 8.0], vec![4.0]));
    }

    #[test]
    fn values_that_are_taken_over_are_seen_like_others() {
        let program = program();
        let all = |values: &[f32]| {
            let mut walk = program.walk(x(values), &["y", "square"]).unwrap();
            let mut seen = Vec::new();
            while let Some(stepped) = walk.step().unwrap() {
                seen.extend(stepped.outputs().map(|(name, _)| name.to_owned()));
            }
            seen
        };
        assert_eq!(all(&[1.0]), ["shape", "float", "square", "y"]);
        assert_eq!(all(&[2.0]), ["shape", "float", "square", "y"]);
        let seen = std::sync::Mutex::new(Vec::new());
        let watch =
            |slot: usize, values: &[f32]| seen.lock().unwrap().push((program.name(slot), values.to_vec()));
        let mut walk = program
            .walk_tapped(x(&[2.0]), &["y", "square"], Tapped::Watched(&watch))
            .unwrap();
        while walk.step().unwrap().is_some() {}
        drop(walk);
        let mut seen = seen.into_inner().unwrap();
        seen.retain(|(name, _)| *name != "x");
        assert_eq!(
            seen,
            [("float", vec![1.0]), ("square", vec![1.0]), ("y", vec![2.0])]
        );
    }

    #[test]
    fn a_run_that_begins_behind_the_inputs_takes_over_nothing() {
        let program = program();
        program.run(x(&[1.0, 2.0])).unwrap();
        let given = vec![
            ("x".to_owned(), Tensor::vector(vec![1.0_f32, 2.0])),
            ("float".to_owned(), Tensor::vector(vec![3.0_f32])),
        ];
        let mut walk = program.walk(given, &["y"]).unwrap();
        while walk.step().unwrap().is_some() {}
        let y = walk.require("y").unwrap().to_plain().clone();
        assert_eq!(y.as_slice::<f32>().unwrap(), [9.0, 18.0]);
    }
}
