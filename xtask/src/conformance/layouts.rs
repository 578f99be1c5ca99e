//! Runs a case with every rank-4 input stored NHWC: the result must be the same bits.

use anyhow::bail;
use qloupe_exec::{Layout, Program, Stored};
use qloupe_tensor::Tensor;

/// Compares with the outputs of the run in ONNX order.
pub(super) fn check(
    program: &Program,
    inputs: &[(String, Tensor)],
    plain: &[(String, Tensor)],
) -> anyhow::Result<()> {
    if inputs.iter().all(|(_, tensor)| tensor.rank() != 4) {
        return Ok(());
    }
    let given = inputs
        .iter()
        .map(|(name, tensor)| (name.clone(), in_nhwc(tensor)))
        .collect();
    let goals: Vec<&str> = plain.iter().map(|(name, _)| name.as_str()).collect();
    let mut walk = program.walk(given, &goals)?;
    while walk.step()?.is_some() {}
    for (name, expected) in plain {
        let got = walk.require(name)?.to_plain();
        // Debug text tells every bit apart but those of NaN, whose payload is free.
        if got.shape() != expected.shape() || format!("{:?}", got.data()) != format!("{:?}", expected.data())
        {
            bail!("output \"{name}\" is other bits when inputs are stored NHWC");
        }
    }
    Ok(())
}

fn in_nhwc(tensor: &Tensor) -> Stored {
    let stored = Stored::plain(tensor.clone());
    Stored::of_call(stored.to_nhwc().clone(), Layout::Nhwc)
}
