//! From watch events to changes of the index: pure.
//!
//! Owns the buffer of a list that is not complete yet, and which objects could not be used. An object that
//! cannot be decoded is told once per version and stands in nobody's way.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use krypton_crd::Agent;
use krypton_discovery::EndpointPolicy;
use kube::api::{DynamicObject, TypeMeta};
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::index::{AgentObject, Record, ServiceObject, SliceObject};
use crate::object::{ObjectId, Scope};
use crate::source::Change;

/// What became of one object.
pub(crate) enum Decoded<T> {
    /// It counts.
    Good(T),
    /// It exists, is well-formed, and is not one of ours.
    NotOurs,
    /// It cannot be used; names the field.
    Refused(String),
}

/// The state of one watch.
pub(super) struct Fold<T> {
    scope: Scope,
    policy: EndpointPolicy,
    decode: fn(DynamicObject, &EndpointPolicy) -> Decoded<T>,
    refused: BTreeMap<ObjectId, Refused>,
    /// The list so far, while one is under way.
    list: Option<List<T>>,
}

/// An object that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    /// `uid` and `generation`, or `resourceVersion` where there is none: tells whether it was told already. A status
    /// that is written makes no other Agent of it.
    version: (String, String),
    reason: String,
}

struct List<T> {
    objects: Vec<T>,
    refused: BTreeMap<ObjectId, Refused>,
}

/// What follows from one event.
pub(super) struct Step<T> {
    pub(super) change: Option<Change<T>>,
    /// An object that could not be used and was not told before.
    pub(super) newly_refused: Option<(ObjectId, String)>,
    /// Whether the set of refused objects may differ.
    pub(super) refused_changed: bool,
}

// === impl Fold ===

impl<T: Record> Fold<T> {
    pub(super) fn new(
        scope: Scope,
        policy: EndpointPolicy,
        decode: fn(DynamicObject, &EndpointPolicy) -> Decoded<T>,
    ) -> Self {
        Self { scope, policy, decode, refused: BTreeMap::new(), list: None }
    }

    /// The objects that cannot be used at present, and why.
    pub(super) fn refused(&self) -> BTreeMap<ObjectId, String> {
        self.refused.iter().map(|(id, refused)| (id.clone(), refused.reason.clone())).collect()
    }

    pub(super) fn take(&mut self, event: Event<DynamicObject>) -> Step<T> {
        match event {
            Event::Init => {
                self.list = Some(List { objects: Vec::new(), refused: BTreeMap::new() });
                Step::nothing()
            }
            Event::InitApply(object) => self.list_one(object),
            Event::InitDone => self.finish_list(),
            Event::Apply(object) => self.apply(object),
            Event::Delete(object) => {
                let id = id_of(&object);
                let refused_changed = self.refused.remove(&id).is_some();
                Step { change: Some(Change::Delete(id)), newly_refused: None, refused_changed }
            }
        }
    }

    fn list_one(&mut self, object: DynamicObject) -> Step<T> {
        let (id, version) = (id_of(&object), version_of(&object));
        let decoded = (self.decode)(object, &self.policy);
        let Some(list) = &mut self.list else { return Step::nothing() };
        match decoded {
            Decoded::Good(object) => list.objects.push(object),
            Decoded::NotOurs => {}
            Decoded::Refused(reason) => {
                let is_new = self.refused.get(&id).is_none_or(|known| known.version != version);
                list.refused.insert(id.clone(), Refused { version, reason: reason.clone() });
                return Step { newly_refused: is_new.then_some((id, reason)), ..Step::nothing() };
            }
        }
        Step::nothing()
    }

    fn finish_list(&mut self) -> Step<T> {
        let Some(List { objects, refused }) = self.list.take() else { return Step::nothing() };
        self.refused = refused;
        let refused = self.refused.keys().cloned().collect();
        let change = Change::Restarted { scope: self.scope.clone(), objects, refused };
        Step { change: Some(change), newly_refused: None, refused_changed: true }
    }

    fn apply(&mut self, object: DynamicObject) -> Step<T> {
        let (id, version) = (id_of(&object), version_of(&object));
        match (self.decode)(object, &self.policy) {
            Decoded::Good(object) => {
                let refused_changed = self.refused.remove(&id).is_some();
                Step { change: Some(Change::Apply(object)), newly_refused: None, refused_changed }
            }
            Decoded::NotOurs => {
                let refused_changed = self.refused.remove(&id).is_some();
                Step { change: Some(Change::Delete(id)), newly_refused: None, refused_changed }
            }
            Decoded::Refused(reason) => {
                let refused = Refused { version, reason: reason.clone() };
                let before = self.refused.insert(id.clone(), refused.clone());
                let is_new = before.is_none_or(|before| before.version != refused.version);
                Step { change: None, newly_refused: is_new.then_some((id, reason)), refused_changed: true }
            }
        }
    }
}

// === impl Step ===

impl<T> Step<T> {
    fn nothing() -> Self {
        Self { change: None, newly_refused: None, refused_changed: false }
    }
}

/// Decodes an Agent.
pub(super) fn agent(mut object: DynamicObject, _: &EndpointPolicy) -> Decoded<AgentObject> {
    // Items of a list may leave out what the list says.
    object.types.get_or_insert_with(TypeMeta::resource::<Agent>);
    let decoded = match whole(object).map(Agent::from_value) {
        Ok(Ok(agent)) => AgentObject::from_agent(&agent).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error),
    };
    match decoded {
        Ok(agent) => Decoded::Good(agent),
        Err(reason) => Decoded::Refused(reason),
    }
}

/// Decodes an EndpointSlice.
pub(super) fn slice(object: DynamicObject, policy: &EndpointPolicy) -> Decoded<SliceObject> {
    ours(decode::<EndpointSlice>(object), |slice| SliceObject::from_slice(slice, policy))
}

/// Decodes a Service.
pub(super) fn service(object: DynamicObject, policy: &EndpointPolicy) -> Decoded<ServiceObject> {
    ours(decode::<Service>(object), |service| ServiceObject::from_service(service, policy))
}

fn ours<K, T>(decoded: Result<K, String>, convert: impl FnOnce(&K) -> Option<T>) -> Decoded<T> {
    match decoded {
        Ok(object) => convert(&object).map_or(Decoded::NotOurs, Decoded::Good),
        Err(reason) => Decoded::Refused(reason),
    }
}

fn decode<K: DeserializeOwned>(object: DynamicObject) -> Result<K, String> {
    serde_path_to_error::deserialize(whole(object)?).map_err(|error| error.to_string())
}

/// The object as the server wrote it, without the bookkeeping of who set which field: often its larger half.
fn whole(mut object: DynamicObject) -> Result<Value, String> {
    object.metadata.managed_fields = None;
    serde_json::to_value(object).map_err(|error| error.to_string())
}

fn id_of(object: &DynamicObject) -> ObjectId {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    ObjectId { namespace: text(&object.metadata.namespace), name: text(&object.metadata.name) }
}

fn version_of(object: &DynamicObject) -> (String, String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let generation = object.metadata.generation.map(|generation| generation.to_string());
    let version = generation.unwrap_or_else(|| text(&object.metadata.resource_version));
    (text(&object.metadata.uid), version)
}

#[cfg(test)]
mod tests;
