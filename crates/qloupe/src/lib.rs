//! Placeholder, replaced in the same series.

pub mod report;
