//! What a certificate says of itself: hosts, SPIFFE ids, until when.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

const SCHEME: &str = "spiffe://";
/// Longest SPIFFE id, bytes, by its standard.
const LONGEST_ID: usize = 2048;
/// Later than any certificate ends, seconds since 1970: they know four digits of a year.
const AFTER_ALL: Duration = Duration::from_secs(1 << 40);

/// Whom a verified certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// The SPIFFE id, else the first host.
    pub name: String,
    /// Whether it is a SPIFFE id.
    pub spiffe: bool,
}

/// Whom the first certificate of a verified chain is for; `None` where it names nobody. A SPIFFE certificate has one URI.
pub fn peer_name(chain: &[CertificateDer<'_>]) -> Option<PeerName> {
    let certificate = EndEntityCert::try_from(chain.first()?).ok()?;
    if let Some(id) = spiffe_id(&certificate) {
        return Some(PeerName { name: id.to_owned(), spiffe: true });
    }
    let host = certificate.valid_dns_names().next()?;
    Some(PeerName { name: host.to_owned(), spiffe: false })
}

/// The SPIFFE id, where it is the only URI.
pub(super) fn spiffe_id<'a>(certificate: &EndEntityCert<'a>) -> Option<&'a str> {
    let mut uris = certificate.valid_uri_names();
    let only = uris.next().filter(|_| uris.next().is_none())?;
    (only.starts_with(SCHEME) && only.len() <= LONGEST_ID).then_some(only)
}

/// Whether a text can stand in a list of SPIFFE ids: `spiffe://DOMAIN/PATH`, perhaps with `/*` at its end.
pub fn is_spiffe_pattern(pattern: &str) -> bool {
    let Some(rest) = pattern.strip_prefix(SCHEME) else { return false };
    let rest = rest.strip_suffix("/*").unwrap_or(rest);
    let (domain, path) = rest.split_once('/').unwrap_or((rest, "-"));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let whole = |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(plain);
    !domain.is_empty() && domain.chars().all(plain) && path.split('/').all(whole) && pattern.len() <= LONGEST_ID
}

/// Whether a list admits an id.
pub fn spiffe_allowed<P: AsRef<str>>(id: &str, patterns: &[P]) -> bool {
    patterns.iter().map(AsRef::as_ref).any(|pattern| match pattern.strip_suffix("/*") {
        Some(above) => id.strip_prefix(above).is_some_and(|below| below.len() > 1 && below.starts_with('/')),
        None => id == pattern,
    })
}

/// The hosts of a certificate.
pub(super) fn hosts(certificate: &CertificateDer<'_>) -> Vec<String> {
    let read = EndEntityCert::try_from(certificate);
    read.map_or_else(|_| Vec::new(), |read| read.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

/// When a certificate ends, seconds since 1970. webpki tells it only of one that has ended: it is asked whether this one
/// is good after all have ended, which it looks at first.
pub(super) fn ends(certificate: &CertificateDer<'_>) -> Option<u64> {
    let read = EndEntityCert::try_from(certificate).ok()?;
    let after_all = UnixTime::since_unix_epoch(AFTER_ALL);
    match read.verify_for_usage(&[], &[], &[], after_all, KeyUsage::server_auth(), None, None) {
        Err(Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(uris: &[&str], hosts: &[&str]) -> CertificateDer<'static> {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_after = rcgen::date_time_ymd(2031, 5, 17);
        let uri = |text: &&str| rcgen::SanType::URI((*text).try_into().unwrap());
        let host = |text: &&str| rcgen::SanType::DnsName((*text).try_into().unwrap());
        parameters.subject_alt_names = uris.iter().map(uri).chain(hosts.iter().map(host)).collect();
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_names_one_peer() {
        #[track_caller]
        fn check(uris: &[&str], hosts: &[&str], expected: Option<(&str, bool)>) {
            let named = peer_name(&[certificate(uris, hosts)]);
            assert_eq!(named.as_ref().map(|peer| (peer.name.as_str(), peer.spiffe)), expected);
        }
        check(&["spiffe://a.example/ns/x"], &["a.example"], Some(("spiffe://a.example/ns/x", true)));
        check(&["spiffe://a.example/x", "spiffe://a.example/y"], &["a.example"], Some(("a.example", false)));
        check(&["https://a.example/x"], &[], None);
        check(&[], &["b.example", "a.example"], Some(("b.example", false)));
        check(&[], &[], None);
    }

    #[test]
    fn patterns_admit_what_they_say() {
        #[track_caller]
        fn check(pattern: &str, id: &str, expected: bool) {
            assert_eq!(spiffe_allowed(id, &[pattern]), expected, "{pattern} {id}");
        }
        check("spiffe://a.example/x", "spiffe://a.example/x", true);
        check("spiffe://a.example/x", "spiffe://a.example/x/y", false);
        check("spiffe://a.example/x/*", "spiffe://a.example/x/y/z", true);
        check("spiffe://a.example/x/*", "spiffe://a.example/x", false);
        check("spiffe://a.example/x/*", "spiffe://a.example/x/", false);
        check("spiffe://a.example/x/*", "spiffe://a.example/xy/z", false);
        check("spiffe://a.example/*", "spiffe://a.example.evil/x", false);
        for good in ["spiffe://a.example/x", "spiffe://a.example/*", "spiffe://a.example", "spiffe://a/b/c/*"] {
            assert!(is_spiffe_pattern(good), "{good}");
        }
        for bad in ["", "a.example/x", "spiffe://", "spiffe:///x", "spiffe://a/*/b", "spiffe://a//b", "spiffe://a/.."] {
            assert!(!is_spiffe_pattern(bad), "{bad}");
        }
    }

    #[test]
    fn a_certificate_ends_when_it_says() {
        assert_eq!(ends(&certificate(&[], &["a.example"])), Some(1_936_742_400));
        assert_eq!(ends(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
