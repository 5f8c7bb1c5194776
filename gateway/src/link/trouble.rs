//! What kinds of trouble a connection has, so that the log says each of them once until all is well again.

use super::LinkError;

/// What a person would do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Wait, or look after the controller.
    Away,
    /// Look at the certificate.
    Untrusted,
    /// Look at who may listen.
    Refused,
    /// Look at this gateway's files.
    Files,
}

/// What the log knows already.
#[derive(Debug, Default)]
pub(crate) struct Told(Vec<Trouble>);

// === impl Trouble ===

impl From<&LinkError> for Trouble {
    fn from(error: &LinkError) -> Self {
        match error {
            LinkError::Tls(error) if error.is_closed() => Self::Away,
            LinkError::Tls(_) => Self::Untrusted,
            LinkError::File(_) => Self::Files,
            LinkError::Status(status)
                if matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::PermissionDenied) =>
            {
                Self::Refused
            }
            _ => Self::Away,
        }
    }
}

// === impl Told ===

impl Told {
    /// Whether the log must be told.
    pub(crate) fn is_new(&mut self, trouble: Trouble) -> bool {
        let is_new = !self.0.contains(&trouble);
        if is_new {
            self.0.push(trouble);
        }
        is_new
    }

    /// All is well.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_is_told_once_until_all_is_well() {
        let mut told = Told::default();
        let away = Trouble::from(&LinkError::Ended);
        let refused = Trouble::from(&LinkError::from(tonic::Status::unauthenticated("who are you?")));
        assert_eq!([away, refused], [Trouble::Away, Trouble::Refused]);
        assert_eq!(
            [away, refused, away, refused].map(|trouble| told.is_new(trouble)),
            [true, true, false, false]
        );
        told.clear();
        assert!(told.is_new(away));
    }
}
