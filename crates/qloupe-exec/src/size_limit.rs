//! How large a value may become. What an operator is going to make is derived before it allocates: a file of some bytes
//! can ask for more than any machine has.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor, n_elements};

use crate::{ExecError, Fact, InferContext, Layout, OpError, Operator, Stored, SymDim};

/// The limit where the memory of the machine cannot be told.
const UNKNOWN_MEMORY: usize = 1 << 40;

/// Lists of sizes, pads and axes are shorter.
const MAX_LIST: usize = 128;

/// 0: the memory of the machine.
static LIMIT_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Sets how many bytes a value may take in this process; the memory of the machine, unless it is called.
pub fn set_size_limit(limit_bytes: usize) {
    LIMIT_BYTES.store(limit_bytes, Ordering::Relaxed);
}

pub(crate) fn size_limit() -> usize {
    match LIMIT_BYTES.load(Ordering::Relaxed) {
        0 => machine_memory(),
        limit_bytes => limit_bytes,
    }
}

/// The memory of the machine, or of the container that the process lives in.
fn machine_memory() -> usize {
    static MEMORY: OnceLock<usize> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let total = read_memory("/proc/meminfo", total_memory);
        let container = read_memory("/sys/fs/cgroup/memory.max", |text| text.trim().parse().ok());
        total.into_iter().chain(container).min().unwrap_or(UNKNOWN_MEMORY)
    })
}

fn read_memory(path: &str, parse: fn(&str) -> Option<usize>) -> Option<usize> {
    parse(&std::fs::read_to_string(path).ok()?)
}

