//! Small charts as inline SVG: the course of a series, a share of a ceiling.

use maud::{Markup, html as page};
use shakedown_core::monitor::Reading;
use shakedown_core::record::StampedSample;

use super::timeline::round;

const WIDTH: f64 = 160.0;
const HEIGHT: f64 = 28.0;

/// The course of one series over the run; interrupted where the value was unavailable.
pub(super) fn sparkline(name: &str, samples: &[&StampedSample]) -> Markup {
    let value = |reading: &Reading| match reading {
        Reading::Value(value) => Some(*value),
        Reading::Unavailable(_) => None,
    };
    let points: Vec<(f64, Option<f64>)> = samples
        .iter()
        .map(|stamped| {
            let at = stamped.sample.taken_at.duration_since(samples[0].sample.taken_at);
            (at.as_secs_f64(), value(&stamped.sample.value))
        })
        .collect();
    let end = points.last().map_or(0.0, |(at, _)| *at);
    let values = || points.iter().filter_map(|(_, value)| *value);
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if values().count() < 2 || end <= 0.0 {
        return page! {};
    }
    let x = |at: f64| round(2.0 + (WIDTH - 4.0) * at / end);
    let y = |value: f64| match high > low {
        true => round(HEIGHT - 3.0 - (HEIGHT - 6.0) * (value - low) / (high - low)),
        false => HEIGHT / 2.0,
    };
    let mut path = String::new();
    let mut pen_down = false;
    for (at, value) in points {
        let Some(value) = value else {
            pen_down = false;
            continue;
        };
        // The line of no length makes a dot of a value that stands alone.
        let (move_to, dot) = if pen_down { ('L', "") } else { ('M', "h0 ") };
        path.push_str(&format!("{move_to}{} {} {dot}", x(at), y(value)));
        pen_down = true;
    }
    page! {
        svg class="spark" role="img" aria-label={ "course of " (name) }
            viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } {
            path d=(path.trim_end()) {}
        }
    }
}

/// `part` of `whole` as a bar.
pub(super) fn bar(part: u32, whole: u32) -> Markup {
    let share = f64::from(part) / f64::from(whole.max(1));
    page! {
        svg class="bar" role="img" aria-label={ (part) " of " (whole) } viewBox="0 0 160 12" {
            rect class="rest" x="0" y="1" width="160" height="10" rx="2" {}
            rect class="used" x="0" y="1" width=(round(160.0 * share.min(1.0))) height="10" rx="2" {}
        }
    }
}
