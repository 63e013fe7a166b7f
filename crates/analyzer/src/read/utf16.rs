//! UTF-16, as Windows shells write when output is redirected.

use std::io::{self, Read};

/// The order of the bytes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    /// The order that the first bytes of a file speak for: by its mark, or because every second
    /// byte is zero. `None` when it is no UTF-16.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0xff, 0xfe, ..] => return Some(Self::Little),
            [0xfe, 0xff, ..] => return Some(Self::Big),
            _ => {}
        }
        let (units, _) = head.as_chunks::<2>();
        let zeros = |at: usize| units.iter().filter(|unit| unit[at] == 0).count();
        // Latin text: nearly every second byte is zero, and none of the others.
        let (first, second) = (zeros(0), zeros(1));
        if units.len() < 2 {
            None
        } else if first == 0 && second * 10 > units.len() * 7 {
            Some(Self::Little)
        } else if second == 0 && first * 10 > units.len() * 7 {
            Some(Self::Big)
        } else {
            None
        }
    }
}

/// Gives UTF-16 as UTF-8. Lone halves become U+FFFD; the mark is left out.
pub(crate) struct Utf16<R> {
    inner: R,
    order: Order,
    /// Bytes that do not make a unit or a pair yet.
    raw: Vec<u8>,
    out: Vec<u8>,
    at: usize,
    started: bool,
    ended: bool,
}

impl<R: Read> Utf16<R> {
    pub(crate) fn new(inner: R, order: Order) -> Self {
        let (raw, out) = (Vec::new(), Vec::new());
        Self { inner, order, raw, out, at: 0, started: false, ended: false }
    }

    fn more(&mut self) -> io::Result<()> {
        let kept = self.raw.len();
        self.raw.resize(kept + 16 * 1024, 0);
        let came = self.inner.read(&mut self.raw[kept..]);
        self.raw.truncate(kept + came.as_ref().copied().unwrap_or(0));
        self.ended = came? == 0;
        let unit = |unit: &[u8; 2]| match self.order {
            Order::Little => u16::from_le_bytes(*unit),
            Order::Big => u16::from_be_bytes(*unit),
        };
        let (units, _) = self.raw.as_chunks::<2>();
        let mut units: Vec<u16> = units.iter().map(unit).collect();
        // A first half waits for the second.
        if !self.ended && units.last().is_some_and(|last| (0xd800..0xdc00).contains(last)) {
            units.pop();
        }
        let mut used = units.len() * 2;
        if self.ended {
            used = self.raw.len();
        }
        let skip = usize::from(!self.started && units.first() == Some(&0xfeff));
        self.started |= !units.is_empty();
        self.out.clear();
        self.at = 0;
        for c in char::decode_utf16(units.into_iter().skip(skip)) {
            let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
            self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.raw.drain(..used);
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.out.len() && !self.ended {
            self.more()?;
        }
        let len = into.len().min(self.out.len() - self.at);
        into[..len].copy_from_slice(&self.out[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives `step` bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(into.len()).min(self.0.len());
            into[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_however_it_is_cut(text in any::<String>(), step in 1usize..7, big in any::<bool>()) {
            let order = if big { Order::Big } else { Order::Little };
            let bytes: Vec<u8> = std::iter::once(0xfeff)
                .chain(text.encode_utf16())
                .flat_map(|unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() })
                .collect();
            prop_assert_eq!(Order::of(&bytes), Some(order));
            let mut read = String::new();
            Utf16::new(Slow(&bytes, step), order).read_to_string(&mut read).unwrap();
            prop_assert_eq!(read, text);
        }
    }

    #[test]
    fn latin_text_is_recognised_without_a_mark_and_zeros_in_utf8_are_not_taken_for_it() {
        let bytes: Vec<u8> = "ERROR: x".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(Order::of(&bytes), Some(Order::Little));
        assert_eq!(Order::of(b"ERROR: \0\0\0\0 x"), None);
        assert_eq!(Order::of(b"{}"), None);
    }
}
