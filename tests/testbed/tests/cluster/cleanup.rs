//! Nothing outlives the process that started a cluster.
