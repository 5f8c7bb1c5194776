//! What changed in the table and what is refused, from discovery to the report.
//!
//! Owns what is refused at present, and the names that changed since the leader was last told. What is held stands in
//! the route table and nowhere else. Never waits, and never makes discovery wait.

use std::collections::{BTreeMap, BTreeSet};

use krypton_discovery::{AgentKey, Version};
use tokio::sync::watch;

/// Refusals that are remembered. Far more than one release can misunderstand of another; of further ones the oldest
/// is forgotten, and then only counts as not held.
const MAX_REFUSALS: usize = 1_024;

/// Both ends: discovery writes, the report reads. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Holds(watch::Sender<Noted>);

/// A resource that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The version that was refused.
    pub version: Version,
    /// Why; a sentence for a person that names the field.
    pub reason: String,
}

/// A name that changed, and what is refused of it now.
pub(super) type Changed = (AgentKey, Option<Refusal>);

/// Names are noted from the creation of this to its end.
pub(super) struct Following<'a> {
    holds: &'a Holds,
    changes: watch::Receiver<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    refused: BTreeMap<AgentKey, Refused>,
    /// Names noted while somebody follows. As many as discovery brings while one message to the leader travels, which
    /// is given up after a while.
    changed: BTreeSet<AgentKey>,
    is_followed: bool,
    /// Counts discovery's streams.
    stream: u64,
    /// Counts refusals.
    newest: u64,
}

#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    /// Where it was last refused.
    stream: u64,
    /// Tells which is the oldest.
    at: u64,
}

// === impl Holds ===

impl Holds {
    /// A stream of discovery begins: what is refused is sent again before the table is whole.
    pub(crate) fn begin_stream(&self) {
        self.0.send_if_modified(|noted| {
            noted.stream += 1;
            false
        });
    }

    /// The table is whole on the present stream: what was not refused on it is not wanted any more.
    pub(crate) fn end_catch_up(&self) {
        self.0.send_if_modified(|noted| {
            let stream = noted.stream;
            let old = noted.refused.iter().filter(|(_, refused)| refused.stream != stream);
            let old: Vec<_> = old.map(|(key, _)| key.clone()).collect();
            for key in old {
                noted.accept(key);
            }
            noted.is_news()
        });
    }

    /// These were taken or removed, of which nothing is refused any more, and then those were refused.
    pub(crate) fn note(
        &self,
        taken: impl IntoIterator<Item = AgentKey>,
        refused: impl IntoIterator<Item = (AgentKey, Refusal)>,
    ) {
        self.0.send_if_modified(|noted| {
            taken.into_iter().for_each(|key| noted.accept(key));
            refused.into_iter().for_each(|(key, refusal)| noted.refuse(key, refusal));
            noted.is_news()
        });
    }

    /// Begins to note names, and gives what is refused. What is held is to be read from the table after this.
    pub(super) fn follow(&self) -> (Following<'_>, Vec<(AgentKey, Refusal)>) {
        let mut refused = Vec::new();
        self.0.send_if_modified(|noted| {
            noted.is_followed = true;
            noted.changed.clear();
            refused =
                noted.refused.iter().map(|(key, refused)| (key.clone(), refused.refusal.clone())).collect();
            false
        });
        (Following { holds: self, changes: self.0.subscribe() }, refused)
    }
}

// === impl Following ===

impl Following<'_> {
    /// Waits until a name is noted.
    pub(super) async fn changed(&mut self) {
        // Cannot fail: the sender is held here.
        self.changes.wait_for(Noted::is_news).await.ok();
    }

    /// The names that were noted, each once.
    pub(super) fn take(&self) -> Vec<Changed> {
        let mut taken = Vec::new();
        self.holds.0.send_if_modified(|noted| {
            let refusal = |key: &AgentKey| noted.refused.get(key).map(|refused| refused.refusal.clone());
            let changed = std::mem::take(&mut noted.changed);
            taken = changed.into_iter().map(|key| (key.clone(), refusal(&key))).collect();
            false
        });
        taken
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.holds.0.send_if_modified(|noted| {
            noted.is_followed = false;
            noted.changed.clear();
            false
        });
    }
}

// === impl Noted ===

impl Noted {
    fn is_news(&self) -> bool {
        !self.changed.is_empty()
    }

    fn accept(&mut self, key: AgentKey) {
        self.refused.remove(&key);
        self.note(key);
    }

    fn refuse(&mut self, key: AgentKey, refusal: Refusal) {
        self.newest += 1;
        let refused = Refused { refusal, stream: self.stream, at: self.newest };
        self.refused.insert(key.clone(), refused);
        self.note(key);
        if self.refused.len() > MAX_REFUSALS {
            let oldest = self.refused.iter().min_by_key(|(_, refused)| refused.at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.accept(oldest);
            }
        }
    }

    fn note(&mut self, key: AgentKey) {
        if self.is_followed {
            self.changed.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> AgentKey {
        AgentKey::new("ns", &format!("a{n}")).unwrap()
    }

    fn mk_refusal(reason: &str) -> Refusal {
        Refusal { version: Version::try_from([8; 16].as_slice()).unwrap(), reason: reason.to_owned() }
    }

    #[test]
    fn what_changes_is_noted_once_while_somebody_follows() {
        let holds = Holds::default();
        holds.note([key(0)], [(key(1), mk_refusal("old"))]);
        let (following, refused) = holds.follow();
        assert_eq!(refused, [(key(1), mk_refusal("old"))]);
        assert_eq!(following.take(), []);
        holds.note([key(0), key(1)], []);
        holds.note([key(0)], [(key(2), mk_refusal("new"))]);
        assert_eq!(following.take(), [(key(0), None), (key(1), None), (key(2), Some(mk_refusal("new")))]);
        assert_eq!(following.take(), []);
        drop(following);
        holds.note([key(0)], []);
        assert_eq!(holds.follow().0.take(), []);
    }

    #[test]
    fn what_a_new_stream_does_not_refuse_again_is_forgotten() {
        let holds = Holds::default();
        holds.begin_stream();
        holds.note([], [(key(0), mk_refusal("r")), (key(1), mk_refusal("r"))]);
        let (following, _) = holds.follow();
        holds.begin_stream();
        holds.note([], [(key(1), mk_refusal("r"))]);
        assert_eq!(following.take(), [(key(1), Some(mk_refusal("r")))]);
        holds.end_catch_up();
        assert_eq!(following.take(), [(key(0), None)]);
    }

    #[test]
    fn refusals_are_bounded_and_the_oldest_goes() {
        let holds = Holds::default();
        let (following, _) = holds.follow();
        let refused = (0..=MAX_REFUSALS).map(|n| (key(n), mk_refusal("r")));
        holds.note([], refused);
        let changed = following.take();
        assert_eq!(changed.len(), MAX_REFUSALS + 1);
        let forgotten: Vec<_> = changed.into_iter().filter(|(_, refusal)| refusal.is_none()).collect();
        assert_eq!(forgotten, [(key(0), None)]);
    }
}
