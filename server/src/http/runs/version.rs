//! The version of a run as an entity tag.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use qwex_api::ErrorCode;

use super::super::error::{HttpError, HttpResult};

pub fn etag(version: i64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits and quotes are visible ASCII")
}

/// Whether the caller has this version already.
pub fn unchanged(headers: &HeaderMap, version: i64) -> bool {
    let own = etag(version);
    tags(headers, &IF_NONE_MATCH).any(|tag| tag == "*" || tag.as_bytes() == own.as_bytes())
}

/// The version that the caller wants the run to have; `None`: any.
pub fn wanted(headers: &HeaderMap) -> HttpResult<Option<i64>> {
    let mut tags = tags(headers, &IF_MATCH);
    let Some(tag) = tags.next() else {
        return Ok(None);
    };
    if tag == "*" {
        return Ok(None);
    }
    let version = tag
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .and_then(|text| text.parse().ok());
    match (version, tags.next()) {
        (Some(version), None) => Ok(Some(version)),
        (None, _) | (_, Some(_)) => Err(HttpError::new(
            ErrorCode::InvalidParameter,
            "If-Match must be the one ETag of the run, like \"7\"",
        )),
    }
}

fn tags<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|text| text.split(',')).map(|tag| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn tags_are_compared() {
        for (value, same) in [
            ("\"7\"", true),
            ("W/\"7\"", true),
            ("\"6\", \"7\"", true),
            ("*", true),
            ("\"6\"", false),
            ("7", false),
        ] {
            assert_eq!(unchanged(&headers(IF_NONE_MATCH, value), 7), same, "{value}");
        }
        assert!(!unchanged(&HeaderMap::new(), 7));
    }

    #[test]
    fn a_wanted_version_is_one_tag() {
        assert_eq!(wanted(&HeaderMap::new()).unwrap(), None);
        assert_eq!(wanted(&headers(IF_MATCH, "*")).unwrap(), None);
        assert_eq!(wanted(&headers(IF_MATCH, "\"7\"")).unwrap(), Some(7));
        for bad in ["7", "\"x\"", "\"1\", \"2\""] {
            assert!(wanted(&headers(IF_MATCH, bad)).is_err(), "{bad}");
        }
    }
}
