//! A run in progress: one node at a time, values freed after their last use.

use std::collections::BTreeMap;

use qloupe_ir::{Dim, ValueInfo};
use smallvec::SmallVec;

use crate::chain::{self, MAX_NODES, Ran, Watch};
use crate::shape_memo::Recall;
use crate::{ExecError, Few, Program, Stored, Value};

/// Which values of a run its owner looks at.
#[derive(Clone, Copy)]
pub enum Tapped<'a> {
    /// All of them.
    All,
    /// Those with a true at their place in [`Program::values`].
    Only(&'a [bool]),
    /// None come out, but all float32 ones are seen in pieces while they are in the cache; the number is a place in
    /// [`Program::values`].
    Watched(&'a Watch<'a>),
    /// The goals only.
    None,
}

impl std::fmt::Debug for Tapped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::All => "All",
            Self::Only(_) => "Only",
            Self::Watched(_) => "Watched",
            Self::None => "None",
        })
    }
}

/// A run in progress. Its owner decides after every step what to look at; two walks in lockstep are a comparison.
pub struct Walk<'p> {
    program: &'p Program,
    values: Vec<Option<Value>>,
    /// Steps that still use a value, plus one for a goal.
    uses: Vec<usize>,
    tapped: Vec<bool>,
    watch: Option<&'p Watch<'p>>,
    recall: Recall<'p>,
    /// Which steps the goals need.
    needed: Vec<bool>,
    /// The next group of steps that one kernel call may do.
    next_group: usize,
    /// Steps of the group before it that could not follow, if there are any: they run next.
    rest: Vec<usize>,
    live_bytes: usize,
    peak_bytes: usize,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk")
            .field("next_group", &self.next_group)
            .finish_non_exhaustive()
    }
}

/// A step of a walk: one node, or several that one kernel call did.
#[derive(Debug)]
pub struct Stepped<'p> {
    program: &'p Program,
    steps: Few<usize>,
    /// The outputs that something needs or that are tapped, with their places in [`Program::values`].
    pub values: Vec<(usize, Value)>,
    /// float32 values that nobody wanted and that never were in memory: their places in [`Program::values`] and shapes.
    pub passed: Vec<(usize, Vec<usize>)>,
}

impl<'p> Stepped<'p> {
    /// The indices of its nodes in the graph.
    pub fn node_idxs(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().map(|&step| self.program.steps[step].node_idx)
    }

    /// The outputs that something needs or that are tapped, by name.
    pub fn outputs(&self) -> impl Iterator<Item = (&'p str, &Value)> {
        self.values
            .iter()
            .map(|(place, value)| (self.program.name(*place), value))
    }
}

impl<'p> Walk<'p> {
    pub(crate) fn new(
        program: &'p Program,
        given: Vec<(String, Value)>,
        goals: &[&str],
        tapped: Tapped<'p>,
    ) -> Result<Self, ExecError> {
        let mut values = vec![None; program.n_slots()];
        let declared: BTreeMap<&str, &ValueInfo> = program
            .graph()
            .inputs
            .iter()
            .map(|i| (i.name.as_str(), i))
            .collect();
        for (name, value) in given {
            if let (Some(info), Some(stored)) = (declared.get(name.as_str()), value.as_tensor()) {
                check_input(info, stored)?;
            }
            values[program.slot(&name)?] = Some(value);
        }
        let mut uses = vec![0_usize; program.n_slots()];
        let mut wanted = vec![false; program.n_slots()];
        for &goal in goals {
            let slot = program.slot(goal)?;
            wanted[slot] = true;
            uses[slot] += 1;
        }
        let mut needed = vec![false; program.steps.len()];
        for (step_idx, step) in program.steps.iter().enumerate().rev() {
            needed[step_idx] = step
                .outputs
                .iter()
                .flatten()
                .any(|&o| wanted[o] && values[o].is_none());
            if needed[step_idx] {
                for &input in step.inputs.iter().flatten() {
                    wanted[input] = true;
                    uses[input] += 1;
                }
            }
        }
        for input in program.graph().runtime_inputs() {
            let slot = program.slot(&input.name)?;
            if wanted[slot] && values[slot].is_none() {
                return Err(ExecError::MissingInput {
                    name: input.name.clone(),
                });
            }
        }
        let watch = match tapped {
            Tapped::Watched(watch) => Some(watch),
            _ => None,
        };
        let tapped = match tapped {
            Tapped::All => vec![true; program.n_slots()],
            Tapped::None | Tapped::Watched(_) => vec![false; program.n_slots()],
            Tapped::Only(places) => {
                assert_eq!(places.len(), program.n_slots(), "places of values");
                places.to_vec()
            }
        };
        let live_bytes = values.iter().flatten().map(Value::size_bytes).sum();
        Ok(Self {
            recall: program.shape_memo.recall(&values),
            program,
            values,
            uses,
            tapped,
            watch,
            needed,
            next_group: 0,
            rest: Vec::new(),
            live_bytes,
            peak_bytes: live_bytes,
        })
    }

