//! What the Secret and the ConfigMap hold, read, and new certificates, made.
//!
//! Owns the names of the keys in both, and how they are read: whatever cannot be used is as if it were not there. What
//! is to be done about it is the [`plan`](mod@super::plan)'s to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;

use crate::certificate::x509::Cert;
use crate::certificate::{CERTIFICATE, KEY, Pair, UnixSeconds};

/// The authority that signs; in the ConfigMap, all that are to be trusted.
pub(super) const CA: &str = "ca.crt";
const CA_KEY: &str = "ca.key";

/// The authority that is to sign next.
const NEXT: &str = "next-ca.crt";
const NEXT_KEY: &str = "next-ca.key";

/// Authorities that signed before.
const PREVIOUS: &str = "previous-ca.crt";

/// How long an authority is valid. It is renewed after two thirds, so a leaf that it signed last ends before it.
pub(super) const AUTHORITY_LIFE: Duration = Duration::from_hours(365 * 24);

/// How long a leaf is valid.
pub(super) const LEAF_LIFE: Duration = Duration::from_hours(90 * 24);

/// Certificates are valid from so much before they are made: clocks of gateways and API servers may be behind.
pub(super) const BACKDATE: Duration = Duration::from_hours(1);

/// An authority.
#[derive(Clone)]
pub(super) struct Issuer {
    pub(super) cert: Cert,
    /// Its key; unset where there is none that fits.
    key: Option<String>,
}

/// What servers show.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) cert: Cert,
    pair: Pair,
}

/// The Secret.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    /// The authority that signs.
    pub(super) active: Option<Issuer>,
    pub(super) leaf: Option<Leaf>,
    /// The authority that is published already and is to sign next.
    pub(super) next: Option<Issuer>,
    /// Authorities whose leaves may still be shown, the newest last.
    pub(super) previous: Vec<Cert>,
}

/// The ConfigMap.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    /// The bundle as it is.
    pub(super) text: String,
    /// The certificates in it that can be read.
    pub(super) certs: Vec<Cert>,
    /// Since when nothing was added to the bundle; unset where that is not known.
    pub(super) since: Option<UnixSeconds>,
}

// === impl Issuer ===

impl Issuer {
    /// A new authority.
    pub(super) fn make(now: UnixSeconds) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(&format!("krypton-ca {now}"), now, now.after(AUTHORITY_LIFE));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&key)?;
        let cert = Cert::parse(made.der()).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        Ok(Self { cert, key: Some(key.serialize_pem()) })
    }

    /// A leaf for `names`, which ends before this authority does.
    pub(super) fn sign(&self, names: &BTreeSet<String>, now: UnixSeconds) -> Result<Leaf, rcgen::Error> {
        let signer = self.key.as_deref().ok_or(rcgen::Error::CouldNotParseKeyPair)?;
        let issuer = rcgen::Issuer::from_ca_cert_der(self.cert.der(), KeyPair::from_pem(signer)?)?;
        let key = KeyPair::generate()?;
        let end = now.after(LEAF_LIFE).min(self.cert.not_after());
        // RFC 5280: a subject is not needed where there are names, and a common name has room for 64 characters only.
        let mut params = params("krypton-controller", now, end);
        let names: Vec<String> = names.iter().cloned().collect();
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(&key, &issuer)?;
        let pair = Pair { certificate: made.pem().into_bytes(), key: key.serialize_pem().into_bytes() };
        let cert = Cert::parse(made.der()).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        Ok(Leaf { cert, pair })
    }

    /// Whether it may and can sign at `now`.
    pub(super) fn can_sign(&self, now: UnixSeconds) -> bool {
        self.key.is_some() && self.cert.is_authority() && self.cert.is_valid(now)
    }

    /// The same, unable to sign.
    pub(super) fn without_key(self) -> Self {
        Self { key: None, ..self }
    }

    fn read(certificate: Option<&ByteString>, key: Option<&ByteString>) -> Option<Self> {
        let cert = certs(&certificate?.0).into_iter().next()?;
        let fits =
            |key: &String| KeyPair::from_pem(key).is_ok_and(|pair| pair.der_bytes() == cert.public_key());
        let key = key.and_then(|key| String::from_utf8(key.0.clone()).ok()).filter(fits);
        Some(Self { cert, key })
    }
}

