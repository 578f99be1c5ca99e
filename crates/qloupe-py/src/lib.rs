//! The extension module `qloupe._qloupe`: conversion between Python and the facade, nothing else.
//!
//! What it raises and what it gives back is typed in `python/qloupe`; users see that package only. Everything that takes time
//! runs without the GIL and can be interrupted ([`work`]).

mod choices;
mod command_line;
mod error;
mod evaluate;
mod model;
mod proposal;
mod quantized;
mod report;
mod runs;
mod samples;
mod tensor;
mod work;

/// Buffers begin at cache lines, and one layer's serve the next.
#[global_allocator]
static ALLOCATOR: qloupe_kernels::LayerAllocator = qloupe_kernels::LayerAllocator::new();

/// The Rust half of the package qloupe.
#[pyo3::pymodule]
mod _qloupe {
    use pyo3::prelude::*;

    /// The version of the package is that of the workspace.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    #[pymodule_export]
    use crate::choices::{algorithms, export_formats, metrics, report_formats, targets, thread_count};
    #[pymodule_export]
    use crate::command_line::run_command_line;
    #[pymodule_export]
    use crate::model::{Model, copy_model};
    #[pymodule_export]
    use crate::proposal::Proposal;
    #[pymodule_export]
    use crate::quantized::Quantized;
    #[pymodule_export]
    use crate::report::{Report, ReportComparison};
    #[pymodule_export]
    use crate::samples::Samples;
}
