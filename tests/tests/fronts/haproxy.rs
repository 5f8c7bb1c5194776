//! HAProxy, as its ingress controller configures it.

use krypton_e2e::front::checks::Outcome;
use krypton_e2e::front::haproxy::Settings;
use krypton_e2e::lockstep::Format;

use crate::support::{
    Scale, Stage, everything_passes, is_passed_on, large_upload, long_calls_pass, long_silences, through,
};

#[tokio::test]
async fn with_the_recommended_settings_everything_passes() {
    let (stage, scale) = (Stage::start().await, Scale::of_this_run());
    let settings = Settings { server_timeout: scale.read_timeout, ..Settings::RECOMMENDED };
    let front = settings.start(stage.gateway()).await.unwrap();
    everything_passes(&stage, &front, scale).await;
}

/// No annotation sets the client's timeout.
#[tokio::test]
async fn a_client_may_be_silent_while_it_reads() {
    let (stage, scale) = (Stage::start().await, Scale::of_this_run());
    let client_timeout = scale.shorter() / 2;
    let settings = Settings { server_timeout: scale.read_timeout, client_timeout };
    let front = settings.start(stage.gateway()).await.unwrap();
    long_calls_pass(&through(front.address), scale).await;
}

#[tokio::test]
async fn silence_above_the_server_timeout_is_cut() {
    let (stage, scale) = (Stage::start().await, Scale::of_this_run());
    let settings = Settings { server_timeout: scale.read_timeout, ..Settings::RECOMMENDED };
    let front = settings.start(stage.gateway()).await.unwrap();
    let cut = long_silences(&through(front.address), scale).await;
    assert_eq!(cut, (Outcome::Refused(504), Outcome::Cut(1)));
}

#[tokio::test]
async fn without_annotations_it_streams_and_takes_uploads() {
    let stage = Stage::start().await;
    let front = Settings::CLASS_DEFAULTS.start(stage.gateway()).await.unwrap();
    let base = through(front.address);
    is_passed_on(&base, Format::Sse).await;
    is_passed_on(&base, Format::Ndjson).await;
    assert_eq!(large_upload(&base).await, Outcome::Whole);
}
