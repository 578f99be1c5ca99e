//! Placeholder, replaced in the same series.

pub mod metrics;
pub mod report;
