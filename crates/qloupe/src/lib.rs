//! Placeholder, replaced in the same series.

pub mod array;
pub mod metrics;
pub mod report;
pub mod write;
