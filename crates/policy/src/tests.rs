//! Tests over all kinds.
