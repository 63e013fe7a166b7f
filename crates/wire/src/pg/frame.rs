//! The framing of the PostgreSQL protocol, followed below the client library.

use shakedown_core::Fault;

/// The longest message that is accepted. Far above any message our statements lead to.
pub(crate) const MESSAGE_CAP: u64 = 1 << 20;

/// The most SCRAM iterations done for a server. They are done at one go on our thread; 4096 is the
/// default, 200,000 take some tenths of a second.
const SCRAM_ITERATIONS_CAP: u64 = 200_000;

/// The longest SASL message looked into; libpq accepts 2000 bytes.
const SASL_CAP: usize = 2000;

/// What a piece of the server's stream told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The first message of the session began, and it is not an error.
    Answered,
    /// AuthenticationOk.
    Authenticated,
    /// BackendKeyData with the backend's process id.
    Backend(i32),
    /// ReadyForQuery.
    Ready,
}

/// Follows messages: a byte of type, four bytes of length, the body.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// The message's head: 5 bytes, or 9 where the first four bytes of the body tell something.
    head: [u8; 9],
    have: usize,
    /// How much of the body is still to come.
    left: usize,
    /// The body of a SASL message, being collected.
    sasl: Option<Vec<u8>>,
    messages: u64,
    ready: bool,
}

impl Frame {
    /// Looks at the next bytes the server sent.
    ///
    /// # Errors
    ///
    /// [`Fault::Protocol`] when they cannot be the protocol, [`Fault::TooLarge`] when a message of
    /// more than 1 MiB is announced.
    pub(crate) fn follow(
        &mut self,
        mut bytes: &[u8],
        mut tell: impl FnMut(Event),
    ) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (body, rest) = bytes.split_at(bytes.len().min(self.left));
                self.left -= body.len();
                bytes = rest;
                self.collect(body)?;
                continue;
            }
            if self.have == 0 {
                self.begin(bytes[0], &mut tell)?;
            }
            let wanted = self.head_length();
            let (head, rest) = bytes.split_at(bytes.len().min(wanted - self.have));
            self.head[self.have..self.have + head.len()].copy_from_slice(head);
            self.have += head.len();
            bytes = rest;
            if self.have >= 5 && self.have == self.head_length() {
                self.complete_head(&mut tell)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, kind: u8, tell: &mut impl FnMut(Event)) -> Result<(), Fault> {
        let known: &[u8] = if self.ready { b"123ACDEGHIKNRSTVWZcdnstv" } else { b"EKNRSZv" };
        if !known.contains(&kind) {
            return Err(Fault::Protocol {
                message: format!(
                    "expected a message of PostgreSQL, came byte {kind:#04x} ({:?})",
                    char::from(kind)
                ),
            });
        }
        if self.messages == 0 && kind != b'E' {
            tell(Event::Answered);
        }
        self.messages += 1;
        self.head[0] = kind;
        Ok(())
    }

    /// How long the head of the message at hand is.
    fn head_length(&self) -> usize {
        match self.head[0] {
            b'R' | b'K' if !self.ready => 9,
            _ => 5,
        }
    }

    fn complete_head(&mut self, tell: &mut impl FnMut(Event)) -> Result<(), Fault> {
        let four = |at: usize| {
            let bytes = self.head[at..at + 4].try_into().expect("four bytes");
            u32::from_be_bytes(bytes)
        };
        let (kind, announced, seen) = (self.head[0], u64::from(four(1)), self.have - 5);
        if announced > MESSAGE_CAP {
            return Err(Fault::TooLarge { bytes: announced, cap: MESSAGE_CAP });
        }
        let body = (announced as usize).checked_sub(4).filter(|&body| body >= seen);
        let Some(body) = body else {
            return Err(Fault::Protocol {
                message: format!("a message of type {:?} of {announced} bytes", char::from(kind)),
            });
        };
        self.left = body - seen;
        self.have = 0;
        match kind {
            b'R' if seen > 0 => match four(5) {
                0 => tell(Event::Authenticated),
                11 => self.sasl = Some(Vec::new()),
                _ => {}
            },
            b'K' if seen > 0 => tell(Event::Backend(four(5).cast_signed())),
            b'Z' => {
                self.ready = true;
                tell(Event::Ready);
            }
            _ => {}
        }
        Ok(())
    }

    /// Collects a SASL challenge and refuses one that would keep us busy for hours.
    fn collect(&mut self, body: &[u8]) -> Result<(), Fault> {
        let Some(collected) = &mut self.sasl else { return Ok(()) };
        if collected.len() + body.len() > SASL_CAP {
            let bytes = (collected.len() + body.len() + self.left) as u64;
            return Err(Fault::TooLarge { bytes, cap: SASL_CAP as u64 });
        }
        collected.extend_from_slice(body);
        if self.left > 0 {
            return Ok(());
        }
        let challenge = self.sasl.take().unwrap_or_default();
        let challenge = String::from_utf8_lossy(&challenge);
        let iterations = challenge.split(',').find_map(|part| part.strip_prefix("i="));
        match iterations.map(str::parse::<u64>) {
            Some(Ok(iterations)) if iterations > SCRAM_ITERATIONS_CAP => Err(Fault::Protocol {
                message: format!(
                    "the server asks for {iterations} SCRAM iterations, at most \
                     {SCRAM_ITERATIONS_CAP} are done"
                ),
            }),
            _ => Ok(()),
        }
    }
}
