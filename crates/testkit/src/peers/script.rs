//! What a peer does, as data.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

/// The length the huge scripts announce: 1 GB.
pub const HUGE: u64 = 1_000_000_000;

/// One thing a peer does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends this.
    Send(Vec<u8>),
    /// Reads exactly so many bytes.
    Read(usize),
    /// Reads up to and including the empty line that ends an HTTP head.
    ReadHead,
    /// Reads an HTTP head and answers 200 with that head as the body.
    EchoHead,
    /// Sends this again and again, a byte each time so long has passed, for ever.
    Drip {
        /// What to send.
        bytes: Vec<u8>,
        /// How long to wait before each byte.
        every: Duration,
    },
    /// Sends this again and again, as fast as it is taken, for ever.
    Flood(Vec<u8>),
    /// Does nothing for so long.
    Wait(Duration),
    /// Does nothing for ever.
    Hold,
    /// Resets the connection.
    Reset,
    /// Shakes hands as a TLS server; a PostgreSQL client's SSLRequest is answered first.
    Tls(Arc<ServerConfig>),
    /// Reads the request of a WebSocket client and upgrades as it should be.
    Upgrade,
}

/// A list of [`Act`]s; at its end, or when an act fails, the connection is closed in order.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(crate) acts: Arc<[Act]>,
}

impl Script {
    /// These acts.
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Self { acts: acts.into_iter().collect() }
    }

    /// Accepts, never answers.
    pub fn silent() -> Self {
        Self::new([Act::Hold])
    }

    /// Sends `bytes` again and again, one byte every `every`.
    pub fn drip(bytes: &[u8], every: Duration) -> Self {
        Self::new([Act::Drip { bytes: bytes.to_vec(), every }])
    }

    /// An HTTP head without end.
    pub fn endless_header() -> Self {
        let line = format!("x-filler: {}\r\n", "a".repeat(1000));
        Self::new([Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), Act::Flood(line.into_bytes())])
    }

    /// An authentication request of 1 GB, of which as much comes as is taken.
    pub fn huge_postgres() -> Self {
        let length = u32::try_from(HUGE).expect("fits").to_be_bytes();
        let mut head = vec![b'R'];
        head.extend_from_slice(&length);
        Self::new([Act::Send(head), Act::Flood(vec![0; 16 << 10])])
    }

    /// An HTTP body of 1 GB, of which as much comes as is taken.
    pub fn huge_http() -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {HUGE}\r\n\r\n");
        Self::new([Act::ReadHead, Act::Send(head.into_bytes()), Act::Flood(vec![b'x'; 16 << 10])])
    }

    /// A WebSocket, and on it a message of 1 GB, of which as much comes as is taken.
    pub fn huge_websocket() -> Self {
        let mut frame = vec![0x82, 127];
        frame.extend_from_slice(&HUGE.to_be_bytes());
        Self::new([Act::Upgrade, Act::Send(frame), Act::Flood(vec![0; 16 << 10])])
    }

    /// 4 KiB that are no protocol, then nothing.
    pub fn garbage() -> Self {
        let bytes =
            (0..4096u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80);
        Self::new([Act::Send(bytes.collect()), Act::Hold])
    }

    /// Resets at once.
    pub fn reset() -> Self {
        Self::new([Act::Reset])
    }

    /// Closes in order after it has read so many bytes.
    pub fn close_after(bytes: usize) -> Self {
        Self::new([Act::Read(bytes)])
    }

    /// Answers one HTTP request and closes.
    pub fn http(status_line: &str, body: &str) -> Self {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status_line}\r\ncontent-length: {length}\r\n\r\n{body}");
        Self::new([Act::ReadHead, Act::Send(answer.into_bytes())])
    }

    /// The same after a TLS handshake.
    #[must_use]
    pub fn over_tls(&self, config: Arc<ServerConfig>) -> Self {
        Self::new([Act::Tls(config)].into_iter().chain(self.acts.iter().cloned()))
    }
}
