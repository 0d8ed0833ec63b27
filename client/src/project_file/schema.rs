//! The JSON Schema of `qwex.yaml`, for editors. Made from the model that reads the file, so that the two cannot part.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::model::{ProjectFile, Stage};

/// Where it is published; an editor finds it by `# yaml-language-server: $schema=…`.
const ID: &str = "https://qwex.dev/schema/qwex.yaml.json";

/// The schema (draft 2020-12).
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator
        .into_root_schema_for::<ProjectFile<Vec<Stage>>>()
        .to_value();
    schema["$id"] = json!(ID);
    schema["title"] = json!("qwex.yaml");
    schema
}
