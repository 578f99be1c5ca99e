//! Network outputs that are quantized: the last rounding, which nothing but the result needs.

use super::{Subject, finding, range_text};
use crate::report::{Finding, Severity};

pub(super) fn find(subject: &Subject<'_>) -> Vec<Finding> {
    let outputs = subject.graph.outputs.iter();
    outputs
        .filter_map(|output| {
            let params = subject.value(&output.name)?;
            let (scale, _) = params.as_per_tensor()?;
            let cause = format!("the network output \"{}\" is quantized", output.name);
            let evidence = format!("{}, one step is {scale:.4}", range_text(params));
            let fix = "leave the output in float where the runtime can: its unit keeps the full sum";
            Some(finding(
                "output_quantized",
                Severity::Info,
                &output.name,
                cause,
                evidence,
                fix,
            ))
        })
        .collect()
}
