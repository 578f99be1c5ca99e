//! Inputs for a measurement: made up, the same ones each time.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_ir::{Dim, Model, ValueInfo};
use qloupe_tensor::{DType, Tensor, n_elements};

use crate::Error;
use crate::samples::{InputSpec, cast};
use crate::session::Session;

/// Where the numbers begin.
const SEED: u64 = 0;
/// The largest input that is made up.
const MAX_ELEMENTS: usize = 1 << 28;

/// The shape of every network input: as declared, fixed by `shapes`, or with `batch` (1 if absent) as its open leading
/// dimension. A named dimension has one size everywhere.
///
/// # Errors
/// A leading dimension that is fixed to another size than `batch`, another dimension that is open.
pub fn input_shapes(
    model: &Model,
    shapes: &BTreeMap<String, Vec<usize>>,
    batch: Option<usize>,
) -> Result<BTreeMap<String, Vec<usize>>, Error> {
    let inputs = model.graph.runtime_inputs();
    let batches: BTreeSet<&str> = inputs
        .iter()
        .filter_map(|input| symbol(dims(input)?.first()?))
        .collect();
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    let (given, open): (Vec<&ValueInfo>, Vec<&ValueInfo>) =
        inputs.iter().partition(|input| shapes.contains_key(&input.name));
    for input in given.into_iter().chain(open) {
        let dims = dims(input).unwrap_or_default();
        let one = [batch.unwrap_or(1)];
        let known = shapes.get(&input.name).map_or(&one[..], Vec::as_slice);
        for (dim, &size) in dims.iter().zip(known) {
            if let Some(name) = symbol(dim) {
                sizes.entry(name).or_insert(size);
            }
        }
    }
    let mut all = shapes.clone();
    for input in inputs {
        let Some(dims) = dims(input) else { continue };
        let given = shapes.get(&input.name);
        let size = |(axis, dim): (usize, &Dim)| {
            let given = given.and_then(|shape| shape.get(axis).copied());
            let named = symbol(dim).and_then(|name| sizes.get(name).copied());
            let leading = (axis == 0).then(|| batch.unwrap_or(1));
            given.or(dim.size()).or(named).or(leading)
        };
        let known: Vec<Option<usize>> = dims.iter().enumerate().map(size).collect();
        // A batch with a name may stand elsewhere, as in the states of a recurrent network.
        let elsewhere = dims
            .iter()
            .skip(1)
            .any(|dim| symbol(dim).is_some_and(|name| batches.contains(name)));
        if let (Some(batch), Some(&Some(leading))) = (batch, known.first())
            && leading != batch
            && !elsewhere
        {
            return Err(Error::Options(format!(
                "--batch {batch}: input \"{}\" has a leading dimension of another size, expected {leading}",
                input.name
            )));
        }
        let shape: Option<Vec<usize>> = known.iter().copied().collect();
        let Some(shape) = shape else {
            return Err(Error::Options(open_dims(input, dims, &known)));
        };
        all.entry(input.name.clone()).or_insert(shape);
    }
    Ok(all)
}

fn dims(input: &ValueInfo) -> Option<&[Dim]> {
    input.tensor_type()?.shape.as_deref()
}

/// The name of an open dimension; `?` is none.
fn symbol(dim: &Dim) -> Option<&str> {
    match dim {
        Dim::Symbol(name) if name != "?" => Some(name),
        _ => None,
    }
}

fn open_dims(input: &ValueInfo, dims: &[Dim], known: &[Option<usize>]) -> String {
    let declare = |dim: &Dim| match dim.size() {
        Some(size) => size.to_string(),
        None => symbol(dim).unwrap_or("?").to_owned(),
    };
    let declared: Vec<String> = dims.iter().map(declare).collect();
    let wanted = known.iter().enumerate().map(|(axis, size)| match size {
        Some(size) => size.to_string(),
        None if dims.len() == 4 && axis > 0 => ["C", "H", "W"][axis - 1].to_owned(),
        None => format!("D{axis}"),
    });
    format!(
        "input \"{}\": dimensions of [{}] are open, expected --shape {}={}",
        input.name,
        declared.join(", "),
        input.name,
        wanted.collect::<Vec<_>>().join(",")
    )
}

