//! nginx, as ingress-nginx and F5's controller configure it.

use krypton_e2e::front::checks::Outcome;
use krypton_e2e::front::nginx::Settings;
use krypton_e2e::lockstep::Format;

use crate::support::{
    Scale, Stage, everything_passes, is_held_back, is_passed_on, large_upload, long_silences, through,
};
use crate::uploads::{upload_is_held_back, upload_is_passed_on};

#[tokio::test]
async fn with_the_recommended_settings_everything_passes() {
    let (stage, scale) = (Stage::start().await, Scale::of_this_run());
    let settings = Settings { read_timeout: scale.read_timeout, ..Settings::RECOMMENDED };
    let front = settings.start(stage.gateway()).await.unwrap();
    everything_passes(&stage, &front, scale).await;
}

#[tokio::test]
async fn silence_above_the_read_timeout_is_cut() {
    let (stage, scale) = (Stage::start().await, Scale::of_this_run());
    let settings = Settings { read_timeout: scale.read_timeout, ..Settings::RECOMMENDED };
    let front = settings.start(stage.gateway()).await.unwrap();
    let cut = long_silences(&through(front.address), scale).await;
    assert_eq!(cut, (Outcome::Refused(504), Outcome::Cut(1)));
}

#[tokio::test]
async fn uploads_are_passed_on_by_their_own_setting_and_by_no_other() {
    let stage = Stage::start().await;
    let front =
        Settings { buffers_uploads: true, ..Settings::RECOMMENDED }.start(stage.gateway()).await.unwrap();
    upload_is_held_back(&stage, front.address).await;
    let stage = Stage::start().await;
    let settings = Settings { buffers_uploads: false, ..Settings::INGRESS_NGINX_DEFAULTS };
    let front = settings.start(stage.gateway()).await.unwrap();
    upload_is_passed_on(&stage, front.address).await;
}

#[tokio::test]
async fn ingress_nginx_without_annotations_streams_and_limits_uploads() {
    let stage = Stage::start().await;
    let front = Settings::INGRESS_NGINX_DEFAULTS.start(stage.gateway()).await.unwrap();
    let base = through(front.address);
    is_passed_on(&base, Format::Sse).await;
    is_passed_on(&base, Format::Ndjson).await;
    assert_eq!(large_upload(&base).await, Outcome::Refused(413));
}

#[tokio::test]
async fn f5_without_annotations_buffers_and_passes_each_chunk_on_all_the_same() {
    let stage = Stage::start().await;
    let front = Settings::F5_DEFAULTS.start(stage.gateway()).await.unwrap();
    let base = through(front.address);
    is_passed_on(&base, Format::Sse).await;
    is_passed_on(&base, Format::Ndjson).await;
    assert_eq!(large_upload(&base).await, Outcome::Refused(413));
}

#[tokio::test]
async fn nginx_that_was_told_nothing_holds_back_all_but_events() {
    let stage = Stage::start().await;
    let front = Settings::PLAIN_DEFAULTS.start(stage.gateway()).await.unwrap();
    let base = through(front.address);
    is_held_back(&stage, &base, Format::Ndjson).await;
    // The gateway puts `X-Accel-Buffering: no` on these.
    is_passed_on(&base, Format::Sse).await;
}

#[tokio::test]
async fn nginx_that_ignores_the_gateways_wish_holds_back_events_too() {
    let stage = Stage::start().await;
    let front = Settings::BUFFERS_EVERYTHING.start(stage.gateway()).await.unwrap();
    let base = through(front.address);
    is_held_back(&stage, &base, Format::Sse).await;
    is_held_back(&stage, &base, Format::Ndjson).await;
}
