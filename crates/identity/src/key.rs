//! A private key, made where it is used. It leaves the process only into its own file.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{
    CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use zeroize::Zeroizing;

/// Why a key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system has no randomness, or the library failed.
    #[error("a P-256 key could not be made; does this system have a source of randomness?")]
    Make,
    /// Not PKCS#8, or not P-256.
    #[error("this is no P-256 key in PKCS#8 form; remove the file to have a new key made")]
    Unreadable,
    /// Signing failed.
    #[error("the certificate request could not be signed")]
    Sign,
}

/// A P-256 key pair (RFC 5480). Its bytes are wiped from memory when it is dropped.
pub struct KeyPair {
    signer: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl KeyPair {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError::Make)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// A key in PKCS#8 DER (RFC 5958).
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let signer =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map_err(|_| KeyError::Unreadable)?;
        Ok(Self { signer, pkcs8: Zeroizing::new(der.to_vec()) })
    }

    /// The first `PRIVATE KEY` section of a PEM text.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| KeyError::Unreadable)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// PKCS#8 DER.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// PEM, for a file that only its owner reads.
    pub fn to_pem(&self) -> Zeroizing<String> {
        crate::pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// A certificate request (PKCS #10, RFC 2986) in DER. It proves possession of the key and asks for no name: what
    /// goes into the certificate is decided by the issuer, from the proof that came along.
    pub fn csr(&self) -> Result<Vec<u8>, KeyError> {
        let mut request = CertificateParams::default();
        request.distinguished_name = DistinguishedName::new();
        Ok(request.serialize_request(self).map_err(|_| KeyError::Sign)?.der().to_vec())
    }

    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()).into()
    }
}

impl Clone for KeyPair {
    fn clone(&self) -> Self {
        Self::from_pkcs8(&self.pkcs8).expect("these bytes were read as a key before")
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(P-256, redacted)")
    }
}

impl PublicKeyData for KeyPair {
    fn der_bytes(&self) -> &[u8] {
        self.signer.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for KeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.signer.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_ref().to_vec())
    }
}
