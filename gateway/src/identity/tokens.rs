//! Signed tokens (RFC 7519): issuer, audience, time and algorithm are what the process file says, never what the token
//! says.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::caller::{By, Caller, Scope};
use super::key_set::KeySet;
use crate::config::process::{Jwt, KeysAt};

/// Longest token that is looked at, bytes.
const LONGEST: usize = 16 << 10;
/// Longest name of a caller, bytes.
const LONGEST_NAME: usize = 256;
/// Tokens that are known to be good; more are checked again. A signature takes longer than all else that is done with a
/// request, and callers send the same token until it ends.
const REMEMBERED: usize = 4096;

/// Checks tokens with one set of keys.
#[derive(Debug)]
pub(super) struct Tokens {
    jwt: Jwt,
    keys: Option<KeySet>,
    verified: Mutex<HashMap<[u8; 32], Verified>>,
}

#[derive(Clone, Debug)]
struct Verified {
    caller: Arc<Caller>,
    /// Seconds since 1970.
    until: u64,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    /// The issuer's keys have not been had yet.
    NoKeys,
    /// It names a key that is not among them.
    UnknownKey,
    /// Its time is over.
    Expired,
    /// Anything else.
    Token(&'static str),
}

impl Tokens {
    pub(super) fn new(jwt: Jwt, keys: Option<KeySet>) -> Tokens {
        Tokens { jwt, keys, verified: Mutex::default() }
    }

    /// Whether it checks by these rules and keys.
    pub(super) fn is_of(&self, jwt: &Jwt, keys: Option<&KeySet>) -> bool {
        self.jwt == *jwt && self.keys.as_ref() == keys
    }

    /// Whether somebody can be asked for newer keys.
    pub(super) fn has_issuer(&self) -> bool {
        matches!(self.jwt.keys, KeysAt::Url(..))
    }

    /// The caller of a token.
    pub(super) fn verify(&self, token: &[u8], now_unix_s: u64) -> Result<Arc<Caller>, Rejected> {
        if token.len() > LONGEST {
            return Err(Rejected::Token("it is too long"));
        }
        let hash = digest(&SHA256, token);
        let known = hash.as_ref().try_into().unwrap_or([0; 32]);
        if let Some(verified) = self.verified.lock().get(&known) {
            return if now_unix_s < verified.until { Ok(Arc::clone(&verified.caller)) } else { Err(Rejected::Expired) };
        }
        let verified = self.check(token)?;
        let caller = Arc::clone(&verified.caller);
        let mut remembered = self.verified.lock();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, verified| now_unix_s < verified.until);
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(known, verified);
        Ok(caller)
    }

