//! API keys: random, shown once, kept as hashes in a file with names, scopes and ends.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use pointsman_policies::language::{LocalDate, Located, Report, Severity, Source, read};
use schemars::JsonSchema;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::caller::{Allowed, By, Caller, Scope, Unproven};

/// Keys begin so, for people and for scanners that look for leaked ones.
const PREFIX: &str = "pm-";
/// What a hash begins with.
const ALGORITHM: &str = "sha256:";
/// Keys of a file.
const MOST_KEYS: usize = 10_000;
/// Longest key that is looked at, bytes.
const LONGEST_KEY: usize = 512;

/// The file of API keys.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysShape {
    /// `[[key]]`: who may send requests.
    #[serde(default)]
    pub key: Vec<KeyShape>,
}

/// `[[key]]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyShape {
    /// Who has it: the tenant that policies, budgets and metrics know.
    #[schemars(length(min = 1, max = 256))]
    #[schemars(example = &"voice-agent")]
    pub name: Located<String>,
    /// Hash of the key, `sha256:` and 64 hexadecimal digits; the key itself is written nowhere.
    #[schemars(example = &"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub hash: Located<String>,
    /// The day, in UTC, from which it is no longer good; good for ever where not given.
    #[schemars(example = &"2027-07-01")]
    pub expires: Option<LocalDate>,
    /// Models it may ask for; all where not given.
    #[schemars(example = serde_json::json!(["gpt-oss-120b"]))]
    pub models: Option<Vec<String>>,
    /// Classes its requests may be of; all where not given.
    #[schemars(example = serde_json::json!(["batch"]))]
    pub classes: Option<Vec<String>>,
    /// Routes of the policy that may match its requests; all where not given.
    #[schemars(example = serde_json::json!(["default"]))]
    pub routes: Option<Vec<String>>,
}

impl KeyShape {
    /// What it allows.
    pub fn scope(&self) -> Scope {
        let only = |names: &Option<Vec<String>>| Allowed::only(names.as_ref());
        Scope { models: only(&self.models), classes: only(&self.classes), routes: only(&self.routes) }
    }
}

/// A new key; this is the only time that it can be seen.
pub fn new_key() -> anyhow::Result<String> {
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(format!("{PREFIX}{}", hex(&random)))
}

/// What stands in the file for a key.
pub fn hash_of(key: &[u8]) -> String {
    format!("{ALGORITHM}{}", hex(digest(&SHA256, key).as_ref()))
}

/// Keys by their hashes.
#[derive(Debug, Default)]
pub struct KeyRing {
    /// By the first bytes of the hash, which say nothing of a key that is not known.
    keys: HashMap<[u8; 8], Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    hash: [u8; 32],
    /// Seconds since 1970.
    expires: Option<u64>,
    caller: Arc<Caller>,
}

