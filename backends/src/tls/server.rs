//! Towards clients: certificates by the host that they ask for, and what is asked of theirs.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::{certified, names, roots};

/// What a listener shows and asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// PEM files of chains and keys; the first is for clients that ask for no host, or one that no other is for.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// PEM file of the authorities of clients' certificates; clients are asked for none where `None`.
    pub client_ca: Option<PathBuf>,
    /// Whether the handshake fails without a client's certificate.
    pub clients_required: bool,
}

/// What was made of the files.
#[derive(Clone, Debug)]
pub struct Served {
    /// For rustls. No early data is taken: what it asks for could be sent again by anybody who saw it.
    pub config: Arc<rustls::ServerConfig>,
    /// Each certificate by its first host, with its end in seconds since 1970.
    pub ends: Vec<(String, u64)>,
}

impl ServerFiles {
    /// Every file.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.certificates.iter().flat_map(|(cert, key)| [cert.as_path(), key.as_path()]);
        pairs.chain(self.client_ca.as_deref())
    }

    /// Reads them. HTTP/2 and HTTP/1.1 are offered.
    pub fn load(&self) -> io::Result<Served> {
        let mut by_host = ByHost::default();
        let mut ends = Vec::new();
        for (cert_file, key_file) in &self.certificates {
            let key = Arc::new(certified(cert_file, key_file)?);
            let first = key.end_entity_cert().map_err(io::Error::other)?;
            let hosts = names::hosts(first);
            let name = hosts.first().cloned().unwrap_or_else(|| cert_file.display().to_string());
            ends.extend(names::ends(first).map(|end| (name, end)));
            by_host.add(hosts, key);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider);
                let verifier = if self.clients_required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(by_host));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Served { config: Arc::new(config), ends })
    }
}

/// Serves with a certificate chain and key from PEM files, offering HTTP/2 and HTTP/1.1.
pub fn server(cert_file: &Path, key_file: &Path) -> io::Result<Arc<rustls::ServerConfig>> {
    let certificates = vec![(cert_file.to_owned(), key_file.to_owned())];
    Ok(ServerFiles { certificates, client_ca: None, clients_required: false }.load()?.config)
}

/// Certificates by host.
#[derive(Default)]
struct ByHost {
    hosts: HashMap<String, Arc<CertifiedKey>>,
    otherwise: Option<Arc<CertifiedKey>>,
}

impl ByHost {
    /// Of two for one host, the one given first.
    fn add(&mut self, hosts: Vec<String>, key: Arc<CertifiedKey>) {
        for host in hosts {
            self.hosts.entry(host).or_insert_with(|| Arc::clone(&key));
        }
        self.otherwise.get_or_insert(key);
    }

    fn find(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        let host = host.to_ascii_lowercase();
        let wild = || self.hosts.get(&format!("*.{}", host.split_once('.')?.1));
        self.hosts.get(&host).or_else(wild)
    }
}

impl fmt::Debug for ByHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hosts.keys()).finish()
    }
}

impl ResolvesServerCert for ByHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|host| self.find(host));
        named.or(self.otherwise.as_ref()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a certificate for hosts and its key.
    pub(super) fn write(folder: &Path, name: &str, hosts: &[&str]) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>());
        let rcgen::CertifiedKey { cert, signing_key } = made.unwrap();
        let paths = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&paths.0, cert.pem()).unwrap();
        std::fs::write(&paths.1, signing_key.serialize_pem()).unwrap();
        paths
    }

    #[test]
    fn a_host_has_its_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = vec![
            write(folder.path(), "first", &["first.example"]),
            write(folder.path(), "wild", &["*.wild.example", "other.example"]),
            write(folder.path(), "exact", &["other.example", "exact.example"]),
        ];
        let mut by_host = ByHost::default();
        for (cert, key) in &certificates {
            let key = Arc::new(certified(cert, key).unwrap());
            by_host.add(names::hosts(key.end_entity_cert().unwrap()), key);
        }
        let check = |host: &str, expected: Option<usize>| {
            let found = by_host.find(host).map(|key| names::hosts(key.end_entity_cert().unwrap()));
            let expected = expected.map(|index| {
                let (cert, key) = &certificates[index];
                names::hosts(certified(cert, key).unwrap().end_entity_cert().unwrap())
            });
            assert_eq!(found, expected, "{host}");
        };
        check("first.example", Some(0));
        check("FIRST.example", Some(0));
        check("any.wild.example", Some(1));
        check("other.example", Some(1));
        check("exact.example", Some(2));
        check("two.labels.wild.example", None);
        check("wild.example", None);
    }

    #[test]
    fn a_key_of_another_certificate_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let ((cert, _), (_, key)) = (write(folder.path(), "a", &["a"]), write(folder.path(), "b", &["b"]));
        let error = server(&cert, &key).unwrap_err().to_string();
        assert!(error.contains("a.pem") && error.contains("b.key"), "{error}");
    }

    #[test]
    fn no_early_data_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = write(folder.path(), "a", &["a"]);
        assert_eq!(server(&cert, &key).unwrap().max_early_data_size, 0);
    }
}