/// `MemTotal` of Linux, in bytes.
fn total_memory(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Refuses calls of one node whose outputs would be too large. What cannot be derived from the inputs is let through.
#[derive(Debug, Default)]
pub(crate) struct OutputCheck {
    /// The inputs of the first call that passed: the like of them pass unasked.
    passed: OnceLock<Vec<Option<Passed>>>,
}

/// All of an input that the size of an output can depend on.
#[derive(Debug)]
struct Passed {
    dtype: DType,
    layout: Layout,
    /// As it is stored.
    shape: Vec<usize>,
    /// The elements of a short input: they may be a shape.
    elements: Option<Tensor>,
}

impl Passed {
    fn new(input: &Stored) -> Self {
        Self {
            dtype: input.dtype(),
            layout: input.layout(),
            shape: input.physical().shape().to_vec(),
            elements: is_short(input).then(|| input.physical().clone()),
        }
    }

    fn is_like(&self, input: &Stored) -> bool {
        let stored = input.physical();
        let same_elements = |elements: &Tensor| elements.shares_elements(stored) || elements == stored;
        self.dtype == input.dtype()
            && self.layout == input.layout()
            && self.shape == stored.shape()
            && self.elements.as_ref().is_none_or(same_elements)
    }
}

impl OutputCheck {
    /// Checks a call.
    ///
    /// # Errors
    /// [`OpError::TooLarge`] with the output and its size.
    pub(crate) fn check(
        &self,
        operator: &dyn Operator,
        node: &Node,
        opset: i64,
        inputs: &[Option<&Stored>],
    ) -> Result<(), OpError> {
        let is_like = |(passed, input): (&Option<Passed>, &Option<&Stored>)| match (passed, input) {
            (Some(passed), Some(input)) => passed.is_like(input),
            (None, None) => true,
            _ => false,
        };
        let passed = self.passed.get();
        if passed.is_some_and(|passed| passed.len() == inputs.len() && passed.iter().zip(inputs).all(is_like))
        {
            return Ok(());
        }
        check_outputs(operator, node, opset, inputs)?;
        self.passed
            .get_or_init(|| inputs.iter().map(|input| input.map(Passed::new)).collect());
        Ok(())
    }
}

fn is_short(input: &Stored) -> bool {
    n_elements(input.physical().shape()).is_some_and(|n| n <= MAX_LIST)
}

fn check_outputs(
    operator: &dyn Operator,
    node: &Node,
    opset: i64,
    inputs: &[Option<&Stored>],
) -> Result<(), OpError> {
    let facts: Vec<Option<Fact>> = inputs.iter().map(|input| input.map(fact)).collect();
    let borrowed: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let ctx = InferContext {
        node,
        opset,
        inputs: &borrowed,
        bodies: None,
    };
    // What contradicts the operator is an error of the call itself, which says it better.
    let Ok(outputs) = operator.infer(&ctx) else {
        return Ok(());
    };
    for (idx, output) in outputs.iter().enumerate().take(node.outputs.len()) {
        if let (Some(dtype), Some(shape)) = (output.dtype, output.fixed_shape()) {
            check_size(idx, dtype, &shape)?;
        }
    }
    Ok(())
}

/// Refuses a tensor that is too large.
///
/// # Errors
/// [`OpError::TooLarge`].
pub(crate) fn check_size(output_idx: usize, dtype: DType, shape: &[usize]) -> Result<(), OpError> {
    let limit_bytes = size_limit();
    let size_bytes = n_elements(shape).and_then(|n| dtype.size_bytes(n));
    if size_bytes.is_some_and(|size_bytes| size_bytes <= limit_bytes) {
        return Ok(());
    }
    Err(OpError::TooLarge {
        output_idx,
        dtype,
        shape: shape.to_vec(),
        limit_bytes,
    })
}

/// Bytes of the constants of a program so far.
#[derive(Debug, Default)]
pub(crate) struct ConstantBytes(usize);

impl ConstantBytes {
    /// Adds a constant, before it is decoded or kept.
    ///
    /// # Errors
    /// [`ExecError::ConstantsTooLarge`] when all of them together are too large.
    pub(crate) fn add(&mut self, name: &str, size_bytes: usize) -> Result<(), ExecError> {
        let limit_bytes = size_limit();
        self.0 = self.0.saturating_add(size_bytes);
        if self.0 <= limit_bytes {
            return Ok(());
        }
        Err(ExecError::ConstantsTooLarge {
            name: name.to_owned(),
            size_bytes: self.0,
            limit_bytes,
        })
    }
}

/// What is known of an input: dtype, shape and, of a short one, the elements.
fn fact(input: &Stored) -> Fact {
    if !is_short(input) {
        let dims = input.shape().into_iter().map(SymDim::from).collect();
        return Fact::new(Some(input.dtype()), Some(dims));
    }
    let tensor = input.to_plain();
    let elements = match (tensor.as_slice::<i64>(), tensor.as_slice::<i32>()) {
        (Some(v), _) => Some(v.iter().map(|&x| SymDim::known(x)).collect()),
        (_, Some(v)) => Some(v.iter().map(|&x| SymDim::known(i64::from(x))).collect()),
        _ => None,
    };
    Fact {
        elements,
        ..Fact::of_constant(tensor.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;
    use qloupe_ir::{AttributeValue, Graph, Initializer, Model, OpsetImport, ValueInfo};

    #[test]
    fn memory_is_read_as_linux_tells_it() {
        assert_eq!(
            total_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            Some(16 << 20)
        );
        assert_eq!(total_memory("MemTotal: much"), None);
        assert!(size_limit() > 1 << 20);
    }

    /// A node that has passed is asked again when a shape or a short input is another.
    #[test]
    fn what_passed_once_does_not_pass_for_another_size() {
        let node = Node::new("Expand", "n", &["x", "shape"], &["y"]);
        let operator = crate::ops::find("Expand", "").unwrap();
        let check = OutputCheck::default();
        let run = |dims: [i64; 2]| {
            let (x, shape) = (Tensor::scalar(1_f32), Tensor::vector(dims.to_vec()));
            let (x, shape) = (Stored::plain(x), Stored::plain(shape));
            check.check(operator, &node, 13, &[Some(&x), Some(&shape)])
        };
        assert_eq!(run([2, 2]), Ok(()));
        assert_eq!(run([2, 2]), Ok(()));
        assert!(matches!(run([1 << 40, 1 << 20]), Err(OpError::TooLarge { .. })));
        let add = Node::new("Add", "n", &["a", "b"], &["y"]);
        let operator = crate::ops::find("Add", "").unwrap();
        let check = OutputCheck::default();
        let run = |n: usize| {
            let column = Stored::plain(Tensor::new(&[n, 1], vec![0_f32; n]).unwrap());
            let row = Stored::plain(Tensor::vector(vec![0_f32; n]));
            check.check(operator, &add, 13, &[Some(&column), Some(&row)])
        };
        assert_eq!(run(1000), Ok(()));
        assert!(matches!(run(1 << 22), Err(OpError::TooLarge { .. })));
    }

    /// The error of a node on constants.
    fn error_of(node: Node, inputs: Vec<Tensor>) -> String {
        let initializers = node
            .inputs
            .iter()
            .filter(|name| !name.is_empty())
            .zip(inputs)
            .map(|(name, tensor)| Initializer {
                name: name.clone(),
                value: tensor.into(),
            })
            .collect();
        let outputs = node.outputs.iter().map(|name| ValueInfo {
            name: name.clone(),
            ty: None,
            doc_string: String::new(),
            extra: qloupe_ir::Extra::default(),
        });
        let model = Model {
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 18,
            }],
            graph: Graph {
                outputs: outputs.collect(),
                nodes: vec![node],
                initializers,
                ..Graph::default()
            },
            ..Model::default()
        };
        Program::new(&model).unwrap_err().to_string()
    }

    #[test]
    fn what_no_machine_can_hold_is_refused_before_it_is_made() {
        struct Case {
            op_type: &'static str,
            inputs: Vec<Tensor>,
            output: &'static str,
        }
        let ints = |values: &[i64]| Tensor::vector(values.to_vec());
        let ones = |shape: &[usize]| Tensor::new(shape, vec![1_f32; shape.iter().product()]).unwrap();
        let scalar = |value: i64| Tensor::scalar(value);
        let cases = [
            Case {
                op_type: "ConstantOfShape",
                inputs: vec![ints(&[1 << 30, 1 << 30])],
                output: "float32 of shape [1073741824, 1073741824]",
            },
            Case {
                op_type: "ConstantOfShape",
                inputs: vec![ints(&[1 << 40, 1 << 40])],
                output: "float32 of shape [1099511627776, 1099511627776]",
            },
            Case {
                op_type: "Expand",
                inputs: vec![ones(&[1]), ints(&[1 << 50])],
                output: "float32 of shape [1125899906842624]",
            },
            Case {
                op_type: "Tile",
                inputs: vec![ones(&[2]), ints(&[1 << 50])],
                output: "float32 of shape [2251799813685248]",
            },
            Case {
                op_type: "Range",
                inputs: vec![scalar(0), scalar(1 << 50), scalar(1)],
                output: "int64 of shape [1125899906842624]",
            },
            Case {
                op_type: "Range",
                inputs: vec![
                    Tensor::scalar(0_f32),
                    Tensor::scalar(1e15_f32),
                    Tensor::scalar(1_f32),
                ],
                output: "float32 of shape [999999986991104]",
            },
            Case {
                op_type: "Pad",
                inputs: vec![ones(&[2]), ints(&[1 << 50, 0])],
                output: "float32 of shape [1125899906842626]",
            },
            Case {
                op_type: "Resize",
                inputs: vec![ones(&[1, 1, 2, 2]), Tensor::vector(vec![1_f32, 1.0, 1e7, 1e7])],
                output: "float32 of shape [1, 1, 20000000, 20000000]",
            },
            Case {
                op_type: "OneHot",
                inputs: vec![ints(&[0]), scalar(1 << 50), ones(&[2])],
                output: "float32 of shape [1, 1125899906842624]",
            },
            Case {
                op_type: "CenterCropPad",
                inputs: vec![ones(&[2]), ints(&[1 << 50])],
                output: "float32 of shape [1125899906842624]",
            },
            Case {
                op_type: "MatMul",
                inputs: vec![ones(&[1 << 21, 1]), ones(&[1, 1 << 21])],
                output: "float32 of shape [2097152, 2097152]",
            },
            Case {
                op_type: "Add",
                inputs: vec![ones(&[1 << 21, 1]), ones(&[1 << 21])],
                output: "float32 of shape [2097152, 2097152]",
            },
        ];
        for Case {
            op_type,
            inputs,
            output,
        } in cases
        {
            let names: &[&str] = match op_type {
                "Resize" => &["a", "", "b"],
                _ => &["a", "b", "c"][..inputs.len()],
            };
            let limit = size_limit();
            let node = Node::new(op_type, "n", names, &["y"])
                .with_attribute("mode", AttributeValue::String(b"nearest".to_vec()));
            let node = if op_type == "Pad" {
                Node::new(op_type, "n", names, &["y"])
            } else {
                node
            };
            assert_eq!(
                error_of(node, inputs),
                format!(
                    "node \"n\" ({op_type}), output 0 is too large, expected at most {limit} bytes, got {output}"
                )
            );
        }
    }
}
