//! One operator applied to stored values: order conversion, call, place of an error.

use std::borrow::Cow;

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use crate::body::Body;
use crate::chain::ChainHead;
use crate::element_wise::ElementSteps;
use crate::size_limit::OutputCheck;
use crate::stored::{broadcast_nhwc, permute};
use crate::{
    BoundBody, Differentiable, EvalContext, ExecError, Few, Layout, LayoutRule, OpError, Operator,
    PrepareContext, Prepared, PreparedPullback, Pullback, PullbackContext, Stored, Value, ValueContext,
    ValueOperator,
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
        let mut tensors: Few<Option<&Stored>> = Few::new();
        for (idx, input) in inputs.iter().enumerate() {
            tensors.push(match *input {
                None | Some(Value::Absent) => None,
                Some(Value::Tensor(stored)) => Some(stored),
                Some(Value::Sequence(_)) => {
                    return Err(self.locate(OpError::input(idx, "is a sequence, expected a tensor")));
                }
            });
        }
        self.run_on_tensors(&tensors)
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
    pub(crate) fn run_on_tensors<R: From<Stored>>(
        &self,
        inputs: &[Option<&Stored>],
    ) -> Result<Vec<R>, ExecError> {
        let (layout, results) = self.with_context(inputs, |ctx| {
            let results = match &self.prepared {
                Some(prepared) => prepared.eval(ctx),
                None => self.operator.eval(ctx),
            };
            Ok((ctx.layout, results?))
        })?;
        Ok(results
            .into_iter()
            .map(|tensor| Stored::of_call(tensor, layout).into())
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
        let converted: Few<Option<Cow<'_, Tensor>>> = inputs
            .iter()
            .enumerate()
            .map(|(idx, input)| Some(self.convert(idx, (*input)?, layout, first)))
            .collect();
        let borrowed: Few<Option<&Tensor>> = converted.iter().map(Option::as_deref).collect();
        let ctx = EvalContext {
            node: &self.node,
            opset: self.opset,
            layout,
            inputs: &borrowed,
        };
        f(&ctx).map_err(|source| self.locate(source))
    }

    /// The vector-Jacobian product of the operator.
    pub(crate) fn as_differentiable(&self) -> Option<&'static dyn Differentiable> {
        self.operator.as_differentiable()
    }

    /// Packs constants for the way back.
    pub(crate) fn prepare_pullback(
        &self,
        constants: &[Option<Tensor>],
    ) -> Result<Option<Box<dyn PreparedPullback>>, ExecError> {
        let Some(operator) = self.as_differentiable() else {
            return Ok(None);
        };
        let ctx = PrepareContext {
            node: &self.node,
            opset: self.opset,
            constants,
        };
        operator
            .prepare_pullback(&ctx)
            .map_err(|source| self.locate(source))
    }

    /// Calls `f` with the pullback at inputs and outputs, a function that brings the gradient of an output into the order of
    /// the call, and one that makes a value's gradient of that of an input.
    pub(crate) fn with_pullback<R>(
        &self,
        prepared: Option<&dyn PreparedPullback>,
        (inputs, outputs, wanted): (&[Option<&Stored>], &[Option<&Stored>], &[bool]),
        f: impl FnOnce(&Pullback<'_>, &IntoCall<'_>, &OutOfCall<'_>) -> Result<R, OpError>,
    ) -> Result<R, ExecError> {
        let Some(operator) = self.as_differentiable() else {
            return Err(self.locate(OpError::unsupported("a gradient")));
        };
        let first = inputs.first().copied().flatten().map(Stored::dtype);
        self.with_context(inputs, |call| {
            let layout = call.layout;
            let outputs: Vec<Option<&Tensor>> = outputs
                .iter()
                .map(|output| output.map(|stored| stored.in_layout(layout)))
                .collect();
            let ctx = PullbackContext {
                call: EvalContext { ..*call },
                outputs: &outputs,
                wanted,
            };
            let pullback = match prepared {
                Some(prepared) => prepared.pullback(&ctx)?,
                None => operator.pullback(&ctx)?,
            };
            let out_of_call = |idx: usize, gradient: Tensor| match inputs[idx] {
                Some(input) => self.gradient_of(idx, input, layout, first, gradient),
                None => Ok(Stored::plain(gradient)),
            };
            f(&pullback, &|gradient| gradient.into_layout(layout), &out_of_call)
        })
    }

    /// The gradient of an input, from that of what the call took for it.
    fn gradient_of(
        &self,
        idx: usize,
        input: &Stored,
        layout: Layout,
        first: Option<DType>,
        gradient: Tensor,
    ) -> Result<Stored, OpError> {
        Ok(match self.taken_as(idx, input, layout, first) {
            Taken::Plain => Stored::plain(gradient),
            Taken::Nhwc => Stored::of_call(gradient, Layout::Nhwc),
            Taken::Broadcast => {
                let plain = permute(&gradient, Layout::Plain);
                Stored::plain(plain.reshape(&input.shape())?)
            }
        })
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

    fn convert<'v>(
        &self,
        idx: usize,
        input: &'v Stored,
        layout: Layout,
        first: Option<DType>,
    ) -> Cow<'v, Tensor> {
        match self.taken_as(idx, input, layout, first) {
            Taken::Plain => Cow::Borrowed(input.to_plain()),
            Taken::Nhwc => Cow::Borrowed(input.to_nhwc()),
            Taken::Broadcast => Cow::Owned(broadcast_nhwc(input.to_plain())),
        }
    }

    /// How a call takes an input.
    fn taken_as(&self, idx: usize, input: &Stored, layout: Layout, first: Option<DType>) -> Taken {
        let activation = match self.operator.layout() {
            LayoutRule::Nhwc => idx < self.operator.nhwc_inputs(),
            LayoutRule::Follow | LayoutRule::Plain => true,
        };
        if layout == Layout::Plain || !activation {
            return Taken::Plain;
        }
        // Operands of a broadcast have the dtype of the first input or are a condition; others are parameters
        // (starts, sizes) that keep their rank.
        let operand = self.operator.layout() == LayoutRule::Follow
            && (1..4).contains(&input.rank())
            && (Some(input.dtype()) == first || first == Some(DType::Bool));
        if operand { Taken::Broadcast } else { Taken::Nhwc }
    }
}

/// What a call takes for an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// The tensor in ONNX order.
    Plain,
    /// The tensor in NHWC order.
    Nhwc,
    /// An operand of lower rank with leading dimensions of 1, in NHWC order.
    Broadcast,
}

/// Brings the gradient of an output into the order of a call.
pub(crate) type IntoCall<'a> = dyn Fn(Stored) -> Tensor + Sync + 'a;

/// Makes a value's gradient of the gradient of input `idx` of a call.
pub(crate) type OutOfCall<'a> = dyn Fn(usize, Tensor) -> Result<Stored, OpError> + Sync + 'a;
