//! analyzer.
