//! Natural batching.
