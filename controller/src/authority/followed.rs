//! One object that the leader looks after: what is known of it, what was told of it, and when it may be written again.
//!
//! Never calls the API server.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use krypton_crd::keys;
use kube::Resource;
use kube::api::ObjectMeta;
use tokio::time::Instant;

use super::WorkError;
use crate::reconcile::api::CallError;
use crate::reconcile::live::is_newer;
use crate::source::kube::single::Sight;

/// Where somebody else writes the opposite, it is put right so often at most: not a fight.
const REPAIR: Duration = Duration::from_secs(30);

/// Whoever left the object alone for so long fights no more.
const CALM: Duration = Duration::from_mins(10);

/// Problems that are remembered as told: errors may differ in every word, and nobody reads them all.
const MAX_TOLD: usize = 8;

/// One object.
pub(super) struct Followed<K> {
    /// Kind and name, for people.
    what: String,
    known: Known<K>,
    /// Whether a look at it failed before anything was known.
    is_out_of_sight: bool,
    /// What was written last in this term.
    written: Option<Written>,
    /// When it was last written over what somebody else had written after us.
    repaired: Option<Instant>,
    /// Whether the log knows of a fight.
    told_fight: bool,
    /// What the log knows until the object is seen again.
    unseen: Told,
    /// What the log knows until it is written again.
    unwritten: Told,
}

/// What is known of an object.
enum Known<K> {
    /// Nothing yet.
    Unknown,
    Absent,
    There(K),
}

/// The object as a write left it.
struct Written {
    uid: Option<String>,
    version: String,
}

/// Problems that the log knows.
#[derive(Default)]
pub(super) struct Told(BTreeSet<String>);

// === impl Told ===

impl Told {
    /// Says `problem` if it is new.
    pub(super) fn tell(&mut self, problem: String) {
        if self.0.len() < MAX_TOLD && !self.0.contains(&problem) {
            log::warn!(error = problem; "The controllers' certificate cannot be looked after");
            self.0.insert(problem);
        }
    }

    /// They are over.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

// === impl Followed ===

impl<K: Resource> Followed<K> {
    /// Nothing is known yet of the object that people call `what`.
    pub(super) fn new(what: String) -> Self {
        Self {
            what,
            known: Known::Unknown,
            is_out_of_sight: false,
            written: None,
            repaired: None,
            told_fight: false,
            unseen: Told::default(),
            unwritten: Told::default(),
        }
    }

    pub(super) fn there(&self) -> Option<&K> {
        match &self.known {
            Known::There(object) => Some(object),
            Known::Unknown | Known::Absent => None,
        }
    }

    /// Whether it was looked for, with whatever result.
    pub(super) fn was_looked_for(&self) -> bool {
        self.is_out_of_sight || !matches!(self.known, Known::Unknown)
    }

    /// Takes `sight` in and tells what is wrong with it, once.
    pub(super) fn take(&mut self, sight: Sight<K>) {
        match sight {
            Sight::There(object) => {
                self.unseen.clear();
                if !self.is_older_than_written(object.meta()) {
                    self.known = Known::There(object);
                }
            }
            Sight::Absent => {
                self.known = Known::Absent;
                self.unseen
                    .tell(format!("{} does not exist; whoever installs the controller makes it", self.what));
            }
            Sight::Failed(error) => {
                self.is_out_of_sight = true;
                self.unseen.tell(format!("{} cannot be read: {error}", self.what));
            }
        }
    }

    /// For how long it must not be written now; `None`: it may be. Told is a fight, once.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let theirs = self.there().map(Resource::meta).filter(|seen| self.is_of_others(seen))?;
        let wait = (self.repaired? + REPAIR).saturating_duration_since(now);
        if wait.is_zero() {
            return None;
        }
        let by = last_manager(theirs.managed_fields.as_deref().unwrap_or_default())
            .unwrap_or("unknown")
            .to_owned();
        if !std::mem::replace(&mut self.told_fight, true) {
            log::warn!(object = self.what, by, seconds = REPAIR.as_secs();
                "Somebody else undoes what the controllers' certificate needs; it is repaired so often at most");
        }
        Some(wait)
    }

    /// Takes in what came of a write at `now`.
    pub(super) fn wrote(&mut self, written: Result<K, CallError>, now: Instant) -> Result<(), WorkError> {
        let object = written.map_err(|error| WorkError::Write(self.what.clone(), error))?;
        if self.there().is_some_and(|seen| self.is_of_others(seen.meta())) {
            let before = self.repaired.replace(now);
            self.told_fight &= before.is_some_and(|before| now.duration_since(before) < CALM);
        }
        self.unwritten.clear();
        self.written =
            Some(Written { uid: object.meta().uid.clone(), version: version(object.meta()).to_owned() });
        self.known = Known::There(object);
        Ok(())
    }

    /// Tells that a write failed, if it is of this object and new.
    pub(super) fn tell_unwritten(&mut self, error: &WorkError) {
        if matches!(error, WorkError::Write(what, _) if *what == self.what) {
            self.unwritten.tell(error.to_string());
        }
    }

    /// Whether somebody else wrote `seen` after us.
    fn is_of_others(&self, seen: &ObjectMeta) -> bool {
        self.written.as_ref().is_some_and(|written| written.version != version(seen))
    }

