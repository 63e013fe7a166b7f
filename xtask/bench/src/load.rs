//! Load for relays: bytes into a sink, round trips to an echo.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use shakedown_core::clock;

use crate::wait_for_end_of_input;

const BLOCK_BYTES: usize = 256 * 1024;

/// A sink that answers the end of a stream with the number of bytes it got, and an echo.
pub(crate) fn serve() -> Result<()> {
    let sink = listen(|mut stream| {
        let mut block = vec![0; BLOCK_BYTES];
        let mut total = 0_u64;
        while let Ok(bytes @ 1..) = stream.read(&mut block) {
            total += bytes as u64;
        }
        let _ = stream.write_all(&total.to_be_bytes());
    })?;
    let echo = listen(|mut stream| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    })?;
    println!("{}", json!({ "sink": sink, "echo": echo }));
    wait_for_end_of_input()
}

fn listen(each: fn(TcpStream)) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            thread::spawn(move || each(stream));
        }
    });
    Ok(address)
}

/// Writes into `streams` streams for so long; every byte counted has arrived.
pub(crate) fn throughput(address: SocketAddr, streams: usize, time: Duration) -> Result<()> {
    let begun = clock::now();
    let one = move || {
        let mut stream = connect(address)?;
        let block = vec![0; BLOCK_BYTES];
        while begun.elapsed() < time {
            stream.write_all(&block)?;
        }
        stream.shutdown(Shutdown::Write)?;
        let mut total = [0; 8];
        stream.read_exact(&mut total).context("the sink did not say what it got")?;
        anyhow::Ok(u64::from_be_bytes(total))
    };
    let threads: Vec<_> = (0..streams).map(|_| thread::spawn(one)).collect();
    let mut bytes = 0;
    for thread in threads {
        bytes += thread.join().expect("no panic")?;
    }
    let gbit_per_s = bytes as f64 * 8.0 / 1e9 / begun.elapsed().as_secs_f64();
    println!("{}", json!({ "gbit_per_s": gbit_per_s }));
    Ok(())
}

/// Sends a byte and waits for it to come back, `rounds` times on each of `connections` kept open;
/// `at_once` of them are under way at a time.
pub(crate) fn latency(
    address: SocketAddr,
    connections: usize,
    at_once: usize,
    rounds: usize,
) -> Result<()> {
    ensure!(connections.is_multiple_of(at_once), "as many connections for each that is under way");
    let mut streams = Vec::new();
    for _ in 0..connections {
        let mut stream = connect(address)?;
        // The relay's own connect is not part of a round trip.
        round_trip(&mut stream)?;
        streams.push(stream);
    }
    let share = connections / at_once;
    let mut threads = Vec::new();
    while !streams.is_empty() {
        let mut mine: Vec<TcpStream> = streams.drain(..share).collect();
        threads.push(thread::spawn(move || {
            let mut times_us = Vec::with_capacity(rounds * share);
            for _ in 0..rounds {
                for stream in &mut mine {
                    times_us.push(round_trip(stream)?.as_secs_f64() * 1e6);
                }
            }
            anyhow::Ok(times_us)
        }));
    }
    let mut times_us = Vec::new();
    for thread in threads {
        times_us.extend(thread.join().expect("no panic")?);
    }
    times_us.sort_by(f64::total_cmp);
    let at = |share: f64| times_us[((times_us.len() - 1) as f64 * share) as usize];
    println!("{}", json!({ "p50_us": at(0.5), "p99_us": at(0.99) }));
    Ok(())
}

fn round_trip(stream: &mut TcpStream) -> Result<Duration> {
    let begun = clock::now();
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0])?;
    Ok(begun.elapsed())
}

#[expect(
    clippy::disallowed_methods,
    reason = "load on a relay of this machine; no target is there"
)]
fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
