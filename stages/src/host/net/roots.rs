// SPDX-License-Identifier: Apache-2.0
//! Whom to trust: the distribution's bundle of certificate authorities and those that a configuration names.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::host::environment;

/// Where distributions keep their bundle; the first that exists counts. Debian, Fedora, RHEL, openSUSE, Alpine.
pub(crate) const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Reads a PEM text with one certificate or more.
///
/// # Errors
/// What is wrong with it, as a clause.
pub fn parse_bundle(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("it is no PEM text ({error})"))?;
    if certificates.is_empty() {
        return Err("it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".into());
    }
    for (index, certificate) in certificates.iter().enumerate() {
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|error| format!("its certificate number {} can't be used ({error})", index + 1))?;
    }
    Ok(certificates)
}

/// The settings of all TLS connections.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    pub(crate) config: Arc<ClientConfig>,
    /// Who is trusted, in words.
    pub(crate) shown: String,
}

/// Trusts the first bundle that is there, and these authorities beside it.
///
/// # Errors
/// Why no server could be trusted, as a clause.
pub(crate) fn client_config(bundles: &[PathBuf], authorities: &[CertificateDer<'static>]) -> Result<Trust, String> {
    let mut roots = RootCertStore::empty();
    let mut known = String::from("no bundle of the distribution");
    let mut read = None;
    if let Some((bundle, text)) = bundles.iter().find_map(|bundle| Some((bundle, fs::read(bundle).ok()?))) {
        // What a distribution trusts but this TLS library can't use is no reason to stop.
        let (good, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).filter_map(Result::ok));
        known = format!("{good} in {}", bundle.display());
        read = Some(bundle);
    }
    let shown = format!("{known} and {} of the configuration", authorities.len());
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| format!("a certificate authority can't be used ({error})"))?;
    }
    if let (true, Some(bundle)) = (roots.is_empty(), read) {
        return Err(format!(
            "no certificate authority is known: {} holds no certificate that can be used, and the configuration names none",
            bundle.display()
        ));
    }
    if roots.is_empty() {
        let places: Vec<_> = bundles.iter().map(|bundle| bundle.display().to_string()).collect();
        return Err(format!(
            "no certificate authority is known: none of {} is there, and the configuration names none",
            places.join(", ")
        ));
    }
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier = Verifier { roots, named: authorities.to_vec(), algorithms };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Trust { config: Arc::new(config), shown })
}

/// The bundles to look for: `SSL_CERT_FILE` as `OpenSSL` and Go have it, or [`BUNDLES`].
pub(crate) fn default_bundles() -> Vec<PathBuf> {
    match environment::variable("SSL_CERT_FILE") {
        Some(file) => vec![file.into()],
        None => BUNDLES.iter().map(|path| Path::new(path).to_owned()).collect(),
    }
}

/// The usual verification, with one addition: a server's certificate that the configuration itself names is trusted even if
/// it calls itself an authority, as self-signed ones made by `openssl req -x509` do. Go's verifier, and so Ignition, has it so.
///
/// Like rustls's own [`rustls::client::WebPkiServerVerifier`], but without its reader of revocation lists, which has 13 kB.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    named: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms) {
            // Its dates were found good before its kind was found wanting (rustls-webpki, verify_cert.rs).
            Err(error) if is_authority(&error) && self.named.iter().any(|named| named == end_entity) => {}
            result => result?,
        }
        verify_server_name(&parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// rustls wraps webpki's error as a text, for want of a variant.
fn is_authority(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(other))
        if other.to_string().contains("CaUsedAsEndEntity"))
}