    /// A watch may tell late what was there before a write.
    fn is_older_than_written(&self, seen: &ObjectMeta) -> bool {
        self.written.as_ref().is_some_and(|written| {
            written.uid == seen.uid
                && written.version != version(seen)
                && !is_newer(version(seen), &written.version)
        })
    }
}

fn version(meta: &ObjectMeta) -> &str {
    meta.resource_version.as_deref().unwrap_or_default()
}

/// Who else wrote last, as far as the API server knows.
fn last_manager(entries: &[ManagedFieldsEntry]) -> Option<&str> {
    let others = entries.iter().filter(|entry| entry.manager.as_deref() != Some(keys::FIELD_MANAGER));
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.as_deref()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn seen(version: &str) -> ConfigMap {
        let managed = json!([
            { "manager": "argocd", "time": "2026-11-25T10:00:01Z" },
            { "manager": "helm", "time": "2026-11-25T10:00:00Z" },
            { "manager": keys::FIELD_MANAGER, "time": "2026-11-25T10:00:02Z" },
        ]);
        let metadata =
            json!({ "name": "c", "uid": "u", "resourceVersion": version, "managedFields": managed });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn known(followed: &Followed<ConfigMap>) -> Option<&str> {
        followed.there().map(|object| version(&object.metadata))
    }

    #[test]
    fn the_first_repair_is_at_once_and_those_after_it_wait() {
        let mut followed = Followed::new("ConfigMap ns/c".into());
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        followed.take(Sight::There(seen("1")));
        // The first writes, one after the other.
        for written in ["2", "3"] {
            assert_eq!(followed.wait(at(0)), None);
            followed.wrote(Ok(seen(written)), at(0)).unwrap();
        }
        followed.take(Sight::There(seen("4")));
        assert_eq!(followed.wait(at(1)), None);
        followed.wrote(Ok(seen("5")), at(1)).unwrap();
        assert_eq!(followed.wait(at(1)), None, "what is written on our own version is no repair");
        followed.take(Sight::There(seen("6")));
        assert!(!followed.told_fight);
        assert_eq!(followed.wait(at(2)), Some(Duration::from_secs(29)));
        assert!(followed.told_fight);
        assert_eq!(followed.wait(at(31)), None);
        followed.wrote(Ok(seen("7")), at(31)).unwrap();
        assert!(followed.told_fight);
        // Long after: another story.
        followed.take(Sight::There(seen("8")));
        followed.wrote(Ok(seen("9")), at(31 + 600)).unwrap();
        assert!(!followed.told_fight);
    }

    #[test]
    fn a_late_echo_of_what_was_before_a_write_is_ignored() {
        let mut followed = Followed::new("ConfigMap ns/c".into());
        followed.take(Sight::There(seen("8")));
        followed.wrote(Ok(seen("10")), Instant::now()).unwrap();
        followed.take(Sight::There(seen("9")));
        assert_eq!(known(&followed), Some("10"));
        followed.take(Sight::There(seen("11")));
        assert_eq!(known(&followed), Some("11"));
        // Another object of that name.
        let mut other = seen("3");
        other.metadata.uid = Some("other".into());
        followed.take(Sight::There(other));
        assert_eq!(known(&followed), Some("3"));
    }

    #[test]
    fn a_problem_is_told_once_until_the_object_is_seen() {
        let mut followed = Followed::new("ConfigMap ns/c".into());
        assert!(!followed.was_looked_for());
        for _ in 0..2 {
            followed.take(Sight::Failed("forbidden".into()));
            assert_eq!(followed.unseen.0.len(), 1);
        }
        assert!(followed.was_looked_for() && followed.there().is_none());
        for number in 0..20 {
            followed.take(Sight::Failed(format!("error {number}")));
        }
        assert_eq!(followed.unseen.0.len(), MAX_TOLD);
        followed.take(Sight::There(seen("1")));
        assert_eq!(followed.unseen.0.len(), 0);
        followed.take(Sight::Absent);
        let told = followed.unseen.0.first().unwrap();
        assert!(told.starts_with("ConfigMap ns/c does not exist"), "{told}");
    }

    #[test]
    fn a_failed_write_is_told_of_its_object_once_until_one_succeeds() {
        let mut followed = Followed::new("ConfigMap ns/c".into());
        for _ in 0..2 {
            let error = followed.wrote(Err(CallError::TimedOut), Instant::now()).unwrap_err();
            followed.tell_unwritten(&error);
            assert_eq!(followed.unwritten.0.len(), 1);
        }
        followed.tell_unwritten(&WorkError::Write("Secret ns/s".into(), CallError::TimedOut));
        followed.take(Sight::There(seen("1")));
        assert_eq!(followed.unwritten.0.len(), 1);
        followed.wrote(Ok(seen("2")), Instant::now()).unwrap();
        assert_eq!(followed.unwritten.0.len(), 0);
    }

    #[test]
    fn the_last_writer_is_named_unless_it_is_us() {
        let object = seen("1");
        assert_eq!(last_manager(object.metadata.managed_fields.as_deref().unwrap()), Some("argocd"));
        assert_eq!(last_manager(&[]), None);
    }
}
