//! One page of a list.

use serde::{Deserialize, Serialize};

/// One page of a list, newest first, without totals. `Link: rel="next"` says the same as
/// `next_page_token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Opaque, bound to the filters of this list; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}
