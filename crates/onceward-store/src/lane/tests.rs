//! The laws of the batcher.
