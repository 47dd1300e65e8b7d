//! Signed tokens, and the keys that verify them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

/// Signs tokens with ES256.
pub struct Signer {
    id: &'static str,
    key: EncodingKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Signer {
    /// With a new key under this name.
    pub fn new(id: &'static str) -> Signer {
        let pair = rcgen::KeyPair::generate().expect("a key");
        Signer { id, key: EncodingKey::from_ec_der(&pair.serialize_der()) }
    }

    /// The key as an issuer lists it.
    pub fn listed(&self) -> Jwk {
        let mut key = Jwk::from_encoding_key(&self.key, Algorithm::ES256).expect("a public key");
        key.common.key_id = Some(self.id.to_owned());
        key
    }

    /// A token that ends in so many seconds.
    pub fn token(&self, subject: &str, issuer: &str, audience: &str, in_s: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let end = i64::try_from(now).expect("not so late") + in_s;
        let head = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
        let claims = json!({ "sub": subject, "iss": issuer, "aud": [audience, "others"], "exp": end });
        encode(&head, &claims, &self.key).expect("a token")
    }
}