    fn check(&self, token: &[u8]) -> Result<Verified, Rejected> {
        let head = decode_header(token).map_err(|_| Rejected::Token("it is not a signed token"))?;
        if !self.jwt.algorithms.contains(&head.alg) {
            return Err(Rejected::Token("its algorithm is not one that is taken here"));
        }
        let keys = self.keys.as_ref().ok_or(Rejected::NoKeys)?;
        let key = keys.find(head.kid.as_deref(), head.alg).ok_or(Rejected::UnknownKey)?;
        let mut validation = Validation::new(head.alg);
        validation.set_issuer(&[&self.jwt.issuer]);
        validation.set_audience(&[&self.jwt.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = self.jwt.leeway.as_secs();
        let decoded = decode::<Map<String, Value>>(token, key, &validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => Rejected::Expired,
            ErrorKind::ImmatureSignature => Rejected::Token("its time has not come"),
            ErrorKind::InvalidIssuer => Rejected::Token("it is of another issuer"),
            ErrorKind::InvalidAudience => Rejected::Token("it is meant for somebody else"),
            ErrorKind::MissingRequiredClaim(_) => Rejected::Token("it lacks `exp`, `iss` or `aud`"),
            ErrorKind::InvalidSignature => Rejected::Token("its signature is wrong"),
            _ => Rejected::Token("it cannot be verified"),
        })?;
        let name = decoded.claims.get(&self.jwt.name_claim).and_then(Value::as_str).unwrap_or_default();
        let visible = name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if name.is_empty() || name.len() > LONGEST_NAME || !visible {
            return Err(Rejected::Token("the claim that names the caller is missing or no name"));
        }
        let end = decoded.claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        let caller = Caller { name: name.into(), by: By::Token, scope: Scope::default() };
        let until = (end as u64).saturating_add(self.jwt.leeway.as_secs());
        Ok(Verified { caller: Arc::new(caller), until })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;
    use crate::identity::unix_s;

    /// Ed25519 in PKCS #8 begins so, before the seed.
    const ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    /// Bytes of PKCS #8 around an RSA key of 2048 bits.
    const AROUND_RSA: usize = 26;

    fn key(algorithm: Algorithm) -> EncodingKey {
        let made = |kind| rcgen::KeyPair::generate_for(kind).unwrap().serialize_der();
        match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_der(&made(&rcgen::PKCS_RSA_SHA256)[AROUND_RSA..]),
            Algorithm::ES256 => EncodingKey::from_ec_der(&made(&rcgen::PKCS_ECDSA_P256_SHA256)),
            _ => {
                let seed = &made(&rcgen::PKCS_ED25519)[16..48];
                EncodingKey::from_ed_der(&[ED25519.as_slice(), seed].concat())
            }
        }
    }

    fn set(keys: &[(&str, &EncodingKey, Algorithm)]) -> KeySet {
        let listed = keys.iter().map(|(id, key, algorithm)| {
            let mut listed = Jwk::from_encoding_key(key, *algorithm).unwrap();
            listed.common.key_id = Some((*id).to_owned());
            listed
        });
        KeySet::parse(json!({ "keys": listed.collect::<Vec<_>>() }).to_string().as_bytes()).unwrap()
    }

    fn tokens(keys: KeySet, algorithms: &[Algorithm]) -> Tokens {
        let jwt = Jwt {
            issuer: "issuer".to_owned(),
            audience: "here".to_owned(),
            keys: KeysAt::File("keys.json".into()),
            algorithms: algorithms.to_vec(),
            name_claim: "sub".to_owned(),
            leeway: Duration::from_secs(60),
            refresh: Duration::from_secs(300),
        };
        Tokens::new(jwt, Some(keys))
    }

    fn token(id: Option<&str>, algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
        let head = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
        encode(&head, claims, key).unwrap()
    }

    fn claims(ends_in_s: i64) -> Value {
        json!({ "iss": "issuer", "aud": "here", "sub": "ada", "exp": unix_s() as i64 + ends_in_s })
    }

    const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

    #[test]
    fn each_algorithm_is_taken_where_it_is_allowed() {
        for algorithm in ALL {
            let key = key(algorithm);
            let keys = set(&[("k", &key, algorithm)]);
            let signed = token(Some("k"), algorithm, &key, &claims(60));
            let taken = tokens(keys.clone(), &ALL).verify(signed.as_bytes(), unix_s()).unwrap();
            assert_eq!((&*taken.name, taken.by), ("ada", By::Token), "{algorithm:?}");
            let others: Vec<Algorithm> = ALL.into_iter().filter(|other| *other != algorithm).collect();
            let refused = tokens(keys, &others).verify(signed.as_bytes(), unix_s());
            assert_eq!(refused, Err(Rejected::Token("its algorithm is not one that is taken here")), "{algorithm:?}");
        }
    }

    #[test]
    fn no_algorithm_can_be_confused_with_another() {
        let rsa = key(Algorithm::RS256);
        let listed = Jwk::from_encoding_key(&rsa, Algorithm::RS256).unwrap();
        let tokens = tokens(set(&[("k", &rsa, Algorithm::RS256)]), &ALL);
        // Signed with the public key as if it were a shared secret.
        let secret = EncodingKey::from_secret(serde_json::to_string(&listed).unwrap().as_bytes());
        let confused = token(Some("k"), Algorithm::HS256, &secret, &claims(60));
        assert!(matches!(tokens.verify(confused.as_bytes(), unix_s()), Err(Rejected::Token(_))));
        // `alg: none`, with and without a signature.
        let body = confused.split('.').nth(1).unwrap();
        for none in [format!("eyJhbGciOiJub25lIn0.{body}."), format!("eyJhbGciOiJub25lIn0.{body}.AAAA")] {
            assert!(matches!(tokens.verify(none.as_bytes(), unix_s()), Err(Rejected::Token(_))), "{none}");
        }
        // The name of a key of another kind.
        let elliptic = key(Algorithm::ES256);
        let other = token(Some("k"), Algorithm::ES256, &elliptic, &claims(60));
        assert_eq!(tokens.verify(other.as_bytes(), unix_s()), Err(Rejected::UnknownKey));
    }

    #[test]
    fn time_is_kept_within_the_leeway_also_of_what_is_remembered() {
        let key = key(Algorithm::ES256);
        let tokens = tokens(set(&[("k", &key, Algorithm::ES256)]), &ALL);
        let verify =
            |claims: &Value, at| tokens.verify(token(Some("k"), Algorithm::ES256, &key, claims).as_bytes(), at);
        let now = unix_s();
        assert!(verify(&claims(-30), now).is_ok(), "clocks may be apart");
        assert_eq!(verify(&claims(-90), now), Err(Rejected::Expired));
        let mut early = claims(600);
        early["nbf"] = (now + 300).into();
        assert_eq!(verify(&early, now), Err(Rejected::Token("its time has not come")));
        let signed = token(Some("k"), Algorithm::ES256, &key, &claims(60));
        assert!(tokens.verify(signed.as_bytes(), now).is_ok());
        assert!(tokens.verify(signed.as_bytes(), now + 119).is_ok(), "remembered");
        assert_eq!(tokens.verify(signed.as_bytes(), now + 121), Err(Rejected::Expired), "and not for ever");
    }

    #[test]
    fn every_claim_is_asked_for() {
        let key = key(Algorithm::ES256);
        let tokens = tokens(set(&[("k", &key, Algorithm::ES256)]), &ALL);
        for claim in ["iss", "aud", "sub", "exp"] {
            let mut without = claims(60);
            without.as_object_mut().unwrap().remove(claim);
            let signed = token(Some("k"), Algorithm::ES256, &key, &without);
            assert!(matches!(tokens.verify(signed.as_bytes(), unix_s()), Err(Rejected::Token(_))), "{claim}");
        }
        let mut odd = claims(60);
        odd["sub"] = "ada\nlovelace".into();
        let signed = token(Some("k"), Algorithm::ES256, &key, &odd);
        assert!(tokens.verify(signed.as_bytes(), unix_s()).is_err(), "no name of one line");
    }

    #[test]
    fn a_token_without_a_key_id_is_of_the_only_key() {
        let (one, two) = (key(Algorithm::ES256), key(Algorithm::ES256));
        let signed = token(None, Algorithm::ES256, &one, &claims(60));
        let alone = tokens(set(&[("one", &one, Algorithm::ES256)]), &ALL);
        assert!(alone.verify(signed.as_bytes(), unix_s()).is_ok());
        let both = tokens(set(&[("one", &one, Algorithm::ES256), ("two", &two, Algorithm::ES256)]), &ALL);
        assert_eq!(both.verify(signed.as_bytes(), unix_s()), Err(Rejected::UnknownKey));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let key = key(Algorithm::EdDSA);
        let tokens = tokens(set(&[("k", &key, Algorithm::EdDSA)]), &ALL);
        let caller = Caller { name: "x".into(), by: By::Token, scope: Scope::default() };
        let verified = Verified { caller: Arc::new(caller), until: u64::MAX };
        let number = |number: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            hash
        };
        tokens.verified.lock().extend((0..REMEMBERED).map(|index| (number(index), verified.clone())));
        let signed = token(Some("k"), Algorithm::EdDSA, &key, &claims(60));
        assert!(tokens.verify(signed.as_bytes(), unix_s()).is_ok());
        assert!(tokens.verified.lock().len() <= REMEMBERED);
    }
}
