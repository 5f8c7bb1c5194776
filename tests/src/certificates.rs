//! The credentials of a control plane of one run: made at its start, worth nothing after it.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The file that signs the others, in the folder of a control plane.
pub(crate) const CA: &str = "ca.crt";

/// Files of one control plane, all PEM.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// Signs the API server's certificate.
    pub(crate) ca: PathBuf,
    /// The API server's certificate and key.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// By which the API server shows a kubelet who it is.
    pub(crate) kubelet_certificate: PathBuf,
    pub(crate) kubelet_key: PathBuf,
    /// Sign and check the tokens of service accounts.
    pub(crate) token_key: PathBuf,
    pub(crate) token_public_key: PathBuf,
}

impl Credentials {
    /// Makes them in `folder`, for an API server called by `names` (host names and addresses).
    pub(crate) fn create(folder: &Path, names: &[&str]) -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca_params = CertificateParams::new(Vec::new())?;
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = ca_params.self_signed(&ca_key)?;

        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let issuer = Issuer::new(ca_params, ca_key);
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;

        let kubelet_key = KeyPair::generate()?;
        let mut client = CertificateParams::new(Vec::new())?;
        client.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client = client.signed_by(&kubelet_key, &issuer)?;

        let token_key = KeyPair::generate()?;
        Ok(Self {
            ca: write(folder, CA, &ca.pem())?,
            certificate: write(folder, "apiserver.crt", &certificate.pem())?,
            key: write(folder, "apiserver.key", &key.serialize_pem())?,
            kubelet_certificate: write(folder, "kubelet-client.crt", &client.pem())?,
            kubelet_key: write(folder, "kubelet-client.key", &kubelet_key.serialize_pem())?,
            token_key: write(folder, "token.key", &token_key.serialize_pem())?,
            token_public_key: write(folder, "token.pub", &token_key.public_key_pem())?,
        })
    }
}

/// A token that nobody guesses.
pub(crate) fn token() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

/// Writes a file that only its owner may read.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    use std::io::Write as _;
    let path = folder.join(name);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
