//! How far the answer to the client has come.

use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::proxy::Session;

use super::headers;

/// Whether the final answer has begun: from then on it can only go on or be cut. A 1xx is none, but for 101.
pub(super) fn has_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|answer| is_final(answer.status))
}

/// Whether `status` is that of a final answer.
pub(super) fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether an answer to `method` ends with its header.
pub(super) fn ends_with_header(method: &Method, answer: &ResponseHeader) -> bool {
    *method == Method::HEAD
        || matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || answer.headers.get(http::header::CONTENT_LENGTH).is_some_and(|length| length == "0")
}

/// Ends a standing stream as if the agent had ended it. Whether that could be done.
pub(super) async fn end_cleanly(session: &mut Session) -> bool {
    if session.was_upgraded() {
        return true;
    }
    // Only a stream of events may end anywhere; half of anything else must not look whole.
    let may_end_here = session.response_written().is_some_and(|answer| {
        headers::is_event_stream(&answer.headers)
            && !answer.headers.contains_key(http::header::CONTENT_LENGTH)
    });
    may_end_here && session.response_duplex_vec(vec![HttpTask::Done]).await.is_ok()
}
