//! How the items of Kubernetes' lists are told apart: the one table for laying over and for comparing.
//!
//! The keys are those by which server-side apply merges these lists (`x-kubernetes-list-map-keys` in the API server's
//! OpenAPI document). A list that is not here is one value: command, args, envFrom, tolerations and many more.

use serde_json::{Map, Value};

/// The fields that tell the items of one list apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys(&'static [&'static str]);

/// What tells one item apart: its fields of [`Keys`] with their values.
pub(crate) type Key = Vec<(&'static str, Value)>;

/// Lists of pods, Services and metadata by the name of their field. `ports` has two rows: a container's and a
/// Service's.
const KEYED: &[(&str, &[&str])] = &[
    ("claims", &["name"]),
    ("containers", &["name"]),
    ("env", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("ownerReferences", &["uid"]),
    ("ports", &["containerPort", "protocol"]),
    ("ports", &["port", "protocol"]),
    ("resourceClaims", &["name"]),
    ("schedulingGates", &["name"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("volumeDevices", &["devicePath"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];

/// The keys of the list in `field`, which has these `items`; `None` when the list is one value.
pub(crate) fn keys_of(field: &str, items: &[Value]) -> Option<Keys> {
    let mut rows = KEYED.iter().filter(|(name, _)| *name == field).map(|(_, keys)| Keys(keys));
    let first = rows.next()?;
    let has_main_key = |keys: &Keys| items.iter().any(|item| item.get(keys.0[0]).is_some());
    if has_main_key(&first) {
        return Some(first);
    }
    Some(rows.find(has_main_key).unwrap_or(first))
}

// === impl Keys ===

impl Keys {
    /// What tells `item` apart.
    ///
    /// # Errors
    /// The field that is missing.
    pub(crate) fn of(self, item: &Map<String, Value>) -> Result<Key, &'static str> {
        self.0
            .iter()
            .map(|key| match item.get(*key) {
                Some(value) if !value.is_null() => Ok((*key, value.clone())),
                // The only key with a default.
                _ if *key == "protocol" => Ok((*key, Value::from("TCP"))),
                _ => Err(*key),
            })
            .collect()
    }

    /// The item of `items` that `key` tells apart. The last one, which is what Kubernetes heeds where there are
    /// several.
    pub(crate) fn find(self, key: &Key, items: &[Value]) -> Option<usize> {
        items.iter().rposition(|item| {
            item.as_object().and_then(|item| self.of(item).ok()).is_some_and(|found| found == *key)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_of_containers_and_services_differ() {
        let container = json!([{ "containerPort": 80 }]);
        let keys = keys_of("ports", container.as_array().unwrap()).unwrap();
        let key = keys.of(container[0].as_object().unwrap()).unwrap();
        assert_eq!(key, [("containerPort", json!(80)), ("protocol", json!("TCP"))]);

        let service = json!([{ "port": 80, "protocol": "UDP" }]);
        let keys = keys_of("ports", service.as_array().unwrap()).unwrap();
        let key = keys.of(service[0].as_object().unwrap()).unwrap();
        assert_eq!(key, [("port", json!(80)), ("protocol", json!("UDP"))]);
    }

    #[test]
    fn a_list_without_keys_is_one_value() {
        for field in ["args", "command", "envFrom", "tolerations"] {
            assert_eq!(keys_of(field, &[]), None, "{field}");
        }
    }

    #[test]
    fn the_last_of_several_items_counts() {
        let items = json!([{ "name": "A", "value": "1" }, { "name": "A", "value": "2" }]);
        let items = items.as_array().unwrap();
        let keys = keys_of("env", items).unwrap();
        assert_eq!(keys.find(&vec![("name", json!("A"))], items), Some(1));
        assert_eq!(keys.find(&vec![("name", json!("B"))], items), None);
        assert_eq!(keys.of(&Map::new()), Err("name"));
    }
}
