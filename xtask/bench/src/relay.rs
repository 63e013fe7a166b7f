//! The lab's relay without limits.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::json;
use tokio::net::TcpListener;

use crate::wait_for_end_of_input;

pub(crate) fn run(upstream: SocketAddr) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    println!("{}", json!({ "address": listener.local_addr()? }));
    runtime.spawn(shakedown_lab::relay(listener, upstream));
    wait_for_end_of_input()
}