impl std::fmt::Debug for Issuer {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("not_after", &self.cert.not_after()).finish_non_exhaustive()
    }
}

// === impl Leaf ===

impl Leaf {
    /// Whether clients who trust `authority` alone accept it at `now`, whatever they call the server.
    pub(super) fn is_accepted_by(&self, authority: &Cert, now: UnixSeconds) -> bool {
        if !authority.is_valid(now) {
            // Not every verifier minds the time of what it trusts; that of Go does.
            return false;
        }
        let mut roots = RootCertStore::empty();
        let Ok(leaf) = ParsedCertificate::try_from(self.cert.der()) else { return false };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.0));
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        roots.add(authority.der().clone()).is_ok()
            && verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], now, algorithms).is_ok()
    }

    /// When it was made, by one of us.
    pub(super) fn made(&self) -> UnixSeconds {
        self.cert.not_before().after(BACKDATE)
    }
}

impl std::fmt::Debug for Leaf {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("not_after", &self.cert.not_after()).finish_non_exhaustive()
    }
}

// === impl Stored ===

impl Stored {
    /// What can be used of `data`.
    pub(super) fn read(data: &BTreeMap<String, ByteString>) -> Self {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let pair = data.get(CERTIFICATE).zip(data.get(KEY));
        let pair =
            pair.map(|(certificate, key)| Pair { certificate: certificate.0.clone(), key: key.0.clone() });
        let leaf = pair.and_then(|pair| {
            let (cert, _) = pair.open(&provider).ok()?;
            Some(Leaf { cert, pair })
        });
        Self {
            active: Issuer::read(data.get(CA), data.get(CA_KEY)),
            leaf,
            next: Issuer::read(data.get(NEXT), data.get(NEXT_KEY)),
            previous: data.get(PREVIOUS).map(|text| certs(&text.0)).unwrap_or_default(),
        }
    }

    /// Every key that the Secret is to have; `None`: not that one.
    pub(super) fn data(&self) -> BTreeMap<&'static str, Option<ByteString>> {
        let text = |text: String| (!text.is_empty()).then(|| ByteString(text.into_bytes()));
        let cert =
            |issuer: &Option<Issuer>| text(issuer.as_ref().map(|one| one.cert.pem()).unwrap_or_default());
        let key = |issuer: &Option<Issuer>| {
            text(issuer.as_ref().and_then(|one| one.key.clone()).unwrap_or_default())
        };
        let pair = self.leaf.as_ref().map(|leaf| leaf.pair.clone());
        BTreeMap::from([
            (CERTIFICATE, pair.clone().map(|pair| ByteString(pair.certificate))),
            (KEY, pair.map(|pair| ByteString(pair.key))),
            (CA, cert(&self.active)),
            (CA_KEY, key(&self.active)),
            (NEXT, cert(&self.next)),
            (NEXT_KEY, key(&self.next)),
            (PREVIOUS, text(bundle(&self.previous))),
        ])
    }
}

// === impl Published ===

impl Published {
    /// What is in the ConfigMap's `data`; `since` is what its annotation says.
    pub(super) fn read(data: &BTreeMap<String, String>, since: Option<&str>) -> Self {
        let text = data.get(CA).cloned().unwrap_or_default();
        Self { certs: certs(text.as_bytes()), text, since: since.and_then(UnixSeconds::parse) }
    }

    /// Whether `cert` is in the bundle.
    pub(super) fn has(&self, cert: &Cert) -> bool {
        self.certs.contains(cert)
    }
}

/// `certs` as one text.
pub(super) fn bundle(certs: &[Cert]) -> String {
    certs.iter().map(Cert::pem).collect()
}

/// The certificates in `text`, as far as they can be read.
fn certs(text: &[u8]) -> Vec<Cert> {
    let ders = CertificateDer::pem_slice_iter(text).map_while(Result::ok);
    ders.filter_map(|der| Cert::parse(&der).ok()).collect()
}

fn params(name: &str, now: UnixSeconds, end: UnixSeconds) -> CertificateParams {
    let time = |moment: UnixSeconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(moment.0);
    let mut params = CertificateParams::default();
    params.not_before = time(now.before(BACKDATE));
    params.not_after = time(end);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
