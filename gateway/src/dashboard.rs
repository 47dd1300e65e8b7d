//! The dashboard: four files that were built from `gateway/dashboard` and are part of this program.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use xxhash_rust::xxh3::xxh3_64;

use crate::gateway::Gateway;

/// One file of it.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

static PAGE: Asset = Asset {
    path: "/",
    content_type: "text/html; charset=utf-8",
    bytes: include_bytes!("../dashboard/dist/index.html"),
};

static ASSETS: [Asset; 3] = [
    Asset {
        path: "/app.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../dashboard/dist/app.js"),
    },
    Asset {
        path: "/app.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../dashboard/dist/app.css"),
    },
    Asset { path: "/icon.svg", content_type: "image/svg+xml", bytes: include_bytes!("../dashboard/dist/icon.svg") },
];

/// Paths of pages: each gives the same file, which shows what its path says.
const PAGES: [&str; 7] = ["/", "/requests", "/trace/{id}", "/policies", "/backends", "/slo", "/setup"];

/// Nothing of another origin is loaded, run, framed or told where it was linked from. Charts set sizes and places by
/// script, which needs no exception.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    // Asked again each time, and answered with 304 where it is the same: another program may serve it next.
    (header::CACHE_CONTROL, "no-cache"),
];

/// Its routes. They hold nothing secret, so they ask for no token: the page asks for it.
pub fn files() -> Router<Arc<Gateway>> {
    let router =
        PAGES.into_iter().fold(Router::new(), |router, path| router.route(path, get(|headers| file(&PAGE, headers))));
    ASSETS.iter().fold(router, |router, asset| router.route(asset.path, get(|headers| file(asset, headers))))
}

async fn file(asset: &'static Asset, asked: HeaderMap) -> Response {
    let tag = format!("\"{:016x}\"", xxh3_64(asset.bytes));
    let known = asked.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let same = known.is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag));
    let mut response = match same {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, asset.content_type)], asset.bytes).into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
