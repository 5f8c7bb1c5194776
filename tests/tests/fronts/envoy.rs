//! Envoy, with the timeouts that Contour and Envoy Gateway render.

use std::time::Duration;

use krypton_e2e::front::checks::{Outcome, stream};
use krypton_e2e::front::envoy::Settings;
use krypton_e2e::lockstep::Format;

use crate::support::{Scale, Stage, everything_passes, is_passed_on, large_upload, long_silences, through};

#[tokio::test]
async fn with_the_recommended_settings_everything_passes() {
    let (stage, scale) = (Stage::start().await, Scale::of_this_run());
    let settings = Settings { stream_idle_timeout: scale.read_timeout, ..Settings::RECOMMENDED };
    let front = settings.start(stage.gateway()).await.unwrap();
    everything_passes(&stage, &front, scale).await;
}

#[tokio::test]
async fn silence_above_the_idle_timeout_is_cut() {
    let (stage, scale) = (Stage::start().await, Scale::of_this_run());
    let settings = Settings { stream_idle_timeout: scale.read_timeout, ..Settings::RECOMMENDED };
    let front = settings.start(stage.gateway()).await.unwrap();
    let cut = long_silences(&through(front.address), scale).await;
    assert_eq!(cut, (Outcome::Refused(504), Outcome::Cut(1)));
}

#[tokio::test]
async fn without_a_route_timeout_of_its_own_a_long_stream_is_cut_though_it_is_never_silent() {
    let (stage, scale) = (Stage::start().await, Scale::of_this_run());
    let settings = Settings { route_timeout: scale.read_timeout, ..Settings::CLASS_DEFAULTS };
    let front = settings.start(stage.gateway()).await.unwrap();
    let outcome = stream(&through(front.address), scale.events, Scale::PACE).await.unwrap();
    let Outcome::Cut(after) = outcome else { panic!("{outcome:?}") };
    assert!((1..scale.events).contains(&after), "{after} of {}", scale.events);
    // An answer that has not begun is refused.
    let (before_head, _) = long_silences(&through(front.address), scale).await;
    assert_eq!(before_head, Outcome::Refused(504));
}

#[tokio::test]
async fn without_settings_it_streams_what_is_short_and_takes_uploads() {
    let stage = Stage::start().await;
    assert_eq!(Settings::CLASS_DEFAULTS.route_timeout, Duration::from_secs(15));
    let front = Settings::CLASS_DEFAULTS.start(stage.gateway()).await.unwrap();
    let base = through(front.address);
    is_passed_on(&base, Format::Sse).await;
    is_passed_on(&base, Format::Ndjson).await;
    assert_eq!(large_upload(&base).await, Outcome::Whole);
}
