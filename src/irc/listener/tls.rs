//! Certificates of the listener, from PEM files. Never logs a key.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::base::Kind;
use crate::base::config::TlsConfig;
use crate::port::Fault;

/// An acceptor for a certificate chain and its key.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, Fault> {
    let bad = |path: &str, error: String| {
        let why = format!("irc: cannot use {path} for TLS ({error}); correct irc.listen[].tls");
        Fault::new(Kind::Invalid, why)
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&config.cert)
        .and_then(Iterator::collect)
        .map_err(|error| bad(&config.cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(&config.cert, "it holds no certificate".into()));
    }
    let key =
        PrivateKeyDer::from_pem_file(&config.key).map_err(|error| bad(&config.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&config.cert, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| bad(&config.key, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}
