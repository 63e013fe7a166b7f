//! The things that `cargo xtask bench` measures, each a command, so that each is a process whose time
//! and memory are its own. Every one prints one line of JSON; `export` makes what others measure on.

#![expect(clippy::print_stdout, reason = "one line of JSON is what a measurement is")]

mod export;
mod http_probe;
mod load;
mod no_ops;
mod pg_connect;
mod relay;
mod serve;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::time::{ClockId, clock_gettime};

const USAGE: &str = "\
no-ops DIR COUNT                                  a run of COUNT probes that do nothing
pg-serve                                          a PostgreSQL server, until standard input ends
pg-connect PORT DATABASE USER PASSWORD COUNT C    connect, select 1, close, C at a time
http-serve DIR                                    an HTTP and an HTTPS server, until standard input ends
http-probe URL CA COUNT                           HTTP probes, one at a time
export lines|array BYTES                          a log export of about BYTES bytes on standard output
relay UPSTREAM                                    a relay without limits, until standard input ends
load-serve                                        a sink and an echo, until standard input ends
load-throughput ADDRESS STREAMS SECONDS           bytes through a sink
load-latency ADDRESS CONNECTIONS AT_ONCE ROUNDS   round trips to an echo";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["no-ops", dir, count] => no_ops::run(dir.as_ref(), number(count)?),
        ["pg-serve"] => serve::postgres(),
        ["pg-connect", port, database, user, password, count, at_once] => {
            let target = pg_connect::target(number(port)?, database, user, password);
            pg_connect::run(target, number(count)?, number(at_once)?)
        }
        ["http-serve", dir] => serve::http(dir.as_ref()),
        ["http-probe", url, ca, count] => http_probe::run(url, ca, number(count)?),
        ["export", "lines", bytes] => export::write(export::Shape::Lines, number(bytes)?),
        ["export", "array", bytes] => export::write(export::Shape::Array, number(bytes)?),
        ["relay", upstream] => relay::run(upstream.parse()?),
        ["load-serve"] => load::serve(),
        ["load-throughput", address, streams, seconds] => load::throughput(
            address.parse()?,
            number(streams)?,
            Duration::from_secs(number(seconds)?),
        ),
        ["load-latency", address, connections, at_once, rounds] => {
            load::latency(address.parse()?, number(connections)?, number(at_once)?, number(rounds)?)
        }
        _ => bail!("usage:\n{USAGE}"),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().with_context(|| format!("`{text}` is not a number"))
}

/// The processor time this process has used.
fn cpu() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?))
}

/// Returns when standard input ends, which it does when whoever started this is gone.
fn wait_for_end_of_input() -> Result<()> {
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
