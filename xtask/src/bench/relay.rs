//! The lab's relay without limits beside haproxy.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::Setting;
use super::page::{Section, Target};
use super::program::{Server, free_port, json, number, text, version};
use super::stats::paired;

const ABOUT: &str = "\
Bytes through a relay into a sink (1 and 8 streams, two seconds each), and round trips of one byte
through it to an echo on 50 open connections: one under way at a time, and all fifty. Added
latency is the median round trip through the relay less the direct one of the same round. Load,
relay and sink share the cores. haproxy is in TCP mode with its defaults.";

/// A way to the sink and to the echo.
struct Way {
    name: &'static str,
    sink: String,
    echo: String,
    _servers: Vec<Server>,
}

/// The ways, one behind the other in a round, and what was measured on each.
#[derive(Default)]
struct Measured {
    gbit_1: Vec<f64>,
    gbit_8: Vec<f64>,
    trip_1_us: Vec<f64>,
    trip_50_us: Vec<f64>,
}

pub(crate) fn run(setting: &Setting) -> Result<Section> {
    let mut section = Section::new("The lab's relay", ABOUT, setting.rounds);
    let (load, told) = Server::told(Command::new(&setting.bench).arg("load-serve"))?;
    let (sink, echo) = (text(&told, "sink")?.to_owned(), text(&told, "echo")?.to_owned());
    let mut ways = vec![ours(setting, &sink, &echo)?];
    match haproxy(setting, &mut section, &sink, &echo)? {
        Some(way) => ways.push(way),
        None => section.skip("haproxy", "not installed"),
    }
    ways.push(Way { name: "direct", sink, echo, _servers: vec![load] });

    let mut measured: Vec<Measured> = ways.iter().map(|_| Measured::default()).collect();
    for _ in 0..setting.rounds {
        for (way, measured) in ways.iter().zip(&mut measured) {
            let load =
                |args: &[&str], key| number(&json(Command::new(&setting.bench).args(args))?, key);
            let through = |streams| ["load-throughput", &way.sink, streams, "2"];
            measured.gbit_1.push(load(&through("1"), "gbit_per_s")?);
            measured.gbit_8.push(load(&through("8"), "gbit_per_s")?);
            let trip = ["load-latency", &way.echo, "50", "1", "100"];
            measured.trip_1_us.push(load(&trip, "p50_us")?);
            let trip = ["load-latency", &way.echo, "50", "50", "300"];
            measured.trip_50_us.push(load(&trip, "p50_us")?);
        }
    }
    report(&mut section, &ways, &measured);
    Ok(section)
}

fn report(section: &mut Section, ways: &[Way], measured: &[Measured]) {
    let (direct, relays) = measured.split_last().expect("direct is always measured");
    for (way, it) in ways.iter().zip(measured) {
        section.row(format!("{}, 1 stream", way.name), &it.gbit_1, "Gbit/s", Target::None);
        section.row(format!("{}, 8 streams", way.name), &it.gbit_8, "Gbit/s", Target::None);
    }
    let added = |it: &[f64], direct: &[f64]| paired(it, direct, |it, direct| it - direct);
    for (way, it) in ways.iter().zip(relays) {
        let one = added(&it.trip_1_us, &direct.trip_1_us);
        section.row(
            format!("{}, added latency, one under way", way.name),
            &one,
            "us",
            Target::None,
        );
        let fifty = added(&it.trip_50_us, &direct.trip_50_us);
        section.row(
            format!("{}, added latency, fifty under way", way.name),
            &fifty,
            "us",
            Target::None,
        );
    }
    if let [ours, theirs] = relays {
        let ratio = |ours: &[f64], theirs: &[f64]| paired(ours, theirs, |o, t| o / t);
        let throughput = Target::AtLeast(1.0);
        let name = "1 stream, shakedown / haproxy";
        section.row(name, &ratio(&ours.gbit_1, &theirs.gbit_1), "", throughput);
        let name = "8 streams, shakedown / haproxy";
        section.row(name, &ratio(&ours.gbit_8, &theirs.gbit_8), "", throughput);
        // The direct round trip is in both, so their difference is that of what they add.
        let less = |ours: &[f64], theirs: &[f64]| paired(ours, theirs, |o, t| o - t);
        let name = "added latency, one under way, shakedown - haproxy";
        section.row(name, &less(&ours.trip_1_us, &theirs.trip_1_us), "us", Target::AtMost(0.0));
        let name = "added latency, fifty under way, shakedown - haproxy";
        section.row(name, &less(&ours.trip_50_us, &theirs.trip_50_us), "us", Target::AtMost(0.0));
    }
}

fn ours(setting: &Setting, sink: &str, echo: &str) -> Result<Way> {
    let relay = |upstream| Server::told(Command::new(&setting.bench).args(["relay", upstream]));
    let ((one, sink), (other, echo)) = (relay(sink)?, relay(echo)?);
    let (sink, echo) = (text(&sink, "address")?.to_owned(), text(&echo, "address")?.to_owned());
    Ok(Way { name: "shakedown", sink, echo, _servers: vec![one, other] })
}

fn haproxy(
    setting: &Setting,
    section: &mut Section,
    sink: &str,
    echo: &str,
) -> Result<Option<Way>> {
    let Some(program) = setting.find("haproxy") else { return Ok(None) };
    section.version(version(Command::new(&program).arg("-v")));
    let (to_sink, to_echo) = (free_port()?, free_port()?);
    let config = setting.scratch().join("haproxy.cfg");
    fs::write(
        &config,
        format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             listen sink\n  bind 127.0.0.1:{to_sink}\n  server sink {sink}\n\
             listen echo\n  bind 127.0.0.1:{to_echo}\n  server echo {echo}\n"
        ),
    )?;
    let server = Server::on_port(Command::new(program).arg("-db").arg("-f").arg(config), to_echo)?;
    let address = |port| format!("127.0.0.1:{port}");
    let (sink, echo) = (address(to_sink), address(to_echo));
    Ok(Some(Way { name: "haproxy", sink, echo, _servers: vec![server] }))
}
