//! What an Agent needs in the cluster: its Deployment, its Service and, unless one is named, its ServiceAccount.
//!
//! Owns the contents of these objects and the comparison with those that exist. Everything here is a pure function
//! of objects: it never talks to Kubernetes and never decides when to write.
//!
//! 1. [`size()`] says how many pods there should be now.
//! 2. [`build_children`] makes the wanted objects, with the Agent's `podTemplate` laid over ours, or says which field
//!    of it cannot stand.
//! 3. [`owner_uid`] tells a child from an object of somebody else that bears its name.
//! 4. [`first_difference`] compares a wanted object with the live one; without a difference nothing is written.
//! 5. [`take_over`] makes fields that an earlier writer owns ours, so that the next apply also removes what it left.

mod children;
mod drift;
mod field_path;
mod managed_fields;
mod merge_keys;
mod overlay;
mod pod;
mod quantity;
mod size;

pub use children::{Children, build_children};
pub use drift::{first_difference, only_replicas_differ};
pub use field_path::{FieldPath, Segment};
pub use managed_fields::{Writer, foreign_owner_of, owner_uid, take_over, writers};
pub use overlay::{BuildError, Problem};
pub use size::size;
