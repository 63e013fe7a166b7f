//! What an entry came from: its `resource`.

use std::borrow::Cow;

use super::record::{Raw, take_string, take_text, walk};
use super::scan::{Bad, skip_value};

/// How many are remembered: the services of an export, or their instances.
const MET: usize = 8;

/// The objects met last under some name, and what they say. An export has a few of them, over and
/// over.
#[derive(Debug)]
pub(crate) struct Met<'a, T> {
    /// All of each, and what it says.
    last: [(&'a [u8], T); MET],
    /// Four bytes of each by which it is mostly told from the others.
    marks: [u32; MET],
    /// How far from its beginning they stand.
    from: usize,
    oldest: usize,
}

impl<T: Default> Default for Met<'_, T> {
    fn default() -> Self {
        let last = std::array::from_fn(|_| Default::default());
        Self { last, marks: [0; MET], from: 0, oldest: 0 }
    }
}

impl<'a, T> Met<'a, T> {
    /// The object at `at` and what it says, read by `read` if it is new, which also tells where it
    /// ends.
    #[inline]
    pub(crate) fn take(
        &mut self,
        bytes: &'a [u8],
        at: usize,
        read: impl FnOnce(&'a [u8], usize) -> Result<(usize, T), Bad>,
    ) -> Result<&(&'a [u8], T), Bad> {
        let mark = mark(&bytes[at..], self.from);
        // All are asked: which it is cannot be foreseen.
        let alike = (0..MET).fold(0, |alike, n| alike | u32::from(self.marks[n] == mark) << n);
        let marked = alike.trailing_zeros() as usize % MET;
        let met = |(whole, _): &(&[u8], T)| !whole.is_empty() && bytes[at..].starts_with(whole);
        let index = if met(&self.last[marked]) {
            marked
        } else if let Some(index) = self.last.iter().position(met) {
            index
        } else {
            let (end, new) = read(bytes, at)?;
            self.keep(&bytes[at..end], new)
        };
        Ok(&self.last[index])
    }

    /// Keeps a new one in the place of the oldest, which is returned.
    #[cold]
    fn keep(&mut self, whole: &'a [u8], says: T) -> usize {
        self.oldest = (self.oldest + 1) % MET;
        let new = mark(whole, self.from);
        if let Some(alike) = self.marks.iter().position(|mark| *mark == new) {
            let (other, _) = self.last[alike];
            self.from = whole.iter().zip(other).take_while(|(one, other)| one == other).count();
        }
        self.last[self.oldest] = (whole, says);
        self.marks = self.last.each_ref().map(|(whole, _)| mark(whole, self.from));
        self.oldest
    }
}

/// The four bytes `from` the beginning of `bytes`; 0 where there are none.
#[inline(always)]
fn mark(bytes: &[u8], from: usize) -> u32 {
    let four = bytes.get(from..).and_then(<[u8]>::first_chunk);
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

/// What a `resource` says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resource<'a> {
    service: Cow<'a, str>,
    /// What stands for a service where there is none.
    other: Cow<'a, str>,
    revision: Cow<'a, str>,
    pod: &'a [u8],
}

/// Reads the resource at `at` into `raw`. Returns the position after it.
pub(crate) fn take_resource<'a>(
    bytes: &'a [u8],
    at: usize,
    raw: &mut Raw<'a>,
    met: &mut Met<'a, Resource<'a>>,
) -> Result<usize, Bad> {
    if bytes.get(at) != Some(&b'{') {
        return skip_value(bytes, at);
    }
    let (whole, found) = met.take(bytes, at, resource)?;
    let set = |into: &mut Cow<'a, str>, found: &Cow<'a, str>| match found {
        found if found.is_empty() => {}
        Cow::Borrowed(found) => *into = Cow::Borrowed(found),
        found => into.clone_from(found),
    };
    set(&mut raw.service, &found.service);
    set(&mut raw.revision, &found.revision);
    if raw.service.is_empty() {
        set(&mut raw.service, &found.other);
    }
    if raw.instance.is_empty() {
        raw.instance = found.pod;
    }
    Ok(at + whole.len())
}

fn resource(bytes: &[u8], at: usize) -> Result<(usize, Resource<'_>), Bad> {
    let mut out = Resource::default();
    let end = walk(bytes, at, |key, at| match key {
        b"labels" if bytes.get(at) == Some(&b'{') => walk(bytes, at, |key, at| match key {
            b"service_name" => take_text(bytes, at, &mut out.service),
            b"revision_name" => take_text(bytes, at, &mut out.revision),
            b"database_id" | b"job_name" | b"connector_name" | b"container_name" | b"module_id" => {
                take_text(bytes, at, &mut out.other)
            }
            b"pod_name" => take_string(bytes, at, &mut out.pod),
            _ => skip_value(bytes, at),
        }),
        _ => skip_value(bytes, at),
    })?;
    Ok((end, out))
}

#[cfg(test)]
mod tests {
    use super::{MET, Met};

    #[test]
    fn what_was_met_is_known_again_whatever_tells_it_apart() {
        let texts: Vec<String> = (0..MET * 3)
            .map(|n| format!("<{}{}{}>", "a".repeat(n % 3), n % 5, "b".repeat(n % 7)))
            .collect();
        let bytes = texts.concat();
        let mut met = Met::default();
        for round in 0..4 {
            let mut at = 0;
            for (n, text) in texts.iter().enumerate() {
                // Those met last come again and again.
                for known in [false, n % 2 == 1] {
                    let read = |bytes: &[u8], at: usize| {
                        assert!(!known, "{text} is new in round {round}");
                        let len = bytes[at..].iter().position(|byte| *byte == b'>').unwrap_or(0);
                        Ok((at + len + 1, len))
                    };
                    let (whole, len) = met.take(bytes.as_bytes(), at, read).expect("read");
                    assert_eq!((*whole, *len), (text.as_bytes(), text.len() - 1));
                }
                at += text.len();
            }
        }
    }
}
