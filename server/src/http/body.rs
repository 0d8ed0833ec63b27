//! Reading a JSON body: bounded before it is parsed, strict, and every mistake named by its JSON pointer.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use qwex_api::ErrorCode;
use serde::de::DeserializeOwned;

use super::error::{HttpError, HttpResult};
use super::suggest;

/// Most bytes of a request body.
pub const LIMIT: usize = 1024 * 1024;
/// A body that takes longer is a body that dribbles.
const TIME: Duration = Duration::from_secs(30);

/// A JSON body of type `T`. An absent body is read as `{}` where every field of `T` may be absent.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, _: &S) -> HttpResult<Self> {
        check_type(request.headers())?;
        let bytes = read(request).await?;
        parse(&bytes).map(Self)
    }
}

/// The body, at most [`LIMIT`] bytes of it.
pub async fn read(request: Request) -> HttpResult<Bytes> {
    let announced = request
        .headers()
        .get(axum::http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|length| length > LIMIT as u64) {
        return Err(too_large());
    }
    let read = Limited::new(request.into_body(), LIMIT).collect();
    match tokio::time::timeout(TIME, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(error)) => Err(HttpError::new(
            ErrorCode::InvalidBody,
            "the request body ended before its announced end",
        )
        .with_cause(error)),
        Err(_) => Err(HttpError::new(
            ErrorCode::InvalidBody,
            "the request body did not arrive within 30 seconds",
        )),
    }
}

fn too_large() -> HttpError {
    HttpError::new(
        ErrorCode::BodyTooLarge,
        format!("a request body may have {LIMIT} bytes at most"),
    )
    .with_hint("put large inputs into the image or an object store and name them in the spec")
}

/// JSON, or what curl sends with `-d` when it is not told otherwise.
fn check_type(headers: &HeaderMap) -> HttpResult<()> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let json = essence == "application/json" || essence.ends_with("+json");
    if json || essence == "application/x-www-form-urlencoded" {
        return Ok(());
    }
    let detail = format!("the content type {essence:?} is not supported");
    Err(HttpError::new(ErrorCode::UnsupportedMediaType, detail).with_hint("send application/json"))
}

/// Parses `bytes`; depth is bounded by serde_json (128).
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> HttpResult<T> {
    let bytes = if bytes.trim_ascii().is_empty() {
        b"{}"
    } else {
        bytes
    };
    refuse_nul(bytes)?;
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let value =
        serde_path_to_error::deserialize(&mut source).map_err(|error| refuse(error.path(), error.inner()))?;
    source.end().map_err(|error| unreadable(&error)).map(|()| value)
}

/// Postgres stores no NUL in text, and no name or variable has one.
fn refuse_nul(bytes: &[u8]) -> HttpResult<()> {
    let escaped = |window: &[u8]| window == br"\u0000";
    if !bytes.windows(6).any(escaped) {
        return Ok(());
    }
    // `\\u0000` is a backslash and letters; only a parser can tell.
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return Ok(());
    };
    match find_nul(&value, "") {
        Some(pointer) => Err(HttpError::field(
            &pointer,
            "nul",
            "a string must not hold the character NUL",
        )),
        None => Ok(()),
    }
}

