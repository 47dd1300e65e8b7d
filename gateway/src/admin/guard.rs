//! Who may ask the admin listener what. No web page may, whatever name it was loaded under; whoever holds the token may
//! do everything; without a token, changes are taken from this machine only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::apply::unlocked;
use crate::gateway::Gateway;

/// Names who makes a change, for the record.
pub const WHO_HEADER: &str = "x-pointsman-who";
/// Longest such name, characters.
const MOST_WHO_CHARS: usize = 128;
/// A body that takes longer is cut.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Who makes a change: an extension of every request that passed the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What they call themselves, else their address.
    pub who: String,
    /// Where they ask from.
    pub address: Option<SocketAddr>,
}

/// What a request may do once it has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Health and metrics: no token.
    Look,
    /// Everything else that changes nothing.
    Read,
    /// What changes something.
    Change,
}

/// Health and metrics: open to whoever reaches the listener.
pub fn open(router: Router<Arc<Gateway>>, gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    guarded(router, gateway, Right::Look)
}

/// What changes nothing, by whatever method: asks for the token where there is one.
pub fn reads(router: Router<Arc<Gateway>>, gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    guarded(router, gateway, Right::Read)
}

/// What changes something: asks for the token, or for a caller on this machine where there is none; and for a gateway
/// that is not locked.
pub fn changes(router: Router<Arc<Gateway>>, gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    guarded(router, gateway, Right::Change)
}

fn guarded(router: Router<Arc<Gateway>>, gateway: &Arc<Gateway>, right: Right) -> Router<Arc<Gateway>> {
    if !router.has_routes() {
        return router;
    }
    router.route_layer(from_fn_with_state((Arc::clone(gateway), right), guard))
}

async fn guard(State((gateway, right)): State<(Arc<Gateway>, Right)>, mut request: Request, next: Next) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    match check(&gateway, right, request.headers(), address) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => {
            if right == Right::Change {
                tracing::warn!(code = problem.code, from = ?address, "admin change refused: {}", problem.message);
            }
            problem.into_response()
        }
    }
}

fn check(gateway: &Gateway, right: Right, headers: &HeaderMap, address: Option<SocketAddr>) -> Result<Caller, Problem> {
    let snapshot = gateway.snapshot();
    let admin = &snapshot.process.admin;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if let Some(host) = host
        && !allowed_host(host, &admin.hosts)
    {
        let problem =
            Problem::new(StatusCode::FORBIDDEN, "unknown-host", format!("`{host}` is no name of this gateway"));
        let name = name_of(host);
        return Err(
            problem.help(format!("add \"{name}\" to `hosts` under `[admin]` of the process file, or ask by address"))
        );
    }
    if right != Right::Look
        && let Some(origin) = foreign_origin(headers, host)
    {
        let problem =
            Problem::new(StatusCode::FORBIDDEN, "foreign-origin", format!("`{origin}` may not ask this gateway"));
        return Err(problem.help("web pages other than the gateway's own are refused"));
    }
    match &admin.token {
        _ if right == Right::Look => {}
        Some(token) => match bearer(headers) {
            Some(given) if token.is(given) => {}
            Some(_) => return Err(unauthorized("the token is wrong")),
            None => return Err(unauthorized("this needs the admin token")),
        },
        None if right == Right::Change && !address.is_some_and(|address| is_this_machine(address.ip())) => {
            let problem =
                Problem::new(StatusCode::FORBIDDEN, "token-required", "changes are not taken from other machines");
            return Err(
                problem.help("set `token` under `[admin]` of the process file, or ask from the gateway's machine")
            );
        }
        None => {}
    }
    if right == Right::Change {
        unlocked(&snapshot)?;
    }
    Ok(Caller { who: who(headers, address), address })
}

/// Addresses cannot be made to point elsewhere, names can: a page loaded under a name that later resolves to this
/// machine would be of the same origin as the gateway.
fn allowed_host(host: &str, hosts: &[String]) -> bool {
    let name = name_of(host).to_ascii_lowercase();
    let is_address = name.parse::<IpAddr>().is_ok();
    is_address || name == "localhost" || name.ends_with(".localhost") || hosts.contains(&name)
}

/// Without port and brackets.
fn name_of(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// The origin of a web page that is not the gateway's own.
fn foreign_origin<'h>(headers: &'h HeaderMap, host: Option<&str>) -> Option<&'h str> {
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or("?");
    let own = origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host);
    (!own).then_some(origin)
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

fn unauthorized(message: &str) -> Problem {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
    problem.help("send `authorization: Bearer TOKEN`; the command line takes it from POINTSMAN_ADMIN_TOKEN")
}

