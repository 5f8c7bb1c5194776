//! Pieces of the OpenAPI schema that no Rust type gives by itself.

use schemars::{Schema, SchemaGenerator, json_schema};

/// An object whose inside is Kubernetes' business: any field is kept as it is written.
pub(crate) fn open_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// As [`open_object`], and server-side apply treats it as one value.
pub(crate) fn atomic_open_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-map-type": "atomic",
    })
}

/// A list of [`open_object`]s that server-side apply treats as one value.
pub(crate) fn atomic_open_objects(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": open_object(generator),
        "x-kubernetes-list-type": "atomic",
    })
}

/// The pull policies, and the empty text that leaves the choice to Kubernetes.
pub(crate) fn image_pull_policy(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["Always", "IfNotPresent", "Never", ""] })
}

/// A point in time, RFC 3339.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// `metav1.Condition`s, merged by their type. Only what the Go system always wrote is required, so that the status of
/// an Agent it looked after stays valid.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status"],
            "properties": {
                "type": { "type": "string", "maxLength": 316, "description": "What the condition is about." },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds.",
                },
                "reason": { "type": "string", "maxLength": 1024, "description": "Why, in one CamelCase word." },
                "message": { "type": "string", "maxLength": 32768, "description": "Why, in a sentence." },
                "lastTransitionTime": described(time(generator), "When status last changed."),
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "metadata.generation that the condition is about.",
                },
            },
        },
    })
}

fn described(mut schema: Schema, description: &str) -> Schema {
    schema.insert("description".to_owned(), description.into());
    schema
}
