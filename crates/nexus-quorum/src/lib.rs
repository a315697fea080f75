//! The gate to openraft and redb: a replicated log of commands with one cluster time.
