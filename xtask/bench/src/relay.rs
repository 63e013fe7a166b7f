//! The lab's relay without limits, on a few threads for each core; a connection stays on the thread it
//! was given, and they are given out in turns, as haproxy gives each to the thread that has the fewest.

use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use anyhow::Result;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::{runtime, wait_for_end_of_input};

/// Whoever is sent bytes takes the core from the thread that sent them. With one thread for each core
/// all its connections wait meanwhile, with some only those of that thread.
const THREADS_PER_CORE: usize = 4;

pub(crate) fn run(upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", json!({ "address": listener.local_addr()? }));
    let cores = thread::available_parallelism()?.get();
    let workers = (0..THREADS_PER_CORE * cores).map(|_| worker()).collect::<Result<Vec<_>>>()?;
    thread::spawn(move || {
        for (client, worker) in listener.incoming().flatten().zip(workers.iter().cycle()) {
            worker.spawn(async move {
                client.set_nonblocking(true)?;
                shakedown_lab::relay(TcpStream::from_std(client)?, upstream).await
            });
        }
    });
    wait_for_end_of_input()
}

/// A thread that runs what it is given.
fn worker() -> Result<Handle> {
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(pending::<()>()));
    Ok(handle)
}
