//! Who asks, and what they may: tokens, principals, roles. Used by `http` for every request and by the services
//! that check a right or narrow a query. Knows the token table, nothing else.

mod principal;

pub use principal::{Principal, Scope};
