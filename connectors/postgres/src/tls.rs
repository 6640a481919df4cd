//! TLS by rustls: which certificates are trusted, and the channel binding of SCRAM.

use std::sync::Arc;

use lakehead_core::{Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::Digest;

use crate::endpoint::{Endpoint, Protection};
use crate::fault;

/// Builds the TLS settings of an endpoint; `None` where it has TLS disabled or is a local socket.
pub(crate) fn client_config(endpoint: &Endpoint) -> Result<Option<Arc<ClientConfig>>> {
    if endpoint.protection == Protection::Disabled || endpoint.is_local_socket() {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::bug("the tls provider has no protocol versions").caused_by(error))?;
    let config = match endpoint.protection {
        Protection::VerifyFull => builder.with_root_certificates(roots(endpoint)?).with_no_client_auth(),
        Protection::VerifyCa => {
            let verifier = Lenient { roots: Some(own_roots(endpoint)?), provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
        Protection::Insecure | Protection::Disabled => {
            let verifier = Lenient { roots: None, provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    };
    Ok(Some(Arc::new(config)))
}

/// Returns the roots of the endpoint's `ca` alone: where the name is not checked, any certificate that a public root has
/// ever signed would pass.
fn own_roots(endpoint: &Endpoint) -> Result<RootCertStore> {
    if endpoint.ca.is_none() {
        return Err(endpoint
            .at(Error::user(fault::CERTIFICATE_UNTRUSTED, "`tls = verify_ca` has no `ca` to trust"))
            .help("set `ca` to the file of the root that signs the server's certificate, or use `tls = verify_full`"));
    }
    let mut roots = RootCertStore::empty();
    add_own(&mut roots, endpoint)?;
    Ok(roots)
}

/// Returns the system's roots and those of the endpoint's `ca`.
fn roots(endpoint: &Endpoint) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // A system without roots is no error here: the file of `ca` may be all there is, and a server signed by neither is
    // refused by name later.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    add_own(&mut roots, endpoint)?;
    Ok(roots)
}

/// Adds the roots of the endpoint's `ca`, where it has one.
fn add_own(roots: &mut RootCertStore, endpoint: &Endpoint) -> Result<()> {
    if let Some(path) = &endpoint.ca {
        let unreadable = |reason: String| {
            Error::user(fault::CERTIFICATE_FILE, "the root certificate file of `ca` cannot be read")
                .with("file", path.display())
                .with("reason", reason)
                .help("give the path of a PEM file with at least one CERTIFICATE block")
        };
        let mut count = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))? {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(unreadable("no certificate in it".to_owned()));
        }
    }
    Ok(())
}

/// Checks the chain but not the name, or nothing where there are no roots. Handshake signatures are always checked.
#[derive(Debug)]
struct Lenient {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns `tls-server-end-point` (RFC 5929): the hash of the certificate by the hash function of its own signature.
///
/// `None` where that function is not one of SHA-1 (which counts as SHA-256), SHA-256, SHA-384 and SHA-512: then SCRAM
/// runs without binding, as the RFC leaves it undefined.
pub(crate) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (outer, _) = der_element(certificate, 0x30)?;
    let (_, after_body) = der_element(outer, 0x30)?;
    let (algorithm, _) = der_element(after_body, 0x30)?;
    let (identifier, _) = der_element(algorithm, 0x06)?;
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    let (last, family) = identifier.split_last()?;
    match (family, last) {
        (RSA, 5 | 11) | (ECDSA_SHA2, 2) => Some(sha2::Sha256::digest(certificate).to_vec()),
        (RSA, 12) | (ECDSA_SHA2, 3) => Some(sha2::Sha384::digest(certificate).to_vec()),
        (RSA, 13) | (ECDSA_SHA2, 4) => Some(sha2::Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// Returns the contents of the DER element at the start of `input`, and what follows it.
fn der_element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        rest = after;
    }
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_root_of_its_own_verify_ca_trusts_nobody() {
        let settings = crate::settings_from_url("postgres://app@db.local/shop").unwrap();
        let mut endpoint = Endpoint::from_settings(&settings, std::path::Path::new("/")).unwrap();
        assert!(client_config(&endpoint).is_ok());
        endpoint.protection = Protection::VerifyCa;
        let error = client_config(&endpoint).unwrap_err();
        assert!(error.code() == "R0305" && error.message().contains("has no `ca`"), "{error}");
    }

    #[test]
    fn a_certificate_is_hashed_by_the_function_of_its_signature() {
        // SEQUENCE { SEQUENCE {}, SEQUENCE { OID sha384WithRSAEncryption } }
        let oid = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
        let mut certificate = vec![0x30, 15, 0x30, 0, 0x30, 11];
        certificate.extend(oid);
        assert_eq!(server_end_point(&certificate).unwrap().len(), 48);
        assert_eq!(server_end_point(&certificate[..9]), None);
        assert_eq!(server_end_point(&[0x30, 0xff]), None);
    }
}
