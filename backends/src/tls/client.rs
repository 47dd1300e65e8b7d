//! Towards machines: whom to trust, what to show, and who must be there. Files are followed while a configuration is in
//! use: certificates of workloads live for an hour, and connections do not wait for somebody to edit a portfolio.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ResolvesClientCert, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::EndEntityCert;

use super::names::{ends, hosts, spiffe_allowed, spiffe_id};
use super::stamp::Stamp;
use super::{certified, roots};
use crate::connect::Version;

/// Whom to trust, what to show, and who must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// PEM file of the authorities to trust; the system's where `None` (Mozilla's where it has none).
    pub ca: Option<PathBuf>,
    /// PEM files of the chain and key to show; none is shown where `None`.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The host that the machine's certificate must be for; the one that is connected to where `None`.
    pub server_name: Option<ServerName<'static>>,
    /// SPIFFE ids, of which the machine's certificate must have one; it is asked for no host then. Any where empty.
    pub spiffe_ids: Vec<String>,
}

/// A configuration in use.
struct InUse {
    files: ClientFiles,
    version: Version,
    config: Weak<rustls::ClientConfig>,
    following: Arc<Following>,
    contents: Contents,
    stamp: Stamp,
}

/// What the files held.
type Contents = Vec<Vec<u8>>;

/// Configurations in use, so that a reload that changes nothing keeps connections and sessions.
static IN_USE: Mutex<Vec<InUse>> = Mutex::new(Vec::new());

/// What came of looking at the files of one configuration.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The file of the certificate that is shown, else of the authorities.
    pub file: PathBuf,
    /// Whether other files are in force now, or why the last good ones stay.
    pub outcome: Result<bool, String>,
    /// When the certificate that is shown ends, seconds since 1970, with its first host or file.
    pub end: Option<(String, u64)>,
}

/// Trusts the certificates of a PEM file, or the system's. See [`client_of`].
pub fn client(ca_file: Option<&Path>, version: Version) -> io::Result<Arc<rustls::ClientConfig>> {
    client_of(&ClientFiles { ca: ca_file.map(Path::to_owned), ..ClientFiles::default() }, version)
}

/// The same files with the same contents give the same configuration as long as it is in use.
pub fn client_of(files: &ClientFiles, version: Version) -> io::Result<Arc<rustls::ClientConfig>> {
    let stamp = Stamp::of(files.paths());
    let contents = files.read()?;
    let mut in_use = IN_USE.lock();
    in_use.retain(|known| known.config.strong_count() > 0);
    let same = |known: &&InUse| known.files == *files && known.version == version && known.contents == contents;
    if let Some(config) = in_use.iter().find(same).and_then(|known| known.config.upgrade()) {
        return Ok(config);
    }
    let following = Arc::new(Following::new(files)?);
    let config = Arc::new(config(&following, files.certificate.is_some(), version)?);
    let weak = Arc::downgrade(&config);
    in_use.push(InUse { files: files.clone(), version, config: weak, following, contents, stamp });
    Ok(config)
}

/// Looks at the files of every configuration in use and takes up what has changed; new handshakes follow it. Reads
/// files.
pub fn refresh() -> Vec<Refreshed> {
    let mut in_use = IN_USE.lock();
    in_use.retain(|known| known.config.strong_count() > 0);
    in_use.iter_mut().filter_map(InUse::refresh).collect()
}

impl InUse {
    /// `None` where nothing is followed.
    fn refresh(&mut self) -> Option<Refreshed> {
        let file = self.files.certificate.as_ref().map(|(cert, _)| cert).or(self.files.ca.as_ref())?.clone();
        let stamp = Stamp::of(self.files.paths());
        let outcome = if stamp == self.stamp { Ok(false) } else { self.follow(stamp) };
        Some(Refreshed { file, outcome, end: self.following.current.load().end() })
    }

    fn follow(&mut self, stamp: Stamp) -> Result<bool, String> {
        let taken = self.files.read().and_then(|contents| Ok((contents, Current::load(&self.files)?)));
        let (contents, current) = taken.map_err(|error| error.to_string())?;
        self.stamp = stamp;
        let changed = self.contents != contents;
        self.contents = contents;
        self.following.current.store(Arc::new(current));
        Ok(changed)
    }
}

impl ClientFiles {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let shown = self.certificate.iter().flat_map(|(cert, key)| [cert.as_path(), key.as_path()]);
        self.ca.as_deref().into_iter().chain(shown)
    }

    fn read(&self) -> io::Result<Contents> {
        let read = |path: &Path| {
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("cannot read `{}`: {error}", path.display()));
            std::fs::read(path).map_err(named)
        };
        self.paths().map(read).collect()
    }
}

