//! The controllers' certificates, and whether the API server believes them.

use std::collections::BTreeSet;
use std::time::Duration;

use x509_parser::pem::Pem;

use crate::doctor::gather::{Certificate, Gathered};
use crate::findings::{Finding, Level};

/// A certificate that is not renewed by now will not be: those of the controllers and of cert-manager are renewed when
/// a third of their time is left.
const SOON: Duration = Duration::from_hours(24 * 7);

/// What of a certificate is judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Facts {
    der: Vec<u8>,
    subject: String,
    issuer: String,
    /// Since 1970.
    not_after: Duration,
}

/// Expiry, and the webhooks' CA.
pub(crate) fn all(gathered: &Gathered, now: Duration) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        gathered.certificates.iter().map(|certificate| expiry(certificate, now)).collect();
    findings.extend(gathered.missing_secrets.iter().map(|secret| missing(secret, &gathered.namespace)));
    findings.extend(webhooks(gathered));
    findings
}

fn missing(secret: &str, namespace: &str) -> Finding {
    let message = format!("does not exist in {namespace}, and pods wait for it");
    Finding::new(Level::Problem, "NoSecret", format!("Secret {secret}"), message).todo(
        "make it with tls.crt, tls.key and ca.crt, or see certificates.source and certificates.secretName in the chart's \
         values; with cert-manager, the Certificate's status says what keeps it",
    )
}

fn expiry(certificate: &Certificate, now: Duration) -> Finding {
    let about = format!("Secret {}", certificate.secret);
    let Some(leaf) = facts(&certificate.chain).into_iter().next() else {
        return Finding::new(Level::Problem, "NoCertificate", about, "has no certificate in tls.crt").todo(
            "see certificates.source in the chart's values: the leading controller, cert-manager or you fill it; the \
             controllers' log and the Certificate's status say what keeps them",
        );
    };
    let left = leaf.not_after.saturating_sub(now);
    let days = left.as_secs() / (24 * 60 * 60);
    if left.is_zero() {
        Finding::new(Level::Problem, "CertificateExpired", about, "its certificate has expired")
            .todo("renew it: gateways refuse the controllers, and the API server their webhooks")
    } else if left < SOON {
        Finding::new(
            Level::Warning,
            "CertificateExpires",
            about,
            format!("its certificate ends in {days} days"),
        )
        .todo("renew it, or see why it was not renewed by itself")
    } else {
        Finding::new(Level::Good, "Certificate", about, format!("its certificate is good for {days} days"))
    }
}

/// Whether the CA that the API server was told signs what the webhooks serve.
fn webhooks(gathered: &Gathered) -> Vec<Finding> {
    // With intermediate ones: the API server walks the chain that is served up to a CA that it was told.
    let served: Vec<Facts> = gathered.certificates.iter().flat_map(|one| facts(&one.chain)).collect();
    let mut authorities: BTreeSet<Vec<u8>> =
        ders(gathered.authority.as_deref().unwrap_or_default().as_bytes());
    authorities.extend(gathered.certificates.iter().flat_map(|one| ders(&one.ca)));
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for hook in gathered.webhooks.iter().filter(|hook| seen.insert(&hook.configuration)) {
        let about = hook.configuration.clone();
        let bundle = facts(&hook.ca_bundle);
        let is_known = bundle.iter().any(|ca| authorities.contains(&ca.der));
        let signs = bundle.iter().any(|ca| served.iter().any(|one| one.issuer == ca.subject));
        // Without a certificate that was read there is nothing to hold it to.
        if served.is_empty() && !bundle.is_empty() {
            continue;
        }
        findings.push(if bundle.is_empty() {
            Finding::new(
                Level::Problem,
                "NoCaBundle",
                about,
                "has no caBundle: the API server cannot call the webhook",
            )
            .todo("the leading controller or cert-manager fills it; their logs say what keeps them")
        } else if signs && (is_known || authorities.is_empty()) {
            Finding::new(Level::Good, "CaBundle", about, "its caBundle is that of the certificate")
        } else {
            let message = "its caBundle is not of the CA that signed the webhooks' certificate";
            Finding::new(Level::Problem, "WrongCaBundle", about, message)
                .todo("delete the caBundle and restart the controllers, or see cert-manager's injection")
        });
    }
    findings
}

/// The certificates in `pem`; what is none is left out.
fn facts(pem: &[u8]) -> Vec<Facts> {
    let blocks = Pem::iter_from_buffer(pem).filter_map(Result::ok);
    blocks
        .filter_map(|block| {
            let certificate = block.parse_x509().ok()?;
            let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
            Some(Facts {
                subject: certificate.subject().to_string(),
                issuer: certificate.issuer().to_string(),
                not_after: Duration::from_secs(not_after),
                der: block.contents.clone(),
            })
        })
        .collect()
}

