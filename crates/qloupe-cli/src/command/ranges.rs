//! `--ranges FILE` of `analyze`, `build` and `evaluate`: ranges of another tool in the place of calibrated ones.

use std::collections::BTreeMap;

use qloupe::prepare::Prepared;
use qloupe::ranges::{known_values, read_ranges};
use qloupe::session::Session;
use qloupe_tensor::Range;

use crate::args::QuantizeArgs;
use crate::progress;

/// Replaces ranges by those of the file, if one is given; tells what was not found. What the plan's algorithm is called
/// then, in addition.
pub(super) fn import(
    args: &QuantizeArgs,
    session: &Session,
    prepared: &Prepared,
    ranges: &mut BTreeMap<String, Range>,
    quiet: bool,
) -> anyhow::Result<Option<String>> {
    let Some(path) = &args.ranges else {
        return Ok(None);
    };
    let known = known_values(&[&session.network.model.graph, &prepared.model.graph]);
    let imported = read_ranges(path, &known)?;
    for note in imported.apply(prepared, ranges).iter().filter(|_| !quiet) {
        progress::message(&format!("note: {note}"));
    }
    Ok(Some(format!(" with ranges of {}", imported.format)))
}
