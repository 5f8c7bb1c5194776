//! Carries out what [`Step`] says about one child: the calls to the API server.
//!
//! Owns the form of each call and what an error of it means. Never decides what is wanted.
//!
//! - An absent child is created by POST: it fails where an object of that name has appeared meanwhile, whereas an
//!   apply would merge into it.
//! - A child that is there is applied with its uid, so that another object of the name is never written.
//! - Unknown fields are refused by the API server, not dropped.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use krypton_crd::keys;
use serde_json::Value;
use tokio::time::Instant;

use super::api::{Api, CallError, Verdict, verdict};
use super::live::{Live, TAKEN_OVER, is_newer};
use super::plan::{ChildMemory, DELETION_PAUSE, Step, Why};
use crate::object::{Kind, ObjectId};
use crate::workload::{FieldPath, foreign_owner_of, take_over, writers};

/// How long an object that we wrote is believed in before the watch shows it.
const ECHO: Duration = Duration::from_secs(5);

/// How soon a foreign object is looked at again: its end is seen by no watch where it bears no label of ours.
const FOREIGN_PAUSE: Duration = Duration::from_secs(15);

/// One of the children: where it is in the API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Child<'a> {
    pub(crate) kind: Kind,
    pub(crate) id: &'a ObjectId,
    /// The Agent's uid.
    pub(crate) owner: &'a str,
    pub(crate) wanted: &'a Value,
}

/// A child as it is known: by the watch, and by what we wrote ourselves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    memory: ChildMemory,
    /// What our last write answered, until the watch shows it or something newer.
    echo: Option<(Arc<Live>, Instant)>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Synced {
    /// The child as it is now.
    pub(crate) live: Option<Arc<Live>>,
    pub(crate) did: Option<Did>,
    /// Why it is not as wanted.
    pub(crate) problem: Option<ChildProblem>,
    /// When it has to be looked at again, at the latest.
    pub(crate) again: Option<Duration>,
    /// Whether the namespace is on its way out, so that nothing can be made in it.
    pub(crate) vanishing: bool,
}

/// What was done to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Did {
    /// It was created.
    Created,
    /// It was applied; where that was a repair, `by` is who had written otherwise, as far as is known.
    Applied { why: Why, by: Option<String> },
}

/// Why a child is not as wanted, where the Agent's owner or the cluster's has to do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChildProblem {
    /// An object of its name belongs to somebody else.
    Foreign,
    /// Another controller keeps changing it.
    Contested { manager: String },
    /// The API server says that the object is wrong.
    Invalid(String),
    /// The API server will not have it now: a quota, a policy, missing rights.
    Refused(String),
}

// === impl Child ===