fn config(following: &Arc<Following>, shows: bool, version: Version) -> io::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(following) as Arc<dyn ServerCertVerifier>);
    let mut config = match shows {
        true => builder.with_client_cert_resolver(Arc::clone(following) as Arc<dyn ResolvesClientCert>),
        false => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match version {
        Version::Negotiated => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Version::Http1 => vec![b"http/1.1".to_vec()],
        Version::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

/// What the files say now, for every handshake.
struct Following {
    server_name: Option<ServerName<'static>>,
    spiffe_ids: Vec<String>,
    current: ArcSwap<Current>,
}

struct Current {
    roots: Arc<RootCertStore>,
    web: Arc<WebPkiServerVerifier>,
    shown: Option<Arc<CertifiedKey>>,
}

impl Current {
    fn load(files: &ClientFiles) -> io::Result<Current> {
        let trusted = match &files.ca {
            Some(path) => roots(path)?,
            None => of_the_system(),
        };
        let roots = Arc::new(trusted);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let web = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider);
        let web = web.build().map_err(io::Error::other)?;
        let shown = files.certificate.as_ref().map(|(cert, key)| certified(cert, key).map(Arc::new)).transpose()?;
        Ok(Current { roots, web, shown })
    }

    fn end(&self) -> Option<(String, u64)> {
        let certificate = self.shown.as_ref()?.end_entity_cert().ok()?;
        let spiffe = || EndEntityCert::try_from(certificate).ok().and_then(|read| spiffe_id(&read).map(str::to_owned));
        let name = hosts(certificate).into_iter().next().or_else(spiffe).unwrap_or_default();
        Some((name, ends(certificate)?))
    }
}

fn of_the_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

impl Following {
    fn new(files: &ClientFiles) -> io::Result<Following> {
        let current = ArcSwap::from_pointee(Current::load(files)?);
        Ok(Following { server_name: files.server_name.clone(), spiffe_ids: files.spiffe_ids.clone(), current })
    }

    /// A certificate of one of our authorities, for servers, with one of the ids.
    fn verify_spiffe(
        &self,
        (certificate, between): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let roots = Arc::clone(&self.current.load().roots);
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, between, now, algorithms.all)?;
        if let Some(host) = &self.server_name {
            verify_server_name(&parsed, host)?;
        }
        let read = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let id = spiffe_id(&read).filter(|id| spiffe_allowed(id, &self.spiffe_ids));
        id.map(|_| ServerCertVerified::assertion()).ok_or_else(|| CertificateError::NotValidForName.into())
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Following {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.spiffe_ids.is_empty() {
            return self.verify_spiffe((certificate, between), now);
        }
        let host = self.server_name.as_ref().unwrap_or(host);
        self.current.load().web.verify_server_cert(certificate, between, host, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().web.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current.load().web.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current.load().web.supported_verify_schemes()
    }
}

impl ResolvesClientCert for Following {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current.load().shown.clone()
    }

    fn has_certs(&self) -> bool {
        self.current.load().shown.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(path: &Path) {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let made = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        std::fs::write(path, made.pem()).unwrap();
    }

    #[test]
    fn one_configuration_for_the_same_files_and_another_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        authority(&ca);
        let (first, again) = (client(Some(&ca), Version::Http1).unwrap(), client(Some(&ca), Version::Http1).unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &client(Some(&ca), Version::Http2).unwrap()));
        authority(&ca);
        assert!(!Arc::ptr_eq(&first, &client(Some(&ca), Version::Http1).unwrap()), "other authorities");
    }

    #[test]
    fn files_are_followed_and_the_last_good_kept() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("followed.pem");
        authority(&ca);
        let config = client(Some(&ca), Version::Http1).unwrap();
        let mine = || refresh().into_iter().find(|refreshed| refreshed.file == ca).unwrap().outcome;
        assert_eq!(mine(), Ok(false));
        std::fs::write(&ca, "broken").unwrap();
        let told = mine().unwrap_err();
        assert!(told.contains("followed.pem"), "{told}");
        assert!(mine().is_err(), "until it is mended");
        authority(&ca);
        assert_eq!(mine(), Ok(true));
        assert_eq!(mine(), Ok(false));
        assert!(Arc::ptr_eq(&config, &client(Some(&ca), Version::Http1).unwrap()), "what is followed is the same");
    }
}
