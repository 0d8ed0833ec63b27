//! runner-local