impl Child<'_> {
    /// Makes the child as it is wanted. `seen` is what the watch shows.
    pub(crate) async fn sync(
        &self,
        api: &Api,
        seen: Option<&Arc<Live>>,
        known: &mut Known,
    ) -> Result<Synced, CallError> {
        let now = Instant::now();
        let (live, again) = known.newest(seen, now);
        let step = Step::plan(self.wanted, live.as_deref(), self.owner, &known.memory, now);
        match step {
            Step::Keep => {
                known.memory.kept(live.as_deref());
                Ok(Synced { again, ..Synced::as_it_is(live) })
            }
            Step::Later(pause) => Ok(Synced { again: Some(pause), ..Synced::as_it_is(live) }),
            Step::Foreign => Ok(Synced::foreign()),
            Step::Await => Ok(Synced { again: Some(DELETION_PAUSE), ..Synced::as_it_is(None) }),
            Step::Refused { message, again } => {
                Ok(Synced::with_problem(live, ChildProblem::Invalid(message), Some(again)))
            }
            Step::Contested { manager } => {
                let rest = known.memory.give_way(&manager, now);
                Ok(Synced::with_problem(live, ChildProblem::Contested { manager }, Some(rest)))
            }
            Step::Create => {
                let answer = self.create(api).await;
                self.judge(api, answer, None, Did::Created, known).await
            }
            Step::Apply { take_over, why } => match live {
                Some(live) => self.change(api, live, take_over, why, known).await,
                None => Err(CallError::Replaced),
            },
        }
    }

    /// Applies what is wanted to `live`.
    async fn change(
        &self,
        api: &Api,
        live: Arc<Live>,
        take_over: bool,
        why: Why,
        known: &mut Known,
    ) -> Result<Synced, CallError> {
        let by = match &why {
            Why::Repaired(path) => self.writer_of(api, path).await?,
            Why::ForeignReplicas => self.writer_of(api, &FieldPath::of(&["spec", "replicas"])).await?,
            Why::Changed | Why::TakenOver | Why::Resized => None,
        };
        if take_over {
            self.take_over(api, &live).await?;
        }
        let answer = self.apply(api, live.uid()).await;
        self.judge(api, answer, Some(live), Did::Applied { why, by }, known).await
    }

    /// What follows from the answer to a write.
    async fn judge(
        &self,
        api: &Api,
        answer: Result<Value, CallError>,
        live: Option<Arc<Live>>,
        did: Did,
        known: &mut Known,
    ) -> Result<Synced, CallError> {
        let now = Instant::now();
        let error = match answer {
            Ok(object) => {
                let live = Arc::new(Live::new(object));
                let (why, by) = match &did {
                    Did::Applied { why, by } => (Some(why), by.as_deref()),
                    Did::Created => (None, None),
                };
                known.memory.written(self.wanted, why, by, now);
                known.echo = Some((Arc::clone(&live), now));
                return Ok(Synced { did: Some(did), ..Synced::as_it_is(Some(live)) });
            }
            Err(error) => error,
        };
        match verdict(&error) {
            Verdict::Invalid(message) => {
                let again = known.memory.refused(self.wanted, &message, now);
                Ok(Synced::with_problem(live, ChildProblem::Invalid(message), Some(again)))
            }
            Verdict::Refused(message) => {
                Ok(Synced::with_problem(live, ChildProblem::Refused(message), Some(FOREIGN_PAUSE)))
            }
            // Its objects go with it; where it stays for long, for somebody else's finalizer, that is no news.
            Verdict::Vanishing => {
                Ok(Synced { again: Some(FOREIGN_PAUSE), vanishing: true, ..Synced::as_it_is(live) })
            }
            // Without our label it is seen by no watch: whose it is, only the object itself tells.
            Verdict::Exists => match self.get(api).await? {
                Some(found) if found.is_child_of(self.owner) => {
                    known.echo = Some((Arc::new(found), now));
                    Err(error)
                }
                // The plan has the rules; it is asked again with what was found.
                Some(found) => match Step::plan(self.wanted, Some(&found), self.owner, &known.memory, now) {
                    Step::Await => Ok(Synced { again: Some(DELETION_PAUSE), ..Synced::as_it_is(None) }),
                    _ => Ok(Synced::foreign()),
                },
                None => Err(error),
            },
            Verdict::Passing => Err(error),
        }
    }

    async fn create(&self, api: &Api) -> Result<Value, CallError> {
        let uri =
            format!("{}?fieldManager={}&fieldValidation=Strict", self.collection(), keys::FIELD_MANAGER);
        let body = self.wanted.to_string().into_bytes();
        let request = Request::post(uri).header("Content-Type", "application/json").body(body)?;
        api.call(request).await
    }

    async fn apply(&self, api: &Api, uid: &str) -> Result<Value, CallError> {
        let mut wanted = self.wanted.clone();
        wanted["metadata"]["uid"] = uid.into();
        let uri =
            format!("{}?fieldManager={}&force=true&fieldValidation=Strict", self.path(), keys::FIELD_MANAGER);
        // YAML is a superset of JSON.
        let request = Request::patch(uri).header("Content-Type", "application/apply-patch+yaml");
        api.call(request.body(wanted.to_string().into_bytes())?).await
    }

    /// Who owns the field at `path` besides us. A field that was taken away has no owner: then whoever wrote last.
    async fn writer_of(&self, api: &Api, path: &FieldPath) -> Result<Option<String>, CallError> {
        let object: Value = api.call(Request::get(self.path()).body(Vec::new())?).await?;
        let latest = || {
            let all = writers(&object);
            let others = all.iter().filter(|writer| {
                writer.manager != keys::FIELD_MANAGER && writer.subresource != Some("status")
            });
            others.max_by_key(|writer| writer.time).map(|writer| writer.manager.to_owned())
        };
        Ok(foreign_owner_of(&object, path).map(str::to_owned).or_else(latest))
    }

    /// Makes Updates of the Go controller, and of our own POST, ours by apply. The test on the version in it fails
    /// where somebody writes at the same time.
    async fn take_over(&self, api: &Api, live: &Live) -> Result<(), CallError> {
        let object: Value = api.call(Request::get(self.path()).body(Vec::new())?).await?;
        // Another operator may bear a name of the Go controller as a field manager: only what is ours is written.
        let found = Live::new(object.clone());
        if found.uid() != live.uid() || !found.is_child_of(self.owner) {
            return Err(CallError::Replaced);
        }
        let managers = if found.go_manager().is_some() { &TAKEN_OVER[..] } else { &[keys::FIELD_MANAGER] };
        let Some(patch) = take_over(&object, managers) else { return Ok(()) };
        let uri = format!("{}?fieldManager={}", self.path(), keys::FIELD_MANAGER);
        let request = Request::patch(uri).header("Content-Type", "application/json-patch+json");
        api.call::<Value>(request.body(patch.to_string().into_bytes())?).await?;
        Ok(())
    }

    async fn get(&self, api: &Api) -> Result<Option<Live>, CallError> {
        match api.call::<Value>(Request::get(self.path()).body(Vec::new())?).await {
            Ok(object) => Ok(Some(Live::new(object))),
            Err(CallError::Kube(kube::Error::Api(status))) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn collection(&self) -> String {
        let (group, plural) = match self.kind {
            Kind::Deployment => ("apis/apps/v1", "deployments"),
            Kind::Service => ("api/v1", "services"),
            _ => ("api/v1", "serviceaccounts"),
        };
        format!("/{group}/namespaces/{}/{plural}", self.id.namespace)
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.id.name)
    }
}

