//! One operator applied to stored values: order conversion, call, place of an error.

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use crate::body::Body;
use crate::chain::ChainHead;
use crate::element_wise::ElementSteps;
use crate::size_limit::OutputCheck;
use crate::stored::broadcast_nhwc;
use crate::{
    BoundBody, EvalContext, ExecError, Layout, LayoutRule, OpError, Operator, PrepareContext, Prepared,
    Stored, Value, ValueContext, ValueOperator,
};

/// A node with its operator, ready to be called.
#[derive(Debug)]
pub(crate) struct Call {
    node: Node,
    operator: &'static dyn Operator,
    opset: i64,
    prepared: Option<Box<dyn Prepared>>,
    bodies: Vec<Body>,
    output_check: OutputCheck,
    /// What it computes element by element, if it may be part of a chain.
    elements: Option<ElementSteps>,
}

impl Call {
    /// `constants`: the inputs that are known; empty when there is nothing to prepare.
    pub(crate) fn new(
        node: Node,
        operator: &'static dyn Operator,
        opset: i64,
        constants: &[Option<Tensor>],
    ) -> Result<Self, ExecError> {
        let mut call = Self {
            node,
            operator,
            opset,
            prepared: None,
            bodies: Vec::new(),
            output_check: OutputCheck::default(),
            elements: None,
        };
        let ctx = PrepareContext {
            node: &call.node,
            opset,
            constants,
        };
        call.elements = operator.elements(&ctx);
        if constants.iter().any(Option::is_some) {
            call.prepared = operator.prepare(&ctx).map_err(|source| call.locate(source))?;
        }
        Ok(call)
    }

    /// Adds the subgraphs of the node.
    pub(crate) fn with_bodies(mut self, bodies: Vec<Body>) -> Self {
        self.bodies = bodies;
        self
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// What it computes element by element, if it may be part of a chain.
    pub(crate) fn elements(&self) -> Option<&ElementSteps> {
        self.elements.as_ref()
    }

    /// True for a node that other nodes may follow in a chain.
    pub(crate) fn may_begin_chain(&self) -> bool {
        self.elements.is_some()
            || self
                .prepared
                .as_ref()
                .is_some_and(|prepared| prepared.has_chain_head())
    }

    /// Calls `run` with the kernel call of the node; `None` where it has none for these inputs, or `run` refuses.
    pub(crate) fn with_chain_head<R>(
        &self,
        inputs: &[Option<&Stored>],
        run: &mut dyn FnMut(ChainHead<'_>, Layout) -> Option<R>,
    ) -> Result<Option<R>, ExecError> {
        let Some(prepared) = &self.prepared else {
            return Ok(None);
        };
        self.with_context(inputs, |ctx| {
            let head = prepared.chain_head(ctx)?;
            Ok(head.and_then(|head| run(head, ctx.layout)))
        })
    }

    fn locate(&self, source: OpError) -> ExecError {
        ExecError::Node {
            node: self.node.label().to_owned(),
            op_type: self.node.op_type.clone(),
            source,
        }
    }

    /// Calls the operator on its inputs and the values that its subgraphs capture. Given the same values, the result is
    /// the same bits in whatever order they are stored.
    pub(crate) fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, ExecError> {
        if let Some(operator) = self.operator.on_values() {
            return self
                .run_on_values(operator, inputs)
                .map_err(|source| self.locate(source));
        }
        let mut tensors = Vec::with_capacity(inputs.len());
        for (idx, input) in inputs.iter().enumerate() {
            tensors.push(match *input {
                None | Some(Value::Absent) => None,
                Some(Value::Tensor(stored)) => Some(stored),
                Some(Value::Sequence(_)) => {
                    return Err(self.locate(OpError::input(idx, "is a sequence, expected a tensor")));
                }
            });
        }
        let results = self.run_on_tensors(&tensors)?;
        Ok(results.into_iter().map(Value::Tensor).collect())
    }

    fn run_on_values(
        &self,
        operator: &dyn ValueOperator,
        inputs: &[Option<&Value>],
    ) -> Result<Vec<Value>, OpError> {
        let (inputs, captured) = inputs.split_at(self.node.inputs.len());
        let bodies: Vec<BoundBody<'_>> = self
            .bodies
            .iter()
            .map(|body| BoundBody::new(body, captured))
            .collect();
        operator.eval_values(&ValueContext {
            node: &self.node,
            opset: self.opset,
            inputs,
            bodies: &bodies,
        })
    }

    /// As [`Call::run`], for an operator that takes tensors only.
    pub(crate) fn run_on_tensors(&self, inputs: &[Option<&Stored>]) -> Result<Vec<Stored>, ExecError> {
        let (layout, results) = self.with_context(inputs, |ctx| {
            let results = match &self.prepared {
                Some(prepared) => prepared.eval(ctx),
                None => self.operator.eval(ctx),
            };
            Ok((ctx.layout, results?))
        })?;
        Ok(results
            .into_iter()
            .map(|tensor| Stored::of_call(tensor, layout))
            .collect())
    }

    /// Calls `f` with the inputs in the order that the operator takes.
    fn with_context<R>(
        &self,
        inputs: &[Option<&Stored>],
        f: impl FnOnce(&EvalContext<'_>) -> Result<R, OpError>,
    ) -> Result<R, ExecError> {
        self.output_check
            .check(self.operator, &self.node, self.opset, inputs)
            .map_err(|source| self.locate(source))?;
        let layout = self.choose_layout(inputs);
        let first = inputs.first().copied().flatten().map(Stored::dtype);
        let converted: Vec<Option<Tensor>> = inputs
            .iter()
            .enumerate()
            .map(|(idx, input)| Some(self.convert(idx, (*input)?, layout, first)))
            .collect();
        let borrowed: Vec<Option<&Tensor>> = converted.iter().map(Option::as_ref).collect();
        let ctx = EvalContext {
            node: &self.node,
            opset: self.opset,
            layout,
            inputs: &borrowed,
        };
        f(&ctx).map_err(|source| self.locate(source))
    }

    fn choose_layout(&self, inputs: &[Option<&Stored>]) -> Layout {
        let mut present = inputs.iter().flatten();
        let nhwc = match self.operator.layout() {
            LayoutRule::Plain => false,
            LayoutRule::Nhwc => present.next().is_some_and(|x| x.rank() == 4),
            LayoutRule::Follow => {
                present.clone().any(|x| x.layout() == Layout::Nhwc) && present.all(|x| x.rank() <= 4)
            }
        };
        if nhwc { Layout::Nhwc } else { Layout::Plain }
    }

    fn convert(&self, idx: usize, input: &Stored, layout: Layout, first: Option<DType>) -> Tensor {
        let activation = match self.operator.layout() {
            LayoutRule::Nhwc => idx < self.operator.nhwc_inputs(),
            LayoutRule::Follow | LayoutRule::Plain => true,
        };
        if layout == Layout::Plain || !activation {
            return input.to_plain().clone();
        }
        // Operands of a broadcast have the dtype of the first input or are a condition; others are parameters
        // (starts, sizes) that keep their rank.
        let operand = self.operator.layout() == LayoutRule::Follow
            && (1..4).contains(&input.rank())
            && (Some(input.dtype()) == first || first == Some(DType::Bool));
        if operand {
            broadcast_nhwc(input.to_plain())
        } else {
            input.to_nhwc().clone()
        }
    }
}
