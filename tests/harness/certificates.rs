//! A certificate authority and the certificates that it issues, made for one test.

use std::path::PathBuf;
use std::sync::Arc;

use pointsman_backends::connect::Version;
use pointsman_backends::tls::{self, ClientFiles, ServerFiles};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use tempfile::TempDir;

/// PEM files: the authority's certificate, the host's certificate and key, and those issued later.
pub struct Certificates {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Certificates {
    /// For `localhost` and `127.0.0.1`.
    pub fn new() -> Certificates {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = authority.self_signed(&key).expect("a root certificate");
        let made = Certificates { folder: tempfile::tempdir().expect("a folder"), issuer: Issuer::new(authority, key) };
        std::fs::write(made.authority(), root.pem()).expect("the file can be written");
        made.issue("certificate", &["localhost", "127.0.0.1"], &[]);
        std::fs::rename(made.path("certificate.key"), made.key()).expect("the file can be renamed");
        made
    }

    /// Issues a certificate for hosts and URIs; the files of certificate and key.
    pub fn issue(&self, name: &str, hosts: &[&str], uris: &[&str]) -> (PathBuf, PathBuf) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).expect("parameters");
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI"));
        parameters.subject_alt_names.extend(uris.iter().map(uri));
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        let files = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        std::fs::write(&files.0, certificate.pem()).expect("the file can be written");
        std::fs::write(&files.1, key.serialize_pem()).expect("the file can be written");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whom to trust.
    pub fn authority(&self) -> PathBuf {
        self.path("authority.pem")
    }

    /// The host's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("certificate.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.path("key.pem")
    }

    /// For a machine.
    pub fn server(&self) -> Arc<tokio_rustls::rustls::ServerConfig> {
        tls::server(&self.certificate(), &self.key()).expect("a server configuration")
    }

    /// For a machine that shows a certificate of its own and asks its clients for one of an authority.
    pub fn asking(&self, shown: (PathBuf, PathBuf), of: &Certificates) -> Arc<tokio_rustls::rustls::ServerConfig> {
        let files = ServerFiles { certificates: vec![shown], client_ca: Some(of.authority()), clients_required: true };
        files.load().expect("a server configuration").config
    }

    /// For a client that speaks this version.
    pub fn client(&self, version: Version) -> Arc<tokio_rustls::rustls::ClientConfig> {
        tls::client(Some(&self.authority()), version).expect("a client configuration")
    }

    /// For a client that shows a certificate.
    pub fn client_with(&self, shown: (PathBuf, PathBuf)) -> Arc<tokio_rustls::rustls::ClientConfig> {
        let files = ClientFiles { ca: Some(self.authority()), certificate: Some(shown), ..ClientFiles::default() };
        tls::client_of(&files, Version::Negotiated).expect("a client configuration")
    }
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates::new()
    }
}