// === impl Known ===

impl Known {
    /// The child as it is known before a look: by our own last write where the watch does not show that yet.
    pub(crate) fn live<'a>(&'a self, seen: Option<&'a Arc<Live>>) -> Option<&'a Arc<Live>> {
        match (&self.echo, seen) {
            (Some((echo, _)), Some(seen)) if is_newer(echo.version(), seen.version()) => Some(echo),
            (Some((echo, _)), None) => Some(echo),
            _ => seen,
        }
    }

    /// The newest that is known, and when to look again where that rests on our own word. That counts for a while only.
    fn newest(&mut self, seen: Option<&Arc<Live>>, now: Instant) -> (Option<Arc<Live>>, Option<Duration>) {
        let rest = self.echo.as_ref().map(|(_, since)| ECHO.saturating_sub(now.duration_since(*since)));
        self.echo.take_if(|(echo, _)| {
            rest.is_some_and(|rest| rest.is_zero())
                || seen.is_some_and(|seen| !is_newer(echo.version(), seen.version()))
        });
        (self.live(seen).cloned(), rest.filter(|_| self.echo.is_some()))
    }
}

// === impl Synced ===

impl Synced {
    fn as_it_is(live: Option<Arc<Live>>) -> Self {
        Self { live, did: None, problem: None, again: None, vanishing: false }
    }

    fn foreign() -> Self {
        Self::with_problem(None, ChildProblem::Foreign, Some(FOREIGN_PAUSE))
    }

    fn with_problem(live: Option<Arc<Live>>, problem: ChildProblem, again: Option<Duration>) -> Self {
        Self { problem: Some(problem), again, ..Self::as_it_is(live) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_write_is_believed_until_the_watch_shows_it_or_some_seconds_passed() {
        let live = |version: &str| {
            Arc::new(Live::new(serde_json::json!({ "metadata": { "resourceVersion": version } })))
        };
        let version = |newest: (Option<Arc<Live>>, _)| newest.0.map(|live| live.version().to_owned());
        let now = Instant::now();
        let written = Known { echo: Some((live("10"), now)), ..Known::default() };
        let of = |seen: Option<&Arc<Live>>, at| version(written.clone().newest(seen, at));
        assert_eq!(of(None, now).as_deref(), Some("10"));
        assert_eq!(of(Some(&live("9")), now).as_deref(), Some("10"));
        assert_eq!(of(Some(&live("10")), now).as_deref(), Some("10"));
        assert_eq!(of(Some(&live("11")), now).as_deref(), Some("11"));
        assert_eq!(of(Some(&live("9")), now + ECHO).as_deref(), Some("9"));
        assert_eq!(of(None, now + ECHO), None);
    }
}