    /// Runs the next node, and those that the same kernel call can do; `None` at the end.
    ///
    /// # Errors
    /// A node that fails.
    pub fn step(&mut self) -> Result<Option<Stepped<'p>>, ExecError> {
        let program = self.program;
        let mut members: SmallVec<[usize; MAX_NODES]> = self.rest.drain(..).collect();
        while members.is_empty() {
            let Some(group) = program.groups.get(self.next_group) else {
                self.recall.finish();
                return Ok(None);
            };
            self.next_group += 1;
            members.extend(group.iter().copied().filter(|&step| self.needed[step]));
        }
        let (uses, tapped) = (&self.uses, &self.tapped);
        let keeps = |slot: usize, readers: usize| tapped[slot] || uses[slot] > readers;
        let lookup = |slot: usize| self.slot_value(slot);
        let run = |members: &[usize]| chain::run(&program.steps, members, &lookup, &keeps, self.watch);
        let (first, others) = (members[0], &members[1..]);
        let ran = if let Some(results) = self.recall.results(first) {
            Ran::of_step(&program.steps[first], first, results.to_vec(), others, self.watch)
        } else if self.recall.wants(first) {
            // By itself, so that there is a value of each output.
            let ran = run(&members[..1])?;
            let results: Vec<Value> = ran.values.iter().map(|(_, value)| value.clone()).collect();
            self.recall.learn(first, &results);
            Ran {
                rest: others.to_vec(),
                ..ran
            }
        } else {
            run(&members)?
        };
        self.rest = ran.rest;
        let inputs = || {
            ran.steps
                .iter()
                .flat_map(|&step| program.steps[step].inputs.iter().flatten())
        };
        for (slot, result) in &ran.values {
            // A value that was given stays as it was given.
            if self.uses[*slot] > 0 && self.values[*slot].is_none() {
                self.live_bytes += result.size_bytes();
                self.values[*slot] = Some(result.clone());
            }
        }
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
        for &input in inputs() {
            self.uses[input] -= 1;
            if self.uses[input] == 0
                && let Some(value) = self.values[input].take()
            {
                self.live_bytes -= value.size_bytes();
            }
        }
        Ok(Some(Stepped {
            program,
            steps: ran.steps,
            values: ran.values,
            passed: ran.passed,
        }))
    }

    fn slot_value(&self, slot: usize) -> Option<&Value> {
        self.values[slot]
            .as_ref()
            .or(self.program.constants[slot].as_ref())
    }

    /// A value that is alive: a goal that was computed, a constant, or one that a later node uses.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.slot_value(self.program.slot(name).ok()?)
    }

    /// A tensor that must be alive.
    ///
    /// # Errors
    /// [`ExecError::UnknownValue`], [`ExecError::NotATensor`].
    pub fn require(&self, name: &str) -> Result<&Stored, ExecError> {
        let value = self.require_value(name)?;
        value.as_tensor().ok_or_else(|| ExecError::NotATensor {
            name: name.to_owned(),
            kind: value.kind(),
        })
    }

    /// A value that must be alive.
    ///
    /// # Errors
    /// [`ExecError::UnknownValue`].
    pub fn require_value(&self, name: &str) -> Result<&Value, ExecError> {
        self.slot_value(self.program.slot(name)?)
            .ok_or_else(|| ExecError::UnknownValue {
                name: name.to_owned(),
                help: ", it was not computed".to_owned(),
            })
    }

    /// The largest number of bytes that were alive at once, without constants.
    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes
    }
}

/// Checks a fed tensor against the declaration of the input.
pub(crate) fn check_input(info: &ValueInfo, stored: &Stored) -> Result<(), ExecError> {
    let Some(ty) = info.tensor_type() else {
        return Ok(());
    };
    let wrong = |what, expected: String, got: String| {
        Err(ExecError::WrongInput {
            name: info.name.clone(),
            what,
            expected,
            got,
        })
    };
    if let Some(dtype) = ty.dtype.filter(|&d| d != stored.dtype()) {
        return wrong("dtype", dtype.to_string(), stored.dtype().to_string());
    }
    let Some(dims) = &ty.shape else { return Ok(()) };
    let shape = stored.shape();
    let fits = dims.len() == shape.len()
        && dims
            .iter()
            .zip(&shape)
            .all(|(dim, &size)| dim.size().is_none_or(|d| d == size));
    if fits {
        return Ok(());
    }
    let dims: Vec<String> = dims
        .iter()
        .map(|d| {
            if d.size().is_some() {
                d.to_string()
            } else {
                open(d)
            }
        })
        .collect();
    wrong("shape", format!("[{}]", dims.join(", ")), format!("{shape:?}"))
}

