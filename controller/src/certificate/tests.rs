//! Good, bad and changing pairs.

use std::os::unix::fs::symlink;
use std::path::Path;

use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::folder::Folder;
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

/// That `text` holds no line of the key that is `pem`, be it as text or as bytes.
pub(crate) fn assert_holds_no_key(text: &str, pem: &str) {
    let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    assert!(!body.is_empty());
    for line in body {
        let bytes = format!("{:?}", line.as_bytes());
        let bytes = bytes.trim_matches(['[', ']']);
        assert!(!text.contains(line) && !text.contains(bytes), "{text}");
    }
}

/// None yet, of the webhooks.
pub(crate) fn mk_certificate() -> Certificate {
    Certificate::new(&[Server::Webhooks], Arc::new(Metrics::new(&mut Registry::default())))
}

pub(crate) async fn load(path: &Path) -> Result<Folder, folder::FolderError> {
    Folder::load(path, mk_certificate()).await
}

#[tokio::test]
async fn what_cannot_be_used_names_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let error = async || load(path).await.unwrap_err().to_string();
    assert!(error().await.starts_with(&format!("{}: No such file", path.join(CERTIFICATE).display())));

    let (good, other) = (mk_pair(), mk_pair());
    std::fs::write(path.join(CERTIFICATE), &good.0).unwrap();
    assert!(error().await.starts_with(&format!("{}: No such file", path.join(KEY).display())));
    for (pair, told) in [
        ((String::new(), good.1.clone()), "tls.crt holds no certificate"),
        (
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(), good.1.clone()),
            "tls.crt: not a",
        ),
        ((good.0.clone(), "no key".into()), "tls.key: "),
        ((good.0.clone(), other.1), "tls.crt and tls.key cannot be used: "),
    ] {
        write(path, &pair);
        let error = error().await;
        assert!(error.starts_with(&format!("{}: {told}", path.display())), "{error}");
    }
    write(path, &good);
    load(path).await.unwrap();
}

#[tokio::test]
async fn a_broken_change_leaves_the_one_before_in_use() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (mk_pair(), mk_pair());
    write(folder.path(), &old);
    let mut loaded = load(folder.path()).await.unwrap();
    let (mut configs, states) = (loaded.certificate().configs(Alpn::H2), loaded.certificate().states());
    configs.mark_unchanged();
    assert!(!loaded.reload().await.unwrap());

    // Half of a change.
    write(folder.path(), &(new.0.clone(), old.1.clone()));
    let error = loaded.reload().await.unwrap_err().to_string();
    let mut certificate = mk_certificate();
    certificate.tell_problem(&error);
    assert_eq!(certificate.states().borrow().problem.as_ref(), Some(&error));
    assert!(!configs.has_changed().unwrap());
    write(folder.path(), &old);
    assert!(!loaded.reload().await.unwrap());
    assert_eq!(states.borrow().problem, None);

    write(folder.path(), &new);
    assert!(loaded.reload().await.unwrap());
    assert!(configs.has_changed().unwrap());
}

#[test]
fn a_problem_is_over_once_the_pair_in_use_is_back() {
    let (certificate, key) = mk_pair();
    let pair = Pair { certificate: certificate.into(), key: key.into() };
    let mut certificate = mk_certificate();
    assert!(certificate.take(pair.clone()).unwrap());
    certificate.tell_problem("gone");
    let state = certificate.states().borrow().clone();
    assert!(state.expires.is_some() && state.problem.is_some(), "{state:?}");
    assert!(!certificate.take(pair).unwrap());
    assert_eq!(certificate.states().borrow().problem, None);
}

#[test]
fn each_server_is_offered_its_protocol_alone() {
    let (certificate, key) = mk_pair();
    let mut shown = mk_certificate();
    assert!(shown.configs(Alpn::H2).borrow().is_none());
    shown.take(Pair { certificate: certificate.into(), key: key.into() }).unwrap();
    for (alpn, protocol) in [(Alpn::H2, &b"h2"[..]), (Alpn::Http1, b"http/1.1")] {
        assert_eq!(shown.configs(alpn).borrow().as_ref().unwrap().alpn_protocols, [protocol]);
    }
}

#[test]
fn no_key_is_shown_to_a_reader_of_logs() {
    let (certificate, key) = mk_pair();
    let pair = Pair { certificate: certificate.into(), key: key.clone().into() };
    let mut shown = mk_certificate();
    shown.take(pair.clone()).unwrap();
    let text = format!("{pair:?} {shown:?}");
    assert_holds_no_key(&text, &key);
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
    let mut loaded = load(folder.path()).await.unwrap();
    symlink("2", folder.path().join("..next")).unwrap();
    std::fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
    assert!(loaded.reload().await.unwrap());
}

#[tokio::test]
async fn files_that_are_swapped_between_two_reads_are_read_once_again() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (mk_pair(), mk_pair());
    write(folder.path(), &old);
    let mut loaded = load(folder.path()).await.unwrap();
    // Whoever opens a pipe to write waits until it is read: until the old certificate has been read.
    let path = folder.path().join(KEY);
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let swapped = folder.path().to_owned();
    let swap = tokio::task::spawn_blocking(move || {
        let mut pipe = std::fs::File::create(swapped.join(KEY)).unwrap();
        std::fs::remove_file(swapped.join(KEY)).unwrap();
        write(&swapped, &new);
        std::io::Write::write_all(&mut pipe, new.1.as_bytes()).unwrap();
    });
    assert!(loaded.reload().await.unwrap());
    swap.await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let (mut certificate, key) = mk_pair();
    let room = usize::try_from(folder::MAX_FILE).unwrap() - certificate.len();
    certificate.push_str(&"\n".repeat(room));
    write(folder.path(), &(certificate.clone(), key.clone()));
    load(folder.path()).await.unwrap();
    write(folder.path(), &(certificate + "\n", key));
    let error = load(folder.path()).await.unwrap_err().to_string();
    assert_eq!(error, format!("{}: larger than 1048576 bytes", folder.path().join(CERTIFICATE).display()));
}

#[tokio::test]
async fn an_expired_certificate_is_known() {
    for (year, expired) in [(2_020, true), (4_000, false)] {
        let (certificate, key) = mk_pair_until(year);
        let mut shown = mk_certificate();
        shown.take(Pair { certificate: certificate.into(), key: key.into() }).unwrap();
        shown.tell_expiry(UnixSeconds::now());
        assert_eq!(shown.told_expired, expired, "{year}");
    }
}
