//! The conditions in an Agent's status and their reasons, as closed sets.
//!
//! Names follow the Gateway API (`Accepted`, `ResolvedRefs`, `Programmed`) and Kubernetes (`Available`, `Ready`). The
//! words are API: monitoring and people's scripts match on them, so one is added rarely and changed never.

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// The spec is valid and does not clash with an object of somebody else.
    Accepted,
    /// What the spec refers to (service account, secrets, config maps) is there.
    ResolvedRefs,
    /// The gateways hold the route that was computed from this generation.
    Programmed,
    /// A pod is ready, or none is needed now.
    Available,
    /// All of the above hold for the current generation.
    Ready,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Not known yet.
    Unknown,
}

/// Reasons of [`ConditionType::Accepted`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AcceptedReason {
    /// True: nothing speaks against it.
    Accepted,
    /// False: an object that belongs to somebody else bears the name of a child.
    NameConflict,
    /// False: the Agent's name cannot be the name of a Service.
    InvalidName,
    /// False: a field has a value that it cannot have.
    InvalidSpec,
    /// False: the API server refused the Deployment, Service or service account made from it.
    InvalidPodTemplate,
    /// False: another writer undoes again and again what is written to a child.
    AnotherController,
    /// False: the API server refuses a write for a reason outside of the spec: a quota, a missing permission, an
    /// admission webhook. Tried again.
    WriteRefused,
    /// Unknown: the API server has not answered yet.
    Pending,
}

/// Reasons of [`ConditionType::ResolvedRefs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResolvedRefsReason {
    /// True: all was found, or nothing is referred to.
    ResolvedRefs,
    /// False: something that the spec refers to does not exist.
    RefNotFound,
    /// Unknown: no pod of this generation has started, and only the start of one looks the references up.
    Pending,
}

/// Reasons of [`ConditionType::Programmed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProgrammedReason {
    /// True: every gateway connected at the time holds this generation's route.
    Programmed,
    /// Unknown: gateways have not answered yet.
    Pending,
    /// False: no gateway is connected.
    NoGateways,
    /// False: a gateway refused the route.
    Rejected,
}

/// Reasons of [`ConditionType::Available`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AvailableReason {
    /// True: a pod is ready. The Go system's word.
    Ready,
    /// True: asleep; a call wakes it. The Go system's word.
    ScaledToZero,
    /// False: turned off by `replicas: 0`; no call wakes it.
    TurnedOff,
    /// False: no pods are made, since `Accepted` does not hold.
    NotAccepted,
    /// False: pods are starting. The Go system's word.
    WaitingForPods,
    /// False: an image cannot be pulled.
    ImagePullFailed,
    /// False: the agent exits, and is started again and again.
    CrashLooping,
    /// False: no node takes the pods.
    Unschedulable,
    /// False: a ResourceQuota leaves no room for pods.
    QuotaExceeded,
    /// False: admission refuses the pods.
    PodsRefused,
    /// False: the agent runs, but its readiness probe does not succeed: most often, nothing listens on its port.
    ProbeFailing,
    /// False: pods do not start, or fail, for a reason that has no word of its own.
    PodsFailing,
}

/// Reasons of [`ConditionType::Ready`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadyReason {
    /// True: calls are answered.
    Ready,
    /// True: asleep; a call wakes it.
    ScaledToZero,
    /// True: calls are answered, at a size pinned by `replicas`.
    Pinned,
    /// False: turned off by `replicas: 0`.
    TurnedOff,
    /// False: `Accepted` does not hold.
    NotAccepted,
    /// False: `ResolvedRefs` does not hold.
    UnresolvedRefs,
    /// False: `Programmed` does not hold.
    NotProgrammed,
    /// False: `Available` does not hold.
    Unavailable,
    /// False: pods of an older version are being replaced; calls are answered meanwhile.
    RollingOut,
    /// False: the pods that should replace those of an older version do not start; the old ones answer calls.
    RolloutStuck,
}

