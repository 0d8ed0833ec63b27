//! Pages of lists: the opaque token, bound to the filter it was made for, and `Link: rel="next"`.

use axum::http::header::LINK;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qwex_api::{ErrorCode, Page};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::IntoParams;

use super::error::{HttpError, HttpResult};

/// Items of a page when the caller does not say.
pub const DEFAULT_SIZE: u32 = 50;
/// Most items of a page.
pub const MOST: u32 = 500;

/// How many items a page has.
pub fn size(asked: Option<u32>) -> HttpResult<u32> {
    match asked {
        None => Ok(DEFAULT_SIZE),
        Some(size) if (1..=MOST).contains(&size) => Ok(size),
        Some(size) => Err(HttpError::parameter(
            "page_size",
            format!("{size} is not between 1 and {MOST}"),
        )),
    }
}

/// Parameters of a list that has nothing but pages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// Most items of the page
    #[param(minimum = 1, maximum = 500)]
    page_size: Option<u32>,
    /// `next_page_token` of the page before
    page_token: Option<String>,
}

impl PageParams {
    /// How many items the page has, and behind what it begins.
    pub fn read(&self, pager: &Pager) -> HttpResult<(u32, Option<String>)> {
        let after = self.page_token.as_ref().map(|token| pager.position(token));
        Ok((size(self.page_size)?, after.transpose()?))
    }
}

/// Makes and reads the page tokens of one list. The filter's hash is in the token: a page of one list cannot be asked
/// of another. What a token names is checked again by the query itself, so it need not be signed.
pub struct Pager {
    filter: [u8; 8],
}

impl Pager {
    /// `filter` is everything that changes which rows the list has.
    pub fn new(filter: &impl std::fmt::Debug) -> Self {
        let digest = Sha256::digest(format!("{filter:?}"));
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        Self { filter: short }
    }

    pub fn token(&self, position: &str) -> String {
        let mut bytes = self.filter.to_vec();
        bytes.extend_from_slice(position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Where the page begins.
    pub fn position(&self, token: &str) -> HttpResult<String> {
        let bad = |detail: &str| {
            HttpError::new(ErrorCode::InvalidCursor, detail)
                .with_field("?page_token", "invalid", detail)
                .with_hint("take the token of the page before, with the same filters; or begin without one")
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(token)
            .map_err(|_| bad("this is no page token"))?;
        let (filter, position) = bytes
            .split_at_checked(8)
            .ok_or_else(|| bad("this is no page token"))?;
        if filter != self.filter {
            return Err(bad("this page token is of a list with other filters"));
        }
        String::from_utf8(position.to_vec()).map_err(|_| bad("this is no page token"))
    }
}

/// A page with its `Link` header.
pub fn answer<T: Serialize>(page: Page<T>, uri: &Uri) -> Response {
    let link = page
        .next_page_token
        .as_ref()
        .and_then(|token| next_link(uri, token));
    let mut response = axum::Json(page).into_response();
    if let Some(link) = link {
        response.headers_mut().insert(LINK, link);
    }
    response
}

/// A list that has one page.
pub fn whole<T: Serialize>(items: Vec<T>) -> axum::Json<Page<T>> {
    axum::Json(Page {
        items,
        next_page_token: None,
    })
}

fn next_link(uri: &Uri, token: &str) -> Option<HeaderValue> {
    let kept = uri.query().unwrap_or_default().split('&');
    let kept = kept.filter(|pair| !pair.is_empty() && !pair.starts_with("page_token="));
    let mut query: Vec<&str> = kept.collect();
    let own = format!("page_token={token}");
    query.push(&own);
    HeaderValue::from_str(&format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_bound_to_its_filter() {
        let (one, other) = (Pager::new(&"status=failed"), Pager::new(&"status=running"));
        let token = one.token("0199");
        assert_eq!(one.position(&token).unwrap(), "0199");
        assert_eq!(
            other.position(&token).unwrap_err().code(),
            ErrorCode::InvalidCursor
        );
        for bad in ["", "x", "!!!", "AAAA"] {
            assert_eq!(
                one.position(bad).unwrap_err().code(),
                ErrorCode::InvalidCursor,
                "{bad}"
            );
        }
    }

    #[test]
    fn the_link_keeps_the_filters() {
        let uri: Uri = "/v1/runs?status=failed&page_token=old&page_size=2"
            .parse()
            .unwrap();
        assert_eq!(
            next_link(&uri, "new").unwrap(),
            "</v1/runs?status=failed&page_size=2&page_token=new>; rel=\"next\""
        );
    }
}
