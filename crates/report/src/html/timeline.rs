//! When each probe ran, as inline SVG.

use maud::{Markup, html as page};
use shakedown_core::meta::RunPhase;
use shakedown_core::record::ProbeRecord;

use crate::clean::CleanRecord;
use crate::words::{self, Tone};

const WIDTH: f64 = 1000.0;
const LABELS: f64 = 250.0;
const ROW: f64 = 22.0;
const AXIS: f64 = 24.0;
/// With more probes than this, a row is a phase instead of a probe.
const MANY: usize = 40;

/// One row of bars.
struct Row<'r> {
    label: String,
    bars: Vec<&'r ProbeRecord>,
}

pub(super) fn timeline(record: &CleanRecord) -> Markup {
    let ran: Vec<&ProbeRecord> = record.probes.iter().filter(|p| p.elapsed_ms > 0.0).collect();
    let total = total_ms(record, &ran);
    if ran.is_empty() || total <= 0.0 {
        return page! {};
    }
    let rows = rows(record, &ran);
    let bottom = AXIS + ROW * float(rows.len());
    let x = |ms: f64| LABELS + (WIDTH - LABELS) * (ms / total).clamp(0.0, 1.0);
    page! {
        section {
            h2 { "Timeline" }
            div class="wide" {
                svg class="timeline" role="img" aria-label="when each probe ran"
                    viewBox={ "0 0 " (WIDTH + 40.0) " " (bottom + 4.0) } {
                    @for tick in ticks(total) {
                        @let x = round(x(tick));
                        line class="grid" x1=(x) x2=(x) y1=(AXIS - 6.0) y2=(bottom) {}
                        text class="tick" x=(x) y="12" { (words::duration(tick)) }
                    }
                    @for (index, row) in rows.iter().enumerate() {
                        @let y = AXIS + ROW * float(index);
                        text class="label" x=(LABELS - 10.0) y=(y + 15.0) { (row.label) }
                        @for probe in &row.bars {
                            @let start = offset_ms(record, probe);
                            @let (left, right) = (x(start), x(start + probe.elapsed_ms));
                            rect class=(Tone::of(&probe.result).as_str()) x=(round(left))
                                y=(y + 4.0) width=(round((right - left).max(2.0)))
                                height=(ROW - 8.0) rx="2" {
                                title {
                                    (words::name(record, probe)) ": " (words::word(&probe.result))
                                    ", " (words::duration(probe.elapsed_ms))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn rows<'r>(record: &CleanRecord, ran: &[&'r ProbeRecord]) -> Vec<Row<'r>> {
    if ran.len() <= MANY {
        let row =
            |probe: &&'r ProbeRecord| Row { label: words::name(record, probe), bars: vec![probe] };
        return ran.iter().map(row).collect();
    }
    let row = |phase: RunPhase| Row {
        label: phase.title().to_owned(),
        bars: ran.iter().copied().filter(|probe| probe.phase == phase).collect(),
    };
    RunPhase::ALL.into_iter().map(row).filter(|row| !row.bars.is_empty()).collect()
}

/// When a probe began, since the start of the run.
fn offset_ms(record: &CleanRecord, probe: &ProbeRecord) -> f64 {
    (probe.at.duration_since(record.started_at).as_secs_f64() * 1e3).max(0.0)
}

fn total_ms(record: &CleanRecord, ran: &[&ProbeRecord]) -> f64 {
    let last = ran.iter().map(|probe| offset_ms(record, probe) + probe.elapsed_ms);
    last.fold(record.elapsed_ms.unwrap_or(0.0), f64::max)
}

/// Four to eight round moments.
fn ticks(total_ms: f64) -> Vec<f64> {
    const STEPS: [f64; 18] = [
        1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 3e5,
        6e5, 18e5,
    ];
    let step = STEPS.into_iter().find(|step| total_ms / step <= 8.0).unwrap_or(36e5);
    (0..=8).map(|n| f64::from(n) * step).take_while(|tick| *tick <= total_ms).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred rows")]
fn float(count: usize) -> f64 {
    count as f64
}

pub(super) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