fn ders(pem: &[u8]) -> BTreeSet<Vec<u8>> {
    facts(pem).into_iter().map(|facts| facts.der).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;
    use crate::doctor::gather::Webhook;

    /// A CA, and a certificate that it signed, good until the begin of 2027; PEM.
    fn signed(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, name);
        let ca_pem = ca.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(ca, key);
        let mut leaf = CertificateParams::new(vec!["krypton-controller".to_owned()]).unwrap();
        leaf.not_before = date_time_ymd(2026, 1, 1);
        leaf.not_after = date_time_ymd(2027, 1, 1);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        (ca_pem, leaf.pem())
    }

    /// 2027-01-01.
    const END: Duration = Duration::from_hours(499_656);

    fn certificate(chain: &str, ca: &str) -> Certificate {
        Certificate { secret: "krypton-certificates".to_owned(), chain: chain.into(), ca: ca.into() }
    }

    #[test]
    fn a_certificate_is_judged_by_what_is_left_of_it() {
        let (ca, leaf) = signed("one");
        let named = |days: u64| {
            expiry(&certificate(&leaf, &ca), END.saturating_sub(Duration::from_hours(24 * days))).name
        };
        assert_eq!((named(60), named(5)), ("Certificate".to_owned(), "CertificateExpires".to_owned()));
        assert_eq!(expiry(&certificate(&leaf, &ca), END).name, "CertificateExpired");
        assert_eq!(expiry(&certificate("", ""), END).name, "NoCertificate");
        assert_eq!(expiry(&certificate("nonsense", ""), END).name, "NoCertificate");
    }

    #[test]
    fn a_secret_that_does_not_exist_is_told() {
        let missing_secrets = vec!["discovery-tls".to_owned()];
        let findings = all(&Gathered { missing_secrets, ..Gathered::default() }, END);
        let told: Vec<_> = findings.iter().map(|one| (one.name.as_str(), one.about.as_str())).collect();
        assert_eq!(told, [("NoSecret", "Secret discovery-tls")]);
    }

    #[test]
    fn a_ca_bundle_is_held_to_the_certificate() {
        let (ca, leaf) = signed("one");
        let (other, _) = signed("two");
        let (impostor, _) = signed("one");
        let judged = |bundle: &str| {
            let hook = Webhook {
                configuration: "ValidatingWebhookConfiguration k".to_owned(),
                ca_bundle: bundle.into(),
            };
            let gathered = Gathered {
                certificates: vec![certificate(&leaf, &ca)],
                webhooks: vec![hook.clone(), hook],
                ..Gathered::default()
            };
            let findings = webhooks(&gathered);
            assert_eq!(findings.len(), 1, "once for each configuration");
            findings[0].name.clone()
        };
        assert_eq!(judged(&ca), "CaBundle");
        assert_eq!(judged(&format!("{other}{ca}")), "CaBundle");
        assert_eq!(judged(&other), "WrongCaBundle");
        assert_eq!(judged(&impostor), "WrongCaBundle");
        assert_eq!(judged(""), "NoCaBundle");
    }

    #[test]
    fn without_the_certificate_nothing_is_said_of_the_bundle() {
        let (ca, _) = signed("one");
        let hook = |bundle: &str| Webhook { configuration: "W".to_owned(), ca_bundle: bundle.into() };
        let judged = |bundle| webhooks(&Gathered { webhooks: vec![hook(bundle)], ..Gathered::default() });
        assert_eq!(judged(&ca), []);
        assert_eq!(judged("")[0].name, "NoCaBundle");
    }

    #[test]
    fn a_ca_bundle_may_sign_an_intermediate_certificate() {
        let key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(DnType::CommonName, "root");
        let root_pem = root.self_signed(&key).unwrap().pem();
        let root = Issuer::new(root, key);
        let key = KeyPair::generate().unwrap();
        let mut middle = CertificateParams::new(Vec::new()).unwrap();
        middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        middle.distinguished_name.push(DnType::CommonName, "middle");
        let middle_pem = middle.signed_by(&key, &root).unwrap().pem();
        let leaf = CertificateParams::new(vec!["krypton-controller".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(middle, key)).unwrap().pem();
        let hook = Webhook { configuration: "W".to_owned(), ca_bundle: root_pem.clone().into() };
        let judged = |chain: &str| {
            let gathered = Gathered {
                certificates: vec![certificate(chain, &root_pem)],
                webhooks: vec![hook.clone()],
                ..Gathered::default()
            };
            webhooks(&gathered)[0].name.clone()
        };
        assert_eq!(judged(&format!("{leaf}{middle_pem}")), "CaBundle");
        assert_eq!(judged(&leaf), "WrongCaBundle", "nothing leads to the root");
    }
}