/// Seeded numbers for every input, whose dimensions are all known: floats from -1 to 1, 8-bit integers of their whole
/// range, and 0 or 1 for wider ones, which are indices, masks and lengths.
///
/// # Errors
/// A dtype that numbers cannot become, an open dimension, an input that is too large.
pub fn make_inputs(specs: &[InputSpec]) -> Result<Vec<(String, Tensor)>, Error> {
    let mut state = SEED;
    let make = |spec: &InputSpec| {
        let shape: Option<Vec<usize>> = spec.shape.iter().copied().collect();
        let n = shape
            .as_deref()
            .and_then(n_elements)
            .filter(|&n| n <= MAX_ELEMENTS);
        let (Some(shape), Some(n)) = (shape, n) else {
            return Err(wrong(spec, "its size is open or too large"));
        };
        let numbers: Vec<u64> = (0..n).map(|_| next(&mut state)).collect();
        let tensor = made_up(&shape, &numbers, spec.dtype).map_err(|what| wrong(spec, &what))?;
        Ok((spec.name.clone(), tensor))
    };
    specs.iter().map(make).collect()
}

/// Inputs of one sample of a network that are made up; an open batch is 1.
///
/// # Errors
/// As [`make_inputs`].
pub fn make_one_sample(session: &Session) -> Result<Vec<(String, Tensor)>, Error> {
    let mut inputs = session.inputs.clone();
    for batch in inputs.iter_mut().filter_map(|input| input.shape.first_mut()) {
        *batch = batch.or(Some(1));
    }
    make_inputs(&inputs)
}

fn wrong(spec: &InputSpec, what: &str) -> Error {
    Error::Options(format!("input \"{}\": cannot be made up: {what}", spec.name))
}

fn made_up(shape: &[usize], numbers: &[u64], dtype: DType) -> Result<Tensor, String> {
    if dtype == DType::Bool {
        let values = numbers.iter().map(|n| n % 2 == 1).collect();
        return Tensor::new(shape, values).map_err(|e| e.to_string());
    }
    let value = |n: &u64| match dtype {
        DType::Float32 | DType::Float64 | DType::Float16 | DType::BFloat16 => unit(*n) * 2.0 - 1.0,
        DType::UInt8 => (unit(*n) * 256.0).floor(),
        DType::Int8 => (unit(*n) * 256.0).floor() - 128.0,
        _ => (unit(*n) * 2.0).floor(),
    };
    cast(shape, numbers.iter().map(value).collect(), dtype)
}

