//! Who calls: what a request carries is turned into a caller with a name and a scope, or refused. A request needs one
//! proof: an API key, a signed token, or the certificate of its connection.

/// A caller, and what it may do.
mod caller;
/// API keys, as hashes in a file.
pub mod keys;
/// The public keys of an issuer.
pub mod key_set;
/// Signed tokens.
mod tokens;
/// Asks an issuer for its keys.
mod issuer;
/// What was made of the files, followed while the gateway runs.
mod followed;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

use crate::gateway::Gateway;
use crate::refusal::Refusal;
use followed::State;
use tokens::Rejected;

pub use caller::{Allowed, By, Caller, Scope, Unproven};
pub use followed::{Identity, Told, tend};
pub use issuer::ask_issuer;

/// The gateway's own header for an API key, for callers whose `authorization` is meant for a machine.
pub const KEY_HEADER: HeaderName = HeaderName::from_static("x-pointsman-key");

/// Where a proof may be, in this order.
const PROOFS: [HeaderName; 4] =
    [KEY_HEADER, header::AUTHORIZATION, HeaderName::from_static("x-api-key"), HeaderName::from_static("api-key")];

/// How long a request waits for an issuer's keys that may know its token.
const KEYS_WAIT: Duration = Duration::from_secs(2);

/// Seconds since 1970.
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Who sent a request; `None` where nobody is asked. The header that proved it is taken away: it is for the gateway, and
/// no pool to which callers' credentials are passed on shall see it.
pub async fn identify(
    gateway: &Gateway,
    headers: &mut HeaderMap,
    peer: Option<&Arc<Caller>>,
) -> Result<Option<Arc<Caller>>, Refusal> {
    if !gateway.identity().asks() {
        return Ok(peer.cloned());
    }
    let state = gateway.identity().state();
    let proven = prove(gateway, &state, headers).await;
    let (caller, result) = match (proven, peer) {
        (Ok((caller, proof)), _) => {
            headers.remove(proof);
            (Ok(caller), "ok")
        }
        // Whoever shows a bad proof is refused, whatever it comes through: a key that is revoked must not give more than it did.
        (Err(Refusal::Unproven(Unproven::Nothing | Unproven::Certificate)), Some(peer)) => (Ok(Arc::clone(peer)), "ok"),
        (Err(refusal), _) => {
            let result = refusal.code();
            (Err(refusal), result)
        }
    };
    let by = caller.as_ref().map_or("none", |caller| caller.by.as_str());
    gateway.telemetry().metrics().identified(by, result);
    caller.map(Some)
}

/// The caller that a request's headers prove, and by which header.
async fn prove(gateway: &Gateway, state: &State, headers: &HeaderMap) -> Result<(Arc<Caller>, HeaderName), Refusal> {
    if state.ring.is_none() && state.tokens.is_none() {
        return Err(Unproven::Certificate.into()); // by certificate only: what clients put there by habit is no proof
    }
    let (proof, text) = presented(headers)?.ok_or(Unproven::Nothing)?;
    let looks_signed = text.iter().filter(|byte| **byte == b'.').count() == 2;
    if let Some(tokens) = state.tokens.as_ref().filter(|_| looks_signed) {
        let verified = match tokens.verify(text, unix_s()) {
            Err(why @ (Rejected::UnknownKey | Rejected::NoKeys)) if tokens.has_issuer() => {
                Box::pin(after_asking(gateway, text, why)).await
            }
            verified => verified,
        };
        return match verified {
            Ok(caller) => Ok((caller, proof)),
            Err(Rejected::NoKeys) => Err(Refusal::IdentityUnavailable),
            Err(Rejected::UnknownKey) => {
                Err(Unproven::Token("it is signed by a key that its issuer does not list").into())
            }
            Err(Rejected::Token(why)) => Err(Unproven::Token(why).into()),
            Err(Rejected::Expired) => Err(Unproven::Expired.into()),
        };
    }
    let ring = state.ring.as_ref().ok_or(Unproven::Token("it is not a token"))?;
    Ok((ring.find(text, unix_s())?, proof))
}

/// The issuer may have changed its keys: it is asked once, and everybody who came with an unknown key waits for that.
async fn after_asking(gateway: &Gateway, text: &[u8], why: Rejected) -> Result<Arc<Caller>, Rejected> {
    let identity = gateway.identity();
    let asked = async {
        match why {
            Rejected::NoKeys => identity.first_keys().await,
            _ => identity.keys_after_now().await,
        }
    };
    let _ = tokio::time::timeout(KEYS_WAIT, asked).await;
    identity.state().tokens.as_ref().ok_or(Rejected::NoKeys)?.verify(text, unix_s())
}

/// What tells one caller from another before it is proven: what it shows, where that is looked at; `None` where it shows
/// nothing.
pub fn shown<'h>(gateway: &Gateway, headers: &'h HeaderMap) -> Option<&'h [u8]> {
    let state = gateway.identity().state();
    let by_certificate = state.required && state.ring.is_none() && state.tokens.is_none();
    if by_certificate { None } else { presented(headers).ok().flatten().map(|(_, text)| text) }
}

/// The first proof there is. Two in one header could be read in two ways.
fn presented(headers: &HeaderMap) -> Result<Option<(HeaderName, &[u8])>, Refusal> {
    for name in PROOFS {
        let mut values = headers.get_all(&name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(Unproven::Twice.into());
        }
        let bytes = value.as_bytes().trim_ascii();
        if name != header::AUTHORIZATION {
            return Ok(Some((name, bytes)));
        }
        let bearer = bytes.split_at_checked("bearer ".len());
        if let Some((_, text)) = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")) {
            return Ok(Some((name, text.trim_ascii())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_proof_is_found_in_one_place() {
        #[track_caller]
        fn check(pairs: &[(&'static str, &'static str)], expected: Result<Option<(&str, &str)>, ()>) {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let found = presented(&headers).map_err(|_| ());
            let found = found.map(|found| found.map(|(name, text)| (name, text.to_vec())));
            let expected =
                expected.map(|expected| expected.map(|(name, text)| (name.parse().unwrap(), text.as_bytes().to_vec())));
            assert_eq!(found, expected, "{pairs:?}");
        }
        check(&[("authorization", "Bearer a")], Ok(Some(("authorization", "a"))));
        check(&[("authorization", "bEARER  a ")], Ok(Some(("authorization", "a"))));
        check(&[("authorization", "Basic a")], Ok(None));
        check(&[("authorization", "Basic a"), ("x-api-key", "b")], Ok(Some(("x-api-key", "b"))));
        check(&[("authorization", "Bearer a"), ("x-pointsman-key", "b")], Ok(Some(("x-pointsman-key", "b"))));
        check(&[("api-key", "c")], Ok(Some(("api-key", "c"))));
        check(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], Err(()));
        check(&[], Ok(None));
    }
}
