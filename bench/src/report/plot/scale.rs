//! Where on an axis a value is.
//!
//! Owns the ends of an axis and its ticks. Never draws.

use crate::report::table::ends;

/// Ticks are one, two or five times a power of ten.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

/// As many as are readable.
const TICKS: f64 = 6.0;

/// An axis from `low` to `high`, which are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

// === impl Scale ===

impl Scale {
    /// From 0 to a round number above all values. `None` without values.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (_, high) = ends(&finite(values))?;
        let high = if high > 0.0 { high } else { 1.0 };
        let step = step(high);
        Some(Self { low: 0.0, high: (high / step).ceil() * step, log: false })
    }

    /// From one value to another.
    pub(super) fn between(low: f64, high: f64) -> Option<Self> {
        if !(low.is_finite() && high.is_finite()) {
            return None;
        }
        // Large enough to make a difference to a large value.
        let margin = low.abs().max(1.0);
        let (low, high) = if high > low { (low, high) } else { (low - margin, low + margin) };
        Some(Self { low, high, log: false })
    }

    /// By the logarithm, from the smallest of the positive values to the largest. `None` without such.
    pub(super) fn log(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values = finite(values);
        values.retain(|value| *value > 0.0);
        let (low, high) = ends(&values)?;
        let (low, high) = if high > low { (low, high) } else { (low / 2.0, low * 2.0) };
        Some(Self { low, high, log: true })
    }

    /// With ends that are ticks, so that nothing lies on the frame.
    pub(super) fn rounded(self) -> Self {
        if !self.log {
            return self;
        }
        let below = |value: f64| STEPS.iter().map(|step| step * decade(value)).rfind(|tick| *tick <= value);
        let low = below(self.low).unwrap_or(self.low);
        let above =
            STEPS.iter().chain(&[10.0]).map(|step| step * decade(self.high)).find(|tick| *tick >= self.high);
        Self { low, high: above.unwrap_or(self.high), ..self }
    }

    /// From 0 at the low end to 1 at the high one.
    pub(super) fn at(self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    /// Whether a value is on it.
    pub(super) fn holds(self, value: f64) -> bool {
        (self.low * 0.999_999..=self.high * 1.000_001).contains(&value)
    }

    /// Round numbers on it.
    pub(super) fn ticks(self) -> Vec<f64> {
        if !self.log {
            let step = step(self.high - self.low);
            let first = (self.low / step).ceil();
            let all = (0..=20).map(|n| (first + f64::from(n)) * step);
            return all.take_while(|tick| *tick <= self.high + step * 1e-6).collect();
        }
        let decades = (self.high / self.low).log10();
        let steps = if decades > 3.5 { &STEPS[..1] } else { &STEPS[..] };
        let powers = (0..=40).map(|power| decade(self.low) * 10_f64.powi(power));
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * power));
        all.take_while(|tick| *tick <= self.high * 1.000_001).filter(|tick| self.holds(*tick)).collect()
    }
}

fn finite(values: impl Iterator<Item = f64>) -> Vec<f64> {
    values.filter(|value| value.is_finite()).collect()
}

/// The power of ten at or below.
fn decade(value: f64) -> f64 {
    10_f64.powf(value.log10().floor())
}

/// Between two ticks of a straight axis that is so long.
fn step(length: f64) -> f64 {
    let least = length / TICKS;
    let decade = decade(least);
    let step = STEPS.iter().map(|step| step * decade).find(|step| *step >= least * 0.999);
    step.unwrap_or(10.0 * decade)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_axis_begins_at_zero_and_ends_above() {
        let scale = Scale::from_zero([3.0, 93.0].into_iter()).unwrap();
        assert_eq!(scale.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        let places = [0.0, 50.0, 1000.0, -1.0].map(|value| format!("{:.3}", scale.at(value)));
        assert_eq!(places, ["0.000", "0.500", "1.000", "0.000"]);
        assert_eq!(Scale::from_zero([0.0].into_iter()).map(|scale| scale.at(0.0)), Some(0.0));
        assert_eq!(Scale::from_zero([f64::NAN].into_iter()), None);
    }

    #[test]
    fn a_logarithmic_axis_has_no_zero() {
        let scale = Scale::log([0.0, 300.0, 12_000.0].into_iter()).unwrap().rounded();
        assert_eq!(scale.ticks(), [200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4]);
        assert!(scale.at(0.0) < 1e-9);
        assert!((scale.at(2_000.0) - 0.5).abs() < 1e-9);
        assert_eq!(Scale::log([0.0].into_iter()), None);
    }

    #[test]
    fn one_value_is_in_the_middle() {
        for value in [2.0, 0.0, -3.0, 1e30] {
            assert_eq!(Scale::between(value, value).map(|scale| scale.at(value)), Some(0.5));
        }
        assert!(Scale::log([5.0].into_iter()).is_some_and(|scale| (scale.at(5.0) - 0.5).abs() < 1e-9));
    }
}
