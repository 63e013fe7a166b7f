//! The only part of shakedown that connects to the target.
//!
//! A connection costs a [`Lease`](shakedown_core::Lease) of the run's budget, which travels inside
//! it, and is climbed rung by rung: `resolve`, `connect`, `tls`, then `startup`, `auth`, `ready`
//! for PostgreSQL, `http` for HTTP, `upgrade` for WebSockets. Every rung is timed and fails with a
//! typed [`Fault`](shakedown_core::Fault); a [`Climb`] holds them.
//!
//! # What every function here keeps to
//!
//! - It waits for the budget's rate of new connections before it dials, and does not count that
//!   wait in any rung.
//! - It ends: the whole ladder has one limit, the least of what was asked and the environment's
//!   `safety.connect_timeout`, and ends sooner when the probe is cancelled or its time is up
//!   ([`Climb::interrupted`]).
//! - It reserves nothing because a peer announced it: lengths are looked at below the protocol
//!   libraries, and what is above a cap is [`Fault::TooLarge`](shakedown_core::Fault::TooLarge).
//! - The lease is given back at once when the peer is known to have closed its end or was never
//!   reached; otherwise it lingers, because the peer may go on counting us.
//! - Words of the peer are cut to a sane length and shown without control characters.
//!
//! # Cancel safety
//!
//! Every function here may be dropped at any await: the socket closes and the lease lingers.

mod bounds;
mod climb;
pub mod http;
pub mod net;

pub mod pg;
mod tls;
mod transport;
mod watched;
mod wire;
pub mod ws;

pub use climb::Climb;
pub use tls::CertificateInfo;
pub use wire::Wire;
