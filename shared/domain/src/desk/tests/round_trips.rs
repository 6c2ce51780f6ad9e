//! What is written is read back: every type of the wire and of the log.
