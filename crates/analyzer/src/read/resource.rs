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
    oldest: usize,
}

impl<T: Default> Default for Met<'_, T> {
    fn default() -> Self {
        Self { last: std::array::from_fn(|_| Default::default()), oldest: 0 }
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
        let met = |(whole, _): &(&[u8], T)| !whole.is_empty() && bytes[at..].starts_with(whole);
        let index = match self.last.iter().position(met) {
            Some(index) => index,
            None => {
                let (end, new) = read(bytes, at)?;
                self.oldest = (self.oldest + 1) % MET;
                self.last[self.oldest] = (&bytes[at..end], new);
                self.oldest
            }
        };
        Ok(&self.last[index])
    }
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
