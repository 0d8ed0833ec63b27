//! Runs: submitted, read, listed, watched, cancelled, rerun, brought from elsewhere.

mod actions;
mod history;
mod import;
mod list;
mod submit;
mod version;
mod watch;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list::list, submit::submit))
        .routes(routes!(submit::get, submit::put))
        .routes(routes!(actions::cancel))
        .routes(routes!(actions::rerun))
        .routes(routes!(import::import))
        .routes(routes!(history::events))
        .routes(routes!(history::attempts))
        .routes(routes!(history::why))
}
