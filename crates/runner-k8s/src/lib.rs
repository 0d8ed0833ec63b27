//! runner-k8s
