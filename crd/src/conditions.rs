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
}

/// Reasons of [`ConditionType::ResolvedRefs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResolvedRefsReason {
    /// True: all was found, or nothing is referred to.
    ResolvedRefs,
    /// False: something that the spec refers to does not exist.
    RefNotFound,
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
    /// False: pods are starting. The Go system's word.
    WaitingForPods,
    /// False: pods do not start, or crash again and again.
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
        }
    };
}

words!(ConditionType: Accepted, ResolvedRefs, Programmed, Available, Ready);
words!(AcceptedReason: Accepted, NameConflict, InvalidName, InvalidSpec, InvalidPodTemplate);
words!(ResolvedRefsReason: ResolvedRefs, RefNotFound);
words!(ProgrammedReason: Programmed, Pending, NoGateways, Rejected);
words!(AvailableReason: Ready, ScaledToZero, TurnedOff, WaitingForPods, PodsFailing);
words!(ReadyReason:
    Ready, ScaledToZero, Pinned, TurnedOff, NotAccepted, UnresolvedRefs, NotProgrammed, Unavailable);

#[cfg(test)]
mod tests {
    use super::*;

    /// The words are API; this is the list to change on purpose.
    #[test]
    fn the_words_are_these() {
        let words: Vec<_> = ConditionType::ALL.iter().map(|word| word.as_str()).collect();
        assert_eq!(words, ["Accepted", "ResolvedRefs", "Programmed", "Available", "Ready"]);

        let words: Vec<_> = AcceptedReason::ALL.iter().map(|word| word.as_str()).collect();
        assert_eq!(words, ["Accepted", "NameConflict", "InvalidName", "InvalidSpec", "InvalidPodTemplate"]);

        let words: Vec<_> = ResolvedRefsReason::ALL.iter().map(|word| word.as_str()).collect();
        assert_eq!(words, ["ResolvedRefs", "RefNotFound"]);

        let words: Vec<_> = ProgrammedReason::ALL.iter().map(|word| word.as_str()).collect();
        assert_eq!(words, ["Programmed", "Pending", "NoGateways", "Rejected"]);

        let words: Vec<_> = AvailableReason::ALL.iter().map(|word| word.as_str()).collect();
        assert_eq!(words, ["Ready", "ScaledToZero", "TurnedOff", "WaitingForPods", "PodsFailing"]);

        let words: Vec<_> = ReadyReason::ALL.iter().map(|word| word.as_str()).collect();
        assert_eq!(
            words,
            [
                "Ready",
                "ScaledToZero",
                "Pinned",
                "TurnedOff",
                "NotAccepted",
                "UnresolvedRefs",
                "NotProgrammed",
                "Unavailable"
            ]
        );
    }
}