fn find_nul(value: &serde_json::Value, at: &str) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::String(text) => text.contains('\0').then(|| at.to_owned()),
        Value::Array(items) => {
            let mut found = items.iter().enumerate();
            found.find_map(|(index, item)| find_nul(item, &format!("{at}/{index}")))
        }
        Value::Object(fields) => fields.iter().find_map(|(key, item)| {
            let below = format!("{at}/{}", escape(&key.replace('\0', "\u{fffd}")));
            if key.contains('\0') {
                Some(below)
            } else {
                find_nul(item, &below)
            }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn unreadable(error: &serde_json::Error) -> HttpError {
    HttpError::new(ErrorCode::InvalidBody, format!("the body is not JSON: {error}"))
}

fn refuse(path: &serde_path_to_error::Path, error: &serde_json::Error) -> HttpError {
    use serde_json::error::Category;
    match error.classify() {
        Category::Data => mistake(&pointer(path), &error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => unreadable(error),
    }
}

/// A field that is JSON and not what it should be.
fn mistake(at: &str, message: &str) -> HttpError {
    let message = message.split(" at line ").next().unwrap_or(message);
    if let Some(unknown) = suggest::unknown_field(message) {
        // The path of an unknown field ends in its own name.
        let pointer = if at.ends_with(&format!("/{}", escape(&unknown.name))) {
            at.to_owned()
        } else {
            format!("{at}/{}", escape(&unknown.name))
        };
        let error = HttpError::field(&pointer, "unknown_field", "there is no such field");
        return error.with_hint(unknown.hint());
    }
    if let Some(name) = suggest::missing_field(message) {
        return HttpError::field(&format!("{at}/{name}"), "required", "this field is needed");
    }
    let code = if message.starts_with("invalid type") {
        "wrong_type"
    } else {
        "invalid"
    };
    let detail = message.replace(
        "data did not match any variant of untagged enum Command",
        "must be a list of strings (executed as it is) or one string (run by sh -c)",
    );
    HttpError::field(at, code, detail)
}

/// The path of serde as a JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("/{index}")),
            Segment::Map { key } => text.push_str(&format!("/{}", escape(key))),
            Segment::Enum { variant } => text.push_str(&format!("/{}", escape(variant))),
            Segment::Unknown => {}
        }
    }
    text
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwex_api::Problem;
    use qwex_api::run::SubmitRequest;

    fn refused(body: &str) -> Problem {
        let result = parse::<SubmitRequest>(body.as_bytes());
        result
            .err()
            .unwrap_or_else(|| panic!("{body} is accepted"))
            .into_problem("r")
    }

    #[test]
    fn each_mistake_is_named_by_its_pointer() {
        for (body, status, pointer, code) in [
            (r#"{"command":["a"],"imgae":"x"}"#, 422, "/imgae", "unknown_field"),
            (r#"{}"#, 422, "/command", "required"),
            (r#"{"command":7}"#, 422, "/command", "invalid"),
            (r#"{"command":["a"],"env":{"A":1}}"#, 422, "/env/A", "wrong_type"),
            (
                r#"{"command":["a"],"env":{"A/B":1}}"#,
                422,
                "/env/A~1B",
                "wrong_type",
            ),
            (r#"{"command":["a"],"name":"a/b"}"#, 422, "/name", "invalid"),
            (
                r#"{"command":["a"],"timeout":"soon"}"#,
                422,
                "/timeout",
                "invalid",
            ),
            (r#"{"command":["a","\u0000"]}"#, 422, "/command/1", "nul"),
            (
                r#"{"command":["a"],"env":{"\u0000":""}}"#,
                422,
                "/env/\u{fffd}",
                "nul",
            ),
            (
                r#"{"command":["a"],"retry":{"limt":1}}"#,
                422,
                "/retry/limt",
                "unknown_field",
            ),
        ] {
            let problem = refused(body);
            assert_eq!(problem.status, status, "{body}: {problem:?}");
            assert_eq!(problem.errors[0].pointer, pointer, "{body}: {problem:?}");
            assert_eq!(problem.errors[0].code, code, "{body}: {problem:?}");
        }
    }

    #[test]
    fn a_typo_gets_a_suggestion() {
        let problem = refused(r#"{"command":["a"],"imgae":"x"}"#);
        assert_eq!(problem.hint.as_deref(), Some("did you mean `image`?"));
    }

    #[test]
    fn what_is_not_json_is_400() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for body in ["{", "nope", "{\"command\":[\"a\"]} x", "\u{feff}{}", &deep] {
            assert!(refused(body).status >= 400, "{body}");
        }
        assert_eq!(refused("{").status, 400);
        assert_eq!(refused("{\"command\":[\"a\"]} x").status, 400);
    }

    #[test]
    fn backslash_and_letters_are_no_nul() {
        let request: SubmitRequest = parse(br#"{"command":["\\u0000"]}"#).unwrap();
        let words: Vec<String> = request.command.into();
        assert_eq!(words, ["\\u0000"]);
    }
}
