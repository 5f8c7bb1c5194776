//! What Helm printed, document by document.

use std::collections::BTreeMap;

use krypton_e2e::helm::{Helm, Release};
use serde_json::Value;

/// One object, as text and as what it means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) text: String,
    pub(crate) object: Value,
}

/// Objects by kind, namespace and name, in that order.
pub(crate) type Documents = BTreeMap<String, Document>;

// === impl Document ===

impl Document {
    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap()
    }

    /// API group of its kind; empty for the oldest kinds.
    pub(crate) fn group(&self) -> &str {
        self.object["apiVersion"].as_str().unwrap().split_once('/').map_or("", |(group, _)| group)
    }

    fn id(&self) -> String {
        let metadata = &self.object["metadata"];
        let name = metadata["name"].as_str().unwrap();
        let namespace = metadata["namespace"].as_str().map(|namespace| format!("{namespace}/"));
        format!("{} {}{name}", self.kind(), namespace.unwrap_or_default())
    }
}

/// Renders the chart. Two objects of one name are a mistake.
pub(crate) async fn render(release: Release<'_>, values: &str) -> Documents {
    let printed = Helm::offline().unwrap().template(release, values).await.unwrap();
    let mut documents = Documents::new();
    for text in printed.split("---\n") {
        let object: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        if object.is_null() {
            continue;
        }
        let document = Document { text: text.trim().to_owned(), object };
        let id = document.id();
        assert!(documents.insert(id.clone(), document).is_none(), "{id} is there twice");
    }
    documents
}

/// The object of that kind and name, which must be there.
pub(crate) fn object<'a>(documents: &'a Documents, id: &str) -> &'a Value {
    let ids: Vec<_> = documents.keys().collect();
    &documents.get(id).unwrap_or_else(|| panic!("no {id} in {ids:#?}")).object
}
