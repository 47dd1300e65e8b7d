//! The public keys of an issuer, from a JSON Web Key Set (RFC 7517).

use std::path::Path;

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Largest set that is read, bytes.
pub const LARGEST: u64 = 1 << 20;
/// Keys of a set.
const MOST_KEYS: usize = 100;

/// Keys that can verify signatures.
#[derive(Clone, Default)]
pub struct KeySet(Vec<PublicKey>);

#[derive(Clone)]
struct PublicKey {
    /// As it was written, to tell one from another.
    text: String,
    id: Option<String>,
    /// The algorithm that it is for, where it says so.
    algorithm: Option<String>,
    key: DecodingKey,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &KeySet) -> bool {
        self.0.iter().map(|key| &key.text).eq(other.0.iter().map(|key| &key.text))
    }
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<KeySet, String> {
        let name = path.display();
        let size = std::fs::metadata(path).map_err(|error| format!("cannot read `{name}`: {error}"))?.len();
        if size > LARGEST {
            return Err(format!("`{name}` has {size} bytes, more than {LARGEST}"));
        }
        let text = std::fs::read(path).map_err(|error| format!("cannot read `{name}`: {error}"))?;
        KeySet::parse(&text).map_err(|error| format!("`{name}`: {error}"))
    }

    /// The keys of a set that can verify signatures; others are left out, but one there must be.
    pub fn parse(text: &[u8]) -> Result<KeySet, String> {
        let Keys { keys } = serde_json::from_slice(text).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
        let keys: Vec<PublicKey> = keys.into_iter().take(MOST_KEYS).filter_map(PublicKey::new).collect();
        if keys.is_empty() {
            return Err("it has no key that verifies RS256, ES256 or EdDSA".to_owned());
        }
        Ok(KeySet(keys))
    }

    /// The key that a token says it was signed with; a token that says nothing is signed with the only one there is.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let fits = |key: &&PublicKey| {
            key.key.family() == algorithm.family()
                && key.algorithm.as_ref().is_none_or(|named| *named == format!("{algorithm:?}"))
        };
        let mut found = match id {
            Some(id) => self.0.iter().filter(|key| key.id.as_deref() == Some(id)).filter(fits).collect::<Vec<_>>(),
            None => self.0.iter().filter(fits).collect(),
        };
        let only = found.pop()?;
        found.is_empty().then_some(&only.key)
    }
}

impl PublicKey {
    /// `None` of a key that is secret, for encryption, or of a kind that is not taken.
    fn new(value: Value) -> Option<PublicKey> {
        let text = value.to_string();
        let algorithm = value.get("alg").and_then(Value::as_str).map(str::to_owned);
        let key: Jwk = serde_json::from_value(value).ok()?;
        let signs = key.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
        let public = DecodingKey::from_jwk(&key).ok()?;
        let taken = public.family() != AlgorithmFamily::Hmac;
        (signs && taken).then(|| PublicKey { text, id: key.common.key_id.clone(), algorithm, key: public })
    }
}
