//! The objects of one kind, found by name and by the Agent they belong to.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

use crate::object::ObjectId;
use crate::source::Change;

/// One object that something is computed from.
pub trait Record: PartialEq {
    /// How its Agent is named: by a key that is valid in a path, or by whatever name an object may have.
    type Agent: Clone + Debug + Eq + Hash + Ord;
    /// Its name.
    fn id(&self) -> &ObjectId;
    /// The Agent that it belongs to.
    fn agent(&self) -> &Self::Agent;
}

/// All objects of one kind.
#[derive(Debug)]
pub(crate) struct Table<T: Record> {
    objects: HashMap<ObjectId, T>,
    /// Never holds an empty set.
    by_agent: HashMap<T::Agent, BTreeSet<ObjectId>>,
}

// === impl Table ===

impl<T: Record> Default for Table<T> {
    fn default() -> Self {
        Self { objects: HashMap::new(), by_agent: HashMap::new() }
    }
}

impl<T: Record> Table<T> {
    /// Carries `change` out and adds every Agent whose route may differ to `touched`.
    pub(crate) fn apply(&mut self, change: Change<T>, touched: &mut BTreeSet<T::Agent>) {
        match change {
            Change::Apply(object) => self.insert(object, touched),
            Change::Delete(id) => self.remove(&id, touched),
            Change::Restarted { scope, objects, refused } => {
                let in_scope = self.objects.keys().filter(|id| scope.contains(&id.namespace));
                let mut gone: HashSet<ObjectId> = in_scope.cloned().collect();
                for id in &refused {
                    gone.remove(id);
                }
                for object in objects {
                    gone.remove(object.id());
                    self.insert(object, touched);
                }
                for id in gone {
                    self.remove(&id, touched);
                }
            }
        }
    }

    /// The object `id`.
    pub(crate) fn get(&self, id: &ObjectId) -> Option<&T> {
        self.objects.get(id)
    }

    /// The objects of `agent`, by name.
    pub(crate) fn of<'a>(&'a self, agent: &T::Agent) -> impl Iterator<Item = &'a T> + Clone {
        self.by_agent.get(agent).into_iter().flatten().filter_map(|id| self.objects.get(id))
    }

    /// Every object, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.objects.values()
    }

    fn insert(&mut self, object: T, touched: &mut BTreeSet<T::Agent>) {
        if self.objects.get(object.id()) == Some(&object) {
            return;
        }
        let (id, agent) = (object.id().clone(), object.agent().clone());
        self.remove(&id, touched);
        self.by_agent.entry(agent.clone()).or_default().insert(id.clone());
        self.objects.insert(id, object);
        touched.insert(agent);
    }

    fn remove(&mut self, id: &ObjectId, touched: &mut BTreeSet<T::Agent>) {
        let Some(object) = self.objects.remove(id) else { return };
        if let Some(ids) = self.by_agent.get_mut(object.agent()) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_agent.remove(object.agent());
            }
        }
        touched.insert(object.agent().clone());
    }
}