impl KeyRing {
    /// Reads a file; the error says what is wrong and where.
    pub fn read(path: &Path) -> Result<KeyRing, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read `{name}`: {error}"))?;
        KeyRing::parse(&name.to_string(), text)
    }

    /// The same of a text.
    pub fn parse(name: &str, text: String) -> Result<KeyRing, String> {
        let mut report = Report::new(Source::new(name, text));
        let shape: Option<KeysShape> = read(&mut report);
        let mut ring = KeyRing::default();
        let mut names = BTreeSet::new();
        for key in shape.iter().flat_map(|shape| &shape.key).take(MOST_KEYS) {
            if !names.insert(key.name.value.clone()) {
                let twice = format!("two keys have the name `{}`", key.name.value);
                report.error("bad-keys", key.name.span.clone(), twice);
            }
            if let Err(problem) = ring.add(key) {
                report.error("bad-keys", key.hash.span.clone(), problem);
            }
        }
        if shape.as_ref().is_some_and(|shape| shape.key.len() > MOST_KEYS) {
            report.error("bad-keys", 0..0, format!("there are more than {MOST_KEYS} keys"));
        }
        match report.iter().find(|problem| problem.severity == Severity::Error) {
            None => Ok(ring),
            Some(first) => {
                let start = first.span.as_ref().map_or(0, |span| span.start);
                let line = report.source().text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
                Err(format!("`{name}`, line {line}: {}", first.message))
            }
        }
    }

    fn add(&mut self, key: &KeyShape) -> Result<(), String> {
        let hash = key.hash.strip_prefix(ALGORITHM).and_then(unhex);
        let hash = hash.ok_or("a hash is `sha256:` and 64 hexadecimal digits; `pointsman keys new` writes it")?;
        let (start, _) = hash.split_first_chunk().ok_or("the hash is too short")?;
        let held = self.keys.entry(*start).or_default();
        if held.iter().any(|held| held.hash == hash) {
            return Err("two keys have the same hash".to_owned());
        }
        let expires = key.expires.map(midnight).transpose()?;
        let caller = Caller { name: key.name.value.as_str().into(), by: By::Key, scope: key.scope() };
        held.push(Held { hash, expires, caller: Arc::new(caller) });
        Ok(())
    }

    /// The caller that has a key. How long it takes says nothing of the keys there are: what is compared are hashes, in
    /// constant time, and nobody can choose the hash of a key.
    pub fn find(&self, key: &[u8], now_unix_s: u64) -> Result<Arc<Caller>, Unproven> {
        if key.len() > LONGEST_KEY {
            return Err(Unproven::UnknownKey);
        }
        let hash = digest(&SHA256, key);
        let start = hash.as_ref().first_chunk().ok_or(Unproven::UnknownKey)?;
        let held = self.keys.get(start).into_iter().flatten();
        let mut same = held.filter(|held| bool::from(held.hash.as_slice().ct_eq(hash.as_ref())));
        let held = same.next().ok_or(Unproven::UnknownKey)?;
        match held.expires {
            Some(end) if end <= now_unix_s => Err(Unproven::Expired),
            _ => Ok(Arc::clone(&held.caller)),
        }
    }
}

/// The first second of a day, since 1970.
pub fn midnight(day: LocalDate) -> Result<u64, String> {
    let moment = humantime::parse_rfc3339(&format!("{day}T00:00:00Z"));
    let since = moment.ok().and_then(|moment| moment.duration_since(std::time::SystemTime::UNIX_EPOCH).ok());
    since.map(|since| since.as_secs()).ok_or_else(|| format!("`{day}` is not a day after 1970"))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let pairs = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let plain = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    pairs.map(byte).collect::<Option<Vec<u8>>>().filter(|_| plain)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 86_400;

    fn ring(text: &str) -> Result<KeyRing, String> {
        KeyRing::parse("keys.toml", text.to_owned())
    }

    #[test]
    fn a_key_is_found_by_its_hash_until_it_ends() {
        let (a, b) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == 67 && a.starts_with("pm-"), "256 bits");
        let text = format!(
            "[[key]]\nname = \"a\"\nhash = \"{}\"\n[[key]]\nname = \"b\"\nhash = \"{}\"\nexpires = 2031-05-17\nmodels = [\"m\"]\n",
            hash_of(a.as_bytes()),
            hash_of(b.as_bytes()),
        );
        let ring = ring(&text).unwrap();
        let end = 1_936_742_400;
        assert_eq!(&*ring.find(a.as_bytes(), end + DAY_S).unwrap().name, "a");
        let found = ring.find(b.as_bytes(), end - 1).unwrap();
        assert!(found.scope.models.admits("m") && !found.scope.models.admits("n") && found.scope.classes.admits("x"));
        assert_eq!(ring.find(b.as_bytes(), end).unwrap_err(), Unproven::Expired);
        for other in ["", "pm-", &a[..66], &hash_of(a.as_bytes()), &format!("{a}0")] {
            assert_eq!(ring.find(other.as_bytes(), 0).unwrap_err(), Unproven::UnknownKey, "{other}");
        }
    }

    #[test]
    fn mistakes_of_the_file_are_told_with_their_line() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let told = ring(text).unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
        let hash = hash_of(b"x");
        check("[[key]]\nname = \"a\"\nhash = \"pm-secret\"\n", "line 3: a hash is");
        check(&format!("[[key]]\nname = \"a\"\nhash = \"{hash}\"\nmodel = [\"m\"]\n"), "line 4");
        let key = |name: &str, of: &str| format!("[[key]]\nname = \"{name}\"\nhash = \"{}\"\n", hash_of(of.as_bytes()));
        check(&(key("a", "x") + &key("a", "y")), "two keys have the name `a`");
        check(&(key("a", "x") + &key("b", "x")), "two keys have the same hash");
        check("[[key]\n", "line 1");
        assert!(ring("").is_ok(), "nobody has a key yet");
    }
}
