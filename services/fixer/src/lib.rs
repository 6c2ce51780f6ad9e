//! fixer.