fn is_this_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// What a caller says of himself goes into logs and files: one short line of visible characters.
fn who(headers: &HeaderMap, address: Option<SocketAddr>) -> String {
    let said = headers.get(WHO_HEADER).map(HeaderValue::as_bytes).map(String::from_utf8_lossy).unwrap_or_default();
    let visible = said.chars().filter(|c| !c.is_control()).take(MOST_WHO_CHARS).collect::<String>();
    match (visible.trim(), address) {
        ("", Some(address)) => address.ip().to_canonical().to_string(),
        ("", None) => "unknown".to_owned(),
        (who, _) => who.to_owned(),
    }
}

/// The body of a request, bounded in size and time.
pub async fn body(body: Body, most_bytes: usize) -> Result<Bytes, Problem> {
    let reading = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, most_bytes));
    match reading.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let message = format!("the body has more than {most_bytes} bytes, or broke off");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message))
        }
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", format!("no body within {BODY_TIME:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use pointsman_backends::portfolio::Secrets;

    use super::*;

    #[test]
    fn only_names_of_this_gateway_are_taken() {
        let hosts = ["gateway.internal".to_owned()];
        #[track_caller]
        fn check(host: &str, hosts: &[String], expected: bool) {
            assert_eq!(allowed_host(host, hosts), expected, "{host}");
        }
        for host in ["localhost:7071", "LOCALHOST", "127.0.0.1:7071", "10.1.2.3", "[::1]:7071", "[::1]"] {
            check(host, &[], true);
        }
        check("Gateway.Internal:7071", &hosts, true);
        for host in ["gateway.internal", "evil.example:7071", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
            check(host, &[], false);
        }
    }

    #[test]
    fn without_a_token_changes_come_from_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("pointsman.toml", "");
        write("policy.toml", "");
        write(
            "portfolio.toml",
            "[pool.a]\nhardware = \"h100\"\nendpoints = [\"http://127.0.0.1:1\"]\n[pool.a.model.m]\n",
        );
        let set = crate::config::set::load(&folder.path().join("pointsman.toml"), Secrets::Required).set.unwrap();
        let gateway = Gateway::new(set, crate::telemetry::Telemetry::new().0);
        #[track_caller]
        fn asks(gateway: &Gateway, right: Right, from: &str, expected: Option<&str>) {
            let from = (!from.is_empty()).then(|| SocketAddr::new(from.parse().unwrap(), 9));
            let code = check(gateway, right, &HeaderMap::new(), from).err().map(|problem| problem.code);
            assert_eq!(code, expected, "{right:?} from {from:?}");
        }
        for here in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            asks(&gateway, Right::Change, here, None);
        }
        for elsewhere in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", ""] {
            asks(&gateway, Right::Change, elsewhere, Some("token-required"));
            asks(&gateway, Right::Read, elsewhere, None);
        }
    }

    #[test]
    fn pages_of_others_are_foreign() {
        #[track_caller]
        fn check(origin: &'static str, expected: bool) {
            let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
            assert_eq!(foreign_origin(&headers, Some("127.0.0.1:7071")).is_some(), expected, "{origin}");
        }
        check("http://127.0.0.1:7071", false);
        check("http://127.0.0.1:8000", true);
        check("https://evil.example", true);
        check("null", true);
        assert_eq!(foreign_origin(&HeaderMap::new(), Some("127.0.0.1:7071")), None);
    }

    #[test]
    fn a_name_is_one_short_visible_line() {
        let said = |name: &[u8]| {
            let value = HeaderValue::from_bytes(name).unwrap();
            who(&HeaderMap::from_iter([(header::HeaderName::from_static(WHO_HEADER), value)]), None)
        };
        assert_eq!(said("ada@example".as_bytes()), "ada@example");
        assert_eq!(said("Zoë".as_bytes()), "Zoë");
        assert_eq!(said(b" \t "), "unknown");
        assert_eq!(said(&[b'x'; 500]).len(), MOST_WHO_CHARS);
        let here = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(who(&HeaderMap::new(), Some(here)), "127.0.0.1");
    }

    #[test]
    fn a_bearer_is_found_whatever_its_case() {
        let of = |value| HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
        assert_eq!(bearer(&of("Bearer abc")), Some(b"abc".as_slice()));
        assert_eq!(bearer(&of("bearer abc")), Some(b"abc".as_slice()));
        assert_eq!(bearer(&of("Basic abc")), None);
        assert_eq!(bearer(&of("Bea")), None);
    }
}
