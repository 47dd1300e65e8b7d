//! Who asks, for what, until when: the head of a request.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use pointsman_policies::facts::Api;

use super::wishes::Wishes;
use crate::gateway::Gateway;
use crate::identity::{self, Caller};
use crate::record::Record;
use crate::refusal::Refusal;
use crate::serve::strict::Flaw;
use crate::snapshot::{self, Snapshot};

const MODELS_PATH: &str = "/v1/models";

/// Path and query, bytes.
const LONGEST_URI: usize = 8 << 10;
/// Headers of a request.
const MOST_HEADERS: usize = 100;
/// All headers together, bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// How a request is marked that has come by.
const VIA: &str = "1.1 pointsman";
/// So often may a request come by a gateway: one beside an application, one before a fleet, one more to spare.
const MOST_TURNS: usize = 3;

/// What a request asks for.
#[expect(clippy::large_enum_variant, reason = "it is matched where it is made; a box would cost more than the copy")]
pub(super) enum Asked {
    /// The list of models, or one of them, as JSON.
    Models(Bytes),
    /// Work.
    Generate(Call),
}

/// A request for work, its body not yet read.
pub(super) struct Call {
    /// The client API.
    pub(super) api: Api,
    /// The path as sent, without query.
    pub(super) path: String,
    /// The headers as sent.
    pub(super) headers: HeaderMap,
    /// What the caller wants, and who it says it is.
    pub(super) wishes: Wishes,
    /// Who it is, where it was asked.
    pub(super) caller: Option<Arc<Caller>>,
    /// The body.
    pub(super) body: Incoming,
}

/// Finds out who asks, sorts a request by method and path, and reads the headers that concern the gateway.
pub(super) async fn accept(
    gateway: &Gateway,
    snapshot: &Snapshot,
    (request, peer): (Request<Incoming>, Option<Arc<Caller>>),
    record: &mut Record,
) -> Result<Asked, Refusal> {
    let (mut head, body) = request.into_parts();
    refuse_odd_head(&head)?;
    refuse_large_head(&head)?;
    refuse_loop(&mut head.headers)?;
    let caller = identity::identify(gateway, &mut head.headers, peer.as_ref()).await?;
    record.caller.clone_from(&caller);
    let path = head.uri.path();
    let api = match path {
        "/v1/chat/completions" => Api::ChatCompletions,
        "/v1/completions" => Api::Completions,
        "/v1/embeddings" => Api::Embeddings,
        _ => return models(snapshot, &head.method, path, caller.as_deref()).map(Asked::Models),
    };
    if head.method != Method::POST {
        return Err(Refusal::WrongMethod("POST"));
    }
    record.api = Some(api);
    refuse_foreign_body(&head.headers)?;
    let mut wishes = Wishes::read(&head.headers)?;
    if let Some(caller) = &caller {
        caller.name.as_ref().clone_into(&mut wishes.tenant); // what is proven, not what is said
    }
    let path = path.to_owned();
    Ok(Asked::Generate(Call { api, path, headers: head.headers, wishes, caller, body }))
}

/// What the listener found wrong, and what is wrong by any version of HTTP.
fn refuse_odd_head(head: &http::request::Parts) -> Result<(), Refusal> {
    match head.extensions.get::<Flaw>() {
        Some(Flaw::HeadTooLarge) => return Err(Refusal::HeadTooLarge("256 KiB")),
        Some(flaw) => return Err(Refusal::BadHead(*flaw)),
        None => {}
    }
    let own = head.uri.authority().map(|authority| authority.as_str());
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::BadHead(Flaw::Host));
    }
    // HTTP/1 has been looked at as it came; of HTTP/2 nobody has.
    let is_host = |host: &[u8]| !host.is_empty() && !host.contains(&b'@');
    let nameless = head.version == Version::HTTP_2 && own.is_none() && named.is_none();
    if nameless || !own.map(str::as_bytes).into_iter().chain(named.map(HeaderValue::as_bytes)).all(is_host) {
        return Err(Refusal::BadHead(Flaw::Host));
    }
    if is_ambiguous(head.uri.path()) {
        return Err(Refusal::BadHead(Flaw::Path));
    }
    if own.zip(named).is_some_and(|(own, named)| !own.as_bytes().eq_ignore_ascii_case(named.as_bytes())) {
        return Err(Refusal::BadHead(Flaw::OtherHost));
    }
    match head.headers.get(header::EXPECT) {
        Some(expected) if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(Refusal::UnknownExpectation(String::from_utf8_lossy(expected.as_bytes()).into_owned()))
        }
        _ => Ok(()),
    }
}

