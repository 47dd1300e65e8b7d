//! One address that serves: parsed once, named the same across reloads.

use std::fmt;
use std::sync::Arc;

use http::uri::{Authority, Scheme};

/// The name of an endpoint, `POOL/HOST:PORT`; stable across reloads as long as pool and address stay.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(Arc<str>);

impl EndpointId {
    /// The id of an address in a pool.
    pub fn new(pool: &str, address: &Address) -> EndpointId {
        EndpointId(format!("{pool}/{}{}", address.authority, address.base_path).into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whether to speak TLS.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port; the scheme's where the file names none.
    pub port: u16,
    /// Host and port as they go into `host:`.
    pub authority: Authority,
    /// Prefix of every path, without a slash at the end; often empty.
    pub base_path: String,
}

impl Address {
    /// A socket address without TLS.
    pub fn of(address: std::net::SocketAddr) -> Address {
        let host = address.ip().to_string();
        let authority = address.to_string().parse().unwrap_or_else(|_| Authority::from_static("localhost"));
        Address { tls: false, host, port: address.port(), authority, base_path: String::new() }
    }

    /// Parses `http://HOST[:PORT][/BASE]` or `https://...`; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Address, String> {
        let uri: http::Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) => return Err(format!("scheme `{scheme}` is not `http` or `https`")),
            None => return Err("the scheme is missing".to_owned()),
        };
        let authority = uri.authority().cloned().ok_or("the host is missing")?;
        if authority.as_str().contains('@') {
            return Err("credentials do not belong into a URL".to_owned());
        }
        if uri.query().is_some() {
            return Err("an endpoint has no query".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let base_path = uri.path().trim_end_matches('/').to_owned();
        Ok(Address { tls, host, port, authority, base_path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_or_refused_with_a_reason() {
        #[track_caller]
        fn check(text: &str, expected: Result<(bool, &str, u16, &str), &str>) {
            let parsed = Address::parse(text);
            match (parsed, expected) {
                (Ok(address), Ok((tls, host, port, base))) => {
                    assert_eq!(
                        (address.tls, &*address.host, address.port, &*address.base_path),
                        (tls, host, port, base)
                    );
                }
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (parsed, expected) => panic!("{text}: {parsed:?}, expected {expected:?}"),
            }
        }
        check("http://127.0.0.1:9101", Ok((false, "127.0.0.1", 9101, "")));
        check("https://api.example.com/openai/", Ok((true, "api.example.com", 443, "/openai")));
        check("http://[::1]:8000", Ok((false, "::1", 8000, "")));
        check("ftp://host", Err("scheme `ftp`"));
        check("127.0.0.1:9101", Err("the scheme is missing"));
        check("http://a b", Err("not a URL"));
        check("http://key@host", Err("credentials"));
        check("http://host/?a=b", Err("no query"));
    }
}
