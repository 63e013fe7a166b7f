//! Bytes to lines, whatever pieces they come in.

/// The longest line; the rest of a longer one is left out.
const LONGEST: usize = 256 << 10;

/// The beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Gives every line that `bytes` end to `line`.
    pub(crate) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                line(String::from_utf8_lossy(&self.rest).trim_end());
                self.rest.clear();
            }
        }
    }

    /// What is left when no more comes.
    pub(crate) fn end(self) -> Option<String> {
        (!self.rest.is_empty()).then(|| String::from_utf8_lossy(&self.rest).trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_in_whatever_pieces() {
        let text = "one\r\ntwo\n\nthré";
        for size in 1..text.len() {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                lines.push(piece, |line| got.push(line.to_owned()));
            }
            assert_eq!(
                (got, lines.end().as_deref()),
                (vec!["one".into(), "two".into(), String::new()], Some("thré"))
            );
        }
    }

    #[test]
    fn a_line_without_end_costs_no_more_than_its_cap() {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        for _ in 0..3 {
            lines.push(&vec![b'x'; LONGEST], |line| got.push(line.len()));
        }
        lines.push(b"\nnext\n", |line| got.push(line.len()));
        assert_eq!(got, [LONGEST, 4]);
    }
}
