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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    /// A login as a server sends it, and a query's answer.
    fn session() -> Vec<u8> {
        [
            message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"),
            message(b'R', b"\0\0\0\x0br=abc,s=c2FsdA==,i=4096"),
            message(b'R', b"\0\0\0\x0cv=AAAA"),
            message(b'R', b"\0\0\0\0"),
            message(b'S', b"server_version\x0015.4\0"),
            message(b'K', b"\0\0\x04\xfe\0\0\0\x01"),
            message(b'Z', b"I"),
            message(b'D', b"\0\x01\0\0\0\x01x"),
            message(b'Z', b"I"),
        ]
        .concat()
    }

    fn follow(pieces: &[&[u8]]) -> (Vec<Event>, Result<(), Fault>) {
        let (mut frame, mut events) = (Frame::default(), Vec::new());
        for piece in pieces {
            if let Err(fault) = frame.follow(piece, |event| events.push(event)) {
                return (events, Err(fault));
            }
        }
        (events, Ok(()))
    }

    #[track_caller]
    fn check(bytes: &[u8], code: &str) {
        let (_, result) = follow(&[bytes]);
        assert_eq!(result.map_or_else(|fault| fault.code(), |()| "ok".into()), code);
    }

    #[test]
    fn what_is_accepted_and_what_is_not() {
        check(&session(), "ok");
        check(&message(b'E', b"SFATAL\0\0"), "ok");
        check(b"HTTP/1.1 400 Bad Request", "protocol");
        // A row before the session is ready.
        check(&message(b'D', b"\0\0"), "protocol");
        // Lengths that are shorter than themselves, or than what they must hold.
        check(b"S\0\0\0\x03", "protocol");
        check(b"R\0\0\0\x05x", "ok");
        check(b"R\0\0\0\x05xyzw", "protocol");
        check(b"R\x3b\x9a\xca\0aaaa", "too-large");
        check(b"E\0\x10\0\x01", "too-large");
        check(b"E\0\x10\0\0", "ok");
        check(&message(b'R', &[b"\0\0\0\x0b", &[b'r'; 3000][..]].concat()), "too-large");
        check(&message(b'R', b"\0\0\0\x0br=a,s=b,i=200001"), "protocol");
        check(&message(b'R', b"\0\0\0\x0br=a,s=b,i=200000"), "ok");
    }

    #[test]
    fn a_refusal_is_no_answer_to_the_start_up() {
        let (events, _) = follow(&[&message(b'E', b"SFATAL\0\0")]);
        assert!(events.is_empty());
    }

    proptest! {
        /// However the bytes are cut, the same is seen in them.
        #[test]
        fn pieces_do_not_matter(cuts in prop::collection::vec(0usize..180, 0..20)) {
            let session = session();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(session.len())).collect();
            cuts.extend([0, session.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &session[cut[0]..cut[1]]).collect();
            let expected = vec![
                Event::Answered,
                Event::Authenticated,
                Event::Backend(1278),
                Event::Ready,
                Event::Ready,
            ];
            prop_assert_eq!(follow(&pieces), (expected, Ok(())));
        }

        /// Nothing that comes makes it panic or keep more than a SASL message.
        #[test]
        fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut frame = Frame::default();
            let _ = frame.follow(&bytes, |_| {});
            prop_assert!(frame.sasl.map_or(0, |sasl| sasl.len()) <= SASL_CAP);
        }
    }
}