/// 0 to 1, without 1.
fn unit(n: u64) -> f64 {
    const STEPS: f64 = 9_007_199_254_740_992.0;
    (n >> 11) as f64 / STEPS
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{Extra, TensorType};

    use super::*;
    use crate::recipe::Recipe;

    fn model(inputs: &[(&str, &[Dim])]) -> Model {
        let info = |&(name, dims): &(&str, &[Dim])| {
            let ty = TensorType {
                dtype: Some(DType::Float32),
                shape: Some(dims.to_vec()),
                extra: Extra::default(),
            };
            ValueInfo::tensor(name, ty)
        };
        let mut model = Model::default();
        model.graph.inputs = inputs.iter().map(info).collect();
        model
    }

    #[test]
    fn open_leading_dimensions_are_the_batch() {
        struct Case {
            dims: Vec<Dim>,
            given: Option<Vec<usize>>,
            batch: Option<usize>,
            expected: Result<Vec<usize>, &'static str>,
        }
        let symbol = |name: &str| Dim::Symbol(name.to_owned());
        let cases = [
            Case {
                dims: vec![symbol("N"), Dim::Known(3)],
                given: None,
                batch: None,
                expected: Ok(vec![1, 3]),
            },
            Case {
                dims: vec![Dim::Unknown, Dim::Known(3)],
                given: None,
                batch: Some(4),
                expected: Ok(vec![4, 3]),
            },
            Case {
                dims: vec![Dim::Known(2), Dim::Known(3)],
                given: None,
                batch: Some(2),
                expected: Ok(vec![2, 3]),
            },
            Case {
                dims: vec![Dim::Known(2), Dim::Known(3)],
                given: None,
                batch: Some(4),
                expected: Err("--batch 4: input \"x\" has a leading dimension of another size, expected 2"),
            },
            Case {
                dims: vec![symbol("N"), symbol("L")],
                given: Some(vec![2, 7]),
                batch: None,
                expected: Ok(vec![2, 7]),
            },
            Case {
                dims: vec![symbol("N"), symbol("L")],
                given: Some(vec![2, 7]),
                batch: Some(3),
                expected: Err("--batch 3: input \"x\" has a leading dimension of another size, expected 2"),
            },
            Case {
                dims: vec![symbol("N"), Dim::Known(3), symbol("H"), Dim::Unknown],
                given: None,
                batch: Some(2),
                expected: Err("input \"x\": dimensions of [N, 3, H, ?] are open, expected --shape x=2,3,H,W"),
            },
        ];
        for case in cases {
            let shapes = case
                .given
                .map(|shape| ("x".to_owned(), shape))
                .into_iter()
                .collect();
            let found = input_shapes(&model(&[("x", &case.dims)]), &shapes, case.batch);
            let found = found
                .map(|mut all| all.remove("x").unwrap())
                .map_err(|e| e.to_string());
            assert_eq!(found, case.expected.map_err(str::to_owned), "{:?}", case.dims);
        }
    }

    #[test]
    fn a_named_batch_may_stand_elsewhere() {
        let batch = || Dim::Symbol("batch".to_owned());
        let state = [Dim::Known(2), batch(), Dim::Known(8)];
        let model = model(&[("x", &[batch(), Dim::Known(5)]), ("state", &state)]);
        let found = input_shapes(&model, &BTreeMap::new(), Some(3)).unwrap();
        assert_eq!(found["x"], [3, 5]);
        assert_eq!(found["state"], [2, 3, 8]);
        let given = BTreeMap::from([("state".to_owned(), vec![2, 4, 8])]);
        assert_eq!(input_shapes(&model, &given, None).unwrap()["x"], [4, 5]);
    }

    #[test]
    fn inputs_are_seeded_and_in_range() {
        struct Case {
            dtype: DType,
            range: (f64, f64),
        }
        let cases = [
            Case {
                dtype: DType::Float32,
                range: (-1.0, 1.0),
            },
            Case {
                dtype: DType::Float16,
                range: (-1.0, 1.0),
            },
            Case {
                dtype: DType::UInt8,
                range: (0.0, 255.0),
            },
            Case {
                dtype: DType::Int8,
                range: (-128.0, 127.0),
            },
            Case {
                dtype: DType::Int64,
                range: (0.0, 1.0),
            },
        ];
        for Case {
            dtype,
            range: (low, high),
        } in cases
        {
            let spec = InputSpec::new("x", dtype, vec![Some(3), Some(50)], &Recipe::default()).unwrap();
            let made = make_inputs(std::slice::from_ref(&spec)).unwrap();
            assert_eq!(made, make_inputs(&[spec]).unwrap(), "{dtype}: the same each time");
            let values = made[0].1.to_f64_vec().unwrap();
            assert!(
                values.iter().all(|&v| (low..=high).contains(&v)),
                "{dtype}: {values:?}"
            );
            let most = values.iter().copied().fold(f64::MIN, f64::max);
            assert!(
                most > 0.5 * high,
                "{dtype}: the range is used, got at most {most}"
            );
        }
        let text = InputSpec::new("x", DType::String, vec![Some(1)], &Recipe::default()).unwrap();
        let error = make_inputs(&[text]).unwrap_err().to_string();
        assert_eq!(
            error,
            "input \"x\": cannot be made up: numbers cannot become string"
        );
    }
}
