//! Good, bad and changing files.

use std::os::unix::fs::symlink;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

/// A certificate for `localhost` and its key, as PEM.
pub(crate) fn mk_pair() -> (String, String) {
    mk_pair_until(4_000)
}

fn mk_pair_until(year: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2_000, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

pub(crate) fn write(folder: &Path, pair: &(String, String)) {
    std::fs::write(folder.join(CERTIFICATE), &pair.0).unwrap();
    std::fs::write(folder.join(KEY), &pair.1).unwrap();
}

#[tokio::test]
async fn what_cannot_be_used_names_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let error = async || Certificate::load(path, Usage::Webhooks).await.unwrap_err().to_string();
    assert!(error().await.starts_with(&format!("{}: No such file", path.join(CERTIFICATE).display())));

    let (good, other) = (mk_pair(), mk_pair());
    std::fs::write(path.join(CERTIFICATE), &good.0).unwrap();
    assert!(error().await.starts_with(&format!("{}: No such file", path.join(KEY).display())));
    write(path, &(String::new(), good.1.clone()));
    assert_eq!(error().await, format!("{} holds no certificate", path.join(CERTIFICATE).display()));
    write(path, &(good.0.clone(), "no key".into()));
    assert!(error().await.starts_with(&format!("{}: ", path.join(KEY).display())));
    write(path, &(good.0.clone(), other.1));
    let unfit = error().await;
    assert!(
        unfit.starts_with(&format!("tls.crt and tls.key in {} cannot be used: ", path.display())),
        "{unfit}"
    );
    write(path, &good);
    Certificate::load(path, Usage::Webhooks).await.unwrap();
}

#[tokio::test]
async fn a_broken_change_leaves_the_one_before_in_use() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (mk_pair(), mk_pair());
    write(folder.path(), &old);
    let mut certificate = Certificate::load(folder.path(), Usage::Webhooks).await.unwrap();
    let mut configs = certificate.configs();
    configs.mark_unchanged();
    assert!(!certificate.reload().await.unwrap());

    // Half of a change.
    write(folder.path(), &(new.0.clone(), old.1.clone()));
    let error = certificate.reload().await.unwrap_err();
    certificate.tell_error(&error);
    assert_eq!(certificate.told_error, Some(error.to_string()));
    assert!(!configs.has_changed().unwrap());
    // Back to what is in use: there is something to tell again when it breaks the same way.
    write(folder.path(), &old);
    assert!(!certificate.reload().await.unwrap());
    assert_eq!(certificate.told_error, None);

    write(folder.path(), &new);
    assert!(certificate.reload().await.unwrap());
    assert!(configs.has_changed().unwrap());
}

#[tokio::test]
async fn a_secret_that_is_swapped_by_its_link_is_seen() {
    let folder = TempDir::new().unwrap();
    for version in ["1", "2"] {
        std::fs::create_dir(folder.path().join(version)).unwrap();
        write(&folder.path().join(version), &mk_pair());
    }
    // As the kubelet mounts a Secret.
    symlink("1", folder.path().join("..data")).unwrap();
    for file in [CERTIFICATE, KEY] {
        symlink(Path::new("..data").join(file), folder.path().join(file)).unwrap();
    }
    let mut certificate = Certificate::load(folder.path(), Usage::Webhooks).await.unwrap();
    symlink("2", folder.path().join("..next")).unwrap();
    std::fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
    assert!(certificate.reload().await.unwrap());
}

#[tokio::test]
async fn an_expired_certificate_is_known() {
    let folder = TempDir::new().unwrap();
    for (year, expired) in [(2_020, true), (4_000, false)] {
        write(folder.path(), &mk_pair_until(year));
        let certificate = Certificate::load(folder.path(), Usage::Webhooks).await.unwrap();
        assert_eq!(certificate.told_expired, expired, "{year}");
    }
}
