//! What the leader sees of each Agent: the Agent, its children, its pods. Pure.
//!
//! Owns the newest known state of these objects, trimmed to what is read. Never decides anything. It gives out no
//! Agent before every kind has had its first complete list: a child that is not listed yet would look absent.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use krypton_crd::keys;
use krypton_discovery::EndpointPolicy;
use kube::Resource;
use kube::api::{DynamicObject, TypeMeta};
use serde_json::Value;

use crate::index::Record;
use crate::index::table::Table;
use crate::object::{Kind, ObjectId, Scope};
use crate::reconcile::live::Live;
use crate::source::Change;
use crate::source::kube::fold::Decoded;
use crate::status::PodState;
use crate::status::events::Child;

/// What happened to objects of one kind.
#[derive(Debug, Clone)]
pub(crate) enum FleetEvent {
    Agents(Change<AgentRecord>),
    Children(Child, Change<ChildRecord>),
    Pods(Change<PodRecord>),
}

/// An Agent as it is stored, whether it can be decoded or not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AgentRecord {
    id: ObjectId,
    object: Arc<Value>,
}

/// A child of an Agent; it bears the Agent's name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChildRecord {
    id: ObjectId,
    live: Arc<Live>,
}

/// A pod of an Agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodRecord {
    id: ObjectId,
    agent: ObjectId,
    view: Arc<PodState>,
}

/// One Agent with all that belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) id: ObjectId,
    pub(crate) agent: Arc<Value>,
    pub(crate) service_account: Option<Arc<Live>>,
    pub(crate) service: Option<Arc<Live>>,
    pub(crate) deployment: Option<Arc<Live>>,
    pub(crate) pods: Vec<Arc<PodState>>,
}

/// Every Agent in the watched namespaces, with all that belongs to them.
#[derive(Debug)]
pub(crate) struct Fleet {
    agents: Table<AgentRecord>,
    service_accounts: Table<ChildRecord>,
    services: Table<ChildRecord>,
    deployments: Table<ChildRecord>,
    pods: Table<PodRecord>,
    /// Lists that have not come yet.
    awaited: HashSet<(Kind, Scope)>,
    touched: BTreeSet<ObjectId>,
}

// === impl Fleet ===

impl Fleet {
    /// An empty fleet that waits for every kind in each of `scopes`.
    pub(crate) fn new(scopes: &[Scope]) -> Self {
        let kinds = Kind::MANAGED.into_iter();
        Self {
            agents: Table::default(),
            service_accounts: Table::default(),
            services: Table::default(),
            deployments: Table::default(),
            pods: Table::default(),
            awaited: kinds.flat_map(|kind| scopes.iter().map(move |scope| (kind, scope.clone()))).collect(),
            touched: BTreeSet::new(),
        }
    }

    /// Takes in one event.
    pub(crate) fn apply(&mut self, event: FleetEvent) {
        if let Some(list) = list_of(&event) {
            self.awaited.remove(&list);
        }
        let touched = &mut self.touched;
        match event {
            FleetEvent::Agents(change) => self.agents.apply(change, touched),
            FleetEvent::Pods(change) => self.pods.apply(change, touched),
            FleetEvent::Children(Child::Deployment, change) => self.deployments.apply(change, touched),
            FleetEvent::Children(Child::Service, change) => self.services.apply(change, touched),
            FleetEvent::Children(Child::ServiceAccount, change) => {
                self.service_accounts.apply(change, touched);
            }
        }
    }

    /// The Agents that something happened to since the last call; none before all lists are complete.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<ObjectId> {
        if self.is_complete() { std::mem::take(&mut self.touched) } else { BTreeSet::new() }
    }

    /// Whether every kind has had its first complete list.
    pub(crate) fn is_complete(&self) -> bool {
        self.awaited.is_empty()
    }

    /// The time of the last call that the status of `id` tells.
    pub(crate) fn last_invocation(&self, id: &ObjectId) -> Option<Timestamp> {
        self.agents.get(id)?.object.pointer("/status/lastInvocationAt")?.as_str()?.parse().ok()
    }

    /// The Agent `id` and all that belongs to it; `None` if it is gone.
    pub(crate) fn family(&self, id: &ObjectId) -> Option<Family> {
        let agent = self.agents.get(id)?;
        let child = |table: &Table<ChildRecord>| table.get(id).map(|child| Arc::clone(&child.live));
        Some(Family {
            id: id.clone(),
            agent: Arc::clone(&agent.object),
            service_account: child(&self.service_accounts),
            service: child(&self.services),
            deployment: child(&self.deployments),
            pods: self.pods.of(id).map(|pod| Arc::clone(&pod.view)).collect(),
        })
    }
}

