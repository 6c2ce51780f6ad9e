//! Faults at random on real processes, and soaks.
