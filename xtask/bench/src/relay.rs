//! The lab's relay without limits, on a thread for each core; a connection stays where it was
//! accepted, as in haproxy.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use anyhow::Result;
use serde_json::json;

use crate::wait_for_end_of_input;

pub(crate) fn run(upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", json!({ "address": listener.local_addr()? }));
    for _ in 0..thread::available_parallelism()?.get() {
        let listener = listener.try_clone()?;
        thread::spawn(move || serve(listener, upstream));
    }
    wait_for_end_of_input()
}

fn serve(listener: TcpListener, upstream: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(shakedown_lab::relay(listener, upstream).await?)
    })
}