fn open(dim: &Dim) -> String {
    if let Dim::Symbol(name) = dim {
        name.clone()
    } else {
        "?".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{Graph, Model, Node, OpsetImport, TensorType};
    use qloupe_tensor::{DType, Tensor};

    use super::*;

    fn model() -> Model {
        let value = |name: &str| {
            let shape = Some(vec![Dim::Symbol("N".to_owned()), Dim::Known(2)]);
            ValueInfo::tensor(
                name,
                TensorType {
                    dtype: Some(DType::Float32),
                    shape,
                    extra: Default::default(),
                },
            )
        };
        let graph = Graph {
            inputs: vec![value("x")],
            outputs: vec![value("c")],
            nodes: vec![
                Node::new("Relu", "n0", &["x"], &["a"]),
                Node::new("Relu", "n1", &["a"], &["b"]),
                Node::new("Relu", "n2", &["b"], &["c"]),
            ],
            ..Graph::default()
        };
        Model {
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 13,
            }],
            graph,
            ..Model::default()
        }
    }

    fn x() -> Stored {
        Stored::plain(Tensor::new(&[1, 2], vec![-1.0_f32, 2.0]).unwrap())
    }

    #[test]
    fn a_walk_runs_only_what_its_goals_need_and_frees_the_rest() {
        let program = Program::new(&model()).unwrap();
        let mut walk = program.walk(vec![("x".to_owned(), x())], &["b"]).unwrap();
        let stepped = walk.step().unwrap().unwrap();
        assert!(stepped.node_idxs().eq([0, 1]), "one chain");
        let names: Vec<&str> = stepped.outputs().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(walk.value("x").is_none(), "x is freed after its last use");
        assert!(walk.step().unwrap().is_none(), "n2 is not needed");
        assert_eq!(
            walk.require("b").unwrap().to_plain().as_slice::<f32>().unwrap(),
            [0.0, 2.0]
        );
        assert_eq!(walk.peak_bytes(), 24);
    }

    #[test]
    fn values_that_nobody_looks_at_are_not_made() {
        let program = Program::new(&model()).unwrap();
        let given = vec![("x".to_owned(), x())];
        let mut walk = program.walk_tapped(given, &["c"], Tapped::None).unwrap();
        let stepped = walk.step().unwrap().unwrap();
        assert!(stepped.node_idxs().eq([0, 1, 2]));
        let names: Vec<&str> = stepped.outputs().map(|(name, _)| name).collect();
        assert_eq!(names, ["c"]);
        assert_eq!(walk.peak_bytes(), 16);
    }

    #[test]
    fn a_walk_may_begin_anywhere() {
        let program = Program::new(&model()).unwrap();
        let mut walk = program.walk(vec![("b".to_owned(), x())], &["c"]).unwrap();
        assert!(walk.step().unwrap().unwrap().node_idxs().eq([2]));
        assert!(walk.step().unwrap().is_none(), "nothing before b is run");
    }

    #[test]
    fn wrong_feeds_are_refused_before_anything_runs() {
        let program = Program::new(&model()).unwrap();
        let refuse =
            |given: Vec<(String, Stored)>, goal: &str| program.walk(given, &[goal]).unwrap_err().to_string();
        let ints = Stored::plain(Tensor::new(&[1, 2], vec![1_i32, 2]).unwrap());
        let wide = Stored::plain(Tensor::new(&[1, 3], vec![0_f32; 3]).unwrap());
        assert_eq!(
            refuse(vec![("x".to_owned(), ints)], "c"),
            "input \"x\": wrong dtype, expected float32, got int32"
        );
        assert_eq!(
            refuse(vec![("x".to_owned(), wide)], "c"),
            "input \"x\": wrong shape, expected [N, 2], got [1, 3]"
        );
        assert_eq!(refuse(vec![], "c"), "input \"x\" is not fed");
        assert_eq!(
            refuse(vec![("xx".to_owned(), x())], "c"),
            "value \"xx\" does not exist in the graph, did you mean \"x\"?"
        );
    }

    #[test]
    fn all_unsupported_operators_are_named_at_once() {
        let mut model = model();
        model.graph.nodes[0].op_type = "Foo".to_owned();
        model.graph.nodes[1].op_type = "Foo".to_owned();
        model.graph.nodes[2].domain = "my.domain".to_owned();
        let error = Program::new(&model).unwrap_err().to_string();
        assert_eq!(
            error,
            "2 unsupported operators: Foo (2 nodes, the first is \"n0\"), my.domain.Relu (node \"n2\")"
        );
    }
}
