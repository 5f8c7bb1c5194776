//! Where in an object a value stands, in words that a person can follow with `kubectl`.

use std::fmt;

use serde_json::Value;

/// The way from an object to a value in it, e.g. `spec.template.spec.containers[name=agent].image`.
///
/// Empty for the object itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldPath(Vec<Segment>);

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A field of an object, or a key of a map.
    Field(String),
    /// An item of a list whose items are told apart by these fields.
    Item(Vec<(&'static str, Value)>),
    /// An item of any other list, counted from 0.
    Index(usize),
}

// === impl FieldPath ===

impl FieldPath {
    /// The path through these fields.
    #[must_use]
    pub fn of(fields: &[&str]) -> Self {
        Self(fields.iter().map(|field| Segment::Field((*field).to_owned())).collect())
    }

    /// The steps, outermost first.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// This path, one step further inside.
    #[must_use]
    pub(crate) fn then(mut self, segment: Segment) -> Self {
        self.0.push(segment);
        self
    }

    /// This path as seen from the object around it. Paths are made from the inside out, so that the comparison of
    /// equal objects makes none.
    #[must_use]
    pub(crate) fn within(mut self, segment: Segment) -> Self {
        self.0.insert(0, segment);
        self
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if name.contains(['.', '/']) => write!(f, "[{name}]")?,
                Segment::Field(name) => write!(f, "{}{name}", if index > 0 { "." } else { "" })?,
                Segment::Item(keys) => {
                    f.write_str("[")?;
                    for (index, (key, value)) in keys.iter().enumerate() {
                        write!(f, "{}{key}=", if index > 0 { "," } else { "" })?;
                        match value {
                            Value::String(text) => f.write_str(text)?,
                            other => write!(f, "{other}")?,
                        }
                    }
                    f.write_str("]")?;
                }
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

// === impl Segment ===

impl Segment {
    /// The field `name`.
    pub(crate) fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_a_field_of_a_manifest() {
        let path = FieldPath::of(&["containers"])
            .within(Segment::field("spec"))
            .then(Segment::Item(vec![("name", "agent".into())]))
            .then(Segment::field("ports"))
            .then(Segment::Item(vec![("containerPort", 8080.into()), ("protocol", "TCP".into())]))
            .then(Segment::field("args"))
            .then(Segment::Index(2));
        assert_eq!(
            path.to_string(),
            "spec.containers[name=agent].ports[containerPort=8080,protocol=TCP].args[2]"
        );
        assert_eq!(FieldPath::of(&["metadata", "labels", "a.b/c"]).to_string(), "metadata.labels[a.b/c]");
        assert_eq!(FieldPath::default().to_string(), "");
    }
}