/// What one reader takes for a name and the next for an end, a separator or nothing. A slash in a model's name is none of
/// that: paths are not passed on.
fn is_ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    let escapes = memchr::memchr_iter(b'%', bytes).filter_map(|at| bytes.get(at + 1..at + 3));
    let odd = |escape: &[u8]| escape == b"00" || escape.eq_ignore_ascii_case(b"5c");
    !bytes.is_ascii() || bytes.contains(&b'\\') || escapes.into_iter().any(odd)
}

/// A request that has come by here too often goes in a circle, and each turn is another request. Otherwise it is marked.
fn refuse_loop(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let turns = headers.get_all(header::VIA).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let ours = |turn: &&[u8]| turn.trim_ascii() == VIA.as_bytes();
    if turns.filter(ours).count() >= MOST_TURNS {
        return Err(Refusal::Loop(MOST_TURNS));
    }
    headers.append(header::VIA, HeaderValue::from_static(VIA));
    Ok(())
}

/// The listener reads somewhat larger heads than are allowed, so that they can be refused in words.
fn refuse_large_head(head: &http::request::Parts) -> Result<(), Refusal> {
    let bytes: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let path_and_query = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if path_and_query > LONGEST_URI {
        Err(Refusal::HeadTooLarge("8 KiB of path and query"))
    } else if head.headers.len() > MOST_HEADERS {
        Err(Refusal::HeadTooLarge("100 headers"))
    } else if bytes > LONGEST_HEAD {
        Err(Refusal::HeadTooLarge("64 KiB of headers"))
    } else {
        Ok(())
    }
}

fn models(snapshot: &Snapshot, method: &Method, path: &str, caller: Option<&Caller>) -> Result<Bytes, Refusal> {
    let rest = path.strip_prefix(MODELS_PATH).ok_or_else(|| Refusal::UnknownPath(path.to_owned()))?;
    let name = match rest.strip_prefix('/') {
        Some(name) if !name.is_empty() => Some(name),
        _ if rest.is_empty() || rest == "/" => None,
        _ => return Err(Refusal::UnknownPath(path.to_owned())),
    };
    if method != Method::GET {
        return Err(Refusal::WrongMethod("GET"));
    }
    let allowed = caller.map(|caller| &caller.scope.models).filter(|allowed| !allowed.is_all());
    match (name, allowed) {
        (None, None) => Ok(snapshot.model_list.clone()),
        (None, Some(allowed)) => Ok(snapshot.models_where(|model| allowed.admits(model))),
        (Some(name), allowed) => {
            let name = percent_decode_str(name).decode_utf8_lossy();
            if snapshot.serves(&name) && allowed.is_none_or(|allowed| allowed.admits(&name)) {
                Ok(Bytes::from(snapshot::model_entry(&name).to_string()))
            } else {
                Err(super::body::unknown_model(snapshot, &name))
            }
        }
    }
}

fn refuse_foreign_body(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_json = |value: &HeaderValue| {
        let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
    };
    let encoded = headers.contains_key(header::CONTENT_ENCODING);
    if !encoded && headers.get(header::CONTENT_TYPE).is_some_and(is_json) {
        return Ok(());
    }
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        return Err(Refusal::UnsupportedBody(format!("content-encoding: {encoding}")));
    }
    match text(header::CONTENT_TYPE) {
        Some(kind) if kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json") => Ok(()),
        // Strict also because a browser may send other kinds, or none, to a local port without asking first.
        Some(kind) => Err(Refusal::UnsupportedBody(format!("content-type: {kind}"))),
        None => Err(Refusal::UnsupportedBody("no content-type".to_owned())),
    }
}
