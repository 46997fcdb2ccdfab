//! Certificates of the listener, from PEM files, and those that clients show. Never logs a key.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::base::Kind;
use crate::base::config::TlsConfig;
use crate::port::Fault;

/// A certificate in use, which can be read anew while the listener runs.
pub struct Certificate {
    files: TlsConfig,
    acceptor: Mutex<TlsAcceptor>,
}

impl Certificate {
    /// Reads a certificate chain and its key.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn load(files: &TlsConfig) -> Result<Self, Fault> {
        Ok(Self { files: files.clone(), acceptor: Mutex::new(acceptor(files)?) })
    }

    /// Reads them again; the old ones stay if something is wrong with the new ones.
    ///
    /// # Errors
    /// As [`Certificate::load`].
    pub fn reload(&self) -> Result<(), Fault> {
        let new = acceptor(&self.files)?;
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What accepts the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The fingerprint of a client's certificate: SHA-256 in lower-case hex.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, Fault> {
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
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&config.cert, error.to_string()))?
        .with_client_cert_verifier(Arc::new(AnyCertificate { provider }))
        .with_single_cert(chain, key)
        .map_err(|error| bad(&config.key, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// Takes any certificate of a client that holds its key: it names itself by its fingerprint, and
/// nobody has to have signed it.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
