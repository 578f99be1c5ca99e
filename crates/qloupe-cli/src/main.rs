//! The program `qloupe`.

use std::process::ExitCode;

/// Buffers begin at cache lines, and one layer's serve the next.
#[global_allocator]
static ALLOCATOR: qloupe_kernels::LayerAllocator = qloupe_kernels::LayerAllocator::new();

fn main() -> ExitCode {
    qloupe_cli::run(std::env::args_os())
}