/// Gives an enum without data the words that its variants have in a status: the variants' own names.
macro_rules! words {
    ($name:ident: $($variant:ident),+ $(,)?) => {
        impl $name {
            /// Every value, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word in the status.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant)),+
                }
            }

            /// The value with this word.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }
    };
}

/// As [`words`], and says which status of the condition each reason goes with: it is never another.
macro_rules! reasons {
    ($name:ident: $($status:ident [$($variant:ident),+ $(,)?]),+ $(,)?) => {
        words!($name: $($($variant),+),+);

        impl $name {
            /// The status of a condition with this reason.
            pub const fn status(self) -> ConditionStatus {
                match self {
                    $($(Self::$variant)|+ => ConditionStatus::$status),+
                }
            }
        }
    };
}

words!(ConditionType: Accepted, ResolvedRefs, Programmed, Available, Ready);
words!(ConditionStatus: True, False, Unknown);
reasons!(AcceptedReason:
    True [Accepted],
    False [NameConflict, InvalidName, InvalidSpec, InvalidPodTemplate, AnotherController, WriteRefused],
    Unknown [Pending]);
reasons!(ResolvedRefsReason: True [ResolvedRefs], False [RefNotFound], Unknown [Pending]);
reasons!(ProgrammedReason: True [Programmed], Unknown [Pending], False [NoGateways, Rejected]);
reasons!(AvailableReason:
True [Ready, ScaledToZero],
False [
    TurnedOff, NotAccepted, WaitingForPods, ImagePullFailed, CrashLooping, Unschedulable, QuotaExceeded,
    PodsRefused, ProbeFailing, PodsFailing,
]);
reasons!(ReadyReason:
True [Ready, ScaledToZero, Pinned],
False [
    TurnedOff, NotAccepted, UnresolvedRefs, NotProgrammed, Unavailable, RollingOut, RolloutStuck,
]);

#[cfg(test)]
mod tests {
    use super::*;

    /// The words are API; this is the list to change on purpose.
    #[test]
    fn the_words_are_these() {
        macro_rules! words_of {
            ($name:ident) => {
                $name::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ")
            };
        }
        assert_eq!(words_of!(ConditionType), "Accepted ResolvedRefs Programmed Available Ready");
        assert_eq!(words_of!(ConditionStatus), "True False Unknown");
        assert_eq!(
            words_of!(AcceptedReason),
            "Accepted NameConflict InvalidName InvalidSpec InvalidPodTemplate AnotherController WriteRefused Pending"
        );
        assert_eq!(words_of!(ResolvedRefsReason), "ResolvedRefs RefNotFound Pending");
        assert_eq!(words_of!(ProgrammedReason), "Programmed Pending NoGateways Rejected");
        assert_eq!(
            words_of!(AvailableReason),
            "Ready ScaledToZero TurnedOff NotAccepted WaitingForPods ImagePullFailed CrashLooping Unschedulable \
             QuotaExceeded PodsRefused ProbeFailing PodsFailing"
        );
        assert_eq!(
            words_of!(ReadyReason),
            "Ready ScaledToZero Pinned TurnedOff NotAccepted UnresolvedRefs NotProgrammed Unavailable RollingOut \
             RolloutStuck"
        );
    }

    #[test]
    fn a_word_leads_back_to_its_value() {
        for reason in AvailableReason::ALL {
            assert_eq!(AvailableReason::from_word(reason.as_str()), Some(*reason));
        }
        assert_eq!(AvailableReason::from_word("available"), None);
    }

    #[test]
    fn every_reason_goes_with_one_status() {
        assert_eq!(AcceptedReason::WriteRefused.status(), ConditionStatus::False);
        assert_eq!(ProgrammedReason::Pending.status(), ConditionStatus::Unknown);
        assert_eq!(AvailableReason::ScaledToZero.status(), ConditionStatus::True);
        assert_eq!(ReadyReason::RollingOut.status(), ConditionStatus::False);
    }
}