/// The list that `event` completes.
fn list_of(event: &FleetEvent) -> Option<(Kind, Scope)> {
    let (kind, scope) = match event {
        FleetEvent::Agents(Change::Restarted { scope, .. }) => (Kind::Agent, scope),
        FleetEvent::Children(child, Change::Restarted { scope, .. }) => (kind_of(*child), scope),
        FleetEvent::Pods(Change::Restarted { scope, .. }) => (Kind::Pod, scope),
        _ => return None,
    };
    Some((kind, scope.clone()))
}

/// The kind that is watched for a child.
pub(crate) fn kind_of(child: Child) -> Kind {
    match child {
        Child::ServiceAccount => Kind::ServiceAccount,
        Child::Service => Kind::Service,
        Child::Deployment => Kind::Deployment,
    }
}

// === impl AgentRecord ===

impl Record for AgentRecord {
    type Agent = ObjectId;

    fn id(&self) -> &ObjectId {
        &self.id
    }

    fn agent(&self) -> &ObjectId {
        &self.id
    }
}

/// Keeps an Agent as it is; a reconcile decodes it, since one that cannot be decoded is to be told so.
pub(crate) fn agent(mut object: DynamicObject, _: &EndpointPolicy) -> Decoded<AgentRecord> {
    object.metadata.managed_fields = None;
    let id = id_of(&object);
    match serde_json::to_value(object) {
        Ok(mut object) => {
            // Items of a list may leave out what the list says.
            object["apiVersion"] = keys::API_VERSION.into();
            object["kind"] = keys::KIND.into();
            Decoded::Good(AgentRecord { id, object: Arc::new(object) })
        }
        Err(error) => Decoded::Refused(error.to_string()),
    }
}

// === impl ChildRecord ===

impl Record for ChildRecord {
    type Agent = ObjectId;

    fn id(&self) -> &ObjectId {
        &self.id
    }

    fn agent(&self) -> &ObjectId {
        &self.id
    }
}

/// Keeps a Deployment, a Service or a service account.
pub(crate) fn child<K: Resource<DynamicType = ()>>(
    mut object: DynamicObject,
    _: &EndpointPolicy,
) -> Decoded<ChildRecord> {
    let id = id_of(&object);
    // Items of a list leave out what the list says; without it they would look as if somebody had changed them.
    object.types.get_or_insert_with(TypeMeta::resource::<K>);
    match serde_json::to_value(object) {
        Ok(object) => Decoded::Good(ChildRecord { id, live: Arc::new(Live::new(object)) }),
        Err(error) => Decoded::Refused(error.to_string()),
    }
}

// === impl PodRecord ===

impl Record for PodRecord {
    type Agent = ObjectId;

    fn id(&self) -> &ObjectId {
        &self.id
    }

    fn agent(&self) -> &ObjectId {
        &self.agent
    }
}

/// Keeps what a status says of a pod.
pub(crate) fn pod(mut object: DynamicObject, _: &EndpointPolicy) -> Decoded<PodRecord> {
    object.metadata.managed_fields = None;
    let id = id_of(&object);
    let labels = object.metadata.labels.as_ref();
    let Some(agent) = labels.and_then(|labels| labels.get(keys::AGENT_LABEL)) else {
        return Decoded::NotOurs;
    };
    let agent = ObjectId::new(&id.namespace, agent);
    match serde_json::to_value(object).and_then(serde_json::from_value) {
        Ok(pod) => Decoded::Good(PodRecord { id, agent, view: Arc::new(PodState::from_pod(&pod)) }),
        Err(error) => Decoded::Refused(error.to_string()),
    }
}

fn id_of(object: &DynamicObject) -> ObjectId {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    ObjectId { namespace: text(&object.metadata.namespace), name: text(&object.metadata.name) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceAccount;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_item_of_a_list_is_the_same_as_the_object_alone() {
        let policy = EndpointPolicy { allow_loopback: false, deny: Vec::new() };
        let decode =
            |object: Value| match child::<ServiceAccount>(serde_json::from_value(object).unwrap(), &policy) {
                Decoded::Good(record) => record,
                Decoded::NotOurs | Decoded::Refused(_) => panic!("it is an account of ours"),
            };
        let item =
            json!({ "metadata": { "name": "a", "namespace": "ns" }, "automountServiceAccountToken": false });
        let mut alone = item.clone();
        alone["apiVersion"] = "v1".into();
        alone["kind"] = "ServiceAccount".into();
        assert_eq!(decode(item), decode(alone));
    }
}
