//! All agents' cores and a model of the broker, in one thread with virtual time.
