//! What was written is read; what was not is refused by name.

use std::os::unix::fs::PermissionsExt as _;

use krypton_discovery::EndpointPolicy;
use proptest::prelude::*;

use super::*;
use crate::route_table::RouteTableWriter;
use crate::route_table::test_util::mk_resource;

fn mk_writer(agents: u32) -> RouteTableWriter {
    let mut writer = RouteTableWriter::new(EndpointPolicy::default());
    for n in 0..agents {
        writer.upsert(mk_resource(&format!("ns/agent-{n}"), &[(format!("10.0.0.1:{}", n + 1), "uid")]));
    }
    writer.set_freshness(Freshness::Live);
    writer
}

fn mk_file(agents: u32) -> (tempfile::TempDir, PathBuf, RouteTableWriter) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let writer = mk_writer(agents);
    save(&path, &writer.handle(), SystemTime::now()).unwrap();
    (folder, path, writer)
}

/// The bytes with the checksum that belongs to them.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - TRAILER_BYTES);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

#[test]
fn what_was_written_is_read() {
    let (folder, path, writer) = mk_file(100);
    let stored = load(&path).unwrap().unwrap();
    let mut held: Vec<_> = writer.held().collect();
    let mut read: Vec<_> = stored.routes.iter().map(|r| (r.key().clone(), r.version())).collect();
    held.sort();
    read.sort();
    assert_eq!(read, held);
    assert!(stored.rejected.is_empty());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn the_age_is_told() {
    let (_folder, path, writer) = mk_file(1);
    let now = SystemTime::now();
    save(&path, &writer.handle(), now).unwrap();
    let bytes = fs::read(&path).unwrap();
    let age = |at| decode(&bytes, at).unwrap().age.as_secs();
    assert!((60..=61).contains(&age(now + Duration::from_mins(1))));
    assert_eq!(age(now - Duration::from_mins(1)), 0, "a clock that went back");
}

#[test]
fn no_file_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(load(&folder.path().join("none")).unwrap().is_none());
    assert!(matches!(load(folder.path()), Err(SnapshotFileError::NotAFile)));
}

#[test]
fn what_is_not_ours_is_refused() {
    let (_folder, path, _writer) = mk_file(3);
    let good = fs::read(&path).unwrap();
    let read = |bytes: &[u8]| decode(bytes, SystemTime::now());
    assert!(matches!(read(b""), Err(SnapshotFileError::Foreign)));
    assert!(matches!(read(b"#!/bin/sh\nexit 0\n"), Err(SnapshotFileError::Foreign)));

    let mut newer = good.clone();
    newer[8] = 2;
    assert_eq!(read(&newer).unwrap_err().to_string(), "written in format 2, this release reads 1");

    for end in MAGIC.len()..good.len() {
        let cut = read(&good[..end]).unwrap_err();
        assert!(matches!(cut, SnapshotFileError::Checksum), "cut at {end}: {cut}");
    }
    let mut padded = good;
    padded.insert(HEADER_BYTES, 0xff);
    assert!(matches!(read(&sealed(padded)), Err(SnapshotFileError::Route { index: 0, .. })));
}

#[test]
fn a_route_that_this_release_cannot_read_is_left_out() {
    let (_folder, path, _writer) = mk_file(2);
    let good = fs::read(&path).unwrap();
    let odd = wire::RouteResource { name: "ns/odd".to_owned(), version: vec![0; 16], route: None };
    let mut bytes = good[..good.len() - TRAILER_BYTES].to_vec();
    bytes.extend(odd.encode_length_delimited_to_vec());
    bytes.extend([0; TRAILER_BYTES]);
    let stored = decode(&sealed(bytes), SystemTime::now()).unwrap();
    assert_eq!(stored.routes.len(), 2);
    assert_eq!(stored.rejected[0].to_string(), "ns/odd: route: missing");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    // Sparse: takes no room on the disk.
    File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    assert!(matches!(load(&path), Err(SnapshotFileError::TooLarge(bytes)) if bytes == MAX_FILE_BYTES + 1));
}

#[tokio::test]
async fn only_a_whole_table_that_changed_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = mk_writer(1);
    let mut file = SnapshotFile::new(folder.path().join("table"), writer.handle(), Counter::default());
    let from_disk = Freshness::FromDisk { loaded: Instant::now(), age: Duration::ZERO };
    for partial in [Freshness::Empty, from_disk] {
        writer.set_freshness(partial);
        assert!(!file.save_if_changed().await);
    }
    writer.set_freshness(Freshness::Live);
    assert!(file.save_if_changed().await);
    assert!(!file.save_if_changed().await);
    writer.remove("ns/agent-0");
    assert!(file.save_if_changed().await);
    assert!(load(&file.path).unwrap().unwrap().routes.is_empty());

    // A change that came just before the controller went is not forgotten, nor made younger.
    writer.upsert(mk_resource("ns/late", &[("10.0.0.1:80", "")]));
    let hour_ago = Instant::now().checked_sub(Duration::from_hours(1)).unwrap();
    writer.set_freshness(Freshness::Lost { since: hour_ago });
    assert!(file.save_if_changed().await);
    let stored = load(&file.path).unwrap().unwrap();
    assert_eq!(stored.routes.len(), 1);
    assert!((3600..3660).contains(&stored.age.as_secs()));
}

#[tokio::test]
async fn a_failed_write_keeps_the_old_file_and_lengthens_the_pause() {
    let (_folder, path, mut writer) = mk_file(1);
    let mut file = SnapshotFile::new(path.clone(), writer.handle(), Counter::default());
    // A folder in the way of the temporary file fails for root too, unlike permissions.
    let in_the_way = temporary_path(&path);
    fs::create_dir(&in_the_way).unwrap();
    writer.upsert(mk_resource("ns/new", &[("10.0.0.1:80", "")]));
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(file.pause(), Duration::from_secs(expected));
        assert!(!file.save_if_changed().await);
    }
    assert_eq!(load(&path).unwrap().unwrap().routes.len(), 1);
    assert_eq!(file.failed.get(), 8);
    fs::remove_dir(in_the_way).unwrap();
    assert!(file.save_if_changed().await);
    assert_eq!(file.pause(), WRITE_INTERVAL);
    assert_eq!(load(&path).unwrap().unwrap().routes.len(), 2);
}

#[tokio::test]
async fn what_changed_last_is_written_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let writer = mk_writer(3);
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    SnapshotFile::new(path.clone(), writer.handle(), Counter::default()).run(shutdown).await;
    assert_eq!(load(&path).unwrap().unwrap().routes.len(), 3);
}

proptest! {
    #[test]
    fn damage_is_always_noticed(at: prop::sample::Index, flip in 1u8..) {
        let (_folder, path, _writer) = mk_file(2);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(decode(&bytes, SystemTime::now()).is_err());
    }

    #[test]
    fn garbage_never_panics(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(tail);
        bytes.extend([0; TRAILER_BYTES]);
        decode(&sealed(bytes), SystemTime::now()).ok();
    }
}
