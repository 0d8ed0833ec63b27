//! Reading path and query parameters: strict, with problems that name the parameter.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum_extra::extract::{Query as RawQuery, QueryRejection};
use qwex_api::ErrorCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::error::{HttpError, HttpResult};
use super::suggest;

/// Query parameters of type `T`; a repeated one is read into a list.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> HttpResult<Self> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(HttpError::new(
                ErrorCode::InvalidParameter,
                "a query parameter must not hold the character NUL",
            ));
        }
        match RawQuery::<T>::from_request_parts(parts, state).await {
            Ok(RawQuery(value)) => Ok(Self(value)),
            Err(rejection) => Err(refuse(&rejection)),
        }
    }
}

fn refuse(rejection: &QueryRejection) -> HttpError {
    use std::error::Error;
    let mut message = rejection.to_string();
    let mut next = rejection.source();
    while let Some(source) = next {
        message = source.to_string();
        next = source.source();
    }
    let after_path = message
        .split_once(": ")
        .map_or(message.as_str(), |(_, rest)| rest);
    if let Some(unknown) = suggest::unknown_field(after_path) {
        return HttpError::parameter(&unknown.name, "there is no such parameter").with_hint(unknown.hint());
    }
    match message.split_once(": ") {
        Some((name, detail)) if !name.contains(' ') => HttpError::parameter(name, detail),
        Some(_) | None => HttpError::new(ErrorCode::InvalidParameter, message),
    }
}

/// Segments of the path, in order, each parsed by its own type. What cannot be one names no object: 404 for names,
/// 400 for run ids, which people paste.
pub struct Path<T>(pub T);

/// A tuple of path segments.
pub trait Segments: Sized {
    fn read(values: &[&str]) -> HttpResult<Self>;
}

/// One path segment.
pub trait Segment: Sized {
    fn read(text: &str) -> HttpResult<Self>;
}

impl Segment for String {
    fn read(text: &str) -> HttpResult<Self> {
        if text.contains('\0') || text.len() > 200 {
            return Err(HttpError::not_found("such object"));
        }
        Ok(text.to_owned())
    }
}

impl Segment for qwex_core::RunId {
    fn read(text: &str) -> HttpResult<Self> {
        text.parse().map_err(|error: qwex_core::ids::RunIdError| {
            HttpError::new(
                ErrorCode::InvalidParameter,
                format!("the run id in the path: {error}"),
            )
            .with_field("?id", "invalid", error.to_string())
            .with_hint("find a run by a prefix of its id with GET /v1/runs?id_prefix=")
        })
    }
}

impl Segment for qwex_core::ClusterName {
    fn read(text: &str) -> HttpResult<Self> {
        text.parse()
            .map_err(|_| HttpError::not_found("cluster of that name"))
    }
}

impl<A: Segment> Segments for (A,) {
    fn read(values: &[&str]) -> HttpResult<Self> {
        match values {
            [a] => Ok((A::read(a)?,)),
            _ => Err(HttpError::internal("the route has another number of segments")),
        }
    }
}

impl<A: Segment, B: Segment> Segments for (A, B) {
    fn read(values: &[&str]) -> HttpResult<Self> {
        match values {
            [a, b] => Ok((A::read(a)?, B::read(b)?)),
            _ => Err(HttpError::internal("the route has another number of segments")),
        }
    }
}

impl<T: Segments, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> HttpResult<Self> {
        let raw = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| HttpError::new(ErrorCode::InvalidParameter, "the path is not valid UTF-8"))?;
        let values: Vec<&str> = raw.iter().map(|(_, value)| value).collect();
        T::read(&values).map(Self)
    }
}

/// A flag: present, `true` or `1`; or `false` or `0`.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(serde::de::Error::custom(format!(
            "{other:?} is neither true nor false"
        ))),
    }
}

/// An empty parameter is an absent one.
pub fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(serde::de::Error::custom)
}
